//! A model as one block of memory: what a device without files reads where it lies.
//!
//! ```text
//!   header 64 bytes │ configuration │ tokenizer, its parts ready │ layers: embeddings, blocks, norm, head
//!    checksum                                                      └ weights in the panels that kernels read, each at a
//!                                                                    multiple of 64 bytes, in the type they have
//! ```
//! Written by `samebits convert --flat`; `io/flat.rs` has the header. Weights of a `&'static [u8]` ([`Flat::in_place`])
//! are multiplied where they lie, in flash, and norms, biases and the tokenizer's tables are read there. The layers are
//! those of [`Decoder`] and [`Encoder`], so the results have the bits that the model's own files give on the desk.
//!
//! Version 2 belongs to the kernels' packing and the tokenizers' tables: where these change, the version does, and the file
//! is made anew.

mod arena;
mod config;

pub use crate::nn::Forms;
pub use config::Shape;

use super::kinds::{Model, SentenceEncoder};
use super::{Decoder, Encoder};
use crate::Result;
use crate::io::flat::{HEADER, Reader, Writer, check};
use crate::io::tokenizer::flat::part;
use crate::io::tokenizer::{FlatTokenizer, Parts, Tokenizer};
use crate::kernels::Cpu;
use alloc::boxed::Box;
use alloc::vec::Vec;

/// A flat model that was looked at: whole, and undamaged.
#[derive(Clone, Debug)]
pub struct Flat<'a> {
    from: Reader<'a>,
    /// From the beginning of the tokenizer on, where there is one.
    tokenizer: Option<Reader<'a>>,
}

impl Flat<'static> {
    /// A model in memory that stays. It must lie at a multiple of 64 bytes.
    ///
    /// # Errors
    /// Where it is no flat model, or damaged.
    pub fn in_place(file: &'static [u8]) -> Result<Flat<'static>> {
        let tokenizer = check(file)?.map(|at| Reader::in_place(file, at));
        Ok(Flat { from: Reader::in_place(file, HEADER), tokenizer })
    }
}

