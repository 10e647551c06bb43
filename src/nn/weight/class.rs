//! Weights of the classes that are not f32: what their products read.

use super::form::{self, Form, Size, View};
use super::{BAND, Stored, Weight};
use crate::elements::{Elements, filled};
use crate::kernels::bf16::{GemmBf16, PackedBf16};
use crate::kernels::gemm::{Bf16, Bf16Group, Element, GROUP, packed_len};
use crate::kernels::ggml::{self, Code8, Format, HalfLine};
use crate::kernels::int8::{
    BLOCK, Codes, Eight, GemmQ8, Iq4Nl, Nf4, Nibbles, OfFile, PackedBlocks, Q4K, Q5K, Q6K, Q41, Q50, Q51,
    blocks_len, scales_len,
};
use crate::kernels::nf4::{self, CodeLine, NotFinite, PackedNf4, RowNf4};
use crate::kernels::pieces;
use crate::kernels::view::MatRef;
use crate::kernels::{Cpu, LANES, half};
use crate::nn::compute::{self, Coder};
use crate::nn::product::{Job, Part, run_bf16, run_gemm_bf16};
use crate::run::{Run, Scratch};
use alloc::boxed::Box;
use alloc::vec;
use core::convert::Infallible;

/// A weight (n, k) as a class multiplies it.
pub(super) enum Class {
    Bf16(Elements<Bf16Group>),
    /// Codes of eight bits or fewer, of a format that is known here alone.
    Codes(Box<dyn InCodes>),
}

/// A weight (n, k) in codes.
pub(super) trait InCodes: Send + Sync {
    /// What the codes are.
    fn stored(&self) -> Stored;
    /// What a pass over it reads.
    fn bytes(&self) -> usize;
    /// Row `r`, as products see it.
    fn row(&self, size: Size, r: usize, out: &mut [f32]);
    /// Computes a part of a product.
    fn run(&self, size: Size, part: Part<'_>, cpu: Cpu, scratch: &mut Scratch);
}

/// Blocks of codes and their scales.
struct Blocks<C: Codes> {
    blocks: Elements<C::Block>,
    scales: Elements<C::Scales>,
    stored: Stored,
}

impl<C: OfFile> Blocks<C> {
    /// A weight as its file holds it.
    fn of(rows: ggml::Rows<'_>) -> Class {
        let mut of = Blocks::<C>::new(rows.n(), rows.k(), Stored::Ggml(C::FORMAT));
        PackedBlocks::<C>::pack(rows, &mut of.blocks, &mut of.scales);
        Class::Codes(Box::new(of))
    }
}

impl<C: Codes> Blocks<C> {
    fn new(n: usize, k: usize, stored: Stored) -> Self {
        Blocks {
            blocks: filled(C::EMPTY, blocks_len(n, k)),
            scales: filled(C::NO_SCALES, scales_len::<C>(n, k)),
            stored,
        }
    }

    /// (n, k), k whole blocks.
    fn packed(&self, (n, k): Size) -> PackedBlocks<'_, C> {
        PackedBlocks::new(n, k.next_multiple_of(BLOCK), &self.blocks, &self.scales)
    }
}

impl<C: Codes> InCodes for Blocks<C> {
    fn stored(&self) -> Stored {
        self.stored
    }

    fn bytes(&self) -> usize {
        size_of_val(&self.blocks[..]) + size_of_val(&self.scales[..])
    }

    fn row(&self, size: Size, r: usize, out: &mut [f32]) {
        let packed = self.packed(size);
        form::each(out, |i| packed.get(r, i));
    }

    fn run(&self, size: Size, part: Part<'_>, cpu: Cpu, scratch: &mut Scratch) {
        let Job { out: c, accumulate, epilogue, .. } = part.job;
        let a = part.codes.expect("rows in codes for a weight in codes");
        let w = self.packed(size).columns(part.cols);
        let need = GemmQ8::<C>::scratch_len(c.rows(), a.codes.cols());
        GemmQ8 { a, w, c, accumulate, epilogue }.run(cpu, scratch.lines(need));
    }
}

