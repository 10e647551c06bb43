//! Where B's lines come from: strided memory, panels of f32, bf16 or f16 – anything that can say what
//! sixteen columns of one row of k are.
//!
//! ```text
//!   (k, n) row-major          panels of 16 columns, k running down each; 8 rows are a group
//!   ┌───────────────┐        ┌──┐┌──┐┌──┐
//!   │ 0 1 2 3 … n−1 │   ──►  │0 ││1 ││2 │  a panel is ⌈k/8⌉ groups, side by side in memory;
//!   │               │        │  ││  ││  │  columns past n and rows past k are +0
//!   └───────────────┘        └──┘└──┘└──┘
//! ```

use super::{FEW, Gemm, Whole, pack, transposed};
use crate::line::Bits;
use crate::view::{Eight, Layout, MatRef, Stripe};
use crate::{Cpu, LANES, Line, simd::Simd};
use core::ops::Range;

/// Rows of k that lie together in a panel.
pub const GROUP: usize = 8;

/// A matrix B (k, n) that a product can read.
pub trait Weights: Copy + Send + Sync {
    /// One panel of 16 columns, decoded in registers.
    type Panel: Panel;
    /// Whether [`Weights::panel`] can be had: then few rows are multiplied straight from the panels.
    const PANELS: bool;
    /// Up to so many rows that is worth it: on tiers whose tile is 8 × 3, and on others.
    const FEW: [usize; 2] = [FEW; 2];
    /// Whether one row of A is best multiplied by 32 columns at a time over all of k, filled 256 of k by 256, for
    /// the columns lie one after the other in memory.
    const BY_ROWS: bool = false;
    /// What [`Weights::PANELS`] says, of this matrix, where it is not so for every one of its type.
    #[inline(always)]
    fn panels(&self) -> bool {
        Self::PANELS
    }

    /// (k, n)
    fn shape(&self) -> (usize, usize);
    /// Columns `cols`; its start is a multiple of 16.
    fn columns(self, cols: Range<usize>) -> Self;
    /// Panel `p`, to be decoded in registers; only where [`Weights::PANELS`].
    fn panel(&self, p: usize) -> Self::Panel;
    /// The matrix itself, where it lies strided in memory as f32.
    fn as_rows(&self) -> Option<MatRef<'_>> {
        None
    }
    /// Where rows `k` of `panels` come from, as rows that lie side by side: to be asked for before they are needed.
    #[inline(always)]
    fn origin(&self, panels: Range<usize>, k: &Range<usize>) -> Option<MatRef<'_>> {
        let b = self.as_rows()?;
        let b = b.sub(k.clone(), panels.start * LANES..(panels.end * LANES).min(b.cols()));
        Some(if b.col_stride() == 1 { b } else { b.t() }).filter(|b| b.col_stride() == 1)
    }
    /// The f32 lines of `panels`, rows `k` (the start is a multiple of 256) of one panel a row, where they lie so in memory.
    fn in_place(&self, panels: Range<usize>, k: &Range<usize>) -> Option<MatRef<'_>>;
    /// Otherwise: packs or decodes them into `room`, panel after panel, [`room_groups`] apart.
    fn fill<S: Simd>(&self, s: S, panels: Range<usize>, k: Range<usize>, room: &mut [[Line; GROUP]]);
    /// The same of the transpose: rows `rows` of this matrix (at most 144, from a multiple of 16 on), sixteen a panel,
    /// as the columns of rows `cols` (the start is a multiple of 256, none of them past n).
    #[inline(always)]
    fn fill_turned<S: Simd>(&self, s: S, rows: Range<usize>, cols: Range<usize>, room: &mut [[Line; GROUP]]) {
        transposed::fill(s, self, rows, cols, room);
    }
    /// The checked product: [`multiply`] of this very type, in a function that is no generic one, so that it is
    /// compiled once, here, and not again in every crate that multiplies.
    fn multiply(job: Gemm<'_, Self>, cpu: Cpu, scratch: &mut [Line]);
}

/// Groups from a panel to the next in the room of [`Weights::fill`], for `k` rows: one more than they are, or lines
/// of the same row would lie in the same set of the first cache.
pub const fn room_groups(k: usize) -> usize {
    k.div_ceil(GROUP) + 1
}

/// The body of [`Weights::multiply`].
#[inline]
pub fn multiply<W: Weights>(job: Gemm<'_, W>, cpu: Cpu, scratch: &mut [Line]) {
    cpu.run(Whole { job, scratch });
}

