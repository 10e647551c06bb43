//! Every kernel as one line: what the guard pages and the counting allocator run.
//!
//! A case takes its slices from [`Guarded`] and calls one kernel over rows of `n` elements. It allocates nothing
//! itself; results are finite, for NaN payloads may differ.

use super::guard::Guarded;
use samebits::Cpu;
use samebits::kernels::activation::{self, Activation};
use samebits::kernels::rope::{self, Heads, Pairing, Rope, Table};
use samebits::kernels::view::{MatMut, MatRef};
use samebits::kernels::{dot::*, elementwise::*, half::*, norm::*, reduce::*, softmax::*, topk::*};
use samebits::kernels::{map, math};

/// A name, and the kernel over `n` elements a row in guarded memory.
pub type Case = (&'static str, fn(Cpu, usize, &mut Guarded));

/// (1, n) to read.
fn row(x: &[f32]) -> MatRef<'_> {
    MatRef::new(x, 1, x.len())
}

/// (1, n) to write.
fn row_mut(x: &mut [f32]) -> MatMut<'_> {
    let n = x.len();
    MatMut::new(x, 1, n)
}

/// LayerNorm's parameters, guarded too.
fn layer(n: usize, at: &mut Guarded) -> LayerNorm<'static> {
    LayerNorm { weight: Some(at.floats(n)), bias: Some(at.floats(n)), eps: 1e-5 }
}

/// RMSNorm's parameter, guarded too.
fn rms(n: usize, at: &mut Guarded) -> RmsNorm<'static> {
    RmsNorm { gain: Gain::OnePlus(at.floats(n)), eps: 1e-5 }
}

/// What has a logarithm.
fn positive(cpu: Cpu, x: &'static mut [f32]) -> &'static [f32] {
    map::slice(cpu, math::Exp, x);
    x
}

/// A table of one position, guarded too.
fn turn(pairing: Pairing, n: usize, at: &mut Guarded) -> Rope<'static> {
    let table = Table { cos: at.floats(n / 2), sin: at.floats(n / 2), pairs: n / 2 };
    Rope { table, pairing, positions: &[0] }
}

