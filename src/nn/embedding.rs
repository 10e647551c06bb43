//! Rows of a table, chosen by number.

use super::adapter::TableAdapter;
use super::weight::Weight;
use crate::Cpu;
use alloc::boxed::Box;

/// A table (entries, features): token ids, positions or segments to vectors.
///
/// The table is a [`Weight`], so that a model whose output layer is tied to it keeps one copy, packed.
///
/// ```
/// use samebits::{Cpu, kernels::view::MatRef, nn::{Embedding, Weight}};
/// let cpu = Cpu::detect();
/// let table = Weight::from_f32(cpu, MatRef::new(&[1.0, 2.0, 3.0, 4.0], 2, 2));
/// let mut x = [0.0; 4];
/// Embedding::new(table).forward(cpu, &[1, 0], &mut x);
/// assert_eq!(x, [3.0, 4.0, 1.0, 2.0]);
/// ```
#[derive(Clone, Debug)]
pub struct Embedding {
    /// (entries, features)
    pub table: Weight,
    /// What is added to its rows from beside it, by whoever has a [`Run`](crate::run::Run) for it.
    pub adapter: Option<Box<dyn TableAdapter>>,
}

impl Embedding {
    /// The rows of `table`.
    pub const fn new(table: Weight) -> Embedding {
        Embedding { table, adapter: None }
    }

    /// Number of entries.
    pub const fn entries(&self) -> usize {
        self.table.out_features()
    }

    /// Features of a vector.
    pub const fn features(&self) -> usize {
        self.table.in_features()
    }

    /// The rows `ids` of the table alone, (ids, features).
    ///
    /// # Panics
    /// Where an id is not in the table or `out` has another shape.
    pub fn forward(&self, cpu: Cpu, ids: &[u32], out: &mut [f32]) {
        let n = self.features();
        assert!(out.len() == ids.len() * n, "{} floats for {} rows of {n}", out.len(), ids.len());
        for (&id, out) in ids.iter().zip(out.chunks_exact_mut(n.max(1))) {
            assert!((id as usize) < self.entries(), "id {id} of a table of {}", self.entries());
            self.table.row(cpu, id as usize, out);
        }
    }
}