/// One panel of 16 columns.
pub trait Panel: Copy {
    /// Eight rows, as far as they are decoded together.
    type Group<S: Simd>: Copy;
    /// Rows 8g to 8g + 8.
    fn group<S: Simd>(self, s: S, g: usize) -> Self::Group<S>;
    /// Row i of the group; asked for in order, i = 0, 1, …
    fn line<S: Simd>(s: S, group: &mut Self::Group<S>, i: usize) -> S::F32;
}

/// A stored element of a packed matrix.
pub trait Element: Copy + Send + Sync + Sized + 'static {
    /// Eight rows of sixteen.
    type Group: Copy + Send + Sync + 'static;
    /// A group of +0.
    const ZERO: Self::Group;
    /// Row i of a group as f32, exact.
    fn load<S: Simd>(s: S, group: &Self::Group, i: usize) -> S::F32;
    /// The f32 lines themselves, where that is what is stored.
    fn as_lines(groups: &[Self::Group]) -> Option<&[[Line; GROUP]]>;
    /// [`Weights::multiply`] of a matrix of these.
    fn multiply(job: Gemm<'_, PackedMatrix<'_, Self>>, cpu: Cpu, scratch: &mut [Line]);
    /// Writes one element of a group.
    fn put(group: &mut Self::Group, i: usize, lane: usize, x: Self);
    /// Fills one panel from `b` (k, ≤ 16 columns); what is not there becomes +0.
    fn pack_panel(_: Cpu, b: MatRef<'_, Self>, out: &mut [Self::Group]) {
        out.fill(Self::ZERO);
        for r in 0..b.rows() {
            for c in 0..b.cols() {
                Self::put(&mut out[r / GROUP], r % GROUP, c, b.get(r, c));
            }
        }
    }
}

/// bfloat16, as its bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Bf16(pub u16);

/// IEEE half, as its bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct F16(pub u16);

impl Bf16 {
    /// Stored bits as elements.
    pub const fn slice(bits: &[u16]) -> &[Bf16] {
        // SAFETY: `Bf16` is `repr(transparent)` over `u16`.
        unsafe { core::slice::from_raw_parts(bits.as_ptr().cast(), bits.len()) }
    }
}

impl F16 {
    /// Stored bits as elements.
    pub const fn slice(bits: &[u16]) -> &[F16] {
        // SAFETY: `F16` is `repr(transparent)` over `u16`.
        unsafe { core::slice::from_raw_parts(bits.as_ptr().cast(), bits.len()) }
    }
}

/// Eight rows of sixteen half words.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct HalfGroup(pub [[u16; LANES]; GROUP]);

// SAFETY: 128 half words, 256 bytes at an alignment of 64.
unsafe impl Bits for HalfGroup {}

/// Eight rows of sixteen bfloat16, two rows to a word: row 2j in its low half, row 2j + 1 in its high half. A load
/// then gives two rows with one shift and one mask, where half words side by side take a shuffle and a shift each.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct Bf16Group([[i32; LANES]; GROUP / 2]);

// SAFETY: 64 words, 256 bytes at an alignment of 64.
unsafe impl Bits for Bf16Group {}

impl Bf16Group {
    /// The words, for packing.
    pub(super) const fn words(&mut self) -> &mut [[i32; LANES]; GROUP / 2] {
        &mut self.0
    }
    /// The memory of groups: four lines each.
    #[inline(always)]
    pub(crate) const fn lines(groups: &[Bf16Group]) -> &[Line] {
        // SAFETY: a group is 256 bytes of words, aligned as a line is, and a line takes any bits.
        unsafe { core::slice::from_raw_parts(groups.as_ptr().cast(), 4 * groups.len()) }
    }
    /// Rows `2j` and `2j + 1`, of numbers that are bfloat16.
    #[inline(always)]
    pub(crate) fn put_pair<S: Simd>(&mut self, s: S, j: usize, even: S::F32, odd: S::F32) {
        let pair = s.or_i(s.shr::<16>(s.bits(even)), s.and_i(s.bits(odd), s.splat_i(-0x1_0000)));
        s.store_i(&mut self.0[j], pair);
    }
    /// The element in row `i` < 8 and column `lane` < 16.
    pub const fn get(&self, i: usize, lane: usize) -> Bf16 {
        Bf16((self.0[i / 2][lane] >> (i % 2 * 16)) as u16)
    }
}

