//! Tokenizers: text to ids and back, with the ids of the tokenizers that the models were trained with.
//!
//! ```text
//!   text ─ added tokens cut out ─ normalised ─ cut into words ─ model: tokens ─ template ─ cut, filled ─► ids
//!   ids  ─ decoder, token by token ─► text
//! ```
//!
//! | source | constructor |
//! |---|---|
//! | `tokenizer.json` (Hugging Face) | [`Tokenizer::from_json`] |
//! | `vocab.txt` (BERT) | [`Tokenizer::from_vocab_txt`] |
//! | `tokenizer.model` (SentencePiece) | [`Tokenizer::from_sentencepiece`] |
//! | `tokenizer.bin` (llama2.c) | [`Tokenizer::from_llama2c`] |
//! | GGUF | [`Tokenizer::from_gguf`] |
//! | any of them, or a folder | [`Tokenizer::open`] |
//!
//! The models are byte-pair encoding (`tokenizers`' and SentencePiece's), Unigram and WordPiece.
//! What a text becomes follows from the file alone: Unicode is version 16.0 whatever the compiler carries,
//! no random choice (dropout is refused), no cache. Time is in proportion to the text; `alloc` is enough.
//!
//! Offsets are those of `tokenizers`: a token that is part of a character (a byte) has the whole character.
//!
//! ```
//! use samebits::io::tokenizer::{EncodeOptions, Tokenizer};
//! let tokenizer = Tokenizer::from_vocab_txt("[PAD]\n[UNK]\n[CLS]\n[SEP]\nun\n##able\n")?;
//! let encoding = tokenizer.encode("Unable", &EncodeOptions::default())?;
//! assert_eq!(encoding.ids, [2, 4, 5, 3]);
//! assert_eq!(encoding.offsets[1], (0, 2));
//! assert_eq!(tokenizer.decode(&encoding.ids, true), "unable");
//! # Ok::<(), samebits::Error>(())
//! ```

mod added;
mod aligned;
mod bpe;
mod charsmap;
mod config_json;
mod decode;
mod encoding;
pub(crate) mod flat;
mod gguf;
mod huggingface;
mod llama2c;
mod merge;
mod normalize;
#[cfg(feature = "std")]
mod open;
#[cfg(feature = "std")]
mod parse;
mod patterns;
mod post;
mod pretokenize;
mod protobuf;
mod sentencepiece;
mod to_gguf;
mod to_json;
mod train;
mod trie;
pub(crate) mod unicode;
mod unigram;
mod vocab;
mod vocab_txt;
mod wordpiece;

pub use config_json::SpecialTokens;
pub use decode::Decoder;
pub use encoding::{Encoding, Padding, Side, Strategy, Truncation};
pub use flat::{FlatTokenizer, Parts};
pub use gguf::GgufVocabulary;
pub use to_gguf::OwnedVocabulary;
pub use train::{TrainOptions, TrainedTokenizer, Trainer};

use crate::io::flat::Writer;
use crate::{Error, Result};
use added::{Added, Part};
use aligned::Aligned;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use decode::Stage;
use merge::Symbol;
use normalize::Normalizer;
use post::{Piece, Post};
use pretokenize::{PreTokenizer, Words};
use vocab::Vocab;

/// Text to ids and back.
pub struct Tokenizer {
    model: Box<dyn Model>,
    added: Added,
    normalizers: Vec<Normalizer>,
    splitters: Vec<PreTokenizer>,
    posts: Vec<Post>,
    stages: Vec<Box<dyn Stage>>,
    truncation: Option<Truncation>,
    padding: Option<Padding>,
    special: Special,
    /// Whether special tokens written in a text are those tokens, unless the caller says.
    parses_special: bool,
}

