//! A table taught an order: of the long texts near to a short one, which the encoder holds for nearer.
//!
//! ```text
//!   a step     256 short texts, 8 of the 32 long ones nearest to each (by the encoder): d, up to 2,048 of them
//!              P = softmax(cos(encoder, encoder) / 0.05)        S = softmax(σ · cos(table, table))      (256, d)
//!              loss = mean KL(P ‖ S) of the rows;  one step of Adam for the table and ln σ, the rate falling to 0
//! ```
//!
//! A mean of words cannot say all that an encoder says. Where it must err it had better err where nothing is decided: least
//! squares ([`fit`](super::fit)) knows no such place, an order does. Distances that decide are those among neighbours.
//!
//! **Law.** Kernels', in `f32`; what is drawn depends on places alone. So the same bits for any number of threads.
//! Reference: Hinton et al. 2015, *Distilling the Knowledge in a Neural Network*, [arXiv:1503.02531](https://arxiv.org/abs/1503.02531).

use super::Texts;
use super::fit::length;
use crate::Result;
use crate::kernels::elementwise::{self, Binary};
use crate::kernels::gemm::{Accumulate, Epilogue, Gemm, Strided};
use crate::kernels::math::{exp64, ln64};
use crate::kernels::optim::{AdamW, AdamWOptions};
use crate::kernels::simd::sqrt64;
use crate::kernels::softmax::softmax_in_place;
use crate::kernels::view::{MatMut, MatRef};
use crate::rag::vectors::{Form, Metric, Search, VectorIndex};
use crate::random::Philox;
use crate::run::Run;
use std::ops::Range;

/// Bytes of a text that is asked, and of one that answers at least.
const SHORT: Range<usize> = 40..200;
const LONG: usize = 350;
/// Texts of either kind, at most.
const QUERIES: usize = 60_000;
const DOCUMENTS: usize = 120_000;
/// Long texts that are near to a short one, and those of them that a step looks at.
const NEAR: usize = 32;
const LOOKED_AT: usize = 8;
/// Short texts of a step.
const BATCH: usize = 256;
/// Times that each is asked.
const EPOCHS: usize = 3;
/// Of the encoder's cosines.
const TEMPERATURE: f32 = 0.05;
/// σ at first; its logarithm's rate.
const SHARPNESS: f64 = 20.0;
const SHARPNESS_RATE: f64 = 0.01;
/// The table's rate, in parts of what its elements are on average.
const RATE: f64 = 0.02;
const ADAM: AdamWOptions = AdamWOptions { betas: [0.9, 0.98], eps: 1e-8, weight_decay: 0.0 };
/// Rows of a piece.
const ROWS: usize = 64;

/// Texts by their places: which ask, which answer, and which of these are near.
struct Pairs {
    queries: Vec<usize>,
    documents: Vec<usize>,
    /// (queries, 32): places in `documents`.
    near: Vec<[u32; NEAR]>,
}

/// Of `all` at most `most`, at even distances.
fn some(all: Vec<usize>, most: usize) -> Vec<usize> {
    let n = all.len();
    if n <= most { all } else { (0..most).map(|i| all[i * n / most]).collect() }
}

impl Pairs {
    /// Those of `texts`; `None` where there are too few for a step.
    fn of(
        run: &Run<'_>,
        texts: &Texts,
        step: &mut dyn FnMut(&str, usize, usize) -> Result<()>,
    ) -> Result<Option<Pairs>> {
        let of = |lengths: Range<usize>| {
            let fits =
                |&i: &usize| lengths.contains(&texts.bytes[i]) && texts.row(i).iter().any(|&x| x != 0.0);
            (0..texts.places.len()).filter(fits).collect::<Vec<usize>>()
        };
        let (queries, documents) = (some(of(SHORT), QUERIES), some(of(LONG..usize::MAX), DOCUMENTS));
        if queries.len() < BATCH || documents.len() < NEAR {
            return Ok(None);
        }
        let rows = |of: &[usize]| of.iter().flat_map(|&i| texts.row(i)).copied().collect::<Vec<f32>>();
        let names: Vec<String> = documents.iter().map(usize::to_string).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut index = VectorIndex::new(Form::new(texts.features(), Metric::Cosine)?);
        index.add(run.cpu(), &names, &rows(&documents))?;
        let mut near = Vec::with_capacity(queries.len());
        for (i, batch) in queries.chunks(1024).enumerate() {
            step("finding neighbours", i * 1024, queries.len())?;
            for found in index.view().search(run, &rows(batch), &Search::new(NEAR))? {
                let mut places = [0; NEAR];
                places.iter_mut().zip(&found).for_each(|(place, (row, _))| *place = *row);
                near.push(places);
            }
        }
        Ok(Some(Pairs { queries, documents, near }))
    }

