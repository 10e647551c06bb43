//! Searching vectors: one query against the reading of the same memory, many against multiply-adds, and a graph.
//!
//! A file holds rows of floats; the last of them are queries. Samples take turns: the memory of the stored rows read once,
//! one query, 64 queries, multiply-adds; and all queries one by one through a graph, where one is asked for.

use super::ceiling::{Bound, Ceilings};
use super::measure::Summary;
use super::rows;
use crate::io::bytes::{self, Access};
use crate::kernels::reduce;
use crate::pool::Pool;
use crate::rag::Hit;
use crate::rag::vectors::{
    Form, Full, GraphIndex, GraphOptions, GraphSearch, Metric, Search, VectorIndex, VectorType,
};
use crate::run::Run;
use crate::{Cpu, Error, Result};
use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

/// What is measured, and how often.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Elements of a row.
    pub dim: usize,
    /// How rows are stored, the floats kept beside codes.
    pub kind: VectorType,
    /// Candidates for each of the ten that are wanted, of codes; none: what the type says.
    pub candidates: Option<usize>,
    /// Nodes that the walks of a graph keep, one measurement each; none: no graph is built.
    pub graph: Vec<usize>,
    /// Turns after one that warms up.
    pub turns: usize,
}

/// What came out.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Rows searched.
    pub rows: usize,
    /// Bytes of them that a search reads.
    pub bytes: usize,
    /// GB/s of reading these bytes alone, the same memory in the same turns.
    pub read: Summary,
    /// ms of one query.
    pub one: Summary,
    /// Its bytes a second as a share of that of reading.
    pub of_read: Summary,
    /// Queries a second of 64 at once.
    pub many: Summary,
    /// Their multiply-adds as a share of the ceiling.
    pub of_fma: Summary,
    /// The share of the ten closest, by the floats, that are found.
    pub recall: f64,
    /// Seconds of building a graph; 0 where none was.
    pub build: f64,
    /// Its walks.
    pub walks: Vec<Walks>,
}

/// Queries that walk a graph one by one.
#[derive(Clone, Copy, Debug)]
pub struct Walks {
    /// Nodes that a walk keeps.
    pub ef: usize,
    /// Queries a second.
    pub rate: Summary,
    /// The share of the ten closest that is found.
    pub recall: f64,
}

/// Rows at the end of a file that are queries.
const QUERIES: usize = 1000;
/// Queries at once.
const MANY: usize = 64;
/// Rows wanted.
const K: usize = 10;

/// Measures the rows of a file of little-endian floats, under cosine.
///
/// # Errors
/// Where it does not open, or holds no such rows.
pub fn measure(path: &Path, plan: &Plan, cpu: Cpu, pool: &Pool) -> Result<Measured> {
    let (run, file, dim) = (Run::on(cpu, pool), bytes::open(path, Access::Map)?, plan.dim);
    let floats: &[f32] = file.elements();
    let rows = (floats.len() / dim).saturating_sub(QUERIES);
    if rows == 0 || !file.len().is_multiple_of(4 * dim) {
        let what = format!("{} bytes, expected more than {QUERIES} rows of {dim} floats", file.len());
        return Err(Error::invalid(what).in_file(path.display()));
    }
    let (x, queries) = floats.split_at(rows * dim);
    let form = Form::new(dim, Metric::Cosine)?;
    let mut index = fill(cpu, form, x)?;
    let truth = index.view().search(&run, queries, &Search::new(K))?;
    if plan.kind != VectorType::F32 {
        index = fill(cpu, form.stored(plan.kind, Full::F32), x)?;
    }
    let mut measured = scans(&run, pool, &index, queries, plan)?;
    let search = Search { candidates: plan.candidates, ..Search::new(K) };
    measured.recall = share(&index.view().search(&run, queries, &search)?, &truth);
    if !plan.graph.is_empty() {
        let start = Instant::now();
        let index = GraphIndex::build(&run, index, GraphOptions::default())?;
        measured.build = start.elapsed().as_secs_f64();
        for &ef in &plan.graph {
            measured.walks.push(walks(&run, &index, queries, (ef, plan.turns), &truth)?);
        }
    }
    Ok(measured)
}

