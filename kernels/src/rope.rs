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
//!   half          x1 = dims 16j…          ├─ fma(−x2, sin, x1 · cos)       one line of the table turns
//!                 x2 = dims n/2 + 16j…    ├─ fma( x1, sin, x2 · cos)       two lines of each head
//!   interleaved   x  = dims 32j…  ─ swap neighbours ─► fma(swap, ∓sin, x · cos), cos and sin doubled up
//! ```
//!
//! **Registers.**  cos, sin and two lines of x.
//!
//! **Cost.**  8 bytes an element, 1.5 operations; memory binds. A line of the table is read once a token and
//! turns all heads, so its traffic is 1/heads of theirs.
//!
//! **Error.**  Table within 2⁻²⁵ of cos and sin at any position below 2²⁴; each output rounded twice.
//!
//! **Reference.**  Su et al. 2021, *RoFormer*, arXiv:2104.09864.   **Next.**  `attention/`

use crate::math::{pow64, sin_cos64};
use crate::simd::{Floats, Simd};
use crate::{Cpu, Kernel, LANES};

/// Which two dimensions of a head turn together. A model is trained with one of them; files do not always say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pairing {
    /// (2i, 2i + 1): the paper, Llama's original weights, GGUF's "NORMAL".
    Interleaved,
    /// (i, i + n/2): Hugging Face's Llama and most others, "rotate_half", "NEOX".
    Half,
}

/// Where the elements of (tokens, heads, head_dim) lie in a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Number of tokens.
    pub tokens: usize,
    /// Number of heads.
    pub heads: usize,
    /// Dimensions of a head.
    pub head_dim: usize,
    /// Elements from a token, a head, a dimension to the next.
    pub strides: [usize; 3],
}

impl Heads {
    /// (tokens, heads, head_dim), gapless.
    pub const fn by_token(tokens: usize, heads: usize, head_dim: usize) -> Heads {
        Heads { tokens, heads, head_dim, strides: [heads * head_dim, head_dim, 1] }
    }

    /// (heads, tokens, head_dim), gapless.
    pub const fn by_head(tokens: usize, heads: usize, head_dim: usize) -> Heads {
        Heads { tokens, heads, head_dim, strides: [head_dim, tokens * head_dim, 1] }
    }

    const fn shape(&self) -> [usize; 3] {
        [self.tokens, self.heads, self.head_dim]
    }

    /// Index of the first dimension of a head.
    #[inline(always)]
    fn at(&self, token: usize, head: usize) -> usize {
        token * self.strides[0] + head * self.strides[1]
    }

    fn check(&self, len: usize) {
        if self.shape().contains(&0) {
            return;
        }
        let reach = |(n, stride): (usize, usize)| (n - 1).checked_mul(stride);
        let last = self.shape().into_iter().zip(self.strides).map(reach);
        let last = last.reduce(|a, b| a?.checked_add(b?)).flatten();
        assert!(last.is_some_and(|last| last < len), "{self:?} leaves its slice of {len} elements");
    }
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
    fn check(&self, x: &Heads) {
        let Table { cos, sin, pairs } = self.table;
        assert!(pairs <= x.head_dim / 2, "{pairs} pairs in a head of {} dimensions", x.head_dim);
        let whole = cos.len() == sin.len() && (pairs == 0 || cos.len().is_multiple_of(pairs));
        assert!(whole, "table of {} cos and {} sin in rows of {pairs}", cos.len(), sin.len());
        assert!(self.positions.len() == x.tokens, "{} positions for {x:?}", self.positions.len());
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

/// Rotates every head of every token where it lies.
///
/// # Panics
/// Where `shape` leaves `x`, there is not one position a token, a position lies outside the table, or more pairs
/// turn than a head has.
pub fn in_place(cpu: Cpu, rope: &Rope, shape: &Heads, x: &mut [f32]) {
    shape.check(x.len());
    rope.check(shape);
    cpu.run(Rotate { rope, from: None, shape, x });
}

/// Rotates every head of every token from `x` to `y`; dimensions that do not turn are copied.
///
/// # Panics
/// As [`in_place`], and where the shapes differ.
pub fn apply(cpu: Cpu, rope: &Rope, (x_shape, x): (&Heads, &[f32]), (y_shape, y): (&Heads, &mut [f32])) {
    x_shape.check(x.len());
    y_shape.check(y.len());
    assert!(x_shape.shape() == y_shape.shape(), "input is {x_shape:?}, output is {y_shape:?}");
    rope.check(y_shape);
    cpu.run(Rotate { rope, from: Some((x_shape, x)), shape: y_shape, x: y });
}

struct Rotate<'a> {
    rope: &'a Rope<'a>,
    from: Option<(&'a Heads, &'a [f32])>,
    shape: &'a Heads,
    x: &'a mut [f32],
}

impl Kernel for Rotate<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Rotate { rope, from, shape, x } = self;
        let Table { cos, sin, pairs } = rope.table;
        for (token, &p) in rope.positions.iter().enumerate() {
            if let Some((from_shape, from)) = from {
                // A token's heads fit the first-level cache: copied here, turned there.
                copy_token(token, (from_shape, from), (shape, x));
            }
            let row = p as usize * pairs;
            let mut start = 0;
            while start < pairs {
                let n = LANES.min(pairs - start);
                let at = row + start;
                let (cos, sin) = (read(s, cos, at, 1, n), read(s, sin, at, 1, n));
                let block = Block { start, n, pairs };
                match rope.pairing {
                    Pairing::Half => turn_halves(s, [cos, sin], &block, token, shape, x),
                    Pairing::Interleaved => turn_neighbours(s, [cos, sin], &block, token, shape, x),
                }
                start += n;
            }
        }
    }
}

