//! Decompositions, beginnings and combinations.

use super::*;
use common::{assert_same, cpus};
use samebits::peft::decompose::{Svd, svd};
use samebits::peft::{Combine, Init, LoraOptions, Scaling, combine};
use samebits::random::Philox;

/// s B A, (out, in), in `f64`.
fn delta(lora: &LoraLayer) -> Vec<f32> {
    let LoraShape { in_features: k, out_features: n, rank } = lora.shape();
    let element = |o: usize, i: usize| -> f64 {
        let terms = (0..rank).map(|r| f64::from(lora.b[o * rank + r]) * f64::from(lora.a[r * k + i]));
        f64::from(lora.scale) * terms.sum::<f64>()
    };
    (0..n * k).map(|at| element(at / k, at % k) as f32).collect()
}

/// Orthonormal vectors, descending values, and the matrix back.
#[track_caller]
fn check(parts: &Svd, w: &[f64], cols: usize, tolerance: f64) {
    let dot = |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
    for all in [&parts.u, &parts.v] {
        for i in 0..all.len() {
            for j in 0..all.len() {
                let want = if i == j && parts.s[i] > 1e-12 { 1.0 } else { 0.0 };
                if i != j || parts.s[i] > 1e-12 {
                    assert!((dot(&all[i], &all[j]) - want).abs() < 1e-12, "vectors {i} and {j}");
                }
            }
        }
    }
    assert!(parts.s.is_sorted_by(|a, b| a >= b));
    for (at, want) in w.iter().enumerate() {
        let got: f64 =
            (0..parts.s.len()).map(|r| parts.u[r][at / cols] * parts.s[r] * parts.v[r][at % cols]).sum();
        assert!((got - want).abs() <= tolerance, "element {at}: {got}, want {want}");
    }
}

#[test]
fn singular_values() {
    let mut random = Random::new(1);
    for (rows, cols) in [(1, 1), (5, 3), (3, 5), (20, 20), (1, 7), (40, 17)] {
        let w: Vec<f64> = random.normal(rows * cols).into_iter().map(f64::from).collect();
        check(&svd(&w, rows, cols, rows.min(cols)), &w, cols, 1e-13 * (rows + cols) as f64);
    }
    // Of rank 2 in 6 × 5, and of zeros.
    let (u, v) = (random.normal(12), random.normal(10));
    let w: Vec<f64> = (0..30)
        .map(|at| (0..2).map(|r| f64::from(u[at / 5 * 2 + r]) * f64::from(v[at % 5 * 2 + r])).sum())
        .collect();
    let parts = svd(&w, 6, 5, 5);
    assert!(parts.s[1] > 1e-3 && parts.s[2] < 1e-14);
    check(&svd(&w, 6, 5, 2), &w, 5, 1e-13);
    assert_eq!(svd(&[0.0; 12], 3, 4, 2).s, [0.0, 0.0]);
}

/// Beyond the direct method: the leading part of a large matrix whose values fall.
#[test]
fn leading_part_of_a_large_matrix() {
    let (rows, cols, rank) = (450, 420, 4);
    let mut random = Random::new(2);
    let (u, v) = (random.normal(rows * 6), random.normal(cols * 6));
    let term = |at: usize, r: usize| {
        f64::from(u[at / cols * 6 + r]) * f64::from(v[at % cols * 6 + r]) * 0.3f64.powi(r as i32)
    };
    let w: Vec<f64> = (0..rows * cols).map(|at| (0..6).map(|r| term(at, r)).sum()).collect();
    let all = svd(&w, rows, cols, 6);
    check(&all, &w, cols, 1e-10);
    let part = svd(&w, rows, cols, rank);
    for r in 0..rank {
        assert!((part.s[r] / all.s[r] - 1.0).abs() < 1e-12);
    }
}

