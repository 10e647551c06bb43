//! Products to weights, with the unit's work between exponentials.

use super::super::mask::Kind;
use super::super::softmax::{State, rescale, tree_of};
use super::super::tile::{Mixed, masks_of};
use super::super::{BLOCK, Options, bias};
use super::{Panel, Part, Scores, TILES, Two};
use crate::math::exp::{exp_nonpositive, exp_or_nothing};
use crate::simd::Simd;
use crate::simd::tiles::{NOTHING, Rounds, Tile};
use crate::{Kernel, LANES, Line};
use core::slice::{ChunksExact, IterMut};

/// What the unit is to do next, two stripes at a time.
pub(super) struct Errands<'f> {
    left: ChunksExact<'f, Tile>,
    right: &'f [Tile],
    to: IterMut<'f, Two>,
}

impl<'f> Errands<'f> {
    /// Stripes `left`, as deep as the panel `right`.
    pub fn new(left: &'f [Tile], right: &'f [Tile], to: &'f mut [Two]) -> Self {
        Errands { left: left.chunks_exact(2 * right.len()), right, to: to.iter_mut() }
    }

    /// k · q
    pub fn scores(k: &'f [Tile], panel: &'f Panel<'_>, to: &'f mut Scores) -> Self {
        Errands::new(k, panel.q, to.as_flattened_mut().as_chunks_mut().0.as_chunks_mut().0)
    }

    pub fn nothing() -> Self {
        Errands::new(&[], &[NOTHING], &mut [])
    }

    /// The next; `false` where there is none.
    #[inline(always)]
    fn one(&mut self, tiles: &mut impl Rounds) -> bool {
        let (Some(left), Some(to)) = (self.left.next(), self.to.next()) else { return false };
        let (upper, lower) = left.split_at(self.right.len());
        tiles.panel([upper, lower], self.right, to);
        true
    }

    #[inline(always)]
    pub fn all(mut self, tiles: &mut impl Rounds) {
        while self.one(tiles) {}
    }
}

/// What a block is to the sums of a panel.
pub(super) struct Way {
    pub alpha: Line,
    /// Where some row does not see some key.
    pub mixed: Option<Mixed<1>>,
}

/// Products to scores, to weights, to tiles; between exponentials the unit's errands.
pub(super) struct Soften<'f, 'a, 's, T> {
    pub part: &'f Part<'a>,
    pub panel: &'f mut Panel<'s>,
    pub start: usize,
    pub scores: &'f mut Scores,
    pub p: &'f mut [Tile; TILES],
    pub errands: [Errands<'f>; 2],
    pub tiles: &'f mut T,
}

impl<T: Rounds> Kernel for Soften<'_, '_, '_, T> {
    type Output = Way;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Way {
        let Soften { part, panel, start, scores, p, mut errands, tiles } = self;
        let (at, state) = (panel.group.panel, &mut panel.group.state[0]);
        let mut scale = part.piece.options.scale;
        if part.piece.is_biased() {
            bias_scores(s, part, (at, start), scores);
            scale = 1.0; // times which nothing changes
        }
        let way = if panel.kind == Kind::Mixed {
            let mixed = part.mixed(s, at);
            state.allowed |= u32::from(mixed.seen[0]);
            let alpha = weigh(s, (scores, p), (scale, &mixed), state, &mut errands, tiles);
            Way { alpha, mixed: Some(mixed) }
        } else {
            state.allowed |= part.real(at);
            Way { alpha: weigh(s, (scores, p), (scale, &Unmasked), state, &mut errands, tiles), mixed: None }
        };
        for errands in errands {
            errands.all(tiles);
        }
        way
    }
}

/// What a panel sees.
trait Seen {
    /// Whether there are such; then weights are asked for again.
    const HIDES: bool;
    /// −∞ where a row does not see key `j`.
    fn hide<S: Simd>(&self, s: S, j: usize, score: S::F32) -> S::F32;
}

