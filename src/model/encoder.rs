//! An encoder: texts in, one vector each out.
//!
//! Rows of all texts lie end to end, without padding; attention keeps them apart.

use super::config::{EncoderConfig, Pooling};
use super::decoder::Workspace;
use super::load::{Loader, Source};
use crate::kernels::Cpu;
use crate::kernels::attention::{Pattern, Products};
use crate::kernels::elementwise::{self, Binary};
use crate::kernels::reduce::{self, Reduction};
use crate::kernels::view::{MatMut, MatRef};
use crate::nn::{
    Arithmetic, Compute, Embedding, FeedForwardNetwork, KeyValues, Mixing, MultiHeadAttention, Norm, Part,
    Placement, Room, TransformerBlock,
};
use crate::run::Run;
use crate::{Error, Result};
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

mod flat;

/// A BERT-type encoder.
///
/// ```
/// use samebits::model::{Encoder, EncoderConfig, Pooling, Workspace};
/// use samebits::{Cpu, io::safetensors::Checkpoint, run::Run};
/// let (run, path) = (Run::here(Cpu::detect()), "tests/data/models/bert");
/// let config = EncoderConfig::from_hf(&std::fs::read(format!("{path}/config.json")).unwrap())?;
/// let encoder = Encoder::load(run.cpu(), config, &Checkpoint::open(path)?)?;
/// let (dim, mut memory) = (encoder.config().dim, Workspace::new());
/// let (mut alone, mut both) = (vec![0.0; dim], vec![0.0; 2 * dim]);
/// encoder.embed_texts(&run, &[&[5, 6, 7]], Pooling::Mean, &mut alone, &mut memory)?;
/// encoder.embed_texts(&run, &[&[9, 8], &[5, 6, 7]], Pooling::Mean, &mut both, &mut memory)?;
/// assert_eq!(both[dim..], alone); // a text's vector has the same bits in any company
/// # Ok::<(), samebits::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Encoder {
    config: EncoderConfig,
    words: Embedding,
    positions: Embedding,
    segments: Embedding,
    norm: Norm,
    blocks: Vec<TransformerBlock>,
}

impl Encoder {
    /// Builds the model of `config` from a source's tensors.
    ///
    /// # Errors
    /// Where a tensor is missing, has another shape or type than the configuration says, or is left over.
    pub fn load(cpu: Cpu, config: EncoderConfig, source: &dyn Source) -> Result<Encoder> {
        let mut loader = Loader::new(cpu, source);
        let c = &config;
        let prefixes = ["", "bert.", "roberta.", "0.auto_model."];
        let has = |p: &&str| loader.contains(&format!("{p}embeddings.word_embeddings.weight"));
        let prefix = prefixes.into_iter().find(has).unwrap_or("");
        let at = |name: &str| format!("{prefix}{name}");
        let mut table = |name: &str, n: usize| -> Result<Embedding> {
            let name = at(&format!("embeddings.{name}_embeddings.weight"));
            Ok(Embedding::new(loader.weight(&name, [n, c.dim])?))
        };
        let (words, positions) = (table("word", c.vocab)?, table("position", c.positions)?);
        let segments = table("token_type", c.segments)?;
        let norm = loader.layer_norm(&at("embeddings.LayerNorm"), c.dim, c.norm_eps)?;
        let block = |i: usize| block(&mut loader, c, &at(&format!("encoder.layer.{i}")));
        let blocks = (0..c.layers).map(block).collect::<Result<_>>()?;
        // Heads for the tasks that the model was trained on; embeddings are made before them.
        let heads: Vec<_> = source.names().into_iter().filter(|n| is_head(n)).collect();
        heads.iter().for_each(|name| loader.allow(name));
        loader.finish()?;
        Ok(Encoder { words, positions, segments, norm, blocks, config })
    }

    /// Puts the products of the blocks' linear layers into a class.
    ///
    /// # Errors
    /// Where codes are to be made of an element that is not finite.
    ///
    /// # Panics
    /// Where they are of another class than f32 already, and not of this.
    pub fn set_compute(&mut self, cpu: Cpu, compute: Compute) -> Result<()> {
        for (i, block) in self.blocks.iter_mut().enumerate() {
            for (name, part) in block.parts_mut() {
                let Part::Linear(layer) = part else { continue };
                let named = |e| Error::invalid(format!("blocks.{i}.{name}.weight: {e}"));
                layer.set_compute(cpu, compute).map_err(named)?;
            }
        }
        Ok(())
    }

    /// The class of the products: that of the first layer.
    pub fn compute(&self) -> Compute {
        self.blocks.first().map_or(Compute::F32, |block| block.attention.q.weight.compute())
    }

    /// Says what the products of attention are made of.
    pub fn set_attention(&mut self, products: Products) {
        self.blocks.iter_mut().for_each(|block| block.set_attention(products));
    }

    /// What the products of attention are made of: those of the first block.
    pub fn attention(&self) -> Products {
        self.blocks.first().map_or(Products::F32, |block| block.attention.mixing.kernel.products())
    }

