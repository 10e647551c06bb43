//! `vocab.txt`: BERT's vocabulary, a token a line; the line number is the id.

use super::added::{Added, AddedToken};
use super::decode;
use super::normalize::Bert;
use super::post::{Piece, Post};
use super::pretokenize;
use super::vocab::Vocab;
use super::wordpiece::WordPiece;
use super::{Special, Tokenizer};
use crate::{Error, Result};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

/// What a longer word becomes is the unknown token.
const LONGEST_WORD: usize = 100;

impl Tokenizer {
    /// Reads BERT's `vocab.txt`. The file does not say whether the model tells capitals from small letters:
    /// it does if a token that is no special one has a capital A to Z. (A `tokenizer_config.json` next to it
    /// has the last word: [`Tokenizer::open`].)
    ///
    /// # Errors
    /// Two equal lines, or no line `[UNK]`, `[CLS]` or `[SEP]`.
    pub fn from_vocab_txt(text: &str) -> Result<Tokenizer> {
        let special = |line: &str| line.starts_with('[') && line.ends_with(']');
        let capital = |line: &str| !special(line) && line.bytes().any(|b| b.is_ascii_uppercase());
        Tokenizer::bert(&lines(text), !text.lines().any(capital))
    }

    /// BERT's tokenizer with these tokens; whether it makes everything lower case and takes accents off.
    pub(super) fn bert(tokens: &[&str], lowercase: bool) -> Result<Tokenizer> {
        let vocab = Vocab::from_texts(tokens.iter().copied())?;
        let id = |token: &str| {
            let id = vocab.id(token);
            id.ok_or_else(|| Error::invalid(format!("no token {token}: this is not a vocabulary of BERT")))
        };
        let (unk, cls, sep) = (id("[UNK]")?, id("[CLS]")?, id("[SEP]")?);
        let pad = vocab.id("[PAD]");
        let added = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].into_iter().filter_map(|token| {
            let content = String::from(token);
            Some(AddedToken { id: vocab.id(token)?, content, special: true, ..AddedToken::default() })
        });
        let added = Added::new(added.collect(), &[])?;
        let normalizer = Bert { clean_text: true, chinese_chars: true, strip_accents: lowercase, lowercase };
        let model = Box::new(WordPiece::new(vocab, "##", "[UNK]", LONGEST_WORD)?);
        let mut tokenizer =
            Tokenizer::assemble(model, added, vec![Box::new(normalizer)], vec![Box::new(pretokenize::Bert)]);
        let single = vec![Piece::Token(cls, 0), Piece::First(0), Piece::Token(sep, 0)];
        let mut pair = single.clone();
        pair.extend([Piece::Second(1), Piece::Token(sep, 1)]);
        tokenizer.posts = vec![Post::Template { single, pair }];
        tokenizer.stages = vec![Box::new(decode::WordPiece { prefix: "##".into(), cleanup: true })];
        tokenizer.special = Special { bos: Some(cls), eos: Some(sep), unk: Some(unk), pad };
        Ok(tokenizer)
    }
}

/// The lines of a vocabulary. They end in LF or CR LF and in nothing else; the last may end the file.
pub(super) fn lines(text: &str) -> Vec<&str> {
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)).collect()
}
