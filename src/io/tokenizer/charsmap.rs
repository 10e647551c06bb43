//! SentencePiece's compiled table of replacements: a double-array trie (Darts) and the texts it points to.

use super::aligned::Aligned;
use super::unicode;
use crate::io::flat::{Reader, Writer};
use crate::{Error, Result};
use alloc::borrow::Cow;
use alloc::vec::Vec;

/// The table. Without entries it replaces nothing.
#[derive(Default)]
pub(crate) struct Charsmap {
    units: Cow<'static, [u32]>,
    /// The replacements, each ended by a NUL.
    texts: Cow<'static, str>,
}

impl Charsmap {
    /// Reads a table: the length of the trie in bytes, the trie, the texts.
    pub fn parse(bytes: &[u8]) -> Result<Charsmap> {
        if bytes.is_empty() {
            return Ok(Charsmap::default());
        }
        let bad = || Error::invalid("precompiled_charsmap: its trie is longer than the table");
        let (length, rest) = bytes.split_first_chunk::<4>().ok_or_else(bad)?;
        let length = u32::from_le_bytes(*length) as usize;
        let (trie, texts) = rest.split_at_checked(length).ok_or_else(bad)?;
        let texts = core::str::from_utf8(texts)
            .map_err(|_| Error::invalid("precompiled_charsmap: a replacement is not UTF-8"))?;
        let units: Vec<u32> = trie.as_chunks::<4>().0.iter().map(|unit| u32::from_le_bytes(*unit)).collect();
        Ok(Charsmap { units: units.into(), texts: Cow::Owned(texts.into()) })
    }

    /// Writes the table as it is read in place.
    pub fn write(&self, to: &mut Writer) -> Result<()> {
        to.table(&self.units)?;
        to.text(&self.texts)
    }

    /// What [`Charsmap::write`] wrote.
    pub fn read(from: &mut Reader<'_>) -> Result<Charsmap> {
        Ok(Charsmap { units: from.table(0)?, texts: from.kept_text()? })
    }

    /// Whether it replaces nothing.
    pub fn is_empty(&self) -> bool {
        self.units.is_empty()
    }

    /// Calls `found` with length and replacement of every entry that `text` begins with, the shortest first.
    fn prefixes<'a>(&'a self, text: &[u8], mut found: impl FnMut(usize, &'a str)) {
        let offset = |unit: u32| (unit >> 10) << ((unit & 1 << 9) >> 6);
        let Some(&root) = self.units.first() else { return };
        let mut node = offset(root);
        for (i, &byte) in text.iter().enumerate() {
            node ^= u32::from(byte);
            let Some(&unit) = self.units.get(node as usize) else { return };
            if byte == 0 || unit & (1 << 31 | 0xff) != u32::from(byte) {
                return;
            }
            node ^= offset(unit);
            if unit >> 8 & 1 == 1 {
                let Some(&value) = self.units.get(node as usize) else { return };
                if let Some(text) = self.texts.get((value & 0x7fff_ffff) as usize..) {
                    found(i + 1, text.split('\0').next().unwrap_or_default());
                }
            }
        }
    }

    /// The longest entry that `text` begins with: its length and its replacement.
    pub fn longest(&self, text: &str) -> Option<(usize, &str)> {
        let mut last = None;
        self.prefixes(text.as_bytes(), |len, with| last = Some((len, with)));
        last
    }

    /// What `tokenizers` replaces a whole cluster or character by: the entry of its *shortest* prefix.
    fn shortest(&self, text: &str) -> Option<&str> {
        let mut first = None;
        self.prefixes(text.as_bytes(), |_, with| {
            first.get_or_insert(with);
        });
        first
    }

    /// Replaces as `tokenizers` does: clusters of fewer than six bytes, then single characters.
    pub fn apply(&self, text: &mut Aligned) {
        if self.is_empty() {
            return;
        }
        let mut changes = Vec::with_capacity(text.text.len());
        let mut rest = text.text.as_str();
        while !rest.is_empty() {
            let (cluster, after) = rest.split_at(unicode::cluster_len(rest));
            rest = after;
            if cluster.len() < 6
                && let Some(with) = self.shortest(cluster)
            {
                exchange(&mut changes, cluster, with);
                continue;
            }
            for (at, c) in cluster.char_indices() {
                let part = &cluster[at..at + c.len_utf8()];
                match self.shortest(part) {
                    Some(with) => exchange(&mut changes, part, with),
                    None => changes.push((c, 0)),
                }
            }
        }
        text.replay(&changes);
    }
}

/// Notes that `old` became `new`: character for character, and the difference at the end.
fn exchange(changes: &mut Vec<(char, isize)>, old: &str, new: &str) {
    let (before, after) = (old.chars().count(), new.chars().count());
    changes.extend(new.chars().enumerate().map(|(i, c)| (c, isize::from(i >= before))));
    if let Some(last) = changes.last_mut().filter(|_| after < before) {
        last.1 -= (before - after) as isize;
    }
}
