//! The tokenizer inside a GGUF file.
//!
//! | `tokenizer.ggml.model` | what it is |
//! |---|---|
//! | `llama` | SentencePiece's byte-pair encoding |
//! | `t5` | SentencePiece's Unigram |
//! | `gpt2` | byte-level byte-pair encoding; `tokenizer.ggml.pre` names the pattern |
//! | `bert` | WordPiece; tokens that begin a word carry `▁`, the others lost their `##` |
//!
//! **Reference**: github.com/ggml-org/llama.cpp, `src/llama-vocab.cpp`; ids are those of the original
//! tokenizers, not of llama.cpp's approximations.

use super::added::{Added, AddedToken};
use super::bpe::{Bpe, BpeOptions};
use super::charsmap::Charsmap;
use super::decode;
use super::normalize::Normalizer;
use super::patterns::{CL100K_REGEX, GPT2_REGEX, O200K_REGEX, Pattern, QWEN2_REGEX};
use super::pretokenize::{Behavior, ByteLevel, Digits, PreTokenizer, Punctuation, Split};
use super::sentencepiece::{self, Algorithm, Kind, Piece, Spec, SpmNormalizer};
use super::unicode::Form;
use super::vocab::Vocab;
use super::{Special, Tokenizer};
use crate::io::gguf::{Gguf, ValueType};
use crate::{Error, Result};
use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

/// What a GGUF file says about its tokenizer: the keys `tokenizer.ggml.…`.
///
/// From the file of a tokenizer to a GGUF file's keys and back:
/// ```
/// use samebits::io::tokenizer::{EncodeOptions, GgufVocabulary, OwnedVocabulary, TrainOptions, Tokenizer, Trainer};
/// let mut trainer = Trainer::new(TrainOptions { vocab: 260, ..TrainOptions::default() })?;
/// trainer.feed("a rose is a rose is a rose");
/// let json = trainer.train().to_json();
/// let tokenizer = Tokenizer::from_json(json.as_bytes())?;
/// let owned = OwnedVocabulary::of_file(json.as_bytes(), &tokenizer, tokenizer.vocab_len())?;
/// let vocabulary: GgufVocabulary = owned.borrow();
/// assert_eq!((vocabulary.model, vocabulary.tokens.len()), ("gpt2", tokenizer.vocab_len()));
/// let again = Tokenizer::from_gguf_vocabulary(&vocabulary)?;
/// let ids = |t: &Tokenizer| t.encode("a rose", &EncodeOptions::plain()).map(|e| e.ids);
/// assert_eq!(ids(&again)?, ids(&tokenizer)?);
/// # Ok::<(), samebits::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct GgufVocabulary<'a> {
    /// `model`: `llama`, `t5`, `gpt2` or `bert`.
    pub model: &'a str,
    /// `pre`: the name of the pattern that cuts words.
    pub pre: &'a str,
    /// `tokens`, by id.
    pub tokens: Vec<&'a str>,
    /// `scores`, one a token; may be empty.
    pub scores: Vec<f32>,
    /// `token_type`, one a token; may be empty.
    pub kinds: Vec<i32>,
    /// `merges`.
    pub merges: Vec<&'a str>,
    /// `precompiled_charsmap`.
    pub charsmap: Vec<u8>,
    /// `bos_token_id`
    pub bos: Option<u32>,
    /// `eos_token_id`
    pub eos: Option<u32>,
    /// `padding_token_id`
    pub pad: Option<u32>,
    /// `add_bos_token`
    pub add_bos: Option<bool>,
    /// `add_eos_token`
    pub add_eos: Option<bool>,
    /// `add_space_prefix`
    pub add_space: Option<bool>,
    /// `remove_extra_whitespaces`
    pub remove_extra_spaces: Option<bool>,
}

impl Tokenizer {
    /// The tokenizer of a GGUF file.
    ///
    /// # Errors
    /// Where there is none, its parts contradict each other, or it is of a kind that is not known here.
    pub fn from_gguf(file: &Gguf) -> Result<Tokenizer> {
        let build = || Tokenizer::from_gguf_vocabulary(&GgufVocabulary::read(file)?);
        build().map_err(|e| e.in_file(file.name()))
    }

