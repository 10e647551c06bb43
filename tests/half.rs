//! Half and bfloat16: every value widened, every value narrowed.

mod common;
use common::*;
use samebits::kernels::half::*;

/// The value of a half by its definition, in `f64`.
fn half(h: u16) -> f64 {
    let (sign, exponent, fraction) =
        (if h >> 15 == 1 { -1.0 } else { 1.0 }, i32::from(h >> 10 & 31), f64::from(h & 1023));
    match exponent {
        0 => sign * fraction * f64::exp2(-24.0),
        31 if fraction == 0.0 => sign * f64::INFINITY,
        31 => f64::NAN,
        e => sign * (1.0 + fraction / 1024.0) * f64::from(e - 15).exp2(),
    }
}

#[test]
fn every_half_widens_exactly() {
    let all: Vec<u16> = (0..=u16::MAX).collect();
    for cpu in cpus() {
        let (mut f16, mut bf16) = (vec![0.0; all.len()], vec![0.0; all.len()]);
        widen_f16(cpu, &all, &mut f16);
        widen_bf16(cpu, &all, &mut bf16);
        for &h in &all {
            let (want, got) = (half(h), f16[h as usize]);
            let same = f64::from(got) == want && got.is_sign_negative() == (h >> 15 == 1)
                || got.is_nan() && want.is_nan();
            assert!(same, "{cpu:?} f16 {h:#06x}: {got:e} for {want:e}");
            assert_same(&[f16_to_f32(h)], &[got], format!("{cpu:?} f16 {h:#06x}"));
            assert_eq!(bf16[h as usize].to_bits(), u32::from(h) << 16, "{cpu:?} bf16 {h:#06x}");
            assert_eq!(bf16_to_f32(h).to_bits(), u32::from(h) << 16);
            // and back again
            assert!(f32_to_f16(got) == h || got.is_nan(), "f16 {h:#06x} there and back");
        }
    }
}

/// The nearest value, ties to even, found by looking at the neighbours in a sorted list: no bit tricks.
struct Nearest {
    /// Non-negative finite values in order, then what the exponent range would hold next.
    values: Vec<f64>,
    /// Where the last value was found: the next one is mostly there too.
    near: usize,
}

impl Nearest {
    fn f16() -> Self {
        let mut values: Vec<f64> = (0..0x7c00).map(half).collect();
        values.push(65536.0);
        Nearest { values, near: 0 }
    }
    fn bf16() -> Self {
        let mut values: Vec<f64> = (0..0x7f80u32).map(|b| f64::from(f32::from_bits(b << 16))).collect();
        values.push(128f64.exp2());
        Nearest { values, near: 0 }
    }
    /// The index of the first value that is not below `a`.
    fn first_not_below(&mut self, a: f64) -> usize {
        let here =
            |i: usize| (i == 0 || self.values[i - 1] < a) && self.values.get(i).is_none_or(|&v| v >= a);
        let found = [self.near, self.near + 1].into_iter().find(|&i| i <= self.values.len() && here(i));
        self.near = found.unwrap_or_else(|| self.values.partition_point(|&v| v < a));
        self.near
    }
    /// The bits of `x`; NaN gives `None`.
    fn bits(&mut self, x: f32) -> Option<u16> {
        if x.is_nan() {
            return None;
        }
        let sign = (x.to_bits() >> 31 << 15) as u16;
        let a = f64::from(x.abs());
        let above = self.first_not_below(a).min(self.values.len() - 1);
        if above == 0 || a >= self.values[above] {
            return Some(sign | above as u16);
        }
        let (down, up) = (a - self.values[above - 1], self.values[above] - a);
        let pick_up = up < down || up == down && above.is_multiple_of(2);
        Some(sign | if pick_up { above as u16 } else { above as u16 - 1 })
    }
}

