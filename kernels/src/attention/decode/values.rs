//! Values: all rows × some words of components, 64 values deep.

use super::super::class::{Class, GROUP, add_pair};
use super::super::stored::{Cells, Element};
use super::super::{BLOCK, Products};
use super::{Ahead, Block, Scores};
use crate::simd::Simd;
use crate::{Kernel, LANES, Line};

/// Rows between two looks ahead.
const STEP: usize = 8;

/// o = α·o + the chain of p·v over a block: by tiles of all rows × `NV` words where every row sees every key.
pub(super) struct Values<'a, 'x, C, T, const R: usize, const NV: usize> {
    pub class: C,
    /// (R, v_dim), padded to words
    pub o: &'a mut [Line],
    /// Chains: as many, and twice as many for even and odd ones.
    pub sums: &'a mut [Line],
    /// p of the block.
    pub p: &'a [Scores; R],
    pub alpha: [f32; LANES],
    /// The values are its rows from `first` on.
    pub v: Cells<'a, T>,
    pub first: usize,
    /// What is read of the rows to come meanwhile.
    pub ahead: &'a mut Ahead<'x>,
}

impl<C: Class, T: Element, const R: usize, const NV: usize> Kernel for Values<'_, '_, C, T, R, NV> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let (width, whole) = (self.o.len() / R, self.v.x.cols() / LANES);
        if C::PRODUCTS == Products::Bf16 {
            return self.pairs(s);
        }
        if R == 1 && (S::SMALL || whole > NV || T::PER > 1) {
            self.stream(s);
        } else {
            let mut w = 0;
            if NV < whole {
                w += self.early_tile(s);
            }
            while w < whole {
                w += match whole - w {
                    8.. if NV >= 8 => self.tile::<S, 8>(s, w),
                    4.. if NV >= 4 => self.tile::<S, 4>(s, w),
                    2.. if NV >= 2 => self.tile::<S, 2>(s, w),
                    _ => self.tile::<S, 1>(s, w),
                };
            }
        }
        // Rows of other types are read from here where they end with a word.
        if T::PER == 1 && whole < width {
            self.tail(s, whole);
        }
    }
}

impl<C: Class, T: Element, const R: usize, const NV: usize> Values<'_, '_, C, T, R, NV> {
    /// `N` words from `w` on, their chains in registers. Returns `N`.
    #[inline(always)]
    fn tile<S: Simd, const N: usize>(&mut self, s: S, w: usize) -> usize {
        let (p, v) = (self.p, self.v.x.strip::<BLOCK>(self.first));
        let mut acc = [[s.splat(0.0); N]; R];
        for j in 0..BLOCK {
            add_products(s, p, j, (v.row(j, w), self.v.scale(self.first + j)), &mut acc);
        }
        self.add(s, acc, w)
    }

    /// The first `NV` words. As it reads a part of each row, memory is shown whole rows before. Returns `NV`.
    #[inline(always)]
    fn early_tile<S: Simd>(&mut self, s: S) -> usize {
        let (p, v) = (self.p, self.v.x.strip::<BLOCK>(self.first));
        let mut acc = [[s.splat(0.0); NV]; R];
        for first in (0..BLOCK).step_by(STEP) {
            self.ahead.reach(self.first + first + self.ahead.early(STEP));
            for j in first..first + STEP {
                add_products(s, p, j, (v.row(j, 0), self.v.scale(self.first + j)), &mut acc);
            }
        }
        self.add(s, acc, 0)
    }

    /// All words by clause 10: rows are whole lines.
    #[inline(always)]
    fn pairs<S: Simd>(&mut self, s: S) {
        if R == 1 && T::PER > 1 {
            return self.stream_of_pairs(s);
        }
        let (mut w, width) = (0, self.o.len() / R);
        while w < width {
            w += match width - w {
                8.. if NV >= 8 => self.tile_of_pairs::<S, 8>(s, w),
                4.. if NV >= 4 => self.tile_of_pairs::<S, 4>(s, w),
                2.. if NV >= 2 => self.tile_of_pairs::<S, 2>(s, w),
                _ => self.tile_of_pairs::<S, 1>(s, w),
            };
        }
    }

