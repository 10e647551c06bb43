//! Numbers and blocks of memory, one after the other: what [`model::flat`](crate::model::flat) is written with.
//!
//! ```text
//!    0  "samebits"             u32 · f32 · f64   little-endian, as they come
//!    8  u32 version, 2         bytes             padded with zeros to a multiple of 4
//!   12  u32 0                  held              panels of a packed weight, at a multiple of 64, as kernels read them
//!   16  u64 length of the file
//!   24  u64 XXH64 of all bytes from 32 on
//!   32  u32 where the tokenizer begins, 0: there is none; then zeros to 64, where the model begins
//! ```
//!
//! A reader of a `&'static [u8]` hands out such panels where they lie, in flash perhaps; any other reader copies them.

use super::checksum::xxh64;
use crate::elements::{Elements, filled};
use crate::kernels::line::{Bits, bytes, bytes_mut, numbers};
use crate::{Error, Result};
use alloc::borrow::Cow;
use alloc::format;
use alloc::vec::Vec;
use core::ops::Deref;

/// What panels are aligned to, in the file and in memory.
pub(crate) const ALIGNMENT: usize = 64;
/// How a file begins.
pub(crate) const MAGIC: &[u8; 8] = b"samebits";
/// Bytes before the model.
pub(crate) const HEADER: usize = 64;
const VERSION: u32 = 2;
/// Where the bytes begin that the checksum is of.
const SUMMED: usize = 32;

/// Whether the file at `path` begins as flat models do.
#[cfg(feature = "std")]
pub(crate) fn is_at(path: &std::path::Path) -> bool {
    use std::io::Read;
    let mut magic = [0; MAGIC.len()];
    path.is_file()
        && std::fs::File::open(path).is_ok_and(|mut file| file.read_exact(&mut magic).is_ok())
        && &magic == MAGIC
}

/// Looks whether `all` is a whole file, undamaged; where its tokenizer begins.
pub(crate) fn check(all: &[u8]) -> Result<Option<usize>> {
    let mut head = Reader::of(all, MAGIC.len());
    if !all.starts_with(MAGIC) {
        return Err(Error::malformed(0, "this is no flat model: it does not begin with \"samebits\""));
    }
    let (version, zero) = (head.u32()?, head.u32()?);
    if (version, zero) != (VERSION, 0) {
        return Err(Error::malformed(8, format!("version {version}.{zero}, expected {VERSION}.0")));
    }
    let (len, sum, tokenizer) = (head.u64()?, head.u64()?, head.u32()? as usize);
    if len != all.len() as u64 {
        return Err(Error::malformed(16, format!("a flat model of {len} bytes, here are {}", all.len())));
    }
    if all.len() < HEADER || xxh64(&all[SUMMED..]) != sum {
        return Err(Error::malformed(24, "damaged: the checksum of the bytes behind is another"));
    }
    Ok((tokenizer > 0).then_some(tokenizer))
}

/// Memory that is one's own, or that is there for as long as the program runs.
pub(crate) enum Held<T: 'static> {
    Own(Elements<T>),
    There(&'static [T]),
}

impl<T> Deref for Held<T> {
    type Target = [T];
    #[inline]
    fn deref(&self) -> &[T] {
        match self {
            Held::Own(own) => own,
            Held::There(there) => there,
        }
    }
}

impl<T> From<Elements<T>> for Held<T> {
    fn from(own: Elements<T>) -> Held<T> {
        Held::Own(own)
    }
}

