//! A weight as [`io::flat`](crate::io::flat) keeps it: the very panels that products read.

use super::form::{Blocks, Form, Ggml4, Ggml8, Nf4, Packed, Panels, View};
use super::{Weight, packed};
use crate::io::flat::{Reader, Writer};
use crate::kernels::gemm::{Bf16, F16, PackedMatrix, Weights, packed_len, scratch_len};
use crate::kernels::ggml::{self, Code8, Format, HalfLine, Packed4, Packed8, Rows};
use crate::kernels::line::Bits;
use crate::kernels::nf4::{CodeLine, PackedNf4};
use crate::kernels::view::MatRef;
use crate::kernels::{Cpu, Line};
use crate::{Error, Result};
use alloc::format;
use alloc::sync::Arc;

/// The numbers of the forms.
const F32: u32 = 0;
const BF16: u32 = 1;
const F16_: u32 = 2;
const NF4: u32 = 3;
/// Panels of Q8_0, Q4_0, IQ4_NL; else rows of blocks. The format's number in [`Format::ALL`] follows.
const GGML: u32 = 4;

/// More features, or elements that share a scale, than any weight has.
const MOST: usize = 1 << 28;

impl Weight {
    /// Adds it to a file.
    pub(crate) fn write(&self, cpu: Cpu, to: &mut Writer) -> Result<()> {
        to.count(self.n)?;
        to.count(self.k)?;
        let of_format = |to: &mut Writer, format| {
            to.u32(GGML);
            to.u32(Format::ALL.iter().take_while(|&&f| f != format).count() as u32);
        };
        match self.form.view() {
            View::Plain(values) => {
                to.u32(F32);
                to.held(&packed::<f32>(cpu, MatRef::new(values, self.n, self.k)));
            }
            View::F32(groups) => {
                to.u32(F32);
                to.held(groups);
            }
            View::Bf16(groups) => {
                to.u32(BF16);
                to.held(groups);
            }
            View::F16(groups) => {
                to.u32(F16_);
                to.held(groups);
            }
            View::Nf4 { codes, scales, blocksize } => {
                to.u32(NF4);
                to.count(blocksize)?;
                to.held(codes);
                to.held(scales);
            }
            View::Ggml8 { codes, scales } => {
                of_format(to, Format::Q8_0);
                to.held(codes);
                to.held(scales);
            }
            View::Ggml4 { format, codes, scales } => {
                of_format(to, format);
                to.held(codes);
                to.held(scales);
            }
            View::Blocks { format, blocks } => {
                of_format(to, format);
                to.held(blocks);
            }
            View::Class(_) => {
                return Err(Error::invalid(
                    "a flat model holds weights as they were stored, for products of f32",
                ));
            }
        }
        Ok(())
    }

    /// The next weight of a file, which must be (out, in), in one of `forms`.
    pub(crate) fn read(from: &mut Reader<'_>, [n, k]: [usize; 2], forms: Forms) -> Result<Weight> {
        let found = [from.count("outputs", 0, MOST)?, from.count("inputs", 0, MOST)?];
        if found != [n, k] {
            return Err(from.error(format!("a weight {found:?}, expected [{n}, {k}]")));
        }
        elements(from, n, k)?;
        let number = from.count("the form of a weight", 0, GGML as usize)?;
        let Some(read) = forms.0[number] else {
            return Err(
                from.error(format!("a weight in {}, which this program does not read", NAMES[number]))
            );
        };
        Ok(Weight { n, k, form: read(from, (n, k))? })
    }
}

const NAMES: [&str; 5] = ["f32", "bf16", "f16", "NF4", "blocks of ggml"];

