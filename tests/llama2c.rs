//! llama2.c checkpoints: real files, one malformed file a rule, mutants.

#[path = "common/memory.rs"]
mod memory;

use memory::peak;
use samebits::Cpu;
use samebits::golden::{Hash, Random};
use samebits::io::bytes::Access;
use samebits::io::gguf::Gguf;
use samebits::io::llama2c::{Elements, Llama2c};
use std::path::PathBuf;

#[global_allocator]
static ALLOCATOR: memory::Counting = memory::Counting;

/// Numbers of a small model: dim, hidden, layers, heads, key heads, vocabulary, positions.
const SMALL: [i32; 7] = [8, 12, 2, 4, 2, 10, 16];

/// Floats of the weights alone, without norms, output and frequencies.
fn matrices([dim, hidden, layers, heads, kv, vocab, _]: [i32; 7]) -> i32 {
    vocab * dim + layers * (2 * dim * dim + 2 * dim * (dim / heads * kv) + 3 * dim * hidden)
}

fn norms([dim, _, layers, ..]: [i32; 7]) -> i32 {
    dim * (2 * layers + 1)
}

fn words(words: &[i32]) -> Vec<u8> {
    words.iter().flat_map(|n| n.to_le_bytes()).collect()
}

/// Version 0: floats 0, 1, 2, …
fn legacy(n: [i32; 7], shared: bool) -> Vec<u8> {
    let mut header = n;
    header[5] = if shared { n[5] } else { -n[5] };
    let output = if shared { 0 } else { n[5] * n[0] };
    let count = matrices(n) + norms(n) + n[6] * (n[0] / n[3]) + output;
    let floats = (0..count).flat_map(|i| (i as f32).to_le_bytes());
    words(&header).into_iter().chain(floats).collect()
}

fn header(version: i32, n: [i32; 7], shared: u8, group: i32) -> Vec<u8> {
    let mut head = words(&[0x616b_3432, version]);
    head.extend(words(&n));
    head.push(shared);
    head.extend(group.to_le_bytes());
    head.resize(256, 0);
    head
}

fn version_1(n: [i32; 7], shared: bool) -> Vec<u8> {
    let output = if shared { 0 } else { n[5] * n[0] };
    let count = matrices(n) + norms(n) + output;
    let floats = (0..count).flat_map(|i| (i as f32).to_le_bytes());
    header(1, n, shared.into(), 0).into_iter().chain(floats).collect()
}

/// Version 2 in groups of four: bytes 0, 1, 2, … and scales 0.5.
fn version_2(n: [i32; 7], shared: bool) -> Vec<u8> {
    let output = if shared { 0 } else { n[5] * n[0] };
    let mut out = header(2, n, shared.into(), 4);
    out.extend((0..norms(n)).flat_map(|i| (i as f32).to_le_bytes()));
    let [dim, hidden, layers, heads, kv, vocab, _] = n;
    let kv = dim / heads * kv;
    let sizes = [vocab * dim]
        .into_iter()
        .chain(
            [dim * dim, kv * dim, kv * dim, dim * dim, dim * hidden, dim * hidden, dim * hidden]
                .into_iter()
                .flat_map(|len| vec![len; layers as usize]),
        )
        .chain([output]);
    for len in sizes {
        out.extend((0..len).map(|i| i as u8));
        out.extend((0..len / 4).flat_map(|_| 0.5f32.to_le_bytes()));
    }
    out
}

#[test]
fn the_three_versions_hold_the_same_tensors() {
    for shared in [true, false] {
        let files = [legacy(SMALL, shared), version_1(SMALL, shared), version_2(SMALL, shared)];
        let read = files.map(|file| Llama2c::from_bytes(&file).unwrap());
        let mut names: [Vec<(String, Vec<usize>)>; 3] = [0, 1, 2].map(|i| {
            assert_eq!((read[i].version(), read[i].config().shared_classifier), (i as u32, shared));
            read[i].tensors().map(|t| (t.name.to_string(), t.shape.to_vec())).collect()
        });
        names.iter_mut().for_each(|names| names.sort());
        assert_eq!(names[0].len(), 3 + 9 * 2 - usize::from(shared));
        assert!(names[0] == names[1] && names[1] == names[2]);
        assert_eq!(read[0].config().vocab_size, 10);
    }
}

