//! Exact products of integers of eight bits, against plain loops.

mod common;
use common::*;
use samebits::kernels::Line;
use samebits::kernels::gemm::Accumulate;
use samebits::kernels::int8::{Codes, Eight, GemmI8, PackedI8, blocks_len};
use samebits::kernels::simd::tiles::Plain;
use samebits::kernels::view::{MatMut, MatRef};

/// Any bytes, one in eight of them −128 and one the largest.
fn bytes(random: &mut Random, n: usize) -> Vec<i8> {
    (0..n)
        .map(|_| match random.below(8) {
            0 => -128,
            1 => 127,
            _ => random.bits() as i8,
        })
        .collect()
}

fn exact(a: &[i8], b: &[i8], (m, n, k): (usize, usize, usize)) -> Vec<i32> {
    let pair = |i: usize, j: usize| (0..k).map(|q| i32::from(a[i * k + q]) * i32::from(b[q * n + j])).sum();
    (0..m * n).map(|at| pair(at / n, at % n)).collect()
}

#[track_caller]
fn check_exact((m, n, k): (usize, usize, usize), seed: u64) {
    let mut random = Random::new(seed);
    let (a, b) = (bytes(&mut random, m * k), bytes(&mut random, k * n));
    let want = exact(&a, &b, (m, n, k));
    let mut blocks = vec![Eight::EMPTY; blocks_len(n, k)];
    let b = PackedI8::pack(MatRef::new(&b, k, n), &mut blocks);
    for cpu in variants() {
        let mut scratch = vec![Line([f32::NAN; 16]); GemmI8::scratch_len(m, k, n)];
        let mut c = vec![i32::MIN; m * n];
        let (rows, out) = (MatRef::new(&a, m, k), MatMut::new(&mut c, m, n));
        GemmI8 { a: rows, b, c: out, accumulate: Accumulate::Overwrite }.run(cpu, &mut scratch);
        assert!(c == want, "{m}x{n}x{k} on {cpu:?}");
        let job = GemmI8 { a: rows, b, c: MatMut::new(&mut c, m, n), accumulate: Accumulate::Add };
        job.pieces().for_each(|piece| piece.run(cpu, &mut scratch));
        assert!(c.iter().zip(&want).all(|(c, w)| *c == 2 * w), "{m}x{n}x{k} twice on {cpu:?}");
    }
    for cpu in cpus() {
        let mut scratch = vec![Line([f32::NAN; 16]); GemmI8::scratch_len(m.max(8), k, n)];
        let mut c = vec![i32::MIN; m * n];
        let (rows, out) = (MatRef::new(&a, m, k), MatMut::new(&mut c, m, n));
        let job = GemmI8 { a: rows, b, c: out, accumulate: Accumulate::Overwrite };
        job.run_on_tiles(cpu, Plain, &mut scratch);
        assert!(c == want, "{m}x{n}x{k} in tiles on {cpu:?}");
        let job = GemmI8 { a: rows, b, c: MatMut::new(&mut c, m, n), accumulate: Accumulate::Add };
        job.pieces().for_each(|piece| piece.run_on_tiles(cpu, Plain, &mut scratch));
        assert!(c.iter().zip(&want).all(|(c, w)| *c == 2 * w), "{m}x{n}x{k} twice in tiles on {cpu:?}");
    }
}

#[test]
fn integers_are_exact_at_every_length_and_odd_shapes() {
    for k in 0..=67 {
        check_exact((3, 21, k), k as u64);
    }
    for m in 1..=27 {
        check_exact((m, 35, 70), m as u64);
    }
    for n in 0..=67 {
        check_exact((1, n, 37), n as u64);
    }
    for shape in [(13, 37, 1100), (1, 70, 2100), (100, 33, 130), (97, 16, 1024), (8, 130, 257)] {
        if !slow() || shape.0 * shape.1 * shape.2 < 1 << 19 {
            check_exact(shape, 5);
        }
    }
}

