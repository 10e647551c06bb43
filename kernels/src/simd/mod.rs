//! The vocabulary: what a kernel may say, and what each word means to the last bit.
//!
//! A kernel is written once, generic over [`Simd`]; a tier is a table from words to instructions.
//! Every word is defined by IEEE 754 or by integer arithmetic, so every tier computes the same bits
//! (NaN payloads excepted). `scalar.rs` is the definition of each word in plain Rust; the other
//! tables are tested against it, word by word.
//!
//! A value of a tier's type ([`Scalar`], `Avx2`, …) exists only where its instructions do: holding
//! one is the proof that makes the words safe to call. Every function that is generic over `Simd`
//! must carry `#[inline(always)]`, or its body is compiled without the tier's instructions; for the same
//! reason words are never said inside a closure (`map`, `from_fn`, `fold`), only in loops.

/// An array of the same expression over i = 0, 1, …: what `from_fn` says, without a closure.
///
/// A closure is a function of its own that does *not* have the tier's instructions; where the compiler
/// decides not to inline it, each intrinsic inside becomes a call. So tables and kernels use loops and this.
#[allow(unused_macros)] // a target without SIMD tiers has no table that uses it
macro_rules! each {
    (2, $i:ident => $e:expr) => {
        [{ let $i = 0; $e }, { let $i = 1; $e }]
    };
    (4, $i:ident => $e:expr) => {
        [{ let $i = 0; $e }, { let $i = 1; $e }, { let $i = 2; $e }, { let $i = 3; $e }]
    };
    (8, $i:ident => $e:expr) => {{
        let ([a, b, c, d], [e, f, g, h]) = (each!(4, $i => $e), each!(4, j => { let $i = j + 4; $e }));
        [a, b, c, d, e, f, g, h]
    }};
}

mod scalar;
pub use scalar::{Scalar, fma, sqrt, sqrt64};

#[cfg(all(target_arch = "x86_64", target_feature = "sse2", feature = "avx2"))]
mod avx2;
#[cfg(all(target_arch = "x86_64", target_feature = "sse2", feature = "avx512"))]
mod avx512;
#[cfg(all(target_arch = "x86_64", target_feature = "sse2", feature = "avx2"))]
pub use avx2::Avx2;
#[cfg(all(target_arch = "x86_64", target_feature = "sse2", feature = "avx512"))]
pub use avx512::Avx512;

#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "aarch64")]
pub use neon::Neon;

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod wasm;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
pub use wasm::Wasm;

pub mod quads;
pub mod tiles;

use crate::LANES;

/// A plain array of sixteen floats: what `load` reads and `store` writes. No alignment needed.
pub type Floats = [f32; LANES];

