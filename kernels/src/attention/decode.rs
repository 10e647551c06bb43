//! Decode: up to 4 rows, (query, head of the group), share one pass over their keys and values.
//!
//! ```text
//!   a run of 2,048 keys:
//!   scores   16 keys × 16 components, transposed in registers:  S[r][keys] = Σ_d q[r][d] (broadcast) × kᵀ[d]
//!   and of its blocks, one by one:
//!   softmax  along the four words of a row
//!   values   O[r][c..c + 16] = α × O[r] + Σ_j p[r][j] (broadcast) × v[j][c..c + 16]
//! ```
//!
//! Keys and values come from memory once, and that is what takes the time: all keys of a run are read before
//! its values, so that memory sees two long streams, one after the other (`ahead.rs`). Every number is made in
//! the order of `prefill.rs`, so it has the same bits. Blocks of bf16 and int8 that every row sees are decoded in
//! registers (`stored.rs`), others to scratch first.

#![allow(clippy::needless_range_loop)] // rows, words and lanes are indices into several arrays at once

mod ahead;
mod scores;
mod values;

use super::class::Class;
use super::mask::{Kind, Visible};
use super::rows::{Spare, carve, read};
use super::softmax::{State, one_key, rescale};
use super::stored::{Cells, StoredRows};
use super::{Additive, BLOCK, Piece, Products, ROWS, words};
use crate::math::{exp::exp_or_nothing, tanh::tanh};
use crate::simd::Simd;
use crate::{Kernel, LANES, Line};
use ahead::Ahead;
use core::array::from_fn;
use core::ops::Range;
use scores::Score;
use values::Values;

/// Rows that are decoded together, at most; they are the lanes of one [`State`].
pub(super) const MAX_ROWS: usize = 4;

/// Blocks of a run.
const RUN: usize = 32;

/// Blocks of a run over so many keys: what no block fills takes no room.
const fn run_of(keys: usize) -> usize {
    let blocks = keys.div_ceil(BLOCK);
    if blocks < RUN { blocks } else { RUN }
}

/// Scores, then weights, of a row in a block.
type Scores = [Line; BLOCK / LANES];

/// See [`super::scratch_len`].
pub(super) const fn scratch_len(keys: usize, qk_dim: usize, v_dim: usize) -> usize {
    let a_row = words(qk_dim) + 4 * words(v_dim) + run_of(keys) * BLOCK / LANES;
    Spare::len(qk_dim, v_dim) + MAX_ROWS * a_row
}

/// `R` rows; values by tiles of all rows × `NV` words.
pub(super) struct Work<'a, 's, C, const R: usize, const NV: usize> {
    pub class: C,
    pub piece: Piece<'a>,
    pub scratch: &'s mut [Line],
}

impl<C: Class, const R: usize, const NV: usize> Kernel for Work<'_, '_, C, R, NV> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        Decode::<C, R>::run::<S, NV>(s, self.class, self.piece, self.scratch);
    }
}

/// `R` rows, some of which may be none.
struct Decode<'s, C, const R: usize> {
    class: C,
    /// (R, qk_dim), padded to words
    q: &'s [Line],
    /// (R, v_dim), padded to words
    o: &'s mut [Line],
    /// As many, while a block is added, and twice as many for its even and odd chains.
    sums: &'s mut [Line],
    /// Of the blocks of a run.
    scores: &'s mut [[Scores; R]],
    /// Rows are its lanes.
    state: State,
}

/// A block of keys in a run.
#[derive(Clone, Copy)]
struct Block<const R: usize> {
    /// Its number in the run.
    index: usize,
    /// Number of its first key.
    start: usize,
    kind: Kind,
    /// The keys that each row sees: bit a key.
    live: [u64; R],
    /// The keys that any row sees.
    any: u64,
}

