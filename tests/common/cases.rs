//! Every kernel as one line: what the guard pages and the counting allocator run.
//!
//! A case takes its slices from [`Guarded`] and calls one kernel over rows of `n` elements. It allocates nothing
//! itself; results are finite, for NaN payloads may differ.

use super::guard::{Guarded, Plain};
use samebits::Cpu;
use samebits::kernels::Line;
use samebits::kernels::activation::{self, Activation, GatedInputs};
use samebits::kernels::attention::{
    Attention, AttentionBackward, Gradients, Options, Pattern, Products, Stored, attention,
    attention_backward, backward_scratch_len, scratch_len,
};
use samebits::kernels::bf16::{GemmBf16, PackedBf16};
use samebits::kernels::column_sum::ColumnSum;
use samebits::kernels::cross_entropy::{CrossEntropy, cross_entropy};
use samebits::kernels::gemm::{
    self, Accumulate, Bf16, Epilogue, Gemm, LowRank, PackedMatrix, Strided, Transposed, Turned, Weights,
};
use samebits::kernels::ggml::{self, Format, Packed4, Packed8, Rows};
use samebits::kernels::int8::{
    Codes as Coded, Eight, GemmI8, GemmQ8, Nf4, Nibbles, OfFile, PackedBlocks, PackedI8, Q4K, Q6K, Q51,
    Quantized, blocks_len, scales_len,
};
use samebits::kernels::nf4::{PackedNf4, RowNf4};
use samebits::kernels::optim::{AdamW, AdamWOptions, Direction, Lion, Momentum, Sgd, eight, sum_of_squares};
use samebits::kernels::rope::{self, Pairing, Rope, Table};
use samebits::kernels::scatter::ScatterAdd;
use samebits::kernels::search::{Code, Codes, FloatRows, QueryCodes, Which, dots};
use samebits::kernels::view::{HeadsMut, HeadsRef, MatMut, MatRef};
use samebits::kernels::{
    cumsum::*, dot::*, elementwise::*, half::*, norm::*, reduce::*, softmax::*, topk::*,
};
use samebits::kernels::{int8, map, math, nf4};

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

/// A second step of AdamW.
fn adamw() -> AdamW {
    AdamW::at(2, 0.1, &AdamWOptions { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.1 }, 0.5)
}

/// A table of one position, guarded too.
fn turn(pairing: Pairing, n: usize, at: &mut Guarded) -> Rope<'static> {
    let table = Table { cos: at.floats(n / 2), sin: at.floats(n / 2), pairs: n / 2 };
    Rope { table, pairing, positions: &[0] }
}

/// `lq` queries of dimension `d` over `n` keys, the last of which stands at the last key.
fn attend(cpu: Cpu, [lq, n, d]: [usize; 3], products: Products, at: &mut Guarded) {
    // Enough for d <= 8, checked by the kernel: on the stack, for a case allocates nothing.
    let mut scratch = [Line::ZERO; 1000];
    let problem = Attention {
        q: HeadsRef::new(at.floats(lq * d), [1, 1, lq, d]),
        k: HeadsRef::new(at.floats(n * d), [1, 1, n, d]).into(),
        v: HeadsRef::new(at.floats(n * d), [1, 1, n, d]).into(),
        out: HeadsMut::new(at.out(lq * d), [1, 1, lq, d]),
        lse: None,
        options: Options { products, pattern: Pattern::Causal, ..Options::new(0.3) },
    };
    attention(cpu, problem, &mut scratch[..scratch_len(d, d)]);
}

/// The same over a cache of half words.
fn attend_halves(cpu: Cpu, [lq, n, d]: [usize; 3], at: &mut Guarded) {
    let mut scratch = [Line::ZERO; 6000];
    let problem = Attention {
        q: HeadsRef::new(at.floats(lq * d), [1, 1, lq, d]),
        k: Stored::Bf16(HeadsRef::new(at.halves(n * d), [1, 1, n, d])),
        v: Stored::Bf16(HeadsRef::new(at.halves(n * d), [1, 1, n, d])),
        out: HeadsMut::new(at.out(lq * d), [1, 1, lq, d]),
        lse: None,
        options: Options { products: Products::Bf16, pattern: Pattern::Causal, ..Options::new(0.3) },
    };
    attention(cpu, problem, &mut scratch[..scratch_len(d, d)]);
}

