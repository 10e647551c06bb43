//! Another adapter for each sequence of a batch.
//!
//! ```text
//!   rows      0 0 0 0 │ 1 │ 2 2          the base computes all of them together
//!   adapters  a       │ – │ b            each adapter its own rows, gathered and put back
//! ```
//!
//! **Law.** A row of a product depends on no other row. So every sequence has the bits that it has alone.

use super::{LoraAdapters, TableAdapters};
use crate::model::{Decoder, Sequence, Site, Workspace};
use crate::run::Run;
use crate::{Error, Result};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// The rows of a pass, ascending, by the adapter that counts in them; those of the base alone are left out.
#[derive(Clone, Debug)]
pub(super) struct Rows(Arc<BTreeMap<String, Vec<usize>>>);

impl Rows {
    /// From the adapter of every row.
    pub(super) fn of<'n>(adapter_of: impl IntoIterator<Item = Option<&'n str>>) -> Rows {
        let mut all = BTreeMap::<String, Vec<usize>>::new();
        for (row, name) in adapter_of.into_iter().enumerate() {
            if let Some(name) = name {
                all.entry(name.into()).or_default().push(row);
            }
        }
        Rows(Arc::new(all))
    }

    /// Gives `f` every adapter and its rows.
    pub(super) fn each(&self, mut f: impl FnMut(&str, &[usize])) {
        self.0.iter().for_each(|(name, rows)| f(name, rows));
    }
}

/// Some rows of x (…, n), one after the other.
pub(super) fn gathered(x: &[f32], n: usize, rows: &[usize]) -> Vec<f32> {
    rows.iter().flat_map(|r| &x[r * n..][..n]).copied().collect()
}

/// Puts rows back where [`gathered`] had them from.
pub(super) fn scatter(part: &[f32], n: usize, rows: &[usize], out: &mut [f32]) {
    rows.iter().zip(part.chunks_exact(n.max(1))).for_each(|(r, row)| out[r * n..][..n].copy_from_slice(row));
}

/// [`Decoder::forward`], where sequence i is computed with the adapter `adapter_of[i]` alone, of weight 1, and with the
/// base alone where it has none; what [`activate`](super::activate) said counts again afterwards.
///
/// ```
/// use samebits::model::{Sequence, Workspace};
/// use samebits::peft::config::{AdapterConfig, Dora};
/// use samebits::peft::{LoraOptions, adapt, forward_mixed};
/// use samebits::{Cpu, assets, random::Philox, run::Run};
/// let (run, mut model) = (Run::here(Cpu::detect()), assets::model(Cpu::detect())?);
/// let config = AdapterConfig::lora(&LoraOptions::default(), Dora::Off, &["q_proj"], "inside")?;
/// adapt(&run, &mut model, ("mine", &config), Philox::new(1))?;
/// // Two sequences in one batch, one of them with the adapter (which is new, and adds nothing yet).
/// let (vocab, mut caches) = (model.config().vocab, [model.cache(4), model.cache(4)]);
/// let mut batch: Vec<_> = caches.iter_mut().map(|cache| Sequence { tokens: &[5, 6], cache }).collect();
/// let mut logits = vec![0.0; 2 * vocab];
/// forward_mixed(&run, &mut model, &[Some("mine"), None], &mut batch, &mut logits, &mut Workspace::new())?;
/// assert_eq!(logits[..vocab], logits[vocab..]);
/// # Ok::<(), samebits::Error>(())
/// ```
///
/// # Errors
/// Where no module has an adapter of a name; else as [`Decoder::forward`].
///
/// # Panics
/// Where there are not as many adapters as sequences, or `logits` is not (sequences, vocab).
pub fn forward_mixed(
    run: &Run<'_>,
    model: &mut Decoder,
    adapter_of: &[Option<&str>],
    batch: &mut [Sequence<'_>],
    logits: &mut [f32],
    workspace: &mut Workspace,
) -> Result<()> {
    let sequences = batch.len();
    assert!(adapter_of.len() == sequences, "{} adapters for {sequences} sequences", adapter_of.len());
    let tokens = batch.iter().zip(adapter_of).flat_map(|(s, name)| s.tokens.iter().map(|_| *name));
    // The head sees the last row of each sequence, all else sees all rows.
    let (all, last) = (Rows::of(tokens), Rows::of(adapter_of.iter().copied()));
    let mut missing: Vec<&str> = adapter_of.iter().flatten().copied().collect();
    choose(model, Some((&all, &last)), &mut missing);
    let result = match missing.first() {
        Some(name) => Err(Error::invalid(format!("no module has an adapter {name:?}"))),
        None => model.forward(run, batch, logits, workspace),
    };
    choose(model, None, &mut missing);
    result
}

/// Tells every adapter the rows of the next pass; takes the names that one has off `missing`.
fn choose(model: &mut Decoder, rows: Option<(&Rows, &Rows)>, missing: &mut Vec<&str>) {
    for module in model.modules_mut() {
        let rows = rows.map(|(all, last)| if module.name == "lm_head" { last } else { all }.clone());
        match module.site {
            Site::Table(table) => {
                let adapter = table.adapter.as_mut().and_then(|a| a.as_any().downcast_mut::<TableAdapters>());
                if let Some(of) = adapter {
                    missing.retain(|name| of.get(name).is_none());
                    of.rows = rows;
                }
            }
            Site::Linear(layers) => {
                for (_, layer) in layers {
                    let adapter =
                        layer.adapter.as_mut().and_then(|a| a.as_any().downcast_mut::<LoraAdapters>());
                    if let Some(of) = adapter {
                        missing.retain(|name| of.get(name).is_none());
                        of.rows = rows.clone();
                    }
                }
            }
        }
    }
}
