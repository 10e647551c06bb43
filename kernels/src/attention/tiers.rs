//! Which kernel a piece goes to: a matter of speed, or of size, for all give the same bits.

use super::class::{Bf16, Class, F32};
use super::{PANELS, Piece, decode, prefill};
use crate::simd::Simd;
use crate::view::{HEADS, TOKENS};
use crate::{Kernel, LANES, Line};

/// A class, and the tiles of its products that fit the registers of a tier.
pub(super) trait Tiles: Class {
    /// A piece of few rows: for values, rows × words.
    fn decode<S: Simd>(self, s: S, piece: Piece<'_>, scratch: &mut [Line]);
    /// Any piece: keys or components × panels of sixteen rows.
    fn prefill<S: Simd>(self, s: S, piece: Piece<'_>, scratch: &mut [Line]);
}

impl Tiles for F32 {
    #[inline(always)]
    fn decode<S: Simd>(self, s: S, piece: Piece<'_>, scratch: &mut [Line]) {
        match (S::TILE, piece.rows()) {
            ((_, 3), 1) => s.outline(decode::Work::<F32, 1, 8> { class: self, piece, scratch }),
            ((_, 3), _) => s.outline(decode::Work::<F32, 4, 4> { class: self, piece, scratch }),
            (_, 1) => s.outline(decode::Work::<F32, 1, 4> { class: self, piece, scratch }),
            _ => s.outline(decode::Work::<F32, 4, 1> { class: self, piece, scratch }),
        }
    }

    #[inline(always)]
    fn prefill<S: Simd>(self, s: S, piece: Piece<'_>, scratch: &mut [Line]) {
        match (S::TILE, piece.rows().div_ceil(LANES)) {
            ((_, 3), PANELS) => s.outline(prefill::Work::<F32, 8, PANELS> { class: self, piece, scratch }),
            ((_, 3), _) => s.outline(prefill::Work::<F32, 8, 1> { class: self, piece, scratch }),
            ((6.., _), _) => s.outline(prefill::Work::<F32, 5, 1> { class: self, piece, scratch }),
            _ => s.outline(prefill::Work::<F32, 2, 1> { class: self, piece, scratch }),
        }
    }
}

/// Two chains for each sum: half the keys.
impl Tiles for Bf16 {
    #[inline(always)]
    fn decode<S: Simd>(self, s: S, piece: Piece<'_>, scratch: &mut [Line]) {
        match (S::TILE, piece.rows()) {
            ((_, 3), 1) => s.outline(decode::Work::<Bf16, 1, 8> { class: self, piece, scratch }),
            ((_, 3), _) => s.outline(decode::Work::<Bf16, 4, 2> { class: self, piece, scratch }),
            (_, 1) => s.outline(decode::Work::<Bf16, 1, 2> { class: self, piece, scratch }),
            _ => s.outline(decode::Work::<Bf16, 4, 1> { class: self, piece, scratch }),
        }
    }

    #[inline(always)]
    fn prefill<S: Simd>(self, s: S, piece: Piece<'_>, scratch: &mut [Line]) {
        match (S::TILE, piece.rows().div_ceil(LANES)) {
            ((_, 3), PANELS) => s.outline(prefill::Work::<Bf16, 4, PANELS> { class: self, piece, scratch }),
            ((_, 3), _) => s.outline(prefill::Work::<Bf16, 8, 1> { class: self, piece, scratch }),
            ((6.., _), _) => s.outline(prefill::Work::<Bf16, 3, 1> { class: self, piece, scratch }),
            _ => s.outline(prefill::Work::<Bf16, 1, 1> { class: self, piece, scratch }),
        }
    }
}

/// A piece, with the scratch of a thread.
pub(super) struct Run<'a, 's, C> {
    pub class: C,
    pub piece: Piece<'a>,
    pub scratch: &'s mut [Line],
}

impl<C: Tiles> Kernel for Run<'_, '_, C> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Run { class, mut piece, scratch } = self;
        if S::SMALL {
            let [_, heads, queries, _] = piece.q.shape();
            for query in 0..queries {
                let mut output = piece.output.take_front(TOKENS, 1);
                for head in 0..heads {
                    let piece = piece.one(query, head, output.take_front(HEADS, 1));
                    s.outline(decode::Work::<C, 1, 1> { class, piece, scratch: &mut *scratch });
                }
            }
            return;
        }
        for piece in piece.parts().into_iter().flatten() {
            if piece.rows() <= decode::MAX_ROWS {
                class.decode(s, piece, scratch);
            } else {
                class.prefill(s, piece, scratch);
            }
        }
    }
}
