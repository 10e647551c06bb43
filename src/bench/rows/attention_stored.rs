//! Attention of one query over a cache that holds bf16 or int8: memory binds, with fewer bytes.

use super::attention::round;
use super::{Body, Entry, Inputs, Run, Work};
use crate::bench::memory::filled;
use crate::bench::peak::Access;
use crate::kernels::attention::{Attention, Options, Pattern, Products, Stored, scratch_len};
use crate::kernels::view::{HeadsMut, HeadsRef};
use crate::kernels::{half, int8};

/// The entries; batch 1.
pub const FAMILY: &[Entry] = &[
    Entry {
        name: "attention_decode_bf16",
        about: "one query a head over a cache of bf16",
        dims: "HEADSxKEYSxDIM",
        shapes: &[&[32, 4096, 128], &[8, 256, 64]],
        work: |d| work(d, 2 * d[2]),
        make: |d, i| {
            let (k, v) = (halves(d, i), halves(d, i));
            Body::new(State::new(d, k, v, i), State::ours, |s| s.plain(half::bf16_to_f32), |s| s.out.clone())
        },
    },
    Entry {
        name: "attention_decode_products_bf16",
        about: "one query a head over a cache of bf16, q and p rounded too, sums in f32",
        dims: "HEADSxKEYSxDIM",
        shapes: &[&[32, 4096, 128], &[8, 256, 64]],
        work: |d| work(d, 2 * d[2]),
        make: |d, i| {
            let (k, v) = (halves(d, i), halves(d, i));
            let mut state = State { products: Products::Bf16, ..State::new(d, k, v, i) };
            state.q.iter_mut().for_each(round);
            Body::new(state, State::ours, |s| s.plain(half::bf16_to_f32), |s| s.out.clone())
        },
    },
    Entry {
        name: "attention_decode_int8",
        about: "one query a head over a cache of int8, a scale a token and head",
        dims: "HEADSxKEYSxDIM",
        shapes: &[&[32, 4096, 128], &[8, 256, 64]],
        work: |d| work(d, d[2] + 4),
        make: |d, i| {
            let (k, v) = (codes(d, i), codes(d, i));
            Body::new(State::new(d, k, v, i), State::ours, |s| s.plain(f32::from), |s| s.out.clone())
        },
    },
];

/// Rows of `row` bytes, each of K and V read once.
fn work(d: &[usize], row: usize) -> Work {
    let rows = d[0] * d[1];
    Work::memory(4.0 * (rows * d[2]) as f64, Access::Read, 2 * rows * row + 8 * d[0] * d[2])
}

/// Keys or values, (heads, keys, dim), and one scale a row.
struct Half<T> {
    x: Vec<T>,
    scales: Vec<f32>,
}

fn halves(d: &[usize], inputs: &mut Inputs) -> Half<u16> {
    let floats = inputs.normal(d[0] * d[1] * d[2]);
    let mut x = filled(0, floats.len());
    half::narrow_bf16(inputs.cpu, &floats, &mut x);
    Half { x, scales: vec![1.0; d[0] * d[1]] }
}

fn codes(d: &[usize], inputs: &mut Inputs) -> Half<i8> {
    let floats = inputs.normal(d[0] * d[1] * d[2]);
    let mut x = filled(0, floats.len());
    let rows = floats.chunks(d[2]).zip(x.chunks_mut(d[2]));
    let scales = rows.map(|(floats, codes)| int8::quantize(inputs.cpu, floats, codes)).collect();
    Half { x, scales }
}

/// What the kernel reads of a type.
trait Read: Copy {
    fn stored<'a>(x: HeadsRef<'a, Self>, scales: HeadsRef<'a>) -> Stored<'a>;
}

impl Read for u16 {
    fn stored<'a>(x: HeadsRef<'a, u16>, _: HeadsRef<'a>) -> Stored<'a> {
        Stored::Bf16(x)
    }
}

impl Read for i8 {
    fn stored<'a>(codes: HeadsRef<'a, i8>, scales: HeadsRef<'a>) -> Stored<'a> {
        Stored::Int8 { codes, scales }
    }
}

impl<T: Read> Half<T> {
    fn view(&self, shape: [usize; 4]) -> Stored<'_> {
        let [batch, heads, keys, _] = shape;
        T::stored(HeadsRef::new(&self.x, shape), HeadsRef::new(&self.scales, [batch, heads, keys, 1]))
    }

    /// The rows of a head, and their scales.
    fn head(&self, head: usize, keys: usize) -> (&[T], &[f32]) {
        let n = self.x.len() / self.scales.len() * keys;
        (&self.x[head * n..][..n], &self.scales[head * keys..][..keys])
    }
}

/// q and out (heads, dim).
struct State<T> {
    heads: usize,
    dim: usize,
    products: Products,
    q: Vec<f32>,
    k: Half<T>,
    v: Half<T>,
    out: Vec<f32>,
}

impl<T: Read> State<T> {
    fn new(d: &[usize], k: Half<T>, v: Half<T>, inputs: &mut Inputs) -> State<T> {
        let (heads, dim) = (d[0], d[2]);
        let (q, out) = (inputs.normal(heads * dim), filled(0.0, heads * dim));
        State { heads, dim, products: Products::F32, q, k, v, out }
    }

    fn ours(&mut self, run: &Run<'_>) {
        let (heads, dim, keys) = (self.heads, self.dim, self.k.scales.len() / self.heads);
        let (few, many) = ([1, heads, 1, dim], [1, heads, keys, dim]);
        let problem = Attention {
            q: HeadsRef::new(&self.q, few),
            k: self.k.view(many),
            v: self.v.view(many),
            out: HeadsMut::new(&mut self.out, few),
            lse: None,
            options: Options {
                products: self.products,
                pattern: Pattern::Causal,
                ..Options::for_head_dim(dim)
            },
        };
        run.pool.run(problem.pieces(), |piece, scratch| {
            piece.run(run.cpu, scratch.lines(scratch_len(dim, dim)));
        });
    }

    /// Scores, softmax, weighted sum of the values; a row's scale once a row.
    fn plain(&mut self, decode: impl Fn(T) -> f32) {
        let (dim, keys) = (self.dim, self.k.scales.len() / self.heads);
        let scale = 1.0 / (dim as f32).sqrt();
        let mut scores = vec![0.0; keys];
        let rows = self.q.chunks(dim).zip(self.out.chunks_mut(dim)).enumerate();
        for (head, (q, out)) in rows {
            let ((k, k_scales), (v, v_scales)) = (self.k.head(head, keys), self.v.head(head, keys));
            for ((s, k), row) in scores.iter_mut().zip(k.chunks(dim)).zip(k_scales) {
                *s = scale * row * q.iter().zip(k).map(|(q, &k)| q * decode(k)).sum::<f32>();
            }
            let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            scores.iter_mut().for_each(|s| *s = (*s - max).exp());
            let sum = scores.iter().sum::<f32>();
            if self.products == Products::Bf16 {
                scores.iter_mut().for_each(round);
            }
            out.fill(0.0);
            for ((s, v), row) in scores.iter().zip(v.chunks(dim)).zip(v_scales) {
                let weight = s / sum * row;
                out.iter_mut().zip(v).for_each(|(out, &v)| *out += weight * decode(v));
            }
        }
    }
}
