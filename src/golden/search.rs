//! Many queries against stored rows.

use super::{Golden, Random, hash};
use crate::Cpu;
use crate::kernels::search::{Code, Codes, FloatRows, QueryCodes, Which, dots};
use crate::kernels::{Line, half};

pub const CASES: &[Golden] = &[
    Golden { name: "search/floats", hash: 0xc45ac1c9efe8f16d, run: floats },
    Golden { name: "search/halves", hash: 0x0f1c0c83d2a5150b, run: halves },
    Golden { name: "search/int8", hash: 0x1820b4f149aa955a, run: |cpu| codes(cpu, Code::Int8) },
    Golden { name: "search/NF4", hash: 0x52ee93fafb26fec6, run: |cpu| codes(cpu, Code::Nf4) },
    Golden { name: "search/binary", hash: 0xaa30547d92f2106d, run: |cpu| codes(cpu, Code::Binary) },
];

/// Rows, queries, elements of each.
const SHAPE: (usize, usize, usize) = (37, 6, 389);

fn floats(cpu: Cpu) -> u64 {
    let (n, m, k) = SHAPE;
    let (rows, queries, mut out) =
        (Random::new(1).normal(n * k), Random::new(2).normal(m * k), vec![0.0; n * m]);
    dots(cpu, FloatRows::F32(&rows), Which::From(0, n), (&queries, k), &mut out);
    hash(&out)
}

fn halves(cpu: Cpu) -> u64 {
    let (n, m, k) = SHAPE;
    let (rows, queries, mut out) =
        (Random::new(3).normal(n * k), Random::new(4).normal(m * k), vec![0.0; 3 * m]);
    let mut narrow = vec![0; rows.len()];
    half::narrow_f16(cpu, &rows, &mut narrow);
    dots(cpu, FloatRows::F16(&narrow), Which::At(&[36, 0, 17]), (&queries, k), &mut out);
    hash(&out)
}

fn codes(cpu: Cpu, code: Code) -> u64 {
    let (n, m, k) = SHAPE;
    let (mut random, width) = (Random::new(5), code.row_bytes(k));
    let rows: Vec<u8> = (0..n * width).map(|_| random.bits() as u8).collect();
    let (scales, queries, mut out) = (random.vec(n), random.normal(m * k), vec![0.0; n * m]);
    let (mut lines, mut room) = (vec![Line::ZERO; m * code.query_lines(k)], vec![0; k]);
    let parts = lines.chunks_mut(code.query_lines(k)).zip(queries.chunks(k));
    let mut made = Vec::new();
    for (lines, query) in parts {
        let scale = QueryCodes::fill(cpu, code, query, &mut room, lines);
        made.push(QueryCodes { lines, scale });
    }
    Codes { code, k, rows: &rows, scales: &scales }.dots(cpu, Which::From(0, n), &made, &mut out);
    hash(&out)
}
