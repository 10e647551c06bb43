//! Classes of arithmetic: what products with weights are computed in, and those of attention.
//!
//! | class | a weight becomes | a row becomes | law |
//! |---|---|---|---|
//! | [`Compute::F32`] | `f32`, from whatever it is stored as | itself | clause 1 |
//! | [`Compute::Bf16`] | bfloat16, packed once, whatever it was stored as | bfloat16 on its way | clause 10 |
//! | [`Compute::Int8`] | its own codes (Q8_0, Q5_1, Q5_0, Q4_1, Q4_0, IQ4_NL, Q6_K, Q5_K, Q4_K; NF4 by the nearest 127ths of its levels), else Q8_0 | codes, a scale each 32 | clause 10 |
//!
//! Sums, biases, activations, residuals, norms and adapters are `f32` in every class. Within one the bits are the same on
//! every tier, for any threads and any batch; between classes they differ, so a class is asked for by name.
//!
//! Attention's products, q · k and p · v, have no weights, and a class of their own: `f32` unless [`Products::Bf16`] is
//! asked for, whatever the class of the others. Nothing follows in silence, so the bits of a [`Compute`] are what they
//! were before attention had a choice; PyTorch's bfloat16 is [`Arithmetic::BF16`], both.

use super::weight::Weight;
use crate::kernels::LANES;
use crate::kernels::attention::Products;
use crate::kernels::int8::{BLOCK, Quantized, quantize_blocks};
use crate::kernels::view::MatRef;
use crate::run::{Lent, Run};

/// A class of arithmetic.
///
/// ```
/// use samebits::kernels::view::{MatMut, MatRef};
/// use samebits::{Cpu, nn::{Compute, Linear, Stored, Weight}, run::Run};
/// let run = Run::here(Cpu::detect());
/// let of = |compute: Compute| {
///     let mut layer = Linear::new(Weight::from_f32(run.cpu(), MatRef::new(&[1.001; 32], 1, 32)), None);
///     layer.set_compute(run.cpu(), compute).unwrap();
///     let mut y = [0.0];
///     layer.forward(&run, MatRef::new(&[1.0; 32], 1, 32), MatMut::new(&mut y, 1, 1));
///     y[0]
/// };
/// assert_eq!(of(Compute::Bf16), 32.0); // 1.001 is 1 in eight bits
/// assert!((of(Compute::Int8) - 32.032).abs() < 0.01); // every code 127, and a scale
/// assert_eq!(Compute::from_name("int8"), Some(Compute::Int8));
/// let halves = Weight::from_f16(run.cpu(), MatRef::new(&[0x3c00], 1, 1).as_f16());
/// assert_eq!((halves.stored(), halves.compute()), (Stored::F16, Compute::F32)); // exact products of what is stored
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Compute {
    /// Exact products of floats.
    #[default]
    F32,
    /// Products of bfloat16, as matrix units make them.
    Bf16,
    /// Products of codes of eight bits with scales.
    Int8,
}

impl Compute {
    /// Every class.
    pub const ALL: [Compute; 3] = [Compute::F32, Compute::Bf16, Compute::Int8];

    /// `f32`, `bf16` or `int8`.
    pub const fn name(self) -> &'static str {
        match self {
            Compute::F32 => "f32",
            Compute::Bf16 => "bf16",
            Compute::Int8 => "int8",
        }
    }

    /// The class of that name.
    pub fn from_name(name: &str) -> Option<Compute> {
        Compute::ALL.into_iter().find(|class| class.name() == name)
    }
}

/// What a model computes in: the products of its linear layers, and those of its attention.
///
/// ```
/// use samebits::kernels::attention::Products;
/// use samebits::nn::{Arithmetic, Compute};
/// let int8 = Arithmetic::from(Compute::Int8);
/// assert_eq!(int8.named(), [("compute", "int8"), ("attention", "f32")]);
/// assert!(int8.unusual().eq([("compute", "int8")]) && Arithmetic::F32.unusual().count() == 0);
/// assert_eq!(Arithmetic { attention: Products::Bf16, ..Compute::Bf16.into() }, Arithmetic::BF16);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Arithmetic {
    /// The class of the linear layers' products.
    pub compute: Compute,
    /// What q · k and p · v are made of.
    pub attention: Products,
}

impl Arithmetic {
    /// Floats in all.
    pub const F32: Arithmetic = Arithmetic { compute: Compute::F32, attention: Products::F32 };
    /// bfloat16 in all.
    pub const BF16: Arithmetic = Arithmetic { compute: Compute::Bf16, attention: Products::Bf16 };

