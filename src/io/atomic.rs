//! Files that are whole or not there.

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
/// # Errors
/// [`Error::Io`] with what the system refused.
pub fn write(path: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    write_seekable(path, |file| fill(file))
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
pub fn remove_pending() {
    let mut pending = PENDING.lock().unwrap_or_else(|e| e.into_inner());
    pending.drain(..).for_each(|path| drop(fs::remove_file(path)));
}

/// A file under a temporary name; removed when dropped, unless published.
struct Temporary {
    file: File,
    path: PathBuf,
}

impl Temporary {
    fn create(target: &Path) -> Result<Temporary> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        if target.file_name().is_none() {
            return Err(Error::io(target, "write", io::ErrorKind::InvalidFilename.into()));
        }
        loop {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            // Not made of the target's name, which may already be as long as names can be.
            let path = target.with_file_name(format!(".samebits-{}-{count}.tmp", std::process::id()));
            // Refuses what exists, a planted link among it.
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => {
                    PENDING.lock().unwrap_or_else(|e| e.into_inner()).push(path.clone());
                    return Ok(Temporary { file, path });
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(Error::io(target, "create a file beside it", e)),
            }
        }
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
        self.forget();
        // The rename itself must reach the disk. Only Unix can open a folder to sync it.
        #[cfg(unix)]
        {
            let folder = target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let synced = File::open(folder).and_then(|f| f.sync_all());
            synced.map_err(|e| Error::io(folder, "sync", e))?;
        }
        Ok(())
    }

    /// Takes it off the list; whether it was still on it.
    fn forget(&self) -> bool {
        let mut pending = PENDING.lock().unwrap_or_else(|e| e.into_inner());
        let before = pending.len();
        pending.retain(|p| *p != self.path);
        pending.len() < before
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if self.forget() {
            // Nothing more can be done about it if this fails.
            let _ = fs::remove_file(&self.path);
        }
    }
}
