//! Weight matrices behind one interface, whatever they are stored as.
//!
//! ```text
//!   (out, in) as files store it      F32  BF16  F16  NF4 …      one row an output
//!        │ packed once
//!        ▼
//!   panels of 16 outputs             multiplied straight from there, each element decoded to one f32
//! ```
//!
//! **Law.**  Clause 1: a stored weight becomes one `f32` and goes the same way as any other. So a product over a
//! stored form has the bits of the product over its decoded values.

use crate::kernels::gemm::{
    Accumulate, Bf16, Element, Epilogue, F16, GROUP, Gemm, HalfGroup, PackedMatrix, Pieces, pack, packed_len,
};
use crate::kernels::nf4::{CodeLine, PackedNf4, RowNf4};
use crate::kernels::view::{MatMut, MatRef};
use crate::kernels::{Cpu, LANES, Line, half, nf4};
use crate::run::{Run, Scratch};
use crate::tensor::{Dtype, Tensor};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

/// A weight (out, in), packed for products. Clones share it.
#[derive(Clone)]
pub struct Weight {
    n: usize,
    k: usize,
    form: Arc<Form>,
}

/// What a [`Weight`] is stored as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stored {
    /// 32-bit floats.
    F32,
    /// bfloat16.
    Bf16,
    /// IEEE half.
    F16,
    /// Four-bit NormalFloat with one `f32` scale a block.
    Nf4,
}

enum Form {
    F32(Vec<[Line; GROUP]>),
    Bf16(Vec<HalfGroup>),
    F16(Vec<HalfGroup>),
    Nf4 { codes: Vec<CodeLine>, scales: Vec<Line>, blocksize: usize },
}

impl Weight {
    /// A weight (out, in) of floats, any strides.
    pub fn from_f32(cpu: Cpu, w: MatRef<'_>) -> Weight {
        Weight { n: w.rows(), k: w.cols(), form: Arc::new(Form::F32(packed(cpu, w))) }
    }

    /// A weight (out, in) of bfloat16, any strides.
    pub fn from_bf16(cpu: Cpu, w: MatRef<'_, Bf16>) -> Weight {
        Weight { n: w.rows(), k: w.cols(), form: Arc::new(Form::Bf16(packed(cpu, w))) }
    }

    /// A weight (out, in) of halves, any strides.
    pub fn from_f16(cpu: Cpu, w: MatRef<'_, F16>) -> Weight {
        Weight { n: w.rows(), k: w.cols(), form: Arc::new(Form::F16(packed(cpu, w))) }
    }

    /// A weight (out, in) in NF4 as bitsandbytes stores it.
    pub fn from_nf4(weight: RowNf4<'_>) -> Weight {
        let (n, k) = weight.shape();
        let blocksize = weight.blocksize();
        let mut codes = filled(CodeLine::ZERO, PackedNf4::code_lines(n, k));
        let mut scales = filled(Line::ZERO, PackedNf4::scale_lines(n, k, blocksize));
        PackedNf4::pack(weight, &mut codes, &mut scales);
        Weight { n, k, form: Arc::new(Form::Nf4 { codes, scales, blocksize }) }
    }

    /// A matrix (out, in) of f32, bf16 or f16, any strides.
    ///
    /// # Panics
    /// Where the tensor has another type or not two axes.
    #[track_caller]
    pub fn from_tensor(cpu: Cpu, w: &Tensor) -> Weight {
        match w.dtype() {
            Dtype::F32 => Weight::from_f32(cpu, w.as_matrix()),
            Dtype::BF16 => Weight::from_bf16(cpu, w.as_matrix::<u16>().as_bf16()),
            Dtype::F16 => Weight::from_f16(cpu, w.as_matrix::<u16>().as_f16()),
            other => panic!("a weight of {other}"),
        }
    }

