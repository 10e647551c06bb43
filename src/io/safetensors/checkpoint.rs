//! A model on disk: one file, or shards that an index lists.
//!
//! `model.safetensors.index.json` holds `{"metadata": {…}, "weight_map": {"tensor": "file name", …}}`. The
//! names come from outside: each must be a plain file name, so that an index cannot reach out of its folder
//! (a symbolic link in the folder is its owner's affair: local model caches are made of them).

use super::{SafeTensors, TensorView};
use crate::io::bytes::{Access, open_regular};
use crate::io::json::{self, Excerpt, Value};
use crate::io::kind::other_kind;
use crate::io::nearest::no_tensor;
use crate::tensor::Tensor;
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The usual names in a model's folder.
const INDEX: &str = "model.safetensors.index.json";
const SINGLE: &str = "model.safetensors";

/// An index may have this many bytes: half a million tensors.
const MAX_INDEX: u64 = 100_000_000;

/// The tensors of a model, in one file or several.
///
/// ```
/// use samebits::io::safetensors::{Checkpoint, Dtype, TensorInfo, TensorView, write, write_each};
/// let folder = std::env::temp_dir().join(format!("samebits-checkpoint-{}", std::process::id()));
/// std::fs::create_dir(&folder).unwrap();
/// let (one, path) = (1f32.to_le_bytes(), folder.join("model.safetensors"));
/// let b = TensorView { name: "b", dtype: Dtype::F32, shape: &[1], bytes: &one };
/// write(&path, &[b, TensorView { name: "a", ..b }], &[])?;
/// let checkpoint = Checkpoint::open(&folder)?;
/// assert_eq!(checkpoint.tensors().map(|t| t.name.to_string()).collect::<Vec<_>>(), ["a", "b"]);
/// assert_eq!(checkpoint.load("b")?.to_vec::<f32>(), [1.0]);
/// // Tensors that are made one after the other, of which no two need be in memory:
/// write_each(&path, &[TensorInfo::of(&b)], &[], |_| Ok(2f32.to_le_bytes().to_vec()))?;
/// assert_eq!(Checkpoint::open(&folder)?.load("b")?.to_vec::<f32>(), [2.0]);
/// std::fs::remove_dir_all(&folder).unwrap();
/// # Ok::<(), samebits::Error>(())
/// ```
pub struct Checkpoint {
    path: PathBuf,
    /// Each with the name of its file.
    files: Vec<(String, SafeTensors)>,
    /// Tensor → file and place in it, by name.
    places: BTreeMap<String, (usize, usize)>,
}

impl Checkpoint {
    /// Opens a safetensors file, an index of shards, or a folder that holds one of the two (an index first,
    /// then `model.safetensors`, then the only file of that ending).
    ///
    /// # Errors
    /// Where a file is missing or malformed, where an index names anything but plain files, or where index
    /// and shards disagree on which tensor is where.
    pub fn open(path: impl AsRef<Path>) -> Result<Checkpoint> {
        Checkpoint::open_with(path, Access::Read)
    }

    /// [`Checkpoint::open`], the files read into memory or mapped.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn open_with(path: impl AsRef<Path>, how: Access) -> Result<Checkpoint> {
        let path = path.as_ref();
        let target = if path.is_dir() { in_folder(path)? } else { path.to_path_buf() };
        if target.extension().is_some_and(|e| e.eq_ignore_ascii_case("json")) {
            return open_shards(&target, how);
        }
        let name = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Checkpoint::new(target.clone(), vec![(name, SafeTensors::open_with(&target, how)?)]))
    }

    fn new(path: PathBuf, files: Vec<(String, SafeTensors)>) -> Checkpoint {
        let mut places = BTreeMap::new();
        for (f, (_, file)) in files.iter().enumerate() {
            places.extend(file.tensors().enumerate().map(|(t, view)| (view.name.to_string(), (f, t))));
        }
        Checkpoint { path, files, places }
    }

    /// The file or index that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The files and their names, in the order of names.
    pub fn files(&self) -> impl ExactSizeIterator<Item = (&str, &SafeTensors)> {
        self.files.iter().map(|(name, file)| (name.as_str(), file))
    }

    /// An error where a mapped file was changed since it was opened: see
    /// [`Buffer::check`](crate::tensor::Buffer::check).
    ///
    /// # Errors
    /// [`Error::Io`] that names the file.
    pub fn check(&self) -> Result<()> {
        self.files.iter().try_for_each(|(_, file)| file.data().check())
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether it holds no tensor.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The tensors of all files, sorted by name.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = TensorView<'_>> {
        self.places.values().map(|&place| self.at(place))
    }

    /// The tensor of that name.
    ///
    /// # Errors
    /// [`Error::NoTensor`], with the most similar name as a hint.
    pub fn tensor(&self, name: &str) -> Result<TensorView<'_>> {
        let place = self.places.get(name).copied();
        let names = || self.places.keys().map(String::as_str);
        place.map(|p| self.at(p)).ok_or_else(|| no_tensor(&self.path.display().to_string(), name, names()))
    }

    /// The tensor of that name, to compute with: see [`SafeTensors::load`].
    ///
    /// # Errors
    /// As [`SafeTensors::load`].
    pub fn load(&self, name: &str) -> Result<Tensor> {
        let at = self.tensor(name).map(|view| view.name)?;
        let (file, _) = self.places[at];
        self.files[file].1.load(name)
    }

    fn at(&self, (file, tensor): (usize, usize)) -> TensorView<'_> {
        let file = &self.files[file].1;
        file.view(&file.header.entries[tensor])
    }
}

