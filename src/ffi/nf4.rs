//! Weights of four bits: quantised, decoded, put into panels and back, multiplied.

use super::kernels::{accumulate, agree, multiply};
use super::memory::{Matrix, MatrixMut, apart, put, reference, slice, slice_mut};
use super::{Engine, Fault, Outcome, Status, door};
use crate::kernels::Line;
use crate::kernels::gemm::Gemm;
use crate::kernels::nf4::{self, CodeLine, PackedNf4, RowNf4, block_count, code_bytes};

/// `samebits_nf4`: a weight (n, k) as bitsandbytes stores it.
#[repr(C)]
pub struct Nf4 {
    n: usize,
    k: usize,
    blocksize: usize,
    codes: *const u8,
    absmax: *const f32,
}

/// `samebits_nf4_mut`: the same, to write.
#[repr(C)]
pub struct Nf4Mut {
    n: usize,
    k: usize,
    blocksize: usize,
    codes: *mut u8,
    absmax: *mut f32,
}

/// `samebits_nf4_packed`: a weight (n, k) in panels; `codes` and `scales` at multiples of 64 bytes.
#[repr(C)]
pub struct Nf4Packed {
    n: usize,
    k: usize,
    blocksize: usize,
    codes: *mut u8,
    code_bytes: usize,
    scales: *mut f32,
    scale_count: usize,
}

/// n × k, where that and the sizes made of it can be counted.
fn elements(n: usize, k: usize, blocksize: usize) -> Outcome<usize> {
    if blocksize == 0 {
        return Err(Fault::argument("blocksize is 0"));
    }
    // Panels pad both: 64 bytes an element at most.
    let padded = n.checked_next_multiple_of(16).zip(k.checked_next_multiple_of(8));
    let fits = padded.and_then(|(n, k)| n.checked_mul(k)).is_some_and(|all| all <= isize::MAX as usize / 64);
    if fits {
        Ok(n * k)
    } else {
        Err(Fault::argument(format!("a weight ({n}, {k}) leaves the address space")))
    }
}

impl Nf4 {
    /// # Safety
    /// The codes and absmax are there, and nobody changes them while the result lives.
    unsafe fn view<'a>(&self) -> Outcome<RowNf4<'a>> {
        let Nf4 { n, k, blocksize, codes, absmax } = *self;
        let len = elements(n, k, blocksize)?;
        // SAFETY: as the caller says.
        let (codes, absmax) = unsafe {
            (slice(codes, code_bytes(len), "codes")?, slice(absmax, block_count(len, blocksize), "absmax")?)
        };
        Ok(RowNf4::new(n, k, blocksize, codes, absmax))
    }
}

impl Nf4Packed {
    /// Code lines and scale lines, which the caller's sizes must be.
    fn lines(&self) -> Outcome<(usize, usize)> {
        elements(self.n, self.k, self.blocksize)?;
        let lines = lines(self.n, self.k, self.blocksize);
        let (code_bytes, scale_count) = (64 * lines.0, 16 * lines.1);
        if (self.code_bytes, self.scale_count) == (code_bytes, scale_count) {
            return Ok(lines);
        }
        let (n, k, has, scales) = (self.n, self.k, self.code_bytes, self.scale_count);
        Err(Fault::argument(format!(
            "a packed weight ({n}, {k}) has {code_bytes} bytes of codes and {scale_count} scales, not {has} and {scales}"
        )))
    }

    /// # Safety
    /// The codes and scales are there, and nobody changes them while the result lives.
    unsafe fn view<'a>(&self) -> Outcome<PackedNf4<'a>> {
        let (codes, scales) = self.lines()?;
        // SAFETY: as the caller says.
        let (codes, scales) = unsafe {
            (
                slice(self.codes.cast::<CodeLine>(), codes, "codes")?,
                slice(self.scales.cast::<Line>(), scales, "scales")?,
            )
        };
        Ok(PackedNf4::new(self.n, self.k, self.blocksize, codes, scales))
    }
}

/// Code lines and scale lines of sizes that [`elements`] has looked at.
fn lines(n: usize, k: usize, blocksize: usize) -> (usize, usize) {
    (PackedNf4::code_lines(n, k), PackedNf4::scale_lines(n, k, blocksize))
}

/// What a packed weight needs: bytes of codes, and how many scales.
///
/// # Safety
/// Pointers are NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn samebits_nf4_packed_size(
    n: usize,
    k: usize,
    blocksize: usize,
    code_bytes: *mut usize,
    scale_count: *mut usize,
) -> Status {
    door(|| {
        elements(n, k, blocksize)?;
        let (codes, scales) = lines(n, k, blocksize);
        // SAFETY: as the caller says.
        unsafe { put(code_bytes, "code_bytes", || 64 * codes) }?;
        // SAFETY: likewise.
        unsafe { put(scale_count, "scale_count", || 16 * scales) }
    })
}

/// Quantises n × k floats, row by row.
///
/// # Safety
/// Pointers are NULL or as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn samebits_nf4_quantize(
    engine: *const Engine,
    x: *const f32,
    out: *const Nf4Mut,
) -> Status {
    door(|| {
        // SAFETY: as the caller says.
        let (engine, out) = unsafe { (reference(engine, "engine")?, reference(out, "out")?) };
        let Nf4Mut { n, k, blocksize, codes, absmax } = *out;
        let len = elements(n, k, blocksize)?;
        let (bytes, blocks) = (code_bytes(len), block_count(len, blocksize));
        apart(
            &[("codes", codes as usize, bytes), ("absmax", absmax as usize, 4 * blocks)],
            &[("x", x as usize, 4 * len)],
        )?;
        // SAFETY: as the caller says; the three are apart.
        let (x, codes, absmax) = unsafe {
            (slice(x, len, "x")?, slice_mut(codes, bytes, "codes")?, slice_mut(absmax, blocks, "absmax")?)
        };
        let done = nf4::quantize(engine.cpu, x, blocksize, codes, absmax);
        done.map_err(|e| Fault { status: Status::Data, message: format!("x: {e}") })
    })
}

