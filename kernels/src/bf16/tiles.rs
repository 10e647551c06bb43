//! The same product on a matrix unit.
//!
//! **Law.**   Clause 10, whose first line is what the unit does to a tile; eight tiles of k, a block, are one chain.
//!
//! The way past the unit is that of `gemm/walk.rs`. A tile of A is sixteen rows of 32 steps, rounded; one of B lies in
//! memory as it was packed.
//!
//! **Reference.**  Intel Optimization Reference Manual, chapter 20.

use super::{GemmBf16, Left, Out, PackedBf16, Prior, Round};
use crate::gemm::epilogue::{FinishProducts, Target, load_at};
use crate::gemm::walk::{self, PAST, Place, Strip, Stripe, Walk, rows, rows_at_once};
use crate::gemm::{Accumulate, Bf16, Bf16Group, Epilogue, K_BLOCK};
use crate::pieces::Pieces;
use crate::simd::Simd;
use crate::simd::tiles::{BLOCK, NO_PRODUCTS, Products, Rounds, STEPS, TALL, WIDE};
use crate::view::{MatMut, MatRef};
use crate::{Kernel, LANES, Line};
use core::ops::Range;

/// A block of the unit is one of the law.
const _: () = assert!(BLOCK * STEPS == K_BLOCK);

/// Fewer rows than these leave most of a tile empty, and the memory of B binds.
pub(super) const LEAST_ROWS: usize = 8;

/// Lines of scratch.
pub(super) const fn scratch_len(m: usize, k: usize, n: usize) -> usize {
    walk::scratch_len(m, k.div_ceil(STEPS), n)
}

/// The whole product.
pub(super) struct OnTiles<'a, 's, T> {
    pub job: GemmBf16<'a>,
    pub scratch: &'s mut [Line],
    pub tiles: T,
}

impl<T: Rounds> Kernel for OnTiles<'_, '_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let OnTiles { job, scratch, mut tiles } = self;
        let (m, depth, past) = (job.c.rows(), job.a.cols().div_ceil(STEPS), job.c.bytes() >= PAST);
        let part = (rows_at_once(m, depth), walk::columns_at_once(depth));
        for GemmBf16 { a, b, c, accumulate, epilogue } in Pieces::of(job, part) {
            let strip = Rounded { a, b: &b, c, accumulate, epilogue, past };
            Walk { strip, scratch: &mut *scratch, tiles: &mut tiles }.run::<Bf16, S>(s);
        }
    }
}

/// Some rows, rounded on their way.
struct Rounded<'f, 'a> {
    a: Left<'a>,
    b: &'f PackedBf16<'a>,
    c: Out<'a>,
    accumulate: Accumulate,
    epilogue: Epilogue<'a>,
    past: bool,
}

impl<'a, T: Rounds> Strip<'a, T> for Rounded<'_, 'a> {
    const EXACT: bool = false;

    fn shape(&self) -> (usize, usize, usize) {
        (self.a.rows(), self.a.cols().div_ceil(STEPS), self.c.cols().div_ceil(LANES))
    }

    #[inline(always)]
    fn fill<S: Simd>(&self, (s, unit): (S, &T), (r, ks): (usize, Range<usize>), stripe: &mut Stripe<'_>) {
        if let Left::F32(a) = self.a
            && a.row_stride() == 1
            && a.rows() > 1
        {
            return fill_columns(s, unit, a, (r, ks), stripe);
        }
        let (rows, steps) = (self.a.rows(), self.a.cols());
        let whole = ks.start..ks.end.min(steps / STEPS).max(ks.start);
        for i in 0..TALL {
            let mut rest = ks.clone();
            if r + i >= rows {
                rest.for_each(|k| *stripe.line(i, k) = Line::ZERO);
                continue;
            }
            let cols = whole.start * STEPS..whole.end * STEPS;
            match self.a {
                Left::F32(a) => {
                    if let Some(row) = a.row(r + i) {
                        for (x, k) in row[cols].as_chunks().0.iter().zip(whole.clone()) {
                            unit.round(x, stripe.line(i, k));
                        }
                        rest.start = whole.end;
                    }
                }
                Left::Bf16(a) => {
                    if let Some(row) = a.row(r + i) {
                        for (x, k) in row[cols].as_chunks().0.iter().zip(whole.clone()) {
                            unit.clear(x, stripe.line(i, k));
                        }
                        rest.start = whole.end;
                    }
                }
            }
            for k in rest {
                let mut x = [0.0; STEPS];
                for (x, k0) in x.as_chunks_mut().0.iter_mut().zip((k * STEPS..steps).step_by(LANES)) {
                    s.store(x, self.a.load(s, r + i, k0..(k0 + LANES).min(steps)));
                }
                unit.round(&x, stripe.line(i, k));
            }
        }
    }

