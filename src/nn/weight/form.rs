//! What a weight may be stored as, each with the kernels that read it.
//!
//! A [`Weight`](super::Weight) holds its form behind a table of functions, not in a list of all forms: what no weight
//! of a program is made of, its linker leaves out. Only training, writing and changing the class, which small programs
//! do not, look at [`View`], the list.

use super::class::Class;
use crate::elements::Elements;
use crate::io::flat::Held;
use crate::kernels::gemm::{
    Bf16, Bf16Group, Element, F16, GROUP, HalfGroup, PackedMatrix, Strided, Weights, piece_shape,
};
use crate::kernels::ggml::{self, Code8, Format, HalfLine, Packed4, Packed8, Rows};
use crate::kernels::nf4::{CodeLine, PackedNf4};
use crate::kernels::view::MatRef;
use crate::kernels::{Cpu, LANES, Line, half};
use crate::nn::compute::Coder;
use crate::nn::product::Part;
use crate::run::Scratch;
use alloc::vec::Vec;

/// Outputs and inputs of a weight.
pub(super) type Size = (usize, usize);

/// A weight as memory holds it.
pub(super) trait Form: Send + Sync {
    /// What it is.
    fn view(&self) -> View<'_>;

    /// Row `r` as floats.
    fn row(&self, cpu: Cpu, size: Size, r: usize, out: &mut [f32]);

    /// Rows and columns, at most, of a piece of a product of `m` rows: a matter of the shape alone.
    fn piece(&self, size: Size, m: usize) -> Size;

    /// Computes a part of a product.
    fn run(&self, size: Size, part: Part<'_>, cpu: Cpu, scratch: &mut Scratch);

    /// What puts rows into the codes that it multiplies, where it does.
    fn coder(&self) -> Option<Coder> {
        None
    }

    /// The floats, where they are there to be changed.
    fn plain_mut(&mut self) -> Option<&mut Vec<f32>> {
        None
    }
}

/// Every form.
pub(super) enum View<'a> {
    F32(&'a [[Line; GROUP]]),
    Plain(&'a Vec<f32>),
    Bf16(&'a [Bf16Group]),
    F16(&'a [HalfGroup]),
    Nf4 { codes: &'a [CodeLine], scales: &'a [Line], blocksize: usize },
    Ggml8 { codes: &'a [Code8], scales: &'a [HalfLine] },
    Ggml4 { format: Format, codes: &'a [CodeLine], scales: &'a [HalfLine] },
    Blocks { format: Format, blocks: &'a [u8] },
    Class(&'a Class),
}

/// A form that the tile over decoded weights multiplies (clause 1).
pub(super) trait Decoded: Send + Sync {
    /// What kernels read.
    type As<'a>: Weights
    where
        Self: 'a;
    /// That, of the whole.
    fn weights(&self, size: Size) -> Self::As<'_>;
    /// See [`Form::view`].
    fn view(&self) -> View<'_>;
    /// See [`Form::row`].
    fn row(&self, cpu: Cpu, size: Size, r: usize, out: &mut [f32]);
    /// See [`Form::plain_mut`].
    fn plain_mut(&mut self) -> Option<&mut Vec<f32>> {
        None
    }
}

impl<T: Decoded> Form for T {
    fn view(&self) -> View<'_> {
        Decoded::view(self)
    }
    fn row(&self, cpu: Cpu, size: Size, r: usize, out: &mut [f32]) {
        Decoded::row(self, cpu, size, r, out);
    }
    fn piece(&self, size: Size, m: usize) -> Size {
        piece_shape(&self.weights(size), m)
    }
    fn run(&self, size: Size, part: Part<'_>, cpu: Cpu, scratch: &mut Scratch) {
        part.over(self.weights(size), cpu, scratch);
    }
    fn plain_mut(&mut self) -> Option<&mut Vec<f32>> {
        Decoded::plain_mut(self)
    }
}

/// Element `i` of `out` is `of(i)`.
pub(super) fn each(out: &mut [f32], of: impl Fn(usize) -> f32) {
    out.iter_mut().enumerate().for_each(|(i, x)| *x = of(i));
}

/// Elements of panels that are one float each.
pub(super) trait Packed: Element {
    /// Element `i` of a group, of output `lane`.
    fn float(group: &Self::Group, i: usize, lane: usize) -> f32;
    /// See [`Form::view`].
    fn view(groups: &[Self::Group]) -> View<'_>;
}

impl Packed for f32 {
    fn float(group: &[Line; GROUP], i: usize, lane: usize) -> f32 {
        group[i][lane]
    }
    fn view(groups: &[[Line; GROUP]]) -> View<'_> {
        View::F32(groups)
    }
}

impl Packed for Bf16 {
    fn float(group: &Bf16Group, i: usize, lane: usize) -> f32 {
        half::bf16_to_f32(group.get(i, lane).0)
    }
    fn view(groups: &[Bf16Group]) -> View<'_> {
        View::Bf16(groups)
    }
}

impl Packed for F16 {
    fn float(group: &HalfGroup, i: usize, lane: usize) -> f32 {
        half::f16_to_f32(group.0[i][lane])
    }
    fn view(groups: &[HalfGroup]) -> View<'_> {
        View::F16(groups)
    }
}

/// Row `r` of panels k deep.
pub(super) fn packed_row<E: Packed>(groups: &[E::Group], k: usize, r: usize, out: &mut [f32]) {
    let (first, lane) = (r / LANES * k.div_ceil(GROUP), r % LANES);
    each(out, |i| E::float(&groups[first + i / GROUP], i % GROUP, lane));
}

/// Panels of elements.
pub(super) struct Panels<E: Packed>(pub Held<E::Group>);

impl<E: Packed> From<Elements<E::Group>> for Panels<E> {
    fn from(groups: Elements<E::Group>) -> Self {
        Panels(groups.into())
    }
}

impl<E: Packed> Decoded for Panels<E> {
    type As<'a> = PackedMatrix<'a, E>;
    fn weights(&self, (n, k): Size) -> PackedMatrix<'_, E> {
        PackedMatrix::new(&self.0, k, n)
    }
    fn view(&self) -> View<'_> {
        E::view(&self.0)
    }
    fn row(&self, _: Cpu, (_, k): Size, r: usize, out: &mut [f32]) {
        packed_row::<E>(&self.0, k, r, out);
    }
}

