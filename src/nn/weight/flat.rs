//! A weight as [`io::flat`](crate::io::flat) keeps it: the very panels that products read.

use super::{Form, Weight, packed};
use crate::io::flat::{Reader, Writer};
use crate::kernels::gemm::{Bf16, Element, F16, packed_len};
use crate::kernels::ggml::{self, Code8, Format, HalfLine};
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
        match &*self.form {
            Form::Plain(values) => {
                to.u32(F32);
                to.held(&packed::<f32>(cpu, MatRef::new(values, self.n, self.k)));
            }
            Form::F32(groups) => {
                to.u32(F32);
                to.held(groups);
            }
            Form::Bf16(groups) => {
                to.u32(BF16);
                to.held(groups);
            }
            Form::F16(groups) => {
                to.u32(F16_);
                to.held(groups);
            }
            Form::Nf4 { codes, scales, blocksize } => {
                to.u32(NF4);
                to.count(*blocksize)?;
                to.held(codes);
                to.held(scales);
            }
            Form::Ggml8 { codes, scales } => {
                of_format(to, Format::Q8_0);
                to.held(codes);
                to.held(scales);
            }
            Form::Ggml4 { format, codes, scales } => {
                of_format(to, *format);
                to.held(codes);
                to.held(scales);
            }
            Form::Blocks { format, blocks } => {
                of_format(to, *format);
                to.held(blocks);
            }
            Form::Class(_) => {
                return Err(Error::invalid(
                    "a flat model holds weights as they were stored, for products of f32",
                ));
            }
        }
        Ok(())
    }

    /// The next weight of a file, which must be (out, in).
    pub(crate) fn read(from: &mut Reader<'_>, [n, k]: [usize; 2]) -> Result<Weight> {
        let found = [from.count("outputs", 0, MOST)?, from.count("inputs", 0, MOST)?];
        if found != [n, k] {
            return Err(from.error(format!("a weight {found:?}, expected [{n}, {k}]")));
        }
        let form = match from.count("the form of a weight", 0, GGML as usize)? as u32 {
            F32 => Form::F32(from.held(groups(from, n, k)?, f32::ZERO)?),
            BF16 => Form::Bf16(from.held(groups(from, n, k)?, Bf16::ZERO)?),
            F16_ => Form::F16(from.held(groups(from, n, k)?, F16::ZERO)?),
            NF4 => {
                let blocksize = from.count("elements with one scale", 1, MOST)?;
                elements(from, n, k)?;
                let codes = from.held(PackedNf4::code_lines(n, k), CodeLine::ZERO)?;
                let scales = from.held(PackedNf4::scale_lines(n, k, blocksize), Line::ZERO)?;
                Form::Nf4 { codes, scales, blocksize }
            }
            _ => ggml_form(from, n, k)?,
        };
        Ok(Weight { n, k, form: Arc::new(form) })
    }
}

fn ggml_form(from: &mut Reader<'_>, n: usize, k: usize) -> Result<Form> {
    let format = from.one_of("the format of blocks", &Format::ALL)?;
    elements(from, n, k)?;
    if !k.is_multiple_of(format.block_len()) {
        return Err(from.error(format!("rows of {k} are no whole blocks of {format}")));
    }
    let (codes, scales) = (ggml::code_len(n, k), ggml::scale_len(n, k));
    Ok(match format {
        Format::Q8_0 => {
            Form::Ggml8 { codes: from.held(codes, Code8::ZERO)?, scales: from.held(scales, HalfLine::ZERO)? }
        }
        Format::Q4_0 | Format::Iq4Nl => Form::Ggml4 {
            format,
            codes: from.held(codes, CodeLine::ZERO)?,
            scales: from.held(scales, HalfLine::ZERO)?,
        },
        _ => Form::Blocks { format, blocks: from.held(format.bytes(k) * n, 0)? },
    })
}

/// An error where n × k, with room for whole panels, is more than memory can be.
fn elements(from: &Reader<'_>, n: usize, k: usize) -> Result<()> {
    let all = (n + 16).checked_mul(k + 256).and_then(|all| all.checked_mul(8));
    all.map(|_| ()).ok_or_else(|| from.error(format!("a weight ({n}, {k}) is larger than memory")))
}

/// Groups of a packed weight of elements.
fn groups(from: &Reader<'_>, n: usize, k: usize) -> Result<usize> {
    elements(from, n, k)?;
    Ok(packed_len(k, n))
}