    /// The same weight in NF4, each `blocksize` consecutive elements of its rows with one scale.
    ///
    /// # Errors
    /// [`nf4::NotFinite`] where an element is not finite.
    ///
    /// # Panics
    /// Where `blocksize` is 0.
    pub fn to_nf4(&self, cpu: Cpu, blocksize: usize) -> Result<Weight, nf4::NotFinite> {
        let rows = self.to_rows(cpu);
        let mut codes = vec![0; nf4::code_bytes(rows.len())];
        let mut absmax = vec![0.0; nf4::block_count(rows.len(), blocksize)];
        nf4::quantize(cpu, &rows, blocksize, &mut codes, &mut absmax)?;
        Ok(Weight::from_nf4(RowNf4::new(self.n, self.k, blocksize, &codes, &absmax)))
    }

    /// Outputs: rows of the weight.
    pub const fn out_features(&self) -> usize {
        self.n
    }

    /// Inputs: columns of the weight.
    pub const fn in_features(&self) -> usize {
        self.k
    }

    /// What it is stored as.
    pub fn stored(&self) -> Stored {
        match *self.form {
            Form::F32(_) => Stored::F32,
            Form::Bf16(_) => Stored::Bf16,
            Form::F16(_) => Stored::F16,
            Form::Nf4 { .. } => Stored::Nf4,
        }
    }

    /// Bytes in memory: what a pass over it reads.
    pub fn bytes(&self) -> usize {
        match &*self.form {
            Form::F32(groups) => size_of_val(&groups[..]),
            Form::Bf16(groups) | Form::F16(groups) => size_of_val(&groups[..]),
            Form::Nf4 { codes, scales, .. } => size_of_val(&codes[..]) + size_of_val(&scales[..]),
        }
    }

    /// Row `r` as floats, (in).
    ///
    /// # Panics
    /// Where there is no such row or `out` is not (in).
    pub fn row(&self, r: usize, out: &mut [f32]) {
        assert!(r < self.n && out.len() == self.k, "row {r} of ({}, {}) into {}", self.n, self.k, out.len());
        let (first, lane) = (r / LANES * self.k.div_ceil(GROUP), r % LANES);
        for (g, out) in out.chunks_mut(GROUP).enumerate() {
            for (i, out) in out.iter_mut().enumerate() {
                *out = match &*self.form {
                    Form::F32(groups) => groups[first + g][i][lane],
                    Form::Bf16(groups) => half::bf16_to_f32(groups[first + g].0[i][lane]),
                    Form::F16(groups) => half::f16_to_f32(groups[first + g].0[i][lane]),
                    Form::Nf4 { codes, scales, blocksize } => {
                        let packed = PackedNf4::new(self.n, self.k, *blocksize, codes, scales);
                        packed.get(r, g * GROUP + i)
                    }
                };
            }
        }
    }

    /// All of it as floats, (out, in) row by row.
    pub fn to_rows(&self, _: Cpu) -> Vec<f32> {
        let mut rows = filled(0.0, self.n * self.k);
        for (r, row) in rows.chunks_exact_mut(self.k.max(1)).enumerate() {
            self.row(r, row);
        }
        rows
    }

    /// The product as pieces; see [`Gemm::pieces`].
    pub(super) fn pieces<'a>(&'a self, job: Job<'a>, threads: usize) -> Cut<'a> {
        let (n, k) = (self.n, self.k);
        match &*self.form {
            Form::F32(groups) => Cut::F32(job.cut(PackedMatrix::new(groups, k, n), threads)),
            Form::Bf16(groups) => Cut::Bf16(job.cut(PackedMatrix::new(groups, k, n), threads)),
            Form::F16(groups) => Cut::F16(job.cut(PackedMatrix::new(groups, k, n), threads)),
            Form::Nf4 { codes, scales, blocksize } => {
                Cut::Nf4(job.cut(PackedNf4::new(n, k, *blocksize, codes, scales), threads))
            }
        }
    }
}

impl core::fmt::Debug for Weight {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Weight(({}, {}) {:?})", self.n, self.k, self.stored())
    }
}

/// `value`, `n` times, on huge pages where there are some.
fn filled<T: Clone>(value: T, n: usize) -> Vec<T> {
    #[cfg_attr(not(feature = "std"), allow(unused_mut))]
    let mut all = vec![value; n];
    #[cfg(feature = "std")]
    crate::sys::memory::use_huge_pages(&mut all);
    all
}

