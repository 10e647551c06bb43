//! What else a program does with models: vectors of sentences by an encoder, then a story of which each token is drawn.

use crate::{Aligned, NOTHING, hashed, report, said, story};
use alloc::vec;
use core::fmt::Write;
use samebits::arena::Arena;
use samebits::io::tokenizer::{Choice, EncodeOptions, Parts, Truncation};
use samebits::model::flat::{Flat, Forms};
use samebits::model::{Sampler, Settings, Workspace};
use samebits::run::Run;
use samebits::{Cpu, Error};

static FILE: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/encoder.flat")));

/// The encoder, as `samebits convert --flat` wrote it.
static ENCODER: &[u8] = &FILE.0;

const FORMS: Forms = Forms::NONE.f32();
const PARTS: Parts = Parts::NONE.word_piece();
/// The lines that the desk reads.
const SENTENCES: &str = include_str!("sentences.txt");

/// What a sampler keeps that cuts to the likeliest 40 first: two lists of the vocabulary, and short ones.
const SAMPLER: usize = 8 * story::SHAPE.vocab + 1_024;
/// Lines of an arena that is enough: the story takes the most.
pub const ARENA: usize = story::ARENA + SAMPLER / 64;

/// Embeds and tells, and says after each what was taken of memory so far.
///
/// # Errors
/// Those of the models.
pub fn program(cpu: Cpu, heap: &Arena, out: &mut dyn Write) -> Result<(), Error> {
    embed(cpu, out)?;
    report(heap, ARENA, cpu, out)?;
    // Those of `samebits generate --temperature 0.8 --top-p 0.9 --seed 7 --repeat-penalty 1`.
    let settings = Settings { temperature: 0.8, top_p: 0.9, ..Settings::default() };
    story::tell(cpu, Sampler::new(&settings, 7)?, out)?;
    report(heap, ARENA, cpu, out)
}

/// Writes a hash of the bits of the vectors of all sentences, each of which is made alone.
fn embed(cpu: Cpu, out: &mut dyn Write) -> Result<(), Error> {
    let (flat, run) = (Flat::in_place(ENCODER)?, Run::here(cpu));
    let model = flat.encoder_of(FORMS)?;
    let tokenizer =
        flat.tokenizer_of(PARTS)?.ok_or_else(|| Error::invalid("an encoder without a tokenizer"))?;
    let cut = Choice::Use(Truncation::to(model.max_tokens));
    let options = EncodeOptions { truncation: cut, ..EncodeOptions::default() };
    let (mut vector, mut workspace) = (vec![0.0; model.encoder.config().dim], Workspace::new());
    let mut hash = NOTHING;
    for sentence in SENTENCES.lines() {
        let ids = tokenizer.encode(sentence, &options)?.ids;
        model.embed(&run, &[&ids], &mut vector, &mut workspace)?;
        hash = hashed(hash, &vector);
    }
    let n = SENTENCES.lines().count();
    said(writeln!(out, "vectors {hash:#018x}, {n} of {} features", vector.len()))
}
