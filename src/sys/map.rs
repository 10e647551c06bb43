//! A file as memory, that may be taken away.
//!
//! Another process can shorten a file at any time. A page past its new end cannot be read: the system sends
//! SIGBUS, which ends a process. Here a handler puts zeros in the place of such pages and marks the map, and
//! [`Map::check`] is an error from then on: results that were computed meanwhile are thrown away by whoever asks.

use std::fs::{File, Metadata};
use std::io;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::SystemTime;

use super::super::system;
use crate::kernels::Line;

/// A file as memory: only what is touched is read. What is written stays with this process. Reading a file into
/// memory is the default everywhere; this is for files that are larger than it.
pub struct Map {
    at: NonNull<Line>,
    len: usize,
    /// Open as long as the map is, to be asked about its length.
    file: File,
    modified: Option<SystemTime>,
    /// Whether anyone could have written to the memory.
    written: bool,
    place: &'static Place,
}

/// Where a map lies, for the handler of SIGBUS, which may not lock or allocate.
pub struct Place {
    /// 0 where no map uses it.
    pub start: AtomicUsize,
    /// Behind the last page.
    pub end: AtomicUsize,
    /// Whether pages are gone.
    pub gone: AtomicBool,
    taken: AtomicBool,
}

/// Maps at a time: the shards of the largest models are fewer.
pub static PLACES: [Place; 1024] = [const {
    Place {
        start: AtomicUsize::new(0),
        end: AtomicUsize::new(0),
        gone: AtomicBool::new(false),
        taken: AtomicBool::new(false),
    }
}; 1024];

// SAFETY: a `Map` owns its memory as a `Box<[Line]>` does.
unsafe impl Send for Map {}
// SAFETY: likewise.
unsafe impl Sync for Map {}

impl Map {
    /// Maps the whole of a regular file, as long as it is now.
    ///
    /// Nobody should write to the file while the map exists: numbers would change between two looks at them,
    /// and [`Map::check`] would report it afterwards. Nothing else comes of it, for memory is only ever read as
    /// plain numbers; text is to be copied before it is checked.
    ///
    /// # Errors
    /// Where the system refuses, or too many maps exist.
    pub fn new(file: File) -> io::Result<Map> {
        let metadata = file.metadata()?;
        let len = usize::try_from(metadata.len()).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let taken = |place: &&Place| !place.taken.swap(true, Ordering::AcqRel);
        let place = PLACES.iter().find(taken).ok_or(io::ErrorKind::ResourceBusy)?;
        // From here on dropping it gives the place back.
        let mut map = Map {
            at: NonNull::dangling(),
            len: 0,
            file,
            modified: modified(&metadata),
            written: false,
            place,
        };
        if len > 0 {
            system::catch_lost_pages();
            let at = system::map_file(&map.file, len)?;
            map.at = NonNull::new(at.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
            map.len = len;
            let start = map.at.addr().get();
            place.gone.store(false, Ordering::Relaxed);
            place.end.store((start + len).next_multiple_of(system::page_size()), Ordering::Relaxed);
            place.start.store(start, Ordering::Release);
        }
        Ok(map)
    }

    /// Bytes of the file when it was mapped.
    pub const fn file_len(&self) -> usize {
        self.len
    }

    /// An error where the file was shortened, lengthened or written to since it was mapped.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] where it is shorter, [`io::ErrorKind::InvalidData`] where it is otherwise
    /// another; what the system says where it does not answer.
    pub fn check(&self) -> io::Result<()> {
        let now = self.file.metadata()?;
        if self.place.gone.load(Ordering::Acquire) || now.len() < self.len as u64 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("it had {} bytes when it was mapped and was shortened to {}", self.len, now.len()),
            ));
        }
        if now.len() != self.len as u64 || modified(&now) != self.modified {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it was written to while it was mapped"));
        }
        Ok(())
    }

    /// Lets go of the memory of some bytes: they are read from the file again when they are needed again.
    pub fn release(&self, bytes: std::ops::Range<usize>) {
        if !self.written && bytes.start < bytes.end && bytes.end <= self.len {
            let at = self.at.as_ptr().cast::<u8>().wrapping_add(bytes.start);
            // SAFETY: bytes of this mapping, to which nobody has written.
            unsafe { system::release_pages(at, bytes.len()) };
        }
    }

    fn lines(&self) -> usize {
        self.len.div_ceil(size_of::<Line>())
    }
}

