//! Half tiles of codes: chains of scaled products stand between the instructions that multiply.

use super::super::{Half, Halves, Link, NO_PRODUCTS, Products, TALL, WIDE};
use super::{Amx, Shapes};
use crate::int8;
use crate::{LANES, Line};
use core::arch::asm;

/// The unit, configured for half tiles of codes, for this thread.
///
/// ```
/// use samebits_kernels::simd::tiles::{AmxHalves, Halves, NO_PRODUCTS, Plain};
/// use samebits_kernels::{Cpu, Line};
/// if Cpu::detect().features().amx_int8 {
///     // SAFETY: detected.
///     let mut unit = unsafe { AmxHalves::assume() };
///     let (half, mut block, mut plain) = ([Line([1.5; 16]); 8], NO_PRODUCTS, NO_PRODUCTS);
///     unit.multiply(&[half; 2], [&half; 2], &mut block, None);
///     Plain.multiply(&[half; 2], [&half; 2], &mut plain, None);
///     assert!(block == plain);
/// }
/// ```
#[derive(Debug)]
pub struct AmxHalves {
    _unit: Amx,
}

impl AmxHalves {
    /// Configures the tiles of this thread.
    ///
    /// # Safety
    /// As [`Amx::assume`].
    pub unsafe fn assume() -> AmxHalves {
        // SAFETY: the caller's promise.
        AmxHalves { _unit: unsafe { Amx::configured(&Shapes::HALVES) } }
    }
}

/// Nothing is added to a chain besides.
macro_rules! no_minimum {
    ($line:literal, $columns:literal, $i:literal) => {
        ""
    };
}

/// Row `$i`'s factor × that of the columns, to a chain.
macro_rules! minimum {
    ($line:literal, $columns:literal, $i:literal) => {
        concat!("vfmadd231ps ", $line, ", ", $columns, ", dword ptr [{minima} + 4*", $i, "]{{1to16}}\n")
    };
}

/// The chain goes on.
macro_rules! goes_on {
    ($line:literal, $panel:literal, $i:literal) => {
        concat!("vmovaps [{chains} + 64*", $panel, " + 128*", $i, "], ", $line, "\n")
    };
}

/// The chain ends in its sum and begins anew.
macro_rules! ends {
    ($line:literal, $panel:literal, $i:literal) => {
        concat!(
            "vaddps ",
            $line,
            ", ",
            $line,
            ", [{sums} + 64*",
            $panel,
            " + 128*",
            $i,
            "]\n",
            "vmovaps [{sums} + 64*",
            $panel,
            " + 128*",
            $i,
            "], ",
            $line,
            "\n",
            "vmovaps [{chains} + 64*",
            $panel,
            " + 128*",
            $i,
            "], zmm8\n",
        )
    };
}

/// Row `$i` of a link: zmm4 and zmm5 are scales of columns, zmm6 and zmm7 their other factor, zmm8 is 0.
macro_rules! link_row {
    ($minimum:ident, $end:ident, $i:literal) => {
        concat!(
            "vcvtdq2ps zmm0, [{done} + 128*",
            $i,
            "]\n",
            "vmulps zmm1, zmm4, dword ptr [{rows} + 4*",
            $i,
            "]{{1to16}}\n",
            "vfmadd213ps zmm0, zmm1, [{chains} + 128*",
            $i,
            "]\n",
            $minimum!("zmm0", "zmm6", $i),
            $end!("zmm0", "0", $i),
            "vcvtdq2ps zmm2, [{done} + 64 + 128*",
            $i,
            "]\n",
            "vmulps zmm3, zmm5, dword ptr [{rows} + 4*",
            $i,
            "]{{1to16}}\n",
            "vfmadd213ps zmm2, zmm3, [{chains} + 64 + 128*",
            $i,
            "]\n",
            $minimum!("zmm2", "zmm7", $i),
            $end!("zmm2", "1", $i),
        )
    };
}

/// Eight rows of a link.
macro_rules! link_rows {
    ($minimum:ident, $end:ident, $a:literal $b:literal $c:literal $d:literal $e:literal $f:literal $g:literal $h:literal) => {
        concat!(
            link_row!($minimum, $end, $a),
            link_row!($minimum, $end, $b),
            link_row!($minimum, $end, $c),
            link_row!($minimum, $end, $d),
            link_row!($minimum, $end, $e),
            link_row!($minimum, $end, $f),
            link_row!($minimum, $end, $g),
            link_row!($minimum, $end, $h),
        )
    };
}

