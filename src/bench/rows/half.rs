//! Conversion between `f32` and the two halves: memory binds.

use super::{Body, Entry, Inputs, Run, Work, parts};
use crate::Cpu;
use crate::bench::memory::Aligned;
use crate::bench::peak::Access;
use crate::kernels::{Plain, half};

/// The entries.
pub const FAMILY: &[Entry] = &[
    entry("f16_to_f32", "IEEE half to f32", |d, i| {
        let x: Vec<u16> = i.normal(d[0]).into_iter().map(half::f32_to_f16).collect();
        let plain = |(x, y): &mut Widen| y.iter_mut().zip(&**x).for_each(|(y, x)| *y = half::f16_to_f32(*x));
        Body::new(both(x, 0.0), |s, run| each(run, s, half::widen_f16), plain, |s| s.1.to_vec())
    }),
    entry("bf16_to_f32", "bfloat16 to f32", |d, i| {
        let x: Vec<u16> = i.normal(d[0]).into_iter().map(half::f32_to_bf16).collect();
        let plain = |(x, y): &mut Widen| y.iter_mut().zip(&**x).for_each(|(y, x)| *y = half::bf16_to_f32(*x));
        Body::new(both(x, 0.0), |s, run| each(run, s, half::widen_bf16), plain, |s| s.1.to_vec())
    }),
    entry("f32_to_f16", "f32 to IEEE half", |d, i| {
        let plain = |(x, y): &mut Narrow| y.iter_mut().zip(&**x).for_each(|(y, x)| *y = half::f32_to_f16(*x));
        Body::new(both(i.normal(d[0]), 0), |s, run| each(run, s, half::narrow_f16), plain, numbers)
    }),
    entry("f32_to_bf16", "f32 to bfloat16", |d, i| {
        let plain =
            |(x, y): &mut Narrow| y.iter_mut().zip(&**x).for_each(|(y, x)| *y = half::f32_to_bf16(*x));
        Body::new(both(i.normal(d[0]), 0), |s, run| each(run, s, half::narrow_bf16), plain, numbers)
    }),
];

type Widen = (Aligned<u16>, Aligned<f32>);
type Narrow = (Aligned<f32>, Aligned<u16>);

/// What is read, and as many `y` to write to.
fn both<A: Plain, B: Plain>(x: Vec<A>, y: B) -> (Aligned<A>, Aligned<B>) {
    let y = vec![y; x.len()];
    (x.into(), y.into())
}

const fn entry(name: &'static str, about: &'static str, make: fn(&[usize], &mut Inputs) -> Body) -> Entry {
    let work = |d: &[usize]| Work::memory(d[0] as f64, Access::Copy, 6 * d[0]);
    Entry { name, about, dims: "N", shapes: &[&[1 << 22], &[1 << 14]], work, make }
}

fn each<A: Plain, B: Plain>(
    run: &Run<'_>,
    (x, y): &mut (Aligned<A>, Aligned<B>),
    convert: fn(Cpu, &[A], &mut [B]),
) {
    let part = parts(x.len(), run);
    run.pool.run(x.chunks(part).zip(y.chunks_mut(part)), |(x, y), _| convert(run.cpu, x, y));
}

/// The bits as numbers: what is hashed and compared.
fn numbers((_, y): &Narrow) -> Vec<f32> {
    y.iter().map(|&bits| f32::from(bits)).collect()
}
