//! The work of the second pass, cut by shape, and which queries each key is seen by. What is done: `lanes.rs`.

use super::super::mask::{Kind, Live, below, hidden, interval, word_of};
use super::super::pieces::Tokens;
use super::super::{Additive, BLOCK, Keep, ROWS, Sequences};
use super::{AttentionBackward, lanes};
use crate::simd::Simd;
use crate::view::{BATCH, HEADS, HeadsMut, HeadsRef, MatRef, TOKENS};
use crate::{Cpu, LANES, Line};
use core::ops::Range;

/// Up to 48 keys of a key head, and padding before and after them: their dK and dV.
pub struct KeyPiece<'a> {
    pub(super) of: AttentionBackward<'a>,
    pub(super) delta: HeadsRef<'a>,
    pub(super) sequence: usize,
    pub(super) tokens: Tokens,
    pub(super) kv_head: usize,
    /// The first key, and how many, counted in the sequence.
    pub(super) first: usize,
    pub(super) n: usize,
    /// Rows of padding before the keys.
    pub(super) before: usize,
    /// (1, 1, tokens, qk_dim) and (…, v_dim)
    pub(super) dk: HeadsMut<'a>,
    pub(super) dv: HeadsMut<'a>,
}

/// The pieces of the second pass, in order: sequences, key heads, keys.
pub struct KeyPieces<'a> {
    of: AttentionBackward<'a>,
    delta: HeadsRef<'a>,
    /// Not begun: sequences, heads of this one, tokens of this head.
    sequences: [HeadsMut<'a>; 2],
    heads: [HeadsMut<'a>; 2],
    keys: [HeadsMut<'a>; 2],
    /// The next piece.
    sequence: usize,
    kv_head: usize,
    first: usize,
}

/// Takes the front of both.
fn take<'a>(x: &mut [HeadsMut<'a>; 2], axis: usize, n: usize) -> [HeadsMut<'a>; 2] {
    let [dk, dv] = x;
    [dk.take_front(axis, n), dv.take_front(axis, n)]
}

impl<'a> KeyPieces<'a> {
    pub(super) fn new(
        of: AttentionBackward<'a>,
        delta: HeadsRef<'a>,
        dk: HeadsMut<'a>,
        dv: HeadsMut<'a>,
    ) -> Self {
        let mut sequences = [dk, dv];
        let heads = take(&mut sequences, BATCH, 0);
        let keys = take(&mut sequences, BATCH, 0);
        let mut pieces = KeyPieces { of, delta, sequences, heads, keys, sequence: 0, kv_head: 0, first: 0 };
        if of.options.sequences.count(of.q.shape()[BATCH]) > 0 && of.k.shape()[HEADS] > 0 {
            pieces.begin_sequence();
        }
        pieces
    }

    fn tokens(&self) -> Tokens {
        let lengths = (self.of.q.shape()[TOKENS], self.of.k.shape()[TOKENS]);
        self.of.options.sequences.tokens(self.sequence, lengths)
    }

    fn begin_sequence(&mut self) {
        self.heads = match self.of.options.sequences {
            Sequences::Packed { .. } => {
                let n = self.tokens().keys.len();
                take(&mut self.sequences, TOKENS, n)
            }
            _ => take(&mut self.sequences, BATCH, 1),
        };
        self.kv_head = 0;
        self.begin_head();
    }

    fn begin_head(&mut self) {
        self.keys = take(&mut self.heads, HEADS, 1);
        self.first = 0;
    }
}

impl<'a> Iterator for KeyPieces<'a> {
    type Item = KeyPiece<'a>;

    fn next(&mut self) -> Option<KeyPiece<'a>> {
        let count = self.of.options.sequences.count(self.of.q.shape()[BATCH]);
        while self.keys[0].shape()[TOKENS] == 0 {
            self.kv_head += 1;
            if self.kv_head < self.of.k.shape()[HEADS] {
                self.begin_head();
            } else if self.sequence + 1 < count {
                self.sequence += 1;
                self.begin_sequence();
            } else {
                return None;
            }
        }
        let tokens = self.tokens();
        let n = (tokens.keys.len() - self.first).min(ROWS);
        // Padding goes with the first keys and with the last.
        let before = if self.first == 0 { tokens.key } else { 0 };
        let last = self.first + n == tokens.keys.len();
        let rows = if last { self.keys[0].shape()[TOKENS] } else { before + n };
        let [dk, dv] = take(&mut self.keys, TOKENS, rows);
        let &mut KeyPieces { of, delta, sequence, kv_head, first, .. } = self;
        self.first += n;
        Some(KeyPiece { of, delta, sequence, tokens, kv_head, first, n, before, dk, dv })
    }
}

