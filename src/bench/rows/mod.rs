//! What is measured: one [`Entry`] a kernel, with its shapes, its work, our call and the plain loop.
//!
//! The *plain loop* is ordinary Rust as one writes it without thinking of registers: slices, iterators,
//! `f32` methods of the standard library, compiled like the rest of the program (`-O3`, baseline target).
//! It is what a user has without this crate; the scalar tier is not, for it emulates `fma`.

mod attention;
mod attention_stored;
mod backward;
mod gated;
pub(crate) mod gemm;
mod half;
mod int8;
mod map;
pub(crate) mod nf4;
mod reduce;
mod rope;
mod search;

use super::ceiling::Bound;
use super::peak::Access;
use crate::Cpu;
use crate::golden::{Hash, Random};
use crate::kernels::pieces::{Cut, Pieces};
use crate::pool::Pool;
use crate::run::Scratch;

/// Where a call runs.
#[derive(Clone, Copy)]
pub struct Run<'a> {
    /// The tier.
    pub cpu: Cpu,
    /// The threads.
    pub pool: &'a Pool,
}

/// What one call does at least, whoever does it.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// Operations: an addition, multiplication, comparison or square root is one, a multiply-add two, an
    /// `exp` or the like about ten (the picture needs a place on its axis; tables of such kernels give GB/s).
    pub flops: f64,
    /// Bytes: every input read once, every output written once.
    pub bytes: f64,
    /// The ceiling that binds.
    pub bound: Bound,
}

impl Work {
    /// Bound by arithmetic.
    pub fn arithmetic(flops: f64, bytes: usize) -> Work {
        Work { flops, bytes: bytes as f64, bound: Bound::Arithmetic }
    }

    /// Bound by products of eight bits.
    pub fn integers(flops: f64, bytes: usize) -> Work {
        Work { flops, bytes: bytes as f64, bound: Bound::Integers }
    }

    /// Bound by memory: `bytes` are read, written, or half and half.
    pub fn memory(flops: f64, access: Access, bytes: usize) -> Work {
        Work { flops, bytes: bytes as f64, bound: Bound::Memory(access, bytes) }
    }

    /// The same `n` times, over different data.
    #[must_use]
    pub fn times(self, n: usize) -> Work {
        let bound = match self.bound {
            Bound::Memory(access, bytes) => Bound::Memory(access, n * bytes),
            bound => bound,
        };
        Work { flops: self.flops * n as f64, bytes: self.bytes * n as f64, bound }
    }

    /// `GFLOP/s`, `GOP/s` or `GB/s`.
    pub const fn unit(&self) -> &'static str {
        match self.bound {
            Bound::Arithmetic => "GFLOP/s",
            Bound::Integers => "GOP/s",
            Bound::Memory(..) => "GB/s",
        }
    }

    /// The rate in that unit.
    pub fn rate(&self, seconds: f64) -> f64 {
        let amount = if matches!(self.bound, Bound::Memory(..)) { self.bytes } else { self.flops };
        amount / seconds * 1e-9
    }

    /// Operations a byte: the place on the roofline's axis.
    pub fn intensity(&self) -> f64 {
        self.flops / self.bytes
    }
}

/// A kernel that can be measured.
pub struct Entry {
    /// Its name, as in the library.
    pub name: &'static str,
    /// What it does, in a few words.
    pub about: &'static str,
    /// Its dimensions, as `--shape` takes them: `MxNxK`.
    pub dims: &'static str,
    /// The shapes measured unless asked otherwise; the tour shows the first.
    pub shapes: &'static [&'static [usize]],
    /// The work at a shape.
    pub work: fn(&[usize]) -> Work,
    /// Inputs, and the two ways of using them, at a shape.
    pub make: fn(&[usize], &mut Inputs) -> Body,
}

/// Every entry, in the order of the table.
pub fn entries() -> impl Iterator<Item = &'static Entry> {
    const FAMILIES: &[&[Entry]] = &[
        gemm::FAMILY,
        attention::FAMILY,
        attention_stored::FAMILY,
        nf4::FAMILY,
        map::FAMILY,
        gated::FAMILY,
        rope::FAMILY,
        reduce::FAMILY,
        search::FAMILY,
        half::FAMILY,
        int8::FAMILY,
        backward::FAMILY,
    ];
    FAMILIES.iter().copied().flatten()
}

