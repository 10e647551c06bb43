//! Encoding in time that grows with the text alone, decoding in a stream, and the way there and back.

mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use common::Random;
use samebits::io::tokenizer::{EncodeOptions, Tokenizer};

const BYTE_LEVEL: [&str; 6] = ["gpt2", "llama3", "qwen2", "o200k", "falcon", "deepseek"];

fn open(name: &str) -> Tokenizer {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tokenizers");
    Tokenizer::open(folder.join(name)).unwrap()
}

fn all() -> Vec<(String, Tokenizer)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tokenizers");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let tokenizer = name.ends_with(".model") || name.ends_with(".json") && !name.contains(".out.");
        if tokenizer && name != "texts.json" {
            found.push((name.clone(), open(&name)));
        }
    }
    assert!(found.len() >= 19, "{} tokenizers", found.len());
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

/// A text of characters from everywhere: letters, spaces, marks, signs, ideographs, emoji, controls.
fn odd_text(random: &mut Random, length: usize) -> String {
    const PARTS: [&str; 24] = [
        "the",
        "token",
        " ",
        "  ",
        "\n",
        "\r\n",
        "\t",
        "'s",
        "'LL",
        "123",
        "é",
        "e\u{301}",
        "文",
        "한국",
        "😀",
        "👩‍👧",
        "\u{200d}",
        "ก",
        "\u{0}",
        "\u{a0}",
        "___",
        "ſ",
        "Ω",
        "▁",
    ];
    let mut text = String::new();
    while text.len() < length {
        let pick = random.below(PARTS.len() + 4);
        match PARTS.get(pick) {
            Some(part) => text.push_str(part),
            None => text.extend(char::from_u32(random.below(0x11_0000) as u32)),
        }
    }
    text
}

#[test]
fn a_stream_shows_what_the_list_gives_and_never_splits_a_character() {
    let mut random = Random::new(25);
    for (name, tokenizer) in all() {
        for round in 0..if common::slow() { 200 } else { 1000 } {
            let ids: Vec<u32> =
                (0..round % 24).map(|_| random.below(tokenizer.vocab_len() + 2) as u32).collect();
            for skip in [false, true] {
                let mut decoder = tokenizer.decoder(skip);
                let mut shown = String::new(); // every push is a `&str`: whole characters
                ids.iter().for_each(|&id| shown.push_str(decoder.push(id)));
                shown.push_str(decoder.finish());
                assert_eq!(shown, tokenizer.decode(&ids, skip), "{name}: {ids:?}");
                // A decoder that has finished is as new.
                for &id in &ids {
                    decoder.push(id);
                }
                decoder.finish();
                let again: String = ids.iter().map(|&id| decoder.push(id).to_string()).collect();
                assert_eq!(again + decoder.finish(), shown, "{name}: {ids:?}");
            }
        }
    }
}

#[test]
fn a_character_appears_with_its_last_byte() {
    let tokenizer = open("llama2.json");
    let bytes: Vec<u32> =
        "🚀".bytes().map(|b| tokenizer.token_to_id(&format!("<0x{b:02X}>")).unwrap()).collect();
    let mut decoder = tokenizer.decoder(true);
    let shown: Vec<String> = bytes.iter().map(|&id| decoder.push(id).to_string()).collect();
    assert_eq!(shown, ["", "", "", "🚀"]);
    assert_eq!(decoder.finish(), "");
    // One that never becomes whole: a sign a byte.
    let half: String = bytes[..2].iter().map(|&id| decoder.push(id).to_string()).collect();
    assert_eq!(half + decoder.finish(), "\u{fffd}\u{fffd}");
}

#[test]
fn byte_level_tokenizers_give_every_text_back() {
    let mut random = Random::new(26);
    for name in BYTE_LEVEL {
        let tokenizer = open(&format!("{name}.json"));
        for round in 0..if common::slow() { 300 } else { 3000 } {
            let text = odd_text(&mut random, round % 90);
            // Qwen 2 composes characters first: a text that is composed already comes back.
            let ids = tokenizer.encode(&text, &EncodeOptions::plain()).unwrap().ids;
            let back = tokenizer.decode(&ids, false);
            if name == "qwen2" {
                assert_eq!(tokenizer.encode(&back, &EncodeOptions::plain()).unwrap().ids, ids, "{text:?}");
            } else {
                assert_eq!(back, text, "{name}");
            }
        }
    }
}

#[test]
fn every_text_is_encoded_by_every_tokenizer() {
    let mut random = Random::new(27);
    for (name, tokenizer) in all() {
        for round in 0..if common::slow() { 100 } else { 600 } {
            let text = odd_text(&mut random, round % 200);
            let got = tokenizer.encode(&text, &EncodeOptions::plain()).unwrap();
            for (&id, &(start, end)) in got.ids.iter().zip(&got.offsets) {
                assert!(tokenizer.id_to_token(id).is_some(), "{name}: {text:?} gives {id}");
                assert!(text.get(start..end).is_some(), "{name}: {text:?} {start}..{end}");
            }
        }
    }
}

fn time(tokenizer: &Tokenizer, text: &str) -> Duration {
    let start = Instant::now();
    tokenizer.encode(text, &EncodeOptions::plain()).unwrap();
    start.elapsed()
}

#[test]
fn time_grows_with_the_text_and_no_faster() {
    let size = if common::slow() { 100_000 } else { 1_000_000 };
    let units = ["a", "^", " ", "\n", "_", "😀", "'", "ab", "\u{301}", "1", "\n a", " \u{3000}"];
    for (name, tokenizer) in all() {
        for unit in units {
            let text = unit.repeat(size / unit.len());
            let took = time(&tokenizer, &text);
            // Far above what linear time takes here on a busy machine, far below what quadratic time would.
            let limit = Duration::from_secs(if cfg!(debug_assertions) { 10 } else { 2 });
            assert!(took < limit, "{name}: {} bytes of {unit:?} take {took:?}", text.len());
        }
    }
}

/// Where ways through a text are nearly as good as each other, the arithmetic of their sums decides: SentencePiece's own.
#[test]
fn unigram_rounds_as_sentencepiece_does() {
    let tokenizer = open("long/close.model");
    for line in include_str!("data/tokenizers/long/ids.txt").lines() {
        let [size, count, hash] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let mut state = 1u64;
        let letters = (0..size.parse().unwrap()).map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(b"aeinorst"[(state >> 41) as usize % 8])
        });
        let text: String = letters.collect();
        let ids = tokenizer.encode(&text, &EncodeOptions::plain()).unwrap().ids;
        assert_eq!(ids.len().to_string(), count, "{size} letters");
        let bytes = ids.iter().flat_map(|id| id.to_le_bytes());
        let fnv =
            bytes.fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
        assert_eq!(format!("{fnv:016x}"), hash, "{size} letters");
    }
}
