//! NF4: codes, absmax and decoded values against plain loops, against bitsandbytes, and against the bound.

mod common;

use common::{Cpu, Random, assert_same, cpus, simd_cpus, slow};
use samebits::kernels::Line;
use samebits::kernels::half::{bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16};
use samebits::kernels::nf4::{self, DYNAMIC_MAP, LEVELS, NotFinite, THRESHOLDS, block_count, code_bytes};

// ---- the twin: the format in plain loops

/// 2^e, also where it is subnormal.
fn two_to(e: i32) -> f32 {
    2.0f64.powi(e) as f32
}

fn code_of(q: f32) -> u8 {
    THRESHOLDS.iter().filter(|&&t| q > t).count() as u8
}

/// Codes (one a byte) and absmax.
fn quantize_plain(x: &[f32], blocksize: usize) -> (Vec<u8>, Vec<f32>) {
    let mut codes = Vec::new();
    let mut absmax = Vec::new();
    for block in x.chunks(blocksize) {
        let a = block.iter().fold(0.0f32, |m, x| m.max(x.abs()));
        let up = if a <= two_to(-128) { two_to(100) } else { 1.0 };
        let r = if a == 0.0 { 0.0 } else { 1.0 / (a * up) };
        codes.extend(block.iter().map(|x| code_of(x * up * r)));
        absmax.push(a);
    }
    (codes, absmax)
}

fn two_a_byte(codes: &[u8]) -> Vec<u8> {
    codes.chunks(2).map(|c| c[0] << 4 | c.get(1).copied().unwrap_or(7)).collect()
}

fn dequantize_plain(codes: &[u8], absmax: &[f32], blocksize: usize, len: usize) -> Vec<f32> {
    let code = |i: usize| codes[i / 2] >> (4 * (1 - i % 2)) & 15;
    (0..len).map(|i| LEVELS[code(i) as usize] * absmax[i / blocksize]).collect()
}

// ---- the kernels, with memory

fn quantize(cpu: Cpu, x: &[f32], blocksize: usize) -> Result<(Vec<u8>, Vec<f32>), NotFinite> {
    let mut codes = vec![0; code_bytes(x.len())];
    let mut absmax = vec![0.0; block_count(x.len(), blocksize)];
    nf4::quantize(cpu, x, blocksize, &mut codes, &mut absmax)?;
    Ok((codes, absmax))
}

fn dequantize(cpu: Cpu, codes: &[u8], absmax: &[f32], blocksize: usize, len: usize) -> Vec<f32> {
    let mut out = vec![f32::NAN; len];
    nf4::dequantize(cpu, codes, absmax, blocksize, &mut out);
    out
}

#[track_caller]
fn check(cpu: Cpu, x: &[f32], blocksize: usize) {
    let what = format!("{} elements in blocks of {blocksize} on {}", x.len(), cpu.tier());
    let (codes, absmax) = quantize(cpu, x, blocksize).unwrap();
    let (plain, plain_absmax) = quantize_plain(x, blocksize);
    assert_eq!(codes, two_a_byte(&plain), "{what}");
    assert_same(&absmax, &plain_absmax, &what);
    let decoded = dequantize(cpu, &codes, &absmax, blocksize, x.len());
    assert_same(&decoded, &dequantize_plain(&codes, &absmax, blocksize, x.len()), &what);
}

#[test]
fn every_length_in_blocks_of_any_size() {
    let x = Random::new(1).normal(1200);
    for cpu in cpus() {
        for blocksize in [1, 2, 3, 16, 32, 64, 100, 128, 4096, usize::MAX] {
            let step = if slow() { 37 } else { 1 };
            for len in (0..=67).chain((68..=513).step_by(step)) {
                check(cpu, &x[..len], blocksize);
            }
        }
        // Several spans, of an odd number of odd blocks.
        check(cpu, &Random::new(2).normal(5000), 333);
        check(cpu, &Random::new(3).normal(4099), 1500);
    }
}

