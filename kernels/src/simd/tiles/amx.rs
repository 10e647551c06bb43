//! Intel's AMX: eight tiles, by assembler, since the language does not know them yet.
//!
//! ```text
//!   tmm0 C₀₀   tmm1 C₀₁   tmm4 A₀   tmm6 B₀        a step: four tiles read, four products of 16 cycles each
//!   tmm2 C₁₀   tmm3 C₁₁   tmm5 A₁   tmm7 B₁        tdpbf16ps 32 steps of k, tdpbsud and tdpbssd 64 codes
//! ```
//!
//! A system saves tiles for those processes alone that asked for it: [`permitted`] asks. What is in the tiles never
//! outlives a block of assembler; their shapes do, from [`Amx::assume`] until the value is dropped, which tells the
//! processor that there is nothing to save any more.

use super::{Half, Halves, NOTHING, Plain, Sums, Tile, Tiles, count};
use crate::gemm::Bf16;
use crate::int8::{BLOCK, Quad};
use crate::{LANES, Line};
use core::arch::asm;
use core::sync::atomic::{AtomicU8, Ordering};

/// The unit, configured for whole tiles, for this thread.
///
/// ```
/// use samebits_kernels::simd::tiles::{Amx, NOTHING, Plain, Tiles};
/// use samebits_kernels::{Cpu, Line, gemm::Bf16};
/// if Cpu::detect().features().amx_bf16 {
///     // SAFETY: detected.
///     let mut unit = unsafe { Amx::assume() };
///     let (tile, mut sums, mut plain) = ([Line([1.5; 16]); 16], [NOTHING; 4], [NOTHING; 4]);
///     Tiles::<Bf16>::add(&mut unit, [&[tile]; 2], [&[tile]; 2], &mut sums);
///     Tiles::<Bf16>::add(&mut Plain, [&[tile]; 2], [&[tile]; 2], &mut plain);
///     assert!(sums == plain);
/// }
/// ```
#[derive(Debug)]
pub struct Amx {
    /// Tiles belong to a thread.
    _here: core::marker::PhantomData<*mut ()>,
}

/// What `ldtilecfg` reads (Intel SDM vol. 1, 18.2): palette 1; bytes of a row of each tile; rows of each.
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Shapes {
    /// Eight tiles of sixteen rows of 64 bytes.
    const WHOLE: Shapes = Shapes::new([(16, 64); 8]);
    /// The same sums; sixteen rows of 32 bytes of A, eight of 64 of B.
    const HALVES: Shapes =
        Shapes::new([(16, 64), (16, 64), (16, 64), (16, 64), (16, 32), (16, 32), (8, 64), (8, 64)]);

    const fn new(tiles: [(u8, u16); 8]) -> Shapes {
        let (mut row_bytes, mut rows) = ([0; 16], [0; 16]);
        let mut i = 0;
        while i < 8 {
            (rows[i], row_bytes[i]) = tiles[i];
            i += 1;
        }
        Shapes { palette: 1, start_row: 0, reserved: [0; 14], row_bytes, rows }
    }
}

impl Amx {
    /// Configures the tiles of this thread.
    ///
    /// # Safety
    /// The processor has AMX-TILE and the extra of what is multiplied (AMX-BF16, AMX-INT8), the system saves their state,
    /// and this process may use them.
    pub unsafe fn assume() -> Amx {
        // SAFETY: the caller's promise.
        unsafe { Amx::configured(&Shapes::WHOLE) }
    }

    /// # Safety
    /// As [`Amx::assume`].
    unsafe fn configured(shapes: &Shapes) -> Amx {
        // SAFETY: the caller's promise; 64 bytes are read.
        unsafe {
            asm!("ldtilecfg [{0}]", in(reg) shapes, options(nostack, readonly, preserves_flags));
        }
        Amx { _here: core::marker::PhantomData }
    }
}

impl Drop for Amx {
    fn drop(&mut self) {
        // SAFETY: tiles are there, says that this value was made.
        unsafe { asm!("tilerelease", options(nostack, nomem, preserves_flags)) };
    }
}

