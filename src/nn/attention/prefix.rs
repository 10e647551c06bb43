//! Learned keys and values before every sequence's own (Li, Liang 2021, [arXiv:2101.00190](https://arxiv.org/abs/2101.00190)).
//!
//! ```text
//!   keys of a sequence   │ prefix k (tokens, kv_heads · head_dim), not rotated │ its own, from position `tokens` on │
//! ```
//!
//! **Law.** Clause 8 with the prefix as the sequence's first tokens; its gradients are added sequence by sequence.

use crate::kernels::Cpu;
use crate::kernels::elementwise::{self, Binary};
use crate::kernels::view::{MatMut, MatRef};
use crate::nn::trained::Scope;
use crate::run::Lent;
use alloc::string::String;
use alloc::vec::Vec;

/// The prefix of one layer.
///
/// ```
/// use samebits::nn::Prefix;
/// // Two tokens of one head of one component.
/// let mut prefix = Prefix { name: "p".into(), active: true, tokens: 2, k: vec![0.1, 0.2], v: vec![0.3, 0.4] };
/// let names: Vec<_> = prefix.parameters_mut().into_iter().map(|(name, shape, _)| (name, shape)).collect();
/// assert_eq!(names.len(), 2); // k and v, (tokens, features) each: what training changes
/// assert!(names.iter().all(|(_, shape)| *shape == [2, 1]));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Prefix {
    /// What it is called.
    pub name: String,
    /// Whether it counts.
    pub active: bool,
    /// Tokens.
    pub tokens: usize,
    /// (tokens, kv_heads · head_dim)
    pub k: Vec<f32>,
    /// (tokens, kv_heads · head_dim)
    pub v: Vec<f32>,
}

/// Names of the parameters, below the prefix's own.
const NAMES: [&str; 2] = ["k", "v"];

impl Prefix {
    /// Where sequences end with the prefix before each; `ends` without it.
    pub(super) fn ends(&self, ends: &[usize]) -> Vec<usize> {
        ends.iter().enumerate().map(|(sequence, end)| end + sequence * self.tokens).collect()
    }

    /// Keys and values of sequences that end at `ends`, each behind the prefix.
    pub(super) fn before(&self, [k, v]: [&[f32]; 2], ends: &[usize]) -> [Vec<f32>; 2] {
        let width = self.width();
        [(&self.k, k), (&self.v, v)].map(|(prefix, own)| {
            let sequences = ends.windows(2).map(|w| &own[w[0] * width..w[1] * width]);
            sequences.flat_map(|own| prefix.iter().chain(own)).copied().collect()
        })
    }

    /// From the gradients of what [`Prefix::before`] gave to those of the sequences' own, where they lie; the prefix's
    /// are added, as far as it is trained.
    pub(super) fn backward(
        &self,
        cpu: Cpu,
        [dk, dv]: [&mut Lent<'_>; 2],
        ends: &[usize],
        to: &mut Scope<'_>,
    ) {
        let (with, width) = (self.ends(ends), self.width());
        for (d, name) in [dk, dv].into_iter().zip(NAMES) {
            for w in with.windows(2) {
                if let Some(sum) = to.add(name) {
                    let (n, part) = (sum.len(), &d[w[0] * width..][..self.tokens * width]);
                    let part = MatRef::new(part, 1, n);
                    elementwise::binary_in_place(cpu, Binary::Add, MatMut::new(sum, 1, n), part);
                }
            }
            for (own, w) in ends.windows(2).zip(with.windows(2)) {
                d.copy_within((w[0] + self.tokens) * width..w[1] * width, own[0] * width);
            }
            d.truncate(ends.last().map_or(0, |end| end * width));
        }
    }

    /// Its parameters: name, shape (tokens, features), values.
    pub fn parameters_mut(&mut self) -> Vec<(String, [usize; 2], &mut [f32])> {
        let shape = [self.tokens, self.width()];
        [&mut self.k, &mut self.v]
            .into_iter()
            .zip(NAMES)
            .map(|(x, name)| (name.into(), shape, &mut x[..]))
            .collect()
    }

    fn width(&self) -> usize {
        self.k.len() / self.tokens.max(1)
    }
}
