//! The header: metadata and the table of tensors, with every rule of the format checked.

use super::ggml_type::GgmlType;
use super::value::{Array, Length, Value, ValueType};
use crate::io::json::Excerpt;
use crate::io::kind::other_kind;
use crate::{Error, Result};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::Ordering;
use core::ops::Range;

pub(super) const MAGIC: &[u8; 4] = b"GGUF";
/// Axes of a tensor, at most.
pub const MAX_RANK: usize = 4;
/// The largest alignment that is believed.
pub(super) const MAX_ALIGNMENT: u32 = 1 << 20;
/// What data are aligned to where nothing is said.
pub(super) const DEFAULT_ALIGNMENT: u32 = 32;
pub(super) const ALIGNMENT_KEY: &str = "general.alignment";
/// Bytes of a key, at most, as the format's description says.
const MAX_KEY: usize = u16::MAX as usize;
/// The fewest bytes of a pair and of a tensor behind the length of key or name: one byte of key, type, value; axes,
/// type, offset.
const LEAST_PAIR: usize = 1 + 4 + 1;
const LEAST_TENSOR: usize = 4 + 4 + 8;

/// A key and where its value stands.
#[derive(Clone, Copy)]
pub(super) struct Pair {
    key: (u32, u32),
    kind: ValueType,
    value: (u32, u32),
}

/// A tensor and where its data stand.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    name: (u32, u32),
    pub kind: GgmlType,
    rank: u8,
    /// Outermost first, then zeros.
    dims: [usize; MAX_RANK],
    /// The first byte of its data, counted from the start of the file.
    start: usize,
    bytes: usize,
}

impl Entry {
    pub fn shape(&self) -> &[usize] {
        &self.dims[..self.rank as usize]
    }

    pub const fn range(&self) -> Range<usize> {
        self.start..self.start + self.bytes
    }
}

/// What a header says; names and values are places in its bytes.
pub(super) struct Header {
    pub version: u32,
    length: Length,
    pub alignment: u32,
    /// In the order of the file, and their places in it by key.
    pub pairs: Vec<Pair>,
    by_key: Vec<u32>,
    /// In the order of the file, and their places in it by name.
    pub tensors: Vec<Entry>,
    by_name: Vec<u32>,
    /// Bytes of the header, without what pads it.
    pub len: usize,
}

fn text(bytes: &[u8], (at, len): (u32, u32)) -> &str {
    let bytes = bytes.get(at as usize..at as usize + len as usize).unwrap_or_default();
    core::str::from_utf8(bytes).unwrap_or_default() // checked while it was read
}

impl Header {
    /// Reads the header at the beginning of `bytes`, which are those of a file of `file_len` bytes, or as
    /// many of them as the header has.
    pub fn parse(bytes: &[u8], file_len: usize) -> Result<Header> {
        let mut cursor = Cursor { bytes, at: 0, length: Length::Long };
        let (version, tensors, pairs) = cursor.preamble()?;
        let length = cursor.length;
        let pairs = cursor.many(pairs, LEAST_PAIR, "metadata pairs", Cursor::pair)?;
        let by_key = sorted(&pairs, |p| text(bytes, p.key), "metadata key")?;
        let (tensor, by_name) = (Vec::new(), Vec::new());
        let mut header =
            Header { version, length, alignment: 0, pairs, by_key, tensors: tensor, by_name, len: 0 };
        header.alignment = header.alignment(bytes)?;
        header.tensors = cursor.many(tensors, LEAST_TENSOR, "tensors", Cursor::tensor)?;
        header.by_name = sorted(&header.tensors, |t| text(bytes, t.name), "tensor")?;
        header.len = cursor.at;
        header.place(bytes, file_len)?;
        Ok(header)
    }

