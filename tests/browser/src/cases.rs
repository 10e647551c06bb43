//! The cases: inputs and results are those of `src/golden` under the same names; the timed work is larger.

use crate::room::{CODES, Random, Room, hash};
use samebits_kernels::attention::{Attention, Options, attention, scratch_len};
use samebits_kernels::gemm::{Gemm, Strided, Weights};
use samebits_kernels::map;
use samebits_kernels::math::Tanh;
use samebits_kernels::nf4::{self, PackedNf4, RowNf4};
use samebits_kernels::norm::{Gain, RmsNorm, add_rms_norm};
use samebits_kernels::view::{HeadsMut, HeadsRef, MatMut, MatRef};
use samebits_kernels::{Cpu, dot, softmax};

/// A kernel: a golden case of it, and work to be timed.
pub struct Case {
    pub name: &'static str,
    pub hash: fn(Cpu, Room<'_>) -> u64,
    pub unit: &'static str,
    pub amount: f64,
    pub repeat: fn(Cpu, Room<'_>, u32),
}

const OPERATIONS: &str = "GFLOP/s";
const ELEMENTS: &str = "G elements/s";

pub static CASES: [Case; 7] = [
    Case {
        name: "gemm/13×37×600",
        hash: |cpu, room| hash(product(cpu, room, (13, 37, 600), 1)),
        unit: OPERATIONS,
        amount: 2.0 * 192.0 * 192.0 * 192.0,
        repeat: |cpu, room, n| _ = product(cpu, room, (192, 192, 192), n),
    },
    Case {
        name: "nf4/gemv",
        hash: |cpu, room| hash(product_nf4(cpu, room, (1, 40, 320), 1)),
        unit: OPERATIONS,
        amount: 2.0 * 256.0 * 256.0,
        repeat: |cpu, room, n| _ = product_nf4(cpu, room, (1, 256, 256), n),
    },
    Case {
        name: "attention/full",
        hash: |cpu, room| {
            let (out, lse) = attend(cpu, room, [2, 4, 70, 150, 32], 1);
            hash(out.iter().chain(lse.iter()))
        },
        unit: OPERATIONS,
        amount: 4.0 * 4.0 * 64.0 * 256.0 * 64.0,
        repeat: |cpu, room, n| _ = attend(cpu, room, [1, 4, 64, 256, 64], n),
    },
    Case {
        name: "softmax/rows",
        hash: |cpu, room| hash(soft(cpu, room, (9, 389), 1)),
        unit: ELEMENTS,
        amount: 16.0 * 1024.0,
        repeat: |cpu, room, n| _ = soft(cpu, room, (16, 1024), n),
    },
    Case {
        name: "norm/rms",
        hash: |cpu, room| {
            let (x, out) = norm(cpu, room, (9, 389), 1);
            hash(x.iter().chain(out.iter()))
        },
        unit: ELEMENTS,
        amount: 16.0 * 1024.0,
        repeat: |cpu, room, n| _ = norm(cpu, room, (16, 1024), n),
    },
    Case {
        name: "dot/rows",
        hash: |cpu, room| hash(dots(cpu, room, (37, 389), 1)),
        unit: OPERATIONS,
        amount: 2.0 * 256.0 * 384.0,
        repeat: |cpu, room, n| _ = dots(cpu, room, (256, 384), n),
    },
    Case {
        name: "math/tanh",
        hash: |cpu, room| hash(tanh(cpu, room, 1)),
        unit: ELEMENTS,
        amount: 4_001.0,
        repeat: |cpu, room, n| _ = tanh(cpu, room, n),
    },
];

/// C (m, n) of A (m, k) and B (n, k)ᵀ.
fn product<'m>(cpu: Cpu, mut room: Room<'m>, (m, n, k): (usize, usize, usize), times: u32) -> &'m [f32] {
    let a = room.normal(&mut Random::new(1), m * k);
    let b = room.normal(&mut Random::new(2), n * k);
    multiply(cpu, room, MatRef::new(a, m, k), Strided(MatRef::new(b, n, k).t()), times)
}

fn multiply<'m, W: Weights>(cpu: Cpu, mut room: Room<'m>, a: MatRef<'_>, b: W, times: u32) -> &'m [f32] {
    let (m, n) = (a.rows(), b.shape().1);
    let c = room.floats(m * n);
    let scratch = room.lines(Gemm::new(a, b, MatMut::new(c, m, n)).scratch_len());
    for _ in 0..times {
        Gemm::new(a, b, MatMut::new(c, m, n)).run(cpu, scratch);
    }
    c
}

