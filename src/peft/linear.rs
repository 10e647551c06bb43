//! A linear layer under any number of named adapters.

mod adapters;
mod learn;
mod merge;

use super::mixed::Rows;
use super::{Draw, LoraCache, LoraLayer};
use crate::kernels::view::{MatMut, MatRef};
use crate::nn::{Linear, Room, Weight};
use crate::run::Run;
use crate::{Error, Result};

pub use adapters::LoraAdapters;
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
    adapters: LoraAdapters,
    merged: Option<merge::Merged>,
}

impl LinearWithLora {
    /// Without adapters.
    pub fn new(base: Linear) -> LinearWithLora {
        LinearWithLora { base, adapters: LoraAdapters::default(), merged: None }
    }

    /// The base; merged adapters are part of its weight.
    pub const fn base(&self) -> &Linear {
        &self.base
    }

    /// The names of all adapters, ascending.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.adapters.names()
    }

    /// The active adapters and their weights.
    pub fn active(&self) -> impl Iterator<Item = (&str, f32)> {
        self.adapters.active()
    }

    /// The adapter of that name.
    pub fn get(&self, name: &str) -> Option<&LoraLayer> {
        self.adapters.get(name)
    }

    /// Adds an adapter, or puts it in the place of one of that name, of any rank: nothing else is rebuilt.
    ///
    /// # Errors
    /// Where its shape is not that of the base, or adapters are merged.
    pub fn insert(&mut self, run: &Run<'_>, name: &str, layer: LoraLayer) -> Result<()> {
        self.not_merged()?;
        self.adapters.insert(run, &self.base, name, layer)
    }

    /// Changes an adapter in its place, as a step of training does.
    ///
    /// # Errors
    /// Where there is none of that name, or adapters are merged.
    pub fn update(&mut self, run: &Run<'_>, name: &str, change: impl FnOnce(&mut LoraLayer)) -> Result<()> {
        self.not_merged()?;
        self.adapters.update(run, &self.base, name, change)
    }

    /// Takes an adapter out; `None` where there is none of that name.
    ///
    /// # Errors
    /// Where adapters are merged.
    pub fn remove(&mut self, name: &str) -> Result<Option<LoraLayer>> {
        self.not_merged()?;
        Ok(self.adapters.remove(name))
    }

    /// Which adapters count from now on, each with a weight; none for the base alone.
    ///
    /// # Errors
    /// Where there is none of a name, a name comes twice, or adapters are merged.
    pub fn activate(&mut self, adapters: &[(&str, f32)]) -> Result<()> {
        self.not_merged()?;
        self.adapters.activate(adapters)
    }

    fn not_merged(&self) -> Result<()> {
        match self.merged {
            None => Ok(()),
            Some(_) => Err(Error::invalid("adapters are merged into the base: unmerge first")),
        }
    }

    /// Lines of room for `rows` rows.
    pub fn room_len(&self, rows: usize) -> usize {
        self.adapters.room_len(&self.base, rows)
    }

    /// `out` (rows, out) from `x` (rows, in), without dropout.
    ///
    /// # Panics
    /// Where the shapes disagree or the room is shorter than [`LinearWithLora::room_len`].
    pub fn forward(&self, run: &Run<'_>, x: &[f32], out: &mut [f32], mut room: Room<'_>) {
        self.base_forward(run, x, out);
        if self.merged.is_none() {
            self.adapters.add(run, &self.base, x, out, room.rest());
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
        let k = self.base.in_features();
        assert!(x.len() == adapter_of.len() * k, "{} inputs for {} rows", x.len(), adapter_of.len());
        if let Some(name) = adapter_of.iter().flatten().find(|name| self.get(name).is_none()) {
            return Err(self.adapters.unknown(name));
        }
        self.base_forward(run, x, out);
        let rows = Rows::of(adapter_of.iter().copied());
        self.adapters.add_rows(run, &self.base, &rows, x, out);
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
        if self.get(name).is_none() {
            return Err(self.adapters.unknown(name));
        }
        self.adapters.train(run, &self.base, (name, Some(draw)), x, out, cache);
        Ok(())
    }

    fn base_forward(&self, run: &Run<'_>, x: &[f32], out: &mut [f32]) {
        let (n, k) = (self.base.out_features(), self.base.in_features());
        let rows = x.len() / k.max(1);
        self.base.forward(run, MatRef::new(x, rows, k), MatMut::new(out, rows, n));
    }

    /// The weight that is multiplied, the base's own or the merged one.
    pub const fn weight(&self) -> &Weight {
        &self.base.weight
    }
}