#[test]
fn half_floats_are_widened_and_rounded() {
    let x = Random::new(4).normal(205);
    let f16: Vec<u16> = x.iter().map(|&x| f32_to_f16(x)).collect();
    let bf16: Vec<u16> = x.iter().map(|&x| f32_to_bf16(x)).collect();
    for cpu in cpus() {
        for blocksize in [7, 64] {
            for (bits, wide) in [
                (&f16, f16.iter().map(|&h| f16_to_f32(h)).collect::<Vec<_>>()),
                (&bf16, bf16.iter().map(|&h| bf16_to_f32(h)).collect()),
            ] {
                let (codes, absmax) = quantize(cpu, &wide, blocksize).unwrap();
                let (mut got, mut got_absmax) = (vec![0; codes.len()], vec![0.0; absmax.len()]);
                let run = if std::ptr::eq(bits, &f16) { nf4::quantize_f16 } else { nf4::quantize_bf16 };
                run(cpu, bits, blocksize, &mut got, &mut got_absmax).unwrap();
                assert_eq!(got, codes);
                assert_same(&got_absmax, &absmax, cpu.tier());
                let wide = dequantize(cpu, &codes, &absmax, blocksize, x.len());
                let mut narrow = vec![0; x.len()];
                nf4::dequantize_f16(cpu, &codes, &absmax, blocksize, &mut narrow);
                assert_eq!(narrow, wide.iter().map(|&x| f32_to_f16(x)).collect::<Vec<_>>());
                nf4::dequantize_bf16(cpu, &codes, &absmax, blocksize, &mut narrow);
                assert_eq!(narrow, wide.iter().map(|&x| f32_to_bf16(x)).collect::<Vec<_>>());
            }
        }
    }
}

#[test]
fn large_outputs_have_the_same_bits_wherever_they_lie() {
    // Past 16 MiB whole lines are written past the caches where they are aligned; 45 elements are left over.
    let n = (1 << 22) + 45;
    let codes: Vec<u8> = (0..code_bytes(n)).map(|i| (i * 40503 >> 7) as u8).collect();
    let absmax = Random::new(10).normal(block_count(n, 100));
    let want = dequantize_plain(&codes, &absmax, 100, n);
    let mut room = vec![Line::ZERO; n / 16 + 2];
    for cpu in simd_cpus() {
        for offset in [0, 3] {
            let out = &mut Line::floats_mut(&mut room)[offset..][..n];
            out.fill(f32::NAN);
            nf4::dequantize(cpu, &codes, &absmax, 100, out);
            assert_same(out, &want, format!("{offset} floats from a line on {}", cpu.tier()));
        }
    }
}

#[test]
fn absmax_from_a_file_may_be_anything() {
    // Decoding follows IEEE 754 also where a file holds an infinity, a NaN or a negative absmax.
    let absmax = [f32::INFINITY, f32::NAN, -2.0, 1e-45, f32::MAX];
    let codes: Vec<u8> = (0..40).map(|i| (i * 37 % 256) as u8).collect();
    for cpu in cpus() {
        let want = dequantize_plain(&codes, &absmax, 16, 80);
        assert_same(&dequantize(cpu, &codes, &absmax, 16, 80), &want, cpu.tier());
        let mut bf16 = vec![0; 80];
        nf4::dequantize_bf16(cpu, &codes, &absmax, 16, &mut bf16);
        let got: Vec<f32> = bf16.iter().map(|&b| bf16_to_f32(b)).collect();
        let want: Vec<f32> = want.iter().map(|&w| bf16_to_f32(f32_to_bf16(w))).collect();
        assert_same(&got, &want, cpu.tier());
    }
}

// ---- special values

#[test]
fn zeros_have_code_7_and_absmax_0() {
    for cpu in cpus() {
        for len in [1, 64, 65, 129] {
            for zero in [0.0, -0.0] {
                let (codes, absmax) = quantize(cpu, &vec![zero; len], 64).unwrap();
                assert!(codes.iter().all(|&c| c == 0x77), "{codes:x?} on {}", cpu.tier());
                assert_same(&absmax, &vec![0.0; absmax.len()], "absmax");
                assert_same(&dequantize(cpu, &codes, &absmax, 64, len), &vec![0.0; len], "decoded");
            }
        }
    }
}

