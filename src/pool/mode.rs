//! The floating-point mode of a thread: rounding and flushing, as `MXCSR` (x86) or `FPCR` (ARM) say.
//!
//! Only the bits that change results are looked at: rounding direction, flush to zero, denormals are zero.

use std::thread;

/// `MXCSR`: flush to zero (15), rounding (14, 13), denormals are zero (6).
#[cfg(target_arch = "x86_64")]
const MASK: u32 = 0xe040;

/// `FPCR`: flush to zero (24), rounding (23, 22), flush half precision (19).
#[cfg(target_arch = "aarch64")]
const MASK: u64 = 0x01c8_0000;

#[cfg(target_arch = "x86_64")]
fn read() -> u32 {
    let mut mxcsr = 0u32;
    // SAFETY: stores the 32 bits of MXCSR into a local; SSE is part of x86-64.
    unsafe {
        std::arch::asm!("stmxcsr [{}]", in(reg) &raw mut mxcsr, options(nostack, preserves_flags));
    }
    mxcsr
}

#[cfg(target_arch = "aarch64")]
fn read() -> u64 {
    let fpcr: u64;
    // SAFETY: reads a register that user code may read.
    unsafe { std::arch::asm!("mrs {}, fpcr", out(reg) fpcr, options(nomem, nostack, preserves_flags)) };
    fpcr
}

/// Whether this thread computes as IEEE 754 does by default.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub fn is_default() -> bool {
    read() & MASK == 0
}

/// Whether this thread computes as IEEE 754 does by default: not known to be otherwise.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub fn is_default() -> bool {
    true
}

/// Back to the default mode, for a thread of the pool's own at its birth; never called on a caller's.
pub fn set_default() {
    if is_default() {
        return;
    }
    #[cfg(target_arch = "x86_64")]
    {
        let mxcsr = read() & !MASK;
        // SAFETY: the value is a former MXCSR with bits cleared, so no reserved bit is set.
        unsafe {
            std::arch::asm!("ldmxcsr [{}]", in(reg) &raw const mxcsr, options(nostack, readonly));
        }
    }
    #[cfg(target_arch = "aarch64")]
    {
        let fpcr = read() & !MASK;
        // SAFETY: a former FPCR with bits cleared.
        unsafe { std::arch::asm!("msr fpcr, {}", in(reg) fpcr, options(nomem, nostack)) };
    }
}

/// Runs `f` in a new thread in the default mode, and goes on with its panic if it panics.
///
/// # Panics
/// Where the system refuses the thread: to go on in this one would change results in silence.
pub fn in_default_thread(f: impl FnOnce() + Send) {
    let run = || {
        set_default();
        f();
    };
    thread::scope(|scope| {
        let spawned = thread::Builder::new().spawn_scoped(scope, run);
        let thread = spawned.expect("a thread, for the caller flushes subnormals or rounds otherwise");
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}
