//! # Attention: softmax(scale · q kᵀ + bias) v, fused, never with an (Lq × Lk) matrix
//!
//! **Math.**  For each query i of each head:  s_j = q_i · k_j · scale,  p_j = exp(s_j − max s) / Σ exp(s − max s),
//!   out_i = Σ_j p_j v_j  over the keys j that i may see; kept online, block by block, as (m, l, o).
//!
//! **Law.**   Clause 8. A live score is made in this order, each step rounded once:
//!   1. q · k by clause 1 over head_dim;  2. × scale;  3. softcap: s ÷ c, tanh, × c;
//!   4. ALiBi: fma(slope, j − i, s), j − i exact up to 2²⁴;  5. + additive mask.
//!
//!   Keys go in blocks of 64 counted from the sequence's first key. A key that is masked, or that the sequence
//!   does not have, enters its block as s = −∞, p = +0 and v = +0; its k and v are never read. Per block with a
//!   key that the row may see:  m' = max(m, s),  p = exp(s − m'),  α = exp(m − m') (0 where m = −∞),
//!   l = l·α + Σp (the product rounded; Σp by clause 2),  o = fma(o, α, chain of p·v from +0, j ascending).
//!   While m' = −∞ (all live scores overflowed to it) p is taken against 0 in its place, so that it is +0 and
//!   not a NaN. A sink is a block after the last, of one key with the score `sink` and v = +0.
//!   End: o ÷ l, or +0 where no key was allowed; log-sum-exp: m + ln l.
//!   A NaN score makes its own p a NaN, and so l and o: `max` may drop it without harm.
//!   K and V are read in the form in which they are stored ([`Stored`]): a component is decoded to one `f32` first.
//!   With [`Products::Bf16`] q, k, v and then p are rounded to bfloat16, and q · k and p · v are made by clause 10
//!   (`class.rs`); l is the sum of p as it was before. Rounding what is rounded changes nothing, so that caches of
//!   bf16 and of f32 give the same bits.
//!
//! ```text
//!   lanes are queries (prefill):                       lanes are keys, then components (decode):
//!   Qᵀ (d × 48)        K block, as it lies              K, 16 keys × 16 components, transposed in registers
//!      │                  │ one float broadcast            │  × q broadcast
//!      └──► Sᵀ (64 × 48) ◄┘                                └──► S (rows × 64)
//!            │ max, exp, Σ down the columns                      │ max, exp, Σ
//!            Pᵀ      V block, as it lies                         P broadcast × V, as it lies
//!            └──► Oᵀ (v_dim × 48) ◄┘                             └──► O (rows × v_dim)
//! ```
//!
//! With the queries in the lanes nothing is ever shuffled but Q once and O once: K and V are read as the cache
//! holds them, one float at a time. Rows of a piece are (query, head of the group), so that a group shares one
//! pass over its keys.
//!
//! **Registers.**  the tiles of `tile.rs`: avx512 8 × 3 words · avx2, neon 5 × 1 words; of bf16, two chains a sum,
//!   avx512 4 × 3 · avx2, neon 3 × 1.
//!
//! **Cost.**  qk_dim + v_dim FMAs a score, 12 to 19 operations for its exp. Prefill is bound by FMAs (K and
//!   V pass once for 48 rows), decode by reading K and V.
//!   Zen 4, one core, `samebits bench`: (1, 8, 2048, 64) 89 GFLOP/s, causal 86, of a peak of 118 (97 % within the
//!   tiles; exp takes 8 % of the time); decode (1, 32, 1, 128) over 4,096 keys: 82 % of what four plain streams
//!   read (AVX2: 65 %). Over bf16 and int8 decode takes about half the time that it takes over f32 (AVX2: as long, and
//!   two thirds): the bytes fall to 1/2 and 1/4, but then shuffles and conversions bind.
//!   bfloat16 on AMX (`tiles.rs`), a Xeon, one core: (1, 8, 2048, 64) 350 GFLOP/s, causal 300, where f32 makes 125 and 118:
//!   the unit's products are hidden between exponentials.
//!   **Scratch.**  [`scratch_len`] lines a thread; with [`fast_scratch_len`] bfloat16 may go to a matrix unit.
//!
//! **Error.**  |out − exact| <= 4u (1 + Gs) Σ p|v|, Gs = max over keys of scale · Σ|q||k| (tests/attention.rs); of
//!   bf16, against the rounded q, k and v, (2⁻⁸ + 4u (1 + Gs)) Σ p|v| (tests/attention_bf16.rs).
//!
//! **Reference.**  Milakov, Gimelshein 2018, [arXiv:1805.02867](https://arxiv.org/abs/1805.02867) (online softmax); Dao 2023, [arXiv:2307.08691](https://arxiv.org/abs/2307.08691).
//!   A row without a key gives +0 as PyTorch's `_safe_softmax`.
//! **Next.**  `prefill.rs`, `tile.rs`, `class.rs`, `decode.rs`, `stored.rs`, `tiles.rs`.

