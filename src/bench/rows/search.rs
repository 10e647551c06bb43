//! Queries against many stored rows: 64 of them multiply, one reads.

use super::{Body, Entry, Inputs, Run, Work, parts};
use crate::bench::memory::filled;
use crate::bench::peak::Access;
use crate::kernels::Line;
use crate::kernels::nf4::LEVELS;
use crate::kernels::search::{Code, Codes, FloatRows, QueryCodes, Which, dots};

/// The entries.
pub const FAMILY: &[Entry] = &[
    Entry {
        name: "search",
        about: "dot products of many queries with many rows",
        dims: "QUERIESxROWSxN",
        shapes: &[&[64, 10_000, 384], &[64, 512, 384]],
        work: |d| Work::arithmetic(2.0 * (d[0] * d[1] * d[2]) as f64, 4 * (d[0] + d[1]) * d[2]),
        make: |d, i| Floats::body(d, i),
    },
    coded("search_int8", "a query with many rows of int8", Code::Int8),
    coded("search_nf4", "a query with many rows of NF4", Code::Nf4),
    coded("search_binary", "a query with many rows of bits", Code::Binary),
];

struct Floats {
    queries: Vec<f32>,
    rows: Vec<f32>,
    k: usize,
    out: Vec<f32>,
}

impl Floats {
    fn body(d: &[usize], inputs: &mut Inputs) -> Body {
        let (queries, rows) = (inputs.normal(d[0] * d[2]), inputs.normal(d[1] * d[2]));
        let state = Floats { queries, rows, k: d[2], out: filled(0.0, d[0] * d[1]) };
        Body::new(state, Floats::ours, Floats::plain, |s| s.out.clone())
    }

    /// Results of so many rows lie side by side, whoever computes them.
    const ROWS: usize = 128;

    fn ours(&mut self, run: &Run<'_>) {
        let Floats { queries, rows, k, out } = self;
        let (m, part) = (queries.len() / *k, Floats::ROWS);
        run.pool.run(rows.chunks(part * *k).zip(out.chunks_mut(part * m)), |(rows, out), _| {
            dots(run.cpu, FloatRows::F32(rows), Which::From(0, out.len() / m), (queries, *k), out);
        });
    }

    fn plain(&mut self) {
        let m = self.queries.len() / self.k;
        for (rows, out) in self.rows.chunks(Floats::ROWS * self.k).zip(self.out.chunks_mut(Floats::ROWS * m))
        {
            let n = rows.len() / self.k;
            for (query, out) in self.queries.chunks(self.k).zip(out.chunks_mut(n)) {
                for (row, out) in rows.chunks(self.k).zip(out) {
                    *out = row.iter().zip(query).map(|(x, y)| x * y).sum();
                }
            }
        }
    }
}

type Make = fn(&[usize], &mut Inputs) -> Body;

const fn coded(name: &'static str, about: &'static str, code: Code) -> Entry {
    let (work, make): (fn(&[usize]) -> Work, Make) = match code {
        Code::Int8 => (|d| read(Code::Int8, d), |d, i| Coded::body(Code::Int8, d, i)),
        Code::Nf4 => (|d| read(Code::Nf4, d), |d, i| Coded::body(Code::Nf4, d, i)),
        Code::Binary => (|d| read(Code::Binary, d), |d, i| Coded::body(Code::Binary, d, i)),
    };
    Entry { name, about, dims: "ROWSxN", shapes: &[&[100_000, 384], &[1000, 384]], work, make }
}

fn read(code: Code, d: &[usize]) -> Work {
    Work::memory(2.0 * (d[0] * d[1]) as f64, Access::Read, d[0] * (code.row_bytes(d[1]) + 4))
}

struct Coded {
    code: Code,
    k: usize,
    query: Vec<Line>,
    /// The query's codes in their order, for the plain loop.
    codes: Vec<i8>,
    scale: f32,
    rows: Vec<u8>,
    scales: Vec<f32>,
    out: Vec<f32>,
}

impl Coded {
    fn body(code: Code, d: &[usize], inputs: &mut Inputs) -> Body {
        let (n, k) = (d[0], d[1]);
        let (mut query, mut plain) = (vec![Line::ZERO; code.query_lines(k)], vec![0; k]);
        let width = code.row_bytes(k);
        let scale = QueryCodes::fill(inputs.cpu, code, &inputs.normal(k), &mut plain, &mut query);
        // Behind a row's elements is nothing, in what the plain loop reads too.
        let bytes = inputs.below(256, n * width).into_iter();
        let used = k.div_ceil(match code {
            Code::Int8 => 1,
            Code::Nf4 => 2,
            Code::Binary => 8,
        });
        let rows = bytes.enumerate().map(|(i, x)| if i % width < used { x as u8 } else { 0 }).collect();
        let (scales, out) = (inputs.normal(n), filled(0.0, n));
        let state = Coded { code, k, query, codes: plain, scale, rows, scales, out };
        Body::new(state, Coded::ours, Coded::plain, |s| s.out.clone())
    }

    fn ours(&mut self, run: &Run<'_>) {
        let Coded { code, k, query, scale, rows, scales, out, .. } = self;
        let (part, width) = (parts(out.len(), run), code.row_bytes(*k));
        let pieces = rows.chunks(part * width).zip(scales.chunks(part)).zip(out.chunks_mut(part));
        let query = [QueryCodes { lines: query, scale: *scale }];
        run.pool.run(pieces, |((rows, scales), out), _| {
            let codes = Codes { code: *code, k: *k, rows, scales };
            codes.dots(run.cpu, Which::From(0, out.len()), &query, out);
        });
    }

    fn plain(&mut self) {
        let levels = LEVELS.0.map(|level| (level * 127.0).round() as i32);
        let width = self.code.row_bytes(self.k);
        for ((row, scale), out) in self.rows.chunks(width).zip(&self.scales).zip(&mut self.out) {
            let codes = self.codes.iter().map(|&code| i32::from(code));
            let whole: i32 = match self.code {
                Code::Int8 => row.iter().zip(codes).map(|(x, y)| i32::from(*x as i8) * y).sum(),
                Code::Nf4 => {
                    let level = |i: usize| levels[usize::from(row[i / 2] >> (4 - 4 * (i % 2)) & 15)];
                    codes.enumerate().map(|(i, y)| level(i) * y).sum()
                }
                Code::Binary => {
                    let pairs = row.iter().zip(Line::elements::<u8>(&self.query));
                    self.k as i32 - 2 * pairs.map(|(x, y)| (x ^ y).count_ones() as i32).sum::<i32>()
                }
            };
            *out = whole as f32 * (scale * self.scale);
        }
    }
}