#[test]
fn subnormal_blocks_keep_their_shape() {
    let shape: Vec<f32> = (0..64).map(|i| (i - 31) as f32 / 32.0).collect();
    let codes_at = |cpu, scale: f32| {
        let x: Vec<f32> = shape.iter().map(|x| x * scale).collect();
        check(cpu, &x, 64);
        check(cpu, &x, 5);
        quantize(cpu, &x, 64).unwrap().0
    };
    for cpu in cpus() {
        let want = codes_at(cpu, 1.0);
        // 2⁻¹²⁶ … 2⁻¹⁴⁴: all of them subnormal in part; the reciprocal overflows from 2⁻¹²⁸ on.
        for e in [-120, -126, -127, -128, -129, -133, -140, -144] {
            assert_eq!(codes_at(cpu, two_to(e)), want, "2^{e} on {}", cpu.tier());
        }
        let (codes, absmax) = quantize(cpu, &[-1e-40, 1e-45, 5e-41], 3).unwrap();
        assert_eq!(codes[0] >> 4, 0);
        assert_eq!(dequantize(cpu, &codes, &absmax, 3, 3)[0], -1e-40, "the extreme of a subnormal block");
        // The largest numbers: a reciprocal that is subnormal itself.
        check(cpu, &[f32::MAX, -f32::MAX, 1e38, -3e37, 1.0], 5);
    }
}

#[test]
fn nan_and_infinity_are_errors_that_name_the_element() {
    let x = Random::new(5).normal(2100);
    for cpu in cpus() {
        let step = if slow() { 19 } else { 1 };
        for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in (0..=70).step_by(step).chain([1023, 1024, 1500, 2099]) {
                for blocksize in [1, 64, 100] {
                    let mut x = x.clone();
                    x[at] = bad;
                    // A later one in the same block does not hide it.
                    x[2099.min(at + 2)] = f32::NAN;
                    assert_eq!(quantize(cpu, &x, blocksize), Err(NotFinite { index: at }), "{bad} at {at}");
                }
            }
        }
        let mut half = vec![0x3c00u16; 50];
        half[33] = 0x7c00;
        let got = nf4::quantize_f16(cpu, &half, 64, &mut [0; 25], &mut [0.0]);
        assert_eq!(got.unwrap_err().to_string(), "element 33 is NaN or infinite: no code stands for it");
    }
}

#[test]
#[should_panic(expected = "5 elements in blocks of 2 need 3 bytes and 3 absmax, not 2 and 3")]
fn wrong_lengths_are_refused_at_the_door() {
    let _ = nf4::quantize(Cpu::detect(), &[0.0; 5], 2, &mut [0; 2], &mut [0.0; 3]);
}

#[test]
#[should_panic(expected = "blocksize is 0")]
fn blocksize_0_is_refused_at_the_door() {
    nf4::dequantize(Cpu::detect(), &[], &[], 0, &mut []);
}

// ---- truth

/// Codes of values that are scaled already: each block of 64 holds a 1 besides.
fn codes_of(cpu: Cpu, q: impl Iterator<Item = f32>, mut seen: impl FnMut(f32, u8)) {
    let mut x = Vec::with_capacity(1 << 16);
    let mut q = q.peekable();
    while q.peek().is_some() {
        x.clear();
        while x.len() < 1 << 16 && q.peek().is_some() {
            x.push(1.0);
            x.extend(q.by_ref().take(63));
        }
        let (codes, _) = quantize(cpu, &x, 64).unwrap();
        for (i, &x) in x.iter().enumerate().filter(|(i, _)| i % 64 != 0) {
            seen(x, codes[i / 2] >> (4 * (1 - i % 2)) & 15);
        }
    }
}

/// Every f32 in [−1, 1] whose bits are `stride` apart, from the thresholds in both directions besides.
fn codes_equal_the_thresholds(stride: usize) {
    let one = 1.0f32.to_bits();
    let positive = (0..=one).step_by(stride);
    let near = THRESHOLDS.map(|t| t.abs().to_bits()).into_iter().flat_map(|t| t - 3..=t + 3);
    for cpu in simd_cpus() {
        let mut count = 0u64;
        let all = positive.clone().chain(near.clone()).flat_map(|b| [b, b | 1 << 31]).map(f32::from_bits);
        codes_of(cpu, all, |q, code| {
            count += 1;
            let nearest = THRESHOLDS.partition_point(|&t| t < q);
            assert!(usize::from(code) == nearest, "{q:e}: code {code}, want {nearest} on {}", cpu.tier());
        });
        assert!(count > 2 * u64::from(one) / stride as u64, "{count}");
    }
}