impl Class {
    /// In bfloat16, nearest even, whatever it was.
    pub(super) fn bf16(cpu: Cpu, w: &Weight) -> Class {
        let (n, k) = (w.out_features(), w.in_features());
        let mut groups = filled(Bf16::ZERO, packed_len(k, n));
        let Ok(()) = each_band::<Infallible>(cpu, w, k, |rows, at| {
            let mut bits = vec![0; rows.len()];
            half::narrow_bf16(cpu, rows, &mut bits);
            let height = rows.len() / k.max(1);
            let groups = &mut groups[packed_len(k, at)..][..packed_len(k, height)];
            PackedBf16::pack(cpu, MatRef::new(Bf16::slice(&bits), height, k).t(), groups);
            Ok(())
        });
        Class::Bf16(groups)
    }

    /// In Q8_0, whatever it was.
    pub(super) fn eight(cpu: Cpu, w: &Weight) -> Result<Class, NotFinite> {
        let (n, own) = (w.out_features(), w.in_features());
        let k = own.next_multiple_of(BLOCK);
        let mut of = Blocks::<Eight>::new(n, k, Stored::Ggml(Format::Q8_0));
        each_band(cpu, w, k, |rows, at| {
            let mut stored = vec![0; Format::Q8_0.bytes(rows.len())];
            let place = |NotFinite { index: i }| NotFinite { index: (at + i / k) * own + i % k };
            ggml::quantize_q8_0(cpu, rows, &mut stored).map_err(place)?;
            let height = rows.len() / k.max(1);
            let (at, len) = (blocks_len(at, k), blocks_len(height, k));
            let rows = ggml::Rows::new(Format::Q8_0, height, k, &stored);
            PackedBlocks::<Eight>::pack(rows, &mut of.blocks[at..][..len], &mut of.scales[at..][..len]);
            Ok(())
        })?;
        Ok(Class::Codes(Box::new(of)))
    }

    /// The codes and scales of Q8_0 as they come, out of panels for f32.
    pub(super) fn of_q8_0((n, k): (usize, usize), codes: &[Code8], scales: &[HalfLine]) -> Class {
        let mut rows = vec![0; Format::Q8_0.bytes(n * k)];
        each_block::<34>(&mut rows, k, scales, |(p, lane, b), stored| {
            for (i, x) in stored[2..].iter_mut().enumerate() {
                *x = codes[p * (k / GROUP) + (b * BLOCK + i) / GROUP].0[i % GROUP][lane];
            }
        });
        Blocks::<Eight>::of(ggml::Rows::new(Format::Q8_0, n, k, &rows))
    }

    /// The same of Q4_0 or IQ4_NL.
    pub(super) fn of_nibbles(
        format: Format,
        (n, k): (usize, usize),
        codes: &[CodeLine],
        scales: &[HalfLine],
    ) -> Class {
        let mut rows = vec![0; format.bytes(n * k)];
        each_block::<18>(&mut rows, k, scales, |(p, lane, b), stored| {
            let word = |i: usize| codes[p * (k / GROUP) + (b * BLOCK + i) / GROUP].0[lane] as u32;
            let code = |i: usize| (word(i) >> (4 * (i % GROUP)) & 15) as u8;
            for (i, x) in stored[2..].iter_mut().enumerate() {
                *x = code(i) | code(i + BLOCK / 2) << 4;
            }
        });
        let rows = ggml::Rows::new(format, n, k, &rows);
        if format == Format::Q4_0 { Blocks::<Nibbles>::of(rows) } else { Blocks::<Iq4Nl>::of(rows) }
    }

    /// The codes and scales of other formats as their files hold them; `None` of those that are not multiplied so.
    pub(super) fn of_rows(rows: ggml::Rows<'_>) -> Option<Class> {
        let of = match rows.format() {
            Format::Q4_1 => Blocks::<Q41>::of,
            Format::Q5_0 => Blocks::<Q50>::of,
            Format::Q5_1 => Blocks::<Q51>::of,
            Format::Q4K => Blocks::<Q4K>::of,
            Format::Q5K => Blocks::<Q5K>::of,
            Format::Q6K => Blocks::<Q6K>::of,
            _ => return None,
        };
        Some(of(rows))
    }

    /// The codes and scales of NF4 as they come, out of panels for f32.
    pub(super) fn of_nf4(packed: PackedNf4<'_>, (n, k): (usize, usize), blocksize: usize) -> Class {
        let mut codes = vec![0; nf4::code_bytes(n * k)];
        let mut absmax = vec![0.0; nf4::block_count(n * k, blocksize)];
        packed.unpack(blocksize, &mut codes, &mut absmax);
        let mut of = Blocks::<Nf4>::new(n, k, Stored::Nf4);
        let rows = RowNf4::new(n, k, blocksize, &codes, &absmax);
        PackedBlocks::<Nf4>::pack(rows, &mut of.blocks, &mut of.scales);
        Class::Codes(Box::new(of))
    }
}

