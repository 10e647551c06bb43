//! softmax and log-softmax: twins, truth, special values.

mod common;
use common::chains;
use common::layouts::{Form, Mat};
use common::*;
use samebits::kernels::elementwise::{Unary, unary_in_place};
use samebits::kernels::softmax::*;
use samebits::kernels::view::{MatMut, MatRef};
use samebits::pool::Pool;

/// A function of one value on the scalar tier: functions have twins of their own.
fn scalar(f: Unary, x: f32) -> f32 {
    let mut y = [x];
    unary_in_place(Cpu::with_tier(Tier::Scalar).unwrap(), f, MatMut::new(&mut y, 1, 1));
    y[0]
}

/// m and e = exp(x − m) of a row, with a NaN wherever the sum meets one.
fn exps(x: &[f32]) -> (f32, Vec<f32>) {
    let mut m = [f32::NEG_INFINITY; 16];
    for (i, &x) in x.iter().enumerate() {
        m[i % 16] = if x > m[i % 16] { x } else { m[i % 16] };
    }
    let m = chains::fold(m, |a, b| if a > b { a } else { b });
    (m, x.iter().map(|&x| scalar(Unary::Exp, x - m)).collect())
}

fn softmax_twin(x: &[f32]) -> Vec<f32> {
    let (_, e) = exps(x);
    let scale = 1.0 / chains::sum_f32(e.iter().copied());
    e.iter().map(|e| e * scale).collect()
}

fn log_softmax_twin(x: &[f32]) -> Vec<f32> {
    let (m, e) = exps(x);
    let log = scalar(Unary::Ln, chains::sum_f32(e));
    x.iter().map(|x| (x - m) - log).collect()
}

