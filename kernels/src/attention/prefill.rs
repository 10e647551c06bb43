//! Prefill: up to 48 queries in lanes against blocks of 64 keys.
//!
//! ```text
//!   scores   Sᵀ[j][lanes] = Σ_d  k[j][d] (broadcast) × Qᵀ[d][lanes]       MR keys × NP words in registers
//!   softmax  down the 64 lines of each panel
//!   values   Oᵀ[c][lanes] = α × Oᵀ[c] + Σ_j v[j][c] (broadcast) × Pᵀ[j]    MR components × NP words
//! ```

#![allow(clippy::needless_range_loop)] // rows, words and lanes are indices into several arrays at once

use super::class::Class;
use super::mask::{Kind, Live, Visible};
use super::rows::{Rows, Spare, carve, read};
use super::softmax::{State, columns, one_key};
use super::tile::{Mixed, mixed_values, score_tile, values};
use super::{BLOCK, PANELS, Piece, Products, ROWS, SCORES, bias};
use crate::simd::Simd;
use crate::{Kernel, LANES, Line};
use core::array::from_fn;
use core::ops::Range;

/// See [`super::scratch_len`].
pub(super) const fn scratch_len(qk_dim: usize, v_dim: usize) -> usize {
    Spare::len(qk_dim, v_dim) + PANELS * (SCORES + qk_dim + v_dim)
}

/// Tiles of `MR` keys or components × `NP` panels.
pub(super) struct Work<'a, 's, C, const MR: usize, const NP: usize> {
    pub class: C,
    pub piece: Piece<'a>,
    pub scratch: &'s mut [Line],
}

impl<C: Class, const MR: usize, const NP: usize> Kernel for Work<'_, '_, C, MR, NP> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        groups::<S, C, MR, NP>(s, self.class, self.piece, self.scratch);
    }
}

/// `NP` panels: their part of the scratch.
pub(super) struct Group<'s, const NP: usize> {
    /// Qᵀ, (qk_dim, lanes)
    pub q: &'s mut [[Line; NP]],
    /// Oᵀ, (v_dim, lanes)
    pub o: &'s mut [[Line; NP]],
    pub state: [State; NP],
    /// The first panel.
    pub panel: usize,
}

/// A block of keys, as the groups read it.
struct Block<'k> {
    /// Number of its first key.
    start: usize,
    kind: Kind,
    live: &'k Live,
    /// Keys that some row sees, from the first to the last, counted in the block.
    keys: Range<usize>,
    /// 64 keys and some zeros, 64 values.
    rows: &'k Rows<'k, SCORES>,
}

#[inline(always)]
fn groups<S: Simd, C: Class, const MR: usize, const NP: usize>(
    s: S,
    class: C,
    piece: Piece<'_>,
    mut scratch: &mut [Line],
) {
    let (d, v_dim) = (piece.k.cols(), piece.v.cols());
    let scratch = &mut scratch;
    let mut spare = Spare::new(scratch, d, v_dim);
    let scores = first_chunk(carve(scratch, SCORES * PANELS));
    let mut parts: [Option<Group<'_, NP>>; PANELS] = from_fn(|g| {
        let panel = g * NP;
        (panel * LANES < piece.rows()).then(|| {
            let q = carve(scratch, NP * d).as_chunks_mut().0;
            let o = carve(scratch, NP * v_dim).as_chunks_mut().0;
            Group { q, o, state: [State::START; NP], panel }
        })
    });
    for group in parts.iter_mut().flatten() {
        group.load(s, class, &piece);
    }
    let visible = Visible::new(&piece);
    let mut live = [0; ROWS];
    for b in visible.blocks() {
        let kind = visible.block(s, &piece, b, &mut live);
        let any = match kind {
            Kind::Masked => continue,
            Kind::Whole => u64::MAX,
            Kind::Mixed => live.iter().fold(0, |any, live| any | live),
        };
        let start = b * BLOCK;
        let rows = spare.block(s, class, piece.k, piece.v, (start, any));
        let mut keys = any.trailing_zeros() as usize..BLOCK - any.leading_zeros() as usize;
        if C::PRODUCTS == Products::Bf16 {
            keys = keys.start / 2 * 2..keys.end.next_multiple_of(2);
        }
        let block = Block { start, kind, live: &live, keys, rows: &rows };
        for group in parts.iter_mut().flatten() {
            group.take::<S, C, MR>(s, class, (&piece, &visible), &block, scores);
        }
    }
    let mut piece = piece;
    for group in parts.iter_mut().flatten() {
        group.finish(s, &mut piece);
    }
}

/// The scores' lines as (key, panel).
#[inline(always)]
fn first_chunk<const NP: usize>(lines: &mut [Line]) -> &mut [[Line; NP]; SCORES] {
    lines.as_chunks_mut().0.first_chunk_mut().expect("NP panels of the scores")
}

/// Makes the weights of some keys what products read.
#[inline(always)]
fn operands<S: Simd, C: Class, const NP: usize>(
    s: S,
    class: C,
    weights: &mut [[Line; NP]; BLOCK],
    keys: Range<usize>,
) {
    if C::PRODUCTS == Products::F32 {
        return;
    }
    for line in weights[keys].iter_mut().flatten() {
        let weight = class.operand(s, s.load(line));
        s.store(line, weight);
    }
}

