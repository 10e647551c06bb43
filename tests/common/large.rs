//! A model that is large in memory and small on the disk.

use super::program::Folder;
use samebits::io::safetensors::SafeTensors;
use std::io::Write;
use std::path::PathBuf;

const LLAMA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/models/llama");

/// The committed Llama with wider layers, 132 MiB of zeros that no disk holds.
pub fn write_large(folder: &Folder) -> PathBuf {
    let small = std::fs::read_to_string(format!("{LLAMA}/config.json")).unwrap();
    let wider = [("hidden_size", 20, 1024), ("intermediate_size", 28, 4096), ("head_dim", 6, 256)];
    let config = wider.iter().fold(small, |text, (key, from, to)| {
        text.replace(&format!("\"{key}\": {from}"), &format!("\"{key}\": {to}"))
    });
    std::fs::write(folder.path("config.json"), config).unwrap();
    std::fs::copy(format!("{LLAMA}/tokenizer.json"), folder.path("tokenizer.json")).unwrap();
    let file = SafeTensors::open(format!("{LLAMA}/model.safetensors")).unwrap();
    let (mut head, mut end) = (String::new(), 0);
    for tensor in file.tensors() {
        // Features, those of the network, of all heads, of all key heads.
        let widen =
            |&n: &usize| [(20, 1024), (28, 4096), (24, 1024), (12, 512), (53, 53)].iter().find(|w| w.0 == n);
        let shape: Vec<usize> = tensor.shape.iter().map(|n| widen(n).unwrap().1).collect();
        let (name, dtype, start) = (tensor.name, tensor.dtype, end);
        end += shape.iter().product::<usize>() * dtype.bits() / 8;
        head += &format!(
            ",\"{name}\":{{\"dtype\":\"{dtype}\",\"shape\":{shape:?},\"data_offsets\":[{start},{end}]}}"
        );
    }
    // As writers do: data at a multiple of 8.
    let head = format!("{{{}}}", &head[1..]);
    let head = format!("{head:<0$}", head.len().next_multiple_of(8));
    let path = folder.path("model.safetensors");
    let mut file = std::fs::File::create(&path).unwrap();
    file.write_all(&(head.len() as u64).to_le_bytes()).unwrap();
    file.write_all(head.as_bytes()).unwrap();
    file.set_len((8 + head.len() + end) as u64).unwrap();
    path
}