/// All keys.
struct Unmasked;

impl Seen for Unmasked {
    const HIDES: bool = false;
    #[inline(always)]
    fn hide<S: Simd>(&self, _: S, _: usize, score: S::F32) -> S::F32 {
        score
    }
}

impl Seen for Mixed<1> {
    const HIDES: bool = true;
    #[inline(always)]
    fn hide<S: Simd>(&self, s: S, j: usize, score: S::F32) -> S::F32 {
        let [seen] = masks_of(s, self.mask(j));
        s.select(seen, score, s.splat(f32::NEG_INFINITY))
    }
}

/// What `softmax::columns` does, of scores that are products × scale; weights go to tiles, by twos. A key that no row sees
/// has a weight of +0, which changes no chain.
#[inline(always)]
fn weigh<S: Simd, K: Seen, T: Rounds>(
    s: S,
    (scores, p): (&mut Scores, &mut [Tile; TILES]),
    (scale, seen): (f32, &K),
    state: &mut State,
    errands: &mut [Errands<'_>; 2],
    tiles: &mut T,
) -> Line {
    let scale = s.splat(scale);
    // Four chains: a maximum is the same in any order.
    let mut max = [s.splat(f32::NEG_INFINITY); 4];
    for (at, scores) in scores.as_chunks::<4>().0.iter().enumerate() {
        for i in 0..4 {
            let score = seen.hide(s, 4 * at + i, s.mul(s.load(&scores[i][0]), scale));
            max[i] = s.max(score, max[i]);
        }
    }
    let max = s.max(s.max(max[0], max[1]), s.max(max[2], max[3]));
    let (m, base, alpha) = rescale(s, s.load(&state.m), max);
    let p = p.as_flattened_mut();
    let mut chains = [s.splat(0.0); LANES];
    for c in (0..LANES).step_by(2) {
        if c % 4 == 0 {
            let [first, second] = &mut *errands;
            let _ = first.one(tiles) || second.one(tiles);
        }
        for at in 0..BLOCK / LANES {
            let j = at * LANES + c;
            let mut pair = [Line::ZERO; 2];
            for odd in 0..2 {
                let score = seen.hide(s, j + odd, s.mul(s.load(&scores[j + odd][0]), scale));
                let x = s.sub(score, base);
                let weight = if K::HIDES { exp_or_nothing(s, x) } else { exp_nonpositive(s, x) };
                chains[c + odd] = s.add(chains[c + odd], weight);
                s.store(&mut pair[odd], weight);
            }
            tiles.pair(&pair[0].0, &pair[1].0, &mut p[j / 2]);
            if K::HIDES {
                (scores[j][0], scores[j + 1][0]) = (pair[0], pair[1]);
            }
        }
    }
    state.set(s, m, alpha, tree_of(s, chains));
    let mut line = Line::ZERO;
    s.store(&mut line, alpha);
    line
}

/// Products to scores.
#[inline(always)]
fn bias_scores<S: Simd>(s: S, part: &Part<'_>, (panel, start): (usize, usize), scores: &mut Scores) {
    let Options { scale, softcap, .. } = part.piece.options;
    for [score] in scores.iter_mut() {
        let scaled = s.mul(s.load(score), s.splat(scale));
        s.store(score, scaled);
    }
    if let Some(cap) = softcap {
        bias::cap(s, cap, scores);
    }
    bias::add(s, &part.piece, (panel, start), scores);
}

impl Part<'_> {
    /// The masks of a panel.
    #[inline(always)]
    fn mixed<S: Simd>(&self, s: S, panel: usize) -> Mixed<1> {
        let any = self.live(panel).iter().fold(0, |any, live| any | live);
        let end = BLOCK - any.leading_zeros() as usize;
        let keys = any.trailing_zeros() as usize / 2 * 2..end.next_multiple_of(2);
        Mixed::new(s, &self.live, keys, panel)
    }
}