    /// [`Encoder::set_compute`] and [`Encoder::set_attention`].
    ///
    /// # Errors
    /// As [`Encoder::set_compute`].
    ///
    /// # Panics
    /// As there.
    pub fn set_arithmetic(&mut self, cpu: Cpu, arithmetic: Arithmetic) -> Result<()> {
        self.set_attention(arithmetic.attention);
        self.set_compute(cpu, arithmetic.compute)
    }

    /// What it computes in.
    pub fn arithmetic(&self) -> Arithmetic {
        Arithmetic { compute: self.compute(), attention: self.attention() }
    }

    /// What it is made of.
    pub const fn config(&self) -> &EncoderConfig {
        &self.config
    }

    /// Multiplications and additions of a text of `tokens`: two for each weight and token, and attention's.
    pub fn operations(&self, tokens: usize) -> f64 {
        let weights: usize = self.blocks.iter().map(TransformerBlock::weights).sum();
        let attention = 4.0 * (tokens * tokens * self.config.dim * self.config.layers) as f64;
        2.0 * weights as f64 * tokens as f64 + attention
    }

    /// The last hidden rows of all texts, end to end, (tokens, dim); segments are 0.
    ///
    /// # Errors
    /// Where a token is not in the vocabulary or a text has more tokens than there are positions.
    ///
    /// # Panics
    /// Where `out` has another shape.
    pub fn forward(
        &self,
        run: &Run<'_>,
        texts: &[&[u32]],
        out: &mut [f32],
        workspace: &mut Workspace,
    ) -> Result<()> {
        let segments: Vec<Vec<u32>> = texts.iter().map(|t| vec![0; t.len()]).collect();
        let segments: Vec<&[u32]> = segments.iter().map(|s| &s[..]).collect();
        self.forward_segments(run, texts, &segments, out, workspace)
    }

    /// The same, with the segment of every token.
    ///
    /// # Errors
    /// As [`Encoder::forward`], and where there is no such segment.
    ///
    /// # Panics
    /// Where `out` has another shape, or segments are not one a token.
    pub fn forward_segments(
        &self,
        run: &Run<'_>,
        texts: &[&[u32]],
        segments: &[&[u32]],
        out: &mut [f32],
        workspace: &mut Workspace,
    ) -> Result<()> {
        let dim = self.config.dim;
        let mut ends = vec![0];
        for (text, segments) in texts.iter().zip(segments) {
            assert!(text.len() == segments.len(), "{} segments of {} tokens", segments.len(), text.len());
            self.check(text, segments)?;
            ends.push(ends[ends.len() - 1] + text.len());
        }
        let rows = ends[texts.len()];
        assert!(out.len() == rows * dim, "{} floats for {rows} tokens of {dim}", out.len());
        let need = self.blocks.iter().map(|b| b.room_len(rows)).max().unwrap_or(0);
        let need = need.max(Room::len(rows * dim));
        let lines = workspace.lines(need);
        self.embed(run.cpu(), texts, segments, out, Room::new(lines));
        self.norm.forward_in_place(run, out);
        for block in &self.blocks {
            block.forward(run, out, None, &mut KeyValues::Here { ends: &ends }, None, Room::new(lines));
        }
        Ok(())
    }

    /// One vector a text, (texts, dim).
    ///
    /// # Errors
    /// As [`Encoder::forward`], and where a text has no token.
    ///
    /// # Panics
    /// Where `out` has another shape.
    pub fn embed_texts(
        &self,
        run: &Run<'_>,
        texts: &[&[u32]],
        pooling: Pooling,
        out: &mut [f32],
        workspace: &mut Workspace,
    ) -> Result<()> {
        let dim = self.config.dim;
        assert!(out.len() == texts.len() * dim, "{} floats for {} texts", out.len(), texts.len());
        if texts.iter().any(|t| t.is_empty()) {
            return Err(Error::invalid("a text without tokens has no vector"));
        }
        for text in texts {
            self.check(text, &[])?;
        }
        let groups = groups(texts, run.threads());
        if groups.len() < 2 {
            return self.embed_group(run, texts, pooling, out, workspace);
        }
        // A group a thread: they need nothing of each other, and wait for nobody.
        let (cpu, mut left) = (run.cpu(), out);
        let pieces = groups.into_iter().map(|group| {
            let (front, rest) = core::mem::take(&mut left).split_at_mut(group.len() * dim);
            left = rest;
            (&texts[group], front)
        });
        run.pieces(pieces, |(texts, out), scratch| {
            let alone = Run::here_with(cpu, core::mem::take(scratch));
            let done = self.embed_group(&alone, texts, pooling, out, &mut Workspace::new());
            done.expect("every text was looked at before");
            *scratch = alone.into_scratch();
        });
        Ok(())
    }

    fn embed_group(
        &self,
        run: &Run<'_>,
        texts: &[&[u32]],
        pooling: Pooling,
        out: &mut [f32],
        workspace: &mut Workspace,
    ) -> Result<()> {
        let dim = self.config.dim;
        let rows = texts.iter().map(|t| t.len()).sum::<usize>();
        let mut hidden = vec![0.0; rows * dim];
        self.forward(run, texts, &mut hidden, workspace)?;
        let mut start = 0;
        for (text, out) in texts.iter().zip(out.chunks_exact_mut(dim)) {
            pool(run.cpu(), pooling, MatRef::new(&hidden[start * dim..], text.len(), dim), out);
            start += text.len();
        }
        Ok(())
    }

