//! A decoder's parameters by name: what training changes.

use super::Decoder;
use crate::kernels::attention::Products;
use crate::kernels::nf4::NotFinite;
use crate::nn::adapter::Adapter;
use crate::nn::{Arithmetic, Compute, Linear, Norm, Part, Stored, TransformerBlock, Weight};
use crate::run::Run;
use crate::{Cpu, Error, Result};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// A parameter that can be trained, under the name that [`Gradients`](crate::nn::Gradients) has for it: that of the
/// fields, joined by dots.
///
/// ```
/// use samebits::model::ParameterMut;
/// use samebits::{Cpu, assets};
/// let mut model = assets::model(Cpu::detect())?; // in NF4: of its parameters, norms can change
/// let count = |all: Vec<ParameterMut>| all.iter().filter(|p| p.name.contains("norm")).map(|p| p.values.len()).sum::<usize>();
/// let (dim, layers) = (model.config().dim, model.config().windows.len());
/// assert_eq!(model.with_parameters(count), dim * (2 * layers + 1));
/// # Ok::<(), samebits::Error>(())
/// ```
#[derive(Debug)]
pub struct ParameterMut<'a> {
    /// Such as `blocks.0.attention.q.weight`.
    pub name: String,
    /// (rows, features); a vector is one row.
    pub shape: [usize; 2],
    /// Row by row.
    pub values: &'a mut [f32],
}

impl Decoder {
    /// Makes every weight one that can be trained: floats that stay as they are, multiplied in f32. Decodes what is quantised.
    pub fn make_trainable(&mut self, run: &Run<'_>) {
        let plain = |w: &mut Weight| {
            *w = Weight::plain(w.out_features(), w.in_features(), w.to_rows(run.cpu()));
        };
        plain(&mut self.embedding.table);
        self.positions.iter_mut().for_each(|p| plain(&mut p.table));
        self.linears_mut().for_each(|(_, layer)| plain(&mut layer.weight));
        if self.config.tied {
            self.head.weight = self.embedding.table.clone();
        } else {
            plain(&mut self.head.weight);
        }
    }

    /// Stores the blocks' matrices in NF4, `blocksize` consecutive elements with one scale, and leaves embeddings, head
    /// and what is in NF4 already as they are: the base of QLoRA (Dettmers et al. 2023, [arXiv:2305.14314](https://arxiv.org/abs/2305.14314)).
    ///
    /// # Errors
    /// Where an element is not finite.
    ///
    /// # Panics
    /// Where `blocksize` is 0.
    pub fn quantize_nf4(&mut self, run: &Run<'_>, blocksize: usize) -> Result<()> {
        self.linears_mut().try_for_each(|(name, layer)| {
            if layer.weight.stored() == Stored::Nf4 {
                return Ok(());
            }
            let stored = layer.weight.to_nf4(run.cpu(), blocksize);
            layer.weight = stored.map_err(|e| Error::invalid(format!("{name}.weight: {e}")))?;
            Ok(())
        })
    }

    /// Puts the products of the blocks' linear layers and of the head into a class. Embeddings stay as they are, also a
    /// table that is the head too: the head gets a weight of its own then.
    ///
    /// # Errors
    /// Where codes are to be made of an element that is not finite.
    ///
    /// # Panics
    /// Where they are of another class than f32 already, and not of this.
    pub fn set_compute(&mut self, cpu: Cpu, compute: Compute) -> Result<()> {
        let named = |name: &str, e: NotFinite| Error::invalid(format!("{name}.weight: {e}"));
        self.linears_mut()
            .try_for_each(|(name, layer)| layer.set_compute(cpu, compute).map_err(|e| named(&name, e)))?;
        self.head.set_compute(cpu, compute).map_err(|e| named("head", e))
    }

    /// The class of the head's products: that of all layers, unless one was put into another.
    pub fn compute(&self) -> Compute {
        self.head.weight.compute()
    }