    /// `N` words from `w` on, their even and odd chains in registers. Returns `N`.
    #[inline(always)]
    fn tile_of_pairs<S: Simd, const N: usize>(&mut self, s: S, w: usize) -> usize {
        let (p, v, zero) = (self.p, self.v.x.strip::<BLOCK>(self.first), s.splat(0.0));
        let mut acc = [[zero; N]; R];
        for first in (0..BLOCK).step_by(GROUP) {
            let mut chains = [[[zero; N]; R]; 2];
            for first in (first..first + GROUP).step_by(STEP) {
                if w == 0 {
                    self.ahead.reach(self.first + first + self.ahead.early(STEP));
                }
                // Named, not numbered by j: chains that the compiler cannot tell apart stay in memory.
                let [even, odd] = &mut chains;
                for j in (first..first + STEP).step_by(2) {
                    self.row(s, p, (v.row(j, w), j), even);
                    self.row(s, p, (v.row(j + 1, w), j + 1), odd);
                }
            }
            add_pair(s, &mut acc, &chains);
        }
        self.add(s, acc, w)
    }

    /// The same by one load, the chains in the first-level cache: see [`Values::stream`].
    #[inline(always)]
    fn stream_of_pairs<S: Simd>(&mut self, s: S) {
        let (p, v, width) = (self.p, self.v.x.strip::<BLOCK>(self.first), self.o.len() / R);
        let (before, chains) = self.sums.split_at_mut(R * width);
        let one = s.splat(1.0);
        before.fill(Line::ZERO);
        for first in (0..BLOCK).step_by(GROUP) {
            chains.fill(Line::ZERO);
            for j in first..first + GROUP {
                let weight = s.splat(p[0][j / LANES][j % LANES]);
                let chain = &mut chains[j % 2 * width..][..width];
                for (w, sum) in chain.iter_mut().enumerate() {
                    let [value] = v.row(j, w);
                    let value = self.class.half(s, T::decode(s, value, one));
                    let chain = s.fma(weight, value, s.load(sum));
                    s.store(sum, chain);
                }
            }
            let (even, odd) = chains.split_at(width);
            for ((sum, even), odd) in before.iter_mut().zip(even).zip(odd) {
                let both = s.add(s.load(even), s.load(odd));
                let so_far = s.add(s.load(sum), both);
                s.store(sum, so_far);
            }
        }
        for w in 0..width {
            let mut acc = [[s.splat(0.0); 1]; R];
            acc[0][0] = s.load(&self.sums[w]);
            self.add(s, acc, w);
        }
    }

    /// One step of a chain: value `j`, `N` words.
    #[inline(always)]
    fn row<S: Simd, const N: usize>(
        &self,
        s: S,
        p: &[Scores; R],
        (v, j): (&[[T; LANES]; N], usize),
        chain: &mut [[S::F32; N]; R],
    ) {
        for n in 0..N {
            let value = self.class.half(s, T::decode(s, &v[n], s.splat(1.0)));
            for r in 0..R {
                chain[r][n] = s.fma(s.splat(p[r][j / LANES][j % LANES]), value, chain[r][n]);
            }
        }
    }

    /// All whole words, their chains in the first-level cache: one load reads all values in the order in which
    /// they lie.
    #[inline(always)]
    fn stream<S: Simd>(&mut self, s: S) {
        let (p, v, width) = (self.p, self.v.x.strip::<BLOCK>(self.first), self.o.len() / R);
        self.sums[..R * width].fill(Line::ZERO);
        for j in 0..BLOCK {
            let mut weight = [s.splat(0.0); R];
            for r in 0..R {
                weight[r] = s.splat(p[r][j / LANES][j % LANES]);
            }
            let scale = s.splat(self.v.scale(self.first + j));
            for w in 0..v.lines() {
                let [value] = v.row(j, w);
                let value = T::decode(s, value, scale);
                for r in 0..R {
                    let sum = &mut self.sums[r * width + w];
                    let chain = s.fma(weight[r], value, s.load(sum));
                    s.store(sum, chain);
                }
            }
        }
        for w in 0..v.lines() {
            let mut acc = [[s.splat(0.0); 1]; R];
            for r in 0..R {
                acc[r][0] = s.load(&self.sums[r * width + w]);
            }
            self.add(s, acc, w);
        }
    }

