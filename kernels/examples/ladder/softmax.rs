//! y = exp(x − max x) / Σ exp(x − max x) along each row, from the formula to the library's three passes.

use crate::climb::{Ladder, Law, Problem, Rung, drawn};
use samebits_kernels::math::exp::exp;
use samebits_kernels::simd::Simd;
use samebits_kernels::view::{MatMut, MatRef};
use samebits_kernels::{Cpu, Kernel, LANES, softmax};

/// Rows.
pub struct Rows {
    rows: usize,
    cols: usize,
    x: Vec<f32>,
    y: Vec<f32>,
}

/// So many rows of so many elements; the work is what must pass through memory.
pub fn ladder(rows: usize, cols: usize) -> Ladder<Rows> {
    let x = drawn(rows * cols, 3).into_iter().map(|x| 6.0 * x).collect();
    let problem = Rows { rows, cols, x, y: vec![0.0; rows * cols] };
    let work = 8.0 * (rows * cols) as f64;
    Ladder { name: "softmax", shape: format!("{rows}x{cols}"), work, unit: "GB/s", problem, rungs: RUNGS }
}

const RUNGS: &[Rung<Rows>] = &[
    Rung {
        name: "naive",
        why: "the formula: exp twice an element, and a division",
        law: Law::Differs("exp is the standard library's, and the sum is one chain"),
        run: naive,
    },
    Rung {
        name: "reordered",
        why: "exp once, kept where the result goes; one division a row",
        law: Law::Differs("exp is the standard library's, and the sum is one chain"),
        run: reordered,
    },
    Rung {
        name: "blocked",
        why: "sixteen maxima and sixteen sums: chains that do not wait for each other (but exp takes the time)",
        law: Law::Differs("exp is the standard library's"),
        run: blocked,
    },
    Rung {
        name: "packed",
        why: "exp as a polynomial, no call and no branch: sixteen at a time, in lanes that the compiler finds",
        law: Law::Differs("the polynomial rounds twice a step, for the baseline has no multiply-add"),
        run: packed,
    },
    Rung {
        name: "vector",
        why: "the tier's own lanes, one rounding and one instruction a step of the polynomial",
        law: Law::Obeyed,
        run: |p, cpu| cpu.run(Vector(p)),
    },
    Rung {
        name: "full",
        why: "the library's: the same three passes for any strides, in place too; no idea more, and no gain",
        law: Law::Obeyed,
        run: full,
    },
];

impl Problem for Rows {
    fn out(&mut self) -> &mut [f32] {
        &mut self.y
    }

    fn truth(&self) -> Vec<(f64, f64)> {
        let row = |x: &[f32]| {
            let m = x.iter().fold(f64::NEG_INFINITY, |m, &x| m.max(f64::from(x)));
            let sum: f64 = x.iter().map(|&x| (f64::from(x) - m).exp()).sum();
            // One chain over the row is the worst of the orders; errors of its sums add up like steps of chance.
            let chain = 16.0 + (x.len() as f64).sqrt();
            let bound = |y: f64, far: f64| y * 2f64.powi(-24) * (chain + 4.0 * far) + 1e-44;
            let one = |&x: &f32| ((f64::from(x) - m).exp() / sum, m - f64::from(x));
            x.iter().map(one).map(|(y, far)| (y, bound(y, far))).collect::<Vec<_>>()
        };
        self.x.chunks(self.cols).flat_map(row).collect()
    }
}

/// The formula.
fn naive(p: &mut Rows, _: Cpu) {
    for (x, y) in p.x.chunks(p.cols).zip(p.y.chunks_mut(p.cols)) {
        let m = x.iter().fold(f32::NEG_INFINITY, |m, &x| m.max(x));
        let sum: f32 = x.iter().map(|x| (x - m).exp()).sum();
        y.iter_mut().zip(x).for_each(|(y, x)| *y = (x - m).exp() / sum);
    }
}

/// e is kept.
fn reordered(p: &mut Rows, _: Cpu) {
    for (x, y) in p.x.chunks(p.cols).zip(p.y.chunks_mut(p.cols)) {
        let m = x.iter().fold(f32::NEG_INFINITY, |m, &x| m.max(x));
        let mut sum = 0.0;
        for (y, x) in y.iter_mut().zip(x) {
            *y = (x - m).exp();
            sum += *y;
        }
        scale(y, 1.0 / sum);
    }
}

/// Sixteen chains: lane l owns the elements l, l + 16, …; then the tree + 8, + 4, + 2, + 1.
fn blocked(p: &mut Rows, _: Cpu) {
    for (x, y) in p.x.chunks(p.cols).zip(p.y.chunks_mut(p.cols)) {
        let (m, mut sums) = (max(x), [0.0; LANES]);
        for (y, x) in y.chunks_mut(LANES).zip(x.chunks(LANES)) {
            for ((y, x), sum) in y.iter_mut().zip(x).zip(&mut sums) {
                *y = (x - m).exp();
                *sum += *y;
            }
        }
        scale(y, 1.0 / tree(sums));
    }
}