#[test]
fn codes_equal_the_thresholds_over_a_stride() {
    codes_equal_the_thresholds(if slow() { 99_991 } else { 997 });
}

#[test]
#[ignore = "two minutes in release: all 2,130,706,434 floats of [-1, 1]"]
fn codes_equal_the_thresholds_everywhere() {
    codes_equal_the_thresholds(1);
}

#[test]
fn error_of_normal_weights() {
    // facts of the format: N(0, 1) in blocks of 64 has mean |error| 0.0729 and 20.7 dB; ±2 %.
    let n = if slow() { 1 << 16 } else { 1 << 20 };
    let mut r = Random::new(6);
    let mut unit = || (r.bits() >> 11) as f64 / (1u64 << 53) as f64;
    let x: Vec<f32> = (0..n)
        .map(|_| ((-2.0 * (1.0 - unit()).ln()).sqrt() * (std::f64::consts::TAU * unit()).cos()) as f32)
        .collect();
    let cpu = Cpu::detect();
    for (blocksize, expected) in [(64, 0.0729), (128, 0.0768), (4096, 0.0925)] {
        let (codes, absmax) = quantize(cpu, &x, blocksize).unwrap();
        let y = dequantize(cpu, &codes, &absmax, blocksize, n);
        let error = |i: usize| f64::from(x[i]) - f64::from(y[i]);
        let mean = (0..n).map(|i| error(i).abs()).sum::<f64>() / n as f64;
        assert!((mean / expected - 1.0).abs() < 0.02, "blocks of {blocksize}: {mean}");
        for i in 0..n {
            assert!(error(i).abs() <= 0.15191 * f64::from(absmax[i / blocksize]), "{} → {}", x[i], y[i]);
        }
        if blocksize == 64 {
            let signal: f64 = x.iter().map(|&x| f64::from(x).powi(2)).sum();
            let noise: f64 = (0..n).map(|i| error(i).powi(2)).sum();
            let db = 10.0 * (signal / noise).log10();
            assert!((db - 20.7).abs() < 0.1, "{db} dB");
        }
    }
}

// ---- nested statistics

#[test]
fn nested_codes_are_the_nearest() {
    let absmax: Vec<f32> = Random::new(7).normal(700).iter().map(|x| x.abs() + 1.0).collect();
    for cpu in cpus() {
        for n in [0, 1, 2, 15, 16, 17, 255, 256, 257, 700] {
            let absmax = &absmax[..n];
            let (mut codes, mut absmax2) = (vec![0; n], vec![0.0; block_count(n, 256)]);
            let offset = nf4::quantize_absmax(cpu, absmax, &mut codes, &mut absmax2).unwrap();
            let mean = absmax.iter().map(|&a| f64::from(a)).sum::<f64>() / n.max(1) as f64;
            assert_eq!(offset, mean as f32);
            let mut decoded = vec![0.0; n];
            nf4::dequantize_absmax(cpu, &codes, &absmax2, offset, &mut decoded);
            for (b, absmax) in absmax.chunks(256).enumerate() {
                let a2 = absmax.iter().fold(0.0f32, |m, a| m.max((a - offset).abs()));
                assert_eq!(absmax2[b], a2);
                for (i, a) in absmax.iter().enumerate() {
                    let i = 256 * b + i;
                    let q = if a2 == 0.0 { 0.0 } else { (a - offset) * (1.0 / a2) };
                    let best = DYNAMIC_MAP.iter().map(|m| (m - q).abs()).fold(f32::MAX, f32::min);
                    let chosen = DYNAMIC_MAP[codes[i] as usize];
                    assert!((chosen - q).abs() <= best, "{q} → {chosen}, {best} away");
                    assert_eq!(decoded[i], chosen * a2 + offset);
                }
            }
        }
        let bad = nf4::quantize_absmax(cpu, &[1.0, f32::NAN, 2.0], &mut [0; 3], &mut [0.0]);
        assert!(bad.is_err());
    }
}