/// A block of half tiles, after each product a fourth of what else there is to do.
macro_rules! half_tiles {
    ($before:expr, [$one:expr, $two:expr, $three:expr, $four:expr], ($a:ident, $b:ident, $block:ident), $($operands:tt)*) => {
        asm!(
            $before,
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "tileloaddt1 tmm4, [{a} + {half}]",
            "tileloadd tmm6, [{b0} + {half}*2]",
            "tileloadd tmm7, [{b1} + {half}*2]",
            "tdpbssd tmm0, tmm4, tmm6",
            $one,
            "tileloaddt1 tmm5, [{a} + {half} + 512]",
            "tdpbssd tmm1, tmm4, tmm7",
            $two,
            "tdpbssd tmm2, tmm5, tmm6",
            $three,
            "tdpbssd tmm3, tmm5, tmm7",
            $four,
            "tilestored [{block} + {half}*4], tmm0", // a row of products is two lines
            "tilestored [{block} + {half}*4 + 64], tmm1",
            "tilestored [{block} + {half}*4 + 2048], tmm2",
            "tilestored [{block} + {half}*4 + 2112], tmm3",
            a = in(reg) $a.as_ptr(),
            b0 = in(reg) $b[0].as_ptr(),
            b1 = in(reg) $b[1].as_ptr(),
            block = in(reg) $block.as_mut_ptr(),
            half = in(reg) int8::BLOCK,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            $($operands)*
            options(nostack),
        )
    };
}

/// A block of half tiles with the rows of a link in four parts.
macro_rules! linked {
    ($minimum:ident, $end:ident, ($a:ident, $b:ident, $block:ident, $link:ident)) => {
        half_tiles!(
            concat!(
                "vmovaps zmm4, [{columns}]\nvmovaps zmm5, [{columns} + 64]\n",
                "vmovaps zmm6, [{besides}]\nvmovaps zmm7, [{besides} + 64]\nvpxord zmm8, zmm8, zmm8\n",
                "/* not read by all: {minima} {sums} */",
            ),
            [
                link_rows!($minimum, $end, "0" "1" "2" "3" "4" "5" "6" "7"),
                link_rows!($minimum, $end, "8" "9" "10" "11" "12" "13" "14" "15"),
                link_rows!($minimum, $end, "16" "17" "18" "19" "20" "21" "22" "23"),
                link_rows!($minimum, $end, "24" "25" "26" "27" "28" "29" "30" "31")
            ],
            ($a, $b, $block),
            done = in(reg) $link.done,
            rows = in(reg) $link.rows,
            minima = in(reg) $link.minima,
            columns = in(reg) $link.columns,
            besides = in(reg) $link.besides,
            chains = in(reg) $link.chains,
            sums = in(reg) $link.sums,
            out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _,
            out("xmm5") _, out("xmm6") _, out("xmm7") _, out("xmm8") _,
        )
    };
}

/// A link as assembler reads it; what is not there is never read.
struct Addresses {
    done: *const Products,
    rows: *const [Line; TALL / LANES],
    minima: *const [Line; TALL / LANES],
    columns: *const [Line; WIDE],
    /// What the minima are multiplied with.
    besides: *const [Line; WIDE],
    chains: *mut Products,
    sums: *mut Products,
}

impl Halves for AmxHalves {
    // Never inlined: it is four times as long as all else, and would stand in the products of every form of codes.
    #[inline(never)]
    fn multiply(&mut self, a: &[Half; 2], b: [&Half; 2], block: &mut Products, meanwhile: Option<Link<'_>>) {
        let Some(Link { done, rows, columns, minima, chains, sums }) = meanwhile else {
            // SAFETY: tiles are configured for as long as this value lives. Half tiles of 512 bytes are read from `a` and
            // either of `b`, four tiles written at `block`.
            unsafe { half_tiles!("", ["", "", "", ""], (a, b, block),) };
            return;
        };
        let (more, besides) = minima.unwrap_or((rows, columns));
        let (ends, link) = (
            sums.is_some(),
            Addresses {
                done,
                rows,
                minima: more,
                columns,
                besides,
                chains,
                sums: sums.map_or(core::ptr::null_mut(), core::ptr::from_mut),
            },
        );
        // SAFETY: as above; 32 rows of two lines of `done`, `chains` and, where chains end, of `sums` are read, of the
        // latter two written; 32 floats of `rows` and `minima` are read. Where there are tiles there is AVX-512.
        unsafe {
            match (minima.is_some(), ends) {
                (false, false) => linked!(no_minimum, goes_on, (a, b, block, link)),
                (false, true) => linked!(no_minimum, ends, (a, b, block, link)),
                (true, false) => linked!(minimum, goes_on, (a, b, block, link)),
                (true, true) => linked!(minimum, ends, (a, b, block, link)),
            }
        }
    }

    fn link(&mut self, link: Link<'_>) {
        let (nothing, mut nowhere) = ([Line::ZERO; LANES / 2], NO_PRODUCTS);
        self.multiply(&[nothing; 2], [&nothing; 2], &mut nowhere, Some(link));
    }
}