impl Element for f32 {
    type Group = [Line; GROUP];
    const ZERO: Self::Group = [Line::ZERO; GROUP];
    #[inline(always)]
    fn load<S: Simd>(s: S, group: &Self::Group, i: usize) -> S::F32 {
        s.load(&group[i])
    }
    #[inline(always)]
    fn as_lines(groups: &[Self::Group]) -> Option<&[[Line; GROUP]]> {
        Some(groups)
    }
    #[inline(never)]
    fn multiply(job: Gemm<'_, PackedMatrix<'_, Self>>, cpu: Cpu, scratch: &mut [Line]) {
        multiply(job, cpu, scratch);
    }
    #[inline(always)]
    fn put(group: &mut Self::Group, i: usize, lane: usize, x: f32) {
        group[i][lane] = x;
    }
    fn pack_panel(cpu: Cpu, b: MatRef<'_>, out: &mut [[Line; GROUP]]) {
        cpu.run(pack::PackPanel(b, out));
    }
}

impl Element for Bf16 {
    type Group = Bf16Group;
    const ZERO: Bf16Group = Bf16Group([[0; LANES]; GROUP / 2]);
    #[inline(always)]
    fn load<S: Simd>(s: S, group: &Bf16Group, i: usize) -> S::F32 {
        let pair = s.load_i(&group.0[i / 2]);
        let row = if i.is_multiple_of(2) { s.shl::<16>(pair) } else { s.and_i(pair, s.splat_i(-0x1_0000)) };
        s.of_bits(row)
    }
    #[inline(always)]
    fn as_lines(_: &[Bf16Group]) -> Option<&[[Line; GROUP]]> {
        None
    }
    #[inline(never)]
    fn multiply(job: Gemm<'_, PackedMatrix<'_, Self>>, cpu: Cpu, scratch: &mut [Line]) {
        multiply(job, cpu, scratch);
    }
    #[inline(always)]
    fn put(group: &mut Bf16Group, i: usize, lane: usize, x: Bf16) {
        let (word, shift) = (&mut group.0[i / 2][lane], i % 2 * 16);
        *word = *word & !(0xffff << shift) | i32::from(x.0) << shift;
    }
    fn pack_panel(cpu: Cpu, b: MatRef<'_, Bf16>, out: &mut [Bf16Group]) {
        cpu.run(pack::PackPanelBf16(b, out));
    }
}

impl Element for F16 {
    type Group = HalfGroup;
    const ZERO: HalfGroup = HalfGroup([[0; LANES]; GROUP]);
    #[inline(always)]
    fn load<S: Simd>(s: S, group: &HalfGroup, i: usize) -> S::F32 {
        s.load_f16(&group.0[i])
    }
    #[inline(always)]
    fn as_lines(_: &[HalfGroup]) -> Option<&[[Line; GROUP]]> {
        None
    }
    #[inline(never)]
    fn multiply(job: Gemm<'_, PackedMatrix<'_, Self>>, cpu: Cpu, scratch: &mut [Line]) {
        multiply(job, cpu, scratch);
    }
    #[inline(always)]
    fn put(group: &mut HalfGroup, i: usize, lane: usize, x: F16) {
        group.0[i][lane] = x.0;
    }
}

/// B (k, n) packed once into panels of 16 columns: `⌈n/16⌉ × ⌈k/8⌉` groups.
pub struct PackedMatrix<'a, E: Element = f32> {
    groups: &'a [E::Group],
    k: usize,
    n: usize,
}

impl<E: Element> Clone for PackedMatrix<'_, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E: Element> Copy for PackedMatrix<'_, E> {}

impl<'a, E: Element> PackedMatrix<'a, E> {
    /// What [`pack()`](super::pack()) filled, as a matrix (k, n).
    ///
    /// # Panics
    /// Where `groups` does not have [`packed_len`](super::packed_len)`(k, n)` elements.
    pub fn new(groups: &'a [E::Group], k: usize, n: usize) -> Self {
        let need = pack::packed_len(k, n);
        assert!(groups.len() == need, "packed ({k}, {n}): {} groups, {need} needed", groups.len());
        PackedMatrix { groups, k, n }
    }

    /// The groups of panel `p`.
    pub(crate) fn panel_groups(&self, p: usize) -> &'a [E::Group] {
        let depth = self.k.div_ceil(GROUP);
        &self.groups[p * depth..][..depth]
    }
}

impl<'a, E: Element> Weights for PackedMatrix<'a, E> {
    type Panel = PackedPanel<'a, E>;
    const PANELS: bool = true;

    fn shape(&self) -> (usize, usize) {
        (self.k, self.n)
    }

    #[inline(always)]
    fn multiply(job: Gemm<'_, Self>, cpu: Cpu, scratch: &mut [Line]) {
        E::multiply(job, cpu, scratch);
    }

