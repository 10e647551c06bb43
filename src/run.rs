//! How work is run: with which instructions, and by whom.
//!
//! Layers cut their work by shape into pieces and hand them to a [`Run`]. It decides who computes a piece and
//! when, never what: so a result has the same bits on this thread alone and on any pool.

use crate::Cpu;
use crate::elements::{Elements, filled};
use crate::kernels::Line;
use crate::kernels::gemm::{Bf16, Bf16Group, Element};
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;

/// Memory of one thread for the pieces that it runs: grown on demand, reused from call to call.
///
/// ```
/// use samebits::{Cpu, run::{Run, Scratch}};
/// let run = Run::here(Cpu::detect());
/// let work = |piece: &mut [f32], scratch: &mut Scratch| {
///     let room = scratch.lines(1); // of this thread, used again for each of its pieces
///     room[0][0] = piece[0] * 2.0;
///     piece[0] = room[0][0];
/// };
/// let mut x = [1.0, 2.0, 3.0];
/// run.pieces(x.chunks_mut(1), work);
/// assert_eq!(x, [2.0, 4.0, 6.0]);
/// ```
#[derive(Debug, Default)]
pub struct Scratch(Vec<Line>);

impl Scratch {
    /// Nothing yet.
    pub const fn new() -> Scratch {
        Scratch(Vec::new())
    }

    /// `len` lines to begin with: where memory is counted, as many as any piece asks for.
    pub fn with_lines(len: usize) -> Scratch {
        Scratch(vec![Line::ZERO; len])
    }

    /// `len` lines. What they hold is unspecified.
    pub fn lines(&mut self, len: usize) -> &mut [Line] {
        grown(&mut self.0, len)
    }

    /// Lines that there are.
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The first `len` lines of `lines`, made anew where there are fewer: exactly so many, and the old ones go first, for their
/// contents are not wanted and a device has no room for both.
pub(crate) fn grown(lines: &mut Vec<Line>, len: usize) -> &mut [Line] {
    if lines.len() < len {
        *lines = Vec::new();
        *lines = vec![Line::ZERO; len];
    }
    &mut lines[..len]
}

/// The instructions and the threads that layers use, and memory that they lend from call to call.
#[derive(Debug)]
pub struct Run<'p> {
    cpu: Cpu,
    by: By<'p>,
    room: RefCell<Free<f32>>,
    codes: RefCell<Free<i8>>,
    groups: RefCell<Free<Bf16Group>>,
}

/// Buffers that nobody has at the moment.
#[derive(Debug, Default)]
struct Free<T> {
    buffers: Vec<Elements<T>>,
    /// Bytes of all that were ever made: of those lent out too.
    bytes: usize,
}

impl<T: Copy> Free<T> {
    /// The smallest that holds `n`, or a new one, of `zero`.
    fn take(&mut self, n: usize, zero: T) -> Elements<T> {
        let fits = self.buffers.iter().enumerate().filter(|(_, x)| x.len() >= n);
        let best = fits.min_by_key(|(_, x)| x.len()).map(|(i, _)| i);
        match best {
            Some(i) => self.buffers.swap_remove(i),
            None => {
                self.bytes += size_of::<T>() * n;
                filled(zero, n)
            }
        }
    }
}

/// Numbers on loan from a [`Run`]: they go back to it where this is dropped.
///
/// ```
/// use samebits::{Cpu, run::{Lent, Run}};
/// let run = Run::here(Cpu::detect());
/// let mut floats: Lent = run.floats(100);
/// floats.fill(1.0);
/// let bytes = run.room_bytes();
/// drop(floats);
/// let again = run.floats(80); // the same memory
/// assert_eq!((again.len(), run.room_bytes()), (80, bytes));
/// ```
#[derive(Debug)]
pub struct Lent<'r, T = f32> {
    /// Taken when the loan ends; the first `n` of them are lent.
    all: Option<Elements<T>>,
    n: usize,
    of: &'r RefCell<Free<T>>,
}

impl<T> Lent<'_, T> {
    /// Leaves the first `n`.
    pub fn truncate(&mut self, n: usize) {
        self.n = self.n.min(n);
    }
}

impl<T> core::ops::Deref for Lent<'_, T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        self.all.as_ref().map_or(&[], |all| &all[..self.n])
    }
}

impl<T> core::ops::DerefMut for Lent<'_, T> {
    fn deref_mut(&mut self) -> &mut [T] {
        self.all.as_mut().map_or(&mut [], |all| &mut all[..self.n])
    }
}

impl<T> Drop for Lent<'_, T> {
    fn drop(&mut self) {
        self.of.borrow_mut().buffers.extend(self.all.take());
    }
}

