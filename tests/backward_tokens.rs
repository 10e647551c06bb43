//! Gradients over tokens: scatter-add into an embedding, and cross-entropy.

mod common;

use common::differences::{assert_near, gradient};
use common::elementary as plain;
use common::layouts::{Form, Mat};
use common::{Random, U, assert_same, chains, cpus};
use samebits::kernels::cross_entropy::{CrossEntropy, cross_entropy};
use samebits::kernels::math::ln64;
use samebits::kernels::scatter::ScatterAdd;
use samebits::kernels::view::{MatMut, MatRef};
use samebits::pool::Pool;

/// Ids that repeat, in any order.
fn ids(seed: u64, tokens: usize, vocabulary: usize) -> Vec<u32> {
    let mut random = Random::new(seed);
    (0..tokens).map(|_| random.below(vocabulary) as u32).collect()
}

fn scatter_twin(ids: &[u32], x: &[f32], n: usize, out: &mut [f32]) {
    for (t, &id) in ids.iter().enumerate() {
        (0..n).for_each(|j| out[id as usize * n + j] += x[t * n + j]);
    }
}

#[test]
fn scatter_add_in_token_order_on_any_number_of_threads() {
    for (tokens, n) in (0..=67).map(|n| (9, n)).chain([(0, 5), (300, 130), (40, 64), (17, 65)]) {
        let vocabulary = 11;
        let (ids, x) = (ids(1, tokens, vocabulary), Random::new(2).normal(tokens * n));
        let prior = Random::new(3).normal(vocabulary * n);
        let mut want = prior.clone();
        scatter_twin(&ids, &x, n, &mut want);
        for form in Form::ALL {
            let x = Mat::new(form, tokens, n, &x);
            for cpu in cpus() {
                let what = format!("{tokens} tokens of {n}, {form:?} on {}", cpu.tier());
                let mut out = Mat::new(form, vocabulary, n, &prior);
                ScatterAdd { ids: &ids, x: x.view(), out: out.view_mut() }.run(cpu);
                assert_same(&out.values(), &want, &what);
                for threads in [1, 2, 3, 7] {
                    let mut out = Mat::new(form, vocabulary, n, &prior);
                    let job = ScatterAdd { ids: &ids, x: x.view(), out: out.view_mut() };
                    Pool::new(threads).run(job.pieces(), |piece, _| piece.run(cpu));
                    assert_same(&out.values(), &want, format!("{what}, {threads} threads"));
                }
                // In two calls: the same chains.
                let half = tokens / 2;
                let mut out = prior.clone();
                for part in [0..half, half..tokens] {
                    let out = MatMut::new(&mut out, vocabulary, n);
                    ScatterAdd { ids: &ids[part.clone()], x: x.view().sub(part, 0..n), out }.run(cpu);
                }
                assert_same(&out, &want, format!("{what}, in two calls"));
            }
        }
    }
}

#[test]
fn scatter_add_is_true() {
    let (tokens, n, vocabulary) = (500, 7, 13);
    let (ids, x) = (ids(4, tokens, vocabulary), Random::new(5).normal(tokens * n));
    let mut out = vec![0.0; vocabulary * n];
    let job =
        ScatterAdd { ids: &ids, x: MatRef::new(&x, tokens, n), out: MatMut::new(&mut out, vocabulary, n) };
    job.run(cpus()[0]);
    let (mut want, mut gauge) = (vec![0.0; out.len()], vec![0.0; out.len()]);
    for (t, &id) in ids.iter().enumerate() {
        for j in 0..n {
            want[id as usize * n + j] += f64::from(x[t * n + j]);
            gauge[id as usize * n + j] += f64::from(x[t * n + j].abs());
        }
    }
    assert_near(&out, &want, &gauge, "scatter-add");
}

#[test]
#[should_panic(expected = "id 4 of token 1 in a table of 4 rows")]
fn an_id_without_a_row_is_refused() {
    let x = [0.0; 4];
    ScatterAdd { ids: &[0, 4], x: MatRef::new(&x, 2, 2), out: MatMut::new(&mut [0.0; 8], 4, 2) }
        .run(cpus()[0]);
}

/// The loss of a row, which becomes its gradient.
fn row_twin(how: &CrossEntropy, x: &mut [f32], target: i32) -> f64 {
    if target == how.ignore_index {
        x.fill(0.0);
        return 0.0;
    }
    let (n, t, smoothing) = (x.len() as f64, target as usize, f64::from(how.label_smoothing));
    let all = chains::sum_f64(x.iter().map(|&x| f64::from(x)));
    let m = x.iter().copied().fold(f32::NEG_INFINITY, |m, x| if x > m { x } else { m });
    let of_target = f64::from(x[t]);
    x.iter_mut().for_each(|x| *x = plain::exp(*x - m));
    let sum = chains::sum_f64(x.iter().map(|&e| f64::from(e)));
    let of_all = smoothing / n;
    let spread = if smoothing == 0.0 { 0.0 } else { of_all * all };
    let loss = f64::from(m) + ln64(sum) - (1.0 - smoothing) * of_target - spread;
    let hit = (f64::from(x[t]) / sum - (1.0 - smoothing) - of_all) * how.scale;
    let (factor, less) = ((how.scale / sum) as f32, (how.scale * of_all) as f32);
    x.iter_mut().for_each(|e| *e = e.mul_add(factor, -less));
    x[t] = hit as f32;
    loss
}