/// The same with B quantised to NF4.
fn product_nf4<'m>(cpu: Cpu, mut room: Room<'m>, (m, n, k): (usize, usize, usize), times: u32) -> &'m [f32] {
    const BLOCKSIZE: usize = 64;
    let mut random = Random::new(k as u64);
    let a = room.normal(&mut random, m * k);
    let w = room.normal(&mut random, n * k);
    let (codes, absmax) = (room.bytes(n * k / 2), room.floats(n * k / BLOCKSIZE));
    nf4::quantize(cpu, w, BLOCKSIZE, codes, absmax).expect("finite");
    // SAFETY: a module has one thread, and nothing keeps the codes when a case is done.
    let lines = unsafe { &mut *(&raw mut CODES) };
    let lines = &mut lines[..PackedNf4::code_lines(n, k)];
    let scales = room.lines(PackedNf4::scale_lines(n, k, BLOCKSIZE));
    let w = PackedNf4::pack(RowNf4::new(n, k, BLOCKSIZE, codes, absmax), lines, scales);
    multiply(cpu, room, MatRef::new(a, m, k), w, times)
}

/// Batch, heads, queries, keys, head_dim: the result and its log-sum-exp.
fn attend<'m>(
    cpu: Cpu,
    mut room: Room<'m>,
    [batch, h, lq, lk, d]: [usize; 5],
    times: u32,
) -> (&'m [f32], &'m [f32]) {
    let mut random = Random::new(8);
    let q = room.normal(&mut random, batch * h * lq * d);
    let k = room.normal(&mut random, batch * h * lk * d);
    let v = room.normal(&mut random, batch * h * lk * d);
    let (out, lse) = (room.floats(batch * h * lq * d), room.floats(batch * h * lq));
    let scratch = room.lines(scratch_len(d, d));
    for _ in 0..times {
        let problem = Attention {
            q: HeadsRef::new(q, [batch, h, lq, d]),
            k: HeadsRef::new(k, [batch, h, lk, d]).into(),
            v: HeadsRef::new(v, [batch, h, lk, d]).into(),
            out: HeadsMut::new(out, [batch, h, lq, d]),
            lse: Some(HeadsMut::new(lse, [batch, h, lq, 1])),
            options: Options::new(0.25),
        };
        attention(cpu, problem, scratch);
    }
    (out, lse)
}

fn soft<'m>(cpu: Cpu, mut room: Room<'m>, (rows, n): (usize, usize), times: u32) -> &'m [f32] {
    let x = room.normal(&mut Random::new(5), rows * n);
    x.iter_mut().for_each(|x| *x *= 30.0);
    let out = room.floats(rows * n);
    for _ in 0..times {
        softmax::softmax(cpu, MatRef::new(x, rows, n), MatMut::new(out, rows, n));
    }
    out
}

/// The sum of both, and its norm.
fn norm<'m>(cpu: Cpu, mut room: Room<'m>, (rows, n): (usize, usize), times: u32) -> (&'m [f32], &'m [f32]) {
    let x = room.normal(&mut Random::new(9), rows * n);
    let residual = room.normal(&mut Random::new(10), rows * n);
    let w = room.normal(&mut Random::new(11), n);
    let out = room.floats(rows * n);
    let params = RmsNorm { gain: Gain::OnePlus(w), eps: 1e-6 };
    for _ in 0..times {
        let (x, y) = (MatMut::new(x, rows, n), MatMut::new(out, rows, n));
        add_rms_norm(cpu, x, MatRef::new(residual, rows, n), &params, y);
    }
    (x, out)
}

fn dots<'m>(cpu: Cpu, mut room: Room<'m>, (n, k): (usize, usize), times: u32) -> &'m [f32] {
    let query = room.normal(&mut Random::new(1), k);
    let x = room.normal(&mut Random::new(2), n * k);
    let out = room.floats(n);
    for _ in 0..times {
        dot::dot_rows(cpu, query, MatRef::new(x, n, k), out);
    }
    out
}

/// Of a stride through every bit pattern, and of numbers of ordinary size.
fn tanh<'m>(cpu: Cpu, mut room: Room<'m>, times: u32) -> &'m [f32] {
    let x = room.floats(4_001);
    let (patterns, ordinary) = x.split_at_mut(2_000);
    for (i, x) in (0u32..).zip(patterns) {
        *x = f32::from_bits(i.wrapping_mul(2_147_459));
    }
    let mut room = room;
    ordinary.copy_from_slice(room.normal(&mut Random::new(1), 2_001));
    ordinary.iter_mut().for_each(|x| *x *= 4.0);
    for _ in 0..times {
        map::slice(cpu, Tanh, x);
    }
    x
}
