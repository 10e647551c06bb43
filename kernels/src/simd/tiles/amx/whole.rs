//! Whole tiles: what else there is to do stands between the instructions that multiply.

use super::super::{
    BLOCK, Chain, End, Goal, Meanwhile, NO_PRODUCTS, NOTHING, Pair, Products, Rounds, Rows, STEPS, TALL,
    Tile, Tiles, WIDE,
};
use super::Amx;
use crate::bf16::LEAST;
use crate::gemm::Bf16;
use crate::int8::Quad;
use crate::simd::Floats;
use crate::{LANES, Line};
use core::arch::asm;
use core::arch::x86_64::*;

/// A row of a block, two lines, to its goal: added to what was before and to the bias, by the instruction `$add`, and stored
/// by `$store`.
macro_rules! settle_row {
    ($add:literal, $store:literal) => {
        concat!(
            sum!($add),
            $store,
            " [{to}], zmm0\n",
            $store,
            " [{to} + 64], zmm3\n",
            "sub {from}, -128\n",
            "sub {done}, -128\n",
            "add {to}, {stride}",
        )
    };
}

/// The same, rounded to bfloat16 on its way; what is less than 2⁻⁵⁰, twice as bits less than zmm4, becomes 0.
macro_rules! settle_row_halves {
    ($store:literal) => {
        concat!(
            sum!("vaddps"),
            "vcvtne2ps2bf16 zmm0, zmm3, zmm0\n",
            "vpaddw zmm3, zmm0, zmm0\n",
            "vpcmpnltuw k1, zmm3, zmm4\n",
            "vmovdqu16 zmm0{{k1}}{{z}}, zmm0\n",
            $store,
            " [{to}], zmm0\n",
            "sub {from}, -128\n",
            "sub {done}, -128\n",
            "add {to}, {stride}",
        )
    };
}

/// Two lines to zmm0 and zmm3.
macro_rules! sum {
    ($add:literal) => {
        concat!(
            "vmovups zmm0, [{from}]\n",
            $add,
            " zmm0, zmm0, [{done}]\n",
            $add,
            " zmm0, zmm0, zmm1\n",
            "vmovups zmm3, [{from} + 64]\n",
            $add,
            " zmm3, zmm3, [{done} + 64]\n",
            $add,
            " zmm3, zmm3, zmm2\n",
        )
    };
}

/// All steps of two stripes and two panels, with the instruction that multiplies. Tiles of A are read once for each pair
/// of panels, from L2: the hint `t1` keeps them out of L1, where B and the sums are. After each product stands a fourth of
/// what else there is to do in a step: the unit is busy for 16 cycles.
macro_rules! multiply {
    ($product:literal, $begin:expr, $meanwhile:expr, ($n:ident, $a:ident, $b:ident, $to:ident, $ahead:ident),
     $($operands:tt)*) => {
        asm!(
            $begin,
            "2:",
            "tileloaddt1 tmm4, [{a} + {row}]",
            "tileloadd tmm6, [{b0} + {row}]",
            "tileloadd tmm7, [{b1} + {row}]",
            concat!($product, " tmm0, tmm4, tmm6"),
            $meanwhile,
            "prefetcht1 [{b0} + {ahead}]\nprefetcht1 [{b0} + {ahead} + 64]",
            "tileloaddt1 tmm5, [{a} + {row} + 1024]",
            concat!($product, " tmm1, tmm4, tmm7"),
            $meanwhile,
            concat!($product, " tmm2, tmm5, tmm6"),
            $meanwhile,
            "prefetcht1 [{b1} + {ahead}]\nprefetcht1 [{b1} + {ahead} + 64]",
            concat!($product, " tmm3, tmm5, tmm7"),
            $meanwhile,
            "add {a}, 2048",
            "add {b0}, 1024",
            "add {b1}, 1024",
            "dec {n}",
            "jnz 2b",
            "vmovq {n}, xmm5",
            "vmovq {row}, xmm6",
            "tilestored [{n} + {row}], tmm0",
            "tilestored [{n} + {row} + 64], tmm1",
            "mov {a}, {row}",
            "shl {a}, 4",
            "add {n}, {a}",
            "tilestored [{n} + {row}], tmm2",
            "tilestored [{n} + {row} + 64], tmm3",
            a = inout(reg) $a.as_ptr() => _,
            b0 = inout(reg) $b[0].as_ptr() => _,
            b1 = inout(reg) $b[1].as_ptr() => _,
            ahead = in(reg) $ahead,
            n = inout(reg) $n => _,
            row = inout(reg) size_of::<Line>() => _,
            in("xmm5") $to.base.addr() as i64,
            in("xmm6") $to.stride as i64,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            $($operands)*
            options(nostack),
        )
    };
}

/// Chains that begin at 0.
macro_rules! from_zero {
    () => {
        "tilezero tmm0\ntilezero tmm1\ntilezero tmm2\ntilezero tmm3"
    };
}

