//! Named adapters of one linear layer, without the layer: what plugs into [`Linear::adapter`].

use super::super::mixed::{Rows, gathered, scatter};
use super::super::{Draw, LoraCache, LoraLayer, repeated};
use crate::kernels::Line;
use crate::kernels::elementwise::{self, Binary};
use crate::kernels::view::{MatMut, MatRef};
use crate::nn::{Linear, Room};
use crate::peft::named::Choice;
use crate::run::Run;
use crate::{Error, Result};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

/// LoRA, rsLoRA and DoRA adapters by name, and which of them count.
///
/// The layer that they belong to is given with every call; it stays as it is.
#[derive(Clone, Debug, Default)]
pub struct LoraAdapters {
    pub(super) all: BTreeMap<String, Entry>,
    pub(super) active: Vec<(String, f32)>,
    /// Where the layer's random numbers come from.
    pub(super) stream: u64,
    /// Whether A is that of another layer, the first of its module.
    pub(super) follows: bool,
    /// For each row of the next pass, the adapter that counts in it alone.
    pub(in crate::peft) rows: Option<Rows>,
}

/// An adapter, and what follows from it and the base.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub layer: LoraLayer,
    /// DoRA's m / |V|, (out).
    pub factors: Option<Vec<f32>>,
}

impl LoraAdapters {
    /// None yet; the layer's random numbers are those of `stream` ([`stream_of`](crate::peft::stream_of) its name).
    pub fn new(stream: u64) -> LoraAdapters {
        LoraAdapters { stream, ..LoraAdapters::default() }
    }

    /// The same for a layer that is not the first of its module: each A is the first layer's too, who trains it.
    #[must_use]
    pub fn following(self) -> LoraAdapters {
        LoraAdapters { follows: true, ..self }
    }

    /// The names of all adapters, ascending.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.all.keys().map(String::as_str)
    }

    /// The active adapters and their weights.
    pub fn active(&self) -> impl Iterator<Item = (&str, f32)> {
        self.active.iter().map(|(name, weight)| (name.as_str(), *weight))
    }

    /// The adapter of that name.
    pub fn get(&self, name: &str) -> Option<&LoraLayer> {
        self.all.get(name).map(|entry| &entry.layer)
    }

    /// The active adapter and its weight, where it is one and has no magnitude.
    pub(super) fn plain(&self) -> Option<(&LoraLayer, f32)> {
        let [(name, weight)] = &self.active[..] else { return None };
        let Entry { layer, factors } = &self.all[name];
        factors.is_none().then_some((layer, *weight))
    }

    pub(super) fn entry(&self, name: &str) -> &Entry {
        &self.all[name]
    }

    /// Adds an adapter of `base`, or puts it in the place of one of that name, of any rank: nothing else is rebuilt.
    ///
    /// # Errors
    /// Where its shape is not that of the base.
    pub fn insert(&mut self, run: &Run<'_>, base: &Linear, name: &str, layer: LoraLayer) -> Result<()> {
        let shape = layer.shape();
        let (n, k) = (base.out_features(), base.in_features());
        if (shape.out_features, shape.in_features) != (n, k) {
            let (found, expected) = (vec![shape.out_features, shape.in_features], format!("({n}, {k})"));
            return Err(Error::Shape { file: String::new(), name: name.into(), shape: found, expected });
        }
        let factors = layer.factors(run, &base.weight);
        self.all.insert(name.into(), Entry { layer, factors });
        Ok(())
    }

    /// Changes an adapter in its place.
    ///
    /// # Errors
    /// Where there is none of that name.
    pub fn update(
        &mut self,
        run: &Run<'_>,
        base: &Linear,
        name: &str,
        change: impl FnOnce(&mut LoraLayer),
    ) -> Result<()> {
        let Some(entry) = self.all.get_mut(name) else { return Err(self.unknown(name)) };
        change(&mut entry.layer);
        entry.factors = entry.layer.factors(run, &base.weight);
        Ok(())
    }

    /// Takes an adapter out; `None` where there is none of that name.
    pub fn remove(&mut self, name: &str) -> Option<LoraLayer> {
        self.active.retain(|(active, _)| active != name);
        self.all.remove(name).map(|entry| entry.layer)
    }

    /// Which adapters count from now on, each with a weight; none for the base alone.
    ///
    /// # Errors
    /// Where there is none of a name, or a name comes twice.
    pub fn activate(&mut self, adapters: &[(&str, f32)]) -> Result<()> {
        for (i, (name, _)) in adapters.iter().enumerate() {
            if !self.all.contains_key(*name) {
                return Err(self.unknown(name));
            }
            if adapters[..i].iter().any(|(before, _)| before == name) {
                return Err(Error::invalid(format!("adapter {name:?} is named twice")));
            }
        }
        self.active = adapters.iter().map(|&(name, weight)| (name.into(), weight)).collect();
        Ok(())
    }

    pub(super) fn unknown(&self, name: &str) -> Error {
        let names: Vec<&str> = self.names().collect();
        Error::invalid(format!("no adapter {name:?}; there are {names:?}"))
    }

    /// Lines of room for `rows` rows.
    pub(super) fn room_len(&self, base: &Linear, rows: usize) -> usize {
        let layers = || self.all.values().map(|entry| &entry.layer);
        let hidden = layers().map(|l| Room::len(rows * l.shape().rank)).max().unwrap_or(0);
        let dora = layers().any(|l| l.magnitude.is_some());
        hidden + if dora { 2 * Room::len(rows * base.out_features()) } else { 0 }
    }

    /// Adds the active adapters to `out`, which holds what the base gave.
    pub(super) fn add(&self, run: &Run<'_>, base: &Linear, x: &[f32], out: &mut [f32], room: Room<'_>) {
        let active = self.active.iter().map(|(name, weight)| (&self.all[name], *weight));
        add_all(run, base, active, x, out, room);
    }

    /// Adds to each row the adapter that it is to have, whether it is active or not.
    pub(super) fn add_rows(&self, run: &Run<'_>, base: &Linear, rows: &Rows, x: &[f32], out: &mut [f32]) {
        let (n, k) = (base.out_features(), base.in_features());
        let mut room = Vec::new();
        rows.each(|name, rows| {
            let Some(entry) = self.all.get(name) else { return };
            let (inputs, mut outputs) = (gathered(x, k, rows), gathered(out, n, rows));
            room.resize(self.room_len(base, rows.len()), Line::ZERO);
            add_all(run, base, [(entry, 1.0)].into_iter(), &inputs, &mut outputs, Room::new(&mut room));
            scatter(&outputs, n, rows, out);
        });
    }

    /// What the base and one adapter give in training: the adapter's inputs dropped as `draw` says, and `cache` filled for
    /// the way back.
    pub(super) fn train(
        &self,
        run: &Run<'_>,
        base: &Linear,
        (name, draw): (&str, Option<Draw>),
        x: &[f32],
        out: &mut [f32],
        cache: &mut LoraCache,
    ) {
        let Entry { layer, factors } = &self.all[name];
        let shape = layer.shape();
        let rows = x.len() / shape.in_features.max(1);
        let draw = draw.filter(|_| layer.dropout > 0.0);
        cache.dropped.clear();
        let dropped = match draw {
            None => x,
            Some(draw) => {
                cache.dropped.resize(x.len(), 0.0);
                draw.dropout(layer.dropout, shape.in_features, x, &mut cache.dropped);
                &cache.dropped
            }
        };
        cache.hidden.resize(rows * shape.rank, 0.0);
        layer.down(run, dropped, &mut cache.hidden);
        let mut hidden = run.floats(cache.hidden.len());
        hidden.copy_from_slice(&cache.hidden);
        let (n, x) = (shape.out_features, MatRef::new(x, rows, shape.in_features));
        let to = MatMut::new(&mut *out, rows, n);
        let Some(factors) = factors else {
            return layer.up_with((run, base), &mut hidden, layer.scale, (x, to));
        };
        base.forward_base(run, x, to);
        cache.norms = layer.norms(run, &base.weight);
        cache.base.resize(rows * shape.out_features, 0.0);
        if draw.is_some() {
            let to = MatMut::new(&mut cache.base, rows, shape.out_features);
            base.weight.multiply(run, MatRef::new(dropped, rows, shape.in_features), to);
        } else {
            cache.base.copy_from_slice(out);
            subtract_bias(run, base, &mut cache.base);
        }
        let mut change = vec![0.0; cache.base.len()];
        layer.up(run, &mut hidden, layer.scale, &mut change);
        join(run, factors, &cache.base, &mut change, out);
    }
}

