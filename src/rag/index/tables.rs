//! The tables of an index: documents and chunks, numbered, as they lie in the file.
//!
//! ```text
//!   documents  64 bytes each, by id:         u64 id start, end · metadata start, end (in `names`) · text start, end (in
//!                                            `texts`) · hash of the content · first chunk
//!   chunks     48 bytes each, by document    u32 document · start, end · context start, end (bytes of its text) ·
//!              and place:                    line, column of the start, of the end · headings start, end (in `names`) · 0
//! ```

use crate::rag::chunk::Place;
use crate::{Error, Result};
use core::ops::Range;

/// Bytes of a document's row.
pub(super) const DOCUMENT: usize = 64;
/// Bytes of a chunk's row.
pub(super) const CHUNK: usize = 48;

/// Little-endian numbers side by side.
#[derive(Clone, Copy)]
pub(super) struct Numbers<'f, const N: usize>(&'f [[u8; N]]);

impl<'f, const N: usize> Numbers<'f, N> {
    /// All of `bytes`.
    ///
    /// # Errors
    /// Where their length is no multiple of a number's.
    pub fn of(bytes: &'f [u8], what: &str) -> Result<Self> {
        match bytes.as_chunks() {
            (numbers, []) => Ok(Numbers(numbers)),
            _ => Err(Error::invalid(format!("{} bytes of {what}: no multiple of {N}", bytes.len()))),
        }
    }

    pub const fn len(&self) -> usize {
        self.0.len()
    }
}

impl Numbers<'_, 4> {
    /// The number at `i`, which must be there.
    pub fn at(&self, i: usize) -> u32 {
        u32::from_le_bytes(self.0[i])
    }

    /// Where `number` is among rising ones.
    pub fn find(&self, number: u32) -> Option<usize> {
        self.0.binary_search_by_key(&number, |&bytes| u32::from_le_bytes(bytes)).ok()
    }
}

impl Numbers<'_, 8> {
    /// The number at `i`, which must be there.
    pub fn at(&self, i: usize) -> u64 {
        u64::from_le_bytes(self.0[i])
    }

    /// From the end of the one before (0 of the first) to the end of `i`.
    pub fn range(&self, i: usize) -> Range<usize> {
        let start = if i == 0 { 0 } else { self.at(i - 1) };
        start as usize..self.at(i) as usize
    }

    /// Whether they never fall, and end at `end`.
    pub fn rise_to(&self, end: usize) -> bool {
        let rising = (1..self.len()).all(|i| self.at(i - 1) <= self.at(i));
        rising && (0..self.len()).next_back().map_or(0, |last| self.at(last)) == end as u64
    }
}

/// A document's row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct DocumentRow {
    pub id: Range<usize>,
    pub metadata: Range<usize>,
    pub text: Range<usize>,
    pub hash: u64,
    pub first_chunk: usize,
}

impl DocumentRow {
    pub fn read(row: &[u8; DOCUMENT]) -> DocumentRow {
        let [a, b, c, d, e, f, hash, chunk] =
            *row.as_chunks::<8>().0.first_chunk().unwrap_or(&[[0; 8]; DOCUMENT / 8]);
        let [a, b, c, d, e, f, first_chunk] =
            [a, b, c, d, e, f, chunk].map(|n| u64::from_le_bytes(n) as usize);
        DocumentRow { id: a..b, metadata: c..d, text: e..f, hash: u64::from_le_bytes(hash), first_chunk }
    }

    pub fn write(&self, out: &mut Vec<u8>) {
        for range in [&self.id, &self.metadata, &self.text] {
            out.extend((range.start as u64).to_le_bytes());
            out.extend((range.end as u64).to_le_bytes());
        }
        out.extend(self.hash.to_le_bytes());
        out.extend((self.first_chunk as u64).to_le_bytes());
    }
}

/// A chunk's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ChunkRow {
    pub document: usize,
    pub bytes: Range<usize>,
    pub context: Range<usize>,
    pub start: Place,
    pub end: Place,
    pub headings: Range<usize>,
}

impl ChunkRow {
    pub fn read(row: &[u8; CHUNK]) -> ChunkRow {
        let numbers = row.as_chunks::<4>().0.first_chunk().unwrap_or(&[[0; 4]; CHUNK / 4]);
        let [document, a, b, c, d, line, column, last, behind, e, f, _] =
            numbers.map(|n| u32::from_le_bytes(n) as usize);
        let (start, end) = (Place { line, column }, Place { line: last, column: behind });
        ChunkRow { document, bytes: a..b, context: c..d, start, end, headings: e..f }
    }

    /// Appends it; none of its numbers is 2³² or more.
    pub fn write(&self, out: &mut Vec<u8>) {
        let ChunkRow { document, bytes, context, start, end, headings } = self;
        let numbers = [
            *document,
            bytes.start,
            bytes.end,
            context.start,
            context.end,
            start.line,
            start.column,
            end.line,
            end.column,
            headings.start,
            headings.end,
            0,
        ];
        out.extend(numbers.iter().flat_map(|&n| (n as u32).to_le_bytes()));
    }
}
