//! Files that are not what they were: cut, flipped, replaced, forged.

mod common;

use common::Random;
use common::collection::{built, built_with, documents, embedder, search, settings};
use samebits::Result;
use samebits::io::bytes::Access;
use samebits::io::checksum::xxh64;
use samebits::rag::index::{Builder, Found, Mode, Settings};
use samebits::rag::vectors::VectorType;
use samebits::rag::{Filter, Index};

/// All that a reader of an index may ask; errors are answers too.
fn ask_everything(index: &Index) -> Result<Vec<Found>> {
    for d in 0..index.documents() {
        index.id(d)?;
        index.text(d)?;
        index.metadata(d)?;
    }
    for chunk in 0..index.chunks() {
        index.excerpt(chunk)?;
    }
    let filter = Filter::parse("year > 2005 or open = true")?;
    let mut all = Vec::new();
    for mode in [Mode::Dense, Mode::Lexical, Mode::Hybrid] {
        all.extend(search(index, "the old captain", 9, mode, None)?);
        all.extend(search(index, "salt river", 9, mode, Some(&filter))?);
    }
    Builder::from_index(index)?;
    Ok(all)
}

#[test]
fn damage_is_an_error_or_changes_nothing() {
    let bytes = built(&documents(12, 17), Some(&embedder())).to_bytes();
    let expected = ask_everything(&Index::from_bytes(&bytes).unwrap()).unwrap();
    for len in (0..bytes.len()).step_by(97) {
        assert!(Index::from_bytes(&bytes[..len]).is_err(), "cut to {len}");
    }
    assert!(Index::from_bytes(&[&bytes[..], &[0]].concat()).is_err(), "a byte more");
    let mut random = Random::new(1);
    let later = (0..4000).map(|_| random.below(8 * bytes.len()));
    for bit in (0..4096).chain(later) {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let answers = Index::from_bytes(&damaged).and_then(|index| ask_everything(&index));
        assert!(answers.is_err() || answers.unwrap() == expected, "bit {bit}");
    }
}

/// The checksums of a file put right.
fn with_checksums(mut bytes: Vec<u8>) -> Vec<u8> {
    let number = |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
    let sections = number(&bytes, 8) >> 32;
    let end = 32 + 32 * sections;
    for row in (32..end).step_by(32) {
        let (start, len) = (number(&bytes, row + 8), number(&bytes, row + 16));
        if let Some(section) = start.checked_add(len).and_then(|end| bytes.get(start..end)) {
            let sum = xxh64(section);
            bytes[row + 24..row + 32].copy_from_slice(&sum.to_le_bytes());
        }
    }
    let head = [&bytes[..24], &bytes[32..end]].concat();
    bytes[24..32].copy_from_slice(&xxh64(&head).to_le_bytes());
    bytes
}

#[test]
fn no_number_of_a_file_is_trusted() {
    // As an attacker would: something changed, and the checksums to it. Whatever comes, no panic and no endless work.
    let settings = Settings { vectors: VectorType::Int8, graph: true, ..settings() };
    let bytes = built_with(settings, &documents(6, 19), Some(&embedder())).to_bytes();
    let mut random = Random::new(3);
    let mut opened = 0;
    for _ in 0..6000 {
        let mut changed = bytes.clone();
        for _ in 0..1 + random.below(3) {
            let at = if random.below(3) == 0 {
                32 + random.below(700)
            } else {
                32 + random.below(bytes.len() - 32)
            };
            changed[at] = if random.below(2) == 0 { 0xff } else { random.bits() as u8 };
        }
        if let Ok(index) = Index::from_bytes(&with_checksums(changed)) {
            opened += 1;
            let _ = ask_everything(&index);
        }
    }
    assert!(opened > 1000, "{opened}: most changes should reach what is behind the checksums");
}

#[test]
fn a_reader_goes_on_while_the_file_is_replaced() {
    let folder = common::program::Folder::new("index_replaced");
    let path = folder.path("notes.sbi");
    built(&documents(20, 23), Some(&embedder())).save(&path).unwrap();
    for access in [Access::Map, Access::Read] {
        let index = Index::open(&path, access).unwrap();
        index.verify().unwrap();
        let before = ask_everything(&index).unwrap();
        built(&documents(25, 29), Some(&embedder())).save(&path).unwrap();
        assert_eq!(ask_everything(&index).unwrap(), before, "{access:?}");
        assert_eq!(Index::open(&path, access).unwrap().documents(), 25);
        built(&documents(20, 23), Some(&embedder())).save(&path).unwrap();
    }
    let error = Index::open(&folder.path("none.sbi"), Access::Map).err().unwrap();
    assert!(error.to_string().contains("none.sbi"));
    std::fs::write(folder.path("text.sbi"), "not an index, but long enough to have a head").unwrap();
    let error = Index::open(&folder.path("text.sbi"), Access::Map).err().unwrap();
    assert!(error.to_string().contains("text.sbi: byte 0: not an index"), "{error}");
}