/// Floats as they come, (n, k), for a weight that changes: nothing has to be packed again.
#[derive(Clone)]
pub(super) struct Plain(pub Vec<f32>);

impl Decoded for Plain {
    type As<'a> = Strided<'a>;
    fn weights(&self, (n, k): Size) -> Strided<'_> {
        Strided(MatRef::new(&self.0, n, k).t())
    }
    fn view(&self) -> View<'_> {
        View::Plain(&self.0)
    }
    fn row(&self, _: Cpu, (_, k): Size, r: usize, out: &mut [f32]) {
        out.copy_from_slice(&self.0[r * k..][..k]);
    }
    fn plain_mut(&mut self) -> Option<&mut Vec<f32>> {
        Some(&mut self.0)
    }
}

/// NF4 in panels.
pub(super) struct Nf4 {
    pub codes: Held<CodeLine>,
    pub scales: Held<Line>,
    pub blocksize: usize,
}

impl Decoded for Nf4 {
    type As<'a> = PackedNf4<'a>;
    fn weights(&self, (n, k): Size) -> PackedNf4<'_> {
        PackedNf4::new(n, k, self.blocksize, &self.codes, &self.scales)
    }
    fn view(&self) -> View<'_> {
        View::Nf4 { codes: &self.codes, scales: &self.scales, blocksize: self.blocksize }
    }
    fn row(&self, _: Cpu, size: Size, r: usize, out: &mut [f32]) {
        let packed = self.weights(size);
        each(out, |i| packed.get(r, i));
    }
}

/// Q8_0 in panels.
pub(super) struct Ggml8 {
    pub codes: Held<Code8>,
    pub scales: Held<HalfLine>,
}

impl Decoded for Ggml8 {
    type As<'a> = Packed8<'a>;
    fn weights(&self, (n, k): Size) -> Packed8<'_> {
        Packed8::new(n, k, &self.codes, &self.scales)
    }
    fn view(&self) -> View<'_> {
        View::Ggml8 { codes: &self.codes, scales: &self.scales }
    }
    fn row(&self, _: Cpu, size: Size, r: usize, out: &mut [f32]) {
        let packed = self.weights(size);
        each(out, |i| packed.get(r, i));
    }
}

/// Q4_0 or IQ4_NL in panels.
pub(super) struct Ggml4 {
    pub format: Format,
    pub codes: Held<CodeLine>,
    pub scales: Held<HalfLine>,
}

impl Decoded for Ggml4 {
    type As<'a> = Packed4<'a>;
    fn weights(&self, size: Size) -> Packed4<'_> {
        Packed4::new(self.format, size, &self.codes, &self.scales)
    }
    fn view(&self) -> View<'_> {
        View::Ggml4 { format: self.format, codes: &self.codes, scales: &self.scales }
    }
    fn row(&self, _: Cpu, size: Size, r: usize, out: &mut [f32]) {
        let packed = self.weights(size);
        each(out, |i| packed.get(r, i));
    }
}

/// Rows of any other format, as files hold them.
pub(super) struct Blocks {
    pub format: Format,
    pub blocks: Held<u8>,
}

impl Decoded for Blocks {
    type As<'a> = Rows<'a>;
    fn weights(&self, (n, k): Size) -> Rows<'_> {
        Rows::new(self.format, n, k, &self.blocks)
    }
    fn view(&self) -> View<'_> {
        View::Blocks { format: self.format, blocks: &self.blocks }
    }
    fn row(&self, cpu: Cpu, (_, k): Size, r: usize, out: &mut [f32]) {
        let bytes = self.format.bytes(k);
        ggml::dequantize(cpu, self.format, &self.blocks[r * bytes..][..bytes], out);
    }
}
