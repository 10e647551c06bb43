//! Q8_0, Q4_0 and IQ4_NL weights in panels of sixteen columns, decoded in registers.
//!
//! **Math.**  c = x · decode(W)ᵀ, W (n, k).   **Law.**  Clause 1: a line of 16 weights is d · q, exact here.
//!
//! ```text
//!   panel p = columns 16p … 16p + 15 of the product (rows of W), k in groups of 8:
//!
//!     Code8 (p, g)     8 lines of 16 signed bytes, one a κ          128 bytes
//!     CodeLine (p, g)  16 words, one a column: eight nibbles         64 bytes, the nibble of κ = 8g lowest
//!     HalfLine (p, t)  16 halves: d of each column                   for κ in 32t … 32t + 31
//! ```
//!
//! **Registers.**  8 bits, one row: avx512 4 panels, each a sum and a scale, a line: 9 zmm · avx2 the same in pairs,
//! scales in part from L1 · neon 4 × 8 sums and scales from L1. 4 bits: as NF4's.
//!
//! **Cost.**  17 bytes (9) for 16 weights of one row: a load that widens, a conversion, a product, an FMA. On a Zen 4
//! core that is 2.7 cycles at least for 17 bytes, so that memory binds where it gives less than 6 bytes a cycle.
//!
//! **Next.**  `gemm/`

use super::block::IQ4_NL_LEVELS;
use super::{Format, Rows};
use crate::gemm::{GROUP, Gemm, Panel, Weights, multiply, room_groups};
use crate::half::f16_to_f32;
use crate::nf4::CodeLine;
use crate::simd::Simd;
use crate::view::MatRef;
use crate::{Cpu, LANES, Line};
use core::ops::Range;

/// Eight rows of k of sixteen signed bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Code8(pub [[u8; LANES]; GROUP]);

impl Code8 {
    /// Zeros.
    pub const ZERO: Code8 = Code8([[0; LANES]; GROUP]);
}

/// Sixteen halves, as their bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(32))]
pub struct HalfLine(pub [u16; LANES]);

impl HalfLine {
    /// Zeros.
    pub const ZERO: HalfLine = HalfLine([0; LANES]);
}

/// Elements of k that share a scale, and groups of them.
const BLOCK: usize = 32;
const GROUPS: usize = BLOCK / GROUP;

/// The elements of Q4_0.
const Q4_0_LEVELS: Line =
    Line([-8.0, -7.0, -6.0, -5.0, -4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);

/// Groups of codes of a weight (n, k), k whole blocks of 32.
///
/// A weight as a file has it, and packed: the same product.
/// ```
/// use samebits_kernels::ggml::{Code8, Format, HalfLine, Packed4, Packed8, Rows, code_len, scale_len};
/// use samebits_kernels::gemm::{Gemm, Weights};
/// use samebits_kernels::nf4::CodeLine;
/// use samebits_kernels::{Cpu, Line, view::{MatMut, MatRef}};
/// fn times<W: Weights>(w: W) -> [f32; 2] {
///     let (a, mut c) = (core::array::from_fn::<f32, 32, _>(|i| i as f32 / 7.0), [0.0; 2]);
///     let job = Gemm::new(MatRef::new(&a, 1, 32), w, MatMut::new(&mut c, 1, 2));
///     let mut scratch = vec![Line::ZERO; job.scratch_len()];
///     job.run(Cpu::detect(), &mut scratch);
///     c
/// }
/// let (n, k) = (2, 32);
/// let block = |bytes| [&[0x00, 0x3c][..], &vec![0x5a; bytes]].concat(); // scale 1, codes alike
/// let (eight, four) = (block(32).repeat(n), block(16).repeat(n));
/// let mut scales = [HalfLine::ZERO; scale_len(2, 32)];
/// let (rows, mut codes) = (Rows::new(Format::Q8_0, n, k, &eight), [Code8::ZERO; code_len(2, 32)]);
/// assert_eq!(times(rows), times(Packed8::pack(rows, &mut codes, &mut scales)));
/// let (rows, mut codes) = (Rows::new(Format::Q4_0, n, k, &four), [CodeLine::ZERO; code_len(2, 32)]);
/// assert_eq!(times(rows), times(Packed4::pack(rows, &mut codes, &mut scales)));
/// ```
pub const fn code_len(n: usize, k: usize) -> usize {
    n.div_ceil(LANES) * (k / GROUP)
}

/// Lines of scales of a weight (n, k), k whole blocks of 32.
pub const fn scale_len(n: usize, k: usize) -> usize {
    n.div_ceil(LANES) * (k / BLOCK)
}

/// Codes and scales of a weight (n, k) in panels; the memory is the caller's.
#[derive(Clone, Copy)]
struct Packed<'a, C> {
    n: usize,
    k: usize,
    codes: &'a [C],
    scales: &'a [HalfLine],
}