/// `w` (out, in) in panels of 16 outputs.
fn packed<E: Element>(cpu: Cpu, w: MatRef<'_, E>) -> Vec<E::Group> {
    let mut groups = filled(E::ZERO, packed_len(w.cols(), w.rows()));
    pack(cpu, w.t(), &mut groups);
    groups
}

/// A product with a weight, less the weight.
pub(super) struct Job<'a> {
    pub x: MatRef<'a>,
    pub out: MatMut<'a>,
    pub accumulate: Accumulate,
    pub epilogue: Epilogue<'a>,
}

impl<'a> Job<'a> {
    /// Whole for one thread: a cut product packs the same part of its input more than once.
    fn cut<W: crate::kernels::gemm::Weights>(self, b: W, threads: usize) -> Parts<'a, W> {
        let Job { x: a, out: c, accumulate, epilogue } = self;
        let gemm = Gemm { a, b, c, accumulate, epilogue };
        if threads == 1 { Parts::Whole(Some(gemm)) } else { Parts::Cut(gemm.pieces()) }
    }
}

/// A product, whole or in pieces.
pub(super) enum Parts<'a, W> {
    Whole(Option<Gemm<'a, W>>),
    Cut(Pieces<'a, W>),
}

impl<'a, W: crate::kernels::gemm::Weights> Iterator for Parts<'a, W> {
    type Item = Gemm<'a, W>;
    fn next(&mut self) -> Option<Gemm<'a, W>> {
        match self {
            Parts::Whole(gemm) => gemm.take(),
            Parts::Cut(pieces) => pieces.next(),
        }
    }
}

/// The pieces of a product, one kind for each kind of weight.
pub(super) enum Cut<'a> {
    F32(Parts<'a, PackedMatrix<'a>>),
    Bf16(Parts<'a, PackedMatrix<'a, Bf16>>),
    F16(Parts<'a, PackedMatrix<'a, F16>>),
    Nf4(Parts<'a, PackedNf4<'a>>),
}

/// One piece of a product.
pub(super) enum Piece<'a> {
    F32(Gemm<'a, PackedMatrix<'a>>),
    Bf16(Gemm<'a, PackedMatrix<'a, Bf16>>),
    F16(Gemm<'a, PackedMatrix<'a, F16>>),
    Nf4(Gemm<'a, PackedNf4<'a>>),
}

impl<'a> Iterator for Cut<'a> {
    type Item = Piece<'a>;
    fn next(&mut self) -> Option<Piece<'a>> {
        match self {
            Cut::F32(parts) => parts.next().map(Piece::F32),
            Cut::Bf16(parts) => parts.next().map(Piece::Bf16),
            Cut::F16(parts) => parts.next().map(Piece::F16),
            Cut::Nf4(parts) => parts.next().map(Piece::Nf4),
        }
    }
}

impl Piece<'_> {
    /// Computes it with this thread's scratch.
    pub(super) fn run(self, cpu: Cpu, scratch: &mut Scratch) {
        fn go<W: crate::kernels::gemm::Weights>(gemm: Gemm<'_, W>, cpu: Cpu, scratch: &mut Scratch) {
            let need = gemm.scratch_len();
            gemm.run(cpu, scratch.lines(need));
        }
        match self {
            Piece::F32(gemm) => go(gemm, cpu, scratch),
            Piece::Bf16(gemm) => go(gemm, cpu, scratch),
            Piece::F16(gemm) => go(gemm, cpu, scratch),
            Piece::Nf4(gemm) => go(gemm, cpu, scratch),
        }
    }
}

/// Runs all pieces of some products, as one job for all threads.
pub(super) fn run_all<'a>(run: &Run<'_>, cuts: impl IntoIterator<Item = Cut<'a>, IntoIter: Send>) {
    let cpu = run.cpu();
    run.pieces(cuts.into_iter().flatten(), |piece, scratch| piece.run(cpu, scratch));
}
