//! How a caller lends its job to workers: one word of state, entered and left.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread::{self, Thread};

use super::{lock, mode};

/// What the caller lends: its own frame, for the length of the call.
type Lent = *const (dyn Fn() + Sync);

/// What the caller and the workers of a pool share.
pub struct Shared {
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
    /// Nothing to do yet. A wait looks at the state `spins` times before it sleeps.
    pub fn new(spins: u32) -> Shared {
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

    /// Opens a job, takes part, closes it, and waits until the workers have left. Up to `helpers` of them are
    /// woken. `job` must not unwind, and no other call may run.
    pub fn lend(&self, job: &(dyn Fn() + Sync), helpers: usize) {
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

    /// Sends the workers home.
    pub fn end(&self) {
        self.stop.store(true, Ordering::SeqCst);
        self.wake(usize::MAX);
    }

    /// The life of a worker.
    pub fn work(&self) {
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
