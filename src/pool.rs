//! Threads for numbered pieces of work.
//!
//! A kernel cuts its work by shape into pieces, each an owned value with its own part of the output; so
//! nothing here can change a result: who runs a piece, and when, is all that a [`Pool`] decides.
//!
//! ```text
//!   run(pieces, f):   caller    open ─► take, f(piece) ─► take, f(piece) … ─► close ─► wait for those inside
//!                     worker 1       enter ─► take, f(piece) … ─► leave
//!                     worker 2  (late: finds the job closed, keeps waiting)
//! ```
//!
//! One word of state holds the number of the job, whether it is open, and how many workers are inside. A
//! worker may touch a job only between entering (a compare-and-swap that needs the job open) and leaving;
//! the caller returns only after the job is closed and empty. So a worker that wakes late costs nothing,
//! and one that does not exist any more is not missed.
//!
//! * **Busy pool.** A call from inside a piece, or from another thread while a job runs, works its pieces
//!   off alone: no queue, no deadlock.
//! * **Panics.** A panic in a piece stops the taking of pieces and goes on in the caller, when everyone has
//!   left. The pool lives on.
//! * **Fork.** In a forked child the workers are gone; calls run alone.
//! * **Too few threads.** Where the system refuses a thread, the pool does with those that it got.
//! * **Waiting.** Workers spin for some microseconds, then sleep; with more threads than processors they
//!   do not spin at all.
//! * **Floating-point mode.** Kernels never write `MXCSR` or `FPCR`, and the pool never writes the caller's.
//!   But a caller that rounds otherwise or flushes subnormals to zero must not change a result, and a new
//!   thread inherits the mode of its maker. So every thread of the pool starts by setting the mode of IEEE
//!   754 for itself, and a caller in another mode hands its whole job to such a thread and waits.
#![allow(unsafe_code)] // `shared`: a job lent to workers for a call's length; `mode`: the register is asked

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};

use crate::Error;
pub use crate::run::Scratch;

mod mode;
mod shared;

use shared::Shared;

/// The largest number of threads that a pool accepts.
pub const MAX_THREADS: usize = 1024;

/// Looks at the state before a worker sleeps: some 30 µs, for calls that follow each other.
const SPINS: u32 = 1000;

/// Pieces that a thread takes at a time, at most: the lock is then rarely contended for short pieces.
const MAX_TAKE: usize = 16;

thread_local! {
    static SCRATCH: Cell<Scratch> = const { Cell::new(Scratch::new()) };
}

/// Runs `f` with this thread's scratch; a call inside `f` gets another.
pub(crate) fn with_scratch<R>(f: impl FnOnce(&mut Scratch) -> R) -> R {
    let mut scratch = SCRATCH.take();
    let result = f(&mut scratch);
    SCRATCH.set(scratch);
    result
}

/// Threads that wait for pieces: the caller and `threads − 1` workers.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// The process that made the workers.
    process: u32,
    /// Taken while a job runs.
    busy: AtomicBool,
}

impl Pool {
    /// A pool of up to `threads` threads, the caller among them; fewer where the system refuses more.
    ///
    /// # Panics
    /// Where `threads` is 0 or more than [`MAX_THREADS`].
    pub fn new(threads: usize) -> Pool {
        assert!((1..=MAX_THREADS).contains(&threads), "{threads} threads, not 1 to {MAX_THREADS}");
        let spins = if threads <= available_threads() { SPINS } else { 0 };
        let shared = Arc::new(Shared::new(spins));
        let spawn = |i: usize| {
            let shared = Arc::clone(&shared);
            let builder = thread::Builder::new().name(format!("samebits-{i}"));
            builder.spawn(move || shared.work()).ok()
        };
        let workers = (1..threads).map_while(spawn).collect();
        Pool { shared, workers, process: std::process::id(), busy: AtomicBool::new(false) }
    }

    /// Threads that take part, the caller among them.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs `f` on every piece, on this thread and the workers, and returns when all are done.
    ///
    /// # Panics
    /// With the panic of a piece, once no thread is inside `f` any more.
    pub fn run<I, F>(&self, pieces: I, f: F)
    where
        I: IntoIterator,
        I::IntoIter: Send,
        I::Item: Send,
        F: Fn(I::Item, &mut Scratch) + Sync,
    {
        let pieces = pieces.into_iter();
        if mode::is_default() {
            self.run_here(pieces, &f);
        } else {
            mode::in_default_thread(|| self.run_here(pieces, &f));
        }
    }

