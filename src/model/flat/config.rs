//! Configurations as numbers. The first of them, from byte 64 on, stand where [`Shape`] reads them before the program
//! runs; what each of the others means follows from the order.

use crate::Result;
use crate::io::flat::{HEADER, Reader, Writer};
use crate::kernels::activation::Activation;
use crate::kernels::rope::Pairing;
use crate::model::config::{Architecture, DecoderConfig, EncoderConfig, NormKind, Pooling};
use crate::nn::rotary::{Llama3, LongRope, RopeScaling, RotaryConfig, Yarn};
use alloc::format;

pub(super) const DECODER: u32 = 1;
pub(super) const ENCODER: u32 = 2;

const ARCHITECTURES: [Architecture; 10] = {
    use Architecture::*;
    [Llama, Mistral, Qwen2, Qwen3, Gemma, Gemma2, Phi3, Gpt2, Bert, Roberta]
};
const NORMS: [NormKind; 3] = [NormKind::Layer, NormKind::Rms, NormKind::RmsOnePlus];
const POOLINGS: [Pooling; 4] = [Pooling::Cls, Pooling::Mean, Pooling::Max, Pooling::Last];
const PAIRINGS: [Pairing; 2] = [Pairing::Interleaved, Pairing::Half];

/// Sizes are below this.
const MOST: usize = 1 << 24;

/// The sizes of a flat model: what its memory follows from. Read off its first bytes, also before the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub(super) kind: u32,
    pub(super) architecture: u32,
    /// Tokens of the vocabulary.
    pub vocab: usize,
    /// Features of a token.
    pub dim: usize,
    /// Hidden features of a feed-forward network.
    pub hidden: usize,
    /// Blocks.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Components of a head.
    pub head_dim: usize,
    /// Positions that the model was made for.
    pub context: usize,
    /// Pairs of components of a head that turn; 0 where none do.
    pub pairs: usize,
    /// Whether networks are gated.
    pub gated: bool,
}

/// Numbers of a shape.
const WORDS: usize = 12;

impl Shape {
    /// The shape of the flat model that begins so.
    ///
    /// ```text
    /// static MODEL: &[u8] = include_bytes!("model.flat"); // at a multiple of 64
    /// static ARENA: [Line; Shape::of(MODEL).arena_len(128, 16)] = …;
    /// ```
    ///
    /// # Panics
    /// Where there are fewer than 112 bytes.
    pub const fn of(file: &[u8]) -> Shape {
        const fn word(file: &[u8], i: usize) -> u32 {
            let at = HEADER + 4 * i;
            u32::from_le_bytes([file[at], file[at + 1], file[at + 2], file[at + 3]])
        }
        Shape {
            kind: word(file, 0),
            architecture: word(file, 1),
            vocab: word(file, 2) as usize,
            dim: word(file, 3) as usize,
            hidden: word(file, 4) as usize,
            layers: word(file, 5) as usize,
            heads: word(file, 6) as usize,
            kv_heads: word(file, 7) as usize,
            head_dim: word(file, 8) as usize,
            context: word(file, 9) as usize,
            pairs: word(file, 10) as usize,
            gated: word(file, 11) != 0,
        }
    }

    fn put(&self, to: &mut Writer) -> Result<()> {
        to.u32(self.kind);
        to.u32(self.architecture);
        let Shape { vocab, dim, hidden, layers, heads, kv_heads, head_dim, context, pairs, .. } = *self;
        let sizes = [vocab, dim, hidden, layers, heads, kv_heads, head_dim, context, pairs];
        sizes.into_iter().try_for_each(|n| to.count(n))?;
        to.u32(self.gated.into());
        Ok(())
    }

    /// The same, with every size looked at.
    pub(super) fn read(from: &mut Reader<'_>) -> Result<Shape> {
        let kind = from.count("the kind of the model", DECODER as usize, ENCODER as usize)? as u32;
        let architecture = from.count("the architecture", 0, ARCHITECTURES.len() - 1)? as u32;
        let mut size = |what: &str, most: usize| from.count(what, 1, most);
        let shape = Shape {
            kind,
            architecture,
            vocab: size("the vocabulary", MOST)?,
            dim: size("the features", MOST)?,
            hidden: size("the hidden features", MOST)?,
            layers: size("the layers", 4096)?,
            heads: size("the heads", 1 << 16)?,
            kv_heads: size("the key heads", 1 << 16)?,
            head_dim: size("the components of a head", 1 << 14)?,
            context: size("the context", MOST)?,
            pairs: from.count("the pairs that turn", 0, 1 << 14)?,
            gated: from.flag("whether networks are gated")?,
        };
        let family = ARCHITECTURES[architecture as usize];
        if family.is_encoder() != (kind == ENCODER) || !shape.heads.is_multiple_of(shape.kv_heads) {
            return Err(from.error(format!("{shape:?} is no shape of {family:?}")));
        }
        Ok(shape)
    }

