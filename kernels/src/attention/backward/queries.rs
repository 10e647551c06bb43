//! The first pass: dQ and D, up to 48 queries in lanes against blocks of 64 keys; the loops of `prefill.rs`.

#![allow(clippy::needless_range_loop)] // rows, words and lanes are indices into several arrays at once

use super::super::mask::{Kind, Live, Visible};
use super::super::pieces::{Piece, Pieces};
use super::super::rows::{Spare, carve, read, value_width};
use super::super::tile::{AddValues, Mixed};
use super::super::{Attention, BLOCK, PANELS, ROWS, SCORES, bias};
use super::{AttentionBackward, Of, Scores};
use crate::simd::Simd;
use crate::view::{HeadsMut, HeadsRef};
use crate::{Cpu, Kernel, LANES, Line};
use core::array::from_fn;
use core::ops::Range;

/// Up to 48 rows, (query, head): their dQ and D.
pub struct QueryPiece<'a> {
    /// Its `out` is dQ, its `lse` D.
    piece: Piece<'a>,
    /// (1, group, queries, …): the result, its gradient, the log-sum-exp.
    out: HeadsRef<'a>,
    d_out: HeadsRef<'a>,
    lse: HeadsRef<'a>,
}

/// The pieces of the first pass, in order.
pub struct QueryPieces<'a> {
    pieces: Pieces<'a>,
    of: AttentionBackward<'a>,
}

impl<'a> QueryPieces<'a> {
    pub(super) fn new(of: AttentionBackward<'a>, dq: HeadsMut<'a>, delta: HeadsMut<'a>) -> Self {
        let AttentionBackward { q, k, v, options, .. } = of;
        let pieces =
            Pieces::new(Attention { q, k: k.into(), v: v.into(), out: dq, lse: Some(delta), options });
        QueryPieces { pieces, of }
    }
}

impl<'a> Iterator for QueryPieces<'a> {
    type Item = QueryPiece<'a>;

    fn next(&mut self) -> Option<QueryPiece<'a>> {
        let piece = self.pieces.next()?;
        let ((row, token), head) = (piece.place.token, piece.place.head);
        let [_, group, n, _] = piece.q.shape();
        let cut = |x| AttentionBackward::cut(x, row, head..head + group, token..token + n);
        let (out, d_out, lse) = (cut(&self.of.out), cut(&self.of.d_out), cut(&self.of.lse));
        Some(QueryPiece { piece, out, d_out, lse })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.pieces.size_hint()
    }
}

impl ExactSizeIterator for QueryPieces<'_> {}

impl QueryPiece<'_> {
    /// Computes this part of dQ and D.
    ///
    /// # Panics
    /// Where `scratch` is shorter than [`backward_scratch_len`](super::backward_scratch_len).
    pub fn run(self, cpu: Cpu, scratch: &mut [Line]) {
        let needed = super::backward_scratch_len(self.piece.k.cols(), self.piece.v.cols());
        assert!(scratch.len() >= needed, "attention: {} lines of scratch, needed {needed}", scratch.len());
        cpu.run(Run { piece: self, scratch });
    }
}

struct Run<'a, 's> {
    piece: QueryPiece<'a>,
    scratch: &'s mut [Line],
}

impl Kernel for Run<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Run { piece, scratch } = self;
        match (S::TILE, piece.piece.rows().div_ceil(LANES)) {
            ((_, 3), PANELS) => s.outline(Work::<8, PANELS> { piece, scratch }),
            ((_, 3), _) => s.outline(Work::<8, 1> { piece, scratch }),
            ((6.., _), _) => s.outline(Work::<5, 1> { piece, scratch }),
            _ => s.outline(Work::<2, 1> { piece, scratch }),
        }
    }
}

/// Tiles of `MR` keys or components × `NP` panels.
struct Work<'a, 's, const MR: usize, const NP: usize> {
    piece: QueryPiece<'a>,
    scratch: &'s mut [Line],
}

