//! A tokenizer in the form that GGUF keeps: the keys `tokenizer.ggml.…` of llama.cpp's converter.
//!
//! GGUF names the pattern that cuts words by a word of its own, and has scores where `tokenizer.json` has merges. So
//! candidates are made, and the one taken that gives every probe the ids of the original: what no candidate does cannot
//! be held.

use super::gguf::{GgufVocabulary, PATTERNS};
use super::sentencepiece::{Algorithm, Kind};
use super::{Choice, EncodeOptions, Tokenizer, llama2c, protobuf};
use crate::io::json::{self, Value};
use crate::{Error, Result};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

/// [`GgufVocabulary`] with texts of its own.
#[derive(Clone, Debug, Default)]
pub struct OwnedVocabulary {
    /// `llama`, `t5` or `gpt2`.
    pub model: &'static str,
    /// The name of the pattern that cuts words.
    pub pre: String,
    /// By id.
    pub tokens: Vec<String>,
    /// One a token, or none.
    pub scores: Vec<f32>,
    /// The kind of each token.
    pub kinds: Vec<i32>,
    /// Pairs that are joined, first things first.
    pub merges: Vec<String>,
    /// SentencePiece's normalisation.
    pub charsmap: Vec<u8>,
    /// The token that begins a text.
    pub bos: Option<u32>,
    /// The token that ends one.
    pub eos: Option<u32>,
    /// What stands for all that has no token.
    pub unk: Option<u32>,
    /// What fills a row.
    pub pad: Option<u32>,
    /// Whether texts begin with it.
    pub add_bos: bool,
    /// Whether texts end with it.
    pub add_eos: bool,
    /// Whether a space is put before a text.
    pub add_space: Option<bool>,
    /// Whether spaces at the ends go.
    pub remove_extra_spaces: Option<bool>,
}

/// Texts that tell tokenizers apart: words, numbers, spaces, lines, scripts, case, marks, contractions.
pub(super) const PROBES: [&str; 14] = [
    "Hello world",
    " leading, trailing and   inner    spaces  ",
    "I'm, you'LL, they've DON'T 's 'S \u{2019}t",
    "1 12 123 1234 12345 3.14159 0x7f 2024-05-06",
    "line\nline\n\nline\r\n\tindented\n   \n",
    "if (x != 0) { return &y->z[i++]; } // ok?!?!",
    "Größe naïve Ünïcödé İstanbul ß ﬁ Å",
    "Привет мир, как дела? Ελληνικά שלום مرحبا",
    "中文字符测试,日本語のテキスト。한국어 문장",
    "नमस्ते สวัสดี ไทย \u{0301}e\u{0301}",
    "🙂🚀👩‍👩‍👧‍👦 \u{00a0}nbsp\u{3000}wide",
    "CamelCaseWords HTTPServer ALLCAPS iPhone",
    "<s> [INST] <|endoftext|> </s> <0x0A>",
    "a",
];

impl OwnedVocabulary {
    /// The vocabulary of a tokenizer's file, which `tokenizer` was made of: `tokenizer.json`, `tokenizer.model` or
    /// llama2.c's `tokenizer.bin`. `size` is the vocabulary of the model, which may have more tokens.
    ///
    /// # Errors
    /// [`Error::Malformed`] where GGUF cannot hold it.
    pub fn of_file(file: &[u8], tokenizer: &Tokenizer, size: usize) -> Result<OwnedVocabulary> {
        let candidates = if file.trim_ascii_start().starts_with(b"{") {
            of_json(file)?
        } else if file.starts_with(b"\x0a") {
            vec![of_sentencepiece(file)?]
        } else {
            vec![of_llama2c(file)?]
        };
        let probes = PROBES.iter().map(|text| ids(tokenizer, text)).collect::<Result<Vec<_>>>()?;
        let mut failed = None;
        for mut candidate in candidates {
            candidate.complete(tokenizer, size)?;
            let made = match Tokenizer::from_gguf_vocabulary(&candidate.borrow()) {
                Ok(made) => made,
                Err(e) => {
                    failed = Some(e);
                    continue;
                }
            };
            let same = |(text, want): (&&str, &Vec<u32>)| ids(&made, text).is_ok_and(|ids| ids == *want);
            if PROBES.iter().zip(&probes).all(same) {
                return Ok(candidate);
            }
        }
        Err(failed.unwrap_or_else(|| {
            Error::invalid(
                "GGUF cannot hold this tokenizer: its pre-tokenizer or model is none that GGUF names",
            )
        }))
    }

