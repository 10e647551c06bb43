//! # Activations: ReLU, GELU in its three forms, SiLU, and the gated SwiGLU and GEGLU
//!
//! **Math.**  relu(x) = max(x, 0);  gelu_erf(x) = x · Φ(x) = x/2 · (1 + erf(x/√2));
//! gelu_tanh(x) = x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³))) = x · σ(2√(2/π) · (x + 0.044715 x³));
//! gelu_quick(x) = x · σ(1.702 x);  silu(x) = x · σ(x);  σ(t) = 1 / (1 + e^−t);
//! swiglu(gate, up) = silu(gate) · up;  geglu(gate, up) = gelu(gate) · up.
//!
//! **Law.**  Clause 3; elementwise, so the epilogue of a matrix product and the kernel of its own agree.
//!
//! ```text
//!   gelu_erf   a = |x| ─ polynomial ─► log₂ Φ(−a) ─ 2^· ─► q ──► max(x, 0) − a · q
//!   the rest   x ─ polynomial ─► t ─ exp ─ 1 + · ─► d ─────────► x ÷ d
//! ```
//!
//! **Registers.**  One line in flight holds 4 words; the constants (14 to 20) stay in registers on AVX-512.
//!
//! **Cost.**  8 bytes an element; operations a line on AVX-512: relu 2, gelu_erf 22 and no division, silu and
//! gelu_quick 16, gelu_tanh 18, one division in each of these.
//!
//! **Error.**  |y − f(x)| ≤ 2.5 u |x| + 2⁻¹⁴⁹, u = 2⁻²⁴ (not in ulp: where σ underflows, y is 0). Seen on every
//! 1,009th input: gelu_erf 1.56, gelu_tanh 1.96, gelu_quick 1.90, silu 1.88 u |x|.
//! gelu_erf of −∞ is 0; the others give NaN there, as PyTorch does (∞ · 0). relu(−0) = +0, relu(NaN) = NaN.
//!
//! **Reference.**  Hendrycks, Gimpel 2016, [arXiv:1606.08415](https://arxiv.org/abs/1606.08415); Shazeer 2020, [arXiv:2002.05202](https://arxiv.org/abs/2002.05202).
//! **Next.**  `gemm/` uses [`Activation::apply`] on its tiles.

mod backward;
pub use backward::{GatedInputs, backward, backward_in_place, gated_backward};

use crate::map::{self, Lanewise, Pairwise};
use crate::math::exp::{exp, exp2_bounded};
use crate::simd::Simd;
use crate::view::{MatMut, MatRef};
use crate::{Cpu, Kernel, Line};

/// Which activation; the three GELUs are three functions, and models name which one they mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Activation {
    /// `x`
    #[default]
    Identity,
    /// `max(x, 0)`
    Relu,
    /// `x · Φ(x)`: "gelu" of BERT and PyTorch's default.
    GeluErf,
    /// With tanh: "gelu_new", "gelu_pytorch_tanh" of GPT-2 and Gemma.
    GeluTanh,
    /// `x · σ(1.702 x)`: "quick_gelu" of CLIP.
    GeluQuick,
    /// `x · σ(x)`, also called swish.
    Silu,
}

impl Activation {
    /// Every activation.
    pub const ALL: [Activation; 6] = [
        Activation::Identity,
        Activation::Relu,
        Activation::GeluErf,
        Activation::GeluTanh,
        Activation::GeluQuick,
        Activation::Silu,
    ];

    /// The activation of every lane, for the epilogues of other kernels.
    #[inline(always)]
    pub fn apply<S: Simd>(self, s: S, x: S::F32) -> S::F32 {
        if !S::SMALL {
            return self.of(s, x);
        }
        let mut line = Line::ZERO;
        s.store(&mut line, x);
        s.outline(Alone { f: self, x: &mut line });
        s.load(&line)
    }

    #[inline(always)]
    fn of<S: Simd>(self, s: S, x: S::F32) -> S::F32 {
        match self {
            Activation::Identity => x,
            Activation::Relu => relu(s, x),
            Activation::GeluErf => gelu_erf(s, x),
            Activation::GeluTanh => gelu_tanh(s, x),
            Activation::GeluQuick => gelu_quick(s, x),
            Activation::Silu => silu(s, x),
        }
    }
}

/// A line as a function of its own, of which all kernels of a small tier have one.
struct Alone<'a> {
    f: Activation,
    x: &'a mut Line,
}

impl Kernel for Alone<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let y = self.f.of(s, s.load(self.x));
        s.store(self.x, y);
    }
}

