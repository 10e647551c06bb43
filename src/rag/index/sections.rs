//! The file around an index: named sections, each with its checksum.
//!
//! ```text
//!   byte 0    "SAMEBITS"                        what it is
//!   8         u32 version, u32 sections         then u64: length of the file
//!   24        u64                               XXH64 of bytes 0 .. 24 and of the table
//!   32        a table, 32 bytes a section:      name (8 bytes, zeros behind), u64 offset, u64 length, u64 XXH64
//!   …         the sections, each at a multiple of 64, zeros between them
//! ```
//!
//! All numbers are little-endian. Every byte is covered: by a checksum, or by being zero.

use crate::io::checksum::xxh64;
use crate::{Error, Result};
use core::ops::Range;
use std::io::{self, Write};

const MAGIC: &[u8; 8] = b"SAMEBITS";
const VERSION: u32 = 1;
const HEAD: usize = 32;
const ROW: usize = 32;
const ALIGN: usize = 64;
/// More sections than any version has.
const MOST: u32 = 64;

/// Where the sections of a file lie.
#[derive(Clone, Debug, Default)]
pub(super) struct Sections(Vec<Section>);

#[derive(Clone, Debug)]
struct Section {
    name: [u8; 8],
    bytes: Range<usize>,
    checksum: u64,
}

/// A number of the head or the table.
fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..].first_chunk().map_or(0, |word| u64::from_le_bytes(*word))
}

/// A name as it stands in the table.
fn padded(name: &str) -> [u8; 8] {
    let mut padded = [0; 8];
    padded[..name.len()].copy_from_slice(name.as_bytes());
    padded
}

impl Sections {
    /// Reads the head and the table of a file and checks both; not yet what is in the sections.
    ///
    /// # Errors
    /// Where this is no index, of another version, shorter or longer than it says, or damaged.
    pub fn parse(file: &[u8]) -> Result<Sections> {
        let bad = |offset: usize, what: String| Err(Error::malformed(offset as u64, what));
        if file.len() < HEAD || file[..8] != *MAGIC {
            return bad(0, "not an index: it does not begin with SAMEBITS".into());
        }
        let (version, count) = (u64_at(file, 8) as u32, (u64_at(file, 8) >> 32) as u32);
        if version != VERSION {
            return bad(8, format!("an index of version {version}, not {VERSION}"));
        }
        let len = u64_at(file, 16);
        if len != file.len() as u64 {
            return bad(16, format!("the index has {len} bytes, the file {}", file.len()));
        }
        let end = HEAD + count.min(MOST) as usize * ROW;
        if count > MOST || file.len() < end {
            return bad(12, format!("a table of {count} sections"));
        }
        let sum = checksum_of_head(&file[..24], &file[HEAD..end]);
        if sum != u64_at(file, 24) {
            return bad(24, "the head is damaged: its checksum does not fit".into());
        }
        let mut sections: Vec<Section> = Vec::new();
        let mut free = end;
        for (i, row) in file[HEAD..end].as_chunks::<ROW>().0.iter().enumerate() {
            let [offset, len, checksum] = [8, 16, 24].map(|at| u64_at(row, at));
            let start = usize::try_from(offset).unwrap_or(usize::MAX);
            let last = usize::try_from(len).ok().and_then(|len| start.checked_add(len));
            let Some(last) = last.filter(|&last| start == free.next_multiple_of(ALIGN) && last <= file.len())
            else {
                return bad(HEAD + i * ROW, format!("a section of {len} bytes at byte {offset}"));
            };
            if let Some(at) = file[free..start].iter().position(|&byte| byte != 0) {
                return bad(free + at, "something between two sections".into());
            }
            let name = *row.first_chunk().unwrap_or(&[0; 8]);
            sections.push(Section { name, bytes: start..last, checksum });
            free = last;
        }
        if free != file.len() {
            return bad(free, format!("{} bytes behind the last section", file.len() - free));
        }
        Ok(Sections(sections))
    }

    /// The bytes of a section.
    ///
    /// # Errors
    /// Where there is none of that name.
    pub fn find(&self, name: &str) -> Result<Range<usize>> {
        let none = || Error::invalid(format!("the index has no section {name:?}"));
        self.maybe(name).ok_or_else(none)
    }

    /// The bytes of a section that need not be there.
    pub fn maybe(&self, name: &str) -> Option<Range<usize>> {
        self.0.iter().find(|section| section.name == padded(name)).map(|section| section.bytes.clone())
    }

    /// Compares a section with its checksum, where it is `wanted` by its length.
    ///
    /// # Errors
    /// Where one is damaged, with its name.
    pub fn check(&self, file: &[u8], wanted: impl Fn(usize) -> bool) -> Result<()> {
        for Section { name, bytes, checksum } in self.0.iter().filter(|section| wanted(section.bytes.len())) {
            if xxh64(&file[bytes.clone()]) != *checksum {
                let name = String::from_utf8_lossy(name);
                let what = format!(
                    "the section {:?} is damaged: its checksum does not fit",
                    name.trim_matches('\0')
                );
                return Err(Error::malformed(bytes.start as u64, what));
            }
        }
        Ok(())
    }
}

fn checksum_of_head(head: &[u8], table: &[u8]) -> u64 {
    xxh64(&[head, table].concat())
}

/// Writes sections, in this order, as a file.
pub(super) fn write(out: &mut dyn Write, sections: &[(&str, &[u8])]) -> io::Result<()> {
    let mut table = Vec::new();
    let mut free = HEAD + sections.len() * ROW;
    for (name, bytes) in sections {
        let start = free.next_multiple_of(ALIGN);
        table.extend(padded(name));
        for number in [start as u64, bytes.len() as u64, xxh64(bytes)] {
            table.extend(number.to_le_bytes());
        }
        free = start + bytes.len();
    }
    let mut head = MAGIC.to_vec();
    head.extend(VERSION.to_le_bytes());
    head.extend((sections.len() as u32).to_le_bytes());
    head.extend((free as u64).to_le_bytes());
    let sum = checksum_of_head(&head, &table);
    out.write_all(&head)?;
    out.write_all(&sum.to_le_bytes())?;
    out.write_all(&table)?;
    let mut at = HEAD + table.len();
    for (_, bytes) in sections {
        out.write_all(&[0; ALIGN][..at.next_multiple_of(ALIGN) - at])?;
        out.write_all(bytes)?;
        at = at.next_multiple_of(ALIGN) + bytes.len();
    }
    Ok(())
}
