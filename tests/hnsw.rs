//! The graph of near neighbours: what it finds against looking at everything, after any changes, in any number of threads.

#[path = "vectors/common.rs"]
mod common;

use common::*;
use samebits::pool::Pool;
use samebits::rag::Hit;
use samebits::rag::vectors::{Graph, GraphIndex, GraphOptions, GraphRef, GraphSearch};
use samebits::tensor::Buffer;

fn graph_of(index: VectorIndex) -> GraphIndex {
    GraphIndex::build(&here(), index, GraphOptions::default()).expect("few enough")
}

/// Vectors in clusters, and queries from the same clusters.
fn drawn(
    (n, dim): (usize, usize),
    queries: usize,
    clusters: usize,
    draw: &mut Random,
) -> (Vec<f32>, Vec<f32>) {
    let mut x = clustered(draw, (n + queries, dim), clusters, 0.5);
    let queries = x.split_off(n * dim);
    (x, queries)
}

fn bytes_of(index: &GraphIndex) -> Vec<u8> {
    let mut bytes = Vec::new();
    index.write_graph(&mut bytes).expect("memory takes it");
    bytes
}

/// (id, score) of each query's hits.
type Hits = Vec<Vec<Hit>>;

/// The share of what is truly closest that was found; scores must be the true ones.
fn share(found: &Hits, truth: &Hits) -> f64 {
    let mut hits = 0;
    for (found, truth) in found.iter().zip(truth) {
        assert_eq!(found.len(), truth.len(), "k rows, where there are so many");
        assert!(found.windows(2).all(|w| Hit::order(&w[0], &w[1]).is_lt()), "in their order, each once");
        hits += found.iter().filter(|f| truth.contains(f)).count();
    }
    hits as f64 / truth.iter().map(Vec::len).sum::<usize>() as f64
}

fn recall_of(index: &GraphIndex, queries: &[f32], ef: usize) -> f64 {
    let found = index.search(&here(), queries, &GraphSearch { ef, ..GraphSearch::new(10) }).expect("finite");
    share(&found, &index.index().search(&here(), queries, 10).expect("finite"))
}

/// R4: who starts where walks begin comes to every node.
fn all_are_reached(index: &GraphIndex) {
    assert_eq!(index.graph().reached(), index.index().len());
    assert_eq!(index.graph().len(), index.index().len());
}

/// R6: 10,000 × 128; the floor of the uniform set is what hnswlib 0.8 finds there, times 0.95 (tests/reference/hnsw.py).
#[test]
fn most_of_the_closest_are_found() {
    let draw = &mut Random::new(1);
    let (n, dim) = (10_000, 128);
    let uniform = draw.vec((n + 200) * dim);
    let clusters = clustered(draw, (n + 200, dim), 100, 0.4);
    let names = names(n);
    for (x, metric, floor) in
        [(&uniform, Metric::L2, 0.69), (&clusters, Metric::Cosine, 0.95), (&clusters, Metric::L2, 0.95)]
    {
        let (x, queries) = x.split_at(n * dim);
        let index = graph_of(built(Form::new(dim, metric).expect("a dimension"), &strs(&names), x));
        all_are_reached(&index);
        let share = recall_of(&index, queries, 64);
        assert!(share >= floor, "{metric:?}: {share}");
        println!("{metric:?}: {share}");
    }
}

#[test]
fn threads_and_tiers_build_the_same_graph_and_find_the_same() {
    let draw = &mut Random::new(2);
    let (n, dim) = (1500, 24);
    let (x, queries) = (clustered(draw, (n, dim), 20, 0.5), draw.normal(40 * dim));
    let names = names(n);
    for metric in METRICS {
        let index = built(Form::new(dim, metric).expect("a dimension"), &strs(&names), &x);
        let one = graph_of(index.clone());
        let hits = one.search(&here(), &queries, &GraphSearch::new(10)).expect("finite");
        for (cpu, threads) in Cpu::all().flat_map(|cpu| [1, 2, 5].map(|threads| (cpu, threads))) {
            let pool = Pool::new(threads);
            let run = Run::on(cpu, &pool);
            let other = GraphIndex::build(&run, index.clone(), GraphOptions::default()).expect("few");
            assert!(bytes_of(&one) == bytes_of(&other), "{metric:?} {cpu:?} {threads} threads");
            assert_eq!(hits, other.search(&run, &queries, &GraphSearch::new(10)).expect("finite"));
            for (query, hits) in queries.chunks(dim).zip(&hits) {
                let alone = other.search(&run, query, &GraphSearch::new(10)).expect("finite");
                assert_eq!(&alone[0], hits, "{metric:?} {cpu:?} {threads} threads, alone");
            }
        }
    }
}

