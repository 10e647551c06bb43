//! Which keys a query may see: named patterns, lengths, masks; and, block by block, one bit a key.
//!
//! A pattern, a window and the sequence's ends make an interval of keys for each query; blocks outside every
//! row's interval are never looked at, and blocks inside all of them need no bits. `Keep` and `Additive`
//! masks are asked only about keys inside the interval.

use super::{BLOCK, ROWS};
use crate::simd::Simd;
use crate::view::{HeadsRef, MatRef};
use crate::{LANES, attention::Piece};
use core::ops::Range;

/// Which keys a query sees, by position: that of query i is i plus what [`Align`] says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pattern {
    /// Every key.
    #[default]
    Full,
    /// Key j where j <= i.
    Causal,
    /// The last w keys up to its own: key j where i − w < j <= i.
    Window(usize),
}

/// Where the first query stands among the keys: its position, for patterns and for ALiBi.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Align {
    /// The last query stands at the last key: position Lk − Lq. What decoding with a cache means.
    #[default]
    BottomRight,
    /// Position 0. What PyTorch's `is_causal` means.
    TopLeft,
    /// This position.
    Offset(isize),
}

impl Align {
    /// The position of the first of `queries` among `keys`.
    pub(super) const fn position(self, queries: usize, keys: usize) -> isize {
        match self {
            Align::BottomRight => keys as isize - queries as isize,
            Align::TopLeft => 0,
            Align::Offset(position) => position,
        }
    }
}

/// (batch, heads, Lq, Lk): a key is seen where the byte is not 0. Strides may be 0.
#[derive(Clone, Copy, Debug)]
pub struct Keep<'a>(pub HeadsRef<'a, u8>);

/// (batch, heads, Lq, Lk): added to the scores; a key is not seen where it is −∞. Strides may be 0.
#[derive(Clone, Copy, Debug)]
pub struct Additive<'a>(pub HeadsRef<'a, f32>);

/// The tokens of a padded row that exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first that exists.
    pub start: usize,
    /// How many do.
    pub len: usize,
}

/// How the tokens of q, k and v fall into sequences. Positions count from the start of each sequence, and so
/// do the blocks of 64 keys: padding and neighbours change no bit.
#[derive(Clone, Copy, Debug, Default)]
pub enum Sequences<'a> {
    /// Each batch row is one sequence of Lq queries and Lk keys.
    #[default]
    Whole,
    /// Each batch row holds one sequence and padding on either side of it. Rows of `out` for padding become
    /// +0. `Keep` and `Additive` count tokens with the padding.
    Padded {
        /// (batch): the queries that exist; all of them where `None`.
        queries: Option<&'a [Span]>,
        /// (batch): the keys that exist.
        keys: &'a [Span],
    },
    /// The batch is 1 and its tokens are sequences laid end to end: sequence s has the tokens
    /// `queries[s]..queries[s + 1]` and the keys `keys[s]..keys[s + 1]`. `Keep` and `Additive` have a batch
    /// row a sequence and count tokens from its start.
    Packed {
        /// (sequences + 1): from 0 to Lq, ascending.
        queries: &'a [usize],
        /// (sequences + 1): from 0 to Lk, ascending.
        keys: &'a [usize],
    },
}

/// What a block of keys is to the rows of a piece.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// No row sees any key.
    Masked,
    /// Every row sees all 64 keys.
    Whole,
    /// Anything else.
    Mixed,
}

/// One bit a key for each row of a piece.
pub(super) type Live = [u64; ROWS];

/// The intervals of a piece's rows.
pub(super) struct Visible {
    /// Keys that the pattern lets each row see; empty for a query that is padding.
    rows: [(usize, usize); ROWS],
    /// Rows that are a query: bit r.
    pub real: u64,
    /// The keys that every real row sees.
    common: Range<usize>,
    /// The keys that any row sees.
    any: Range<usize>,
}

impl Visible {
    /// Of the rows of `piece`.
    pub(super) fn new(piece: &Piece<'_>) -> Visible {
        let n = piece.k.rows();
        let (mut common, mut any, mut real) = (0..n, n..0, 0);
        let rows = core::array::from_fn(|r| {
            if r >= piece.rows() || !piece.exists(r) {
                return (0, 0);
            }
            real |= 1 << r;
            let (low, high) = interval(piece.options.pattern, piece.position(r), n);
            common = common.start.max(low)..common.end.min(high);
            any = any.start.min(low)..any.end.max(high);
            (low, high)
        });
        Visible { rows, real, common, any }
    }

    /// The blocks that some row may see.
    pub(super) fn blocks(&self) -> Range<usize> {
        let end = self.any.end.div_ceil(BLOCK);
        (self.any.start / BLOCK).min(end)..end
    }