/// The same over the forms of a cache: keys of half words, values of codes with scales.
fn attend_stored(cpu: Cpu, [lq, n, d]: [usize; 3], at: &mut Guarded) {
    let mut scratch = [Line::ZERO; 6000];
    let problem = Attention {
        q: HeadsRef::new(at.floats(lq * d), [1, 1, lq, d]),
        k: Stored::Bf16(HeadsRef::new(at.halves(n * d), [1, 1, n, d])),
        v: Stored::Int8 {
            codes: HeadsRef::new(at.codes(n * d), [1, 1, n, d]),
            scales: HeadsRef::new(at.floats(n), [1, 1, n, 1]),
        },
        out: HeadsMut::new(at.out(lq * d), [1, 1, lq, d]),
        lse: None,
        options: Options { pattern: Pattern::Causal, ..Options::new(0.3) },
    };
    attention(cpu, problem, &mut scratch[..scratch_len(d, d)]);
}

/// The gradients of `lq` queries of dimension `d` over `n` keys.
fn attend_backward(cpu: Cpu, [lq, n, d]: [usize; 3], at: &mut Guarded) {
    let mut scratch = [Line::ZERO; 3000];
    let (few, many) = ([1, 1, lq, d], [1, 1, n, d]);
    let problem = AttentionBackward {
        q: HeadsRef::new(at.floats(lq * d), few),
        k: HeadsRef::new(at.floats(n * d), many),
        v: HeadsRef::new(at.floats(n * d), many),
        out: HeadsRef::new(at.floats(lq * d), few),
        lse: HeadsRef::new(at.floats(lq), [1, 1, lq, 1]),
        d_out: HeadsRef::new(at.floats(lq * d), few),
        options: Options { pattern: Pattern::Causal, ..Options::new(0.3) },
    };
    let to = Gradients {
        dq: HeadsMut::new(at.out(lq * d), few),
        dk: HeadsMut::new(at.out(n * d), many),
        dv: HeadsMut::new(at.out(n * d), many),
    };
    attention_backward(cpu, &problem, to, at.out(lq), &mut scratch[..backward_scratch_len(d, d)]);
}