    /// Says what the products of attention are made of, at any time: no weight and no cache changes.
    ///
    /// ```
    /// use samebits::kernels::attention::Products;
    /// use samebits::{Cpu, assets};
    /// let mut model = assets::model(Cpu::detect())?;
    /// assert_eq!(model.attention(), Products::F32);
    /// model.set_attention(Products::Bf16);
    /// assert_eq!(model.arithmetic().named(), [("compute", "f32"), ("attention", "bf16")]);
    /// # Ok::<(), samebits::Error>(())
    /// ```
    pub fn set_attention(&mut self, products: Products) {
        self.blocks.iter_mut().for_each(|block| block.set_attention(products));
    }

    /// What the products of attention are made of: those of the first block.
    pub fn attention(&self) -> Products {
        self.blocks.first().map_or(Products::F32, |block| block.attention.mixing.kernel.products())
    }

    /// [`Decoder::set_compute`] and [`Decoder::set_attention`].
    ///
    /// # Errors
    /// As [`Decoder::set_compute`].
    ///
    /// # Panics
    /// As there.
    pub fn set_arithmetic(&mut self, cpu: Cpu, arithmetic: Arithmetic) -> Result<()> {
        self.set_attention(arithmetic.attention);
        self.set_compute(cpu, arithmetic.compute)
    }

    /// What it computes in.
    pub fn arithmetic(&self) -> Arithmetic {
        Arithmetic { compute: self.compute(), attention: self.attention() }
    }

    /// Whether the head's weight is the embedding's table.
    fn shares_table(&self) -> bool {
        self.config.tied && self.compute() == self.embedding.table.compute()
    }

    /// Numbers that the model is made of, without adapters; a table that is the head too counts once.
    pub fn parameters(&self) -> usize {
        let norm = |norm: &Norm| match norm {
            Norm::Layer(norm) => norm.weight.len() + norm.bias.as_deref().map_or(0, <[f32]>::len),
            Norm::Rms(norm) => norm.weight.len(),
        };
        let layer =
            |l: &Linear| l.in_features() * l.out_features() + l.bias.as_deref().map_or(0, <[f32]>::len);
        let blocks = self.blocks.iter().map(|block| {
            let after = block.attention_after.iter().chain(&block.network_norm).chain(&block.network_after);
            let of_heads = block.attention.qk_norm.iter().map(|(q, k)| norm(q) + norm(k)).sum::<usize>();
            let norms = norm(&block.attention_norm) + after.map(norm).sum::<usize>() + of_heads;
            norms + block.linears().map(layer).sum::<usize>()
        });
        let tables = [Some(&self.embedding), self.positions.as_ref()].into_iter().flatten();
        let tables: usize = tables.map(|t| t.entries() * t.features()).sum();
        let head = if self.config.tied { 0 } else { layer(&self.head) };
        blocks.sum::<usize>() + tables + norm(&self.norm) + head
    }

    /// Bytes of all parameters as they are in memory, without adapters; a table that is the head too counts once.
    pub fn bytes(&self) -> usize {
        let tables = [Some(&self.embedding.table), self.positions.as_ref().map(|p| &p.table)];
        let matrices = self.matrices().map(|layer| &layer.weight);
        let own = matrices.take(self.matrices().count() - usize::from(self.shares_table()));
        let (mut bytes, mut elements) = (0, 0);
        for weight in own.chain(tables.into_iter().flatten()) {
            bytes += weight.bytes();
            elements += weight.out_features() * weight.in_features();
        }
        if self.config.tied && !self.shares_table() {
            elements -= self.config.vocab * self.config.dim;
        }
        // The others are norms and biases.
        bytes + 4 * (self.parameters() - elements)
    }

    /// Bytes of the parameters of adapters that are trained.
    pub fn adapter_bytes(&mut self) -> usize {
        let layers = self.linears_mut().filter_map(|(_, layer)| layer.adapter.as_mut());
        let of = |adapter: &mut Box<dyn Adapter>| {
            adapter.parameters_mut().iter().map(|(_, _, values)| 4 * values.len()).sum::<usize>()
        };
        layers.map(of).sum()
    }

