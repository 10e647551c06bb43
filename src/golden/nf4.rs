//! NF4: codes, statistics and decoded values.

use super::{Golden, Hash, Random};
use crate::Cpu;
use crate::kernels::Line;
use crate::kernels::gemm::Gemm;
use crate::kernels::nf4::{self, CodeLine, PackedNf4, RowNf4};
use crate::kernels::view::{MatMut, MatRef};

pub const CASES: &[Golden] = &[
    Golden { name: "nf4/blocks of 64", hash: 0x6e5a678d5cbdf19b, run: |cpu| blocks(cpu, 4096, 64) },
    Golden { name: "nf4/ragged blocks of 100", hash: 0x11779161f69ea290, run: |cpu| blocks(cpu, 3333, 100) },
    Golden { name: "nf4/nested absmax", hash: 0x151d241e14599f48, run: nested },
    Golden { name: "nf4/gemv", hash: 0x08eaa795557f6c8b, run: |cpu| product(cpu, (1, 40, 320), 64) },
    Golden { name: "nf4/gemm", hash: 0xaef60343d4f650ff, run: |cpu| product(cpu, (9, 33, 264), 88) },
    Golden {
        name: "nf4/gemm, a scale a row",
        hash: 0x063bce3e78a4c93d,
        run: |cpu| product(cpu, (2, 20, 270), 100),
    },
];

/// Codes, absmax and decoded values of `n` elements.
fn blocks(cpu: Cpu, n: usize, blocksize: usize) -> u64 {
    let x = Random::new(n as u64).normal(n);
    let (mut codes, mut absmax) = (vec![0; nf4::code_bytes(n)], vec![0.0; nf4::block_count(n, blocksize)]);
    nf4::quantize(cpu, &x, blocksize, &mut codes, &mut absmax).expect("finite");
    let mut back = vec![0.0; n];
    nf4::dequantize(cpu, &codes, &absmax, blocksize, &mut back);
    Hash::default().bytes(&codes).floats(&absmax).floats(&back).0
}

fn nested(cpu: Cpu) -> u64 {
    let absmax: Vec<f32> = Random::new(8).normal(600).iter().map(|x| 2.0 + x.abs()).collect();
    let (mut codes, mut absmax2) = (vec![0; 600], vec![0.0; 3]);
    let offset = nf4::quantize_absmax(cpu, &absmax, &mut codes, &mut absmax2).expect("finite");
    let mut back = vec![0.0; 600];
    nf4::dequantize_absmax(cpu, &codes, &absmax2, offset, &mut back);
    Hash::default().bytes(&codes).floats(&absmax2).floats(&[offset]).floats(&back).0
}

/// A (m, k) · W (n, k)ᵀ.
fn product(cpu: Cpu, (m, n, k): (usize, usize, usize), blocksize: usize) -> u64 {
    let mut random = Random::new(k as u64);
    let (a, w) = (random.normal(m * k), random.normal(n * k));
    let mut codes = vec![0; nf4::code_bytes(n * k)];
    let mut absmax = vec![0.0; nf4::block_count(n * k, blocksize)];
    nf4::quantize(cpu, &w, blocksize, &mut codes, &mut absmax).expect("finite");
    let mut lines = vec![CodeLine::ZERO; PackedNf4::code_lines(n, k)];
    let mut scales = vec![Line::ZERO; PackedNf4::scale_lines(n, k, blocksize)];
    let w = PackedNf4::pack(RowNf4::new(n, k, blocksize, &codes, &absmax), &mut lines, &mut scales);
    let mut c = vec![0.0; m * n];
    let job = Gemm::new(MatRef::new(&a, m, k), w, MatMut::new(&mut c, m, n));
    let mut scratch = vec![Line::ZERO; job.scratch_len()];
    job.run(cpu, &mut scratch);
    super::hash(&c)
}
