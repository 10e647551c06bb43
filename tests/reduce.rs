//! dot, sums, means, norms, extremes: twins, truth, special values.

mod common;
use common::chains;
use common::layouts::{Form, Mat};
use common::*;
use samebits::kernels::cumsum::cumsum;
use samebits::kernels::dot::{dot, dot_rows};
use samebits::kernels::reduce::*;
use samebits::kernels::view::{MatMut, MatRef};

const REDUCTIONS: [Reduction; 5] =
    [Reduction::Sum, Reduction::Mean, Reduction::Norm2, Reduction::Max, Reduction::Min];

/// The law in plain loops.
fn twin(reduction: Reduction, x: &[f32]) -> f32 {
    let wide = || x.iter().map(|&x| f64::from(x));
    match reduction {
        Reduction::Sum => chains::sum_f64(wide()) as f32,
        Reduction::Mean => (chains::sum_f64(wide()) / x.len() as f64) as f32,
        Reduction::Norm2 => chains::sum_f64(wide().map(|x| x * x)).sqrt() as f32,
        Reduction::Max => chains::extreme(x, f32::NEG_INFINITY, |a, b| a > b),
        Reduction::Min => chains::extreme(x, f32::INFINITY, |a, b| a < b),
    }
}

#[test]
fn dot_twin() {
    let mut random = Random::new(1);
    for cpu in cpus() {
        for n in (0..=67).chain([255, 256, 1000]) {
            let (a, b) = (random.normal(n), random.normal(n));
            assert_same(&[dot(cpu, &a, &b)], &[chains::dot(&a, &b)], format!("{cpu:?} n = {n}"));
            // products that vanish leave a signed zero: the padding must not change it
            let (tiny, other) = (vec![-1e-30; n], vec![1e-30; n]);
            assert_same(
                &[dot(cpu, &tiny, &other)],
                &[chains::dot(&tiny, &other)],
                format!("{cpu:?} n = {n}, −0"),
            );
        }
    }
}

#[test]
fn dot_rows_is_dot() {
    let mut random = Random::new(2);
    for cpu in cpus() {
        for (n, k) in [(0, 5), (1, 1), (3, 0), (4, 16), (5, 17), (16, 33), (17, 64), (35, 100), (20, 384)] {
            let (values, query) = (random.normal(n * k), random.normal(k));
            let want: Vec<f32> = (0..n).map(|r| chains::dot(&query, &values[r * k..][..k])).collect();
            for form in Form::ALL {
                let mat = Mat::new(form, n, k, &values);
                let mut out = vec![f32::NAN; n];
                dot_rows(cpu, &query, mat.view(), &mut out);
                assert_same(&out, &want, format!("{cpu:?} ({n}, {k}) {form:?}"));
            }
        }
    }
}

#[test]
fn reduce_twin() {
    let mut random = Random::new(3);
    for cpu in cpus() {
        for reduction in REDUCTIONS {
            for n in (0..=67).chain([255, 256, 1000]) {
                let x = random.normal(n);
                let what = format!("{cpu:?} {reduction:?} n = {n}");
                assert_same(&[reduce(cpu, reduction, &x)], &[twin(reduction, &x)], what);
            }
            for (rows, cols) in [(0, 4), (4, 0), (1, 1), (3, 17), (16, 16), (17, 35), (33, 70)] {
                let values = random.normal(rows * cols);
                let want: Vec<f32> =
                    (0..rows).map(|r| twin(reduction, &values[r * cols..][..cols])).collect();
                for form in Form::ALL {
                    let mut out = vec![f32::NAN; rows];
                    reduce_rows(cpu, reduction, Mat::new(form, rows, cols, &values).view(), &mut out);
                    assert_same(&out, &want, format!("{cpu:?} {reduction:?} ({rows}, {cols}) {form:?}"));
                }
            }
        }
    }
}

#[test]
fn nan_wins_at_every_place() {
    for cpu in cpus() {
        for n in 1..=70 {
            for at in 0..n {
                let mut x: Vec<f32> = (0..n).map(|i| i as f32 - 30.0).collect();
                x[at] = f32::NAN;
                for reduction in REDUCTIONS {
                    assert!(
                        reduce(cpu, reduction, &x).is_nan(),
                        "{cpu:?} {reduction:?} n = {n}, NaN at {at}"
                    );
                }
                assert_eq!(argmax(cpu, &x), Some(at), "{cpu:?} n = {n}");
                assert_eq!(argmin(cpu, &x), Some(at), "{cpu:?} n = {n}");
                let mut columns = [0.0; 2];
                let pairs: Vec<f32> = x.iter().flat_map(|&x| [x, 1.0]).collect();
                reduce_rows(cpu, Reduction::Max, MatRef::new(&pairs, n, 2).t(), &mut columns);
                assert!(columns[0].is_nan() && columns[1] == 1.0, "{cpu:?} column, n = {n}, NaN at {at}");
            }
        }
    }
}

#[test]
fn the_first_of_equals() {
    for cpu in cpus() {
        assert_eq!(argmax(cpu, &[]), None);
        for n in 1..=67 {
            assert_eq!(argmax(cpu, &vec![-0.0; n]), Some(0));
            for at in 0..n {
                let mut x = vec![-0.0; n];
                x[at..].fill(2.0);
                assert_eq!(argmax(cpu, &x), Some(at));
                x[at..].fill(f32::NEG_INFINITY);
                assert_eq!(argmin(cpu, &x), Some(at));
            }
        }
    }
}