/// How words become tokens.
///
/// A tokenizer holds its model and its steps behind tables of functions, not in lists of all there are: what no tokenizer
/// of a program is made of, its linker leaves out.
trait Model: Send + Sync {
    /// Its tokens.
    fn vocab(&self) -> &Vocab;
    /// The tokens of a word; `symbols` is memory to work in.
    fn tokenize(&self, word: &str, symbols: &mut Vec<Symbol>, put: &mut dyn FnMut(Symbol)) -> Result<()>;
    /// Its number in a flat tokenizer.
    fn number(&self) -> usize;
    /// Writes what [`flat::Parts`] read behind that number.
    fn write(&self, to: &mut Writer) -> Result<()>;
}

/// Ids with a part to play.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Special {
    bos: Option<u32>,
    eos: Option<u32>,
    unk: Option<u32>,
    pad: Option<u32>,
}

impl Special {
    /// The tokens that go by the usual names.
    fn by_name(tokenizer: &Tokenizer) -> Special {
        let find = |names: &[&str]| names.iter().find_map(|name| tokenizer.token_to_id(name));
        Special {
            bos: find(&["<s>", "<|begin_of_text|>", "<bos>", "<|startoftext|>", "[CLS]", "<|endoftext|>"]),
            eos: find(&["</s>", "<|end_of_text|>", "<eos>", "<|endoftext|>", "[SEP]"]),
            unk: find(&["<unk>", "[UNK]"]),
            pad: find(&["<pad>", "[PAD]", "<|pad|>"]),
        }
    }
}

/// A setting of the file, which the caller may override.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice<T> {
    /// As the file says.
    #[default]
    File,
    /// Not at all.
    Off,
    /// So.
    Use(T),
}

impl<T> Choice<T> {
    fn or(self, file: Option<T>) -> Option<T> {
        match self {
            Choice::File => file,
            Choice::Off => None,
            Choice::Use(value) => Some(value),
        }
    }
}

/// How to encode. By default as the file says, with the tokens of its template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodeOptions<'a> {
    /// Whether the template's tokens (`[CLS]`, `<s>`, …) are put in.
    pub special_tokens: bool,
    /// A second text, for models that judge pairs.
    pub pair: Option<&'a str>,
    /// Whether long texts are cut.
    pub truncation: Choice<Truncation>,
    /// Whether short texts are filled.
    pub padding: Choice<Padding>,
    /// Whether special tokens written in the text, such as `<s>`, are those tokens (`Use(true)`) or just
    /// characters (`Use(false)`, `Off`): for text that strangers wrote.
    pub special_text: Choice<bool>,
}

impl Default for EncodeOptions<'_> {
    fn default() -> Self {
        EncodeOptions {
            special_tokens: true,
            pair: None,
            truncation: Choice::File,
            padding: Choice::File,
            special_text: Choice::File,
        }
    }
}

impl EncodeOptions<'_> {
    /// The tokens of the text and nothing else: no template, no cutting, no filling.
    pub fn plain() -> Self {
        EncodeOptions {
            special_tokens: false,
            truncation: Choice::Off,
            padding: Choice::Off,
            ..EncodeOptions::default()
        }
    }
}

impl core::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Tokenizer of {} tokens", self.vocab_len())
    }
}

/// Longer texts, in bytes, are refused.
const LONGEST_TEXT: usize = 1 << 31;

impl Tokenizer {
    /// A tokenizer that cuts and joins; without template, decoder or limits.
    fn assemble(
        model: Box<dyn Model>,
        added: Added,
        normalizers: Vec<Normalizer>,
        splitters: Vec<PreTokenizer>,
    ) -> Tokenizer {
        Tokenizer {
            model,
            added,
            normalizers,
            splitters,
            posts: Vec::new(),
            stages: Vec::new(),
            truncation: None,
            padding: None,
            special: Special::default(),
            parses_special: true,
        }
    }

