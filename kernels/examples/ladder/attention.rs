//! softmax(q kᵀ / √d) v for each head, from the matrix of scores to the library's fused blocks.

use crate::climb::{Ladder, Law, Problem, Rung, drawn};
use crate::softmax::exp_line;
use samebits_kernels::attention::{Attention, Options, attention, scratch_len};
use samebits_kernels::math::exp::exp;
use samebits_kernels::simd::Simd;
use samebits_kernels::view::{HeadsMut, HeadsRef};
use samebits_kernels::{Cpu, Kernel, LANES, Line};

/// Heads of so many tokens, each of d components: q, k, v and the result, head after head.
pub struct Heads {
    heads: usize,
    tokens: usize,
    d: usize,
    scale: f32,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    out: Vec<f32>,
    scratch: Vec<Line>,
}

/// Every query sees every key: two multiply-adds a component and pair.
pub fn ladder(heads: usize, tokens: usize, d: usize) -> Ladder<Heads> {
    let [q, k, v] = [4, 5, 6].map(|seed| drawn(heads * tokens * d, seed));
    let (scale, out) = (Options::for_head_dim(d).scale, vec![0.0; heads * tokens * d]);
    let problem = Heads { heads, tokens, d, scale, q, k, v, out, scratch: Vec::new() };
    let work = 4.0 * (heads * tokens * tokens * d) as f64;
    let shape = format!("{heads}x{tokens}x{d}");
    Ladder { name: "attention", shape, work, unit: "GFLOP/s", problem, rungs: RUNGS }
}

const RUNGS: &[Rung<Heads>] = &[
    Rung {
        name: "naive",
        why: "the definition: all scores of a head in memory, three passes over them",
        law: Law::Differs("products are rounded, exp is the standard library's, one chain over all keys"),
        run: naive,
    },
    Rung {
        name: "reordered",
        why: "K transposed once a head, and both products along rows: the compiler makes lanes of their inner loops",
        law: Law::Differs("products are rounded, exp is the standard library's, one chain over all keys"),
        run: reordered,
    },
    Rung {
        name: "blocked",
        why: "64 keys at a time, their scores in registers: a running maximum and sum replace passes over all",
        law: Law::Differs("products are rounded, exp is the standard library's"),
        run: blocked,
    },
    Rung {
        name: "packed",
        why: "sixteen queries side by side, one a lane: nothing is shuffled, and exp goes by lanes too",
        law: Law::Differs("products are rounded, exp rounds twice a step"),
        run: packed,
    },
    Rung {
        name: "vector",
        why: "the tier's own lanes, multiply and add in one: but a single chain waits four cycles for each step",
        law: Law::Obeyed,
        run: |p, cpu| cpu.run(Vector::<1>(p)),
    },
    Rung {
        name: "tile",
        why: "eight keys, then eight components at once: chains that hide each other's wait, a load serves all",
        law: Law::Obeyed,
        run: |p, cpu| cpu.run(Vector::<8>(p)),
    },
    Rung {
        name: "full",
        why: "the library's: 48 queries for one pass over K and V, tiles of keys × words of queries in registers",
        law: Law::Obeyed,
        run: full,
    },
];

impl Problem for Heads {
    fn out(&mut self) -> &mut [f32] {
        &mut self.out
    }

    fn truth(&self) -> Vec<(f64, f64)> {
        let (d, size) = (self.d, self.tokens * self.d);
        let head = |h: usize| {
            let [q, k, v] = [&self.q, &self.k, &self.v].map(|x| &x[h * size..][..size]);
            q.chunks(d).flat_map(move |q| query(q, k, v, f64::from(self.scale))).collect::<Vec<_>>()
        };
        (0..self.heads).flat_map(head).collect()
    }
}

