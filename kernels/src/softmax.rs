//! # Softmax, log-softmax and log-sum-exp of rows
//!
//! **Math.**  y_i = exp(x_i − m) / Σ_j exp(x_j − m),   log y_i = (x_i − m) − ln Σ_j exp(x_j − m),   m = max_j x_j,
//! log Σ_j exp x_j = m + ln Σ_j exp(x_j − m)
//!
//! **Law.**   Clause 2, chains in `f32`. The tail is padded with −∞, whose exp is exactly +0.
//!
//! ```text
//!   row     x0…x15 │ x16…x31 │ … │ tail −∞ −∞ −∞
//!             │         │            │
//!   pass 1   max ───── max ─ … ─── max ──► 16 lanes ─tree─► m
//!   pass 2   e = exp(x − m), written;  sum ← sum + e ──► 16 lanes ─tree─► Σ
//!   pass 3   y = e × (1 / Σ)                     (log: y = (x − m) − ln Σ; pass 2 writes nothing)
//! ```
//!
//! One division a row, then multiplications: Σ ≥ 1, so 1 / Σ neither overflows nor loses bits to subnormals,
//! and costs one rounding. A NaN or +∞ makes its own e a NaN (∞ − ∞), hence Σ, hence the row; so does a
//! row of −∞ alone. No mask is needed.
//!
//! **Registers.**  x, m, sum and exp's 4 words and 12 constants: AVX-512 19 zmm; AVX2 and NEON read the constants
//! from memory.
//!
//! **Cost.**  First pass 4 bytes an element from memory; then the row is in the first-level cache (up to 8,192
//! elements). exp binds: 13 operations a line on AVX-512, 20 elsewhere; on AVX-512 rows of 1,024 out of memory
//! run at the rate of a copy.
//!
//! **Error.**  softmax: y · u · (16 + 2 |x − m|) + 2⁻¹⁴⁹; |Σ y − 1| ≤ 16 u. log-softmax: u · (16 + 2 |log y|);
//! log-sum-exp: u · (16 + 2 |result − m| + |result|).
//! For rows past 4,096 elements, √(n/16)/2 more (18.6 u seen at 65,536); sixteen chains are proven to n/16 + 5.
//! **Reference.**  Milakov, Gimelshein 2018 ([arXiv:1805.02867](https://arxiv.org/abs/1805.02867)), the three-pass form.
//! **Next.**  [`crate::norm`].

mod backward;
pub use backward::{
    log_softmax_backward, log_softmax_backward_in_place, softmax_backward, softmax_backward_in_place,
};

use crate::math::exp::{exp, exp_nonpositive, exp_or_nothing};
use crate::math::ln::ln;
use crate::rows::{Row, RowKernel, Rows, check_shape, word_at};
use crate::simd::Simd;
use crate::view::{MatMut, MatRef};
use crate::{Cpu, Kernel, LANES};

/// The softmax of each row of x, (rows, cols), any strides. −∞ gives exactly +0; a NaN, a +∞ or nothing but
/// −∞ in a row makes the whole row NaN.
///
/// ```
/// use samebits_kernels::softmax::{log_softmax, log_softmax_in_place, log_sum_exp, softmax, softmax_in_place};
/// use samebits_kernels::{Cpu, view::{MatMut, MatRef}};
/// let (cpu, x, mut p, mut log_p, mut lse) = (Cpu::detect(), [0.0, 0.0, f32::NEG_INFINITY], [0.0; 3], [0.0; 3], [0.0]);
/// softmax(cpu, MatRef::new(&x, 1, 3), MatMut::new(&mut p, 1, 3));
/// assert_eq!(p, [0.5, 0.5, 0.0]);
/// log_softmax(cpu, MatRef::new(&x, 1, 3), MatMut::new(&mut log_p, 1, 3));
/// log_sum_exp(cpu, MatRef::new(&x, 1, 3), &mut lse);
/// assert_eq!((log_p[0], log_p[2], lse[0]), (-lse[0], x[2], core::f32::consts::LN_2));
/// let (mut y, mut z) = (x, x); // the same where the rows lie
/// softmax_in_place(cpu, MatMut::new(&mut y, 1, 3));
/// log_softmax_in_place(cpu, MatMut::new(&mut z, 1, 3));
/// assert_eq!((y, z), (p, log_p));
/// ```
///
/// # Panics
/// Where the shapes differ.
pub fn softmax(cpu: Cpu, x: MatRef, out: MatMut) {
    check_shape(&x, &out.as_ref());
    cpu.run(Rows { x: Some(x), out, kernel: Softmax });
}

/// [`softmax`] where the rows lie.
pub fn softmax_in_place(cpu: Cpu, x: MatMut) {
    cpu.run(Rows { x: None, out: x, kernel: Softmax });
}