/// More rows than a strip has, more steps than are prepared at once, more columns than sums are kept of; C that is larger
/// than 2 MB and begins at a line, which goes past the caches.
#[test]
fn large_products_are_exact() {
    if slow() {
        return;
    }
    for shape in [(400, 40, 520), (64, 70, 2200), (33, 4140, 2100)] {
        check_exact(shape, 6);
    }
    let (m, n, k) = (64, 8224, 600);
    let mut random = Random::new(9);
    let (a, b) = (bytes(&mut random, m * k), bytes(&mut random, k * n));
    let want = exact(&a, &b, (m, n, k));
    let mut blocks = vec![Eight::EMPTY; blocks_len(n, k)];
    let b = PackedI8::pack(MatRef::new(&b, k, n), &mut blocks);
    for cpu in variants() {
        let mut scratch = vec![Line::ZERO; GemmI8::scratch_len(m, k, n)];
        let mut memory = vec![Line([f32::NAN; 16]); m * n / 16];
        let c = MatMut::new(Line::elements_mut(&mut memory), m, n);
        GemmI8 { a: MatRef::new(&a, m, k), b, c, accumulate: Accumulate::Overwrite }.run(cpu, &mut scratch);
        assert!(Line::elements::<i32>(&memory) == want, "{m}x{n}x{k} on {cpu:?}");
    }
}

/// The largest sums of each sign, where a product of half words would be cut.
#[test]
fn extremes_are_not_cut() {
    let (m, n, k) = (5, 40, 512);
    for (x, y) in [(-128, -128), (-128, 127), (127, -128), (127, 127)] {
        let (a, b) = (vec![x; m * k], vec![y; k * n]);
        let mut blocks = vec![Eight::EMPTY; blocks_len(n, k)];
        let b = PackedI8::pack(MatRef::new(&b, k, n), &mut blocks);
        for cpu in variants() {
            let (mut c, mut scratch) = (vec![0; m * n], vec![Line::ZERO; GemmI8::scratch_len(m, k, n)]);
            let (a, out) = (MatRef::new(&a, m, k), MatMut::new(&mut c, m, n));
            GemmI8 { a, b, c: out, accumulate: Accumulate::Overwrite }.run(cpu, &mut scratch);
            assert!(c.iter().all(|&c| c == i32::from(x) * i32::from(y) * k as i32), "{x} · {y} on {cpu:?}");
            let mut scratch = vec![Line::ZERO; GemmI8::scratch_len(8, k, n)];
            let job = GemmI8 { a, b, c: MatMut::new(&mut c, m, n), accumulate: Accumulate::Overwrite };
            job.run_on_tiles(cpu, Plain, &mut scratch);
            assert!(c.iter().all(|&c| c == i32::from(x) * i32::from(y) * k as i32), "{x} · {y} in tiles");
        }
    }
}

/// A and C across memory, B from rows of weights.
#[test]
fn strides_do_not_matter() {
    let (m, n, k) = (14, 37, 75);
    let mut random = Random::new(9);
    let (a, w) = (bytes(&mut random, k * m), bytes(&mut random, n * k));
    let (a, w) = (MatRef::new(&a, k, m).t(), MatRef::new(&w, n, k).t());
    let mut blocks = vec![Eight::EMPTY; blocks_len(n, k)];
    let b = PackedI8::pack(w, &mut blocks);
    for cpu in variants() {
        let (mut c, mut scratch) = (vec![0; n * m], vec![Line::ZERO; GemmI8::scratch_len(m, k, n)]);
        let out = MatMut::new(&mut c, n, m).t();
        GemmI8 { a, b, c: out, accumulate: Accumulate::Overwrite }.run(cpu, &mut scratch);
        for i in 0..m {
            for j in 0..n {
                let want: i32 = (0..k).map(|q| i32::from(a.get(i, q)) * i32::from(w.get(q, j))).sum();
                assert_eq!(c[j * m + i], want, "({i}, {j}) on {cpu:?}");
            }
        }
    }
}

#[test]
#[should_panic(expected = "gemm_i8: A (2, 3) · B (4, 5) → C (2, 5)")]
fn shapes_that_do_not_belong_together() {
    let mut blocks = vec![Eight::EMPTY; blocks_len(5, 4)];
    let b = PackedI8::pack(MatRef::new(&[0; 20], 4, 5), &mut blocks);
    let mut c = [0; 10];
    let (a, c) = (MatRef::new(&[0; 6], 2, 3), MatMut::new(&mut c, 2, 5));
    GemmI8 { a, b, c, accumulate: Accumulate::Overwrite }.run(cpus()[0], &mut []);
}