mod backward;
mod bias;
mod class;
mod decode;
mod mask;
mod pieces;
mod prefill;
mod rows;
mod softmax;
mod stored;
mod tiers;
mod tile;
mod tiles;

pub use backward::{
    AttentionBackward, Gradients, KeyPiece, KeyPieces, QueryPiece, QueryPieces, attention_backward,
    backward_scratch_len,
};
pub use mask::{Additive, Align, Keep, Pattern, Sequences, Span, alibi_slopes};
pub use pieces::{Piece, Pieces};
pub use stored::Stored;

use crate::view::{HeadsMut, HeadsRef};
use crate::{Cpu, LANES, Line};

/// Keys of a block (clause 8).
///
/// Decode is prefill, to the bit, for keys are cut into blocks by their position alone:
/// ```
/// use samebits_kernels::attention::{Attention, BLOCK, Options, Pattern, Piece, Pieces, scratch_len};
/// use samebits_kernels::{Cpu, Line, view::{HeadsMut, HeadsRef}};
/// let n = BLOCK + 6; // tokens
/// let x: Vec<f32> = (0..4 * n).map(|i| (i * i % 17) as f32 / 8.0 - 1.0).collect();
/// let attend = |queries: usize| {
///     let mut out = vec![0.0; 4 * queries];
///     let problem = Attention {
///         q: HeadsRef::new(&x[4 * (n - queries)..], [1, 1, queries, 4]),
///         k: HeadsRef::new(&x, [1, 1, n, 4]).into(),
///         v: HeadsRef::new(&x, [1, 1, n, 4]).into(),
///         out: HeadsMut::new(&mut out, [1, 1, queries, 4]),
///         lse: None,
///         options: Options { pattern: Pattern::Causal, ..Options::for_head_dim(4) },
///     };
///     let (pieces, mut scratch): (Pieces, _) = (problem.pieces(), vec![Line::ZERO; scratch_len(4, 4)]);
///     pieces.for_each(|piece: Piece| piece.run(Cpu::detect(), &mut scratch)); // any order, any threads
///     out
/// };
/// assert_eq!(attend(n)[4 * (n - 1)..], attend(1));
/// ```
pub const BLOCK: usize = 64;

/// Rows of a piece, at most: three words of queries.
const ROWS: usize = 48;

/// Panels of sixteen rows.
const PANELS: usize = ROWS / LANES;
/// Lines of scores: the last tile of keys may run over the block.
const SCORES: usize = BLOCK + rows::MIN_VALUES;

/// Components of clause 1's blocks.
const K_BLOCK: usize = 256;

/// One attention over a batch: shapes as (batch, heads, tokens, dim), each with strides of its own.
///
/// Query head h reads key head h / (heads / kv_heads). With [`Sequences::Packed`] the batch is 1.
#[derive(Debug)]
pub struct Attention<'a> {
    /// (batch, heads, Lq, qk_dim)
    pub q: HeadsRef<'a>,
    /// (batch, kv_heads, Lk, qk_dim)
    pub k: Stored<'a>,
    /// (batch, kv_heads, Lk, v_dim)
    pub v: Stored<'a>,
    /// (batch, heads, Lq, v_dim)
    pub out: HeadsMut<'a>,
    /// (batch, heads, Lq, 1): log Σ exp of the scores, the sink among them; −∞ where there is neither.
    pub lse: Option<HeadsMut<'a>>,
    /// Everything else.
    pub options: Options<'a>,
}