    fn check(&self, text: &[u32], segments: &[u32]) -> Result<()> {
        let EncoderConfig { vocab, segments: kinds, .. } = self.config;
        if let Some(t) = text.iter().find(|&&t| t as usize >= vocab) {
            return Err(Error::invalid(format!("token {t} of a vocabulary of {vocab}")));
        }
        if let Some(s) = segments.iter().find(|&&s| s as usize >= kinds) {
            return Err(Error::invalid(format!("segment {s} of {kinds}")));
        }
        let most = self.config.context();
        if text.len() > most {
            return Err(Error::invalid(format!("{} tokens, the model has {most} positions", text.len())));
        }
        Ok(())
    }

    /// Words + segments + positions, in the order in which BERT's code adds them.
    fn embed(&self, cpu: Cpu, texts: &[&[u32]], segments: &[&[u32]], out: &mut [f32], mut room: Room<'_>) {
        let dim = self.config.dim;
        let all = room.floats(out.len());
        let mut start = 0;
        for (&text, &segments) in texts.iter().zip(segments) {
            let part = start * dim..(start + text.len()) * dim;
            let first = self.config.first_position;
            let positions: Vec<u32> = (first..first + text.len()).map(|p| p as u32).collect();
            let (out, row) = (&mut out[part.clone()], &mut all[part]);
            self.words.forward(cpu, text, out);
            for (table, ids) in [(&self.segments, segments), (&self.positions, &positions[..])] {
                table.forward(cpu, ids, row);
                let n = row.len();
                let (to, row) = (MatMut::new(&mut *out, 1, n), MatRef::new(row, 1, n));
                elementwise::binary_in_place(cpu, Binary::Add, to, row);
            }
            start += text.len();
        }
    }
}

/// Rows of a group at least: so many hide what a call of a kernel costs; a few more, and the rows of all layers
/// still lie in the second cache.
const GROUP: usize = 256;

/// Texts, one after the other, that are computed together.
fn groups(texts: &[&[u32]], threads: usize) -> Vec<Range<usize>> {
    let all: usize = texts.iter().map(|t| t.len()).sum();
    let least = GROUP.min(all.div_ceil(threads)).max(1);
    let (mut groups, mut start, mut rows) = (Vec::new(), 0, 0);
    for (i, text) in texts.iter().enumerate() {
        rows += text.len();
        if rows >= least || i + 1 == texts.len() {
            groups.push(start..i + 1);
            (start, rows) = (i + 1, 0);
        }
    }
    groups
}

/// Whether the tensor belongs to a head on top of the encoder.
fn is_head(name: &str) -> bool {
    let name =
        ["bert.", "roberta.", "0.auto_model."].iter().find_map(|p| name.strip_prefix(p)).unwrap_or(name);
    ["pooler.", "cls.", "lm_head.", "classifier."].iter().any(|p| name.starts_with(p))
}

fn block(loader: &mut Loader<'_>, c: &EncoderConfig, at: &str) -> Result<TransformerBlock> {
    let mut linear = |name: &str, shape: [usize; 2]| loader.linear(&format!("{at}.{name}"), shape, true);
    let square = [c.dim, c.dim];
    let head_dim = c.dim / c.heads;
    let attention = MultiHeadAttention {
        q: linear("attention.self.query", square)?,
        k: linear("attention.self.key", square)?,
        v: linear("attention.self.value", square)?,
        o: linear("attention.output.dense", square)?,
        heads: c.heads,
        kv_heads: c.heads,
        head_dim,
        qk_norm: None,
        mixing: Mixing::new(head_dim, Pattern::Full),
        prefix: None,
    };
    let network = FeedForwardNetwork {
        gate: None,
        up: linear("intermediate.dense", [c.hidden, c.dim])?,
        down: linear("output.dense", [c.dim, c.hidden])?,
        activation: c.activation,
    };
    let mut norm = |name: &str| loader.layer_norm(&format!("{at}.{name}.LayerNorm"), c.dim, c.norm_eps);
    Ok(TransformerBlock {
        placement: Placement::Post,
        attention_norm: norm("attention.output")?,
        attention,
        attention_after: None,
        cross: None,
        network_norm: Some(norm("output")?),
        network,
        network_after: None,
        adapters: Default::default(),
    })
}

/// The rows (tokens, dim) of one text to its vector.
fn pool(cpu: Cpu, pooling: Pooling, rows: MatRef<'_>, out: &mut [f32]) {
    let row = |r: usize| rows.row(r).expect("rows that lie side by side");
    match pooling {
        Pooling::Cls => out.copy_from_slice(row(0)),
        Pooling::Last => out.copy_from_slice(row(rows.rows() - 1)),
        Pooling::Mean => reduce::reduce_rows(cpu, Reduction::Mean, rows.t(), out),
        Pooling::Max => reduce::reduce_rows(cpu, Reduction::Max, rows.t(), out),
    }
}