/// The words. All work on sixteen lanes.
pub trait Simd: Copy + Send + Sync + 'static {
    /// Sixteen `f32`.
    type F32: Copy;
    /// Sixteen `i32` (read as `u32` where a word says so).
    type I32: Copy;
    /// Sixteen `f64`.
    type F64: Copy;
    /// Sixteen yes-or-no.
    type Mask: Copy;
    /// Eight nibbles a lane, on their way through a look-up.
    type Nibbles: Copy;
    /// Shape of the matrix tile that fits the registers: rows, and panels of 16 columns.
    const TILE: (usize, usize);
    /// Whether code is to be small, not fast: of the ways that a kernel can go, all to the same bits, one is compiled.
    const SMALL: bool = false;

    /// Runs `kernel` in a function of its own, compiled for this tier: where a body that is inlined whole
    /// would grow past what the register allocator (or a reader of the assembly) can follow.
    fn outline<K: crate::Kernel>(self, kernel: K) -> K::Output;

    // ---- memory
    /// `x` in every lane.
    fn splat(self, x: f32) -> Self::F32;
    /// Reads sixteen floats.
    fn load(self, x: &Floats) -> Self::F32;
    /// Writes sixteen floats.
    fn store(self, out: &mut Floats, v: Self::F32);
    /// Reads `x.len() <= 16` floats; the other lanes are `fill`. Nothing past the slice is read.
    #[inline(always)]
    fn load_tail(self, x: &[f32], fill: f32) -> Self::F32 {
        let mut line = [fill; LANES];
        line[..x.len()].copy_from_slice(x);
        self.load(&line)
    }
    /// Writes the first `out.len() <= 16` lanes and nothing else.
    #[inline(always)]
    fn store_tail(self, out: &mut [f32], v: Self::F32) {
        let mut line = [0.0; LANES];
        self.store(&mut line, v);
        out.copy_from_slice(&line[..out.len()]);
    }
    /// Writes a line past the caches where the tier can; call [`Simd::fence`] when done.
    #[inline(always)]
    fn stream(self, out: &mut crate::Line, v: Self::F32) {
        self.store(out, v);
    }
    /// Orders earlier [`Simd::stream`] writes before later ones.
    #[inline(always)]
    fn fence(self) {}
    /// Asks for the cache line at `p`; never faults, never changes a result.
    #[inline(always)]
    fn prefetch<T>(self, _p: *const T) {}
    /// The same, for later: into the second level of the caches.
    #[inline(always)]
    fn prefetch_far<T>(self, _p: *const T) {}
    /// `v`, in a register, where the tier has many: what is made of it stays behind what it was made of. A compiler that
    /// mixes the steps of a long sum runs out of registers.
    #[inline(always)]
    fn pin(self, v: Self::F32) -> Self::F32 {
        v
    }

    // ---- arithmetic: each rounded once, to nearest even
    /// `a + b`
    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a - b`
    fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a × b`
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a ÷ b`
    fn div(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `√a`
    fn sqrt(self, a: Self::F32) -> Self::F32;
    /// `a × b + c`, rounded once.
    fn fma(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32;
    /// `if a > b { a } else { b }`: with a NaN on either side, `b`.
    fn max(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `if a < b { a } else { b }`: with a NaN on either side, `b`.
    fn min(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// Nearest integer, ties to even; `|a| <= 2^22`.
    fn round(self, a: Self::F32) -> Self::F32;

    // ---- comparison
    /// `a > b`; false with a NaN.
    fn gt(self, a: Self::F32, b: Self::F32) -> Self::Mask;
    /// `a >= b`; false with a NaN.
    fn ge(self, a: Self::F32, b: Self::F32) -> Self::Mask;
    /// `a == b`; false with a NaN.
    fn eq(self, a: Self::F32, b: Self::F32) -> Self::Mask;
    /// Lanes where `a` or `b` is a NaN.
    fn unordered(self, a: Self::F32, b: Self::F32) -> Self::Mask;
    /// `if m { a } else { b }`
    fn select(self, m: Self::Mask, a: Self::F32, b: Self::F32) -> Self::F32;
    /// Both.
    fn mask_and(self, a: Self::Mask, b: Self::Mask) -> Self::Mask;
    /// Either.
    fn mask_or(self, a: Self::Mask, b: Self::Mask) -> Self::Mask;
    /// Lane l is bit l.
    fn mask_bits(self, m: Self::Mask) -> u32;
    /// Bit l is lane l.
    fn mask_from_bits(self, bits: u32) -> Self::Mask;

    // ---- integers: wrapping
    /// `x` in every lane.
    fn splat_i(self, x: i32) -> Self::I32;
    /// Reads sixteen integers.
    fn load_i(self, x: &[i32; LANES]) -> Self::I32;
    /// Writes sixteen integers.
    fn store_i(self, out: &mut [i32; LANES], v: Self::I32);
    /// `a + b`
    fn add_i(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// `a - b`
    fn sub_i(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// Bitwise and.
    fn and_i(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// Bitwise or.
    fn or_i(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// Bitwise exclusive or.
    fn xor_i(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// Shift left by `N` in 1..=31.
    fn shl<const N: i32>(self, a: Self::I32) -> Self::I32;
    /// Shift right by `N` in 1..=31, zeros enter.
    fn shr<const N: i32>(self, a: Self::I32) -> Self::I32;
    /// Shift right by `N` in 1..=31, the sign enters.
    fn sar<const N: i32>(self, a: Self::I32) -> Self::I32;
    /// `a > b`, signed.
    fn gt_i(self, a: Self::I32, b: Self::I32) -> Self::Mask;
    /// `if m { a } else { b }`
    fn select_i(self, m: Self::Mask, a: Self::I32, b: Self::I32) -> Self::I32;

    // ---- bytes and half words: four and two a lane, the lowest first
    /// Sixty-four bytes.
    fn load_bytes(self, x: &[u8; 64]) -> Self::I32;
    /// The same sixteen bytes in every four lanes.
    fn splat_bytes(self, x: &[u8; 16]) -> Self::I32;
    /// Bytes 0 and 2 of each lane, signed, as its half words.
    fn even_bytes(self, a: Self::I32) -> Self::I32;
    /// Bytes 1 and 3 of each lane, signed, as its half words.
    fn odd_bytes(self, a: Self::I32) -> Self::I32;
    /// `c` and, of each lane's two signed half words, both products: exact but for the wrapping of the sum.
    fn dot_halves(self, a: Self::I32, b: Self::I32, c: Self::I32) -> Self::I32;
    /// Each byte of `index`, which is below 16, becomes that byte of the sixteen in its four lanes of `table`.
    fn lut_bytes(self, index: Self::I32, table: Self::I32) -> Self::I32;

    // ---- between types
    /// The bits of each float.
    fn bits(self, a: Self::F32) -> Self::I32;
    /// The float of each bit pattern.
    fn of_bits(self, a: Self::I32) -> Self::F32;
    /// Nearest integer, ties to even; clamp first: `|a| < 2^31`.
    fn to_i(self, a: Self::F32) -> Self::I32;
    /// The float nearest to each integer, ties to even.
    fn of_i(self, a: Self::I32) -> Self::F32;
    /// Sixteen bytes, each to an integer 0..=255.
    fn load_u8(self, x: &[u8; LANES]) -> Self::I32;
    /// Sixteen signed bytes, each to an integer -128..=127.
    fn load_i8(self, x: &[u8; LANES]) -> Self::I32;
    /// Sixteen half words, each to an integer 0..=65535.
    fn load_u16(self, x: &[u16; LANES]) -> Self::I32;
    /// The low 16 bits of each lane.
    fn store_u16(self, out: &mut [u16; LANES], v: Self::I32);
    /// The low 8 bits of each lane.
    #[inline(always)]
    fn store_u8(self, out: &mut [u8; LANES], v: Self::I32) {
        let mut x = [0; LANES];
        self.store_i(&mut x, v);
        *out = x.map(|x| x as u8);
    }
    /// Sixteen bfloat16 to `f32`, exact.
    #[inline(always)]
    fn load_bf16(self, x: &[u16; LANES]) -> Self::F32 {
        self.of_bits(self.shl::<16>(self.load_u16(x)))
    }
    /// The nearest bfloat16, ties to even, in the upper half of each lane; the lower half is anything. Overflow to
    /// infinity; a NaN stays one.
    #[inline(always)]
    fn bf16_bits(self, v: Self::F32) -> Self::I32 {
        // A NaN, whose payload could be rounded or cut away, becomes a quiet one instead.
        let bits = self.bits(v);
        let odd = self.and_i(self.shr::<16>(bits), self.splat_i(1));
        let rounded = self.add_i(bits, self.add_i(odd, self.splat_i(0x7fff)));
        let quiet = self.or_i(bits, self.splat_i(0x40_0000));
        self.select_i(self.is_nan(v), quiet, rounded)
    }
    /// To bfloat16 by [`Simd::bf16_bits`].
    #[inline(always)]
    fn store_bf16(self, out: &mut [u16; LANES], v: Self::F32) {
        self.store_u16(out, self.shr::<16>(self.bf16_bits(v)));
    }
    /// Sixteen IEEE half floats to `f32`, exact (a NaN stays one).
    fn load_f16(self, x: &[u16; LANES]) -> Self::F32;
    /// To IEEE half, nearest even; overflow to infinity; subnormals kept; a NaN stays one.
    fn store_f16(self, out: &mut [u16; LANES], v: Self::F32);

    /// `table[index & 15]` in every lane.
    fn lut16(self, index: Self::I32, table: Self::F32) -> Self::F32;
    /// Neighbours change places: lane l of the result is lane `l ^ 1` of `a`.
    fn swap(self, a: Self::F32) -> Self::F32;
    /// Prepares the eight nibbles of each word for [`Simd::nibble`]: a tier whose look-up needs more than one
    /// instruction does all eight here, cheaper than one by one.
    fn nibbles(self, words: Self::I32, table: Self::F32) -> Self::Nibbles;
    /// `table[word >> 4i & 15]` in every lane; i = 0, 1, … 7 in this order, with the table of before.
    fn nibble(self, nibbles: &mut Self::Nibbles, table: Self::F32, i: usize) -> Self::F32;
    /// Rows to columns: lane c of row r becomes lane r of row c.
    fn transpose(self, rows: [Self::F32; LANES]) -> [Self::F32; LANES];

    /// Sixteen steps of sixteen chains, for each of `R` vectors: lane l of `acc[r]` becomes
    /// `fma(rows[l][i], x[r][i], …)`, i = 0, 1, … 15.
    #[inline(always)]
    fn fma_rows<const R: usize>(
        self,
        mut acc: [Self::F32; R],
        rows: &[&Floats; LANES],
        x: [&Floats; R],
    ) -> [Self::F32; R] {
        let mut columns = [self.splat(0.0); LANES];
        for l in 0..LANES {
            columns[l] = self.load(rows[l]);
        }
        let columns = self.transpose(columns);
        for r in 0..R {
            for i in 0..LANES {
                acc[r] = self.fma(columns[i], self.splat(x[r][i]), acc[r]);
            }
        }
        acc
    }

    /// `a × 2^n`, rounded once, subnormals and overflow included; 1/4 <= |a| <= 4 and `n` an integer in
    /// -248..=248, or both a NaN, which stays one.
    #[inline(always)]
    fn ldexp(self, a: Self::F32, n: Self::F32) -> Self::F32 {
        // In two steps: the first has an exponent in -126..=126, so adding to the exponent's field is exact;
        // the second, a product, rounds. The integer of a NaN is 0 or i32::MIN, and the shifts leave 0 of both.
        let n = self.to_i(n);
        let half = self.sar::<1>(n);
        let rest = self.shl::<23>(self.sub_i(n, half));
        let first = self.of_bits(self.add_i(self.bits(a), self.shl::<23>(half)));
        self.mul(first, self.of_bits(self.add_i(rest, self.splat_i(127 << 23))))
    }

    // ---- f64, for statistics
    /// `x` in every lane.
    fn splat_d(self, x: f64) -> Self::F64;
    /// Exact.
    fn widen(self, a: Self::F32) -> Self::F64;
    /// Rounded once.
    fn narrow(self, a: Self::F64) -> Self::F32;
    /// Writes sixteen doubles.
    fn store_d(self, out: &mut [f64; LANES], v: Self::F64);
    /// `a + b`
    fn add_d(self, a: Self::F64, b: Self::F64) -> Self::F64;
    /// `a - b`
    fn sub_d(self, a: Self::F64, b: Self::F64) -> Self::F64;
    /// `a × b`
    fn mul_d(self, a: Self::F64, b: Self::F64) -> Self::F64;

    // ---- said with the words above
    /// `|a|`: the sign bit cleared, also of a NaN.
    #[inline(always)]
    fn abs(self, a: Self::F32) -> Self::F32 {
        self.of_bits(self.and_i(self.bits(a), self.splat_i(i32::MAX)))
    }
    /// `-a`: the sign bit flipped, also of a NaN.
    #[inline(always)]
    fn neg(self, a: Self::F32) -> Self::F32 {
        self.of_bits(self.xor_i(self.bits(a), self.splat_i(i32::MIN)))
    }
    /// The magnitude of `a` (its sign bit must be clear) with the sign of `b`.
    #[inline(always)]
    fn copysign(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        let sign = self.and_i(self.bits(b), self.splat_i(i32::MIN));
        self.of_bits(self.or_i(self.bits(a), sign))
    }
    /// `c - a × b`, rounded once.
    #[inline(always)]
    fn nfma(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32 {
        self.fma(self.neg(a), b, c)
    }
    /// Lanes where `a` is a NaN.
    #[inline(always)]
    fn is_nan(self, a: Self::F32) -> Self::Mask {
        self.unordered(a, a)
    }
    /// Any lane?
    #[inline(always)]
    fn any(self, m: Self::Mask) -> bool {
        self.mask_bits(m) != 0
    }
    /// The lanes as an array.
    #[inline(always)]
    fn to_array(self, v: Self::F32) -> Floats {
        let mut x = [0.0; LANES];
        self.store(&mut x, v);
        x
    }
    /// Clause 2's tree over sixteen partial sums.
    #[inline(always)]
    fn sum(self, v: Self::F32) -> f32 {
        tree(self.to_array(v), |a, b| a + b)
    }
    /// Clause 2's tree over sixteen partial sums in `f64`.
    #[inline(always)]
    fn sum_d(self, v: Self::F64) -> f64 {
        let mut x = [0.0; LANES];
        self.store_d(&mut x, v);
        tree(x, |a, b| a + b)
    }
    /// The tree with the lane word `max`.
    #[inline(always)]
    fn max_lane(self, v: Self::F32) -> f32 {
        tree(self.to_array(v), |a, b| if a > b { a } else { b })
    }
    /// Wrapping sum of the lanes of each of sixteen words: lane r of the result is that of `rows[r]`.
    #[inline(always)]
    fn sum_rows_i(self, rows: [Self::I32; LANES]) -> Self::I32 {
        let mut x = [self.splat(0.0); LANES];
        for i in 0..LANES {
            x[i] = self.of_bits(rows[i]);
        }
        let mut sum = self.splat_i(0);
        for column in self.transpose(x) {
            sum = self.add_i(sum, self.bits(column));
        }
        sum
    }
    /// Sum of each of sixteen words by the same tree: lane r of the result is `sum(rows[r])`.
    #[inline(always)]
    fn sum_rows(self, rows: [Self::F32; LANES]) -> Self::F32 {
        // Columns of the transposed rows are the lanes of the sums: the tree runs over registers.
        let mut x = self.transpose(rows);
        for i in 0..8 {
            x[i] = self.add(x[i], x[i + 8]);
        }
        for i in 0..4 {
            x[i] = self.add(x[i], x[i + 4]);
        }
        self.add(self.add(x[0], x[2]), self.add(x[1], x[3]))
    }
}

/// Folds sixteen partial results: lane i with lane i + 8, then + 4, + 2, + 1 (clause 2).
///
/// ```
/// use samebits_kernels::simd::{Floats, tree};
/// let x: Floats = core::array::from_fn(|i| if i == 0 { 16_777_216.0 } else { 1.0 });
/// assert_eq!(x.iter().sum::<f32>(), 16_777_216.0); // 2²⁴ + 1 is no f32
/// assert_eq!(tree(x, |a, b| a + b), 16_777_230.0); // the ones meet each other first, all but one
/// ```
#[inline(always)]
pub fn tree<T: Copy>(mut x: [T; LANES], f: impl Fn(T, T) -> T) -> T {
    // Four loops with constant bounds, so that a tier keeps everything in registers.
    for i in 0..8 {
        x[i] = f(x[i], x[i + 8]);
    }
    for i in 0..4 {
        x[i] = f(x[i], x[i + 4]);
    }
    for i in 0..2 {
        x[i] = f(x[i], x[i + 2]);
    }
    f(x[0], x[1])
}
