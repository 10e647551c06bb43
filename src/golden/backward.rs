//! Gradients.

use super::{Golden, Hash, Random, hash};
use crate::Cpu;
use crate::kernels::activation::{self, Activation, GatedInputs};
use crate::kernels::column_sum::ColumnSum;
use crate::kernels::cross_entropy::{CrossEntropy, cross_entropy};
use crate::kernels::gemm::{Accumulate, Gemm, Transposed, Turned};
use crate::kernels::nf4::{self, CodeLine, PackedNf4, RowNf4};
use crate::kernels::norm::{
    Gain, LayerNorm, NormBackward, NormWeights, RmsNorm, Stats, layer_norm_backward, rms_norm_backward,
};
use crate::kernels::rope::{self, Pairing, Rope, Table};
use crate::kernels::scatter::ScatterAdd;
use crate::kernels::view::{HeadsMut, MatMut, MatRef};
use crate::kernels::{Line, softmax};

pub const CASES: &[Golden] = &[
    Golden { name: "backward/nf4 dx", hash: 0x94b7f64a9dba63f9, run: nf4_dx },
    Golden { name: "backward/column sums", hash: 0xe65796ad3eda10f6, run: column_sums },
    Golden { name: "backward/activations", hash: 0x9b3c9945243f02e6, run: activations },
    Golden { name: "backward/softmax", hash: 0xcbec826bf679d064, run: softmaxes },
    Golden { name: "backward/norms", hash: 0x658d7504b924822e, run: norms },
    Golden { name: "backward/rope", hash: 0x4deaaf9221e3bcf6, run: rotary },
    Golden { name: "backward/scatter-add", hash: 0xe9a576d11c43780e, run: scatter },
    Golden { name: "backward/cross-entropy", hash: 0xe24c11107e577161, run: entropy },
];

/// Rows and columns of most cases.
const SHAPE: (usize, usize) = (9, 389);

fn normal(seed: u64) -> Vec<f32> {
    Random::new(seed).normal(SHAPE.0 * SHAPE.1)
}

fn view(x: &[f32]) -> MatRef<'_> {
    MatRef::new(x, SHAPE.0, SHAPE.1)
}

fn view_mut(x: &mut [f32]) -> MatMut<'_> {
    MatMut::new(x, SHAPE.0, SHAPE.1)
}

/// (7, 300) · (300, 70)
fn nf4_dx(cpu: Cpu) -> u64 {
    let (m, n, k) = (7, 300, 70);
    let w = Random::new(1).normal(n * k);
    let (mut codes, mut absmax) = (vec![0; nf4::code_bytes(n * k)], vec![0.0; nf4::block_count(n * k, 64)]);
    nf4::quantize(cpu, &w, 64, &mut codes, &mut absmax).expect("finite");
    let mut lines = vec![CodeLine::ZERO; PackedNf4::code_lines(n, k)];
    let mut scales = vec![Line::ZERO; PackedNf4::scale_lines(n, k, 64)];
    let w = PackedNf4::pack(RowNf4::new(n, k, 64, &codes, &absmax), &mut lines, &mut scales);
    let dy = Random::new(2).normal(m * n);
    let mut dx = vec![0.0; m * k];
    let w = Transposed::new(Turned::Nf4(w));
    let job = Gemm::new(MatRef::new(&dy, m, n), w, MatMut::new(&mut dx, m, k));
    let mut scratch = vec![Line::ZERO; job.scratch_len()];
    job.run(cpu, &mut scratch);
    hash(&dx)
}

fn column_sums(cpu: Cpu) -> u64 {
    let (rows, n) = (600, 83);
    let x = Random::new(3).normal(rows * n);
    let mut out = Random::new(4).normal(n);
    ColumnSum { x: MatRef::new(&x, rows, n), accumulate: Accumulate::Add, out: &mut out }.run(cpu);
    hash(&out)
}

