//! Parameter-efficient fine-tuning: LoRA and its kin, bottleneck adapters, IA³, prefixes.
//!
//! ```text
//!   x ─┬─► W (frozen: f32, bf16, NF4 …) ───────────────────────► + ─► y
//!      └─► dropout ─► A (rank, in) ─► · s ─► B (out, rank) ──────┘        LoraLayer on a LinearWithLora
//! ```
//!
//! An adapter is a small set of matrices beside a model that stays as it is. Any number of them, by name, may sit on
//! one base: one active, a weighted sum, or another for each row of a batch. Over a base in NF4 this is QLoRA.
//!
//! **Law.**  Clause 1 for every product; what an adapter adds is added to the finished sum of the base (with bias). A
//! row depends on no other row: so a mixed batch gives the bits that each adapter gives alone.

mod adapter;
pub mod combine;
pub mod config;
pub mod decompose;
mod embedding;
#[cfg(feature = "std")]
mod export;
mod files;
mod gguf;
mod ia3;
pub mod init;
mod linear;
pub mod lora;
mod mixed;
mod model;
mod named;
mod prefix;

pub use adapter::{AdapterCache, AdapterInit, AdapterKind, AdapterLayer, Bottleneck, Bottlenecks};
pub use combine::{Combine, combine};
pub use config::AdapterConfig;
pub use embedding::{EmbeddingWithLora, TableAdapters};
#[cfg(feature = "std")]
pub use export::{Export, Exported, Recoded, export};
pub use files::{Adapter, Copied, Module, Parts, StoredLora};
pub use ia3::{Ia3, Ia3Adapters, Side};
pub use init::{Init, LoraOptions, Scaling};
pub use linear::{LinearWithLora, LoraAdapters, MergeInto, MergeReport};
pub use lora::{Draw, LoraCache, LoraLayer, LoraShape};
pub use mixed::forward_mixed;
pub use model::{activate, adapt, attach, is_adapter, stored};
pub use prefix::Prefix;

pub use crate::random::stream_of;

use crate::kernels::Line;
use crate::kernels::gemm::{
    Accumulate, Epilogue, GROUP, Gemm, LowRank, PackedMatrix, Strided, pack, packed_len,
};
use crate::kernels::view::{Layout, MatMut, MatRef};
use crate::run::Run;
use alloc::vec;
use alloc::vec::Vec;

/// C (m, n) from A (m, k) and B (k, n), on all threads of `run`.
fn product(run: &Run<'_>, a: MatRef<'_>, b: MatRef<'_>, c: MatMut<'_>, accumulate: Accumulate) {
    let gemm = Gemm { a, b: Strided(b), c, accumulate, epilogue: Epilogue::NONE };
    let cpu = run.cpu();
    run.pieces(gemm.pieces(), |piece, scratch| {
        let need = piece.scratch_len();
        piece.run(cpu, scratch.lines(need));
    });
}

/// One of an adapter's two matrices, (rank, n), packed to be multiplied on the way of the base's own product to C.
struct Packed {
    groups: Vec<[Line; GROUP]>,
    rank: usize,
    n: usize,
}

impl Packed {
    fn of(run: &Run<'_>, b: MatRef<'_>) -> Packed {
        let (rank, n) = (b.rows(), b.cols());
        let mut groups = vec![[Line::ZERO; GROUP]; packed_len(rank, n)];
        pack::<f32>(run.cpu(), b, &mut groups);
        Packed { groups, rank, n }
    }

    /// The product with the rows of `h`, (rows, rank).
    fn times<'a>(&'a self, h: &'a [f32]) -> LowRank<'a> {
        let h = MatRef::new(h, h.len() / self.rank, self.rank);
        LowRank { h, b: PackedMatrix::new(&self.groups, self.rank, self.n) }
    }
}

/// `row` under every one of `rows` rows.
fn repeated(row: &[f32], rows: usize) -> MatRef<'_> {
    let layout = Layout { rows, cols: row.len(), row_stride: 0, col_stride: 1 };
    MatRef::strided(row, 0, layout)
}
