//! SentencePiece: its normalisation, its byte-pair encoding, and tokenizers made of them.
//!
//! Unlike `tokenizers`, SentencePiece sees a whole text as one word in which `▁` stands for a space, and
//! joins neighbours by the score of the result instead of a list of pairs.
//!
//! **Reference**: github.com/google/sentencepiece, `normalizer.cc`, `bpe_model.cc`.

mod normalizer;

pub(crate) use normalizer::SpmNormalizer;

use super::added::{Added, AddedToken};
use super::bpe::{SPACE, cut_at_spaces, space_inside};
use super::decode;
use super::merge::{Joins, Symbol, byte_tokens, join_all};
use super::normalize::Normalizer;
use super::patterns::Pattern;
use super::post::{Piece as Part, Post};
use super::unigram::{self, BytePlace, Sums, Unigram};
use super::vocab::{NONE, Vocab};
use super::{Model, Special, Tokenizer};
use crate::io::flat::{Reader, Writer};
use crate::{Error, Result};
use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;
use normalizer::UserDefined;

/// What a piece is. The numbers are those of `sentencepiece_model.proto`, and of GGUF's `token_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A text.
    Normal = 1,
    /// What stands for all that has no piece.
    Unknown = 2,
    /// In no text: `<s>`.
    Control = 3,
    /// A text that is never cut.
    UserDefined = 4,
    /// In no text any more.
    Unused = 5,
    /// A byte: `<0x0A>`.
    Byte = 6,
}

impl Kind {
    /// The kind of a number.
    pub fn from_number(number: i128) -> Option<Kind> {
        let all = [Kind::Normal, Kind::Unknown, Kind::Control, Kind::UserDefined, Kind::Unused, Kind::Byte];
        all.into_iter().find(|&kind| kind as i128 == number)
    }
}

/// A piece of a vocabulary.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece<'a> {
    pub text: &'a str,
    pub score: f32,
    pub kind: Kind,
}

/// How pieces are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    /// Byte-pair encoding by score.
    Bpe,
    /// The best of all ways to cut.
    Unigram,
}

/// What a file says besides its pieces.
pub(crate) struct Spec {
    pub algorithm: Algorithm,
    pub normalizer: SpmNormalizer,
    /// Characters without a piece become bytes.
    pub byte_fallback: bool,
    pub bos: Option<u32>,
    pub eos: Option<u32>,
    pub pad: Option<u32>,
    /// What the template puts before and after a text.
    pub begin: Option<u32>,
    pub end: Option<u32>,
    /// Whether control pieces written in a text are those pieces.
    pub parses_special: bool,
}

/// SentencePiece's byte-pair encoding.
pub(crate) struct SpmBpe {
    vocab: Vocab,
    /// By id: the rank of its score among all; [`NONE`] where no text contains the piece.
    ranks: Cow<'static, [u32]>,
    user_defined: Option<UserDefined>,
    unk: u32,
    bytes: Option<Vec<u32>>,
    /// The length of the longest piece, in bytes.
    longest: usize,
    /// Whether texts may be cut before every `▁` that follows another character.
    cut: bool,
}

/// The id of a character that has no piece.
const UNKNOWN: u32 = NONE - 1;

/// The joins of one part of a text.
struct ByScore<'a> {
    model: &'a SpmBpe,
    text: &'a str,
}

impl Joins for ByScore<'_> {
    #[inline]
    fn joined(&self, left: Symbol, right: Symbol) -> Option<(u32, u32)> {
        let range = left.start as usize..right.end as usize;
        if range.len() > self.model.longest {
            return None;
        }
        let id = self.model.vocab.id(&self.text[range])?;
        Some((self.model.ranks[id as usize], id)).filter(|&(rank, _)| rank != NONE)
    }
}

impl SpmBpe {
    fn new(vocab: Vocab, pieces: &[Piece<'_>], unk: u32, byte_fallback: bool) -> Result<SpmBpe> {
        let inside = |kind| matches!(kind, Kind::Normal | Kind::UserDefined);
        let mut scores: Vec<f32> = pieces.iter().filter(|p| inside(p.kind)).map(|p| p.score).collect();
        if let Some(piece) = pieces.iter().find(|p| p.score.is_nan()) {
            return Err(Error::invalid(format!("the piece {:?} has the score NaN", piece.text)));
        }
        scores.sort_unstable_by(|a, b| b.total_cmp(a));
        scores.dedup_by(|a, b| a == b); // 0 and −0 are one score
        let rank = |piece: &Piece<'_>| match inside(piece.kind) {
            true => scores.partition_point(|&score| score > piece.score) as u32,
            false => NONE,
        };
        let texts = || pieces.iter().filter(|p| inside(p.kind)).map(|p| p.text);
        Ok(SpmBpe {
            ranks: pieces.iter().map(rank).collect::<Vec<u32>>().into(),
            user_defined: UserDefined::of(pieces),
            unk,
            bytes: byte_fallback.then(|| byte_tokens(|token| vocab.id(token))),
            longest: texts().map(str::len).max().unwrap_or(0),
            cut: !texts().any(space_inside),
            vocab,
        })
    }