    /// The tokenizer that the metadata of a GGUF file describe.
    ///
    /// # Errors
    /// As [`Tokenizer::from_gguf`].
    pub fn from_gguf_vocabulary(vocabulary: &GgufVocabulary<'_>) -> Result<Tokenizer> {
        let n = vocabulary.tokens.len();
        for (key, len) in [("scores", vocabulary.scores.len()), ("token_type", vocabulary.kinds.len())] {
            if len != 0 && len != n {
                return Err(Error::invalid(format!("tokenizer.ggml.{key} has {len} entries for {n} tokens")));
            }
        }
        match vocabulary.model {
            "llama" => vocabulary.sentencepiece(Algorithm::Bpe),
            "t5" => vocabulary.sentencepiece(Algorithm::Unigram),
            "gpt2" => vocabulary.byte_level(),
            "bert" => vocabulary.bert(),
            other => Err(Error::invalid(format!("tokenizer.ggml.model {other:?} is not known"))),
        }
    }
}

impl<'a> GgufVocabulary<'a> {
    /// What `file` says.
    ///
    /// # Errors
    /// Where keys are missing or of another type.
    pub fn read(file: &'a Gguf) -> Result<GgufVocabulary<'a>> {
        let strings = |key| match file.find(key) {
            Some(entry) => {
                let array = entry.array(ValueType::String)?;
                Ok(array.iter().filter_map(|value| value.as_str()).collect())
            }
            None => Ok::<Vec<&str>, Error>(Vec::new()),
        };
        let id = |key| file.find(key).map(|entry| entry.u32()).transpose();
        let flag = |key| file.find(key).map(|entry| entry.bool()).transpose();
        let scores = file.find("tokenizer.ggml.scores").map(|e| e.array(ValueType::F32)).transpose()?;
        let kinds = file.find("tokenizer.ggml.token_type").map(|e| e.array(ValueType::I32)).transpose()?;
        let charsmap = file.find("tokenizer.ggml.precompiled_charsmap").and_then(|e| e.value.as_array());
        let tokens = file.entry("tokenizer.ggml.tokens")?.array(ValueType::String)?;
        Ok(GgufVocabulary {
            model: file.entry("tokenizer.ggml.model")?.str()?,
            pre: file.find("tokenizer.ggml.pre").map_or(Ok("default"), |entry| entry.str())?,
            tokens: tokens.iter().filter_map(|value| value.as_str()).collect(),
            scores: scores.into_iter().flatten().filter_map(|x| x.as_f64()).map(|x| x as f32).collect(),
            kinds: kinds.into_iter().flatten().filter_map(|x| x.as_i128()).map(|x| x as i32).collect(),
            merges: strings("tokenizer.ggml.merges")?,
            charsmap: charsmap.map_or(Vec::new(), |array| array.bytes().into()),
            bos: id("tokenizer.ggml.bos_token_id")?,
            eos: id("tokenizer.ggml.eos_token_id")?,
            pad: id("tokenizer.ggml.padding_token_id")?,
            add_bos: flag("tokenizer.ggml.add_bos_token")?,
            add_eos: flag("tokenizer.ggml.add_eos_token")?,
            add_space: flag("tokenizer.ggml.add_space_prefix")?,
            remove_extra_spaces: flag("tokenizer.ggml.remove_extra_whitespaces")?,
        })
    }

    fn kind(&self, id: usize) -> Result<Kind> {
        let Some(&number) = self.kinds.get(id) else { return Ok(Kind::Normal) };
        let kind = Kind::from_number(number.into());
        kind.ok_or_else(|| Error::invalid(format!("token {id} has the unknown type {number}")))
    }

    fn sentencepiece(&self, algorithm: Algorithm) -> Result<Tokenizer> {
        if self.scores.is_empty() || self.kinds.is_empty() {
            return Err(Error::invalid("a SentencePiece vocabulary needs scores and token types"));
        }
        let mut pieces = Vec::with_capacity(self.tokens.len());
        for (id, (&text, &score)) in self.tokens.iter().zip(&self.scores).enumerate() {
            pieces.push(Piece { text, score, kind: self.kind(id)? });
        }
        let normalizer = SpmNormalizer {
            charsmap: Charsmap::parse(&self.charsmap)?,
            dummy_space: self.add_space.unwrap_or(true),
            remove_extra: self.remove_extra_spaces.unwrap_or(false),
            ..SpmNormalizer::default()
        };
        let bpe = algorithm == Algorithm::Bpe;
        let spec = Spec {
            algorithm,
            normalizer,
            byte_fallback: pieces.iter().any(|piece| piece.kind == Kind::Byte),
            bos: self.bos,
            eos: self.eos,
            pad: self.pad,
            begin: self.bos.filter(|_| self.add_bos.unwrap_or(bpe)),
            end: self.eos.filter(|_| self.add_eos.unwrap_or(!bpe)),
            parses_special: true,
        };
        Tokenizer::sentencepiece(&pieces, spec)
    }

    /// Whether a word that is a token is never merged: Llama 3's.
    pub(super) fn ignores_merges(&self) -> bool {
        PATTERNS[LLAMA3].0.contains(&self.pre)
    }

    fn byte_level(&self) -> Result<Tokenizer> {
        let vocab = Vocab::from_texts(self.tokens.iter().copied())?;
        let llama3 = self.ignores_merges();
        let options = BpeOptions { ignore_merges: llama3, ..BpeOptions::default() };
        let parts = |&merge: &&'a str| {
            let at = merge.bytes().skip(1).position(|b| b == b' ').map(|at| at + 1);
            let parts = at.map(|at| (Cow::Borrowed(&merge[..at]), Cow::Borrowed(&merge[at + 1..])));
            parts.ok_or_else(|| Error::invalid(format!("the merge {merge:?} is not two tokens")))
        };
        let model = Box::new(Bpe::new(vocab, self.merges.iter().map(parts), options)?);
        let mut tokens = Vec::new();
        for (id, &content) in self.tokens.iter().enumerate() {
            let kind = self.kind(id)?;
            if matches!(kind, Kind::Control | Kind::Unknown | Kind::UserDefined) && !content.is_empty() {
                let (id, special) = (id as u32, kind != Kind::UserDefined);
                tokens.push(AddedToken { id, special, content: content.into(), ..AddedToken::default() });
            }
        }
        // Qwen's texts are composed first, which llama.cpp leaves out; those that borrow its pattern are not.
        let normalizers: Vec<Normalizer> = match self.pre {
            "qwen2" => vec![Box::new(Form::Nfc)],
            _ => Vec::new(),
        };
        let added = Added::new(tokens, &normalizers)?;
        let mut tokenizer = Tokenizer::assemble(model, added, normalizers, splitters(self.pre)?);
        tokenizer.stages = vec![Box::new(decode::ByteLevel)];
        tokenizer.special = Special { bos: self.bos, eos: self.eos, unk: None, pad: self.pad };
        let begin = self.bos.filter(|_| self.add_bos.unwrap_or(llama3));
        let end = self.eos.filter(|_| self.add_eos.unwrap_or(false));
        tokenizer.posts = sentencepiece::template(begin, end);
        tokenizer.check_ids()?;
        Ok(tokenizer)
    }

