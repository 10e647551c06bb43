//! A linear layer under any number of named adapters.

mod merge;

use super::{Draw, LoraCache, LoraLayer};
use crate::kernels::elementwise::{self, Binary};
use crate::kernels::view::{MatMut, MatRef};
use crate::nn::{Linear, Room, Weight};
use crate::peft::repeated;
use crate::run::Run;
use crate::{Error, Result};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

pub use merge::{MergeInto, MergeReport};

/// y = W x + b + Σ w · s B A x over the active adapters; the base is frozen and may be stored in any form.
///
/// ```
/// use samebits::kernels::{Line, view::MatRef};
/// use samebits::peft::{LinearWithLora, LoraLayer, LoraShape};
/// use samebits::{Cpu, nn::{Linear, Room, Weight}, run::Run};
/// let run = Run::here(Cpu::detect());
/// let base = Linear::new(Weight::from_f32(run.cpu(), MatRef::new(&[1.0, 2.0], 1, 2)), None);
/// let shape = LoraShape { in_features: 2, out_features: 1, rank: 1 };
/// let mut layer = LinearWithLora::new(base);
/// layer.insert(&run, "one", LoraLayer::from_parts(shape, vec![1.0, 0.0], vec![1.0], 1.0))?;
/// layer.activate(&[("one", 2.0)])?;
/// let (mut y, mut room) = ([0.0], vec![Line::ZERO; layer.room_len(1)]);
/// layer.forward(&run, &[10.0, 1.0], &mut y, Room::new(&mut room));
/// assert_eq!(y, [32.0]); // 12 + 2 · 10
/// # Ok::<(), samebits::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct LinearWithLora {
    base: Linear,
    adapters: BTreeMap<String, Entry>,
    active: Vec<(String, f32)>,
    merged: Option<merge::Merged>,
}

/// An adapter, and what follows from it and the base.
#[derive(Clone, Debug)]
struct Entry {
    layer: LoraLayer,
    /// DoRA's m / |V|, (out).
    factors: Option<Vec<f32>>,
}

impl LinearWithLora {
    /// Without adapters.
    pub fn new(base: Linear) -> LinearWithLora {
        LinearWithLora { base, adapters: BTreeMap::new(), active: Vec::new(), merged: None }
    }

    /// The base; merged adapters are part of its weight.
    pub const fn base(&self) -> &Linear {
        &self.base
    }

