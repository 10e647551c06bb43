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

use super::compute::{Coder, Compute};
use super::product::{Job, Part, run_cut, run_jobs};
use crate::elements::{Elements, filled};
use crate::kernels::gemm::{
    Accumulate, Bf16, Element, Epilogue, F16, PackedMatrix, Strided, Transposed, Turned, pack, packed_len,
};
use crate::kernels::ggml::{self, Code8, Format, HalfLine, Packed4, Packed8, Rows};
use crate::kernels::int8::BLOCK;
use crate::kernels::nf4::{CodeLine, PackedNf4, RowNf4};
use crate::kernels::view::{MatMut, MatRef};
use crate::kernels::{Cpu, LANES, Line, nf4};
use crate::run::{Run, Scratch};
use crate::tensor::{Dtype, Tensor};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use class::Class;
use core::ops::Range;
use form::{Blocks, Form, Ggml4, Ggml8, Nf4, Panels, Plain, View};

mod class;
mod flat;
mod form;

pub use flat::Forms;

/// A weight (out, in), packed for products. Clones share it.
#[derive(Clone)]
pub struct Weight {
    n: usize,
    k: usize,
    form: Arc<dyn Form>,
}

/// Elements that are packed before the memory that they came from is let go of.
const BAND: usize = 1 << 20;

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
    /// A block format of ggml.
    Ggml(Format),
}

impl Weight {
    fn new(n: usize, k: usize, form: impl Form + 'static) -> Weight {
        Weight { n, k, form: Arc::new(form) }
    }

    /// A weight (out, in) of floats, any strides.
    pub fn from_f32(cpu: Cpu, w: MatRef<'_>) -> Weight {
        Weight::new(w.rows(), w.cols(), Panels::<f32>::from(packed(cpu, w)))
    }

    /// A weight that is to be trained: (out, in) floats that stay as they are, for [`Weight::values_mut`]. Products
    /// pack them on the way, every time.
    ///
    /// # Panics
    /// Where there are not out · in of them.
    pub fn plain(out: usize, inputs: usize, values: Vec<f32>) -> Weight {
        assert!(values.len() == out * inputs, "a weight ({out}, {inputs}) of {} floats", values.len());
        Weight::new(out, inputs, Plain(values))
    }

    /// The floats (out, in) of a [`Weight::plain`], a copy of its own where others share them; else `None`.
    pub fn values_mut(&mut self) -> Option<&mut [f32]> {
        if let (View::Plain(values), true) = (self.form.view(), Arc::strong_count(&self.form) > 1) {
            self.form = Arc::new(Plain(values.clone()));
        }
        Arc::get_mut(&mut self.form)?.plain_mut().map(Vec::as_mut_slice)
    }

    /// A weight (out, in) of bfloat16, any strides.
    pub fn from_bf16(cpu: Cpu, w: MatRef<'_, Bf16>) -> Weight {
        Weight::new(w.rows(), w.cols(), Panels::<Bf16>::from(packed(cpu, w)))
    }

    /// A weight (out, in) of halves, any strides.
    pub fn from_f16(cpu: Cpu, w: MatRef<'_, F16>) -> Weight {
        Weight::new(w.rows(), w.cols(), Panels::<F16>::from(packed(cpu, w)))
    }

    /// A weight (out, in) in NF4 as bitsandbytes stores it.
    pub fn from_nf4(weight: RowNf4<'_>) -> Weight {
        let (n, k) = weight.shape();
        let blocksize = weight.blocksize();
        let mut codes = filled(CodeLine::ZERO, PackedNf4::code_lines(n, k));
        let mut scales = filled(Line::ZERO, PackedNf4::scale_lines(n, k, blocksize));
        PackedNf4::pack(weight, &mut codes, &mut scales);
        Weight::new(n, k, Nf4 { codes: codes.into(), scales: scales.into(), blocksize })
    }

    /// A weight (out, in) in a block format of ggml, as a GGUF file holds it.
    pub fn from_ggml(weight: Rows<'_>) -> Weight {
        let (n, k, format) = (weight.n(), weight.k(), weight.format());
        let (code_len, scale_len) = (ggml::code_len(n, k), ggml::scale_len(n, k));
        match format {
            Format::Q8_0 => {
                let mut codes = filled(Code8::ZERO, code_len);
                let mut scales = filled(HalfLine::ZERO, scale_len);
                Packed8::pack(weight, &mut codes, &mut scales);
                Weight::new(n, k, Ggml8 { codes: codes.into(), scales: scales.into() })
            }
            Format::Q4_0 | Format::Iq4Nl => {
                let mut codes = filled(CodeLine::ZERO, code_len);
                let mut scales = filled(HalfLine::ZERO, scale_len);
                Packed4::pack(weight, &mut codes, &mut scales);
                Weight::new(n, k, Ggml4 { format, codes: codes.into(), scales: scales.into() })
            }
            _ => {
                let mut blocks = filled(0, weight.blocks().len());
                blocks.copy_from_slice(weight.blocks());
                Weight::new(n, k, Blocks { format, blocks: blocks.into() })
            }
        }
    }