/// PiSSA and OLoRA: what peft begins with; base + s B A is the weight of before.
#[test]
fn beginnings_of_peft() {
    let file = SafeTensors::open(data("combined.safetensors")).unwrap();
    let base = SafeTensors::open(data("base.safetensors")).unwrap();
    let name = "base/model.layers.0.v_proj.weight";
    for cpu in cpus() {
        let run = Run::here(cpu);
        let w = weight(cpu, &base, name);
        for (init, key) in [(Init::Pissa, "pissa"), (Init::Olora, "olora")] {
            let options = LoraOptions { rank: 3, alpha: 6.0, init, ..LoraOptions::default() };
            let (lora, rest) = LoraLayer::new(&run, &w, &options, (Philox::new(1), 0)).unwrap();
            let rest = rest.to_rows(cpu);
            // OLoRA of peft subtracts s B A, like PiSSA, but does not divide by s first.
            assert_near(&delta(&lora), &floats(&file, &format!("{key}/delta")), 2e-6, key);
            assert_near(&rest, &floats(&file, &format!("{key}/base")), 2e-6, key);
            let sum: Vec<f32> = rest.iter().zip(delta(&lora)).map(|(r, d)| r + d).collect();
            assert_near(&sum, &floats(&base, name), 1e-6, "the sum");
        }
    }
}

/// LoftQ is nearer to the weight than NF4 alone, and nearer after more turns.
#[test]
fn loftq() {
    let run = Run::here(Cpu::detect());
    let w = Random::new(3).normal(40 * 64);
    let base = Weight::from_f32(run.cpu(), MatRef::new(&w, 40, 64));
    let far = |rows: &[f32]| -> f64 { rows.iter().zip(&w).map(|(a, b)| f64::from(a - b).powi(2)).sum() };
    let alone = far(&base.to_nf4(run.cpu(), 64).unwrap().to_rows(run.cpu()));
    let mut before = alone;
    for iterations in [1, 5] {
        let init = Init::Loftq { blocksize: 64, iterations };
        let options = LoraOptions { rank: 8, alpha: 16.0, init, ..LoraOptions::default() };
        let (lora, coded) = LoraLayer::new(&run, &base, &options, (Philox::new(1), 0)).unwrap();
        assert_eq!(coded.stored(), samebits::nn::Stored::Nf4);
        let sum: Vec<f32> = coded.to_rows(run.cpu()).iter().zip(delta(&lora)).map(|(r, d)| r + d).collect();
        let now = far(&sum);
        println!("{iterations} turns: {:.3} of NF4's error", now / alone);
        assert!(now < 0.9 * before, "{now}, before {before}");
        before = now / 0.9;
    }
}

/// Uniform in ±1/√in, normal with deviation 1/r; one seed, one result; the table's B normal.
#[test]
fn drawn_beginnings() {
    let run = Run::here(Cpu::detect());
    let base = Weight::from_f32(run.cpu(), MatRef::new(&[0.0; 10 * 2000], 10, 2000));
    let new = |init, stream| {
        let options = LoraOptions { rank: 4, init, ..LoraOptions::default() };
        LoraLayer::new(&run, &base, &options, (Philox::new(1), stream)).unwrap().0
    };
    let bound = 1.0 / 2000f32.sqrt();
    let kaiming = new(Init::Kaiming, 1);
    let square = |x: &[f32]| x.iter().map(|x| x * x).sum::<f32>() / x.len() as f32;
    assert!(kaiming.a.iter().all(|x| x.abs() <= bound) && kaiming.b.iter().all(|x| *x == 0.0));
    assert!((square(&kaiming.a) / (bound * bound / 3.0) - 1.0).abs() < 0.05);
    assert_same(&new(Init::Kaiming, 1).a, &kaiming.a, "again");
    assert_ne!(new(Init::Kaiming, 2).a, kaiming.a);
    assert!((square(&new(Init::Gaussian, 1).a) * 16.0 - 1.0).abs() < 0.05);
    let table = LoraLayer::for_table((50, 1000), &LoraOptions::default(), (Philox::new(1), 1)).unwrap();
    assert!(table.a.iter().all(|x| *x == 0.0) && (square(&table.b) - 1.0).abs() < 0.05);
    for (options, want) in [
        (LoraOptions { rank: 0, ..LoraOptions::default() }, "a LoRA of rank 0"),
        (LoraOptions { dropout: 1.0, ..LoraOptions::default() }, "a dropout of 1, expected 0 up to below 1"),
    ] {
        let error = LoraLayer::new(&run, &base, &options, (Philox::new(1), 0)).unwrap_err();
        assert_eq!(error.to_string(), want);
    }
    assert_eq!((Scaling::ByRank.factor(16.0, 8), Scaling::ByRoot.factor(16.0, 4)), (2.0, 8.0));
}

