//! llama2.c checkpoints: a few numbers, then the weights of a Llama in a fixed order.
//!
//! ```text
//!   version 0   7 numbers; embedding, norms and weights layer by layer of a kind, frequencies, [output]     f32
//!   version 1   "ak42" 1, 7 numbers, shared; norms, embedding, weights [output], from byte 256 on           f32
//!   version 2   "ak42" 2, 7 numbers, shared, group; norms f32; then of each weight signed bytes and one f32 scale a
//!               group of consecutive elements: element = byte · scale, rounded once
//! ```
//!
//! In version 0 a negative vocabulary says that the output layer is a matrix of its own. Nothing names a tensor and
//! version 0 has no magic number, so the file must be exactly as long as its numbers say; they are checked before
//! anything is reserved. Tensors have the names of Meta's checkpoints (`layers.0.attention.wq.weight`).
//!
//! Reference: github.com/karpathy/llama2.c, `run.c`, `runq.c`, `export.py`.

use crate::io::kind::other_kind;
use crate::io::nearest::no_tensor;
use crate::tensor::{Buffer, Dtype, Shape, Tensor};
use crate::{Cpu, Error, Result};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

const MAGIC: u32 = 0x616b_3432;
/// Where the weights begin from version 1 on.
const HEADER: usize = 256;
/// What a number of the header may be; the largest models are far below.
const MOST: usize = 1 << 24;
/// Layers, at most.
const MOST_LAYERS: usize = 4096;

/// The numbers of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Features of a token.
    pub dim: usize,
    /// Hidden features of the feed-forward network.
    pub hidden_dim: usize,
    /// Layers.
    pub n_layers: usize,
    /// Heads of queries.
    pub n_heads: usize,
    /// Heads of keys and values.
    pub n_kv_heads: usize,
    /// Tokens of the vocabulary.
    pub vocab_size: usize,
    /// Positions that the model was made for.
    pub seq_len: usize,
    /// Whether the output layer is the embedding table.
    pub shared_classifier: bool,
}

/// Where a tensor stands.
struct Place {
    name: String,
    shape: [usize; 2],
    rank: usize,
    /// Its floats, or its signed bytes.
    start: usize,
    /// Elements that share a scale; `None`: floats.
    group: Option<usize>,
}

/// A checkpoint, whole in memory or mapped.
///
/// ```
/// use samebits::io::llama2c::{Config, Elements, Llama2c, TensorView};
/// // Two features, two hidden, a layer, a head, four tokens, two positions: 46 floats.
/// let mut file: Vec<u8> = [2i32, 2, 1, 1, 1, 4, 2].iter().flat_map(|n| n.to_le_bytes()).collect();
/// file.extend((0..46).flat_map(|i| (i as f32).to_le_bytes()));
/// let file = Llama2c::from_bytes(&file)?;
/// let config: &Config = file.config();
/// assert_eq!((file.version(), config.dim, config.vocab_size, config.shared_classifier), (0, 2, 4, true));
/// let first: TensorView = file.tensors().next().unwrap();
/// assert_eq!(first.shape, [4, 2]); // the table of embeddings
/// let Elements::F32(bytes) = first.elements else { panic!("version 0 has floats") };
/// assert_eq!(bytes[4..8], 1f32.to_le_bytes());
/// # Ok::<(), samebits::Error>(())
/// ```
pub struct Llama2c {
    name: String,
    version: u32,
    config: Config,
    data: Arc<Buffer>,
    /// In the order of the file.
    places: Vec<Place>,
}

/// A tensor of a checkpoint.
#[derive(Clone, Copy, Debug)]
pub struct TensorView<'a> {
    /// Its name.
    pub name: &'a str,
    /// Outermost first.
    pub shape: &'a [usize],
    /// Its elements.
    pub elements: Elements<'a>,
}

/// The elements of a tensor, little-endian, row by row.
#[derive(Clone, Copy, Debug)]
pub enum Elements<'a> {
    /// Floats.
    F32(&'a [u8]),
    /// Signed bytes, and one float for each `group` of them.
    Q8 {
        /// One an element.
        codes: &'a [u8],
        /// Floats, one a group.
        scales: &'a [u8],
        /// Elements of a group.
        group: usize,
    },
}

impl Llama2c {
    /// Reads a checkpoint from memory.
    ///
    /// # Errors
    /// Where the numbers make no model, or not one of this length.
    pub fn from_bytes(file: &[u8]) -> Result<Llama2c> {
        parse(file)?; // before it is copied
        Llama2c::from_buffer(Arc::new(Buffer::from(file)))
    }