/// One row of the result in `f64`, with its bounds.
fn query(q: &[f32], k: &[f32], v: &[f32], scale: f64) -> Vec<(f64, f64)> {
    let d = q.len();
    let products =
        |k: &[f32]| q.iter().zip(k).map(|(&q, &k)| f64::from(q) * f64::from(k)).collect::<Vec<_>>();
    let scores: Vec<f64> = k.chunks(d).map(|k| scale * products(k).iter().sum::<f64>()).collect();
    let sizes = k.chunks(d).map(|k| scale * products(k).iter().map(|x| x.abs()).sum::<f64>());
    let largest = sizes.fold(0.0, f64::max);
    let m = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let p: Vec<f64> = scores.iter().map(|s| (s - m).exp()).collect();
    let sum: f64 = p.iter().sum();
    let column = |c: usize| {
        let terms = || p.iter().zip(v.chunks(d)).map(|(p, v)| p / sum * f64::from(v[c]));
        let size: f64 = terms().map(f64::abs).sum();
        // A chain over all keys and a chain over d; scores are off by their own roundings.
        let roundings = 16.0 + (scores.len() as f64).sqrt() + (d as f64).sqrt() * largest;
        (terms().sum(), roundings * size * 2f64.powi(-23))
    };
    (0..d).map(column).collect()
}

/// Scores, softmax, values: each a loop over a head's (tokens, tokens) matrix.
fn naive(p: &mut Heads, _: Cpu) {
    let (n, d) = (p.tokens, p.d);
    let mut scores = vec![0.0; n * n];
    for h in 0..p.heads {
        let [q, k, v] = [&p.q, &p.k, &p.v].map(|x| &x[h * n * d..][..n * d]);
        for i in 0..n {
            for j in 0..n {
                let dot: f32 = (0..d).map(|c| q[i * d + c] * k[j * d + c]).sum();
                scores[i * n + j] = dot * p.scale;
            }
        }
        scores.chunks_mut(n).for_each(soften);
        for i in 0..n {
            for c in 0..d {
                let sum: f32 = (0..n).map(|j| scores[i * n + j] * v[j * d + c]).sum();
                p.out[h * n * d + i * d + c] = sum;
            }
        }
    }
}

/// The softmax of a row, in place.
fn soften(row: &mut [f32]) {
    let m = row.iter().fold(f32::NEG_INFINITY, |m, &x| m.max(x));
    row.iter_mut().for_each(|x| *x = (*x - m).exp());
    let sum: f32 = row.iter().sum();
    row.iter_mut().for_each(|x| *x /= sum);
}

/// acc += a · row
fn add_scaled(acc: &mut [f32], a: f32, row: &[f32]) {
    acc.iter_mut().zip(row).for_each(|(acc, x)| *acc += a * x);
}

/// Both products as sums of rows.
fn reordered(p: &mut Heads, _: Cpu) {
    let (n, d) = (p.tokens, p.d);
    let (mut scores, mut turned) = (vec![0.0; n], vec![0.0; n * d]);
    for h in 0..p.heads {
        let [q, k, v] = [&p.q, &p.k, &p.v].map(|x| &x[h * n * d..][..n * d]);
        for (i, x) in k.iter().enumerate() {
            turned[i % d * n + i / d] = *x;
        }
        for (q, out) in q.chunks(d).zip(p.out[h * n * d..].chunks_mut(d)) {
            scores.fill(0.0);
            q.iter().zip(turned.chunks(n)).for_each(|(&q, k)| add_scaled(&mut scores, q * p.scale, k));
            soften(&mut scores);
            out.fill(0.0);
            scores.iter().zip(v.chunks(d)).for_each(|(&s, v)| add_scaled(out, s, v));
        }
    }
}

/// Keys of a block: the law's.
const BLOCK: usize = 64;

/// The softmax as it goes: m the largest score so far, l the sum of the exponentials against it, out their values.
fn blocked(p: &mut Heads, _: Cpu) {
    let (n, d) = (p.tokens, p.d);
    // K turned block by block: line c of a block holds component c of its 64 keys.
    let mut turned = vec![[0.0; BLOCK]; n.div_ceil(BLOCK) * d];
    for h in 0..p.heads {
        let [q, k, v] = [&p.q, &p.k, &p.v].map(|x| &x[h * n * d..][..n * d]);
        for (i, x) in k.iter().enumerate() {
            let (key, c) = (i / d, i % d);
            turned[key / BLOCK * d + c][key % BLOCK] = *x;
        }
        for (q, out) in q.chunks(d).zip(p.out[h * n * d..].chunks_mut(d)) {
            out.fill(0.0);
            let (mut m, mut l) = (f32::NEG_INFINITY, 0.0);
            for (k, v) in turned.chunks(d).zip(v.chunks(BLOCK * d)) {
                let (mut s, keys) = ([0.0; BLOCK], v.len() / d);
                q.iter().zip(k).for_each(|(&q, k)| add_scaled(&mut s, q * p.scale, k));
                let s = &mut s[..keys];
                let next = s.iter().fold(m, |m, &s| m.max(s));
                let alpha = (m - next).exp();
                s.iter_mut().for_each(|s| *s = (*s - next).exp());
                l = l * alpha + s.iter().sum::<f32>();
                m = next;
                out.iter_mut().for_each(|o| *o *= alpha);
                s.iter().zip(v.chunks(d)).for_each(|(&p, v)| add_scaled(out, p, v));
            }
            out.iter_mut().for_each(|o| *o /= l);
        }
    }
}

