//! The page: small, whole, and allowed to do what its policy says. `tests/reference/check_page.py` uses it.

use samebits::serve::page::{PAGE, POLICY};

/// What stands between `<tag>` and `</tag>`, of which there is one.
fn inside<'p>(page: &'p str, tag: &str) -> &'p str {
    let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
    assert_eq!((page.matches(&open).count(), page.matches(&close).count()), (1, 1), "{tag}");
    page.split_once(&open).unwrap().1.split_once(&close).unwrap().0
}

#[test]
fn it_needs_nothing_from_outside() {
    assert!(PAGE.len() < 20_000, "{} bytes", PAGE.len());
    for word in [
        "http:",
        "https:",
        "//cdn",
        "url(",
        "@import",
        "src=",
        " style=\"",
        " onclick=\"",
        "<iframe",
        "srcdoc",
    ] {
        assert!(!PAGE.contains(word), "{word}");
    }
    assert_eq!(PAGE.matches("<link").count(), 1, "the empty icon alone");
}

#[test]
fn no_text_becomes_markup() {
    let script = inside(PAGE, "script");
    for word in [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "Function(",
        "DOMParser",
        "createContextualFragment",
    ] {
        assert!(!script.contains(word), "{word}");
    }
}

#[test]
fn the_policy_names_this_script_and_this_style() {
    for tag in ["script", "style"] {
        let allowed = format!("{tag}-src 'sha256-{}'", base64(&sha256(inside(PAGE, tag).as_bytes())));
        assert!(POLICY.contains(&allowed), "the policy should say {allowed}");
    }
    assert!(!POLICY.contains("unsafe") && !POLICY.contains('*'));
}

#[test]
fn sha256_is_that_of_fips_180() {
    let hex: String = sha256(b"abc").iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

/// The fractional bits of roots of the first primes, as FIPS 180-4 makes its constants: 32 bits of √p, or of ∛p.
fn constant(p: u128, power: u32) -> u32 {
    // The largest r with r^power ≤ p · 2^(32 · power).
    let target = p << (32 * power);
    let (mut low, mut high) = (0u128, 1u128 << 36);
    while high - low > 1 {
        let middle = (low + high) / 2;
        if middle.checked_pow(power).is_some_and(|x| x <= target) { low = middle } else { high = middle }
    }
    low as u32
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let primes: Vec<u128> = (2..).filter(|n| (2..*n).all(|d| n % d != 0)).take(64).collect();
    let k: Vec<u32> = primes.iter().map(|&p| constant(p, 3)).collect();
    let mut h: Vec<u32> = primes[..8].iter().map(|&p| constant(p, 2)).collect();
    let mut padded = bytes.to_vec();
    padded.push(0x80);
    while padded.len() % 64 != 56 {
        padded.push(0);
    }
    padded.extend((8 * bytes.len() as u64).to_be_bytes());
    for block in padded.chunks(64) {
        let mut w: Vec<u32> =
            block.chunks(4).map(|word| u32::from_be_bytes(word.try_into().unwrap())).collect();
        for i in 16..64 {
            let (a, b) = (w[i - 15], w[i - 2]);
            let s0 = a.rotate_right(7) ^ a.rotate_right(18) ^ a >> 3;
            let s1 = b.rotate_right(17) ^ b.rotate_right(19) ^ b >> 10;
            w.push(w[i - 16].wrapping_add(s0).wrapping_add(w[i - 7]).wrapping_add(s1));
        }
        let mut v = h.clone();
        for (w, k) in w.iter().zip(&k) {
            let s1 = v[4].rotate_right(6) ^ v[4].rotate_right(11) ^ v[4].rotate_right(25);
            let choice = v[4] & v[5] ^ !v[4] & v[6];
            let t1 = v[7].wrapping_add(s1).wrapping_add(choice).wrapping_add(*k).wrapping_add(*w);
            let s0 = v[0].rotate_right(2) ^ v[0].rotate_right(13) ^ v[0].rotate_right(22);
            let majority = v[0] & v[1] ^ v[0] & v[2] ^ v[1] & v[2];
            v.rotate_right(1);
            v[4] = v[4].wrapping_add(t1);
            v[0] = t1.wrapping_add(s0).wrapping_add(majority);
        }
        h.iter_mut().zip(&v).for_each(|(h, v)| *h = h.wrapping_add(*v));
    }
    let bytes: Vec<u8> = h.iter().flat_map(|word| word.to_be_bytes()).collect();
    bytes.try_into().unwrap()
}

/// Of 32 bytes: 43 digits and one `=`.
fn base64(bytes: &[u8; 32]) -> String {
    let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bit = |i: usize| bytes.get(i / 8).map_or(0, |byte| usize::from(byte >> (7 - i % 8) & 1));
    let digit = |i: usize| char::from(digits[(0..6).fold(0, |n, b| n << 1 | bit(6 * i + b))]);
    (0..43).map(digit).chain(['=']).collect()
}
