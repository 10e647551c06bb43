//! Which rows a dot product can be large with, by integers: most need not be multiplied in floats.
//!
//! **Math.**  x = s c + e: a row is its codes of eight bits times a scale, and what they miss; a query q = t d + f alike.
//!
//!   q · x  =  s t (d · c)  +  t d · e  +  f · x  ≤  s t (d · c)  +  ‖t d‖ ‖e‖  +  ‖f‖ ‖x‖        (Cauchy, Schwarz)
//!
//! d · c is an exact integer, made four times as fast as a dot of floats; ‖e‖, which is known and not guessed, is a hundredth of
//! ‖x‖ or less. A row whose bound stays below what is asked for cannot be among the best, and its floats are left alone.
//!
//! **Law.**   None of its own: what is let through is multiplied by clause 2, and what is not could not have come first. So a
//!   search gives the same rows and scores with a screen and without.
//!
//! ```text
//!   96 rows   ──► codes (96, k), s, ‖e‖, ‖x‖     16 rows at a time, each read twice, the second time from L1
//!   · queries ──► d · c (96, m)                  `GemmI8`
//!   sieve     ──► pairs whose bound is not below what their query asks for
//! ```
//!
//! **Registers.**  Coding: a word, its code, two sums, three constants. Sieve: the row's three numbers, the query's four.
//!
//! **Cost.**  2 operations on integers a multiply-add; 12 instructions a word of a row; 8 for sixteen pairs. 64 queries, k = 384,
//!   Zen 4: products 69 %, coding 25 %, sieve 6 % of the time where rows lie in L2; from memory coding waits for it.
//!
//! **Error.**  The bound holds for the dot as it is computed. Its own roundings, those of the dot, and what falls out
//!   below the smallest number, are made up for: norms are taken 1/1024 larger, the dot and the first product are off by
//!   ≤ 4 (k/16 + 16) u ‖q‖ ‖x‖ (clause 2; ‖s c‖ ≤ 2.1 ‖x‖ for k ≤ 2¹⁶), squares that vanish by ≤ 2⁻⁶⁶ in a norm, products by
//!   ≤ 2⁻¹¹⁹. A row that is not finite is let through.
//!
//! **Reference.**  Filter and refine: Faloutsos et al. 1994, "Fast subsequence matching", [doi:10.1145/191839.191925](https://doi.org/10.1145/191839.191925), lemma 1.  **Next.**  [`crate::topk`].

#![allow(clippy::needless_range_loop)] // rows and lanes are indices into several arrays at once

use super::floats::{FloatRows, Rows, Stored, Which};
use super::integers;
use crate::cpu::{Cpu, Kernel, Tier};
use crate::int8::{Block8, GemmI8, PackedI8, blocks_len};
use crate::simd::Simd;
use crate::view::MatRef;
use crate::{LANES, Line};

/// Norms are taken so much larger.
const MORE: f32 = 1.0 + 1.0 / 1024.0;
/// What squares that vanish leave out of a norm: √(2¹⁶ · 2⁻¹⁴⁹), and more.
const LOST: f32 = f32::from_bits((127 - 66) << 23);
/// What products that vanish leave out of a dot: 2³⁰ · 2⁻¹⁴⁹.
const VANISHED: f32 = f32::from_bits((127 - 119) << 23);
/// Rows whose largest element is smaller have the codes 0: its reciprocal must be a number.
const SMALLEST: f32 = f32::from_bits((127 - 100) << 23);
/// The largest code.
const MOST: f32 = 127.0;
/// With fewer queries floats are as fast: coding a row takes what twenty dots take.
const LEAST: usize = 24;