#[test]
fn tensors_stand_where_they_should() {
    let cpu = Cpu::detect();
    let file = Llama2c::from_bytes(&legacy(SMALL, false)).unwrap();
    // 80 of the embedding, 16 of the norms, then wq of layer 0 and 1.
    let wq = file.load(cpu, "layers.1.attention.wq.weight").unwrap();
    assert_eq!((wq.shape(), wq.to_vec::<f32>()[0]), (&[8, 8][..], (80 + 16 + 64) as f32));
    // Behind the frequencies: 16 positions of 2.
    let floats = (legacy(SMALL, false).len() - 28) / 4;
    assert_eq!(file.load(cpu, "output.weight").unwrap().to_vec::<f32>()[0], (floats - 80) as f32);
    let file = Llama2c::from_bytes(&version_2(SMALL, true)).unwrap();
    let wk = file.load(cpu, "layers.1.attention.wk.weight").unwrap();
    assert_eq!((wk.shape(), wk.to_vec::<f32>()[31]), (&[4, 8][..], 15.5));
    let w2 = file.tensor("layers.0.feed_forward.w2.weight").unwrap();
    assert!(matches!(w2.elements, Elements::Q8 { group: 4, .. }) && w2.shape == [8, 12]);
    let mut decoded = vec![0.0; 96];
    w2.decode(cpu, &mut decoded);
    assert_eq!(decoded[95], 47.5);
    let missing = file.tensor("output.weight").unwrap_err();
    assert!(missing.to_string().contains("no tensor \"output.weight\""));
}

#[test]
fn stories260k_in_three_forms_is_one_model() {
    let Some(data) = std::env::var_os("SAMEBITS_DATA") else {
        eprintln!("skipped: SAMEBITS_DATA is not set");
        return;
    };
    let (folder, cpu) = (PathBuf::from(data).join("models/stories260K"), Cpu::detect());
    let legacy = Llama2c::open(folder.join("stories260K.bin"), Access::Read).unwrap();
    let one = Llama2c::open(folder.join("stories260K_v1.bin"), Access::Read).unwrap();
    let gguf = Gguf::open(folder.join("stories260K-f32.gguf"), Access::Read).unwrap();
    assert_eq!((legacy.version(), one.version()), (0, 1));
    assert_eq!(legacy.config(), one.config());
    for t in legacy.tensors() {
        let bits = |tensor: samebits::tensor::Tensor| {
            tensor.to_vec::<f32>().iter().map(|x| x.to_bits()).collect::<Vec<_>>()
        };
        assert_eq!(
            bits(legacy.load(cpu, t.name).unwrap()),
            bits(one.load(cpu, t.name).unwrap()),
            "{}",
            t.name
        );
    }
    let both = [
        ("tok_embeddings.weight", "token_embd.weight"),
        ("layers.3.feed_forward.w2.weight", "blk.3.ffn_down.weight"),
    ];
    for (own, theirs) in both {
        let same =
            legacy.load(cpu, own).unwrap().to_vec::<f32>() == gguf.load(theirs).unwrap().to_vec::<f32>();
        assert!(same, "{own}");
    }
}

