//! The table of cosines and sines of a model, grown as positions are needed.

use super::config::RopeConfig;
use crate::kernels::rope::{self, Pairing, Rope, Table};
use alloc::vec;
use alloc::vec::Vec;

/// Frequencies, and their table as far as it was needed.
#[derive(Clone, Debug)]
pub(super) struct Rotary {
    pairing: Pairing,
    frequencies: Vec<f64>,
    scale: f64,
}

/// Rows of the table up to some position.
#[derive(Clone, Debug, Default)]
pub(super) struct RotaryTable {
    cos: Vec<f32>,
    sin: Vec<f32>,
}

/// Positions are added to a table so many at a time.
const STEP: usize = 256;

impl Rotary {
    pub(super) fn new(config: &RopeConfig) -> Rotary {
        let mut frequencies = vec![0.0; config.rotary_dim / 2];
        rope::frequencies(config.theta, &mut frequencies);
        Rotary { pairing: config.pairing, frequencies, scale: 1.0 }
    }

    /// The rotation of rows at `positions`, all below the number of rows that the table is grown to.
    pub(super) fn rope<'a>(&'a self, table: &'a mut RotaryTable, positions: &'a [u32]) -> Rope<'a> {
        let need = positions.iter().max().map_or(0, |&p| p as usize + 1);
        table.grow(self, need);
        let table = Table { cos: &table.cos, sin: &table.sin, pairs: self.frequencies.len() };
        Rope { table, pairing: self.pairing, positions }
    }
}

impl RotaryTable {
    fn grow(&mut self, rotary: &Rotary, positions: usize) {
        let pairs = rotary.frequencies.len();
        let have = self.cos.len() / pairs.max(1);
        if pairs == 0 || positions <= have {
            return;
        }
        let rows = positions.next_multiple_of(STEP);
        self.cos.resize(rows * pairs, 0.0);
        self.sin.resize(rows * pairs, 0.0);
        let (cos, sin) = (&mut self.cos[have * pairs..], &mut self.sin[have * pairs..]);
        rope::fill_table(have, &rotary.frequencies, rotary.scale, cos, sin);
    }
}