impl KeyPiece<'_> {
    /// Computes this part of dK and dV.
    ///
    /// # Panics
    /// Where `scratch` is shorter than [`backward_scratch_len`](super::backward_scratch_len).
    pub fn run(self, cpu: Cpu, scratch: &mut [Line]) {
        let needed = super::backward_scratch_len(self.of.k.shape()[3], self.of.v.shape()[3]);
        assert!(scratch.len() >= needed, "attention: {} lines of scratch, needed {needed}", scratch.len());
        cpu.run(lanes::Run { piece: self, scratch });
    }

    /// The queries of one head that exist, (queries, cols).
    pub(super) fn queries<'x>(&self, x: &HeadsRef<'x>, head: usize) -> MatRef<'x> {
        let Tokens { row, tokens, exist, .. } = &self.tokens;
        let x = x.head(*row, head);
        x.sub(tokens.start + exist.start..tokens.start + exist.end, 0..x.cols())
    }

    /// Where query `i` stands among the keys.
    pub(super) fn position(&self, i: usize) -> isize {
        let (queries, keys) = (self.tokens.exist.len(), self.tokens.keys.len());
        self.of.options.align.position(queries, keys) + i as isize
    }

    /// The lanes that the pattern lets query `i` see.
    fn lanes(&self, i: usize) -> u64 {
        let (low, high) = interval(self.of.options.pattern, self.position(i), self.tokens.keys.len());
        let upto = |key: usize| below(key.saturating_sub(self.first));
        upto(high) & !upto(low) & below(self.n)
    }

    /// The queries of block `b` that each lane sees, one bit each, left untouched where they are all.
    #[inline(always)]
    pub(super) fn visible<S: Simd>(&self, s: S, head: usize, b: usize, live: &mut Live) -> Kind {
        let options = &self.of.options;
        let queries = b * BLOCK..self.tokens.exist.len().min((b + 1) * BLOCK);
        let masked = options.keep.is_some() || options.additive.is_some();
        let ends = (self.lanes(queries.start), self.lanes(queries.end - 1));
        let all = below(self.n);
        // The ends of what a query sees ascend with it.
        if !masked && queries.len() == BLOCK && ends == (all, all) {
            return Kind::Whole;
        }
        let mut rows = [0; BLOCK];
        for (row, i) in rows.iter_mut().zip(queries) {
            *row = self.lanes(i);
            if masked && *row != 0 {
                *row &= self.unmasked(s, head, i);
            }
        }
        let any = rows.iter().fold(0, |any, row| any | row);
        if any == 0 {
            return Kind::Masked;
        }
        turn(&mut rows);
        live.copy_from_slice(&rows[..ROWS]);
        Kind::Mixed
    }

    /// The lanes that the masks let query `i` see. Lanes without a key come out as any bit.
    #[inline(always)]
    fn unmasked<S: Simd>(&self, s: S, head: usize, i: usize) -> u64 {
        let mut bits = u64::MAX;
        let query = self.tokens.exist.start + i;
        for at in (0..self.n).step_by(LANES) {
            if let Some(Keep(mask)) = self.of.options.keep {
                let word = s.load_u8(&word_of(mask.head(self.sequence, head), query, self.word(at)));
                bits &= !(hidden(s, s.gt_i(word, s.splat_i(0))) << at);
            }
            if let Some(Additive(mask)) = self.of.options.additive {
                let word = s.load(&word_of(mask.head(self.sequence, head), query, self.word(at)));
                bits &= hidden(s, s.eq(word, s.splat(f32::NEG_INFINITY))) << at | !(0xffff << at);
            }
        }
        bits
    }

    /// The keys of up to sixteen lanes from `at` on, as masks count.
    pub(super) fn word(&self, at: usize) -> Range<usize> {
        let start = self.tokens.key + self.first + at;
        start..start + LANES.min(self.n.saturating_sub(at))
    }
}

/// Rows to columns of a matrix of bits: bit c of row r becomes bit r of row c (Warren, *Hacker's Delight*, 7-3).
fn turn(rows: &mut [u64; BLOCK]) {
    let (mut half, mut mask) = (32, u64::from(u32::MAX));
    while half > 0 {
        let mut r = 0;
        while r < BLOCK {
            let swap = (rows[r] >> half ^ rows[r + half]) & mask;
            rows[r] ^= swap << half;
            rows[r + half] ^= swap;
            r = (r + half + 1) & !half;
        }
        half /= 2;
        mask ^= mask << half;
    }
}