fn activations(cpu: Cpu) -> u64 {
    let (gate, up, dy): (Vec<f32>, _, _) =
        (normal(5).iter().map(|x| x * 4.0).collect(), normal(6), normal(7));
    let (mut dgate, mut dup) = (normal(8), normal(9));
    let each = |h: Hash, &f: &Activation| {
        let given = GatedInputs { gate: view(&gate), up: view(&up), dy: view(&dy) };
        activation::gated_backward(cpu, f, given, view_mut(&mut dgate), view_mut(&mut dup));
        h.floats(&dgate).floats(&dup)
    };
    Activation::ALL.iter().fold(Hash::default(), each).0
}

fn softmaxes(cpu: Cpu) -> u64 {
    let (x, dy) = (normal(10), normal(11));
    let (mut y, mut dx) = (normal(12), normal(13));
    softmax::softmax(cpu, view(&x), view_mut(&mut y));
    softmax::softmax_backward(cpu, view(&y), view(&dy), view_mut(&mut dx));
    let first = Hash::default().floats(&dx);
    softmax::log_softmax(cpu, view(&x), view_mut(&mut y));
    softmax::log_softmax_backward(cpu, view(&y), view(&dy), view_mut(&mut dx));
    first.floats(&dx).0
}

/// dx and dw of both.
fn norms(cpu: Cpu) -> u64 {
    let (x, dy, w) = (normal(14), normal(15), Random::new(16).normal(SHAPE.1));
    let (mut dx, mut dw, mut h) = (normal(17), Random::new(18).normal(SHAPE.1), Hash::default());
    let mut stats = [Stats::default(); SHAPE.0];
    for rms in [false, true] {
        let rows = NormBackward {
            x: view(&x),
            dy: view(&dy),
            dx: view_mut(&mut dx),
            accumulate: Accumulate::Add,
            stats: &mut stats,
        };
        if rms {
            rms_norm_backward(cpu, &RmsNorm { gain: Gain::OnePlus(&w), eps: 1e-6 }, rows);
        } else {
            layer_norm_backward(cpu, &LayerNorm { weight: Some(&w), bias: None, eps: 1e-5 }, rows);
        }
        let accumulate = Accumulate::Overwrite;
        NormWeights { x: view(&x), dy: view(&dy), stats: &stats, accumulate, out: &mut dw }.run(cpu);
        h = h.floats(&dx).floats(&dw);
    }
    h.0
}

fn rotary(cpu: Cpu) -> u64 {
    let (tokens, heads, dim, pairs) = (3, 2, 70, 33);
    let (cos, sin) = (Random::new(19).vec(8 * pairs), Random::new(20).vec(8 * pairs));
    let each = |h: Hash, pairing| {
        let mut dy = Random::new(21).normal(tokens * heads * dim);
        let rope = Rope { table: Table { cos: &cos, sin: &sin, pairs }, pairing, positions: &[5, 0, 7] };
        rope::backward_in_place(cpu, &rope, HeadsMut::by_token(&mut dy, tokens, heads, dim));
        h.floats(&dy)
    };
    [Pairing::Half, Pairing::Interleaved].into_iter().fold(Hash::default(), each).0
}

fn scatter(cpu: Cpu) -> u64 {
    let (tokens, n, rows) = (200, 41, 17);
    let mut random = Random::new(22);
    let ids: Vec<u32> = (0..tokens).map(|_| random.below(rows) as u32).collect();
    let (x, mut out) = (random.normal(tokens * n), random.normal(rows * n));
    ScatterAdd { ids: &ids, x: MatRef::new(&x, tokens, n), out: MatMut::new(&mut out, rows, n) }.run(cpu);
    hash(&out)
}

fn entropy(cpu: Cpu) -> u64 {
    let targets = [0, 5, -100, 388, 7, -100, 200, 16, 15];
    let each = |h: Hash, label_smoothing| {
        let mut x: Vec<f32> = normal(23).iter().map(|x| x * 8.0).collect();
        let how = CrossEntropy { label_smoothing, scale: 1.0 / 7.0, ..CrossEntropy::default() };
        let mut losses = [0.0; SHAPE.0];
        cross_entropy(cpu, &how, view_mut(&mut x), &targets, &mut losses);
        losses.iter().fold(h.floats(&x), |h, l| h.bytes(&l.to_bits().to_le_bytes()))
    };
    [0.0, 0.1].into_iter().fold(Hash::default(), each).0
}
