//! A program's start on Linux with nothing of the standard library but the C library's `write` and `exit`, and its end.

use crate::{ARENA, program};
use core::ffi::{c_int, c_void};
use core::fmt::Write;
use samebits::Cpu;
use samebits::arena::Arena;
use samebits::kernels::Line;

#[global_allocator]
static HEAP: Arena = Arena::empty();

static mut MEMORY: [Line; ARENA] = [Line::ZERO; ARENA];

#[link(name = "c")]
unsafe extern "C" {
    fn write(file: c_int, bytes: *const c_void, n: usize) -> isize;
    fn exit(code: c_int) -> !;
}

/// Standard output, or standard error.
struct Out(c_int);

impl Write for Out {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            // SAFETY: the system reads as many bytes as there are.
            let n = unsafe { write(self.0, rest.as_ptr().cast(), rest.len()) };
            rest = usize::try_from(n)
                .ok()
                .filter(|&n| n > 0)
                .and_then(|n| rest.get(n..))
                .ok_or(core::fmt::Error)?;
        }
        Ok(())
    }
}

#[unsafe(no_mangle)]
extern "C" fn main() -> c_int {
    // SAFETY: this runs once, and nobody else names the memory.
    HEAP.give(unsafe { &mut *(&raw mut MEMORY) });
    match program(Cpu::detect(), &HEAP, &mut Out(1)) {
        Ok(()) => 0,
        Err(e) => {
            let _ = writeln!(Out(2), "failed: {e}");
            1
        }
    }
}

/// The library that `alloc` is linked from was made to unwind; here nothing does, but its code names these two.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// See [`rust_eh_personality`].
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    // SAFETY: nothing runs after it.
    unsafe { exit(3) }
}

#[panic_handler]
fn panicked(info: &core::panic::PanicInfo<'_>) -> ! {
    let _ = writeln!(Out(2), "{info}");
    // SAFETY: nothing runs after it.
    unsafe { exit(3) }
}
