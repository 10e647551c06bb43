//! A model's tensors, the matrices of its blocks in NF4: each is quantised as it is read, so that no two lie in memory
//! as floats.

use super::load::{Source, is_column};
use crate::kernels::Cpu;
use crate::kernels::nf4::{self, RowNf4};
use crate::nn::Weight;
use crate::tensor::Tensor;
use crate::{Error, Result};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

/// A source whose blocks' matrices come in NF4, `blocksize` consecutive elements with one scale; what is stored in a
/// form of its own stays so. The weights are those of [`Decoder::quantize_nf4`](super::Decoder::quantize_nf4).
///
/// ```
/// use samebits::model::{DecoderConfig, Decoder, Nf4Source, Opening, Source};
/// use samebits::{Cpu, io::safetensors::Checkpoint};
/// let (cpu, path) = (Cpu::detect(), "tests/data/models/llama");
/// let config = DecoderConfig::from_hf(&std::fs::read(format!("{path}/config.json")).unwrap())?;
/// let floats = Checkpoint::open(path)?;
/// let source: &dyn Source = &Nf4Source { source: &floats, blocksize: 64 };
/// let quantised = Decoder::load(cpu, config, source)?;
/// let opened = Decoder::open_with(path, cpu, Opening { nf4: Some(64), ..Opening::default() })?; // in a word
/// assert!(quantised.weight_bytes() == opened.weight_bytes());
/// assert!(quantised.weight_bytes() < Decoder::open_with(path, cpu, Opening::default())?.weight_bytes());
/// # Ok::<(), samebits::Error>(())
/// ```
pub struct Nf4Source<'s> {
    /// Where the floats come from.
    pub source: &'s dyn Source,
    /// Elements with one scale.
    pub blocksize: usize,
}

impl Source for Nf4Source<'_> {
    fn file(&self) -> String {
        self.source.file()
    }

    fn names(&self) -> Vec<String> {
        self.source.names()
    }

    fn tensor(&self, name: &str) -> Result<Tensor> {
        self.source.tensor(name)
    }

    fn stored(&self, cpu: Cpu, name: &str) -> Result<Option<(Weight, Vec<String>)>> {
        if let Some(stored) = self.source.stored(cpu, name)? {
            return Ok(Some(stored));
        }
        // Those of a block have its number in their names.
        if !name.split('.').any(|part| part.parse::<usize>().is_ok()) {
            return Ok(None);
        }
        let tensor = self.source.tensor(name)?;
        let tensor = if is_column(name) { tensor.t() } else { tensor };
        let &[n, k] = tensor.shape() else { return Ok(None) };
        let rows = tensor.to_f32_vec(cpu);
        tensor.release_rows(0..n);
        let mut codes = vec![0; nf4::code_bytes(rows.len())];
        let mut absmax = vec![0.0; nf4::block_count(rows.len(), self.blocksize)];
        let quantized = nf4::quantize(cpu, &rows, self.blocksize, &mut codes, &mut absmax);
        quantized.map_err(|e| Error::invalid(format!("{name}: {e}")).in_file(self.file()))?;
        let weight = Weight::from_nf4(RowNf4::new(n, k, self.blocksize, &codes, &absmax));
        Ok(Some((weight, vec![name.into()])))
    }
}
