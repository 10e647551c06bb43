//! Decode: up to 4 rows, (query, head of the group), share one pass over their keys and values.
//!
//! ```text
//!   scores   16 keys × 16 components, transposed in registers:  S[r][keys] = Σ_d q[r][d] (broadcast) × kᵀ[d]
//!   softmax  along the four words of a row
//!   values   O[r][c..c + 16] = α × O[r] + Σ_j p[r][j] (broadcast) × v[j][c..c + 16]
//! ```
//!
//! Keys and values come from memory once and little else does: 64 shuffles for 16 lines of keys hide behind
//! them. Every number is made in the order of `prefill.rs`, so it has the same bits.

#![allow(clippy::needless_range_loop)] // rows, words and lanes are indices into several arrays at once

use super::mask::{Kind, Live, Visible};
use super::rows::{Rows, Spare, carve, read, word};
use super::softmax::{State, one_key, rescale};
use super::{Additive, BLOCK, K_BLOCK, Piece, ROWS, words};
use crate::math::{exp::exp, tanh::tanh};
use crate::simd::Simd;
use crate::{Kernel, LANES, Line};
use core::array::from_fn;

/// Rows that are decoded together, at most; they are the lanes of one [`State`].
pub(super) const MAX_ROWS: usize = 4;

/// Scores, then weights, of a row in a block.
type Scores = [Line; BLOCK / LANES];

/// See [`super::scratch_len`].
pub(super) const fn scratch_len(qk_dim: usize, v_dim: usize) -> usize {
    Spare::len(qk_dim, v_dim) + MAX_ROWS * (words(qk_dim) + words(v_dim))
}

/// Runs `piece`: for values, rows × words as the registers hold.
#[inline(always)]
pub(super) fn decode<S: Simd>(s: S, piece: Piece<'_>, scratch: &mut [Line]) {
    match (S::TILE, piece.rows()) {
        ((_, 2), 1) => s.outline(Work::<1, 1, 8> { piece, scratch }),
        ((_, 2), _) => s.outline(Work::<4, 4, 2> { piece, scratch }),
        (_, 1) => s.outline(Work::<1, 1, 4> { piece, scratch }),
        _ => s.outline(Work::<4, 4, 1> { piece, scratch }),
    }
}

/// `R` rows; values by tiles of `G` rows × `NV` words.
struct Work<'a, 's, const R: usize, const G: usize, const NV: usize> {
    piece: Piece<'a>,
    scratch: &'s mut [Line],
}

impl<const R: usize, const G: usize, const NV: usize> Kernel for Work<'_, '_, R, G, NV> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        Decode::<R>::run::<S, G, NV>(s, self.piece, self.scratch);
    }
}

/// `R` rows, some of which may be none.
struct Decode<'s, const R: usize> {
    /// (R, qk_dim), padded to words
    q: &'s [Line],
    /// (R, v_dim), padded to words
    o: &'s mut [Line],
    scores: [Scores; R],
    /// Rows are its lanes.
    state: State,
}

/// What a block needs to know to ask memory for the next.
struct Ask {
    /// Of the scores.
    scale: f32,
    /// Floats from a row to that of the next block, of keys and of values.
    ahead: [isize; 2],
}

impl Ask {
    /// Key and value `j` of the next block.
    #[inline(always)]
    fn row<S: Simd>(&self, s: S, rows: &Rows<'_, BLOCK>, j: usize) {
        for (row, ahead) in [(rows.k[j], self.ahead[0]), (rows.v[j], self.ahead[1])] {
            for word in row.as_chunks::<LANES>().0 {
                s.prefetch_far(word.as_ptr().wrapping_offset(ahead));
            }
        }
    }
}