    fn panel(&self, p: usize) -> &'a [Line] {
        Bf16Group::lines(self.b.0.panel_groups(p))
    }

    #[inline(always)]
    fn begin<S: Simd>(&self, s: S, (r, p): (usize, usize), sums: &mut Products) -> bool {
        let (rows, cols) = part(&self.c, (r, p));
        if self.accumulate == Accumulate::Overwrite {
            if let Out::F32(c) = &self.c
                && self.epilogue.bias_alone(p * LANES).is_none()
            {
                // What follows writes C itself: it comes from memory while the unit multiplies.
                let c = c.as_ref();
                for r in rows {
                    if let Some(row) = c.row(r) {
                        for at in cols.clone().step_by(LANES) {
                            s.prefetch_far(row[at..].as_ptr());
                        }
                    }
                }
            }
            return false;
        }
        s.outline(Prior { c: &self.c, rows, cols, to: (sums.as_flattened_mut(), WIDE) });
        true
    }

    fn bias(&self, p: usize) -> Option<[Line; WIDE]> {
        self.epilogue.bias_alone(p * LANES)
    }

    #[inline(always)]
    fn place(&mut self, at: (usize, usize)) -> Option<Place<'_>> {
        match &mut self.c {
            Out::F32(c) => rows(c.reborrow(), at).map(Place::Sums),
            Out::Bf16(c) => rows(c.reborrow(), at).map(Place::Halves),
        }
    }

    fn goes_past(&self) -> bool {
        self.past
    }

    #[inline(always)]
    fn finish<S: Simd>(&mut self, s: S, (r, p): (usize, usize), sums: &Products) {
        let (rows, cols) = part(&self.c, (r, p));
        let epilogue = self.epilogue.sub(rows.clone(), cols.clone());
        let (base, last) = (Accumulate::Overwrite, Some(&epilogue));
        match &mut self.c {
            Out::F32(c) => {
                let mut c = c.reborrow().sub(rows, cols);
                let mut target = Target { c: &mut c, base, last };
                s.outline(FinishProducts { target: &mut target, at: (0, 0), sums });
            }
            Out::Bf16(c) => {
                let mut done = NO_PRODUCTS;
                let mut floats = in_products(&mut done).sub(0..rows.len(), 0..cols.len());
                let mut target = Target { c: &mut floats, base, last };
                s.outline(FinishProducts { target: &mut target, at: (0, 0), sums });
                s.outline(Round { from: floats.as_ref(), to: c.reborrow().sub(rows, cols) });
            }
        }
    }
}

/// The rows and columns of C that products at row `r` and panel `p` are.
fn part(c: &Out<'_>, (r, p): (usize, usize)) -> (Range<usize>, Range<usize>) {
    (r..(r + TALL).min(c.rows()), p * LANES..((p + WIDE) * LANES).min(c.cols()))
}

/// Products as a matrix.
fn in_products(products: &mut Products) -> MatMut<'_> {
    MatMut::new(Line::floats_mut(products.as_flattened_mut()), TALL, WIDE * LANES)
}

/// Of a transposed matrix, whose columns lie in memory, 32 rows: sixteen by sixteen, transposed in registers.
#[inline(always)]
fn fill_columns<S: Simd>(
    s: S,
    unit: &impl Rounds,
    a: MatRef<'_>,
    (r, ks): (usize, Range<usize>),
    stripe: &mut Stripe<'_>,
) {
    let (rows, steps, columns) = (a.rows(), a.cols(), a.t());
    for k in ks {
        for half in 0..TALL / LANES {
            let r = r + half * LANES;
            let mut lines = [[Line::ZERO; STEPS / LANES]; LANES];
            for part in 0..STEPS / LANES {
                let (mut turned, from) = ([s.splat(0.0); LANES], k * STEPS + part * LANES);
                for (line, step) in turned.iter_mut().zip(from..steps) {
                    if r < rows {
                        *line = load_at(s, columns, step, r..(r + LANES).min(rows));
                    }
                }
                for (line, &x) in lines.iter_mut().zip(&s.transpose(turned)) {
                    s.store(&mut line[part], x);
                }
            }
            for (i, line) in lines.iter().enumerate() {
                if let Some(x) = Line::floats(line).first_chunk() {
                    unit.round(x, stripe.line(half * LANES + i, k));
                }
            }
        }
    }
}