/// Sixteen queries of a head, turned: line c holds component c of each; past the last query, zeros.
fn turned(q: &[f32], d: usize) -> Vec<Line> {
    let mut lines = vec![Line::ZERO; d];
    for (lane, q) in q.chunks(d).enumerate() {
        q.iter().zip(&mut lines).for_each(|(q, line)| line[lane] = *q);
    }
    lines
}

/// The rows of sixteen queries from lines of components.
fn turned_back(lines: &[Line], out: &mut [f32]) {
    let d = lines.len();
    for (lane, out) in out.chunks_mut(d).enumerate() {
        out.iter_mut().zip(lines).for_each(|(out, line)| *out = line[lane]);
    }
}

/// The same for sixteen queries at a time, each in a lane of its own.
fn packed(p: &mut Heads, _: Cpu) {
    let (n, d) = (p.tokens, p.d);
    for h in 0..p.heads {
        let [q, k, v] = [&p.q, &p.k, &p.v].map(|x| &x[h * n * d..][..n * d]);
        for (q, out) in q.chunks(LANES * d).zip(p.out[h * n * d..][..n * d].chunks_mut(LANES * d)) {
            let (q, mut o) = (turned(q, d), vec![Line::ZERO; d]);
            let (mut m, mut l) = ([f32::NEG_INFINITY; LANES], [0.0f32; LANES]);
            for (k, v) in k.chunks(BLOCK * d).zip(v.chunks(BLOCK * d)) {
                let mut s = [[f32::NEG_INFINITY; LANES]; BLOCK];
                let mut next = m;
                for (s, k) in s.iter_mut().zip(k.chunks(d)) {
                    let mut acc = [0.0; LANES];
                    k.iter().zip(&q).for_each(|(&k, q)| add_scaled(&mut acc, k, &q.0));
                    *s = acc.map(|s| s * p.scale);
                    next.iter_mut().zip(&*s).for_each(|(m, &s)| *m = if s > *m { s } else { *m });
                }
                let alpha = exp_line(core::array::from_fn(|i| m[i] - next[i]));
                let mut sums = [0.0; LANES];
                for s in &mut s {
                    *s = exp_line(core::array::from_fn(|i| s[i] - next[i]));
                    add_scaled(&mut sums, 1.0, s);
                }
                l = core::array::from_fn(|i| l[i] * alpha[i] + sums[i]);
                m = next;
                for (c, o) in o.iter_mut().enumerate() {
                    let mut acc = [0.0; LANES];
                    v.chunks(d).zip(&s).for_each(|(v, s)| add_scaled(&mut acc, v[c], s));
                    o.0 = core::array::from_fn(|i| o[i] * alpha[i] + acc[i]);
                }
            }
            o.iter_mut().for_each(|o| o.0 = core::array::from_fn(|i| o[i] / l[i]));
            turned_back(&o, out);
        }
    }
}

/// The same in the words of the library, step by step as clause 8 says, R chains at a time.
struct Vector<'p, const R: usize>(&'p mut Heads);

impl<const R: usize> Kernel for Vector<'_, R> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Heads { heads, tokens, d, scale, q, k, v, out, .. } = self.0;
        let (size, d) = (*tokens * *d, *d);
        for h in 0..*heads {
            let [q, k, v] = [&*q, &*k, &*v].map(|x| &x[h * size..][..size]);
            for (q, out) in q.chunks(LANES * d).zip(out[h * size..][..size].chunks_mut(LANES * d)) {
                let mut o = vec![Line::ZERO; d];
                sixteen::<S, R>(s, &turned(q, d), (k, v), *scale, &mut o);
                turned_back(&o, out);
            }
        }
    }
}

