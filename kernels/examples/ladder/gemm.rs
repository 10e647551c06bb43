//! C (m, n) = A (m, k) · B (k, n), from three loops to the library's tile.

use crate::climb::{Ladder, Law, Problem, Rung, drawn};
use samebits_kernels::gemm::{Gemm, PackedMatrix, pack, packed_len};
use samebits_kernels::simd::Simd;
use samebits_kernels::view::{MatMut, MatRef};
use samebits_kernels::{Cpu, Kernel, LANES, Line};

/// A product.
pub struct Product {
    m: usize,
    k: usize,
    n: usize,
    a: Vec<f32>,
    b: Vec<f32>,
    c: Vec<f32>,
    /// B in panels of 16 columns: panel p holds k lines, the columns 16 p … 16 p + 15, padded with zeros.
    panels: Vec<Line>,
    /// B as the library packs it, and its scratch.
    packed: Vec<[Line; 8]>,
    scratch: Vec<Line>,
}

/// The product of so many rows, steps and columns.
pub fn ladder(m: usize, k: usize, n: usize) -> Ladder<Product> {
    let (a, b) = (drawn(m * k, 1), drawn(k * n, 2));
    let mut panels = vec![Line::ZERO; n.div_ceil(LANES) * k];
    for (i, line) in panels.iter_mut().enumerate() {
        let (p, step) = (i / k, i % k);
        let here = LANES.min(n - p * LANES);
        line[..here].copy_from_slice(&b[step * n + p * LANES..][..here]);
    }
    let mut packed = vec![[Line::ZERO; 8]; packed_len(k, n)];
    pack(Cpu::detect(), MatRef::new(&b, k, n), &mut packed);
    let problem = Product { m, k, n, a, b, c: vec![0.0; m * n], panels, packed, scratch: Vec::new() };
    let shape = format!("{m}x{k}x{n}");
    Ladder { name: "gemm", shape, work: 2.0 * (m * k * n) as f64, unit: "GFLOP/s", problem, rungs: RUNGS }
}

const TWICE: Law =
    Law::Differs("each product is rounded before it is added, and one chain runs over all of k");
const RUNGS: &[Rung<Product>] = &[
    Rung { name: "naive", why: "the definition: every step jumps a row of B ahead", law: TWICE, run: naive },
    Rung {
        name: "reordered",
        why: "the inner loop runs along rows of B and C, so the compiler makes four lanes of it",
        law: TWICE,
        run: reordered,
    },
    Rung {
        name: "blocked",
        why: "256 steps of B stay in a cache while all rows of A pass: pays once B is larger than that cache",
        law: Law::Differs("each product is rounded before it is added"),
        run: blocked,
    },
    Rung {
        name: "packed",
        why: "a panel of 16 columns lies in one run, and its sums stay in registers instead of C",
        law: Law::Differs("each product is rounded before it is added"),
        run: packed,
    },
    Rung {
        name: "vector",
        why: "the tier's own lanes, multiply and add in one: but a single chain waits four cycles for each step",
        law: Law::Obeyed,
        run: |p, cpu| cpu.run(Vector(p)),
    },
    Rung {
        name: "tile",
        why: "many rows and panels at once: enough chains to hide the wait, and a line of B serves every row",
        law: Law::Obeyed,
        run: |p, cpu| cpu.run(Tile(p)),
    },
    Rung {
        name: "full",
        why: "the library's: slivers of B stay in L1, the next comes while a tile computes",
        law: Law::Obeyed,
        run: full,
    },
];

impl Problem for Product {
    fn out(&mut self) -> &mut [f32] {
        &mut self.c
    }

    fn truth(&self) -> Vec<(f64, f64)> {
        let element = |i: usize| {
            let (row, col) = (i / self.n, i % self.n);
            let term =
                |step: usize| f64::from(self.a[row * self.k + step]) * f64::from(self.b[step * self.n + col]);
            let (sum, size) =
                (0..self.k).map(term).fold((0.0, 0.0), |(sum, size), x| (sum + x, size + x.abs()));
            // k roundings of products and k of sums, whatever the order.
            (sum, 2.0 * self.k as f64 * size * 2f64.powi(-24) + 1e-30)
        };
        (0..self.m * self.n).map(element).collect()
    }
}

/// Row times column.
fn naive(p: &mut Product, _: Cpu) {
    for i in 0..p.m {
        for j in 0..p.n {
            let mut sum = 0.0;
            for k in 0..p.k {
                sum += p.a[i * p.k + k] * p.b[k * p.n + j];
            }
            p.c[i * p.n + j] = sum;
        }
    }
}

/// The same sums, their inner two loops exchanged.
fn reordered(p: &mut Product, _: Cpu) {
    p.c.fill(0.0);
    for (a, c) in p.a.chunks(p.k).zip(p.c.chunks_mut(p.n)) {
        for (a, b) in a.iter().zip(p.b.chunks(p.n)) {
            c.iter_mut().zip(b).for_each(|(c, b)| *c += a * b);
        }
    }
}

/// Steps of a block: the law's.
const BLOCK: usize = 256;

