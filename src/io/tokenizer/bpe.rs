//! Byte-pair encoding with ranked merges, as `tokenizers` runs it.

use super::Model;
use super::merge::{Merges, Symbol, byte_tokens, join_all};
use super::vocab::{NONE, Vocab};
use crate::io::flat::{Reader, Writer};
use crate::{Error, Result};
use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

/// How a model deviates from plain merging.
#[derive(Default)]
pub(crate) struct BpeOptions {
    /// The token for characters without one; they are dropped where there is none.
    pub unk: Option<String>,
    /// One unknown token for a run of them.
    pub fuse_unk: bool,
    /// Characters without a token become the tokens of their bytes.
    pub byte_fallback: bool,
    /// A word that is a token stays one, whatever the merges say.
    pub ignore_merges: bool,
    /// What a token that does not begin a word carries in front.
    pub prefix: String,
    /// What a token that ends a word carries behind.
    pub suffix: String,
}

/// Byte-pair encoding.
pub(crate) struct Bpe {
    pub vocab: Vocab,
    merges: Merges,
    options: BpeOptions,
    unk: u32,
    bytes: Vec<u32>,
    /// The ids of the characters below U+0200, which include the stand-ins for bytes.
    small: Vec<u32>,
    /// Whether no merge makes a token in which `▁` follows another character: words may then be cut there.
    cut: bool,
}

/// The character that stands for a space.
pub(crate) const SPACE: char = '▁';

/// Whether `▁` follows another character in `token`.
pub(crate) fn space_inside(token: &str) -> bool {
    token.trim_start_matches(SPACE).contains(SPACE)
}

/// Cuts `word` before each `▁` that follows another character.
pub(crate) fn cut_at_spaces(word: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut start = 0;
    core::iter::from_fn(move || {
        let rest = &word[start..];
        if rest.is_empty() {
            return None;
        }
        let spaces = rest.len() - rest.trim_start_matches(SPACE).len();
        let len = rest[spaces..].find(SPACE).map_or(rest.len(), |at| spaces + at);
        start += len;
        Some((start - len, &rest[..len]))
    })
}