/// All of them, one line each.
#[rustfmt::skip]
pub const CASES: &[Case] = &[
    ("attention/prefill", |cpu, n, at| attend(cpu, [9, n, 5], Products::F32, at)),
    ("attention/decode", |cpu, n, at| attend(cpu, [1, n, 8], Products::F32, at)),
    ("attention/prefill, bf16", |cpu, n, at| attend(cpu, [9, n, 5], Products::Bf16, at)),
    ("attention/decode, bf16", |cpu, n, at| attend(cpu, [1, n, 8], Products::Bf16, at)),
    ("attention/prefill of halves", |cpu, n, at| attend_halves(cpu, [9, n, 7], at)),
    ("attention/decode of halves", |cpu, n, at| attend_halves(cpu, [1, n, 32], at)),
    ("attention/prefill, stored", |cpu, n, at| attend_stored(cpu, [9, n, 5], at)),
    ("attention/decode, stored", |cpu, n, at| attend_stored(cpu, [1, n, 32], at)),
    ("int8/quantize", |cpu, n, at| at.out(1)[0] = int8::quantize(cpu, at.floats(n), at.out(n))),
    ("int8/quantize, blocks", |cpu, n, at| int8::quantize_blocks(cpu, at.floats(n / 32 * 32), at.out(n / 32 * 32), at.out(n / 32))),
    ("gemm_i8/rows", |cpu, n, at| integers(cpu, (5, 15, n), at)),
    ("gemm_i8/columns", |cpu, n, at| integers(cpu, (3, n, 9), at)),
    ("gemm_i8/tall", |cpu, n, at| integers(cpu, (n, 9, 35), at)),
    ("gemm_i8/vector", |cpu, n, at| integers(cpu, (1, n, 32), at)),
    ("gemm_q8/8 bits", |cpu, n, at| scaled::<Eight>(cpu, (3, n, 32), at)),
    ("gemm_q8/4 bits", |cpu, n, at| scaled::<Nibbles>(cpu, (1, 33, n / 32 * 32), at)),
    ("gemm_q8/5 bits", |cpu, n, at| scaled::<Q51>(cpu, (2, 17, n / 32 * 32), at)),
    ("gemm_q8/4 bits of 256", |cpu, n, at| scaled::<Q4K>(cpu, (1, 17, n % 3 * 256), at)),
    ("gemm_q8/6 bits of 256", |cpu, n, at| scaled::<Q6K>(cpu, (3, n % 35, 256), at)),
    ("gemm_q8/NF4", |cpu, n, at| scaled_nf4(cpu, (2, 17, n / 32 * 32), at)),
    ("gemm_bf16/rows", |cpu, n, at| bf16_product(cpu, (5, 19, n), at)),
    ("gemm_bf16/columns", |cpu, n, at| bf16_product(cpu, (1, n, 8), at)),
    ("gemm_bf16/rows in halves", |cpu, n, at| bf16_alone(cpu, (n, 19, 5), at)),
    ("gemm_bf16/columns in halves", |cpu, n, at| bf16_alone(cpu, (9, n, 8), at)),
    ("gemm_bf16/steps in halves", |cpu, n, at| bf16_alone(cpu, (9, 5, n), at)),
    ("gemm_bf16/steps of floats", |cpu, n, at| bf16_of_floats(cpu, (5, 19, n), at)),
    ("gemm_bf16/rows of floats", |cpu, n, at| bf16_of_floats(cpu, (n, 5, 9), at)),
    ("gemm_bf16/columns of floats", |cpu, n, at| bf16_of_floats(cpu, (2, n, 9), at)),
    ("dot", |cpu, n, at| at.out(1)[0] = dot(cpu, at.floats(n), at.floats(n))),
    ("dot_rows/1", |cpu, n, at| dot_rows(cpu, at.floats(n), MatRef::new(at.floats(n), 1, n), at.out(1))),
    ("dot_rows/21", |cpu, n, at| dot_rows(cpu, at.floats(n), MatRef::new(at.floats(21 * n), 21, n), at.out(21))),
    ("dot_rows/columns", |cpu, n, at| dot_rows(cpu, at.floats(5), MatRef::new(at.floats(5 * n), 5, n).t(), at.out(n))),
    ("search/floats", |cpu, n, at| if n > 0 { dots(cpu, FloatRows::F32(at.floats(6 * n)), Which::From(0, 6), (at.floats(5 * n), n), at.out(30)) }),
    ("search/halves, some", |cpu, n, at| if n > 0 { dots(cpu, FloatRows::F16(at.halves(6 * n)), Which::At(&[5, 0, 3]), (at.floats(n), n), at.out(3)) }),
    ("search/int8", |cpu, n, at| coded(cpu, Code::Int8, n, at)),
    ("search/NF4", |cpu, n, at| coded(cpu, Code::Nf4, n, at)),
    ("search/binary", |cpu, n, at| coded(cpu, Code::Binary, n, at)),
    ("cumsum", |_, n, at| cumsum(row(at.floats(n)), row_mut(at.out(n)))),
    ("log_sum_exp", |cpu, n, at| log_sum_exp(cpu, row(at.floats(n + 1)), at.out(1))),
    ("log_sum_exp/columns", |cpu, n, at| log_sum_exp(cpu, MatRef::new(at.floats(5 * n), 5, n).t(), at.out(n))),
    ("pow", |cpu, n, at| {
        let (a, b) = (positive(cpu, at.out(n)), at.floats(n));
        binary(cpu, Binary::Pow, row(a), row(b), row_mut(at.out(n)));
    }),
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
    ("rope/half", |cpu, n, at| rope::in_place(cpu, &turn(Pairing::Half, n, at), HeadsMut::by_token(at.floats_mut(2 * n), 1, 2, n))),
    ("rope/interleaved", |cpu, n, at| rope::apply(cpu, &turn(Pairing::Interleaved, n, at), HeadsRef::by_token(at.floats(2 * n), 1, 2, n), HeadsMut::by_token(at.out(2 * n), 1, 2, n))),
    ("binary", |cpu, n, at| binary(cpu, Binary::Max, row(at.floats(n)), row(at.floats(n)), row_mut(at.out(n)))),
    ("binary/in place", |cpu, n, at| binary_in_place(cpu, Binary::Add, row_mut(at.floats_mut(n)), row(at.floats(n)))),
    ("binary/columns", |cpu, n, at| binary(cpu, Binary::Mul, MatRef::new(at.floats(3 * n), n, 3), MatRef::new(at.floats(3 * n), 3, n).t(), MatMut::new(at.out(3 * n), 3, n).t())),
    ("unary", |cpu, n, at| unary(cpu, Unary::Exp, row(at.floats(n)), row_mut(at.out(n)))),
    ("unary/in place", |cpu, n, at| unary_in_place(cpu, Unary::Abs, row_mut(at.floats_mut(n)))),
    ("widen_f16", |cpu, n, at| widen_f16(cpu, at.halves(n), at.out(n))),
    ("widen_bf16", |cpu, n, at| widen_bf16(cpu, at.halves(n), at.out(n))),
    ("narrow_f16", |cpu, n, at| narrow_f16(cpu, at.floats(n), at.out(n))),
    ("narrow_bf16", |cpu, n, at| narrow_bf16(cpu, at.floats(n), at.out(n))),
    ("sgd", |cpu, n, at| Sgd { lr: 0.1, weight_decay: 0.1, scale: 0.5 }.run(cpu, at.floats_mut(n), at.floats(n))),
    ("momentum", |cpu, n, at| {
        let sgd = Sgd { lr: 0.1, weight_decay: 0.1, scale: 0.5 };
        let step = Momentum { sgd, momentum: 0.9, direction: Direction::Nesterov };
        step.run(cpu, at.floats_mut(n), at.floats(n), at.floats_mut(n));
    }),
    ("lion", |cpu, n, at| Lion::new(0.1, [0.9, 0.99], 0.1, 0.5).run(cpu, at.floats_mut(n), at.floats(n), at.floats_mut(n))),
    ("adamw", |cpu, n, at| adamw().run(cpu, at.floats_mut(n), at.floats(n), at.floats_mut(n), at.positive(n))),
    ("adamw/eight bits", |cpu, n, at| {
        let (m, v) = (at.out::<u8>(n), at.out::<u8>(n));
        let (m_absmax, v_absmax) = (at.floats_mut(n.div_ceil(256)), at.positive(n.div_ceil(256)));
        let moments = eight::Moments { m, v, m_absmax, v_absmax };
        eight::adamw(cpu, adamw(), at.floats_mut(n), at.floats(n), moments);
    }),
    ("sum_of_squares", |cpu, n, at| at.out(1)[0] = sum_of_squares(cpu, at.floats(n)) as f32),
    ("fp4_quantize", |cpu, n, at| nf4::fp4::quantize(cpu, at.floats(n), 64, at.out(n.div_ceil(2)), at.out(n.div_ceil(64))).unwrap()),
    ("fp4_dequantize/blocks of 3", |cpu, n, at| nf4::fp4::dequantize(cpu, at.bytes(n.div_ceil(2)), at.floats(n.div_ceil(3)), 3, at.out(n))),
    ("nf4_quantize", |cpu, n, at| nf4::quantize(cpu, at.floats(n), 64, at.out(n.div_ceil(2)), at.out(n.div_ceil(64))).unwrap()),
    ("nf4_quantize/blocks of 3", |cpu, n, at| nf4::quantize(cpu, at.floats(n), 3, at.out(n.div_ceil(2)), at.out(n.div_ceil(3))).unwrap()),
    ("nf4_quantize/f16", |cpu, n, at| nf4::quantize_f16(cpu, at.halves(n), 64, at.out(n.div_ceil(2)), at.out(n.div_ceil(64))).unwrap()),
    ("nf4_dequantize", |cpu, n, at| nf4::dequantize(cpu, at.bytes(n.div_ceil(2)), at.floats(n.div_ceil(64)), 64, at.out(n))),
    ("nf4_dequantize/blocks of 3", |cpu, n, at| nf4::dequantize(cpu, at.bytes(n.div_ceil(2)), at.floats(n.div_ceil(3)), 3, at.out(n))),
    ("nf4_dequantize/bf16", |cpu, n, at| nf4::dequantize_bf16(cpu, at.bytes(n.div_ceil(2)), at.floats(n.div_ceil(64)), 64, at.out(n))),
    ("nf4_quantize_absmax", |cpu, n, at| at.out(1)[0] = nf4::quantize_absmax(cpu, at.floats(n), at.out(n), at.out(n.div_ceil(256))).unwrap()),
    ("nf4_dequantize_absmax", |cpu, n, at| nf4::dequantize_absmax(cpu, at.bytes(n), at.floats(n.div_ceil(256)), 0.5, at.out(n))),
    ("gemm/rows", |cpu, n, at| product(cpu, MatRef::new(at.floats(5 * n), 5, n), Strided(MatRef::new(at.floats(19 * n), n, 19)), (5, 19), at)),
    ("gemm/columns", |cpu, n, at| product(cpu, MatRef::new(at.floats(21), 3, 7), Strided(MatRef::new(at.floats(7 * n), 7, n)), (3, n), at)),
    ("gemm/tall", |cpu, n, at| product(cpu, MatRef::new(at.floats(3 * n), n, 3), Strided(MatRef::new(at.floats(51), 3, 17)), (n, 17), at)),
    ("gemm/low rank", |cpu, n, at| low_rank(cpu, n, at)),
    ("gemm/packed", |cpu, n, at| product(cpu, MatRef::new(at.floats(2 * n), 2, n), packed(cpu, n, 35, at), (2, 35), at)),
    ("gemv/packed", |cpu, n, at| product(cpu, row(at.floats(n)), packed(cpu, n, 18, at), (1, 18), at)),
    ("gemv/packed columns", |cpu, n, at| product(cpu, row(at.floats(9)), packed(cpu, 9, n, at), (1, n), at)),
    ("gemv/row-major", |cpu, n, at| product(cpu, row(at.floats(n)), Strided(MatRef::new(at.floats(21 * n), 21, n).t()), (1, 21), at)),
    ("gemv/row-major columns", |cpu, n, at| product(cpu, row(at.floats(5)), Strided(MatRef::new(at.floats(5 * n), n, 5).t()), (1, n), at)),
    ("nf4/gemv", |cpu, n, at| product(cpu, row(at.floats(n)), nf4_weights(17, n, at), (1, 17), at)),
    ("nf4/gemm", |cpu, n, at| product(cpu, MatRef::new(at.floats(3 * n), 3, n), nf4_weights(17, n, at), (3, 17), at)),
    ("ggml/dequantize, Q5_1", |cpu, n, at| ggml::dequantize(cpu, Format::Q5_1, blocks(Format::Q5_1, n / 32, at), at.out(n / 32 * 32))),
    ("ggml/dequantize, Q6_K", |cpu, n, at| ggml::dequantize(cpu, Format::Q6K, blocks(Format::Q6K, n % 5, at), at.out(n % 5 * 256))),
    ("ggml/quantize_q8_0", |cpu, n, at| ggml::quantize_q8_0(cpu, at.floats(n / 32 * 32), at.out(n / 32 * 34)).unwrap()),
    ("ggml/quantize_q4_0", |cpu, n, at| ggml::quantize_q4_0(cpu, at.floats(n / 32 * 32), at.out(n / 32 * 18)).unwrap()),
    ("ggml/gemv, rows", |cpu, n, at| product(cpu, row(at.floats(64)), Rows::new(Format::Q4_0, n, 64, blocks(Format::Q4_0, 2 * n, at)), (1, n), at)),
    ("ggml/gemm, rows", |cpu, n, at| product(cpu, MatRef::new(at.floats(96), 3, 32), Rows::new(Format::Q8_0, n, 32, blocks(Format::Q8_0, n, at)), (3, n), at)),
    ("ggml/gemv, 8 bits", |cpu, n, at| product(cpu, row(at.floats(64)), eight_bits(n, 64, at), (1, n), at)),
    ("ggml/gemm, 8 bits", |cpu, n, at| product(cpu, MatRef::new(at.floats(n / 32 * 96), 3, n / 32 * 32), eight_bits(17, n / 32 * 32, at), (3, 17), at)),
    ("ggml/gemv, 4 bits", |cpu, n, at| product(cpu, row(at.floats(n / 32 * 32)), four_bits(17, n / 32 * 32, at), (1, 17), at)),
    ("backward/dx over f32", |cpu, n, at| { let w = Transposed::new(Turned::F32(packed(cpu, n, 21, at))); product(cpu, MatRef::new(at.floats(63), 3, 21), w, (3, n), at) }),
    ("backward/dx over f32, outputs", |cpu, n, at| { let w = Transposed::new(Turned::F32(packed(cpu, 21, n, at))); product(cpu, MatRef::new(at.floats(3 * n), 3, n), w, (3, 21), at) }),
    ("backward/dx over NF4", |cpu, n, at| { let w = Transposed::new(Turned::Nf4(nf4_weights(17, n, at))); product(cpu, MatRef::new(at.floats(34), 2, 17), w, (2, n), at) }),
    ("backward/dx over 8 bits", |cpu, n, at| { let w = Transposed::new(Turned::Ggml8(eight_bits(n, 64, at))); product(cpu, MatRef::new(at.floats(2 * n), 2, n), w, (2, 64), at) }),
    ("backward/dx over rows", |cpu, n, at| { let w = Transposed::new(Turned::Blocks(Rows::new(Format::Q5_1, n, 64, blocks(Format::Q5_1, 2 * n, at)))); product(cpu, MatRef::new(at.floats(2 * n), 2, n), w, (2, 64), at) }),
    ("backward/column sums", |cpu, n, at| ColumnSum { x: MatRef::new(at.floats(3 * n), 3, n), accumulate: Accumulate::Overwrite, out: at.out(n) }.run(cpu)),
    ("backward/gelu_erf", |cpu, n, at| activation::backward(cpu, Activation::GeluErf, row(at.floats(n)), row(at.floats(n)), row_mut(at.out(n)))),
    ("backward/relu in place", |cpu, n, at| activation::backward_in_place(cpu, Activation::Relu, row(at.floats(n)), row_mut(at.floats_mut(n)))),
    ("backward/swiglu", |cpu, n, at| { let inputs = GatedInputs { gate: row(at.floats(n)), up: row(at.floats(n)), dy: row(at.floats(n)) }; activation::gated_backward(cpu, Activation::Silu, inputs, row_mut(at.out(n)), row_mut(at.out(n))) }),
    ("backward/softmax", |cpu, n, at| softmax_backward(cpu, row(at.floats(n)), row(at.floats(n)), row_mut(at.out(n)))),
    ("backward/log_softmax in place", |cpu, n, at| log_softmax_backward_in_place(cpu, row(at.floats(n)), row_mut(at.floats_mut(n)))),
    ("backward/layer_norm", |cpu, n, at| if n > 0 { layer_norm_backward(cpu, &layer(n, at), norm_rows(n, at)) }),
    ("backward/rms_norm", |cpu, n, at| if n > 0 { rms_norm_backward(cpu, &rms(n, at), norm_rows(n, at)) }),
    ("backward/norm weights", |cpu, n, at| NormWeights { x: MatRef::new(at.floats(2 * n), 2, n), dy: MatRef::new(at.floats(2 * n), 2, n), stats: &[Stats { mean: 0.1, scale: 2.0 }; 2], accumulate: Accumulate::Overwrite, out: at.out(n) }.run(cpu)),
    ("backward/rope", |cpu, n, at| rope::backward_in_place(cpu, &turn(Pairing::Half, n, at), HeadsMut::by_token(at.floats_mut(2 * n), 1, 2, n))),
    ("backward/scatter-add", |cpu, n, at| ScatterAdd { ids: &[1, 0, 1], x: MatRef::new(at.floats(3 * n), 3, n), out: MatMut::new(at.floats_mut(2 * n), 2, n) }.run(cpu)),
    ("backward/attention, keys", |cpu, n, at| attend_backward(cpu, [9, n, 5], at)),
    ("backward/attention, queries", |cpu, n, at| attend_backward(cpu, [n, 20, 8], at)),
    ("backward/cross-entropy", |cpu, n, at| if n > 0 { cross_entropy(cpu, &CrossEntropy { label_smoothing: 0.1, ..CrossEntropy::default() }, MatMut::new(at.floats_mut(2 * n), 2, n), &[n as i32 - 1, -100], &mut [0.0; 2]) }),
];