/// What the products q · k and p · v are made of.
///
/// ```
/// use samebits_kernels::attention::Products;
/// assert_eq!(Products::ALL.map(Products::name), ["f32", "bf16"]);
/// assert_eq!((Products::from_name("bf16"), Products::from_name("int8")), (Some(Products::Bf16), None));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Products {
    /// Floats, by clause 1.
    #[default]
    F32,
    /// q, k, p and v rounded to bfloat16, by clause 10. Scores, the softmax and all sums stay `f32`.
    Bf16,
}

impl Products {
    /// All of them.
    pub const ALL: [Products; 2] = [Products::F32, Products::Bf16];

    /// `f32` or `bf16`.
    pub const fn name(self) -> &'static str {
        match self {
            Products::F32 => "f32",
            Products::Bf16 => "bf16",
        }
    }

    /// Those of that name.
    pub fn from_name(name: &str) -> Option<Products> {
        Products::ALL.into_iter().find(|products| products.name() == name)
    }
}

/// How scores are made and which keys count.
///
/// One query, three keys that score alike; what it sees is in the mean of their values:
/// ```
/// use samebits_kernels::attention::*;
/// use samebits_kernels::{Cpu, Line, view::{HeadsMut, HeadsRef}};
/// let mean_of_the_seen = |options: Options| {
///     let (q, k, v, mut out) = ([0.0], [1.0; 3], [1.0, 2.0, 6.0078125], [0.0]);
///     let problem = Attention {
///         q: HeadsRef::new(&q, [1, 1, 1, 1]),
///         k: Stored::F32(HeadsRef::new(&k, [1, 1, 3, 1])),
///         v: Stored::F32(HeadsRef::new(&v, [1, 1, 3, 1])),
///         out: HeadsMut::new(&mut out, [1, 1, 1, 1]),
///         lse: None,
///         options,
///     };
///     attention(Cpu::detect(), problem, &mut vec![Line::ZERO; scratch_len(1, 1)]);
///     out[0]
/// };
/// let (all, bytes, bias) = (Options::new(1.0), [0, 1, 1], [0.0, f32::NEG_INFINITY, 0.0]);
/// let keep = Some(Keep(HeadsRef::new(&bytes, [1, 1, 1, 3])));
/// assert_eq!(mean_of_the_seen(Options { keep, ..all }), 4.00390625);
/// let additive = Some(Additive(HeadsRef::new(&bias, [1, 1, 1, 3])));
/// assert_eq!(mean_of_the_seen(Options { keep, additive, ..all }), 6.0078125);
/// assert_eq!(mean_of_the_seen(Options { keep, additive, products: Products::Bf16, ..all }), 6.0);
/// let causal = Options { pattern: Pattern::Causal, ..all };
/// assert_eq!(mean_of_the_seen(Options { align: Align::TopLeft, ..causal }), 1.0);
/// assert_eq!(mean_of_the_seen(Options { align: Align::Offset(1), ..causal }), 1.5);
/// let sequences = Sequences::Padded { queries: None, keys: &[Span { start: 1, len: 1 }] };
/// assert_eq!(mean_of_the_seen(Options { sequences, ..all }), 2.0);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// What products are made of.
    pub products: Products,
    /// What q · k is multiplied by.
    pub scale: f32,
    /// Keys that a query sees by position.
    pub pattern: Pattern,
    /// Where the first query stands.
    pub align: Align,
    /// Padding, or sequences end to end.
    pub sequences: Sequences<'a>,
    /// Keys that a query sees by a mask.
    pub keep: Option<Keep<'a>>,
    /// A bias of the scores, −∞ hides.
    pub additive: Option<Additive<'a>>,
    /// c: a score s becomes c · tanh(s / c), before any bias.
    pub softcap: Option<f32>,
    /// (heads): slope × (j − i) is added, i being the query's position; see [`alibi_slopes`].
    pub alibi: Option<&'a [f32]>,
    /// (heads): an extra score that takes part in the denominator only.
    pub sinks: Option<&'a [f32]>,
}