/// A file that is being written.
#[derive(Debug)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    /// The header.
    pub fn new() -> Writer {
        let mut out = MAGIC.to_vec();
        out.extend(VERSION.to_le_bytes());
        out.resize(HEADER, 0);
        Writer(out)
    }

    /// What follows is the tokenizer.
    ///
    /// # Errors
    /// Where that is 2³² bytes behind the beginning or more.
    pub fn tokenizer_follows(&mut self) -> Result<()> {
        let at = u32::try_from(self.0.len()).map_err(|_| Error::invalid("a configuration too long"))?;
        self.0[SUMMED..SUMMED + 4].copy_from_slice(&at.to_le_bytes());
        Ok(())
    }

    /// A part of a file, to begin at a multiple of 4 in it.
    pub const fn part() -> Writer {
        Writer(Vec::new())
    }

    /// The bytes of a part.
    pub fn into_part(self) -> Vec<u8> {
        self.0
    }

    /// The whole file.
    pub fn finish(mut self) -> Vec<u8> {
        let len = self.0.len() as u64;
        self.0[16..24].copy_from_slice(&len.to_le_bytes());
        let sum = xxh64(&self.0[SUMMED..]);
        self.0[24..32].copy_from_slice(&sum.to_le_bytes());
        self.0
    }

    pub fn u32(&mut self, x: u32) {
        self.0.extend(x.to_le_bytes());
    }

    /// A number of things.
    ///
    /// # Errors
    /// Where it is 2³² or more.
    pub fn count(&mut self, n: usize) -> Result<()> {
        let n =
            u32::try_from(n).map_err(|_| Error::invalid(format!("{n} is more than a flat file can say")))?;
        self.u32(n);
        Ok(())
    }

    pub fn flag(&mut self, x: bool) {
        self.u32(x.into());
    }

    /// One of a list, by its number there.
    pub fn one_of<T: PartialEq>(&mut self, all: &[T], x: &T) {
        self.u32(all.iter().take_while(|&y| y != x).count() as u32);
    }

    /// A length, then the text.
    ///
    /// # Errors
    /// Where it has 2³² bytes or more.
    pub fn text(&mut self, x: &str) -> Result<()> {
        self.count(x.len())?;
        self.bytes(x.as_bytes());
        Ok(())
    }

    /// How many they are, then each.
    ///
    /// # Errors
    /// Where there are 2³² or more, or what `put` says.
    pub fn list<T>(
        &mut self,
        mut all: impl Iterator<Item = T> + Clone,
        mut put: impl FnMut(&mut Writer, T) -> Result<()>,
    ) -> Result<()> {
        self.count(all.clone().count())?;
        all.try_for_each(|x| put(self, x))
    }

    /// A number of them, then numbers.
    ///
    /// # Errors
    /// Where there are 2³² or more.
    pub fn table<T: Bits>(&mut self, x: &[T]) -> Result<()> {
        self.count(x.len())?;
        self.bytes(bytes(x));
        Ok(())
    }

    pub fn f32(&mut self, x: f32) {
        self.0.extend(x.to_le_bytes());
    }

    pub fn f64(&mut self, x: f64) {
        self.0.extend(x.to_le_bytes());
    }

    pub fn floats(&mut self, x: &[f32]) {
        x.iter().for_each(|&x| self.f32(x));
    }

    /// Whether there is one, then it.
    pub fn maybe<T>(&mut self, x: Option<T>, put: impl FnOnce(&mut Writer, T)) {
        self.u32(x.is_some().into());
        if let Some(x) = x {
            put(self, x);
        }
    }

    pub fn bytes(&mut self, x: &[u8]) {
        self.0.extend(x);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    pub fn held<T: Bits>(&mut self, x: &[T]) {
        self.0.resize(self.0.len().next_multiple_of(ALIGNMENT), 0);
        self.0.extend(bytes(x));
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }
}

/// A file that is being read.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    all: &'a [u8],
    /// The same bytes, where they stay.
    there: Option<&'static [u8]>,
    at: usize,
}

impl<'a> Reader<'a> {
    /// From byte `at` of bytes that are lent: panels are copied.
    pub fn of(all: &'a [u8], at: usize) -> Reader<'a> {
        Reader { all, there: None, at }
    }

    /// From byte `at` of bytes that stay: panels are read where they lie.
    pub fn in_place(all: &'static [u8], at: usize) -> Reader<'static> {
        Reader { all, there: Some(all), at }
    }

    /// An error at the place that was read last.
    pub fn error(&self, what: impl Into<alloc::string::String>) -> Error {
        Error::malformed(self.at as u64, what)
    }

    /// The range of the next `n` bytes.
    fn range(&mut self, n: usize) -> Result<core::ops::Range<usize>> {
        let end = self.at.checked_add(n).filter(|&end| end <= self.all.len());
        let end = end.ok_or_else(|| self.error(format!("{n} bytes should follow, the file ends before")))?;
        let range = self.at..end;
        self.at = end;
        Ok(range)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let range = self.range(N)?;
        let mut array = [0; N];
        array.copy_from_slice(&self.all[range]);
        Ok(array)
    }

    pub fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub fn f32(&mut self) -> Result<f32> {
        Ok(f32::from_le_bytes(self.array()?))
    }

    pub fn f64(&mut self) -> Result<f64> {
        Ok(f64::from_le_bytes(self.array()?))
    }

    /// A number of things, between these two.
    pub fn count(&mut self, what: &str, least: usize, most: usize) -> Result<usize> {
        let n = self.u32()? as usize;
        if (least..=most).contains(&n) {
            return Ok(n);
        }
        Err(self.error(format!("{what} is {n}, expected {least} to {most}")))
    }

    /// One of a list, by its number there.
    pub fn one_of<T: Copy>(&mut self, what: &str, all: &[T]) -> Result<T> {
        let n = self.count(what, 0, all.len() - 1)?;
        Ok(all[n])
    }

    pub fn flag(&mut self, what: &str) -> Result<bool> {
        self.one_of(what, &[false, true])
    }

    pub fn maybe<T>(&mut self, what: &str, get: impl FnOnce(&mut Self) -> Result<T>) -> Result<Option<T>> {
        if self.flag(what)? { get(self).map(Some) } else { Ok(None) }
    }

    /// `n` of them; there is no more memory than the file has bytes.
    pub fn list<T>(&mut self, n: usize, mut get: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let mut list = Vec::with_capacity(n.min((self.all.len() - self.at) / 4));
        for _ in 0..n {
            list.push(get(self)?);
        }
        Ok(list)
    }

    /// What [`Writer::list`] wrote.
    pub fn counted<T>(&mut self, get: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let n = self.u32()? as usize;
        self.list(n, get)
    }

    /// `n` floats, where they lie if they stay there.
    pub fn floats(&mut self, n: usize) -> Result<Cow<'static, [f32]>> {
        self.numbers(n, 0.0)
    }

    /// What [`Writer::text`] wrote.
    pub fn text(&mut self) -> Result<&'a str> {
        let n = self.u32()? as usize;
        core::str::from_utf8(self.bytes(n)?).map_err(|_| self.error("a text that is not UTF-8"))
    }

