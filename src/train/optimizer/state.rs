//! The moments of tensors, and how they are stored between two runs.

use super::{MIN_8BIT, Method, Optimizer};
use crate::io::safetensors::{Dtype, SafeTensors, TensorView, to_bytes};
use crate::kernels::optim::eight::{BLOCKSIZE, Moments, ZERO_CODES};
use crate::{Error, Result};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

/// The moments of one tensor.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum State {
    /// Nothing but how many elements there are.
    None(usize),
    One(Vec<f32>),
    Two(Vec<f32>, Vec<f32>),
    /// Codes of both moments, their absmax.
    Eight([Vec<u8>; 2], [Vec<f32>; 2]),
}

/// A piece of the moments of one tensor.
pub(super) enum Part<'a> {
    None,
    One(&'a mut [f32]),
    Two(&'a mut [f32], &'a mut [f32]),
    Eight(Moments<'a>),
}

impl State {
    /// Moments of 0 for `n` elements.
    pub fn new(method: &Method, n: usize) -> State {
        let zeros = || vec![0.0; n];
        match method {
            Method::Sgd { momentum: 0.0, .. } => State::None(n),
            Method::Sgd { .. } | Method::Lion { .. } => State::One(zeros()),
            Method::AdamW8bit(_) if n >= MIN_8BIT => {
                let absmax = || vec![0.0; n.div_ceil(BLOCKSIZE)];
                State::Eight(ZERO_CODES.map(|code| vec![code; n]), [absmax(), absmax()])
            }
            Method::AdamW(_) | Method::AdamW8bit(_) => State::Two(zeros(), zeros()),
        }
    }

    /// Elements of its tensor.
    pub fn len(&self) -> usize {
        match self {
            State::None(n) => *n,
            State::One(m) | State::Two(m, _) => m.len(),
            State::Eight([codes, _], _) => codes.len(),
        }
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        match self {
            State::None(_) => 0,
            State::One(m) => 4 * m.len(),
            State::Two(m, v) => 4 * (m.len() + v.len()),
            State::Eight(codes, absmax) => {
                codes.iter().map(Vec::len).sum::<usize>() + absmax.iter().map(|a| 4 * a.len()).sum::<usize>()
            }
        }
    }

    /// Cut every `size` elements, a multiple of the blocksize.
    pub fn parts(&mut self, size: usize) -> Vec<Part<'_>> {
        match self {
            State::None(n) => (0..n.div_ceil(size)).map(|_| Part::None).collect(),
            State::One(m) => m.chunks_mut(size).map(Part::One).collect(),
            State::Two(m, v) => {
                m.chunks_mut(size).zip(v.chunks_mut(size)).map(|(m, v)| Part::Two(m, v)).collect()
            }
            State::Eight([m, v], [m_absmax, v_absmax]) => {
                let codes = m.chunks_mut(size).zip(v.chunks_mut(size));
                let blocks = size / BLOCKSIZE;
                let absmax = m_absmax.chunks_mut(blocks).zip(v_absmax.chunks_mut(blocks));
                codes
                    .zip(absmax)
                    .map(|((m, v), (m_absmax, v_absmax))| Part::Eight(Moments { m, v, m_absmax, v_absmax }))
                    .collect()
            }
        }
    }

    /// Its tensors: what follows the name, the type, and the bytes.
    fn tensors(&self) -> Vec<(&'static str, Dtype, Vec<u8>)> {
        let floats = |suffix, x: &[f32]| {
            (suffix, Dtype::F32, x.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())
        };
        match self {
            State::None(_) => Vec::new(),
            State::One(m) => vec![floats("m", m)],
            State::Two(m, v) => vec![floats("m", m), floats("v", v)],
            State::Eight([m, v], [m_absmax, v_absmax]) => vec![
                ("m", Dtype::U8, m.clone()),
                ("v", Dtype::U8, v.clone()),
                floats("m_absmax", m_absmax),
                floats("v_absmax", v_absmax),
            ],
        }
    }

    /// The moments of `name`, `n` elements, out of a file.
    fn load(method: &Method, file: &SafeTensors, name: &str, n: usize) -> Result<State> {
        let mut state = State::new(method, n);
        let floats = |suffix: &str, out: &mut Vec<f32>| {
            let bytes = stored(file, &format!("{name}.{suffix}"), Dtype::F32, out.len())?;
            out.iter_mut().zip(bytes.as_chunks().0).for_each(|(x, b)| *x = f32::from_le_bytes(*b));
            Ok::<(), Error>(())
        };
        match &mut state {
            State::None(_) => {}
            State::One(m) => floats("m", m)?,
            State::Two(m, v) => {
                floats("m", m)?;
                floats("v", v)?;
            }
            State::Eight([m, v], [m_absmax, v_absmax]) => {
                m.copy_from_slice(stored(file, &format!("{name}.m"), Dtype::U8, n)?);
                v.copy_from_slice(stored(file, &format!("{name}.v"), Dtype::U8, n)?);
                floats("m_absmax", m_absmax)?;
                floats("v_absmax", v_absmax)?;
            }
        }
        Ok(state)
    }
}