impl Options<'_> {
    /// Every query sees every key; no bias.
    pub const fn new(scale: f32) -> Self {
        Options {
            products: Products::F32,
            scale,
            pattern: Pattern::Full,
            align: Align::BottomRight,
            sequences: Sequences::Whole,
            keep: None,
            additive: None,
            softcap: None,
            alibi: None,
            sinks: None,
        }
    }

    /// With the usual scale: 1 / √qk_dim, rounded once from `f64`.
    pub fn for_head_dim(qk_dim: usize) -> Self {
        Options::new((1.0 / crate::simd::sqrt64(qk_dim as f64)) as f32)
    }
}

/// Lines of scratch that each thread needs for heads of these sizes.
pub const fn scratch_len(qk_dim: usize, v_dim: usize) -> usize {
    scratch_len_for(usize::MAX, qk_dim, v_dim)
}

/// The same where no query has more than `keys` keys: less, where they are fewer than some thousand.
///
/// ```
/// use samebits_kernels::attention::{scratch_len, scratch_len_for};
/// assert!(scratch_len_for(100, 16, 16) < scratch_len(16, 16) && scratch_len_for(9_999, 16, 16) == scratch_len(16, 16));
/// ```
pub const fn scratch_len_for(keys: usize, qk_dim: usize, v_dim: usize) -> usize {
    let (a, b) = (prefill::scratch_len(qk_dim, v_dim), decode::scratch_len(keys, qk_dim, v_dim));
    if a > b { a } else { b }
}

/// Lines of scratch for [`Piece::run_on_tiles`].
pub const fn scratch_len_on_tiles(qk_dim: usize, v_dim: usize) -> usize {
    let (a, b) = (scratch_len(qk_dim, v_dim), tiles::scratch_len(qk_dim, v_dim));
    if a > b { a } else { b }
}

/// Lines of scratch with which pieces run fastest on `cpu`: on a matrix unit, where it has one for such products. With no
/// more than [`scratch_len`] they go without it.
///
/// ```
/// use samebits_kernels::Cpu;
/// use samebits_kernels::attention::{Products, fast_scratch_len, scratch_len, scratch_len_on_tiles};
/// let (floats, halves) = (Products::F32, Products::Bf16);
/// let cpu = Cpu::detect().without(|features| features.amx_bf16 = false);
/// assert!([floats, halves].map(|products| fast_scratch_len(cpu, products, 64, 64)) == [scratch_len(64, 64); 2]);
/// assert!(fast_scratch_len(Cpu::detect(), halves, 64, 64) <= scratch_len_on_tiles(64, 64));
/// ```
pub fn fast_scratch_len(cpu: Cpu, products: Products, qk_dim: usize, v_dim: usize) -> usize {
    match products {
        Products::Bf16 if cpu.tiles_bf16().is_some() => scratch_len_on_tiles(qk_dim, v_dim),
        _ => scratch_len(qk_dim, v_dim),
    }
}

/// Computes `problem` on this thread, piece by piece.
///
/// ```
/// use samebits_kernels::attention::{Attention, Options, Pattern, attention, scratch_len};
/// use samebits_kernels::view::{HeadsMut, HeadsRef};
/// use samebits_kernels::{Cpu, Line};
/// let (q, k, v) = ([1.0; 4], [1.0; 6], [1.0, 2.0, 3.0]);
/// let mut out = [0.0; 2];
/// let problem = Attention {
///     q: HeadsRef::new(&q, [1, 1, 2, 2]),
///     k: HeadsRef::new(&k, [1, 1, 3, 2]).into(),
///     v: HeadsRef::new(&v, [1, 1, 3, 1]).into(),
///     out: HeadsMut::new(&mut out, [1, 1, 2, 1]),
///     lse: None,
///     options: Options { pattern: Pattern::Causal, ..Options::for_head_dim(2) },
/// };
/// let mut scratch = vec![Line::ZERO; scratch_len(2, 1)];
/// attention(Cpu::detect(), problem, &mut scratch);
/// assert_eq!(out, [1.5, 2.0]); // the first query stands at the second key
/// ```
///
/// # Panics
/// Where shapes disagree (see [`Attention::pieces`]) or `scratch` is shorter than [`scratch_len_for`] its keys.
pub fn attention(cpu: Cpu, problem: Attention<'_>, scratch: &mut [Line]) {
    for piece in problem.pieces() {
        piece.run(cpu, scratch);
    }
}