    /// The texts that step `i` asks, and those that answer, ascending.
    fn batch(&self, order: &[usize], i: usize, random: Philox) -> [Vec<usize>; 2] {
        let asked = &order[i % (order.len() / BATCH) * BATCH..][..BATCH];
        let mut answers = Vec::with_capacity(BATCH * LOOKED_AT);
        for (place, &q) in asked.iter().enumerate() {
            for at in 0..LOOKED_AT {
                let drawn = random.uniform((place * LOOKED_AT + at) as u64, 1 + i as u64);
                answers.push(self.documents[self.near[q][(drawn * NEAR as f64) as usize] as usize]);
            }
        }
        answers.sort_unstable();
        answers.dedup();
        [asked.iter().map(|&q| self.queries[q]).collect(), answers]
    }
}

/// 0 … n − 1 in an order of this epoch.
fn shuffled(n: usize, random: Philox, epoch: usize) -> Vec<usize> {
    let mut all: Vec<(u64, usize)> =
        (0..n).map(|i| (random.uniform(i as u64, u64::MAX - epoch as u64).to_bits(), i)).collect();
    all.sort_unstable();
    all.into_iter().map(|(_, i)| i).collect()
}

/// Means of rows of a table as unit vectors.
struct Units {
    /// (texts, dim)
    rows: Vec<f32>,
    /// Of the sums that they were.
    lengths: Vec<f32>,
}

impl Units {
    fn of(run: &Run<'_>, table: &[f32], dim: usize, lists: &[&[u32]]) -> Units {
        let mut units = Units { rows: vec![0.0; lists.len() * dim], lengths: vec![1.0; lists.len()] };
        let rows = units.rows.chunks_mut(ROWS * dim).zip(units.lengths.chunks_mut(ROWS));
        run.pieces(lists.chunks(ROWS).zip(rows), |(lists, (rows, lengths)), _| {
            for ((list, row), to) in lists.iter().zip(rows.chunks_exact_mut(dim)).zip(lengths) {
                for &token in *list {
                    row.iter_mut().zip(&table[token as usize * dim..]).for_each(|(sum, x)| *sum += x);
                }
                *to = unit(row);
            }
        });
        units
    }

    /// The gradients of the units made those of the sums, in their place.
    fn backward(&self, run: &Run<'_>, gradients: &mut [f32], dim: usize) {
        let rows = self.rows.chunks(ROWS * dim).zip(self.lengths.chunks(ROWS));
        run.pieces(gradients.chunks_mut(ROWS * dim).zip(rows), |(g, (rows, lengths)), _| {
            for ((g, unit), length) in g.chunks_exact_mut(dim).zip(rows.chunks_exact(dim)).zip(lengths) {
                let along = dot(g, unit) as f32;
                g.iter_mut().zip(unit).for_each(|(g, u)| *g = (*g - u * along) / length);
            }
        });
    }
}

fn dot(x: &[f32], y: &[f32]) -> f64 {
    x.iter().zip(y).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum()
}

/// Scales a row to length 1; what its length was, 1 for one of zeros.
fn unit(row: &mut [f32]) -> f32 {
    let length = sqrt64(dot(row, row)) as f32;
    let length = if length > 0.0 { length } else { 1.0 };
    row.iter_mut().for_each(|x| *x /= length);
    length
}