    /// A matrix (out, in) of f32, bf16 or f16, any strides.
    ///
    /// # Panics
    /// Where the tensor has another type or not two axes.
    #[track_caller]
    pub fn from_tensor(cpu: Cpu, w: &Tensor) -> Weight {
        let (n, k) = match w.shape() {
            &[n, k] => (n, k),
            shape => panic!("a weight of shape {shape:?}"),
        };
        // A mapped file need not lie in memory twice.
        let done = |rows| w.release_rows(rows);
        match w.dtype() {
            Dtype::F32 => {
                Weight::new(n, k, Panels::<f32>::from(packed_in_bands(cpu, w.as_matrix::<f32>(), done)))
            }
            Dtype::BF16 => {
                let elements = w.as_matrix::<u16>().as_bf16();
                Weight::new(n, k, Panels::<Bf16>::from(packed_in_bands(cpu, elements, done)))
            }
            Dtype::F16 => {
                let elements = w.as_matrix::<u16>().as_f16();
                Weight::new(n, k, Panels::<F16>::from(packed_in_bands(cpu, elements, done)))
            }
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

    /// The same weight for products of another class; of the class that it has, itself. Bfloat16 is made of whatever was
    /// stored; codes are those of the formats of ggml from four bits on and of NF4 where these are stored, else Q8_0 of its
    /// values.
    ///
    /// # Errors
    /// [`nf4::NotFinite`] where codes are to be made of an element that is not finite.
    ///
    /// # Panics
    /// Where it is of another class than f32 already, and not of this.
    pub fn in_class(&self, cpu: Cpu, compute: Compute) -> Result<Weight, nf4::NotFinite> {
        let (n, k, own) = (self.n, self.k, self.compute());
        if own == compute {
            return Ok(self.clone());
        }
        assert!(own == Compute::F32, "a weight for {} made one for {}", own.name(), compute.name());
        let class = match (self.form.view(), compute) {
            (_, Compute::Bf16) => Class::bf16(cpu, self),
            (View::Ggml8 { codes, scales }, _) => Class::of_q8_0((n, k), codes, scales),
            (View::Ggml4 { format, codes, scales }, _) => Class::of_nibbles(format, (n, k), codes, scales),
            (View::Blocks { format, blocks }, _) => match Class::of_rows(Rows::new(format, n, k, blocks)) {
                Some(class) => class,
                None => Class::eight(cpu, self)?,
            },
            (View::Nf4 { codes, scales, blocksize }, _)
                if k.is_multiple_of(BLOCK) && blocksize.is_multiple_of(BLOCK) =>
            {
                Class::of_nf4(PackedNf4::new(n, k, blocksize, codes, scales), (n, k), blocksize)
            }
            _ => Class::eight(cpu, self)?,
        };
        Ok(Weight::new(n, k, class))
    }

    /// The class of its products.
    pub fn compute(&self) -> Compute {
        match self.form.view() {
            View::Class(Class::Bf16(_)) => Compute::Bf16,
            View::Class(_) => Compute::Int8,
            _ => Compute::F32,
        }
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
        match self.form.view() {
            View::Class(class) => class.stored(),
            View::F32(_) | View::Plain(_) => Stored::F32,
            View::Bf16(_) => Stored::Bf16,
            View::F16(_) => Stored::F16,
            View::Nf4 { .. } => Stored::Nf4,
            View::Ggml8 { .. } => Stored::Ggml(Format::Q8_0),
            View::Ggml4 { format, .. } | View::Blocks { format, .. } => Stored::Ggml(format),
        }
    }

    /// Bytes in memory: what a pass over it reads.
    pub fn bytes(&self) -> usize {
        match self.form.view() {
            View::Class(class) => class.bytes(),
            View::F32(groups) => size_of_val(groups),
            View::Plain(values) => size_of_val(&values[..]),
            View::Bf16(groups) => size_of_val(groups),
            View::F16(groups) => size_of_val(groups),
            View::Nf4 { codes, scales, .. } => size_of_val(codes) + size_of_val(scales),
            View::Ggml8 { codes, scales } => size_of_val(codes) + size_of_val(scales),
            View::Ggml4 { codes, scales, .. } => size_of_val(codes) + size_of_val(scales),
            View::Blocks { blocks, .. } => blocks.len(),
        }
    }

    /// Row `r` as floats, (in).
    ///
    /// # Panics
    /// Where there is no such row or `out` is not (in).
    pub fn row(&self, cpu: Cpu, r: usize, out: &mut [f32]) {
        let (n, k) = (self.n, self.k);
        assert!(r < n && out.len() == k, "row {r} of ({n}, {k}) into {}", out.len());
        self.form.row(cpu, (n, k), r, out);
    }

    /// All of it as floats, (out, in) row by row.
    pub fn to_rows(&self, cpu: Cpu) -> Vec<f32> {
        let mut rows = vec![0.0; self.n * self.k];
        #[cfg(feature = "std")]
        crate::sys::memory::use_huge_pages(&mut rows); // a weight that is trained is read from them every step
        for (r, row) in rows.chunks_exact_mut(self.k.max(1)).enumerate() {
            self.row(cpu, r, row);
        }
        rows
    }

    /// `out` (rows, out) = `x` (rows, in) Wᵀ.
    ///
    /// # Panics
    /// Where the shapes disagree.
    pub fn multiply(&self, run: &Run<'_>, x: MatRef<'_>, out: MatMut<'_>) {
        let job = Job { x, out, accumulate: Accumulate::Overwrite, epilogue: Epilogue::NONE };
        run_jobs(run, [Some((self, job))]);
    }

    /// What puts rows into the codes that it multiplies, where it does.
    pub(super) fn coder(&self) -> Option<Coder> {
        self.form.coder()
    }

    /// Fails where the shapes of a product disagree.
    pub(super) fn check(&self, job: &Job<'_>) {
        let ((n, k), (m, of)) = ((self.n, self.k), (job.x.rows(), job.x.cols()));
        let out = (job.out.rows(), job.out.cols());
        assert!(of == k && out == (m, n), "x ({m}, {of}) times a weight ({n}, {k}) into {out:?}");
    }

    /// Rows and columns of a piece of a product of `m` rows; see [`gemm::piece_shape`](crate::kernels::gemm::piece_shape).
    pub(super) fn piece(&self, m: usize) -> (usize, usize) {
        self.form.piece((self.n, self.k), m)
    }

    /// Computes a part of a product.
    pub(super) fn run(&self, part: Part<'_>, cpu: Cpu, scratch: &mut Scratch) {
        self.form.run((self.n, self.k), part, cpu, scratch);
    }

    /// Computes the product with the transpose: rows (…, out) to rows (…, in).
    ///
    /// # Panics
    /// Where the weight is of int8, which has no gradients.
    pub(super) fn multiply_turned<'a>(&'a self, run: &Run<'_>, job: Job<'a>) {
        let (n, k) = (self.n, self.k);
        let turned = match self.form.view() {
            View::Class(class) => return class.multiply_turned(run, (n, k), job),
            View::Plain(w) => return run_cut(run, job.gemm(Strided(MatRef::new(w, n, k)))),
            View::F32(groups) => Turned::F32(PackedMatrix::new(groups, k, n)),
            View::Bf16(groups) => Turned::Bf16(PackedMatrix::new(groups, k, n)),
            View::F16(groups) => Turned::F16(PackedMatrix::new(groups, k, n)),
            View::Nf4 { codes, scales, blocksize } => {
                Turned::Nf4(PackedNf4::new(n, k, blocksize, codes, scales))
            }
            View::Ggml8 { codes, scales } => Turned::Ggml8(Packed8::new(n, k, codes, scales)),
            View::Ggml4 { format, codes, scales } => {
                Turned::Ggml4(Packed4::new(format, (n, k), codes, scales))
            }
            View::Blocks { format, blocks } => Turned::Blocks(Rows::new(format, n, k, blocks)),
        };
        run_cut(run, job.gemm(Transposed::new(turned)));
    }
}

impl core::fmt::Debug for Weight {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let class = self.compute().name();
        write!(f, "Weight(({}, {}) {:?} in {class})", self.n, self.k, self.stored())
    }
}

/// `w` (out, in) in panels of 16 outputs.
fn packed<E: Element>(cpu: Cpu, w: MatRef<'_, E>) -> Elements<E::Group> {
    packed_in_bands(cpu, w, |_| ())
}

/// The same, band after band of rows; `done` hears which are packed.
fn packed_in_bands<E: Element>(
    cpu: Cpu,
    w: MatRef<'_, E>,
    done: impl Fn(Range<usize>),
) -> Elements<E::Group> {
    let (n, k) = (w.rows(), w.cols());
    let mut groups = filled(E::ZERO, packed_len(k, n));
    let rows = (BAND / k.max(1)).next_multiple_of(LANES);
    for (i, groups) in groups.chunks_mut(packed_len(k, rows).max(1)).enumerate() {
        let band = i * rows..n.min((i + 1) * rows);
        pack(cpu, w.sub(band.clone(), 0..k).t(), groups);
        done(band);
    }
    groups
}