    /// The pieces of a text.
    fn pieces(&self, text: &str, symbols: &mut Vec<Symbol>, put: &mut dyn FnMut(Symbol)) {
        let mut out = Out { model: self, text, unknown: None, put };
        let mut at = 0;
        let mut from = 0;
        let Some(UserDefined { trie, .. }) = &self.user_defined else {
            return self.part(text, 0, symbols, &mut out);
        };
        while at < text.len() {
            if let Some((len, id)) = trie.longest(&text.as_bytes()[at..]) {
                self.part(&text[from..at], from, symbols, &mut out);
                out.push(Symbol { id, start: at as u32, end: (at + len) as u32 });
                at += len;
                from = at;
            } else {
                at += 1; // pieces are whole characters: none begins inside of one
            }
        }
        self.part(&text[from..], from, symbols, &mut out);
        out.flush();
    }

    /// The pieces of a part without user-defined ones, which begins at byte `base`.
    fn part(&self, part: &str, base: usize, symbols: &mut Vec<Symbol>, out: &mut Out<'_>) {
        if !self.cut {
            self.run(part, base, symbols, out);
        } else {
            for (start, word) in cut_at_spaces(part) {
                self.run(word, base + start, symbols, out);
            }
        }
        if self.user_defined.is_none() {
            out.flush();
        }
    }

    fn run(&self, word: &str, base: usize, symbols: &mut Vec<Symbol>, out: &mut Out<'_>) {
        symbols.clear();
        for (at, c) in word.char_indices() {
            let end = at + c.len_utf8();
            let id = self.vocab.id(&word[at..end]).filter(|&id| self.ranks[id as usize] != NONE);
            symbols.push(Symbol { id: id.unwrap_or(UNKNOWN), start: at as u32, end: end as u32 });
        }
        join_all(&ByScore { model: self, text: word }, symbols);
        let base = base as u32;
        for &Symbol { id, start, end } in symbols.iter() {
            out.push(Symbol { id, start: base + start, end: base + end });
        }
    }
}

/// Where pieces go: unknown ones become bytes, or one unknown piece a run.
struct Out<'a> {
    model: &'a SpmBpe,
    text: &'a str,
    unknown: Option<Symbol>,
    put: &'a mut dyn FnMut(Symbol),
}

impl Model for SpmBpe {
    fn vocab(&self) -> &Vocab {
        &self.vocab
    }

    fn tokenize(&self, word: &str, symbols: &mut Vec<Symbol>, put: &mut dyn FnMut(Symbol)) -> Result<()> {
        self.pieces(word, symbols, put);
        Ok(())
    }

    fn number(&self) -> usize {
        Self::NUMBER
    }

    fn write(&self, to: &mut Writer) -> Result<()> {
        self.vocab.write(to)?;
        to.table(&self.ranks)?;
        UserDefined::write(self.user_defined.as_ref(), to)?;
        to.u32(self.unk);
        to.count(self.longest)?;
        to.flag(self.bytes.is_some());
        to.flag(self.cut);
        Ok(())
    }
}

impl SpmBpe {
    pub const NUMBER: usize = 4;

    /// What `write` wrote.
    pub fn read(from: &mut Reader<'_>) -> Result<Box<dyn Model>> {
        let (vocab, ranks) = (Vocab::read(from)?, from.table(0)?);
        if ranks.len() != vocab.len() {
            return Err(from.error("not one rank a piece"));
        }
        let (user_defined, unk) = (UserDefined::read(from)?, from.u32()?);
        let longest = from.u32()? as usize;
        let bytes = from.flag("whether characters become bytes")?;
        let bytes = bytes.then(|| byte_tokens(|token| vocab.id(token)));
        let cut = from.flag("whether texts are cut at spaces")?;
        Ok(Box::new(SpmBpe { vocab, ranks, user_defined, unk, bytes, longest, cut }))
    }
}

