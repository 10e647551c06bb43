//! Whole tiles: what else there is to do stands between the instructions that multiply.

use super::super::{
    BLOCK, Goal, Meanwhile, NO_PRODUCTS, NOTHING, Pair, Products, Rounds, STEPS, TALL, Tile, Tiles, WIDE,
};
use super::Amx;
use crate::bf16::LEAST;
use crate::gemm::Bf16;
use crate::int8::Quad;
use crate::simd::Floats;
use crate::{LANES, Line};
use core::arch::asm;
use core::arch::x86_64::*;

/// A row of a block, two lines, to its goal.
macro_rules! settle_row {
    ($add:literal) => {
        concat!(
            "vmovups zmm0, [{from}]\n",
            $add,
            " zmm0, zmm0, [{done}]\n",
            $add,
            " zmm0, zmm0, zmm1\n",
            "vmovups [{to}], zmm0\n",
            "vmovups zmm0, [{from} + 64]\n",
            $add,
            " zmm0, zmm0, [{done} + 64]\n",
            $add,
            " zmm0, zmm0, zmm2\n",
            "vmovups [{to} + 64], zmm0\n",
            "sub {from}, -128\n",
            "sub {done}, -128\n",
            "add {to}, {stride}",
        )
    };
}

/// Asks for two lines of what will be read.
macro_rules! ask_for_two {
    ($at:literal) => {
        concat!("prefetcht1 [{ahead} + ", $at, "]\nprefetcht1 [{ahead} + 64 + ", $at, "]")
    };
}

/// All steps of two stripes and two panels, with the instruction that multiplies. Tiles of A are read once for each pair
/// of panels, from L2: the hint `t1` keeps them out of L1, where B and the sums are. After each product stands a fourth of
/// what else there is to do in a step: the unit is busy for 16 cycles.
macro_rules! multiply {
    ($product:literal, $before:expr, $meanwhile:expr, ($n:ident, $a:ident, $b:ident, $block:ident, $ahead:ident),
     $($operands:tt)*) => {
        asm!(
            $before,
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "2:",
            "tileloaddt1 tmm4, [{a} + {row}]",
            "tileloadd tmm6, [{b0} + {row}]",
            "tileloadd tmm7, [{b1} + {row}]",
            concat!($product, " tmm0, tmm4, tmm6"),
            $meanwhile,
            ask_for_two!("0"),
            "tileloaddt1 tmm5, [{a} + {row} + 1024]",
            concat!($product, " tmm1, tmm4, tmm7"),
            $meanwhile,
            ask_for_two!("128"),
            concat!($product, " tmm2, tmm5, tmm6"),
            $meanwhile,
            ask_for_two!("256"),
            concat!($product, " tmm3, tmm5, tmm7"),
            $meanwhile,
            ask_for_two!("384"),
            "add {a}, 2048",
            "add {b0}, 1024",
            "add {b1}, 1024",
            "add {ahead}, 512",
            "dec {n}",
            "jnz 2b",
            "add {row}, {row}", // a row of products is two lines
            "tilestored [{block} + {row}], tmm0",
            "tilestored [{block} + {row} + 64], tmm1",
            "tilestored [{block} + {row} + 2048], tmm2",
            "tilestored [{block} + {row} + 2112], tmm3",
            a = inout(reg) $a.as_ptr() => _,
            b0 = inout(reg) $b[0].as_ptr() => _,
            b1 = inout(reg) $b[1].as_ptr() => _,
            ahead = inout(reg) $ahead => _,
            n = inout(reg) $n => _,
            block = in(reg) $block.as_mut_ptr(),
            row = inout(reg) size_of::<Line>() => _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            $($operands)*
            options(nostack),
        )
    };
}

/// Where sums are read, what is added to every row, where they go: address, and bytes from a row to the next.
type Places = (*const Products, *const [Line; WIDE], *mut [Line; WIDE], isize);

fn places(goal: Goal<'_>) -> Places {
    match goal {
        Goal::Sums(sums) => {
            let sums = core::ptr::from_mut(sums);
            (sums, &NO_PRODUCTS[0], sums.cast(), size_of::<[Line; WIDE]>() as isize)
        }
        Goal::Rows { from, bias, to } => (from, bias, to.base, to.stride),
    }
}

