//! Prefill: up to 48 queries in lanes against blocks of 64 keys.
//!
//! ```text
//!   scores   Sᵀ[j][lanes] = Σ_d  k[j][d] (broadcast) × Qᵀ[d][lanes]       MR keys × NP words in registers
//!   softmax  down the 64 lines of each panel
//!   values   Oᵀ[c][lanes] = α × Oᵀ[c] + Σ_j v[j][c] (broadcast) × Pᵀ[j]    MR components × NP words
//! ```

use super::mask::{Kind, Live, Visible};
use super::softmax::{State, columns, one_key};
use super::{Additive, BLOCK, Piece, ROWS, words};
use crate::math::tanh::tanh;
use crate::simd::Simd;
use crate::view::MatRef;
use crate::{LANES, Line};
use core::array::from_fn;
use core::ops::Range;

/// Panels of sixteen rows.
const PANELS: usize = ROWS / LANES;
/// The most keys or components that a register tile takes.
const MAX_MR: usize = 8;
/// k of clause 1's blocks.
const K_BLOCK: usize = 256;
/// Lines of scores: the last tile of keys may run over.
const SCORES: usize = BLOCK + MAX_MR;

/// See [`super::scratch_len`].
pub(super) const fn scratch_len(qk_dim: usize, v_dim: usize) -> usize {
    let spare = BLOCK * (words(qk_dim) + words(spare_width(v_dim)));
    PANELS * (qk_dim + SCORES + BLOCK + v_dim) + spare + zeros(qk_dim, v_dim)
}

/// Floats of a value row in scratch: a tile reads at least `MAX_MR`.
const fn spare_width(v_dim: usize) -> usize {
    if v_dim < MAX_MR { MAX_MR } else { v_dim }
}

/// Lines of the row that stands for a masked key.
const fn zeros(qk_dim: usize, v_dim: usize) -> usize {
    let v = spare_width(v_dim);
    words(if qk_dim > v { qk_dim } else { v })
}

/// Runs `piece` with as many panels at a time as the tier's registers hold.
#[inline(always)]
pub(super) fn prefill<S: Simd>(s: S, piece: Piece<'_>, scratch: &mut [Line]) {
    match (S::TILE, piece.rows().div_ceil(LANES)) {
        ((_, 2), 1) => groups::<S, 8, 1>(s, piece, scratch),
        ((_, 2), 2) => groups::<S, 8, 2>(s, piece, scratch),
        ((_, 2), _) => groups::<S, 8, 3>(s, piece, scratch),
        ((6.., _), _) => groups::<S, 5, 1>(s, piece, scratch),
        _ => groups::<S, 2, 1>(s, piece, scratch),
    }
}

/// Takes `n` lines off the front of the scratch.
fn carve<'s>(scratch: &mut &'s mut [Line], n: usize) -> &'s mut [Line] {
    scratch.split_off_mut(..n).expect("scratch_len covers every part")
}

/// `NP` panels: their part of the scratch.
struct Group<'s, const NP: usize> {
    /// Qᵀ, (qk_dim, lanes)
    q: &'s mut [[Line; NP]],
    /// Oᵀ, (v_dim, lanes)
    o: &'s mut [[Line; NP]],
    state: [State; NP],
    /// The first panel.
    panel: usize,
}

/// A block of keys, as the groups read it.
struct Block<'k> {
    /// Number of its first key.
    start: usize,
    kind: Kind,
    live: &'k Live,
    /// Keys that some row sees, from the first to the last, counted in the block.
    keys: Range<usize>,
    /// 64 keys and some zeros; a key that no row sees is zeros too.
    k: &'k [&'k [f32]; SCORES],
    v: &'k [&'k [f32]; BLOCK],
}