impl<const R: usize> Decode<'_, R> {
    #[inline(always)]
    fn run<S: Simd, const G: usize, const NV: usize>(s: S, mut piece: Piece<'_>, mut scratch: &mut [Line]) {
        let (d, v_dim) = (piece.k.cols(), piece.v.cols());
        let scratch = &mut scratch;
        let mut spare = Spare::new(scratch, d, v_dim);
        let q = carve(scratch, R * words(d));
        load(s, &piece, q);
        let o = carve(scratch, R * words(v_dim));
        o.fill(Line::ZERO);
        let mut rows = Decode { q, o, scores: [[Line::ZERO; _]; R], state: State::START };
        let ahead = [&piece.k, &piece.v].map(|x| BLOCK as isize * x.row_stride());
        let ask = Ask { scale: piece.options.scale, ahead };
        let visible = Visible::new(&piece);
        let mut live = [0; ROWS];
        for b in visible.blocks() {
            let kind = visible.block(s, &piece, b, &mut live);
            match kind {
                Kind::Masked => continue,
                Kind::Whole => live[..R].fill(u64::MAX),
                Kind::Mixed => {}
            }
            let any = live[..R].iter().fold(0, |any, live| any | live);
            let block: Rows<'_, BLOCK> = spare.block(piece.k, piece.v, b * BLOCK, any);
            for at in 0..BLOCK / LANES {
                if any >> (at * LANES) & 0xffff != 0 {
                    rows.score(s, &block, at, &ask);
                }
            }
            rows.bias(s, &piece, b * BLOCK);
            rows.hide(s, &live);
            let alpha = rows.weigh(s);
            if kind == Kind::Whole {
                rows.values::<S, G, NV>(s, &block.v, &alpha);
            } else {
                rows.mixed_values(s, &block.v, &alpha, &live);
            }
            for r in 0..R {
                rows.state.allowed |= u32::from(live[r] != 0 && visible.real >> r & 1 == 1) << r;
            }
        }
        rows.finish(s, &mut piece);
    }

    /// The sixteen keys `at`: clause 1, then the scale. What the next block will read is asked for meanwhile,
    /// line after line as it lies, so that memory sees plain streams.
    #[inline(always)]
    fn score<S: Simd>(&mut self, s: S, rows: &Rows<'_, BLOCK>, at: usize, ask: &Ask) {
        let (zero, width) = (s.splat(0.0), self.q.len() / R);
        let k: &[&[f32]; LANES] = rows.k[at * LANES..].first_chunk().expect("16 keys");
        let whole = k[0].len() / LANES;
        let k_words: [&[[f32; LANES]]; LANES] = from_fn(|i| &k[i].as_chunks().0[..whole]);
        let (mut sum, mut asked) = ([zero; R], 0);
        for first in (0..width).step_by(K_BLOCK / LANES) {
            let mut acc = [zero; R];
            let end = width.min(first + K_BLOCK / LANES);
            for w in first..end.min(whole) {
                while asked * whole < (w + 1) * LANES {
                    ask.row(s, rows, at * LANES + asked);
                    asked += 1;
                }
                let mut rows = [zero; LANES];
                for i in 0..LANES {
                    rows[i] = s.load(&k_words[i][w]);
                }
                self.add_products(s, s.transpose(rows), w, &mut acc);
            }
            for w in whole.max(first)..end {
                // Components past the last are zeros, which no chain notices that ends in a sum with +0.
                let mut rows = [zero; LANES];
                for i in 0..LANES {
                    rows[i] = s.load_tail(&k[i][w * LANES..], 0.0);
                }
                self.add_products(s, s.transpose(rows), w, &mut acc);
            }
            for r in 0..R {
                sum[r] = s.add(sum[r], acc[r]);
            }
        }
        for r in 0..R {
            s.store(&mut self.scores[r][at], s.mul(sum[r], s.splat(ask.scale)));
        }
    }

    /// The chains of sixteen keys over sixteen components.
    #[inline(always)]
    fn add_products<S: Simd>(&self, s: S, columns: [S::F32; LANES], w: usize, acc: &mut [S::F32; R]) {
        let width = self.q.len() / R;
        for r in 0..R {
            let q = &self.q[r * width + w];
            for i in 0..LANES {
                acc[r] = s.fma(columns[i], s.splat(q[i]), acc[r]);
            }
        }
    }

    /// What is done to the scores before masks.
    #[inline(always)]
    fn bias<S: Simd>(&mut self, s: S, piece: &Piece<'_>, start: usize) {
        let options = &piece.options;
        if options.softcap.is_none() && options.alibi.is_none() && options.additive.is_none() {
            return;
        }
        for r in 0..piece.rows() {
            for at in 0..BLOCK / LANES {
                let key = start + at * LANES;
                let mut score = s.load(&self.scores[r][at]);
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
                s.store(&mut self.scores[r][at], score);
            }
        }
    }

    /// −∞ where a row does not see a key.
    #[inline(always)]
    fn hide<S: Simd>(&mut self, s: S, live: &Live) {
        for r in 0..R {
            for at in 0..BLOCK / LANES {
                let bits = (live[r] >> (at * LANES)) as u32 & 0xffff;
                if bits != 0xffff {
                    let score = s.load(&self.scores[r][at]);
                    let none = s.splat(f32::NEG_INFINITY);
                    let score = s.select(s.mask_from_bits(bits), score, none);
                    s.store(&mut self.scores[r][at], score);
                }
            }
        }
    }

    /// Turns scores into weights, moves the state on, and returns α of every row.
    #[inline(always)]
    fn weigh<S: Simd>(&mut self, s: S) -> [f32; LANES] {
        let mut max = [f32::NEG_INFINITY; LANES];
        for r in 0..R {
            let [a, b, c, d] = &self.scores[r];
            let (left, right) = (s.max(s.load(a), s.load(b)), s.max(s.load(c), s.load(d)));
            max[r] = s.max_lane(s.max(left, right));
        }
        let (m, base, alpha) = rescale(s, s.load(&self.state.m), s.load(&max));
        let base = s.to_array(base);
        let mut sums = [0.0; LANES];
        for r in 0..R {
            let mut chains = s.splat(0.0);
            for line in &mut self.scores[r] {
                let weight = exp(s, s.sub(s.load(line), s.splat(base[r])));
                s.store(line, weight);
                chains = s.add(chains, weight);
            }
            sums[r] = s.sum(chains);
        }
        self.state.set(s, m, alpha, s.load(&sums));
        s.to_array(alpha)
    }

    /// o = α·o + the chain of p·v, where every row sees every key: `G` rows × `NV` words at a time.
    #[inline(always)]
    fn values<S: Simd, const G: usize, const NV: usize>(
        &mut self,
        s: S,
        v: &[&[f32]; BLOCK],
        alpha: &[f32; LANES],
    ) {
        let (width, whole) = (self.o.len() / R, v[0].len() / LANES);
        for g in (0..R).step_by(G) {
            let mut w = 0;
            while w + NV <= whole.min(width) {
                let acc = self.chains::<S, G, NV>(s, v, g, w);
                self.add_values(s, acc, alpha, g, w);
                w += NV;
            }
            for w in w..width {
                let acc = if w < whole {
                    self.chains::<S, G, 1>(s, v, g, w)
                } else {
                    self.tail_chains::<S, G>(s, v, g)
                };
                self.add_values(s, acc, alpha, g, w);
            }
        }
    }

    /// The chains of rows from `g` on for words of components from `w` on.
    #[inline(always)]
    fn chains<S: Simd, const G: usize, const NV: usize>(
        &self,
        s: S,
        v: &[&[f32]; BLOCK],
        g: usize,
        w: usize,
    ) -> [[S::F32; NV]; G] {
        let mut acc = [[s.splat(0.0); NV]; G];
        for (j, v) in v.iter().enumerate() {
            let v: &[[f32; LANES]; NV] = v.as_chunks().0[w..].first_chunk().expect("whole words");
            for n in 0..NV {
                let value = s.load(&v[n]);
                for r in 0..G {
                    let weight = s.splat(self.scores[g + r][j / LANES][j % LANES]);
                    acc[r][n] = s.fma(weight, value, acc[r][n]);
                }
            }
        }
        acc
    }

    /// The same for components that do not fill a word.
    #[inline(always)]
    fn tail_chains<S: Simd, const G: usize>(&self, s: S, v: &[&[f32]; BLOCK], g: usize) -> [[S::F32; 1]; G] {
        let mut acc = [[s.splat(0.0); 1]; G];
        for (j, v) in v.iter().enumerate() {
            let value = s.load_tail(v.as_chunks::<LANES>().1, 0.0);
            for r in 0..G {
                let weight = s.splat(self.scores[g + r][j / LANES][j % LANES]);
                acc[r][0] = s.fma(weight, value, acc[r][0]);
            }
        }
        acc
    }

    /// o = fma(o, α, acc)
    #[inline(always)]
    fn add_values<S: Simd, const G: usize, const NV: usize>(
        &mut self,
        s: S,
        acc: [[S::F32; NV]; G],
        alpha: &[f32; LANES],
        g: usize,
        w: usize,
    ) {
        let width = self.o.len() / R;
        for r in 0..G {
            for n in 0..NV {
                let o = &mut self.o[(g + r) * width + w + n];
                let new = s.fma(s.load(o), s.splat(alpha[g + r]), acc[r][n]);
                s.store(o, new);
            }
        }
    }

    /// The same where some row does not see some key: its p and v are +0 there, and a row that sees none
    /// keeps its o.
    #[inline(always)]
    fn mixed_values<S: Simd>(&mut self, s: S, v: &[&[f32]; BLOCK], alpha: &[f32; LANES], live: &Live) {
        let (width, zero) = (self.o.len() / R, s.splat(0.0));
        for r in (0..R).filter(|&r| live[r] != 0) {
            for w in 0..width {
                let mut acc = zero;
                for (j, v) in v.iter().enumerate() {
                    acc = if live[r] >> j & 1 == 1 {
                        let weight = s.splat(self.scores[r][j / LANES][j % LANES]);
                        s.fma(weight, word(s, v, w * LANES), acc)
                    } else {
                        s.add(acc, zero)
                    };
                }
                let o = &mut self.o[r * width + w];
                let new = s.fma(s.load(o), s.splat(alpha[r]), acc);
                s.store(o, new);
            }
        }
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
fn load<S: Simd>(s: S, piece: &Piece<'_>, q: &mut [Line]) {
    q.fill(Line::ZERO);
    let width = words(piece.k.cols());
    for r in 0..piece.rows() {
        for w in 0..width {
            let word = read(s, piece.q.head(0, piece.local_head(r)), piece.query(r), w * LANES);
            s.store(&mut q[r * width + w], word);
        }
    }
}
