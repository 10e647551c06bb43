//! What is answered.

use std::borrow::Cow;
use std::io::{self, Write};

use super::http::{Refusal, USE_POST};
use super::page::POLICY;
use crate::io::json::Writer;

/// What becomes of a connection after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// Another request may come.
    Keep,
    /// It is closed.
    Close,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// What the body is.
    pub kind: &'static str,
    /// The body.
    pub body: Cow<'static, [u8]>,
    /// A header line more, with its end; or nothing.
    pub more: &'static str,
}

/// What is said of every answer: nothing of it is kept, nothing in it runs but the page itself, no other site may show
/// or read it.
const ALWAYS: &str = "Cache-Control: no-store\r\n\
    X-Content-Type-Options: nosniff\r\n\
    Referrer-Policy: no-referrer\r\n\
    X-Frame-Options: DENY\r\n\
    Cross-Origin-Resource-Policy: same-origin\r\n\
    Cross-Origin-Opener-Policy: same-origin\r\n";

impl Response {
    /// A JSON text.
    pub fn json(text: String) -> Response {
        Response { status: 200, kind: "application/json", body: text.into_bytes().into(), more: "" }
    }

    /// `{"error": {"message", "type"}}`
    pub fn refused(refusal: &Refusal) -> Response {
        let mut w = Writer::compact();
        w.object(|w| {
            w.key("error").object(|w| {
                w.key("message").string(&refusal.what);
                w.key("type").string(names(refusal.status).1);
            });
        });
        let more = match refusal.status {
            401 => "WWW-Authenticate: Bearer\r\n",
            405 if refusal == &USE_POST => "Allow: POST\r\n",
            405 => "Allow: GET, HEAD\r\n",
            503 => "Retry-After: 1\r\n",
            _ => "",
        };
        Response { status: refusal.status, more, ..Response::json(w.finish()) }
    }

    /// Writes it as the answer to a request of that method.
    ///
    /// # Errors
    /// Where the stream takes no more.
    pub fn write(&self, to: &mut impl Write, method: &str, after: After) -> io::Result<()> {
        let head = format!(
            "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: {}\r\n{ALWAYS}\
             Content-Security-Policy: {}\r\n{}\r\n",
            self.status,
            names(self.status).0,
            self.kind,
            self.body.len(),
            if after == After::Keep { "keep-alive" } else { "close" },
            POLICY,
            self.more,
        );
        let mut bytes = head.into_bytes();
        // One write for small answers: one packet.
        let body: &[u8] = if method == "HEAD" { &[] } else { &self.body };
        let (first, rest) = body.split_at(body.len().min(16 << 10));
        bytes.extend_from_slice(first);
        to.write_all(&bytes)?;
        to.write_all(rest)?;
        to.flush()
    }
}

/// What a status is called: in the first line, and as the type of an error.
const fn names(status: u16) -> (&'static str, &'static str) {
    match status {
        200 => ("OK", ""),
        400 => ("Bad Request", "invalid_request_error"),
        401 => ("Unauthorized", "authentication_error"),
        403 => ("Forbidden", "permission_error"),
        404 => ("Not Found", "not_found_error"),
        405 => ("Method Not Allowed", "invalid_request_error"),
        408 => ("Request Timeout", "timeout_error"),
        411 => ("Length Required", "invalid_request_error"),
        413 => ("Content Too Large", "invalid_request_error"),
        414 => ("URI Too Long", "invalid_request_error"),
        415 => ("Unsupported Media Type", "invalid_request_error"),
        417 => ("Expectation Failed", "invalid_request_error"),
        431 => ("Request Header Fields Too Large", "invalid_request_error"),
        501 => ("Not Implemented", "not_implemented_error"),
        503 => ("Service Unavailable", "overloaded_error"),
        505 => ("HTTP Version Not Supported", "invalid_request_error"),
        _ => ("Internal Server Error", "server_error"),
    }
}
