//! What a program does between its start and its end, and its words to the debugger, or to QEMU, which plays one: Arm's
//! *Semihosting for AArch32 and AArch64*.

use crate::{ARENA, program};
use core::fmt::Write;
use samebits::Cpu;
use samebits::arena::Arena;
use samebits::kernels::Line;

#[global_allocator]
static HEAP: Arena = Arena::empty();

static mut MEMORY: [Line; ARENA] = [Line::ZERO; ARENA];

const WRITEC: usize = 0x03;
const EXIT_EXTENDED: usize = 0x20;
const APPLICATION_EXIT: usize = 0x20026;

/// Asks the host for `operation`.
fn call(operation: usize, argument: *const usize) {
    // SAFETY: the host reads what the argument points to, and changes registers that are named.
    #[cfg(target_arch = "arm")]
    unsafe {
        core::arch::asm!("bkpt #0xab", inout("r0") operation => _, in("r1") argument, options(nostack));
    }
    // SAFETY: likewise.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        core::arch::asm!("hlt #0xf000", inout("x0") operation => _, in("x1") argument, options(nostack));
    }
}

/// The host's console.
pub struct Host;

impl Write for Host {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        for byte in text.bytes() {
            call(WRITEC, (&raw const byte).cast());
        }
        Ok(())
    }
}

/// Ends the machine.
pub fn exit(code: usize) -> ! {
    call(EXIT_EXTENDED, [APPLICATION_EXIT, code].as_ptr());
    loop {
        core::hint::spin_loop();
    }
}

#[unsafe(no_mangle)]
extern "C" fn main() -> ! {
    // SAFETY: this runs once, and nobody else names the memory.
    HEAP.give(unsafe { &mut *(&raw mut MEMORY) });
    match program(Cpu::detect(), &HEAP, &mut Host) {
        Ok(()) => exit(0),
        Err(e) => {
            let _ = writeln!(Host, "failed: {e}");
            exit(1)
        }
    }
}

#[panic_handler]
fn panicked(info: &core::panic::PanicInfo<'_>) -> ! {
    let _ = writeln!(Host, "{info}");
    exit(3)
}