/// R4: a hundred builds, the threads being 1 to 7 in turn: one graph, all of which is reached.
#[test]
fn a_hundred_builds_are_one_graph() {
    let draw = &mut Random::new(23);
    let (n, dim) = (600, 12);
    let names = names(n);
    let x = clustered(draw, (n, dim), 20, 0.5);
    let index = built(Form::new(dim, Metric::Cosine).expect("a dimension"), &strs(&names), &x);
    let first = bytes_of(&graph_of(index.clone()));
    let pools: Vec<Pool> = (1..=7).map(Pool::new).collect();
    for build in 0..100 {
        let run = Run::on(Cpu::detect(), &pools[build % 7]);
        let graph = GraphIndex::build(&run, index.clone(), GraphOptions::default()).expect("few");
        assert!(bytes_of(&graph) == first, "build {build}, {} threads", build % 7 + 1);
        all_are_reached(&graph);
    }
}

/// R4: after a build, after removing half and adding others.
#[test]
fn every_vector_can_be_reached_whatever_happened() {
    let draw = &mut Random::new(3);
    let dim = 16;
    for round in 0..12 {
        let n = [1, 2, 3, 30, 400, 1200][round % 6];
        let metric = METRICS[round % 3];
        let names = names(2 * n);
        let ids = strs(&names);
        let mut x = clustered(draw, (2 * n, dim), 5, 0.3);
        if round >= 6 {
            x.iter_mut().for_each(|x| *x = (*x * 2.0).round() + 0.25); // many are the same
        }
        let mut index =
            GraphIndex::new(Form::new(dim, metric).expect("a dimension"), GraphOptions::default());
        index.add(&here(), &ids[..n], &x[..n * dim]).expect("finite");
        all_are_reached(&index);
        let half: Vec<&str> = ids[..n].iter().copied().filter(|_| draw.below(2) == 0).collect();
        assert_eq!(index.remove(&here(), &half).expect("few"), half.len());
        all_are_reached(&index);
        index.add(&here(), &ids[n..], &x[n * dim..]).expect("finite");
        all_are_reached(&index);
        // One by one, the rest of the first and some that are replaced.
        for i in 0..n.min(60) {
            index.remove(&here(), &[ids[i]]).expect("few");
            index.add(&here(), &[ids[n + i]], &x[i * dim..(i + 1) * dim]).expect("finite");
            all_are_reached(&index);
        }
        let left: Vec<String> = index.index().ids().map(String::from).collect();
        assert_eq!(index.remove(&here(), &strs(&left)).expect("few"), left.len());
        assert!(index.index().is_empty() && index.graph().is_empty());
        assert_eq!(index.search(&here(), &x[..dim], &GraphSearch::new(3)).expect("finite"), [vec![]]);
    }
}

/// R5: 2,000 equal vectors beside 2,000 others.
#[test]
fn equal_vectors_do_not_hide_the_others() {
    let draw = &mut Random::new(4);
    let (n, dim) = (4000, 32);
    let mut x = draw.normal(n * dim);
    let same = draw.normal(dim);
    x.chunks_mut(dim).step_by(2).for_each(|row| row.copy_from_slice(&same));
    let names = names(n);
    for metric in [Metric::Cosine, Metric::L2] {
        let index = graph_of(built(Form::new(dim, metric).expect("a dimension"), &strs(&names), &x));
        all_are_reached(&index);
        let queries: Vec<f32> = x.chunks(dim).skip(1).step_by(40).flatten().copied().collect();
        let share = recall_of(&index, &queries, 64);
        assert!(share >= 0.95, "{metric:?}: {share}");
    }
}

