//! JSON: what is accepted and what is refused, against a second parser; memory, stack and time.

#[path = "common/memory.rs"]
mod memory;

use memory::{Counting, peak};
use samebits::golden::Random;
use samebits::io::json::{self, Value, Writer};
use std::time::Instant;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn slow() -> bool {
    cfg!(debug_assertions) || std::env::var_os("SAMEBITS_SLOW").is_some()
}

/// What the error says, and at which byte.
type Refusal = (&'static str, u64);

/// Texts, and why they are refused (`None`: accepted).
const CASES: &[(&[u8], Option<Refusal>)] = &[
    (b"{}", None),
    (b" [ ] ", None),
    (b"\r\n\t null", None),
    (b"\"\\u0000\\ud83d\\ude00\\/\"", None),
    (b"[1,-0,1.5,1E9,1e-999,0.1e+2]", None),
    ("\"é漢😀\u{7f}\"".as_bytes(), None),
    (br#"{"a":{"a":1},"b":[{"a":1},{"a":2}]}"#, None),
    (b"", Some(("found the end", 0))),
    (b"  ", Some(("found the end", 2))),
    (b"\xef\xbb\xbf{}", Some(("byte order mark", 0))),
    (b"\"\xff\"", Some(("UTF-8", 1))),
    (b"\"\xed\xa0\x80\"", Some(("UTF-8", 1))),
    (b"{}x", Some(("expected the end", 2))),
    (b"[] []", Some(("expected the end", 3))),
    (b"[1,]", Some(("expected a value", 3))),
    (b"[1 2]", Some(("expected ',' or ']'", 3))),
    (b"[1}", Some(("expected ',' or ']'", 2))),
    (b"{\"a\":1]", Some(("expected ',' or '}'", 6))),
    (b"{\"a\":1,}", Some(("expected a key", 7))),
    (b"{\"a\" 1}", Some(("expected ':'", 5))),
    (b"{a:1}", Some(("expected a key", 1))),
    (b"{'a':1}", Some(("expected a key", 1))),
    (b"[", Some(("found the end", 1))),
    (b"{\"a\":", Some(("found the end", 5))),
    (b"]", Some(("expected a value", 0))),
    (b"nul", Some(("expected a value", 0))),
    (b"truex", Some(("expected the end", 4))),
    (b"NaN", Some(("expected a value", 0))),
    (b"-Infinity", Some(("expected a digit", 1))),
    (b"// c\n1", Some(("expected a value", 0))),
    (b"01", Some(("leading zero", 0))),
    (b"-01", Some(("leading zero", 0))),
    (b"+1", Some(("expected a value", 0))),
    (b".5", Some(("expected a value", 0))),
    (b"1.", Some(("expected a digit", 2))),
    (b"[1.]", Some(("expected a digit", 3))),
    (b"1e", Some(("expected a digit", 2))),
    (b"1e+", Some(("expected a digit", 3))),
    (b"-", Some(("expected a digit", 1))),
    (b"0x10", Some(("expected the end", 1))),
    (b"1_000", Some(("expected the end", 1))),
    (b"1e999", Some(("range of f64", 0))),
    (b"[-1e309]", Some(("range of f64", 1))),
    (b"\"abc", Some(("closing quote", 4))),
    (b"\"a\nb\"", Some(("control character", 2))),
    (b"\"a\0b\"", Some(("control character", 2))),
    (b"\"\\x41\"", Some(("unknown escape", 1))),
    (b"\"\\", Some(("unknown escape", 1))),
    (b"\"\\u12g4\"", Some(("four hexadecimal", 1))),
    (b"\"\\u12\"", Some(("four hexadecimal", 1))),
    ("\"\\u00é0\"".as_bytes(), Some(("four hexadecimal", 1))),
    (b"\"\\ud800\"", Some(("lone surrogate", 1))),
    (b"\"\\ud800\\u0041\"", Some(("lone surrogate", 1))),
    (b"\"\\ud800x\"", Some(("lone surrogate", 1))),
    (b"\"\\udc00\"", Some(("lone surrogate", 1))),
    (br#"{"a":1,"b":2,"a":3}"#, Some(("duplicate key \"a\"", 13))),
    (br#"{"a":1,"\u0061":3}"#, Some(("duplicate key \"a\"", 7))),
    (br#"[{"x":{"":1,"":2}}]"#, Some(("duplicate key \"\"", 12))),
];

#[test]
fn every_rule() {
    for (text, want) in CASES {
        let shown = String::from_utf8_lossy(text);
        match (json::parse(text), want) {
            (Ok(_), None) => {}
            (Err(e), Some((what, at))) => {
                let message = e.to_string();
                assert!(message.contains(what), "{shown}: {message}");
                assert!(message.starts_with(&format!("byte {at}: ")), "{shown}: {message}, want byte {at}");
            }
            (Ok(_), Some(_)) => panic!("accepted {shown}"),
            (Err(e), None) => panic!("{shown}: {e}"),
        }
    }
}

#[test]
fn values() {
    let text = r#" {"n": 18446744073709551615, "i": -3, "x": 1e2, "s": "a\"\u00e9\n\ud83d\ude00", "l": [ 1 , [] , {} ,"]"], "t": true, "z": null, "o": {"k": {"k": 1}} } "#;
    let v = json::parse(text.as_bytes()).unwrap();
    let get = |k| v.get(k).unwrap();
    assert_eq!(get("n").as_u64(), Some(u64::MAX));
    assert_eq!((get("n").as_i64(), get("i").as_i64(), get("i").as_u64()), (None, Some(-3), None));
    assert_eq!((get("x").as_f64(), get("x").as_u64()), (Some(100.0), None));
    assert_eq!(get("s").as_str().unwrap(), "a\"é\n😀");
    let list: Vec<String> = get("l").elements().unwrap().map(|e| e.source().to_string()).collect();
    assert_eq!(list, ["1", "[]", "{}", "\"]\""]);
    assert_eq!((get("t").as_bool(), get("z").as_bool(), get("z").is_null()), (Some(true), None, true));
    assert_eq!(get("o").get("k").unwrap().get("k").unwrap().as_usize(), Some(1));
    let keys: Vec<String> = v.entries().unwrap().map(|(k, _)| k.into_owned()).collect();
    assert_eq!(keys, ["n", "i", "x", "s", "l", "t", "z", "o"]);
    assert!(v.get("missing").is_none() && get("l").get("n").is_none() && get("o").elements().is_none());
    let at = text.find("[ 1").unwrap();
    let error = get("l").expected("an object").to_string();
    assert_eq!(error, format!("byte {at}: expected an object, found an array"));
    let mantissa = format!("0.{}1", "0".repeat(400));
    assert_eq!(json::parse(mantissa.as_bytes()).unwrap().as_f64(), Some(0.0));
}

#[test]
fn depth_needs_no_stack() {
    let nested = |open: &str, close: &str, n: usize| open.repeat(n) + "1" + &close.repeat(n);
    let run = move || {
        for (open, close) in [("[", "]"), ("{\"k\":", "}"), ("[{\"k\":", "}]")] {
            let per = if open.len() > 5 { 2 } else { 1 };
            assert!(json::parse(nested(open, close, json::MAX_DEPTH / per).as_bytes()).is_ok());
            for n in [json::MAX_DEPTH / per + 1, 100_000] {
                let error = json::parse(nested(open, close, n).as_bytes()).unwrap_err().to_string();
                assert!(error.contains("deeper than 128"), "{error}");
            }
        }
    };
    std::thread::Builder::new().stack_size(128 << 10).spawn(run).unwrap().join().unwrap();
}

#[test]
fn memory_in_proportion() {
    let n = 1_000_000;
    let values = format!("[{}1]", "1,".repeat(n));
    let empty = format!("[{}1]", "[],".repeat(n));
    let keys = format!("{{{}\"\":1}}", (0..n).map(|i| format!("\"{i:x}\":1,")).collect::<String>());
    let name = format!("\"\\n{}\"", "x".repeat(n));
    for text in [values, empty, keys, name] {
        let (ok, bytes) = peak(|| json::parse(text.as_bytes()).is_ok());
        assert!(ok && bytes <= 3 * text.len() + 8192, "{bytes} bytes for {} of text", text.len());
    }
    let escaped = format!("\"\\n{}\"", "é".repeat(n));
    let value = json::parse(escaped.as_bytes()).unwrap();
    assert!(peak(|| value.as_str().unwrap().len()).1 <= escaped.len());
}

#[test]
fn duplicate_keys_are_not_quadratic() {
    let object = |n: usize| {
        let keys: String = (0..n).map(|i| format!("\"model.layers.{i}.weight\":0,")).collect();
        format!("{{{keys}\"\\u0061\":0}}")
    };
    let seconds = |text: &str| {
        let start = Instant::now();
        assert!(json::parse(text.as_bytes()).is_ok());
        start.elapsed().as_secs_f64()
    };
    let n = if slow() { 10_000 } else { 100_000 };
    let (small, large) = (object(n / 32), object(n));
    // In turns, so that both meet the same neighbours; the larger leaves the caches, which takes three times as long on a
    // busy machine: far from the limit all the same.
    let mut best = [f64::INFINITY; 2];
    for _ in 0..7 {
        best = [best[0].min(seconds(&small)), best[1].min(seconds(&large))];
    }
    let ratio = best[1] / best[0];
    assert!(ratio < 300.0, "32 times the keys took {ratio} times as long; a quadratic check takes 1,000");
}

#[test]
fn writer() {
    let mut w = Writer::indented();
    w.object(|w| {
        w.key("quote\"\\").string("\u{1}\u{1f}\n\t\r\u{8}\u{c}é/");
        w.key("empty").array(|_| {});
        w.key("list").array(|w| {
            w.number(1u64);
            w.number(-2i64);
            w.number(0.1f32);
            w.number(1e300);
            w.number(f64::NAN);
        });
        w.key("t").boolean(true);
        w.key("z").null();
    });
    let text = w.finish();
    let want = "{\n  \"quote\\\"\\\\\": \"\\u0001\\u001f\\n\\t\\r\\b\\fé/\",\n  \"empty\": [],\n  \"list\": [\n    1,\n    -2,\n    0.1,\n    1e300,\n    null\n  ],\n  \"t\": true,\n  \"z\": null\n}";
    assert_eq!(text, want);
    let back = json::parse(text.as_bytes()).unwrap();
    assert_eq!(back.get("quote\"\\").unwrap().as_str().unwrap(), "\u{1}\u{1f}\n\t\r\u{8}\u{c}é/");
}

/// Copies a value through the public interface.
fn copy(w: &mut Writer, v: Value<'_>) {
    if let Some(s) = v.as_str() {
        w.string(&s);
    } else if let Some(elements) = v.elements() {
        w.array(|w| elements.for_each(|e| copy(w, e)));
    } else if let Some(entries) = v.entries() {
        w.object(|w| entries.for_each(|(k, v)| copy(w.key(&k), v)));
    } else if let Some(b) = v.as_bool() {
        w.boolean(b);
    } else if let Some(n) = v.as_u64() {
        w.number(n);
    } else if let Some(x) = v.as_f64() {
        w.number(x);
    } else {
        w.null();
    }
}

#[test]
fn mutants_agree_with_a_second_parser() {
    // Valid texts four times: most of what changes them breaks them.
    let seeds: Vec<&[u8]> = CASES
        .iter()
        .flat_map(|(text, error)| std::iter::repeat_n(*text, if error.is_none() { 4 } else { 1 }))
        .filter(|t| !t.is_empty())
        .collect();
    let mut random = Random::new(8259);
    let words: [&[u8]; 16] = [
        b"\"",
        b"\\",
        b"\\u",
        b"\\ud83d\\ude00",
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"e",
        b".",
        b"-",
        b"0",
        b" ",
        b"\xc3\xa9",
    ];
    let (mut accepted, mutants) = (0, if slow() { 5_000 } else { 200_000 });
    for _ in 0..mutants {
        let mut text = seeds[random.below(seeds.len())].to_vec();
        for _ in 0..1 + random.below(3) {
            let at = random.below(text.len() + 1);
            match random.below(4) {
                0 => drop(text.splice(at..at, words[random.below(16)].iter().copied())),
                1 => text.truncate(at),
                2 if at < text.len() => text[at] ^= 1 << random.below(8),
                _ if at < text.len() => drop(text.remove(at)),
                _ => text.extend_from_slice(seeds[random.below(seeds.len())]),
            }
        }
        let verdict = json::parse(&text);
        let shown = String::from_utf8_lossy(&text);
        assert_eq!(verdict.is_ok(), second::accepts(&text), "{shown}: {:?}", verdict.err());
        let Ok(value) = verdict else { continue };
        accepted += 1;
        let (mut once, mut twice) = (Writer::compact(), Writer::compact());
        copy(&mut once, value);
        let once = once.finish();
        copy(&mut twice, json::parse(once.as_bytes()).unwrap());
        assert_eq!(once, twice.finish(), "{shown}");
    }
    assert!(accepted > mutants / 20, "only {accepted} of {mutants} accepted: the mutator is too rough");
}

/// The obvious recursive parser, to compare verdicts with.
mod second {
    use std::collections::BTreeSet;

    pub fn accepts(text: &[u8]) -> bool {
        let Ok(text) = std::str::from_utf8(text) else { return false };
        let mut chars: Vec<char> = text.chars().collect();
        chars.reverse();
        value(&mut chars).is_some() && {
            space(&mut chars);
            chars.is_empty()
        }
    }

    fn space(c: &mut Vec<char>) {
        while c.last().is_some_and(|c| " \t\r\n".contains(*c)) {
            c.pop();
        }
    }

    fn eat(c: &mut Vec<char>, want: char) -> Option<()> {
        space(c);
        (c.pop()? == want).then_some(())
    }

    fn next(c: &mut Vec<char>) -> Option<char> {
        space(c);
        c.last().copied()
    }

    fn value(c: &mut Vec<char>) -> Option<()> {
        match next(c)? {
            '"' => string(c).map(drop),
            '[' => {
                eat(c, '[')?;
                if next(c)? == ']' {
                    return eat(c, ']');
                }
                loop {
                    value(c)?;
                    if next(c)? == ']' {
                        return eat(c, ']');
                    }
                    eat(c, ',')?;
                }
            }
            '{' => {
                let mut keys = BTreeSet::new();
                eat(c, '{')?;
                if next(c)? == '}' {
                    return eat(c, '}');
                }
                loop {
                    (next(c)? == '"').then_some(())?;
                    keys.insert(string(c)?).then_some(())?;
                    eat(c, ':')?;
                    value(c)?;
                    if next(c)? == '}' {
                        return eat(c, '}');
                    }
                    eat(c, ',')?;
                }
            }
            _ => scalar(c),
        }
    }

    fn scalar(c: &mut Vec<char>) -> Option<()> {
        let mut word = String::new();
        while c.last().is_some_and(|c| c.is_ascii_alphanumeric() || "+-.".contains(*c)) {
            word.push(c.pop()?);
        }
        if ["null", "true", "false"].contains(&word.as_str()) {
            return Some(());
        }
        let unsigned = word.strip_prefix('-').unwrap_or(&word);
        let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
            Some((m, e)) => (m, e.strip_prefix(['+', '-']).unwrap_or(e)),
            None => (unsigned, "0"),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
        let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
        let ok = digits(whole) && digits(fraction) && digits(exponent);
        let no_zero = whole.len() == 1 || !whole.starts_with('0');
        (ok && no_zero && word.parse::<f64>().ok()?.is_finite()).then_some(())
    }

    fn string(c: &mut Vec<char>) -> Option<String> {
        let (mut units, mut buffer) = (Vec::new(), [0; 2]);
        eat(c, '"')?;
        loop {
            match c.pop()? {
                '"' => return String::from_utf16(&units).ok(),
                '\\' => match c.pop()? {
                    'u' => {
                        let hex: String = (0..4).map_while(|_| c.pop()).collect();
                        let all = hex.len() == 4 && hex.bytes().all(|b| b.is_ascii_hexdigit());
                        units.push(all.then(|| u16::from_str_radix(&hex, 16).ok())??);
                    }
                    e => {
                        let at = "\"\\/bfnrt".find(e)?;
                        units.push(u16::from(b"\"\\/\x08\x0c\n\r\t"[at]));
                    }
                },
                ch if ch < ' ' => return None,
                ch => units.extend_from_slice(ch.encode_utf16(&mut buffer)),
            }
        }
    }
}
