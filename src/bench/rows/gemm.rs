//! Products of matrices: f32 and half weights, packed and not; with one row, memory binds.

use super::{Body, Entry, Inputs, Run, Weight, Work};
use crate::bench::memory::filled;
use crate::bench::peak::Access;
use crate::kernels::bf16::{GemmBf16, PackedBf16};
use crate::kernels::gemm::{
    Bf16, Element, F16, Gemm, PackedMatrix, Strided, Weights, gemm_each, pack, packed_len, scratch_len,
};
use crate::kernels::half;
use crate::kernels::view::{MatMut, MatRef};

/// The entries.
pub const FAMILY: &[Entry] = &[
    Entry {
        name: "gemm",
        about: "C = A · B, f32; B is packed anew in every call",
        dims: "MxNxK",
        shapes: &[&[512, 512, 512], &[1024, 1024, 1024], &[64, 64, 64], &[128, 1536, 384], &[64, 4096, 64]],
        work: |d| product(1, d),
        make: |d, i| {
            Body::new(
                Product::new(1, d, i),
                |p, run| {
                    let b = Strided(MatRef::new(&p.b, p.k, p.n));
                    multiply(run, Gemm::new(MatRef::new(&p.a, p.m, p.k), b, MatMut::new(&mut p.c, p.m, p.n)));
                },
                Product::plain,
                |p| p.c.clone(),
            )
        },
    },
    Entry {
        name: "gemm_packed",
        about: "C = A · B, f32; B packed once",
        dims: "MxNxK",
        shapes: &[&[512, 512, 512], &[8, 4096, 4096]],
        work: |d| product(1, d),
        make: |d, i| Product::new(1, d, i).packed(i),
    },
    Entry {
        name: "gemm_bf16",
        about: "C = A · B, both in bfloat16, as matrix units do it; B packed once",
        dims: "MxNxK",
        shapes: &[&[512, 512, 512], &[128, 1536, 384]],
        work: |d| product(1, d),
        make: |d, i| Product::new(1, d, i).bf16(i),
    },
    Entry {
        name: "gemm_each",
        about: "many small products, f32",
        dims: "BATCHxMxNxK",
        shapes: &[&[1000, 32, 32, 32]],
        work: |d| product(d[0], &d[1..]),
        make: |d, i| {
            Body::new(Product::new(d[0], &d[1..], i), Product::each, Product::plain, |p| p.c.clone())
        },
    },
    Entry {
        name: "gemv",
        about: "y = W · x, f32 weights in panels",
        dims: "NxK",
        shapes: GEMV,
        work: |d| vector(d, 4),
        make: |d, i| {
            let w = i.normal(d[0] * d[1]);
            Vector::body(d, w, i, |w| *w)
        },
    },
    Entry {
        name: "gemv_bf16",
        about: "y = W · x, bfloat16 weights in panels",
        dims: "NxK",
        shapes: GEMV,
        work: |d| vector(d, 2),
        make: |d, i| {
            let w = i.normal(d[0] * d[1]).into_iter().map(|w| Bf16(half::f32_to_bf16(w))).collect();
            Vector::body(d, w, i, |w| half::bf16_to_f32(w.0))
        },
    },
    Entry {
        name: "gemv_f16",
        about: "y = W · x, half weights in panels",
        dims: "NxK",
        shapes: GEMV,
        work: |d| vector(d, 2),
        make: |d, i| {
            let w = i.normal(d[0] * d[1]).into_iter().map(|w| F16(half::f32_to_f16(w))).collect();
            Vector::body(d, w, i, |w| half::f16_to_f32(w.0))
        },
    },
    Entry {
        name: "gemv_rows",
        about: "y = W · x, f32 weights in rows, transposed in registers",
        dims: "NxK",
        shapes: GEMV,
        work: |d| vector(d, 4),
        make: |d, i| {
            let w = i.normal(d[0] * d[1]);
            Vector::over(d, w, i, Vector::<f32>::rows, |w| *w)
        },
    },
];

const GEMV: &[&[usize]] = &[&[4096, 4096], &[512, 512]];

