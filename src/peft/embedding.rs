//! LoRA on a table.

use super::{LoraLayer, LoraShape, product};
use crate::kernels::gemm::Accumulate;
use crate::kernels::view::{MatMut, MatRef};
use crate::nn::Embedding;
use crate::run::Run;
use alloc::vec;

/// A table with an adapter: a row is E\[id\] + s · B A\[:, id\].
///
/// The adapter's input features are the entries of the table.
#[derive(Clone, Debug)]
pub struct EmbeddingWithLora {
    /// (entries, features)
    pub base: Embedding,
    /// A (rank, entries), B (features, rank).
    pub adapter: LoraLayer,
}

impl EmbeddingWithLora {
    /// The rows `ids`, (ids, features).
    ///
    /// # Panics
    /// Where an id is not in the table, or shapes disagree.
    pub fn forward(&self, run: &Run<'_>, ids: &[u32], out: &mut [f32]) {
        self.base.forward(run.cpu(), ids, out);
        let LoraShape { in_features, out_features, rank } = self.adapter.shape();
        assert!(
            (in_features, out_features) == (self.base.entries(), self.base.features()),
            "an adapter of {:?} on a table ({}, {})",
            self.adapter.shape(),
            self.base.entries(),
            self.base.features()
        );
        let (a, scale) = (self.adapter.a(), self.adapter.scale);
        let mut hidden = vec![0.0; ids.len() * rank];
        for (hidden, &id) in hidden.chunks_exact_mut(rank).zip(ids) {
            hidden.iter_mut().enumerate().for_each(|(r, h)| *h = a.get(r, id as usize) * scale);
        }
        let hidden = MatRef::new(&hidden, ids.len(), rank);
        let to = MatMut::new(out, ids.len(), out_features);
        product(run, hidden, self.adapter.b().t(), to, Accumulate::Add);
    }
}