/// What rows that are settled take: the bias of two panels, and [`LEAST_TWICE`].
macro_rules! for_rows {
    () => {
        concat!(
            "vmovaps zmm1, [{bias}]\n",
            "vmovaps zmm2, [{bias} + 64]\n",
            "mov {bias:e}, 0x4d00\n",
            "vpbroadcastw zmm4, {bias:e}\n",
        )
    };
}

/// Chains that begin with sums at `from`, whose rows are two lines.
macro_rules! from_sums {
    () => {
        concat!(
            "tileloadd tmm0, [{from} + 2*{row}]\n",
            "tileloadd tmm1, [{from} + 2*{row} + 64]\n",
            "tileloadd tmm2, [{from} + 2*{row} + 2048]\n",
            "tileloadd tmm3, [{from} + 2*{row} + 2112]",
        )
    };
}

/// Where sums are read, what is added to every row, where they go: address, and bytes from a row to the next.
type Places<T> = (*const Products, *const [Line; WIDE], *mut [T; WIDE * LANES], isize);

/// A goal, as the instructions that reach it differ.
enum Way {
    Rows(Places<f32>),
    RowsPast(Places<f32>),
    Halves(Places<Bf16>),
    HalvesPast(Places<Bf16>),
}

impl Way {
    #[inline(always)]
    fn to(goal: Goal<'_>, rounds: bool) -> Way {
        match goal {
            Goal::Sums(sums) => {
                let to = Rows::of(sums);
                Way::Rows((to.base.cast(), &NO_PRODUCTS[0], to.base, to.stride))
            }
            Goal::Rows(End { from, bias, past }, to) => {
                let places = (core::ptr::from_ref(from), core::ptr::from_ref(bias), to.base, to.stride);
                if past && are_lines(&to) { Way::RowsPast(places) } else { Way::Rows(places) }
            }
            Goal::Halves(End { from, bias, past }, to) => {
                assert!(rounds, "integers are not rounded");
                let places = (core::ptr::from_ref(from), core::ptr::from_ref(bias), to.base, to.stride);
                if past && are_lines(&to) { Way::HalvesPast(places) } else { Way::Halves(places) }
            }
        }
    }
}

/// What a bfloat16 and itself, as integers, are not less than where it is not less than 2⁻⁵⁰.
const LEAST_TWICE: u32 = LEAST.to_bits() >> 15;
const _: () = assert!(LEAST_TWICE == 0x4d00, "as in `for_rows`");

/// Multiplies, and settles a row after each product.
macro_rules! multiply_and_settle {
    ($product:literal, $row:expr, $places:expr,
     ($n:ident, $a:ident, $b:ident, $to:ident, $ahead:ident, $done:ident)) => {{
        let (from, bias, goal, stride) = $places;
        // SAFETY: tiles are configured for as long as this value lives. `n` tiles of 1,024 bytes are read from either
        // panel, as many pairs from A, and 32 rows of two lines written at `to`. Eight steps of four rows are the 32 of
        // `done`, `from` and the goal. A prefetch may name any address.
        unsafe {
            multiply!(
                $product,
                concat!(for_rows!(), from_zero!()),
                $row,
                ($n, $a, $b, $to, $ahead),
                done = inout(reg) $done.as_ptr() => _,
                from = inout(reg) from => _,
                to = inout(reg) goal => _,
                stride = in(reg) stride,
                bias = inout(reg) bias => _,
                out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _, out("k1") _,
            );
        }
    }};
}

/// Settles all rows of a block.
macro_rules! settle_rows {
    ($row:expr, $places:expr, $done:ident) => {{
        let (from, bias, to, stride) = $places;
        // SAFETY: where there are tiles there is AVX-512. 32 rows of `done` and `from` are read, of the goal written.
        unsafe {
            asm!(
                for_rows!(),
                "2:",
                $row,
                "dec {n}",
                "jnz 2b",
                done = inout(reg) $done.as_ptr() => _,
                from = inout(reg) from => _,
                to = inout(reg) to => _,
                stride = in(reg) stride,
                bias = inout(reg) bias => _,
                n = inout(reg) TALL => _,
                out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _, out("k1") _,
                options(nostack),
            );
        }
    }};
}