impl<'a, C> Packed<'a, C> {
    fn new(n: usize, k: usize, codes: &'a [C], scales: &'a [HalfLine]) -> Self {
        let need = (code_len(n, k), scale_len(n, k));
        assert!(
            k.is_multiple_of(BLOCK) && (codes.len(), scales.len()) == need,
            "({n}, {k}) in blocks of {BLOCK} packs to {} groups of codes and {} lines of scales, not {} and {}",
            need.0,
            need.1,
            codes.len(),
            scales.len()
        );
        Packed { n, k, codes, scales }
    }

    fn columns(self, cols: Range<usize>) -> Self {
        let (from, to) = (cols.start.next_multiple_of(LANES), cols.end.next_multiple_of(LANES));
        Packed {
            n: cols.len(),
            k: self.k,
            codes: &self.codes[code_len(from, self.k)..code_len(to, self.k)],
            scales: &self.scales[scale_len(from, self.k)..scale_len(to, self.k)],
        }
    }

    /// The group and the scale of one weight.
    fn at(&self, j: usize, i: usize) -> (&'a C, f32) {
        assert!(j < self.n && i < self.k, "element ({j}, {i}) of ({}, {})", self.n, self.k);
        let (codes, scales) = self.panel(j / LANES);
        (&codes[i / GROUP], f16_to_f32(scales[i / BLOCK].0[j % LANES]))
    }

    #[inline(always)]
    fn panel(&self, p: usize) -> (&'a [C], &'a [HalfLine]) {
        let (groups, blocks) = (self.k / GROUP, self.k / BLOCK);
        (&self.codes[p * groups..][..groups], &self.scales[p * blocks..][..blocks])
    }
}

/// Moves the blocks of `weight` into panels: d of each to `scales`, and `put` its codes to the groups of its panel,
/// given the column.
fn pack<C>(
    weight: &Rows<'_>,
    codes: &mut [C],
    scales: &mut [HalfLine],
    put: impl Fn(&mut [C], usize, &[u8]),
) {
    let (n, blocks) = (weight.n(), weight.k() / BLOCK);
    let bytes = weight.format().block_bytes();
    for j in 0..n {
        let (p, lane) = (j / LANES, j % LANES);
        let places = codes[p * blocks * GROUPS..].chunks_mut(GROUPS).zip(&mut scales[p * blocks..]);
        for (block, (codes, scale)) in weight.row(j).chunks_exact(bytes).zip(places) {
            scale.0[lane] = u16::from_le_bytes([block[0], block[1]]);
            put(codes, lane, &block[2..]);
        }
    }
}

/// Decodes panels to lines of `f32`.
#[inline(always)]
fn fill<S: Simd, W: Weights>(s: S, w: &W, panels: Range<usize>, k: Range<usize>, room: &mut [[Line; GROUP]]) {
    let groups = k.start / GROUP..k.end.div_ceil(GROUP);
    for (p, room) in panels.zip(room.chunks_mut(room_groups(k.len()))) {
        let panel = w.panel(p);
        for (out, g) in room.iter_mut().zip(groups.clone()) {
            let mut group = panel.group(s, g);
            for (i, line) in out.iter_mut().enumerate() {
                s.store(line, W::Panel::line(s, &mut group, i));
            }
        }
    }
}

/// A Q8_0 weight (n, k) in panels.
#[derive(Clone, Copy)]
pub struct Packed8<'a>(Packed<'a, Code8>);

