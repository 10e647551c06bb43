//! Bottlenecks in a block: what plugs into a [`TransformerBlock`](crate::nn::TransformerBlock)'s branches.
//!
//! **Law.** What an adapter adds is added to the finished sum of stream and branch; several are added one by one, in the
//! order in which they were named.

use super::{AdapterCache, AdapterKind, AdapterLayer};
use crate::kernels::elementwise::{self, Binary};
use crate::kernels::view::{MatMut, MatRef};
use crate::nn::Scope;
use crate::nn::adapter::{self, BranchAdapter, Read};
use crate::peft::named::Named;
use crate::run::Run;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

/// A bottleneck and its kind, which says what of a block it reads.
#[derive(Clone, Debug, PartialEq)]
pub struct Bottleneck {
    /// Where it reads.
    pub kind: AdapterKind,
    /// Its matrices.
    pub layer: AdapterLayer,
}

/// The bottlenecks of one branch by name, and which of them count.
#[derive(Clone, Debug, Default)]
pub struct Bottlenecks(pub(in crate::peft) Named<Bottleneck>);

impl BranchAdapter for Bottlenecks {
    fn boxed(&self) -> Box<dyn BranchAdapter> {
        Box::new(self.clone())
    }

    fn as_any(&mut self) -> &mut dyn core::any::Any {
        self
    }

    fn join(&self, run: &Run<'_>, stream: &[f32], rows: &mut [f32]) {
        let branch = rows.to_vec();
        add(run, rows, stream);
        let (sum, mut before) = (rows.to_vec(), Vec::new());
        for (Bottleneck { kind, layer }, weight) in self.0.active() {
            before.clear();
            before.extend_from_slice(rows);
            let x = kind.reads([&branch, stream, &sum]);
            layer.forward_weighted(run, weight, x, &before, rows);
        }
    }

    fn join_train(&self, run: &Run<'_>, stream: &[f32], rows: &mut [f32], cache: &mut adapter::AdapterCache) {
        let Some(Bottleneck { kind, layer }) = self.0.trained() else { return self.join(run, stream, rows) };
        let [before, after, mut x, _] = core::mem::take(&mut cache.floats);
        let mut kept = AdapterCache { before, after };
        x.clear();
        if *kind == AdapterKind::Houlsby {
            x.extend_from_slice(rows);
        }
        add(run, rows, stream);
        let sum = rows.to_vec();
        match kind {
            AdapterKind::Houlsby => {}
            AdapterKind::Pfeiffer => x.extend_from_slice(&sum),
            AdapterKind::Parallel => x.extend_from_slice(stream),
        }
        layer.forward_train(run, &x, &sum, rows, &mut kept);
        cache.floats = [kept.before, kept.after, x, Vec::new()];
    }

    fn backward(&self, run: &Run<'_>, d: &[f32], cache: &adapter::AdapterCache, to: &mut Scope<'_>) -> Read {
        let Some(Bottleneck { kind, layer }) = self.0.trained() else { return Read::Nothing };
        let [before, after, x, _] = &cache.floats;
        let dx = layer.backward_from(run, (x, d), [before, after], to);
        match kind {
            AdapterKind::Houlsby => Read::Branch(dx),
            AdapterKind::Pfeiffer => Read::Sum(dx),
            AdapterKind::Parallel => Read::Stream(dx),
        }
    }

    fn parameters_mut(&mut self) -> Vec<(String, [usize; 2], &mut [f32])> {
        self.0.trained_mut().map(|one| one.layer.parameters_mut()).unwrap_or_default()
    }
}

impl AdapterKind {
    /// What it reads of a branch, the stream and their sum.
    const fn reads(self, [branch, stream, sum]: [&[f32]; 3]) -> &[f32] {
        match self {
            AdapterKind::Houlsby => branch,
            AdapterKind::Pfeiffer => sum,
            AdapterKind::Parallel => stream,
        }
    }
}

/// x += y
fn add(run: &Run<'_>, x: &mut [f32], y: &[f32]) {
    let n = x.len();
    elementwise::binary_in_place(run.cpu(), Binary::Add, MatMut::new(x, 1, n), MatRef::new(y, 1, n));
}
