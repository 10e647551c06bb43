//! Conversion between `f32` and the two halves: memory binds.

use super::{Body, Entry, Inputs, Run, Work, parts};
use crate::Cpu;
use crate::bench::memory::filled;
use crate::bench::peak::Access;
use crate::kernels::half;

/// The entries.
pub const FAMILY: &[Entry] = &[
    entry("f16_to_f32", "IEEE half to f32", |d, i| {
        let x = i.normal(d[0]).into_iter().map(half::f32_to_f16).collect();
        let plain = |(x, y): &mut Widen| y.iter_mut().zip(x).for_each(|(y, x)| *y = half::f16_to_f32(*x));
        Body::new((x, filled(0.0, d[0])), |s, run| each(run, s, half::widen_f16), plain, |s| s.1.clone())
    }),
    entry("bf16_to_f32", "bfloat16 to f32", |d, i| {
        let x = i.normal(d[0]).into_iter().map(half::f32_to_bf16).collect();
        let plain = |(x, y): &mut Widen| y.iter_mut().zip(x).for_each(|(y, x)| *y = half::bf16_to_f32(*x));
        Body::new((x, filled(0.0, d[0])), |s, run| each(run, s, half::widen_bf16), plain, |s| s.1.clone())
    }),
    entry("f32_to_f16", "f32 to IEEE half", |d, i| {
        let plain = |(x, y): &mut Narrow| y.iter_mut().zip(x).for_each(|(y, x)| *y = half::f32_to_f16(*x));
        Body::new((i.normal(d[0]), filled(0, d[0])), |s, run| each(run, s, half::narrow_f16), plain, numbers)
    }),
    entry("f32_to_bf16", "f32 to bfloat16", |d, i| {
        let plain = |(x, y): &mut Narrow| y.iter_mut().zip(x).for_each(|(y, x)| *y = half::f32_to_bf16(*x));
        Body::new((i.normal(d[0]), filled(0, d[0])), |s, run| each(run, s, half::narrow_bf16), plain, numbers)
    }),
];

type Widen = (Vec<u16>, Vec<f32>);
type Narrow = (Vec<f32>, Vec<u16>);

const fn entry(name: &'static str, about: &'static str, make: fn(&[usize], &mut Inputs) -> Body) -> Entry {
    let work = |d: &[usize]| Work::memory(d[0] as f64, Access::Copy, 6 * d[0]);
    Entry { name, about, dims: "N", shapes: &[&[1 << 22], &[1 << 14]], work, make }
}

fn each<A: Sync, B: Send>(run: &Run<'_>, (x, y): &mut (Vec<A>, Vec<B>), convert: fn(Cpu, &[A], &mut [B])) {
    let part = parts(x.len(), run);
    run.pool.run(x.chunks(part).zip(y.chunks_mut(part)), |(x, y), _| convert(run.cpu, x, y));
}

/// The bits as numbers: what is hashed and compared.
fn numbers((_, y): &Narrow) -> Vec<f32> {
    y.iter().map(|&bits| f32::from(bits)).collect()
}
