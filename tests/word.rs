//! Every word of the vocabulary means the same on every tier, to the bit; and the scalar table means what
//! IEEE 754 says.

mod common;
use common::*;
use samebits::kernels::Kernel;
use samebits::kernels::simd::{Simd, fma, sqrt, sqrt64};

/// Sixteen lanes of results, NaN payloads made equal.
type Lanes = Vec<u64>;

/// Three random operands.
#[derive(Clone, Copy)]
struct Words {
    a: [f32; 16],
    b: [f32; 16],
    c: [f32; 16],
}

fn floats(x: [f32; 16]) -> Lanes {
    x.iter().map(|x| u64::from(if x.is_nan() { f32::NAN } else { *x }.to_bits())).collect()
}

fn doubles(x: [f64; 16]) -> Lanes {
    x.iter().map(|x| if x.is_nan() { f64::NAN } else { *x }.to_bits()).collect()
}

/// Runs each word on the same operands: (name, lanes).
impl Kernel for Words {
    type Output = Vec<(&'static str, Lanes)>;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Self::Output {
        let mut all = Vec::new();
        self.arithmetic(s, &mut all);
        self.comparison(s, &mut all);
        self.integers(s, &mut all);
        self.between_types(s, &mut all);
        self.memory(s, &mut all);
        self.doubles(s, &mut all);
        self.trees(s, &mut all);
        all
    }
}

impl Words {
    /// By what `ldexp` may scale: integers of -248..=248, a NaN beside a NaN.
    fn exponents(&self) -> [f32; 16] {
        std::array::from_fn(|l| match self.a[l] {
            a if a.is_nan() => a,
            _ => (self.b[l].to_bits() % 497) as f32 - 248.0,
        })
    }

    /// The bytes of `a`.
    fn bytes(&self) -> [u8; 64] {
        std::array::from_fn(|i| self.a[i / 4].to_bits().to_le_bytes()[i % 4])
    }

    /// Row r of sixteen, of integers.
    fn rotated(&self, r: usize) -> [i32; 16] {
        std::array::from_fn(|l| if l == r { self.c[r] } else { self.b[(l + r) % 16] }.to_bits() as i32)
    }

