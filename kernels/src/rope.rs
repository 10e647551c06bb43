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
//! **Backward.**  dx is dy turned by the negative angle: the same with sin negated.
//!
//! **Registers.**  cos, sin and two lines of x.
//!
//! **Cost.**  8 bytes an element, 1.5 operations; memory binds. A line of the table is read once a token and
//! turns all heads, so its traffic is 1/heads of theirs.
//!
//! **Error.**  Table within 2⁻²⁵ of cos and sin at any position below 2²⁴; each output rounded twice.
//!
//! **Reference.**  Su et al. 2021, *RoFormer*, [arXiv:2104.09864](https://arxiv.org/abs/2104.09864).   **Next.**  `attention/`

use crate::math::{pow64, sin_cos64};
use crate::simd::{Simd, fma};
use crate::view::{HeadsMut, HeadsRef, MatMut, MatRef};
use crate::{Cpu, Kernel, LANES};

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
/// ```
/// use samebits_kernels::rope::{Pairing, Rope, Table, apply, backward_in_place, fill_table, frequencies, in_place};
/// use samebits_kernels::{Cpu, view::{HeadsMut, HeadsRef}};
/// let (mut f, mut cos, mut sin) = ([0.0; 1], [0.0; 3], [0.0; 3]); // three positions, one pair
/// frequencies(10_000.0, &mut f);
/// fill_table(0, &f, 1.0, &mut cos, &mut sin);
/// let table = Table { cos: &cos, sin: &sin, pairs: 1 };
/// let rope = Rope { table, pairing: Pairing::Half, positions: &[2] };
/// let (cpu, shape, x, mut y) = (Cpu::detect(), [1, 1, 1, 2], [1.0, 0.0], [0.0; 2]);
/// apply(cpu, &rope, HeadsRef::new(&x, shape), HeadsMut::new(&mut y, shape));
/// assert_eq!(y, [cos[2], sin[2]]); // (1, 0), turned by two radians
/// let mut z = x;
/// in_place(cpu, &rope, HeadsMut::new(&mut z, shape));
/// assert_eq!(z, y);
/// backward_in_place(cpu, &rope, HeadsMut::new(&mut z, shape)); // turns back
/// assert!((z[0] - 1.0).abs() < 1e-6 && z[1].abs() < 1e-6);
/// ```
///
/// # Panics
/// Where there is not one position a token, a position lies outside the table, or more pairs turn than a head
/// has.
pub fn in_place(cpu: Cpu, rope: &Rope, x: HeadsMut<'_>) {
    rope.check(x.shape());
    cpu.run(Rotate { rope, sense: Sense::Forth, from: None, to: x });
}

/// Rotates every head of every token from `x` to `y`; dimensions that do not turn are copied.
///
/// # Panics
/// As [`in_place`], and where the shapes differ.
pub fn apply(cpu: Cpu, rope: &Rope, x: HeadsRef<'_>, y: HeadsMut<'_>) {
    assert!(x.shape() == y.shape(), "input is {x:?}, output is {y:?}");
    rope.check(y.shape());
    cpu.run(Rotate { rope, sense: Sense::Forth, from: Some(x), to: y });
}

/// The gradient of [`apply`]: dx from dy, by the transposed rotation (sin negated; a scale in the table stays). Where
/// dy lies.
///
/// # Panics
/// As [`in_place`].
pub fn backward_in_place(cpu: Cpu, rope: &Rope, dy: HeadsMut<'_>) {
    rope.check(dy.shape());
    cpu.run(Rotate { rope, sense: Sense::Back, from: None, to: dy });
}

/// Which way a rotation goes.
#[derive(Clone, Copy)]
enum Sense {
    /// By the angle.
    Forth,
    /// By its negative.
    Back,
}

impl Sense {
    /// What the bits of sin are changed by.
    const fn sign(self) -> i32 {
        match self {
            Sense::Forth => 0,
            Sense::Back => i32::MIN,
        }
    }
}

struct Rotate<'a> {
    rope: &'a Rope<'a>,
    sense: Sense,
    from: Option<HeadsRef<'a>>,
    to: HeadsMut<'a>,
}

