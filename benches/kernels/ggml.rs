//! ggml's block formats: decoding, and products of one and eight rows by a 4096² weight.

use criterion::{Criterion, Throughput};
use samebits::Cpu;
use samebits::golden::Random;
use samebits::kernels::Line;
use samebits::kernels::gemm::{Gemm, Weights};
use samebits::kernels::ggml::{
    Code8, Format, HalfLine, Packed4, Packed8, Rows, code_len, dequantize, scale_len,
};
use samebits::kernels::nf4::CodeLine;
use samebits::kernels::view::{MatMut, MatRef};

/// (n, k) of the weight.
const SHAPE: (usize, usize) = (4096, 4096);

/// Blocks of random bits with finite scales.
fn blocks(format: Format, len: usize) -> Vec<u8> {
    let mut random = Random::new(1);
    let mut bytes: Vec<u8> = (0..format.bytes(len)).map(|_| random.bits() as u8).collect();
    for block in bytes.chunks_exact_mut(format.block_bytes()) {
        let last = block.len() - 1;
        [1, 3, last].into_iter().for_each(|i| block[i] &= 0x3f);
    }
    bytes
}

/// All of them.
pub fn benches(c: &mut Criterion) {
    let (n, k) = SHAPE;
    decoding(c);
    let eight = blocks(Format::Q8_0, n * k);
    let (mut codes, mut scales) = (vec![Code8::ZERO; code_len(n, k)], vec![HalfLine::ZERO; scale_len(n, k)]);
    products(c, "q8_0", Packed8::pack(Rows::new(Format::Q8_0, n, k, &eight), &mut codes, &mut scales));
    products(c, "q8_0_rows", Rows::new(Format::Q8_0, n, k, &eight));
    let four = blocks(Format::Q4_0, n * k);
    let mut codes = vec![CodeLine::ZERO; code_len(n, k)];
    products(c, "q4_0", Packed4::pack(Rows::new(Format::Q4_0, n, k, &four), &mut codes, &mut scales));
    for (name, format) in [("q4_k_rows", Format::Q4K), ("q6_k_rows", Format::Q6K)] {
        products(c, name, Rows::new(format, n, k, &blocks(format, n * k)));
    }
}

/// `ggml_dequantize`: bytes of f32 a second.
fn decoding(c: &mut Criterion) {
    let len = 1 << 16;
    let mut out = vec![0.0; len];
    let mut group = c.benchmark_group("ggml_dequantize");
    group.sample_size(10).throughput(Throughput::Bytes(4 * len as u64));
    for format in Format::ALL {
        let blocks = blocks(format, len);
        for cpu in Cpu::all() {
            group.bench_function(format!("{format} {len}/{}", cpu.tier()), |b| {
                b.iter(|| dequantize(cpu, format, &blocks, &mut out));
            });
        }
    }
    group.finish();
}

/// `NAME_gemm`: operations a second.
fn products<W: Weights>(c: &mut Criterion, name: &str, w: W) {
    let (n, k) = SHAPE;
    let a = Random::new(2).normal(8 * k);
    let mut out = vec![0.0; 8 * n];
    let mut group = c.benchmark_group(format!("{name}_gemm"));
    for m in [1, 8] {
        group.sample_size(10).throughput(Throughput::Elements(2 * (m * n * k) as u64));
        for cpu in Cpu::all() {
            group.bench_function(format!("{m}x{n}x{k}/{}", cpu.tier()), |b| {
                let mut scratch = vec![Line::ZERO; samebits::kernels::gemm::scratch_len::<W>(m, k)];
                b.iter(|| {
                    let (a, c) = (MatRef::new(&a[..m * k], m, k), MatMut::new(&mut out[..m * n], m, n));
                    Gemm::new(a, w, c).run(cpu, &mut scratch);
                });
            });
        }
    }
    group.finish();
}
