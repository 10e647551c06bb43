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
#![allow(unsafe_code)] // a job is lent to workers for the length of a call; the floating-point mode is asked

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle, Thread};

use crate::{Error, kernels::Line};

mod mode;

/// The largest number of threads that a pool accepts.
pub const MAX_THREADS: usize = 1024;

/// Looks at the state before a worker sleeps: some 30 µs, for calls that follow each other.
const SPINS: u32 = 1000;

/// Pieces that a thread takes at a time, at most: the lock is then rarely contended for short pieces.
const MAX_TAKE: usize = 16;

/// Memory of one thread for the pieces that it runs: grown on demand, reused from call to call.
#[derive(Debug, Default)]
pub struct Scratch(Vec<Line>);

impl Scratch {
    /// `len` lines. What they hold is unspecified.
    pub fn lines(&mut self, len: usize) -> &mut [Line] {
        if self.0.len() < len {
            self.0.resize(len, Line::ZERO);
        }
        &mut self.0[..len]
    }
}

thread_local! {
    static SCRATCH: Cell<Scratch> = const { Cell::new(Scratch(Vec::new())) };
}

/// Runs `f` with this thread's scratch; a call inside `f` gets another.
fn with_scratch<R>(f: impl FnOnce(&mut Scratch) -> R) -> R {
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
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.wake(usize::MAX);
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
        taken.extend(pieces.by_ref().take(share.clamp(1, MAX_TAKE)));
        !taken.is_empty()
    }
}

/// What the caller lends: its own frame, for the length of the call.
type Lent = *const (dyn Fn() + Sync);

struct Shared {
    /// Job number (upper 32 bits), [`OPEN`], [`WAITED_FOR`], workers inside (lower bits).
    state: AtomicU64,
    /// Written only while the job is closed and empty; read only from inside.
    job: UnsafeCell<Option<Lent>>,
    stop: AtomicBool,
    spins: u32,
    sleepers: AtomicUsize,
    asleep: Mutex<()>,
    bell: Condvar,
    /// The caller that sleeps until its job is empty.
    caller: Mutex<Option<Thread>>,
}

const OPEN: u64 = 1 << 31;
const WAITED_FOR: u64 = 1 << 30;
const INSIDE: u64 = WAITED_FOR - 1;

// SAFETY: `job` is written by the one caller that holds the claim, while the job is closed and no worker is
// inside, and read by workers that are inside; `state` orders the two. What it points to is `Sync`.
unsafe impl Sync for Shared {}
// SAFETY: likewise.
unsafe impl Send for Shared {}

impl Shared {
    fn new(spins: u32) -> Shared {
        Shared {
            state: AtomicU64::new(0),
            job: UnsafeCell::new(None),
            stop: AtomicBool::new(false),
            spins,
            sleepers: AtomicUsize::new(0),
            asleep: Mutex::new(()),
            bell: Condvar::new(),
            caller: Mutex::new(None),
        }
    }

    /// Opens a job, takes part, closes it, and waits until the workers have left. `job` must not unwind.
    fn lend(&self, job: &(dyn Fn() + Sync), helpers: usize) {
        let job: *const (dyn Fn() + Sync + '_) = job;
        // SAFETY: only the lifetime changes. The pointer is used by workers that are inside alone, and this
        // function returns only when the job is closed and none is: the borrow outlives every use.
        let lent = unsafe { std::mem::transmute::<*const (dyn Fn() + Sync + '_), Lent>(job) };
        // SAFETY: the caller holds the claim, and the last job was left closed and empty.
        unsafe { *self.job.get() = Some(lent) };
        let number = (self.state.load(Ordering::Relaxed) >> 32).wrapping_add(1);
        self.state.store(number << 32 | OPEN, Ordering::SeqCst);
        self.wake(helpers);
        // SAFETY: `lent` is the live borrow above.
        unsafe { (*lent)() };
        self.state.fetch_and(!OPEN, Ordering::SeqCst);
        self.wait_until_empty();
    }

    /// Rings for up to `helpers` sleeping workers.
    fn wake(&self, helpers: usize) {
        // A worker counts itself among the sleepers before it looks at the state for the last time; both
        // orders are sequentially consistent, so either it sees the job or this sees the sleeper.
        let sleepers = self.sleepers.load(Ordering::SeqCst);
        if sleepers == 0 {
            return;
        }
        let _asleep = lock(&self.asleep);
        if helpers >= sleepers {
            self.bell.notify_all();
        } else {
            (0..helpers).for_each(|_| self.bell.notify_one());
        }
    }

    fn wait_until_empty(&self) {
        for _ in 0..self.spins {
            if self.state.load(Ordering::Acquire) & INSIDE == 0 {
                return;
            }
            std::hint::spin_loop();
        }
        *lock(&self.caller) = Some(thread::current());
        self.state.fetch_or(WAITED_FOR, Ordering::AcqRel);
        while self.state.load(Ordering::Acquire) & INSIDE != 0 {
            thread::park();
        }
    }

    /// The life of a worker.
    fn work(&self) {
        mode::set_default();
        let mut seen = 0;
        while let Some(number) = self.next_job(seen) {
            seen = number;
            if self.enter(number) {
                // SAFETY: inside: the caller keeps the job alive until this worker has left.
                let job = unsafe { (*self.job.get()).map(|job| &*job) };
                job.into_iter().for_each(|job| job());
                self.leave();
            }
        }
    }

    /// The number of an open job other than `seen`; `None` when the pool ends.
    fn next_job(&self, seen: u64) -> Option<u64> {
        let mut spins = 0;
        loop {
            if self.stop.load(Ordering::Acquire) {
                return None;
            }
            let state = self.state.load(Ordering::Acquire);
            if state & OPEN != 0 && state >> 32 != seen {
                return Some(state >> 32);
            }
            spins += 1;
            if spins < self.spins {
                std::hint::spin_loop();
            } else {
                self.sleep(seen);
                spins = 0;
            }
        }
    }

    fn sleep(&self, seen: u64) {
        let asleep = lock(&self.asleep);
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        let state = self.state.load(Ordering::SeqCst);
        let nothing = state & OPEN == 0 || state >> 32 == seen;
        if nothing && !self.stop.load(Ordering::SeqCst) {
            drop(self.bell.wait(asleep).unwrap_or_else(PoisonError::into_inner));
        }
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
    }

    /// Enters job `number` if it is still open.
    fn enter(&self, number: u64) -> bool {
        let inside = |state: u64| (state & OPEN != 0 && state >> 32 == number).then_some(state + 1);
        self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, inside).is_ok()
    }

    fn leave(&self) {
        let before = self.state.fetch_sub(1, Ordering::AcqRel);
        let caller_sleeps = before & INSIDE == 1 && before & WAITED_FOR != 0;
        if caller_sleeps && let Some(caller) = lock(&self.caller).as_ref() {
            caller.unpark();
        }
    }
}

/// A lock whose data no panic can leave half-written.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
