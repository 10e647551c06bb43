//! safetensors: one malformed file a rule, mutants, memory and stack, the reference implementation's bytes.

#[path = "../common/memory.rs"]
mod memory;

mod files;
mod mutants;
mod rules;
mod writing;

use samebits::io::safetensors::{SafeTensors, TensorView, to_bytes};

#[global_allocator]
static ALLOCATOR: memory::Counting = memory::Counting;

fn slow() -> bool {
    cfg!(debug_assertions) || std::env::var_os("SAMEBITS_SLOW").is_some()
}

/// A file of this header and that many bytes of data.
fn file(header: &str, data: usize) -> Vec<u8> {
    let mut out = (header.len() as u64).to_le_bytes().to_vec();
    out.extend_from_slice(header.as_bytes());
    out.extend((0..data).map(|i| i as u8));
    out
}

/// Every accepted tensor lies in the data, they are disjoint, and together they are all of it.
fn check_accepted(bytes: &[u8], read: &SafeTensors) {
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut tensors: Vec<TensorView<'_>> = read.tensors().collect();
    tensors.sort_by_key(|t| (t.bytes.as_ptr(), t.bytes.len()));
    let data: Vec<u8> = tensors.iter().flat_map(|t| t.bytes).copied().collect();
    assert_eq!(data, bytes[header..]);
    for t in &tensors {
        let elements: u128 = t.shape.iter().map(|&n| n as u128).product();
        assert_eq!(elements * t.dtype.bits() as u128, t.bytes.len() as u128 * 8);
    }
    let pairs: Vec<(String, String)> = read.metadata().map(|(k, v)| (k.into(), v.into())).collect();
    let pairs: Vec<(&str, &str)> = pairs.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let again = SafeTensors::from_bytes(&to_bytes(&tensors, &pairs).unwrap()).unwrap();
    assert!(read.tensors().eq(again.tensors()));
}