#[inline(always)]
fn copy_token(token: usize, (from_shape, from): (&Heads, &[f32]), (shape, x): (&Heads, &mut [f32])) {
    for head in 0..shape.heads {
        let (at, to, n) = (from_shape.at(token, head), shape.at(token, head), shape.head_dim);
        if from_shape.strides[2] == 1 && shape.strides[2] == 1 {
            x[to..to + n].copy_from_slice(&from[at..at + n]);
        } else {
            for d in 0..n {
                x[to + d * shape.strides[2]] = from[at + d * from_shape.strides[2]];
            }
        }
    }
}

/// Pairs `start..start + n` of `pairs`: at most a line of the table.
struct Block {
    start: usize,
    n: usize,
    pairs: usize,
}

/// One line of the table over all heads of a token, pairs (i, i + n/2).
#[inline(always)]
fn turn_halves<S: Simd>(
    s: S,
    [cos, sin]: [S::F32; 2],
    block: &Block,
    token: usize,
    shape: &Heads,
    x: &mut [f32],
) {
    let (n, step) = (block.n, shape.strides[2]);
    for head in 0..shape.heads {
        let first = shape.at(token, head) + block.start * step;
        let second = first + block.pairs * step;
        let (a, b) = (read(s, x, first, step, n), read(s, x, second, step, n));
        write(s, x, first, step, n, s.nfma(b, sin, s.mul(a, cos)));
        write(s, x, second, step, n, s.fma(a, sin, s.mul(b, cos)));
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

/// One line of the table over all heads of a token, pairs (2i, 2i + 1).
#[inline(always)]
fn turn_neighbours<S: Simd>(
    s: S,
    [cos, sin]: [S::F32; 2],
    block: &Block,
    token: usize,
    shape: &Heads,
    x: &mut [f32],
) {
    // The first of a pair subtracts: its sin is negated.
    let sign = s.load_i(&EVEN);
    let step = shape.strides[2];
    for (half, index) in DOUBLED.iter().enumerate() {
        let n = LANES.min((2 * block.n).saturating_sub(half * LANES));
        if n == 0 {
            return;
        }
        let index = s.load_i(index);
        let cos = s.lut16(index, cos);
        let sin = s.of_bits(s.xor_i(s.bits(s.lut16(index, sin)), sign));
        for head in 0..shape.heads {
            let at = shape.at(token, head) + (2 * block.start + half * LANES) * step;
            let v = read(s, x, at, step, n);
            write(s, x, at, step, n, s.fma(s.swap(v), sin, s.mul(v, cos)));
        }
    }
}

/// `n <= 16` elements, `step` apart, from `at` on.
#[inline(always)]
fn read<S: Simd>(s: S, x: &[f32], at: usize, step: usize, n: usize) -> S::F32 {
    if step != 1 {
        let mut line: Floats = [0.0; LANES];
        for (l, v) in line[..n].iter_mut().enumerate() {
            *v = x[at + l * step];
        }
        return s.load(&line);
    }
    let x = &x[at..at + n];
    match x.first_chunk() {
        Some(line) => s.load(line),
        None => s.load_tail(x, 0.0),
    }
}

/// The first `n <= 16` lanes to elements `step` apart, from `at` on.
#[inline(always)]
fn write<S: Simd>(s: S, x: &mut [f32], at: usize, step: usize, n: usize, v: S::F32) {
    if step != 1 {
        for (l, v) in s.to_array(v)[..n].iter().enumerate() {
            x[at + l * step] = *v;
        }
        return;
    }
    let x = &mut x[at..at + n];
    match x.first_chunk_mut() {
        Some(line) => s.store(line, v),
        None => s.store_tail(x, v),
    }
}
