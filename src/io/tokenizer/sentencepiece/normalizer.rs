//! SentencePiece's normalisation.

use super::{Kind, Piece};
use crate::Result;
use crate::io::flat::{Reader, Writer};
use crate::io::tokenizer::aligned::{Aligned, Place};
use crate::io::tokenizer::bpe::SPACE;
use crate::io::tokenizer::charsmap::Charsmap;
use crate::io::tokenizer::normalize::{Normalize, Normalizer};
use crate::io::tokenizer::trie::Trie;
use crate::io::tokenizer::vocab::NONE;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

/// SentencePiece's normalisation.
pub(crate) struct SpmNormalizer {
    pub charsmap: Charsmap,
    /// Texts that stay as they are.
    pub user_defined: Option<UserDefined>,
    /// A space is put in front of the text, or behind.
    pub dummy_space: bool,
    pub space_behind: bool,
    /// Spaces at the ends go, several become one.
    pub remove_extra: bool,
    /// A space becomes `▁`.
    pub escape: bool,
}

impl Default for SpmNormalizer {
    fn default() -> Self {
        SpmNormalizer {
            charsmap: Charsmap::default(),
            user_defined: None,
            dummy_space: true,
            space_behind: false,
            remove_extra: false,
            escape: true,
        }
    }
}

impl SpmNormalizer {
    /// What the beginning of `rest` becomes, and its length.
    fn prefix<'a>(&'a self, rest: &'a str) -> (&'a str, usize) {
        if let Some((len, _)) = self.user_defined.as_ref().and_then(|t| t.trie.longest(rest.as_bytes())) {
            return (&rest[..len], len);
        }
        if let Some((len, with)) = self.charsmap.longest(rest) {
            return (with, len);
        }
        let len = rest.chars().next().map_or(0, char::len_utf8);
        (&rest[..len], len)
    }
}

impl Normalize for SpmNormalizer {
    fn apply(&self, text: &mut Aligned) {
        if text.text.is_empty() {
            return;
        }
        let space = if self.escape { SPACE } else { ' ' };
        let (mut out, mut places): (String, Vec<Place>) = (String::new(), Vec::new());
        let mut push = |out: &mut String, c: char, place: Place| {
            out.push(c);
            places.resize(out.len(), place);
        };
        let mut at = 0;
        while self.remove_extra && at < text.text.len() {
            let (with, len) = self.prefix(&text.text[at..]);
            if with != " " {
                break;
            }
            at += len;
        }
        if at == text.text.len() {
            return text.set((out, Vec::new()));
        }
        if self.dummy_space && !self.space_behind {
            push(&mut out, space, text.origin(at..at));
        }
        let mut after_space = self.remove_extra;
        while at < text.text.len() {
            let (with, len) = self.prefix(&text.text[at..]);
            let kept = if after_space { with.trim_start_matches(' ') } else { with };
            let place = text.origin(at..at + len);
            for c in kept.chars() {
                push(&mut out, if c == ' ' { space } else { c }, place);
            }
            if !kept.is_empty() {
                after_space = self.remove_extra && kept.ends_with(' ');
            }
            at += len;
        }
        if self.remove_extra {
            out.truncate(out.trim_end_matches(space).len());
        }
        if self.dummy_space && self.space_behind {
            push(&mut out, space, text.origin(at..at));
        }
        places.truncate(out.len());
        text.set((out, places));
    }

    fn number(&self) -> usize {
        Self::NUMBER
    }

    fn write(&self, to: &mut Writer) -> Result<()> {
        self.charsmap.write(to)?;
        UserDefined::write(self.user_defined.as_ref(), to)?;
        let flags = [self.dummy_space, self.space_behind, self.remove_extra, self.escape];
        flags.into_iter().for_each(|flag| to.flag(flag));
        Ok(())
    }
}

impl SpmNormalizer {
    pub const NUMBER: usize = 9;

    /// What `write` wrote.
    pub fn read(from: &mut Reader<'_>) -> Result<Normalizer> {
        let (charsmap, user_defined) = (Charsmap::read(from)?, UserDefined::read(from)?);
        let mut flag = || from.flag("what SentencePiece's normaliser does");
        let (dummy_space, space_behind) = (flag()?, flag()?);
        let (remove_extra, escape) = (flag()?, flag()?);
        Ok(Box::new(SpmNormalizer {
            charsmap,
            user_defined,
            dummy_space,
            space_behind,
            remove_extra,
            escape,
        }))
    }
}

/// Pieces that are never cut.
pub(crate) struct UserDefined {
    /// With their ids.
    pieces: Vec<(u32, String)>,
    pub trie: Trie,
}

impl UserDefined {
    /// `None` where there is none.
    fn new(pieces: Vec<(u32, String)>) -> Option<UserDefined> {
        let mut trie = Trie::with_capacity(pieces.iter().map(|(_, text)| text.len()).sum());
        pieces.iter().for_each(|(id, text)| trie.insert(text.as_bytes(), *id));
        (!pieces.is_empty()).then_some(UserDefined { pieces, trie })
    }

    /// Those of a vocabulary.
    pub fn of(pieces: &[Piece<'_>]) -> Option<UserDefined> {
        let found = (0..).zip(pieces).filter(|(_, p)| p.kind == Kind::UserDefined && !p.text.is_empty());
        UserDefined::new(found.map(|(id, piece)| (id, piece.text.into())).collect())
    }

    pub fn write(this: Option<&UserDefined>, to: &mut Writer) -> Result<()> {
        let pieces = this.map_or(&[][..], |this| &this.pieces);
        to.count(pieces.len())?;
        pieces.iter().try_for_each(|(id, text)| {
            to.u32(*id);
            to.text(text)
        })
    }

    pub fn read(from: &mut Reader<'_>) -> Result<Option<UserDefined>> {
        let n = from.u32()? as usize;
        let pieces = from.list(n, |from| {
            let id = from.count("the id of a piece", 0, NONE as usize - 1)? as u32;
            Ok((id, from.text()?.into()))
        })?;
        Ok(UserDefined::new(pieces))
    }
}
