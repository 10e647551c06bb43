//! The C interface: what `samebits.h` declares, and that header explains.
//!
//! ```text
//!   cargo rustc --release --lib --features ffi --crate-type staticlib      target/release/libsamebits.a
//!   cargo rustc --release --lib --features ffi --crate-type cdylib         target/release/libsamebits.so
//! ```
//!
//! Behind a feature, since a library that is built on this crate would otherwise export these symbols too, and hold
//! all that they reach.
//!
//! Every function that can fail goes through one [`door`]: a panic behind it, which would be a bug, becomes a status
//! like any other failure, and a failure leaves its message with the thread. Pointers become slices, views and strings
//! in `memory.rs` alone, after their lengths, strides, alignment and overlaps were looked at; what no program can
//! look at (whether memory is there) is the caller's word, and the `# Safety` of each function.
#![allow(unsafe_code)] // pointers from C

use std::any::Any;
use std::cell::RefCell;
use std::ffi::{CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::pool::{self, MAX_THREADS, Pool};
use crate::run::Run;
use crate::{Cpu, Error, cpu};

mod index;
mod kernels;
mod memory;
mod model;
mod nf4;
mod session;

pub use index::*;
pub use kernels::*;
pub use memory::{Heads, HeadsMut, Matrix, MatrixMut};
pub use model::*;
pub use nf4::*;
pub use session::*;

use memory::{put, reference, string_or_none};

/// `samebits_status`: how a call ended.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Done.
    Ok = 0,
    /// An argument is NULL, misaligned, of the wrong size or out of range.
    Argument = 1,
    /// The operating system refused a file.
    Io = 2,
    /// A file or a value breaks a rule of its kind.
    Data = 3,
    /// There is no such instruction set here.
    Tier = 4,
    /// A buffer is too small; what is needed was written beside it.
    Capacity = 5,
    /// No failure: the text is over.
    End = 6,
    /// A bug of this library.
    Internal = 7,
}

/// A status that is not [`Status::Ok`], and what to say of it.
struct Fault {
    status: Status,
    message: String,
}

/// What a function behind the door returns.
type Outcome<T = ()> = Result<T, Fault>;

impl Fault {
    /// Of an argument.
    fn argument(message: impl Into<String>) -> Fault {
        Fault { status: Status::Argument, message: message.into() }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        let status = match error {
            Error::Io { .. } => Status::Io,
            Error::Tier { .. } => Status::Tier,
            Error::Usage { .. } => Status::Argument,
            _ => Status::Data,
        };
        let hint = error.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
        Fault { status, message: format!("{error}{hint}") }
    }
}

thread_local! {
    static LAST: RefCell<CString> = RefCell::default();
}

/// Runs `f`; whatever happens in there comes out as a status.
fn door(f: impl FnOnce() -> Outcome) -> Status {
    let outcome = catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|panic| Err(of_panic(&*panic)));
    match outcome {
        Ok(()) => Status::Ok,
        Err(Fault { status: Status::End, .. }) => Status::End,
        Err(fault) => {
            remember(&fault.message);
            fault.status
        }
    }
}

fn of_panic(panic: &(dyn Any + Send)) -> Fault {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
    Fault { status: Status::Internal, message: format!("a bug of samebits: {text}") }
}

/// Leaves a message with this thread, on one line and without zeros.
fn remember(message: &str) {
    let clean: String = message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let message = CString::new(clean).unwrap_or_default();
    // A thread that is ending has no place for it any more.
    let _ = LAST.try_with(|last| {
        if let Ok(mut last) = last.try_borrow_mut() {
            *last = message;
        }
    });
}

/// What this thread's last failure was, in one line; empty before the first. Valid until its next failure.
#[unsafe(no_mangle)]
pub extern "C" fn samebits_last_error() -> *const c_char {
    LAST.try_with(|last| last.try_borrow().map_or(c"".as_ptr(), |last| last.as_ptr())).unwrap_or(c"".as_ptr())
}

/// `samebits_abi`: the number of this interface. It grows with any change that a compiled caller would notice.
pub const ABI: u32 = 1;

/// [`ABI`] of the library that is linked.
#[unsafe(no_mangle)]
pub extern "C" fn samebits_abi() -> u32 {
    ABI
}

/// The version of the library.
#[unsafe(no_mangle)]
pub extern "C" fn samebits_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}

/// Who computes: an instruction set and threads.
pub struct Engine {
    cpu: Cpu,
    pool: Pool,
}

impl Engine {
    fn run(&self) -> Run<'_> {
        Run::on(self.cpu, &self.pool)
    }
}

/// Makes an engine of `tier` (NULL: `SAMEBITS_TIER`, else the best of this machine) and `threads` (0: `SAMEBITS_THREADS`,
/// else all that this process may use).
///
/// # Safety
/// `tier` is NULL or a string; `engine` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn samebits_engine_open(
    tier: *const c_char,
    threads: usize,
    engine: *mut *mut Engine,
) -> Status {
    door(|| {
        // SAFETY: as the caller says.
        let tier = unsafe { string_or_none(tier, "tier") }?;
        let (cpu, _) = cpu::choose(tier)?;
        let threads = if threads == 0 { pool::threads_from_env()? } else { threads };
        if threads > MAX_THREADS {
            return Err(Fault::argument(format!("threads is {threads}, at most {MAX_THREADS}")));
        }
        let made = || Box::into_raw(Box::new(Engine { cpu, pool: Pool::new(threads) }));
        // SAFETY: as the caller says.
        unsafe { put(engine, "engine", made) }
    })
}

/// The instruction set of an engine: `scalar`, `avx2`, `avx512`, `neon`.
///
/// # Safety
/// `engine` is NULL or open; `tier` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn samebits_engine_tier(engine: *const Engine, tier: *mut *const c_char) -> Status {
    door(|| {
        // SAFETY: as the caller says.
        let engine = unsafe { reference(engine, "engine") }?;
        let name = match engine.cpu.tier().name() {
            "avx512" => c"avx512",
            "avx2" => c"avx2",
            "neon" => c"neon",
            _ => c"scalar",
        };
        // SAFETY: as the caller says.
        unsafe { put(tier, "tier", || name.as_ptr()) }
    })
}

/// The threads of an engine, the caller's among them.
///
/// # Safety
/// `engine` is NULL or open; `threads` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn samebits_engine_threads(engine: *const Engine, threads: *mut usize) -> Status {
    door(|| {
        // SAFETY: as the caller says.
        let engine = unsafe { reference(engine, "engine") }?;
        // SAFETY: likewise.
        unsafe { put(threads, "threads", || engine.pool.threads()) }
    })
}

/// Ends an engine; NULL is nothing.
///
/// # Safety
/// `engine` is NULL or open, and nobody uses it any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn samebits_engine_close(engine: *mut Engine) {
    // SAFETY: as the caller says.
    unsafe { memory::close(engine) }
}