    /// The same for components that do not fill a word.
    #[inline(always)]
    fn tail<S: Simd>(&mut self, s: S, w: usize) {
        let mut acc = [[s.splat(0.0); 1]; R];
        for j in 0..BLOCK {
            let value = self.read(s, j, w);
            for r in 0..R {
                let weight = s.splat(self.p[r][j / LANES][j % LANES]);
                acc[r][0] = s.fma(weight, value, acc[r][0]);
            }
        }
        self.add(s, acc, w);
    }

    /// Word `w` of value `j`.
    #[inline(always)]
    fn read<S: Simd>(&self, s: S, j: usize, w: usize) -> S::F32 {
        self.v.read(s, self.first + j, w * LANES, self.v.scale(self.first + j))
    }

    /// o = fma(o, α, acc)
    #[inline(always)]
    fn add<S: Simd, const N: usize>(&mut self, s: S, acc: [[S::F32; N]; R], w: usize) -> usize {
        let width = self.o.len() / R;
        for r in 0..R {
            for n in 0..N {
                let o = &mut self.o[r * width + w + n];
                let new = s.fma(s.load(o), s.splat(self.alpha[r]), acc[r][n]);
                s.store(o, new);
            }
        }
        N
    }

    /// The same where some row does not see some key: its p and v are +0 there, and a row that sees none
    /// keeps its o.
    #[inline(always)]
    pub(super) fn mixed<S: Simd>(&mut self, s: S, block: &Block<R>) {
        let (width, zero) = (self.o.len() / R, s.splat(0.0));
        for r in (0..R).filter(|&r| block.live[r] != 0) {
            for w in 0..width {
                if C::PRODUCTS == Products::Bf16 {
                    self.mixed_pairs(s, block.live[r], (r, w));
                    continue;
                }
                let mut acc = zero;
                for j in 0..BLOCK {
                    acc = if block.live[r] >> j & 1 == 1 {
                        let weight = s.splat(self.p[r][j / LANES][j % LANES]);
                        s.fma(weight, self.read(s, j, w), acc)
                    } else {
                        s.add(acc, zero)
                    };
                }
                let o = &mut self.o[r * width + w];
                let new = s.fma(s.load(o), s.splat(self.alpha[r]), acc);
                s.store(o, new);
            }
        }
    }
}

/// By clause 10, where a key that row `r` does not see changes no chain.
impl<C: Class, T: Element, const R: usize, const NV: usize> Values<'_, '_, C, T, R, NV> {
    #[inline(always)]
    fn mixed_pairs<S: Simd>(&mut self, s: S, live: u64, (r, w): (usize, usize)) {
        let mut acc = [[s.splat(0.0)]];
        for first in (0..BLOCK).step_by(GROUP) {
            let mut chains = [[[s.splat(0.0)]]; 2];
            for j in (first..first + GROUP).filter(|j| live >> j & 1 == 1) {
                let weight = s.splat(self.p[r][j / LANES][j % LANES]);
                chains[j % 2][0][0] = s.fma(weight, self.read(s, j, w), chains[j % 2][0][0]);
            }
            add_pair(s, &mut acc, &chains);
        }
        let o = &mut self.o[r * (self.o.len() / R) + w];
        let new = s.fma(s.load(o), s.splat(self.alpha[r]), acc[0][0]);
        s.store(o, new);
    }
}

/// One step of the chains: value `j`, `N` words, and its scale.
#[inline(always)]
fn add_products<S: Simd, T: Element, const R: usize, const N: usize>(
    s: S,
    p: &[Scores; R],
    j: usize,
    (v, scale): (&[[T; LANES]; N], f32),
    acc: &mut [[S::F32; N]; R],
) {
    let scale = s.splat(scale);
    for n in 0..N {
        let value = T::decode(s, &v[n], scale);
        for r in 0..R {
            acc[r][n] = s.fma(s.splat(p[r][j / LANES][j % LANES]), value, acc[r][n]);
        }
    }
}
