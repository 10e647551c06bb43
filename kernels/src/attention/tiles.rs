//! Prefill of bfloat16 on a matrix unit: panels of sixteen rows, up to 24, against blocks of 64 keys.
//!
//! **Law.**   That of `prefill.rs` with products by clause 10, whose 32 steps of two chains are what the unit does to a
//! tile; a score of at most 256 components is one block of it.
//!
//! ```text
//!   scores   Sᵀ (16 keys × 16 rows)         K, rounded, row by row  ·  Qᵀ, two components of sixteen rows side by side
//!   values   Oᵀ (16 components × 16 rows)   Vᵀ: two keys side by side, then sixteen by sixteen transposed
//!                                                                   ·  Pᵀ, two keys of sixteen rows side by side
//!
//!   a block:   K, V to tiles │ exp of panel 0       │ exp of panel 1       │ …  │ exp of panel n │
//!   the unit:           k · q₀ │ k · q₁               │ v · p₀  k · q₂       │    │ v · pₙ₋₁       │ v · pₙ
//! ```
//!
//! What rounding to tiles costs is paid once for all panels. A masked key has p = +0, which changes no chain but where its v is
//! not finite: there chains are made anew, key by key.
//!
//! **Cost.**  A block of 64 components and a panel: the unit is busy for 256 cycles, 64 × 16 exponentials take twice as long.
//! What a panel reads and writes, and K and V as tiles, must stay in L1: 32 KB.
//!
//! **Reference.**  Intel Optimization Reference Manual, chapter 20.

mod bring;
mod values;
mod weigh;

use super::class::{F32, GROUP};
use super::mask::{Kind, Live, Visible};
use super::pieces::PARTS;
use super::prefill::Group;
use super::rows::{Spare, carve};
use super::softmax::State;
use super::{BLOCK, K_BLOCK, PANELS, Piece, ROWS};
use crate::simd::Simd;
use crate::simd::tiles::{NOTHING, Rounds, STEPS, Tile};
use crate::{Kernel, LANES, Line};
use bring::{Bring, Load};
use core::array::from_fn;
use values::Add;
use weigh::{Errands, Soften, Way};

/// Components of a score, at most: one chain of blocks, never added to another.
pub(super) const MAX_DIM: usize = K_BLOCK;
/// Fewer rows than these leave most of the panels empty.
pub(super) const MIN_ROWS: usize = LANES + 1;

/// Panels of a piece.
const PIECE: usize = PARTS * PANELS;
/// Tiles of a block of keys in a panel, or in a stripe of values.
const TILES: usize = BLOCK / STEPS;

/// Two stripes of products.
type Two = [Tile; 2];
/// Scores of a block of keys and a panel, or weights.
type Scores = [[Line; 1]; BLOCK];

/// A tile holds as many keys, or components, as a group of the law.
const _: () = assert!(STEPS == GROUP && 2 * LANES == STEPS);

/// Tiles of a row of `dim` components.
const fn deep(dim: usize) -> usize {
    dim.div_ceil(STEPS)
}

/// Pairs of stripes of `dim` components.
const fn twos(dim: usize) -> usize {
    dim.div_ceil(2 * LANES)
}

/// Lines of scratch.
pub(super) const fn scratch_len(qk_dim: usize, v_dim: usize) -> usize {
    let panel = deep(qk_dim) * LANES + v_dim;
    let keys = (BLOCK / LANES * deep(qk_dim) + 2 * twos(v_dim) * TILES) * LANES;
    let hand = 3 * BLOCK + 2 * TILES * LANES + 2 * twos(v_dim) * LANES;
    Spare::len(qk_dim, v_dim) + qk_dim + PIECE * panel + keys + hand
}

/// A piece of at most 384 rows.
pub(super) struct OnTiles<'a, 's, T> {
    pub piece: Piece<'a>,
    pub scratch: &'s mut [Line],
    pub tiles: T,
}

/// At most 48 rows.
struct Part<'a> {
    piece: Piece<'a>,
    visible: Visible,
    /// What the block at hand is to them.
    kind: Kind,
    live: Live,
}