impl<const MR: usize, const NP: usize> Kernel for Work<'_, '_, MR, NP> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        groups::<S, MR, NP>(s, self.piece, self.scratch);
    }
}

/// `NP` panels: their part of the scratch.
struct Group<'s, const NP: usize> {
    /// Qᵀ, (qk_dim, lanes)
    q: &'s mut [[Line; NP]],
    /// dOᵀ, (v_dim, lanes)
    g: &'s mut [[Line; NP]],
    /// dQᵀ, (qk_dim, lanes)
    dq: &'s mut [[Line; NP]],
    lse: [Line; NP],
    delta: [Line; NP],
    /// Rows that have seen a key: bit a lane.
    allowed: [u32; NP],
    /// The first panel.
    panel: usize,
}

/// A block of keys and values, as the groups read it.
struct Block<'k> {
    start: usize,
    kind: Kind,
    live: &'k Live,
    /// Keys that some row sees, from the first to the last, counted in the block.
    keys: Range<usize>,
    rows: [[&'k [f32]; SCORES]; 2],
}

#[inline(always)]
fn groups<S: Simd, const MR: usize, const NP: usize>(s: S, of: QueryPiece<'_>, mut scratch: &mut [Line]) {
    let piece = &of.piece;
    let (d, v_dim) = (piece.k.cols(), piece.v.cols());
    let scratch = &mut scratch;
    let mut spare = Spare::new(scratch, value_width(d), v_dim);
    let mut scores = Scores::<NP>::new(carve(scratch, 3 * SCORES * PANELS));
    let mut parts: [Option<Group<'_, NP>>; PANELS] = from_fn(|g| {
        let panel = g * NP;
        (panel * LANES < piece.rows()).then(|| Group {
            q: carve(scratch, NP * d).as_chunks_mut().0,
            g: carve(scratch, NP * v_dim).as_chunks_mut().0,
            dq: carve(scratch, NP * d).as_chunks_mut().0,
            lse: [Line::ZERO; NP],
            delta: [Line::ZERO; NP],
            allowed: [0; NP],
            panel,
        })
    });
    for group in parts.iter_mut().flatten() {
        group.load(s, &of);
    }
    let visible = Visible::new(piece);
    let mut live = [0; ROWS];
    for b in visible.blocks() {
        let kind = visible.block(s, piece, b, &mut live);
        let any = match kind {
            Kind::Masked => continue,
            Kind::Whole => u64::MAX,
            Kind::Mixed => live.iter().fold(0, |any, live| any | live),
        };
        let start = b * BLOCK;
        let rows = spare.pair(s, (piece.k, piece.v), (start, any));
        let keys = any.trailing_zeros() as usize..BLOCK - any.leading_zeros() as usize;
        let block = Block { start, kind, live: &live, keys, rows };
        for group in parts.iter_mut().flatten() {
            group.take::<S, MR>(s, piece, &visible, &block, &mut scores);
        }
    }
    let mut piece = of.piece;
    for group in parts.iter_mut().flatten() {
        group.finish(s, &mut piece);
    }
}