    fn columns(self, cols: Range<usize>) -> Self {
        let depth = self.k.div_ceil(GROUP);
        let panels = cols.start / LANES..cols.end.div_ceil(LANES);
        let groups = &self.groups[panels.start * depth..panels.end * depth];
        PackedMatrix { groups, n: cols.len(), ..self }
    }

    #[inline(always)]
    fn panel(&self, p: usize) -> PackedPanel<'a, E> {
        PackedPanel(self.panel_groups(p))
    }

    #[inline(always)]
    fn origin(&self, panels: Range<usize>, k: &Range<usize>) -> Option<MatRef<'_>> {
        let floats = Line::floats(E::as_lines(self.groups)?.as_flattened());
        let depth = self.k.next_multiple_of(GROUP) * LANES;
        let cols = k.len().next_multiple_of(GROUP) * LANES;
        let layout = Layout { rows: panels.len(), cols, row_stride: depth as isize, col_stride: 1 };
        Some(MatRef::strided(floats, panels.start * depth + k.start * LANES, layout))
    }

    #[inline(always)]
    fn in_place(&self, panels: Range<usize>, k: &Range<usize>) -> Option<MatRef<'_>> {
        self.origin(panels, k)
    }

    #[inline(always)]
    fn fill<S: Simd>(&self, s: S, panels: Range<usize>, k: Range<usize>, room: &mut [[Line; GROUP]]) {
        for (p, room) in panels.zip(room.chunks_mut(room_groups(k.len()))) {
            let groups = &self.panel_groups(p)[k.start / GROUP..k.end.div_ceil(GROUP)];
            for (out, group) in room.iter_mut().zip(groups) {
                for (i, line) in out.iter_mut().enumerate() {
                    s.store(line, E::load(s, group, i));
                }
            }
        }
    }
}

/// One panel of a [`PackedMatrix`].
#[derive(Clone, Copy)]
pub struct PackedPanel<'a, E: Element>(&'a [E::Group]);

impl<'a, E: Element> Panel for PackedPanel<'a, E> {
    type Group<S: Simd> = &'a E::Group;
    #[inline(always)]
    fn group<S: Simd>(self, _: S, g: usize) -> &'a E::Group {
        &self.0[g]
    }
    #[inline(always)]
    fn line<S: Simd>(s: S, group: &mut &'a E::Group, i: usize) -> S::F32 {
        E::load(s, group, i)
    }
}

impl<'a> Panel for Stripe<'a> {
    type Group<S: Simd> = Eight<'a>;
    #[inline(always)]
    fn group<S: Simd>(self, _: S, g: usize) -> Eight<'a> {
        self.eight(g * GROUP)
    }
    #[inline(always)]
    fn line<S: Simd>(s: S, group: &mut Eight<'a>, i: usize) -> S::F32 {
        s.load(group.line(i))
    }
}

/// Packed lines as a panel.
#[inline(always)]
pub(super) fn stripe_of(groups: &[[Line; GROUP]]) -> Stripe<'_> {
    let floats = Line::floats(groups.as_flattened());
    Stripe::of(MatRef::new(floats, floats.len() / LANES, LANES)).unwrap_or(Stripe::EMPTY)
}

/// B as it lies in memory, any strides; packed a sliver at a time.
#[derive(Clone, Copy)]
pub struct Strided<'a>(pub MatRef<'a>);

impl<'a> Weights for Strided<'a> {
    type Panel = Stripe<'a>;
    const PANELS: bool = false;

    fn shape(&self) -> (usize, usize) {
        (self.0.rows(), self.0.cols())
    }

    #[inline(never)]
    fn multiply(job: Gemm<'_, Self>, cpu: Cpu, scratch: &mut [Line]) {
        multiply(job, cpu, scratch);
    }

    fn as_rows(&self) -> Option<MatRef<'_>> {
        Some(self.0)
    }

    fn columns(self, cols: Range<usize>) -> Self {
        Strided(self.0.sub(0..self.0.rows(), cols))
    }

    fn panel(&self, _: usize) -> Stripe<'a> {
        unreachable!("a strided matrix has no panels")
    }

    #[inline(always)]
    fn in_place(&self, _: Range<usize>, _: &Range<usize>) -> Option<MatRef<'_>> {
        None
    }

    #[inline(always)]
    fn fill<S: Simd>(&self, s: S, panels: Range<usize>, k: Range<usize>, room: &mut [[Line; GROUP]]) {
        let cols = panels.start * LANES..(panels.end * LANES).min(self.0.cols());
        pack::panels(s, self.0.sub(k.clone(), cols), room_groups(k.len()), room);
    }
}