/// `if x > 0 { x } else { 0 }`, and NaN where x is one.
///
/// For the inside of a kernel, as are the four that follow:
/// ```
/// use samebits_kernels::activation::{gelu_erf, gelu_quick, gelu_tanh, relu, silu};
/// use samebits_kernels::{Cpu, Kernel, simd::Simd};
/// struct At(f32);
/// impl Kernel for At {
///     type Output = [f32; 5];
///     #[inline(always)]
///     fn run<S: Simd>(self, s: S) -> [f32; 5] {
///         let (x, mut y) = (s.splat(self.0), [0.0; 5]);
///         let lanes = [relu(s, x), gelu_erf(s, x), gelu_tanh(s, x), gelu_quick(s, x), silu(s, x)];
///         for i in 0..5 {
///             y[i] = s.to_array(lanes[i])[0];
///         }
///         y
///     }
/// }
/// let exact = [1.0, 0.841345, 0.841192, 0.845796, 0.731059];
/// let y = Cpu::detect().run(At(1.0));
/// assert!(y.iter().zip(exact).all(|(y, e)| (y - e).abs() < 1e-6), "{y:?}");
/// ```
#[inline(always)]
pub fn relu<S: Simd>(s: S, x: S::F32) -> S::F32 {
    // max(0, x) is `if 0 > x {0} else {x}`: a NaN comes out as it is, but so does −0; adding +0 makes it +0.
    let zero = s.splat(0.0);
    s.add(s.max(zero, x), zero)
}

/// `x · Φ(x)`: the GELU of Hendrycks and Gimpel.
#[inline(always)]
pub fn gelu_erf<S: Simd>(s: S, x: S::F32) -> S::F32 {
    // x · Φ(x) = max(x, 0) − |x| · Φ(−|x|), and Φ(−a) = 2^G(a). At the clamp 2^G is below every f32, hence 0.
    const G: [f32; 9] = [
        -8.571_835e-7,
        1.825_124_7e-5,
        -9.794_689e-5,
        -3.208_671e-4,
        7.265_831e-3,
        -5.261_027_4e-2,
        -0.459_179_1,
        -1.151_107_5,
        -1.0,
    ];
    let a = s.min(s.splat(13.25), s.abs(x));
    let mut g = s.splat(G[0]);
    for &c in &G[1..] {
        g = s.fma(g, a, s.splat(c));
    }
    s.nfma(a, exp2_bounded(s, g), s.max(s.splat(0.0), x))
}

/// `x · σ(2√(2/π) · (x + 0.044715 x³))`: the GELU with tanh.
#[inline(always)]
pub fn gelu_tanh<S: Simd>(s: S, x: S::F32) -> S::F32 {
    // −2√(2/π) and 0.044715 times it.
    let t = s.fma(s.mul(x, x), s.splat(-0.071_354_814), s.splat(-1.595_769_2));
    over_one_plus_exp(s, x, s.mul(x, t))
}

/// `x · σ(1.702 x)`: the GELU of CLIP.
#[inline(always)]
pub fn gelu_quick<S: Simd>(s: S, x: S::F32) -> S::F32 {
    over_one_plus_exp(s, x, s.mul(x, s.splat(-1.702)))
}

/// `x · σ(x)`.
#[inline(always)]
pub fn silu<S: Simd>(s: S, x: S::F32) -> S::F32 {
    over_one_plus_exp(s, x, s.neg(x))
}

/// `x / (1 + e^t)`: x · σ(−t) with one division.
#[inline(always)]
fn over_one_plus_exp<S: Simd>(s: S, x: S::F32, t: S::F32) -> S::F32 {
    s.div(x, s.add(s.splat(1.0), exp(s, t)))
}

/// One activation, chosen at compile time: a kernel's loop holds one function and no branch.
#[derive(Clone, Copy)]
struct Only<const I: usize>;

impl<const I: usize> Lanewise for Only<I> {
    #[inline(always)]
    fn of<S: Simd>(&self, s: S, x: S::F32) -> S::F32 {
        const { Activation::ALL[I] }.of(s, x)
    }
}

/// Any activation, chosen when the program runs: for a tier whose code is to be small.
#[derive(Clone, Copy)]
struct Any(Activation);

impl Lanewise for Any {
    #[inline(always)]
    fn of<S: Simd>(&self, s: S, x: S::F32) -> S::F32 {
        self.0.apply(s, x)
    }
}

/// `f(gate) · up`
#[derive(Clone, Copy)]
struct Gated<F>(F);

impl<F: Lanewise> Pairwise for Gated<F> {
    #[inline(always)]
    fn of<S: Simd>(&self, s: S, gate: S::F32, up: S::F32) -> S::F32 {
        s.mul(self.0.of(s, gate), up)
    }
}