/// A query alone, then two with it, against five rows of codes of `n` elements.
fn coded(cpu: Cpu, code: Code, n: usize, at: &mut Guarded) {
    let (rows, scales, lines) = (at.bytes(5 * code.row_bytes(n)), at.floats(5), at.out(code.query_lines(n)));
    let scale = if n > 0 { QueryCodes::fill(cpu, code, at.floats(n), at.out(n), lines) } else { 0.5 };
    let (query, codes) = (QueryCodes { lines, scale }, Codes { code, k: n, rows, scales });
    codes.dots(cpu, Which::From(0, 5), &[query], at.out(5));
    codes.dots(cpu, Which::At(&[4, 0]), &[query; 3], at.out(6));
}

/// C (m, n) = A · B of integers, scratch guarded too.
fn integers(cpu: Cpu, (m, n, k): (usize, usize, usize), at: &mut Guarded) {
    let b = PackedI8::pack(MatRef::new(at.codes(k * n), k, n), at.out(blocks_len(n, k)));
    let (a, c) = (MatRef::new(at.codes(m * k), m, k), MatMut::new(at.out(m * n), m, n));
    // Many rows ask for more than the rig has.
    let (mut room, need) = ([Line::ZERO; 2000], GemmI8::scratch_len(m, k, n));
    let scratch = if need <= 200 { at.scratch(need) } else { &mut room[..need] };
    GemmI8 { a, b, c, accumulate: Accumulate::Overwrite }.run(cpu, scratch);
}

