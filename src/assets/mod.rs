//! What the program carries with it: a small model, pairs that it can learn from, a table of vectors of words, kernels for
//! a browser, measured figures, and a book about itself. The feature `builtin` leaves them out where it is not asked for.
//!
//! `inside/README.md`, `table/README.md` and `browser/README.md` say what they were made from, by which commands, and under which licence.

pub(crate) mod listing;

use crate::io::tokenizer::Tokenizer;
use crate::model::Decoder;
use crate::{Cpu, Result};

const CONFIG: &[u8] = include_bytes!("inside/config.json");
const WEIGHTS: &[u8] = include_bytes!("inside/model.safetensors");
const TOKENIZER: &[u8] = include_bytes!("inside/tokenizer.json");

/// Bytes of the model inside and its tokenizer; there is one.
pub const SIZE: Option<usize> = Some(CONFIG.len() + WEIGHTS.len() + TOKENIZER.len());

/// The model inside: a Llama of 1.4 million parameters in NF4 that tells little stories.
///
/// # Errors
/// None for the files as they are.
pub fn model(cpu: Cpu) -> Result<Decoder> {
    Decoder::from_bytes(cpu, include_bytes!("inside/config.json"), include_bytes!("inside/model.safetensors"))
}

/// Its tokenizer.
///
/// # Errors
/// None for the file as it is.
pub fn tokenizer() -> Result<Tokenizer> {
    Tokenizer::from_json(TOKENIZER)
}

/// Pairs to learn from, and those to be judged by: lines of JSON with "prompt" and "completion".
pub const PAIRS: [&str; 2] = [include_str!("inside/pairs.jsonl"), include_str!("inside/held-out.jsonl")];

/// The vectors of tokens, in NF4, as `samebits distill --compact` writes them: `model.safetensors`.
pub const TABLE: &[u8] = include_bytes!("table/model.safetensors");

/// Their tokens, one a line: `vocab.txt`.
pub const TABLE_TOKENS: &str = include_str!("table/vocab.txt");

/// Kernels for a page, as WebAssembly: `browser/README.md` says how they are made.
pub const BROWSER: &[u8] = include_bytes!("browser/kernels.wasm");

/// A record of `benches/record`, shortened: `python3 src/assets/measured/make.py record FILE` writes it.
pub(crate) const RECORD: &str = include_str!("measured/record.json");

/// The ladders as `python3 src/assets/measured/make.py ladders` climbed them: name, picture, the files that they explain.
pub(crate) const LADDERS: [(&str, &str, &[&str]); 4] = [
    ("gemm", include_str!("measured/ladder-gemm.svg"), &["gemm/mod.rs"]),
    ("softmax", include_str!("measured/ladder-softmax.svg"), &["softmax.rs"]),
    ("attention", include_str!("measured/ladder-attention.svg"), &["attention/mod.rs"]),
    ("nf4", include_str!("measured/ladder-nf4.svg"), &["nf4/product.rs", "nf4/mod.rs"]),
];

/// README and what stands at the top of every file of the kernels, each with its path: lines are those of the files.
/// `python3 src/assets/book/make.py` collects the latter.
///
/// ```
/// use samebits::assets::{BROWSER, PAIRS, SIZE, TABLE, TABLE_TOKENS, book};
/// use samebits::io::{json, safetensors::SafeTensors};
/// assert!(book().any(|(path, text)| path == "kernels/src/dot.rs" && text.contains("**Law.**")));
/// let [learned, held_out] = PAIRS.map(|lines| lines.lines().count());
/// assert!(learned > held_out && json::parse(PAIRS[0].lines().next().unwrap().as_bytes()).is_ok());
/// assert!(SafeTensors::from_bytes(TABLE)?.len() > 0 && TABLE_TOKENS.lines().count() > 1000);
/// assert!(BROWSER.starts_with(b"\0asm") && SIZE.unwrap() < 1 << 20);
/// # Ok::<(), samebits::Error>(())
/// ```
pub fn book() -> impl Iterator<Item = (&'static str, &'static str)> {
    let headers = include_str!("book/headers.txt").split('\u{c}').filter_map(|part| part.split_once('\n'));
    [("README.md", include_str!("../../README.md"))].into_iter().chain(headers)
}
