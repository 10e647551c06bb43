//! HTTP/1.1 (RFC 9112), as much of it as a small server needs, and no looser.
//!
//! ```text
//!   bytes ─► Reader ─ head, at most 16 KiB ─► Head ─ who asks, and for what? ─► body, at most 1 MiB ─► Request
//! ```
//!
//! Where two readers could understand the same bytes differently they are refused, for that is how requests are
//! smuggled: a line that ends with LF alone, white space before a colon, a folded line, two lengths, a length beside a
//! transfer coding, a chunk that is longer than it says. Nothing is allocated that has not arrived.

use std::borrow::Cow;

pub use super::reader::Reader;

/// Bytes of a request line, at most.
pub const LINE: usize = 8 << 10;
/// Bytes of a head, at most.
pub const HEAD: usize = 16 << 10;
/// Header fields of a head, at most.
pub const FIELDS: usize = 100;
/// Bytes of a body, at most; of one in chunks, what frames them counts too.
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

pub(super) fn bad(what: &'static str) -> Refusal {
    Refusal::new(400, what)
}

/// How a head says where the body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    None,
    /// After so many bytes.
    Length(u64),
    /// After a chunk of no bytes.
    Chunked,
}

impl Framing {
    /// Whether something follows the head.
    pub fn is_something(self) -> bool {
        !matches!(self, Framing::None | Framing::Length(0))
    }
}

/// What stands before a body.
///
/// ```
/// use samebits::serve::http::{BODY, FIELDS, Framing, HEAD, Head, LINE, Reader, Refusal, Stop, USE_POST};
/// let bytes = b"POST /search HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}";
/// let mut reader = Reader::new(&bytes[..]);
/// let head: Head = reader.head().ok().flatten().unwrap();
/// assert_eq!((head.path.as_str(), head.get("host")), ("/search", Some("a")));
/// assert!(matches!(head.framing, Framing::Length(2)));
/// assert_eq!(reader.body(head.framing).ok(), Some(b"{}".to_vec()));
/// // Bounds are kept before anything is stored.
/// let endless = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(LINE.max(HEAD)));
/// let Err(Stop::Refused(refusal)) = Reader::new(endless.as_bytes()).head() else { panic!("it is too long") };
/// let refusal: Refusal = refusal;
/// assert!((400..500).contains(&refusal.status) && USE_POST.status == 405);
/// assert!(FIELDS < HEAD && BODY > HEAD as u64);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// `GET`, `POST`, …
    pub method: String,
    /// The path, without what follows a `?`.
    pub path: String,
    /// Where the body ends.
    pub framing: Framing,
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
        let mut head = Head { method, path, framing: Framing::None, keeps: false, fields };
        if head.all("host").count() != 1 {
            return Err(bad("a request needs one Host"));
        }
        head.framing = head.body_of(minor)?;
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

    /// The body's length, or that it comes in chunks; there is one way to say it.
    fn body_of(&self, minor: u8) -> Result<Framing, Refusal> {
        let mut lengths = self.all("content-length");
        let (length, another) = (lengths.next(), lengths.next());
        let mut codings = self.all("transfer-encoding");
        if let Some(coding) = codings.next() {
            return match (length, codings.next()) {
                (Some(_), _) => Err(bad("a length and a transfer coding exclude each other")),
                (None, Some(_)) => Err(bad("more than one Transfer-Encoding")),
                // RFC 9112, 6.1: who speaks 1.0 may not know what it passes on.
                _ if minor == 0 => Err(bad("HTTP/1.0 has no transfer codings")),
                _ if coding.eq_ignore_ascii_case("chunked") => Ok(Framing::Chunked),
                _ => Err(Refusal::new(501, "the one transfer coding that is known is chunked")),
            };
        }
        if another.is_some() {
            return Err(bad("more than one Content-Length"));
        }
        let Some(length) = length else { return Ok(Framing::None) };
        if length.is_empty() || !length.bytes().all(|b| b.is_ascii_digit()) {
            return Err(bad("Content-Length is a number"));
        }
        // All digits: what does not fit is larger than any limit.
        Ok(Framing::Length(length.parse().unwrap_or(u64::MAX)))
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
pub(super) fn field(line: &[u8]) -> Result<(String, String), Refusal> {
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

pub(super) fn text(bytes: &[u8]) -> String {
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