impl<'a> Attention<'a> {
    /// The work, cut by shape: each piece owns its part of `out` and `lse` and may run anywhere.
    ///
    /// # Panics
    /// Where shapes disagree: batch, heads a multiple of kv_heads, qk_dim, v_dim, the lengths of what is one
    /// a head, of masks and of sequences. Where softcap is not above 0.
    pub fn pieces(self) -> Pieces<'a> {
        self.check();
        Pieces::new(self)
    }

    /// Panics where shapes disagree: what [`Attention::pieces`] looks at first.
    ///
    /// # Panics
    /// See [`Attention::pieces`].
    pub fn check(&self) {
        let [b, h, lq, _] = self.q.shape();
        let out = (self.out.shape(), [b, h, lq, self.v.shape()[3]]);
        assert!(out.0 == out.1, "attention: out of shape {:?}, wanted {:?}", out.0, out.1);
        if let Some(lse) = &self.lse {
            assert!(lse.shape() == [b, h, lq, 1], "attention: lse {:?} for q {:?}", lse.shape(), [b, h, lq]);
        }
        self.check_inputs();
    }

    /// What does not concern the output.
    fn check_inputs(&self) {
        let ([b, h, lq, d], [_, kv_heads, lk, _]) = (self.q.shape(), self.k.shape());
        let shapes = (self.q.shape(), self.k.shape(), self.v.shape());
        let agree = self.k.shape() == [b, kv_heads, lk, d]
            && self.v.shape()[..3] == [b, kv_heads, lk]
            && (h == 0 || kv_heads != 0 && h.is_multiple_of(kv_heads));
        assert!(agree, "attention: q, k, v of shapes {shapes:?}");
        let scales = self.k.has_scales() && self.v.has_scales();
        assert!(scales, "attention: not one scale a row of codes");
        for one_a_head in [self.options.alibi, self.options.sinks].into_iter().flatten() {
            assert!(one_a_head.len() == h, "attention: {} slopes or sinks for {h} heads", one_a_head.len());
        }
        let cap = self.options.softcap.unwrap_or(1.0);
        assert!(cap > 0.0, "attention: a softcap that is not above 0");
        let (sequences, queries, keys) = self.options.sequences.check(b, lq, lk);
        let least = [sequences, h, queries, keys];
        let check_mask = |shape: [usize; 4]| {
            let ok = shape[..2] == least[..2] && shape[2] >= queries && shape[3] >= keys;
            assert!(ok, "attention: a mask of shape {shape:?}, needed {least:?}");
        };
        self.options.keep.iter().for_each(|m| check_mask(m.0.shape()));
        self.options.additive.iter().for_each(|m| check_mask(m.0.shape()));
    }
}

impl Sequences<'_> {
    /// How many sequences; the most queries and keys that masks must cover.
    fn check(&self, batch: usize, queries: usize, keys: usize) -> (usize, usize, usize) {
        match self {
            Sequences::Whole => (batch, queries, keys),
            Sequences::Padded { queries: q, keys: k } => {
                let fits = |spans: &[Span], n: usize| {
                    let inside = |s: &Span| s.start <= n && s.len <= n - s.start;
                    spans.len() == batch && spans.iter().all(inside)
                };
                let ok = q.is_none_or(|q| fits(q, queries)) && fits(k, keys);
                assert!(ok, "attention: spans {q:?}, {k:?} for batch {batch}, Lq {queries}, Lk {keys}");
                (batch, queries, keys)
            }
            Sequences::Packed { queries: q, keys: k } => {
                let fits = |ends: &[usize], n: usize| {
                    ends.is_sorted() && ends.first() == Some(&0) && ends.last() == Some(&n)
                };
                let ok = batch == 1 && q.len() == k.len() && fits(q, queries) && fits(k, keys);
                assert!(ok, "attention: ends {q:?}, {k:?} for batch {batch}, Lq {queries}, Lk {keys}");
                let longest = |ends: &[usize]| ends.windows(2).map(|w| w[1] - w[0]).max().unwrap_or(0);
                (q.len() - 1, longest(q), longest(k))
            }
        }
    }
}

/// Words of sixteen that hold `n`.
const fn words(n: usize) -> usize {
    n.div_ceil(LANES)
}