impl Bpe {
    /// A model of tokens and the pairs to be joined, the most urgent first.
    pub fn new<'a>(
        vocab: Vocab,
        pairs: impl ExactSizeIterator<Item = Result<(Cow<'a, str>, Cow<'a, str>)>>,
        options: BpeOptions,
    ) -> Result<Bpe> {
        let mut merges = Merges::with_capacity(pairs.len());
        let mut cut = vocab.id("▁").is_some() && options.prefix.is_empty() && options.suffix.is_empty();
        let mut joined = String::new();
        for (rank, parts) in pairs.enumerate() {
            let (left, right) = parts?;
            joined.clear();
            joined.push_str(&left);
            joined.push_str(right.strip_prefix(&*options.prefix).unwrap_or(&right));
            let id = |token: &str| {
                vocab.id(token).ok_or_else(|| {
                    Error::invalid(format!("merge {rank} needs the token {token:?}, which is missing"))
                })
            };
            merges.insert(id(&left)?, id(&right)?, rank as u32, id(&joined)?);
            cut &= !space_inside(&joined);
        }
        Bpe::with(vocab, merges, options, cut)
    }

    fn with(vocab: Vocab, merges: Merges, options: BpeOptions, cut: bool) -> Result<Bpe> {
        let unk = match &options.unk {
            Some(token) => vocab
                .id(token)
                .ok_or_else(|| Error::invalid(format!("the unknown token {token:?} is no token")))?,
            None => NONE,
        };
        let bytes = if options.byte_fallback { byte_tokens(|t| vocab.id(t)) } else { vec![NONE; 256] };
        let mut small = vec![NONE; 0x200];
        for (slot, c) in small.iter_mut().zip('\0'..) {
            *slot = vocab.id(c.encode_utf8(&mut [0; 4])).unwrap_or(NONE);
        }
        Ok(Bpe { vocab, merges, options, unk, bytes, small, cut })
    }

    fn part(&self, word: &str, base: u32, symbols: &mut Vec<Symbol>, put: &mut dyn FnMut(Symbol)) {
        symbols.clear();
        for (at, c) in word.char_indices() {
            let (start, end) = (base + at as u32, base + (at + c.len_utf8()) as u32);
            match self.char_id(word, at, c) {
                NONE => self.unknown(&word[at..at + c.len_utf8()], start, end, symbols),
                id => symbols.push(Symbol { id, start, end }),
            }
        }
        join_all(&self.merges, symbols);
        symbols.iter().copied().for_each(put);
    }

    /// The id of the character at `at`, as the place in its word asks for; [`NONE`] where it has none.
    fn char_id(&self, word: &str, at: usize, c: char) -> u32 {
        let (prefix, suffix) = (&self.options.prefix, &self.options.suffix);
        if prefix.is_empty() && suffix.is_empty() {
            if let Some(&id) = self.small.get(c as usize) {
                return id;
            }
            return self.vocab.id(&word[at..at + c.len_utf8()]).unwrap_or(NONE);
        }
        let prefix = if at == 0 { "" } else { prefix };
        let suffix = if at + c.len_utf8() == word.len() { suffix } else { "" };
        self.vocab.id(&format!("{prefix}{c}{suffix}")).unwrap_or(NONE)
    }

    fn unknown(&self, c: &str, start: u32, end: u32, symbols: &mut Vec<Symbol>) {
        if self.options.byte_fallback && c.bytes().all(|b| self.bytes[usize::from(b)] != NONE) {
            let ids = c.bytes().map(|b| self.bytes[usize::from(b)]);
            return symbols.extend(ids.map(|id| Symbol { id, start, end }));
        }
        if self.unk == NONE {
            return;
        }
        match symbols.last_mut() {
            Some(last) if self.options.fuse_unk && last.id == self.unk && last.end == start => last.end = end,
            _ => symbols.push(Symbol { id: self.unk, start, end }),
        }
    }
}

impl Model for Bpe {
    fn vocab(&self) -> &Vocab {
        &self.vocab
    }

    fn tokenize(&self, word: &str, symbols: &mut Vec<Symbol>, put: &mut dyn FnMut(Symbol)) -> Result<()> {
        let whole = self.options.ignore_merges.then(|| self.vocab.id(word)).flatten();
        if let Some(id) = whole {
            put(Symbol { id, start: 0, end: word.len() as u32 });
        } else if self.cut {
            for (start, part) in cut_at_spaces(word) {
                self.part(part, start as u32, symbols, put);
            }
        } else {
            self.part(word, 0, symbols, put);
        }
        Ok(())
    }

    fn number(&self) -> usize {
        Self::NUMBER
    }

    fn write(&self, to: &mut Writer) -> Result<()> {
        self.vocab.write(to)?;
        self.merges.write(to)?;
        let BpeOptions { unk, fuse_unk, byte_fallback, ignore_merges, prefix, suffix } = &self.options;
        for text in [unk.as_deref().unwrap_or_default(), prefix, suffix] {
            to.text(text)?;
        }
        [*fuse_unk, *byte_fallback, *ignore_merges, self.cut].into_iter().for_each(|flag| to.flag(flag));
        Ok(())
    }
}

impl Bpe {
    pub const NUMBER: usize = 0;

    /// What `write` wrote.
    pub fn read(from: &mut Reader<'_>) -> Result<Box<dyn Model>> {
        let (vocab, merges) = (Vocab::read(from)?, Merges::read(from)?);
        let mut text = || from.text().map(String::from);
        let (unk, prefix, suffix) = (text()?, text()?, text()?);
        let mut flag = || from.flag("how pairs are joined");
        let options = BpeOptions {
            unk: Some(unk).filter(|unk| !unk.is_empty()),
            fuse_unk: flag()?,
            byte_fallback: flag()?,
            ignore_merges: flag()?,
            prefix,
            suffix,
        };
        Ok(Box::new(Bpe::with(vocab, merges, options, flag()?)?))
    }
}
