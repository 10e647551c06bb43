//! Attention with the matrix in memory: for those who want to see the weights.
//!
//! The scores are made in the order of the fused kernel, step by step, each rounded alike; softmax and the mean of
//! the values go over whole rows and not over blocks of 64 keys, so the result agrees with the fused one within
//! the bounds of both and not to the bit.

use crate::kernels::attention::{Additive, Align, Attention, Keep, Options, Pattern, Sequences, Stored};
use crate::kernels::elementwise::{Binary, Unary, scalar_in_place, unary_in_place};
use crate::kernels::gemm::{Gemm, Strided};
use crate::kernels::simd::fma;
use crate::kernels::softmax::softmax_in_place;
use crate::kernels::view::{HeadsRef, MatMut, MatRef};
use crate::kernels::{Cpu, Line};
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

/// Computes `problem` and returns the weights too: (batch or sequences, heads, Lq, Lk), row by row; +0 for keys
/// that a query does not see, rows of +0 for queries that see none. Lq and Lk are those of the longest sequence.
///
/// ```
/// use samebits::kernels::{Cpu, attention::{Attention, Options, Pattern}, view::{HeadsMut, HeadsRef}};
/// use samebits::nn::attention_with_weights;
/// let (q, k, v, mut out) = ([1.0, 1.0], [0.0, 0.0], [1.0, 3.0], [0.0; 2]);
/// let problem = Attention {
///     q: HeadsRef::new(&q, [1, 1, 2, 1]),
///     k: HeadsRef::new(&k, [1, 1, 2, 1]).into(),
///     v: HeadsRef::new(&v, [1, 1, 2, 1]).into(),
///     out: HeadsMut::new(&mut out, [1, 1, 2, 1]),
///     lse: None,
///     options: Options { pattern: Pattern::Causal, ..Options::for_head_dim(1) },
/// };
/// assert_eq!(attention_with_weights(Cpu::detect(), problem), [1.0, 0.0, 0.5, 0.5]);
/// assert_eq!(out, [1.0, 2.0]);
/// ```
///
/// # Panics
/// As [`Attention::pieces`], and where a log-sum-exp is asked for: the fused kernel has it.
pub fn attention_with_weights(cpu: Cpu, problem: Attention<'_>) -> Vec<f32> {
    assert!(problem.lse.is_none(), "the unfused path computes no log-sum-exp");
    problem.check();
    let Attention { q, k, v, mut out, options, .. } = problem;
    let (mut k_floats, mut v_floats) = (Vec::new(), Vec::new());
    let (k, v) = (decoded(&k, &mut k_floats), decoded(&v, &mut v_floats));
    let ([batch, heads, lq, _], [_, kv_heads, lk, _]) = (q.shape(), k.shape());
    let all = sequences(&options, batch, lq, lk);
    let longest = |of: fn(&Tokens) -> &Range<usize>| all.iter().map(|t| of(t).len()).max().unwrap_or(0);
    let (most_q, most_k) = match options.sequences {
        Sequences::Packed { .. } => (longest(|t| &t.queries), longest(|t| &t.keys)),
        _ => (lq, lk),
    };
    let mut weights = vec![0.0; all.len() * heads * most_q * most_k];
    let group = heads / kv_heads.max(1);
    // Rows of padding come out as +0.
    for b in 0..batch {
        for h in 0..heads {
            let mut head = out.head(b, h);
            (0..lq).for_each(|r| (0..head.cols()).for_each(|c| *head.at(r, c) = 0.0));
        }
    }
    for (s, tokens) in all.iter().enumerate() {
        for h in 0..heads {
            let at = (s * heads + h) * most_q * most_k;
            let rows = |m: MatRef<'_>, rows: &Range<usize>| (rows.clone(), 0..m.cols());
            let (qh, kh, vh) =
                (q.head(tokens.batch, h), k.head(tokens.batch, h / group), v.head(tokens.batch, h / group));
            let ((qr, qc), (kr, kc), (vr, vc)) =
                (rows(qh, &tokens.queries), rows(kh, &tokens.keys), rows(vh, &tokens.keys));
            let one = Head { options: &options, tokens, sequence: s, head: h };
            let mut p = one.weights(cpu, qh.sub(qr, qc), kh.sub(kr, kc));
            let (m, n) = (tokens.queries.len(), tokens.keys.len());
            let width = vh.cols();
            let to = out.head(tokens.batch, h).sub(tokens.queries.clone(), 0..width);
            product(cpu, MatRef::new(&p, m, n), vh.sub(vr, vc), to);
            for (i, row) in p.chunks_exact_mut(n.max(1)).enumerate() {
                let place = at + (i + tokens.mask_query()) * most_k + tokens.mask_key();
                weights[place..place + n].copy_from_slice(row);
            }
        }
    }
    weights
}

/// Keys or values as floats: where they are stored as such, where they lie.
fn decoded<'a>(x: &Stored<'a>, floats: &'a mut Vec<f32>) -> HeadsRef<'a> {
    let shape @ [batch, heads, tokens, dim] = x.shape();
    if let Stored::F32(x) = x {
        return *x;
    }
    let n = batch * heads * tokens * dim;
    let at = |i: usize| [i / (heads * tokens * dim), i / (tokens * dim) % heads, i / dim % tokens, i % dim];
    floats.extend((0..n).map(|i| x.get(at(i))));
    HeadsRef::new(floats, shape)
}

