//! The gradients of attention, fused: scores are computed again from the log-sum-exp, so memory is linear in length.
//!
//! **Math.**  p_ij = exp(s_ij − lse_i);  D_i = Σ_c dO_ic O_ic;  dP_ij = Σ_c dO_ic v_jc;  dS_ij = p_ij (dP_ij − D_i), times
//! 1 − tanh² where scores are capped;  dQ_i = Σ_j scale dS_ij k_j;  dK_j = Σ_i scale dS_ij q_i;  dV_j = Σ_i p_ij dO_i;
//! dsink_h = −Σ_i exp(sink_h − lse_i) D_i.
//!
//! **Law.**   Clause 9. s as in the forward pass; dP by clause 1 over v_dim; D by clause 2, padded with zeros; each
//! step of dS rounded once, in the order p · (dP − D) · (1 − t²) · scale. dQ: per block of 64 keys that the row sees
//! some of, one chain from +0 over all 64, block sums added in order to +0. dK and dV: the same over blocks of 64
//! queries (counted from the sequence's first), head by head; then the sums of the heads of a group are added in
//! order to +0. A pair that is not seen enters as +0 × +0, and its rows are never read.
//!
//! ```text
//!   first pass, lanes are queries                     second pass, lanes are keys
//!   Qᵀ, dOᵀ (d × 48)   K, V blocks of 64              Kᵀ, Vᵀ (d × 48)    Q, dO blocks of 64
//!      └──► Sᵀ, dPᵀ (64 × 48) ◄┘                         └──► S, dP (64 × 48) ◄┘
//!              dSᵀ ─ K ─► dQᵀ; D on the way                    P ─ dO ─► dVᵀ   dS ─ Q ─► dKᵀ
//!   pieces: those of the forward pass                 pieces: 48 keys of a key head, all heads of its group
//! ```
//!
//! The tiles are those of `tile.rs`: in the second pass queries and keys have changed places.
//!
//! **Cost.**  Seven products of (Lq × Lk) by d where the forward pass has two: five, and S and dP twice, so that no
//! gradient is added to by two pieces. One exp a score and pass.
//! **Error.**  ≤ 64 u of the sum of absolute terms, their own sums included (tests/attention_backward.rs).
//! **Reference.**  Dao et al. 2022, [arXiv:2205.14135](https://arxiv.org/abs/2205.14135), algorithm 4; Dao 2023, [arXiv:2307.08691](https://arxiv.org/abs/2307.08691).  **Next.**  `queries.rs`

mod keys;
mod lanes;
mod queries;

pub use keys::{KeyPiece, KeyPieces};
pub use queries::{QueryPiece, QueryPieces};

use super::class::F32;
use super::rows::{Spare, value_width};
use super::tile::score_tile;
use super::{Attention, BLOCK, Options, PANELS, Products, SCORES};
use crate::math::exp::exp_nonpositive;
use crate::math::tanh::tanh;
use crate::simd::Simd;
use crate::view::{BATCH, HEADS, HeadsMut, HeadsRef, TOKENS};
use crate::{Cpu, Kernel, LANES, Line};
use core::ops::Range;

/// An attention that was computed, and the gradient of what it gave; shapes as in [`Attention`].
#[derive(Clone, Copy, Debug)]
pub struct AttentionBackward<'a> {
    /// (batch, heads, Lq, qk_dim)
    pub q: HeadsRef<'a>,
    /// (batch, kv_heads, Lk, qk_dim)
    pub k: HeadsRef<'a>,
    /// (batch, kv_heads, Lk, v_dim)
    pub v: HeadsRef<'a>,
    /// (batch, heads, Lq, v_dim): the result.
    pub out: HeadsRef<'a>,
    /// (batch, heads, Lq, 1): its log-sum-exp.
    pub lse: HeadsRef<'a>,
    /// (batch, heads, Lq, v_dim): the gradient of the result.
    pub d_out: HeadsRef<'a>,
    /// Those of the forward pass, but that products are of floats.
    pub options: Options<'a>,
}

/// Where the gradients go; each of the shape of its origin.
pub struct Gradients<'a> {
    /// (batch, heads, Lq, qk_dim)
    pub dq: HeadsMut<'a>,
    /// (batch, kv_heads, Lk, qk_dim)
    pub dk: HeadsMut<'a>,
    /// (batch, kv_heads, Lk, v_dim)
    pub dv: HeadsMut<'a>,
}