    fn bert(&self) -> Result<Tokenizer> {
        // `[…]` stand as they are.
        let original = |token: &&'a str| match token.strip_prefix('▁') {
            Some(word) => String::from(word),
            None if token.starts_with('[') && token.ends_with(']') => String::from(*token),
            None => format!("##{token}"),
        };
        let tokens: Vec<String> = self.tokens.iter().map(original).collect();
        let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
        Tokenizer::bert(&tokens, true)
    }
}

/// The names by which `tokenizer.ggml.pre` calls a pattern.
pub(super) const PATTERNS: &[(&[&str], &str)] = &[
    (&["llama3", "llama-v3", "llama-bpe", "falcon3", "dbrx", "smaug-bpe", "chatglm-bpe"], CL100K_REGEX),
    (&["gpt-2", "phi-2", "jina-es", "jina-de", "mpt", "olmo", "jais", "roberta-bpe", "gigachat"], GPT2_REGEX),
    (&["qwen2", "stablelm2", "deepseek-r1-qwen", "megrez"], QWEN2_REGEX),
    (&["gpt-4o", "llama4"], O200K_REGEX),
];

/// The row of [`PATTERNS`] with Llama 3's.
const LLAMA3: usize = 0;

/// The one expression that cuts words, where the name stands for one.
pub(super) fn expression(pre: &str) -> Option<&'static str> {
    PATTERNS.iter().find(|(names, _)| names.contains(&pre)).map(|&(_, expression)| expression)
}

fn splitters(pre: &str) -> Result<Vec<PreTokenizer>> {
    let split = |expression| -> Result<PreTokenizer> {
        Ok(Box::new(Split {
            pattern: Pattern::regex(expression)?,
            behavior: Behavior::Isolated,
            invert: false,
        }))
    };
    let bytes = |cut| Box::new(ByteLevel { prefix_space: false, cut });
    if let Some(expression) = expression(pre) {
        return Ok(vec![split(expression)?, bytes(false)]);
    }
    Ok(match pre {
        "falcon" => vec![
            Box::new(Punctuation(Behavior::Contiguous)),
            bytes(true),
            Box::new(Digits { individually: false }),
            split("[0-9][0-9][0-9]")?,
        ],
        "starcoder" | "refact" | "command-r" | "smollm" | "codeshell" | "exaone" => {
            vec![Box::new(Digits { individually: true }), bytes(true)]
        }
        other => return Err(Error::invalid(format!("tokenizer.ggml.pre {other:?} is not known"))),
    })
}