    /// The blocks' linear layers and their names.
    pub fn linears_mut(&mut self) -> impl Iterator<Item = (String, &mut Linear)> {
        self.blocks.iter_mut().enumerate().flat_map(|(i, block)| {
            block.parts_mut().into_iter().filter_map(move |(name, part)| match part {
                Part::Linear(layer) => Some((format!("blocks.{i}.{name}"), layer)),
                _ => None,
            })
        })
    }

    /// Its blocks, where what is beside their layers plugs in.
    pub fn blocks_mut(&mut self) -> &mut [TransformerBlock] {
        &mut self.blocks
    }

    /// Gives `f` every parameter that can be trained, those of active adapters too: all that are floats, not weights that
    /// are packed or quantised ([`Decoder::make_trainable`]). A head that is the embedding's table is that table.
    pub fn with_parameters<R>(&mut self, f: impl FnOnce(Vec<ParameterMut<'_>>) -> R) -> R {
        let shares_table = self.shares_table();
        if shares_table {
            // While the table changes it is nobody else's.
            self.head.weight = Weight::plain(0, 0, Vec::new());
        }
        let mut all = Vec::new();
        weight(&mut all, "embedding", &mut self.embedding.table);
        if let Some(adapter) = &mut self.embedding.adapter {
            own(&mut all, "embedding", adapter.parameters_mut());
        }
        self.positions.iter_mut().for_each(|p| weight(&mut all, "positions", &mut p.table));
        for (i, block) in self.blocks.iter_mut().enumerate() {
            for (name, part) in block.parts_mut() {
                let name = format!("blocks.{i}.{name}");
                match part {
                    Part::Linear(layer) => linear(&mut all, &name, layer),
                    Part::Norm(of) => norm(&mut all, &name, of),
                    Part::Branch(adapter) => own(&mut all, &name, adapter.parameters_mut()),
                    Part::Prefix(prefix) => own(&mut all, &name, prefix.parameters_mut()),
                }
            }
        }
        norm(&mut all, "norm", &mut self.norm);
        if !self.config.tied {
            linear(&mut all, "head", &mut self.head);
        } else if let Some(adapter) = &mut self.head.adapter {
            own(&mut all, "head", adapter.parameters_mut());
        }
        let result = f(all);
        self.follow();
        if shares_table {
            self.head.weight = self.embedding.table.clone();
        }
        result
    }
}

fn weight<'a>(all: &mut Vec<ParameterMut<'a>>, name: &str, w: &'a mut Weight) {
    let shape = [w.out_features(), w.in_features()];
    all.extend(w.values_mut().map(|values| ParameterMut { name: format!("{name}.weight"), shape, values }));
}

fn vector<'a>(all: &mut Vec<ParameterMut<'a>>, name: String, values: &'a mut [f32]) {
    all.push(ParameterMut { name, shape: [1, values.len()], values });
}

fn linear<'a>(all: &mut Vec<ParameterMut<'a>>, name: &str, layer: &'a mut Linear) {
    weight(all, name, &mut layer.weight);
    if let Some(bias) = &mut layer.bias {
        vector(all, format!("{name}.bias"), bias.to_mut());
    }
    if let Some(adapter) = &mut layer.adapter {
        own(all, name, adapter.parameters_mut());
    }
}

/// The parameters of an adapter, below the name of its place.
fn own<'a>(all: &mut Vec<ParameterMut<'a>>, place: &str, own: Vec<(String, [usize; 2], &'a mut [f32])>) {
    let named = |(name, shape, values)| ParameterMut { name: format!("{place}.{name}"), shape, values };
    all.extend(own.into_iter().map(named));
}

fn norm<'a>(all: &mut Vec<ParameterMut<'a>>, name: &str, norm: &'a mut Norm) {
    match norm {
        Norm::Layer(norm) => {
            vector(all, format!("{name}.weight"), norm.weight.to_mut());
            if let Some(bias) = &mut norm.bias {
                vector(all, format!("{name}.bias"), bias.to_mut());
            }
        }
        Norm::Rms(norm) => vector(all, format!("{name}.weight"), norm.weight.to_mut()),
    }
}
