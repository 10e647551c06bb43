//! Arithmetic of two matrices and functions of one: twins in every layout, broadcasting, special values.

mod common;
use common::layouts::{Form, Mat};
use common::*;
use samebits::kernels::elementwise::*;
use samebits::kernels::math::pow64;
use samebits::kernels::view::{Layout, MatMut, MatRef};

fn twin(op: Binary, a: f32, b: f32) -> f32 {
    match op {
        Binary::Add => a + b,
        Binary::Sub => a - b,
        Binary::Mul => a * b,
        Binary::Div => a / b,
        Binary::Max | Binary::Min if a.is_nan() || b.is_nan() => f32::NAN,
        Binary::Max => {
            if a > b {
                a
            } else {
                b
            }
        }
        Binary::Min => {
            if a < b {
                a
            } else {
                b
            }
        }
        Binary::Pow => power(a, b),
    }
}

/// IEEE 754-2019, 9.2.1, from the power of what is not negative.
fn power(a: f32, b: f32) -> f32 {
    let size = pow64(f64::from(a.abs()), f64::from(b)) as f32;
    match a.is_sign_negative() {
        false => size,
        true if f64::from(b) % 2.0 == 0.0 || b.is_infinite() => size,
        true if b.fract() == 0.0 => -size,
        true if a == 0.0 || a.is_infinite() => size,
        true => f32::NAN,
    }
}

fn pairs(op: Binary, a: &[f32], b: &[f32]) -> Vec<f32> {
    a.iter().zip(b).map(|(&a, &b)| twin(op, a, b)).collect()
}

#[test]
fn binary_twin() {
    let mut random = Random::new(1);
    for cpu in cpus() {
        for op in Binary::ALL {
            for n in (0..=67).chain([255, 256, 257, 1000]) {
                let (a, b) = (random.normal(n), random.normal(n));
                let want = pairs(op, &a, &b);
                let mut out = vec![f32::NAN; n];
                binary(cpu, op, MatRef::new(&a, 1, n), MatRef::new(&b, 1, n), MatMut::new(&mut out, 1, n));
                assert_same(&out, &want, format!("{op:?} {cpu:?} n = {n}"));
                let mut out = a;
                binary_in_place(cpu, op, MatMut::new(&mut out, 1, n), MatRef::new(&b, 1, n));
                assert_same(&out, &want, format!("{op:?} {cpu:?} n = {n} in place"));
            }
        }
    }
}

#[test]
fn every_layout() {
    let mut random = Random::new(2);
    for cpu in cpus() {
        for (rows, cols) in [(0, 3), (3, 0), (1, 1), (7, 1), (3, 17), (2, 300), (300, 2)] {
            let (a, b) = (random.normal(rows * cols), random.normal(rows * cols));
            let want = pairs(Binary::Sub, &a, &b);
            for fa in Form::ALL {
                for fb in Form::ALL {
                    let (mut a, b) = (Mat::new(fa, rows, cols, &a), Mat::new(fb, rows, cols, &b));
                    for to in Form::ALL {
                        let mut out = Mat::new(to, rows, cols, &vec![0.0; rows * cols]);
                        binary(cpu, Binary::Sub, a.view(), b.view(), out.view_mut());
                        assert_same(
                            &out.values(),
                            &want,
                            format!("{cpu:?} ({rows}, {cols}) {fa:?} − {fb:?} → {to:?}"),
                        );
                    }
                    binary_in_place(cpu, Binary::Sub, a.view_mut(), b.view());
                    assert_same(&a.values(), &want, format!("{cpu:?} ({rows}, {cols}) {fa:?} −= {fb:?}"));
                }
            }
        }
    }
}

#[test]
fn a_stride_of_zero_broadcasts() {
    let (rows, cols) = (3, 300);
    let mut random = Random::new(3);
    let (x, row, column) = (random.normal(rows * cols), random.normal(cols), random.normal(rows));
    let layout = |row_stride, col_stride| Layout { rows, cols, row_stride, col_stride };
    let full = MatRef::new(&x, rows, cols);
    let views = [
        MatRef::strided(&row, 0, layout(0, 1)),
        MatRef::strided(&column, 0, layout(1, 0)),
        MatRef::strided(&column, 1, layout(0, 0)),
    ];
    for cpu in cpus() {
        for (v, view) in views.into_iter().enumerate() {
            for op in Binary::ALL {
                let at = |m: MatRef, i: usize| m.get(i / cols, i % cols);
                let mut out = vec![0.0; rows * cols];
                let want = |a: MatRef, b: MatRef| {
                    (0..rows * cols).map(|i| twin(op, at(a, i), at(b, i))).collect::<Vec<_>>()
                };
                binary(cpu, op, full, view, MatMut::new(&mut out, rows, cols));
                assert_same(&out, &want(full, view), format!("{op:?} {cpu:?} x, view {v}"));
                binary(cpu, op, view, full, MatMut::new(&mut out, rows, cols));
                assert_same(&out, &want(view, full), format!("{op:?} {cpu:?} view {v}, x"));
                binary(cpu, op, view, view, MatMut::new(&mut out, cols, rows).t());
                let columns: Vec<f32> = (0..rows * cols).map(|i| out[i % cols * rows + i / cols]).collect();
                assert_same(&columns, &want(view, view), format!("{op:?} {cpu:?} view {v}, transposed"));
            }
        }
    }
}