impl Choice for LoraAdapters {
    fn has(&self, name: &str) -> bool {
        self.all.contains_key(name)
    }

    fn choose(&mut self, adapters: &[(&str, f32)]) -> Result<()> {
        self.activate(adapters)
    }
}

/// Adds adapters with weights to what the base gave.
fn add_all<'a>(
    run: &Run<'_>,
    base: &Linear,
    adapters: impl Iterator<Item = (&'a Entry, f32)> + Clone,
    x: &[f32],
    out: &mut [f32],
    mut room: Room<'_>,
) {
    let mut unbiased: &mut [f32] = &mut [];
    let mut change: &mut [f32] = &mut [];
    if adapters.clone().any(|(entry, _)| entry.factors.is_some()) {
        (unbiased, change) = (room.floats(out.len()), room.floats(out.len()));
        unbiased.copy_from_slice(out);
        subtract_bias(run, base, unbiased);
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
            join(run, factors, unbiased, change, out);
        } else {
            // Weighted as a whole: w · ((f − 1) base + f change).
            let n = factors.len();
            let mut sum = vec![0.0; out.len()];
            join(run, factors, unbiased, change, &mut sum);
            let sum_mut = MatMut::new(&mut sum, rows, n);
            elementwise::scalar_in_place(run.cpu(), Binary::Mul, sum_mut, weight);
            let sum = MatRef::new(&sum, rows, n);
            elementwise::binary_in_place(run.cpu(), Binary::Add, MatMut::new(out, rows, n), sum);
        }
    }
}

/// `x` (rows, out) −= b
fn subtract_bias(run: &Run<'_>, base: &Linear, x: &mut [f32]) {
    if let Some(bias) = &base.bias {
        let (rows, n) = (x.len() / bias.len().max(1), bias.len());
        let x = MatMut::new(x, rows, n);
        elementwise::binary_in_place(run.cpu(), Binary::Sub, x, repeated(bias, rows));
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
