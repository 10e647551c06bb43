//! How alike stored vectors are, by their codes: what a graph is built and walked by.

use crate::Cpu;
use crate::kernels::Line;
use crate::kernels::search::{Code, Codes, QueryCodes, Which};
use crate::rag::vectors::Metric;

/// Codes of all nodes, int8.
#[derive(Clone, Copy)]
pub(super) struct Space<'a> {
    pub codes: Codes<'a>,
    /// Under L2, else nothing.
    pub squares: &'a [f32],
    pub metric: Metric,
    pub cpu: Cpu,
}

/// The code of a graph's nodes.
pub(super) const CODE: Code = Code::Int8;

/// What is compared with nodes: a query, or a node itself.
pub(super) struct Probe {
    lines: Vec<Line>,
    scale: f32,
    square: f32,
}

impl<'a> Space<'a> {
    /// Room for a probe.
    pub fn probe(&self) -> Probe {
        Probe { lines: vec![Line::ZERO; CODE.query_lines(self.codes.k)], scale: 0.0, square: 0.0 }
    }

    /// Makes the probe that of a node.
    pub fn of_node(&self, node: u32, probe: &mut Probe) {
        probe.scale = self.codes.query_of_row(self.cpu, node as usize, &mut probe.lines);
        probe.square = self.square(node);
    }

    /// Makes the probe that of a prepared query with its square.
    pub fn of_query(&self, query: &[f32], square: f32, probe: &mut Probe) {
        let mut room = vec![0; query.len()];
        probe.scale = QueryCodes::fill(self.cpu, CODE, query, &mut room, &mut probe.lines);
        probe.square = square;
    }

    fn square(&self, node: u32) -> f32 {
        self.squares.get(node as usize).copied().unwrap_or(0.0)
    }

    /// How alike the probe and each of `nodes` are: more is closer.
    pub fn alike(&self, probe: &Probe, nodes: &[u32], out: &mut Vec<f32>) {
        out.resize(nodes.len(), 0.0);
        let query = QueryCodes { lines: &probe.lines, scale: probe.scale };
        self.codes.dots(self.cpu, Which::At(nodes), &[query], out);
        if self.metric == Metric::L2 {
            for (out, &node) in out.iter_mut().zip(nodes) {
                *out = self.metric.score(*out, probe.square, self.square(node));
            }
        }
    }
}

/// A node and how alike it is, as one number: the greater the more alike, then the lower the node's number.
///
/// ```text
///   63 … 32  likeness, its bits made to sort as integers │ 31 … 1  2³¹ − 1 − node │ 0  whether it is still to be expanded
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Near(u64);

/// Nodes are numbered below this.
pub(super) const MAX_NODES: usize = (1 << 31) - 1;

impl Near {
    pub fn new(node: u32, alike: f32) -> Near {
        // +0, so that both zeros are the same; a NaN, from codes that were changed, is the least.
        let bits = if alike.is_nan() { f32::NEG_INFINITY } else { alike + 0.0 }.to_bits();
        let sorts = if bits >> 31 == 0 { bits | 1 << 31 } else { !bits };
        Near(u64::from(sorts) << 32 | u64::from(MAX_NODES as u32 - node) << 1 | 1)
    }

    pub fn node(self) -> u32 {
        MAX_NODES as u32 - (self.0 as u32 >> 1)
    }

    /// Likeness alone, in its order.
    pub fn alike(self) -> u32 {
        (self.0 >> 32) as u32
    }

    pub fn is_open(self) -> bool {
        self.0 & 1 == 1
    }

    pub fn opened(self) -> Near {
        Near(self.0 | 1)
    }

    pub fn close(&mut self) {
        self.0 &= !1;
    }
}
