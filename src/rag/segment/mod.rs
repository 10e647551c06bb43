//! Where text may be cut: between graphemes, words and sentences, by the rules of Unicode Standard Annex 29,
//! version 16.0.
//!
//! Every iterator walks once from front to back, in time linear in the text, whatever stands in it.
//!
//! ```
//! use samebits::rag::segment;
//! let parts: Vec<&str> = segment::graphemes("e\u{301}🇫🇷!").collect();
//! assert_eq!(parts, ["e\u{301}", "🇫🇷", "!"]);
//! let parts: Vec<&str> = segment::words("can't stop.").collect();
//! assert_eq!(parts, ["can't", " ", "stop", "."]);
//! let parts: Vec<&str> = segment::sentences("It was 3.14. Mr. Poe left.").collect();
//! assert_eq!(parts, ["It was 3.14. ", "Mr. ", "Poe left."]);
//! let parts: Vec<&str> = segment::prose("It was 3.14. Mr. Poe left.").collect();
//! assert_eq!(parts, ["It was 3.14. ", "Mr. Poe left."]);
//! ```

mod grapheme;
mod sentence;
mod tables;
mod word;

pub use grapheme::{Graphemes, ceil, floor, graphemes};
pub use sentence::{Sentences, prose, sentences};
pub use word::{Words, words};

/// Code points of a block, as a power of two.
const BLOCK: u32 = 9;

/// Blocks of Unicode, and one more.
const BLOCKS: usize = (0x11_0000 >> BLOCK) + 1;

/// A property of characters, as runs of the same class.
struct Property {
    /// `code << 5 | class` where a class begins.
    runs: &'static [u32],
    /// For each block, the run that holds its first code point.
    blocks: [u16; BLOCKS],
    /// The classes of ASCII.
    ascii: [u8; 128],
}

impl Property {
    const fn new(runs: &'static [u32]) -> Property {
        let mut blocks = [0; BLOCKS];
        let (mut block, mut run) = (0, 0);
        while block < BLOCKS {
            while run + 1 < runs.len() && runs[run + 1] >> 5 <= (block as u32) << BLOCK {
                run += 1;
            }
            blocks[block] = run as u16;
            block += 1;
        }
        let mut ascii = [0; 128];
        let (mut code, mut run) = (0, 0);
        while code < ascii.len() {
            if runs[run + 1] >> 5 <= code as u32 {
                run += 1;
            }
            ascii[code] = (runs[run] & 31) as u8;
            code += 1;
        }
        Property { runs, blocks, ascii }
    }

    /// The class of `c`; 0 is none.
    fn class(&self, c: char) -> u8 {
        if let Some(&class) = self.ascii.get(c as usize) {
            return class;
        }
        let (code, block) = (c as u32, (c as u32 >> BLOCK) as usize);
        let (first, last) = (usize::from(self.blocks[block]), usize::from(self.blocks[block + 1]));
        let within = &self.runs[first..=last];
        let run = within.partition_point(|run| run >> 5 <= code) - 1;
        (within[run] & 31) as u8
    }
}

/// The last place at or before `at` that is not inside a character.
pub(crate) fn char_floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// The first place at or behind `at` that is not inside a character.
pub(crate) fn char_ceil(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at += 1;
    }
    at
}
