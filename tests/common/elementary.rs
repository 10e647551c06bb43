//! The elementary functions as their files define them, in plain Rust: one number at a time, `f32` operations
//! and `mul_add`, no vocabulary. The kernels must give these bits on every tier.

use std::f32::consts::{LN_2, LOG2_E};

/// 1.5 × 2^23: adding it rounds to an integer.
const SHIFT: f32 = 12_582_912.0;

/// `if a > b { a } else { b }`.
fn max(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// `if a < b { a } else { b }`.
fn min(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

/// `a × 2^n`, rounded once: exact in `f64`.
fn ldexp(a: f32, n: f32) -> f32 {
    (f64::from(a) * f64::from_bits(((n as i64 + 1023) as u64) << 52)) as f32
}

/// `c[0] x^(n−1) + … + c[n−1]`, fused.
fn horner(x: f32, c: &[f32]) -> f32 {
    c[1..].iter().fold(c[0], |p, &c| p.mul_add(x, c))
}

pub fn exp(x: f32) -> f32 {
    let x = max(-104.0, min(89.0, x));
    let n = x.mul_add(LOG2_E, SHIFT) - SHIFT;
    let r = (-n).mul_add(0.693_145_75, x);
    let r = (-n).mul_add(1.428_606_8e-6, r);
    let p = horner(r, &[1.381_454e-3, 8.368_745e-3, 4.166_839e-2, 0.166_665_21, 0.499_999_94, 1.0, 1.0]);
    ldexp(p, n)
}

fn exp2(x: f32) -> f32 {
    let n = (x + SHIFT) - SHIFT;
    let c = [1.535_33e-4, 1.339_895_2e-3, 9.618_438e-3, 5.550_332_4e-2, 0.240_226_48, LN_2, 1.0];
    ldexp(horner(x - n, &c), n)
}

pub fn ln(x: f32) -> f32 {
    if x == 0.0 {
        return f32::NEG_INFINITY;
    }
    if x.is_nan() || x < 0.0 || x == f32::INFINITY {
        return if x == f32::INFINITY { x } else { f32::NAN };
    }
    let (x, lift) = if x < f32::MIN_POSITIVE { (x * 8_388_608.0, -23.0) } else { (x, 0.0) };
    let field = (x.to_bits() as i32 - (2.0f32 / 3.0).to_bits() as i32) >> 23;
    let e = field as f32 + lift;
    let m = f32::from_bits((x.to_bits() as i32 - (field << 23)) as u32) - 1.0;
    let m2 = m * m;
    let odd = horner(m2, &[-0.128_916_17, -0.121_842_74, -0.166_804_87, -0.249_997_97]);
    let even = horner(m2, &[0.139_844_61, 0.140_058_64, 0.200_104_06, 0.333_332_15]);
    let p = odd.mul_add(m, even).mul_add(m, -0.5);
    e.mul_add(LN_2, p.mul_add(m2, m))
}

pub fn tanh(x: f32) -> f32 {
    if x.is_nan() {
        return x;
    }
    let t = max(-18.2, -(x.abs() + x.abs()));
    let n = t.mul_add(LOG2_E, SHIFT) - SHIFT;
    let r = (-n).mul_add(LN_2, t);
    let h = horner(r, &[1.388_251_4e-3, 8.366_558e-3, 4.166_72e-2, 0.166_665_43, 0.499_999_97]);
    let expm1 = (r * r).mul_add(h, r);
    let power = ldexp(1.0, n);
    let top = (-power).mul_add(expm1, 1.0 - power);
    let bottom = power.mul_add(expm1, 1.0 + power);
    (top / bottom).copysign(x)
}

pub fn erf(x: f32) -> f32 {
    if x.is_nan() {
        return x;
    }
    let a = min(4.5, x.abs());
    if a < 0.95 {
        let p = [
            7.853_876e-5,
            -8.010_198e-4,
            5.188_328e-3,
            -2.685_381_3e-2,
            0.112_835_854,
            -0.376_126_26,
            0.128_379_17,
        ];
        return x.mul_add(horner(x * x, &p), x);
    }
    let g = [
        2.762_819_6e-4,
        -4.327_421_5e-3,
        3.181_430_3e-2,
        -0.149_415_43,
        -0.919_862_45,
        -1.626_532_1,
        -3.699_739e-4,
    ];
    (1.0 - exp2(horner(a, &g))).copysign(x)
}

pub fn sigmoid(x: f32) -> f32 {
    let e = exp(-x.abs());
    (if x >= 0.0 { 1.0 } else { e }) / (1.0 + e)
}

pub fn relu(x: f32) -> f32 {
    if x <= 0.0 { 0.0 } else { x }
}

pub fn gelu_erf(x: f32) -> f32 {
    let g = [
        -8.571_835e-7,
        1.825_124_7e-5,
        -9.794_689e-5,
        -3.208_671e-4,
        7.265_831e-3,
        -5.261_027_4e-2,
        -0.459_179_1,
        -1.151_107_5,
        -1.0,
    ];
    let a = min(13.25, x.abs());
    (-a).mul_add(exp2(horner(a, &g)), max(0.0, x))
}

pub fn gelu_tanh(x: f32) -> f32 {
    let t = (x * x).mul_add(-0.071_354_814, -1.595_769_2);
    x / (1.0 + exp(x * t))
}

pub fn gelu_quick(x: f32) -> f32 {
    x / (1.0 + exp(x * -1.702))
}

pub fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

/// σ + x · (σ (1 − σ)) · slope, σ = 1 / (1 + e^minus_t); x not past ± end.
fn times_sigma_slope(x: f32, end: f32, minus_t: f32, slope: impl Fn(f32) -> f32) -> f32 {
    let x = max(-end, min(end, x));
    let sigma = 1.0 / (1.0 + exp(minus_t));
    (x * slope(x)).mul_add(sigma * (1.0 - sigma), sigma)
}

pub fn silu_slope(x: f32) -> f32 {
    times_sigma_slope(x, 104.0, -x, |_| 1.0)
}

pub fn gelu_quick_slope(x: f32) -> f32 {
    times_sigma_slope(x, 104.0, x * -1.702, |_| 1.702)
}

pub fn gelu_tanh_slope(x: f32) -> f32 {
    let t = (x * x).mul_add(-0.071_354_814, -1.595_769_2);
    times_sigma_slope(x, 12.0, x * t, |x| (x * x).mul_add(0.214_064_44, 1.595_769_2))
}

pub fn gelu_erf_slope(x: f32) -> f32 {
    let a = min(13.25, x.abs());
    let p = horner(a, &[4.223_678_3e-2, 0.297_527_67, 0.903_675_73, 1.253_313_7]);
    let q = horner(a, &[4.224_226e-2, 0.297_311_87, 0.949_435_95, 1.518_896, 1.0]);
    let high = a * a;
    let low = a.mul_add(a, -high);
    let bell = exp(high * -0.5);
    let bell = bell.mul_add(low * -0.5, bell) * 0.398_942_3;
    let tail = bell * (p / q);
    let below = if x > 0.0 { 1.0 - tail } else { tail };
    a.copysign(x).mul_add(bell, below)
}
