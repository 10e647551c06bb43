//! A server to ask, and a client that can ask wrongly.

use crate::common::program::{Folder, out, program, run};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::{Child, Stdio};
use std::time::Duration;

/// `samebits serve`, killed when dropped.
pub struct Program {
    pub child: Child,
    pub address: SocketAddr,
    /// Kept as long as it is read.
    _folder: Folder,
}

/// Documents that tests ask about.
pub fn index(folder: &Folder, more: &[&str]) -> String {
    let notes = folder.path("notes");
    fs::create_dir_all(&notes).unwrap();
    for (name, content) in [
        (
            "tides.md",
            "# Tides\n\nThe moon pulls the sea.\n\n## Spring tides\n\nSun and moon pull together at new moon.\n",
        ),
        ("bread.txt", "Flour, water, salt.\nKnead for ten minutes.\nBake until brown.\n"),
        (
            "rows.csv",
            "id,text,year\nr1,The harbour was built of granite.,1850\nr2,A lantern “burns” at night.,1920\n",
        ),
    ] {
        fs::write(notes.join(name), content).unwrap();
    }
    let file = folder.path("notes.sbi").to_str().unwrap().to_owned();
    let args =
        [&["index", notes.to_str().unwrap(), "-o", &file, "--size", "60", "--overlap", "0"], more].concat();
    let done = run(args);
    assert!(done.status.success(), "{done:?}");
    file
}

impl Program {
    /// Serves the index in `file`, which lies in `folder`.
    pub fn serve(folder: Folder, file: &str, more: &[&str]) -> Program {
        let mut command = program();
        command.args(["serve", file, "--port", "0"]).args(more).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("http://").unwrap_or_else(|| panic!("{line:?}"));
        Program { address: address.parse().unwrap(), child, _folder: folder }
    }

    /// With an index by words alone.
    pub fn lexical(name: &str, more: &[&str]) -> Program {
        let folder = Folder::new(name);
        let file = index(&folder, &["--lexical"]);
        Program::serve(folder, &file, more)
    }

    /// KiB of memory that it has, as the system says.
    pub fn resident(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().strip_suffix("kB").unwrap().trim().parse().unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: String,
}

/// Reads an answer; none where the connection ends before one begins.
pub fn reply(stream: &mut impl BufRead) -> Option<Reply> {
    let mut head = String::new();
    loop {
        let before = head.len();
        match stream.read_line(&mut head) {
            Ok(0) | Err(_) => return None,
            Ok(_) if head[before..] == *"\r\n" => break,
            Ok(_) => {}
        }
    }
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap_or("0");
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body).ok()?;
    Some(Reply { status, head, body: String::from_utf8(body).unwrap() })
}

/// A connection that waits for 20 s at most.
pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// Sends bytes and no more, and reads the first answer.
pub fn send(address: SocketAddr, bytes: &[u8]) -> Option<Reply> {
    let mut stream = connect(address);
    // It may answer, and close, before all was sent.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    reply(&mut BufReader::new(stream))
}

/// A request with the headers that it needs and `more`, each with its end.
pub fn request(address: SocketAddr, method: &str, path: &str, more: &str, body: &str) -> Vec<u8> {
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\n{more}{length}\r\n{body}").into_bytes()
}

/// GET.
pub fn get(address: SocketAddr, path: &str, more: &str) -> Reply {
    send(address, &request(address, "GET", path, more, "")).expect("an answer")
}

/// POST of JSON.
pub fn post(address: SocketAddr, path: &str, body: &str) -> Reply {
    let more = "Content-Type: application/json\r\n";
    send(address, &request(address, "POST", path, more, body)).expect("an answer")
}

/// What the command prints, without the last line end.
pub fn printed(args: &[&str]) -> String {
    let done = run(args);
    assert!(done.status.success(), "{done:?}");
    out(&done).trim_end().to_owned()
}