/// Lines of scratch that each thread needs for a piece of either pass.
pub const fn backward_scratch_len(qk_dim: usize, v_dim: usize) -> usize {
    Spare::len(value_width(qk_dim), v_dim) + PANELS * 3 * (SCORES + qk_dim + v_dim)
}

/// Computes the gradients on this thread, piece by piece. `delta` is room for D, (batch × heads × Lq).
///
/// ```
/// use samebits_kernels::attention::{AttentionBackward, Gradients, KeyPieces, Options, QueryPieces};
/// use samebits_kernels::attention::{KeyPiece, QueryPiece, attention_backward, backward_scratch_len};
/// use samebits_kernels::{Cpu, Line, view::{HeadsMut, HeadsRef}};
/// // Two keys that score alike: p = ½, ½, the result 2, the scores' gradients ½ (1 − 2) and ½ (3 − 2).
/// let (q, k, v, out, lse, d_out) = ([0.0], [1.0, 5.0], [1.0, 3.0], [2.0], [2f32.ln()], [1.0]);
/// let (one, two) = ([1, 1, 1, 1], [1, 1, 2, 1]);
/// let at = |x, shape| HeadsRef::new(x, shape);
/// let (k, v) = (at(&k[..], two), at(&v, two));
/// let (q, out, lse, d_out) = (at(&q, one), at(&out, one), at(&lse, one), at(&d_out, one));
/// let problem = AttentionBackward { q, k, v, out, lse, d_out, options: Options::new(1.0) };
/// let (mut dq, mut dk, mut dv, mut delta) = ([0.0], [0.0; 2], [0.0; 2], [0.0]);
/// let (mut scratch, cpu) = (vec![Line::ZERO; backward_scratch_len(1, 1)], Cpu::detect());
/// let [dk_at, dv_at] = [&mut dk, &mut dv].map(|x| HeadsMut::new(x, two));
/// let to = Gradients { dq: HeadsMut::new(&mut dq, one), dk: dk_at, dv: dv_at };
/// attention_backward(cpu, &problem, to, &mut delta, &mut scratch);
/// assert!((dq[0] - (-0.5 * 1.0 + 0.5 * 5.0)).abs() < 1e-6 && (dv[1] - 0.5).abs() < 1e-6);
/// assert_eq!(dk, [0.0; 2]); // q is 0
///
/// // The same in pieces: all of the first pass, then those of the second, each on any thread.
/// let (mut dq2, mut dk2, mut dv2) = ([9.0], [9.0; 2], [9.0; 2]);
/// let first: QueryPieces = problem.queries(HeadsMut::new(&mut dq2, one), HeadsMut::new(&mut delta, one));
/// first.for_each(|piece: QueryPiece| piece.run(cpu, &mut scratch));
/// let [dk_at, dv_at] = [&mut dk2, &mut dv2].map(|x| HeadsMut::new(x, two));
/// let second: KeyPieces = problem.keys(HeadsRef::new(&delta, one), dk_at, dv_at);
/// second.for_each(|piece: KeyPiece| piece.run(cpu, &mut scratch));
/// assert_eq!((dq2, dk2, dv2), (dq, dk, dv));
/// ```
///
/// # Panics
/// Where shapes disagree, or `delta` or `scratch` is too short.
pub fn attention_backward(
    cpu: Cpu,
    problem: &AttentionBackward<'_>,
    to: Gradients<'_>,
    delta: &mut [f32],
    scratch: &mut [Line],
) {
    let [b, h, lq, _] = problem.q.shape();
    let shape = [b, h, lq, 1];
    let delta = &mut delta[..b * h * lq];
    for piece in problem.queries(to.dq, HeadsMut::new(&mut *delta, shape)) {
        piece.run(cpu, scratch);
    }
    for piece in problem.keys(HeadsRef::new(delta, shape), to.dk, to.dv) {
        piece.run(cpu, scratch);
    }
}