    /// The bits of block `b`, left untouched where it is whole.
    #[inline(always)]
    pub(super) fn block<S: Simd>(&self, s: S, piece: &Piece<'_>, b: usize, live: &mut Live) -> Kind {
        let start = b * BLOCK;
        let masked = piece.options.keep.is_some() || piece.options.additive.is_some();
        if !masked && self.common.start <= start && start + BLOCK <= self.common.end {
            return Kind::Whole;
        }
        let (mut all, mut any) = (u64::MAX, 0);
        for (r, live) in live.iter_mut().enumerate() {
            let (low, high) = self.rows[r];
            *live = below(high.saturating_sub(start)) & !below(low.saturating_sub(start));
            if masked && *live != 0 {
                *live &= piece.unmasked(s, r, start);
            }
            any |= *live;
            if self.real >> r & 1 == 1 {
                all &= *live;
            }
        }
        match (any, all) {
            (0, _) => Kind::Masked,
            (_, u64::MAX) => Kind::Whole,
            _ => Kind::Mixed,
        }
    }
}

impl Piece<'_> {
    /// One bit a key of the block from `start` on: what the masks let row `r` see. Keys that the sequence
    /// does not have come out as any bit.
    #[inline(always)]
    fn unmasked<S: Simd>(&self, s: S, r: usize, start: usize) -> u64 {
        let mut bits = u64::MAX;
        if let Some(Keep(mask)) = self.options.keep {
            let mask = self.mask_head(&mask, r);
            for at in (0..BLOCK).step_by(LANES) {
                let word = s.load_u8(&self.mask_word(mask, r, start + at));
                bits &= !(hidden(s, s.gt_i(word, s.splat_i(0))) << at);
            }
        }
        if let Some(Additive(mask)) = self.options.additive {
            let mask = self.mask_head(&mask, r);
            for at in (0..BLOCK).step_by(LANES) {
                let word = s.load(&self.mask_word(mask, r, start + at));
                bits &= hidden(s, s.eq(word, s.splat(f32::NEG_INFINITY))) << at | !(0xffff << at);
            }
        }
        bits
    }

    /// The matrix (Lq, Lk) of a mask for the head of row `r`.
    #[inline(always)]
    pub(super) fn mask_head<'m, T>(&self, mask: &HeadsRef<'m, T>, r: usize) -> MatRef<'m, T> {
        mask.head(self.place.sequence, self.head(r))
    }

    /// Sixteen mask elements of row `r` from key `start` on; default values past the last key.
    #[inline(always)]
    pub(super) fn mask_word<T: Copy + Default>(
        &self,
        mask: MatRef<'_, T>,
        r: usize,
        start: usize,
    ) -> [T; LANES] {
        let (query, n) = (self.place.query + self.query(r), self.k.rows());
        let keys = start.min(n)..(start + LANES).min(n);
        word_of(mask, query, self.place.key + keys.start..self.place.key + keys.end)
    }
}

/// At most sixteen elements of a row of a mask, then default values.
#[inline(always)]
pub(super) fn word_of<T: Copy + Default>(
    mask: MatRef<'_, T>,
    query: usize,
    keys: Range<usize>,
) -> [T; LANES] {
    let mut word = [T::default(); LANES];
    match mask.row(query) {
        Some(row) => word[..keys.len()].copy_from_slice(&row[keys]),
        None => keys.zip(&mut word).for_each(|(key, x)| *x = mask.get(query, key)),
    }
    word
}

/// A bit for each lane that is not in `m`.
#[inline(always)]
pub(super) fn hidden<S: Simd>(s: S, m: S::Mask) -> u64 {
    u64::from(!s.mask_bits(m) & 0xffff)
}

/// The keys among `n` that a query at `position` sees.
pub(super) fn interval(pattern: Pattern, position: isize, n: usize) -> (usize, usize) {
    let clamp = |at: isize| usize::try_from(at).unwrap_or(0).min(n);
    let end = position.saturating_add(1);
    match pattern {
        Pattern::Full => (0, n),
        Pattern::Causal => (0, clamp(end)),
        Pattern::Window(w) => (clamp(end.saturating_sub_unsigned(w)), clamp(end)),
    }
}

/// The lowest `n` bits; all of them from 64 up.
pub(super) const fn below(n: usize) -> u64 {
    if n >= BLOCK { u64::MAX } else { (1 << n) - 1 }
}

/// The slopes of ALiBi for as many heads as there are places (Press, Smith, Lewis 2022, [arXiv:2108.12409](https://arxiv.org/abs/2108.12409), where
/// `max_bias` is 8): with n the largest power of two up to that number, head h has 2^(−max_bias · (h+1) / n),
/// from h = n on 2^(−max_bias · (2(h−n)+1) / 2n). Computed in `f64`, rounded once.
///
/// ```
/// use samebits_kernels::attention::alibi_slopes;
/// let mut slopes = [0.0; 4];
/// alibi_slopes(8.0, &mut slopes);
/// assert_eq!(slopes, [1.0 / 4.0, 1.0 / 16.0, 1.0 / 64.0, 1.0 / 256.0]);
/// ```
pub fn alibi_slopes(max_bias: f64, slopes: &mut [f32]) {
    let Some(log) = slopes.len().checked_ilog2() else { return };
    let n = 1usize << log;
    for (h, slope) in slopes.iter_mut().enumerate() {
        let steps = if h < n { 2 * (h + 1) } else { 2 * (h - n) + 1 };
        *slope = crate::math::pow64(2.0, -max_bias * steps as f64 / (2 * n) as f64) as f32;
    }
}