fn modified(metadata: &Metadata) -> Option<SystemTime> {
    metadata.modified().ok()
}

impl Deref for Map {
    type Target = [Line];
    /// The lines of the file; the last may have zeros behind its end.
    fn deref(&self) -> &[Line] {
        // SAFETY: a mapping of our own (or none), of whole pages and so of whole lines; the handler keeps every
        // page of it readable.
        unsafe { std::slice::from_raw_parts(self.at.as_ptr(), self.lines()) }
    }
}

impl DerefMut for Map {
    fn deref_mut(&mut self) -> &mut [Line] {
        self.written = true;
        // SAFETY: as for `deref`; the borrow is exclusive, and the mapping private.
        unsafe { std::slice::from_raw_parts_mut(self.at.as_ptr(), self.lines()) }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        if self.len > 0 {
            self.place.start.store(0, Ordering::Release);
            // SAFETY: the mapping made by `new`, and nothing borrows from a value that is dropped.
            unsafe { system::unmap(self.at.as_ptr().cast(), self.len) };
        }
        self.place.taken.store(false, Ordering::Release);
    }
}

#[cfg(all(test, target_os = "linux", target_pointer_width = "64"))]
mod tests {
    use super::*;
    use std::io::Write;

    fn file(len: usize) -> (std::path::PathBuf, File) {
        let name = format!("samebits-map-{}-{len}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let mut file = File::create(&path).expect("a file for the test");
        file.write_all(&vec![7; len]).expect("room for it");
        (path.clone(), File::open(path).expect("it exists"))
    }

    fn bytes(map: &Map) -> &[u8] {
        &Line::elements(map)[..map.file_len()]
    }

    #[test]
    fn a_map_holds_the_file_and_keeps_writes_to_itself() {
        let (path, content) = file(10_001);
        let mut map = Map::new(content).expect("mapped");
        assert!(bytes(&map).iter().all(|&b| b == 7) && bytes(&map).len() == 10_001);
        map[0] = Line::ZERO;
        assert_eq!(std::fs::read(&path).expect("the file")[0], 7);
        map.check().expect("unchanged");
        std::fs::remove_file(path).expect("removed");
    }

    #[test]
    fn lost_pages_are_zeros_and_an_error() {
        let page = system::page_size();
        for keep in [0, 5, page, page + 5, 3 * page] {
            let (path, content) = file(6 * page + keep);
            let map = Map::new(content).expect("mapped");
            let shorten = File::options().write(true).open(&path).expect("the file");
            shorten.set_len(keep as u64).expect("shortened");
            assert!(bytes(&map)[..keep].iter().all(|&b| b == 7), "{keep}: what is left");
            assert!(bytes(&map)[keep..].iter().all(|&b| b == 0), "{keep}: what is gone");
            let error = map.check().expect_err("shortened");
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
            std::fs::remove_file(path).expect("removed");
        }
    }

    #[test]
    fn a_file_that_is_written_to_is_noticed() {
        let (path, content) = file(777);
        let map = Map::new(content).expect("mapped");
        let mut again = File::options().append(true).open(&path).expect("the file");
        again.write_all(b"more").expect("room");
        assert_eq!(map.check().expect_err("longer").kind(), io::ErrorKind::InvalidData);
        std::fs::remove_file(path).expect("removed");
    }

    #[test]
    fn nothing_and_places_are_given_back() {
        for _ in 0..2 * PLACES.len() {
            let (path, content) = file(0);
            assert!(Map::new(content).expect("mapped").is_empty());
            std::fs::remove_file(path).expect("removed");
        }
    }
}