type Read = fn(&mut Reader<'_>, (usize, usize)) -> Result<Arc<dyn Form>>;

/// The forms of weights that a program reads from flat models. What it does not name, it has no kernels of.
///
/// ```
/// use samebits::model::flat::Forms;
/// const FORMS: Forms = Forms::NONE.nf4().f32(); // for `Flat::model_of`
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Forms([Option<Read>; 5]);

impl Forms {
    /// None, to begin with.
    pub const NONE: Forms = Forms([None; 5]);
    /// Every one.
    pub const ALL: Forms = Forms::NONE.f32().bf16().f16().nf4().ggml();

    const fn with(mut self, number: u32, read: Read) -> Forms {
        self.0[number as usize] = Some(read);
        self
    }

    /// And 32-bit floats.
    #[must_use]
    pub const fn f32(self) -> Forms {
        self.with(F32, panels::<f32>)
    }

    /// And bfloat16.
    #[must_use]
    pub const fn bf16(self) -> Forms {
        self.with(BF16, panels::<Bf16>)
    }

    /// And halves.
    #[must_use]
    pub const fn f16(self) -> Forms {
        self.with(F16_, panels::<F16>)
    }

    /// And NF4.
    #[must_use]
    pub const fn nf4(self) -> Forms {
        self.with(NF4, nf4)
    }

    /// And the block formats of ggml.
    #[must_use]
    pub const fn ggml(self) -> Forms {
        self.with(GGML, blocks)
    }
}

/// What a program's memory follows from, known when it is compiled.
impl Forms {
    /// Lines of scratch that a product of at most `rows` rows, `k` deep, takes, whichever of these its weight is in.
    pub(crate) const fn scratch_len(self, rows: usize, k: usize) -> usize {
        const fn of<W: Weights>(rows: usize, k: usize) -> usize {
            scratch_len::<W>(rows, k)
        }
        let ggml = larger(
            of::<Packed8<'static>>(rows, k),
            larger(of::<Packed4<'static>>(rows, k), of::<Rows<'static>>(rows, k)),
        );
        self.most([
            of::<PackedMatrix<'static, f32>>(rows, k),
            of::<PackedMatrix<'static, Bf16>>(rows, k),
            of::<PackedMatrix<'static, F16>>(rows, k),
            of::<PackedNf4<'static>>(rows, k),
            ggml,
        ])
    }

    /// Bytes that describe a weight, which itself stays where it lies: the largest of these forms, shared.
    pub(crate) const fn described(self) -> usize {
        let ggml = larger(size_of::<Ggml8>(), larger(size_of::<Ggml4>(), size_of::<Blocks>()));
        let panels = [size_of::<Panels<f32>>(), size_of::<Panels<Bf16>>(), size_of::<Panels<F16>>()];
        // Two counts of those that share it.
        2 * size_of::<usize>() + self.most([panels[0], panels[1], panels[2], size_of::<Nf4>(), ggml])
    }

    /// The largest number of a form that is read.
    const fn most(self, of: [usize; 5]) -> usize {
        let (mut most, mut i) = (0, 0);
        while i < 5 {
            if self.0[i].is_some() {
                most = larger(most, of[i]);
            }
            i += 1;
        }
        most
    }
}

const fn larger(a: usize, b: usize) -> usize {
    if a > b { a } else { b }
}

fn panels<E: Packed<Group: Bits>>(from: &mut Reader<'_>, (n, k): (usize, usize)) -> Result<Arc<dyn Form>> {
    Ok(Arc::new(Panels::<E>(from.held(packed_len(k, n), E::ZERO)?)))
}

fn nf4(from: &mut Reader<'_>, (n, k): (usize, usize)) -> Result<Arc<dyn Form>> {
    let blocksize = from.count("elements with one scale", 1, MOST)?;
    let codes = from.held(PackedNf4::code_lines(n, k), CodeLine::ZERO)?;
    let scales = from.held(PackedNf4::scale_lines(n, k, blocksize), Line::ZERO)?;
    Ok(Arc::new(Nf4 { codes, scales, blocksize }))
}

fn blocks(from: &mut Reader<'_>, (n, k): (usize, usize)) -> Result<Arc<dyn Form>> {
    let format = from.one_of("the format of blocks", &Format::ALL)?;
    if !k.is_multiple_of(format.block_len()) {
        return Err(from.error(format!("rows of {k} are no whole blocks of {format}")));
    }
    let (codes, scales) = (ggml::code_len(n, k), ggml::scale_len(n, k));
    Ok(match format {
        Format::Q8_0 => Arc::new(Ggml8 {
            codes: from.held(codes, Code8::ZERO)?,
            scales: from.held(scales, HalfLine::ZERO)?,
        }),
        Format::Q4_0 | Format::Iq4Nl => Arc::new(Ggml4 {
            format,
            codes: from.held(codes, CodeLine::ZERO)?,
            scales: from.held(scales, HalfLine::ZERO)?,
        }),
        _ => Arc::new(Blocks { format, blocks: from.held(format.bytes(k) * n, 0)? }),
    })
}

/// An error where n × k, with room for whole panels, is more than memory can be.
fn elements(from: &Reader<'_>, n: usize, k: usize) -> Result<()> {
    let all = (n + 16).checked_mul(k + 256).and_then(|all| all.checked_mul(8));
    all.map(|_| ()).ok_or_else(|| from.error(format!("a weight ({n}, {k}) is larger than memory")))
}
