//! Exact vector search against definitions in plain loops; changes against fresh builds; what is refused; bytes.

#[path = "vectors/common.rs"]
mod common;

use common::*;
use samebits::Error;
use samebits::kernels::Line;
use samebits::pool::Pool;
use samebits::rag::Hit;
use samebits::tensor::Buffer;

#[test]
fn scores_and_order_are_those_of_the_definition_on_every_tier() {
    let draw = &mut Random::new(1);
    let mut checked = 0;
    for dim in [1, 2, 15, 16, 17, 40, 67] {
        for metric in METRICS {
            let n = 150 + draw.below(150);
            let mut x = coarse(draw, n * dim);
            x.chunks_mut(dim).for_each(|row| row[0] += 0.25); // none is zero
            let queries = [draw.normal(dim), coarse(draw, dim), vec![0.0; dim], x[..dim].to_vec()].concat();
            let rows: Vec<Vec<f32>> = x.chunks(dim).map(|row| unit(metric, row)).collect();
            let names = names(n);
            let index = built(Form::new(dim, metric).expect("a dimension"), &strs(&names), &x);
            let wanted = RowSet::new(n, |row| row % 3 == 1);
            for cpu in Cpu::all() {
                for k in [0, 1, 7, n, n + 5] {
                    let (all, some) = (Search::new(k), Search { wanted: Some(&wanted), ..Search::new(k) });
                    let found = index.view().search(&Run::here(cpu), &queries, &all).expect("finite");
                    let filtered = index.view().search(&Run::here(cpu), &queries, &some).expect("finite");
                    for (i, q) in queries.chunks(dim).enumerate() {
                        let mut expected = all_by_definition(metric, &unit(metric, q), &rows);
                        let what = format!("{cpu:?} {metric:?} dim {dim}, k {k}, query {i}");
                        same_bits(&found[i], &expected[..k.min(n)], &what);
                        expected.retain(|(row, _)| row % 3 == 1);
                        same_bits(
                            &filtered[i],
                            &expected[..k.min(expected.len())],
                            &format!("{what}, filtered"),
                        );
                        checked += found[i].len();
                    }
                }
            }
        }
    }
    assert!(checked > 10_000);
}

#[test]
fn threads_and_batches_change_no_bit() {
    let draw = &mut Random::new(2);
    let (n, dim, queries) = (40_000, 24, 70);
    let x = draw.normal(n * dim);
    let q = draw.normal(queries * dim);
    let names = names(n);
    for metric in METRICS {
        let index = built(Form::new(dim, metric).expect("a dimension"), &strs(&names), &x);
        let (all, search) = (index.view(), Search::new(10));
        let one_by_one: Vec<_> =
            q.chunks(dim).map(|q| all.search(&here(), q, &search).expect("finite").remove(0)).collect();
        for threads in [1, 2, 5] {
            let pool = Pool::new(threads);
            let found = all.search(&Run::on(Cpu::detect(), &pool), &q, &search).expect("finite");
            for (i, (a, b)) in found.iter().zip(&one_by_one).enumerate() {
                same_bits(a, b, &format!("{metric:?} {threads} threads, query {i}"));
            }
        }
    }
}

/// Many queries go through a sieve where integers are fast, and codes are multiplied as matrices; one by one they are
/// not.
#[test]
fn a_sieve_changes_no_bit() {
    let draw = &mut Random::new(21);
    let (n, dim, queries) = (3000, 40, 33);
    let mut alike = coarse(draw, n * dim);
    alike.chunks_mut(dim).for_each(|row| row[0] += 0.25);
    let one: Vec<f32> = alike[..dim].iter().copied().cycle().take(n * dim).collect();
    let drawn = clustered(draw, (n, dim), 20, 0.3);
    let ids: Vec<String> = (0..n).map(|i| format!("v{:05}", i * 7 % n)).collect(); // ties go another way than rows
    for (x, what) in [(&alike, "coarse"), (&drawn, "clusters"), (&one, "one vector")] {
        let q = [&x[..queries / 2 * dim], &draw.normal((queries - queries / 2) * dim)].concat();
        for form in METRICS.into_iter().flat_map(|metric| forms(dim, metric)) {
            check_many(&built(form, &strs(&ids), x), &q, what);
        }
    }
}

