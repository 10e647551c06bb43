//! The bytes of a file: read into memory, or mapped.

use crate::tensor::Buffer;
use crate::{Error, Result};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// How a file's bytes are come by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Read into memory, in huge pages where there are any. Nothing that happens to the file matters afterwards.
    #[default]
    Read,
    /// Mapped, where files can be (64-bit Linux), else read: only what is touched is read. Nobody should change
    /// the file meanwhile; [`Buffer::check`] tells.
    ///
    /// The first map sets the process's handler of SIGBUS, for good: a page that a mapped file has lost then reads as
    /// zeros. Any other SIGBUS is passed on: it gets the handler that was there before, or the system's default, which
    /// ends the process. A program that sets a handler of its own afterwards is ended where a mapped file is shortened.
    /// So nothing is mapped unless this is asked for, but by the commands and by what copies models that may be larger
    /// than memory: [`convert`](crate::model::convert) and [`export`](crate::peft::export).
    Map,
}

impl Access {
    /// Whether files are mapped, here.
    pub(crate) const fn maps(self) -> bool {
        matches!(self, Access::Map) && cfg!(all(target_os = "linux", target_pointer_width = "64"))
    }
}

/// All bytes of the file at `path`, as long as it is now.
///
/// ```
/// use samebits::io::bytes::{Access, open};
/// let manifest = std::path::Path::new("Cargo.toml");
/// let (read, mapped) = (open(manifest, Access::Read)?, open(manifest, Access::Map)?);
/// assert_eq!(read.elements::<u8>(), mapped.elements::<u8>());
/// mapped.check()?; // nobody changed the file meanwhile
/// assert!(open(std::path::Path::new("src"), Access::Read).is_err()); // a folder has no bytes
/// # Ok::<(), samebits::Error>(())
/// ```
///
/// # Errors
/// Where the system refuses, or where it is not a regular file (a pipe would wait for ever).
pub fn open(path: &Path, how: Access) -> Result<Buffer> {
    from_file(open_regular(path)?, path, how)
}

/// All bytes of a file that is open.
pub(crate) fn from_file(mut file: File, path: &Path, how: Access) -> Result<Buffer> {
    if how.maps() {
        return Buffer::map(file, path);
    }
    let len = file.metadata().map_err(|e| Error::io(path, "read", e))?.len();
    let len = usize::try_from(len).map_err(|_| {
        Error::invalid(format!("a file of {len} bytes is larger than the address space"))
            .in_file(path.display())
    })?;
    let mut data = Buffer::zeroed(len).map_err(|e| e.in_file(path.display()))?;
    file.read_exact(data.elements_mut()).map_err(|e| Error::io(path, "read", e))?;
    Ok(data)
}

/// Opens a regular file to read. Its kind is asked first, since opening a pipe may already wait.
pub(crate) fn open_regular(path: &Path) -> Result<File> {
    let is_file = std::fs::metadata(path).map_err(|e| Error::io(path, "open", e))?.is_file();
    if !is_file {
        return Err(Error::invalid("not a regular file").in_file(path.display()));
    }
    File::open(path).map_err(|e| Error::io(path, "open", e))
}