/// `add_weighted_adapter` of peft.
#[test]
fn combinations_of_peft() {
    let file = SafeTensors::open(data("combined.safetensors")).unwrap();
    let shape = LoraShape { in_features: 12, out_features: 20, rank: 3 };
    let part = |name: &str, scale| {
        let [a, b] = ["a", "b"].map(|side| floats(&file, &format!("{name}/{side}")));
        LoraLayer::from_parts(LoraShape { rank: a.len() / 12, ..shape }, a, b, scale)
    };
    let (a, b) = (part("a", 2.0), part("b", 1.0));
    let both = [(&a, 0.7), (&b, -0.4)];
    for cpu in cpus() {
        let run = Run::here(cpu);
        for (how, key) in [
            (Combine::Linear, "linear"),
            (Combine::Cat, "cat"),
            (Combine::Svd { rank: 2 }, "svd"),
            (Combine::Ties { density: 0.6 }, "ties"),
        ] {
            let got = combine(&run, &both, how).unwrap();
            let want = part(key, floats(&file, &format!("{key}/scale"))[0]);
            assert_eq!(got.shape(), want.shape(), "{key}");
            assert_near(&delta(&got), &delta(&want), 2e-6, format!("{key} {cpu:?}"));
            if how != (Combine::Svd { rank: 2 }) {
                assert_near(&got.a, &want.a, 1e-6, format!("{key} A"));
                assert_near(&got.b, &want.b, 1e-6, format!("{key} B"));
            }
        }
    }
    let run = Run::here(Cpu::detect());
    let other = drawn_lora(1, [20, 12, 2]);
    let error = combine(&run, &[(&a, 1.0), (&other, 1.0)], Combine::Linear).unwrap_err();
    assert_eq!(error.to_string(), "ranks 3 and 2 need Cat or Svd");
    assert!(combine(&run, &[(&a, 1.0), (&other, 1.0)], Combine::Cat).is_ok());
    assert!(combine(&run, &[], Combine::Cat).is_err());
    assert!(combine(&run, &both, Combine::Ties { density: 1.5 }).is_err());
    assert!(combine(&run, &[(&drawn_lora(1, [20, 13, 3]), 1.0), (&a, 1.0)], Combine::Cat).is_err());
}

/// |W + s B A| without forming it, against `f64`; also where the row all but vanishes.
#[test]
fn lengths_of_rows() {
    let [n, k, rank] = [23, 300, 5];
    for cpu in cpus() {
        let run = Run::here(cpu);
        let base = drawn_linear(cpu, 1, [n, k]).weight;
        let lora = drawn_lora(2, [n, k, rank]);
        let w = base.to_rows(cpu);
        let want: Vec<f32> = delta(&lora)
            .chunks(k)
            .zip(w.chunks(k))
            .map(|(d, w)| {
                let squares = d.iter().zip(w).map(|(d, w)| (f64::from(*d) + f64::from(*w)).powi(2));
                squares.sum::<f64>().sqrt() as f32
            })
            .collect();
        let lora = lora.with_magnitude(&run, &base);
        assert_near(&lora.norms(&run, &base), &want, 1e-6, format!("{cpu:?}"));
        let factors = lora.factors(&run, &base).unwrap();
        assert_same(&factors, &vec![1.0; n], "lengths as they are change nothing");
    }
}
