//! Files and folders that are whole or not there.

use crate::{Error, Result};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Temporary files of this process that are not yet renamed.
static PENDING: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Writes a file so that a reader sees the old content or the new, never a part: `fill` writes to a temporary
/// name in the same folder, the file is synced, renamed over `path`, and the folder is synced. After an error
/// the temporary file is removed and `path` is as it was. A symbolic link at `path` is replaced.
///
/// ```
/// use samebits::io::atomic::{folder, try_write, write, write_seekable};
/// use std::io::{Seek, Write};
/// let place = std::env::temp_dir().join(format!("samebits-atomic-{}", std::process::id()));
/// folder(&place, |inside| {
///     write(&inside.join("a"), |out| out.write_all(b"whole"))?;
///     // What fails leaves no file, and what was there before as it was.
///     assert!(write(&inside.join("a"), |_| Err(std::io::Error::other("full"))).is_err());
///     try_write(&inside.join("b"), |put| [&b"piece"[..], b" by piece"].into_iter().try_for_each(|bytes| put(bytes)))?;
///     write_seekable(&inside.join("c"), |out| {
///         out.write_all(b"?bc")?;
///         out.rewind()?;
///         out.write_all(b"a")
///     })
/// })?;
/// let read = ["a", "b", "c"].map(|name| std::fs::read_to_string(place.join(name)).unwrap());
/// assert_eq!(read, ["whole", "piece by piece", "abc"]);
/// std::fs::remove_dir_all(&place).unwrap();
/// # Ok::<(), samebits::Error>(())
/// ```
///
/// # Errors
/// [`Error::Io`] with what the system refused.
pub fn write(path: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    write_seekable(path, |file| fill(file))
}

/// [`write()`] for what may fail otherwise than in writing: `fill` puts bytes one piece after the other.
///
/// # Errors
/// As [`write()`], and whatever `fill` fails with.
pub fn try_write(
    path: &Path,
    fill: impl FnOnce(&mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()>,
) -> Result<()> {
    let mut failed = None;
    let written = write(path, |out| {
        let filled = fill(&mut |bytes| out.write_all(bytes).map_err(|e| Error::io(path, "write", e)));
        filled.map_err(|e| {
            failed = Some(e);
            io::Error::other("what was to be written could not be made")
        })
    });
    failed.map_or(written, Err)
}

/// Makes a folder so that it is whole or not there: `fill` gets an empty one under a temporary name beside `path`,
/// which is then renamed. What is at `path` may be an empty folder, nothing else.
///
/// # Errors
/// [`Error::Io`] with what the system refused, and whatever `fill` fails with.
pub fn folder(path: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let temporary = beside(path, |at| fs::create_dir(at))?.1;
    let mut temporary = Pending(Some(temporary));
    let at = temporary.0.clone().unwrap_or_default();
    fill(&at)?;
    fs::rename(&at, path).map_err(|e| Error::io(path, "rename the new folder to it", e))?;
    if let Some(at) = temporary.0.take() {
        forget(&at);
    }
    sync_parent(path)
}

/// A folder under a temporary name; removed when dropped, unless taken.
struct Pending(Option<PathBuf>);

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(path) = self.0.take().filter(|path| forget(path)) {
            let _ = fs::remove_dir_all(path);
        }
    }
}

/// The same for what goes back to write a head once it knows what follows.
///
/// # Errors
/// As [`write()`].
pub fn write_seekable(path: &Path, fill: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>) -> Result<()> {
    let temporary = Temporary::create(path)?;
    let result = temporary.fill(fill).map_err(|e| Error::io(path, "write", e));
    result.and_then(|()| temporary.publish(path))
}

/// Removes the temporary files of writes that are under way: for a process that is told to stop.
pub(crate) fn remove_pending() {
    let mut pending = PENDING.lock().unwrap_or_else(|e| e.into_inner());
    pending.drain(..).for_each(|path| drop(fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path))));
}

/// Makes something under a temporary name beside `target`, which is then pending.
fn beside<T>(target: &Path, make: impl Fn(&Path) -> io::Result<T>) -> Result<(T, PathBuf)> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    if target.file_name().is_none() {
        return Err(Error::io(target, "write", io::ErrorKind::InvalidFilename.into()));
    }
    loop {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        // Not made of the target's name, which may already be as long as names can be.
        let path = target.with_file_name(format!(".samebits-{}-{count}.tmp", std::process::id()));
        match make(&path) {
            Ok(made) => {
                PENDING.lock().unwrap_or_else(|e| e.into_inner()).push(path.clone());
                return Ok((made, path));
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(Error::io(target, "create a file beside it", e)),
        }
    }
}

/// Takes a path off the list; whether it was still on it.
fn forget(path: &Path) -> bool {
    let mut pending = PENDING.lock().unwrap_or_else(|e| e.into_inner());
    let before = pending.len();
    pending.retain(|p| p != path);
    pending.len() < before
}

/// A rename must itself reach the disk. Only Unix can open a folder to sync it.
fn sync_parent(target: &Path) -> Result<()> {
    #[cfg(unix)]
    {
        let folder = target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let synced = File::open(folder).and_then(|f| f.sync_all());
        synced.map_err(|e| Error::io(folder, "sync", e))?;
    }
    #[cfg(not(unix))]
    let _ = target;
    Ok(())
}

/// A file under a temporary name; removed when dropped, unless published.
struct Temporary {
    file: File,
    path: PathBuf,
}

impl Temporary {
    fn create(target: &Path) -> Result<Temporary> {
        // Refuses what exists, a planted link among it.
        let (file, path) = beside(target, |path| OpenOptions::new().write(true).create_new(true).open(path))?;
        Ok(Temporary { file, path })
    }

    fn fill(&self, fill: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>) -> io::Result<()> {
        let mut out = BufWriter::with_capacity(1 << 20, &self.file);
        fill(&mut out)?;
        out.flush()?;
        drop(out);
        self.file.sync_all()
    }

    fn publish(self, target: &Path) -> Result<()> {
        fs::rename(&self.path, target).map_err(|e| Error::io(target, "rename the new file to it", e))?;
        forget(&self.path);
        sync_parent(target)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if forget(&self.path) {
            // Nothing more can be done about it if this fails.
            let _ = fs::remove_file(&self.path);
        }
    }
}
