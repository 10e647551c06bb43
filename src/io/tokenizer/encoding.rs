//! What encoding a text gives, and how it is cut and filled to a length.

use crate::{Error, Result};
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

/// The tokens of a text. All lists have one entry a token.
///
/// ```
/// use samebits::io::tokenizer::{Choice, EncodeOptions, Encoding, Padding, Side, Strategy, Tokenizer, Truncation};
/// let tokenizer = Tokenizer::from_vocab_txt("[PAD]\n[UNK]\n[CLS]\n[SEP]\na\nb\nc\n")?;
/// let cut = Truncation { max_length: 4, strategy: Strategy::LongestFirst, side: Side::Left };
/// let filled = Padding { length: None, multiple_of: 0, side: Side::Right, id: 0, type_id: 0 };
/// let options = EncodeOptions {
///     truncation: Choice::Use(cut),
///     padding: Choice::Use(filled),
///     ..EncodeOptions::default()
/// };
/// let both: Vec<Encoding> = tokenizer.encode_batch(&["a b c", "b"], &options)?;
/// assert_eq!(both[0].ids, [2, 5, 6, 3]); // [CLS] b c [SEP]: cut on the left
/// assert_eq!((&both[1].ids[..], &both[1].attention[..]), (&[2, 5, 3, 0][..], &[1, 1, 1, 0][..]));
/// assert_eq!(both[0].offsets[1], (2, 3)); // where "b" stands
/// # Ok::<(), samebits::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoding {
    /// The ids.
    pub ids: Vec<u32>,
    /// The segment of each: mostly 0 for the first text and 1 for the second.
    pub type_ids: Vec<u32>,
    /// Where each comes from in its text, in bytes: from, to. Tokens that were put in have `(0, 0)`.
    pub offsets: Vec<(usize, usize)>,
    /// The same in characters.
    pub char_offsets: Vec<(usize, usize)>,
    /// 1 for tokens, 0 for padding.
    pub attention: Vec<u32>,
    /// 1 for tokens that do not come from a text: put in by the template, or padding.
    pub special: Vec<u32>,
}

/// The side on which tokens are cut off or padding is put.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Side {
    /// At the beginning.
    Left,
    /// At the end.
    #[default]
    Right,
}

/// Which of two texts is cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// The longer, until both are equally long; then both.
    #[default]
    LongestFirst,
    /// The first.
    OnlyFirst,
    /// The second.
    OnlySecond,
}

/// How encodings that are too long are cut. What is cut off is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncation {
    /// The most tokens, those that the template puts in included.
    pub max_length: usize,
    /// Which text is cut.
    pub strategy: Strategy,
    /// Where.
    pub side: Side,
}

impl Truncation {
    /// At most `max_length` tokens, the longer text cut at its end.
    pub fn to(max_length: usize) -> Truncation {
        Truncation { max_length, strategy: Strategy::LongestFirst, side: Side::Right }
    }
}

/// How encodings are filled to one length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Padding {
    /// The length; without one, that of the longest of the batch.
    pub length: Option<usize>,
    /// The length is raised to a multiple of this, if it is not 0.
    pub multiple_of: usize,
    /// Where padding is put.
    pub side: Side,
    /// Its id.
    pub id: u32,
    /// Its segment.
    pub type_id: u32,
}

/// Longer texts than this are refused when padding: nobody means them.
const LONGEST: usize = 1 << 28;

impl Encoding {
    /// The number of tokens.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is no token.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Adds a token of a text; its place in characters is found later.
    pub(super) fn push(&mut self, id: u32, place: (u32, u32)) {
        self.ids.push(id);
        self.offsets.push((place.0 as usize, place.1 as usize));
    }

    /// Adds a token that is in no text.
    pub(super) fn push_special(&mut self, id: u32, type_id: u32) {
        let one = Encoding {
            ids: vec![id],
            type_ids: vec![type_id],
            offsets: vec![(0, 0)],
            char_offsets: vec![(0, 0)],
            attention: vec![1],
            special: vec![1],
        };
        self.append(one);
    }

    /// Adds all tokens of `other`.
    pub(super) fn append(&mut self, other: Encoding) {
        self.ids.extend(other.ids);
        self.type_ids.extend(other.type_ids);
        self.offsets.extend(other.offsets);
        self.char_offsets.extend(other.char_offsets);
        self.attention.extend(other.attention);
        self.special.extend(other.special);
    }

    /// Fills in what follows from ids and offsets in `text`.
    pub(super) fn complete(&mut self, text: &str, type_id: u32) {
        let n = self.len();
        self.type_ids = vec![type_id; n];
        self.attention = vec![1; n];
        self.special = vec![0; n];
        if text.is_ascii() {
            self.char_offsets.clone_from(&self.offsets);
            return;
        }
        let (mut starts, mut ends) = (Cursor::default(), Cursor::default());
        let to_chars = |&(start, end): &(usize, usize)| (starts.chars(text, start), ends.chars(text, end));
        self.char_offsets = self.offsets.iter().map(to_chars).collect();
    }

