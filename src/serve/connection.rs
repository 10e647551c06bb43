//! One connection, from its first byte to its last.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use super::http::{BODY, Framing, Head, Reader, Refusal, Request, Stop, USE_GET, USE_POST};
use super::response::{After, Response};
use super::{Job, Place, Shared, To};

/// Serves requests until there are no more, or one is refused before it was read.
pub fn serve(place: &Place, stream: &TcpStream) {
    let shared = &*place.shared;
    // Answers are written whole: nothing is to be waited for. Where this is refused, they are a little slower.
    let _ = stream.set_nodelay(true);
    if place.number >= shared.limits.connections {
        let full = Refusal::new(503, "too many connections: try again soon");
        let _ = shared.write(stream, "GET", &Response::refused(&full), After::Close);
        return linger(stream);
    }
    let mut reader = Reader::new(Timed::new(stream));
    for left in (0..shared.limits.requests).rev() {
        let may = if left > 0 { After::Keep } else { After::Close };
        match shared.turn(&mut reader, stream, may) {
            Some(After::Keep) => {}
            Some(After::Close) => return linger(stream),
            None => return,
        }
    }
}

/// What a request asks for.
enum Wanted<'s> {
    Fixed(&'s Response),
    Computed,
}

impl Shared {
    /// One request and its answer; none where nobody is there any more.
    fn turn(&self, reader: &mut Reader<Timed<'_>>, stream: &TcpStream, may: After) -> Option<After> {
        let (timed, begun) = reader.source();
        timed.begin(if begun { self.limits.request } else { self.limits.idle }, self.limits.request);
        let refuse = |method: &str, refusal: &Refusal, after: After| {
            self.write(stream, method, &Response::refused(refusal), after).ok().map(|()| after)
        };
        let head = match reader.head() {
            Ok(head) => head?,
            Err(Stop::Gone) => return None,
            Err(Stop::Refused(refusal)) => return refuse("GET", &refusal, After::Close),
        };
        let after = if head.keeps { may } else { After::Close };
        let follows = head.framing.is_something();
        let wanted = match self.wanted(&head) {
            Ok(wanted) => wanted,
            // A body that was not read is not a request.
            Err(refusal) => {
                return refuse(&head.method, &refusal, if follows { After::Close } else { after });
            }
        };
        if follows && head.get("expect").is_some() {
            (&Timed::until(stream, self.limits.answer)).write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
        }
        let body = match reader.body(head.framing) {
            Ok(body) => body,
            Err(Stop::Gone) => return None,
            Err(Stop::Refused(refusal)) => return refuse(&head.method, &refusal, After::Close),
        };
        let response = match wanted {
            Wanted::Fixed(response) => {
                return self.write(stream, &head.method, response, after).ok().map(|()| after);
            }
            Wanted::Computed => self.compute(Request { path: head.path, body }),
        };
        let _counted = match Counted::of(&self.under_way, response.body.len(), self.limits.under_way) {
            Some(counted) => counted,
            None => {
                let full = Refusal::new(503, "too many answers are under way: try again soon");
                return refuse(&head.method, &full, after);
            }
        };
        self.write(stream, &head.method, &response, after).ok().map(|()| after)
    }