/// C (m, n) = A · W of codes with scales, k whole blocks of 32, scratch guarded too.
fn with_scales<C: Coded>(cpu: Cpu, m: usize, w: PackedBlocks<'static, C>, at: &mut Guarded) {
    let (k, n) = w.shape();
    let a = Quantized {
        codes: MatRef::new(at.codes(m * k), m, k),
        scales: MatRef::new(at.floats(m * (k / 32)), m, k / 32),
    };
    let job = GemmQ8::new(a, w, MatMut::new(at.out(m * n), m, n));
    job.run(cpu, at.scratch(GemmQ8::<C>::scratch_len(m, k)));
}

fn scaled<C: OfFile<Block: Plain, Scales: Plain>>(
    cpu: Cpu,
    (m, n, k): (usize, usize, usize),
    at: &mut Guarded,
) {
    let rows = Rows::new(C::FORMAT, n, k, blocks(C::FORMAT, n * k / C::FORMAT.block_len(), at));
    let w = PackedBlocks::<C>::pack(rows, at.out(blocks_len(n, k)), at.out(scales_len::<C>(n, k)));
    with_scales(cpu, m, w, at);
}

fn scaled_nf4(cpu: Cpu, (m, n, k): (usize, usize, usize), at: &mut Guarded) {
    let (codes, absmax) = (at.bytes(nf4::code_bytes(n * k)), at.floats(nf4::block_count(n * k, 32)));
    let rows = RowNf4::new(n, k, 32, codes, absmax);
    let w = PackedBlocks::<Nf4>::pack(rows, at.out(blocks_len(n, k)), at.out(blocks_len(n, k)));
    with_scales(cpu, m, w, at);
}