// ---- bitsandbytes

/// `case.field` of the committed file, as bits.
fn bitsandbytes(name: &str) -> Vec<u32> {
    let text = include_str!("data/nf4_bitsandbytes.txt");
    let line = text.lines().find(|l| l.split(' ').next() == Some(name)).expect(name);
    line.split(' ').skip(1).map(|w| u32::from_str_radix(w, 16).unwrap()).collect()
}

fn floats(name: &str) -> Vec<f32> {
    bitsandbytes(name).into_iter().map(f32::from_bits).collect()
}

#[test]
fn tables_are_those_of_bitsandbytes() {
    assert_same(&*LEVELS, &floats("table.levels"), "levels");
    assert_same(&DYNAMIC_MAP, &floats("table.map"), "dynamic map");
}

#[test]
fn codes_and_values_are_those_of_bitsandbytes() {
    let bytes = |name: &str| bitsandbytes(name).iter().map(|&b| b as u8).collect::<Vec<_>>();
    let halves = |name: &str| bitsandbytes(name).iter().map(|&b| b as u16).collect::<Vec<_>>();
    for cpu in cpus() {
        for case in ["whole", "ragged", "odd", "long", "zeros", "scales", "f16", "bf16"] {
            let [x, blocksize, codes, absmax, decoded] =
                ["x", "blocksize", "codes", "absmax", "decoded"].map(|f| format!("{case}.{f}"));
            let (blocksize, absmax) = (bitsandbytes(&blocksize)[0] as usize, floats(&absmax));
            let n = bitsandbytes(&x).len();
            let (mut got, mut got_absmax) = (vec![0; code_bytes(n)], vec![0.0; absmax.len()]);
            let mut back = vec![0; n];
            match case {
                "f16" => {
                    nf4::quantize_f16(cpu, &halves(&x), blocksize, &mut got, &mut got_absmax).unwrap();
                    nf4::dequantize_f16(cpu, &got, &got_absmax, blocksize, &mut back);
                    assert_eq!(back, halves(&decoded), "{case}");
                }
                "bf16" => {
                    nf4::quantize_bf16(cpu, &halves(&x), blocksize, &mut got, &mut got_absmax).unwrap();
                    nf4::dequantize_bf16(cpu, &got, &got_absmax, blocksize, &mut back);
                    assert_eq!(back, halves(&decoded), "{case}");
                }
                _ => {
                    nf4::quantize(cpu, &floats(&x), blocksize, &mut got, &mut got_absmax).unwrap();
                    let back = dequantize(cpu, &got, &got_absmax, blocksize, n);
                    assert_same(&back, &floats(&decoded), case);
                }
            }
            assert_eq!(got, bytes(&codes), "{case} on {}", cpu.tier());
            assert_same(&got_absmax, &absmax, case);
        }
    }
}

#[test]
fn nested_statistics_are_those_of_bitsandbytes() {
    let (absmax, offset) = (floats("nested.absmax"), floats("nested.offset")[0]);
    let codes: Vec<u8> = bitsandbytes("nested.codes").iter().map(|&b| b as u8).collect();
    for cpu in cpus() {
        let mut decoded = vec![0.0; absmax.len()];
        nf4::dequantize_absmax(cpu, &codes, &floats("nested.absmax2"), offset, &mut decoded);
        assert_same(&decoded, &floats("nested.decoded"), "decoded absmax");
        let (mut got, mut absmax2) = (vec![0; codes.len()], vec![0.0; block_count(codes.len(), 256)]);
        let mean = nf4::quantize_absmax(cpu, &absmax, &mut got, &mut absmax2).unwrap();
        // torch sums in f32 in its own order; its codes come from a table of bins: a few are a step away.
        assert!((mean - offset).abs() <= 2.0 * f32::EPSILON * offset, "{mean} {offset}");
        let far = got.iter().zip(&codes).filter(|(g, c)| g != c).count();
        assert!(far * 50 < codes.len(), "{far} codes differ");
        assert!(got.iter().zip(&codes).all(|(g, c)| g.abs_diff(*c) <= 1));
    }
}