/// The logarithm of the softmax of each row of x, (rows, cols), any strides. −∞ stays −∞; a NaN, a +∞ or nothing
/// but −∞ in a row makes the whole row NaN.
///
/// # Panics
/// Where the shapes differ.
pub fn log_softmax(cpu: Cpu, x: MatRef, out: MatMut) {
    check_shape(&x, &out.as_ref());
    cpu.run(Rows { x: Some(x), out, kernel: LogSoftmax });
}

/// [`log_softmax`] where the rows lie.
pub fn log_softmax_in_place(cpu: Cpu, x: MatMut) {
    cpu.run(Rows { x: None, out: x, kernel: LogSoftmax });
}

/// `out[r]` is ln Σ_j exp x_rj, for each row of x, (rows, cols), any strides. A row of −∞ alone, or without an
/// element, gives −∞, one with a +∞ gives +∞, one with a NaN gives NaN.
///
/// # Panics
/// Where `out` is not (rows).
pub fn log_sum_exp(cpu: Cpu, x: MatRef, out: &mut [f32]) {
    let (rows, cols) = (x.rows(), x.cols());
    assert!(out.len() == rows, "output of {} elements, input ({rows}, {cols})", out.len());
    cpu.run(LogSumExp { x, out });
}

struct Softmax;

impl RowKernel for Softmax {
    #[inline(always)]
    fn row<S: Simd, R: Row>(&self, s: S, row: &mut R) {
        let m = s.splat(max(s, row));
        let mut sum = s.splat(0.0);
        for i in 0..row.words() {
            let e = exp_nonpositive(s, s.sub(row.read(s, i), m));
            row.write(s, i, e);
            sum = s.add(sum, e);
        }
        if row.has_tail() {
            let e = exp_or_nothing(s, s.sub(row.read_tail(s, f32::NEG_INFINITY), m));
            row.write_tail(s, e);
            sum = s.add(sum, e);
        }
        let scale = s.splat(1.0 / s.sum(sum));
        for i in 0..row.words() {
            let y = s.mul(row.reread(s, i), scale);
            row.write(s, i, y);
        }
        if row.has_tail() {
            let y = s.mul(row.reread_tail(s), scale);
            row.write_tail(s, y);
        }
    }
}

struct LogSoftmax;

impl RowKernel for LogSoftmax {
    #[inline(always)]
    fn row<S: Simd, R: Row>(&self, s: S, row: &mut R) {
        let m = s.splat(max(s, row));
        let mut sum = s.splat(0.0);
        for i in 0..row.words() {
            sum = s.add(sum, exp_nonpositive(s, s.sub(row.read(s, i), m)));
        }
        if row.has_tail() {
            sum = s.add(sum, exp_or_nothing(s, s.sub(row.read_tail(s, f32::NEG_INFINITY), m)));
        }
        let log = ln(s, s.splat(s.sum(sum)));
        for i in 0..row.words() {
            let y = s.sub(s.sub(row.read(s, i), m), log);
            row.write(s, i, y);
        }
        if row.has_tail() {
            let y = s.sub(s.sub(row.read_tail(s, 0.0), m), log);
            row.write_tail(s, y);
        }
    }
}

/// max_j x_j without its NaNs: they reach the row through exp and the sum.
#[inline(always)]
fn max<S: Simd, R: Row>(s: S, row: &R) -> f32 {
    let mut m = s.splat(f32::NEG_INFINITY);
    for i in 0..row.words() {
        m = s.max(row.read(s, i), m);
    }
    if row.has_tail() {
        m = s.max(row.read_tail(s, f32::NEG_INFINITY), m);
    }
    s.max_lane(m)
}

struct LogSumExp<'a> {
    x: MatRef<'a>,      // (rows, cols)
    out: &'a mut [f32], // (rows)
}

impl Kernel for LogSumExp<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let words = self.x.cols().div_ceil(LANES);
        for (r, out) in self.out.iter_mut().enumerate() {
            let mut m = s.splat(f32::NEG_INFINITY);
            for i in 0..words {
                m = s.max(word_at(s, &self.x, r, i * LANES, f32::NEG_INFINITY), m);
            }
            // ∞ − ∞ would be a NaN: an infinite maximum is not taken away, exp and ln carry it.
            let m = match s.max_lane(m) {
                m if m.is_infinite() => 0.0,
                m => m,
            };
            let mut sum = s.splat(0.0);
            for i in 0..words {
                sum = s.add(
                    sum,
                    exp(s, s.sub(word_at(s, &self.x, r, i * LANES, f32::NEG_INFINITY), s.splat(m))),
                );
            }
            let log = ln(s, s.splat(s.sum(sum)));
            *out = m + s.to_array(log)[0];
        }
    }
}