    /// As [`Tokenizer::from_gguf_vocabulary`] takes it.
    pub fn borrow(&self) -> GgufVocabulary<'_> {
        GgufVocabulary {
            model: self.model,
            pre: &self.pre,
            tokens: self.tokens.iter().map(String::as_str).collect(),
            scores: self.scores.clone(),
            kinds: self.kinds.clone(),
            merges: self.merges.iter().map(String::as_str).collect(),
            charsmap: self.charsmap.clone(),
            bos: self.bos,
            eos: self.eos,
            pad: self.pad,
            add_bos: Some(self.add_bos),
            add_eos: Some(self.add_eos),
            add_space: self.add_space,
            remove_extra_spaces: self.remove_extra_spaces,
        }
    }

    /// Special tokens as the tokenizer uses them, and as many tokens as the model has.
    fn complete(&mut self, tokenizer: &Tokenizer, size: usize) -> Result<()> {
        let text = ids(tokenizer, "a")?;
        let (first, last) = (text.first().copied(), text.last().copied());
        self.bos = self.bos.or(tokenizer.bos_id());
        self.eos = self.eos.or(tokenizer.eos_id());
        self.pad = self.pad.or(tokenizer.pad_id());
        let control =
            |id: Option<u32>| id.filter(|&id| self.kinds.get(id as usize) == Some(&(Kind::Control as i32)));
        (self.add_bos, self.add_eos) = (control(first).is_some(), control(last).is_some());
        // What begins a text is what the template puts there.
        self.bos = control(first).or(self.bos);
        self.eos = control(last).filter(|_| text.len() > 1).or(self.eos);
        for id in self.tokens.len()..size {
            self.push(format!("[PAD{id}]"), -1e9, Kind::Unused);
        }
        Ok(())
    }

    fn push(&mut self, token: String, score: f32, kind: Kind) {
        self.tokens.push(token);
        if self.model != "gpt2" {
            self.scores.push(score);
        }
        self.kinds.push(kind as i32);
    }
}

pub(super) fn ids(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>> {
    // Whether special tokens are looked for in a text is the reader's choice, not the file's.
    let options = EncodeOptions {
        truncation: Choice::Off,
        padding: Choice::Off,
        special_text: Choice::Off,
        ..EncodeOptions::default()
    };
    Ok(tokenizer.encode(text, &options)?.ids)
}

fn of_sentencepiece(file: &[u8]) -> Result<OwnedVocabulary> {
    let (pieces, spec) = protobuf::read(file)?;
    let mut out = OwnedVocabulary {
        model: if spec.algorithm == Algorithm::Bpe { "llama" } else { "t5" },
        pre: "default".to_string(),
        charsmap: protobuf::charsmap(file)?,
        add_space: Some(spec.normalizer.dummy_space),
        remove_extra_spaces: Some(spec.normalizer.remove_extra),
        ..OwnedVocabulary::default()
    };
    pieces.iter().for_each(|piece| out.push(piece.text.to_string(), piece.score, piece.kind));
    out.unk = pieces.iter().position(|piece| piece.kind == Kind::Unknown).map(|id| id as u32);
    Ok(out)
}

fn of_llama2c(file: &[u8]) -> Result<OwnedVocabulary> {
    let mut out = OwnedVocabulary {
        model: "llama",
        pre: "default".to_string(),
        unk: Some(0),
        ..OwnedVocabulary::default()
    };
    llama2c::read(file)?.into_iter().for_each(|(score, text, kind)| out.push(text, score, kind));
    Ok(out)
}

/// One candidate a name of a pattern; one for byte-pair encoding over `▁`.
fn of_json(file: &[u8]) -> Result<Vec<OwnedVocabulary>> {
    let root = json::parse(file)?;
    let model = root.get("model").ok_or_else(|| Error::invalid("no \"model\" in the tokenizer"))?;
    let kind = model.get("type").and_then(Value::as_str).unwrap_or_default();
    if !(kind == "BPE" || kind.is_empty() && model.get("merges").is_some()) {
        return Err(Error::invalid(format!("GGUF cannot hold a tokenizer of the type {kind:?}")));
    }
    let merges = merges(model)?;
    let spaces = model.get("byte_fallback").and_then(Value::as_bool).unwrap_or(false);
    let mut base = OwnedVocabulary {
        model: if spaces { "llama" } else { "gpt2" },
        pre: "default".to_string(),
        unk: None,
        ..OwnedVocabulary::default()
    };
    tokens(root, model, &merges, &mut base)?;
    if spaces {
        let spaced = |add_space| OwnedVocabulary { add_space: Some(add_space), ..base.clone() };
        return Ok(vec![spaced(true), spaced(false)]);
    }
    base.merges = merges.iter().map(|(a, b)| format!("{a} {b}")).collect();
    let named = |pre: &str| OwnedVocabulary { pre: pre.to_string(), ..base.clone() };
    // The last but two: Qwen's pattern over texts that are not composed first.
    let others = ["deepseek-r1-qwen", "falcon", "starcoder"];
    Ok(PATTERNS.iter().map(|(names, _)| names[0]).chain(others).map(named).collect())
}

/// `"a b"` or `["a", "b"]`.
fn merges(model: Value<'_>) -> Result<Vec<(String, String)>> {
    let list = model.get("merges").ok_or_else(|| Error::invalid("no \"merges\" in the tokenizer"))?;
    let list = list.elements().ok_or_else(|| list.expected("a list of merges"))?;
    let one = |merge: Value<'_>| {
        let parts = match (merge.as_str(), merge.elements()) {
            (Some(text), _) => text.split_once(' ').map(|(a, b)| (a.to_string(), b.to_string())),
            (_, Some(mut pair)) => {
                let mut next = || pair.next().and_then(Value::as_str).map(|text| text.into_owned());
                next().zip(next())
            }
            _ => None,
        };
        let parts = parts.filter(|(a, b)| !a.contains(' ') && !b.contains(' '));
        parts.ok_or_else(|| merge.expected("two tokens without spaces as a merge"))
    };
    list.map(one).collect()
}

