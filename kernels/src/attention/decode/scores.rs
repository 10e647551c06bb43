//! Sixteen keys at a time against the rows: transposed in registers, decoded there if need be, clause 1.

use super::super::class::{Class, GROUP, add_pair};
use super::super::stored::{Cells, Element};
use super::super::{BLOCK, K_BLOCK, Products};
use super::{Ahead, Block, Scores};
use crate::simd::{Floats, Simd};
use crate::{Kernel, LANES, Line};
use core::array::from_fn;

/// Lines of a key between two looks ahead: with sixteen keys, a page.
const STEP: usize = 4;

/// q · k × scale of a block of keys.
pub(super) struct Score<'a, 'x, C, T, const R: usize> {
    pub class: C,
    /// (R, qk_dim), padded to words
    pub q: &'a [Line],
    /// The keys are its rows from `first` on.
    pub k: Cells<'a, T>,
    pub first: usize,
    /// What other rows of the run are read meanwhile.
    pub ahead: &'a mut Ahead<'x>,
    pub block: &'a Block<R>,
    pub scale: f32,
    pub out: &'a mut [Scores; R],
}

impl<C: Class, T: Element, const R: usize> Kernel for Score<'_, '_, C, T, R> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        for at in (0..BLOCK).step_by(LANES) {
            if self.block.any >> at & 0xffff == 0 {
                continue;
            }
            let sum = match C::PRODUCTS {
                Products::F32 => self.sixteen(s, at),
                Products::Bf16 => self.sixteen_in_pairs(s, at),
            };
            for r in 0..R {
                s.store(&mut self.out[r][at / LANES], s.mul(sum[r], s.splat(self.scale)));
            }
        }
    }
}

impl<C: Class, T: Element, const R: usize> Score<'_, '_, C, T, R> {
    /// q · k of sixteen keys of the block, from `at` on. The next sixteen are read meanwhile.
    #[inline(always)]
    fn sixteen<S: Simd>(&mut self, s: S, at: usize) -> [S::F32; R] {
        let (q, width, rows) = (self.q, self.q.len() / R, self.k.x.strip::<LANES>(self.first + at));
        let (next, whole) = (self.block.start + at + self.ahead.early(LANES), rows.byte_lines());
        let scales = s.load(&from_fn(|i| self.k.scale(self.first + at + i)));
        let (mut sum, mut acc) = ([s.splat(0.0); R], [s.splat(0.0); R]);
        for first in (0..whole).step_by(STEP) {
            self.ahead.reach(next + first * LANES / whole);
            for w in first..whole.min(first + STEP) {
                let q: [&[Line]; R] = from_fn(|r| &q[r * width + w * T::PER..][..T::PER]);
                acc = T::fma_rows(s, acc, &rows, w, scales, q);
            }
            if (first + STEP).is_multiple_of(K_BLOCK / (LANES * T::PER)) {
                for r in 0..R {
                    sum[r] = s.add(sum[r], acc[r]);
                    acc[r] = s.splat(0.0);
                }
            }
        }
        if T::PER == 1 && whole < width {
            acc = self.tail(s, at, acc);
        }
        for r in 0..R {
            sum[r] = s.add(sum[r], acc[r]);
        }
        sum
    }

    /// The same by clause 10, of rows that are whole lines.
    #[inline(always)]
    fn sixteen_in_pairs<S: Simd>(&mut self, s: S, at: usize) -> [S::F32; R] {
        let (q, width, rows) = (self.q, self.q.len() / R, self.k.x.strip::<LANES>(self.first + at));
        let (next, whole) = (self.block.start + at + self.ahead.early(LANES), rows.byte_lines());
        let zero = s.splat(0.0);
        let (mut sum, mut acc, mut chains) = ([zero; R], [[zero; 1]; R], [[[zero; 1]; R]; 2]);
        for w in 0..whole {
            if w % STEP == 0 {
                self.ahead.reach(next + w * LANES / whole);
            }
            let q: [&[Line]; R] = from_fn(|r| &q[r * width + w * T::PER..][..T::PER]);
            chains = T::fma_pairs((s, self.class), chains, (&rows, w), q);
            let done = (w + 1) * LANES * T::PER;
            if done.is_multiple_of(GROUP) || w + 1 == whole {
                add_pair(s, &mut acc, &chains);
                chains = [[[zero; 1]; R]; 2];
            }
            if done.is_multiple_of(K_BLOCK) || w + 1 == whole {
                for r in 0..R {
                    sum[r] = s.add(sum[r], acc[r][0]);
                }
                acc = [[zero; 1]; R];
            }
        }
        sum
    }

    /// Components past the last whole line of floats (rows of other types have none), padded with zeros, which no
    /// chain notices that ends in a sum with +0.
    #[inline(always)]
    fn tail<S: Simd>(&self, s: S, at: usize, acc: [S::F32; R]) -> [S::F32; R] {
        let (width, w) = (self.q.len() / R, self.k.x.cols() / LANES);
        let mut padded = [[0.0; LANES]; LANES];
        for (i, to) in padded.iter_mut().enumerate() {
            let row = self.first + at + i;
            s.store(to, self.k.read(s, row, w * LANES, self.k.scale(row)));
        }
        let q: [&Floats; R] = from_fn(|r| &*self.q[r * width + w]);
        s.fma_rows(acc, &padded.each_ref(), q)
    }
}