fn rules() -> Vec<(&'static str, Vec<u8>, Option<&'static str>)> {
    let with = |i: usize, n: i32| {
        let mut numbers = SMALL;
        numbers[i] = n;
        words(&numbers)
    };
    let more = |mut file: Vec<u8>, n: usize| {
        file.resize(file.len() + n, 0);
        file
    };
    let cut = |file: Vec<u8>| file[..file.len() - 1].to_vec();
    vec![
        ("empty", vec![], Some("a file of 0 bytes is no llama2.c checkpoint")),
        ("three bytes", vec![1; 3], Some("a file of 3 bytes is no")),
        ("numbers cut", words(&SMALL)[..27].to_vec(), Some("a file of 27 bytes is no")),
        ("PyTorch's", b"PK\x03\x04 and more than twenty-eight bytes".to_vec(), Some("this is a zip archive")),
        ("GGUF", b"GGUF\x03\0\0\0 and more than twenty-eight bytes".to_vec(), Some("this is a GGUF file")),
        ("version 0", legacy(SMALL, true), None),
        ("version 0, an output of its own", legacy(SMALL, false), None),
        ("version 1", version_1(SMALL, true), None),
        ("version 2", version_2(SMALL, false), None),
        ("version 3", header(3, SMALL, 1, 4), Some("byte 4: llama2.c version 3; versions 0 to 2 are read")),
        ("version -1", header(-1, SMALL, 1, 4), Some("version 4294967295")),
        ("header cut", header(1, SMALL, 1, 0)[..255].to_vec(), Some("a file of 255 bytes is no")),
        ("no features", with(0, 0), Some("byte 0: dim is 0, expected 1 to 16777216")),
        ("negative layers", with(2, -1), Some("byte 8: n_layers is -1")),
        ("2^31 - 1 layers", with(2, i32::MAX), Some("n_layers is 2147483647")),
        ("5000 layers", with(2, 5000), Some("n_layers is 5000, expected at most 4096")),
        ("no heads", with(3, 0), Some("byte 12: n_heads is 0")),
        ("three heads", with(3, 3), Some("8 features, 3 heads and 2 key heads do not divide")),
        ("three key heads", with(4, 3), Some("do not divide")),
        ("no vocabulary", with(5, 0), Some("vocab_size is 0")),
        ("vocabulary -2^31", with(5, i32::MIN), Some("vocab_size is -2147483648")),
        ("most of all", words(&[1 << 24, 1 << 24, 4096, 1, 1, 1 << 24, 1 << 24]), Some("the numbers make")),
        ("a byte short", cut(legacy(SMALL, true)), Some("the numbers make 4476 bytes, the file has 4475")),
        ("a byte over", more(version_1(SMALL, true), 1), Some("the numbers make")),
        (
            "negative vocabulary in version 1",
            header(1, [8, 12, 2, 4, 2, -10, 16], 1, 0),
            Some("byte 28: a negative"),
        ),
        ("shared 2", header(1, SMALL, 2, 0), Some("byte 36: shared is 0 or 1, found 2")),
        ("groups of 0", header(2, SMALL, 1, 0), Some("byte 37: groups of 0 do not divide 8 and 12 features")),
        ("groups of 8", header(2, SMALL, 1, 8), Some("groups of 8 do not divide")),
        ("groups of -4", header(2, SMALL, 1, -4), Some("groups of -4 do not divide")),
    ]
}

#[test]
fn every_rule() {
    for (what, file, error) in rules() {
        match (Llama2c::from_bytes(&file), error) {
            (Ok(_), None) => {}
            (Err(e), Some(says)) => assert!(e.to_string().contains(says), "{what}: {e}"),
            (Ok(_), Some(says)) => panic!("{what}: accepted, expected {says:?}"),
            (Err(e), None) => panic!("{what}: {e}"),
        }
    }
}

#[test]
fn mutants() {
    const FIRST: usize = 10_000;
    const VERDICTS: u64 = 0x817f_e32a_da00_e9dd;
    let seeds: Vec<Vec<u8>> = rules().into_iter().map(|rule| rule.1).collect();
    let slow = cfg!(debug_assertions) || std::env::var_os("SAMEBITS_SLOW").is_some();
    let mut random = Random::new(59);
    let (mut verdicts, mut accepted) = (Hash::default(), 0);
    for i in 0..if slow { FIRST } else { 200_000 } {
        let mut bytes = seeds[random.below(seeds.len())].clone();
        for _ in 0..1 + random.below(2) {
            let at = random.below(bytes.len().clamp(1, 48));
            let value = [0u32, 1, 2, 8, 0x7fff_ffff, 0x8000_0000, u32::MAX, 1 << 24][random.below(8)];
            match random.below(5) {
                0 if bytes.len() > at => bytes[at] ^= 1 << random.below(8),
                1 if bytes.len() >= at / 4 * 4 + 4 => {
                    bytes[at / 4 * 4..][..4].copy_from_slice(&value.to_le_bytes());
                }
                2 => bytes.truncate(random.below(bytes.len() + 1)),
                3 if bytes.len() > at => bytes[at] = random.below(64) as u8,
                _ => bytes.push(0),
            }
        }
        let (read, held) = peak(|| Llama2c::from_bytes(&bytes));
        assert!(held <= 32 * bytes.len() + (1 << 16), "{held} bytes for {} bytes", bytes.len());
        if i < FIRST {
            verdicts = verdicts.bytes(&[u8::from(read.is_ok())]);
        }
        if let Ok(read) = read {
            accepted += 1;
            let elements: usize = read.tensors().map(|t| t.shape.iter().product::<usize>()).sum();
            assert!(elements <= bytes.len());
        }
    }
    assert!(accepted > 100, "only {accepted} accepted: the mutator is too rough");
    // Debug, release and every machine agree on the first of them.
    assert_eq!(verdicts.0, VERDICTS, "the verdicts hash to {:#x}", verdicts.0);
}
