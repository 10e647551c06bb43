//! The second pass: dK and dV, up to 48 keys in lanes against blocks of 64 queries of each head of the group.

#![allow(clippy::needless_range_loop)] // rows, words and lanes are indices into several arrays at once

use super::super::mask::{Kind, Live, word_of};
use super::super::rows::{Spare, carve, read, value_width};
use super::super::stored::{Cells, StoredRows};
use super::super::tile::{AddValues, Mixed};
use super::super::{Additive, BLOCK, PANELS, ROWS, SCORES};
use super::keys::KeyPiece;
use super::{Of, Scores};
use crate::rows::set_word_at;
use crate::simd::Simd;
use crate::view::{HEADS, MatMut};
use crate::{Kernel, LANES, Line};
use core::array::from_fn;
use core::ops::Range;

pub(super) struct Run<'a, 's> {
    pub piece: KeyPiece<'a>,
    pub scratch: &'s mut [Line],
}

impl Kernel for Run<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Run { piece, scratch } = self;
        match (S::TILE, piece.n.div_ceil(LANES)) {
            ((_, 3), PANELS) => s.outline(Work::<8, PANELS> { piece, scratch }),
            ((_, 3), _) => s.outline(Work::<8, 1> { piece, scratch }),
            ((6.., _), _) => s.outline(Work::<5, 1> { piece, scratch }),
            _ => s.outline(Work::<2, 1> { piece, scratch }),
        }
    }
}

/// Tiles of `MR` queries or components × `NP` panels.
struct Work<'a, 's, const MR: usize, const NP: usize> {
    piece: KeyPiece<'a>,
    scratch: &'s mut [Line],
}

impl<const MR: usize, const NP: usize> Kernel for Work<'_, '_, MR, NP> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        groups::<S, MR, NP>(s, self.piece, self.scratch);
    }
}

