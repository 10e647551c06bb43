//! The choice of tokens: what chance, exp and ln decide.

use super::{Golden, Hash, Random};
use crate::Cpu;
use crate::model::sampling::{Candidates, Draw, Penalties, Sampler, Settings, Stage};

pub const CASES: &[Golden] = &[
    Golden {
        name: "sampling/default",
        hash: 0xe21f2961531a2564,
        run: |cpu| text(cpu, Settings::default().stages()),
    },
    Golden { name: "sampling/every stage", hash: 0x73ecaf1bb3c7dc8e, run: |cpu| text(cpu, every_stage()) },
    Golden {
        name: "sampling/nothing cut",
        hash: 0x90bb5200eb530ebc,
        run: |cpu| text(cpu, vec![Stage::Temperature(1.5)]),
    },
];

fn every_stage() -> Vec<Stage> {
    let penalties = Penalties { last_n: 8, repeat: 1.2, frequency: 0.1, presence: 0.3 };
    vec![
        Stage::LogitBias(vec![(3, 1.5), (4, f32::NEG_INFINITY)]),
        Stage::Penalties(penalties),
        Stage::Temperature(2.0),
        Stage::TopK(90),
        Stage::Typical(0.9),
        Stage::TopP(0.8),
        Stage::MinP(0.1),
    ]
}

/// 40 tokens of a vocabulary of 100, each drawn after those before, with their probabilities.
fn text(cpu: Cpu, stages: Vec<Stage>) -> u64 {
    let Ok(sampler) = Sampler::of_stages(stages, 2_026) else { return 0 };
    let (mut random, mut memory, mut tokens) = (Random::new(9), Candidates::new(), Vec::new());
    let mut hash = Hash::default();
    for position in 0..40 {
        let logits = random.normal(100);
        let draw = Draw { logits: &logits, context: &tokens, position };
        let Ok((_, probabilities)) = sampler.distribution(cpu, &draw, &mut memory) else { return 0 };
        hash = hash.floats(probabilities);
        let Ok(token) = sampler.sample(cpu, &draw, &mut memory) else { return 0 };
        hash = hash.bytes(&token.to_le_bytes());
        tokens.push(token);
    }
    hash.0
}
