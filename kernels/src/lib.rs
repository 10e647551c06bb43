//! The kernels of `samebits`: everything that touches registers.
//!
//! For the same input, a result has the **same bits** on scalar, AVX2, AVX-512, NEON and WebAssembly; for any number
//! of threads and any batch. That is a matter of order, and the order is the law:
//!
//! # The law
//!
//! 1. *Matrix products* (gemm, gemv, linear). k is cut into blocks of 256 counted from k = 0. A block sum
//!    is one FMA chain from +0, k ascending; block sums are added in order, to +0 or, when accumulating,
//!    to the prior C. Then + bias, then the activation, then + residual. No split of k, no other blocking,
//!    no α or β. SIMD runs along n, never along k. A stored weight is first decoded to one `f32`, each
//!    multiplication and addition rounded, then goes the same way: packed = unpacked, GEMV = GEMM.
//! 2. *Sums along a row* (dot, sum, norms, softmax). Sixteen chains, lane l owns l, l + 16, …; then the
//!    tree + 8, + 4, + 2, + 1. Chains are `f32` for dot and the softmax sum, `f64` for sum, mean, variance
//!    and norms. Speed comes from several rows at once, never from more partial sums.
//! 3. *Words allowed*: + − × ÷ √ fma, compare, select, round to even, integer and bit operations: all that
//!    IEEE 754 defines exactly. No estimates, no libm. `max(a, b)` is `if a > b { a } else { b }`; row
//!    reductions carry an `unordered` mask besides, so that a NaN reaches the whole row.
//! 4. Nothing is flushed to zero; `MXCSR` and `FPCR` are never written.
//! 5. *Block sizes are constants of the kernel*, never of the cache, the tier, the threads or the batch.
//! 6. *Work is cut by shape*, not by threads: numbered pieces, each with its own output.
//! 7. Integer kernels are exact, so their order is free.
//! 8. *Attention*. Scores by clause 1 over head_dim. Keys in blocks of 64, counted from the key's logical
//!    position. Start m = −∞, l = +0, o = +0; per block with an allowed key: m' = max(m, s),
//!    α = exp(m − m') (0 when m = −∞), l = l·α + Σp by clause 2, o = fma(o, α, chain of p·v over the
//!    block). A masked key enters as p = +0 with k and v taken as +0, never read. End: o / l, or +0 where
//!    no key was allowed. K and V are always read in the form in which the cache stores them, in prefill
//!    too: bf16 widened; int8 as code × scale, one scale a token and head, the product rounded once. So
//!    decode = prefill, any split, any batch.
//! 9. *Backward*. dW and sums of columns by clause 1, token rows in the place of k; dX by clause 1 over the output
//!    features. dQ: key blocks of 64 ascending; dK, dV: query blocks of 64 ascending, then the heads of a group
//!    ascending. Scatter-add in token order.
//! 10. Two classes of their own, which a caller asks for by name. *bf16* products have the law that `tdpbf16ps`
//!     obeys: k in groups of 32: an even FMA chain from +0, an odd one, their sum, added to that of the groups
//!     before, from +0 in each block of 256; blocks as in clause 1; inputs below 2⁻⁵⁰ become 0. *Attention* in bf16 has
//!     q, k, p and v for inputs, of p · v the keys for k, counted in their block of 64; all else by clause 8, its l of
//!     p before it is rounded. *Scaled int8*: k in
//!     blocks of 32: exact sums of products of codes, each as `f32` joined with the product of the two scales
//!     (rounded once) in one FMA chain over the eight blocks of 256; then as in clause 1. Where a weight has a scale
//!     each 16, a block is two links of that chain, one for each half. Where it has minima, each is a link too, right
//!     behind the sum of its block: joined with the row's scale × Σ of the block's codes (exact, then rounded once).
//!
//! Tests pin the law by hash: a change of bits is a major version.
//!
//! # What breaks it
//!
//! Four things that libraries do for speed. Each gives a sum as good as any other, and other bits.
//!
//! *A sum cut at another place* (clauses 1 and 5). Who gives half of k to each of two threads, or takes blocks as large as
//! the cache, rounds at other places.
//!
//! ```
//! use samebits_kernels::gemm::{Gemm, Strided};
//! use samebits_kernels::{Cpu, Line, simd::fma, view::{MatMut, MatRef}};
//! let (a, b): (Vec<f32>, Vec<f32>) = (1..=600).map(|i| (i as f32 / 7.0, 1.0 / i as f32)).unzip();
//! let mut c = [0.0];
//! let product = Gemm::new(MatRef::new(&a, 1, 600), Strided(MatRef::new(&b, 600, 1)), MatMut::new(&mut c, 1, 1));
//! let mut scratch = vec![Line::ZERO; product.scratch_len()];
//! product.run(Cpu::detect(), &mut scratch);
//! let chain = |from: usize, to| (from..to).fold(0.0, |sum, i| fma(a[i], b[i], sum));
//! assert_eq!(c[0], chain(0, 256) + chain(256, 512) + chain(512, 600)); // the law
//! assert_ne!(c[0], chain(0, 300) + chain(300, 600)); // k split between two threads
//! assert_ne!(c[0], chain(0, 600)); // not cut at all
//! ```
//!
//! *A multiplication and an addition in place of fma* (clauses 1 and 3). Two roundings are not one, and compilers take
//! the one for the other where they are allowed to: here a difference is lost whole.
//!
//! ```
//! use samebits_kernels::{Cpu, dot::dot, simd::fma};
//! let (x, square) = (1.0 + 2.0_f32.powi(-12), 1.0 + 2.0_f32.powi(-11)); // x² = square + 2⁻²⁴
//! assert_eq!(fma(x, x, -square), 2.0_f32.powi(-24));
//! assert_eq!(x * x - square, 0.0);
//! // In a product: element 16 follows element 0 in its chain.
//! let (mut a, mut b) = ([0.0; 17], [0.0; 17]);
//! (a[0], b[0], a[16], b[16]) = (-square, 1.0, x, x);
//! assert_eq!(dot(Cpu::detect(), &a, &b), 2.0_f32.powi(-24));
//! ```
//!
//! *Another tree* (clause 2). Registers of eight lanes, or an instruction that adds neighbours, join the sixteen chains
//! in another order.
//!
//! ```
//! use samebits_kernels::{Cpu, dot::dot};
//! let mut lanes = [1.0_f32; 16];
//! (lanes[0], lanes[8]) = (16_777_216.0, -16_777_216.0); // 2²⁴: one more is lost beside it
//! let (mut law, mut neighbours) = (lanes, lanes);
//! for half in [8, 4, 2, 1] {
//!     for i in 0..half {
//!         law[i] += law[i + half]; // + 8, + 4, + 2, + 1
//!         neighbours[i] = neighbours[2 * i] + neighbours[2 * i + 1];
//!     }
//! }
//! assert_eq!((law[0], neighbours[0]), (14.0, 13.0));
//! assert_eq!(dot(Cpu::detect(), &lanes, &[1.0; 16]), law[0]);
//! ```
//!
//! *Subnormals flushed to zero* (clause 4). Where a processor is told to, numbers that are not equal have a difference of
//! zero; and whether it is told to depends on what else the process has loaded.
//!
//! ```
//! use samebits_kernels::{Cpu, dot::dot};
//! let flushed = |x: f32| if x.is_subnormal() { 0.0_f32.copysign(x) } else { x };
//! let (a, b) = (1.5 * f32::MIN_POSITIVE, f32::MIN_POSITIVE); // both are normal; a − b is not
//! let kept = dot(Cpu::detect(), &[a, b], &[1.0, -1.0]);
//! assert_eq!(kept, 0.5 * f32::MIN_POSITIVE);
//! assert_eq!((a == b, flushed(a - b)), (false, 0.0));
//! assert_ne!((kept * 1e38).to_bits(), (flushed(a - b) * 1e38).to_bits()); // what a gradient is scaled by brings it back
//! ```
//!
//! # Reading order
//!
//! A course. Every kernel's page has the same sections: **Math**, **Law**, a picture of the data, **Registers** of each
//! tier, **Cost** and what binds, **Error**, **Reference**, **Next**. Files that are not modules of their own are named
//! from `kernels/src`; `[src]` on a page leads to them.
//!
//! 1. The law, at the top of `lib.rs`. Everything else follows from it.
//! 2. [`mod@line`], then [`simd`]: the machine word of sixteen lanes, and the vocabulary. `simd/scalar.rs` defines each word in
//!    plain Rust; read one word (`fma`, `lut16`) in `avx2.rs`, `avx512.rs`, `neon.rs` and `wasm.rs` beside it.
//! 3. [`cpu`]: the token that proves a tier, and [`Cpu::run`], the only dispatch.
//! 4. [`math::exp`]: a polynomial, its bound, its proof.
//! 5. [`softmax`], a kernel of one row; then [`gemm`] (packing, the tile: `gemm/tile.rs`); then [`attention`], which is both
//!    at once.
//! 6. [`nf4`] and [`ggml`]: what a weight may be stored as, its decoding, and panels that the same tile multiplies.
//! 7. [`search`]: many rows against few, tiles whose every pair is a [`dot`], and exact integer products of codes.
//! 8. [`int8`], arithmetic on eight bits, with the words that a tier's extras say better (`simd/quads/`: VNNI, DotProd, I8MM);
//!    then matrix units: `simd/tiles/`, `gemm/walk.rs`, [`bf16`] and `bf16/tiles.rs`, `int8/tiles.rs`, `int8/scaled_tiles.rs`.
//! 9. How gradients go back: `gemm/transposed.rs`, [`column_sum`], and the `backward` files of [`activation`], [`norm`],
//!    [`softmax`] and [`attention`]; [`cross_entropy`], [`scatter`] and [`optim`] close the loop.
//!
//! Beside it: `examples/ladder` builds four of these kernels up from plain loops, each rung checked and timed, and
//! `samebits explain KERNEL` shows an inner loop as compiled, with its lines.
#![no_std]
#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

pub mod activation;
pub mod attention;
pub mod bf16;
pub mod column_sum;
pub mod cpu;
pub mod cross_entropy;
pub mod cumsum;
pub mod dot;
pub mod elementwise;
pub mod gemm;
pub mod ggml;
pub mod half;
pub mod int8;
pub mod line;
pub mod map;
pub mod math;
pub mod nf4;
pub mod norm;
pub mod optim;
pub mod pieces;
pub mod reduce;
pub mod rope;
mod rows;
pub mod scatter;
pub mod search;
pub mod simd;
pub mod softmax;
pub mod topk;
pub mod view;

pub use cpu::{Cpu, Features, Kernel, Tier};
pub use line::{LANES, Line, Plain};
