//! How sixty-four bytes of a row meet those of a query, code by code.
//!
//! ```text
//!   row, 64 bytes   int8   ──────────────── xor FLIP ──────────────────────► 64 codes
//!                   NF4    high nibbles ─► lut_bytes, of levels xor FLIP ──► 64 codes;  low nibbles likewise
//!                   binary ─ xor query ─► ones of the high nibbles + of the low ─► 64 counts, which meet ones
//!   query           64 codes in that very order, made once (`QueryCodes`): as bytes │ even ones, odd ones as half words
//!   sums            Σ q·(w + 128) where FLIP is 0x80, for `vpdpbusd` takes rows without sign: less 128·Σ q, once a row
//! ```
//!
//! What a tier multiplies bytes with is a matter of [`Quads`]: [`Quads::dot_each`] takes the bytes, or the half words.

use super::QueryCodes;
use crate::cpu::Kernel;
use crate::nf4::LEVELS_127;
use crate::simd::Simd;
use crate::simd::quads::Quads;
use crate::{LANES, Line};

/// Lines of sixty-four codes of a query: as they are, the even ones and the odd ones as half words.
pub(super) const TRIPLE: usize = 3;

/// The codes of a query where [`Triples`] finds them, and the line behind them.
pub(super) struct Triples<'a> {
    /// Of each three the first is read, the others are written; then one whose first integer becomes 128 times the sum.
    pub lines: &'a mut [Line],
}

impl Kernel for Triples<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (triples, last) = self.lines.as_chunks_mut::<TRIPLE>();
        let mut sums = s.splat_i(0);
        for [codes, even, odd] in triples {
            let codes = word(s, codes);
            let halves = [s.even_bytes(codes), s.odd_bytes(codes)];
            s.store(even, s.of_bits(halves[0]));
            s.store(odd, s.of_bits(halves[1]));
            let ones = s.splat_i(0x0001_0001);
            sums = s.dot_halves(halves[1], ones, s.dot_halves(halves[0], ones, sums));
        }
        let whole = s.sum_rows_i([sums; LANES]);
        s.store(&mut last[0], s.of_bits(s.shl::<7>(whole)));
    }
}

/// How sixty-four bytes of a row meet those of a query.
pub(super) trait Format: Copy {
    /// What is made of a row's bytes, once for all queries.
    type Parts<S: Simd, Q: Quads<S>>: Copy;
    /// Lines of the query.
    const LINES: usize;
    /// Whether rows are so long that they are asked for ahead, side by side as they lie.
    const ASKED: bool;
    fn split<S: Simd, Q: Quads<S>>(self, s: S, q: Q, bytes: S::I32) -> Self::Parts<S, Q>;
    fn add<S: Simd, Q: Quads<S>>(
        self,
        words: (S, Q),
        sums: Q::Sums,
        parts: Self::Parts<S, Q>,
        query: &[Line],
    ) -> Q::Sums;
    /// By how much a query's sums are too large, of rows whose codes are flipped.
    #[inline(always)]
    fn surplus(self, query: &QueryCodes) -> i32 {
        query.lines.last().map_or(0, |line| line.0[0].to_bits() as i32)
    }
    /// I, of the sums of all lanes, rows of `k` elements.
    #[inline(always)]
    fn finish<S: Simd>(self, _: S, sums: S::I32, _k: usize) -> S::I32 {
        sums
    }
}

#[derive(Clone, Copy)]
pub(super) struct Int8;
#[derive(Clone, Copy)]
pub(super) struct Nf4;
#[derive(Clone, Copy)]
pub(super) struct Binary;

/// Sixteen integers of a query.
#[inline(always)]
fn word<S: Simd>(s: S, line: &Line) -> S::I32 {
    s.bits(s.load(&line.0))
}

/// Sixty-four codes of a query, as the tier's product takes them.
#[inline(always)]
fn quads<S: Simd, Q: Quads<S>>(s: S, triple: &[Line]) -> [S::I32; 2] {
    if Q::SPLITS { [word(s, &triple[1]), word(s, &triple[2])] } else { [word(s, &triple[0]); 2] }
}