/// The bytes of a tensor (n) of that type.
fn stored<'a>(file: &'a SafeTensors, name: &str, dtype: Dtype, n: usize) -> Result<&'a [u8]> {
    let tensor = file.tensor(name)?;
    if tensor.dtype != dtype || tensor.shape != [n] {
        let (shape, expected) = (tensor.shape.to_vec(), format!("({n},) of {dtype}"));
        return Err(Error::Shape { file: String::new(), name: name.into(), shape, expected });
    }
    Ok(tensor.bytes)
}

impl Optimizer {
    /// All moments and the count of steps, as the bytes of a safetensors file: with the weights, what training resumes
    /// from without a bit changed.
    ///
    /// # Errors
    /// Where the names of parameters cannot be those of tensors.
    pub fn save(&self) -> Result<Vec<u8>> {
        let mut parts: Vec<(String, Dtype, [usize; 1], Vec<u8>)> = Vec::new();
        for (name, state) in &self.states {
            for (suffix, dtype, bytes) in state.tensors() {
                parts.push((format!("{name}.{suffix}"), dtype, [bytes.len() * 8 / dtype.bits()], bytes));
            }
        }
        let views: Vec<TensorView<'_>> = parts
            .iter()
            .map(|(name, dtype, shape, bytes)| TensorView { name, dtype: *dtype, shape, bytes })
            .collect();
        let steps = self.steps.to_string();
        to_bytes(&views, &[("optimizer", self.method.name()), ("steps", &steps)])
    }

    /// The optimizer that [`Optimizer::save`] wrote, for the tensors `(name, elements)`.
    ///
    /// # Errors
    /// Where the file is of another method, or a moment is missing or of another shape, or left over.
    pub fn load(method: Method, file: &SafeTensors, parameters: &[(&str, usize)]) -> Result<Optimizer> {
        let metadata = |key: &str| file.metadata().find(|(k, _)| k == key).map(|(_, v)| v.into_owned());
        let of = metadata("optimizer").unwrap_or_default();
        if of != method.name() {
            let what = format!("moments of {of:?}, expected those of {:?}", method.name());
            return Err(Error::invalid(what));
        }
        let steps = metadata("steps").and_then(|s| s.parse().ok());
        let steps = steps.ok_or_else(|| Error::invalid("no count of steps in the metadata"))?;
        let mut optimizer = Optimizer { steps, ..Optimizer::new(method) };
        let mut used = 0;
        for &(name, n) in parameters {
            let state = State::load(&method, file, name, n)?;
            used += state.tensors().len();
            optimizer.states.insert(name.into(), state);
        }
        if used != file.len() {
            let what = format!("{} tensors of moments, {used} belong to parameters", file.len());
            return Err(Error::invalid(what));
        }
        Ok(optimizer)
    }
}
