//! What a model does: continue a text, or turn it into a vector.

use super::config::Pooling;
use super::decoder::{Decoder, Workspace};
use super::encoder::Encoder;
use crate::kernels::elementwise::{self, Binary};
use crate::kernels::reduce;
use crate::kernels::view::MatMut;
use crate::run::Run;
use crate::{Cpu, Result};
use alloc::boxed::Box;

/// A model of either kind.
///
/// ```
/// use samebits::model::{Model, SentenceEncoder, Workspace};
/// use samebits::{Cpu, run::Run};
/// let run = Run::here(Cpu::detect());
/// let path = "tests/data/models/bert";
/// assert!(matches!(Model::open("tests/data/models/llama", run.cpu())?, Model::Decoder(_)));
/// let Model::Encoder(model) = Model::open(path, run.cpu())? else { panic!("{path} continues texts") };
/// let again: SentenceEncoder = SentenceEncoder::open(path, run.cpu())?;
/// let dim = model.encoder.config().dim;
/// let [mut a, mut b] = [vec![0.0; dim], vec![0.0; dim]];
/// model.embed(&run, &[&[5, 6]], &mut a, &mut Workspace::new())?;
/// again.embed(&run, &[&[5, 6]], &mut b, &mut Workspace::new())?;
/// assert_eq!(a, b);
/// # Ok::<(), samebits::Error>(())
/// ```
pub enum Model {
    /// Continues a text.
    Decoder(Box<Decoder>),
    /// Turns a text into a vector.
    Encoder(Box<SentenceEncoder>),
}

/// An encoder and how its folder says that vectors are made.
pub struct SentenceEncoder {
    /// The layers.
    pub encoder: Encoder,
    /// How rows become a vector.
    pub pooling: Pooling,
    /// Whether vectors are scaled to length 1.
    pub normalize: bool,
    /// Tokens that a text is cut to.
    pub max_tokens: usize,
}

impl SentenceEncoder {
    /// One vector a text of token ids, (texts, dim), pooled and scaled as the model says.
    ///
    /// # Errors
    /// As [`Encoder::embed_texts`].
    ///
    /// # Panics
    /// Where `out` has another shape.
    pub fn embed(
        &self,
        run: &Run<'_>,
        texts: &[&[u32]],
        out: &mut [f32],
        workspace: &mut Workspace,
    ) -> Result<()> {
        self.encoder.embed_texts(run, texts, self.pooling, out, workspace)?;
        if self.normalize {
            out.chunks_exact_mut(self.encoder.config().dim).for_each(|x| to_length_one(run.cpu(), x));
        }
        Ok(())
    }
}

/// x / max(‖x‖, 10⁻¹²): what PyTorch's `normalize` does.
pub(crate) fn to_length_one(cpu: Cpu, x: &mut [f32]) {
    let n = x.len();
    let norm = reduce::norm2(cpu, x);
    let norm = if norm < 1e-12 { 1e-12 } else { norm };
    elementwise::scalar_in_place(cpu, Binary::Div, MatMut::new(x, 1, n), norm);
}