/// The table of elements `$element`: the instruction that multiplies and the one that adds sums.
macro_rules! tiles {
    ($element:ty, $product:literal, $add:literal) => {
        impl Tiles<$element> for Amx {
            #[inline]
            fn multiply(&mut self, a: &[Pair], b: [&[Tile]; 2], block: &mut Products, meanwhile: Meanwhile<'_>) {
                let n = a.len();
                assert!(b[0].len() == n && b[1].len() == n, "stripes of as many tiles");
                let Meanwhile { settle, ahead } = meanwhile;
                // Of nothing to come, what is here: it costs nothing to ask for it. Nothing is read.
                let next = if ahead.is_empty() { b[0].as_ptr() } else { ahead.as_ptr() };
                match settle {
                    Some((done, goal)) if n == BLOCK => {
                        let (from, bias, to, stride) = places(goal);
                        // SAFETY: tiles are configured for as long as this value lives. `n` tiles of 1,024 bytes are read
                        // from either panel, as many pairs from A, and four written at `block`. Eight steps of four rows
                        // are the 32 of `done`, `from` and `to`. A prefetch may name any address.
                        unsafe {
                            multiply!(
                                $product,
                                "vmovaps zmm1, [{bias}]\nvmovaps zmm2, [{bias} + 64]",
                                settle_row!($add),
                                (n, a, b, block, next),
                                done = inout(reg) done.as_ptr() => _,
                                from = inout(reg) from => _,
                                to = inout(reg) to => _,
                                stride = in(reg) stride,
                                bias = in(reg) bias,
                                out("xmm0") _, out("xmm1") _, out("xmm2") _,
                            );
                        }
                    }
                    settle => {
                        if let Some((done, goal)) = settle {
                            Tiles::<$element>::settle(self, done, goal);
                        }
                        if n == 0 {
                            *block = NO_PRODUCTS;
                        } else {
                            // SAFETY: as above.
                            unsafe { multiply!($product, "", "", (n, a, b, block, next),) };
                        }
                    }
                }
            }

            #[inline]
            fn settle(&mut self, block: &Products, goal: Goal<'_>) {
                let (from, bias, to, stride) = places(goal);
                // SAFETY: where there are tiles there is AVX-512. 32 rows of `done` and `from` are read, of `to` written.
                unsafe {
                    asm!(
                        "vmovaps zmm1, [{bias}]",
                        "vmovaps zmm2, [{bias} + 64]",
                        "2:",
                        settle_row!($add),
                        "dec {n}",
                        "jnz 2b",
                        done = inout(reg) block.as_ptr() => _,
                        from = inout(reg) from => _,
                        to = inout(reg) to => _,
                        stride = in(reg) stride,
                        bias = in(reg) bias,
                        n = inout(reg) TALL => _,
                        out("xmm0") _, out("xmm1") _, out("xmm2") _,
                        options(nostack),
                    );
                }
            }
        }
    };
}

impl Rounds for Amx {
    #[inline(always)]
    fn round(&self, x: &[f32; STEPS], line: &mut Line) {
        // SAFETY: where there are tiles of bfloat16, says that this value was made, there is AVX-512 BF16 too; 128 bytes are
        // read, 64 written.
        unsafe { halves(x.as_ptr(), x.as_ptr().add(LANES), false, line) }
    }

    #[inline(always)]
    fn pair(&self, even: &Floats, odd: &Floats, line: &mut Line) {
        // SAFETY: likewise.
        unsafe { halves(even.as_ptr(), odd.as_ptr(), true, line) }
    }

    #[inline]
    fn panel(&mut self, a: [&[Tile]; 2], b: &[Tile], products: &mut [Tile; 2]) {
        let n = b.len();
        assert!(a.iter().all(|a| a.len() == n), "stripes and a panel of as many tiles");
        if n == 0 {
            *products = [NOTHING; 2];
            return;
        }
        // SAFETY: tiles are configured for as long as this value lives; `n` tiles of 1,024 bytes are read from either stripe
        // and the panel, two written.
        unsafe {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "2:",
                "tileloadd tmm2, [{b} + {row}]",
                "tileloadd tmm3, [{upper} + {row}]",
                "tdpbf16ps tmm0, tmm3, tmm2",
                "tileloadd tmm4, [{lower} + {row}]",
                "tdpbf16ps tmm1, tmm4, tmm2",
                "add {b}, 1024",
                "add {upper}, 1024",
                "add {lower}, 1024",
                "dec {n}",
                "jnz 2b",
                "tilestored [{to} + {row}], tmm0",
                "tilestored [{to} + {row} + 1024], tmm1",
                b = inout(reg) b.as_ptr() => _,
                upper = inout(reg) a[0].as_ptr() => _,
                lower = inout(reg) a[1].as_ptr() => _,
                n = inout(reg) n => _,
                to = in(reg) products.as_mut_ptr(),
                row = in(reg) size_of::<Line>(),
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _, out("tmm4") _,
                options(nostack),
            );
        }
    }
}

/// Sixteen floats and sixteen more as halves, side by side or in turns. The instruction that rounds takes subnormals for 0
/// and makes none, which is right: they are less than 2⁻⁵⁰.
///
/// # Safety
/// The processor has AVX-512 F, BW and BF16; sixteen floats may be read from either, `line` written.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
unsafe fn halves(first: *const f32, last: *const f32, turns: bool, line: &mut Line) {
    /// `vpermw`: lanes 0 and 16, 1 and 17, …
    const TURNS: [u16; 2 * LANES] = {
        let (mut turns, mut i) = ([0; 2 * LANES], 0);
        while i < LANES {
            (turns[2 * i], turns[2 * i + 1]) = (i as u16, (i + LANES) as u16);
            i += 1;
        }
        turns
    };
    // SAFETY: as promised.
    unsafe {
        let (first, last) = (_mm512_loadu_ps(first), _mm512_loadu_ps(last));
        let halves: __m512i;
        asm!("vcvtne2ps2bf16 {0}, {1}, {2}", lateout(zmm_reg) halves, in(zmm_reg) last, in(zmm_reg) first,
            options(nostack, nomem, pure, preserves_flags));
        let size = _mm512_and_si512(halves, _mm512_set1_epi16(0x7fff));
        let least = _mm512_set1_epi16((LEAST.to_bits() >> 16) as i16);
        let mut kept = _mm512_maskz_mov_epi16(_mm512_cmpge_epu16_mask(size, least), halves);
        if turns {
            kept = _mm512_permutexvar_epi16(_mm512_loadu_si512(TURNS.as_ptr().cast()), kept);
        }
        _mm512_store_si512(core::ptr::from_mut(line).cast(), kept);
    }
}

tiles!(Bf16, "tdpbf16ps", "vaddps");
tiles!(Quad, "tdpbsud", "vpaddd");
