//! Products of integers, exact and with scales.

use super::{Golden, Hash, Random, hash};
use crate::Cpu;
use crate::kernels::Line;
use crate::kernels::gemm::Accumulate;
use crate::kernels::ggml::{Format, HalfLine, Rows};
use crate::kernels::int8::{
    BLOCK, Codes, Eight, GemmI8, GemmQ8, Nf4, Nibbles, PackedBlocks, PackedI8, Quantized, blocks_len,
    quantize_blocks,
};
use crate::kernels::nf4::RowNf4;
use crate::kernels::view::{MatMut, MatRef};

pub const CASES: &[Golden] = &[
    Golden { name: "int8/13×37×1100", hash: 0xe3ba9a48a10b808b, run: |cpu| exact(cpu, 13, 37, 1100) },
    Golden { name: "int8/1×70×45", hash: 0x24067a1f81948b5b, run: |cpu| exact(cpu, 1, 70, 45) },
    Golden { name: "int8/rows in blocks of 32", hash: 0x0f65997ac7c42ee3, run: blocks },
    Golden { name: "int8/Q8_0, 1, 7 and 20 rows", hash: 0x865bc46c2858ca03, run: eight },
    Golden { name: "int8/Q4_0, 1, 7 and 20 rows", hash: 0xd47942888e3d5aa1, run: four },
    Golden { name: "int8/NF4, 1, 7 and 20 rows", hash: 0xa9e7d7368fd698bc, run: nf4 },
];

fn exact(cpu: Cpu, m: usize, n: usize, k: usize) -> u64 {
    let mut random = Random::new(1);
    let a: Vec<i8> = (0..m * k).map(|_| random.bits() as i8).collect();
    let b: Vec<i8> = (0..k * n).map(|_| random.bits() as i8).collect();
    let (mut room, mut c) = (vec![Eight::EMPTY; blocks_len(n, k)], vec![0; m * n]);
    let mut scratch = vec![Line::ZERO; GemmI8::scratch_len(m, k)];
    let b = PackedI8::pack(MatRef::new(&b, k, n), &mut room);
    let (a, out) = (MatRef::new(&a, m, k), MatMut::new(&mut c, m, n));
    GemmI8 { a, b, c: out, accumulate: Accumulate::Overwrite }.run(cpu, &mut scratch);
    c.iter().fold(Hash::default(), |hash, c| hash.bytes(&c.to_le_bytes())).0
}

/// Rows of very different sizes, quantised.
fn quantised(cpu: Cpu, m: usize, k: usize) -> (Vec<i8>, Vec<f32>) {
    let x: Vec<f32> = Random::new(2).normal(m * k);
    let x: Vec<f32> = x.iter().enumerate().map(|(i, x)| x / (1 << (i / BLOCK % 20)) as f32).collect();
    let (mut codes, mut scales) = (vec![0; m * k], vec![0.0; m * k / BLOCK]);
    quantize_blocks(cpu, &x, &mut codes, &mut scales);
    (codes, scales)
}

fn blocks(cpu: Cpu) -> u64 {
    let (codes, scales) = quantised(cpu, 9, 640);
    codes.iter().fold(Hash::default().floats(&scales), |hash, &code| hash.bytes(&[code as u8])).0
}

const N: usize = 40;
const K: usize = 1344;

/// Any codes, and any scales less than 2.
fn weight(format: Format) -> Vec<u8> {
    let mut random = Random::new(3);
    let mut stored: Vec<u8> = (0..format.bytes(N * K)).map(|_| random.bits() as u8).collect();
    stored.chunks_mut(format.block_bytes()).for_each(|block| block[1] &= 0xbf);
    stored
}

fn eight(cpu: Cpu) -> u64 {
    let (mut room, mut scales) =
        (vec![Eight::EMPTY; blocks_len(N, K)], vec![HalfLine::ZERO; blocks_len(N, K)]);
    let stored = weight(Format::Q8_0);
    products(cpu, PackedBlocks::<Eight>::pack(Rows::new(Format::Q8_0, N, K, &stored), &mut room, &mut scales))
}

fn four(cpu: Cpu) -> u64 {
    let (mut room, mut scales) =
        (vec![Nibbles::EMPTY; blocks_len(N, K)], vec![HalfLine::ZERO; blocks_len(N, K)]);
    let stored = weight(Format::Q4_0);
    products(
        cpu,
        PackedBlocks::<Nibbles>::pack(Rows::new(Format::Q4_0, N, K, &stored), &mut room, &mut scales),
    )
}

fn nf4(cpu: Cpu) -> u64 {
    let (mut room, mut scales) = (vec![Nf4::EMPTY; blocks_len(N, K)], vec![Line::ZERO; blocks_len(N, K)]);
    let mut random = Random::new(4);
    let stored: Vec<u8> = (0..N * K / 2).map(|_| random.bits() as u8).collect();
    let absmax = random.vec(N * K / 64);
    let rows = RowNf4::new(N, K, 64, &stored, &absmax);
    products(cpu, PackedBlocks::<Nf4>::pack(rows, &mut room, &mut scales))
}

fn products<C: Codes>(cpu: Cpu, w: PackedBlocks<'_, C>) -> u64 {
    let mut out = Vec::new();
    for m in [1, 7, 20] {
        let (codes, scales) = quantised(cpu, m, K);
        let a = Quantized { codes: MatRef::new(&codes, m, K), scales: MatRef::new(&scales, m, K / BLOCK) };
        let (mut c, mut scratch) = (vec![0.0; m * N], vec![Line::ZERO; GemmQ8::<C>::scratch_len(m, K)]);
        GemmQ8::new(a, w, MatMut::new(&mut c, m, N)).run(cpu, &mut scratch);
        out.extend(c);
    }
    hash(&out)
}
