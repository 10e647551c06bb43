//! Weights in NF4 as bitsandbytes stores them in a safetensors file.
//!
//! ```text
//!   NAME                                   U8 ((n + 1) / 2, 1)   two codes a byte, of n elements row by row
//!   NAME.absmax                            F32 (blocks)          or U8 where statistics are nested
//!   NAME.quant_map                         F32 (16)              the levels
//!   NAME.nested_absmax                     F32 (blocks / 256)    nested statistics only
//!   NAME.nested_quant_map                  F32 (256)             likewise
//!   NAME.quant_state.bitsandbytes__nf4     U8 (…)                JSON: type, blocksize, dtype, shape, …
//! ```
//!
//! Reference: `QuantState.as_dict(packed=True)` and `from_dict` of bitsandbytes 0.50.2.

use crate::io::json::{self, Value};
use crate::io::safetensors::{Dtype, SafeTensors, TensorView};
use crate::kernels::nf4::{self, DYNAMIC_MAP, LEVELS, NESTED_BLOCKSIZE};
use crate::tensor::Shape;
use crate::{Cpu, Error, Result};
use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

/// What follows a weight's name for its description.
const STATE: &str = ".quant_state.bitsandbytes__nf4";

/// A weight in NF4, with all that decoding needs.
///
/// ```
/// use samebits::Cpu;
/// use samebits::io::bitsandbytes::{Absmax, Nf4, Owned};
/// use samebits::io::safetensors::{Dtype, SafeTensors, to_bytes};
/// let absmax = Absmax::Nested { codes: vec![127], absmax2: vec![1.0], offset: 0.5 }; // ½ + 0 · 1
/// assert_eq!(absmax.decode(Cpu::detect()), [0.5]);
/// let weight = Nf4 { shape: vec![2, 32], dtype: Dtype::BF16, blocksize: 64, codes: vec![0x77; 32], absmax };
/// let parts: Vec<Owned> = weight.tensors("w");
/// let views: Vec<_> = parts.iter().map(Owned::view).collect();
/// let file = SafeTensors::from_bytes(&to_bytes(&views, &[])?)?;
/// assert_eq!(Nf4::read(&file, "w")?, Some(weight));
/// assert_eq!(Nf4::read(&file, "v")?, None);
/// # Ok::<(), samebits::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Nf4 {
    /// Its shape before.
    pub shape: Vec<usize>,
    /// Its type before: `F32`, `F16` or `BF16`.
    pub dtype: Dtype,
    /// Elements that share an absmax.
    pub blocksize: usize,
    /// Two codes a byte, the first in the high nibble.
    pub codes: Vec<u8>,
    /// One absmax a block.
    pub absmax: Absmax,
}

/// The absmax of every block.
#[derive(Clone, Debug, PartialEq)]
pub enum Absmax {
    /// As they are.
    Plain(Vec<f32>),
    /// Quantised themselves (double quantisation).
    Nested {
        /// One code a block.
        codes: Vec<u8>,
        /// One for every 256 codes.
        absmax2: Vec<f32>,
        /// The mean, which was taken off before.
        offset: f32,
    },
}

impl Absmax {
    /// The values that weights are decoded with.
    pub fn decode(&self, cpu: Cpu) -> Vec<f32> {
        match self {
            Absmax::Plain(absmax) => absmax.clone(),
            Absmax::Nested { codes, absmax2, offset } => {
                let mut absmax = vec![0.0; codes.len()];
                nf4::dequantize_absmax(cpu, codes, absmax2, *offset, &mut absmax);
                absmax
            }
        }
    }
}

/// A tensor that owns its bytes.
pub struct Owned {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Owned {
    /// As a file's writer takes it.
    pub fn view(&self) -> TensorView<'_> {
        TensorView { name: &self.name, dtype: self.dtype, shape: &self.shape, bytes: &self.bytes }
    }
}

impl Nf4 {
    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// The tensors that stand for weight `name` in a file.
    pub fn tensors(&self, name: &str) -> Vec<Owned> {
        let bytes = |suffix: &str, shape: Vec<usize>, bytes: Vec<u8>| Owned {
            name: format!("{name}{suffix}"),
            dtype: Dtype::U8,
            shape,
            bytes,
        };
        let floats = |suffix: &str, x: &[f32]| Owned {
            name: format!("{name}{suffix}"),
            dtype: Dtype::F32,
            shape: vec![x.len()],
            bytes: x.iter().flat_map(|x| x.to_le_bytes()).collect(),
        };
        let state = self.state().into_bytes();
        let mut all = vec![
            bytes("", vec![self.codes.len(), 1], self.codes.clone()),
            floats(".quant_map", &LEVELS.0),
            bytes(STATE, vec![state.len()], state),
        ];
        match &self.absmax {
            Absmax::Plain(absmax) => all.push(floats(".absmax", absmax)),
            Absmax::Nested { codes, absmax2, .. } => {
                all.push(bytes(".absmax", vec![codes.len()], codes.clone()));
                all.push(floats(".nested_absmax", absmax2));
                all.push(floats(".nested_quant_map", &DYNAMIC_MAP));
            }
        }
        all
    }

    /// The description, spaced as Python's `json.dumps` does.
    fn state(&self) -> String {
        let (blocksize, dtype) = (self.blocksize, torch_name(self.dtype));
        let shape: Vec<String> = self.shape.iter().map(|n| format!("{n}")).collect();
        let shape = shape.join(", ");
        let nested = match self.absmax {
            Absmax::Plain(_) => String::new(),
            Absmax::Nested { offset, .. } => format!(
                r#", "nested_blocksize": {NESTED_BLOCKSIZE}, "nested_dtype": "float32", "nested_offset": {:?}"#,
                f64::from(offset)
            ),
        };
        format!(
            r#"{{"quant_type": "nf4", "blocksize": {blocksize}, "dtype": "{dtype}", "shape": [{shape}]{nested}}}"#
        )
    }

