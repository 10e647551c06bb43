//! C (m, n) = A (m, k) · Wᵀ with W (n, k) in NF4, from decoding at every use to the library's panels.

use crate::climb::{Ladder, Law, Problem, Rung, drawn};
use samebits_kernels::gemm::Gemm;
use samebits_kernels::nf4::{
    CodeLine, LEVELS, PackedNf4, RowNf4, block_count, code_bytes, dequantize, nf4_gemm, quantize,
};
use samebits_kernels::simd::Simd;
use samebits_kernels::view::{MatMut, MatRef};
use samebits_kernels::{Cpu, Kernel, LANES, Line};

/// A product with a weight as bitsandbytes stores it.
pub struct Product {
    m: usize,
    n: usize,
    k: usize,
    a: Vec<f32>,
    c: Vec<f32>,
    /// Two codes a byte, the first in the high half; one absmax for 64 consecutive weights.
    codes: Vec<u8>,
    absmax: Vec<f32>,
    /// The same in panels of sixteen rows of the weight.
    lines: Vec<CodeLine>,
    scales: Vec<Line>,
    scratch: Vec<Line>,
}

const BLOCKSIZE: usize = 64;

/// So many rows of A, rows and columns of the weight, these a multiple of 64.
pub fn ladder(m: usize, n: usize, k: usize) -> Ladder<Product> {
    let (cpu, weight) = (Cpu::detect(), drawn(n * k, 7));
    let (mut codes, mut absmax) = (vec![0; code_bytes(n * k)], vec![0.0; block_count(n * k, BLOCKSIZE)]);
    quantize(cpu, &weight, BLOCKSIZE, &mut codes, &mut absmax).expect("what is drawn is finite");
    let mut lines = vec![CodeLine::ZERO; PackedNf4::code_lines(n, k)];
    let mut scales = vec![Line::ZERO; PackedNf4::scale_lines(n, k, BLOCKSIZE)];
    PackedNf4::pack(RowNf4::new(n, k, BLOCKSIZE, &codes, &absmax), &mut lines, &mut scales);
    let (a, c) = (drawn(m * k, 8), vec![0.0; m * n]);
    let problem = Product { m, n, k, a, c, codes, absmax, lines, scales, scratch: Vec::new() };
    let (shape, work) = (format!("{m}x{n}x{k}"), 2.0 * (m * n * k) as f64);
    Ladder { name: "nf4", shape, work, unit: "GFLOP/s", problem, rungs: RUNGS }
}

const RUNGS: &[Rung<Product>] = &[
    Rung {
        name: "naive",
        why: "the definition: a look-up and a product for every weight, anew for every row of A",
        law: Law::Differs("each product is rounded before it is added, and one chain runs over all of k"),
        run: naive,
    },
    Rung {
        name: "reordered",
        why: "rows of the weight outside: a row is decoded once, and used by all rows of A",
        law: Law::Differs("each product is rounded before it is added, and one chain runs over all of k"),
        run: reordered,
    },
    Rung {
        name: "blocked",
        why: "256 × 16 weights are decoded into L1, turned: their columns lie in lanes that the compiler finds",
        law: Law::Differs("each product is rounded before it is added"),
        run: blocked,
    },
    Rung {
        name: "packed",
        why: "codes in panels, once and for all: a line of codes is eight lines of weights, nothing is turned",
        law: Law::Differs("each product is rounded before it is added"),
        run: packed,
    },
    Rung {
        name: "vector",
        why: "sixteen look-ups in an instruction or two; multiply and add in one, but a single chain waits for itself",
        law: Law::Obeyed,
        run: |p, cpu| cpu.run(Vector(p)),
    },
    Rung {
        name: "full",
        why: "the library's: the tile of gemm over what was decoded: many chains, a line serves every row",
        law: Law::Obeyed,
        run: full,
    },
];

impl Problem for Product {
    fn out(&mut self) -> &mut [f32] {
        &mut self.c
    }

    fn truth(&self) -> Vec<(f64, f64)> {
        let mut w = vec![0.0; self.n * self.k];
        dequantize(Cpu::detect(), &self.codes, &self.absmax, BLOCKSIZE, &mut w);
        let element = |i: usize| {
            let (a, w) = (&self.a[i / self.n * self.k..][..self.k], &w[i % self.n * self.k..][..self.k]);
            let terms = a.iter().zip(w).map(|(&a, &w)| f64::from(a) * f64::from(w));
            let (sum, size) = terms.fold((0.0, 0.0), |(sum, size), x| (sum + x, size + x.abs()));
            (sum, 2.0 * self.k as f64 * size * 2f64.powi(-24) + 1e-30)
        };
        (0..self.m * self.n).map(element).collect()
    }
}

impl Product {
    /// Weight `at`, counted over all rows: level × scale, rounded once.
    fn weight(&self, at: usize) -> f32 {
        let code = self.codes[at / 2] >> (4 * (1 - at % 2)) & 15;
        LEVELS[usize::from(code)] * self.absmax[at / BLOCKSIZE]
    }
}

/// Row times row.
fn naive(p: &mut Product, _: Cpu) {
    for i in 0..p.m {
        for j in 0..p.n {
            let mut sum = 0.0;
            for k in 0..p.k {
                sum += p.a[i * p.k + k] * p.weight(j * p.k + k);
            }
            p.c[i * p.n + j] = sum;
        }
    }
}