    fn architecture(&self) -> Architecture {
        ARCHITECTURES[self.architecture as usize]
    }
}

/// A number of `all`.
fn number<T: PartialEq>(all: &[T], one: &T) -> u32 {
    all.iter().take_while(|&x| x != one).count() as u32
}

pub(super) fn put_decoder(to: &mut Writer, c: &DecoderConfig, gated: bool) -> Result<()> {
    let shape = Shape {
        kind: DECODER,
        architecture: number(&ARCHITECTURES, &c.architecture),
        vocab: c.vocab,
        dim: c.dim,
        hidden: c.hidden,
        layers: c.windows.len(),
        heads: c.heads,
        kv_heads: c.kv_heads,
        head_dim: c.head_dim,
        context: c.context,
        pairs: c.rope.as_ref().map_or(0, |rope| rope.rotary_dim.div_ceil(2)),
        gated,
    };
    shape.put(to)?;
    c.windows.iter().try_for_each(|window| to.count(window.unwrap_or(0)))?;
    to.count(c.length)?;
    to.u32(number(&NORMS, &c.norm));
    to.f32(c.norm_eps);
    to.u32(number(&Activation::ALL, &c.activation));
    to.f32(c.scale);
    [c.score_cap, c.logit_cap, c.embedding_scale].into_iter().for_each(|x| to.maybe(x, Writer::f32));
    [c.tied, c.qkv_bias, c.out_bias, c.network_bias].into_iter().for_each(|x| to.u32(x.into()));
    to.maybe(c.bos, Writer::u32);
    to.count(c.eos.len())?;
    c.eos.iter().for_each(|&id| to.u32(id));
    to.u32(c.rope.is_some().into());
    c.rope.as_ref().map_or(Ok(()), |rope| put_rope(to, rope))
}

pub(super) fn decoder(from: &mut Reader<'_>, shape: &Shape) -> Result<DecoderConfig> {
    let Shape { vocab, dim, hidden, heads, kv_heads, head_dim, context, .. } = *shape;
    let window = |from: &mut Reader<'_>| Ok(Some(from.count("a window", 0, MOST)?).filter(|&w| w > 0));
    let c = DecoderConfig {
        architecture: shape.architecture(),
        vocab,
        dim,
        hidden,
        heads,
        kv_heads,
        head_dim,
        context,
        windows: from.list(shape.layers, window)?,
        length: from.count("the length", 0, usize::MAX)?,
        norm: from.one_of("the norm", &NORMS)?,
        norm_eps: from.f32()?,
        activation: from.one_of("the activation", &Activation::ALL)?,
        scale: from.f32()?,
        score_cap: from.maybe("whether scores are capped", Reader::f32)?,
        logit_cap: from.maybe("whether logits are capped", Reader::f32)?,
        embedding_scale: from.maybe("whether embeddings are scaled", Reader::f32)?,
        tied: from.flag("whether the head is the embedding")?,
        qkv_bias: from.flag("whether there are biases")?,
        out_bias: from.flag("whether there are biases")?,
        network_bias: from.flag("whether there are biases")?,
        bos: from.maybe("whether a token begins texts", Reader::u32)?,
        eos: {
            let n = from.count("the tokens that end texts", 0, MOST)?;
            from.list(n, Reader::u32)?
        },
        rope: from.maybe("whether positions turn", |from| rope(from, shape))?,
    };
    let pairs = c.rope.as_ref().map_or(0, |rope| rope.rotary_dim.div_ceil(2));
    if pairs != shape.pairs {
        return Err(from.error(format!("{pairs} pairs turn, the shape says {}", shape.pairs)));
    }
    Ok(c)
}

fn put_rope(to: &mut Writer, rope: &RotaryConfig) -> Result<()> {
    to.count(rope.rotary_dim)?;
    to.u32(number(&PAIRINGS, &rope.pairing));
    to.f64(rope.theta);
    match &rope.scaling {
        RopeScaling::None => to.u32(0),
        RopeScaling::Linear { factor } => {
            to.u32(1);
            to.f64(*factor);
        }
        RopeScaling::DynamicNtk { factor, max_positions } => {
            to.u32(2);
            to.f64(*factor);
            to.count(*max_positions)?;
        }
        RopeScaling::Yarn(yarn) => {
            to.u32(3);
            [yarn.factor, yarn.beta_fast, yarn.beta_slow].into_iter().for_each(|x| to.f64(x));
            to.count(yarn.original_max_positions)?;
            let given = [yarn.attention_factor, yarn.mscale, yarn.mscale_all_dim];
            given.into_iter().for_each(|x| to.maybe(x, Writer::f64));
            to.u32(yarn.truncate.into());
        }
        RopeScaling::LongRope(long) => {
            to.u32(4);
            to.f64(long.factor);
            to.count(long.original_max_positions)?;
            to.maybe(long.attention_factor, Writer::f64);
            long.short_factor.iter().chain(&long.long_factor).for_each(|&x| to.f64(x));
        }
        RopeScaling::Llama3(llama) => {
            to.u32(5);
            let factors = [llama.factor, llama.low_freq_factor, llama.high_freq_factor];
            factors.into_iter().for_each(|x| to.f64(x));
            to.count(llama.original_max_positions)?;
        }
        RopeScaling::PerPair { divisors } => {
            to.u32(6);
            divisors.iter().for_each(|&x| to.f64(x));
        }
    }
    Ok(())
}