#[derive(Debug)]
enum By<'p> {
    /// This thread; the lifetime is that of no pool.
    Here(RefCell<Scratch>, core::marker::PhantomData<&'p ()>),
    #[cfg(feature = "std")]
    Pool(&'p crate::pool::Pool),
    #[cfg(feature = "std")]
    Executor(&'p dyn Executor),
}

/// Threads that an embedder has already, in place of a [`Pool`](crate::pool::Pool). They compute in the floating-point
/// mode in which they are found.
///
/// ```
/// use samebits::{Cpu, run::{Executor, Run}};
/// #[derive(Debug)]
/// struct Two;
/// impl Executor for Two {
///     fn threads(&self) -> usize { 2 }
///     fn run(&self, work: &(dyn Fn() + Sync)) {
///         std::thread::scope(|scope| { scope.spawn(work); work() });
///     }
/// }
/// let mut squares = [0; 5];
/// Run::by_executor(Cpu::detect(), &Two).pieces(squares.iter_mut().zip(0..), |(x, i), _| *x = i * i);
/// assert_eq!(squares, [0, 1, 4, 9, 16]);
/// ```
#[cfg(feature = "std")]
pub trait Executor: Sync + core::fmt::Debug {
    /// Threads that may take part.
    fn threads(&self) -> usize;
    /// Calls `work` on some of them, on as many at a time as it likes, and returns when every call has. A call takes
    /// pieces until none are left.
    fn run(&self, work: &(dyn Fn() + Sync));
}

impl<'p> Run<'p> {
    /// On this thread alone.
    pub const fn here(cpu: Cpu) -> Run<'p> {
        Run::by(cpu, By::Here(RefCell::new(Scratch::new()), core::marker::PhantomData))
    }

    /// On this thread alone, with memory that a piece was given: to be [taken back](Run::into_scratch).
    pub fn here_with(cpu: Cpu, scratch: Scratch) -> Run<'p> {
        Run::by(cpu, By::Here(RefCell::new(scratch), core::marker::PhantomData))
    }

    const fn by(cpu: Cpu, by: By<'p>) -> Run<'p> {
        let room = RefCell::new(Free { buffers: Vec::new(), bytes: 0 });
        let codes = RefCell::new(Free { buffers: Vec::new(), bytes: 0 });
        let groups = RefCell::new(Free { buffers: Vec::new(), bytes: 0 });
        Run { cpu, by, room, codes, groups }
    }

    /// `n` floats for as long as the loan is kept; what they hold is unspecified. The memory is used again and again, so
    /// that a step of training asks the system for none.
    pub fn floats(&self, n: usize) -> Lent<'_> {
        Lent { all: Some(self.room.borrow_mut().take(n, 0.0)), n, of: &self.room }
    }

    /// The same of bytes with a sign.
    pub fn codes(&self, n: usize) -> Lent<'_, i8> {
        Lent { all: Some(self.codes.borrow_mut().take(n, 0)), n, of: &self.codes }
    }

    /// The same of groups of bfloat16, for panels that are made on the way.
    pub fn bf16_groups(&self, n: usize) -> Lent<'_, Bf16Group> {
        Lent { all: Some(self.groups.borrow_mut().take(n, Bf16::ZERO)), n, of: &self.groups }
    }

    /// Bytes of all that was ever on loan at a time.
    pub fn room_bytes(&self) -> usize {
        self.room.borrow().bytes + self.codes.borrow().bytes + self.groups.borrow().bytes
    }

    /// The memory of this thread.
    pub fn into_scratch(self) -> Scratch {
        match self.by {
            By::Here(scratch, _) => scratch.into_inner(),
            #[cfg(feature = "std")]
            By::Pool(_) | By::Executor(_) => Scratch::new(),
        }
    }

    /// On the threads of a pool.
    #[cfg(feature = "std")]
    pub const fn on(cpu: Cpu, pool: &'p crate::pool::Pool) -> Run<'p> {
        Run::by(cpu, By::Pool(pool))
    }

    /// On an embedder's own threads.
    #[cfg(feature = "std")]
    pub const fn by_executor(cpu: Cpu, executor: &'p dyn Executor) -> Run<'p> {
        Run::by(cpu, By::Executor(executor))
    }

    /// The instructions.
    pub const fn cpu(&self) -> Cpu {
        self.cpu
    }

    /// Threads that take part.
    pub fn threads(&self) -> usize {
        match &self.by {
            By::Here(..) => 1,
            #[cfg(feature = "std")]
            By::Pool(pool) => pool.threads(),
            #[cfg(feature = "std")]
            By::Executor(executor) => executor.threads().max(1),
        }
    }

    /// Runs `f` on every piece and returns when all are done.
    ///
    /// # Panics
    /// With the panic of a piece.
    pub fn pieces<I, F>(&self, pieces: I, f: F)
    where
        I: IntoIterator,
        I::IntoIter: Send,
        I::Item: Send,
        F: Fn(I::Item, &mut Scratch) + Sync,
    {
        match &self.by {
            By::Here(scratch, _) => {
                // A piece that calls back finds no scratch left here and brings its own.
                let mut own = scratch.take();
                pieces.into_iter().for_each(|piece| f(piece, &mut own));
                scratch.replace(own);
            }
            #[cfg(feature = "std")]
            By::Pool(pool) => pool.run(pieces, f),
            #[cfg(feature = "std")]
            By::Executor(executor) => share(*executor, pieces.into_iter(), f),
        }
    }
}

/// Runs `f` on every piece, on the threads of `executor`; on this one what they leave.
#[cfg(feature = "std")]
fn share<I>(executor: &dyn Executor, pieces: I, f: impl Fn(I::Item, &mut Scratch) + Sync)
where
    I: Iterator<Item: Send> + Send,
{
    use crate::pool::with_scratch;
    let pieces = std::sync::Mutex::new(pieces);
    // Where taking one panicked, nobody takes another.
    let next = || pieces.lock().ok().and_then(|mut pieces| pieces.next());
    executor.run(&|| {
        with_scratch(|scratch| {
            while let Some(piece) = next() {
                f(piece, scratch);
            }
        });
    });
    with_scratch(|scratch| core::iter::from_fn(next).for_each(|piece| f(piece, scratch)));
}
