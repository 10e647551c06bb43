//! Bytes to requests: each rule, any cut, any bytes.

use crate::common::Random;
use samebits::serve::http::{BODY, Framing, Head, Reader, Stop};
use std::io::{self, Read};

/// Bytes that come a few at a time; then the end, or silence.
struct Drops<'b> {
    bytes: &'b [u8],
    size: usize,
    silent: bool,
}

impl Read for Drops<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.size.min(self.bytes.len()).min(out.len());
        if n == 0 && self.silent {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        out[..n].copy_from_slice(&self.bytes[..n]);
        self.bytes = &self.bytes[n..];
        Ok(n)
    }
}

type Read1 = Result<Option<(Head, Vec<u8>)>, Stop>;

/// The first request of `bytes`, read `size` bytes at a time; and what follows it.
fn first(bytes: &[u8], size: usize) -> (Read1, Read1) {
    let mut reader = Reader::new(Drops { bytes, size, silent: false });
    let mut one = || -> Read1 {
        let Some(head) = reader.head()? else { return Ok(None) };
        let body = reader.body(head.framing)?;
        Ok(Some((head, body)))
    };
    (one(), one())
}

fn status(bytes: &[u8]) -> u16 {
    match first(bytes, usize::MAX).0 {
        Ok(Some(_)) => 200,
        Ok(None) => 0,
        Err(Stop::Gone) => 1,
        Err(Stop::Refused(refusal)) => {
            assert!(!refusal.what.contains('\n') && !refusal.what.is_empty());
            refusal.status
        }
    }
}

#[test]
fn a_request_is_read() {
    let bytes = b"\r\nPOST /search?x=1 HTTP/1.1\r\nHOST:  a:1 \r\nContent-Length: 5\r\nX-Y:\r\n\r\nhelloGET / HTTP/1.0\r\nHost: b\r\n\r\n";
    for size in [1, 2, 3, 7, 64, usize::MAX] {
        let (one, two) = first(bytes, size);
        let (head, body) = one.unwrap().unwrap();
        assert_eq!((head.method.as_str(), head.path.as_str()), ("POST", "/search"));
        assert_eq!((head.get("host"), head.get("x-y"), head.get("none")), (Some("a:1"), Some(""), None));
        assert_eq!((head.framing, head.keeps, body.as_slice()), (Framing::Length(5), true, &b"hello"[..]));
        let (head, body) = two.unwrap().unwrap();
        assert_eq!((head.method.as_str(), head.keeps, body.len()), ("GET", false, 0));
    }
}

#[test]
fn whether_a_connection_goes_on() {
    for (version, header, keeps) in [
        (1, "", true),
        (1, "Connection: close\r\n", false),
        (1, "Connection: x, CLOSE\r\n", false),
        (0, "", false),
        (0, "Connection: Keep-Alive\r\n", true),
        (0, "Connection: keep-alive\r\nConnection: close\r\n", false),
    ] {
        let head = format!("GET / HTTP/1.{version}\r\nHost: a\r\n{header}");
        assert_eq!(Head::parse(head.as_bytes()).unwrap().keeps, keeps, "{head}");
    }
}