/// Queries, as rows are screened with them.
///
/// ```
/// use samebits_kernels::int8::{Codes, Eight};
/// use samebits_kernels::search::{Asked, FloatRows, Screen, Which};
/// use samebits_kernels::{Cpu, Line};
/// let (cpu, m, k, query) = (Cpu::detect(), 1, 4, [1.0, 0.0, 0.0, 0.0]);
/// let mut blocks = vec![Eight::EMPTY; Screen::blocks_len(m, k)];
/// let mut bounds = vec![[Line::ZERO; 3]; Screen::bounds_len(m)];
/// Screen::fill(cpu, (&query, k), &mut [0; 4], (&mut blocks, &mut bounds));
/// let screen = Screen::new((m, k), &blocks, &bounds);
/// let rows = [0.0, 1.0, 0.0, 0.0, 0.95, 0.1, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0];
/// let (asked, mut found) = (Asked { least: &[0.9], squares: &[] }, [0; 3]);
/// let mut scratch = vec![Line::ZERO; Screen::scratch_len(m, k)];
/// let n = screen.sift(cpu, (FloatRows::F32(&rows), Which::From(0, 3)), asked, &mut scratch, &mut found);
/// assert_eq!(found[..n], [1]); // no other row's dot can reach 0.9
/// ```
#[derive(Clone, Copy)]
pub struct Screen<'a> {
    queries: usize,
    k: usize,
    codes: PackedI8<'a>,
    /// For each sixteen queries t, ‖t d‖, and ‖f‖ with the roundings of the dot.
    bounds: &'a [[Line; 3]],
}

/// What the dot of a pair must be able to reach to be let through.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// Of each query; −∞: all are let through.
    pub least: &'a [f32],
    /// Half of these is asked besides, less a millionth: x · x of each stored row, for the closest x has the largest
    /// q · x − x · x / 2. None: nothing is.
    pub squares: &'a [f32],
}

/// Half, less a millionth.
const HALF: f32 = 0.5 - 0.5 / (1 << 20) as f32;

impl<'a> Screen<'a> {
    /// Rows that are screened at a time, at most.
    pub const ROWS: usize = 96;
    /// The longest rows.
    pub const LONGEST: usize = 1 << 16;

    /// Blocks of codes for `m` queries of `k` elements.
    pub const fn blocks_len(m: usize, k: usize) -> usize {
        blocks_len(m, k)
    }

    /// Bounds for `m` queries.
    pub const fn bounds_len(m: usize) -> usize {
        m.div_ceil(LANES)
    }

    /// Lines of scratch of [`Screen::sift`].
    pub const fn scratch_len(m: usize, k: usize) -> usize {
        let [codes, sums, bounds] = Screen::parts(m, k);
        codes + sums + bounds + GemmI8::scratch_len(Screen::ROWS, k, m)
    }

    /// Lines of it for the rows' codes, for products, for bounds of rows.
    const fn parts(m: usize, k: usize) -> [usize; 3] {
        let (rows, groups) = (Screen::ROWS, Screen::ROWS.div_ceil(LANES));
        [(rows * k).div_ceil(size_of::<Line>()), rows * m.div_ceil(LANES), 3 * groups]
    }

    /// Whether integers are so much faster on this machine that `m` queries gain.
    pub fn pays(cpu: Cpu, m: usize) -> bool {
        let features = cpu.features();
        match cpu.tier() {
            Tier::Avx512 => features.avx512_vnni && m >= LEAST,
            Tier::Neon => features.dotprod && m >= LEAST,
            _ => false,
        }
    }

    /// Codes `queries`, (m, k), for [`Screen::new`]. `codes` is scratch, as long as the queries.
    ///
    /// # Panics
    /// Where k is 0 or above [`Screen::LONGEST`], or lengths do not fit.
    pub fn fill(
        cpu: Cpu,
        (queries, k): (&[f32], usize),
        codes: &mut [i8],
        (blocks, bounds): (&mut [Block8], &mut [[Line; 3]]),
    ) {
        assert!((1..=Screen::LONGEST).contains(&k), "queries of {k} elements");
        let m = queries.len() / k;
        assert!(m * k == queries.len() && codes.len() == m * k, "queries of {} elements", queries.len());
        assert!(bounds.len() == Screen::bounds_len(m), "bounds of {} queries", bounds.len() * LANES);
        let rows = Rows { data: queries, k, which: Which::From(0, m) };
        cpu.run(Code { rows, codes: &mut *codes, bounds: &mut *bounds });
        // The bound of a pair is s t (d·c) + ‖t d‖ ‖e‖ + (‖f‖ + roundings · ‖q‖) ‖x‖.
        let roundings = 4.0 * (k as f32 / LANES as f32 + 16.0) * (f32::EPSILON / 2.0);
        for [_, missed, length] in bounds {
            for lane in 0..LANES {
                let (f, q) = (missed.0[lane], length.0[lane]);
                (missed.0[lane], length.0[lane]) = (MORE * (q + f), MORE * (f + roundings * q));
            }
        }
        PackedI8::pack(MatRef::new(codes, m, k).t(), blocks);
    }

