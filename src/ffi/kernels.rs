//! Products, softmax, attention: the caller's matrices, the engine's threads.

use super::memory::{Heads, HeadsMut, Matrix, MatrixMut, reference};
use super::{Engine, Fault, Outcome, Status, door};
use crate::kernels::attention::{self, Attention, Options, Pattern};
use crate::kernels::gemm::{Accumulate, Gemm, Strided, Weights};
use crate::kernels::softmax;
use crate::kernels::view::MatMut;

/// `SAMEBITS_ACCUMULATE`: the product is added to what C holds.
pub const ACCUMULATE: u32 = 1;

/// What the flags of a product mean.
pub(super) fn accumulate(flags: u32) -> Outcome<Accumulate> {
    match flags {
        0 => Ok(Accumulate::Overwrite),
        ACCUMULATE => Ok(Accumulate::Add),
        _ => Err(Fault::argument(format!("flags is {flags}, expected 0 or SAMEBITS_ACCUMULATE"))),
    }
}

/// Refuses shapes that do not belong together.
pub(super) fn agree(a: (usize, usize), b: (usize, usize), c: (usize, usize)) -> Outcome {
    if a.1 == b.0 && a.0 == c.0 && b.1 == c.1 {
        return Ok(());
    }
    Err(Fault::argument(format!("A {a:?} times B {b:?} does not give C {c:?}")))
}

/// Runs a product whose shapes agree, in its pieces.
pub(super) fn multiply<W: Weights + Send>(engine: &Engine, job: Gemm<'_, W>) {
    let cpu = engine.cpu;
    engine.pool.run(job.pieces(), |piece, scratch| {
        let lines = piece.scratch_len();
        piece.run(cpu, scratch.lines(lines));
    });
}

/// C ← A · B, (m, k) · (k, n), or C + A · B.
///
/// # Safety
/// Pointers are NULL or as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn samebits_gemm(
    engine: *const Engine,
    a: *const Matrix,
    b: *const Matrix,
    c: *const MatrixMut,
    flags: u32,
) -> Status {
    door(|| {
        // SAFETY: as the caller says.
        let (engine, a, b, c) = unsafe {
            (reference(engine, "engine")?, reference(a, "a")?, reference(b, "b")?, reference(c, "c")?)
        };
        let accumulate = accumulate(flags)?;
        agree(a.shape(), b.shape(), c.as_matrix().shape())?;
        let inputs = [("a", a.place("a")?), ("b", b.place("b")?)];
        c.as_matrix().place("c")?.apart("c", &inputs)?;
        // SAFETY: as the caller says; C is apart from both.
        let (a, b, c) = unsafe { (a.view("a")?, b.view("b")?, c.view("c")?) };
        multiply(engine, Gemm { accumulate, ..Gemm::new(a, Strided(b), c) });
        Ok(())
    })
}

/// The softmax of each row of x; `out` may be x itself.
///
/// # Safety
/// Pointers are NULL or as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn samebits_softmax(
    engine: *const Engine,
    x: *const Matrix,
    out: *const MatrixMut,
) -> Status {
    door(|| {
        // SAFETY: as the caller says.
        let (engine, x, out) =
            unsafe { (reference(engine, "engine")?, reference(x, "x")?, reference(out, "out")?) };
        if x.shape() != out.as_matrix().shape() {
            let (x, out) = (x.shape(), out.as_matrix().shape());
            return Err(Fault::argument(format!("x is {x:?}, out {out:?}")));
        }
        let cpu = engine.cpu;
        if out.is(x) {
            // SAFETY: as the caller says; x is not looked at any more.
            let rows = bands(unsafe { out.view("out") }?);
            engine.pool.run(rows, |band, _| softmax::softmax_in_place(cpu, band));
            return Ok(());
        }
        out.as_matrix().place("out")?.apart("out", &[("x", x.place("x")?)])?;
        // SAFETY: as the caller says; the two are apart.
        let (x, out) = unsafe { (x.view("x")?, out.view("out")?) };
        let mut first = 0;
        let pairs = bands(out).map(|band| {
            let rows = first..first + band.rows();
            first = rows.end;
            (x.sub(rows, 0..x.cols()), band)
        });
        engine.pool.run(pairs, |(x, band), _| softmax::softmax(cpu, x, band));
        Ok(())
    })
}