/// Writes the scale of every block of `rows`, k elements a row, and lets `put` write its codes: panel, lane, block.
fn each_block<const BYTES: usize>(
    rows: &mut [u8],
    k: usize,
    scales: &[HalfLine],
    put: impl Fn((usize, usize, usize), &mut [u8; BYTES]),
) {
    let depth = k / BLOCK;
    for (at, stored) in rows.as_chunks_mut::<BYTES>().0.iter_mut().enumerate() {
        let (r, b) = (at / depth, at % depth);
        let (p, lane) = (r / LANES, r % LANES);
        stored[..2].copy_from_slice(&scales[p * depth + b].0[lane].to_le_bytes());
        put((p, lane, b), stored);
    }
}

impl Class {
    pub(super) fn stored(&self) -> Stored {
        match self {
            Class::Bf16(_) => Stored::Bf16,
            Class::Codes(of) => of.stored(),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        match self {
            Class::Bf16(groups) => size_of_val(&groups[..]),
            Class::Codes(of) => of.bytes(),
        }
    }
}

impl Form for Class {
    fn view(&self) -> View<'_> {
        View::Class(self)
    }

    /// As products see it.
    fn row(&self, _: Cpu, size: Size, r: usize, out: &mut [f32]) {
        match self {
            Class::Bf16(groups) => form::packed_row::<Bf16>(groups, size.1, r, out),
            Class::Codes(of) => of.row(size, r, out),
        }
    }

    fn piece(&self, (n, k): Size, m: usize) -> Size {
        pieces::for_units((m, n, k))
    }

    fn run(&self, (n, k): Size, part: Part<'_>, cpu: Cpu, scratch: &mut Scratch) {
        match self {
            Class::Bf16(groups) => {
                let Job { x: a, out: c, accumulate, epilogue } = part.job;
                let b = PackedBf16::new(groups, k, n).columns(part.cols);
                run_gemm_bf16(GemmBf16 { accumulate, epilogue, ..GemmBf16::new(a, b, c) }, cpu, scratch);
            }
            Class::Codes(of) => of.run((n, k), part, cpu, scratch),
        }
    }

    fn coder(&self) -> Option<Coder> {
        let coder: Coder = compute::coded;
        (!matches!(self, Class::Bf16(_))).then_some(coder)
    }
}

impl Class {
    /// The product with the transpose. Panels of it are made on the way, a small part of what the product costs, and lie
    /// in memory that the run lends: a model that only answers does not need them.
    ///
    /// # Panics
    /// Where these are codes.
    pub(super) fn multiply_turned<'a>(&'a self, run: &Run<'_>, (n, k): (usize, usize), job: Job<'a>) {
        let Class::Bf16(groups) = self else { panic!("products in int8 have no gradients") };
        let mut turned = run.bf16_groups(packed_len(n, k));
        let (panels, cpu) = (turned.chunks_mut(n.div_ceil(GROUP).max(1)).enumerate(), run.cpu());
        let packed = PackedBf16::new(groups, k, n);
        run.pieces(panels, |(p, panel), _| packed.transposed_panel(cpu, p, panel));
        let Job { x: a, out: c, accumulate, epilogue } = job;
        let b = PackedBf16::new(&turned, n, k);
        run_bf16(run, GemmBf16 { accumulate, epilogue, ..GemmBf16::new(a, b, c) });
    }
}

/// Gives `f` some rows of `w` at a time, a multiple of sixteen, each filled with 0 to `k` elements, and the number of the
/// first.
fn each_band<E>(
    cpu: Cpu,
    w: &Weight,
    k: usize,
    mut f: impl FnMut(&[f32], usize) -> Result<(), E>,
) -> Result<(), E> {
    let (n, own) = (w.out_features(), w.in_features());
    let height = (BAND / k.max(1)).next_multiple_of(LANES);
    let mut rows = vec![0.0; height.min(n) * k];
    for at in (0..n).step_by(height) {
        let band = &mut rows[..height.min(n - at) * k];
        for (r, row) in band.chunks_exact_mut(k.max(1)).enumerate() {
            w.row(cpu, at + r, &mut row[..own]);
        }
        f(band, at)?;
    }
    Ok(())
}
