//! Opening a file.

use super::SafeTensors;
use super::header::{self, Header, LENGTH_BYTES};
use crate::io::bytes::{Access, open_regular};
use crate::io::kind::LOOK;
use crate::tensor::Buffer;
use crate::{Error, Result};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

impl SafeTensors {
    /// Reads a file whole into memory. The header is checked before room is made for the data.
    ///
    /// # Errors
    /// Where the system refuses, where it is not a regular file (a pipe would wait for ever), or where a rule
    /// of the format is broken.
    pub fn open(path: impl AsRef<Path>) -> Result<SafeTensors> {
        SafeTensors::open_with(path, Access::Read)
    }

    /// [`SafeTensors::open`], or the same with the file mapped: then only what is touched is read.
    ///
    /// # Errors
    /// As [`SafeTensors::open`].
    pub fn open_with(path: impl AsRef<Path>, how: Access) -> Result<SafeTensors> {
        let path = path.as_ref();
        let file = open_regular(path)?;
        let read = read(file, path, how).map_err(|e| e.into_error(path))?;
        Ok(SafeTensors { name: path.display().to_string(), ..read })
    }
}

/// Either kind of failure while reading, the file not yet named.
enum Failure {
    Io(io::Error),
    Format(Error),
}

impl From<io::Error> for Failure {
    fn from(e: io::Error) -> Self {
        Failure::Io(e)
    }
}

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        Failure::Format(e)
    }
}

impl Failure {
    fn into_error(self, path: &Path) -> Error {
        match self {
            Failure::Io(e) => Error::io(path, "read", e),
            Failure::Format(e) => e.in_file(path.display()),
        }
    }
}

fn read(mut file: File, path: &Path, how: Access) -> Result<SafeTensors, Failure> {
    let file_len = file.metadata()?.len();
    let mut start = Vec::with_capacity(LOOK);
    file.by_ref().take(LOOK as u64).read_to_end(&mut start)?;
    let len = header::header_len(&start, file_len)?;

    // Read even where the data are mapped: others could write to a map after it was checked.
    file.seek(SeekFrom::Start(LENGTH_BYTES))?;
    let mut text = vec![0; len];
    file.read_exact(&mut text)?;
    let before = LENGTH_BYTES + len as u64;
    let data_len = usize::try_from(file_len - before).map_err(|_| {
        Error::invalid(format!("a file of {file_len} bytes is larger than the address space"))
    })?;
    let header = Header::parse(&text, data_len)?;
    drop(text);

    let (data, base) = if how.maps() {
        (Buffer::map(file, path)?, before as usize)
    } else {
        let mut data = Buffer::zeroed(data_len)?;
        file.read_exact(data.elements_mut())?;
        (data, 0)
    };
    if data.len() - base.min(data.len()) != data_len {
        return Err(Error::invalid("the file changed while it was opened").into());
    }
    Ok(SafeTensors { name: String::new(), header, data: Arc::new(data), base })
}