#[test]
fn every_rule_has_its_status() {
    let host = "Host: a\r\n";
    let with = |line: &str| format!("GET / HTTP/1.1\r\n{host}{line}\r\n\r\n");
    let long = |n: usize| "x".repeat(n);
    let cases: Vec<(String, u16)> = vec![
        (with("A: b"), 200),
        (String::new(), 0),
        ("GET / HT".into(), 1),
        (format!("GET / HTTP/1.1\r\n{host}Content-Length: 9\r\n\r\nshort"), 1),
        // The first line.
        (format!("GET / HTTP/1.1\n{host}\r\n"), 400),
        ("GET / HTTP/1.1\r\nHost: a\n\r\n".into(), 400),
        ("\r\n\r\nGET / HTTP/1.1\r\n\r\n".into(), 400),
        (format!("GET  / HTTP/1.1\r\n{host}\r\n"), 400),
        (format!(" GET / HTTP/1.1\r\n{host}\r\n"), 400),
        (format!("GET / HTTP/1.1 \r\n{host}\r\n"), 400),
        (format!("GET /\r\n{host}\r\n"), 400),
        (format!("G(T / HTTP/1.1\r\n{host}\r\n"), 400),
        (format!("{} / HTTP/1.1\r\n{host}\r\n", long(33)), 400),
        (format!("GET http://a/ HTTP/1.1\r\n{host}\r\n"), 400),
        (format!("GET * HTTP/1.1\r\n{host}\r\n"), 400),
        (format!("GET /\u{e9} HTTP/1.1\r\n{host}\r\n"), 400),
        (format!("GET /a#b HTTP/1.1\r\n{host}\r\n"), 400),
        (format!("GET /\0 HTTP/1.1\r\n{host}\r\n"), 400),
        (format!("GET / http/1.1\r\n{host}\r\n"), 400),
        (format!("GET / HTTP/1.11\r\n{host}\r\n"), 400),
        (format!("GET / HTTP/2.0\r\n{host}\r\n"), 505),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), 505),
        (format!("GET /{} HTTP/1.1\r\n{host}\r\n", long(8100)), 200),
        (format!("GET /{} HTTP/1.1\r\n{host}\r\n", long(8200)), 414),
        // Fields.
        ("GET / HTTP/1.1\r\n\r\n".into(), 400),
        (with("Host: b"), 400),
        (with("A : b"), 400),
        (with(" A: b"), 400),
        (with("A: b\r\n folded"), 400),
        (with("no colon"), 400),
        (with(": b"), 400),
        (with("A: b\0"), 400),
        (with("A: b\rc"), 400),
        (with("A: b\tc \u{e9}"), 200),
        (with(&format!("A: {}", long(16000))), 200),
        (with(&format!("A: {}", long(16400))), 431),
        (with(&vec!["A: b"; 99].join("\r\n")), 200),
        (with(&vec!["A: b"; 100].join("\r\n")), 431),
        // Framing.
        (with("Content-Length: 0"), 200),
        (with("Content-Length: 0\r\nContent-Length: 0"), 400),
        (with("Content-Length: 0, 0"), 400),
        (with("Content-Length: +0"), 400),
        (with("Content-Length: -1"), 400),
        (with("Content-Length: 0x1"), 400),
        (with("Content-Length:"), 400),
        (with("Content-Length: 1048577"), 413),
        (with("Content-Length: 99999999999999999999999999"), 413),
        (with("Transfer-Encoding: chunked"), 1),
        (with("Transfer-Encoding: chunked") + "0\r\n\r\n", 200),
        (with("Transfer-Encoding: gzip, chunked"), 501),
        (with("Transfer-Encoding: chunked, chunked"), 501),
        (with("Transfer-Encoding: xchunked"), 501),
        (with("Transfer-Encoding:"), 501),
        (with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"), 400),
        (with("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity"), 400),
        (with("Content-Length: 5\r\nTransfer-Encoding: gzip"), 400),
        (format!("GET / HTTP/1.0\r\n{host}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 400),
        (with("Transfer-Encoding: identity"), 501),
        (with("Transfer-Encoding: chunked\r\nContent-Length: 0"), 400),
        (with("Content-Length: 0\r\ntransfer-encoding : chunked"), 400),
    ];
    for (bytes, expected) in cases {
        assert_eq!(status(bytes.as_bytes()), expected, "{:.200?}", bytes);
    }
}

#[test]
fn a_body_of_the_largest_size_is_taken() {
    let mut bytes = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1048576\r\n\r\n".to_vec();
    bytes.resize(bytes.len() + (1 << 20), b'x');
    assert_eq!(status(&bytes), 200);
}

/// A request whose body is `chunks`, as they are sent.
fn chunked(chunks: &str) -> Vec<u8> {
    format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n{chunks}").into_bytes()
}

#[test]
fn chunks_are_joined_and_what_follows_them_is_another_request() {
    let next = "GET /next HTTP/1.1\r\nHost: b\r\n\r\n";
    for (chunks, expected) in [
        ("0\r\n\r\n", ""),
        ("5\r\nhello\r\n0\r\n\r\n", "hello"),
        ("1\r\nh\r\n0004\r\nello\r\n000\r\n\r\n", "hello"),
        ("A;name=value;\ta=\"b\"\r\n0123456789\r\n0;last\r\n\r\n", "0123456789"),
        ("9\r\n\r\n0\r\n\r\n\r\n\r\n0\r\n\r\n", "\r\n0\r\n\r\n\r\n"),
        ("2\r\nhi\r\n0\r\nContent-Length: 99\r\nX: y\r\n\r\n", "hi"),
    ] {
        for size in [1, 2, 3, 7, usize::MAX] {
            let (one, two) = first(&[&chunked(chunks)[..], next.as_bytes()].concat(), size);
            let (head, body) = one.unwrap().unwrap();
            assert_eq!(
                (head.framing, body.as_slice()),
                (Framing::Chunked, expected.as_bytes()),
                "{chunks:?}"
            );
            assert_eq!(two.unwrap().unwrap().0.path, "/next", "{chunks:?}");
        }
    }
}

#[test]
fn malformed_chunks_are_refused() {
    let long = |n: usize| "x".repeat(n);
    for (chunks, expected) in [
        ("5\r\nhello\r\n".into(), 1),
        ("5\r\nhel".into(), 1),
        ("5\r\nhello\r\n0\r\n".into(), 1),
        ("\r\n".into(), 400),
        (" 5\r\nhello\r\n0\r\n\r\n".into(), 400),
        ("5 \r\nhello\r\n0\r\n\r\n".into(), 400),
        ("+5\r\nhello\r\n0\r\n\r\n".into(), 400),
        ("-5\r\nhello\r\n0\r\n\r\n".into(), 400),
        ("0x5\r\nhello\r\n0\r\n\r\n".into(), 400),
        ("5_0\r\nhello\r\n0\r\n\r\n".into(), 400),
        (";\r\nhello\r\n0\r\n\r\n".into(), 400),
        ("g\r\nhello\r\n0\r\n\r\n".into(), 400),
        ("5\nhello\r\n0\r\n\r\n".into(), 400),
        ("5\r\nhello\n0\r\n\r\n".into(), 400),
        ("5\r\nhelloo\r\n0\r\n\r\n".into(), 400),
        ("5\r\nhell\r\n0\r\n\r\n".into(), 400),
        ("5;a\0\r\nhello\r\n0\r\n\r\n".into(), 400),
        ("5;a\rb\r\nhello\r\n0\r\n\r\n".into(), 400),
        ("0\r\nno field\r\n\r\n".into(), 400),
        ("0\r\nA: b\n\r\n".into(), 400),
        ("0\r\n A: b\r\n\r\n".into(), 400),
        ("100000\r\n".into(), 413),
        ("FFFFFFFFFFFFFFFF\r\n".into(), 413),
        ("fffffffffffffffffffffffffffff\r\n".into(), 413),
        (format!("0;{}\r\n\r\n", long(8100)), 200),
        (format!("0;{}\r\n\r\n", long(8200)), 431),
        (format!("0;{}", long(8200)), 431),
        (format!("0\r\n{}\r\n", "A: b\r\n".repeat(100)), 200),
        (format!("0\r\n{}\r\n", "A: b\r\n".repeat(101)), 431),
        // In all 1 MiB, however little of it is the body.
        ("1\r\nx\r\n".repeat(174_762) + "0\r\n\r\n", 413),
        ("1\r\nx\r\n".repeat(174_761) + "0\r\n\r\n", 200),
    ] {
        assert_eq!(status(&chunked(&chunks)), expected, "{:?}", &chunks[..chunks.len().min(100)]);
    }
    let most = BODY as usize - "fffff\r\n\r\n0\r\n\r\n".len();
    for (size, expected) in [(most, 200), (most + 1, 413)] {
        let chunks = format!("{size:x}\r\n{}\r\n0\r\n\r\n", long(size));
        assert_eq!(status(&chunked(&chunks)), expected, "{size}");
    }
}

#[test]
fn silence_is_told_from_slowness() {
    let read = |bytes: &'static [u8]| Reader::new(Drops { bytes, size: 3, silent: true }).head();
    assert_eq!(read(b""), Ok(None));
    assert!(matches!(read(b"GET / HTTP/1.1\r\nHost:"), Err(Stop::Refused(refusal)) if refusal.status == 408));
}

#[test]
fn any_bytes_in_any_cut_mean_the_same() {
    let mut random = Random::new(7);
    let seeds: [&[u8]; 4] = [
        b"POST /ask HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1;x\r\nd\r\n0\r\nA: b\r\n\r\nGET / HTTP/1.1\r\nHost: b\r\n\r\n",
        b"POST /ask HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabcGET / HTTP/1.1\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.0\r\nhost: a\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\r\nPUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\nrest",
    ];
    let mut good = 0;
    for i in 0..20_000 {
        let mut bytes = seeds[i % seeds.len()].to_vec();
        for _ in 0..random.below(4) {
            mutate(&mut bytes, &mut random);
        }
        let whole = first(&bytes, usize::MAX);
        good += usize::from(matches!(whole.0, Ok(Some(_))));
        for size in [1, 1 + random.below(9)] {
            assert_eq!(first(&bytes, size), whole, "{:?}", String::from_utf8_lossy(&bytes));
        }
    }
    assert!((5_000..19_000).contains(&good), "{good} of 20,000 are requests");
}

/// One change: a byte, a cut, a piece twice, or something that parsers trip over.
pub fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    const WORDS: [&[u8]; 16] = [
        b"\r\n",
        b"\n",
        b"\r",
        b"\0",
        b" ",
        b":",
        b"\xff\xfe",
        b"HTTP/1.1",
        b"Content-Length: 7\r\n",
        b"{",
        b"\"",
        b"\\u0000",
        b"Transfer-Encoding: chunked\r\n",
        b"Expect: 100-continue\r\n",
        b"[[[[[[[[",
        b"99999999999999999999",
    ];
    if bytes.is_empty() {
        return;
    }
    let at = random.below(bytes.len());
    match random.below(5) {
        0 => bytes[at] = random.bits() as u8,
        1 => bytes.truncate(at),
        2 => drop(bytes.drain(at..(at + 1 + random.below(8)).min(bytes.len()))),
        3 => {
            let piece = bytes[at..(at + 1 + random.below(40)).min(bytes.len())].to_vec();
            let to = random.below(bytes.len());
            bytes.splice(to..to, piece);
        }
        _ => drop(bytes.splice(at..at, WORDS[random.below(WORDS.len())].iter().copied())),
    }
}
