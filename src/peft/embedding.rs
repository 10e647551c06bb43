//! LoRA on a table: a row is E\[id\] + s · B A\[:, id\].
//!
//! ```text
//!   ids ─► columns of A (rank, entries) ─► · s ─► B (features, rank) ─► + the table's rows
//!   dB = dyᵀ (s A[:, ids])        dA[:, id] += s Bᵀ dy, token after token        nothing is dropped, as in peft
//! ```
//!
//! **Law.** Clause 1 for the products, clause 9 (in the order of the tokens) for what is added to A's columns.

use super::named::{Choice, Named};
use super::{LoraLayer, LoraShape, product};
use crate::kernels::elementwise::{self, Binary};
use crate::kernels::gemm::Accumulate;
use crate::kernels::view::{MatMut, MatRef};
use crate::nn::adapter::TableAdapter;
use crate::nn::{Compute, Embedding, Scope, weight_gradient};
use crate::run::Run;
use crate::{Error, Result};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

/// Names of the parameters, below the table's own.
const A: &str = "lora_embedding_A";
const B: &str = "lora_embedding_B";

/// A table with an adapter, whose input features are the entries of the table.
///
/// ```
/// use samebits::nn::adapter::TableAdapter;
/// use samebits::nn::{Embedding, Weight};
/// use samebits::peft::{EmbeddingWithLora, LoraLayer, LoraShape, TableAdapters};
/// use samebits::{Cpu, run::Run};
/// let run = Run::here(Cpu::detect());
/// let base = Embedding::new(Weight::plain(3, 1, vec![10.0, 20.0, 30.0]));
/// let shape = LoraShape { in_features: 3, out_features: 1, rank: 1 }; // the entries are what goes in
/// let adapter = LoraLayer::from_parts(shape, vec![1.0, 2.0, 3.0], vec![0.5], 1.0);
/// let mut all = TableAdapters::default();
/// all.insert(&base, "one", adapter.clone())?;
/// assert_eq!((all.get("one"), all.boxed().parameters_mut().len()), (Some(&adapter), 0)); // none counts yet
/// let mut rows = [0.0; 2];
/// EmbeddingWithLora { base, adapter }.forward(&run, &[2, 0], &mut rows);
/// assert_eq!(rows, [31.5, 10.5]);
/// # Ok::<(), samebits::Error>(())
/// ```
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
        let LoraShape { in_features, out_features, .. } = self.adapter.shape();
        assert!(
            (in_features, out_features) == (self.base.entries(), self.base.features()),
            "an adapter of {:?} on a table ({}, {})",
            self.adapter.shape(),
            self.base.entries(),
            self.base.features()
        );
        add(run, &self.adapter, 1.0, ids, out);
    }
}

/// Adapters of one table by name, and which of them count: what plugs into [`Embedding::adapter`].
#[derive(Clone, Debug, Default)]
pub struct TableAdapters {
    all: Named<LoraLayer>,
    /// For each row of the next pass, the adapter that counts in it alone.
    pub(super) rows: Option<super::mixed::Rows>,
}

impl TableAdapters {
    /// The adapter of that name.
    pub fn get(&self, name: &str) -> Option<&LoraLayer> {
        self.all.get(name)
    }

    /// Adds an adapter of `base`, or puts it in the place of one of that name.
    ///
    /// # Errors
    /// Where its shape is not that of the table, or it has a magnitude.
    pub fn insert(&mut self, base: &Embedding, name: &str, layer: LoraLayer) -> Result<()> {
        let LoraShape { in_features, out_features, .. } = layer.shape();
        if layer.magnitude.is_some() {
            return Err(Error::invalid("a magnitude (DoRA) on a table is not supported"));
        }
        if (in_features, out_features) != (base.entries(), base.features()) {
            let expected = format!("({}, {}) of the table", base.entries(), base.features());
            let shape = vec![in_features, out_features];
            return Err(Error::Shape { file: String::new(), name: name.into(), shape, expected });
        }
        self.all.insert(name, layer);
        Ok(())
    }
}

impl Choice for TableAdapters {
    fn has(&self, name: &str) -> bool {
        self.all.has(name)
    }

    fn choose(&mut self, adapters: &[(&str, f32)]) -> Result<()> {
        self.all.choose(adapters)
    }
}

impl TableAdapter for TableAdapters {
    fn boxed(&self) -> Box<dyn TableAdapter> {
        Box::new(self.clone())
    }

    fn as_any(&mut self) -> &mut dyn core::any::Any {
        self
    }

    fn add(&self, run: &Run<'_>, ids: &[u32], out: &mut [f32]) {
        let Some(rows) = &self.rows else {
            return self.all.active().for_each(|(layer, weight)| add(run, layer, weight, ids, out));
        };
        let n = out.len() / ids.len().max(1);
        rows.each(|name, rows| {
            let Some(layer) = self.all.get(name) else { return };
            let ids: Vec<u32> = rows.iter().map(|&r| ids[r]).collect();
            let mut part = super::mixed::gathered(out, n, rows);
            add(run, layer, 1.0, &ids, &mut part);
            super::mixed::scatter(&part, n, rows, out);
        });
    }

    fn backward(&self, run: &Run<'_>, ids: &[u32], dy: &[f32], to: &mut Scope<'_>) {
        let Some(layer) = self.all.trained() else { return };
        let LoraShape { in_features, out_features, rank } = layer.shape();
        let rows = ids.len();
        let dy = MatRef::new(dy, rows, out_features);
        if let Some(db) = to.add(B) {
            let hidden = columns(layer, layer.scale, ids);
            let (hidden, db) = (MatRef::new(&hidden, rows, rank), MatMut::new(db, out_features, rank));
            weight_gradient(run, Compute::F32, (hidden, dy), Accumulate::Add, db);
        }
        if let Some(da) = to.add(A) {
            let mut d = vec![0.0; rows * rank];
            product(run, dy, layer.b(), MatMut::new(&mut d, rows, rank), Accumulate::Overwrite);
            let d_mut = MatMut::new(&mut d, rows, rank);
            elementwise::scalar_in_place(run.cpu(), Binary::Mul, d_mut, layer.scale);
            for (d, &id) in d.chunks_exact(rank).zip(ids) {
                d.iter().enumerate().for_each(|(r, d)| da[r * in_features + id as usize] += d);
            }
        }
    }

    fn parameters_mut(&mut self) -> Vec<(String, [usize; 2], &mut [f32])> {
        let Some(layer) = self.all.trained_mut() else { return Vec::new() };
        let LoraShape { in_features, out_features, rank } = layer.shape();
        let LoraLayer { a, b, .. } = layer;
        vec![(A.into(), [rank, in_features], &mut a[..]), (B.into(), [out_features, rank], &mut b[..])]
    }
}

/// s · A\[:, ids\], (ids, rank).
fn columns(layer: &LoraLayer, scale: f32, ids: &[u32]) -> Vec<f32> {
    let a = layer.a();
    ids.iter().flat_map(|&id| (0..a.rows()).map(move |r| a.get(r, id as usize) * scale)).collect()
}

/// `out` (ids, features) += weight · s · B A\[:, ids\]
fn add(run: &Run<'_>, layer: &LoraLayer, weight: f32, ids: &[u32], out: &mut [f32]) {
    let LoraShape { out_features, rank, .. } = layer.shape();
    let hidden = columns(layer, layer.scale * weight, ids);
    let hidden = MatRef::new(&hidden, ids.len(), rank);
    let to = MatMut::new(out, ids.len(), out_features);
    product(run, hidden, layer.b().t(), to, Accumulate::Add);
}
