//! One weight of a model and the adapters that name it: their sum, and what it is stored as.

use super::{Sums, Work};
use crate::io::bitsandbytes::{Absmax, Nf4, Owned};
use crate::io::safetensors::Dtype;
use crate::kernels::nf4;
use crate::kernels::view::MatRef;
use crate::model::{Source, is_column};
use crate::nn::{Linear, Weight};
use crate::peft::files::{Module, StoredLora};
use crate::peft::{LinearWithLora, LoraLayer, LoraShape, MergeInto};
use crate::tensor::{self, Tensor};
use crate::{Error, Result};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

impl Work<'_> {
    /// The matrix `name` of the old folder, (out, in) as adapters see it.
    fn matrix(&self, name: &str) -> Result<Weight> {
        let (cpu, view) = (self.run.cpu(), self.model.tensor(name)?);
        let nf4 = self.nf4(name)?;
        let shape = nf4.as_ref().map_or(view.shape, |nf4| &nf4.shape[..]);
        if shape.len() != 2 {
            let (shape, expected) = (shape.to_vec(), "a matrix".into());
            return Err(Error::Shape { file: String::new(), name: name.into(), shape, expected });
        }
        if let Some((weight, _)) = Source::stored(self.model, cpu, name)? {
            return Ok(weight);
        }
        let tensor = Source::tensor(self.model, name)?;
        Ok(Weight::from_tensor(cpu, &if is_column(name) { tensor.t() } else { tensor }))
    }

    pub(super) fn nf4(&self, name: &str) -> Result<Option<Nf4>> {
        match self.model.files().find(|(_, file)| file.tensor(name).is_ok()) {
            Some((_, file)) => Nf4::read(file, name),
            None => Ok(None),
        }
    }

    /// The sum for the module, in `f32`, (out, in) as adapters see it; of the weight `old` alone where none names it.
    fn sum(&mut self, module: Option<&str>, base: &Weight) -> Result<Vec<f32>> {
        let run = self.run;
        let before = base.to_rows(run.cpu());
        let Some(module) = module else { return Ok(before) };
        let plain = MatRef::new(&before, base.out_features(), base.in_features());
        let plain = Weight::from_f32(run.cpu(), plain);
        let mut layer = LinearWithLora::new(Linear::new(plain, None));
        let mut active = Vec::new();
        for (i, (modules, adapter, weight)) in self.modules().enumerate() {
            if adapter.copies.get(module).is_some_and(|copy| copy.values != before) {
                return Err(Error::invalid(
                    "the adapter brings another weight: it was made for another model",
                ));
            }
            let Some(stored) = modules.get(module) else { continue };
            let stored = match stored.module {
                Module::Linear => stored.clone(),
                Module::Table => StoredLora { layer: turned(&stored.layer), ..stored.clone() },
            };
            let name = i.to_string();
            layer.insert(run, &name, stored.on(run, &layer.base().weight)?)?;
            active.push((name, weight));
        }
        layer.activate(&active.iter().map(|(name, weight)| (name.as_str(), *weight)).collect::<Vec<_>>())?;
        layer.merge_into(run, MergeInto::Floats)?;
        let sum = layer.weight().to_rows(run.cpu());
        self.sums.change += Sums::between(&sum, &before);
        self.sums.exact += Sums::of(&sum);
        Ok(sum)
    }

    /// The bytes of weight `name` as it will be, in type `dtype`.
    pub(super) fn floats(&mut self, name: &str, from: &str, dtype: Dtype) -> Result<Vec<u8>> {
        let module = self.targets.get(name).cloned();
        let in_module = |e: Error| Error::invalid(format!("{}: {e}", module.as_deref().unwrap_or(name)));
        let weight = self.matrix(from)?;
        let (n, k) = (weight.out_features(), weight.in_features());
        let sum = self.sum(module.as_deref(), &weight).map_err(in_module)?;
        let cpu = self.run.cpu();
        let kind = match dtype {
            Dtype::F16 => tensor::Dtype::F16,
            Dtype::BF16 => tensor::Dtype::BF16,
            _ => tensor::Dtype::F32,
        };
        let exact = Tensor::from_f32(&sum, &[n, k]);
        let stored = exact.to(cpu, kind);
        let rounded = stored.to_f32_vec(cpu);
        if let Some(index) = rounded.iter().position(|x| !x.is_finite()) {
            let (name, value) = (format!("merged weight {name:?}"), f64::from(sum[index]));
            return Err(Error::Value { name, index, value, expected: "a number that its type holds" });
        }
        if module.is_some() {
            self.sums.lost += Sums::between(&sum, &rounded);
        }
        let stored = if is_column(name) { stored.t() } else { stored };
        Ok(match kind {
            tensor::Dtype::F32 => stored.to_vec::<f32>().iter().flat_map(|x| x.to_le_bytes()).collect(),
            _ => stored.to_vec::<u16>().iter().flat_map(|x| x.to_le_bytes()).collect(),
        })
    }

    /// The tensors of a merged weight in NF4.
    pub(super) fn coded(&mut self, name: &str, old: &Nf4) -> Result<Vec<Owned>> {
        let weight = self.matrix(name)?;
        let module = self.targets.get(name).cloned().unwrap_or_default();
        let sum = self.sum(Some(&module), &weight).map_err(|e| Error::invalid(format!("{module}: {e}")))?;
        let cpu = self.run.cpu();
        let bad = |index: usize| Error::Value {
            name: format!("merged weight {name:?}"),
            index,
            value: f64::from(sum[index]),
            expected: "a number that NF4 holds",
        };
        let mut codes = vec![0; nf4::code_bytes(sum.len())];
        let mut absmax = vec![0.0; nf4::block_count(sum.len(), old.blocksize)];
        nf4::quantize(cpu, &sum, old.blocksize, &mut codes, &mut absmax).map_err(|e| bad(e.index))?;
        let absmax = match old.absmax {
            Absmax::Plain(_) => Absmax::Plain(absmax),
            Absmax::Nested { .. } => {
                let mut nested = vec![0; absmax.len()];
                let mut absmax2 = vec![0.0; nf4::block_count(absmax.len(), nf4::NESTED_BLOCKSIZE)];
                let offset = nf4::quantize_absmax(cpu, &absmax, &mut nested, &mut absmax2);
                let offset = offset.map_err(|e| bad(e.index * old.blocksize))?;
                Absmax::Nested { codes: nested, absmax2, offset }
            }
        };
        let new = Nf4 { codes, absmax, ..old.clone() };
        let mut decoded = vec![0.0; sum.len()];
        nf4::dequantize(cpu, &new.codes, &new.absmax.decode(cpu), new.blocksize, &mut decoded);
        self.sums.lost += Sums::between(&sum, &decoded);
        Ok(new.tensors(name))
    }
}

impl Sums {
    /// Σ|a| and, between two weights, Σ|a − b|.
    fn of(a: &[f32]) -> f64 {
        a.iter().map(|x| f64::from(x.abs())).sum()
    }

    fn between(a: &[f32], b: &[f32]) -> f64 {
        a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).abs()).sum()
    }
}

/// The adapter of a table (entries, features) as that of the matrix: A and B change places.
fn turned(layer: &LoraLayer) -> LoraLayer {
    let LoraShape { in_features, out_features, rank } = layer.shape();
    let t = |x: &[f32], cols: usize| -> Vec<f32> {
        (0..cols).flat_map(|c| x.iter().skip(c).step_by(cols).copied()).collect()
    };
    let shape = LoraShape { in_features: out_features, out_features: in_features, rank };
    LoraLayer::from_parts(shape, t(&layer.b, rank), t(&layer.a, in_features), layer.scale)
}