    /// The tokens of `text`.
    ///
    /// # Errors
    /// A text of 2 GiB or more; a limit that leaves no room for the template; characters without a token,
    /// where the model has none for the unknown.
    pub fn encode(&self, text: &str, options: &EncodeOptions<'_>) -> Result<Encoding> {
        let mut encoding = [self.encode_unpadded(text, options.pair, options)?];
        if let Some(padding) = options.padding.or(self.padding) {
            padding.apply(&mut encoding)?;
        }
        let [encoding] = encoding;
        Ok(encoding)
    }

    /// The tokens of each text; where padding is asked for, all of one length. `options.pair` is the second
    /// text of every one.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_batch(&self, texts: &[&str], options: &EncodeOptions<'_>) -> Result<Vec<Encoding>> {
        let pairs = texts.iter().map(|&text| (text, options.pair));
        self.encode_all(pairs, options)
    }

    /// The tokens of each pair of texts, as [`Tokenizer::encode_batch`] gives those of texts.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_pairs(&self, pairs: &[(&str, &str)], options: &EncodeOptions<'_>) -> Result<Vec<Encoding>> {
        self.encode_all(pairs.iter().map(|&(first, second)| (first, Some(second))), options)
    }

    fn encode_all<'a>(
        &self,
        texts: impl Iterator<Item = (&'a str, Option<&'a str>)>,
        options: &EncodeOptions<'_>,
    ) -> Result<Vec<Encoding>> {
        let encode = |(first, second): (&str, Option<&str>)| self.encode_unpadded(first, second, options);
        let mut batch = texts.map(encode).collect::<Result<Vec<_>>>()?;
        if let Some(padding) = options.padding.or(self.padding) {
            padding.apply(&mut batch)?;
        }
        Ok(batch)
    }

    fn encode_unpadded(
        &self,
        text: &str,
        pair: Option<&str>,
        options: &EncodeOptions<'_>,
    ) -> Result<Encoding> {
        let parse = options.special_text.or(Some(self.parses_special)).unwrap_or(false);
        let mut first = self.tokens(text, 0, parse)?;
        let mut second = pair.map(|pair| self.tokens(pair, 1, parse)).transpose()?;
        if let Some(truncation) = options.truncation.or(self.truncation) {
            let added: usize = self.posts.iter().map(|post| post.added(pair.is_some())).sum();
            truncation.apply(&mut first, second.as_mut(), if options.special_tokens { added } else { 0 })?;
        }
        let default = [Piece::First(0), Piece::Second(1)];
        let mut pieces = &default[..];
        for post in &self.posts {
            match post {
                Post::TrimOffsets { prefix_space } => {
                    let token = |id| if self.added.token(id).is_some() { None } else { self.id_to_token(id) };
                    post::trim_offsets(&mut first, text, *prefix_space, token);
                    if let Some((second, text)) = second.as_mut().zip(pair) {
                        post::trim_offsets(second, text, *prefix_space, token);
                    }
                }
                Post::Template { single, pair: two } => pieces = if pair.is_some() { two } else { single },
            }
        }
        if second.is_none() && pieces == default {
            return Ok(first);
        }
        Ok(post::join(pieces, &first, second.as_ref(), options.special_tokens))
    }

    /// The tokens of a text before any template.
    fn tokens(&self, text: &str, type_id: u32, parse_special: bool) -> Result<Encoding> {
        if text.len() >= LONGEST_TEXT {
            return Err(Error::invalid(format!("a text of {} bytes; the limit is 2 GiB", text.len())));
        }
        let mut encoding = Encoding::default();
        let mut symbols = Vec::new();
        self.added.cut(text, &self.normalizers, parse_special, |part| match part {
            Part::Token(token, place) => {
                encoding.push(token.id, place);
                Ok(())
            }
            Part::Text(text) => self.words(text, &mut symbols, &mut encoding),
        })?;
        encoding.complete(text, type_id);
        Ok(encoding)
    }

    fn words(&self, text: Aligned, symbols: &mut Vec<Symbol>, encoding: &mut Encoding) -> Result<()> {
        let mut words = Words::whole(text);
        self.splitters.iter().for_each(|step| step.apply(&mut words));
        for word in &words.words {
            let mut put = |symbol: Symbol| {
                let range = word.start + symbol.start as usize..word.start + symbol.end as usize;
                encoding.push(symbol.id, words.text.origin(range));
            };
            let word = &words.text.text[word.clone()];
            self.model.tokenize(word, symbols, &mut put)?;
        }
        Ok(())
    }

    /// The text of `ids`. Special tokens are left out if `skip_special`, ids without a token always. Bytes
    /// that are no UTF-8 become U+FFFD.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> String {
        let mut decoder = self.decoder(skip_special);
        let mut text = String::new();
        for &id in ids {
            text.push_str(decoder.push(id));
        }
        text.push_str(decoder.finish());
        text
    }

    /// A decoder for ids that come one by one. What it gives adds up to what [`Tokenizer::decode`] gives.
    pub fn decoder(&self, skip_special: bool) -> Decoder<'_> {
        Decoder::new(self, skip_special)
    }

    /// The id of a token, written as the file writes it.
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.added.find(token).map(|token| token.id).or_else(|| self.model.vocab().id(token))
    }

    /// The token with an id, as the file writes it.
    pub fn id_to_token(&self, id: u32) -> Option<&str> {
        self.added.token(id).map(|token| token.content.as_str()).or_else(|| self.model.vocab().text(id))
    }

    /// Whether the token is one of control, which [`Tokenizer::decode`] can leave out.
    pub fn is_special(&self, id: u32) -> bool {
        self.added.token(id).is_some_and(|token| token.special)
    }

    /// One past the largest id: the rows that an embedding needs.
    pub fn vocab_len(&self) -> usize {
        let last = self.added.iter().last().map_or(0, |token| token.id as usize + 1);
        self.model.vocab().len().max(last)
    }

    /// The token that begins a text, where the file or its name says so.
    pub fn bos_id(&self) -> Option<u32> {
        self.special.bos
    }

    /// The token that ends a text.
    pub fn eos_id(&self) -> Option<u32> {
        self.special.eos
    }

    /// The token for what has none.
    pub fn unk_id(&self) -> Option<u32> {
        self.special.unk
    }

    /// The token that fills a batch.
    pub fn pad_id(&self) -> Option<u32> {
        self.special.pad
    }

    /// How long texts are cut unless the caller says.
    pub fn truncation(&self) -> Option<Truncation> {
        self.truncation
    }

    /// How short texts are filled unless the caller says.
    pub fn padding(&self) -> Option<Padding> {
        self.padding
    }

    /// Sets how long texts are cut unless the caller says: a model's own limit may differ from its
    /// tokenizer's.
    pub fn set_truncation(&mut self, truncation: Option<Truncation>) {
        self.truncation = truncation;
    }

    /// Sets how short texts are filled unless the caller says.
    pub fn set_padding(&mut self, padding: Option<Padding>) {
        self.padding = padding;
    }

    /// Refuses ids that are far beyond the number of tokens, or that the template uses and nobody has.
    fn check_ids(&self) -> Result<()> {
        let tokens = self.model.vocab().count() + self.added.iter().count();
        if self.vocab_len() > 4 * tokens + 65_536 {
            let what = format!("an added token has id {}, but there are {tokens}", self.vocab_len() - 1);
            return Err(Error::invalid(what));
        }
        let templates = self.posts.iter().flat_map(|post| match post {
            Post::Template { single, pair } => single.iter().chain(pair).copied().collect(),
            Post::TrimOffsets { .. } => Vec::new(),
        });
        for piece in templates {
            if let Piece::Token(id, _) = piece
                && self.id_to_token(id).is_none()
            {
                return Err(Error::invalid(format!("the template puts in the id {id}, which no token has")));
            }
        }
        Ok(())
    }
}