/// The body of [`Tiles::add`] with the instruction that multiplies.
macro_rules! add {
    ($product:literal, $a:ident, $b:ident, $sums:ident) => {{
        let n = count($a, $b);
        if n == 0 {
            return;
        }
        // SAFETY: tiles are configured for as long as this value lives. `n` tiles of 1,024 bytes are read from each of the
        // four stripes, which have so many; four are read and written at `sums`.
        unsafe {
            asm!(
                "tileloadd tmm0, [{sums} + {row}]",
                "tileloadd tmm1, [{sums} + {row} + 1024]",
                "tileloadd tmm2, [{sums} + {row} + 2048]",
                "tileloadd tmm3, [{sums} + {row} + 3072]",
                "2:",
                "tileloadd tmm4, [{a0} + {row}]",
                "tileloadd tmm6, [{b0} + {row}]",
                "tileloadd tmm7, [{b1} + {row}]",
                concat!($product, " tmm0, tmm4, tmm6"),
                "tileloadd tmm5, [{a1} + {row}]",
                concat!($product, " tmm1, tmm4, tmm7"),
                concat!($product, " tmm2, tmm5, tmm6"),
                concat!($product, " tmm3, tmm5, tmm7"),
                "add {a0}, 1024",
                "add {a1}, 1024",
                "add {b0}, 1024",
                "add {b1}, 1024",
                "dec {n}",
                "jnz 2b",
                "tilestored [{sums} + {row}], tmm0",
                "tilestored [{sums} + {row} + 1024], tmm1",
                "tilestored [{sums} + {row} + 2048], tmm2",
                "tilestored [{sums} + {row} + 3072], tmm3",
                a0 = inout(reg) $a[0].as_ptr() => _,
                a1 = inout(reg) $a[1].as_ptr() => _,
                b0 = inout(reg) $b[0].as_ptr() => _,
                b1 = inout(reg) $b[1].as_ptr() => _,
                n = inout(reg) n => _,
                sums = in(reg) $sums.as_mut_ptr(),
                row = in(reg) size_of::<Line>(),
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }};
}

impl Tiles<Bf16> for Amx {
    #[inline]
    fn add(&mut self, a: [&[Tile]; 2], b: [&[Tile]; 2], sums: &mut Sums) {
        add!("tdpbf16ps", a, b, sums);
    }
}

impl Tiles<Quad> for Amx {
    #[inline]
    fn add(&mut self, a: [&[Tile]; 2], b: [&[Tile]; 2], sums: &mut Sums) {
        add!("tdpbsud", a, b, sums);
    }
}

/// The unit, configured for half tiles of codes, for this thread.
///
/// ```
/// use samebits_kernels::simd::tiles::{AmxHalves, Halves, NOTHING, Plain};
/// use samebits_kernels::{Cpu, Line};
/// if Cpu::detect().features().amx_int8 {
///     // SAFETY: detected.
///     let mut unit = unsafe { AmxHalves::assume() };
///     let (half, mut sums, mut plain) = ([Line([1.5; 16]); 8], [[NOTHING; 4]], [[NOTHING; 4]]);
///     unit.multiply([&[half]; 2], [&[half]; 2], &mut sums);
///     Plain.multiply([&[half]; 2], [&[half]; 2], &mut plain);
///     assert!(sums == plain);
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

impl Halves for AmxHalves {
    #[inline]
    fn multiply(&mut self, a: [&[Half]; 2], b: [&[Half]; 2], sums: &mut [Sums]) {
        let n = count(a, b);
        assert!(n == sums.len(), "sums of each half tile");
        if n == 0 {
            return;
        }
        // SAFETY: tiles are configured for as long as this value lives. `n` half tiles of 512 bytes are read from each of
        // the four stripes, which have so many; 4 `n` tiles of 1,024 bytes are written at `sums`.
        unsafe {
            asm!(
                "2:",
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "tileloadd tmm4, [{a0} + {of_a}]",
                "tileloadd tmm6, [{b0} + {row}]",
                "tileloadd tmm7, [{b1} + {row}]",
                "tdpbssd tmm0, tmm4, tmm6",
                "tileloadd tmm5, [{a1} + {of_a}]",
                "tdpbssd tmm1, tmm4, tmm7",
                "tdpbssd tmm2, tmm5, tmm6",
                "tdpbssd tmm3, tmm5, tmm7",
                "tilestored [{sums} + {row}], tmm0",
                "tilestored [{sums} + {row} + 1024], tmm1",
                "tilestored [{sums} + {row} + 2048], tmm2",
                "tilestored [{sums} + {row} + 3072], tmm3",
                "add {a0}, 512",
                "add {a1}, 512",
                "add {b0}, 512",
                "add {b1}, 512",
                "add {sums}, 4096",
                "dec {n}",
                "jnz 2b",
                a0 = inout(reg) a[0].as_ptr() => _,
                a1 = inout(reg) a[1].as_ptr() => _,
                b0 = inout(reg) b[0].as_ptr() => _,
                b1 = inout(reg) b[1].as_ptr() => _,
                n = inout(reg) n => _,
                sums = inout(reg) sums.as_mut_ptr() => _,
                row = in(reg) size_of::<Line>(),
                of_a = in(reg) BLOCK,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }
}

/// Numbers for a trial, always the same.
struct Trial(u32);

impl Trial {
    fn bits(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        self.0
    }

    /// A bfloat16 of any of 80 sizes.
    fn half(&mut self) -> u32 {
        let bits = self.bits();
        let (sign, fraction, exponent) = (bits >> 31 << 15, bits >> 8 & 0x7f, 87 + (bits >> 16) % 80);
        sign | exponent << 7 | fraction
    }

    /// Two bytes of any value.
    fn bytes(&mut self) -> u32 {
        self.bits() >> 16
    }

    fn tile<const ROWS: usize>(&mut self, two: fn(&mut Trial) -> u32) -> [Line; ROWS] {
        let mut word = || f32::from_bits(two(self) | two(self) << 16);
        core::array::from_fn(|_| Line(core::array::from_fn(|_| word())))
    }

    /// Two tiles for each of two stripes, of A, then of B.
    fn stripes<const ROWS: usize>(&mut self, two: fn(&mut Trial) -> u32) -> [[[Line; ROWS]; 2]; 4] {
        core::array::from_fn(|_| core::array::from_fn(|_| self.tile(two)))
    }
}

/// What a trial found. It is made once for a process and its answer never changes, so that it is no matter who asks first:
/// [`Plain`] takes a millisecond, and detection may be asked for often.
struct Tried(AtomicU8);

impl Tried {
    const UNKNOWN: u8 = 0;
    const NO: u8 = 1;
    const YES: u8 = 2;

    fn or_try(&self, trial: impl FnOnce() -> bool) -> bool {
        if self.0.load(Ordering::Relaxed) == Tried::UNKNOWN {
            self.0.store(if trial() { Tried::YES } else { Tried::NO }, Ordering::Relaxed);
        }
        self.0.load(Ordering::Relaxed) == Tried::YES
    }
}

/// Whether the unit does what [`Plain`] says, tried once on numbers of many sizes: a unit that rounds otherwise, or a
/// system that saves nothing, must not change a result.
///
/// # Safety
/// As [`Amx::assume`], with AMX-BF16.
pub(crate) unsafe fn agrees_bf16() -> bool {
    static TRIED: Tried = Tried(AtomicU8::new(Tried::UNKNOWN));
    // SAFETY: the caller's promise.
    TRIED.or_try(|| agree::<Bf16>(unsafe { Amx::assume() }, Trial::half))
}

/// The same of codes, in whole tiles and in halves.
///
/// # Safety
/// As [`Amx::assume`], with AMX-INT8.
pub(crate) unsafe fn agrees_codes() -> bool {
    static TRIED: Tried = Tried(AtomicU8::new(Tried::UNKNOWN));
    // SAFETY: the caller's promise.
    TRIED.or_try(|| unsafe { codes_agree() })
}

/// # Safety
/// As [`agrees_codes`].
unsafe fn codes_agree() -> bool {
    // SAFETY: the caller's promise. One unit is released before the next is configured.
    let whole = agree::<Quad>(unsafe { Amx::assume() }, Trial::bytes);
    let [a0, a1, b0, b1] = Trial(1).stripes(Trial::bytes);
    let (mut got, mut want) = ([[NOTHING; 4]; 2], [[NOTHING; 4]; 2]);
    // SAFETY: the caller's promise.
    unsafe { AmxHalves::assume() }.multiply([&a0, &a1], [&b0, &b1], &mut got);
    Plain.multiply([&a0, &a1], [&b0, &b1], &mut want);
    whole && got.iter().zip(&want).all(|(got, want)| same(got, want))
}

fn agree<E>(mut unit: impl Tiles<E>, two: fn(&mut Trial) -> u32) -> bool
where
    Plain: Tiles<E>,
{
    let [a0, a1, b0, b1] = Trial(1).stripes(two);
    let (mut got, mut want) = ([NOTHING; 4], [NOTHING; 4]);
    unit.add([&a0, &a1], [&b0, &b1], &mut got);
    Plain.add([&a0, &a1], [&b0, &b1], &mut want);
    same(&got, &want)
}

/// Equal bits.
fn same(got: &Sums, want: &Sums) -> bool {
    let bits = |sums: &Sums, i: usize| Line::floats(sums.as_flattened())[i].to_bits();
    (0..4 * LANES * LANES).all(|i| bits(got, i) == bits(want, i))
}

/// Whether this process may use tiles: asks the system, which says yes or no once and for all its threads.
///
/// Without a system the state that XCR0 names is all there is to ask for. Of other systems nothing is known: no.
pub(crate) fn permitted() -> bool {
    #[cfg(target_os = "linux")]
    {
        const ARCH_PRCTL: isize = 158;
        const REQUEST_PERMISSION: usize = 0x1023;
        const TILE_DATA: usize = 18;
        let mut result = ARCH_PRCTL;
        // SAFETY: a call of the system that touches no memory; `syscall` itself writes rcx and r11.
        unsafe {
            asm!("syscall", inout("rax") result, in("rdi") REQUEST_PERMISSION, in("rsi") TILE_DATA,
                out("rcx") _, out("r11") _, options(nostack));
        }
        result == 0
    }
    #[cfg(not(target_os = "linux"))]
    {
        cfg!(target_os = "none")
    }
}