impl Out<'_> {
    fn push(&mut self, symbol: Symbol) {
        if symbol.id != UNKNOWN {
            self.flush();
            return (self.put)(symbol);
        }
        let c = self.text[symbol.start as usize..symbol.end as usize].bytes();
        if let Some(bytes) = &self.model.bytes
            && c.clone().all(|b| bytes[usize::from(b)] != NONE)
        {
            return c.for_each(|b| (self.put)(Symbol { id: bytes[usize::from(b)], ..symbol }));
        }
        match &mut self.unknown {
            Some(run) => run.end = symbol.end,
            None => self.unknown = Some(Symbol { id: self.model.unk, ..symbol }),
        }
    }

    fn flush(&mut self) {
        if let Some(run) = self.unknown.take() {
            (self.put)(run);
        }
    }
}

impl Tokenizer {
    /// A tokenizer as SentencePiece runs it.
    pub(super) fn sentencepiece(pieces: &[Piece<'_>], mut spec: Spec) -> Result<Tokenizer> {
        let vocab = Vocab::from_texts(pieces.iter().map(|piece| piece.text))?;
        let mut unknown = (0..).zip(pieces).filter(|(_, piece)| piece.kind == Kind::Unknown);
        let (Some((unk, _)), None) = (unknown.next(), unknown.next()) else {
            return Err(Error::invalid("a vocabulary should have one unknown piece"));
        };
        for id in [spec.bos, spec.eos, spec.pad, spec.begin, spec.end].into_iter().flatten() {
            if vocab.text(id).is_none() {
                let what = format!("a special piece has the id {id}, but there are {} pieces", pieces.len());
                return Err(Error::invalid(what));
            }
        }
        // What SentencePiece takes off the beginning again.
        let strip = match &spec.normalizer {
            SpmNormalizer { remove_extra: true, .. } => usize::MAX,
            SpmNormalizer { dummy_space: true, space_behind: false, .. } => 1,
            _ => 0,
        };
        let added = added(pieces, spec.parses_special)?;
        let model: Box<dyn Model> = match spec.algorithm {
            Algorithm::Bpe => Box::new(SpmBpe::new(vocab, pieces, unk, spec.byte_fallback)?),
            Algorithm::Unigram => {
                let model = Unigram::new(vocab, unigram_pieces(pieces), Some(unk), Sums::Single)?;
                Box::new(if spec.byte_fallback {
                    model.with_byte_fallback(BytePlace::Character)
                } else {
                    model
                })
            }
        };
        spec.normalizer.user_defined = UserDefined::of(pieces);
        let normalizers: Vec<Normalizer> = vec![Box::new(spec.normalizer)];
        let mut tokenizer = Tokenizer::assemble(model, added, normalizers, Vec::new());
        tokenizer.special = Special { bos: spec.bos, eos: spec.eos, unk: Some(unk), pad: spec.pad };
        tokenizer.posts = template(spec.begin, spec.end);
        tokenizer.parses_special = spec.parses_special;
        tokenizer.stages = vec![
            Box::new(decode::Replace(Pattern::Literal(SPACE.into()), " ".into())),
            Box::new(decode::ByteFallback),
            Box::new(decode::Strip { content: ' ', start: strip, stop: 0, whole: true }),
        ];
        Ok(tokenizer)
    }
}

/// Control pieces, to be found in texts on demand and left out when decoding. Where texts are parsed for
/// them, user-defined pieces count as well, so that each cuts the text.
fn added(pieces: &[Piece<'_>], parses: bool) -> Result<Added> {
    let wanted = |kind| match kind {
        Kind::Control | Kind::Unknown => true,
        Kind::UserDefined => parses,
        _ => false,
    };
    let found = (0..).zip(pieces).filter(|(_, piece)| wanted(piece.kind) && !piece.text.is_empty());
    let tokens = found.map(|(id, piece)| AddedToken {
        id,
        content: piece.text.into(),
        special: piece.kind != Kind::UserDefined,
        ..AddedToken::default()
    });
    Added::new(tokens.collect(), &[])
}

/// One token before, one after every text.
pub(super) fn template(begin: Option<u32>, end: Option<u32>) -> Vec<Post> {
    if begin.is_none() && end.is_none() {
        return Vec::new();
    }
    let around = |text: Part, type_id: u32| {
        let token = |id: Option<u32>| id.map(|id| Part::Token(id, type_id));
        [token(begin), Some(text), token(end)].into_iter().flatten()
    };
    let single: Vec<Part> = around(Part::First(0), 0).collect();
    let pair = single.iter().copied().chain(around(Part::Second(1), 1)).collect();
    vec![Post::Template { single, pair }]
}

fn unigram_pieces(pieces: &[Piece<'_>]) -> Vec<unigram::Piece> {
    let piece = |piece: &Piece<'_>| match piece.kind {
        Kind::Normal => unigram::Piece::Scored(piece.score.into()),
        Kind::UserDefined => unigram::Piece::UserDefined,
        _ => unigram::Piece::Never,
    };
    pieces.iter().map(piece).collect()
}