impl Format for Int8 {
    type Parts<S: Simd, Q: Quads<S>> = Q::Right;
    const LINES: usize = TRIPLE;
    const ASKED: bool = true;
    #[inline(always)]
    fn split<S: Simd, Q: Quads<S>>(self, s: S, q: Q, bytes: S::I32) -> Q::Right {
        q.flipped(s, s.xor_i(bytes, s.splat_bytes(&[Q::FLIP; 16])))
    }
    #[inline(always)]
    fn add<S: Simd, Q: Quads<S>>(
        self,
        (s, q): (S, Q),
        sums: Q::Sums,
        codes: Q::Right,
        query: &[Line],
    ) -> Q::Sums {
        q.dot_each(s, quads::<S, Q>(s, query), codes, sums)
    }
}

/// Bytes of a nibble each: the high ones, the low ones.
#[inline(always)]
fn nibbles<S: Simd>(s: S, bytes: S::I32) -> [S::I32; 2] {
    let low = s.splat_i(0x0f0f_0f0f);
    [s.and_i(s.shr::<4>(bytes), low), s.and_i(bytes, low)]
}

/// The codes of NF4's high nibbles, and of the low ones, each xored with `flip`: a byte each.
#[inline(always)]
pub(super) fn nf4_codes<S: Simd>(s: S, bytes: S::I32, flip: u8) -> [S::I32; 2] {
    let mut levels = [0; 16];
    for i in 0..16 {
        levels[i] = LEVELS_127[i] as u8 ^ flip;
    }
    let levels = s.splat_bytes(&levels);
    let [high, low] = nibbles(s, bytes);
    [s.lut_bytes(high, levels), s.lut_bytes(low, levels)]
}

impl Format for Nf4 {
    type Parts<S: Simd, Q: Quads<S>> = [Q::Right; 2];
    const LINES: usize = 2 * TRIPLE;
    const ASKED: bool = true;
    #[inline(always)]
    fn split<S: Simd, Q: Quads<S>>(self, s: S, q: Q, bytes: S::I32) -> [Q::Right; 2] {
        let [high, low] = nf4_codes(s, bytes, Q::FLIP);
        [q.flipped(s, high), q.flipped(s, low)]
    }
    #[inline(always)]
    fn add<S: Simd, Q: Quads<S>>(
        self,
        (s, q): (S, Q),
        mut sums: Q::Sums,
        codes: [Q::Right; 2],
        query: &[Line],
    ) -> Q::Sums {
        for i in 0..2 {
            sums = q.dot_each(s, quads::<S, Q>(s, &query[TRIPLE * i..]), codes[i], sums);
        }
        sums
    }
}

/// Ones of a nibble.
const ONES: [u8; 16] = [0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4];

impl Format for Binary {
    type Parts<S: Simd, Q: Quads<S>> = S::I32;
    const LINES: usize = 1;
    const ASKED: bool = false;
    #[inline(always)]
    fn split<S: Simd, Q: Quads<S>>(self, _: S, _: Q, bytes: S::I32) -> S::I32 {
        bytes
    }
    #[inline(always)]
    fn add<S: Simd, Q: Quads<S>>(
        self,
        (s, q): (S, Q),
        sums: Q::Sums,
        bytes: S::I32,
        query: &[Line],
    ) -> Q::Sums {
        let ones = s.splat_bytes(&ONES);
        let [high, low] = nibbles(s, s.xor_i(bytes, word(s, &query[0])));
        // At most 8 in a byte: the same with a sign and without, and nothing is flipped.
        let counts = s.add_i(s.lut_bytes(high, ones), s.lut_bytes(low, ones));
        q.dot_each(s, q.split(s, s.splat_i(0x0101_0101)), q.flipped(s, counts), sums)
    }
    #[inline(always)]
    fn surplus(self, _: &QueryCodes) -> i32 {
        0
    }
    #[inline(always)]
    fn finish<S: Simd>(self, s: S, sums: S::I32, k: usize) -> S::I32 {
        s.sub_i(s.splat_i(k as i32), s.shl::<1>(sums))
    }
}