impl<'a> Flat<'a> {
    /// A model whose weights are copied, for its memory may go.
    ///
    /// # Errors
    /// Where it is no flat model, or damaged.
    pub fn of(file: &'a [u8]) -> Result<Flat<'a>> {
        let tokenizer = check(file)?.map(|at| Reader::of(file, at));
        Ok(Flat { from: Reader::of(file, HEADER), tokenizer })
    }

    /// The model.
    ///
    /// # Errors
    /// Where what follows the header is none.
    pub fn model(&self) -> Result<Model> {
        self.model_of(Forms::ALL)
    }

    /// The model, whose weights are in `forms`: a program that names few is small.
    ///
    /// # Errors
    /// Where what follows the header is no model, or a weight is in another form.
    pub fn model_of(&self, forms: Forms) -> Result<Model> {
        let (mut from, shape) = self.begin()?;
        let model = if shape.kind == config::DECODER {
            Model::Decoder(Box::new(decoder(&mut from, &shape, forms)?))
        } else {
            Model::Encoder(Box::new(encoder(&mut from, &shape, forms)?))
        };
        from.finish()?;
        Ok(model)
    }

    /// [`Flat::model_of`] for programs that generate: they have nothing of encoders.
    ///
    /// # Errors
    /// Likewise, and where the model is an encoder.
    pub fn decoder_of(&self, forms: Forms) -> Result<Decoder> {
        let (mut from, shape) = self.begin()?;
        if shape.kind != config::DECODER {
            return Err(from.error("the model is an encoder, expected a decoder"));
        }
        let decoder = decoder(&mut from, &shape, forms)?;
        from.finish()?;
        Ok(decoder)
    }

    /// [`Flat::model_of`] for programs that embed: they have nothing of decoders.
    ///
    /// ```
    /// use samebits::model::{Model, Workspace, flat::{Flat, Forms, write}};
    /// use samebits::{Cpu, run::Run};
    /// let run = Run::here(Cpu::detect());
    /// let model = Model::open("tests/data/models/bert", run.cpu())?;
    /// let bytes = write(run.cpu(), &model, None)?; // on a device: a `&'static [u8]`, and `Flat::in_place`
    /// let model = Flat::of(&bytes)?.encoder_of(Forms::NONE.f32())?;
    /// let mut vector = vec![0.0; model.encoder.config().dim];
    /// model.embed(&run, &[&[5, 6, 7]], &mut vector, &mut Workspace::new())?;
    /// assert!(Flat::of(&bytes)?.decoder_of(Forms::ALL).is_err());
    /// # Ok::<(), samebits::Error>(())
    /// ```
    ///
    /// # Errors
    /// Likewise, and where the model is a decoder.
    pub fn encoder_of(&self, forms: Forms) -> Result<SentenceEncoder> {
        let (mut from, shape) = self.begin()?;
        if shape.kind != config::ENCODER {
            return Err(from.error("the model is a decoder, expected an encoder"));
        }
        let encoder = encoder(&mut from, &shape, forms)?;
        from.finish()?;
        Ok(encoder)
    }

    fn begin(&self) -> Result<(Reader<'a>, Shape)> {
        let mut from = self.from.clone();
        let shape = Shape::read(&mut from)?;
        Ok((from, shape))
    }

    /// Its tokenizer, where the file has one.
    ///
    /// # Errors
    /// Where what is there is none.
    pub fn tokenizer(&self) -> Result<Option<Tokenizer>> {
        self.tokenizer_of(Parts::ALL)
    }

    /// Its tokenizer, which is made of `parts`: a program that names few is small. In place ([`Flat::in_place`]) its tables
    /// are searched where they lie.
    ///
    /// # Errors
    /// Where what is there is none, or has a part of another kind.
    pub fn tokenizer_of(&self, parts: Parts) -> Result<Option<Tokenizer>> {
        let Some(mut from) = self.tokenizer.clone() else { return Ok(None) };
        parts.read(&mut part(&mut from)?).map(Some)
    }
}

fn decoder(from: &mut Reader<'_>, shape: &Shape, forms: Forms) -> Result<Decoder> {
    let config = config::decoder(from, shape)?;
    skip_tokenizer(from)?;
    Decoder::read(from, config, forms)
}

fn encoder(from: &mut Reader<'_>, shape: &Shape, forms: Forms) -> Result<SentenceEncoder> {
    let config = config::encoder(from, shape)?;
    let (pooling, normalize) = (config::pooling(from)?, from.flag("whether vectors have length 1")?);
    let max_tokens = from.count("the tokens of a text", 0, config.context())?;
    skip_tokenizer(from)?;
    let encoder = Encoder::read(from, config, forms)?;
    Ok(SentenceEncoder { encoder, pooling, normalize, max_tokens })
}

fn skip_tokenizer(from: &mut Reader<'_>) -> Result<()> {
    from.maybe("whether there is a tokenizer", part).map(|_| ())
}

/// The bytes of a flat model.
///
/// ```
/// use samebits::model::{Model, flat::{Flat, Shape, write}};
/// use samebits::io::tokenizer::FlatTokenizer;
/// use samebits::{Cpu, assets};
/// let (cpu, model) = (Cpu::detect(), Model::Decoder(Box::new(assets::model(Cpu::detect())?)));
/// let tokenizer = FlatTokenizer::of(&assets::tokenizer()?)?;
/// let bytes = write(cpu, &model, Some(&tokenizer))?;
/// let shape = Shape::of(&bytes); // also before the program runs: lines of memory for so many tokens, 16 rows at a time
/// assert!(shape.layers > 1 && shape.arena_len(100, 16) < shape.arena_len(200, 16));
/// let flat = Flat::of(&bytes)?; // checked: checksum and all
/// assert!(matches!(flat.model()?, Model::Decoder(_)) && flat.tokenizer()?.is_some());
/// assert!(Flat::of(&bytes[..bytes.len() - 1]).is_err());
/// # Ok::<(), samebits::Error>(())
/// ```
///
/// # Errors
/// Where a model has adapters, or is larger than the format can say.
pub fn write(cpu: Cpu, model: &Model, tokenizer: Option<&FlatTokenizer>) -> Result<Vec<u8>> {
    let mut to = Writer::new();
    match model {
        Model::Decoder(decoder) => {
            config::put_decoder(&mut to, decoder.config(), decoder.is_gated())?;
            put_tokenizer(&mut to, tokenizer)?;
            decoder.write(cpu, &mut to)?;
        }
        Model::Encoder(model) => {
            config::put_encoder(&mut to, model.encoder.config())?;
            config::put_pooling(&mut to, model.pooling);
            to.u32(model.normalize.into());
            to.count(model.max_tokens)?;
            put_tokenizer(&mut to, tokenizer)?;
            model.encoder.write(cpu, &mut to)?;
        }
    }
    Ok(to.finish())
}

fn put_tokenizer(to: &mut Writer, tokenizer: Option<&FlatTokenizer>) -> Result<()> {
    to.u32(tokenizer.is_some().into());
    let Some(tokenizer) = tokenizer else { return Ok(()) };
    to.tokenizer_follows()?;
    tokenizer.write(to)
}
