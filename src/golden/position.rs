//! Positions: tables of cos and sin by each scaling's formula, sinusoids.

use super::{Golden, Hash, hash};
use crate::kernels::rope::Pairing;
use crate::nn::rotary::{Llama3, LongRope, RopeScaling, RotaryConfig, RotaryEmbedding, RotaryTable, Yarn};
use crate::nn::sinusoidal_positional_encoding;

pub const CASES: &[Golden] = &[
    Golden {
        name: "positions/sinusoidal, odd width",
        hash: 0xdf87b79dff42bc3d,
        run: |_| hash(&sinusoidal_positional_encoding(&POSITIONS, 33)),
    },
    Golden {
        name: "positions/linear",
        hash: 0xd351bbe43f28c974,
        run: |_| table(RopeScaling::Linear { factor: 3.0 }),
    },
    Golden {
        name: "positions/dynamic NTK",
        hash: 0x24eaecb7646fb1f7,
        run: |_| table(RopeScaling::DynamicNtk { factor: 2.0, max_positions: 64 }),
    },
    Golden {
        name: "positions/YaRN",
        hash: 0x2f388a0914ef8113,
        run: |_| table(RopeScaling::Yarn(Yarn::new(40.0, 4_096))),
    },
    Golden {
        name: "positions/LongRoPE",
        hash: 0x4daec72b744ba6df,
        run: |_| table(RopeScaling::LongRope(long_rope())),
    },
    Golden {
        name: "positions/Llama 3",
        hash: 0xdf0e401001469cf2,
        run: |_| table(RopeScaling::Llama3(LLAMA3)),
    },
];

const POSITIONS: [u32; 5] = [0, 1, 17, 4_095, 131_071];
const LLAMA3: Llama3 =
    Llama3 { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_max_positions: 8_192 };

fn long_rope() -> LongRope {
    LongRope {
        short_factor: vec![1.0; 32],
        long_factor: (1..=32).map(f64::from).collect(),
        original_max_positions: 4_096,
        factor: 32.0,
        attention_factor: None,
    }
}

/// cos and sin of 32 pairs, for a length of 5,000.
fn table(scaling: RopeScaling) -> u64 {
    let config = RotaryConfig { scaling, ..RotaryConfig::new(64, 500_000.0, Pairing::Half) };
    let Ok(rotary) = RotaryEmbedding::new(&config, 5_000) else { return 0 };
    let mut table = RotaryTable::new();
    table.fill(&rotary, &POSITIONS);
    Hash::default().floats(table.rows().cos).floats(table.rows().sin).0
}