/// `NP` panels: their part of the scratch, keys first (qk_dim, lanes), then values (v_dim, lanes).
struct Group<'s, const NP: usize> {
    /// Kᵀ and Vᵀ.
    x: [&'s mut [[Line; NP]]; 2],
    /// dKᵀ and dVᵀ of one head.
    head: [&'s mut [[Line; NP]]; 2],
    /// Those of the heads so far.
    sum: [&'s mut [[Line; NP]]; 2],
    /// The first panel.
    panel: usize,
}

/// A block of queries, as the groups read it.
struct Block<'k> {
    head: usize,
    /// Its first query.
    start: usize,
    kind: Kind,
    live: &'k Live,
    /// Queries that some lane sees, from the first to the last, counted in the block.
    queries: Range<usize>,
    /// Q and dO.
    rows: [[&'k [f32]; SCORES]; 2],
    lse: [f32; BLOCK],
    delta: [f32; BLOCK],
}

#[inline(always)]
fn groups<S: Simd, const MR: usize, const NP: usize>(
    s: S,
    mut piece: KeyPiece<'_>,
    mut scratch: &mut [Line],
) {
    let dims = [piece.of.k.shape()[3], piece.of.v.shape()[3]];
    let scratch = &mut scratch;
    let mut spare = Spare::new(scratch, value_width(dims[0]), dims[1]);
    let mut scores = Scores::<NP>::new(carve(scratch, 3 * SCORES * PANELS));
    let mut part = |i: usize| carve(scratch, NP * dims[i]).as_chunks_mut().0;
    let mut parts: [Option<Group<'_, NP>>; PANELS] = from_fn(|g| {
        let panel = g * NP;
        (panel * LANES < piece.n).then(|| Group {
            x: [part(0), part(1)],
            head: [part(0), part(1)],
            sum: [part(0), part(1)],
            panel,
        })
    });
    for group in parts.iter_mut().flatten() {
        group.load(s, &piece);
    }
    let heads = piece.of.q.shape()[HEADS] / piece.of.k.shape()[HEADS];
    for head in piece.kv_head * heads..(piece.kv_head + 1) * heads {
        for group in parts.iter_mut().flatten() {
            group.head.iter_mut().for_each(|lines| lines.fill([Line::ZERO; NP]));
        }
        for b in 0..piece.tokens.exist.len().div_ceil(BLOCK) {
            block::<S, MR, NP>(s, &piece, (head, b), &mut spare, (&mut parts, &mut scores));
        }
        for group in parts.iter_mut().flatten() {
            group.add_head(s);
        }
    }
    piece.finish(s, &parts);
}

/// One block of queries of one head.
#[inline(always)]
fn block<S: Simd, const MR: usize, const NP: usize>(
    s: S,
    piece: &KeyPiece<'_>,
    (head, b): (usize, usize),
    spare: &mut Spare<'_>,
    (parts, scores): (&mut [Option<Group<'_, NP>>; PANELS], &mut Scores<'_, NP>),
) {
    let mut live = [0; ROWS];
    let kind = piece.visible(s, head, b, &mut live);
    let any = match kind {
        Kind::Masked => return,
        Kind::Whole => u64::MAX,
        Kind::Mixed => live.iter().fold(0, |any, live| any | live),
    };
    let start = b * BLOCK;
    let of = &piece.of;
    let plain = |x| StoredRows::F32(Cells::plain(piece.queries(x, head)));
    let rows = spare.pair(s, (plain(&of.q), plain(&of.d_out)), (start, any));
    let queries = any.trailing_zeros() as usize..BLOCK - any.leading_zeros() as usize;
    let (mut lse, mut delta) = ([0.0; BLOCK], [0.0; BLOCK]);
    let saved = (piece.queries(&of.lse, head), piece.queries(&piece.delta, head));
    for i in queries.clone() {
        (lse[i], delta[i]) = (saved.0.get(start + i, 0), saved.1.get(start + i, 0));
    }
    let block = Block { head, start, kind, live: &live, queries, rows, lse, delta };
    for group in parts.iter_mut().flatten() {
        group.take::<S, MR>(s, piece, &block, scores);
    }
}

impl<const NP: usize> Group<'_, NP> {
    /// Fills Kᵀ and Vᵀ, zeros in lanes without a key, and the sums of heads with +0.
    #[inline(always)]
    fn load<S: Simd>(&mut self, s: S, piece: &KeyPiece<'_>) {
        let start = piece.tokens.keys.start + piece.first;
        for (i, x) in [&piece.of.k, &piece.of.v].into_iter().enumerate() {
            let x = x.head(piece.tokens.row, piece.kv_head);
            self.sum[i].fill([Line::ZERO; NP]);
            for p in 0..NP {
                let first = (self.panel + p) * LANES;
                for (c, lines) in self.x[i].chunks_mut(LANES).enumerate() {
                    let mut rows = [s.splat(0.0); LANES];
                    for (row, lane) in rows.iter_mut().zip(first..piece.n) {
                        *row = read(s, x, start + lane, c * LANES);
                    }
                    for (line, column) in lines.iter_mut().zip(s.transpose(rows)) {
                        s.store(&mut line[p], column);
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn take<S: Simd, const MR: usize>(
        &mut self,
        s: S,
        piece: &KeyPiece<'_>,
        block: &Block<'_>,
        scores: &mut Scores<'_, NP>,
    ) {
        let options = &piece.of.options;
        let lanes = [&*self.x[0], &*self.x[1]];
        scores.products::<S, MR>(s, lanes, &block.rows, &block.queries, options.scale);
        if let Some(cap) = options.softcap {
            scores.cap(s, cap);
        }
        for i in block.queries.clone() {
            self.bias(s, piece, block, i, &mut scores.s[i]);
            let (lse, delta) = ([s.splat(block.lse[i]); NP], [s.splat(block.delta[i]); NP]);
            let of = Of { lse, delta, scale: s.splat(options.scale), capped: options.softcap.is_some() };
            scores.weights(s, i, &of);
        }
        let [p, ds] = scores.both();
        let mut mixed = None;
        if block.kind == Kind::Mixed {
            let seen = Mixed::new(s, block.live, block.queries.clone(), self.panel);
            seen.clear(s, p);
            seen.clear(s, ds);
            mixed = Some(seen);
        }
        let [dk, dv] = &mut self.head;
        let [q, g] = [0, 1].map(|i| block.rows[i].first_chunk::<BLOCK>().expect("64 queries"));
        s.outline(AddValues::<MR, NP> { o: dk, v: q, weights: ds, mixed: mixed.as_ref() });
        s.outline(AddValues::<MR, NP> { o: dv, v: g, weights: p, mixed: mixed.as_ref() });
    }

    /// What is added to the scores of query `i` of the block before masks.
    #[inline(always)]
    fn bias<S: Simd>(&self, s: S, piece: &KeyPiece<'_>, block: &Block<'_>, i: usize, line: &mut [Line; NP]) {
        let (options, query) = (&piece.of.options, block.start + i);
        for p in 0..NP {
            let first = (self.panel + p) * LANES;
            if let Some(slopes) = options.alibi {
                let from = (piece.first + first) as isize - piece.position(query);
                let distance = s.of_i(s.load_i(&from_fn(|lane| from as i32 + lane as i32)));
                let biased = s.fma(s.splat(slopes[block.head]), distance, s.load(&line[p]));
                s.store(&mut line[p], biased);
            }
            if let Some(Additive(mask)) = options.additive {
                let mask = mask.head(piece.sequence, block.head);
                let word = word_of(mask, piece.tokens.exist.start + query, piece.word(first));
                let biased = s.add(s.load(&line[p]), s.load(&word));
                s.store(&mut line[p], biased);
            }
        }
    }

    /// The sums of one head, added to those before.
    #[inline(always)]
    fn add_head<S: Simd>(&mut self, s: S) {
        for (sum, head) in self.sum.iter_mut().zip(&self.head) {
            for (sum, head) in sum.iter_mut().flatten().zip(head.iter().flatten()) {
                let new = s.add(s.load(sum), s.load(head));
                s.store(sum, new);
            }
        }
    }
}

impl KeyPiece<'_> {
    /// The rows of dK and dV; those of padding are +0.
    #[inline(always)]
    fn finish<S: Simd, const NP: usize>(&mut self, s: S, parts: &[Option<Group<'_, NP>>; PANELS]) {
        let (before, n) = (self.before, self.n);
        for (i, to) in [&mut self.dk, &mut self.dv].into_iter().enumerate() {
            let mut to = to.head(0, 0);
            for r in (0..before).chain(before + n..to.rows()) {
                clear(s, &mut to, r);
            }
            for group in parts.iter().flatten() {
                for p in 0..NP {
                    let first = (group.panel + p) * LANES;
                    for (c, lines) in group.sum[i].chunks(LANES).enumerate() {
                        let mut columns = [s.splat(0.0); LANES];
                        for (column, line) in columns.iter_mut().zip(lines) {
                            *column = s.load(&line[p]);
                        }
                        for (lane, row) in (first..n).zip(s.transpose(columns)) {
                            set_word_at(s, &mut to, before + lane, c * LANES, row);
                        }
                    }
                }
            }
        }
    }
}

/// A row of +0.
#[inline(always)]
fn clear<S: Simd>(s: S, to: &mut MatMut<'_>, r: usize) {
    for c in (0..to.cols()).step_by(LANES) {
        set_word_at(s, to, r, c, s.splat(0.0));
    }
}
