//! Documents from files and folders.

use super::{Document, Format, Ignore, Reading};
use crate::{Error, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// What was found under some paths.
#[derive(Debug, Default)]
pub struct Found {
    /// The documents, by path.
    pub documents: Vec<Document>,
    /// Files that could not be read, each with the reason.
    pub unreadable: Vec<Error>,
}

/// The documents of a file.
///
/// # Errors
/// Where it cannot be read, is not text in UTF-8, or is not of its format; with its name.
pub fn read_file(path: &Path, reading: &Reading) -> Result<Vec<Document>> {
    let name = path.display().to_string();
    let bytes = fs::read(path).map_err(|source| Error::Io { file: name.clone(), doing: "read", source })?;
    let text = String::from_utf8(bytes).ok().filter(|text| !text.contains('\0'));
    let text = text.ok_or_else(|| Error::invalid("not text in UTF-8").in_file(&name))?;
    reading.parse(Format::of_name(&name), &name, &text).map_err(|e| e.in_file(&name))
}

/// The documents of files and folders, in the order of `paths`, in a folder in the order of names. A folder's hidden
/// files, what its `.gitignore` and `.ignore` say and what `ignore` says are passed over; links to folders are not
/// followed. `progress` is told of every file.
///
/// ```
/// use samebits::rag::document::{Format, Found, Ignore, Reading, Value, read, read_file};
/// let folder = std::env::temp_dir().join(format!("samebits-read-{}", std::process::id()));
/// std::fs::create_dir(&folder).unwrap();
/// std::fs::write(folder.join("a.md"), "# A").unwrap();
/// std::fs::write(folder.join("b.jsonl"), "{\"_id\": \"b1\", \"text\": \"of b\", \"year\": 1999}\n").unwrap();
/// std::fs::write(folder.join("c.tmp"), "c").unwrap();
/// let ignore = Ignore::of("*.tmp\n");
/// let found: Found = read(&[&folder], &Reading::default(), &ignore, &mut |_path| ())?;
/// assert_eq!((found.documents.len(), found.unreadable.len()), (2, 0));
/// assert!(matches!(found.documents[0].format(), Format::Markdown));
/// let of_b = read_file(&folder.join("b.jsonl"), &Reading::default())?; // a document a line
/// assert_eq!(of_b[0].metadata["year"], Value::Number(1999.0));
/// std::fs::remove_dir_all(folder).unwrap();
/// # Ok::<(), samebits::Error>(())
/// ```
///
/// # Errors
/// Where one of `paths` does not exist. What cannot be read in a folder is listed instead.
pub fn read(
    paths: &[&Path],
    reading: &Reading,
    ignore: &Ignore,
    progress: &mut dyn FnMut(&Path),
) -> Result<Found> {
    let mut found = Found::default();
    for path in paths {
        let about = fs::metadata(path).map_err(|source| Error::Io {
            file: path.display().to_string(),
            doing: "open",
            source,
        })?;
        if about.is_dir() {
            let mut files = Vec::new();
            walk(path, "", ignore.clone(), &mut files, &mut found.unreadable);
            for file in files {
                progress(&file);
                take(read_file(&file, reading), &mut found);
            }
        } else {
            progress(path);
            take(read_file(path, reading), &mut found);
        }
    }
    Ok(found)
}

fn take(read: Result<Vec<Document>>, found: &mut Found) {
    match read {
        Ok(documents) => found.documents.extend(documents),
        Err(error) => found.unreadable.push(error),
    }
}

/// The files of a folder that are not ignored; `inside` is its path from the top.
fn walk(
    folder: &Path,
    inside: &str,
    mut ignore: Ignore,
    files: &mut Vec<PathBuf>,
    unreadable: &mut Vec<Error>,
) {
    let entries = fs::read_dir(folder).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
    let mut entries = match entries {
        Ok(entries) => entries,
        Err(source) => {
            unreadable.push(Error::Io { file: folder.display().to_string(), doing: "read", source });
            return;
        }
    };
    for name in [".gitignore", ".ignore"] {
        if let Ok(text) = fs::read_to_string(folder.join(name)) {
            ignore.extend(inside, Ignore::of(&text));
        }
    }
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Ok(kind) = entry.file_type() else { continue };
        let inner = if inside.is_empty() { name.clone() } else { format!("{inside}/{name}") };
        let is_folder = kind.is_dir();
        if name.starts_with('.') || ignore.has(&inner, is_folder) {
            continue;
        }
        if is_folder {
            walk(&entry.path(), &inner, ignore.clone(), files, unreadable);
        } else if entry.path().is_file() {
            files.push(entry.path());
        }
    }
}