    /// Weight `name` of a file; `None` where it is not stored in NF4.
    ///
    /// # Errors
    /// Where a part is missing, or does not fit the others or this format.
    pub fn read(file: &SafeTensors, name: &str) -> Result<Option<Nf4>> {
        let state_name = format!("{name}{STATE}");
        if !file.tensors().any(|tensor| tensor.name == state_name) {
            return Ok(None);
        }
        let wrong = |what: &str| Error::invalid(format!("NF4 weight {name:?}: {what}"));
        let state = State::parse(file.tensor(&state_name)?.bytes).map_err(|e| wrong(&format!("{e}")))?;
        let part = |suffix: &str| file.tensor(&format!("{name}{suffix}"));
        if floats(&part(".quant_map")?) != Some(LEVELS.0.to_vec()) {
            return Err(wrong("its quant_map is not NF4's"));
        }
        let absmax = part(".absmax")?;
        let absmax = match state.nested_offset {
            None => Absmax::Plain(floats(&absmax).ok_or_else(|| wrong("its absmax are not F32"))?),
            Some(offset) => {
                if floats(&part(".nested_quant_map")?) != Some(DYNAMIC_MAP.to_vec()) {
                    return Err(wrong("its nested_quant_map is not bitsandbytes' dynamic map"));
                }
                let absmax2 = floats(&part(".nested_absmax")?);
                let absmax2 = absmax2.ok_or_else(|| wrong("its nested_absmax are not F32"))?;
                Absmax::Nested { codes: absmax.bytes.to_owned(), absmax2, offset }
            }
        };
        let weight = Nf4 {
            shape: state.shape,
            dtype: state.dtype,
            blocksize: state.blocksize,
            codes: part("")?.bytes.to_owned(),
            absmax,
        };
        if weight.fits() { Ok(Some(weight)) } else { Err(wrong("its parts do not fit its shape")) }
    }

    /// Whether codes and statistics are as many as shape and block size demand.
    fn fits(&self) -> bool {
        let n = self.elements();
        let blocks = nf4::block_count(n, self.blocksize);
        let statistics = match &self.absmax {
            Absmax::Plain(absmax) => absmax.len() == blocks,
            Absmax::Nested { codes, absmax2, .. } => {
                codes.len() == blocks && absmax2.len() == nf4::block_count(blocks, NESTED_BLOCKSIZE)
            }
        };
        self.codes.len() == nf4::code_bytes(n) && statistics
    }
}

/// What the JSON says.
struct State {
    blocksize: usize,
    dtype: Dtype,
    shape: Vec<usize>,
    nested_offset: Option<f32>,
}

impl State {
    fn parse(text: &[u8]) -> Result<State> {
        let root = json::parse(text)?;
        let get = |key: &str| root.get(key).ok_or_else(|| Error::invalid(format!("no {key:?}")));
        let count = |value: Value<'_>| {
            let n = value.as_u64().and_then(|n| usize::try_from(n).ok());
            n.ok_or_else(|| value.expected("a whole number"))
        };
        let kind = get("quant_type")?;
        if kind.as_str().as_deref() != Some("nf4") {
            return Err(kind.expected("\"nf4\""));
        }
        let name = get("dtype")?;
        let dtype = name.as_str().and_then(|name| of_torch_name(&name));
        let dtype = dtype.ok_or_else(|| name.expected("\"float32\", \"float16\" or \"bfloat16\""))?;
        let blocksize = count(get("blocksize")?)?;
        if blocksize == 0 {
            return Err(Error::invalid("a blocksize of 0"));
        }
        let extents = get("shape")?;
        let extents = extents.elements().ok_or_else(|| extents.expected("an array"))?;
        let shape = Shape::new(&extents.map(count).collect::<Result<Vec<_>>>()?)?.to_vec();
        let nested_offset = match root.get("nested_offset") {
            None => None,
            Some(offset) => {
                if count(get("nested_blocksize")?)? != NESTED_BLOCKSIZE {
                    return Err(Error::invalid(format!("a nested_blocksize other than {NESTED_BLOCKSIZE}")));
                }
                Some(offset.as_f64().ok_or_else(|| offset.expected("a number"))? as f32)
            }
        };
        Ok(State { blocksize, dtype, shape, nested_offset })
    }
}

const TORCH_NAMES: [(Dtype, &str); 3] =
    [(Dtype::F32, "float32"), (Dtype::F16, "float16"), (Dtype::BF16, "bfloat16")];

fn torch_name(dtype: Dtype) -> &'static str {
    let name = TORCH_NAMES.iter().find(|(d, _)| *d == dtype).map(|&(_, name)| name);
    name.unwrap_or_else(|| panic!("NF4 of {dtype}"))
}

fn of_torch_name(name: &str) -> Option<Dtype> {
    TORCH_NAMES.iter().find(|(_, n)| *n == name).map(|&(dtype, _)| dtype)
}

/// The elements of an `F32` tensor.
fn floats(tensor: &TensorView<'_>) -> Option<Vec<f32>> {
    let words = tensor.bytes.as_chunks().0;
    (tensor.dtype == Dtype::F32).then(|| words.iter().map(|&word| f32::from_le_bytes(word)).collect())
}