/// Decodes a weight to n × k floats, row by row.
///
/// # Safety
/// Pointers are NULL or as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn samebits_nf4_dequantize(
    engine: *const Engine,
    weight: *const Nf4,
    out: *mut f32,
) -> Status {
    door(|| {
        // SAFETY: as the caller says.
        let (engine, weight) = unsafe { (reference(engine, "engine")?, reference(weight, "weight")?) };
        let Nf4 { n, k, blocksize, codes, absmax } = *weight;
        let len = elements(n, k, blocksize)?;
        let (bytes, blocks) = (code_bytes(len), block_count(len, blocksize));
        let inputs = [("codes", codes as usize, bytes), ("absmax", absmax as usize, 4 * blocks)];
        apart(&[("out", out as usize, 4 * len)], &inputs)?;
        // SAFETY: as the caller says; the output is apart from both inputs.
        let (codes, absmax, out) = unsafe {
            (slice(codes, bytes, "codes")?, slice(absmax, blocks, "absmax")?, slice_mut(out, len, "out")?)
        };
        nf4::dequantize(engine.cpu, codes, absmax, blocksize, out);
        Ok(())
    })
}

/// Puts a weight into panels.
///
/// # Safety
/// Pointers are NULL or as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn samebits_nf4_pack(weight: *const Nf4, packed: *const Nf4Packed) -> Status {
    door(|| {
        // SAFETY: as the caller says.
        let (weight, packed) = unsafe { (reference(weight, "weight")?, reference(packed, "packed")?) };
        same(weight, packed)?;
        let (codes, scales) = packed.lines()?;
        let outputs = [
            ("packed.codes", packed.codes as usize, 64 * codes),
            ("packed.scales", packed.scales as usize, 64 * scales),
        ];
        let len = weight.n * weight.k;
        let absmax = ("absmax", weight.absmax as usize, 4 * block_count(len, weight.blocksize));
        apart(&outputs, &[("codes", weight.codes as usize, code_bytes(len)), absmax])?;
        // SAFETY: as the caller says; the outputs are apart from each other and the inputs.
        let (rows, codes, scales) = unsafe {
            (
                weight.view()?,
                slice_mut(packed.codes.cast::<CodeLine>(), codes, "packed.codes")?,
                slice_mut(packed.scales.cast::<Line>(), scales, "packed.scales")?,
            )
        };
        PackedNf4::pack(rows, codes, scales);
        Ok(())
    })
}

fn same(weight: &Nf4, packed: &Nf4Packed) -> Outcome {
    let (a, b) = ((weight.n, weight.k, weight.blocksize), (packed.n, packed.k, packed.blocksize));
    if a == b { Ok(()) } else { Err(Fault::argument(format!("(n, k, blocksize) is {a:?}, packed {b:?}"))) }
}

/// Back from panels: the bytes that went into them.
///
/// # Safety
/// Pointers are NULL or as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn samebits_nf4_unpack(packed: *const Nf4Packed, out: *const Nf4Mut) -> Status {
    door(|| {
        // SAFETY: as the caller says.
        let (packed, out) = unsafe { (reference(packed, "packed")?, reference(out, "out")?) };
        let Nf4Mut { n, k, blocksize, codes, absmax } = *out;
        same(&Nf4 { n, k, blocksize, codes, absmax }, packed)?;
        let (code_lines, scale_lines) = packed.lines()?;
        let (bytes, blocks) = (code_bytes(n * k), block_count(n * k, blocksize));
        let outputs = [("codes", codes as usize, bytes), ("absmax", absmax as usize, 4 * blocks)];
        let scales = ("packed.scales", packed.scales as usize, 64 * scale_lines);
        apart(&outputs, &[("packed.codes", packed.codes as usize, 64 * code_lines), scales])?;
        // SAFETY: as the caller says; the outputs are apart from each other and the inputs.
        let (packed, codes, absmax) = unsafe {
            (packed.view()?, slice_mut(codes, bytes, "codes")?, slice_mut(absmax, blocks, "absmax")?)
        };
        packed.unpack(blocksize, codes, absmax);
        Ok(())
    })
}

/// C (m, n) ← A (m, k) · Wᵀ, or C + A · Wᵀ.
///
/// # Safety
/// Pointers are NULL or as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn samebits_gemm_nf4(
    engine: *const Engine,
    a: *const Matrix,
    weight: *const Nf4Packed,
    c: *const MatrixMut,
    flags: u32,
) -> Status {
    door(|| {
        // SAFETY: as the caller says.
        let (engine, a, weight, c) = unsafe {
            (
                reference(engine, "engine")?,
                reference(a, "a")?,
                reference(weight, "weight")?,
                reference(c, "c")?,
            )
        };
        let accumulate = accumulate(flags)?;
        agree(a.shape(), (weight.k, weight.n), c.as_matrix().shape())?;
        let place = c.as_matrix().place("c")?;
        place.apart("c", &[("a", a.place("a")?)])?;
        let (codes, scales) = weight.lines()?;
        place.apart_from(
            "c",
            &[
                ("weight.codes", weight.codes as usize, 64 * codes),
                ("weight.scales", weight.scales as usize, 64 * scales),
            ],
        )?;
        // SAFETY: as the caller says; C is apart from all inputs.
        let (a, weight, c) = unsafe { (a.view("a")?, weight.view()?, c.view("c")?) };
        multiply(engine, Gemm { accumulate, ..Gemm::new(a, weight, c) });
        Ok(())
    })
}