/// Tokens and their kinds. Over `▁` a token's score is the place of the first merge that makes it, as SentencePiece
/// numbers them.
fn tokens(
    root: Value<'_>,
    model: Value<'_>,
    merges: &[(String, String)],
    out: &mut OwnedVocabulary,
) -> Result<()> {
    let vocab = model.get("vocab").ok_or_else(|| Error::invalid("no \"vocab\" in the tokenizer"))?;
    let entries = vocab.entries().ok_or_else(|| vocab.expected("an object of tokens"))?;
    let mut by_id: BTreeMap<usize, (String, Kind)> = BTreeMap::new();
    let byte = |text: &str| text.len() == 6 && text.starts_with("<0x") && text.ends_with('>');
    let unknown = model.get("unk_token").and_then(Value::as_str);
    for (token, id) in entries {
        let id = id.as_usize().ok_or_else(|| id.expected("an id"))?;
        let kind = match &*token {
            text if unknown.as_deref() == Some(text) => Kind::Unknown,
            text if out.model == "llama" && byte(text) => Kind::Byte,
            _ => Kind::Normal,
        };
        by_id.insert(id, (token.into_owned(), kind));
    }
    for added in root.get("added_tokens").and_then(Value::elements).into_iter().flatten() {
        let text = added.get("content").and_then(Value::as_str).unwrap_or_default().into_owned();
        let id = added.get("id").and_then(Value::as_usize).ok_or_else(|| added.expected("an added token"))?;
        let special = added.get("special").and_then(Value::as_bool).unwrap_or(false);
        let kind = match unknown.as_deref() == Some(&text) && out.model == "llama" {
            true => Kind::Unknown,
            false if special => Kind::Control,
            false => Kind::UserDefined,
        };
        by_id.insert(id, (text, kind));
    }
    let mut ranks: BTreeMap<String, usize> = BTreeMap::new();
    for (rank, (a, b)) in merges.iter().enumerate() {
        ranks.entry(format!("{a}{b}")).or_insert(rank);
    }
    for (id, (token, kind)) in by_id {
        if id > 1 << 24 {
            return Err(Error::invalid(format!("token {token:?} has the id {id}")));
        }
        for hole in out.tokens.len()..id {
            out.push(format!("[PAD{hole}]"), -1e9, Kind::Unused);
        }
        let score =
            ranks.get(&token).map_or(if kind == Kind::Normal { -1e9 } else { 0.0 }, |&rank| -(rank as f32));
        out.push(token, score, kind);
    }
    out.unk = out.kinds.iter().position(|&kind| kind == Kind::Unknown as i32).map(|id| id as u32);
    Ok(())
}