/// R7: from 10 to 99 of 100 removed, at once and in steps.
#[test]
fn what_is_left_is_found() {
    let draw = &mut Random::new(5);
    let (n, dim) = (4000, 32);
    let (x, queries) = drawn((n, dim), 100, 40, draw);
    let names = names(n);
    let full = graph_of(built(Form::new(dim, Metric::Cosine).expect("a dimension"), &strs(&names), &x));
    let mut stepwise = full.clone();
    let mut gone = 0;
    for percent in [10, 30, 50, 70, 90, 99] {
        let goes = n * percent / 100;
        // Of each hundred the first so many.
        let mut order: Vec<&str> =
            (0..n).map(|i| names[i % (n / 100) * 100 + i / (n / 100)].as_str()).collect();
        order.truncate(goes);
        let mut at_once = full.clone();
        assert_eq!(at_once.remove(&here(), &order).expect("few"), goes);
        assert_eq!(stepwise.remove(&here(), &order[gone..]).expect("few"), goes - gone);
        gone = goes;
        for index in [&at_once, &stepwise] {
            all_are_reached(index);
            assert_eq!(index.index().len(), n - goes);
            let share = recall_of(index, &queries, 64);
            assert!(share >= 0.95, "{percent} of 100 removed: {share}");
        }
        let all = stepwise.search(&here(), &queries[..dim], &GraphSearch::new(n)).expect("finite");
        assert_eq!(all[0].len(), n - goes, "as many as there are");
        assert!(all[0].iter().all(|hit| !order.contains(&hit.id.as_str())));
    }
}

/// Many single changes: the graph stays as good as one that is built anew.
#[test]
fn changes_one_by_one_leave_a_good_graph() {
    let draw = &mut Random::new(6);
    let (n, dim) = (3000, 24);
    let (x, queries) = drawn((n, dim), 100, 30, draw);
    let names = names(n);
    let mut index = graph_of(built(
        Form::new(dim, Metric::L2).expect("a dimension"),
        &strs(&names[..2000]),
        &x[..2000 * dim],
    ));
    for i in 0..1000 {
        index.remove(&here(), &[&names[draw.below(2000 + i)]]).expect("few");
        let at = 2000 + i;
        index.add(&here(), &[&names[at]], &x[at * dim..(at + 1) * dim]).expect("finite");
    }
    all_are_reached(&index);
    let share = recall_of(&index, &queries, 64);
    assert!(share >= 0.95, "{share}");
}

/// R8: filters of any selectivity, k of any size.
#[test]
fn filters_and_every_k() {
    let draw = &mut Random::new(7);
    let (n, dim) = (6000, 24);
    let (x, queries) = drawn((n, dim), 50, 40, draw);
    let names = names(n);
    let index = graph_of(built(Form::new(dim, Metric::Cosine).expect("a dimension"), &strs(&names), &x));
    for one_of in [1, 2, 3, 5, 10, 100, 7000] {
        let wanted = |id: &str| id[1..].parse::<usize>().expect("a number") % one_of == 1 % one_of;
        let matches = names.iter().filter(|name| wanted(name)).count();
        for (k, ef) in [(0, 5), (1, 0), (10, 1), (10, 64), (100, 10), (n + 5, 64)] {
            let search = GraphSearch { ef, ..GraphSearch::new(k) };
            let found = index.search_where(&here(), &queries, &search, &wanted).expect("finite");
            assert!(found.iter().flatten().all(|hit| wanted(&hit.id)));
            assert!(found.iter().all(|found| found.len() == k.min(matches)), "k {k} of {matches}");
            let truth = index.index().search_where(&here(), &queries, k, &wanted).expect("finite");
            let share = if k.min(matches) == 0 { 1.0 } else { share(&found, &truth) };
            assert!(share >= 0.95 || ef < 64, "one of {one_of}, k {k}, ef {ef}: {share}");
        }
    }
}