/// C (m, n) = A · B of bfloat16, scratch guarded too.
fn bf16_product(cpu: Cpu, (m, n, k): (usize, usize, usize), at: &mut Guarded) {
    let b = MatRef::new(Bf16::slice(at.halves(k * n)), k, n);
    let b = PackedBf16::pack(cpu, b, at.out(gemm::packed_len(k, n)));
    let c = MatMut::new(at.out::<f32>(m * n), m, n);
    let job = GemmBf16::new(MatRef::new(at.floats(m * k), m, k), b, c);
    job.run(cpu, at.scratch(GemmBf16::scratch_len(m, k, n)));
}

/// The same where A and C are in bfloat16.
fn bf16_alone(cpu: Cpu, (m, n, k): (usize, usize, usize), at: &mut Guarded) {
    let b = MatRef::new(Bf16::slice(at.halves(k * n)), k, n);
    let b = PackedBf16::pack(cpu, b, at.out(gemm::packed_len(k, n)));
    let (a, c) = (Bf16::slice(at.halves(m * k)), at.out::<Bf16>(m * n));
    let job = GemmBf16::new(MatRef::new(a, m, k), b, MatMut::new(c, m, n));
    job.run(cpu, at.scratch(GemmBf16::scratch_len(m, k, n)));
}