    pub fn key<'a>(&self, bytes: &'a [u8], pair: &Pair) -> &'a str {
        text(bytes, pair.key)
    }

    pub fn value<'a>(&self, bytes: &'a [u8], pair: &Pair) -> Option<Value<'a>> {
        let bytes = bytes.get(pair.value.0 as usize..pair.value.1 as usize)?;
        if pair.kind != ValueType::Array {
            return Value::split(pair.kind, self.length, bytes).map(|(value, _)| value);
        }
        let (kind, rest) = bytes.split_first_chunk()?;
        let (len, rest) = self.length.split(rest)?;
        let kind = ValueType::from_number(u32::from_le_bytes(*kind))?;
        Some(Value::Array(Array::new(kind, len, self.length, rest)))
    }

    pub fn find(&self, bytes: &[u8], key: &str) -> Option<&Pair> {
        let at = |&i: &u32| text(bytes, self.pairs[i as usize].key).cmp(key);
        self.by_key.binary_search_by(at).ok().map(|i| &self.pairs[self.by_key[i] as usize])
    }

    pub fn name<'a>(&self, bytes: &'a [u8], tensor: &Entry) -> &'a str {
        text(bytes, tensor.name)
    }

    pub fn find_tensor(&self, bytes: &[u8], name: &str) -> Option<&Entry> {
        let at = |&i: &u32| text(bytes, self.tensors[i as usize].name).cmp(name);
        self.by_name.binary_search_by(at).ok().map(|i| &self.tensors[self.by_name[i] as usize])
    }

    /// `general.alignment`, which must be a `u32` and a power of two.
    fn alignment(&self, bytes: &[u8]) -> Result<u32> {
        let Some(pair) = self.find(bytes, ALIGNMENT_KEY) else { return Ok(DEFAULT_ALIGNMENT) };
        match self.value(bytes, pair) {
            Some(Value::U32(n)) if n.is_power_of_two() && n <= MAX_ALIGNMENT => Ok(n),
            Some(other) => {
                let found = other.as_i128().map_or_else(String::new, |n| format!(" {n}"));
                let what = format!(
                    "{ALIGNMENT_KEY} must be a u32, a power of two and at most {MAX_ALIGNMENT}, found {}{found}",
                    pair.kind.name()
                );
                Err(Error::malformed(pair.value.0.into(), what))
            }
            None => Ok(DEFAULT_ALIGNMENT),
        }
    }

    /// Makes offsets count from the start of the file, and checks that all data are inside it, aligned, and
    /// nowhere shared.
    fn place(&mut self, bytes: &[u8], file_len: usize) -> Result<()> {
        let align = self.alignment as usize;
        let base = self.len.checked_next_multiple_of(align).unwrap_or(usize::MAX);
        for t in &mut self.tensors {
            let shown = Excerpt(text(bytes, t.name));
            if !t.start.is_multiple_of(align) {
                let what = format!("tensor {shown}: offset {} is no multiple of {align}", t.start);
                return Err(Error::invalid(what));
            }
            let start = base.checked_add(t.start).filter(|&start| start <= file_len || t.bytes == 0);
            let left = start.map_or(0, |start| file_len.saturating_sub(start));
            if start.is_none() || t.bytes > left {
                let what = format!(
                    "tensor {shown} needs {} bytes at offset {} of the data, the file has {left} left",
                    t.bytes, t.start
                );
                return Err(Error::invalid(what));
            }
            // An empty tensor of a file that ends before its data has no place at all.
            t.start = start.unwrap_or(file_len).min(file_len);
        }
        self.disjoint(bytes)
    }

    fn disjoint(&self, bytes: &[u8]) -> Result<()> {
        let mut order: Vec<u32> = reserve(self.tensors.len())?;
        order.extend(0..self.tensors.len() as u32);
        order.retain(|&i| self.tensors[i as usize].bytes > 0);
        order.sort_unstable_by_key(|&i| self.tensors[i as usize].start);
        let tensor = |i: u32| &self.tensors[i as usize];
        match order.windows(2).find(|w| tensor(w[0]).range().end > tensor(w[1]).start) {
            Some(w) => {
                let [a, b] = [w[0], w[1]].map(|i| Excerpt(text(bytes, tensor(i).name)));
                Err(Error::invalid(format!("the data of tensors {a} and {b} overlap")))
            }
            None => Ok(()),
        }
    }
}

/// Room for `n` elements; a count from a file was compared with the file's length before.
fn reserve<T>(n: usize) -> Result<Vec<T>> {
    let mut room = Vec::new();
    room.try_reserve_exact(n).map_err(|_| Error::TooLarge { shape: [n].into() })?;
    Ok(room)
}