    /// Reads a checkpoint that a buffer holds; tensors are windows into it.
    ///
    /// # Errors
    /// As [`Llama2c::from_bytes`].
    pub fn from_buffer(data: Arc<Buffer>) -> Result<Llama2c> {
        let (version, config, places) = parse(data.elements())?;
        Ok(Llama2c { name: String::new(), version, config, data, places })
    }

    /// Reads the file at `path`: into memory, or as a mapping.
    ///
    /// # Errors
    /// Where the system refuses, where it is not a regular file, or as [`Llama2c::from_bytes`].
    #[cfg(feature = "std")]
    pub fn open(path: impl AsRef<std::path::Path>, how: super::bytes::Access) -> Result<Llama2c> {
        let path = path.as_ref();
        let data = super::bytes::open(path, how)?;
        let read = Llama2c::from_buffer(Arc::new(data)).map_err(|e| e.in_file(path.display()))?;
        Ok(Llama2c { name: path.display().to_string(), ..read })
    }

    /// Where it came from; empty if not from a file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// 0, 1 or 2.
    pub const fn version(&self) -> u32 {
        self.version
    }

    /// Its numbers.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// The memory that holds the file: [`Buffer::check`] says whether a mapping is still whole.
    pub const fn data(&self) -> &Arc<Buffer> {
        &self.data
    }

    /// The tensors, in the order of the file.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = TensorView<'_>> {
        self.places.iter().map(|place| self.view(place))
    }

    /// The tensor of that name.
    ///
    /// # Errors
    /// [`Error::NoTensor`], with the most similar name as a hint.
    pub fn tensor(&self, name: &str) -> Result<TensorView<'_>> {
        let names = || self.places.iter().map(|place| &*place.name);
        let found = self.places.iter().find(|place| place.name == name);
        found.map(|place| self.view(place)).ok_or_else(|| no_tensor(&self.name, name, names()))
    }

    /// The tensor of that name as floats: a window into the file's memory where they stand there.
    ///
    /// # Errors
    /// As [`Llama2c::tensor`]; [`Error::TooLarge`] where memory does not suffice to decode it.
    pub fn load(&self, cpu: Cpu, name: &str) -> Result<Tensor> {
        let view = self.tensor(name)?;
        match view.elements {
            Elements::F32(bytes) => {
                let start = bytes.as_ptr().addr() - self.data.elements::<u8>().as_ptr().addr();
                match Tensor::from_buffer(self.data.clone(), start, Dtype::F32, Shape::new(view.shape)?) {
                    Some(tensor) => Ok(tensor),
                    None => Tensor::from_bytes(Dtype::F32, view.shape, bytes),
                }
            }
            Elements::Q8 { .. } => {
                let shape = Shape::new(view.shape)?;
                let mut data = Buffer::zeroed(shape.elements() * size_of::<f32>())?;
                view.decode(cpu, data.elements_mut());
                // The memory is as long as the shape needs.
                Tensor::from_buffer(Arc::new(data), 0, Dtype::F32, shape)
                    .ok_or(Error::TooLarge { shape: view.shape.into() })
            }
        }
    }

    fn view<'a>(&'a self, place: &'a Place) -> TensorView<'a> {
        let shape = &place.shape[..place.rank];
        let len: usize = shape.iter().product();
        let bytes = &self.data.elements::<u8>()[place.start..];
        let elements = match place.group {
            None => Elements::F32(&bytes[..4 * len]),
            Some(group) => {
                let (codes, rest) = bytes.split_at(len);
                Elements::Q8 { codes, scales: &rest[..4 * (len / group)], group }
            }
        };
        TensorView { name: &place.name, shape, elements }
    }
}

impl TensorView<'_> {
    /// All elements as floats, row by row.
    ///
    /// # Panics
    /// Where `out` does not have as many.
    pub fn decode(&self, _: Cpu, out: &mut [f32]) {
        let float = |&word: &[u8; 4]| f32::from_le_bytes(word);
        match self.elements {
            Elements::F32(bytes) => {
                assert!(bytes.len() == 4 * out.len(), "{} bytes into {} floats", bytes.len(), out.len());
                out.iter_mut().zip(bytes.as_chunks().0).for_each(|(x, word)| *x = float(word));
            }
            Elements::Q8 { codes, scales, group } => {
                assert!(codes.len() == out.len(), "{} elements into {}", codes.len(), out.len());
                let groups = codes.chunks(group).zip(scales.as_chunks().0);
                for (out, (codes, scale)) in out.chunks_mut(group).zip(groups) {
                    let scale = float(scale);
                    out.iter_mut().zip(codes).for_each(|(x, &q)| *x = f32::from(q as i8) * scale);
                }
            }
        }
    }
}