    /// Both under the names by which commands are asked for them, and say them.
    pub const fn named(self) -> [(&'static str, &'static str); 2] {
        [("compute", self.compute.name()), ("attention", self.attention.name())]
    }

    /// Those that are not f32.
    pub fn unusual(self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.named().into_iter().filter(|(_, class)| *class != Compute::F32.name())
    }
}

/// With attention in f32.
impl From<Compute> for Arithmetic {
    fn from(compute: Compute) -> Arithmetic {
        Arithmetic { compute, attention: Products::F32 }
    }
}

/// Elements that one thread codes faster than another wakes up.
const ALONE: usize = 1 << 15;

/// What puts rows into codes.
pub(super) type Coder = for<'r> fn(&'r Run<'_>, MatRef<'_>) -> Coded<'r>;

/// [`Coded::of`], as a [`Coder`].
pub(super) fn coded<'r>(run: &'r Run<'_>, x: MatRef<'_>) -> Coded<'r> {
    Coded::of(run, x)
}

/// Rows in codes of eight bits with a scale each 32, on loan from a run; a last block is filled with 0.
pub(super) struct Coded<'r> {
    codes: Lent<'r, i8>,
    scales: Lent<'r>,
    rows: usize,
    k: usize,
}

impl<'r> Coded<'r> {
    fn of(run: &'r Run<'_>, x: MatRef<'_>) -> Coded<'r> {
        let (rows, k) = (x.rows(), x.cols().next_multiple_of(BLOCK));
        let (mut codes, mut scales) = (run.codes(rows * k), run.floats(rows * (k / BLOCK)));
        let (cpu, height) = (run.cpu(), (ALONE / k.max(1)).max(1));
        let bands = codes.chunks_mut(height * k.max(1)).zip(scales.chunks_mut(height * (k / BLOCK).max(1)));
        run.pieces(bands.enumerate(), |(i, (codes, scales)), _| {
            let band = x.sub(i * height..rows.min((i + 1) * height), 0..x.cols());
            match band.contiguous() {
                Some(x) if band.cols() == k => quantize_blocks(cpu, x, codes, scales),
                _ => code_rows(cpu, band, codes, scales),
            }
        });
        Coded { codes, scales, rows, k }
    }

    fn view(&self) -> Quantized<'_> {
        let (rows, k) = (self.rows, self.k);
        Quantized {
            codes: MatRef::new(&self.codes, rows, k),
            scales: MatRef::new(&self.scales, rows, k / BLOCK),
        }
    }
}

/// Rows that lie apart, or end within a block.
fn code_rows(cpu: crate::Cpu, x: MatRef<'_>, codes: &mut [i8], scales: &mut [f32]) {
    let blocks = x.cols().div_ceil(BLOCK).max(1);
    let places = codes.as_chunks_mut::<BLOCK>().0.iter_mut().zip(scales);
    for (i, (codes, scale)) in places.enumerate() {
        let (r, k0) = (i / blocks, i % blocks * BLOCK);
        let mut block = [0.0; 2 * LANES];
        for (x_block, c) in block.iter_mut().zip(k0..x.cols()) {
            *x_block = x.get(r, c);
        }
        quantize_blocks(cpu, &block, codes, core::slice::from_mut(scale));
    }
}

/// The rows of some products in codes, as far as their weights multiply those; each made once for all that read it.
pub(super) struct Rows<'r, const N: usize> {
    made: [Option<Coded<'r>>; N],
    /// Which of them a product has.
    of: [usize; N],
}

impl<'r, const N: usize> Rows<'r, N> {
    pub(super) fn of(run: &'r Run<'_>, wanted: [Option<(&Weight, MatRef<'_>)>; N]) -> Self {
        let wanted = wanted.map(|job| job.and_then(|(w, x)| w.coder().map(|coder| (coder, x))));
        let (mut made, mut of) = ([const { None }; N], [0; N]);
        for (i, x) in wanted.iter().enumerate() {
            let Some((coder, x)) = x else { continue };
            let before = wanted[..i].iter().position(|y| y.is_some_and(|(_, y)| same(*x, y)));
            of[i] = before.unwrap_or(i);
            if before.is_none() {
                made[i] = Some(coder(run, *x));
            }
        }
        Rows { made, of }
    }

    /// Those of every product.
    pub(super) fn views(&self) -> [Option<Quantized<'_>>; N] {
        self.of.map(|i| self.made[i].as_ref().map(Coded::view))
    }
}

/// Whether both are the very same rows.
fn same(x: MatRef<'_>, y: MatRef<'_>) -> bool {
    let place = |x: &MatRef<'_>| x.contiguous().map(|all| (all.as_ptr(), x.rows(), x.cols()));
    place(&x).is_some() && place(&x) == place(&y)
}