    #[inline(always)]
    fn arithmetic<S: Simd>(&self, s: S, all: &mut Vec<(&'static str, Lanes)>) {
        let [a, b, c] = [self.a, self.b, self.c].map(|x| s.load(&x));
        for (name, v) in [
            ("splat", s.splat(self.a[3])),
            ("load", a),
            ("add", s.add(a, b)),
            ("sub", s.sub(a, b)),
            ("mul", s.mul(a, b)),
            ("div", s.div(a, b)),
            ("sqrt", s.sqrt(a)),
            ("fma", s.fma(a, b, c)),
            ("nfma", s.nfma(a, b, c)),
            ("max", s.max(a, b)),
            ("min", s.min(a, b)),
            ("round", s.round(s.load(&self.a.map(small)))),
            ("ldexp", s.ldexp(s.load(&self.a.map(near_one)), s.load(&self.exponents()))),
            ("abs", s.abs(a)),
            ("neg", s.neg(a)),
            ("copysign", s.copysign(s.abs(a), b)),
        ] {
            all.push((name, floats(s.to_array(v))));
        }
    }

    #[inline(always)]
    fn comparison<S: Simd>(&self, s: S, all: &mut Vec<(&'static str, Lanes)>) {
        let [a, b, c] = [self.a, self.b, self.c].map(|x| s.load(&x));
        let (gt, ge) = (s.gt(a, b), s.ge(b, c));
        for (name, m) in [
            ("gt", gt),
            ("ge", ge),
            ("eq", s.eq(a, b)),
            ("unordered", s.unordered(a, b)),
            ("is_nan", s.is_nan(c)),
            ("mask_and", s.mask_and(gt, ge)),
            ("mask_or", s.mask_or(gt, ge)),
            ("mask_from_bits", s.mask_from_bits(self.a[0].to_bits())),
            ("gt_i", s.gt_i(s.bits(a), s.bits(b))),
        ] {
            all.push((name, vec![u64::from(s.mask_bits(m)), u64::from(s.any(m))]));
            all.push((name, floats(s.to_array(s.select(m, a, c)))));
        }
    }

    #[inline(always)]
    fn integers<S: Simd>(&self, s: S, all: &mut Vec<(&'static str, Lanes)>) {
        let [a, b] = [self.a, self.b].map(|x| s.load_i(&x.map(|x| x.to_bits() as i32)));
        for (name, v) in [
            ("splat_i", s.splat_i(self.a[5].to_bits() as i32)),
            ("load_i", a),
            ("add_i", s.add_i(a, b)),
            ("sub_i", s.sub_i(a, b)),
            ("and_i", s.and_i(a, b)),
            ("or_i", s.or_i(a, b)),
            ("xor_i", s.xor_i(a, b)),
            ("shl", s.shl::<1>(a)),
            ("shl", s.shl::<23>(a)),
            ("shl", s.shl::<31>(a)),
            ("shr", s.shr::<1>(a)),
            ("shr", s.shr::<16>(a)),
            ("shr", s.shr::<31>(a)),
            ("sar", s.sar::<1>(a)),
            ("sar", s.sar::<23>(a)),
            ("sar", s.sar::<31>(a)),
            ("select_i", s.select_i(s.gt_i(a, b), a, b)),
            ("load_bytes", s.load_bytes(&self.bytes())),
            ("splat_bytes", s.splat_bytes(self.bytes().first_chunk().unwrap())),
            ("even_bytes", s.even_bytes(a)),
            ("odd_bytes", s.odd_bytes(a)),
            ("dot_halves", s.dot_halves(a, b, s.splat_i(i32::MAX))),
            ("lut_bytes", s.lut_bytes(s.and_i(a, s.splat_i(0x0f0f_0f0f)), b)),
            ("sum_rows_i", s.sum_rows_i(std::array::from_fn(|r| s.load_i(&self.rotated(r))))),
            ("bits", s.bits(s.load(&self.c))),
            ("to_i", s.to_i(s.load(&self.a.map(medium)))),
        ] {
            let mut x = [0; 16];
            s.store_i(&mut x, v);
            // `bits` of a NaN: any payload, but `load` keeps what is there
            all.push((name, x.iter().map(|&x| u64::from(x as u32)).collect()));
        }
    }

    #[inline(always)]
    fn between_types<S: Simd>(&self, s: S, all: &mut Vec<(&'static str, Lanes)>) {
        let bits = self.a.map(|x| x.to_bits() as i32);
        let a = s.load_i(&bits);
        let halves = self.b.map(|x| (x.to_bits() >> 11) as u16);
        let bytes = self.b.map(|x| (x.to_bits() >> 13) as u8);
        for (name, v) in [
            ("of_bits", s.of_bits(a)),
            ("of_i", s.of_i(a)),
            ("load_bf16", s.load_bf16(&halves)),
            ("load_f16", s.load_f16(&halves)),
            ("swap", s.swap(s.load(&self.c))),
            ("lut16", s.lut16(a, s.load(&self.c))),
        ] {
            all.push((name, floats(s.to_array(v))));
        }
        let table = s.load(&self.c);
        let mut nibbles = s.nibbles(a, table);
        for i in 0..8 {
            all.push(("nibble", floats(s.to_array(s.nibble(&mut nibbles, table, i)))));
        }
        for (name, v) in [
            ("load_u8", s.load_u8(&bytes)),
            ("load_i8", s.load_i8(&bytes)),
            ("load_u16", s.load_u16(&halves)),
        ] {
            let mut x = [0; 16];
            s.store_i(&mut x, v);
            all.push((name, x.iter().map(|&x| x as u64).collect()));
        }
        let (mut low, mut lowest, mut f16, mut bf16) = ([0u16; 16], [0u8; 16], [0u16; 16], [0u16; 16]);
        s.store_u16(&mut low, a);
        s.store_u8(&mut lowest, a);
        s.store_f16(&mut f16, s.load(&self.c));
        s.store_bf16(&mut bf16, s.load(&self.c));
        all.push(("store_u16", low.map(u64::from).to_vec()));
        all.push(("store_u8", lowest.map(u64::from).to_vec()));
        // the payload of a NaN is not promised, that it stays one is
        let quiet = |h: u16| if h & 0x7fff > 0x7c00 { 0x7e00 } else { u64::from(h) };
        all.push(("store_f16", f16.map(quiet).to_vec()));
        let quiet = |b: u16| if b & 0x7fff > 0x7f80 { 0x7fc0 } else { u64::from(b) };
        all.push(("store_bf16", bf16.map(quiet).to_vec()));
    }

    #[inline(always)]
    fn memory<S: Simd>(&self, s: S, all: &mut Vec<(&'static str, Lanes)>) {
        let a = s.load(&self.a);
        for n in 0..=16 {
            all.push(("load_tail", floats(s.to_array(s.load_tail(&self.b[..n], self.c[0])))));
            let mut out = self.c;
            s.store_tail(&mut out[..n], a);
            all.push(("store_tail", floats(out)));
        }
        let mut line = samebits::kernels::Line::ZERO;
        s.stream(&mut line, a);
        s.fence();
        s.prefetch(self.a.as_ptr());
        all.push(("stream", floats(line.0)));
    }

    #[inline(always)]
    fn doubles<S: Simd>(&self, s: S, all: &mut Vec<(&'static str, Lanes)>) {
        let [a, b, c] = [self.a, self.b, self.c].map(|x| s.widen(s.load(&x)));
        let product = s.mul_d(a, b);
        for (name, v) in [
            ("splat_d", s.splat_d(f64::from(self.a[1]) / 3.0)),
            ("widen", a),
            ("mul_d", product),
            ("add_d", s.add_d(product, c)),
            ("sub_d", s.sub_d(product, c)),
        ] {
            let mut x = [0.0; 16];
            s.store_d(&mut x, v);
            all.push((name, doubles(x)));
            all.push(("narrow", floats(s.to_array(s.narrow(v)))));
            all.push(("sum_d", doubles([s.sum_d(v); 16])));
        }
    }

    #[inline(always)]
    fn trees<S: Simd>(&self, s: S, all: &mut Vec<(&'static str, Lanes)>) {
        let a = s.load(&self.a);
        all.push(("sum", floats([s.sum(a); 16])));
        all.push(("max_lane", floats([s.max_lane(a); 16])));
        let rows = std::array::from_fn(|r| {
            let mut x = self.b;
            x.rotate_left(r);
            x[r] = self.c[r];
            s.load(&x)
        });
        for column in s.transpose(rows) {
            all.push(("transpose", floats(s.to_array(column))));
        }
        let mut rows_of = [[0.0; 16]; 16];
        for (r, row) in rows.iter().enumerate() {
            s.store(&mut rows_of[r], *row);
        }
        for (r, acc) in
            s.fma_rows([a, s.load(&self.c)], &rows_of.each_ref(), [&self.a, &self.b]).iter().enumerate()
        {
            all.push((["fma_rows, first", "fma_rows, second"][r], floats(s.to_array(*acc))));
        }
        all.push(("sum_rows", floats(s.to_array(s.sum_rows(rows)))));
        all.push(("sum_rows is sum", floats(std::array::from_fn(|r| s.sum(rows[r])))));
    }
}

/// Into |x| <= 2^22, where `round` is promised.
fn small(x: f32) -> f32 {
    if x.abs() <= 4_194_304.0 { x } else { (x.to_bits() as i32 % 8_388_608) as f32 / 2.0 }
}

/// Into 1/2 <= |x| < 2, which `ldexp` may scale, or NaN.
fn near_one(x: f32) -> f32 {
    if x.is_nan() { x } else { f32::from_bits(x.to_bits() & 0x80ff_ffff | 0x3f00_0000) }
}

/// Into |x| < 2^31, where `to_i` is promised.
fn medium(x: f32) -> f32 {
    if x.abs() < 2_147_483_648.0 { x } else { (x.to_bits() as i32 / 2) as f32 / 8.0 }
}

/// Bit patterns of all kinds: any, near each other, special.
fn operand(random: &mut Random) -> f32 {
    let bits = random.bits();
    match random.below(8) {
        0 => SPECIALS[random.below(SPECIALS.len())],
        1 => (bits as i32 % 2000) as f32 / 2.0,
        2 => random.unit(),
        3 => f32::from_bits(bits as u32 & 0x80ff_ffff), // subnormal and tiny
        _ => f32::from_bits(bits as u32),
    }
}

#[test]
fn every_tier_speaks_the_same_words() {
    let rounds = if slow() { 300 } else { 20_000 };
    let scalar = Cpu::with_tier(Tier::Scalar).unwrap();
    let mut random = Random::new(1);
    for _ in 0..rounds {
        let mut vector = || std::array::from_fn(|_| operand(&mut random));
        let words = Words { a: vector(), b: vector(), c: vector() };
        let want = scalar.run(words);
        for cpu in simd_cpus() {
            for ((name, got), (_, want)) in cpu.run(words).iter().zip(&want) {
                assert_eq!(got, want, "{name} on {cpu:?} of {:?}, {:?}, {:?}", words.a, words.b, words.c);
            }
        }
    }
}

#[test]
fn the_sum_of_rows_is_the_sum_of_each() {
    let mut random = Random::new(2);
    for cpu in cpus() {
        for _ in 0..100 {
            let mut vector = || std::array::from_fn(|_| operand(&mut random));
            let all = cpu.run(Words { a: vector(), b: vector(), c: vector() });
            let find = |name| &all.iter().find(|(n, _)| *n == name).unwrap().1;
            assert_eq!(find("sum_rows"), find("sum_rows is sum"), "{cpu:?}");
        }
    }
}

/// The words on bytes and half words, against what their text says, by other means than the scalar table's.
#[test]
fn bytes_are_what_the_vocabulary_says() {
    let mut random = Random::new(5);
    for (cpu, _) in cpus().into_iter().flat_map(|cpu| (0..200).map(move |i| (cpu, i))) {
        let mut vector = || std::array::from_fn(|_| f32::from_bits(random.bits() as u32));
        let words = Words { a: vector(), b: vector(), c: vector() };
        let all = cpu.run(words);
        let find = |name| &all.iter().find(|(n, _)| *n == name).unwrap().1;
        let (a, b) = (words.bytes(), words.b.map(|x| x.to_bits()));
        let half = |x: u64, h: usize| i64::from((x >> (16 * h)) as i16);
        for l in 0..16 {
            for (name, from) in [("even_bytes", 0), ("odd_bytes", 1)] {
                let expected = [0, 2].map(|i| i64::from(a[4 * l + i + from] as i8));
                assert_eq!([0, 1].map(|h| half(find(name)[l], h)), expected, "{cpu:?}");
            }
            let x = u64::from(u32::from_le_bytes(a[4 * l..4 * l + 4].try_into().unwrap()));
            let products = [0, 1].map(|h| half(x, h) * half(u64::from(b[l]), h));
            let sum = i64::from(i32::MAX) + products[0] + products[1];
            assert_eq!(find("dot_halves")[l], sum as u64 & 0xffff_ffff, "{cpu:?}");
            let looked_up = (0..4).fold(0, |y, i| {
                let index = usize::from(a[4 * l + i] & 15);
                y | u64::from(b[l / 4 * 4 + index / 4] >> (8 * (index % 4)) & 255) << (8 * i)
            });
            assert_eq!(find("lut_bytes")[l], looked_up, "{cpu:?}");
            let row = words.rotated(l).iter().fold(0i32, |sum, x| sum.wrapping_add(*x));
            assert_eq!(find("sum_rows_i")[l], u64::from(row as u32), "{cpu:?}");
            assert_eq!((find("load_bytes")[l], find("splat_bytes")[l]), (x, find("load_bytes")[l % 4]));
        }
    }
}

/// `value × 2^exponent` rounded once to `f32`, nearest even, by integers alone.
fn round_exact(value: i128, exponent: i32) -> f32 {
    let (sign, m) = (value < 0, value.unsigned_abs());
    if m == 0 {
        return 0.0;
    }
    // The last bit kept is 2^last: 24 bits of the value, but never below 2^−149.
    let top = 127 - m.leading_zeros() as i32 + exponent;
    let last = (top - 23).max(-149);
    let shift = last - exponent;
    let kept = if shift <= 0 {
        m << -shift
    } else if shift > 126 {
        0
    } else {
        let (whole, rest, half) = (m >> shift, m & ((1 << shift) - 1), 1u128 << (shift - 1));
        whole + u128::from(rest > half || rest == half && whole & 1 == 1)
    };
    // 2^last by halves, each of which is a normal f64.
    let size = kept as f64 * f64::from(last / 2).exp2() * f64::from(last - last / 2).exp2();
    let size = if size >= 2f64.powi(128) { f32::INFINITY } else { size as f32 };
    if sign { -size } else { size }
}

/// Sign, integer and exponent of a finite float.
fn parts(x: f32) -> (i128, i32) {
    let (exponent, fraction) = ((x.to_bits() >> 23 & 255) as i32, i128::from(x.to_bits() & 0x7f_ffff));
    let (m, e) = if exponent == 0 { (fraction, -149) } else { (fraction | 1 << 23, exponent - 150) };
    (if x.is_sign_negative() { -m } else { m }, e)
}

/// a × b + c in integers; `None` where the three lie too far apart for 128 bits.
fn fma_exact(a: f32, b: f32, c: f32) -> Option<f32> {
    let ((ma, ea), (mb, eb), (mc, ec)) = (parts(a), parts(b), parts(c));
    let (product, ep) = (ma * mb, ea + eb);
    let e = ep.min(ec);
    let fits = |m: i128, by: i32| m == 0 || by < m.unsigned_abs().leading_zeros() as i32 - 2;
    if !fits(product, ep - e) || !fits(mc, ec - e) {
        return None;
    }
    let sum =
        (if product == 0 { 0 } else { product << (ep - e) }) + (if mc == 0 { 0 } else { mc << (ec - e) });
    Some(round_exact(sum, e))
}

/// The scalar `fma` against integers, where double rounding would show: c near half a unit of a × b.
#[test]
fn fma_is_fused() {
    let mut random = Random::new(3);
    let rounds = if slow() { 20_000 } else { 3_000_000 };
    let (mut checked, mut subnormal) = (0, 0);
    for _ in 0..rounds {
        let mut pick = || match random.below(3) {
            0 => f32::from_bits(random.bits() as u32),
            1 => f32::from_bits((random.bits() as u32 & 0x807f_ffff) | (100 + random.below(56) as u32) << 23),
            _ => f32::from_bits(random.bits() as u32 & 0xff80_000f | (random.bits() as u32 & 7) << 20),
        };
        let (a, b) = (pick(), pick());
        let mut c = pick();
        if random.below(2) == 0 && a.is_finite() && b.is_finite() {
            // within 60 binary places of the product
            let top = (a.to_bits() >> 23 & 255) as i32 + (b.to_bits() >> 23 & 255) as i32 - 127;
            let exponent = (top + random.below(60) as i32 - 30).clamp(0, 254) as u32;
            c = f32::from_bits(c.to_bits() & 0x807f_ffff | exponent << 23);
        }
        if !(a.is_finite() && b.is_finite() && c.is_finite()) {
            continue;
        }
        let Some(want) = fma_exact(a, b, c) else { continue };
        let got = fma(a, b, c);
        // integers know one zero
        assert!(got == want, "fma({a:e}, {b:e}, {c:e}) is {got:e}, exactly {want:e}");
        checked += 1;
        subnormal += u32::from(got != 0.0 && got.abs() < f32::MIN_POSITIVE);
    }
    assert!(checked > rounds / 4 && subnormal > 100, "{checked} checked, {subnormal} subnormal");
}

#[cfg_attr(not(target_family = "wasm"), test)] // where the C library's fmaf rounds twice
fn fma_of_special_values() {
    let mut all = SPECIALS.to_vec();
    all.extend([f32::EPSILON, 1.0 + f32::EPSILON, 3.0, -1e-30, 1e-30, 1e30]);
    for &a in &all {
        for &b in &all {
            for &c in &all {
                assert_same(&[fma(a, b, c)], &[a.mul_add(b, c)], format!("fma({a:e}, {b:e}, {c:e})"));
            }
        }
    }
}

#[test]
fn square_roots_are_right() {
    let mut random = Random::new(4);
    for _ in 0..if slow() { 20_000 } else { 1_000_000 } {
        let bits = random.bits();
        let (x, y) = (f32::from_bits(bits as u32), f64::from_bits(random.bits()));
        assert_same(&[sqrt(x)], &[x.sqrt()], format!("√{x:e}"));
        for root in [sqrt64(y), samebits::kernels::math::soft::sqrt64(y)] {
            let want = y.sqrt();
            assert!(root.to_bits() == want.to_bits() || root.is_nan() && want.is_nan(), "√{y:e}: {root:e}");
        }
    }
    for y in [0.0, -0.0, f64::INFINITY, f64::NEG_INFINITY, f64::MIN_POSITIVE, 5e-324, f64::MAX, 1.0, 4.0] {
        let (root, want) = (samebits::kernels::math::soft::sqrt64(y), y.sqrt());
        assert!(root.to_bits() == want.to_bits() || root.is_nan() && want.is_nan(), "√{y:e}: {root:e}");
    }
}