impl<'a> AttentionBackward<'a> {
    /// The first pass: dQ, and D, (batch, heads, Lq, 1). Pieces may run anywhere, in any order.
    ///
    /// # Panics
    /// Where shapes disagree.
    pub fn queries(&self, dq: HeadsMut<'a>, delta: HeadsMut<'a>) -> QueryPieces<'a> {
        let [b, h, lq, _] = self.q.shape();
        let (shapes, wanted) = ((dq.shape(), delta.shape()), (self.q.shape(), [b, h, lq, 1]));
        assert!(shapes == wanted, "attention: dq, delta of shapes {shapes:?}, wanted {wanted:?}");
        self.check();
        QueryPieces::new(*self, dq, delta)
    }

    /// The second pass, after the whole first: dK and dV from D. Pieces may run anywhere, in any order.
    ///
    /// # Panics
    /// Where shapes disagree.
    pub fn keys(&self, delta: HeadsRef<'a>, dk: HeadsMut<'a>, dv: HeadsMut<'a>) -> KeyPieces<'a> {
        let [b, h, lq, _] = self.q.shape();
        let shapes = (delta.shape(), dk.shape(), dv.shape());
        let wanted = ([b, h, lq, 1], self.k.shape(), self.v.shape());
        assert!(shapes == wanted, "attention: delta, dk, dv of shapes {shapes:?}, wanted {wanted:?}");
        self.check();
        KeyPieces::new(*self, delta, dk, dv)
    }

    /// The gradient of the sinks, added to `dsinks` (heads): for each head one sum by clause 2 in `f64` over the
    /// queries of each batch row, rows in order, rounded once. After the first pass.
    ///
    /// # Panics
    /// Where there are no sinks, or shapes disagree.
    pub fn sinks(&self, cpu: Cpu, delta: HeadsRef<'_>, dsinks: &mut [f32]) {
        let sinks = self.options.sinks.expect("an attention with sinks");
        let heads = self.q.shape()[HEADS];
        assert!(
            dsinks.len() == heads && delta.shape() == self.lse.shape(),
            "attention: {} dsinks",
            dsinks.len()
        );
        for (h, (sink, out)) in sinks.iter().zip(dsinks).enumerate() {
            let job = Sink { sink: *sink, lse: self.lse, delta, head: h };
            *out += cpu.run(job);
        }
    }

    fn check(&self) {
        let ([b, h, lq, _], v_dim) = (self.q.shape(), self.v.shape()[3]);
        let shapes = (self.out.shape(), self.d_out.shape(), self.lse.shape());
        let wanted = ([b, h, lq, v_dim], [b, h, lq, v_dim], [b, h, lq, 1]);
        assert!(shapes == wanted, "attention: out, d_out, lse of shapes {shapes:?}, wanted {wanted:?}");
        let exact = self.options.products == Products::F32;
        assert!(
            exact,
            "attention: gradients are made of floats: round q, k and v, and ask for Products::F32"
        );
        let nothing = HeadsMut::strided(&mut [], 0, [0; 4], [0; 4]);
        let &AttentionBackward { q, k, v, options, .. } = self;
        Attention { q, k: k.into(), v: v.into(), out: nothing, lse: None, options }.check_inputs();
    }

    /// The part of a (batch, heads, Lq, …) array that belongs to some queries of some heads.
    fn cut(x: &HeadsRef<'a>, row: usize, heads: Range<usize>, tokens: Range<usize>) -> HeadsRef<'a> {
        let x = x.part(BATCH, row, 1).part(HEADS, heads.start, heads.len());
        x.part(TOKENS, tokens.start, tokens.len())
    }
}

/// −Σ exp(sink − lse) D of one head.
struct Sink<'a> {
    sink: f32,
    lse: HeadsRef<'a>,
    delta: HeadsRef<'a>,
    head: usize,
}

impl Kernel for Sink<'_> {
    type Output = f32;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let [batch, _, lq, _] = self.lse.shape();
        let mut total = 0.0;
        for b in 0..batch {
            let (lse, delta) = (self.lse.head(b, self.head), self.delta.head(b, self.head));
            let mut chains = s.splat_d(0.0);
            for at in (0..lq).step_by(LANES) {
                // Past the last query D is +0, and so where no key and so no gradient was.
                let (mut of_lse, mut of_delta) = ([0.0; LANES], [0.0; LANES]);
                for (l, i) in (at..lq.min(at + LANES)).enumerate() {
                    (of_lse[l], of_delta[l]) = (lse.get(i, 0), delta.get(i, 0));
                }
                let p = exp_nonpositive(s, s.sub(s.splat(self.sink), s.load(&of_lse)));
                let none = s.eq(s.load(&of_delta), s.splat(0.0));
                let term = s.select(none, s.splat(0.0), s.mul(p, s.load(&of_delta)));
                chains = s.add_d(chains, s.widen(term));
            }
            total += s.sum_d(chains);
        }
        -(total as f32)
    }
}

