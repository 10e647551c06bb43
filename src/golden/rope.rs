//! Rotary embedding: the table, and both pairings, whole and partial.

use super::{Golden, Hash, Random};
use crate::Cpu;
use crate::kernels::rope::{self, Pairing, Rope, Table};
use crate::kernels::view::HeadsMut;

pub const CASES: &[Golden] = &[
    Golden { name: "rope/half", hash: 0x3a70bf82c5634c5c, run: |cpu| rotate(cpu, Pairing::Half, 32) },
    Golden {
        name: "rope/half, partial",
        hash: 0x68ce56dff66d09de,
        run: |cpu| rotate(cpu, Pairing::Half, 13),
    },
    Golden {
        name: "rope/interleaved",
        hash: 0x6011675e1203ec4f,
        run: |cpu| rotate(cpu, Pairing::Interleaved, 32),
    },
    Golden {
        name: "rope/interleaved, partial",
        hash: 0x63395b0491aa085b,
        run: |cpu| rotate(cpu, Pairing::Interleaved, 13),
    },
];

/// Seven tokens around position 1,000,000, three heads of 64 dimensions, of which 2 × `pairs` turn.
fn rotate(cpu: Cpu, pairing: Pairing, pairs: usize) -> u64 {
    let mut frequencies = vec![0.0; pairs];
    rope::frequencies(10_000.0, &mut frequencies);
    let (mut cos, mut sin) = (vec![0.0; 9 * pairs], vec![0.0; 9 * pairs]);
    rope::fill_table(1_000_000, &frequencies, 1.0, &mut cos, &mut sin);
    let mut x = Random::new(5).normal(7 * 3 * 64);
    let table = Table { cos: &cos, sin: &sin, pairs };
    let rope = Rope { table, pairing, positions: &[0, 8, 1, 2, 2, 7, 5] };
    rope::in_place(cpu, &rope, HeadsMut::by_token(&mut x, 7, 3, 64));
    Hash::default().floats(&cos).floats(&sin).floats(&x).0
}