    /// The names of all adapters, ascending.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.adapters.keys().map(String::as_str)
    }

    /// The active adapters and their weights.
    pub fn active(&self) -> impl Iterator<Item = (&str, f32)> {
        self.active.iter().map(|(name, weight)| (name.as_str(), *weight))
    }

    /// The adapter of that name.
    pub fn get(&self, name: &str) -> Option<&LoraLayer> {
        self.adapters.get(name).map(|entry| &entry.layer)
    }

    /// Adds an adapter, or puts it in the place of one of that name, of any rank: nothing else is rebuilt.
    ///
    /// # Errors
    /// Where its shape is not that of the base, or adapters are merged.
    pub fn insert(&mut self, run: &Run<'_>, name: &str, layer: LoraLayer) -> Result<()> {
        self.not_merged()?;
        let shape = layer.shape();
        let (n, k) = (self.base.out_features(), self.base.in_features());
        if (shape.out_features, shape.in_features) != (n, k) {
            let (found, expected) = (vec![shape.out_features, shape.in_features], format!("({n}, {k})"));
            return Err(Error::Shape { file: String::new(), name: name.into(), shape: found, expected });
        }
        let factors = layer.factors(run, &self.base.weight);
        self.adapters.insert(name.into(), Entry { layer, factors });
        Ok(())
    }

    /// Changes an adapter in its place, as a step of training does.
    ///
    /// # Errors
    /// Where there is none of that name, or adapters are merged.
    pub fn update(&mut self, run: &Run<'_>, name: &str, change: impl FnOnce(&mut LoraLayer)) -> Result<()> {
        self.not_merged()?;
        let Some(entry) = self.adapters.get_mut(name) else { return Err(self.unknown(name)) };
        change(&mut entry.layer);
        entry.factors = entry.layer.factors(run, &self.base.weight);
        Ok(())
    }

    /// Takes an adapter out; `None` where there is none of that name.
    ///
    /// # Errors
    /// Where adapters are merged.
    pub fn remove(&mut self, name: &str) -> Result<Option<LoraLayer>> {
        self.not_merged()?;
        self.active.retain(|(active, _)| active != name);
        Ok(self.adapters.remove(name).map(|entry| entry.layer))
    }

    /// Which adapters count from now on, each with a weight; none for the base alone.
    ///
    /// # Errors
    /// Where there is none of a name, a name comes twice, or adapters are merged.
    pub fn activate(&mut self, adapters: &[(&str, f32)]) -> Result<()> {
        self.not_merged()?;
        for (i, (name, _)) in adapters.iter().enumerate() {
            if !self.adapters.contains_key(*name) {
                return Err(self.unknown(name));
            }
            if adapters[..i].iter().any(|(before, _)| before == name) {
                return Err(Error::invalid(format!("adapter {name:?} is named twice")));
            }
        }
        self.active = adapters.iter().map(|&(name, weight)| (name.into(), weight)).collect();
        Ok(())
    }

    fn not_merged(&self) -> Result<()> {
        match self.merged {
            None => Ok(()),
            Some(_) => Err(Error::invalid("adapters are merged into the base: unmerge first")),
        }
    }

    fn unknown(&self, name: &str) -> Error {
        let names: Vec<&str> = self.names().collect();
        Error::invalid(format!("no adapter {name:?}; there are {names:?}"))
    }

    /// Lines of room for `rows` rows.
    pub fn room_len(&self, rows: usize) -> usize {
        let layers = || self.adapters.values().map(|entry| &entry.layer);
        let hidden = layers().map(|l| Room::len(rows * l.shape().rank)).max().unwrap_or(0);
        let dora = layers().any(|l| l.magnitude.is_some());
        hidden + if dora { 2 * Room::len(rows * self.base.out_features()) } else { 0 }
    }

    /// `out` (rows, out) from `x` (rows, in), without dropout.
    ///
    /// # Panics
    /// Where the shapes disagree or the room is shorter than [`LinearWithLora::room_len`].
    pub fn forward(&self, run: &Run<'_>, x: &[f32], out: &mut [f32], mut room: Room<'_>) {
        self.base_forward(run, x, out);
        if self.merged.is_none() {
            let active = self.active.iter().map(|(name, weight)| (&self.adapters[name], *weight));
            self.add_all(run, active, x, out, room.rest());
        }
    }

    /// The same with another adapter for each row, `None` for the base alone: every row has the bits that it has in
    /// a pass of its own.
    ///
    /// # Errors
    /// Where there is no adapter of a name, or adapters are merged.
    ///
    /// # Panics
    /// Where the shapes disagree.
    pub fn forward_mixed(
        &self,
        run: &Run<'_>,
        x: &[f32],
        adapter_of: &[Option<&str>],
        out: &mut [f32],
    ) -> Result<()> {
        self.not_merged()?;
        let (n, k) = (self.base.out_features(), self.base.in_features());
        assert!(x.len() == adapter_of.len() * k, "{} inputs for {} rows", x.len(), adapter_of.len());
        if let Some(name) = adapter_of.iter().flatten().find(|name| !self.adapters.contains_key(**name)) {
            return Err(self.unknown(name));
        }
        self.base_forward(run, x, out);
        let mut room = Vec::new();
        for (name, entry) in &self.adapters {
            let rows = || (0..adapter_of.len()).filter(|&r| adapter_of[r] == Some(name));
            let count = rows().count();
            if count == 0 {
                continue;
            }
            let inputs: Vec<f32> = rows().flat_map(|r| &x[r * k..][..k]).copied().collect();
            let mut outputs: Vec<f32> = rows().flat_map(|r| &out[r * n..][..n]).copied().collect();
            room.resize(self.room_len(count), crate::kernels::Line::ZERO);
            self.add_all(run, [(entry, 1.0)].into_iter(), &inputs, &mut outputs, Room::new(&mut room));
            for (r, row) in rows().zip(outputs.chunks_exact(n.max(1))) {
                out[r * n..][..n].copy_from_slice(row);
            }
        }
        Ok(())
    }

    /// A pass in training: one adapter, its inputs dropped as `draw` says, and `cache` filled for the way back.
    ///
    /// # Errors
    /// Where there is no adapter of that name, or adapters are merged.
    ///
    /// # Panics
    /// Where the shapes disagree.
    pub fn forward_train(
        &self,
        run: &Run<'_>,
        (name, draw): (&str, Draw),
        x: &[f32],
        out: &mut [f32],
        cache: &mut LoraCache,
    ) -> Result<()> {
        self.not_merged()?;
        let entry = self.adapters.get(name).ok_or_else(|| self.unknown(name))?;
        let layer = &entry.layer;
        let shape = layer.shape();
        self.base_forward(run, x, out);
        let rows = x.len() / shape.in_features.max(1);
        cache.dropped.clear();
        let dropped = if layer.dropout > 0.0 {
            cache.dropped.resize(x.len(), 0.0);
            draw.dropout(layer.dropout, shape.in_features, x, &mut cache.dropped);
            &cache.dropped
        } else {
            x
        };
        cache.hidden.resize(rows * shape.rank, 0.0);
        layer.down(run, dropped, &mut cache.hidden);
        let mut hidden = cache.hidden.clone();
        let Some(factors) = &entry.factors else {
            layer.up(run, &mut hidden, layer.scale, out);
            return Ok(());
        };
        cache.norms = layer.norms(run, &self.base.weight);
        cache.base.resize(rows * shape.out_features, 0.0);
        if layer.dropout > 0.0 {
            let to = MatMut::new(&mut cache.base, rows, shape.out_features);
            self.base.weight.multiply(run, MatRef::new(dropped, rows, shape.in_features), to);
        } else {
            cache.base.copy_from_slice(out);
            self.subtract_bias(run, &mut cache.base);
        }
        let mut change = vec![0.0; cache.base.len()];
        layer.up(run, &mut hidden, layer.scale, &mut change);
        join(run, factors, &cache.base, &mut change, out);
        Ok(())
    }

    fn base_forward(&self, run: &Run<'_>, x: &[f32], out: &mut [f32]) {
        let (n, k) = (self.base.out_features(), self.base.in_features());
        let rows = x.len() / k.max(1);
        self.base.forward(run, MatRef::new(x, rows, k), MatMut::new(out, rows, n));
    }

    /// Adds adapters with weights to what the base gave.
    fn add_all<'a>(
        &self,
        run: &Run<'_>,
        adapters: impl Iterator<Item = (&'a Entry, f32)> + Clone,
        x: &[f32],
        out: &mut [f32],
        mut room: Room<'_>,
    ) {
        let mut base: &mut [f32] = &mut [];
        let mut change: &mut [f32] = &mut [];
        if adapters.clone().any(|(entry, _)| entry.factors.is_some()) {
            (base, change) = (room.floats(out.len()), room.floats(out.len()));
            base.copy_from_slice(out);
            self.subtract_bias(run, base);
        }
        for (Entry { layer, factors }, weight) in adapters {
            let mut room = room.rest();
            let rows = layer.rows(x, out);
            let hidden = room.floats(rows * layer.shape().rank);
            layer.down(run, x, hidden);
            let Some(factors) = factors else {
                layer.up(run, hidden, layer.scale * weight, out);
                continue;
            };
            change.fill(0.0);
            layer.up(run, hidden, layer.scale, change);
            if weight == 1.0 {
                join(run, factors, base, change, out);
            } else {
                // Weighted as a whole: w · ((f − 1) base + f change).
                let n = factors.len();
                let mut sum = vec![0.0; out.len()];
                join(run, factors, base, change, &mut sum);
                let sum_mut = MatMut::new(&mut sum, rows, n);
                elementwise::scalar_in_place(run.cpu(), Binary::Mul, sum_mut, weight);
                let sum = MatRef::new(&sum, rows, n);
                elementwise::binary_in_place(run.cpu(), Binary::Add, MatMut::new(out, rows, n), sum);
            }
        }
    }

    /// `x` (rows, out) −= b
    fn subtract_bias(&self, run: &Run<'_>, x: &mut [f32]) {
        if let Some(bias) = &self.base.bias {
            let (rows, n) = (x.len() / bias.len().max(1), bias.len());
            let x = MatMut::new(x, rows, n);
            elementwise::binary_in_place(run.cpu(), Binary::Sub, x, repeated(bias, rows));
        }
    }

    /// The weight that is multiplied, the base's own or the merged one.
    pub const fn weight(&self) -> &Weight {
        &self.base.weight
    }
}

/// DoRA's part: `out` += (f − 1) · base + f · change, each (rows, out), f (out). `change` is used up.
fn join(run: &Run<'_>, factors: &[f32], base: &[f32], change: &mut [f32], out: &mut [f32]) {
    let (n, cpu) = (factors.len(), run.cpu());
    let rows = out.len() / n.max(1);
    let less: Vec<f32> = factors.iter().map(|f| f - 1.0).collect();
    let mut part = vec![0.0; out.len()];
    let base = MatRef::new(base, rows, n);
    elementwise::binary(cpu, Binary::Mul, base, repeated(&less, rows), MatMut::new(&mut part, rows, n));
    let change_mut = MatMut::new(change, rows, n);
    elementwise::binary_in_place(cpu, Binary::Mul, change_mut, repeated(factors, rows));
    for part in [&*change, &part] {
        let part = MatRef::new(part, rows, n);
        elementwise::binary_in_place(cpu, Binary::Add, MatMut::new(out, rows, n), part);
    }
}
