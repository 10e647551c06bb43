//! A story by the model inside: greedy, told token by token.

use crate::{Aligned, NOTHING, hashed, report, said};
use core::fmt::Write;
use samebits::arena::Arena;
use samebits::io::tokenizer::{EncodeOptions, Parts};
use samebits::model::flat::{Flat, Forms, Shape};
use samebits::model::{Generator, Sampler};
use samebits::run::{Run, Scratch};
use samebits::{Cpu, Error};

static FILE: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/model.flat")));

/// The model, as `samebits convert --flat` wrote it.
static MODEL: &[u8] = &FILE.0;

/// Tokens of a story, its beginning among them.
const TOKENS: usize = 20;
/// Tokens of the beginning that are computed at once, at most.
const ROWS: usize = 4;
/// What the weights of a model that is told are stored as.
const FORMS: Forms = Forms::NONE.nf4().f32();
/// What its tokenizer is made of.
const PARTS: Parts = Parts::NONE.byte_level();
const BEGINNING: &str = "Once upon a time";

/// The sizes of the model, from which its memory follows before the program runs.
pub(crate) const SHAPE: Shape = Shape::of(include_bytes!(concat!(env!("OUT_DIR"), "/model.flat")));
/// What the tokenizer takes beside its tables, which stay where they lie: a tree of added tokens, the characters that stand for
/// bytes, texts on their way.
const TOKENIZER: usize = 9 << 10;
/// Lines of an arena that is enough, by little.
pub const ARENA: usize = (SHAPE.memory_len(TOKENS, ROWS, FORMS) + TOKENIZER) / 64;

/// Tells the story, and what it took of memory.
///
/// # Errors
/// Those of the model.
pub fn program(cpu: Cpu, heap: &Arena, out: &mut dyn Write) -> Result<(), Error> {
    tell(cpu, Sampler::greedy(), out)?;
    report(heap, ARENA, cpu, out)
}

/// Writes the story, token by token, then a hash of the bits of every logit that it was drawn from.
pub(crate) fn tell(cpu: Cpu, sampler: Sampler, out: &mut dyn Write) -> Result<(), Error> {
    let scratch = Scratch::with_lines(SHAPE.scratch_len(TOKENS, ROWS, FORMS));
    let (flat, run) = (Flat::in_place(MODEL)?, Run::here_with(cpu, scratch));
    let model = flat.decoder_of(FORMS)?;
    let tokenizer = flat.tokenizer_of(PARTS)?.ok_or_else(|| Error::invalid("a model without a tokenizer"))?;
    let prompt = tokenizer.encode(BEGINNING, &EncodeOptions::default())?.ids;
    let (mut text, mut hash) = (tokenizer.decoder(true), NOTHING);
    let mut generator = Generator::new(&model, sampler, TOKENS);
    for part in prompt.chunks(ROWS) {
        generator.feed(&run, part, |_| Ok::<(), Error>(()))?;
    }
    for &token in &prompt {
        said(out.write_str(&text.push(token)))?;
    }
    while generator.left() > 0 {
        let token = generator.next(&run)?;
        hash = hashed(hash, generator.logits());
        if model.config().eos.contains(&token) {
            break;
        }
        said(out.write_str(&text.push(token)))?;
    }
    said(writeln!(out, "\nlogits {hash:#018x}, buffers {} bytes", generator.bytes()))
}
