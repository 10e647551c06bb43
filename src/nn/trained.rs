//! Gradients by the names of the parameters, and which parameters have one.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

/// The gradients of those parameters that are trained, in the order of their names.
///
/// A layer's backward pass adds to what is here and computes no gradient of any other parameter. Names are those of
/// the fields, joined by dots: `blocks.0.attention.q.weight`.
///
/// ```
/// let mut gradients = samebits::nn::Gradients::default();
/// gradients.train("q.weight", 4);
/// gradients.scope().inner("q").add("weight").unwrap()[0] += 1.0;
/// assert_eq!(gradients.get("q.weight"), Some(&[1.0, 0.0, 0.0, 0.0][..]));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Gradients {
    of: BTreeMap<String, Vec<f32>>,
}

impl Gradients {
    /// Says that the parameter `name` of `n` elements is trained; its gradient is 0.
    pub fn train(&mut self, name: &str, n: usize) {
        self.of.insert(name.to_string(), vec![0.0; n]);
    }

    /// Sets all to +0.
    pub fn clear(&mut self) {
        self.of.values_mut().for_each(|g| g.fill(0.0));
    }

    /// The gradient of one parameter.
    pub fn get(&self, name: &str) -> Option<&[f32]> {
        self.of.get(name).map(Vec::as_slice)
    }

    /// All of them, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[f32])> {
        self.of.iter().map(|(name, g)| (name.as_str(), g.as_slice()))
    }

    /// Elements of all.
    pub fn elements(&self) -> usize {
        self.of.values().map(Vec::len).sum()
    }

    /// Adds the gradient of `from` to that of `into` and takes it out: they were of one parameter.
    ///
    /// # Panics
    /// Where they have different lengths.
    pub fn fold(&mut self, from: &str, into: &str) {
        let Some(part) = self.of.remove(from) else { return };
        let Some(sum) = self.of.get_mut(into) else { return };
        assert!(sum.len() == part.len(), "{from} of {} into {into} of {}", part.len(), sum.len());
        sum.iter_mut().zip(&part).for_each(|(sum, x)| *sum += x);
    }

    /// Those of a whole model.
    pub fn scope(&mut self) -> Scope<'_> {
        Scope { all: self, path: String::new() }
    }
}

/// The gradients of one layer: those whose names begin with its own.
#[derive(Debug)]
pub struct Scope<'g> {
    all: &'g mut Gradients,
    /// Empty, or ends with a dot.
    path: String,
}

impl Scope<'_> {
    /// Those of the part `name` of this layer.
    pub fn inner(&mut self, name: &str) -> Scope<'_> {
        let path = alloc::format!("{}{name}.", self.path);
        Scope { all: &mut *self.all, path }
    }

    /// The gradient of the parameter `name`, to be added to; `None`: it is not trained.
    pub fn add(&mut self, name: &str) -> Option<&mut [f32]> {
        let name = alloc::format!("{}{name}", self.path);
        self.all.of.get_mut(&name).map(Vec::as_mut_slice)
    }

    /// Whether a parameter of this layer is trained.
    pub fn any(&self) -> bool {
        let next = self.all.of.range(self.path.clone()..).next();
        next.is_some_and(|(name, _)| name.starts_with(&self.path))
    }
}

/// `n` floats of a vector that is kept; what they hold is unspecified.
pub(super) fn sized(all: &mut Vec<f32>, n: usize) -> &mut [f32] {
    if all.len() < n {
        *all = vec![0.0; n];
    }
    all.truncate(n);
    all
}