/// What is done with the activation once it is a type.
trait Job {
    fn with<F: Lanewise>(self, f: F);
}

impl Activation {
    fn choose(self, cpu: Cpu, job: impl Job) {
        if cpu.is_small() {
            return job.with(Any(self));
        }
        match self {
            Activation::Identity => job.with(Only::<0>),
            Activation::Relu => job.with(Only::<1>),
            Activation::GeluErf => job.with(Only::<2>),
            Activation::GeluTanh => job.with(Only::<3>),
            Activation::GeluQuick => job.with(Only::<4>),
            Activation::Silu => job.with(Only::<5>),
        }
    }
}

/// `x = f(x)` for every element of a (rows, cols) matrix; any strides.
pub fn apply_in_place(cpu: Cpu, f: Activation, x: MatMut) {
    struct InPlace<'a>(Cpu, MatMut<'a>);
    impl Job for InPlace<'_> {
        fn with<F: Lanewise>(self, f: F) {
            map::in_place(self.0, f, self.1);
        }
    }
    f.choose(cpu, InPlace(cpu, x));
}

/// `y = f(x)` for every element of a (rows, cols) matrix; any strides.
///
/// ```
/// use samebits_kernels::activation::{Activation, apply, apply_in_place};
/// use samebits_kernels::{Cpu, view::{MatMut, MatRef}};
/// let (x, mut y) = ([-1.0, 0.0, 2.0], [0.0; 3]);
/// apply(Cpu::detect(), Activation::Relu, MatRef::new(&x, 1, 3), MatMut::new(&mut y, 1, 3));
/// assert_eq!(y, [0.0, 0.0, 2.0]);
/// apply_in_place(Cpu::detect(), Activation::Silu, MatMut::new(&mut y, 1, 3));
/// assert!((y[2] - 2.0 / (1.0 + (-2f32).exp())).abs() < 1e-6);
/// ```
///
/// # Panics
/// Where the shapes differ.
pub fn apply(cpu: Cpu, f: Activation, x: MatRef, y: MatMut) {
    struct Apply<'a>(Cpu, MatRef<'a>, MatMut<'a>);
    impl Job for Apply<'_> {
        fn with<F: Lanewise>(self, f: F) {
            map::apply(self.0, f, self.1, self.2);
        }
    }
    f.choose(cpu, Apply(cpu, x, y));
}

/// `y = f(gate) · up` for every element of (rows, cols) matrices; any strides. SwiGLU with
/// [`Activation::Silu`], GEGLU with a GELU, ReGLU with [`Activation::Relu`] (Shazeer 2020, [arXiv:2002.05202](https://arxiv.org/abs/2002.05202)).
///
/// ```
/// use samebits_kernels::activation::{Activation, gated, gated_in_place};
/// use samebits_kernels::{Cpu, view::{MatMut, MatRef}};
/// let (mut gate, up, mut y) = ([-1.0, 3.0], [5.0, 7.0], [0.0; 2]);
/// let cpu = Cpu::detect();
/// gated(cpu, Activation::Relu, MatRef::new(&gate, 1, 2), MatRef::new(&up, 1, 2), MatMut::new(&mut y, 1, 2));
/// assert_eq!(y, [0.0, 21.0]);
/// gated_in_place(cpu, Activation::Relu, MatMut::new(&mut gate, 1, 2), MatRef::new(&up, 1, 2));
/// assert_eq!(gate, y);
/// ```
///
/// # Panics
/// Where the shapes differ.
pub fn gated(cpu: Cpu, f: Activation, gate: MatRef, up: MatRef, y: MatMut) {
    struct Zip<'a>(Cpu, MatRef<'a>, MatRef<'a>, MatMut<'a>);
    impl Job for Zip<'_> {
        fn with<F: Lanewise>(self, f: F) {
            map::zip(self.0, Gated(f), self.1, self.2, self.3);
        }
    }
    f.choose(cpu, Zip(cpu, gate, up, y));
}

/// `gate = f(gate) · up`: [`gated`] where the gate lies.
///
/// # Panics
/// Where the shapes differ.
pub fn gated_in_place(cpu: Cpu, f: Activation, gate: MatMut, up: MatRef) {
    struct Zip<'a>(Cpu, MatMut<'a>, MatRef<'a>);
    impl Job for Zip<'_> {
        fn with<F: Lanewise>(self, f: F) {
            map::zip_in_place(self.0, Gated(f), self.1, self.2);
        }
    }
    f.choose(cpu, Zip(cpu, gate, up));
}
