//! Our products: matrices as they lie, packed once in three types, and batches of small ones.

use crate::{Job, Output, Shape, cpu, input, job, pool};
use samebits::kernels::Line;
use samebits::kernels::gemm::{
    Bf16, Element, F16, Gemm, PackedMatrix, Strided, Weights, gemm_each, pack, packed_len,
};
use samebits::kernels::view::{MatMut, MatRef};

/// A product on the pool, or whole where there is one thread.
pub(crate) fn product<W: Weights + 'static>(
    shape: Shape,
    a: *const f32,
    b: impl Fn() -> W + 'static,
    c: *mut f32,
) -> *mut Job {
    let Shape { m, n, k } = shape;
    let a = MatRef::new(unsafe { input(a, m * k) }, m, k);
    let mut c = Output { at: c, len: m * n };
    let mut scratch = vec![Line::ZERO; Gemm::new(a, b(), MatMut::new(c.slice(), m, n)).scratch_len()];
    job(move || {
        let gemm = Gemm::new(a, b(), MatMut::new(c.slice(), m, n));
        if pool().threads() == 1 {
            return gemm.run(cpu(), &mut scratch);
        }
        pool().run(gemm.pieces(), |piece, scratch| {
            let need = piece.scratch_len();
            piece.run(cpu(), scratch.lines(need));
        });
    })
}

/// C = A · B, all three row after row.
///
/// # Safety
/// As the crate says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peers_ours_gemm(
    shape: Shape,
    a: *const f32,
    b: *const f32,
    c: *mut f32,
) -> *mut Job {
    let b = MatRef::new(unsafe { input(b, shape.k * shape.n) }, shape.k, shape.n);
    product(shape, a, move || Strided(b), c)
}

/// C = A · Bᵀ with B as a layer stores it, (n, k).
///
/// # Safety
/// As the crate says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peers_ours_linear(
    shape: Shape,
    a: *const f32,
    b: *const f32,
    c: *mut f32,
) -> *mut Job {
    let b = MatRef::new(unsafe { input(b, shape.k * shape.n) }, shape.n, shape.k);
    product(shape, a, move || Strided(b.t()), c)
}

/// C = A · Bᵀ, B (n, k) packed before the clock starts.
///
/// # Safety
/// As the crate says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peers_ours_packed(
    shape: Shape,
    a: *const f32,
    b: *const f32,
    c: *mut f32,
) -> *mut Job {
    let Shape { n, k, .. } = shape;
    let mut groups = vec![[Line::ZERO; 8]; packed_len(k, n)];
    pack(cpu(), MatRef::new(unsafe { input(b, k * n) }, n, k).t(), &mut groups);
    let groups: &'static [_] = groups.leak();
    product(shape, a, move || PackedMatrix::<f32>::new(groups, k, n), c)
}

/// The same with weights of 16 bits: bfloat16, or with `half` IEEE half.
///
/// # Safety
/// As the crate says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peers_ours_packed16(
    shape: Shape,
    a: *const f32,
    b: *const u16,
    c: *mut f32,
    half: bool,
) -> *mut Job {
    let Shape { n, k, .. } = shape;
    let bits = unsafe { input(b, k * n) };
    if half {
        let groups = vec![F16::ZERO; packed_len(k, n)].leak();
        pack(cpu(), MatRef::new(F16::slice(bits), n, k).t(), groups);
        let groups: &'static [_] = groups;
        product(shape, a, move || PackedMatrix::<F16>::new(groups, k, n), c)
    } else {
        let groups = vec![Bf16::ZERO; packed_len(k, n)].leak();
        pack(cpu(), MatRef::new(Bf16::slice(bits), n, k).t(), groups);
        let groups: &'static [_] = groups;
        product(shape, a, move || PackedMatrix::<Bf16>::new(groups, k, n), c)
    }
}

/// `count` products side by side in memory.
///
/// # Safety
/// As the crate says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peers_ours_batch(
    count: usize,
    shape: Shape,
    a: *const f32,
    b: *const f32,
    c: *mut f32,
) -> *mut Job {
    /// Products of a piece.
    const PIECE: usize = 64;
    let Shape { m, n, k } = shape;
    let (a, b) = unsafe { (input(a, count * m * k), input(b, count * k * n)) };
    let mut c = Output { at: c, len: count * m * n };
    let need = samebits::kernels::gemm::scratch_len::<Strided>(m, k);
    job(move || {
        let pieces =
            a.chunks(PIECE * m * k).zip(b.chunks(PIECE * k * n)).zip(c.slice().chunks_mut(PIECE * m * n));
        pool().run(pieces, |((a, b), c), scratch| {
            let each = a.chunks(m * k).zip(b.chunks(k * n)).zip(c.chunks_mut(m * n));
            let jobs = each.map(|((a, b), c)| {
                Gemm::new(MatRef::new(a, m, k), Strided(MatRef::new(b, k, n)), MatMut::new(c, m, n))
            });
            gemm_each(cpu(), jobs, scratch.lines(need));
        });
    })
}