/// All of them, one line each.
#[rustfmt::skip]
pub const CASES: &[Case] = &[
    ("dot", |cpu, n, at| at.out(1)[0] = dot(cpu, at.floats(n), at.floats(n))),
    ("dot_rows/1", |cpu, n, at| dot_rows(cpu, at.floats(n), MatRef::new(at.floats(n), 1, n), at.out(1))),
    ("dot_rows/21", |cpu, n, at| dot_rows(cpu, at.floats(n), MatRef::new(at.floats(21 * n), 21, n), at.out(21))),
    ("dot_rows/columns", |cpu, n, at| dot_rows(cpu, at.floats(5), MatRef::new(at.floats(5 * n), 5, n).t(), at.out(n))),
    ("sum", |cpu, n, at| at.out(1)[0] = sum(cpu, at.floats(n))),
    ("mean", |cpu, n, at| at.out(1)[0] = mean(cpu, at.floats(n + 1))),
    ("norm2", |cpu, n, at| at.out(1)[0] = norm2(cpu, at.floats(n))),
    ("max", |cpu, n, at| at.out(1)[0] = max(cpu, at.floats(n))),
    ("min", |cpu, n, at| at.out(1)[0] = min(cpu, at.floats(n))),
    ("argmax", |cpu, n, at| at.out::<u32>(1)[0] = argmax(cpu, at.floats(n)).map_or(0, |i| i as u32)),
    ("reduce_rows/columns", |cpu, n, at| reduce_rows(cpu, Reduction::Sum, MatRef::new(at.floats(3 * n), 3, n).t(), at.out(n))),
    ("topk", |cpu, n, at| _ = topk(cpu, at.floats(n), at.out(n.min(9)), at.out(n.min(9)))),
    ("topk/all", |cpu, n, at| _ = topk(cpu, at.floats(n), at.out(n), at.out(n))),
    ("softmax", |cpu, n, at| softmax(cpu, row(at.floats(n)), row_mut(at.out(n)))),
    ("softmax/in place", |cpu, n, at| softmax_in_place(cpu, row_mut(at.floats_mut(n)))),
    ("softmax/columns", |cpu, n, at| softmax(cpu, MatRef::new(at.floats(3 * n), 3, n).t(), MatMut::new(at.out(3 * n), 3, n).t())),
    ("log_softmax", |cpu, n, at| log_softmax(cpu, row(at.floats(n)), row_mut(at.out(n)))),
    ("log_softmax/in place", |cpu, n, at| log_softmax_in_place(cpu, row_mut(at.floats_mut(n)))),
    ("layer_norm", |cpu, n, at| layer_norm(cpu, row(at.floats(n)), &layer(n, at), row_mut(at.out(n)))),
    ("layer_norm/in place", |cpu, n, at| layer_norm_in_place(cpu, row_mut(at.floats_mut(n)), &layer(n, at))),
    ("add_layer_norm", |cpu, n, at| add_layer_norm(cpu, row_mut(at.floats_mut(n)), row(at.floats(n)), &layer(n, at), row_mut(at.out(n)))),
    ("rms_norm", |cpu, n, at| rms_norm(cpu, row(at.floats(n)), &rms(n, at), row_mut(at.out(n)))),
    ("add_rms_norm", |cpu, n, at| add_rms_norm(cpu, row_mut(at.floats_mut(n)), row(at.floats(n)), &rms(n, at), row_mut(at.out(n)))),
    ("exp", |cpu, n, at| map::slice(cpu, math::Exp, at.floats_mut(n))),
    ("ln", |cpu, n, at| map::apply(cpu, math::Ln, row(positive(cpu, at.floats_mut(n))), row_mut(at.out(n)))),
    ("tanh", |cpu, n, at| map::slice(cpu, math::Tanh, at.floats_mut(n))),
    ("erf", |cpu, n, at| map::slice(cpu, math::Erf, at.floats_mut(n))),
    ("sigmoid", |cpu, n, at| map::slice(cpu, math::Sigmoid, at.floats_mut(n))),
    ("gelu_erf", |cpu, n, at| activation::apply(cpu, Activation::GeluErf, row(at.floats(n)), row_mut(at.out(n)))),
    ("gelu_tanh/in place", |cpu, n, at| activation::apply_in_place(cpu, Activation::GeluTanh, row_mut(at.floats_mut(n)))),
    ("silu/columns", |cpu, n, at| activation::apply(cpu, Activation::Silu, MatRef::new(at.floats(3 * n), 3, n).t(), MatMut::new(at.out(3 * n), n, 3))),
    ("swiglu", |cpu, n, at| activation::gated(cpu, Activation::Silu, row(at.floats(n)), row(at.floats(n)), row_mut(at.out(n)))),
    ("rope/half", |cpu, n, at| rope::in_place(cpu, &turn(Pairing::Half, n, at), &Heads::by_token(1, 2, n), at.floats_mut(2 * n))),
    ("rope/interleaved", |cpu, n, at| rope::apply(cpu, &turn(Pairing::Interleaved, n, at), (&Heads::by_token(1, 2, n), at.floats(2 * n)), (&Heads::by_token(1, 2, n), at.out(2 * n)))),
    ("binary", |cpu, n, at| binary(cpu, Binary::Max, row(at.floats(n)), row(at.floats(n)), row_mut(at.out(n)))),
    ("binary/in place", |cpu, n, at| binary_in_place(cpu, Binary::Add, row_mut(at.floats_mut(n)), row(at.floats(n)))),
    ("binary/columns", |cpu, n, at| binary(cpu, Binary::Mul, MatRef::new(at.floats(3 * n), n, 3), MatRef::new(at.floats(3 * n), 3, n).t(), MatMut::new(at.out(3 * n), 3, n).t())),
    ("unary", |cpu, n, at| unary(cpu, Unary::Exp, row(at.floats(n)), row_mut(at.out(n)))),
    ("unary/in place", |cpu, n, at| unary_in_place(cpu, Unary::Abs, row_mut(at.floats_mut(n)))),
    ("widen_f16", |cpu, n, at| widen_f16(cpu, at.halves(n), at.out(n))),
    ("widen_bf16", |cpu, n, at| widen_bf16(cpu, at.halves(n), at.out(n))),
    ("narrow_f16", |cpu, n, at| narrow_f16(cpu, at.floats(n), at.out(n))),
    ("narrow_bf16", |cpu, n, at| narrow_bf16(cpu, at.floats(n), at.out(n))),
];