/// Aᵀ (m, k) · B, both floats whose rows lie in memory, and the first panel of Bᵀ.
fn bf16_of_floats(cpu: Cpu, (m, n, k): (usize, usize, usize), at: &mut Guarded) {
    let b = MatRef::new(at.floats(k * n), k, n);
    let b = PackedBf16::pack_floats(cpu, b, at.out(gemm::packed_len(k, n)));
    b.transposed_panel(cpu, 0, at.out(n.div_ceil(gemm::GROUP)));
    let c = MatMut::new(at.out::<f32>(m * n), m, n);
    let job = GemmBf16::new(MatRef::new(at.floats(k * m), k, m).t(), b, c);
    job.run(cpu, at.scratch(GemmBf16::scratch_len(m, k, n)));
}

/// One row of the gradient of a norm.
fn norm_rows(n: usize, at: &mut Guarded) -> NormBackward<'static> {
    let (x, dy, dx) = (row(at.floats(n)), row(at.floats(n)), row_mut(at.out(n)));
    NormBackward { x, dy, dx, accumulate: Accumulate::Overwrite, stats: at.out(1) }
}

/// C (m, n) = A · B, scratch guarded too.
fn product<W: Weights>(cpu: Cpu, a: MatRef, b: W, (m, n): (usize, usize), at: &mut Guarded) {
    let job = Gemm::new(a, b, MatMut::new(at.out(m * n), m, n));
    let scratch = at.scratch(job.scratch_len());
    job.run(cpu, scratch);
}