/// The result of sixteen queries, in lanes.
#[inline(always)]
fn sixteen<S: Simd, const R: usize>(s: S, q: &[Line], (k, v): (&[f32], &[f32]), scale: f32, o: &mut [Line]) {
    let (d, scale) = (q.len(), s.splat(scale));
    let (mut m, mut l) = (s.splat(f32::NEG_INFINITY), s.splat(0.0));
    for (k, v) in k.chunks(BLOCK * d).zip(v.chunks(BLOCK * d)) {
        let keys = k.len() / d;
        let mut p = [Line([f32::NEG_INFINITY; LANES]); BLOCK];
        let mut next = m;
        let mut j = 0;
        while j < keys {
            // Scores: what is broadcast lies side by side, R keys are d floats apart.
            j += chains::<S, R>(s, (&k[j * d..], d, 1), q, &mut p[j..keys]);
        }
        for p in &mut p[..keys] {
            let score = s.mul(s.load(p), scale);
            next = s.max(score, next);
            s.store(p, score);
        }
        let alpha = exp(s, s.sub(m, next));
        l = s.add(s.mul(l, alpha), exponentials(s, &mut p, next));
        m = next;
        let mut sums = vec![Line::ZERO; d];
        let mut c = 0;
        while c < d {
            // Values: R components lie side by side, what is broadcast next is a row of V ahead.
            c += chains::<S, R>(s, (&v[c..], 1, d), &p[..keys], &mut sums[c..]);
        }
        for (o, sum) in o.iter_mut().zip(&sums) {
            let next = s.fma(s.load(o), alpha, s.load(sum));
            s.store(o, next);
        }
    }
    for o in o {
        let next = s.div(s.load(o), l);
        s.store(o, next);
    }
}

/// R chains (one, where there is no room for R): chain r is Σ x[r · apart + i · step] · lines[i]. How many they were.
#[inline(always)]
fn chains<S: Simd, const R: usize>(
    s: S,
    (x, apart, step): (&[f32], usize, usize),
    lines: &[Line],
    out: &mut [Line],
) -> usize {
    if out.len() < R {
        let mut acc = s.splat(0.0);
        for (x, line) in x.iter().step_by(step).zip(lines) {
            acc = s.fma(s.splat(*x), s.load(line), acc);
        }
        s.store(&mut out[0], acc);
        return 1;
    }
    let mut acc = [s.splat(0.0); R];
    for (i, line) in lines.iter().enumerate() {
        let line = s.load(line);
        for r in 0..R {
            acc[r] = s.fma(s.splat(x[r * apart + i * step]), line, acc[r]);
        }
    }
    for r in 0..R {
        s.store(&mut out[r], acc[r]);
    }
    R
}

/// p = exp(p − m) for a block; their sum by clause 2: chain i owns the keys i, i + 16, …; then the tree.
#[inline(always)]
fn exponentials<S: Simd>(s: S, p: &mut [Line; BLOCK], m: S::F32) -> S::F32 {
    let mut sums = [s.splat(0.0); LANES];
    for (j, p) in p.iter_mut().enumerate() {
        let e = exp(s, s.sub(s.load(p), m));
        s.store(p, e);
        sums[j % LANES] = s.add(sums[j % LANES], e);
    }
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            sums[i] = s.add(sums[i], sums[i + half]);
        }
    }
    sums[0]
}

/// The library's kernel.
fn full(p: &mut Heads, cpu: Cpu) {
    let shape = [1, p.heads, p.tokens, p.d];
    let problem = Attention {
        q: HeadsRef::new(&p.q, shape),
        k: HeadsRef::new(&p.k, shape).into(),
        v: HeadsRef::new(&p.v, shape).into(),
        out: HeadsMut::new(&mut p.out, shape),
        lse: None,
        options: Options::new(p.scale),
    };
    p.scratch.resize(scratch_len(p.d, p.d), Line::ZERO);
    attention(cpu, problem, &mut p.scratch);
}

#[cfg(test)]
mod tests {
    use samebits_kernels::Cpu;

    #[test]
    fn every_rung_is_correct_on_every_tier() {
        for cpu in Cpu::all() {
            for (heads, tokens, d) in [(1, 1, 1), (2, 16, 16), (3, 70, 24), (1, 130, 64)] {
                super::ladder(heads, tokens, d).check(cpu);
            }
        }
    }
}
