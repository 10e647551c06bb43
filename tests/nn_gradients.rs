//! Gradients as layers use them: the same bits on any number of threads, and over any form of the weights.

mod common;

use common::{Cpu, Random, assert_same, cpus};
use samebits::kernels::gemm::Accumulate;
use samebits::kernels::norm::{Gain, LayerNorm, NormBackward, RmsNorm, Stats};
use samebits::kernels::view::{MatMut, MatRef};
use samebits::nn::{
    Compute, NormKind, Weight, bias_gradient, embedding_gradient, input_gradient, norm_gradient,
    norm_weight_gradient, weight_gradient,
};
use samebits::pool::Pool;
use samebits::run::Run;

/// `f` on this thread, then on pools: always the same.
fn everywhere(what: &str, f: impl Fn(&Run<'_>) -> Vec<f32>) {
    let cpu = *cpus().last().unwrap();
    let want = f(&Run::here(cpu));
    for threads in [1, 2, 3, 7] {
        let pool = Pool::new(threads);
        assert_same(&f(&Run::on(cpu, &pool)), &want, format!("{what}, {threads} threads"));
    }
}

/// What QLoRA rests on.
#[test]
fn a_gradient_over_stored_weights_is_that_over_the_decoded() {
    let (rows, n, k) = (130, 320, 640);
    let run = Run::here(Cpu::detect());
    let dy = Random::new(1).normal(rows * n);
    let dy = MatRef::new(&dy, rows, n);
    let floats = Random::new(2).normal(n * k);
    let full = Weight::from_f32(run.cpu(), MatRef::new(&floats, n, k));
    let gradient = |run: &Run<'_>, w: &Weight| {
        let mut dx = vec![f32::NAN; rows * k];
        input_gradient(run, w, dy, Accumulate::Overwrite, MatMut::new(&mut dx, rows, k));
        dx
    };
    let nf4 = full.to_nf4(run.cpu(), 64).unwrap();
    let decoded = nf4.to_rows(run.cpu());
    let decoded = Weight::from_f32(run.cpu(), MatRef::new(&decoded, n, k));
    assert_same(&gradient(&run, &nf4), &gradient(&run, &decoded), "NF4");
    everywhere("dx over NF4", |run| gradient(run, &nf4));
    everywhere("dx over f32", |run| gradient(run, &full));
}

#[test]
fn gradients_of_parameters() {
    let (rows, n, k) = (600, 300, 270);
    let (dy, x) = (Random::new(3).normal(rows * n), Random::new(4).normal(rows * k));
    let (dy, x) = (MatRef::new(&dy, rows, n), MatRef::new(&x, rows, k));
    everywhere("dw", |run| {
        let mut dw = Random::new(5).normal(n * k);
        weight_gradient(run, Compute::F32, (x, dy), Accumulate::Add, MatMut::new(&mut dw, n, k));
        dw
    });
    everywhere("db", |run| {
        let mut db = Random::new(6).normal(n);
        bias_gradient(run, dy, Accumulate::Add, &mut db);
        db
    });
    let ids: Vec<u32> = (0..rows as u32).map(|t| t * 7 % 50).collect();
    everywhere("embedding", |run| {
        let mut table = vec![0.0; 50 * n];
        embedding_gradient(run, &ids, dy, MatMut::new(&mut table, 50, n));
        table
    });
}

#[test]
fn gradients_of_norms() {
    let (rows, n) = (300, 270);
    let [x, dy, w] = [7, 8, 9].map(|seed| Random::new(seed).normal(rows * n));
    let (x, dy, w) = (MatRef::new(&x, rows, n), MatRef::new(&dy, rows, n), &w[..n]);
    let kinds = [
        NormKind::Layer(LayerNorm { weight: Some(w), bias: None, eps: 1e-5 }),
        NormKind::Rms(RmsNorm { gain: Gain::OnePlus(w), eps: 1e-6 }),
    ];
    for norm in kinds {
        everywhere(&format!("{norm:?}"), |run| {
            let (mut dx, mut dw) = (vec![0.0; rows * n], vec![0.0; n]);
            let mut stats = vec![Stats::default(); rows];
            let accumulate = Accumulate::Overwrite;
            let dx_view = MatMut::new(&mut dx, rows, n);
            norm_gradient(run, &norm, NormBackward { x, dy, dx: dx_view, accumulate, stats: &mut stats });
            norm_weight_gradient(run, (x, dy), &stats, accumulate, &mut dw);
            dx.extend(dw);
            dx
        });
    }
}
