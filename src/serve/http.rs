//! HTTP/1.1 (RFC 9112), as much of it as a small server needs, and no looser.
//!
//! ```text
//!   bytes ─► Reader ─ head, at most 16 KiB ─► Head ─ who asks, and for what? ─► body, at most 1 MiB ─► Request
//! ```
//!
//! Where two readers could understand the same bytes differently they are refused, for that is how requests are
//! smuggled: a line that ends with LF alone, white space before a colon, a folded line, two lengths, a length beside a
//! transfer coding. Nothing is allocated that has not arrived.

use std::borrow::Cow;
use std::io::{ErrorKind, Read};

/// Bytes of a request line, at most.
pub const LINE: usize = 8 << 10;
/// Bytes of a head, at most.
pub const HEAD: usize = 16 << 10;
/// Header fields of a head, at most.
pub const FIELDS: usize = 100;
/// Bytes of a body, at most.
pub const BODY: u64 = 1 << 20;

/// Why a request is not answered as it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status code.
    pub status: u16,
    /// One line for people.
    pub what: Cow<'static, str>,
}

impl Refusal {
    /// With a status and its reason.
    pub fn new(status: u16, what: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal { status, what: what.into() }
    }
}

/// What GET is told where POST serves, and the other way.
pub const USE_POST: Refusal = Refusal { status: 405, what: Cow::Borrowed("use POST") };
/// See [`USE_POST`].
pub const USE_GET: Refusal = Refusal { status: 405, what: Cow::Borrowed("use GET") };

/// Why no request came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// What came is refused.
    Refused(Refusal),
    /// Nobody is there any more.
    Gone,
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Stop {
        Stop::Refused(refusal)
    }
}

fn bad(what: &'static str) -> Refusal {
    Refusal::new(400, what)
}

/// What stands before a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// `GET`, `POST`, …
    pub method: String,
    /// The path, without what follows a `?`.
    pub path: String,
    /// Bytes of the body, where that is said.
    pub length: Option<u64>,
    /// Whether the client would ask again on this connection.
    pub keeps: bool,
    /// Names in lower case, and values.
    fields: Vec<(String, String)>,
}

impl Head {
    /// Reads a head: its lines without the empty one at the end.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Head, Refusal> {
        let mut lines = bytes.split_inclusive(|&b| b == b'\n');
        let mut line =
            || lines.next().map(|line| line.strip_suffix(b"\r\n").ok_or(bad("a line must end with CR LF")));
        let (method, path, minor) = request_line(line().unwrap_or(Ok(b""))?)?;
        let mut fields = Vec::new();
        while let Some(line) = line() {
            if fields.len() == FIELDS {
                return Err(Refusal::new(431, "more than 100 header fields"));
            }
            fields.push(field(line?)?);
        }
        let mut head = Head { method, path, length: None, keeps: false, fields };
        if head.all("host").count() != 1 {
            return Err(bad("a request needs one Host"));
        }
        head.length = head.framing()?;
        let says = |word: &str| {
            let words = head.all("connection").flat_map(|value| value.split(','));
            words.map(str::trim).any(|w| w.eq_ignore_ascii_case(word))
        };
        head.keeps = !says("close") && (minor == 1 || says("keep-alive"));
        Ok(head)
    }

    /// The value of the first field of that name, which is given in lower case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// The values of all fields of that name.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.fields.iter().filter(move |(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The body's length; there is one way to say it.
    fn framing(&self) -> Result<Option<u64>, Refusal> {
        let mut lengths = self.all("content-length");
        let (length, another) = (lengths.next(), lengths.next());
        if self.get("transfer-encoding").is_some() {
            return Err(match length {
                Some(_) => bad("a length and a transfer coding exclude each other"),
                None => Refusal::new(501, "transfer codings are not supported: send Content-Length"),
            });
        }
        if another.is_some() {
            return Err(bad("more than one Content-Length"));
        }
        let Some(length) = length else { return Ok(None) };
        if length.is_empty() || !length.bytes().all(|b| b.is_ascii_digit()) {
            return Err(bad("Content-Length is a number"));
        }
        // All digits: what does not fit is larger than any limit.
        Ok(Some(length.parse().unwrap_or(u64::MAX)))
    }
}

/// Method, path, and the minor version.
fn request_line(line: &[u8]) -> Result<(String, String, u8), Refusal> {
    let mut parts = line.split(|&b| b == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(bad("the first line is METHOD PATH HTTP/1.1"));
    };
    let minor = match version {
        b"HTTP/1.1" => 1,
        b"HTTP/1.0" => 0,
        [b'H', b'T', b'T', b'P', b'/', a, b'.', b] if a.is_ascii_digit() && b.is_ascii_digit() => {
            return Err(Refusal::new(505, "this server speaks HTTP/1.1"));
        }
        _ => return Err(bad("the first line ends with HTTP/1.1")),
    };
    if !is_token(method) || method.len() > 32 {
        return Err(bad("this is no method"));
    }
    if !target.starts_with(b"/") || !target.iter().all(u8::is_ascii_graphic) || target.contains(&b'#') {
        return Err(bad("a path begins with / and is ASCII without spaces"));
    }
    let path = target.split(|&b| b == b'?').next().unwrap_or(target);
    Ok((text(method), text(path), minor))
}

/// `Name: value`
fn field(line: &[u8]) -> Result<(String, String), Refusal> {
    let colon = line.iter().position(|&b| b == b':').ok_or(bad("a header field is NAME: VALUE"))?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if !is_token(name) {
        return Err(bad("this is no name of a header field"));
    }
    if value.iter().any(|&b| b.is_ascii_control() && b != b'\t') {
        return Err(bad("a control character in a header field"));
    }
    Ok((text(name).to_ascii_lowercase(), text(value.trim_ascii())))
}

/// A `token` of RFC 9110.
fn is_token(bytes: &[u8]) -> bool {
    let allowed = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
    !bytes.is_empty() && bytes.iter().all(allowed)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A request, whole.
#[derive(Clone, Debug)]
pub struct Request {
    /// What it asks for.
    pub path: String,
    /// Its body.
    pub body: Vec<u8>,
}

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

    /// A body of `length` bytes.
    ///
    /// # Errors
    /// Where it is too long, came too slowly, or the stream ended within it.
    pub fn body(&mut self, length: u64) -> Result<Vec<u8>, Stop> {
        if length > BODY {
            return Err(Refusal::new(413, "a body has at most 1 MiB").into());
        }
        while (self.bytes.len() as u64) < length {
            if self.fill()? == 0 {
                return Err(Stop::Gone);
            }
        }
        let rest = self.bytes.split_off(length as usize); // at most BODY
        Ok(core::mem::replace(&mut self.bytes, rest))
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