    fn run_here<I, F>(&self, pieces: I, f: &F)
    where
        I: Iterator<Item: Send> + Send,
        F: Fn(I::Item, &mut Scratch) + Sync,
    {
        let most = pieces.size_hint().1.unwrap_or(usize::MAX);
        let Some(_claim) = self.claim(most) else {
            return with_scratch(|scratch| pieces.for_each(|piece| f(piece, scratch)));
        };
        let job = Job::new(pieces, f, self.threads());
        self.shared.lend(&|| job.take_part(), most - 1);
        if let Some(panic) = job.panic.into_inner().unwrap_or_else(PoisonError::into_inner) {
            resume_unwind(panic);
        }
    }

    /// The right to use the workers, where they would help and nobody else does.
    fn claim(&self, most: usize) -> Option<Claim<'_>> {
        if self.workers.is_empty() || most < 2 || self.process != std::process::id() {
            return None;
        }
        let free = self.busy.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed);
        free.is_ok().then(|| Claim(&self.busy))
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if self.process != std::process::id() {
            return; // a forked child has nobody to wait for
        }
        self.shared.end();
        for worker in self.workers.drain(..) {
            // A worker catches the panics of its pieces and has no others.
            let _ = worker.join();
        }
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pool({} threads)", self.threads())
    }
}

struct Claim<'a>(&'a AtomicBool);

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// Processors that this process may use: the smaller of its affinity mask and its cgroup's quota.
pub fn available_threads() -> usize {
    thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS)
}

/// The number that `SAMEBITS_THREADS` asks for, else [`available_threads`].
///
/// # Errors
/// Where the variable is not a number from 1 to [`MAX_THREADS`].
pub fn threads_from_env() -> Result<usize, Error> {
    let Some(asked) = std::env::var_os("SAMEBITS_THREADS") else { return Ok(available_threads()) };
    let number = asked.to_str().and_then(|s| s.trim().parse().ok());
    number.filter(|n| (1..=MAX_THREADS).contains(n)).ok_or_else(|| Error::Usage {
        what: format!("SAMEBITS_THREADS is {asked:?}, expected a number from 1 to {MAX_THREADS}"),
        hint: None,
    })
}

/// The pool that the whole process shares, made on first use with [`threads_from_env`] threads.
///
/// ```
/// use samebits::pool::{self, MAX_THREADS, Pool, available_threads, threads_from_env};
/// let threads = threads_from_env()?; // SAMEBITS_THREADS, else what the process may use
/// assert!((1..=MAX_THREADS).contains(&threads) && available_threads() >= 1);
/// let shared: &'static Pool = pool::default()?;
/// assert!(shared.threads() <= threads);
/// let mut x = [1, 2, 3];
/// shared.run(x.iter_mut(), |x, _| *x *= 10);
/// assert_eq!(x, [10, 20, 30]);
/// # Ok::<(), samebits::Error>(())
/// ```
///
/// # Errors
/// As [`threads_from_env`].
pub fn default() -> Result<&'static Pool, Error> {
    static POOL: OnceLock<Pool> = OnceLock::new();
    if let Some(pool) = POOL.get() {
        return Ok(pool);
    }
    let threads = threads_from_env()?;
    Ok(POOL.get_or_init(|| Pool::new(threads)))
}

/// The pieces of one call, and what happened to them.
struct Job<'a, I, F> {
    pieces: Mutex<I>,
    f: &'a F,
    threads: usize,
    stop: AtomicBool,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

impl<'a, I: Iterator, F: Fn(I::Item, &mut Scratch)> Job<'a, I, F> {
    fn new(pieces: I, f: &'a F, threads: usize) -> Self {
        let (pieces, panic) = (Mutex::new(pieces), Mutex::new(None));
        Job { pieces, f, threads, stop: AtomicBool::new(false), panic }
    }

    /// Takes pieces and runs them until none are left. A panic is kept, the first one wins.
    fn take_part(&self) {
        let result = catch_unwind(AssertUnwindSafe(|| {
            with_scratch(|scratch| {
                let mut taken = Vec::new();
                while self.take(&mut taken) {
                    taken.drain(..).for_each(|piece| (self.f)(piece, scratch));
                }
            });
        }));
        if let Err(panic) = result {
            self.stop.store(true, Ordering::Relaxed);
            lock(&self.panic).get_or_insert(panic);
        }
    }

    /// The next pieces, fewer at a time towards the end, so that the threads finish together.
    fn take(&self, taken: &mut Vec<I::Item>) -> bool {
        if self.stop.load(Ordering::Relaxed) {
            return false;
        }
        // Not `lock`: if the iterator itself panicked, no more is taken from it.
        let Ok(mut pieces) = self.pieces.lock() else { return false };
        let share = pieces.size_hint().0 / (4 * self.threads);
        taken.extend(pieces.by_ref().take((share + 1).min(MAX_TAKE)));
        !taken.is_empty()
    }
}

/// A lock whose data no panic can leave half-written.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