/// The `i`-th number of four bytes.
fn word(file: &[u8], i: usize) -> Option<u32> {
    file.get(4 * i..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

/// Version, numbers and table. What is known to be another kind of file is named as that.
fn parse(file: &[u8]) -> Result<(u32, Config, Vec<Place>)> {
    parse_own(file).map_err(|e| other_kind(file, "a llama2.c checkpoint").unwrap_or(e))
}

fn parse_own(file: &[u8]) -> Result<(u32, Config, Vec<Place>)> {
    let short = || Error::invalid(format!("a file of {} bytes is no llama2.c checkpoint", file.len()));
    if word(file, 0).ok_or_else(short)? != MAGIC {
        let mut config = numbers(file, 0).ok_or_else(short)??;
        // The sign of the vocabulary, which `numbers` leaves out.
        config.shared_classifier = word(file, 5).ok_or_else(short)? < 1 << 31;
        let places = version_0(&config, file.len())?;
        return Ok((0, config, places));
    }
    let version = word(file, 1).ok_or_else(short)?;
    if !(1..=2).contains(&version) {
        return Err(Error::malformed(4, format!("llama2.c version {version}; versions 0 to 2 are read")));
    }
    if file.len() < HEADER {
        return Err(short());
    }
    let mut config = numbers(file, 2).ok_or_else(short)??;
    if word(file, 7).is_some_and(|vocab| vocab >= 1 << 31) {
        return Err(Error::malformed(28, "a negative vocabulary"));
    }
    config.shared_classifier = match file[36] {
        0 => false,
        1 => true,
        other => return Err(Error::malformed(36, format!("shared is 0 or 1, found {other}"))),
    };
    let group = if version == 2 { Some(group(file, &config)?) } else { None };
    let places = version_1(&config, group, file.len())?;
    Ok((version, config, places))
}

/// Seven numbers from the `i`-th on; the vocabulary without its sign. `None` where the file is too short.
fn numbers(file: &[u8], i: usize) -> Option<Result<Config>> {
    const NAMES: [&str; 7] =
        ["dim", "hidden_dim", "n_layers", "n_heads", "n_kv_heads", "vocab_size", "seq_len"];
    let mut n = [0; 7];
    for (j, n) in n.iter_mut().enumerate() {
        let signed = word(file, i + j)? as i32;
        let magnitude = if j == 5 { signed.unsigned_abs() } else { signed.max(0).unsigned_abs() };
        *n = magnitude as usize;
        if *n == 0 || *n > MOST {
            let what = format!("{} is {signed}, expected 1 to {MOST}", NAMES[j]);
            return Some(Err(Error::malformed(4 * (i + j) as u64, what)));
        }
    }
    if n[2] > MOST_LAYERS {
        let what = format!("n_layers is {}, expected at most {MOST_LAYERS}", n[2]);
        return Some(Err(Error::malformed(4 * (i + 2) as u64, what)));
    }
    let [dim, hidden_dim, n_layers, n_heads, n_kv_heads, vocab_size, seq_len] = n;
    if !dim.is_multiple_of(n_heads) || !n_heads.is_multiple_of(n_kv_heads) {
        let what = format!("{dim} features, {n_heads} heads and {n_kv_heads} key heads do not divide");
        return Some(Err(Error::invalid(what)));
    }
    let shared_classifier = true;
    Some(Ok(Config {
        dim,
        hidden_dim,
        n_layers,
        n_heads,
        n_kv_heads,
        vocab_size,
        seq_len,
        shared_classifier,
    }))
}

/// The group size of version 2: rows are whole groups.
fn group(file: &[u8], c: &Config) -> Result<usize> {
    let bytes = file.get(37..).and_then(|rest| rest.first_chunk()).copied().unwrap_or_default();
    let group = i32::from_le_bytes(bytes);
    let fits = |group: usize| group > 0 && c.dim.is_multiple_of(group) && c.hidden_dim.is_multiple_of(group);
    usize::try_from(group).ok().filter(|&group| fits(group)).ok_or_else(|| {
        let what = format!("groups of {group} do not divide {} and {} features", c.dim, c.hidden_dim);
        Error::malformed(37, what)
    })
}

/// Lays tensors out one behind the other.
struct Table {
    places: Vec<Place>,
    /// The next byte; `None` once it left the address space.
    at: Option<usize>,
    /// Bytes of the file.
    len: usize,
    group: Option<usize>,
}

impl Table {
    fn new(start: usize, len: usize) -> Table {
        Table { places: Vec::new(), at: Some(start), len, group: None }
    }

    fn skip(&mut self, floats: Option<usize>) {
        let bytes = floats.and_then(|n| n.checked_mul(4));
        self.at = self.at.zip(bytes).and_then(|(at, bytes)| at.checked_add(bytes));
    }

    fn push(&mut self, name: String, shape: &[usize]) {
        let Some(start) = self.at else { return };
        let len = shape.iter().try_fold(1usize, |all, &n| all.checked_mul(n));
        let bytes = len.and_then(|len| match self.group {
            None => len.checked_mul(4),
            Some(group) => len.checked_add((len / group).checked_mul(4)?),
        });
        self.at = bytes.and_then(|bytes| start.checked_add(bytes));
        if self.at.is_none_or(|end| end > self.len) {
            return; // only the sum is still of interest
        }
        let both = [shape[0], shape.get(1).copied().unwrap_or(1)];
        self.places.push(Place { name, shape: both, rank: shape.len(), start, group: self.group });
    }

    fn layers(&mut self, c: &Config, part: &str, shape: &[usize]) {
        (0..c.n_layers).for_each(|i| self.push(format!("layers.{i}.{part}.weight"), shape));
    }

    /// The seven weights of each layer.
    fn weights(&mut self, c: &Config, parts: &[&str]) {
        let kv = c.dim / c.n_heads * c.n_kv_heads;
        for &part in parts {
            let shape = match part {
                "attention.wk" | "attention.wv" => [kv, c.dim],
                "feed_forward.w1" | "feed_forward.w3" => [c.hidden_dim, c.dim],
                "feed_forward.w2" => [c.dim, c.hidden_dim],
                _ => [c.dim, c.dim],
            };
            self.layers(c, part, &shape);
        }
    }

    fn output(&mut self, c: &Config) {
        if !c.shared_classifier {
            self.push("output.weight".to_string(), &[c.vocab_size, c.dim]);
        }
    }

    /// The table, where it ends with the file.
    fn finish(self) -> Result<Vec<Place>> {
        match self.at {
            Some(end) if end == self.len => Ok(self.places),
            Some(end) => {
                Err(Error::invalid(format!("the numbers make {end} bytes, the file has {}", self.len)))
            }
            None => Err(Error::invalid("the numbers make more bytes than the address space")),
        }
    }
}

const ATTENTION: [&str; 4] = ["attention.wq", "attention.wk", "attention.wv", "attention.wo"];
const FEED_FORWARD: [&str; 3] = ["feed_forward.w1", "feed_forward.w2", "feed_forward.w3"];

fn version_0(c: &Config, len: usize) -> Result<Vec<Place>> {
    let mut table = Table::new(28, len);
    table.push("tok_embeddings.weight".to_string(), &[c.vocab_size, c.dim]);
    table.layers(c, "attention_norm", &[c.dim]);
    table.weights(c, &ATTENTION);
    table.layers(c, "ffn_norm", &[c.dim]);
    table.weights(c, &FEED_FORWARD);
    table.push("norm.weight".to_string(), &[c.dim]);
    // Cosines and sines of half a head at each position: computed anew by every reader.
    table.skip(c.seq_len.checked_mul(c.dim / c.n_heads / 2 * 2));
    table.output(c);
    table.finish()
}

fn version_1(c: &Config, group: Option<usize>, len: usize) -> Result<Vec<Place>> {
    let mut table = Table::new(HEADER, len);
    table.layers(c, "attention_norm", &[c.dim]);
    table.layers(c, "ffn_norm", &[c.dim]);
    table.push("norm.weight".to_string(), &[c.dim]);
    table.group = group;
    table.push("tok_embeddings.weight".to_string(), &[c.vocab_size, c.dim]);
    table.weights(c, &ATTENTION);
    table.weights(c, &FEED_FORWARD);
    table.output(c);
    table.finish()
}
