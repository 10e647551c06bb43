//! NF4 and nested statistics on twenty shapes, odd ones and such with blocks of zeros: bitsandbytes' codes and absmax, as
//! `tests/reference/nf4_shapes.py` had them. Where bitsandbytes leaves its own definition, the definition counts; that
//! script says where.

mod common;

use common::{assert_same, cpus};
use samebits::golden::Hash;
use samebits::io::json::{self, Value};
use samebits::kernels::nf4::{self, DYNAMIC_MAP, NESTED_BLOCKSIZE, block_count, code_bytes};

/// The numbers of the script.
fn drawn(n: usize) -> Vec<f32> {
    let one = |i: u64| {
        let mut h = i.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        h = (h ^ h >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        h ^= h >> 32;
        let block = i / 32;
        if block % 7 == 3 {
            return 0.0;
        }
        let scale = f64::from(1u32 << (block % 5)) / 4.0;
        (((h & 0xff_ffff) as f64 / 16_777_216.0 - 0.5) * scale) as f32
    };
    (0..n as u64).map(one).collect()
}

fn fnv(bytes: impl IntoIterator<Item = u8>) -> String {
    let bytes: Vec<u8> = bytes.into_iter().collect();
    format!("{:016x}", Hash::default().bytes(&bytes).0)
}

fn bytes(x: &[f32]) -> impl Iterator<Item = u8> {
    x.iter().flat_map(|x| x.to_le_bytes())
}

/// The nearest entry of the map for each distance from `offset`, the lower of two, and the largest distance of each
/// 256: the definition, in plain loops.
fn nested(absmax: &[f32], offset: f32) -> (Vec<u8>, Vec<f32>) {
    let (mut codes, mut largest) = (Vec::new(), Vec::new());
    for block in absmax.chunks(NESTED_BLOCKSIZE) {
        let a2 = block.iter().fold(0.0f32, |m, a| m.max((a - offset).abs()));
        let scale = if a2 > 0.0 { 1.0 / a2 } else { 0.0 };
        let code = |a: &f32| {
            let r = (a - offset) * scale;
            DYNAMIC_MAP.windows(2).filter(|w| r > (w[0] + w[1]) / 2.0).count() as u8
        };
        codes.extend(block.iter().map(code));
        largest.push(a2);
    }
    (codes, largest)
}

#[test]
fn codes_absmax_and_nested_codes_are_those_of_bitsandbytes() {
    let text = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/nf4_shapes.json")).unwrap();
    let cases: Vec<Value<'_>> = json::parse(&text).unwrap().elements().unwrap().collect();
    assert_eq!(cases.len(), 20);
    let mut equal_offsets = 0;
    for case in cases {
        let shape: Vec<usize> =
            case.get("shape").unwrap().elements().unwrap().map(|n| n.as_usize().unwrap()).collect();
        let blocksize = case.get("blocksize").unwrap().as_usize().unwrap();
        let of = |name: &str| case.get(name).unwrap().as_str().unwrap().into_owned();
        let what = format!("{shape:?} in blocks of {blocksize}");
        let x = drawn(shape.iter().product());
        for cpu in cpus() {
            let (mut codes, mut absmax) =
                (vec![0; code_bytes(x.len())], vec![0.0; block_count(x.len(), blocksize)]);
            nf4::quantize(cpu, &x, blocksize, &mut codes, &mut absmax).unwrap();
            assert_eq!(fnv(codes.iter().copied()), of("codes"), "{what}: codes");
            assert_eq!(fnv(bytes(&absmax)), of("absmax"), "{what}: absmax");

            // Given its offset, the definition's codes; given ours, ours.
            let theirs = f32::from_bits(u32::from_str_radix(&of("offset"), 16).unwrap());
            let (want, a2) = nested(&absmax, theirs);
            assert_eq!(fnv(want), of("nested"), "{what}: nested codes");
            assert_eq!(fnv(bytes(&a2)), of("nested_absmax"), "{what}: nested absmax");
            let (mut got, mut got_a2) =
                (vec![0; absmax.len()], vec![0.0; block_count(absmax.len(), NESTED_BLOCKSIZE)]);
            let offset = nf4::quantize_absmax(cpu, &absmax, &mut got, &mut got_a2).unwrap();
            let ulps = offset.to_bits().abs_diff(theirs.to_bits());
            assert!(ulps <= 2, "{what}: offset {offset}, bitsandbytes {theirs}");
            equal_offsets += usize::from(ulps == 0);
            let (want, a2) = nested(&absmax, offset);
            assert_eq!(got, want, "{what}: nested codes from {offset}");
            assert_same(&got_a2, &a2, &what);
        }
    }
    assert!(equal_offsets > 0, "then the codes are compared with bitsandbytes' directly");
}
