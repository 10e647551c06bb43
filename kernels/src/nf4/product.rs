//! # Products with NF4 weights
//!
//! **Math.**  c_ij = Σ_κ x_iκ · w_jκ, w_jκ = round(LEVELS[code_jκ] · absmax): `x · dequantize(W)ᵀ`, bit for bit.
//!
//! **Law.**  Clause 1; only where a line of 16 weights comes from is said here, the rest is [`crate::gemm`].
//!
//! ```text
//!   CodeLine (16 words)          word ≫ 4i, the low four bits          16 weights of row κ = 8g + i
//!   ┌────┬────┬───┬────┐  i = 0  ┌────┬────┬───┬────┐  lut16   · scale
//!   │ w0 │ w1 │ … │ w15│ ──────► │ c  │ c  │ … │ c  │ ───────► l0 … l15 ───────► fma with x_κ, m times
//!   └────┴────┴───┴────┘  … 7    └────┴────┴───┴────┘
//! ```
//!
//! With 32 wide registers up to eight rows decode in registers, so the codes are read once and no weight is
//! written; elsewhere up to two. More rows decode 512 rows of a sliver at a time to scratch in L1/L2 and run the
//! f32 tile: a weight is then decoded once for 240 rows.
//!
//! **Registers.**  one row: avx512 4 panels, each a sum, a word and a scale, 1 table: 13 zmm · avx2 1 panel: 8 × 2
//! decoded lines (some in L1), 2 sums, 2 scales, 4 byte tables · neon 1 panel: 4 sums, 4 words, 4 scales, 4 table.
//!
//! **Cost.**  ½ byte of codes and 1/16 of scales a weight. For 16 weights of one row avx512 does shift, look-up,
//! product and FMA, avx2 eleven operations of half the width: these bind, not memory. On a Zen 4 core (three
//! vector ports, each two cycles a zmm) that is at least 2.6 cycles, and 2.5 to 2.6 are measured: 0.72 ms for
//! 4096², avx2 1.27. bitsandbytes takes 0.53 there, for its bf16 products run at twice the rate of f32. From eight
//! rows on the FMA binds.
//!
//! **Error.**  That of gemm.   **Reference.**  `gemv_4bit` of bitsandbytes, which rounds x, absmax and weights
//! to bf16.   **Next.**  `gemm/`

use super::LEVELS;
use super::pack::{CodeLine, PackedNf4};
use crate::gemm::{GROUP, Gemm, Panel, Weights, multiply, room_groups};
use crate::view::{MatMut, MatRef};
use crate::{Cpu, Line, simd::Simd};
use core::ops::Range;

/// One panel of a [`PackedNf4`] whose scales hold for whole groups of eight rows.
#[derive(Clone, Copy)]
pub struct Nf4Panel<'a> {
    /// One line for eight rows of k.
    codes: &'a [CodeLine],
    scales: &'a [Line],
    /// ⌈2⁴⁰ / (groups that share a line of scales)⌉: a product and a shift instead of a division.
    reciprocal: u64,
}

/// Eight rows of sixteen columns, on their way through the look-up.
#[derive(Clone, Copy)]
pub struct Nf4Group<S: Simd> {
    nibbles: S::Nibbles,
    scale: S::F32,
}

impl Panel for Nf4Panel<'_> {
    type Group<S: Simd> = Nf4Group<S>;

    #[inline(always)]
    fn group<S: Simd>(self, s: S, g: usize) -> Nf4Group<S> {
        let step = (g as u64 * self.reciprocal >> 40) as usize;
        let nibbles = s.nibbles(s.load_i(&self.codes[g].0), s.load(&LEVELS));
        Nf4Group { nibbles, scale: s.load(&self.scales[step]) }
    }

    #[inline(always)]
    fn line<S: Simd>(s: S, group: &mut Nf4Group<S>, i: usize) -> S::F32 {
        s.mul(s.nibble(&mut group.nibbles, s.load(&LEVELS), i), group.scale)
    }
}

impl<'a> Weights for PackedNf4<'a> {
    type Panel = Nf4Panel<'a>;
    const PANELS: bool = true;
    // Without 32 wide registers decoding costs more than what it feeds: from three rows on, once.
    const FEW: [usize; 2] = [8, 2];

    fn shape(&self) -> (usize, usize) {
        (self.k(), self.n())
    }

    #[inline(never)]
    fn multiply(job: Gemm<'_, Self>, cpu: Cpu, scratch: &mut [Line]) {
        multiply(job, cpu, scratch);
    }