    /// Borrows what [`Screen::fill`] wrote of (m, k).
    ///
    /// # Panics
    /// Where lengths do not fit.
    pub fn new((m, k): (usize, usize), blocks: &'a [Block8], bounds: &'a [[Line; 3]]) -> Screen<'a> {
        assert!(bounds.len() == Screen::bounds_len(m), "bounds of {} queries", bounds.len() * LANES);
        Screen { queries: m, k, codes: PackedI8::new(m, k, blocks), bounds }
    }

    /// Writes to `found` the pairs that are let through, as (place in `which`) · queries + query, and returns how many.
    ///
    /// # Panics
    /// Where there are more rows than [`Screen::ROWS`], a row is not there, lengths do not fit, `found` has not room for
    /// every pair, or `scratch` is shorter than [`Screen::scratch_len`].
    pub fn sift(
        &self,
        cpu: Cpu,
        (rows, which): (FloatRows<'_>, Which<'_>),
        asked: Asked<'_>,
        scratch: &mut [Line],
        found: &mut [u32],
    ) -> usize {
        let (n, m, k) = (which.len(), self.queries, self.k);
        assert!(n <= Screen::ROWS, "{n} rows to screen at once");
        assert!(asked.least.len() == m, "{m} queries, {} ask", asked.least.len());
        let need = Screen::scratch_len(m, k);
        assert!(scratch.len() >= need, "screen: {} lines of scratch, {need} needed", scratch.len());
        assert!(found.len() >= n * m, "screen: room for {} pairs, {} needed", found.len(), n * m);
        let parts = Screen::parts(m, k);
        let (codes, scratch) = scratch.split_at_mut(parts[0]);
        let (sums, scratch) = scratch.split_at_mut(parts[1]);
        let (bounds, scratch) = scratch.split_at_mut(parts[2]);
        let codes = &mut Line::elements_mut::<i8>(codes)[..n * k];
        let bounds = &mut bounds.as_chunks_mut().0[..n.div_ceil(LANES)];
        match rows {
            FloatRows::F32(data) => cpu.run(Code { rows: Rows { data, k, which }, codes, bounds }),
            FloatRows::F16(data) => cpu.run(Code { rows: Rows { data, k, which }, codes, bounds }),
        }
        let sums = integers(cpu, (MatRef::new(codes, n, k), self.codes), sums, scratch);
        cpu.run(Sieve { screen: self, which, bounds, sums, asked, found })
    }
}

/// Rows as codes: codes (n, k); for each sixteen rows their scales, ‖e‖ and ‖x‖.
struct Code<'a, T> {
    rows: Rows<'a, T>,
    codes: &'a mut [i8],
    bounds: &'a mut [[Line; 3]],
}

impl<T: Stored> Kernel for Code<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (n, k) = (self.rows.which.len(), self.rows.k);
        for (b, bounds) in self.bounds.iter_mut().enumerate() {
            let (mut missed, mut length) = ([s.splat(0.0); LANES], [s.splat(0.0); LANES]);
            bounds[0] = Line::ZERO;
            for lane in 0..LANES.min(n - b * LANES) {
                let r = b * LANES + lane;
                let codes = &mut self.codes[r * k..(r + 1) * k];
                (bounds[0].0[lane], missed[lane], length[lane]) = code(s, self.rows.row(r), codes);
            }
            for (norm, squares) in bounds[1..].iter_mut().zip([missed, length]) {
                let root = s.sqrt(s.sum_rows(squares));
                s.store(norm, s.fma(root, s.splat(MORE), s.splat(LOST)));
            }
        }
    }
}

