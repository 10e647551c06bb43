//! Products of integers, exact and with scales.

use super::{Golden, Hash, Random, hash};
use crate::Cpu;
use crate::kernels::Line;
use crate::kernels::gemm::Accumulate;
use crate::kernels::ggml::{Format, Rows};
use crate::kernels::int8::{
    BLOCK, Codes, Eight, GemmI8, GemmQ8, Iq4Nl, Nf4, Nibbles, OfFile, PackedBlocks, PackedI8, Q4K, Q5K, Q6K,
    Q41, Q50, Q51, Quantized, blocks_len, quantize_blocks, scales_len,
};
use crate::kernels::nf4::RowNf4;
use crate::kernels::view::{MatMut, MatRef};

pub const CASES: &[Golden] = &[
    Golden { name: "int8/13×37×1100", hash: 0xe3ba9a48a10b808b, run: |cpu| exact(cpu, 13, 37, 1100) },
    Golden { name: "int8/1×70×45", hash: 0x24067a1f81948b5b, run: |cpu| exact(cpu, 1, 70, 45) },
    Golden { name: "int8/rows in blocks of 32", hash: 0x0f65997ac7c42ee3, run: blocks },
    Golden { name: "int8/Q8_0, 1, 7 and 20 rows", hash: 0x865bc46c2858ca03, run: file::<Eight> },
    Golden { name: "int8/Q4_0, 1, 7 and 20 rows", hash: 0xd47942888e3d5aa1, run: file::<Nibbles> },
    Golden { name: "int8/NF4, 1, 7 and 20 rows", hash: 0xa9e7d7368fd698bc, run: nf4 },
    Golden { name: "int8/IQ4_NL, 1, 7 and 20 rows", hash: 0xf70dcb3e048981e6, run: file::<Iq4Nl> },
    Golden { name: "int8/Q4_1, 1, 7 and 20 rows", hash: 0x4db933421b5f5503, run: file::<Q41> },
    Golden { name: "int8/Q5_0, 1, 7 and 20 rows", hash: 0xaee3737d2b578d10, run: file::<Q50> },
    Golden { name: "int8/Q5_1, 1, 7 and 20 rows", hash: 0xbfaffdffbb3fe02f, run: file::<Q51> },
    Golden { name: "int8/Q4_K, 1, 7 and 20 rows", hash: 0x7f499efcef06f820, run: file::<Q4K> },
    Golden { name: "int8/Q5_K, 1, 7 and 20 rows", hash: 0xb154d85bcecde207, run: file::<Q5K> },
    Golden { name: "int8/Q6_K, 1, 7 and 20 rows", hash: 0xd3511aaa764f2ad3, run: file::<Q6K> },
];

fn exact(cpu: Cpu, m: usize, n: usize, k: usize) -> u64 {
    let mut random = Random::new(1);
    let a: Vec<i8> = (0..m * k).map(|_| random.bits() as i8).collect();
    let b: Vec<i8> = (0..k * n).map(|_| random.bits() as i8).collect();
    let (mut room, mut c) = (vec![Eight::EMPTY; blocks_len(n, k)], vec![0; m * n]);
    let mut scratch = vec![Line::ZERO; GemmI8::scratch_len(m, k, n)];
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

/// Where blocks of a format have halves.
fn halves(format: Format) -> &'static [usize] {
    match format {
        Format::Q6K => &[208],
        Format::Q4_1 | Format::Q5_1 | Format::Q4K | Format::Q5K => &[0, 2],
        _ => &[0],
    }
}

/// Any codes, and any scales and minima less than 2; k is whole blocks.
fn weight(format: Format, k: usize) -> Vec<u8> {
    let mut random = Random::new(3);
    let mut stored: Vec<u8> = (0..format.bytes(N * k)).map(|_| random.bits() as u8).collect();
    for block in stored.chunks_mut(format.block_bytes()) {
        halves(format).iter().for_each(|&at| block[at + 1] &= 0xbf);
    }
    stored
}

fn file<C: OfFile>(cpu: Cpu) -> u64 {
    let k = K / C::FORMAT.block_len() * C::FORMAT.block_len();
    let (mut room, mut scales) =
        (vec![C::EMPTY; blocks_len(N, k)], vec![C::NO_SCALES; scales_len::<C>(N, k)]);
    let stored = weight(C::FORMAT, k);
    products(cpu, PackedBlocks::<C>::pack(Rows::new(C::FORMAT, N, k, &stored), &mut room, &mut scales))
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
    let (mut out, k) = (Vec::new(), w.shape().0);
    for m in [1, 7, 20] {
        let (codes, scales) = quantised(cpu, m, k);
        let a = Quantized { codes: MatRef::new(&codes, m, k), scales: MatRef::new(&scales, m, k / BLOCK) };
        let (mut c, mut scratch) = (vec![0.0; m * N], vec![Line::ZERO; GemmQ8::<C>::scratch_len(m, k)]);
        GemmQ8::new(a, w, MatMut::new(&mut c, m, N)).run(cpu, &mut scratch);
        out.extend(c);
    }
    hash(&out)
}