/// `batch` products of (m, k) and (k, n): `d` is m, n, k.
pub fn product(batch: usize, d: &[usize]) -> Work {
    let (m, n, k) = (d[0], d[1], d[2]);
    let flops = 2.0 * (batch * m * n) as f64 * k as f64;
    Work::arithmetic(flops, 4 * batch * (m * k + k * n + m * n))
}

/// A product with one row: `d` is n, k; `bytes` each weight, the vectors are small beside them.
pub fn vector(d: &[usize], bytes: usize) -> Work {
    let (n, k) = (d[0], d[1]);
    Work::memory(2.0 * (n * k) as f64, Access::Read, bytes * n * k + 4 * (n + k))
}

/// `m` rows times a given weight, packed once.
pub fn product_of(m: usize, w: &Weight, inputs: &mut Inputs) -> Body {
    let mut b = filled(0.0, w.values.len());
    for (i, b) in b.iter_mut().enumerate() {
        *b = w.values[i % w.n * w.k + i / w.n];
    }
    Product { m, n: w.n, k: w.k, a: inputs.normal(m * w.k), b, c: filled(0.0, m * w.n) }.packed(inputs)
}

/// One row times a given weight.
pub fn vector_of(w: &Weight, inputs: &mut Inputs) -> Body {
    Vector::body(&[w.n, w.k], w.values.clone(), inputs, |w| *w)
}

/// Runs the product on all threads.
pub(super) fn multiply<W: Weights>(run: &Run<'_>, gemm: Gemm<'_, W>) {
    let scratch_len = gemm.scratch_len();
    super::cut(run, gemm, Gemm::pieces, |piece, scratch| piece.run(run.cpu, scratch.lines(scratch_len)));
}

/// `b` (k, n) in panels.
pub(super) fn packed<E: Element>(inputs: &Inputs, b: MatRef<'_, E>) -> Vec<E::Group> {
    let mut groups = filled(E::ZERO, packed_len(b.rows(), b.cols()));
    pack(inputs.cpu, b, &mut groups);
    groups
}

/// C (m, n) = A (m, k) · B (k, n), `batch` times.
struct Product {
    m: usize,
    n: usize,
    k: usize,
    a: Vec<f32>,
    b: Vec<f32>,
    c: Vec<f32>,
}

impl Product {
    fn new(batch: usize, d: &[usize], inputs: &mut Inputs) -> Product {
        let (m, n, k) = (d[0], d[1], d[2]);
        let (a, b) = (inputs.normal(batch * m * k), inputs.normal(batch * k * n));
        Product { m, n, k, a, b, c: filled(0.0, batch * m * n) }
    }

    /// With B packed once.
    fn packed(self, inputs: &Inputs) -> Body {
        let groups = packed(inputs, MatRef::new(&self.b, self.k, self.n));
        Body::new(
            (self, groups),
            |(p, groups), run| {
                let b = PackedMatrix::<f32>::new(groups, p.k, p.n);
                multiply(run, Gemm::new(MatRef::new(&p.a, p.m, p.k), b, MatMut::new(&mut p.c, p.m, p.n)));
            },
            |(p, _)| p.plain(),
            |(p, _)| p.c.clone(),
        )
    }

    /// With both in bfloat16, B packed once.
    fn bf16(mut self, inputs: &Inputs) -> Body {
        self.a.iter_mut().for_each(|a| *a = half::bf16_to_f32(half::f32_to_bf16(*a)));
        let bits: Vec<u16> = self.b.iter().map(|&b| half::f32_to_bf16(b)).collect();
        self.b = bits.iter().map(|&b| half::bf16_to_f32(b)).collect();
        let mut groups = filled(Bf16::ZERO, packed_len(self.k, self.n));
        PackedBf16::pack(inputs.cpu, MatRef::new(Bf16::slice(&bits), self.k, self.n), &mut groups);
        Body::new(
            (self, groups),
            |(p, groups), run| {
                let (a, b) = (MatRef::new(&p.a, p.m, p.k), PackedBf16::new(groups, p.k, p.n));
                let job = GemmBf16::new(a, b, MatMut::new(&mut p.c, p.m, p.n));
                let lines = GemmBf16::scratch_len(p.m, p.k, p.n);
                super::cut(run, job, GemmBf16::pieces, |job, scratch| job.run(run.cpu, scratch.lines(lines)));
            },
            |(p, _)| p.plain(),
            |(p, _)| p.c.clone(),
        )
    }

