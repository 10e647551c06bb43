//! What a conversation with a flat decoder takes of memory is what was said before it began: buffers and scratch exactly,
//! all of it within a few hundred bytes.

mod common;

use common::cpus;
use samebits::kernels::Line;
use samebits::model::flat::{Flat, Forms, Shape, write};
use samebits::model::{Generator, Model, Sampler};
use samebits::run::{Run, Scratch};
use samebits::{Cpu, Error};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;

/// Counts what this thread takes as an arena would: in whole lines of 64 bytes.
struct Counted;

#[global_allocator]
static COUNTED: Counted = Counted;

thread_local! {
    /// Bytes that are lent out, and the most that ever were.
    static BYTES: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
}

fn len(layout: Layout) -> usize {
    layout.size().next_multiple_of(64)
}

// SAFETY: all is the system's.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (now, most) = BYTES.get();
        let now = now.wrapping_add(len(layout));
        BYTES.set((now, if now as isize > most as isize { now } else { most }));
        // SAFETY: passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        let (now, most) = BYTES.get();
        // Another thread may have lent it.
        BYTES.set((now.wrapping_sub(len(layout)), most));
        // SAFETY: passed on.
        unsafe { System.dealloc(at, layout) };
    }
}

/// `bytes` where they stay, at a multiple of 64.
fn in_flash(bytes: &[u8]) -> &'static [u8] {
    let lines: &'static mut [Line] = Box::leak(vec![Line::ZERO; bytes.len().div_ceil(64)].into());
    let memory: &'static mut [u8] = Line::elements_mut(lines);
    memory[..bytes.len()].copy_from_slice(bytes);
    &memory[..bytes.len()]
}

/// Tokens of a conversation, and how many are fed at a time.
#[derive(Clone, Copy)]
struct Fed {
    tokens: usize,
    rows: usize,
}

/// What a greedy conversation took: at most, its buffers, its scratch in lines.
fn took(cpu: Cpu, file: &'static [u8], forms: Forms, fed: Fed, scratch: Option<usize>) -> [usize; 3] {
    let prompt: Vec<u32> = (0..(2 * fed.rows + 1) as u32).map(|i| 3 + i % 40).collect();
    assert!(prompt.len() < fed.tokens);
    BYTES.set((0, 0));
    let run = match scratch {
        Some(lines) => Run::here_with(cpu, Scratch::with_lines(lines)),
        None => Run::here(cpu),
    };
    let model = Flat::in_place(file).and_then(|flat| flat.decoder_of(forms)).expect("a sound model");
    let mut generator = Generator::new(&model, Sampler::greedy(), fed.tokens);
    for part in prompt.chunks(fed.rows) {
        generator.feed(&run, part, |_| Ok::<(), Error>(())).expect("room");
    }
    while generator.left() > 0 {
        generator.next(&run).expect("a token");
    }
    [BYTES.get().1, generator.bytes(), run.into_scratch().len()]
}

/// Holds a model to what its shape says, for some ways to feed it; returns by how much memory was overestimated at most.
fn compare(file: &'static [u8], forms: Forms, name: &str) -> (usize, usize) {
    let (shape, mut over) = (Shape::of(file), (0, 1));
    for cpu in cpus() {
        for fed in [(20, 4), (12, 1), (60, 8), (60, 20)].map(|(tokens, rows)| Fed { tokens, rows }) {
            let Fed { tokens, rows } = fed;
            let what = format!("{name}, {} of {tokens} tokens, {rows} at a time", cpu.tier());
            let lines = shape.scratch_len(tokens, rows, forms);
            let [most, buffers, scratch] = took(cpu, file, forms, fed, Some(lines));
            assert_eq!(buffers, shape.arena_len(tokens, rows), "{what}: buffers");
            assert_eq!(scratch, lines, "{what}: lines of scratch");
            let [.., grown] = took(cpu, file, forms, fed, None);
            assert_eq!(grown, lines, "{what}: lines of scratch that was asked for");
            let said = shape.memory_len(tokens, rows, forms);
            assert!(most <= said && said <= most + 1_024, "{what}: {most} bytes, said were {said}");
            over = if (said - most) * over.1 > over.0 * most { (said - most, most) } else { over };
        }
    }
    over
}

#[test]
fn a_conversation_takes_what_was_said() {
    let cpu = Cpu::detect();
    for name in ["llama", "llama_yarn", "phi3_long", "qwen2", "qwen3", "gemma2", "gpt2"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/models").join(name);
        let model = Model::open(folder, cpu).expect("a sound model");
        compare(in_flash(&write(cpu, &model, None).expect("a flat model")), Forms::NONE.f32(), name);
    }
    let inside = Model::Decoder(Box::new(samebits::assets::model(cpu).expect("the model inside")));
    let file = in_flash(&write(cpu, &inside, None).expect("a flat model"));
    let (more, of) = compare(file, Forms::NONE.nf4().f32(), "the model inside");
    assert!(200 * more <= of, "{more} bytes more than {of}");
}