/// The table of elements `$element`: the instruction that multiplies, the one that adds sums, and whether these can be
/// rounded.
macro_rules! tiles {
    ($element:ty, $product:literal, $add:literal, $rounds:literal) => {
        impl Tiles<$element> for Amx {
            // Inline, or what says where sums go would lie on the stack, in pieces that are not read as they were written: it
            // would wait for all of C that is on its way to memory.
            #[inline(always)]
            fn multiply(&mut self, a: &[Pair], b: [&[Tile]; 2], chain: Chain<'_>, meanwhile: Meanwhile<'_>) {
                let n = a.len();
                assert!(b[0].len() == n && b[1].len() == n, "stripes of as many tiles");
                let Meanwhile { mut settle, ahead } = meanwhile;
                // Of nothing to come, what is here: it costs nothing to ask for it. Nothing is read.
                let (ahead, line) = ahead;
                let far = if ahead.is_empty() { 0 } else { ahead.as_ptr().addr().wrapping_sub(b[0].as_ptr().addr()) };
                let next = far.wrapping_add(line * size_of::<Line>());
                let (from, to) = match chain {
                    Chain::New(to) => (None, to),
                    Chain::On(sums) => (Some(core::ptr::from_ref(sums)), Rows::of(sums)),
                    Chain::End(from, to) => (Some(core::ptr::from_ref(from)), to),
                };
                if n == BLOCK
                    && from.is_none()
                    && let Some((done, goal)) = settle.take()
                {
                    return match Way::to(goal, $rounds) {
                        Way::Rows(places) => multiply_and_settle!(
                            $product, settle_row!($add, "vmovups"), places, (n, a, b, to, next, done)
                        ),
                        Way::RowsPast(places) => multiply_and_settle!(
                            $product, settle_row!($add, "vmovntps"), places, (n, a, b, to, next, done)
                        ),
                        Way::Halves(places) => multiply_and_settle!(
                            $product, settle_row_halves!("vmovups"), places, (n, a, b, to, next, done)
                        ),
                        Way::HalvesPast(places) => multiply_and_settle!(
                            $product, settle_row_halves!("vmovntps"), places, (n, a, b, to, next, done)
                        ),
                    };
                }
                if let Some((done, goal)) = settle {
                    Tiles::<$element>::settle(self, done, goal);
                }
                // SAFETY: tiles are configured for as long as this value lives. `n` tiles of 1,024 bytes are read from
                // either panel, as many pairs from A; 32 rows of two lines are read at `from` and written at `to`. A
                // prefetch may name any address.
                unsafe {
                    match from {
                        _ if n == 0 => no_step(from, to),
                        None => multiply!($product, from_zero!(), "", (n, a, b, to, next),),
                        Some(from) => {
                            multiply!($product, from_sums!(), "", (n, a, b, to, next), from = in(reg) from,);
                        }
                    }
                }
            }

            #[inline(always)]
            fn settle(&mut self, block: &Products, goal: Goal<'_>) {
                match Way::to(goal, $rounds) {
                    Way::Rows(places) => settle_rows!(settle_row!($add, "vmovups"), places, block),
                    Way::RowsPast(places) => settle_rows!(settle_row!($add, "vmovntps"), places, block),
                    Way::Halves(places) => settle_rows!(settle_row_halves!("vmovups"), places, block),
                    Way::HalvesPast(places) => settle_rows!(settle_row_halves!("vmovntps"), places, block),
                }
            }
        }
    };
}

/// A chain without a step.
///
/// # Safety
/// `from` may be read.
unsafe fn no_step(from: Option<*const Products>, mut to: Rows<'_>) {
    for i in 0..TALL {
        // SAFETY: as promised; C may be there, which nothing else borrows: copied before it is written.
        let row = from.map_or([Line::ZERO; WIDE], |from| unsafe { (*from)[i] });
        to.row(i).copy_from_slice(Line::floats(&row));
    }
}

impl Rounds for Amx {
    #[inline(always)]
    fn round(&self, x: &[f32; STEPS], line: &mut Line) {
        // SAFETY: where there are tiles of bfloat16, says that this value was made, there is AVX-512 BF16 too; 128 bytes are
        // read, 64 written.
        unsafe { halves(x.as_ptr(), x.as_ptr().add(LANES), false, line) }
    }

    #[inline(always)]
    fn clear(&self, x: &[Bf16; STEPS], line: &mut Line) {
        // SAFETY: likewise; 64 bytes are read.
        unsafe { store_cleared(_mm512_loadu_si512(x.as_ptr().cast()), line) }
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
        let in_turns = _mm512_permutexvar_epi16(_mm512_loadu_si512(TURNS.as_ptr().cast()), halves);
        store_cleared(if turns { in_turns } else { halves }, line);
    }
}

/// Stores bfloat16; what is less than 2⁻⁵⁰ becomes 0.
///
/// # Safety
/// The processor has AVX-512 F and BW.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
unsafe fn store_cleared(halves: __m512i, line: &mut Line) {
    let (twice, least) = (_mm512_add_epi16(halves, halves), _mm512_set1_epi16(LEAST_TWICE as i16));
    let kept = _mm512_maskz_mov_epi16(_mm512_cmpge_epu16_mask(twice, least), halves);
    // SAFETY: a line is 64 bytes, as aligned.
    unsafe { _mm512_store_si512(core::ptr::from_mut(line).cast(), kept) };
}

tiles!(Bf16, "tdpbf16ps", "vaddps", true);
tiles!(Quad, "tdpbsud", "vpaddd", false);

/// Whether all rows are whole lines of memory.
fn are_lines<T>(rows: &Rows<'_, T>) -> bool {
    let line = size_of::<Line>() as isize;
    rows.base.addr().is_multiple_of(line as usize) && rows.stride % line == 0
}