    /// Some of the batch a piece.
    fn each(&mut self, run: &Run<'_>) {
        let &mut Product { m, n, k, ref a, ref b, ref mut c } = self;
        let part = super::parts(c.len() / (m * n), run);
        let pieces = a.chunks(part * m * k).zip(b.chunks(part * k * n)).zip(c.chunks_mut(part * m * n));
        run.pool.run(pieces, |((a, b), c), scratch| {
            let jobs = a.chunks(m * k).zip(b.chunks(k * n)).zip(c.chunks_mut(m * n)).map(|((a, b), c)| {
                Gemm::new(MatRef::new(a, m, k), Strided(MatRef::new(b, k, n)), MatMut::new(c, m, n))
            });
            gemm_each(run.cpu, jobs, scratch.lines(scratch_len::<Strided<'_>>(m, k)));
        });
    }

    /// Row by row of B, so that the inner loop runs along memory and the compiler can use SSE or NEON.
    fn plain(&mut self) {
        let Product { m, n, k, a, b, c } = self;
        let batch = a.chunks(*m * *k).zip(b.chunks(*k * *n)).zip(c.chunks_mut(*m * *n));
        for ((a, b), c) in batch {
            for (a, c) in a.chunks(*k).zip(c.chunks_mut(*n)) {
                c.fill(0.0);
                for (a, b) in a.iter().zip(b.chunks(*n)) {
                    for (c, b) in c.iter_mut().zip(b) {
                        *c += a * b;
                    }
                }
            }
        }
    }
}

/// y (n) = W (n, k) · x (k).
struct Vector<E: Element> {
    /// Row-major, (n, k): what the plain loop reads.
    w: Vec<E>,
    groups: Vec<E::Group>,
    x: Vec<f32>,
    y: Vec<f32>,
    ours: fn(&mut Vector<E>, &Run<'_>),
    value: fn(&E) -> f32,
}

impl<E: Element> Vector<E> {
    fn body(d: &[usize], w: Vec<E>, inputs: &mut Inputs, value: fn(&E) -> f32) -> Body {
        Vector::over(d, w, inputs, Vector::panels, value)
    }

    fn over(
        d: &[usize],
        w: Vec<E>,
        inputs: &mut Inputs,
        ours: fn(&mut Self, &Run<'_>),
        value: fn(&E) -> f32,
    ) -> Body {
        let (n, k) = (d[0], d[1]);
        let groups = packed(inputs, MatRef::new(&w, n, k).t());
        let state = Vector { w, groups, x: inputs.normal(k), y: filled(0.0, n), ours, value };
        Body::new(state, |v, run| (v.ours)(v, run), Vector::plain, |v| v.y.clone())
    }

    fn panels(&mut self, run: &Run<'_>) {
        let (n, k) = (self.y.len(), self.x.len());
        let w = PackedMatrix::<E>::new(&self.groups, k, n);
        multiply(run, Gemm::new(MatRef::new(&self.x, 1, k), w, MatMut::new(&mut self.y, 1, n)));
    }

    fn plain(&mut self) {
        for (w, y) in self.w.chunks(self.x.len()).zip(&mut self.y) {
            *y = w.iter().zip(&self.x).map(|(w, x)| (self.value)(w) * x).sum();
        }
    }
}

impl Vector<f32> {
    fn rows(&mut self, run: &Run<'_>) {
        let (n, k) = (self.y.len(), self.x.len());
        let w = Strided(MatRef::new(&self.w, n, k).t());
        multiply(run, Gemm::new(MatRef::new(&self.x, 1, k), w, MatMut::new(&mut self.y, 1, n)));
    }
}