impl<C: Class, const R: usize> Decode<'_, C, R> {
    #[inline(always)]
    fn run<S: Simd, const NV: usize>(s: S, class: C, mut piece: Piece<'_>, mut scratch: &mut [Line]) {
        let (d, v_dim) = (piece.k.cols(), piece.v.cols());
        let scratch = &mut scratch;
        let mut spare = Spare::new(scratch, d, v_dim);
        let q = carve(scratch, R * words(d));
        load(s, class, &piece, q);
        let o = carve(scratch, R * words(v_dim));
        o.fill(Line::ZERO);
        let run = run_of(piece.k.rows());
        let scores = carve(scratch, run * R * (BLOCK / LANES)).as_chunks_mut().0.as_chunks_mut().0;
        let sums = carve(scratch, 3 * R * words(v_dim));
        let mut rows = Decode::<C, R> { class, q, o, sums, scores, state: State::START };
        let visible = Visible::new(&piece);
        for first in visible.blocks().step_by(RUN) {
            let run = first..visible.blocks().end.min(first + RUN);
            let run = Run::look(s, &piece, &visible, run);
            rows.read_keys(s, &piece, &mut spare, &run);
            rows.read_values::<S, NV>(s, &piece, &mut spare, &run);
            for block in &run.blocks {
                for r in 0..R {
                    let sees = block.live[r] != 0 && visible.real >> r & 1 == 1;
                    rows.state.allowed |= u32::from(sees) << r;
                }
            }
        }
        rows.finish(s, &mut piece);
    }

    /// The scores of a run.
    #[inline(always)]
    fn read_keys<S: Simd>(&mut self, s: S, piece: &Piece<'_>, spare: &mut Spare<'_>, run: &Run<R>) {
        let ahead = &mut Ahead::new(&piece.k, run.whole.clone());
        // What is not stored as products read it is made so first.
        let exact = C::PRODUCTS == Products::F32;
        let (class, q, scale) = (self.class, self.q, piece.options.scale);
        for block in run.blocks.iter().filter(|block| block.kind != Kind::Masked) {
            let (out, first) = (&mut self.scores[block.index], block.start);
            // What can be read where it lies; each `Score` is a function of its own, and so small.
            match piece.k {
                _ if block.any != u64::MAX => {}
                StoredRows::F32(k) if k.x.has_rows() && exact => {
                    s.outline(Score { class, q, k, first, ahead, block, scale, out });
                    continue;
                }
                StoredRows::Bf16(k) if k.in_place::<S>(2) => {
                    s.outline(Score { class, q, k, first, ahead, block, scale, out });
                    continue;
                }
                StoredRows::Int8(k) if k.in_place::<S>(4) && exact => {
                    s.outline(Score { class, q, k, first, ahead, block, scale, out });
                    continue;
                }
                _ => {}
            }
            let k = Cells::plain(spare.keys(s, class, piece.k, (first, block.any)));
            s.outline(Score { class, q, k, first: 0, ahead: &mut Ahead::none(), block, scale, out });
        }
    }

    /// Block by block: the softmax's step, and the values.
    #[inline(always)]
    fn read_values<S: Simd, const NV: usize>(
        &mut self,
        s: S,
        piece: &Piece<'_>,
        spare: &mut Spare<'_>,
        run: &Run<R>,
    ) {
        let ahead = &mut Ahead::new(&piece.v, run.whole.clone());
        let (class, exact) = (self.class, C::PRODUCTS == Products::F32);
        for block in run.blocks.iter().filter(|block| block.kind != Kind::Masked) {
            self.bias(s, piece, block);
            self.hide(s, block);
            let alpha = self.weigh(s, block);
            let (p, o, sums) = (&self.scores[block.index], &mut *self.o, &mut *self.sums);
            let (whole, first) = (block.kind == Kind::Whole, block.start);
            match piece.v {
                StoredRows::Bf16(v) if whole && v.in_place::<S>(1) => {
                    s.outline(Values::<C, u16, R, NV> { class, o, sums, p, alpha, v, first, ahead });
                    continue;
                }
                StoredRows::Int8(v) if whole && v.in_place::<S>(1) && exact => {
                    s.outline(Values::<C, i8, R, NV> { class, o, sums, p, alpha, v, first, ahead });
                    continue;
                }
                _ => {}
            }
            let (v, first) = match piece.v {
                StoredRows::F32(v) if exact && (!whole || v.x.has_rows()) => (v, first),
                _ => (Cells::plain(spare.values(s, class, piece.v, (first, block.any))), 0),
            };
            let mut values = Values::<C, f32, R, NV> { class, o, sums, p, alpha, v, first, ahead };
            match block.kind {
                Kind::Whole => s.outline(values),
                _ => values.mixed(s, block),
            }
        }
    }

    /// What is done to the scores before masks.
    #[inline(always)]
    fn bias<S: Simd>(&mut self, s: S, piece: &Piece<'_>, block: &Block<R>) {
        let options = &piece.options;
        if options.softcap.is_none() && options.alibi.is_none() && options.additive.is_none() {
            return;
        }
        for r in 0..piece.rows() {
            for at in 0..BLOCK / LANES {
                let key = block.start + at * LANES;
                let line = &mut self.scores[block.index][r][at];
                let mut score = s.load(line);
                if let Some(cap) = options.softcap {
                    let cap = s.splat(cap);
                    score = s.mul(tanh(s, s.div(score, cap)), cap);
                }
                if let Some(slopes) = options.alibi {
                    let first = (key as isize - piece.position(r)) as i32;
                    let distance = s.of_i(s.load_i(&from_fn(|i| first + i as i32)));
                    score = s.fma(s.splat(slopes[piece.head(r)]), distance, score);
                }
                if let Some(Additive(mask)) = &options.additive {
                    let bias = piece.mask_word(piece.mask_head(mask, r), r, key);
                    score = s.add(score, s.load(&bias));
                }
                s.store(line, score);
            }
        }
    }

    /// −∞ where a row does not see a key.
    #[inline(always)]
    fn hide<S: Simd>(&mut self, s: S, block: &Block<R>) {
        for r in 0..R {
            for at in 0..BLOCK / LANES {
                let bits = (block.live[r] >> (at * LANES)) as u32 & 0xffff;
                if bits != 0xffff {
                    let line = &mut self.scores[block.index][r][at];
                    let none = s.splat(f32::NEG_INFINITY);
                    let score = s.select(s.mask_from_bits(bits), s.load(line), none);
                    s.store(line, score);
                }
            }
        }
    }

    /// Turns scores into weights, moves the state on, and returns α of every row.
    #[inline(always)]
    fn weigh<S: Simd>(&mut self, s: S, block: &Block<R>) -> [f32; LANES] {
        let scores = &mut self.scores[block.index];
        let mut max = [f32::NEG_INFINITY; LANES];
        for r in 0..R {
            let [a, b, c, d] = &scores[r];
            let (left, right) = (s.max(s.load(a), s.load(b)), s.max(s.load(c), s.load(d)));
            max[r] = s.max_lane(s.max(left, right));
        }
        let (m, base, alpha) = rescale(s, s.load(&self.state.m), s.load(&max));
        let base = s.to_array(base);
        let mut sums = [0.0; LANES];
        for r in 0..R {
            let mut chains = s.splat(0.0);
            for line in &mut scores[r] {
                let weight = exp_or_nothing(s, s.sub(s.load(line), s.splat(base[r])));
                s.store(line, self.class.operand(s, weight));
                chains = s.add(chains, weight);
            }
            sums[r] = s.sum(chains);
        }
        self.state.set(s, m, alpha, s.load(&sums));
        s.to_array(alpha)
    }

    /// The sinks, o ÷ l, and the rows of the output.
    #[inline(always)]
    fn finish<S: Simd>(&mut self, s: S, piece: &mut Piece<'_>) {
        self.state.forget_others(s);
        let width = self.o.len() / R;
        if let Some(sinks) = piece.options.sinks {
            let row = |r: usize| r.min(piece.rows() - 1);
            let sink = s.load(&from_fn(|r| sinks[piece.head(row(r))]));
            let alpha = s.to_array(one_key(s, &mut self.state, sink));
            for (i, o) in self.o.iter_mut().enumerate() {
                let new = s.fma(s.load(o), s.splat(alpha[i / width]), s.splat(0.0));
                s.store(o, new);
            }
        }
        let lse = self.state.log_sum_exp(s);
        for r in 0..piece.rows() {
            piece.set_lse(r, lse[r]);
            let allowed = self.state.allowed >> r & 1 == 1;
            for w in 0..width {
                let out = s.div(s.load(&self.o[r * width + w]), s.splat(self.state.l[r]));
                piece.set_out(s, r, w * LANES, if allowed { out } else { s.splat(0.0) });
            }
        }
    }
}

