//! What training keeps in memory, by what it is for.

use super::Trainer;
use crate::run::Run;

/// Bytes between two steps, measured: the capacities of the buffers themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Of the model, as they are stored, packing included.
    pub weights: usize,
    /// Of adapters: their parameters.
    pub adapters: usize,
    /// Of what is trained.
    pub gradients: usize,
    /// Of the optimizer.
    pub moments: usize,
    /// What blocks keep from the way forward for the way back.
    pub activations: usize,
    /// What layers compute in: gradients of rows, logits of a chunk.
    pub room: usize,
}

impl Memory {
    /// Each with its name.
    pub const fn parts(&self) -> [(&'static str, usize); 6] {
        [
            ("weights", self.weights),
            ("adapters", self.adapters),
            ("gradients", self.gradients),
            ("moments", self.moments),
            ("activations", self.activations),
            ("room", self.room),
        ]
    }

    /// All of it: the process has its code, threads' scratch and data besides.
    pub fn total(&self) -> usize {
        self.parts().iter().map(|(_, bytes)| bytes).sum()
    }
}

impl Trainer {
    /// What is in memory now; the room that `run` lent so far is part of it.
    pub fn memory(&mut self, run: &Run<'_>) -> Memory {
        Memory {
            weights: self.model.bytes(),
            adapters: self.model.adapter_bytes(),
            gradients: 4 * self.gradients.elements(),
            moments: self.optimizer.bytes(),
            activations: self.tape.bytes(),
            room: run.room_bytes(),
        }
    }
}
