//! What the machine can do at most, in the same run: multiply-adds from registers, bytes read and copied.

use crate::{Job, Output, cpu, job, pool};
use samebits::bench::peak::{Access, Arithmetic, Memory, Store};
use samebits::kernels::Line;

/// Steps of each chain: some twenty microseconds.
const STEPS: usize = 4096;

/// Independent multiply-add chains on every thread. `operations` receives what one repetition does.
///
/// # Safety
/// `operations` must be valid to write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peers_peak(operations: *mut f64) -> *mut Job {
    let threads = pool().threads();
    let once = cpu().run(Arithmetic { steps: STEPS });
    unsafe { operations.write(once * threads as f64 * 8.0) };
    job(move || {
        pool().run(0..threads, |_, _| {
            for _ in 0..8 {
                cpu().run(Arithmetic { steps: STEPS });
            }
        });
    })
}

/// Reads (or, with `copy`, reads one half and writes the other) `lines` of 64 bytes, cut among the threads.
///
/// # Safety
/// `at` must be valid for `lines` aligned lines as long as the job lives.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peers_memory(at: *mut Line, lines: usize, copy: bool) -> *mut Job {
    let access = if copy { Access::Copy } else { Access::Read };
    let store = if lines > 1 << 16 { Store::Streamed } else { Store::Cached };
    let mut buffer = Output { at, len: lines };
    job(move || {
        let share = lines.div_ceil(pool().threads());
        pool().run(buffer.slice().chunks_mut(share), |lines, _| {
            cpu().run(Memory { lines, access, store, passes: 1 });
        });
    })
}