/// Sixteen of them.
struct Panel<'s> {
    /// Of which part.
    part: usize,
    /// What the block at hand is to it.
    kind: Kind,
    group: Group<'s, 1>,
    /// Qᵀ.
    q: &'s mut [Tile],
}

/// A block of keys, and the panel at hand.
struct Block<'s> {
    /// Number of the first key.
    start: usize,
    k: &'s mut [Tile],
    /// Vᵀ, stripe by stripe.
    v: &'s mut [Tile],
    /// Scores of the panel at hand, of the next and of the one before.
    scores: [&'s mut Scores; 3],
    /// Pᵀ of the panel at hand, and of the one before.
    p: [&'s mut [Tile; TILES]; 2],
    /// v · p of the panel before.
    products: &'s mut [Two],
}

fn tiles_of<'s>(scratch: &mut &'s mut [Line], n: usize) -> &'s mut [Tile] {
    carve(scratch, n * LANES).as_chunks_mut().0
}

impl<'s> Block<'s> {
    fn new(scratch: &mut &'s mut [Line], (qk_dim, v_dim): (usize, usize)) -> Self {
        let block = Block {
            start: 0,
            k: tiles_of(scratch, BLOCK / LANES * deep(qk_dim)),
            v: tiles_of(scratch, 2 * twos(v_dim) * TILES),
            scores: from_fn(|_| {
                carve(scratch, BLOCK).as_chunks_mut().0.first_chunk_mut().expect("64 of them")
            }),
            p: from_fn(|_| tiles_of(scratch, TILES).first_chunk_mut().expect("of a block")),
            products: tiles_of(scratch, 2 * twos(v_dim)).as_chunks_mut().0,
        };
        // The second of the last two stripes may have no component.
        block.v.fill(NOTHING);
        block
    }
}

impl<T: Rounds> Kernel for OnTiles<'_, '_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let OnTiles { piece, scratch, mut tiles } = self;
        let dims = (piece.k.cols(), piece.v.cols());
        let (k, v) = (piece.k, piece.v);
        let scratch = &mut &mut *scratch;
        let mut spare = Spare::new(scratch, dims.0, dims.1);
        let room = carve(scratch, dims.0);
        let mut block = Block::new(scratch, dims);
        let mut parts = piece.parts().map(|piece| piece.map(Part::new));
        let mut panels = [const { None }; PIECE];
        let mut blocks = 0..0;
        for (i, part) in parts.iter().enumerate() {
            let Some(Part { piece, visible, .. }) = part else { continue };
            let own = visible.blocks();
            if blocks.is_empty() {
                blocks = own;
            } else if !own.is_empty() {
                blocks = blocks.start.min(own.start)..blocks.end.max(own.end);
            }
            for panel in 0..piece.rows().div_ceil(LANES) {
                let o = carve(scratch, dims.1).as_chunks_mut().0;
                let q = tiles_of(scratch, deep(dims.0));
                s.outline(Load { piece, panel, q, room: &mut *room, tiles: &tiles });
                o.fill([Line::ZERO]);
                let group = Group { q: &mut [], o, state: [State::START], panel };
                panels[i * PANELS + panel] = Some(Panel { part: i, kind: Kind::Masked, group, q });
            }
        }
        for b in blocks {
            let (mut any, start) = (0, b * BLOCK);
            for part in parts.iter_mut().flatten() {
                part.kind = part.visible.block(s, &part.piece, b, &mut part.live);
                any |= match part.kind {
                    Kind::Masked => 0,
                    Kind::Whole => u64::MAX,
                    Kind::Mixed => part.live.iter().fold(0, |any, live| any | live),
                };
            }
            if any != 0 {
                // As floats: they are rounded on their way to tiles.
                let rows = spare.block(s, F32, k, v, (start, any));
                block.start = start;
                s.outline(Bring { rows: &rows, dims, block: &mut block, tiles: &tiles });
                let v = &rows.v;
                s.outline(Take {
                    parts: &parts,
                    panels: &mut panels,
                    v,
                    block: &mut block,
                    tiles: &mut tiles,
                });
            }
        }
        for Panel { part, group, .. } in panels.iter_mut().flatten() {
            if let Some(Part { piece, .. }) = &mut parts[*part] {
                s.outline(End { group, piece });
            }
        }
    }
}