/// Makes inputs: the same for the same seed, on pages as large as the system gives.
pub struct Inputs {
    random: Random,
    /// A tier to pack weights with; the result does not depend on it.
    pub cpu: Cpu,
}

impl Inputs {
    /// From `seed`.
    pub fn new(seed: u64, cpu: Cpu) -> Inputs {
        Inputs { random: Random::new(seed), cpu }
    }

    /// `n` values, about normal with deviation 1.
    pub fn normal(&mut self, n: usize) -> Vec<f32> {
        let mut x = super::memory::filled(0.0, n);
        x.iter_mut().for_each(|x| *x = self.random.unit() + self.random.unit() + self.random.unit());
        x
    }

    /// `n` integers below `bound`.
    pub fn below(&mut self, bound: usize, n: usize) -> Vec<usize> {
        (0..n).map(|_| self.random.below(bound)).collect()
    }
}

/// A weight that is given, not drawn: (n, k) = (output features, input features), row-major.
pub(crate) struct Weight {
    /// Output features.
    pub n: usize,
    /// Input features.
    pub k: usize,
    /// n × k values.
    pub values: Vec<f32>,
}

/// A kernel with its inputs.
pub struct Case {
    /// The work of a call.
    pub work: Work,
    body: Body,
}

/// Our call and the plain one over the same inputs.
pub struct Body(Box<dyn Calls>);

trait Calls {
    fn ours(&mut self, run: &Run<'_>);
    fn plain(&mut self);
    fn result(&self) -> Vec<f32>;
}

struct With<T> {
    state: T,
    ours: fn(&mut T, &Run<'_>),
    plain: fn(&mut T),
    result: fn(&T) -> Vec<f32>,
}

impl<T> Calls for With<T> {
    fn ours(&mut self, run: &Run<'_>) {
        (self.ours)(&mut self.state, run);
    }
    fn plain(&mut self) {
        (self.plain)(&mut self.state);
    }
    fn result(&self) -> Vec<f32> {
        (self.result)(&self.state)
    }
}

impl Body {
    /// `state` holds the inputs and one output, which both calls overwrite whole.
    pub fn new<T: 'static>(
        state: T,
        ours: fn(&mut T, &Run<'_>),
        plain: fn(&mut T),
        result: fn(&T) -> Vec<f32>,
    ) -> Body {
        Body(Box::new(With { state, ours, plain, result }))
    }

    /// One after the other.
    pub fn all(bodies: Vec<Body>) -> Body {
        Body::new(
            bodies,
            |bodies, run| bodies.iter_mut().for_each(|b| b.0.ours(run)),
            |bodies| bodies.iter_mut().for_each(|b| b.0.plain()),
            |bodies| bodies.iter().flat_map(|b| b.0.result()).collect(),
        )
    }
}

impl Case {
    /// `entry` at `dims`.
    pub fn new(entry: &Entry, dims: &[usize], inputs: &mut Inputs) -> Case {
        Case::of((entry.work)(dims), (entry.make)(dims, inputs))
    }

    /// Any work and body.
    pub fn of(work: Work, body: Body) -> Case {
        Case { work, body }
    }

    /// One call of the kernel.
    pub fn ours(&mut self, run: &Run<'_>) {
        self.body.0.ours(run);
    }

    /// One call of the plain loop.
    pub fn plain(&mut self) {
        self.body.0.plain();
    }

    /// What the last call computed.
    pub fn result(&self) -> Vec<f32> {
        self.body.0.result()
    }

    /// The hash of [`Case::result`].
    pub fn hash(&self) -> u64 {
        Hash::default().floats(&self.result()).0
    }
}

/// How many rows of `n` a piece has: all for one thread, else so few that each thread gets several pieces.
fn parts(n: usize, run: &Run<'_>) -> usize {
    const PIECES: usize = 4;
    let pieces = if run.pool.threads() == 1 { 1 } else { PIECES * run.pool.threads() };
    n.div_ceil(pieces).max(1)
}

/// A product whole on one thread, else in its pieces.
fn cut<J: Cut + Send>(
    run: &Run<'_>,
    job: J,
    pieces: impl FnOnce(J) -> Pieces<J>,
    compute: impl Fn(J, &mut Scratch) + Sync,
) {
    if run.pool.threads() == 1 {
        run.pool.run([job], compute);
    } else {
        run.pool.run(pieces(job), compute);
    }
}