/// Every pair of special values at every lane.
#[test]
fn special_pairs() {
    let n = SPECIALS.len();
    let a: Vec<f32> = (0..n * n).map(|i| SPECIALS[i / n]).collect();
    let b: Vec<f32> = (0..n * n).map(|i| SPECIALS[i % n]).collect();
    for cpu in cpus() {
        for op in Binary::ALL {
            for shift in 0..17 {
                let (a, b) = (&a[shift..], &b[shift..]);
                let mut out = vec![0.0; a.len()];
                let shape = (1, a.len());
                binary(
                    cpu,
                    op,
                    MatRef::new(a, 1, shape.1),
                    MatRef::new(b, 1, shape.1),
                    MatMut::new(&mut out, 1, shape.1),
                );
                assert_same(&out, &pairs(op, a, b), format!("{op:?} {cpu:?} from {shift}"));
            }
        }
    }
}

/// The exact ones against their definition; the others, which have tests of their own, against the scalar tier.
#[test]
fn unary_in_every_layout() {
    let mut random = Random::new(4);
    let one = |f: Unary, x: f32| {
        let mut y = [x];
        unary_in_place(Cpu::with_tier(Tier::Scalar).unwrap(), f, MatMut::new(&mut y, 1, 1));
        y[0]
    };
    for cpu in cpus() {
        for f in Unary::ALL {
            let twin = |x: f32| match f {
                Unary::Neg => f32::from_bits(x.to_bits() ^ 1 << 31),
                Unary::Abs => f32::from_bits(x.to_bits() & !(1 << 31)),
                Unary::Sqrt => x.sqrt(),
                _ => one(f, x),
            };
            for (rows, cols) in [(0, 3), (3, 0), (1, 1), (3, 17), (20, 35)] {
                let x: Vec<f32> = (0..rows * cols)
                    .map(|i| if i % 3 == 0 { SPECIALS[i % 16] } else { random.unit() * 9.0 })
                    .collect();
                let want: Vec<f32> = x.iter().map(|&x| twin(x)).collect();
                for from in Form::ALL {
                    let mut place = Mat::new(from, rows, cols, &x);
                    for to in Form::ALL {
                        let mut out = Mat::new(to, rows, cols, &vec![0.0; rows * cols]);
                        unary(cpu, f, place.view(), out.view_mut());
                        assert_same(
                            &out.values(),
                            &want,
                            format!("{f:?} {cpu:?} ({rows}, {cols}) {from:?} → {to:?}"),
                        );
                    }
                    unary_in_place(cpu, f, place.view_mut());
                    assert_same(&place.values(), &want, format!("{f:?} {cpu:?} ({rows}, {cols}) {from:?}"));
                }
            }
        }
    }
}

/// Powers against std's `f64`, and every pair of special values against std's `f32`.
#[test]
fn pow_truth() {
    let mut random = Random::new(5);
    let (cpu, n) = (cpus()[0], if slow() { 2_000 } else { 200_000 });
    let a: Vec<f32> = (0..n).map(|_| (random.unit() * 40.0).exp2()).collect();
    let b: Vec<f32> =
        (0..n).map(|i| if i % 2 == 0 { random.unit() * 8.0 } else { (i % 17) as f32 - 8.0 }).collect();
    let power = |a: &[f32], b: &[f32]| {
        let mut out = vec![0.0; a.len()];
        let shape = (1, a.len());
        let y = MatMut::new(&mut out, 1, shape.1);
        binary(cpu, Binary::Pow, MatRef::new(a, 1, shape.1), MatRef::new(b, 1, shape.1), y);
        out
    };
    for (i, y) in power(&a, &b).into_iter().enumerate() {
        let off = truth::ulps(y, f64::from(a[i]).powf(f64::from(b[i])));
        assert!(off <= 0.5 + 1.0 / 128.0, "{:e} to the {:e} is {y:e}: {off} ulp", a[i], b[i]);
    }
    let exponents =
        [0.0, -0.0, 0.5, 1.0, -1.0, 2.0, 3.0, -3.0, 1e10, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
    for a in SPECIALS {
        for b in exponents {
            let (y, want) = (power(&[a], &[b])[0], a.powf(b));
            let near = y == want && y.is_sign_negative() == want.is_sign_negative()
                || y.is_nan() && want.is_nan()
                || truth::ulps(y, f64::from(want)) <= 1.0;
            assert!(near, "{a:e} to the {b:e} is {y:e}, std has {want:e}");
        }
    }
}

#[test]
#[should_panic(expected = "input is (1, 4), output is (1, 3)")]
fn shapes_must_agree() {
    let x = [0.0; 4];
    binary(
        cpus()[0],
        Binary::Add,
        MatRef::new(&x, 1, 3),
        MatRef::new(&x, 1, 4),
        MatMut::new(&mut [0.0; 3], 1, 3),
    );
}