    /// What a head asks for, where it may.
    fn wanted(&self, head: &Head) -> Result<Wanted<'_>, Refusal> {
        self.door.check_site(head)?;
        let fixed = self.site.fixed.iter().find(|fixed| fixed.path == head.path);
        let computed = self.site.computed.contains(&head.path.as_str());
        if fixed.is_none_or(|fixed| fixed.to == To::Known) {
            self.door.check_token(head)?;
        }
        if matches!(head.framing, Framing::Length(length) if length > BODY) {
            return Err(Refusal::new(413, "a body has at most 1 MiB"));
        }
        if head.get("expect").is_some_and(|expect| !expect.eq_ignore_ascii_case("100-continue")) {
            return Err(Refusal::new(417, "only 100-continue can be expected"));
        }
        match (fixed, head.method.as_str()) {
            (Some(fixed), "GET" | "HEAD") => Ok(Wanted::Fixed(&fixed.response)),
            (_, "POST") if computed => {
                check_media(head)?;
                Ok(Wanted::Computed)
            }
            (None, _) if !computed => Err(Refusal::new(404, "there is nothing of that name here")),
            _ => Err(if computed { USE_POST } else { USE_GET }),
        }
    }

    /// Waits for its turn, and for the answer.
    fn compute(&self, request: Request) -> Response {
        let (reply, answer) = sync_channel(1);
        let slow = self.site.slow.contains(&request.path.as_str());
        let jobs = if slow { &self.jobs.slow } else { &self.jobs.quick };
        let asked = jobs.send(Job { request, reply });
        let ended = |()| Response::refused(&Refusal::new(503, "the server ends"));
        asked.map_err(|_| ()).and_then(|()| answer.recv().map_err(|_| ())).unwrap_or_else(ended)
    }

    fn write(&self, stream: &TcpStream, method: &str, response: &Response, after: After) -> io::Result<()> {
        response.write(&mut &Timed::until(stream, self.limits.answer), method, after)
    }
}

/// A body is JSON, plain, and it is said where it ends.
fn check_media(head: &Head) -> Result<(), Refusal> {
    let kind = head.get("content-type").unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        return Err(Refusal::new(415, "send Content-Type: application/json"));
    }
    if head.get("content-encoding").is_some_and(|coding| !coding.eq_ignore_ascii_case("identity")) {
        return Err(Refusal::new(415, "send the body as it is, not compressed"));
    }
    match head.framing {
        Framing::None => Err(Refusal::new(411, "send Content-Length")),
        Framing::Length(_) | Framing::Chunked => Ok(()),
    }
}

/// Closes a connection so that the last answer arrives: says that no more comes, and passes over what still does.
fn linger(stream: &TcpStream) {
    let _ = stream.shutdown(Shutdown::Write);
    let mut timed = Timed::until(stream, Duration::from_secs(1));
    let (mut left, mut bytes) = (4 << 20, [0; 4 << 10]);
    while let Ok(n @ 1..) = timed.read(&mut bytes) {
        left -= n as i64;
        if left < 0 {
            return;
        }
    }
}

/// A stream that is given up at a time, however slowly its bytes come and go.
struct Timed<'s> {
    stream: &'s TcpStream,
    end: Instant,
    /// How long there is from the first byte on; none once it has come.
    from_first: Option<Duration>,
}

impl<'s> Timed<'s> {
    fn new(stream: &'s TcpStream) -> Timed<'s> {
        Timed { stream, end: Instant::now(), from_first: None }
    }

    fn until(stream: &'s TcpStream, time: Duration) -> Timed<'s> {
        Timed { stream, end: Instant::now() + time, from_first: None }
    }

    /// Waits that long for a first byte, and then that long for all.
    fn begin(&mut self, first: Duration, all: Duration) {
        (self.end, self.from_first) = (Instant::now() + first, Some(all));
    }

    fn left(&self) -> io::Result<Duration> {
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
    }
}

impl Read for Timed<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.left()?))?;
        let n = (&mut &*self.stream).read(bytes)?;
        if let Some(all) = self.from_first.take() {
            self.end = Instant::now() + all;
        }
        Ok(n)
    }
}

impl Write for &Timed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.left()?))?;
        (&mut &*self.stream).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Bytes that are counted as long as this lives.
struct Counted<'c>(&'c AtomicUsize, usize);

impl<'c> Counted<'c> {
    /// None where there would be more than `most`; one answer alone may be larger.
    fn of(all: &'c AtomicUsize, bytes: usize, most: usize) -> Option<Counted<'c>> {
        let before = all.fetch_add(bytes, Ordering::Relaxed);
        let counted = Counted(all, bytes);
        (before == 0 || before + bytes <= most).then_some(counted)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Ordering::Relaxed);
    }
}