/// C = A · B
fn product(run: &Run<'_>, a: MatRef<'_>, b: MatRef<'_>, c: MatMut<'_>) {
    let (gemm, cpu) = (
        Gemm { accumulate: Accumulate::Overwrite, epilogue: Epilogue::NONE, a, b: Strided(b), c },
        run.cpu(),
    );
    run.pieces(gemm.pieces(), |piece, scratch| {
        let need = piece.scratch_len();
        piece.run(cpu, scratch.lines(need));
    });
}

/// softmax(scale · Q Dᵀ), (queries, documents), of rows of `dim`; with it the products themselves.
fn likeness(run: &Run<'_>, q: &[f32], d: &[f32], dim: usize, scale: f32) -> [Vec<f32>; 2] {
    let (n, m) = (q.len() / dim, d.len() / dim);
    let mut cosines = vec![0.0; n * m];
    product(run, MatRef::new(q, n, dim), MatRef::new(d, m, dim).t(), MatMut::new(&mut cosines, n, m));
    let (mut shares, cpu) = (cosines.clone(), run.cpu());
    run.pieces(shares.chunks_mut(ROWS * m), |shares, _| {
        let rows = shares.len() / m;
        elementwise::scalar_in_place(cpu, Binary::Mul, MatMut::new(shares, rows, m), scale);
        softmax_in_place(cpu, MatMut::new(shares, rows, m));
    });
    [cosines, shares]
}

/// What is learnt, and its moments.
struct Learner {
    table: Vec<f32>,
    dim: usize,
    moments: [Vec<f32>; 2],
    /// ln σ, and its moments.
    sharpness: [f32; 1],
    sharpness_moments: [[f32; 1]; 2],
    rate: f64,
}

impl Learner {
    fn new(table: &[f64], dim: usize) -> Learner {
        let mean = table.chunks_exact(dim).map(length).sum::<f64>() / (table.len() / dim) as f64;
        Learner {
            table: table.iter().map(|&x| x as f32).collect(),
            dim,
            moments: [vec![0.0; table.len()], vec![0.0; table.len()]],
            sharpness: [ln64(SHARPNESS) as f32],
            sharpness_moments: [[0.0]; 2],
            rate: RATE * mean / sqrt64(dim as f64),
        }
    }

    /// The gradients of the loss of these texts: of the table, and of ln σ.
    fn gradients(&self, run: &Run<'_>, texts: &Texts, [asked, answers]: &[Vec<usize>; 2]) -> (Vec<f32>, f32) {
        let dim = self.dim;
        let lists = |of: &[usize]| of.iter().map(|&i| &texts.places[i][..]).collect::<Vec<&[u32]>>();
        let (q_lists, d_lists) = (lists(asked), lists(answers));
        let [q, d] = [&q_lists, &d_lists].map(|lists| Units::of(run, &self.table, dim, lists));
        let sigma = exp64(f64::from(self.sharpness[0])) as f32;
        let [cosines, mut change] = likeness(run, &q.rows, &d.rows, dim, sigma);
        let (wanted, scale) = (texts.likeness(run, asked, answers), sigma / asked.len() as f32);
        change.iter_mut().zip(&wanted).for_each(|(s, p)| *s = (*s - p) * scale);
        let sharper = dot(&change, &cosines) as f32;
        let change = MatRef::new(&change, asked.len(), answers.len());
        let through = |change: MatRef<'_>, others: &Units, units: &Units| {
            let mut g = vec![0.0; change.rows() * dim];
            let others = MatRef::new(&others.rows, change.cols(), dim);
            product(run, change, others, MatMut::new(&mut g, change.rows(), dim));
            units.backward(run, &mut g, dim);
            g
        };
        let mut g = through(change, &d, &q);
        g.extend(through(change.t(), &q, &d));
        (scattered(run, &[q_lists, d_lists].concat(), &g, (self.table.len() / dim, dim)), sharper)
    }

    /// One step of both, number `t` of `of`.
    fn step(&mut self, run: &Run<'_>, (t, of): (usize, usize), (gradient, sharper): (&[f32], f32)) {
        let left = 1.0 - t as f64 / of as f64;
        let at = |rate: f64| AdamW::at(t as u64 + 1, rate * left, &ADAM, 1.0);
        let ([m, v], cpu, n) = (&mut self.moments, run.cpu(), ROWS * 256);
        let moments = m.chunks_mut(n).zip(v.chunks_mut(n));
        let pieces = self.table.chunks_mut(n).zip(gradient.chunks(n)).zip(moments);
        let table = at(self.rate);
        run.pieces(pieces, |((p, g), (m, v)), _| table.run(cpu, p, g, m, v));
        let [m, v] = &mut self.sharpness_moments;
        at(SHARPNESS_RATE).run(cpu, &mut self.sharpness, &[sharper], m, v);
    }
}