/// A kernel from one matrix to another, the same in place, and its twin.
type Pair = (&'static str, fn(Cpu, MatRef, MatMut), fn(Cpu, MatMut), fn(&[f32]) -> Vec<f32>);

const BOTH: [Pair; 2] = [
    ("softmax", softmax, softmax_in_place, softmax_twin),
    ("log_softmax", log_softmax, log_softmax_in_place, log_softmax_twin),
];

#[test]
fn twins() {
    let mut random = Random::new(1);
    for cpu in cpus() {
        for (name, apart, in_place, twin) in BOTH {
            for n in (0..=67).chain([255, 256, 1000]) {
                let x: Vec<f32> = random.normal(n).iter().map(|x| x * 10.0).collect();
                let want = twin(&x);
                let mut out = vec![f32::NAN; n];
                apart(cpu, MatRef::new(&x, 1, n), MatMut::new(&mut out, 1, n));
                assert_same(&out, &want, format!("{name} {cpu:?} n = {n}"));
                let mut out = x;
                in_place(cpu, MatMut::new(&mut out, 1, n));
                assert_same(&out, &want, format!("{name} {cpu:?} n = {n} in place"));
            }
        }
    }
}

#[test]
fn strided() {
    let mut random = Random::new(2);
    for cpu in cpus() {
        for (name, apart, in_place, twin) in BOTH {
            for (rows, cols) in [(0, 3), (3, 0), (1, 1), (5, 1), (3, 17), (4, 48), (17, 35)] {
                let x = random.normal(rows * cols);
                let want: Vec<f32> = (0..rows).flat_map(|r| twin(&x[r * cols..][..cols])).collect();
                for from in Form::ALL {
                    let mut place = Mat::new(from, rows, cols, &x);
                    for to in Form::ALL {
                        let mut out = Mat::new(to, rows, cols, &vec![0.0; rows * cols]);
                        apart(cpu, place.view(), out.view_mut());
                        assert_same(
                            &out.values(),
                            &want,
                            format!("{name} {cpu:?} ({rows}, {cols}) {from:?} → {to:?}"),
                        );
                    }
                    in_place(cpu, place.view_mut());
                    assert_same(&place.values(), &want, format!("{name} {cpu:?} ({rows}, {cols}) {from:?}"));
                }
            }
        }
    }
}

/// y · u · (16 + 2 |x − m|), |Σ y − 1| ≤ 16 u; log: u · (16 + 2 |log y|).
#[test]
fn truth() {
    let mut random = Random::new(3);
    let lengths: &[usize] = if slow() { &[1, 17, 1000] } else { &[1, 2, 17, 255, 1024, 4097, 65_536] };
    for cpu in cpus() {
        for &n in lengths {
            for spread in [0.0, 1.0, 10.0, 88.0, 1e30] {
                let x: Vec<f32> = random.normal(n).iter().map(|x| x * spread).collect();
                // A chain that holds the largest term loses the low bits of all the others: over 4,096 terms a
                // chain that is more than the 16 u (18.6 seen), and what can be proven is n/16 + 5.
                let gate = 16.0 + if n > 4097 { (n as f64 / 16.0).sqrt() / 2.0 } else { 0.0 };
                let m = x.iter().fold(f64::NEG_INFINITY, |m, &x| m.max(f64::from(x)));
                let total: f64 = x.iter().map(|&x| (f64::from(x) - m).exp()).sum();
                let (mut y, mut log) = (x.clone(), x.clone());
                softmax_in_place(cpu, MatMut::new(&mut y, 1, n));
                log_softmax_in_place(cpu, MatMut::new(&mut log, 1, n));
                for i in 0..n {
                    let d = f64::from(x[i]) - m;
                    let want = d.exp() / total;
                    let bound = want * U * (gate + 2.0 * d.abs()) + 2e-45;
                    let got = f64::from(y[i]);
                    assert!((got - want).abs() <= bound, "{cpu:?} n = {n} × {spread}: {got:e} for {want:e}");
                    let want = d - total.ln();
                    let bound = U * (gate + 2.0 * want.abs());
                    let got = f64::from(log[i]);
                    assert!((got - want).abs() <= bound, "{cpu:?} log n = {n} × {spread}: {got} for {want}");
                }
                let sum: f64 = y.iter().map(|&y| f64::from(y)).sum();
                assert!((sum - 1.0).abs() <= gate * U, "{cpu:?} n = {n} × {spread}: sum {sum}");
            }
        }
    }
}

#[test]
fn a_nan_or_an_infinity_takes_the_row() {
    for cpu in cpus() {
        for (name, _, in_place, _) in BOTH {
            for n in 1..=70 {
                for at in 0..n {
                    for poison in [f32::NAN, f32::INFINITY] {
                        let mut x: Vec<f32> = (0..2 * n).map(|i| (i % 7) as f32).collect();
                        x[at] = poison;
                        in_place(cpu, MatMut::new(&mut x, 2, n));
                        let what = format!("{name} {cpu:?} n = {n}, {poison} at {at}");
                        assert!(x[..n].iter().all(|y| y.is_nan()), "{what}");
                        assert!(x[n..].iter().all(|y| y.is_finite()), "{what}: the other row");
                    }
                }
            }
        }
    }
}

#[test]
fn minus_infinity_is_nothing() {
    for cpu in cpus() {
        for n in 2..=40 {
            let mut x = vec![f32::NEG_INFINITY; n];
            x[n / 2] = -3.0;
            let mut log = x.clone();
            softmax_in_place(cpu, MatMut::new(&mut x, 1, n));
            log_softmax_in_place(cpu, MatMut::new(&mut log, 1, n));
            for i in 0..n {
                let (y, l) = if i == n / 2 { (1.0f32, 0.0) } else { (0.0, f32::NEG_INFINITY) };
                assert_eq!((x[i].to_bits(), log[i]), (y.to_bits(), l), "{cpu:?} n = {n}, element {i}");
            }
            let mut none = vec![f32::NEG_INFINITY; n];
            softmax_in_place(cpu, MatMut::new(&mut none, 1, n));
            assert!(none.iter().all(|y| y.is_nan()), "{cpu:?}: nothing but −∞, n = {n}");
        }
        let mut ends = [3e38f32, -3e38, 0.0];
        softmax_in_place(cpu, MatMut::new(&mut ends, 1, 3));
        assert_eq!(ends, [1.0, 0.0, 0.0], "{cpu:?}: ends of the range");
    }
}

/// Cut into bands of any height, on any number of threads.
#[test]
fn bands_give_the_same_bits() {
    let (rows, cols) = (29, 67);
    let x = Random::new(4).normal(rows * cols);
    let want: Vec<f32> = x.chunks(cols).flat_map(softmax_twin).collect();
    for threads in [1, 2, 3, 7] {
        let pool = Pool::new(threads);
        for height in [1, 4, 28, 29, 100] {
            for cpu in simd_cpus() {
                let mut y = vec![f32::NAN; x.len()];
                let bands = MatRef::new(&x, rows, cols).bands(height);
                assert_eq!(bands.len(), rows.div_ceil(height));
                let bands = bands.zip(MatMut::new(&mut y, rows, cols).bands(height));
                pool.run(bands, |(x, y), _| softmax(cpu, x, y));
                assert_same(&y, &want, format!("{cpu:?} {threads} threads, bands of {height}"));
            }
        }
    }
}

#[test]
#[should_panic(expected = "input is (2, 3), output is (3, 2)")]
fn shapes_must_agree() {
    softmax(cpus()[0], MatRef::new(&[0.0; 6], 2, 3), MatMut::new(&mut [0.0; 6], 3, 2));
}

fn log_sum_exp_twin(x: &[f32]) -> f32 {
    let mut m = [f32::NEG_INFINITY; 16];
    for (i, &x) in x.iter().enumerate() {
        m[i % 16] = if x > m[i % 16] { x } else { m[i % 16] };
    }
    let m = chains::fold(m, |a, b| if a > b { a } else { b });
    let m = if m.is_infinite() { 0.0 } else { m };
    m + scalar(Unary::Ln, chains::sum_f32(x.iter().map(|x| scalar(Unary::Exp, x - m))))
}

/// Of every row of a matrix in every layout, of every length.
#[test]
fn log_sum_exp_twins() {
    let mut random = Random::new(11);
    for cpu in cpus() {
        for (rows, cols) in
            (0..=67).map(|n| (1, n)).chain([(0, 3), (5, 1), (3, 17), (4, 48), (17, 35), (1, 1000)])
        {
            let x: Vec<f32> = random.normal(rows * cols).iter().map(|x| x * 10.0).collect();
            let want: Vec<f32> = (0..rows).map(|r| log_sum_exp_twin(&x[r * cols..][..cols])).collect();
            for form in Form::ALL {
                let mut out = vec![f32::NAN; rows];
                log_sum_exp(cpu, Mat::new(form, rows, cols, &x).view(), &mut out);
                assert_same(&out, &want, format!("log_sum_exp {cpu:?} ({rows}, {cols}) {form:?}"));
            }
        }
    }
}

/// The header's bound, and what infinities and NaN become.
#[test]
fn log_sum_exp_truth() {
    let mut random = Random::new(12);
    let cpu = cpus()[0];
    let one = |x: &[f32]| {
        let mut y = [0.0];
        log_sum_exp(cpu, MatRef::new(x, 1, x.len()), &mut y);
        y[0]
    };
    for n in [1, 5, 64, 1000, 4096] {
        for size in [0.01, 1.0, 30.0, 1e30] {
            let x: Vec<f32> = random.normal(n).iter().map(|x| x * size).collect();
            let m = x.iter().fold(f64::NEG_INFINITY, |m, &x| m.max(f64::from(x)));
            let want = m + x.iter().map(|&x| (f64::from(x) - m).exp()).sum::<f64>().ln();
            let bound = U * (16.0 + 2.0 * (want - m).abs() + want.abs());
            let error = (f64::from(one(&x)) - want).abs();
            assert!(error <= bound, "{n} elements of size {size}: off by {error:e}, bound {bound:e}");
        }
    }
    let infinity = f32::INFINITY;
    assert_eq!(one(&[]), -infinity);
    assert_eq!(one(&[-infinity; 20]), -infinity);
    assert_eq!(one(&[1.0, infinity, -infinity]), infinity);
    assert_eq!(one(&[-infinity, 3.0]), 3.0);
    for at in 0..=70 {
        let mut x = [infinity; 71];
        x[at] = f32::NAN;
        assert!(one(&x).is_nan(), "NaN at {at}");
    }
}