/// The places of `items` by name, which must be of one each.
fn sorted<'a, T>(items: &[T], name: impl Fn(&T) -> &'a str, what: &str) -> Result<Vec<u32>> {
    let mut order: Vec<u32> = reserve(items.len())?;
    order.extend(0..items.len() as u32);
    order.sort_unstable_by(|&a, &b| name(&items[a as usize]).cmp(name(&items[b as usize])));
    let of = |i: u32| name(&items[i as usize]);
    match order.windows(2).find(|w| of(w[0]).cmp(of(w[1])) == Ordering::Equal) {
        Some(w) => Err(Error::invalid(format!("duplicate {what} {}", Excerpt(of(w[0]))))),
        None => Ok(order),
    }
}

/// Where reading has come to.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    length: Length,
}

impl<'a> Cursor<'a> {
    fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    fn error<T>(&self, what: String) -> Result<T> {
        Err(Error::malformed(self.at as u64, what))
    }

    /// The next `len` bytes, which are `what`.
    fn take(&mut self, len: usize, what: &str) -> Result<&'a [u8]> {
        let left = self.left();
        let Some(taken) = self.bytes[self.at..].get(..len) else {
            return self.error(format!("{what} needs {len} bytes, the file has {left} left"));
        };
        self.at += len;
        Ok(taken)
    }

    fn u32(&mut self, what: &str) -> Result<u32> {
        let bytes = self.take(4, what)?;
        Ok(bytes.iter().rev().fold(0, |n, &b| n << 8 | u32::from(b)))
    }

    /// A length or count.
    fn size(&mut self, what: &str) -> Result<usize> {
        let bytes = self.take(self.length.bytes(), what)?;
        Ok(self.length.split(bytes).map_or(usize::MAX, |(len, _)| len))
    }

    /// An offset, which has eight bytes in every version.
    fn offset(&mut self, what: &str) -> Result<usize> {
        let bytes = self.take(8, what)?;
        Ok(Length::Long.split(bytes).map_or(usize::MAX, |(at, _)| at))
    }

    /// A place, which must be in the first 4 GiB: no header is longer.
    fn place(&self, from: usize) -> Result<(u32, u32)> {
        match (u32::try_from(from), u32::try_from(self.at)) {
            (Ok(from), Ok(to)) => Ok((from, to)),
            _ => self.error(String::from("a header of 4 GiB or more")),
        }
    }

    /// A string: its length, then UTF-8. Its place is (first byte, length).
    fn string(&mut self, what: &str) -> Result<(u32, u32)> {
        let len = self.size(what)?;
        let from = self.at;
        let bytes = self.take(len, what)?;
        if let Err(e) = core::str::from_utf8(bytes) {
            return Err(Error::malformed((from + e.valid_up_to()) as u64, format!("{what} is not UTF-8")));
        }
        let (from, to) = self.place(from)?;
        Ok((from, to - from))
    }

    /// Version, number of tensors, number of metadata pairs.
    fn preamble(&mut self) -> Result<(u32, usize, usize)> {
        let start = &self.bytes[..self.bytes.len().min(64)];
        if !start.starts_with(MAGIC) {
            let shown =
                format!("the file begins with {:02x?}, not with \"GGUF\"", &start[..start.len().min(4)]);
            return Err(other_kind(start, "a GGUF file").unwrap_or(Error::malformed(0, shown)));
        }
        self.at = MAGIC.len();
        let version = self.u32("the version")?;
        match version {
            1 => self.length = Length::Short,
            2 | 3 => {}
            n if (1..=3).contains(&n.swap_bytes()) => {
                return Err(Error::malformed(4, "a big-endian GGUF file; little-endian ones are read"));
            }
            n => return Err(Error::malformed(4, format!("GGUF version {n}; versions 1 to 3 are read"))),
        }
        Ok((version, self.size("the number of tensors")?, self.size("the number of metadata pairs")?))
    }

    /// `count` items, each of a length and at least `least` bytes more.
    fn many<T>(
        &mut self,
        count: usize,
        least: usize,
        what: &str,
        read: fn(&mut Self) -> Result<T>,
    ) -> Result<Vec<T>> {
        if count > self.left() / (self.length.bytes() + least) {
            return self.error(format!("{count} {what} do not fit the {} bytes that follow", self.left()));
        }
        let mut all = reserve(count)?;
        for _ in 0..count {
            all.push(read(self)?);
        }
        Ok(all)
    }

    fn pair(&mut self) -> Result<Pair> {
        let at = self.at;
        let key = self.string("a metadata key")?;
        let shown = Excerpt(text(self.bytes, key));
        if key.1 == 0 || key.1 as usize > MAX_KEY {
            let what = format!("a metadata key of {} bytes, 1 to {MAX_KEY} are allowed", key.1);
            return Err(Error::malformed(at as u64, what));
        }
        let what = format!("the value of {shown}");
        let kind = self.value_type(&what)?;
        let from = self.at;
        match kind {
            ValueType::Array => self.skip_array(&what)?,
            kind => self.skip(kind, 1, &what)?,
        }
        Ok(Pair { key, kind, value: self.place(from)? })
    }

    fn value_type(&mut self, what: &str) -> Result<ValueType> {
        let at = self.at as u64;
        let number = self.u32(what)?;
        ValueType::from_number(number)
            .ok_or_else(|| Error::malformed(at, format!("{what} has the unknown type {number}")))
    }

    fn skip_array(&mut self, what: &str) -> Result<()> {
        let at = self.at as u64;
        let kind = self.value_type(what)?;
        if kind == ValueType::Array {
            return Err(Error::malformed(at, format!("{what} is an array of arrays")));
        }
        let len = self.size(what)?;
        if len > self.left() / kind.least_bytes(self.length) {
            let (kind, left) = (kind.name(), self.left());
            return self.error(format!("{what} has {len} elements of {kind}, {left} bytes follow"));
        }
        self.skip(kind, len, what)
    }

    /// Checks `count` values of `kind`, not arrays.
    fn skip(&mut self, kind: ValueType, count: usize, what: &str) -> Result<()> {
        match kind {
            ValueType::String => {
                for _ in 0..count {
                    self.string(what)?;
                }
            }
            kind => {
                let from = self.at;
                let bytes = self.take(count * kind.least_bytes(self.length), what)?;
                let odd = |&b: &u8| kind == ValueType::Bool && b > 1;
                if let Some(i) = bytes.iter().position(odd) {
                    let what = format!("{what}: a bool is 0 or 1, found {}", bytes[i]);
                    return Err(Error::malformed((from + i) as u64, what));
                }
            }
        }
        Ok(())
    }

    /// A row of the table; its offset still counts from the start of the data.
    fn tensor(&mut self) -> Result<Entry> {
        let name = self.string("a tensor's name")?;
        let shown = Excerpt(text(self.bytes, name));
        let what = format!("tensor {shown}");
        let at = self.at as u64;
        let rank = self.u32(&what)?;
        if rank as usize > MAX_RANK {
            return Err(Error::malformed(
                at,
                format!("{what} has {rank} axes, at most {MAX_RANK} are allowed"),
            ));
        }
        let mut dims = [0; MAX_RANK];
        for extent in dims[..rank as usize].iter_mut().rev() {
            *extent = self.size(&what)?;
        }
        let at = self.at as u64;
        let number = self.u32(&what)?;
        let kind = GgmlType::from_number(number).ok_or_else(|| {
            let removed = |name| format!("{what} has type {name}, which ggml no longer has");
            let unknown = || format!("{what} has the unknown type {number}");
            Error::malformed(at, GgmlType::removed(number).map_or_else(unknown, removed))
        })?;
        let start = self.offset(&what)?;
        let shape = &dims[..rank as usize];
        let bytes = size(kind, shape).map_err(|e| Error::malformed(at, format!("{what}: {e}")))?;
        Ok(Entry { name, kind, rank: rank as u8, dims, start, bytes })
    }
}

/// The bytes of a tensor, where that is a number of whole blocks that memory could hold.
pub(super) fn size(kind: GgmlType, shape: &[usize]) -> Result<usize, String> {
    let row = shape.last().copied().unwrap_or(1);
    if !row.is_multiple_of(kind.block_len()) {
        return Err(format!("rows of {row} elements are not whole blocks of {} {kind}", kind.block_len()));
    }
    let elements = shape.iter().filter(|&&n| n > 0).try_fold(1usize, |all, &n| all.checked_mul(n));
    let most = isize::MAX as usize / 8;
    let bytes = elements.filter(|&n| n <= most).and_then(|n| kind.bytes(n));
    match bytes.filter(|&bytes| bytes <= isize::MAX as usize) {
        Some(_) if shape.contains(&0) => Ok(0),
        Some(bytes) => Ok(bytes),
        None => Err(format!("shape {} is larger than the address space", crate::error::Shape(shape))),
    }
}