/// Rows of `x` (texts, dim), one of which each list has, added to the rows of a table (tokens, dim) that it names.
fn scattered(run: &Run<'_>, lists: &[&[u32]], x: &[f32], (tokens, dim): (usize, usize)) -> Vec<f32> {
    // By token the texts that have it, in their order: rows of the table can be summed apart.
    let mut ends = vec![0usize; tokens + 1];
    lists.iter().for_each(|list| list.iter().for_each(|&token| ends[token as usize + 1] += 1));
    (0..tokens).for_each(|token| ends[token + 1] += ends[token]);
    let (mut next, mut with) = (ends.clone(), vec![0u32; ends[tokens]]);
    for (text, list) in lists.iter().enumerate() {
        for &token in *list {
            with[next[token as usize]] = text as u32;
            next[token as usize] += 1;
        }
    }
    let mut out = vec![0.0; tokens * dim];
    run.pieces(out.chunks_mut(ROWS * dim).enumerate(), |(i, out), _| {
        for (row, token) in out.chunks_exact_mut(dim).zip(i * ROWS..) {
            for &text in &with[ends[token]..ends[token + 1]] {
                row.iter_mut().zip(&x[text as usize * dim..]).for_each(|(sum, x)| *sum += x);
            }
        }
    });
    out
}

/// Teaches `table` (tokens, dim) the order that the encoder gives `texts`, where there are enough.
///
/// # Errors
/// Whatever `step` fails with.
pub fn rank(
    run: &Run<'_>,
    table: &mut [f64],
    dim: usize,
    texts: &Texts,
    step: &mut dyn FnMut(&str, usize, usize) -> Result<()>,
) -> Result<()> {
    let Some(pairs) = Pairs::of(run, texts, step)? else { return Ok(()) };
    let (mut learner, random, steps) =
        (Learner::new(table, dim), Philox::new(0), pairs.queries.len() / BATCH);
    for epoch in 0..EPOCHS {
        let order = shuffled(pairs.queries.len(), random, epoch);
        for i in epoch * steps..(epoch + 1) * steps {
            step("ranking", i, EPOCHS * steps)?;
            let (gradient, sharper) = learner.gradients(run, texts, &pairs.batch(&order, i, random));
            learner.step(run, (i, EPOCHS * steps), (&gradient, sharper));
        }
    }
    table.iter_mut().zip(&learner.table).for_each(|(x, &y)| *x = f64::from(y));
    Ok(())
}

impl Texts {
    fn features(&self) -> usize {
        self.rows.len() / self.places.len().max(1)
    }

    /// What the encoder says of text `i`.
    fn row(&self, i: usize) -> &[f32] {
        let features = self.features();
        &self.rows[i * features..][..features]
    }

    /// P, (asked, answers).
    fn likeness(&self, run: &Run<'_>, asked: &[usize], answers: &[usize]) -> Vec<f32> {
        let units = |of: &[usize]| {
            let mut rows: Vec<f32> = of.iter().flat_map(|&i| self.row(i)).copied().collect();
            rows.chunks_exact_mut(self.features()).for_each(|row| {
                unit(row);
            });
            rows
        };
        let [_, shares] = likeness(run, &units(asked), &units(answers), self.features(), 1.0 / TEMPERATURE);
        shares
    }
}