/// What to open in a folder.
fn in_folder(folder: &Path) -> Result<PathBuf> {
    if let Some(usual) = [INDEX, SINGLE].map(|name| folder.join(name)).into_iter().find(|p| p.exists()) {
        return Ok(usual);
    }
    let listing = std::fs::read_dir(folder).map_err(|e| Error::io(folder, "list", e))?;
    let paths = listing.filter_map(|entry| Some(entry.ok()?.path()));
    let mut found: Vec<PathBuf> =
        paths.filter(|p| p.extension().is_some_and(|e| e == "safetensors") && p.is_file()).collect();
    match (found.pop(), found.len()) {
        (Some(only), 0) => Ok(only),
        (None, _) => Err(Error::invalid("no safetensors file in this folder").in_file(folder.display())),
        _ => Err(Error::invalid(format!("several safetensors files in this folder and no {INDEX}"))
            .in_file(folder.display())),
    }
}

/// Opens every shard once and compares what they hold with the index.
fn open_shards(index: &Path, how: Access) -> Result<Checkpoint> {
    let map = read_index(index)?;
    let folder = index.parent().unwrap_or(Path::new(""));
    let mut names: Vec<&String> = map.values().collect();
    names.sort_unstable();
    names.dedup();
    let open = |name: &String| Ok((name.clone(), SafeTensors::open_with(folder.join(name), how)?));
    let files = names.into_iter().map(open).collect::<Result<Vec<_>>>()?;
    compare(&map, &files).map_err(|e| e.in_file(index.display()))?;
    Ok(Checkpoint::new(index.to_path_buf(), files))
}

/// Every tensor of the index must be in the shard that it names, and no shard may hold another.
fn compare(map: &BTreeMap<String, String>, files: &[(String, SafeTensors)]) -> Result<()> {
    for (name, file) in files {
        for tensor in file.tensors().map(|t| t.name) {
            let shown = Excerpt(tensor);
            match map.get(tensor) {
                Some(listed) if listed == name => {}
                Some(listed) => {
                    let what = format!("tensor {shown} is listed in {listed:?} but stands in {name:?}");
                    return Err(Error::invalid(what));
                }
                None => return Err(Error::invalid(format!("tensor {shown} of {name:?} is not listed"))),
            }
        }
    }
    let absent = map.iter().find(|(tensor, file)| {
        let file = files.binary_search_by(|(name, _)| name.cmp(file)).ok().map(|i| &files[i].1);
        file.is_none_or(|f| f.find(tensor).is_none())
    });
    match absent {
        Some((t, file)) => {
            Err(Error::invalid(format!("tensor {} is listed in {file:?} but is not there", Excerpt(t))))
        }
        None => Ok(()),
    }
}

/// `weight_map`: tensor → file.
fn read_index(path: &Path) -> Result<BTreeMap<String, String>> {
    let mut text = Vec::new();
    let read = open_regular(path)?.take(MAX_INDEX + 1).read_to_end(&mut text);
    read.map_err(|e| Error::io(path, "read", e))?;
    if text.len() as u64 > MAX_INDEX {
        return Err(
            Error::invalid(format!("an index of more than {MAX_INDEX} bytes")).in_file(path.display())
        );
    }
    parse_index(&text).map_err(|e| e.in_file(path.display()))
}

fn parse_index(text: &[u8]) -> Result<BTreeMap<String, String>> {
    let root = json::parse(text).map_err(|e| other_kind(text, "a safetensors file").unwrap_or(e))?;
    let map = root.get("weight_map").ok_or_else(|| Error::invalid("no \"weight_map\" in the index"))?;
    let entries = map.entries().ok_or_else(|| map.expected("an object for weight_map"))?;
    entries.map(|(tensor, file)| Ok((tensor.into_owned(), shard_name(file)?))).collect()
}

/// A plain file name that ends in `.safetensors`.
fn shard_name(value: Value<'_>) -> Result<String> {
    let name = value.as_str().ok_or_else(|| value.expected("a file name in weight_map"))?;
    // A colon is a drive or a stream on Windows, and some names are devices there, whatever their ending.
    let stem = name.split('.').next().unwrap_or_default().to_ascii_lowercase();
    let device = ["con", "prn", "aux", "nul"].contains(&&*stem)
        || stem.len() == 4 && (stem.starts_with("com") || stem.starts_with("lpt"));
    let plain = name.len() <= 255
        && name.ends_with(".safetensors")
        && !name.starts_with('.')
        && !device
        && !name.contains(|c: char| c.is_control() || r#"/\:*?"<>|"#.contains(c));
    if !plain {
        let what =
            format!("a shard must be a plain file name ending in .safetensors, found {}", Excerpt(&name));
        return Err(Error::malformed(value.offset() as u64, what));
    }
    Ok(name.into_owned())
}