/// The same with an exp of our own; what a row lacks to a whole line is −∞, whose exp is 0.
fn packed(p: &mut Rows, _: Cpu) {
    for (x, y) in p.x.chunks(p.cols).zip(p.y.chunks_mut(p.cols)) {
        let (m, mut sums) = (max(x), [0.0; LANES]);
        for (y, x) in y.chunks_mut(LANES).zip(x.chunks(LANES)) {
            let mut line = [f32::NEG_INFINITY; LANES];
            line[..x.len()].copy_from_slice(x);
            let e = exp_line(line.map(|x| x - m));
            sums.iter_mut().zip(&e).for_each(|(sum, e)| *sum += e);
            y.copy_from_slice(&e[..y.len()]);
        }
        scale(y, 1.0 / tree(sums));
    }
}

fn max(x: &[f32]) -> f32 {
    let mut m = [f32::NEG_INFINITY; LANES];
    for x in x.chunks(LANES) {
        m.iter_mut().zip(x).for_each(|(m, &x)| *m = if x > *m { x } else { *m });
    }
    m.into_iter().fold(f32::NEG_INFINITY, |m, x| if x > m { x } else { m })
}

fn tree(mut x: [f32; LANES]) -> f32 {
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            x[i] += x[i + half];
        }
    }
    x[0]
}

fn scale(y: &mut [f32], by: f32) {
    y.iter_mut().for_each(|y| *y *= by);
}

/// exp of sixteen numbers not above 0: x = n ln 2 + r, a polynomial of r, and n added to the exponent in two halves.
/// The coefficients are those of `kernels/src/math/exp.rs`.
pub fn exp_line(x: [f32; LANES]) -> [f32; LANES] {
    const SHIFT: f32 = 12_582_912.0; // 1.5 · 2²³: adding it rounds to an integer, which the low bits then hold
    let mut out = [0.0; LANES];
    for (out, x) in out.iter_mut().zip(x) {
        let x = if x > -104.0 { x } else { -104.0 };
        let shifted = x * core::f32::consts::LOG2_E + SHIFT;
        let (n, bits) = (shifted - SHIFT, (shifted.to_bits() as i32).wrapping_sub(SHIFT.to_bits() as i32));
        let r = (x - n * 0.693_145_75) - n * 1.428_606_8e-6;
        let mut p = COEFFICIENTS[0];
        for c in &COEFFICIENTS[1..] {
            p = p * r + c;
        }
        let half = bits >> 1;
        let power = |n: i32| f32::from_bits((n.wrapping_add(127) << 23) as u32);
        *out = p * power(half) * power(bits - half);
    }
    out
}

const COEFFICIENTS: [f32; 7] =
    [1.381_454e-3, 8.368_745e-3, 4.166_839e-2, 0.166_665_21, 0.499_999_94, 1.0, 1.0];

/// The same in the words of the library.
struct Vector<'p>(&'p mut Rows);

impl Kernel for Vector<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Rows { cols, x, y, .. } = self.0;
        for (x, y) in x.chunks(*cols).zip(y.chunks_mut(*cols)) {
            let mut m = s.splat(f32::NEG_INFINITY);
            for x in x.chunks(LANES) {
                m = s.max(s.load_tail(x, f32::NEG_INFINITY), m);
            }
            let m = s.splat(s.max_lane(m));
            let mut sum = s.splat(0.0);
            let ((x, x_tail), (y, y_tail)) = (x.as_chunks::<LANES>(), y.as_chunks_mut::<LANES>());
            for (x, y) in x.iter().zip(&mut *y) {
                let e = exp(s, s.sub(s.load(x), m));
                s.store(y, e);
                sum = s.add(sum, e);
            }
            if !x_tail.is_empty() {
                let e = exp(s, s.sub(s.load_tail(x_tail, f32::NEG_INFINITY), m));
                s.store_tail(y_tail, e);
                sum = s.add(sum, e);
            }
            let by = s.splat(1.0 / s.sum(sum));
            for y in y {
                let scaled = s.mul(s.load(y), by);
                s.store(y, scaled);
            }
            if !y_tail.is_empty() {
                let scaled = s.mul(s.load_tail(y_tail, 0.0), by);
                s.store_tail(y_tail, scaled);
            }
        }
    }
}

/// The library's kernel.
fn full(p: &mut Rows, cpu: Cpu) {
    softmax::softmax(cpu, MatRef::new(&p.x, p.rows, p.cols), MatMut::new(&mut p.y, p.rows, p.cols));
}

#[cfg(test)]
mod tests {
    use samebits_kernels::Cpu;

    #[test]
    fn every_rung_is_correct_on_every_tier() {
        for cpu in Cpu::all() {
            for (rows, cols) in [(1, 1), (3, 16), (5, 67), (2, 1024)] {
                super::ladder(rows, cols).check(cpu);
            }
        }
    }
}