impl<'a> Packed8<'a> {
    /// Packs `weight` into `codes` and `scales`.
    ///
    /// # Panics
    /// Where it is not Q8_0, or these are not [`code_len`] and [`scale_len`] long.
    pub fn pack(weight: Rows<'_>, codes: &'a mut [Code8], scales: &'a mut [HalfLine]) -> Self {
        assert!(weight.format() == Format::Q8_0, "panels of eight bits from {}", weight.format());
        Packed::new(weight.n(), weight.k(), codes, scales);
        codes.fill(Code8::ZERO);
        scales.fill(HalfLine::ZERO);
        pack(&weight, codes, scales, |groups, lane, q| {
            for (line, &q) in groups.iter_mut().flat_map(|group| &mut group.0).zip(q) {
                line[lane] = q;
            }
        });
        Packed8::new(weight.n(), weight.k(), codes, scales)
    }

    /// Borrows a weight packed earlier.
    ///
    /// # Panics
    /// Where these are not [`code_len`] and [`scale_len`] long.
    pub fn new(n: usize, k: usize, codes: &'a [Code8], scales: &'a [HalfLine]) -> Self {
        Packed8(Packed::new(n, k, codes, scales))
    }

    /// The weight of output `j` and input `i`, decoded.
    ///
    /// # Panics
    /// Where there is none.
    pub fn get(&self, j: usize, i: usize) -> f32 {
        let (codes, scale) = self.0.at(j, i);
        f32::from(codes.0[i % GROUP][j % LANES] as i8) * scale
    }
}

/// One panel of a [`Packed8`].
#[derive(Clone, Copy)]
pub struct Panel8<'a> {
    codes: &'a [Code8],
    scales: &'a [HalfLine],
}

/// Eight rows of sixteen columns, and the columns' scales.
#[derive(Clone, Copy)]
pub struct Group8<'a, S: Simd> {
    codes: &'a Code8,
    scale: S::F32,
}

impl<'a> Panel for Panel8<'a> {
    type Group<S: Simd> = Group8<'a, S>;

    #[inline(always)]
    fn group<S: Simd>(self, s: S, g: usize) -> Group8<'a, S> {
        Group8 { codes: &self.codes[g], scale: s.load_f16(&self.scales[g / GROUPS].0) }
    }

    #[inline(always)]
    fn line<S: Simd>(s: S, group: &mut Group8<'a, S>, i: usize) -> S::F32 {
        s.mul(s.of_i(s.load_i8(&group.codes.0[i])), group.scale)
    }
}

impl<'a> Weights for Packed8<'a> {
    type Panel = Panel8<'a>;
    const PANELS: bool = true;

    fn shape(&self) -> (usize, usize) {
        (self.0.k, self.0.n)
    }

    #[inline(never)]
    fn multiply(job: Gemm<'_, Self>, cpu: Cpu, scratch: &mut [Line]) {
        multiply(job, cpu, scratch);
    }

    fn columns(self, cols: Range<usize>) -> Self {
        Packed8(self.0.columns(cols))
    }

    #[inline(always)]
    fn panel(&self, p: usize) -> Panel8<'a> {
        let (codes, scales) = self.0.panel(p);
        Panel8 { codes, scales }
    }

    fn in_place(&self, _: Range<usize>, _: &Range<usize>) -> Option<MatRef<'_>> {
        None
    }

    #[inline(always)]
    fn fill<S: Simd>(&self, s: S, panels: Range<usize>, k: Range<usize>, room: &mut [[Line; GROUP]]) {
        fill(s, self, panels, k, room);
    }
}

/// A Q4_0 or IQ4_NL weight (n, k) in panels.
#[derive(Clone, Copy)]
pub struct Packed4<'a> {
    packed: Packed<'a, CodeLine>,
    levels: &'static Line,
}

