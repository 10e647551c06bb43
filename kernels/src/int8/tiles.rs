//! The exact product on a matrix unit.
//!
//! **Law.**   That of `exact.rs`: what a unit adds is exact, so its order is free.
//!
//! The way past the unit is that of `gemm/walk.rs`. A tile of A is sixteen rows of 64 codes; one of B, codes + 128, lies in
//! memory as it was packed: two blocks. What is 128 too many is in what the sums begin with: −128 Σ a.
//!
//! **Cost.**  32,768 operations in the 16 cycles of an instruction.
//!
//! **Reference.**  Intel Optimization Reference Manual, chapter 20.

use super::codes::{BLOCK, PackedI8, Quad};
use super::exact::{GemmI8, put};
use super::left::{load_codes, sums};
use crate::gemm::Accumulate;
use crate::gemm::walk::{self, PAST, Place, Strip, Stripe, Walk, rows, rows_at_once};
use crate::pieces::{Cut, Pieces};
use crate::simd::Simd;
use crate::simd::tiles::{CODES, Products, TALL, Tiles, WIDE};
use crate::view::{MatMut, MatRef};
use crate::{Kernel, LANES, Line};
use core::ops::Range;

/// Fewer rows than these leave most of a tile empty, and the memory of B binds.
pub(super) const LEAST_ROWS: usize = 8;

/// Lines of scratch.
pub(super) const fn scratch_len(m: usize, k: usize, n: usize) -> usize {
    walk::most_tall(m) * TALL / LANES + walk::scratch_len(m, k.div_ceil(CODES), n)
}

/// The exact product.
pub(super) struct Exact<'a, 's, T> {
    pub job: GemmI8<'a>,
    pub scratch: &'s mut [Line],
    pub tiles: T,
}

impl<T: Tiles<Quad>> Kernel for Exact<'_, '_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Exact { job, scratch, mut tiles } = self;
        let (m, n, k) = job.shape();
        let past = m * n * size_of::<i32>() >= PAST;
        let depth = k.div_ceil(CODES);
        let part = (rows_at_once(m, depth), walk::columns_at_once(depth));
        for GemmI8 { a, b, c, accumulate } in Pieces::of(job, part) {
            let (starts, scratch) = scratch.split_at_mut(c.rows().div_ceil(LANES));
            let starts = &mut Line::elements_mut(starts)[..c.rows()];
            s.outline(Starts { a, room: &mut *starts });
            let strip = Integers { a, b, starts, c, accumulate, past };
            Walk { strip, scratch, tiles: &mut tiles }.run::<Quad, S>(s);
        }
    }
}

/// Some rows of the exact product.
struct Integers<'f, 'a> {
    a: MatRef<'a, i8>,
    b: PackedI8<'a>,
    /// What each row's sums begin with.
    starts: &'f [i32],
    c: MatMut<'a, i32>,
    accumulate: Accumulate,
    past: bool,
}

impl<'a, T> Strip<'a, T> for Integers<'_, 'a> {
    const EXACT: bool = true;

    fn shape(&self) -> (usize, usize, usize) {
        (self.a.rows(), self.a.cols().div_ceil(CODES), self.c.cols().div_ceil(LANES))
    }

    /// 0 past the last row and the last step.
    #[inline(always)]
    fn fill<S: Simd>(&self, (s, _): (S, &T), (r, ks): (usize, Range<usize>), stripe: &mut Stripe<'_>) {
        for i in 0..TALL {
            for k in ks.clone() {
                s.store(stripe.line(i, k), s.of_bits(load_codes(s, self.a, r + i, k * CODES)));
            }
        }
    }

    fn panel(&self, p: usize) -> &'a [Line] {
        Line::of_quads(self.b.panel(p, &(0..self.a.cols().div_ceil(BLOCK))).as_flattened())
    }

    #[inline(always)]
    fn begin<S: Simd>(&self, s: S, (r, _): (usize, usize), sums: &mut Products) -> bool {
        for (row, &start) in sums.iter_mut().zip(&self.starts[r..]) {
            for line in row {
                s.store(line, s.of_bits(s.splat_i(start)));
            }
        }
        true
    }

    fn bias(&self, _: usize) -> Option<[Line; WIDE]> {
        (self.accumulate == Accumulate::Overwrite).then_some([Line::ZERO; WIDE])
    }

    #[inline(always)]
    fn place(&mut self, at: (usize, usize)) -> Option<Place<'_>> {
        rows(self.c.reborrow(), at).map(Place::Sums)
    }

    fn goes_past(&self) -> bool {
        self.past
    }

    #[inline(always)]
    fn finish<S: Simd>(&mut self, s: S, (r, p): (usize, usize), sums: &Products) {
        s.outline(PutSums { c: self.c.reborrow(), base: self.accumulate, at: (r, p), sums });
    }
}

/// Sums to their place in C.
struct PutSums<'f> {
    c: MatMut<'f, i32>,
    base: Accumulate,
    at: (usize, usize),
    sums: &'f Products,
}

impl Kernel for PutSums<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let PutSums { mut c, base, at: (row, p), sums } = self;
        for (sums, r) in sums.iter().zip(row..c.rows()) {
            for (sum, from) in sums.iter().zip((p * LANES..c.cols()).step_by(LANES)) {
                let cols = from..(from + LANES).min(c.cols());
                let c = c.reborrow().sub(r..r + 1, cols);
                put(s, c, s.bits(s.load(sum)), base);
            }
        }
    }
}

/// What the sums of each row begin with: codes of B are 128 too many.
struct Starts<'a, 'o> {
    a: MatRef<'a, i8>,
    room: &'o mut [i32],
}

impl Kernel for Starts<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Starts { a, room } = self;
        for (r, start) in room.iter_mut().enumerate() {
            let mut lanes = s.splat_i(0);
            for k in (0..a.cols()).step_by(CODES) {
                lanes = s.add_i(lanes, sums(s, load_codes(s, a, r, k)));
            }
            let mut sums = [0; LANES];
            s.store_i(&mut sums, lanes);
            *start = -128 * sums.iter().sum::<i32>();
        }
    }
}