    /// The same, where it lies if it stays there.
    pub fn kept_text(&mut self) -> Result<Cow<'static, str>> {
        let n = self.u32()? as usize;
        let range = self.range(n)?;
        self.pad(4)?;
        let text = match self.there {
            Some(there) => core::str::from_utf8(&there[range]).map(Cow::Borrowed),
            None => core::str::from_utf8(&self.all[range]).map(|text| Cow::Owned(text.into())),
        };
        text.map_err(|_| self.error("a text that is not UTF-8"))
    }

    /// What [`Writer::table`] wrote, of numbers of at most 4 bytes: where it lies if it stays there. `zero` is one of them.
    pub fn table<T: Bits>(&mut self, zero: T) -> Result<Cow<'static, [T]>> {
        let n = self.u32()? as usize;
        self.numbers(n, zero)
    }

    fn numbers<T: Bits>(&mut self, n: usize, zero: T) -> Result<Cow<'static, [T]>> {
        let len = n.checked_mul(size_of::<T>()).ok_or_else(|| self.error("a table larger than memory"))?;
        let range = self.range(len)?;
        self.pad(4)?;
        if let Some(table) = self.there.and_then(|there| numbers(&there[range.clone()])) {
            return Ok(Cow::Borrowed(table));
        }
        let mut own = alloc::vec![zero; n];
        bytes_mut(&mut own).copy_from_slice(&self.all[range]);
        Ok(Cow::Owned(own))
    }

    pub fn character(&mut self) -> Result<char> {
        let c = char::from_u32(self.u32()?);
        c.ok_or_else(|| self.error("a number that is no character"))
    }

    /// The next `n` bytes, a part of the file that begins at a multiple of 4.
    pub fn part(&mut self, n: usize) -> Result<Reader<'a>> {
        let range = self.range(n)?;
        self.pad(4)?;
        let (all, there) = (&self.all[..range.end], self.there.map(|there| &there[..range.end]));
        Ok(Reader { all, there, at: range.start })
    }

    pub fn bytes(&mut self, n: usize) -> Result<&'a [u8]> {
        let range = self.range(n)?;
        self.pad(4)?;
        Ok(&self.all[range])
    }

    /// Skips to a multiple of `n`.
    fn pad(&mut self, n: usize) -> Result<()> {
        let to = self.at.next_multiple_of(n);
        let skipped = self.range(to - self.at)?;
        if self.all[skipped].iter().any(|&byte| byte != 0) {
            return Err(self.error("padding that is not zero"));
        }
        Ok(())
    }

    /// `n` groups of a packed weight; `zero` is one of them.
    pub fn held<T: Bits>(&mut self, n: usize, zero: T) -> Result<Held<T>> {
        self.pad(ALIGNMENT)?;
        let len = n.checked_mul(size_of::<T>()).ok_or_else(|| self.error("a weight larger than memory"))?;
        let range = self.range(len)?;
        self.pad(4)?;
        if let Some(there) = self.there {
            let found = numbers(&there[range]);
            let apart = || self.error(format!("the file must lie at a multiple of {ALIGNMENT} bytes"));
            return found.map(Held::There).ok_or_else(apart);
        }
        let mut own = filled(zero, n);
        bytes_mut(&mut own).copy_from_slice(&self.all[range]);
        Ok(Held::Own(own))
    }

    /// # Errors
    /// Where something is left.
    pub fn finish(self) -> Result<()> {
        match self.all.len() - self.at {
            0 => Ok(()),
            n => Err(self.error(format!("{n} bytes that belong to nothing"))),
        }
    }
}
