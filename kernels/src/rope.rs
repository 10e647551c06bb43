//! # Rotary position embedding
//!
//! **Math.**  A pair (a, b) of a head's dimensions at position p turns by the angle p · f_i, f_i = θ^(−2i/n):
//! a' = a cos − b sin,  b' = b cos + a sin.  The pairs are (2i, 2i + 1) or (i, i + n/2), i < n/2; dimensions
//! from n on stay as they are.
//!
//! **Law.**  Clause 3: a' = fma(−b, sin, a · cos), b' = fma(a, sin, b · cos), whatever the pairing. cos and sin
//! are computed in `f64` and rounded once to the table.
//!
//! ```text
//!   half          x1 = dims 16j…          ├─ fma(−x2, sin, x1 · cos)       a line of the table turns
//!                 x2 = dims n/2 + 16j…    ├─ fma( x1, sin, x2 · cos)       two lines of each head
//!   interleaved   x  = dims 32j…  ─ swap neighbours ─► fma(swap, ∓sin, x · cos), cos and sin doubled up
//! ```
//!
//! **Registers.**  cos, sin and two lines of x.
//!
//! **Cost.**  8 bytes an element, 1.5 operations; memory binds. A token's lines of the table are laid out once, in
//! the first-level cache, and turn all its heads, which are read and written in order.
//!
//! **Error.**  Table within 2⁻²⁵ of cos and sin at any position below 2²⁴; each output rounded twice.
//!
//! **Reference.**  Su et al. 2021, *RoFormer*, arXiv:2104.09864.   **Next.**  `attention/`

use crate::math::{pow64, sin_cos64};
use crate::simd::{Simd, fma};
use crate::view::{HeadsMut, HeadsRef, MatMut, MatRef};
use crate::{Cpu, Kernel, LANES, Line};

/// Which two dimensions of a head turn together. A model is trained with one of them; files do not always say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pairing {
    /// (2i, 2i + 1): the paper, Llama's original weights, GGUF's "NORMAL".
    Interleaved,
    /// (i, i + n/2): Hugging Face's Llama and most others, "rotate_half", "NEOX".
    Half,
}

/// cos and sin, a row a position, each (positions, n/2); see [`fill_table`].
#[derive(Clone, Copy, Debug)]
pub struct Table<'a> {
    /// cos of position × frequency, (positions, pairs).
    pub cos: &'a [f32],
    /// sin of position × frequency, (positions, pairs).
    pub sin: &'a [f32],
    /// Pairs that turn: n/2.
    pub pairs: usize,
}

/// How to rotate: the table, the pairing, and the row of the table for each token.
#[derive(Clone, Copy, Debug)]
pub struct Rope<'a> {
    /// cos and sin.
    pub table: Table<'a>,
    /// Which dimensions turn together.
    pub pairing: Pairing,
    /// The table's row for each token, (tokens): any order, any repetition.
    pub positions: &'a [u32],
}

impl Rope<'_> {
    fn check(&self, [_, _, tokens, head_dim]: [usize; 4]) {
        let Table { cos, sin, pairs } = self.table;
        assert!(pairs <= head_dim / 2, "{pairs} pairs in a head of {head_dim} dimensions");
        let whole = cos.len() == sin.len() && (pairs == 0 || cos.len().is_multiple_of(pairs));
        assert!(whole, "table of {} cos and {} sin in rows of {pairs}", cos.len(), sin.len());
        assert!(self.positions.len() == tokens, "{} positions for {tokens} tokens", self.positions.len());
        let rows = cos.len().checked_div(pairs).unwrap_or(usize::MAX);
        if let Some(p) = self.positions.iter().find(|&&p| p as usize >= rows) {
            panic!("position {p} in a table of {rows}");
        }
    }
}

/// `f_i = θ^(−i/pairs)` for each of `out.len()` pairs; θ is 10,000 in the paper, 500,000 in Llama 3.
pub fn frequencies(theta: f64, out: &mut [f64]) {
    let pairs = out.len() as f64;
    for (i, f) in out.iter_mut().enumerate() {
        *f = pow64(theta, -(i as f64) / pairs);
    }
}