/// C (n, 35) = A · B and a product of rank 3.
fn low_rank(cpu: Cpu, n: usize, at: &mut Guarded) {
    let b = Strided(MatRef::new(at.floats(5 * 35), 5, 35));
    let low_rank = Some(LowRank { h: MatRef::new(at.floats(3 * n), n, 3), b: packed(cpu, 3, 35, at) });
    let job = Gemm::new(MatRef::new(at.floats(5 * n), n, 5), b, MatMut::new(at.out(n * 35), n, 35));
    let job = Gemm { epilogue: Epilogue { low_rank, ..Epilogue::NONE }, ..job };
    let scratch = at.scratch(job.scratch_len());
    job.run(cpu, scratch);
}

/// Weights (k, n) packed once.
fn packed(cpu: Cpu, k: usize, n: usize, at: &mut Guarded) -> PackedMatrix<'static> {
    let groups = at.out(gemm::packed_len(k, n));
    gemm::pack(cpu, MatRef::new(at.floats(k * n), k, n), groups);
    PackedMatrix::new(groups, k, n)
}

/// NF4 weights (n, k) in blocks of 64, packed.
fn nf4_weights(n: usize, k: usize, at: &mut Guarded) -> PackedNf4<'static> {
    let (codes, absmax) = (at.bytes(nf4::code_bytes(n * k)), at.floats(nf4::block_count(n * k, 64)));
    let lines = at.out(PackedNf4::code_lines(n, k));
    PackedNf4::pack(RowNf4::new(n, k, 64, codes, absmax), lines, at.out(PackedNf4::scale_lines(n, k, 64)))
}

/// `count` blocks whose scales are finite.
fn blocks(format: Format, count: usize, at: &mut Guarded) -> &'static [u8] {
    let bytes: &mut [u8] = at.out(count * format.block_bytes());
    bytes.iter_mut().enumerate().for_each(|(i, x)| *x = (i * 89) as u8);
    for block in bytes.chunks_exact_mut(format.block_bytes()) {
        // The upper bytes of the halves, wherever a format has them.
        let last = block.len() - 1;
        [1, 3, last].into_iter().for_each(|i| block[i] &= 0x3f);
    }
    bytes
}

/// Q8_0 weights (n, k) in panels.
fn eight_bits(n: usize, k: usize, at: &mut Guarded) -> Packed8<'static> {
    let rows = Rows::new(Format::Q8_0, n, k, blocks(Format::Q8_0, n * k / 32, at));
    Packed8::pack(rows, at.out(ggml::code_len(n, k)), at.out(ggml::scale_len(n, k)))
}

/// Q4_0 weights (n, k) in panels.
fn four_bits(n: usize, k: usize, at: &mut Guarded) -> Packed4<'static> {
    let rows = Rows::new(Format::Q4_0, n, k, blocks(Format::Q4_0, n * k / 32, at));
    Packed4::pack(rows, at.out(ggml::code_len(n, k)), at.out(ggml::scale_len(n, k)))
}
