//! Bytes as they come, made heads and bodies.

use super::http::{BODY, FIELDS, Framing, HEAD, Head, LINE, Refusal, Stop, bad, field, text};
use core::ops::Range;
use std::io::{ErrorKind, Read};

/// Takes requests off a stream of bytes.
pub struct Reader<R> {
    from: R,
    /// What has come and was not taken.
    bytes: Vec<u8>,
}

impl<R: Read> Reader<R> {
    /// Nothing read yet.
    pub const fn new(from: R) -> Reader<R> {
        Reader { from, bytes: Vec::new() }
    }

    /// Where the bytes come from, and whether some have come already.
    pub fn source(&mut self) -> (&mut R, bool) {
        (&mut self.from, !self.bytes.is_empty())
    }

    /// The next head; none where nothing came, or the stream ended in good order.
    ///
    /// # Errors
    /// Where it is refused, came too slowly, or the stream ended within it.
    pub fn head(&mut self) -> Result<Option<Head>, Stop> {
        // Where the line begins that is being read, how far it was looked at, and lines before it.
        let (mut line, mut seen, mut lines) = (0, 0, 0);
        let mut skipped = false;
        loop {
            while let Some(n) = self.bytes[seen..].iter().position(|&b| b == b'\n') {
                let end = seen + n;
                if end == line || self.bytes[end - 1] != b'\r' {
                    return Err(bad("a line must end with CR LF").into());
                }
                let empty = end - 1 == line;
                if empty && lines == 0 {
                    // RFC 9112, 2.2: an empty line before a request is passed over; here, one.
                    if core::mem::replace(&mut skipped, true) {
                        return Err(bad("empty lines").into());
                    }
                    self.bytes.drain(..=end);
                    (line, seen) = (0, 0);
                    continue;
                }
                check_size(end, lines)?;
                if empty {
                    let head = Head::parse(&self.bytes[..line]);
                    self.bytes.drain(..=end);
                    return Ok(Some(head?));
                }
                (line, seen, lines) = (end + 1, end + 1, lines + 1);
            }
            seen = self.bytes.len();
            check_size(seen, lines)?;
            match self.fill() {
                Ok(0) | Err(Stop::Refused(_)) if self.bytes.is_empty() => return Ok(None),
                Ok(0) => return Err(Stop::Gone),
                Ok(_) => {}
                Err(stop) => return Err(stop),
            }
        }
    }

    /// The body.
    ///
    /// # Errors
    /// Where it is too long, its chunks are malformed, it came too slowly, or the stream ended within it.
    pub fn body(&mut self, framing: Framing) -> Result<Vec<u8>, Stop> {
        match framing {
            Framing::None => Ok(Vec::new()),
            Framing::Length(length) => {
                self.need(length)?;
                let rest = self.bytes.split_off(length as usize); // at most BODY
                Ok(core::mem::replace(&mut self.bytes, rest))
            }
            Framing::Chunked => self.chunks(),
        }
    }

    /// Chunks (RFC 9112, 7.1): `SIZE CR LF bytes CR LF …`, at last one of size 0, fields that mean nothing here, an empty
    /// line. All of it counts as the body's bytes.
    fn chunks(&mut self) -> Result<Vec<u8>, Stop> {
        let (mut body, mut at) = (Vec::new(), 0);
        loop {
            let line = self.line(&mut at)?;
            let size = chunk_size(&self.bytes[line])?;
            if size == 0 {
                break;
            }
            let end = size.saturating_add(at as u64);
            self.need(end.saturating_add(2))?;
            let end = end as usize; // at most BODY
            if self.bytes[end..end + 2] != *b"\r\n" {
                return Err(bad("a chunk ends with CR LF where its size says").into());
            }
            body.extend_from_slice(&self.bytes[at..end]);
            at = end + 2;
        }
        for fields in 0.. {
            let line = self.line(&mut at)?;
            if line.is_empty() {
                break;
            }
            if fields == FIELDS {
                return Err(Refusal::new(431, "more than 100 header fields").into());
            }
            field(&self.bytes[line])?;
        }
        self.bytes.drain(..at);
        Ok(body)
    }

    /// The line from `at` on without its CR LF, behind which `at` then is.
    fn line(&mut self, at: &mut usize) -> Result<Range<usize>, Stop> {
        let start = *at;
        // Where its LF may be: what is said of a line does not depend on how much has come with it.
        let last = (start + LINE).min(BODY as usize - 1);
        let mut seen = start;
        loop {
            let end = self.bytes[seen..].iter().position(|&b| b == b'\n').map(|n| seen + n);
            if end.unwrap_or(self.bytes.len()) > last {
                let long = Refusal::new(431, "a line between chunks has at most 8 KiB");
                return Err(if last == start + LINE { long } else { too_long() }.into());
            }
            if let Some(end) = end {
                if end == start || self.bytes[end - 1] != b'\r' {
                    return Err(bad("a line must end with CR LF").into());
                }
                *at = end + 1;
                return Ok(start..end - 1);
            }
            seen = self.bytes.len();
            self.need(seen as u64 + 1)?;
        }
    }

    /// Waits until so many bytes have come.
    fn need(&mut self, bytes: u64) -> Result<(), Stop> {
        if bytes > BODY {
            return Err(too_long().into());
        }
        while (self.bytes.len() as u64) < bytes {
            if self.fill()? == 0 {
                return Err(Stop::Gone);
            }
        }
        Ok(())
    }

    /// Reads what is there, some KiB of it.
    fn fill(&mut self) -> Result<usize, Stop> {
        let mut chunk = [0; 8 << 10];
        loop {
            return match self.from.read(&mut chunk) {
                Ok(n) => {
                    self.bytes.extend_from_slice(&chunk[..n]);
                    Ok(n)
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) if matches!(e.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock) => {
                    Err(Refusal::new(408, "the request did not come in time").into())
                }
                Err(_) => Err(Stop::Gone),
            };
        }
    }
}

fn too_long() -> Refusal {
    Refusal::new(413, "a body has at most 1 MiB")
}

/// What the first line of a chunk says: a number in hexadecimal, perhaps `;` and extensions, which mean nothing here.
fn chunk_size(line: &[u8]) -> Result<u64, Refusal> {
    let digits = line.split(|&b| b == b';').next().unwrap_or_default();
    let extensions = &line[digits.len()..];
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(bad("a chunk begins with its size in hexadecimal"));
    }
    if extensions.iter().any(|&b| b.is_ascii_control() && b != b'\t') {
        return Err(bad("a control character in a chunk's extension"));
    }
    // All digits: what does not fit is larger than any limit.
    Ok(u64::from_str_radix(&text(digits), 16).unwrap_or(u64::MAX))
}

/// Whether a head may have so many bytes, after so many whole lines.
fn check_size(bytes: usize, lines: usize) -> Result<(), Refusal> {
    if lines == 0 && bytes > LINE {
        return Err(Refusal::new(414, "a first line has at most 8 KiB"));
    }
    if bytes > HEAD {
        return Err(Refusal::new(431, "a head has at most 16 KiB"));
    }
    Ok(())
}