#[test]
fn special_values() {
    for cpu in cpus() {
        assert_same(&[sum(cpu, &[]), norm2(cpu, &[]), dot(cpu, &[], &[])], &[0.0; 3], "nothing");
        assert!(mean(cpu, &[]).is_nan());
        assert_same(&[max(cpu, &[]), min(cpu, &[])], &[f32::NEG_INFINITY, f32::INFINITY], "nothing");
        assert_eq!(sum(cpu, &[f32::INFINITY, 1.0]), f32::INFINITY);
        assert!(sum(cpu, &[f32::INFINITY, f32::NEG_INFINITY]).is_nan());
        assert_eq!(norm2(cpu, &[3e38, 0.0]), 3e38);
        assert_eq!(norm2(cpu, &[3e-45]), 3e-45);
        assert_eq!(sum(cpu, &vec![f32::from_bits(1); 100]), f32::from_bits(100));
        assert_eq!(sum(cpu, &[f32::MAX, f32::MAX, -f32::MAX]), f32::MAX);
    }
}

/// Sums in `f32` stall at 2^24; these do not.
#[test]
fn ones_add_up() {
    let n = if slow() { 100_003 } else { 20_000_000 };
    let ones = vec![1.0f32; n];
    for cpu in simd_cpus() {
        assert_eq!(sum(cpu, &ones), n as f32, "{cpu:?}");
        let mut columns = [0.0; 4];
        reduce_rows(cpu, Reduction::Sum, MatRef::new(&ones, n / 4, 4).t(), &mut columns);
        assert_eq!(columns, [(n / 4) as f32; 4], "{cpu:?} columns");
    }
}

/// dot: 32 u · Σ|a||b| on positive data, where errors do not cancel; sum, mean and norm2 nearly exact.
#[test]
fn truth() {
    let mut random = Random::new(4);
    let lengths: &[usize] = if slow() { &[1, 17, 1000] } else { &[1, 2, 15, 17, 255, 257, 4095, 65_536] };
    for cpu in cpus() {
        for &n in lengths {
            let a: Vec<f32> = random.vec(n).iter().map(|x| x.abs()).collect();
            let b: Vec<f32> = random.vec(n);
            for b in [&a, &b] {
                let exact: f64 = a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
                let gauge: f64 = a.iter().zip(b).map(|(&a, &b)| (f64::from(a) * f64::from(b)).abs()).sum();
                let got = f64::from(dot(cpu, &a, b));
                assert!((got - exact).abs() <= 32.0 * U * gauge, "{cpu:?} dot n = {n}: {got} for {exact}");
                let exact: f64 = b.iter().map(|&b| f64::from(b)).sum();
                let gauge: f64 = b.iter().map(|&b| f64::from(b).abs()).sum();
                let got = f64::from(sum(cpu, b));
                assert!((got - exact).abs() <= U * (exact.abs() + 1e-6 * gauge), "{cpu:?} sum n = {n}");
                let exact = b.iter().map(|&b| f64::from(b) * f64::from(b)).sum::<f64>().sqrt();
                let got = f64::from(norm2(cpu, b));
                assert!((got - exact).abs() <= 2.0 * U * exact, "{cpu:?} norm2 n = {n}");
            }
        }
    }
}

#[test]
#[should_panic(expected = "dot of 3 and 4 elements")]
fn lengths_must_agree() {
    dot(cpus()[0], &[0.0; 3], &[0.0; 4]);
}

#[test]
#[should_panic(expected = "query of 3 elements, rows (2, 4)")]
fn the_query_must_fit() {
    dot_rows(cpus()[0], &[0.0; 3], MatRef::new(&[0.0; 8], 2, 4), &mut [0.0; 2]);
}

/// Running sums: the definition, in every layout; what a NaN and an infinity reach.
#[test]
fn running_sums() {
    let mut random = Random::new(21);
    for (rows, cols) in (0..=67).map(|n| (1, n)).chain([(0, 3), (3, 0), (3, 17), (17, 35)]) {
        let x = random.normal(rows * cols);
        let twin = |row: usize| {
            let prefix =
                move |n: usize, x: &[f32]| x[..n].iter().fold(0.0, |sum, &x| sum + f64::from(x)) as f32;
            let row = x[row * cols..][..cols].to_vec();
            (1..=cols).map(move |n| prefix(n, &row))
        };
        let want: Vec<f32> = (0..rows).flat_map(twin).collect();
        for from in Form::ALL {
            for to in Form::ALL {
                let mut out = Mat::new(to, rows, cols, &vec![0.0; rows * cols]);
                cumsum(Mat::new(from, rows, cols, &x).view(), out.view_mut());
                assert_same(&out.values(), &want, format!("({rows}, {cols}) {from:?} → {to:?}"));
            }
        }
    }
    let mut out = [0.0; 5];
    cumsum(
        MatRef::new(&[1.0, f32::INFINITY, 1.0, f32::NEG_INFINITY, 1.0], 1, 5),
        MatMut::new(&mut out, 1, 5),
    );
    assert_same(&out, &[1.0, f32::INFINITY, f32::INFINITY, f32::NAN, f32::NAN], "an infinity");
    // 2²⁴ + 1 is lost in f32, not in the chain.
    cumsum(MatRef::new(&[16_777_216.0, 1.0, 1.0, 0.0, 0.0], 1, 5), MatMut::new(&mut out, 1, 5));
    assert_eq!(out[2], 16_777_218.0);
}
