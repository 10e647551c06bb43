//! What looks at floats only where they may matter: the kernel's [`Screen`], with the memory it takes.
//!
//! ```text
//!   96 rows × all queries ──► bounds ──► pairs that may be among the k best ──► by query ──► dot, heap
//!                                            a few in ten thousand
//! ```
//!
//! Rows that are all alike go through in their multitude. A piece that has seen as much works on without a sieve.

use super::form::Metric;
use super::stored::VectorsRef;
use crate::Cpu;
use crate::kernels::Line;
use crate::kernels::int8::{Block8, Codes, Eight};
use crate::kernels::search::{Asked, FloatRows, Screen, Which};
use crate::kernels::topk::Best;

/// Some queries as a screen reads them.
pub(super) struct Queries {
    n: usize,
    dim: usize,
    blocks: Vec<Block8>,
    bounds: Vec<[Line; 3]>,
}

impl Queries {
    /// `queries`, (n, dim), where it pays.
    pub fn new(cpu: Cpu, queries: &[f32], dim: usize) -> Option<Queries> {
        let n = queries.len() / dim;
        if !Screen::pays(cpu, n) || dim > Screen::LONGEST {
            return None;
        }
        let mut blocks = vec![Eight::EMPTY; Screen::blocks_len(n, dim)];
        let mut bounds = vec![[Line::ZERO; 3]; Screen::bounds_len(n)];
        Screen::fill(cpu, (queries, dim), &mut vec![0; n * dim], (&mut blocks, &mut bounds));
        Some(Queries { n, dim, blocks, bounds })
    }
}

/// A screen at work on a piece.
pub(super) struct Sieve<'a> {
    screen: Screen<'a>,
    scratch: Vec<Line>,
    least: Vec<f32>,
    pairs: Vec<u32>,
    /// For each query the rows that it let through.
    rows: Vec<Vec<u32>>,
    /// Pairs that it saw, and that it let through.
    seen: usize,
    through: usize,
}

impl<'a> Sieve<'a> {
    /// Rows at a time.
    pub const ROWS: usize = Screen::ROWS;

    pub fn new(queries: &'a Queries) -> Sieve<'a> {
        let &Queries { n, dim, ref blocks, ref bounds } = queries;
        Sieve {
            screen: Screen::new((n, dim), blocks, bounds),
            scratch: vec![Line::ZERO; Screen::scratch_len(n, dim)],
            least: vec![0.0; n],
            pairs: vec![0; n * Sieve::ROWS],
            rows: vec![Vec::new(); n],
            seen: 0,
            through: 0,
        }
    }

    /// Whether so many go through that multiplying all of them takes less.
    pub fn is_coarse(&self) -> bool {
        self.seen >= 8 * self.pairs.len() && self.through > self.seen / 8
    }

    /// For each query the rows of `which` that may be better than the worst of its heap, or as good; all heaps are full.
    /// `squares`: of the queries, under L2.
    pub fn sift(
        &mut self,
        cpu: Cpu,
        (vectors, floats): (&VectorsRef<'_>, FloatRows<'_>),
        which: Which<'_>,
        (heaps, squares): (&[Best<'_>], &[f32]),
    ) -> &[Vec<u32>] {
        for (q, (least, heap)) in self.least.iter_mut().zip(heaps).enumerate() {
            let worst = heap.worst().unwrap_or(f32::NEG_INFINITY);
            *least = match vectors.form.metric() {
                Metric::Cosine | Metric::Dot => worst,
                // −(q·q + x·x − 2 q·x) ≥ worst, less what roundings may have taken.
                Metric::L2 => {
                    (worst + squares[q]) * 0.5 - (worst.abs() + squares[q]) * (1.0 / (1 << 20) as f32)
                }
            };
        }
        let asked = Asked { least: &self.least, squares: vectors.squares };
        let n = self.screen.sift(cpu, (floats, which), asked, &mut self.scratch, &mut self.pairs);
        self.rows.iter_mut().for_each(Vec::clear);
        for &pair in &self.pairs[..n] {
            let (place, query) = (pair as usize / heaps.len(), pair as usize % heaps.len());
            self.rows[query].push(which.get(place) as u32);
        }
        (self.seen, self.through) = (self.seen + which.len() * heaps.len(), self.through + n);
        &self.rows
    }
}
