//! How well a model foretells a text.

use super::cache::CacheType;
use super::decoder::{Decoder, Sequence, Workspace};
use crate::Result;
use crate::kernels::softmax::log_softmax_in_place;
use crate::kernels::view::MatMut;
use crate::run::Run;
use alloc::vec;
use alloc::vec::Vec;

/// Rows whose logits are held at once: with a vocabulary of 128,000 these are 32 MiB.
const ROWS: usize = 64;

impl Decoder {
    /// The negative log-likelihood, in nats, of each token but the first given those before it, whose keys and
    /// values are stored as `kind`.
    ///
    /// # Errors
    /// As [`Decoder::forward`].
    ///
    /// ```no_run
    /// # let (model, run): (samebits::model::Decoder, samebits::run::Run) = todo!();
    /// let losses = model.losses(&run, &[1, 403, 407], Default::default(), &mut Default::default())?;
    /// let perplexity = (losses.iter().map(|&x| f64::from(x)).sum::<f64>() / losses.len() as f64).exp();
    /// # Ok::<(), samebits::Error>(())
    /// ```
    pub fn losses(
        &self,
        run: &Run<'_>,
        tokens: &[u32],
        kind: CacheType,
        workspace: &mut Workspace,
    ) -> Result<Vec<f32>> {
        let (vocab, n) = (self.config().vocab, tokens.len().saturating_sub(1));
        let mut cache = self.cache_of(kind, n);
        let mut logits = vec![0.0; ROWS.min(n) * vocab];
        let mut losses = Vec::with_capacity(n);
        for start in (0..n).step_by(ROWS) {
            let end = n.min(start + ROWS);
            let logits = &mut logits[..(end - start) * vocab];
            let mut batch = [Sequence { tokens: &tokens[start..end], cache: &mut cache }];
            self.forward_all(run, &mut batch, logits, workspace)?;
            let cpu = run.cpu();
            run.pieces(logits.chunks_mut(vocab), |row, _| {
                log_softmax_in_place(cpu, MatMut::new(row, 1, vocab))
            });
            let next = &tokens[start + 1..=end];
            losses.extend(logits.chunks(vocab).zip(next).map(|(row, &t)| -row[t as usize]));
        }
        Ok(losses)
    }
}