fn rope(from: &mut Reader<'_>, shape: &Shape) -> Result<RotaryConfig> {
    let rotary_dim = from.count("the components that turn", 1, shape.head_dim)?;
    let pairing = from.one_of("the pairing", &PAIRINGS)?;
    let theta = from.f64()?;
    let positions = |from: &mut Reader<'_>| from.count("the original positions", 0, usize::MAX);
    let maybe = |from: &mut Reader<'_>| from.maybe("whether it is given", Reader::f64);
    let pairs = rotary_dim.div_ceil(2);
    let scaling = match from.count("the scaling of positions", 0, 6)? {
        0 => RopeScaling::None,
        1 => RopeScaling::Linear { factor: from.f64()? },
        2 => RopeScaling::DynamicNtk { factor: from.f64()?, max_positions: positions(from)? },
        3 => {
            let [factor, beta_fast, beta_slow] = [from.f64()?, from.f64()?, from.f64()?];
            RopeScaling::Yarn(Yarn {
                beta_fast,
                beta_slow,
                original_max_positions: positions(from)?,
                attention_factor: maybe(from)?,
                mscale: maybe(from)?,
                mscale_all_dim: maybe(from)?,
                truncate: from.flag("whether the ramp is rounded")?,
                factor,
            })
        }
        4 => RopeScaling::LongRope(LongRope {
            factor: from.f64()?,
            original_max_positions: positions(from)?,
            attention_factor: maybe(from)?,
            short_factor: from.list(pairs, Reader::f64)?,
            long_factor: from.list(pairs, Reader::f64)?,
        }),
        5 => RopeScaling::Llama3(Llama3 {
            factor: from.f64()?,
            low_freq_factor: from.f64()?,
            high_freq_factor: from.f64()?,
            original_max_positions: positions(from)?,
        }),
        _ => RopeScaling::PerPair { divisors: from.list(pairs, Reader::f64)? },
    };
    Ok(RotaryConfig { head_dim: shape.head_dim, rotary_dim, pairing, theta, scaling })
}

pub(super) fn put_encoder(to: &mut Writer, c: &EncoderConfig) -> Result<()> {
    let shape = Shape {
        kind: ENCODER,
        architecture: number(&ARCHITECTURES, &c.architecture),
        vocab: c.vocab,
        dim: c.dim,
        hidden: c.hidden,
        layers: c.layers,
        heads: c.heads,
        kv_heads: c.heads,
        head_dim: c.dim / c.heads,
        context: c.positions,
        pairs: 0,
        gated: false,
    };
    shape.put(to)?;
    to.count(c.first_position)?;
    to.count(c.segments)?;
    to.f32(c.norm_eps);
    to.u32(number(&Activation::ALL, &c.activation));
    Ok(())
}

pub(super) fn encoder(from: &mut Reader<'_>, shape: &Shape) -> Result<EncoderConfig> {
    if shape.dim != shape.heads * shape.head_dim || shape.heads != shape.kv_heads {
        return Err(from.error(format!("{shape:?} is no shape of an encoder")));
    }
    Ok(EncoderConfig {
        architecture: shape.architecture(),
        vocab: shape.vocab,
        dim: shape.dim,
        hidden: shape.hidden,
        layers: shape.layers,
        heads: shape.heads,
        positions: shape.context,
        first_position: from.count("the first position", 0, shape.context - 1)?,
        segments: from.count("the segments", 1, MOST)?,
        norm_eps: from.f32()?,
        activation: from.one_of("the activation", &Activation::ALL)?,
    })
}

pub(super) fn put_pooling(to: &mut Writer, pooling: Pooling) {
    to.u32(number(&POOLINGS, &pooling));
}

pub(super) fn pooling(from: &mut Reader<'_>) -> Result<Pooling> {
    from.one_of("the pooling", &POOLINGS)
}

const _: () = assert!(HEADER + 4 * WORDS == 112, "what `Shape::of` says");