/// R16: a small graph finds what looking at everything finds, to the bit, for vectors of every type.
#[test]
fn few_vectors_are_all_looked_at() {
    let draw = &mut Random::new(8);
    let (n, dim) = (999, 20);
    let (x, queries) = (coarse(draw, n * dim), coarse(draw, 30 * dim));
    let x: Vec<f32> = x.iter().map(|x| x + 0.25).collect();
    let names = names(n);
    for form in METRICS.into_iter().flat_map(|metric| forms(dim, metric)) {
        let index = graph_of(built(form, &strs(&names), &x));
        let found =
            index.search(&here(), &queries, &GraphSearch { ef: 1, ..GraphSearch::new(25) }).expect("finite");
        let mut expected = Vec::new();
        for query in queries.chunks(dim) {
            let all = Search { candidates: Some(n), ..Search::new(25) };
            let found = index.index().view().search(&here(), query, &all).expect("finite").remove(0);
            let hit = |(row, score): (u32, f32)| Hit { id: names[row as usize].clone(), score: score.into() };
            expected.push(found.into_iter().map(hit).collect::<Vec<_>>());
        }
        assert_eq!(found, expected, "{form:?}");
    }
}

/// R1, R2, R10, R11: what is refused changes nothing; an id twice is one node.
#[test]
fn what_is_refused_changes_nothing() {
    let draw = &mut Random::new(9);
    let (n, dim) = (300, 8);
    let (x, names) = (draw.normal(n * dim), names(n));
    let mut index = graph_of(built(Form::new(dim, Metric::Cosine).expect("a dimension"), &strs(&names), &x));
    let before = (bytes_of(&index), index.index().to_bytes());
    for bad in [
        vec![f32::NAN; dim],
        vec![f32::INFINITY; dim],
        vec![0.0; dim],
        vec![1.0; dim - 1],
        vec![1.0; dim + 1],
    ] {
        // The first would replace a vector, if the second were right.
        index.add(&here(), &["v00001", "new"], &[&x[..dim], &bad].concat()).expect_err("refused");
        assert!((bytes_of(&index), index.index().to_bytes()) == before);
    }
    index.add(&here(), &["v00001", "twice", "twice"], &draw.normal(3 * dim)).expect("finite");
    assert_eq!((index.index().len(), index.graph().len()), (n + 1, n + 1));
    all_are_reached(&index);
}

/// R14: the bytes of a graph, cut off and changed.
#[test]
fn stored_graphs_find_the_same_or_are_refused() {
    let draw = &mut Random::new(10);
    let (n, dim) = (1200, 12);
    let (x, queries) = (clustered(draw, (n, dim), 20, 0.5), draw.normal(20 * dim));
    let names = names(n);
    for metric in METRICS {
        let mut index = graph_of(built(Form::new(dim, metric).expect("a dimension"), &strs(&names), &x));
        index.remove(&here(), &["v00007", "v00100"]).expect("few"); // rows are no longer in the order of ids
        let (vectors, graph) =
            (Buffer::from(&index.index().to_bytes()[..]), Buffer::from(&bytes_of(&index)[..]));
        let stored = VectorsRef::parse(vectors.elements()).expect("valid");
        let parsed = GraphRef::parse(graph.elements()).expect("valid");
        let ids: Vec<&str> = index.index().ids().collect();
        let find = |graph: &GraphRef<'_>| graph.search(&here(), &stored, &queries, &GraphSearch::new(10));
        let named = |found: Vec<Vec<(u32, f32)>>| -> Hits {
            let hit = |(row, score): (u32, f32)| Hit { id: ids[row as usize].into(), score: score.into() };
            found.into_iter().map(|found| found.into_iter().map(hit).collect()).collect()
        };
        let expected = index.search(&here(), &queries, &GraphSearch::new(10)).expect("finite");
        assert_eq!(named(find(&parsed).expect("finite")), expected);
        let mut again = GraphIndex::from_stored(&ids, &stored, &parsed).expect("they belong together");
        assert!(bytes_of(&again) == bytes_of(&index));
        again.add(&here(), &["new"], &draw.normal(dim)).expect("finite");
        again.remove(&here(), &ids[..50]).expect("few");
        all_are_reached(&again);
        damaged(graph.elements(), |graph| {
            let found = find(graph).expect("finite queries");
            assert!(found.iter().all(|found| found.len() == 10));
            let (seen, size) = (GraphIndex::from_stored(&ids, &stored, graph), ids.len());
            assert!(seen.is_err() || seen.is_ok_and(|index| index.graph().len() == size));
        });
    }
}