/// Queries together, and each alone.
fn check_many(index: &VectorIndex, q: &[f32], what: &str) {
    let (n, form) = (index.len(), index.form());
    let (wanted, few) = (RowSet::new(n, |row| row % 5 != 1), RowSet::new(n, |row| row < 40));
    for (k, wanted) in [(1, None), (10, None), (10, Some(&wanted)), (10, Some(&few)), (400, None)] {
        // As few candidates as can be: what codes find is seen.
        let search = Search { wanted, candidates: Some(1), ..Search::new(k) };
        let view = index.view();
        let all = view.search(&here(), q, &search).expect("finite");
        for (i, q) in q.chunks(form.dim()).enumerate() {
            let alone = view.search(&here(), q, &search).expect("finite").remove(0);
            same_bits(&all[i], &alone, &format!("{what} {form:?}, k {k}, query {i}"));
        }
    }
    let alone: Vec<_> =
        q.chunks(form.dim()).flat_map(|q| index.search(&here(), q, 10).expect("finite")).collect();
    assert_eq!(index.search(&here(), q, 10).expect("finite"), alone, "{what} {form:?}");
}

/// What an index is to whoever uses it.
fn seen(index: &VectorIndex, queries: &[f32]) -> (Vec<u8>, Vec<Vec<Hit>>, Vec<String>) {
    let hits = index.search(&here(), queries, 20).expect("finite");
    (index.to_bytes(), hits, index.ids().map(String::from).collect())
}

#[test]
fn any_history_gives_the_bits_of_a_fresh_build() {
    let draw = &mut Random::new(3);
    let dim = 9;
    for form in METRICS.into_iter().flat_map(|metric| forms(dim, metric)) {
        for _ in 0..8 {
            let (mut index, mut model) = (VectorIndex::new(form), std::collections::BTreeMap::new());
            for _ in 0..draw.below(40) {
                let ids: Vec<String> = (0..draw.below(30)).map(|_| format!("d{}", draw.below(60))).collect();
                if draw.below(3) == 0 {
                    for id in &ids {
                        assert_eq!(index.remove(id), model.remove(id).is_some());
                    }
                    continue;
                }
                let mut x = coarse(draw, ids.len() * dim);
                x.chunks_mut(dim).for_each(|row| row[3] += 0.5);
                index.add(Cpu::detect(), &strs(&ids), &x).expect("finite");
                model.extend(ids.into_iter().zip(x.chunks(dim).map(<[f32]>::to_vec)));
            }
            let ids: Vec<&str> = model.keys().map(String::as_str).collect();
            let vectors: Vec<f32> = model.values().flatten().copied().collect();
            let fresh = built(form, &ids, &vectors);
            let queries = [coarse(draw, dim), draw.normal(dim)].concat();
            assert_eq!(seen(&index, &queries), seen(&fresh, &queries), "{form:?}");
            assert_eq!(index.len(), model.len());
            // Scores are coarse: were ties not by id, order would show it.
            let hits = index.search(&here(), &queries, 60).expect("finite").concat();
            assert!(
                hits.windows(2)
                    .all(|w| w[0].score != w[1].score || w[0].id < w[1].id || w[0].score < w[1].score)
            );
        }
    }
}

#[test]
fn the_id_decides_at_the_edge_of_the_best_k() {
    let form = Form::new(2, Metric::Dot).expect("a dimension");
    let ids = ["z", "b", "y", "a", "c"];
    let index = built(form, &ids, &[1.0, 0.0].repeat(5));
    let found = |k| {
        let hits = index.search(&here(), &[1.0, 1.0], k).expect("finite").remove(0);
        hits.into_iter().map(|hit| hit.id).collect::<String>()
    };
    assert_eq!([found(1), found(2), found(4), found(9)], ["a", "ab", "abcy", "abcyz"]);
    let some = |id: &str| id != "a";
    let hits = index.search_where(&here(), &[1.0, 1.0], 2, &some).expect("finite").remove(0);
    assert_eq!(hits.iter().map(|h| h.id.as_str()).collect::<Vec<_>>(), ["b", "c"]);
}

