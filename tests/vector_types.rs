//! Vectors stored as halves and codes: what they decode to, how they are scored, how many the codes miss.

#[path = "vectors/common.rs"]
mod common;

use common::*;
use samebits::pool::Pool;

/// The vectors from which scores come, in the order of `names`.
fn decoded(index: &VectorIndex, names: &[String]) -> Vec<Vec<f32>> {
    names.iter().map(|name| index.get(Cpu::detect(), name).expect("it is there")).collect()
}

#[test]
fn codes_are_scored_by_what_they_stand_for_or_what_is_kept() {
    let draw = &mut Random::new(11);
    let (n, dim) = (300, 67);
    let x = draw.normal(n * dim);
    let (names, queries) = (names(n), draw.normal(5 * dim));
    for form in METRICS.into_iter().flat_map(|metric| forms(dim, metric)) {
        let (metric, index) = (form.metric(), built(form, &strs(&names), &x));
        let rows = decoded(&index, &names);
        for cpu in Cpu::all() {
            // With every row a candidate the result is the brute force over the rows' decoded vectors.
            let all = Search { candidates: Some(n), ..Search::new(9) };
            let found = index.view().search(&Run::here(cpu), &queries, &all).expect("finite");
            let few = index.view().search(&Run::here(cpu), &queries, &Search::new(9)).expect("finite");
            for (i, q) in queries.chunks(dim).enumerate() {
                let expected = all_by_definition(metric, &unit(metric, q), &rows);
                same_bits(&found[i], &expected[..9], &format!("{form:?} {cpu:?}"));
                assert_eq!(few[i].len(), 9);
                for hit in &few[i] {
                    assert!(expected.contains(hit), "{form:?}: {hit:?} is no score of the definition");
                }
                assert!(few[i].windows(2).all(|w| w[0].1 >= w[1].1));
            }
        }
    }
}

#[test]
fn stored_rows_are_those_of_the_definition() {
    let draw = &mut Random::new(12);
    let dim = 70;
    let x = draw.normal(dim);
    for metric in METRICS {
        let full = unit(metric, &x);
        let get = |kind, full| {
            let form = Form::new(dim, metric).expect("a dimension").stored(kind, full);
            built(form, &["x"], &x).get(Cpu::detect(), "x").expect("it is there")
        };
        let largest = full.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        let mean = (full.iter().map(|x| f64::from(x.abs())).sum::<f64>() / dim as f64) as f32;
        let half = |x: &f32| samebits::kernels::half::f16_to_f32(samebits::kernels::half::f32_to_f16(*x));
        let halves: Vec<f32> = full.iter().map(half).collect();
        assert_eq!(get(VectorType::F32, Full::F16), full, "nothing else is kept beside floats");
        assert_eq!(get(VectorType::F16, Full::F32), halves);
        for kind in [VectorType::Int8, VectorType::Nf4, VectorType::Binary] {
            assert_eq!(get(kind, Full::F32), full);
            assert_eq!(get(kind, Full::F16), halves);
        }
        let scale = largest / 127.0;
        let rounded: Vec<f32> = full.iter().map(|x| (x / scale).round_ties_even() * scale).collect();
        assert_eq!(get(VectorType::Int8, Full::Dropped), rounded);
        for (x, y) in full.iter().zip(get(VectorType::Nf4, Full::Dropped)) {
            let gap = |level: &f32| (x / largest - level).abs();
            let nearest = samebits::kernels::nf4::LEVELS.0.iter().map(gap).fold(2.0, f32::min);
            assert!(((x - y).abs() / largest - nearest).abs() < 1e-6, "{x} became {y}");
        }
        for (x, y) in full.iter().zip(get(VectorType::Binary, Full::Dropped)) {
            assert_eq!(y, if *x > 0.0 { mean } else { -mean });
        }
    }
}

#[test]
fn candidates_by_codes_miss_hardly_any() {
    let draw = &mut Random::new(13);
    let (n, dim, queries) = (20_000, 128, 100);
    let x = clustered(draw, (n + queries, dim), 50, 0.6);
    let (x, q) = x.split_at(n * dim);
    let names = names(n);
    let pool = Pool::new(2);
    let find = |form: Form, candidates| {
        let index = built(form, &strs(&names), x);
        let search = Search { candidates: Some(candidates), ..Search::new(10) };
        index.view().search(&Run::on(Cpu::detect(), &pool), q, &search).expect("finite")
    };
    for metric in METRICS {
        let form = Form::new(dim, metric).expect("a dimension");
        let truth = find(form, 4);
        let floors = [
            (VectorType::F16, Full::Dropped, 4, 0.99),
            (VectorType::Int8, Full::F32, 4, 0.999),
            (VectorType::Int8, Full::Dropped, 4, 0.95),
            (VectorType::Nf4, Full::F32, 4, 0.95),
            (VectorType::Nf4, Full::F16, 16, 0.99),
            (VectorType::Binary, Full::F32, 40, 0.9),
        ];
        for (kind, full, candidates, floor) in floors {
            let share = recall(&find(form.stored(kind, full), candidates), &truth);
            assert!(share >= floor, "{metric:?} {kind:?} {full:?}, {candidates} candidates: {share}");
        }
    }
}

#[test]
fn the_usual_candidates_find_what_is_there() {
    let (n, dim, queries) = (20_000, 384, 200);
    let names = names(n);
    let pool = Pool::new(2);
    let run = Run::on(Cpu::detect(), &pool);
    for clusters in [200, 0] {
        let draw = &mut Random::new(17);
        let x = match clusters {
            0 => draw.normal((n + queries) * dim),
            _ => clustered(draw, (n + queries, dim), clusters, 0.6),
        };
        let (x, q) = x.split_at(n * dim);
        let form = Form::new(dim, Metric::Cosine).expect("a dimension");
        let find = |form: Form, k| {
            let index = built(form, &strs(&names), x);
            index.view().search(&run, q, &Search::new(k)).expect("finite")
        };
        for k in [1, 10] {
            let truth = find(form, k);
            for kind in [VectorType::Int8, VectorType::Nf4, VectorType::Binary] {
                let share = recall(&find(form.stored(kind, Full::F32), k), &truth);
                println!("{clusters} clusters, {k} closest, {kind:?}: {share}");
                // Signs tell clusters apart, and little more.
                let floor = if kind == VectorType::Binary && clusters == 0 { 0.6 } else { 0.99 };
                assert!(share >= floor, "{clusters} clusters, {k} closest, {kind:?}: {share}");
            }
        }
    }
}