/// Fills rows `first`, `first + 1`, … of a table: `scale · cos(p · f_i)` and `scale · sin(p · f_i)`, each rounded
/// once to `f32`. `scale` is 1, or the attention factor of YaRN and LongRoPE.
///
/// # Panics
/// Where `cos` and `sin`, both (positions, `frequencies.len()`), are not whole rows of one number.
pub fn fill_table(first: usize, frequencies: &[f64], scale: f64, cos: &mut [f32], sin: &mut [f32]) {
    let pairs = frequencies.len();
    let whole = cos.len() == sin.len() && (cos.is_empty() || pairs > 0 && cos.len().is_multiple_of(pairs));
    assert!(whole, "table of {} cos and {} sin in rows of {pairs}", cos.len(), sin.len());
    if pairs == 0 {
        return;
    }
    for (row, (cos, sin)) in cos.chunks_exact_mut(pairs).zip(sin.chunks_exact_mut(pairs)).enumerate() {
        for ((f, cos), sin) in frequencies.iter().zip(cos).zip(sin) {
            let (s, c) = sin_cos64((first + row) as f64 * f);
            (*cos, *sin) = ((scale * c) as f32, (scale * s) as f32);
        }
    }
}

/// Rotates every head of every token where it lies; `x` is (batch, heads, tokens, head_dim).
///
/// # Panics
/// Where there is not one position a token, a position lies outside the table, or more pairs turn than a head
/// has.
pub fn in_place(cpu: Cpu, rope: &Rope, x: HeadsMut<'_>) {
    rope.check(x.shape());
    cpu.run(Rotate { rope, from: None, to: x });
}

/// Rotates every head of every token from `x` to `y`; dimensions that do not turn are copied.
///
/// # Panics
/// As [`in_place`], and where the shapes differ.
pub fn apply(cpu: Cpu, rope: &Rope, x: HeadsRef<'_>, y: HeadsMut<'_>) {
    assert!(x.shape() == y.shape(), "input is {x:?}, output is {y:?}");
    rope.check(y.shape());
    cpu.run(Rotate { rope, from: Some(x), to: y });
}

struct Rotate<'a> {
    rope: &'a Rope<'a>,
    from: Option<HeadsRef<'a>>,
    to: HeadsMut<'a>,
}

/// Pairs whose cos and sin are laid out at a time.
const CHUNK: usize = 8 * LANES;

/// cos and sin of some pairs of a token, as its heads need them.
struct Turns {
    /// The first pair.
    first: usize,
    /// How many.
    n: usize,
    /// Half: a line for sixteen pairs. Interleaved: two lines, each number twice, sin negated for the first.
    cos: [Line; 2 * CHUNK / LANES],
    sin: [Line; 2 * CHUNK / LANES],
}

impl Kernel for Rotate<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let Table { cos, sin, pairs } = self.rope.table;
        let lines = [Line::ZERO; 2 * CHUNK / LANES];
        let mut turns = Turns { first: 0, n: 0, cos: lines, sin: lines };
        for (token, &p) in self.rope.positions.iter().enumerate() {
            for first in (0..pairs).step_by(CHUNK) {
                (turns.first, turns.n) = (first, CHUNK.min(pairs - first));
                let at = p as usize * pairs + first;
                turns.lay_out(s, self.rope.pairing, &cos[at..at + turns.n], &sin[at..at + turns.n]);
                self.turn(s, token, &turns);
            }
            self.copy_rest(token);
        }
    }
}

impl Rotate<'_> {
    /// Some pairs of every head of a token.
    #[inline(always)]
    fn turn<S: Simd>(&mut self, s: S, token: usize, turns: &Turns) {
        let (rope, [batch, heads, ..]) = (self.rope, self.to.shape());
        for b in 0..batch {
            for h in 0..heads {
                let mut to = self.to.head(b, h);
                let Some(from) = &self.from else {
                    match to.row(token) {
                        Some(row) => turn_row(s, rope, turns, None, row),
                        None => turn_apart(rope, turns, token, None, &mut to),
                    }
                    continue;
                };
                let from = from.head(b, h);
                match (from.row(token), to.row(token)) {
                    (Some(x), Some(row)) => turn_row(s, rope, turns, Some(x), row),
                    _ => turn_apart(rope, turns, token, Some(from), &mut to),
                }
            }
        }
    }

    /// The dimensions that do not turn.
    fn copy_rest(&mut self, token: usize) {
        let ([batch, heads, _, dim], first) = (self.to.shape(), 2 * self.rope.table.pairs);
        let Some(from) = self.from.filter(|_| first < dim) else { return };
        for b in 0..batch {
            for h in 0..heads {
                let (from, mut to) = (from.head(b, h), self.to.head(b, h));
                (first..dim).for_each(|d| *to.at(token, d) = from.get(token, d));
            }
        }
    }
}

/// Some pairs of one head, its dimensions side by side: from `from`, or where they lie.
#[inline(always)]
fn turn_row<S: Simd>(s: S, rope: &Rope, turns: &Turns, from: Option<&[f32]>, to: &mut [f32]) {
    match rope.pairing {
        Pairing::Half => turn_halves(s, turns, rope.table.pairs, from, to),
        Pairing::Interleaved => turn_neighbours(s, turns, from, to),
    }
}