#[test]
fn what_spoils_results_is_refused_before_any_change() {
    let draw = &mut Random::new(5);
    let (n, dim) = (20, 7);
    let names = names(n);
    for metric in METRICS {
        let x = draw.normal(n * dim);
        let mut index = built(Form::new(dim, metric).expect("a dimension"), &strs(&names), &x);
        let before = index.to_bytes();
        let mut refused = |x: &[f32], ids: &[&str], what: &str| {
            let error = index.add(Cpu::detect(), ids, x).expect_err(what);
            assert_eq!(index.to_bytes(), before, "{what}");
            error
        };
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in 0..3 * dim {
                let mut batch = draw.normal(3 * dim);
                batch[at] = bad;
                let error = refused(&batch, &["new", "v00003", "newer"], "not finite");
                assert!(matches!(error, Error::Value { index, .. } if index == at), "{error}");
            }
        }
        for wrong in [dim - 1, dim + 1, 0, 2 * dim] {
            let error = refused(&draw.normal(wrong), &["new"], "another length");
            assert!(matches!(error, Error::Shape { .. }), "{error}");
        }
        let zeros = [draw.normal(dim), vec![-0.0; dim]].concat();
        let huge = [draw.normal(dim), vec![1e19; dim]].concat();
        match metric {
            Metric::Cosine => drop(refused(&zeros, &["a", "b"], "zeros")),
            _ => drop(refused(&huge, &["a", "b"], "huge")),
        }
        let halves = Form::new(dim, metric).expect("a dimension").stored(VectorType::F16, Full::Dropped);
        let large = [draw.normal(dim), vec![65_520.0; dim]].concat();
        let result = VectorIndex::new(halves).add(Cpu::detect(), &["a", "b"], &large);
        assert_eq!(result.is_err(), metric != Metric::Cosine, "no half holds 65520");
        for queries in [vec![f32::NAN; dim], vec![1.0; dim + 1], vec![1.0; dim - 1]] {
            index.search(&here(), &queries, 3).expect_err("a query that is none");
        }
    }
    assert!(Form::new(0, Metric::Dot).is_err() && Form::new(65_537, Metric::Dot).is_err());
}

#[test]
fn cosines_of_tiny_and_huge_vectors_are_numbers() {
    let form = Form::new(3, Metric::Cosine).expect("a dimension");
    let scales = [1e-45, 1e-38, 1e-30, 1.0, 1e30, 1e38];
    let x: Vec<f32> = scales.iter().flat_map(|&s| [s, -s, s]).collect();
    let index = built(form, &["a", "b", "c", "d", "e", "f"], &x);
    for query in [[1e-45, 0.0, 0.0], [0.0; 3], [-0.0; 3], [1e38, 1e38, -1e38], [1e-30, -1e-30, 1e-30]] {
        for hit in index.search(&here(), &query, 9).expect("finite").remove(0) {
            let distance = Metric::Cosine.distance(hit.score as f32);
            assert!((0.0..=2.0).contains(&distance), "{query:?} {hit:?}");
            assert!(query[0] != 0.0 || hit.score == 0.0);
        }
    }
}

/// R3: the distance of 10,000 drawn vectors to themselves.
#[test]
fn no_distance_is_negative() {
    let draw = &mut Random::new(7);
    let (n, dim) = (10_000, 33);
    let x = draw.normal(n * dim);
    let names = names(n);
    let pool = Pool::new(2);
    for metric in [Metric::Cosine, Metric::L2] {
        let index = built(Form::new(dim, metric).expect("a dimension"), &strs(&names), &x);
        let found = index.search(&Run::on(Cpu::detect(), &pool), &x, 1).expect("finite");
        for (hits, name) in found.iter().zip(&names) {
            let distance = metric.distance(hits[0].score as f32);
            assert!((0.0..=4.0 / (1 << 24) as f32).contains(&distance), "{metric:?} {hits:?}");
            assert_eq!(&hits[0].id, name);
        }
    }
}

#[test]
fn an_id_twice_is_one_vector_the_last() {
    let form = Form::new(2, Metric::Dot).expect("a dimension");
    let mut index = built(form, &["a", "b", "a"], &[1.0, 0.0, 2.0, 0.0, 3.0, 0.0]);
    assert_eq!((index.len(), index.get(Cpu::detect(), "a")), (2, Some(vec![3.0, 0.0])));
    index.add(Cpu::detect(), &["b"], &[7.0, 7.0]).expect("finite");
    assert_eq!(
        (index.len(), index.get(Cpu::detect(), "b"), index.get(Cpu::detect(), "c")),
        (2, Some(vec![7.0, 7.0]), None)
    );
}

