//! NF4 panels: to panels and back, byte for byte.

mod common;

use common::{Cpu, Random};
use samebits::kernels::Line;
use samebits::kernels::nf4::{self, CodeLine, PackedNf4, RowNf4, block_count, code_bytes};

fn weight(n: usize, k: usize, blocksize: usize) -> (Vec<u8>, Vec<f32>) {
    let x = Random::new((n * 1000 + k) as u64).normal(n * k);
    let (mut codes, mut absmax) = (vec![0; code_bytes(n * k)], vec![0.0; block_count(n * k, blocksize)]);
    nf4::quantize(Cpu::detect(), &x, blocksize, &mut codes, &mut absmax).unwrap();
    (codes, absmax)
}

#[test]
fn panels_hold_what_the_layout_says_and_give_the_same_bytes_back() {
    let shapes =
        [(16, 64), (1, 1), (1, 8), (17, 8), (3, 5), (33, 72), (15, 100), (32, 256), (5, 24), (40, 13)];
    for (n, k) in shapes {
        for blocksize in [1, 2, 3, 8, 24, 32, 64, 100, 128, 4096] {
            let (codes, absmax) = weight(n, k, blocksize);
            let rows = RowNf4::new(n, k, blocksize, &codes, &absmax);
            let mut lines = vec![CodeLine::ZERO; PackedNf4::code_lines(n, k)];
            let mut scales = vec![Line([f32::NAN; 16]); PackedNf4::scale_lines(n, k, blocksize)];
            PackedNf4::pack(rows, &mut lines, &mut scales);

            let (groups, steps) = (k.div_ceil(8), scales.len() / n.div_ceil(16));
            let step = k.div_ceil(steps);
            for j in 0..n.next_multiple_of(16) {
                for at in 0..groups * 8 {
                    let word = lines[j / 16 * groups + at / 8].0[j % 16] as u32;
                    let got = word >> (4 * (at % 8)) & 15;
                    let i = j * k + at;
                    if j < n && at < k {
                        let want = codes[i / 2] >> (4 * (1 - i % 2)) & 15;
                        assert_eq!(got, u32::from(want), "({n}, {k}) code ({j}, {at})");
                        let scale = scales[j / 16 * steps + at / step][j % 16];
                        assert_eq!(scale, absmax[i / blocksize], "({n}, {k}) scale ({j}, {at})");
                    } else {
                        assert_eq!(got, 7, "({n}, {k}) padding ({j}, {at})");
                    }
                }
            }

            let packed = PackedNf4::new(n, k, blocksize, &lines, &scales);
            let (mut codes2, mut absmax2) = (vec![0; codes.len()], vec![f32::NAN; absmax.len()]);
            packed.unpack(blocksize, &mut codes2, &mut absmax2);
            assert_eq!(codes2, codes, "({n}, {k}) in blocks of {blocksize}");
            assert_eq!(absmax2, absmax, "({n}, {k}) in blocks of {blocksize}");
        }
    }
}

#[test]
fn steps_are_as_long_as_blocks_allow() {
    // one scale line a block; a block of two rows; k and blocks with a common divisor; none
    for (k, blocksize, lines) in [(128, 64, 2), (64, 128, 1), (384, 256, 3), (100, 64, 100), (64, 20, 64)] {
        assert_eq!(PackedNf4::scale_lines(16, k, blocksize), lines, "k = {k}, blocks of {blocksize}");
    }
}

#[test]
#[should_panic(expected = "(16, 64) in blocks of 64 packs to 8 code and 1 scale lines, not 8 and 2")]
fn wrong_lengths_are_refused_at_the_door() {
    PackedNf4::new(16, 64, 64, &[CodeLine::ZERO; 8], &[Line::ZERO; 2]);
}