/// A row of the weight for all rows of A.
fn reordered(p: &mut Product, _: Cpu) {
    let mut row = vec![0.0; p.k];
    for j in 0..p.n {
        for (k, w) in row.iter_mut().enumerate() {
            *w = p.weight(j * p.k + k);
        }
        for i in 0..p.m {
            p.c[i * p.n + j] = p.a[i * p.k..][..p.k].iter().zip(&row).map(|(a, w)| a * w).sum();
        }
    }
}

/// Steps of a block: the law's.
const BLOCK: usize = 256;

/// c += a · lines, a block's steps for the sixteen columns of panel `number`.
fn add_block(p: &mut Product, number: usize, start: usize, lines: &[Line]) {
    for (a, c) in p.a.chunks(p.k).zip(p.c.chunks_mut(p.n)) {
        let mut sums = [0.0; LANES];
        for (a, line) in a[start..].iter().zip(lines) {
            sums.iter_mut().zip(&line.0).for_each(|(sum, w)| *sum += a * w);
        }
        c[number * LANES..].iter_mut().zip(&sums).for_each(|(c, sum)| *c += sum);
    }
}

/// Sixteen rows of the weight × 256 steps at a time.
fn blocked(p: &mut Product, _: Cpu) {
    p.c.fill(0.0);
    for number in 0..p.n.div_ceil(LANES) {
        for start in (0..p.k).step_by(BLOCK) {
            let mut lines = vec![Line::ZERO; BLOCK.min(p.k - start)];
            for lane in 0..LANES.min(p.n - number * LANES) {
                let row = (number * LANES + lane) * p.k;
                for (step, line) in lines.iter_mut().enumerate() {
                    line[lane] = p.weight(row + start + step);
                }
            }
            add_block(p, number, start, &lines);
        }
    }
}

/// A panel's lines of codes and of scales from step `start` on.
fn panel<'p>(
    lines: &'p [CodeLine],
    scales: &'p [Line],
    k: usize,
    number: usize,
) -> (&'p [CodeLine], &'p [Line]) {
    (&lines[number * k / 8..][..k / 8], &scales[number * k / BLOCKSIZE..][..k / BLOCKSIZE])
}

/// A line of codes has eight steps of sixteen columns: nibble i of each word is step i.
fn packed(p: &mut Product, _: Cpu) {
    p.c.fill(0.0);
    for number in 0..p.n.div_ceil(LANES) {
        for start in (0..p.k).step_by(BLOCK) {
            let mut lines = vec![Line::ZERO; BLOCK.min(p.k - start)];
            let (codes, scales) = panel(&p.lines, &p.scales, p.k, number);
            for (step, line) in lines.iter_mut().enumerate() {
                let at = start + step;
                let (words, scale) = (&codes[at / 8].0, &scales[at / BLOCKSIZE]);
                let level = |l: usize| LEVELS[(words[l] >> (4 * (at % 8)) & 15) as usize];
                line.0 = core::array::from_fn(|l| level(l) * scale[l]);
            }
            add_block(p, number, start, &lines);
        }
    }
}

/// The same in the words of the library.
struct Vector<'p>(&'p mut Product);

impl Kernel for Vector<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Product { m, n, k, a, c, lines, scales, .. } = self.0;
        let (m, n, k) = (*m, *n, *k);
        let table = s.load(&LEVELS);
        let mut room = [Line::ZERO; BLOCK];
        c.fill(0.0);
        for number in 0..n.div_ceil(LANES) {
            let (codes, scales) = panel(lines, scales, k, number);
            for start in (0..k).step_by(BLOCK) {
                let room = &mut room[..BLOCK.min(k - start)];
                for (group, room) in room.chunks_mut(8).enumerate() {
                    let scale = s.load(&scales[(start + 8 * group) / BLOCKSIZE]);
                    let mut nibbles = s.nibbles(s.load_i(&codes[start / 8 + group].0), table);
                    for (i, line) in room.iter_mut().enumerate() {
                        s.store(line, s.mul(s.nibble(&mut nibbles, table, i), scale));
                    }
                }
                for row in 0..m {
                    let mut acc = s.splat(0.0);
                    for (a, line) in a[row * k + start..].iter().zip(&*room) {
                        acc = s.fma(s.splat(*a), s.load(line), acc);
                    }
                    let at = number * LANES;
                    let c = &mut c[row * n + at..][..LANES.min(n - at)];
                    let sum = s.add(s.load_tail(c, 0.0), acc);
                    s.store_tail(c, sum);
                }
            }
        }
    }
}

/// The library's kernel.
fn full(p: &mut Product, cpu: Cpu) {
    let weight = PackedNf4::new(p.n, p.k, BLOCKSIZE, &p.lines, &p.scales);
    let (a, need) = (MatRef::new(&p.a, p.m, p.k), {
        let c = MatMut::new(&mut p.c, p.m, p.n);
        Gemm::new(MatRef::new(&p.a, p.m, p.k), weight, c).scratch_len()
    });
    p.scratch.resize(need, Line::ZERO);
    nf4_gemm(cpu, a, weight, MatMut::new(&mut p.c, p.m, p.n), &mut p.scratch);
}

#[cfg(test)]
mod tests {
    use samebits_kernels::Cpu;

    #[test]
    fn every_rung_is_correct_on_every_tier() {
        for cpu in Cpu::all() {
            for (m, n, k) in [(1, 16, 64), (5, 33, 320), (20, 48, 512)] {
                super::ladder(m, n, k).check(cpu);
            }
        }
    }
}