#[test]
fn an_empty_index_finds_nothing() {
    let index = VectorIndex::new(Form::new(4, Metric::L2).expect("a dimension"));
    assert_eq!(index.search(&here(), &[1.0; 8], 3).expect("finite"), [vec![], vec![]]);
    let bytes = Buffer::from(&index.to_bytes()[..]);
    assert!(VectorsRef::parse(bytes.elements()).expect("valid").is_empty());
}

/// Stored bytes: what they were made from comes back; cut off or changed they are refused, or are other vectors.
#[test]
fn stored_vectors_are_those_of_the_index() {
    let draw = &mut Random::new(8);
    let (n, dim) = (90, 13);
    let x = draw.normal(n * dim);
    let names = names(n);
    for form in METRICS.into_iter().flat_map(|metric| forms(dim, metric)) {
        let index = built(form, &strs(&names), &x);
        let stored = Buffer::from(&index.to_bytes()[..]);
        let bytes: &[u8] = stored.elements();
        let vectors = VectorsRef::parse(bytes).expect("valid");
        assert_eq!((vectors.len(), vectors.form(), vectors.written_len()), (n, index.form(), bytes.len()));
        let query = draw.normal(dim);
        let found = vectors.search(&here(), &query, &Search::new(n)).expect("finite").remove(0);
        let hits = index.search(&here(), &query, n).expect("finite").remove(0);
        let named =
            found.iter().map(|&(row, score)| Hit { id: names[row as usize].clone(), score: score.into() });
        assert_eq!(named.collect::<Vec<_>>(), hits);
        let again = VectorIndex::from_stored(&strs(&names), &vectors).expect("as many ids");
        assert_eq!(seen(&again, &query), seen(&index, &query));
        VectorIndex::from_stored(&strs(&names[1..]), &vectors).expect_err("an id too few");
        VectorIndex::from_stored(&vec!["same"; n], &vectors).expect_err("ids twice");
        refuses_damage(bytes, &query);
    }
}

fn refuses_damage(bytes: &[u8], query: &[f32]) {
    for len in 0..bytes.len() {
        let cut = Buffer::from(&bytes[..len]);
        VectorsRef::parse(cut.elements()).expect_err("cut off");
    }
    let longer = Buffer::from(&[bytes, &[0; 64]].concat()[..]);
    VectorsRef::parse(longer.elements()).expect_err("more than stated");
    let mut refused = 0;
    for bit in 0..bytes.len().min(512) * 8 {
        let mut changed = Buffer::from(bytes);
        changed.elements_mut::<u8>()[bit / 8] ^= 1 << (bit % 8);
        match VectorsRef::parse(changed.elements()) {
            Err(error) => {
                assert!(!error.to_string().contains('\n'));
                refused += 1;
            }
            // Other numbers: whatever is found, it is `min(k, n)` rows, once each.
            Ok(vectors) => {
                let found =
                    vectors.search(&here(), query, &Search::new(7)).expect("a finite query").remove(0);
                let mut rows: Vec<u32> = found.iter().map(|found| found.0).collect();
                rows.sort_unstable();
                rows.dedup();
                assert!(rows.len() == 7 && rows.iter().all(|&row| (row as usize) < vectors.len()));
            }
        }
    }
    assert!(refused >= 64 * 8, "{refused} of the header's bits");
    let mut lines = vec![Line::ZERO; bytes.len() / 64 + 1];
    let moved = &mut Line::elements_mut::<u8>(&mut lines)[4..4 + bytes.len()];
    moved.copy_from_slice(bytes);
    VectorsRef::parse(moved).expect_err("not aligned");
}

#[test]
fn memory_goes_back_when_vectors_go() {
    let (n, dim) = (5000, 16);
    let names = names(n);
    let mut index =
        built(Form::new(dim, Metric::Dot).expect("a dimension"), &strs(&names), &vec![1.0; n * dim]);
    let full = index.to_bytes().len();
    names[10..].iter().for_each(|name| assert!(index.remove(name)));
    assert_eq!(index.to_bytes().len(), full - (n - 10) * dim * 4);
    assert!(!index.remove(&names[11]) && index.len() == 10);
    assert_eq!(index.search(&here(), &vec![1.0; dim], 50).expect("finite")[0].len(), 10);
}