/// The tokens of one sequence.
struct Tokens {
    batch: usize,
    queries: Range<usize>,
    keys: Range<usize>,
    /// Whether masks count from the start of the sequence and not of the batch row.
    packed: bool,
}

impl Tokens {
    fn mask_query(&self) -> usize {
        if self.packed { 0 } else { self.queries.start }
    }

    fn mask_key(&self) -> usize {
        if self.packed { 0 } else { self.keys.start }
    }
}

fn sequences(options: &Options<'_>, batch: usize, lq: usize, lk: usize) -> Vec<Tokens> {
    let whole = |batch: usize| Tokens { batch, queries: 0..lq, keys: 0..lk, packed: false };
    match options.sequences {
        Sequences::Whole => (0..batch).map(whole).collect(),
        Sequences::Padded { queries, keys } => (0..batch)
            .map(|b| {
                let span = |s: &crate::kernels::attention::Span| s.start..s.start + s.len;
                Tokens { queries: queries.map_or(0..lq, |q| span(&q[b])), keys: span(&keys[b]), ..whole(b) }
            })
            .collect(),
        Sequences::Packed { queries, keys } => queries
            .windows(2)
            .zip(keys.windows(2))
            .map(|(q, k)| Tokens { batch: 0, queries: q[0]..q[1], keys: k[0]..k[1], packed: true })
            .collect(),
    }
}

/// One head of one sequence.
struct Head<'a> {
    options: &'a Options<'a>,
    tokens: &'a Tokens,
    sequence: usize,
    head: usize,
}

impl Head<'_> {
    /// (queries, keys)
    fn weights(&self, cpu: Cpu, q: MatRef<'_>, k: MatRef<'_>) -> Vec<f32> {
        let (m, n) = (q.rows(), k.rows());
        // A column more where there is a sink.
        let sink = self.options.sinks.map(|sinks| sinks[self.head]);
        let width = n + usize::from(sink.is_some());
        let mut scores = vec![0.0; m * width];
        if n > 0 {
            product(cpu, q, k.t(), MatMut::new(&mut scores, m, width).sub(0..m, 0..n));
        }
        self.scale(cpu, &mut scores);
        for i in 0..m {
            let row = &mut scores[i * width..][..width];
            (0..n).for_each(|j| self.bias(i, j, n, &mut row[j]));
            if let Some(sink) = sink {
                row[n] = sink;
            }
            let nothing = row.iter().all(|&s| s == f32::NEG_INFINITY);
            if nothing {
                row.fill(0.0);
            } else {
                softmax_in_place(cpu, MatMut::new(row, 1, width));
            }
        }
        match sink {
            None => scores,
            Some(_) => scores.chunks_exact(width).flat_map(|row| row[..n].iter().copied()).collect(),
        }
    }

    /// × scale, then the soft cap.
    fn scale(&self, cpu: Cpu, scores: &mut [f32]) {
        let n = scores.len();
        let mut all = MatMut::new(scores, 1, n);
        scalar_in_place(cpu, Binary::Mul, all.reborrow(), self.options.scale);
        if let Some(cap) = self.options.softcap {
            scalar_in_place(cpu, Binary::Div, all.reborrow(), cap);
            unary_in_place(cpu, Unary::Tanh, all.reborrow());
            scalar_in_place(cpu, Binary::Mul, all, cap);
        }
    }

    /// ALiBi, the additive mask; −∞ where query i does not see key j of n.
    fn bias(&self, i: usize, j: usize, n: usize, score: &mut f32) {
        let Options { pattern, align, keep, additive, alibi, .. } = self.options;
        let first = match align {
            Align::BottomRight => n as isize - self.tokens.queries.len() as isize,
            Align::TopLeft => 0,
            Align::Offset(position) => *position,
        };
        let (position, key) = (first + i as isize, j as isize);
        let (mq, mk) = (i + self.tokens.mask_query(), j + self.tokens.mask_key());
        let seen = match pattern {
            Pattern::Full => true,
            Pattern::Causal => key <= position,
            Pattern::Window(w) => key <= position && key > position.saturating_sub_unsigned(*w),
        };
        let kept = keep.as_ref().is_none_or(|Keep(mask)| mask.get([self.sequence, self.head, mq, mk]) != 0);
        if let Some(slopes) = alibi {
            *score = fma(slopes[self.head], (key - position) as f32, *score);
        }
        if let Some(Additive(mask)) = additive {
            *score += mask.get([self.sequence, self.head, mq, mk]);
        }
        if !(seen && kept) {
            *score = f32::NEG_INFINITY;
        }
    }
}

/// c = a b
fn product(cpu: Cpu, a: MatRef<'_>, b: MatRef<'_>, c: MatMut<'_>) {
    let gemm = Gemm::new(a, Strided(b), c);
    let mut scratch = vec![Line::ZERO; gemm.scratch_len()];
    gemm.run(cpu, &mut scratch);
}
