//! What tests of vector search share: indexes, definitions in plain loops, drawn vectors.
#![allow(dead_code, unused_imports)] // each test file uses its own part

pub use samebits::Cpu;
pub use samebits::golden::Random;
use samebits::kernels::dot::dot;
pub use samebits::rag::vectors::{Form, Full, Metric, RowSet, Search, VectorIndex, VectorType, VectorsRef};
pub use samebits::run::Run;

pub const METRICS: [Metric; 3] = Metric::ALL;

/// Every way to store vectors.
pub fn forms(dim: usize, metric: Metric) -> Vec<Form> {
    let form = Form::new(dim, metric).expect("a dimension");
    let kept = |kind| [Full::Dropped, Full::F32, Full::F16].map(|full| form.stored(kind, full));
    let mut all: Vec<Form> = VectorType::ALL.into_iter().flat_map(kept).collect();
    all.dedup(); // beside floats nothing is kept
    assert_eq!(all.len(), 11);
    all
}

pub fn here() -> Run<'static> {
    Run::here(Cpu::detect())
}

pub fn names(n: usize) -> Vec<String> {
    (0..n).map(|i| format!("v{i:05}")).collect()
}

pub fn strs(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}

pub fn built(form: Form, ids: &[&str], x: &[f32]) -> VectorIndex {
    let mut index = VectorIndex::new(form);
    index.add(Cpu::detect(), ids, x).expect("finite vectors");
    index
}

/// As the module defines a stored vector and a query.
pub fn unit(metric: Metric, x: &[f32]) -> Vec<f32> {
    let norm = x.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
    match metric {
        Metric::Cosine if norm > 0.0 => x.iter().map(|&x| (f64::from(x) / norm) as f32).collect(),
        _ => x.to_vec(),
    }
}

/// The score by its definition, on the plainest tier; the vectors are as stored.
pub fn score(metric: Metric, q: &[f32], x: &[f32]) -> f32 {
    let scalar = Cpu::all().next().expect("the scalar tier");
    let product = |a: &[f32], b: &[f32]| dot(scalar, a, b);
    match metric {
        Metric::Cosine | Metric::Dot => product(q, x) + 0.0,
        Metric::L2 => {
            let sum = f64::from(product(q, q)) + f64::from(product(x, x));
            -((sum - 2.0 * f64::from(product(q, x))).max(0.0) as f32) + 0.0
        }
    }
}

/// Every row, sorted.
pub fn all_by_definition(metric: Metric, q: &[f32], rows: &[Vec<f32>]) -> Vec<(u32, f32)> {
    let mut all: Vec<(u32, f32)> = rows.iter().zip(0..).map(|(x, r)| (r, score(metric, q, x))).collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    all
}

/// Integers, so that there are many equal scores.
pub fn coarse(draw: &mut Random, n: usize) -> Vec<f32> {
    (0..n).map(|_| draw.below(5) as f32 - 2.0).collect()
}

pub fn same_bits(a: &[(u32, f32)], b: &[(u32, f32)], what: &str) {
    let bits = |x: &[(u32, f32)]| x.iter().map(|x| (x.0, x.1.to_bits())).collect::<Vec<_>>();
    assert_eq!(bits(a), bits(b), "{what}");
}

/// Clusters of unit vectors: what embeddings look like.
pub fn clustered(draw: &mut Random, (n, dim): (usize, usize), clusters: usize, noise: f32) -> Vec<f32> {
    let centers = draw.normal(clusters * dim);
    let row = |draw: &mut Random| {
        let center = draw.below(clusters) * dim;
        let noisy = draw.normal(dim).into_iter().zip(&centers[center..]).map(|(x, c)| c + noise * x);
        noisy.collect::<Vec<f32>>()
    };
    (0..n).flat_map(|_| row(draw)).collect()
}

/// The share of each query's true k best rows that were found.
pub fn recall(found: &[Vec<(u32, f32)>], truth: &[Vec<(u32, f32)>]) -> f64 {
    let mut hits = 0;
    for (found, truth) in found.iter().zip(truth) {
        hits += truth.iter().filter(|t| found.iter().any(|f| f.0 == t.0)).count();
    }
    hits as f64 / truth.iter().map(Vec::len).sum::<usize>() as f64
}
