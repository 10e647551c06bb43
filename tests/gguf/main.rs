//! GGUF: one malformed file a rule, mutants, memory, real files, and files of the Python package `gguf`.

#[path = "../common/memory.rs"]
mod memory;

mod files;
mod mutants;
mod rules;

use samebits::io::gguf::{Gguf, to_bytes};

#[global_allocator]
static ALLOCATOR: memory::Counting = memory::Counting;

fn slow() -> bool {
    cfg!(debug_assertions) || std::env::var_os("SAMEBITS_SLOW").is_some()
}

/// Fields of a file, one after the other.
#[derive(Default, Clone)]
struct Raw(Vec<u8>);

impl Raw {
    /// `GGUF`, version 3, so many tensors and pairs.
    fn new(tensors: u64, pairs: u64) -> Raw {
        Raw(b"GGUF".to_vec()).u32(3).u64(tensors).u64(pairs)
    }

    fn bytes(mut self, bytes: &[u8]) -> Raw {
        self.0.extend_from_slice(bytes);
        self
    }

    fn u32(self, n: u32) -> Raw {
        self.bytes(&n.to_le_bytes())
    }

    fn u64(self, n: u64) -> Raw {
        self.bytes(&n.to_le_bytes())
    }

    fn text(self, text: &str) -> Raw {
        self.u64(text.len() as u64).bytes(text.as_bytes())
    }

    /// A key and the type of its value.
    fn key(self, key: &str, kind: u32) -> Raw {
        self.text(key).u32(kind)
    }

    /// A row of the table of tensors; `ne` innermost first.
    fn tensor(self, name: &str, ne: &[u64], kind: u32, offset: u64) -> Raw {
        let mut raw = self.text(name).u32(ne.len() as u32);
        for &n in ne {
            raw = raw.u64(n);
        }
        raw.u32(kind).u64(offset)
    }

    /// Padding to a multiple of `align`, then `data` bytes.
    fn data(mut self, align: usize, data: usize) -> Raw {
        let len = self.0.len().next_multiple_of(align) + data;
        self.0.resize(len, 0);
        self
    }
}

/// Every accepted tensor lies in the file, they are disjoint, sizes fit; written again it reads the same.
fn check_accepted(bytes: &[u8], read: &Gguf) {
    let mut places = Vec::new();
    let start = read.data().elements::<u8>().as_ptr() as usize;
    for t in read.tensors() {
        let elements: u128 = t.shape.iter().map(|&n| n as u128).product();
        let need = elements / t.kind.block_len() as u128 * t.kind.block_bytes() as u128;
        assert_eq!(need, t.bytes.len() as u128);
        let at = t.bytes.as_ptr() as usize - start;
        assert_eq!(bytes[at..at + t.bytes.len()], *t.bytes);
        if need > 0 {
            places.push((at, at + t.bytes.len()));
        }
    }
    places.sort_unstable();
    assert!(places.windows(2).all(|w| w[0].1 <= w[1].0), "{places:?}");
    let pairs: Vec<_> = read.metadata().map(|e| (e.key, e.value)).collect();
    let tensors: Vec<_> = read.tensors().collect();
    if tensors.iter().all(|t| t.name.len() < 64) {
        let again = to_bytes(&pairs, &tensors).unwrap();
        let again = Gguf::from_bytes(&again).unwrap();
        assert!(again.tensors().eq(tensors.iter().copied()));
        // Equal bytes, not equal numbers: a NaN is unequal to itself.
        let twice = to_bytes(&again.metadata().map(|e| (e.key, e.value)).collect::<Vec<_>>(), &[]).unwrap();
        assert_eq!(to_bytes(&pairs, &[]).unwrap(), twice);
    }
}
