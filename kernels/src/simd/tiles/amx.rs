//! Intel's AMX: eight tiles, by assembler, since the language does not know them yet.
//!
//! ```text
//!   tmm0 C₀₀   tmm1 C₀₁   tmm4 A₀   tmm6 B₀        32 steps: four tiles read, four tdpbf16ps of 16 cycles each
//!   tmm2 C₁₀   tmm3 C₁₁   tmm5 A₁   tmm7 B₁
//! ```
//!
//! A system saves tiles for those processes alone that asked for it: [`permitted`] asks. What is in the tiles never
//! outlives a block of assembler; that they have sixteen rows of 64 bytes does, from [`Amx::assume`] until the value is
//! dropped, which tells the processor that there is nothing to save any more.

use super::{Plain, Sums, Tile, Tiles, count};
use crate::Line;
use core::arch::asm;

/// The unit, configured, for this thread.
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
    const WHOLE: Shapes = {
        let (mut row_bytes, mut rows) = ([0; 16], [0; 16]);
        let mut i = 0;
        while i < 8 {
            (row_bytes[i], rows[i]) = (64, 16);
            i += 1;
        }
        Shapes { palette: 1, start_row: 0, reserved: [0; 14], row_bytes, rows }
    };
}

impl Amx {
    /// Configures the tiles of this thread.
    ///
    /// # Safety
    /// The processor has AMX-TILE and AMX-BF16, the system saves their state, and this process may use them.
    pub unsafe fn assume() -> Amx {
        // SAFETY: the caller's promise; 64 bytes are read.
        unsafe {
            asm!("ldtilecfg [{0}]", in(reg) &Shapes::WHOLE, options(nostack, readonly, preserves_flags));
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

impl Tiles for Amx {
    #[inline]
    fn add_bf16(&mut self, a: [&[Tile]; 2], b: [&[Tile]; 2], sums: &mut Sums) {
        let n = count(a, b);
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
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm5, [{a1} + {row}]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
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
                a0 = inout(reg) a[0].as_ptr() => _,
                a1 = inout(reg) a[1].as_ptr() => _,
                b0 = inout(reg) b[0].as_ptr() => _,
                b1 = inout(reg) b[1].as_ptr() => _,
                n = inout(reg) n => _,
                sums = in(reg) sums.as_mut_ptr(),
                row = in(reg) size_of::<Line>(),
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }
}

/// Whether the unit does what [`Plain`] says, tried once on numbers of many sizes: a unit that rounds otherwise, or a
/// system that saves nothing, must not change a result.
///
/// # Safety
/// As [`Amx::assume`].
pub(crate) unsafe fn agrees() -> bool {
    let mut state = 1u32;
    let mut tile = || -> Tile {
        let mut half = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let (sign, fraction, exponent) = (state >> 31 << 15, state >> 8 & 0x7f, 87 + (state >> 16) % 80);
            sign | exponent << 7 | fraction
        };
        core::array::from_fn(|_| Line(core::array::from_fn(|_| f32::from_bits(half() | half() << 16))))
    };
    let [a0, a1, b0, b1] = [[tile(), tile()], [tile(), tile()], [tile(), tile()], [tile(), tile()]];
    let (mut got, mut want) = ([[Line::ZERO; 16]; 4], [[Line::ZERO; 16]; 4]);
    // SAFETY: the caller's promise.
    unsafe { Amx::assume() }.add_bf16([&a0, &a1], [&b0, &b1], &mut got);
    Plain.add_bf16([&a0, &a1], [&b0, &b1], &mut want);
    let (got, want) = (Line::floats(got.as_flattened()), Line::floats(want.as_flattened()));
    got.iter().zip(want).all(|(got, want)| got.to_bits() == want.to_bits())
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
