//! How keys, values and queries are read: where they lie, if their components lie side by side.

use super::class::{Class, F32};
use super::stored::{Decode, StoredRows};
use super::{BLOCK, Products, words};
use crate::simd::Simd;
use crate::view::MatRef;
use crate::{LANES, Line};
use core::array::from_fn;

/// Components that a row of values must have to be read in place: the most that a register tile takes.
pub(super) const MIN_VALUES: usize = 8;

/// The part of the scratch that stands in for rows.
pub(super) struct Spare<'s> {
    /// A row of zeros, for keys that no row sees.
    zeros: &'s [f32],
    /// 64 keys and 64 values, where they cannot be read in place.
    k: &'s mut [f32],
    v: &'s mut [f32],
}

/// Floats of a row of values as it is read.
pub(super) const fn value_width(v_dim: usize) -> usize {
    if v_dim < MIN_VALUES { MIN_VALUES } else { v_dim }
}

impl<'s> Spare<'s> {
    /// Lines that [`Spare::new`] takes.
    pub(super) const fn len(qk_dim: usize, v_dim: usize) -> usize {
        let (k, v) = (words(qk_dim), words(value_width(v_dim)));
        BLOCK * (k + v) + if k > v { k } else { v }
    }

    pub(super) fn new(scratch: &mut &'s mut [Line], qk_dim: usize, v_dim: usize) -> Self {
        let (k, v) = (words(qk_dim), words(value_width(v_dim)));
        let zeros = carve(scratch, k.max(v));
        zeros.fill(Line::ZERO);
        Spare {
            zeros: Line::floats(zeros),
            k: Line::floats_mut(carve(scratch, BLOCK * k)),
            v: Line::floats_mut(carve(scratch, BLOCK * v)),
        }
    }

    /// The keys and values of the block from row `start` on; zeros where `any` has no bit and past 64.
    #[inline(always)]
    pub(super) fn block<'b, S: Simd, C: Class, const N: usize>(
        &'b mut self,
        s: S,
        class: C,
        k: StoredRows<'b>,
        v: StoredRows<'b>,
        (start, any): (usize, u64),
    ) -> Rows<'b, N> {
        let block = (start, any);
        let k = rows(s, class, k, block, (self.zeros, self.k, 0));
        Rows { k, v: rows(s, class, v, block, (self.zeros, self.v, MIN_VALUES)) }
    }

    /// Both kinds of row as `block` reads values: `N` of each, of rows `start..` of `a` and `b`. Room for keys as wide
    /// as for values must have been made.
    #[inline(always)]
    pub(super) fn pair<'b, S: Simd, const N: usize>(
        &'b mut self,
        s: S,
        (a, b): (StoredRows<'b>, StoredRows<'b>),
        block: (usize, u64),
    ) -> [[&'b [f32]; N]; 2] {
        let a = rows(s, F32, a, block, (self.zeros, self.k, MIN_VALUES));
        [a, rows(s, F32, b, block, (self.zeros, self.v, MIN_VALUES))]
    }

    /// The keys of the block from row `start` on that have a bit in `any`, side by side, others zeros.
    #[inline(always)]
    pub(super) fn keys<S: Simd, C: Class>(
        &mut self,
        s: S,
        class: C,
        k: StoredRows<'_>,
        block: (usize, u64),
    ) -> MatRef<'_> {
        copied(s, class, k, block, (self.k, 0))
    }

    /// The same of values.
    #[inline(always)]
    pub(super) fn values<S: Simd, C: Class>(
        &mut self,
        s: S,
        class: C,
        v: StoredRows<'_>,
        block: (usize, u64),
    ) -> MatRef<'_> {
        copied(s, class, v, block, (self.v, MIN_VALUES))
    }
}

/// A block of keys, `N` rows, and its values.
pub(super) struct Rows<'b, const N: usize> {
    pub k: [&'b [f32]; N],
    pub v: [&'b [f32]; BLOCK],
}

/// Takes `n` lines off the front of the scratch.
pub(super) fn carve<'s>(scratch: &mut &'s mut [Line], n: usize) -> &'s mut [Line] {
    scratch.split_off_mut(..n).expect("scratch_len covers every part")
}

/// Rows `start..` of `x` where `any` has a bit: in place if they are floats that are multiplied as such, at least `least`
/// of them side by side, else copied to `spare`. The others are `zeros`.
#[inline(always)]
fn rows<'b, S: Simd, C: Class, const N: usize>(
    s: S,
    class: C,
    x: StoredRows<'b>,
    (start, any): (usize, u64),
    (zeros, spare, least): (&'b [f32], &'b mut [f32], usize),
) -> [&'b [f32]; N] {
    let (x, start) = match (C::PRODUCTS, x) {
        (Products::F32, StoredRows::F32(cells)) if cells.x.cols() >= least && cells.x.has_rows() => {
            (cells.x, start)
        }
        _ => (copied(s, class, x, (start, any), (spare, least)), 0),
    };
    let mut to = [&zeros[..x.cols()]; N];
    if any == u64::MAX {
        to[..BLOCK].copy_from_slice(&x.strip::<BLOCK>(start).rows());
        return to;
    }
    for (j, to) in to.iter_mut().enumerate().take(BLOCK) {
        if any >> j & 1 == 1 {
            *to = x.row(start + j).unwrap_or(&[]);
        }
    }
    to
}

/// 64 rows `start..` of `x` as products of the class read them, each padded to words and at least `least` floats; zeros
/// where `any` has no bit.
#[inline(always)]
fn copied<'b, S: Simd, C: Class>(
    s: S,
    class: C,
    x: StoredRows<'_>,
    block: (usize, u64),
    (spare, least): (&'b mut [f32], usize),
) -> MatRef<'b> {
    let width = words(x.cols().max(least)) * LANES;
    let spare = &mut spare[..BLOCK * width];
    let (start, any) = block;
    s.outline(Decode { class, x, start, any, width, to: &mut *spare });
    MatRef::new(spare, BLOCK, width)
}

/// Sixteen components of row `r` from `c` on, +0 past its end.
#[inline(always)]
pub(super) fn read<S: Simd>(s: S, x: MatRef<'_>, r: usize, c: usize) -> S::F32 {
    let n = LANES.min(x.cols() - c);
    match x.row(r) {
        Some(row) => word(s, row, c),
        None => s.load(&from_fn(|i| if i < n { x.get(r, c + i) } else { 0.0 })),
    }
}

/// Sixteen floats of a row from `c` on, +0 past its end.
#[inline(always)]
pub(super) fn word<S: Simd>(s: S, row: &[f32], c: usize) -> S::F32 {
    let rest = &row[c..];
    match rest.first_chunk() {
        Some(word) => s.load(word),
        None => s.load_tail(rest, 0.0),
    }
}
