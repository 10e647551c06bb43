//! NF4's quotient is x · (1 / absmax), as bitsandbytes computes it, each step rounded; x / absmax, rounded once, may
//! lie on the other side of a threshold.

mod common;

use common::{Random, cpus};
use samebits::kernels::nf4::{self, THRESHOLDS, block_count, code_bytes};

fn code_of(q: f32) -> u8 {
    THRESHOLDS.iter().filter(|&&t| q > t).count() as u8
}

/// (absmax, x) whose code tells the two apart: x within three steps of a threshold times absmax.
fn pairs(n: usize) -> Vec<(f32, f32)> {
    let (mut random, mut pairs) = (Random::new(17), Vec::new());
    while pairs.len() < n {
        let absmax = 2.0 + random.unit();
        let near = THRESHOLDS[random.below(THRESHOLDS.len())] * absmax;
        let beside = (-3..=3).map(|step| f32::from_bits(near.to_bits().wrapping_add_signed(step)));
        let telling = beside.filter(|x| code_of(x * (1.0 / absmax)) != code_of(x / absmax));
        pairs.extend(telling.map(|x| (absmax, x)));
    }
    pairs
}

#[test]
fn the_reciprocal_is_rounded_first() {
    let pairs = pairs(1000);
    for blocksize in [2, 16, 64] {
        let blocks = pairs.iter().flat_map(|&(absmax, x)| {
            (0..blocksize).map(move |i| {
                if i == 0 {
                    absmax
                } else if i == 1 {
                    x
                } else {
                    0.0
                }
            })
        });
        let x: Vec<f32> = blocks.collect();
        let mut codes = vec![0; code_bytes(x.len())];
        let mut absmax = vec![0.0; block_count(x.len(), blocksize)];
        for cpu in cpus() {
            nf4::quantize(cpu, &x, blocksize, &mut codes, &mut absmax).expect("finite");
            for ((absmax, x), codes) in pairs.iter().zip(codes.chunks(blocksize / 2)) {
                let want = code_of(x * (1.0 / absmax));
                assert_eq!(codes[0], 15 << 4 | want, "{x} of {absmax} by {blocksize} on {}", cpu.tier());
            }
        }
    }
}