    fn columns(self, cols: Range<usize>) -> Self {
        self.sub(cols)
    }

    fn panels(&self) -> bool {
        self.step() > 1
    }

    #[inline(always)]
    fn panel(&self, p: usize) -> Nf4Panel<'a> {
        let (codes, scales) = self.lines(p);
        Nf4Panel { codes, scales, reciprocal: (1u64 << 40).div_ceil((self.step() / GROUP) as u64) }
    }

    fn in_place(&self, _: Range<usize>, _: &Range<usize>) -> Option<MatRef<'_>> {
        None
    }

    #[inline(always)]
    fn fill<S: Simd>(&self, s: S, panels: Range<usize>, k: Range<usize>, room: &mut [[Line; GROUP]]) {
        let groups = k.start / GROUP..k.end.div_ceil(GROUP);
        for (p, room) in panels.zip(room.chunks_mut(room_groups(k.len()))) {
            if self.panels() {
                let panel = Weights::panel(self, p);
                for (out, g) in room.iter_mut().zip(groups.clone()) {
                    let mut group = panel.group(s, g);
                    for (i, line) in out.iter_mut().enumerate() {
                        s.store(line, Nf4Panel::line(s, &mut group, i));
                    }
                }
            } else {
                // A line of scales a row; rows past k have none, and are no part of the product.
                let (codes, scales) = self.lines(p);
                for (out, g) in room.iter_mut().zip(groups.clone()) {
                    let mut nibbles = s.nibbles(s.load_i(&codes[g].0), s.load(&LEVELS));
                    for (i, (line, scale)) in out.iter_mut().zip(&scales[g * GROUP..]).enumerate() {
                        let level = s.nibble(&mut nibbles, s.load(&LEVELS), i);
                        s.store(line, s.mul(level, s.load(scale)));
                    }
                }
            }
        }
    }
}

/// C (m, n) = A (m, k) · Wᵀ: [`Gemm`] with nothing else, for those who look for the name. `scratch` has
/// [`Gemm::scratch_len`] lines.
///
/// ```
/// use samebits_kernels::nf4::{CodeLine, PackedNf4, RowNf4, block_count, code_bytes, nf4_gemm, nf4_gemv, quantize};
/// use samebits_kernels::{Cpu, Line, gemm::scratch_len, view::{MatMut, MatRef}};
/// let (cpu, n, k, ones) = (Cpu::detect(), 3, 64, [1.0; 128]);
/// let w: Vec<f32> = (0..n * k).map(|i| (i % 7) as f32 - 3.0).collect();
/// let (mut codes, mut absmax) = (vec![0; code_bytes(n * k)], vec![0.0; block_count(n * k, 64)]);
/// quantize(cpu, &w, 64, &mut codes, &mut absmax).unwrap();
/// let mut lines = vec![CodeLine::ZERO; PackedNf4::code_lines(n, k)];
/// let mut scales = vec![Line::ZERO; PackedNf4::scale_lines(n, k, 64)];
/// let w = PackedNf4::pack(RowNf4::new(n, k, 64, &codes, &absmax), &mut lines, &mut scales);
/// let mut scratch = vec![Line::ZERO; scratch_len::<PackedNf4>(2, k)];
/// let (mut c, mut y) = ([0.0; 6], [0.0; 3]);
/// nf4_gemm(cpu, MatRef::new(&ones, 2, k), w, MatMut::new(&mut c, 2, n), &mut scratch);
/// nf4_gemv(cpu, &ones[..k], w, &mut y, &mut scratch);
/// assert_eq!((&c[..3], &c[3..]), (&y[..], &y[..]));
/// assert_eq!(y[1], (0..k).fold(0.0, |sum, i| sum + w.get(1, i))); // one chain of decoded weights
/// ```
///
/// # Panics
/// As [`Gemm::run`].
pub fn nf4_gemm(cpu: Cpu, a: MatRef<'_>, w: PackedNf4<'_>, c: MatMut<'_>, scratch: &mut [Line]) {
    Gemm::new(a, w, c).run(cpu, scratch);
}

/// y (n) = W x (k): one row of [`nf4_gemm`], with the same bits.
///
/// # Panics
/// As [`Gemm::run`].
pub fn nf4_gemv(cpu: Cpu, x: &[f32], w: PackedNf4<'_>, y: &mut [f32], scratch: &mut [Line]) {
    let (k, n) = (x.len(), y.len());
    nf4_gemm(cpu, MatRef::new(x, 1, k), w, MatMut::new(y, 1, n), scratch);
}
