//! Our attention and rotary embedding.

use crate::{Job, Output, cpu, input, job, pool};
use samebits::kernels::attention::{Attention, Options, Pattern, Products, fast_scratch_len};
use samebits::kernels::rope::{self, Pairing, Rope, Table};
use samebits::kernels::view::{HeadsMut, HeadsRef};

/// Shape of an attention; q and out are (batch, heads, lq, dim), k and v (batch, heads, lk, dim).
#[derive(Clone, Copy)]
#[repr(C)]
pub struct AttentionShape {
    batch: usize,
    heads: usize,
    lq: usize,
    lk: usize,
    dim: usize,
    causal: usize,
    /// Whether products are of bfloat16.
    halves: usize,
}

/// softmax(q kᵀ / √dim) v.
///
/// # Safety
/// As the crate says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peers_ours_attention(
    shape: AttentionShape,
    q: *const f32,
    k: *const f32,
    v: *const f32,
    out: *mut f32,
) -> *mut Job {
    let AttentionShape { batch, heads, lq, lk, dim, causal, halves } = shape;
    let (queries, keys) = ([batch, heads, lq, dim], [batch, heads, lk, dim]);
    let size = |shape: [usize; 4]| shape.iter().product();
    let q = unsafe { input(q, size(queries)) };
    let (k, v) = unsafe { (input(k, size(keys)), input(v, size(keys))) };
    let mut out = Output { at: out, len: size(queries) };
    let products = if halves == 0 { Products::F32 } else { Products::Bf16 };
    let pattern = if causal == 0 { Pattern::Full } else { Pattern::Causal };
    job(move || {
        let problem = Attention {
            q: HeadsRef::new(q, queries),
            k: HeadsRef::new(k, keys).into(),
            v: HeadsRef::new(v, keys).into(),
            out: HeadsMut::new(out.slice(), queries),
            lse: None,
            options: Options { pattern, products, ..Options::for_head_dim(dim) },
        };
        let lines = fast_scratch_len(cpu(), products, dim, dim);
        pool().run(problem.pieces(), |piece, scratch| piece.run(cpu(), scratch.lines(lines)));
    })
}

/// Rotates x (tokens, heads, dim) to y, halves paired, positions 0, 1, ….
///
/// # Safety
/// As the crate says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peers_ours_rope(
    tokens: usize,
    heads: usize,
    dim: usize,
    x: *const f32,
    y: *mut f32,
) -> *mut Job {
    /// Tokens of a piece.
    const BAND: usize = 64;
    let (pairs, width) = (dim / 2, heads * dim);
    let mut frequencies = vec![0.0; pairs];
    rope::frequencies(10_000.0, &mut frequencies);
    let (mut cos, mut sin) = (vec![0.0; tokens * pairs], vec![0.0; tokens * pairs]);
    rope::fill_table(0, &frequencies, 1.0, &mut cos, &mut sin);
    let positions: Vec<u32> = (0..tokens as u32).collect();
    let x = unsafe { input(x, tokens * width) };
    let mut y = Output { at: y, len: tokens * width };
    job(move || {
        let table = Table { cos: &cos, sin: &sin, pairs };
        let bands =
            x.chunks(BAND * width).zip(y.slice().chunks_mut(BAND * width)).zip(positions.chunks(BAND));
        pool().run(bands, |((x, y), positions), _| {
            let rope = Rope { table, pairing: Pairing::Half, positions };
            let tokens = positions.len();
            let (x, y) =
                (HeadsRef::by_token(x, tokens, heads, dim), HeadsMut::by_token(y, tokens, heads, dim));
            rope::apply(cpu(), &rope, x, y);
        });
    })
}