impl<'a> Packed4<'a> {
    /// Packs `weight` into `codes` and `scales`.
    ///
    /// # Panics
    /// Where it is neither Q4_0 nor IQ4_NL, or these are not [`code_len`] and [`scale_len`] long.
    pub fn pack(weight: Rows<'_>, codes: &'a mut [CodeLine], scales: &'a mut [HalfLine]) -> Self {
        Packed::new(weight.n(), weight.k(), codes, scales);
        codes.fill(CodeLine([0; LANES]));
        scales.fill(HalfLine::ZERO);
        pack(&weight, codes, scales, |groups, lane, q| {
            // Low nibbles are the first half of the block, high ones the second; a word has eight in turn.
            for (g, group) in groups.iter_mut().enumerate() {
                let (bytes, shift) = (&q[g % 2 * GROUP..][..GROUP], g / 2 * 4);
                let word = |word, (i, &q): (usize, &u8)| word | u32::from(q >> shift & 15) << (4 * i);
                group.0[lane] = bytes.iter().enumerate().fold(0, word) as i32;
            }
        });
        Packed4::new(weight.format(), (weight.n(), weight.k()), codes, scales)
    }

    /// Borrows a weight of shape (n, k) packed earlier.
    ///
    /// # Panics
    /// Where `format` is neither Q4_0 nor IQ4_NL, or these are not [`code_len`] and [`scale_len`] long.
    pub fn new(
        format: Format,
        (n, k): (usize, usize),
        codes: &'a [CodeLine],
        scales: &'a [HalfLine],
    ) -> Self {
        let levels = match format {
            Format::Q4_0 => &Q4_0_LEVELS,
            Format::Iq4Nl => &IQ4_NL_LEVELS,
            other => panic!("panels of four bits from {other}"),
        };
        Packed4 { packed: Packed::new(n, k, codes, scales), levels }
    }

    /// The weight of output `j` and input `i`, decoded.
    ///
    /// # Panics
    /// Where there is none.
    pub fn get(&self, j: usize, i: usize) -> f32 {
        let (codes, scale) = self.packed.at(j, i);
        self.levels[(codes.0[j % LANES] >> (4 * (i % GROUP)) & 15) as usize] * scale
    }
}

/// One panel of a [`Packed4`].
#[derive(Clone, Copy)]
pub struct Panel4<'a> {
    codes: &'a [CodeLine],
    scales: &'a [HalfLine],
    levels: &'static Line,
}

/// Eight rows of sixteen columns, on their way through the look-up.
#[derive(Clone, Copy)]
pub struct Group4<S: Simd> {
    nibbles: S::Nibbles,
    scale: S::F32,
    levels: S::F32,
}

impl Panel for Panel4<'_> {
    type Group<S: Simd> = Group4<S>;

    #[inline(always)]
    fn group<S: Simd>(self, s: S, g: usize) -> Group4<S> {
        let levels = s.load(self.levels);
        let nibbles = s.nibbles(s.load_i(&self.codes[g].0), levels);
        Group4 { nibbles, scale: s.load_f16(&self.scales[g / GROUPS].0), levels }
    }

    #[inline(always)]
    fn line<S: Simd>(s: S, group: &mut Group4<S>, i: usize) -> S::F32 {
        s.mul(s.nibble(&mut group.nibbles, group.levels, i), group.scale)
    }
}

impl<'a> Weights for Packed4<'a> {
    type Panel = Panel4<'a>;
    const PANELS: bool = true;
    // As for NF4: without 32 wide registers decoding costs more than what it feeds.
    const FEW: [usize; 2] = [8, 2];

    fn shape(&self) -> (usize, usize) {
        (self.packed.k, self.packed.n)
    }

    #[inline(never)]
    fn multiply(job: Gemm<'_, Self>, cpu: Cpu, scratch: &mut [Line]) {
        multiply(job, cpu, scratch);
    }

    fn columns(self, cols: Range<usize>) -> Self {
        Packed4 { packed: self.packed.columns(cols), ..self }
    }

    #[inline(always)]
    fn panel(&self, p: usize) -> Panel4<'a> {
        let (codes, scales) = self.packed.panel(p);
        Panel4 { codes, scales, levels: self.levels }
    }

    fn in_place(&self, _: Range<usize>, _: &Range<usize>) -> Option<MatRef<'_>> {
        None
    }

    #[inline(always)]
    fn fill<S: Simd>(&self, s: S, panels: Range<usize>, k: Range<usize>, room: &mut [[Line; GROUP]]) {
        fill(s, self, panels, k, room);
    }
}