/// The rows of q, padded with zeros to words; zeros where there is no row.
#[inline(always)]
fn load<S: Simd, C: Class>(s: S, class: C, piece: &Piece<'_>, q: &mut [Line]) {
    q.fill(Line::ZERO);
    let width = words(piece.k.cols());
    for r in 0..piece.rows() {
        for w in 0..width {
            let word = read(s, piece.q.head(0, piece.local_head(r)), piece.query(r), w * LANES);
            s.store(&mut q[r * width + w], class.operand(s, word));
        }
    }
}

/// Some blocks, one after another; those past the last key are masked.
struct Run<const R: usize> {
    blocks: [Block<R>; RUN],
    /// The keys of its first blocks, as far as every key is read: they are read ahead.
    whole: Range<usize>,
}

impl<const R: usize> Run<R> {
    /// What each row sees of the blocks `run`.
    #[inline(always)]
    fn look<S: Simd>(s: S, piece: &Piece<'_>, visible: &Visible, run: Range<usize>) -> Self {
        let none = Block { index: 0, start: 0, kind: Kind::Masked, live: [0; R], any: 0 };
        let mut blocks = [none; RUN];
        let mut live = [0; ROWS];
        for (index, (b, block)) in run.clone().zip(&mut blocks).enumerate() {
            let kind = visible.block(s, piece, b, &mut live);
            if kind == Kind::Whole {
                live.fill(u64::MAX);
            }
            let live = from_fn(|r| live[r]);
            let any = live.iter().fold(0, |any, live| any | live);
            *block = Block { index, start: b * BLOCK, kind, live, any };
        }
        let whole = blocks.iter().take_while(|block| block.any == u64::MAX).count();
        Run { blocks, whole: run.start * BLOCK..(run.start + whole) * BLOCK }
    }
}