/// The same for each block of k. Block sums begin at +0 and are added in order, as the law wants it.
fn blocked(p: &mut Product, _: Cpu) {
    p.c.fill(0.0);
    let mut sums = vec![0.0; p.n];
    for start in (0..p.k).step_by(BLOCK) {
        let end = p.k.min(start + BLOCK);
        for (a, c) in p.a.chunks(p.k).zip(p.c.chunks_mut(p.n)) {
            sums.fill(0.0);
            for (a, b) in a[start..end].iter().zip(p.b[start * p.n..].chunks(p.n)) {
                sums.iter_mut().zip(b).for_each(|(sum, b)| *sum += a * b);
            }
            c.iter_mut().zip(&sums).for_each(|(c, sum)| *c += sum);
        }
    }
}

/// Sixteen sums at a time, over a panel.
fn packed(p: &mut Product, _: Cpu) {
    p.c.fill(0.0);
    for (number, panel) in p.panels.chunks(p.k).enumerate() {
        for (start, block) in panel.chunks(BLOCK).enumerate().map(|(i, block)| (i * BLOCK, block)) {
            for (a, c) in p.a.chunks(p.k).zip(p.c.chunks_mut(p.n)) {
                let mut sums = [0.0; LANES];
                for (a, line) in a[start..].iter().zip(block) {
                    sums.iter_mut().zip(&line.0).for_each(|(sum, b)| *sum += a * b);
                }
                c[number * LANES..].iter_mut().zip(&sums).for_each(|(c, sum)| *c += sum);
            }
        }
    }
}

/// The same in the words of the library: `fma` rounds once, and sixteen lanes are as few registers as the tier has.
struct Vector<'p>(&'p mut Product);

impl Kernel for Vector<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Product { m, k, n, a, c, panels, .. } = self.0;
        for (number, panel) in panels.chunks(*k).enumerate() {
            for row in 0..*m {
                rows::<S, 1, 1>(s, (a, *k, row), [panel], (c, *n, number));
            }
        }
    }
}

/// MR rows of A over NP panels: all sums in registers.
#[inline(always)]
fn rows<S: Simd, const MR: usize, const NP: usize>(
    s: S,
    (a, k, row): (&[f32], usize, usize),
    panels: [&[Line]; NP],
    (c, n, number): (&mut [f32], usize, usize),
) {
    let mut total = [[s.splat(0.0); NP]; MR];
    for start in (0..k).step_by(BLOCK) {
        let end = k.min(start + BLOCK);
        let mut acc = [[s.splat(0.0); NP]; MR];
        let mut a: [&[f32]; MR] = core::array::from_fn(|r| &a[(row + r) * k..][start..end]);
        // One length for all: the loop then needs no checks.
        a = a.map(|row| &row[..end - start]);
        let panels = panels.map(|panel| &panel[start..end]);
        for step in 0..end - start {
            let mut line = [s.splat(0.0); NP];
            for p in 0..NP {
                line[p] = s.load(&panels[p][step]);
            }
            for r in 0..MR {
                let a = s.splat(a[r][step]);
                for p in 0..NP {
                    acc[r][p] = s.fma(a, line[p], acc[r][p]);
                }
            }
        }
        for r in 0..MR {
            for p in 0..NP {
                total[r][p] = s.add(total[r][p], acc[r][p]);
            }
        }
    }
    for (r, total) in total.iter().enumerate() {
        for (p, total) in total.iter().enumerate() {
            let at = (number + p) * LANES;
            s.store_tail(&mut c[(row + r) * n + at..][..LANES.min(n - at)], *total);
        }
    }
}

/// As many sums as the tier has registers for.
struct Tile<'p>(&'p mut Product);

impl Kernel for Tile<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match S::TILE {
            (12, 2) => tiles::<S, 12, 2>(s, self.0),
            (6, _) => tiles::<S, 6, 1>(s, self.0),
            _ => tiles::<S, 2, 1>(s, self.0),
        }
    }
}

/// The whole product in tiles; rows and panels that fill none go one by one.
#[inline(always)]
fn tiles<S: Simd, const MR: usize, const NP: usize>(s: S, p: &mut Product) {
    let Product { m, k, n, a, c, panels, .. } = p;
    let (m, k, n) = (*m, *k, *n);
    let count = panels.len() / k.max(1);
    let panel = |p: usize| &panels[p * k..][..k];
    let mut number = 0;
    while number < count {
        let whole = number + NP <= count;
        let mut row = 0;
        while row < m {
            if whole && row + MR <= m {
                let beside: [&[Line]; NP] = core::array::from_fn(|p| panel(number + p));
                rows::<S, MR, NP>(s, (a, k, row), beside, (c, n, number));
                row += MR;
            } else {
                for p in 0..if whole { NP } else { 1 } {
                    rows::<S, 1, 1>(s, (a, k, row), [panel(number + p)], (c, n, number + p));
                }
                row += 1;
            }
        }
        number += if whole { NP } else { 1 };
    }
}

/// The library's kernel.
fn full(p: &mut Product, cpu: Cpu) {
    let weights: PackedMatrix = PackedMatrix::new(&p.packed, p.k, p.n);
    let product = Gemm::new(MatRef::new(&p.a, p.m, p.k), weights, MatMut::new(&mut p.c, p.m, p.n));
    p.scratch.resize(product.scratch_len().max(p.scratch.len()), Line::ZERO);
    product.run(cpu, &mut p.scratch);
}

#[cfg(test)]
mod tests {
    use samebits_kernels::Cpu;

    #[test]
    fn every_rung_is_correct_on_every_tier() {
        for cpu in Cpu::all() {
            for (m, k, n) in [(1, 1, 1), (13, 300, 41), (24, 257, 64), (7, 512, 33)] {
                super::ladder(m, k, n).check(cpu);
            }
        }
    }
}