fn damaged(bytes: &[u8], mut usable: impl FnMut(&GraphRef<'_>)) {
    for len in (0..bytes.len()).step_by(97) {
        GraphRef::parse(Buffer::from(&bytes[..len]).elements()).expect_err("cut off");
    }
    let (mut refused, mut changed) = (0, Buffer::from(bytes));
    let links = 64 + 1216; // behind the header and the levels
    for bit in (0..4096).chain(links * 8..links * 8 + 600).chain((0..60).map(|i| i * (bytes.len() / 60) * 8))
    {
        changed.elements_mut::<u8>()[bit / 8] ^= 1 << (bit % 8);
        match GraphRef::parse(changed.elements()) {
            Err(_) => refused += 1,
            // A link to another node, another code: a walk ends, and finds k rows.
            Ok(graph) => usable(&graph),
        }
        changed.elements_mut::<u8>()[bit / 8] ^= 1 << (bit % 8);
    }
    assert!(refused >= 512, "{refused}");
}

#[test]
fn every_type_of_vector_has_graphs() {
    let draw = &mut Random::new(11);
    let (n, dim) = (2000, 32);
    let (x, queries) = drawn((n, dim), 50, 20, draw);
    let names = names(n);
    for form in forms(dim, Metric::Cosine) {
        let index = graph_of(built(form, &strs(&names), &x));
        let all = Search { candidates: Some(n), ..Search::new(10) };
        let truth = index.index().view().search(&here(), &queries, &all).expect("finite");
        let found = index
            .search(&here(), &queries, &GraphSearch { ef: 100, ..GraphSearch::new(10) })
            .expect("finite");
        let rows = |found: Vec<Hit>| -> Vec<(u32, f32)> {
            found.into_iter().map(|hit| (hit.id[1..].parse().expect("a number"), hit.score as f32)).collect()
        };
        let share = recall(&found.into_iter().map(rows).collect::<Vec<_>>(), &truth);
        assert!(share >= 0.93, "{form:?}: {share}");
    }
    assert!(
        Graph::build(
            &here(),
            &VectorIndex::new(Form::new(3, Metric::Dot).expect("a dimension")).view(),
            GraphOptions::default()
        )
        .expect("few")
        .is_empty()
    );
}

/// 5,000 real descriptors, whose distances are integers that `f32` holds: 200 are held out as queries.
#[test]
fn real_descriptors_are_found() {
    let Some(data) = std::env::var_os("SAMEBITS_DATA").map(std::path::PathBuf::from) else {
        eprintln!("skipped: SAMEBITS_DATA is not set");
        return;
    };
    let text = std::fs::read_to_string(data.join("ann/sift-5k/sift-dataset-5k.tsv")).expect("the data");
    let (dim, n) = (128, 4800);
    let numbers = text.lines().flat_map(|line| line.split('\t').take(dim)); // a name follows them
    let x: Vec<f32> = numbers.map(|x| x.parse().expect("a number")).collect();
    assert_eq!(x.len(), 5000 * dim);
    let (x, queries) = x.split_at(n * dim);
    let names = names(n);
    let form = Form::new(dim, Metric::L2).expect("a dimension");
    let exact = built(form, &strs(&names), x);
    let truth = exact.search(&here(), queries, 10).expect("finite");
    for (q, hits) in queries.chunks(dim).zip(&truth) {
        let square =
            |row: &[f32]| row.iter().zip(q).map(|(a, b)| (*a as i64 - *b as i64).pow(2)).sum::<i64>();
        let mut all: Vec<(i64, &str)> = x.chunks(dim).map(square).zip(strs(&names)).collect();
        all.sort_unstable();
        let found: Vec<(i64, &str)> = hits.iter().map(|hit| (-hit.score as i64, hit.id.as_str())).collect();
        assert_eq!(found, all[..10]);
    }
    let graph = graph_of(exact);
    all_are_reached(&graph);
    let by_graph = recall_of(&graph, queries, 64);
    assert!(by_graph >= 0.98, "graph: {by_graph}");
    for (kind, floor) in [(VectorType::Int8, 0.999), (VectorType::Nf4, 0.98)] {
        let coded = built(form.stored(kind, Full::F32), &strs(&names), x);
        let by_codes = share(&coded.search(&here(), queries, 10).expect("finite"), &truth);
        assert!(by_codes >= floor, "{kind:?}: {by_codes}");
        println!("graph {by_graph}, {kind:?} {by_codes}");
    }
}