impl<const NP: usize> Group<'_, NP> {
    /// Fills Qᵀ, dOᵀ, D and the log-sum-exp, and dQᵀ with +0. Lanes without a query hold zeros.
    #[inline(always)]
    fn load<S: Simd>(&mut self, s: S, of: &QueryPiece<'_>) {
        self.dq.fill([Line::ZERO; NP]);
        for p in 0..NP {
            transposed(s, &of.piece, &of.piece.q, (self.panel + p, p), self.q);
            transposed(s, &of.piece, &of.d_out, (self.panel + p, p), self.g);
            let first = (self.panel + p) * LANES;
            for (lane, r) in (first..of.piece.rows().min(first + LANES)).enumerate() {
                if of.piece.exists(r) {
                    let (head, query) = (of.piece.local_head(r), of.piece.query(r));
                    self.lse[p][lane] = of.lse.head(0, head).get(query, 0);
                    self.delta[p][lane] = product(s, of, head, query);
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
        scores: &mut Scores<'_, NP>,
    ) {
        let options = &piece.options;
        scores.products::<S, MR>(s, [&*self.q, &*self.g], &block.rows, &block.keys, options.scale);
        if let Some(cap) = options.softcap {
            scores.cap(s, cap);
        }
        bias::add(s, piece, (self.panel, block.start), scores.both()[0]);
        let (mut lse, mut delta) = ([s.splat(0.0); NP], [s.splat(0.0); NP]);
        for p in 0..NP {
            (lse[p], delta[p]) = (s.load(&self.lse[p]), s.load(&self.delta[p]));
        }
        let rows = Of { lse, delta, scale: s.splat(options.scale), capped: options.softcap.is_some() };
        for j in block.keys.clone() {
            scores.weights(s, j, &rows);
        }
        let [_, ds] = scores.both();
        let keys: &[&[f32]; BLOCK] = block.rows[0].first_chunk().expect("64 keys");
        if block.kind == Kind::Whole {
            s.outline(AddValues::<MR, NP> { o: self.dq, v: keys, weights: ds, mixed: None });
            for p in 0..NP {
                self.allowed[p] |= (visible.real >> ((self.panel + p) * LANES) & 0xffff) as u32;
            }
        } else {
            let mixed = Mixed::new(s, block.live, block.keys.clone(), self.panel);
            mixed.clear(s, ds);
            s.outline(AddValues::<MR, NP> { o: self.dq, v: keys, weights: ds, mixed: Some(&mixed) });
            for p in 0..NP {
                self.allowed[p] |= u32::from(mixed.seen[p]);
            }
        }
    }

    /// The rows of dQ and D.
    #[inline(always)]
    fn finish<S: Simd>(&mut self, s: S, piece: &mut Piece<'_>) {
        for p in 0..NP {
            let first = (self.panel + p) * LANES;
            let rows = first..piece.rows().min(first + LANES);
            for (row, &delta) in rows.clone().zip(self.delta[p].iter()) {
                piece.set_lse(row, delta);
            }
            let (allowed, zero) = (s.mask_from_bits(self.allowed[p]), s.splat(0.0));
            for (at, lines) in self.dq.chunks(LANES).enumerate() {
                let mut columns = [zero; LANES];
                for (column, line) in columns.iter_mut().zip(lines) {
                    *column = s.select(allowed, s.load(&line[p]), zero);
                }
                for (row, out) in rows.clone().zip(s.transpose(columns)) {
                    piece.set_out(s, row, at * LANES, out);
                }
            }
        }
    }
}

/// The rows of panel `from` of `x` (1, group, queries, dim) to panel `to` of `out` (dim, lanes); zeros where there is
/// no query.
#[inline(always)]
fn transposed<S: Simd, const NP: usize>(
    s: S,
    piece: &Piece<'_>,
    x: &HeadsRef<'_>,
    (from, to): (usize, usize),
    out: &mut [[Line; NP]],
) {
    let first = from * LANES;
    for (c, lines) in out.chunks_mut(LANES).enumerate() {
        let mut rows = [s.splat(0.0); LANES];
        for (row, r) in rows.iter_mut().zip(first..piece.rows()) {
            if piece.exists(r) {
                *row = read(s, x.head(0, piece.local_head(r)), piece.query(r), c * LANES);
            }
        }
        for (line, column) in lines.iter_mut().zip(s.transpose(rows)) {
            s.store(&mut line[to], column);
        }
    }
}

/// D of one row: Σ dO · O by clause 2.
#[inline(always)]
fn product<S: Simd>(s: S, of: &QueryPiece<'_>, head: usize, query: usize) -> f32 {
    let (out, d_out) = (of.out.head(0, head), of.d_out.head(0, head));
    let mut chains = s.splat(0.0);
    for c in (0..out.cols()).step_by(LANES) {
        chains = s.fma(read(s, d_out, query, c), read(s, out, query, c), chains);
    }
    s.sum(chains)
}