/// A block of scores, of the gradients of weights, and of the slopes of the softcap.
struct Scores<'s, const NP: usize> {
    s: &'s mut [[Line; NP]; SCORES],
    dp: &'s mut [[Line; NP]; SCORES],
    slope: &'s mut [[Line; NP]; SCORES],
}

impl<'s, const NP: usize> Scores<'s, NP> {
    /// From 3 × SCORES × PANELS lines.
    fn new(lines: &'s mut [Line]) -> Self {
        let (s, rest) = lines.split_at_mut(SCORES * PANELS);
        let (dp, slope) = rest.split_at_mut(SCORES * PANELS);
        Scores { s: chunk(s), dp: chunk(dp), slope: chunk(slope) }
    }

    /// The two products: rows of the block with the lanes, for the rows `range` of it.
    #[inline(always)]
    fn products<S: Simd, const MR: usize>(
        &mut self,
        s: S,
        lanes: [&[[Line; NP]]; 2],
        rows: &[[&[f32]; SCORES]; 2],
        range: &Range<usize>,
        scale: f32,
    ) {
        let [q, g] = rows;
        let range = range.start / MR * MR..range.end;
        s.outline(Product::<MR, NP> { lanes: lanes[0], rows: q, range: range.clone(), scale, out: self.s });
        s.outline(Product::<MR, NP> { lanes: lanes[1], rows: g, range, scale: 1.0, out: self.dp });
    }

    /// s = tanh(s ÷ cap) · cap, and 1 − tanh².
    #[inline(always)]
    fn cap<S: Simd>(&mut self, s: S, cap: f32) {
        let cap = s.splat(cap);
        for (line, slope) in self.s[..BLOCK].iter_mut().zip(&mut self.slope[..BLOCK]) {
            for p in 0..NP {
                let t = tanh(s, s.div(s.load(&line[p]), cap));
                s.store(&mut line[p], s.mul(t, cap));
                s.store(&mut slope[p], s.nfma(t, t, s.splat(1.0)));
            }
        }
    }

    /// Line `j`: s becomes p, dP becomes scale · dS.
    #[inline(always)]
    fn weights<S: Simd>(&mut self, s: S, j: usize, of_rows: &Of<S, NP>) {
        for p in 0..NP {
            let weight = exp_nonpositive(s, s.sub(s.load(&self.s[j][p]), of_rows.lse[p]));
            let mut ds = s.mul(weight, s.sub(s.load(&self.dp[j][p]), of_rows.delta[p]));
            if of_rows.capped {
                ds = s.mul(ds, s.load(&self.slope[j][p]));
            }
            s.store(&mut self.s[j][p], weight);
            s.store(&mut self.dp[j][p], s.mul(ds, of_rows.scale));
        }
    }

    /// The 64 lines of p and of dS.
    #[inline(always)]
    fn both(&mut self) -> [&mut [[Line; NP]; BLOCK]; 2] {
        let p = self.s.first_chunk_mut().expect("64 of them");
        [p, self.dp.first_chunk_mut().expect("64 of them")]
    }
}

/// `MR` rows at a time with the lanes, as a function of its own.
struct Product<'f, const MR: usize, const NP: usize> {
    /// (dim, lanes)
    lanes: &'f [[Line; NP]],
    rows: &'f [&'f [f32]; SCORES],
    /// From a multiple of `MR` on.
    range: Range<usize>,
    scale: f32,
    out: &'f mut [[Line; NP]; SCORES],
}

impl<const MR: usize, const NP: usize> Kernel for Product<'_, MR, NP> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Product { lanes, rows, range, scale, out } = self;
        for j in range.step_by(MR) {
            let rows: &[&[f32]; MR] = rows[j..].first_chunk().expect("zeros follow the rows");
            let out: &mut [[Line; NP]; MR] = out[j..].first_chunk_mut().expect("as many scores");
            score_tile::<_, F32, _, _>(s, lanes, rows, scale, out);
        }
    }
}

/// What [`Scores::weights`] takes of the queries.
struct Of<S: Simd, const NP: usize> {
    lse: [S::F32; NP],
    delta: [S::F32; NP],
    scale: S::F32,
    capped: bool,
}

/// Lines as (row of the block, panel).
fn chunk<const NP: usize>(lines: &mut [Line]) -> &mut [[Line; NP]; SCORES] {
    lines.as_chunks_mut().0.first_chunk_mut().expect("NP panels of the scores")
}