#[inline(always)]
fn groups<S: Simd, const MR: usize, const NP: usize>(s: S, piece: Piece<'_>, mut scratch: &mut [Line]) {
    let (d, v_dim) = (piece.k.cols(), piece.v.cols());
    let scratch = &mut scratch;
    let zeros = carve(scratch, zeros(d, v_dim));
    zeros.fill(Line::ZERO);
    let zeros = Line::floats(zeros);
    let spare_k = Line::floats_mut(carve(scratch, BLOCK * words(d)));
    let spare_v = Line::floats_mut(carve(scratch, BLOCK * words(spare_width(v_dim))));
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
        group.load(s, &piece);
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
        let k: [&[f32]; SCORES] = rows(piece.k, start, any, spare_k, zeros, d);
        let v: [&[f32]; BLOCK] = rows(piece.v, start, any, spare_v, zeros, MAX_MR);
        let keys = any.trailing_zeros() as usize..BLOCK - any.leading_zeros() as usize;
        let block = Block { start, kind, live: &live, keys, k: &k, v: &v };
        for group in parts.iter_mut().flatten() {
            group.take::<S, MR>(s, &piece, &visible, &block, scores);
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

/// Rows `start..` of `x`, where they lie if they can be read there (side by side, at least `least` floats),
/// else copied; zeros where `any` has no bit and past 64.
#[inline(always)]
fn rows<'s, const N: usize>(
    x: MatRef<'s>,
    start: usize,
    any: u64,
    spare: &'s mut [f32],
    zeros: &'s [f32],
    least: usize,
) -> [&'s [f32]; N] {
    let is_live = |j: usize| j < BLOCK && any >> j & 1 == 1;
    let in_place = x.cols() >= least && (x.rows() == 0 || x.row(0).is_some());
    if in_place {
        return from_fn(|j| if is_live(j) { x.row(start + j).unwrap_or(zeros) } else { zeros });
    }
    let width = words(x.cols().max(least)) * LANES;
    for (j, row) in spare.chunks_exact_mut(width.max(1)).enumerate().filter(|(j, _)| is_live(*j)) {
        row.fill(0.0);
        row.iter_mut().zip(0..x.cols()).for_each(|(to, c)| *to = x.get(start + j, c));
    }
    let spare = &*spare;
    from_fn(|j| if is_live(j) { &spare[j * width..(j + 1) * width] } else { zeros })
}

impl<const NP: usize> Group<'_, NP> {
    /// Fills Qᵀ, and Oᵀ with +0. Lanes without a row hold zeros.
    #[inline(always)]
    fn load<S: Simd>(&mut self, s: S, piece: &Piece<'_>) {
        self.o.fill([Line::ZERO; NP]);
        for p in 0..NP {
            let first = (self.panel + p) * LANES;
            for (c, to) in self.q.chunks_mut(LANES).enumerate() {
                let mut rows = [s.splat(0.0); LANES];
                for (row, r) in rows.iter_mut().zip(first..piece.rows()) {
                    let q = piece.q.head(0, piece.local_head(r));
                    *row = read(s, q, piece.query(r), c * LANES);
                }
                let columns = s.transpose(rows);
                for (to, column) in to.iter_mut().zip(columns) {
                    s.store(&mut to[p], column);
                }
            }
        }
    }

    /// One block of keys.
    #[inline(always)]
    fn take<S: Simd, const MR: usize>(
        &mut self,
        s: S,
        piece: &Piece<'_>,
        visible: &Visible,
        block: &Block<'_>,
        scores: &mut [[Line; NP]; SCORES],
    ) {
        let scale = piece.options.scale;
        for j in (block.keys.start / MR * MR..block.keys.end).step_by(MR) {
            let k: &[&[f32]; MR] = block.k[j..].first_chunk().expect("zeros follow the keys");
            let out: &mut [[Line; NP]; MR] = scores[j..].first_chunk_mut().expect("as many scores");
            score_tile(s, self.q, k, scale, out);
        }
        let scores: &mut [[Line; NP]; BLOCK] = scores.first_chunk_mut().expect("64 of them");
        let lanes: [u64; NP] = from_fn(|p| visible.real >> ((self.panel + p) * LANES) & 0xffff);
        match block.kind {
            Kind::Whole => {
                self.bias(s, piece, block, scores);
                let alpha = columns(s, scores, &(0..BLOCK), &mut self.state);
                self.values::<S, MR>(s, block, scores, alpha);
                for (state, lanes) in self.state.iter_mut().zip(lanes) {
                    state.allowed |= lanes as u32;
                }
            }
            _ => {
                let mut masks = [[0; NP]; BLOCK];
                for p in 0..NP {
                    lanes_of(s, block.live, self.panel + p, p, &mut masks);
                }
                self.bias(s, piece, block, scores);
                hide(s, scores, &masks, block.keys.clone());
                let alpha = columns(s, scores, &block.keys, &mut self.state);
                self.masked_values::<S, MR>(s, block, scores, &masks, alpha);
            }
        }
    }

    /// What is added to the scores before masks.
    #[inline(always)]
    fn bias<S: Simd>(&self, s: S, piece: &Piece<'_>, block: &Block<'_>, scores: &mut [[Line; NP]; BLOCK]) {
        for p in 0..NP {
            let first = (self.panel + p) * LANES;
            if let Some(cap) = piece.options.softcap {
                let cap = s.splat(cap);
                for line in scores.iter_mut() {
                    let capped = s.mul(tanh(s, s.div(s.load(&line[p]), cap)), cap);
                    s.store(&mut line[p], capped);
                }
            }
            if let Some(slopes) = piece.options.alibi {
                self.alibi(s, piece, slopes, block, scores, p);
            }
            if let Some(Additive(mask)) = piece.options.additive {
                for (at, lines) in scores.chunks_exact_mut(LANES).enumerate() {
                    let mut rows = [s.splat(0.0); LANES];
                    for (row, r) in rows.iter_mut().zip(first..piece.rows()) {
                        let mask = piece.mask_head(&mask, r);
                        *row = s.load(&piece.mask_word(mask, r, block.start + at * LANES));
                    }
                    let columns = s.transpose(rows);
                    for (line, column) in lines.iter_mut().zip(columns) {
                        let biased = s.add(s.load(&line[p]), column);
                        s.store(&mut line[p], biased);
                    }
                }
            }
        }
    }

    /// fma(slope, j − i, s)
    #[inline(always)]
    fn alibi<S: Simd>(
        &self,
        s: S,
        piece: &Piece<'_>,
        slopes: &[f32],
        block: &Block<'_>,
        scores: &mut [[Line; NP]; BLOCK],
        p: usize,
    ) {
        let row = |lane: usize| ((self.panel + p) * LANES + lane).min(piece.rows() - 1);
        let slope = s.load(&from_fn(|lane| slopes[piece.head(row(lane))]));
        let from = s.load_i(&from_fn(|lane| (block.start as isize - piece.position(row(lane))) as i32));
        for (j, line) in scores.iter_mut().enumerate() {
            let distance = s.of_i(s.add_i(from, s.splat_i(j as i32)));
            let biased = s.fma(slope, distance, s.load(&line[p]));
            s.store(&mut line[p], biased);
        }
    }

    /// o = α·o + the chain of p·v, where every row sees every key.
    #[inline(always)]
    fn values<S: Simd, const MR: usize>(
        &mut self,
        s: S,
        block: &Block<'_>,
        weights: &[[Line; NP]; BLOCK],
        alpha: [S::F32; NP],
    ) {
        for (c, skip) in cuts::<MR>(self.o.len()) {
            let mut acc = [[s.splat(0.0); NP]; MR];
            for (v, weight) in block.v.iter().zip(weights) {
                let v: &[f32; MR] = v[c..].first_chunk().expect("a row of values");
                let weight = words_of(s, weight);
                for r in 0..MR {
                    let v = s.splat(v[r]);
                    for p in 0..NP {
                        acc[r][p] = s.fma(weight[p], v, acc[r][p]);
                    }
                }
            }
            for (o, acc) in self.o[c..].iter_mut().zip(acc).skip(skip) {
                for p in 0..NP {
                    let new = s.fma(s.load(&o[p]), alpha[p], acc[p]);
                    s.store(&mut o[p], new);
                }
            }
        }
    }

    /// The same where some row does not see some key: its p and v are +0 there, and a row that sees none
    /// keeps its o.
    #[inline(always)]
    fn masked_values<S: Simd, const MR: usize>(
        &mut self,
        s: S,
        block: &Block<'_>,
        weights: &[[Line; NP]; BLOCK],
        masks: &[[u16; NP]; BLOCK],
        alpha: [S::F32; NP],
    ) {
        let zero = s.splat(0.0);
        let mut seen = [0; NP];
        for p in 0..NP {
            masks.iter().for_each(|mask| seen[p] |= mask[p]);
            self.state[p].allowed |= u32::from(seen[p]);
        }
        let seen = masks_of(s, &seen);
        for (c, skip) in cuts::<MR>(self.o.len()) {
            let mut acc = [[zero; NP]; MR];
            for j in block.keys.clone() {
                let v: &[f32; MR] = block.v[j][c..].first_chunk().expect("a row of values");
                let weight = words_of(s, &weights[j]);
                let mask = masks_of(s, &masks[j]);
                for r in 0..MR {
                    for p in 0..NP {
                        let v = s.select(mask[p], s.splat(v[r]), zero);
                        acc[r][p] = s.fma(weight[p], v, acc[r][p]);
                    }
                }
            }
            for (o, acc) in self.o[c..].iter_mut().zip(acc).skip(skip) {
                for p in 0..NP {
                    // Masked keys after the last seen one add +0 × +0: once does for all.
                    let acc = if block.keys.end < BLOCK { s.add(acc[p], zero) } else { acc[p] };
                    let old = s.load(&o[p]);
                    let new = s.fma(old, alpha[p], acc);
                    s.store(&mut o[p], s.select(seen[p], new, old));
                }
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
    fn finish<S: Simd>(&mut self, s: S, piece: &mut Piece<'_>) {
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

/// Where tiles of `MR` components begin among `n`, and how many of their components the tile before has done:
/// the last tile is moved back to end with the row. Fewer than `MR` are read from rows padded to it.
#[inline(always)]
fn cuts<const MR: usize>(n: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..n).step_by(MR).map(move |c| {
        let start = c.min(n.saturating_sub(MR));
        (start, c - start)
    })
}

/// `MR` keys against `NP` panels: clause 1, then the scale.
#[inline(always)]
fn score_tile<S: Simd, const MR: usize, const NP: usize>(
    s: S,
    q: &[[Line; NP]],
    k: &[&[f32]; MR],
    scale: f32,
    out: &mut [[Line; NP]; MR],
) {
    let zero = s.splat(0.0);
    let mut sum = [[zero; NP]; MR];
    for (b, q) in q.chunks(K_BLOCK).enumerate() {
        let k: [&[f32]; MR] = from_fn(|r| &k[r][b * K_BLOCK..][..q.len()]);
        let mut acc = [[zero; NP]; MR];
        for (i, q) in q.iter().enumerate() {
            let q = words_of(s, q);
            for r in 0..MR {
                let k = s.splat(k[r][i]);
                for p in 0..NP {
                    acc[r][p] = s.fma(k, q[p], acc[r][p]);
                }
            }
        }
        for r in 0..MR {
            for p in 0..NP {
                sum[r][p] = s.add(sum[r][p], acc[r][p]);
            }
        }
    }
    let scale = s.splat(scale);
    for r in 0..MR {
        for p in 0..NP {
            s.store(&mut out[r][p], s.mul(sum[r][p], scale));
        }
    }
}

/// The words of `NP` lines. (Loops, not closures over words: one that is not inlined would be slow.)
#[inline(always)]
fn words_of<S: Simd, const NP: usize>(s: S, lines: &[Line; NP]) -> [S::F32; NP] {
    let mut words = [s.splat(0.0); NP];
    for p in 0..NP {
        words[p] = s.load(&lines[p]);
    }
    words
}

/// The lanes of `NP` bit sets.
#[inline(always)]
fn masks_of<S: Simd, const NP: usize>(s: S, bits: &[u16; NP]) -> [S::Mask; NP] {
    let mut masks = [s.mask_from_bits(0); NP];
    for p in 0..NP {
        masks[p] = s.mask_from_bits(u32::from(bits[p]));
    }
    masks
}

/// Which of the sixteen rows of `panel` see each key, from one bit a key for each row: column `p` of `masks`.
#[inline(always)]
fn lanes_of<S: Simd, const NP: usize>(
    s: S,
    live: &Live,
    panel: usize,
    p: usize,
    masks: &mut [[u16; NP]; BLOCK],
) {
    let live: &[u64; LANES] = live[panel * LANES..].first_chunk().expect("sixteen rows");
    for half in 0..2 {
        let mut bits = s.load_i(&live.map(|live| (live >> (32 * half)) as i32));
        for j in (0..32).rev() {
            // The sign is the bit of key j.
            masks[32 * half + j][p] = s.mask_bits(s.gt_i(s.splat_i(0), bits)) as u16;
            bits = s.add_i(bits, bits);
        }
    }
}

/// −∞ where a row does not see a key.
#[inline(always)]
fn hide<S: Simd, const NP: usize>(
    s: S,
    scores: &mut [[Line; NP]; BLOCK],
    masks: &[[u16; NP]; BLOCK],
    keys: Range<usize>,
) {
    for j in keys {
        for p in 0..NP {
            let seen = s.mask_from_bits(u32::from(masks[j][p]));
            let score = s.select(seen, s.load(&scores[j][p]), s.splat(f32::NEG_INFINITY));
            s.store(&mut scores[j][p], score);
        }
    }
}

/// Sixteen components of row `r` from `c` on, +0 past its end.
#[inline(always)]
fn read<S: Simd>(s: S, x: MatRef<'_>, r: usize, c: usize) -> S::F32 {
    let n = LANES.min(x.cols() - c);
    let Some(row) = x.row(r) else {
        return s.load(&from_fn(|i| if i < n { x.get(r, c + i) } else { 0.0 }));
    };
    match row[c..].first_chunk() {
        Some(word) => s.load(word),
        None => s.load_tail(&row[c..], 0.0),
    }
}