/// Fills Qᵀ, (qk_dim, lanes), of the panels from `panel` on. Lanes without a row hold zeros.
#[inline(always)]
pub(super) fn load<S: Simd, C: Class, const NP: usize>(
    s: S,
    class: C,
    piece: &Piece<'_>,
    panel: usize,
    to: &mut [[Line; NP]],
) {
    for p in 0..NP {
        let first = (panel + p) * LANES;
        for (c, to) in to.chunks_mut(LANES).enumerate() {
            let mut rows = [s.splat(0.0); LANES];
            for (row, r) in rows.iter_mut().zip(first..piece.rows()) {
                let q = piece.q.head(0, piece.local_head(r));
                *row = class.operand(s, read(s, q, piece.query(r), c * LANES));
            }
            let columns = s.transpose(rows);
            for (to, column) in to.iter_mut().zip(columns) {
                s.store(&mut to[p], column);
            }
        }
    }
}

impl<const NP: usize> Group<'_, NP> {
    /// Fills Qᵀ, and Oᵀ with +0.
    #[inline(always)]
    fn load<S: Simd, C: Class>(&mut self, s: S, class: C, piece: &Piece<'_>) {
        self.o.fill([Line::ZERO; NP]);
        load(s, class, piece, self.panel, self.q);
    }

    /// One block of keys.
    #[inline(always)]
    fn take<S: Simd, C: Class, const MR: usize>(
        &mut self,
        s: S,
        class: C,
        (piece, visible): (&Piece<'_>, &Visible),
        block: &Block<'_>,
        scores: &mut [[Line; NP]; SCORES],
    ) {
        let scale = piece.options.scale;
        for j in (block.keys.start / MR * MR..block.keys.end).step_by(MR) {
            let k: &[&[f32]; MR] = block.rows.k[j..].first_chunk().expect("zeros follow the keys");
            let out: &mut [[Line; NP]; MR] = scores[j..].first_chunk_mut().expect("as many scores");
            score_tile::<S, C, MR, NP>(s, self.q, k, scale, out);
        }
        let scores: &mut [[Line; NP]; BLOCK] = scores.first_chunk_mut().expect("64 of them");
        let lanes: [u64; NP] = from_fn(|p| visible.real >> ((self.panel + p) * LANES) & 0xffff);
        if let Some(cap) = piece.options.softcap {
            bias::cap(s, cap, scores);
        }
        bias::add(s, piece, (self.panel, block.start), scores);
        if block.kind == Kind::Whole {
            let alpha = columns::<S, NP, false>(s, scores, &(0..BLOCK), &mut self.state);
            operands(s, class, scores, 0..BLOCK);
            values::<S, C, MR, NP>(s, self.o, &block.rows.v, scores, alpha);
            for (state, lanes) in self.state.iter_mut().zip(lanes) {
                state.allowed |= lanes as u32;
            }
        } else {
            let mixed = Mixed::new(s, block.live, block.keys.clone(), self.panel);
            mixed.hide(s, scores);
            let alpha = columns::<S, NP, true>(s, scores, &block.keys, &mut self.state);
            operands(s, class, scores, block.keys.clone());
            mixed_values::<S, C, MR, NP>(s, self.o, &block.rows.v, scores, alpha, &mixed);
            for (state, seen) in self.state.iter_mut().zip(mixed.seen) {
                state.allowed |= u32::from(seen);
            }
        }
    }

    /// A block after the last: one key, the sink, with v = +0.
    #[inline(always)]
    fn sink<S: Simd>(&mut self, s: S, piece: &Piece<'_>, p: usize) {
        let Some(sinks) = piece.options.sinks else { return };
        let row = |lane: usize| ((self.panel + p) * LANES + lane).min(piece.rows() - 1);
        let sink = s.load(&from_fn(|lane| sinks[piece.head(row(lane))]));
        let alpha = one_key(s, &mut self.state[p], sink);
        for o in self.o.iter_mut() {
            let new = s.fma(s.load(&o[p]), alpha, s.splat(0.0));
            s.store(&mut o[p], new);
        }
    }

    /// The sinks, o ÷ l, and the rows of the output.
    #[inline(always)]
    pub(super) fn finish<S: Simd>(&mut self, s: S, piece: &mut Piece<'_>) {
        for p in 0..NP {
            let first = (self.panel + p) * LANES;
            let rows = first..piece.rows().min(first + LANES);
            // Lanes of padding may have taken part in whole blocks.
            self.state[p].forget_others(s);
            self.sink(s, piece, p);
            let state = &self.state[p];
            for (row, lse) in rows.clone().zip(state.log_sum_exp(s)) {
                piece.set_lse(row, lse);
            }
            let (l, allowed, zero) = (s.load(&state.l), s.mask_from_bits(state.allowed), s.splat(0.0));
            for (at, lines) in self.o.chunks(LANES).enumerate() {
                let mut columns = [zero; LANES];
                for (column, line) in columns.iter_mut().zip(lines) {
                    *column = s.select(allowed, s.div(s.load(&line[p]), l), zero);
                }
                for (row, out) in rows.clone().zip(s.transpose(columns)) {
                    piece.set_out(s, row, at * LANES, out);
                }
            }
        }
    }
}