fn narrows(cpu: Cpu, inputs: impl Iterator<Item = u32>) {
    let (mut f16, mut bf16) = (Nearest::f16(), Nearest::bf16());
    let mut inputs = inputs.map(f32::from_bits).peekable();
    let (mut a, mut b) = (vec![0; 1 << 12], vec![0; 1 << 12]);
    while inputs.peek().is_some() {
        let x: Vec<f32> = inputs.by_ref().take(1 << 12).collect();
        narrow_f16(cpu, &x, &mut a[..x.len()]);
        narrow_bf16(cpu, &x, &mut b[..x.len()]);
        for (i, &x) in x.iter().enumerate() {
            match (f16.bits(x), bf16.bits(x)) {
                (Some(h), Some(b16)) => {
                    assert_eq!((a[i], b[i]), (h, b16), "{cpu:?} {x:e} ({:#010x})", x.to_bits());
                    assert_eq!((f32_to_f16(x), f32_to_bf16(x)), (h, b16), "scalar, {x:e}");
                }
                _ => {
                    assert!(f16_to_f32(a[i]).is_nan() && bf16_to_f32(b[i]).is_nan(), "{cpu:?}: NaN lost");
                    assert!(f16_to_f32(f32_to_f16(x)).is_nan() && bf16_to_f32(f32_to_bf16(x)).is_nan());
                }
            }
        }
    }
}

#[test]
fn a_sample_narrows_to_the_nearest() {
    let stride = if slow() { 1_000_003 } else { 4_001 };
    for cpu in cpus() {
        narrows(cpu, (0..=u32::MAX).step_by(stride));
        // the values of both formats, their midpoints and the neighbours of those
        let mut edges: Vec<u32> = Vec::new();
        for h in (0..=u16::MAX).step_by(if slow() { 61 } else { 1 }) {
            let (f, b) = (f16_to_f32(h).to_bits(), u32::from(h) << 16);
            for x in [f, f.wrapping_add(1 << 12), b, b.wrapping_add(1 << 15)] {
                edges.extend([x.wrapping_sub(1), x, x.wrapping_add(1)]);
            }
        }
        narrows(cpu, edges.into_iter());
    }
}

/// All 2³² inputs on every tier: minutes.
#[test]
#[ignore = "all 2^32 inputs"]
fn everything_narrows_to_the_nearest() {
    for cpu in cpus() {
        narrows(cpu, 0..=u32::MAX);
    }
}

#[test]
fn lengths() {
    let mut random = Random::new(1);
    for cpu in cpus() {
        for n in 0..=67 {
            let x = random.normal(n);
            let (mut a, mut b) = (vec![0x5555; n], vec![0x5555; n]);
            narrow_f16(cpu, &x, &mut a);
            narrow_bf16(cpu, &x, &mut b);
            let (mut wide, mut wide_b) = (vec![0.0; n], vec![0.0; n]);
            widen_f16(cpu, &a, &mut wide);
            widen_bf16(cpu, &b, &mut wide_b);
            let want: Vec<f32> = x.iter().map(|&x| f16_to_f32(f32_to_f16(x))).collect();
            assert_same(&wide, &want, format!("{cpu:?} f16 n = {n}"));
            let want: Vec<f32> = x.iter().map(|&x| bf16_to_f32(f32_to_bf16(x))).collect();
            assert_same(&wide_b, &want, format!("{cpu:?} bf16 n = {n}"));
        }
    }
}

/// The published list of all halves with their values in decimal.
#[test]
fn the_published_list() {
    let Ok(data) = std::env::var("SAMEBITS_DATA") else {
        eprintln!("skipped: SAMEBITS_DATA is not set");
        return;
    };
    let path = std::path::Path::new(&data).join("kernels/f16-conversion/float16_conversion.txt");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut lines = 0;
    for line in text.lines() {
        let (bits, value) = line.split_once(',').unwrap();
        let bits = u16::from_str_radix(bits.trim().trim_start_matches("0x"), 16).unwrap();
        let got = f16_to_f32(bits);
        match value.trim() {
            "neg_infinity" => assert_eq!(got, f32::NEG_INFINITY),
            "infinity" => assert_eq!(got, f32::INFINITY),
            "nan" => assert!(got.is_nan()),
            value => {
                let want: f32 = value.parse().unwrap();
                assert_eq!(got.to_bits(), want.to_bits(), "{bits:#06x} is {value}");
                assert_eq!(f32_to_f16(want), bits, "{value} is {bits:#06x}");
            }
        }
        lines += 1;
    }
    assert!(lines > 60_000, "only {lines} lines in {}", path.display());
}