impl Kernel for Rotate<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let (Rope { table, pairing, positions }, [batch, ..]) = (self.rope, self.to.shape());
        for (b, token) in (0..batch).flat_map(|b| (0..positions.len()).map(move |token| (b, token))) {
            // (heads, head_dim)
            let mut x = self.to.token(b, token);
            if let Some(from) = &self.from {
                // A token's heads fit the first-level cache: copied here, turned there.
                copy(from.token(b, token), &mut x);
            }
            let row = positions[token] as usize * table.pairs;
            let part = row..row + table.pairs;
            let turn = Turn { cos: &table.cos[part.clone()], sin: &table.sin[part], sense: self.sense };
            match (x.as_ref().has_rows(), pairing) {
                (true, Pairing::Half) => turn_halves(s, &turn, &mut x),
                (true, Pairing::Interleaved) => turn_neighbours(s, &turn, &mut x),
                (false, _) => turn_one_by_one(*pairing, &turn, &mut x),
            }
        }
    }
}

/// One token's row of the table, each (pairs).
struct Turn<'a> {
    cos: &'a [f32],
    sin: &'a [f32],
    sense: Sense,
}

fn copy(from: MatRef<'_>, to: &mut MatMut<'_>) {
    for h in 0..to.rows() {
        match (from.row(h), to.row(h)) {
            (Some(from), Some(to)) => to.copy_from_slice(from),
            _ => (0..to.cols()).for_each(|d| *to.at(h, d) = from.get(h, d)),
        }
    }
}

/// All heads of a token, pairs (i, i + n/2): a line of the table at a time.
#[inline(always)]
fn turn_halves<S: Simd>(s: S, turn: &Turn<'_>, x: &mut MatMut<'_>) {
    let (pairs, sense) = (turn.cos.len(), s.splat_i(turn.sense.sign()));
    for at in (0..pairs).step_by(LANES) {
        let n = LANES.min(pairs - at);
        let (cos, sin) = (read(s, turn.cos, at, n), read(s, turn.sin, at, n));
        let sin = s.of_bits(s.xor_i(s.bits(sin), sense));
        for h in 0..x.rows() {
            let x = x.row(h).unwrap_or(&mut []);
            let (a, b) = (read(s, x, at, n), read(s, x, pairs + at, n));
            write(s, x, at, n, s.nfma(b, sin, s.mul(a, cos)));
            write(s, x, pairs + at, n, s.fma(a, sin, s.mul(b, cos)));
        }
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

/// All heads of a token, pairs (2i, 2i + 1): half a line of the table at a time.
#[inline(always)]
fn turn_neighbours<S: Simd>(s: S, turn: &Turn<'_>, x: &mut MatMut<'_>) {
    let (pairs, sense) = (turn.cos.len(), s.splat_i(turn.sense.sign()));
    let sign = s.xor_i(s.load_i(&EVEN), sense);
    for at in (0..2 * pairs).step_by(LANES) {
        let (first, n) = (at / 2 / LANES * LANES, LANES.min(2 * pairs - at));
        let (c, d) = (read_line(s, turn.cos, first), read_line(s, turn.sin, first));
        let index = s.load_i(&DOUBLED[at / LANES % 2]);
        let cos = s.lut16(index, c);
        // The first of a pair subtracts: its sin is negated (going back, that of the second).
        let sin = s.of_bits(s.xor_i(s.bits(s.lut16(index, d)), sign));
        for h in 0..x.rows() {
            let x = x.row(h).unwrap_or(&mut []);
            let v = read(s, x, at, n);
            write(s, x, at, n, s.fma(s.swap(v), sin, s.mul(v, cos)));
        }
    }
}

/// All heads of a token whose dimensions do not lie side by side.
fn turn_one_by_one(pairing: Pairing, turn: &Turn<'_>, x: &mut MatMut<'_>) {
    let (pairs, sense) = (turn.cos.len(), turn.sense.sign() as u32);
    for h in 0..x.rows() {
        for (i, (&cos, &sin)) in turn.cos.iter().zip(turn.sin).enumerate() {
            let sin = f32::from_bits(sin.to_bits() ^ sense);
            let (j, k) = match pairing {
                Pairing::Half => (i, i + pairs),
                Pairing::Interleaved => (2 * i, 2 * i + 1),
            };
            let (a, b) = (x.as_ref().get(h, j), x.as_ref().get(h, k));
            *x.at(h, j) = fma(-b, sin, a * cos);
            *x.at(h, k) = fma(a, sin, b * cos);
        }
    }
}

/// The line of `x` from `at` on, zeros past its end.
#[inline(always)]
fn read_line<S: Simd>(s: S, x: &[f32], at: usize) -> S::F32 {
    read(s, x, at, LANES.min(x.len() - at))
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