    /// Keeps `length` tokens.
    fn truncate(&mut self, length: usize, side: Side) {
        if length >= self.len() {
            return;
        }
        let kept = match side {
            Side::Right => 0..length,
            Side::Left => self.len() - length..self.len(),
        };
        *self = Encoding {
            ids: self.ids[kept.clone()].into(),
            type_ids: self.type_ids[kept.clone()].into(),
            offsets: self.offsets[kept.clone()].into(),
            char_offsets: self.char_offsets[kept.clone()].into(),
            attention: self.attention[kept.clone()].into(),
            special: self.special[kept].into(),
        };
    }

    /// Fills up to `length` tokens.
    fn pad(&mut self, length: usize, padding: &Padding) {
        let missing = length.saturating_sub(self.len());
        if missing == 0 {
            return;
        }
        let fill = Encoding {
            ids: vec![padding.id; missing],
            type_ids: vec![padding.type_id; missing],
            offsets: vec![(0, 0); missing],
            char_offsets: vec![(0, 0); missing],
            attention: vec![0; missing],
            special: vec![1; missing],
        };
        match padding.side {
            Side::Right => self.append(fill),
            Side::Left => {
                let text = core::mem::replace(self, fill);
                self.append(text);
            }
        }
    }
}

/// A place in a text, in bytes and in characters.
#[derive(Default)]
struct Cursor {
    byte: usize,
    chars: usize,
}

impl Cursor {
    /// Walks to the byte `place`; gives it in characters. Starts and ends mostly ascend, each by themselves:
    /// a cursor for each walks a text about once.
    fn chars(&mut self, text: &str, place: usize) -> usize {
        let count = |bytes: &[u8]| bytes.iter().filter(|&&b| b & 0xc0 != 0x80).count();
        if place < self.byte {
            self.chars -= count(&text.as_bytes()[place..self.byte]);
        } else {
            self.chars += count(&text.as_bytes()[self.byte..place]);
        }
        self.byte = place;
        self.chars
    }
}

impl Truncation {
    /// Cuts one or two encodings to which `added` tokens will be put.
    pub(super) fn apply(
        &self,
        first: &mut Encoding,
        second: Option<&mut Encoding>,
        added: usize,
    ) -> Result<()> {
        let Some(room) = self.max_length.checked_sub(added) else {
            return Err(Error::invalid(format!(
                "a maximum of {} tokens leaves no room for the {added} that the template puts in",
                self.max_length
            )));
        };
        let total = first.len() + second.as_ref().map_or(0, |s| s.len());
        if total <= room {
            return Ok(());
        }
        match (self.strategy, second) {
            (Strategy::LongestFirst, None) => first.truncate(room, self.side),
            (Strategy::LongestFirst, Some(second)) => {
                let (n1, n2) = share(first.len(), second.len(), room);
                first.truncate(n1, self.side);
                second.truncate(n2, self.side);
            }
            (Strategy::OnlyFirst, _) => only(first, total - room, self.side)?,
            (Strategy::OnlySecond, Some(second)) => only(second, total - room, self.side)?,
            (Strategy::OnlySecond, None) => {
                return Err(Error::invalid("truncation of the second text, but there is one text"));
            }
        }
        Ok(())
    }
}

/// The lengths to which two texts of lengths `a` and `b` are cut to fit `room`.
fn share(a: usize, b: usize, room: usize) -> (usize, usize) {
    let (short, long) = (a.min(b), a.max(b));
    let long = if short > room { short } else { short.max(room - short).min(long) };
    let (short, long) = if short + long > room { (room / 2, room / 2 + room % 2) } else { (short, long) };
    if a > b { (long, short) } else { (short, long) }
}

fn only(text: &mut Encoding, excess: usize, side: Side) -> Result<()> {
    if text.len() <= excess {
        let what = format!("cannot cut {excess} tokens off the one text of {} that may be cut", text.len());
        return Err(Error::invalid(what));
    }
    text.truncate(text.len() - excess, side);
    Ok(())
}

impl Padding {
    /// Fills all encodings of a batch to one length.
    pub(super) fn apply(&self, batch: &mut [Encoding]) -> Result<()> {
        let longest = batch.iter().map(Encoding::len).max().unwrap_or(0);
        let length = self.length.unwrap_or(longest);
        let length = if self.multiple_of > 0 { length.next_multiple_of(self.multiple_of) } else { length };
        if length > LONGEST {
            return Err(Error::invalid(format!("padding to {length} tokens")));
        }
        batch.iter_mut().for_each(|encoding| encoding.pad(length, self));
        Ok(())
    }
}