fn kinds(scale: f64) -> [CrossEntropy; 2] {
    [0.0, 0.125].map(|label_smoothing| CrossEntropy { ignore_index: -100, label_smoothing, scale })
}

/// Every fourth target ignored.
fn targets(rows: usize, n: usize) -> Vec<i32> {
    let of = |(r, id): (usize, u32)| if r % 4 == 3 { -100 } else { id as i32 };
    ids(6, rows, n).into_iter().enumerate().map(of).collect()
}

#[test]
fn cross_entropy_twin() {
    for (rows, n) in (1..=67).map(|n| (2, n)).chain([(0, 3), (9, 389), (5, 1), (40, 33)]) {
        let x: Vec<f32> = Random::new(7).normal(rows * n).iter().map(|x| x * 10.0).collect();
        let targets = targets(rows, n);
        for how in kinds(1.0 / 3.0) {
            let mut want = x.clone();
            let rows_of = want.chunks_mut(n).zip(&targets);
            let want_losses: Vec<f64> = rows_of.map(|(x, &t)| row_twin(&how, x, t)).collect();
            for form in Form::ALL {
                for cpu in cpus() {
                    let what = format!("({rows}, {n}) {form:?} {how:?} on {}", cpu.tier());
                    let (mut logits, mut losses) = (Mat::new(form, rows, n, &x), vec![f64::NAN; rows]);
                    cross_entropy(cpu, &how, logits.view_mut(), &targets, &mut losses);
                    assert_same(&logits.values(), &want, &what);
                    assert_eq!(losses, want_losses, "{what}");
                }
            }
            // Chunks of rows on any number of threads.
            for threads in [1, 2, 3, 7] {
                let (mut logits, mut losses) = (x.clone(), vec![f64::NAN; rows]);
                let chunks = logits.chunks_mut(3 * n).zip(targets.chunks(3)).zip(losses.chunks_mut(3));
                Pool::new(threads).run(chunks, |((x, targets), losses), _| {
                    cross_entropy(cpus()[0], &how, MatMut::new(x, losses.len(), n), targets, losses);
                });
                assert_same(&logits, &want, format!("({rows}, {n}), {threads} threads"));
                assert_eq!(losses, want_losses);
            }
        }
    }
}

#[test]
fn cross_entropy_is_true() {
    for n in [1, 2, 17, 100] {
        let x: Vec<f32> = Random::new(8).normal(n).iter().map(|x| x * 3.0).collect();
        for how in kinds(0.25) {
            let target = n / 2;
            let of = |x: &[f64]| {
                let l = x.iter().map(|x| x.exp()).sum::<f64>().ln();
                let smoothing = f64::from(how.label_smoothing);
                l - (1.0 - smoothing) * x[target] - smoothing / n as f64 * x.iter().sum::<f64>()
            };
            let (mut dx, mut loss) = (x.clone(), [0.0]);
            cross_entropy(cpus()[0], &how, MatMut::new(&mut dx, 1, n), &[target as i32], &mut loss);
            let wide: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
            assert!((loss[0] - of(&wide)).abs() <= 8.0 * U * (1.0 + of(&wide).abs()), "loss of {n}");
            let want: Vec<f64> = gradient(&x, of).iter().map(|d| d * how.scale).collect();
            let sum: f64 = wide.iter().map(|x| x.exp()).sum();
            let q = |j: usize| if j == target { 1.0 } else { f64::from(how.label_smoothing) / n as f64 };
            let gauge: Vec<f64> = (0..n).map(|j| how.scale * (wide[j].exp() / sum + q(j))).collect();
            assert_near(&dx, &want, &gauge, format!("{n} logits, {how:?}"));
        }
    }
}

/// Nothing to learn from: loss 0, gradients +0, no NaN, even of logits that are NaN; and a mean over nothing.
#[test]
fn ignored_rows_are_zero() {
    for how in kinds(1.0) {
        for cpu in cpus() {
            let (mut x, mut losses) = ([f32::NAN; 40], [f64::NAN; 2]);
            cross_entropy(cpu, &how, MatMut::new(&mut x, 2, 20), &[-100, -100], &mut losses);
            assert!(x.iter().all(|x| x.to_bits() == 0) && losses == [0.0; 2], "{x:?} {losses:?}");
        }
        assert_eq!(how.mean_scale(&[-100, -100]), 0.0);
        assert_eq!(how.mean_scale(&[1, -100, 3, 0, 2]), 0.25);
    }
}

#[test]
fn labels_that_cannot_be_are_found() {
    let how = CrossEntropy::default();
    assert_eq!(how.check_targets(&[0, -100, 4], 5), Ok(()));
    for bad in [5, -1, -101, i32::MAX, i32::MIN] {
        assert_eq!(how.check_targets(&[0, bad], 5), Err(1), "{bad}");
    }
}

#[test]
#[should_panic(expected = "target 5 of row 1 among 5 logits")]
fn a_label_past_the_vocabulary_is_refused() {
    let how = CrossEntropy::default();
    cross_entropy(cpus()[0], &how, MatMut::new(&mut [0.0; 10], 2, 5), &[0, 5], &mut [0.0; 2]);
}
