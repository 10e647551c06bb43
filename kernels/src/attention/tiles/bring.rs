//! Rows, keys and values on their way to tiles: rounded, two steps side by side.

use super::super::BLOCK;
use super::super::class::F32;
use super::super::prefill::load;
use super::super::rows::Rows;
use super::{Block, TILES, deep};
use crate::attention::Piece;
use crate::simd::Simd;
use crate::simd::tiles::{Rounds, STEPS, Tile};
use crate::{Kernel, LANES, Line};

/// Sixteen rows to tiles.
pub(super) struct Load<'f, 'a, T> {
    pub piece: &'f Piece<'a>,
    pub panel: usize,
    pub q: &'f mut [Tile],
    /// For Qᵀ as floats.
    pub room: &'f mut [Line],
    pub tiles: &'f T,
}

impl<T: Rounds> Kernel for Load<'_, '_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Load { piece, panel, q, room, tiles } = self;
        load(s, F32, piece, panel, room.as_chunks_mut::<1>().0);
        for (line, pair) in q.as_flattened_mut().iter_mut().zip((0..).step_by(2)) {
            let component = |c: usize| room.get(c).map_or(&Line::ZERO.0, |line| &line.0);
            tiles.pair(component(pair), component(pair + 1), line);
        }
    }
}

/// The keys and values of a block to tiles.
pub(super) struct Bring<'f, 'k, 's, T> {
    pub rows: &'f Rows<'k, BLOCK>,
    pub dims: (usize, usize),
    pub block: &'f mut Block<'s>,
    pub tiles: &'f T,
}

impl<T: Rounds> Kernel for Bring<'_, '_, '_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Bring { rows: Rows { k, v }, dims: (d, v_dim), block, tiles } = self;
        for (keys, stripe) in k.as_chunks::<LANES>().0.iter().zip(block.k.chunks_exact_mut(deep(d))) {
            for (r, key) in keys.iter().enumerate() {
                let (whole, rest) = key[..d].as_chunks();
                for (x, tile) in whole.iter().zip(stripe.iter_mut()) {
                    tiles.round(x, &mut tile[r]);
                }
                if !rest.is_empty() {
                    tiles.round(&padded(rest), &mut stripe[whole.len()][r]);
                }
            }
        }
        for (c, stripe) in (0..v_dim).step_by(LANES).zip(block.v.chunks_exact_mut(TILES)) {
            for (values, tile) in v.as_chunks::<STEPS>().0.iter().zip(stripe) {
                let mut pairs = [Line::ZERO; LANES];
                for (pair, [even, odd]) in pairs.iter_mut().zip(values.as_chunks().0) {
                    match (even[c..].first_chunk(), odd[c..].first_chunk()) {
                        (Some(even), Some(odd)) => tiles.pair(even, odd, pair),
                        _ => tiles.pair(&padded(&even[c..v_dim]), &padded(&odd[c..v_dim]), pair),
                    }
                }
                let mut words = [s.splat(0.0); LANES];
                for i in 0..LANES {
                    words[i] = s.load(&pairs[i]);
                }
                let columns = s.transpose(words);
                for i in 0..LANES {
                    s.store(&mut tile[i], columns[i]);
                }
            }
        }
    }
}

/// `x` and zeros.
fn padded<const N: usize>(x: &[f32]) -> [f32; N] {
    let mut all = [0.0; N];
    all[..x.len()].copy_from_slice(x);
    all
}
