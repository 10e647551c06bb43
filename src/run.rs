//! How work is run: with which instructions, and by whom.
//!
//! Layers cut their work by shape into pieces and hand them to a [`Run`]. It decides who computes a piece and
//! when, never what: so a result has the same bits on this thread alone and on any pool.

use crate::Cpu;
use crate::kernels::Line;
use alloc::vec::Vec;
use core::cell::RefCell;

/// Memory of one thread for the pieces that it runs: grown on demand, reused from call to call.
#[derive(Debug, Default)]
pub struct Scratch(Vec<Line>);

impl Scratch {
    /// Nothing yet.
    pub const fn new() -> Scratch {
        Scratch(Vec::new())
    }

    /// `len` lines. What they hold is unspecified.
    pub fn lines(&mut self, len: usize) -> &mut [Line] {
        if self.0.len() < len {
            self.0.resize(len, Line::ZERO);
        }
        &mut self.0[..len]
    }
}

/// The instructions and the threads that layers use.
#[derive(Debug)]
pub struct Run<'p> {
    cpu: Cpu,
    by: By<'p>,
}

#[derive(Debug)]
enum By<'p> {
    /// This thread; the lifetime is that of no pool.
    Here(RefCell<Scratch>, core::marker::PhantomData<&'p ()>),
    #[cfg(feature = "std")]
    Pool(&'p crate::pool::Pool),
}

impl<'p> Run<'p> {
    /// On this thread alone.
    pub const fn here(cpu: Cpu) -> Run<'p> {
        Run { cpu, by: By::Here(RefCell::new(Scratch::new()), core::marker::PhantomData) }
    }

    /// On this thread alone, with memory that a piece was given: to be [taken back](Run::into_scratch).
    pub fn here_with(cpu: Cpu, scratch: Scratch) -> Run<'p> {
        Run { cpu, by: By::Here(RefCell::new(scratch), core::marker::PhantomData) }
    }

    /// The memory of this thread.
    pub fn into_scratch(self) -> Scratch {
        match self.by {
            By::Here(scratch, _) => scratch.into_inner(),
            #[cfg(feature = "std")]
            By::Pool(_) => Scratch::new(),
        }
    }

    /// On the threads of a pool.
    #[cfg(feature = "std")]
    pub const fn on(cpu: Cpu, pool: &'p crate::pool::Pool) -> Run<'p> {
        Run { cpu, by: By::Pool(pool) }
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
        }
    }
}