/// Floats of a piece of rows, about.
const BAND: usize = 1 << 16;

/// Bands of rows; how many is a matter of the shape.
fn bands(matrix: MatMut<'_>) -> impl Iterator<Item = MatMut<'_>> + Send {
    let most = (BAND / matrix.cols().max(1)).max(1);
    let mut below = Some(matrix);
    std::iter::from_fn(move || {
        let matrix = below.take()?;
        if matrix.rows() <= most {
            return Some(matrix);
        }
        let (band, rest) = matrix.split_rows(most);
        below = Some(rest);
        Some(band)
    })
}

/// `samebits_attention_args`
#[repr(C)]
pub struct AttentionArgs {
    q: Heads,
    k: Heads,
    v: Heads,
    out: HeadsMut,
    scale: f32,
    pattern: u32,
    window: usize,
}

/// `SAMEBITS_FULL`: every query sees every key.
pub const FULL: u32 = 0;
/// `SAMEBITS_CAUSAL`: the last query stands at the last key, and each sees the keys up to its own.
pub const CAUSAL: u32 = 1;
/// `SAMEBITS_WINDOW`: of these the last `window`.
pub const WINDOW: u32 = 2;

impl AttentionArgs {
    fn options(&self) -> Outcome<Options<'static>> {
        let pattern = match self.pattern {
            FULL => Pattern::Full,
            CAUSAL => Pattern::Causal,
            WINDOW => Pattern::Window(self.window),
            other => return Err(Fault::argument(format!("pattern is {other}, expected 0, 1 or 2"))),
        };
        let usual = Options::for_head_dim(self.q.shape()[3].max(1));
        let scale = if self.scale == 0.0 { usual.scale } else { self.scale };
        Ok(Options { scale, pattern, ..usual })
    }

    fn check(&self) -> Outcome {
        let (q, k, v, out) = (self.q.shape(), self.k.shape(), self.v.shape(), self.out.as_heads().shape());
        let heads = k[1] != 0 && q[1].is_multiple_of(k[1]) || q[1] == 0;
        let ok = q[0] == k[0] && heads && q[3] == k[3] && v[..3] == k[..3] && out == [q[0], q[1], q[2], v[3]];
        if ok {
            return Ok(());
        }
        Err(Fault::argument(format!("attention of q {q:?}, k {k:?}, v {v:?} into {out:?}")))
    }
}

/// softmax(scale · q kᵀ + mask) v, head by head, without the scores in memory.
///
/// # Safety
/// Pointers are NULL or as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn samebits_attention(engine: *const Engine, args: *const AttentionArgs) -> Status {
    door(|| {
        // SAFETY: as the caller says.
        let (engine, args) = unsafe { (reference(engine, "engine")?, reference(args, "args")?) };
        let options = args.options()?;
        args.check()?;
        let inputs = [("q", args.q.place("q")?), ("k", args.k.place("k")?), ("v", args.v.place("v")?)];
        args.out.as_heads().place("out")?.apart("out", &inputs)?;
        // SAFETY: as the caller says; the output is apart from all inputs.
        let (q, k, v, out) =
            unsafe { (args.q.view("q")?, args.k.view("k")?, args.v.view("v")?, args.out.view("out")?) };
        let (cpu, lines) = (engine.cpu, attention::scratch_len(q.shape()[3], v.shape()[3]));
        let problem = Attention { q, k: k.into(), v: v.into(), out, lse: None, options };
        engine.pool.run(problem.pieces(), |piece, scratch| piece.run(cpu, scratch.lines(lines)));
        Ok(())
    })
}
