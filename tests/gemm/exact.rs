//! Index errors: integers small enough that every sum is exact, so the only tolerance is none.

use crate::common::{self, Random, assert_same, simd_cpus};
use crate::{packed, run};
use samebits::Cpu;
use samebits::kernels::gemm::{Gemm, PackedMatrix, Strided};
use samebits::kernels::view::{Layout, MatMut, MatRef};

fn integers(random: &mut Random, n: usize) -> Vec<f32> {
    (0..n).map(|_| random.below(17) as f32 - 8.0).collect()
}

/// The product in `i64`.
fn exact(a: &[f32], b: &[f32], (m, n, k): (usize, usize, usize)) -> Vec<f32> {
    let mut c = vec![0i64; m * n];
    for i in 0..m {
        for kk in 0..k {
            let a = a[i * k + kk] as i64;
            for j in 0..n {
                c[i * n + j] += a * b[kk * n + j] as i64;
            }
        }
    }
    c.into_iter().map(|c| c as f32).collect()
}

fn check(cpu: Cpu, random: &mut Random, shape: (usize, usize, usize)) {
    let (m, n, k) = shape;
    let (a, b) = (integers(random, m * k), integers(random, k * n));
    let want = exact(&a, &b, shape);
    let (a, b) = (MatRef::new(&a, m, k), MatRef::new(&b, k, n));
    let mut c = vec![f32::NAN; m * n];
    run(cpu, Gemm::new(a, Strided(b), MatMut::new(&mut c, m, n)));
    assert_same(&c, &want, format!("{cpu:?} {shape:?}"));
    let groups = packed(cpu, b);
    c.fill(f32::NAN);
    run(cpu, Gemm::new(a, PackedMatrix::<f32>::new(&groups, k, n), MatMut::new(&mut c, m, n)));
    assert_same(&c, &want, format!("{cpu:?} packed {shape:?}"));
}

/// Every shape 0..=40 in each of m, n, k: 68,921 products (a lattice of them where the build is slow).
#[test]
fn every_shape_to_forty_is_exact() {
    let mut random = Random::new(5);
    let step = if common::slow() { 13 } else { 1 };
    for cpu in simd_cpus() {
        for m in (0..=40).step_by(step) {
            for n in (0..=40).step_by(step) {
                for k in (0..=40).step_by(step) {
                    check(cpu, &mut random, (m, n, k));
                }
            }
        }
    }
}

#[test]
fn two_hundred_larger_shapes_are_exact() {
    let mut random = Random::new(6);
    let (count, limit) = if common::slow() { (3, 90) } else { (200, 700) };
    for cpu in simd_cpus() {
        for _ in 0..count {
            let shape = (1 + random.below(limit) / 2, 1 + random.below(limit) / 2, 1 + random.below(limit));
            check(cpu, &mut random, shape);
        }
    }
}

/// All transposes × strides {1, −1, 0 (read side), 3, ld + 5}: NaN in the gaps before, the same NaN after.
#[test]
fn any_strides_read_and_write_their_own_elements_alone() {
    let mut random = Random::new(7);
    let (m, n, k) = (13, 21, 19);
    let layouts = |rows: usize, cols: usize, read: bool| {
        let (r, c) = (rows as isize, cols as isize);
        let mut all = vec![
            (c, 1),
            (1, r),
            (c + 5, 1),
            (3 * c, 3),
            (-c, 1),
            (c, -1),
            (-(c + 5), -1),
            (1, r + 5),
            (-1, -r),
        ];
        if read {
            all.extend([(0, 1), (c, 0), (0, 0), (1, 0)]);
        }
        all
    };
    for cpu in common::cpus() {
        for &la in &layouts(m, k, true) {
            for &lb in &layouts(k, n, true) {
                for &lc in &[(n as isize, 1), (1, m as isize), (-3 * n as isize - 5, 3), (2, -2 * m as isize)]
                {
                    strided_case(cpu, &mut random, (m, n, k), (la, lb, lc));
                }
            }
        }
    }
}

type Strides = (isize, isize);

fn place(rows: usize, cols: usize, (row_stride, col_stride): Strides) -> (usize, usize, Layout) {
    let reach = |n: usize, s: isize| (n as isize - 1) * s;
    let (r, c) = (reach(rows, row_stride), reach(cols, col_stride));
    let offset = -(r.min(0) + c.min(0)) as usize;
    let len = offset + (r.max(0) + c.max(0)) as usize + 1;
    (offset, len, Layout { rows, cols, row_stride, col_stride })
}

fn strided_case(
    cpu: Cpu,
    random: &mut Random,
    (m, n, k): (usize, usize, usize),
    (la, lb, lc): (Strides, Strides, Strides),
) {
    // Distinct strides may overlap on the write side: those are refused by the view, not by gemm.
    let ((oa, na, la), (ob, nb, lb), (oc, nc, lc)) = (place(m, k, la), place(k, n, lb), place(m, n, lc));
    let (a, b) = (integers(random, na), integers(random, nb));
    let (a, b) = (MatRef::strided(&a, oa, la), MatRef::strided(&b, ob, lb));
    let gap = f32::from_bits(0x7fc0_1234);
    let mut c = vec![gap; nc];
    run(cpu, Gemm::new(a, Strided(b), MatMut::strided(&mut c, oc, lc)));
    let mut want = vec![gap; nc];
    for i in 0..m {
        for j in 0..n {
            let sum: f32 = (0..k).map(|kk| a.get(i, kk) * b.get(kk, j)).sum();
            want[(oc as isize + i as isize * lc.row_stride + j as isize * lc.col_stride) as usize] =
                sum + 0.0;
        }
    }
    let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<u32>>();
    assert_eq!(bits(&c), bits(&want), "{cpu:?} A {la:?} B {lb:?} C {lc:?}");
}
