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