/// Lanes 0 0 1 1 … 7 7 of a line of the table, and 8 8 … 15 15.
const DOUBLED: [[i32; LANES]; 2] = [
    [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7],
    [8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13, 14, 14, 15, 15],
];

/// The sign bit of the even lanes.
const EVEN: [i32; LANES] = {
    let mut sign = [0; LANES];
    let mut l = 0;
    while l < LANES {
        sign[l] = i32::MIN;
        l += 2;
    }
    sign
};

impl Turns {
    /// From rows of the table.
    #[inline(always)]
    fn lay_out<S: Simd>(&mut self, s: S, pairing: Pairing, cos: &[f32], sin: &[f32]) {
        let sign = s.load_i(&EVEN);
        for i in 0..self.n.div_ceil(LANES) {
            let n = LANES.min(self.n - i * LANES);
            let (cos, sin) = (read(s, cos, i * LANES, n), read(s, sin, i * LANES, n));
            if pairing == Pairing::Half {
                s.store(&mut self.cos[i], cos);
                s.store(&mut self.sin[i], sin);
                continue;
            }
            for (half, index) in DOUBLED.iter().enumerate() {
                let index = s.load_i(index);
                s.store(&mut self.cos[2 * i + half], s.lut16(index, cos));
                // The first of a pair subtracts.
                let sin = s.xor_i(s.bits(s.lut16(index, sin)), sign);
                s.store(&mut self.sin[2 * i + half], s.of_bits(sin));
            }
        }
    }
}

/// Pairs (i, i + pairs).
#[inline(always)]
fn turn_halves<S: Simd>(s: S, turns: &Turns, pairs: usize, from: Option<&[f32]>, to: &mut [f32]) {
    for i in 0..turns.n.div_ceil(LANES) {
        let (at, n) = (turns.first + i * LANES, LANES.min(turns.n - i * LANES));
        let (cos, sin) = (s.load(&turns.cos[i]), s.load(&turns.sin[i]));
        let x = from.unwrap_or(to);
        let (a, b) = (read(s, x, at, n), read(s, x, pairs + at, n));
        write(s, to, at, n, s.nfma(b, sin, s.mul(a, cos)));
        write(s, to, pairs + at, n, s.fma(a, sin, s.mul(b, cos)));
    }
}

/// Pairs (2i, 2i + 1).
#[inline(always)]
fn turn_neighbours<S: Simd>(s: S, turns: &Turns, from: Option<&[f32]>, to: &mut [f32]) {
    for i in 0..(2 * turns.n).div_ceil(LANES) {
        let (at, n) = (2 * turns.first + i * LANES, LANES.min(2 * turns.n - i * LANES));
        let (cos, sin) = (s.load(&turns.cos[i]), s.load(&turns.sin[i]));
        let v = read(s, from.unwrap_or(to), at, n);
        write(s, to, at, n, s.fma(s.swap(v), sin, s.mul(v, cos)));
    }
}

/// Pairs of a head whose dimensions do not lie side by side, one by one.
fn turn_apart(rope: &Rope, turns: &Turns, token: usize, from: Option<MatRef<'_>>, to: &mut MatMut<'_>) {
    let Table { cos, sin, pairs } = rope.table;
    for i in turns.first..turns.first + turns.n {
        let row = rope.positions[token] as usize * pairs + i;
        let (j, k) = match rope.pairing {
            Pairing::Half => (i, i + pairs),
            Pairing::Interleaved => (2 * i, 2 * i + 1),
        };
        let x = from.unwrap_or(to.as_ref());
        let (a, b) = (x.get(token, j), x.get(token, k));
        *to.at(token, j) = fma(-b, sin[row], a * cos[row]);
        *to.at(token, k) = fma(a, sin[row], b * cos[row]);
    }
}

/// `n <= 16` elements from `at` on.
#[inline(always)]
fn read<S: Simd>(s: S, x: &[f32], at: usize, n: usize) -> S::F32 {
    let x = &x[at..at + n];
    match x.first_chunk() {
        Some(line) => s.load(line),
        None => s.load_tail(x, 0.0),
    }
}

/// The first `n <= 16` lanes from `at` on.
#[inline(always)]
fn write<S: Simd>(s: S, x: &mut [f32], at: usize, n: usize, v: S::F32) {
    let x = &mut x[at..at + n];
    match x.first_chunk_mut() {
        Some(line) => s.store(line, v),
        None => s.store_tail(x, v),
    }
}