impl<'a> Part<'a> {
    fn new(piece: Piece<'a>) -> Self {
        Part { visible: Visible::new(&piece), kind: Kind::Masked, live: [0; ROWS], piece }
    }

    /// What the block is to a panel.
    fn kind(&self, panel: usize) -> Kind {
        if self.kind != Kind::Mixed {
            return self.kind;
        }
        let (mut any, mut all) = (0, u64::MAX);
        for (lane, live) in self.live(panel).iter().enumerate() {
            any |= live;
            if self.real(panel) >> lane & 1 == 1 {
                all &= live;
            }
        }
        match (any, all) {
            (0, _) => Kind::Masked,
            (_, u64::MAX) => Kind::Whole,
            _ => Kind::Mixed,
        }
    }

    /// Rows of a panel that are queries: bit a lane.
    fn real(&self, panel: usize) -> u32 {
        (self.visible.real >> (panel * LANES)) as u32 & 0xffff
    }

    /// Of each row of a panel, the keys of a mixed block that it sees.
    fn live(&self, panel: usize) -> &[u64] {
        &self.live[panel * LANES..][..LANES]
    }
}

/// One block of keys, for those panels that see some of them.
struct Take<'f, 'a, 's, 'k, T> {
    parts: &'f [Option<Part<'a>>; PARTS],
    panels: &'f mut [Option<Panel<'s>>; PIECE],
    v: &'f [&'k [f32]; BLOCK],
    block: &'f mut Block<'s>,
    tiles: &'f mut T,
}

impl<T: Rounds> Kernel for Take<'_, '_, '_, '_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Take { parts, panels, v, block, tiles } = self;
        let Block { start, k, v: stripes, scores: [now, next, before], p: [p, last_p], products } = block;
        let mut seeing: [Option<(&Part<'_>, &mut Panel<'_>)>; PIECE] = [const { None }; PIECE];
        let mut places = seeing.iter_mut();
        for panel in panels.iter_mut().flatten() {
            let Some(part) = &parts[panel.part] else { continue };
            panel.kind = part.kind(panel.group.panel);
            if panel.kind != Kind::Masked
                && let Some(place) = places.next()
            {
                *place = Some((part, panel));
            }
        }
        if let Some((_, panel)) = &seeing[0] {
            Errands::scores(k, panel, now).all(tiles);
        }
        let mut last: Option<(Way, &mut Panel<'_>)> = None;
        for i in 0..PIECE {
            let Some((part, panel)) = seeing[i].take() else { break };
            let scores = match seeing.get(i + 1) {
                Some(Some((_, panel))) => Errands::scores(k, panel, next),
                _ => Errands::nothing(),
            };
            let values = if last.is_some() {
                Errands::new(stripes, &last_p[..], products)
            } else {
                Errands::nothing()
            };
            let errands = [scores, values];
            let way =
                s.outline(Soften { part, panel: &mut *panel, start: *start, scores: now, p, errands, tiles });
            if let Some((way, panel)) = last {
                s.outline(Add { o: panel.group.o, way: &way, weights: before, v, products });
            }
            core::mem::swap(before, now);
            core::mem::swap(now, next);
            core::mem::swap(p, last_p);
            last = Some((way, panel));
        }
        if let Some((way, panel)) = last {
            Errands::new(stripes, &last_p[..], products).all(tiles);
            s.outline(Add { o: panel.group.o, way: &way, weights: before, v, products });
        }
    }
}

/// Sums to rows of the output.
struct End<'f, 'a, 's> {
    group: &'f mut Group<'s, 1>,
    piece: &'f mut Piece<'a>,
}

impl Kernel for End<'_, '_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        self.group.finish(s, self.piece);
    }
}
