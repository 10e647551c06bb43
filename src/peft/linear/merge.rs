//! Adapters made part of the weight, and taken out again without a bit changed.

use super::LinearWithLora;
use super::adapters::Entry;
use crate::nn::{Stored, Weight};
use crate::run::Run;
use crate::{Error, Result};
use alloc::format;
use alloc::string::String;

/// The weight of before, to be put back: both are kept, so merging takes the memory of a second weight.
#[derive(Clone, Debug)]
pub(super) struct Merged {
    original: Weight,
    report: MergeReport,
}

/// What the sum of base and adapters is stored as.
///
/// ```
/// use samebits::peft::{LinearWithLora, LoraAdapters, LoraLayer, LoraShape, MergeInto, MergeReport};
/// use samebits::{Cpu, nn::{Linear, Weight}, run::Run};
/// let run = Run::here(Cpu::detect());
/// let mut layer = LinearWithLora::new(Linear::new(Weight::plain(1, 1, vec![10.0]), None));
/// let shape = LoraShape { in_features: 1, out_features: 1, rank: 1 };
/// layer.insert(&run, "one", LoraLayer::from_parts(shape, vec![2.0], vec![3.0], 0.5))?;
/// layer.activate(&[("one", 1.0)])?;
/// let report: MergeReport = layer.merge_into(&run, MergeInto::Floats)?;
/// assert_eq!((layer.weight().to_rows(run.cpu()), report.error), (vec![13.0], 0.0));
/// assert!(layer.unmerge() && layer.weight().to_rows(run.cpu()) == [10.0]);
/// assert_eq!(LoraAdapters::new(0).names().count(), 0); // what a layer of a model has in its place
/// # Ok::<(), samebits::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MergeInto {
    /// `f32`: exact to half an ulp. A base of fewer bits is decoded first.
    Floats,
    /// NF4 again, in blocks of that size: the sum is rounded, and with it the adapter; the report says how much.
    Nf4 {
        /// Elements that share a scale.
        blocksize: usize,
    },
}

/// What merging did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MergeReport {
    /// Bytes of the second weight, besides those of the first.
    pub bytes: usize,
    /// Σ|stored − exact| / Σ|exact| over the weight; 0 in floats.
    pub error: f64,
    /// Σ|stored − exact| / Σ|exact − base|: from 1 on, rounding outweighs what the adapters say; 0 in floats.
    pub error_of_change: f64,
}

impl LinearWithLora {
    /// Makes the active adapters part of the weight; done already, it does nothing.
    ///
    /// # Errors
    /// Where the base is not stored as `f32` and [`MergeInto::Floats`] was not asked for by [`LinearWithLora::merge_into`];
    /// otherwise as that.
    pub fn merge(&mut self, run: &Run<'_>) -> Result<MergeReport> {
        match self.base.weight.stored() {
            Stored::F32 => self.merge_into(run, MergeInto::Floats),
            _ if self.merged.is_some() => self.merge_into(run, MergeInto::Floats),
            other => Err(Error::invalid(format!(
                "the base is stored as {other:?}: merging would round the adapter away or decode the base; \
                 say into what"
            ))),
        }
    }

    /// Makes the active adapters part of the weight, stored as said; done already, it does nothing.
    ///
    /// # Errors
    /// [`Error::Value`] where a sum is not finite; nothing has changed then.
    pub fn merge_into(&mut self, run: &Run<'_>, into: MergeInto) -> Result<MergeReport> {
        if let Some(merged) = &self.merged {
            return Ok(merged.report);
        }
        let (n, k) = (self.base.out_features(), self.base.in_features());
        let before = self.base.weight.to_rows(run.cpu());
        let mut sum = before.clone();
        for (name, weight) in self.adapters.active() {
            let Entry { layer, factors } = self.adapters.entry(name);
            if let Some(factors) = factors {
                for ((row, base), f) in
                    sum.chunks_exact_mut(k.max(1)).zip(before.chunks_exact(k.max(1))).zip(factors)
                {
                    let less = weight * (f - 1.0);
                    row.iter_mut().zip(base).for_each(|(w, base)| *w += less * base);
                }
            }
            layer.add_delta(run, weight, factors.as_deref(), &mut sum);
        }
        if let Some(index) = sum.iter().position(|w| !w.is_finite()) {
            let (name, value) = (String::from("merged weight"), f64::from(sum[index]));
            return Err(Error::Value { name, index, value, expected: "a finite number" });
        }
        let matrix = crate::kernels::view::MatRef::new(&sum, n, k);
        let floats = Weight::from_f32(run.cpu(), matrix);
        let (weight, report) = match into {
            MergeInto::Floats => {
                let bytes = floats.bytes();
                (floats, MergeReport { bytes, error: 0.0, error_of_change: 0.0 })
            }
            MergeInto::Nf4 { blocksize } => {
                let coded = floats.to_nf4(run.cpu(), blocksize);
                let coded = coded.map_err(|e| Error::invalid(format!("merged weight: {e}")))?;
                let report = report(&before, &sum, &coded.to_rows(run.cpu()), coded.bytes());
                (coded, report)
            }
        };
        let original = core::mem::replace(&mut self.base.weight, weight);
        self.merged = Some(Merged { original, report });
        Ok(report)
    }

    /// Puts the weight of before back, bit for bit; whether adapters were merged.
    pub fn unmerge(&mut self) -> bool {
        match self.merged.take() {
            Some(merged) => {
                self.base.weight = merged.original;
                true
            }
            None => false,
        }
    }

    /// Whether adapters are merged.
    pub const fn is_merged(&self) -> bool {
        self.merged.is_some()
    }
}

/// How far `stored` is from `exact`, relative to it and to its distance from `base`.
fn report(base: &[f32], exact: &[f32], stored: &[f32], bytes: usize) -> MergeReport {
    let distance = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).abs()).sum()
    };
    let ratio = |a: f64, b: f64| if a == 0.0 { 0.0 } else { a / b };
    let lost = distance(stored, exact);
    let size: f64 = exact.iter().map(|x| f64::from(x.abs())).sum();
    MergeReport { bytes, error: ratio(lost, size), error_of_change: ratio(lost, distance(exact, base)) }
}
