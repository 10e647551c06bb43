//! A story from a model that lies where the program does: what every program of this crate tells.
#![no_std]
#![deny(missing_docs)]

extern crate alloc;

use core::fmt::{Result as Written, Write};
use samebits::arena::Arena;
use samebits::io::tokenizer::{EncodeOptions, Parts};
use samebits::kernels::Line;
use samebits::model::flat::{Flat, Forms, Shape};
use samebits::model::{Generator, Sampler};
use samebits::run::Run;
use samebits::{Cpu, Error};

/// A type at the beginning of a cache line.
#[repr(C, align(64))]
struct Aligned<T: ?Sized>(T);

static FILE: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/model.flat")));

/// The model, as `samebits convert --flat` wrote it.
pub static MODEL: &[u8] = &FILE.0;

/// Tokens of a story, its beginning among them.
pub const TOKENS: usize = 20;
/// Tokens of the beginning that are computed at once, at most.
pub const ROWS: usize = 8;
/// What the weights of a model that is told are stored as.
const FORMS: Forms = Forms::NONE.nf4().f32();
/// What its tokenizer is made of.
const PARTS: Parts = Parts::NONE.byte_level();
const BEGINNING: &str = "Once upon a time";

/// What the buffers of a story take, known when this is compiled.
const BUFFERS: usize =
    Shape::of(include_bytes!(concat!(env!("OUT_DIR"), "/model.flat"))).arena_len(TOKENS, ROWS);
/// What the tokenizer, the layers' descriptions and vectors, and products' scratch take beside them, at most.
const OTHERS: usize = 320 << 10;
/// Lines of an arena that is enough.
pub const ARENA: usize = (BUFFERS + OTHERS) / 64;

/// Writes the story, token by token, then a hash of the bits of every logit that it was drawn from.
///
/// # Errors
/// Those of the model.
pub fn tell(cpu: Cpu, out: &mut dyn Write) -> Result<(), Error> {
    let said = |written: Written| written.map_err(|_| Error::invalid("nobody listens"));
    let (flat, run) = (Flat::in_place(MODEL)?, Run::here(cpu));
    let model = flat.decoder_of(FORMS)?;
    let tokenizer = flat.tokenizer_of(PARTS)?.ok_or_else(|| Error::invalid("a model without a tokenizer"))?;
    let prompt = tokenizer.encode(BEGINNING, &EncodeOptions::default())?.ids;
    let (mut text, mut hash) = (tokenizer.decoder(true), 0xcbf2_9ce4_8422_2325u64);
    let mut generator = Generator::new(&model, Sampler::greedy(), TOKENS);
    for part in prompt.chunks(ROWS) {
        generator.feed(&run, part, |_| Ok::<(), Error>(()))?;
    }
    for &token in &prompt {
        said(out.write_str(&text.push(token)))?;
    }
    while generator.left() > 0 {
        let token = generator.next(&run)?;
        for byte in generator.logits().iter().flat_map(|x| x.to_bits().to_le_bytes()) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        if model.config().eos.contains(&token) {
            break;
        }
        said(out.write_str(&text.push(token)))?;
    }
    said(writeln!(out, "\nlogits {hash:#018x}, buffers {} bytes", generator.bytes()))
}

/// What the program took of memory.
///
/// # Errors
/// Where nobody listens.
pub fn report(arena: &Arena, cpu: Cpu, out: &mut dyn Write) -> Written {
    writeln!(
        out,
        "tier {cpu}, arena {} of {} bytes, model {}",
        arena.most(),
        ARENA * 64,
        MODEL.len(),
        cpu = cpu.tier()
    )
}

/// Memory for an arena, zeros.
pub struct Memory(pub [Line; ARENA]);
