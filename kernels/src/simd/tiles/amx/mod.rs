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

use core::arch::asm;

mod halves;
mod trial;
mod whole;
pub use halves::AmxHalves;
pub(crate) use trial::{agrees_bf16, agrees_codes};

/// The unit, configured for whole tiles, for this thread.
///
/// ```
/// use samebits_kernels::simd::tiles::{Amx, Chain, Meanwhile, NO_PRODUCTS, Plain, Rows, Tiles};
/// use samebits_kernels::{Cpu, Line, gemm::Bf16};
/// if Cpu::detect().features().amx_bf16 {
///     // SAFETY: detected.
///     let mut unit = unsafe { Amx::assume() };
///     let (tile, mut block, mut plain) = ([Line([1.5; 16]); 16], NO_PRODUCTS, NO_PRODUCTS);
///     let (a, b) = ([[tile; 2]], [tile]);
///     let to = Chain::New(Rows::of(&mut block));
///     Tiles::<Bf16>::multiply(&mut unit, &a, [&b, &b], to, Meanwhile::NOTHING);
///     let to = Chain::New(Rows::of(&mut plain));
///     Tiles::<Bf16>::multiply(&mut Plain, &a, [&b, &b], to, Meanwhile::NOTHING);
///     assert!(block == plain);
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
    /// The processor has AVX-512 F and BW, AMX-TILE and the extra of what is multiplied (AMX-BF16 with AVX-512 BF16,
    /// AMX-INT8), the system saves their state, and this process may use them.
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
        // What went past the caches is in order with what another thread is told next.
        // SAFETY: tiles are there, says that this value was made.
        unsafe { asm!("tilerelease", "sfence", options(nostack, preserves_flags)) };
    }
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