/// The codes of a row, its scale, and the squares of what they miss and of itself, in sixteen lanes.
#[inline(always)]
fn code<S: Simd, T: Stored>(s: S, x: &[T], codes: &mut [i8]) -> (f32, S::F32, S::F32) {
    let ((words, rest), k) = (x.as_chunks(), x.len());
    let mut most = s.abs(T::load_tail(s, rest));
    for x in words {
        most = s.max(s.abs(T::load(s, x)), most);
    }
    let most = s.max_lane(most);
    let (scale, inverse) = if most < SMALLEST { (0.0, 0.0) } else { (most / MOST, MOST / most) };
    let of = Coding { scale: s.splat(scale), inverse: s.splat(inverse) };
    let mut squares = [s.splat(0.0); 2];
    let (whole, part) = codes.as_chunks_mut();
    for (x, codes) in words.iter().zip(whole) {
        s.prefetch_far(x.as_ptr().wrapping_add(FAR * k));
        squares = of.word(s, T::load(s, x), squares, codes);
    }
    if !rest.is_empty() {
        let mut last = [0; LANES];
        squares = of.word(s, T::load_tail(s, rest), squares, &mut last);
        part.copy_from_slice(&last[..rest.len()]);
    }
    (scale, squares[0], squares[1])
}

/// Rows asked for ahead of the one that is coded.
const FAR: usize = 12;

/// How the elements of a row become codes.
struct Coding<S: Simd> {
    scale: S::F32,
    inverse: S::F32,
}

impl<S: Simd> Coding<S> {
    /// Sixteen codes; the squares with theirs added.
    #[inline(always)]
    fn word(&self, s: S, x: S::F32, [missed, length]: [S::F32; 2], codes: &mut [i8; LANES]) -> [S::F32; 2] {
        // The sum with 1.5 * 2^23 is rounded to a whole number, and its lowest byte is that number's. (Of a NaN it is
        // anything: what is missed then is a NaN.)
        let shifted = s.fma(x, self.inverse, s.splat(SHIFT));
        let mut bytes = [0; LANES];
        s.store_u8(&mut bytes, s.bits(shifted));
        *codes = bytes.map(|byte| byte as i8);
        let rest = s.nfma(self.scale, s.sub(shifted, s.splat(SHIFT)), x);
        [s.fma(rest, rest, missed), s.fma(x, x, length)]
    }
}

/// Between 2^23 and 2^24, where floats are whole numbers.
const SHIFT: f32 = (3 << 22) as f32;

/// Pairs whose bound is not below what is asked.
struct Sieve<'a> {
    screen: &'a Screen<'a>,
    which: Which<'a>,
    /// Of rows.
    bounds: &'a [[Line; 3]],
    /// d · c, (n, queries), each row from a line on.
    sums: &'a [i32],
    asked: Asked<'a>,
    found: &'a mut [u32],
}

impl Kernel for Sieve<'_> {
    type Output = usize;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> usize {
        let Sieve { screen, which, bounds, sums, asked, found } = self;
        let (n, m) = (which.len(), screen.queries);
        let (sums, _) = sums.as_chunks::<LANES>();
        let mut count = 0;
        for (row, sums) in sums.chunks_exact(m.div_ceil(LANES)).take(n).enumerate() {
            let [scale, missed, length] = [0, 1, 2].map(|i| bounds[row / LANES][i].0[row % LANES]);
            let more = HALF * asked.squares.get(which.get(row)).copied().unwrap_or(0.0);
            let (scale, missed, length) = (s.splat(scale), s.splat(missed), s.splat(length));
            for (w, sums) in sums.iter().enumerate() {
                let [of_scale, of_missed, of_length] = &screen.bounds[w];
                let queries = &asked.least[w * LANES..m.min((w + 1) * LANES)];
                let near = s.mul(s.mul(scale, s.load(of_scale)), s.of_i(s.load_i(sums)));
                let far = s.fma(length, s.load(of_length), s.splat(VANISHED));
                let bound = s.add(near, s.fma(missed, s.load(of_missed), far));
                let least = s.add(s.load_tail(queries, f32::INFINITY), s.splat(more));
                let mut through = !s.mask_bits(s.gt(least, bound)) & (u32::MAX >> (32 - queries.len()));
                while through != 0 {
                    found[count] = (row * m + w * LANES) as u32 + through.trailing_zeros();
                    count += 1;
                    through &= through - 1;
                }
            }
        }
        count
    }
}