type Found = Vec<Vec<(u32, f32)>>;

/// An index of rows that are named by their number.
fn fill(cpu: Cpu, form: Form, x: &[f32]) -> Result<VectorIndex> {
    let mut index = VectorIndex::new(form);
    for (i, part) in x.chunks(1024 * form.dim()).enumerate() {
        let names: Vec<String> =
            (0..part.len() / form.dim()).map(|r| format!("{:09}", 1024 * i + r)).collect();
        index.add(cpu, &names.iter().map(String::as_str).collect::<Vec<_>>(), part)?;
    }
    Ok(index)
}

fn share(found: &Found, truth: &Found) -> f64 {
    let rows = |found: &[(u32, f32)]| found.iter().map(|found| found.0).collect::<Vec<u32>>();
    let pairs = found.iter().zip(truth);
    let hits = pairs.map(|(f, t)| rows(f).iter().filter(|row| rows(t).contains(row)).count());
    hits.sum::<usize>() as f64 / truth.iter().map(Vec::len).sum::<usize>().max(1) as f64
}

fn scans(run: &Run<'_>, pool: &Pool, index: &VectorIndex, queries: &[f32], plan: &Plan) -> Result<Measured> {
    let (dim, rows, cpu) = (plan.dim, index.len(), run.cpu());
    let search = Search { candidates: plan.candidates, ..Search::new(K) };
    let (stored, memory) = (index.view(), index.view().scanned());
    let read = || {
        run.pieces(memory.chunks(1 << 18), |part, _| {
            black_box(reduce::max(cpu, part));
        });
        Ok(())
    };
    let (mut ceilings, mut samples): (_, [Vec<f64>; 5]) = (Ceilings::default(), Default::default());
    for turn in 0..=plan.turns {
        let query = &queries[turn % QUERIES * dim..][..dim];
        let read = seconds(read)?;
        let one = seconds(|| stored.search(run, query, &search))?;
        let many = seconds(|| stored.search(run, &queries[..MANY * dim], &search))?;
        let fma = 1e9 * ceilings.sample(&rows::Run { cpu, pool }, Bound::Arithmetic, 0.02);
        if turn > 0 {
            let operations = 2.0 * (rows * dim * MANY) as f64;
            let rates = [1e-9 * (4 * memory.len()) as f64 / read, 1e3 * one, read / one, MANY as f64 / many];
            rates
                .into_iter()
                .chain([operations / many / fma])
                .zip(&mut samples)
                .for_each(|(x, to)| to.push(x));
        }
    }
    let [read, one, of_read, many, of_fma] = samples.map(|samples| Summary::of(&samples));
    let bytes = 4 * memory.len();
    Ok(Measured { rows, bytes, read, one, of_read, many, of_fma, recall: 0.0, build: 0.0, walks: Vec::new() })
}

fn seconds<T>(work: impl FnOnce() -> Result<T>) -> Result<f64> {
    let start = Instant::now();
    work().map(|_| start.elapsed().as_secs_f64())
}

/// Lets all queries walk a graph one by one.
fn walks(
    run: &Run<'_>,
    index: &GraphIndex,
    queries: &[f32],
    (ef, turns): (usize, usize),
    truth: &Found,
) -> Result<Walks> {
    let (dim, search) = (index.index().form().dim(), GraphSearch { ef, ..GraphSearch::new(K) });
    let (mut rates, mut found) = (Vec::new(), Found::new());
    for _ in 0..turns {
        found.clear();
        let start = Instant::now();
        for query in queries.chunks(dim) {
            let hits = index.search(run, query, &search)?.remove(0);
            let row = |hit: &Hit| hit.id.parse().unwrap_or(u32::MAX);
            found.push(hits.iter().map(|hit| (row(hit), hit.score as f32)).collect());
        }
        rates.push((queries.len() / dim) as f64 / start.elapsed().as_secs_f64());
    }
    Ok(Walks { ef, rate: Summary::of(&rates), recall: share(&found, truth) })
}
