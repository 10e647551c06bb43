//! A small HTTP server: one connection a thread, one computation at a time, and one that takes long.
//!
//! ```text
//!   listener ─► a thread a connection, 64 at most ─ head, who asks?, body ─┐ queue          the thread of `run`
//!                  ▲                                                       ├──────► request ─► answer ─┐
//!                  │                                                       └──────► slow ones, beside it
//!                  └──────────────────────── response ◄────────────────────────────────────────────────┘
//! ```
//!
//! * Connections wait, computations of a queue do not overlap: one request's answer never depends on others, and the memory
//!   of computing is that of two. What may take minutes has a queue of its own, so nobody else waits for it.
//! * Everything has a bound: connections, bytes of heads and bodies, time for a request from its first byte on and for an
//!   answer, requests of a connection, bytes of answers that are under way.
//! * A request that is refused before its body was read is told so, and what it still sends is passed over for a second:
//!   closing at once would take the answer away from it.

mod connection;
pub(crate) mod door;
pub mod http;
pub mod page;
mod reader;
pub mod response;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use crate::{Error, Result};
use door::Door;
use http::{Refusal, Request};
use response::Response;

/// Bounds of a server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time.
    pub connections: usize,
    /// Requests of a connection.
    pub requests: usize,
    /// How long a connection may be silent before a request.
    pub idle: Duration,
    /// How long a request may take to come, from its first byte on.
    pub request: Duration,
    /// How long an answer may take to go.
    pub answer: Duration,
    /// Bytes of answers that are under way.
    pub under_way: usize,
}

impl Default for Limits {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Limits {
            connections: 64,
            requests: 1000,
            idle: seconds(5),
            request: seconds(10),
            answer: seconds(30),
            under_way: 64 << 20,
        }
    }
}

/// Something that is always the same.
#[derive(Clone, Debug)]
pub struct Fixed {
    /// Its path.
    pub path: &'static str,
    /// What it is.
    pub response: Response,
    /// Who gets it.
    pub to: To,
}

/// Who gets something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// Everyone.
    All,
    /// Those who have the token, where there is one.
    Known,
}

/// What there is to ask for.
#[derive(Clone, Debug)]
pub struct Site {
    /// What GET answers.
    pub fixed: Vec<Fixed>,
    /// Paths of what POST computes from JSON.
    pub computed: &'static [&'static str],
    /// Those of them that may take long.
    pub slow: &'static [&'static str],
}

/// One of what is quick, one of what may take long.
struct Lanes<T> {
    quick: T,
    slow: T,
}

/// What all connections share.
struct Shared {
    site: Site,
    door: Door,
    limits: Limits,
    jobs: Lanes<SyncSender<Job>>,
    open: AtomicUsize,
    under_way: AtomicUsize,
    ended: AtomicBool,
}

/// A request that waits to be computed.
struct Job {
    request: Request,
    reply: SyncSender<Response>,
}

/// A server that listens; dropped, it listens no more.
///
/// ```
/// use samebits::serve::http::{Request, USE_GET};
/// use samebits::serve::page::{PAGE, POLICY, response};
/// use samebits::serve::response::{After, Response};
/// use samebits::serve::{Fixed, Limits, Server, Site, To};
/// use std::io::{Read, Write};
/// use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
/// let page = Fixed { path: "/", response: response(), to: To::All };
/// let site = Site { fixed: vec![page], computed: &["/echo"], slow: &[] };
/// let mut server = Server::bind("127.0.0.1:0".parse().unwrap(), None, site, Limits::default())?;
/// let (address, done) = (server.address(), AtomicBool::new(false));
/// let ask = |request: &str| {
///     let (mut stream, mut answer) = (std::net::TcpStream::connect(address)?, String::new());
///     let head = format!("Host: {address}\r\nConnection: close\r\nContent-Type: application/json\r\n");
///     stream.write_all(request.replacen("\r\n", &format!("\r\n{head}"), 1).as_bytes())?;
///     stream.read_to_string(&mut answer).map(|_| answer)
/// };
/// std::thread::scope(|threads| {
///     threads.spawn(|| {
///         let (get, post) = (ask("GET / HTTP/1.1\r\n\r\n"), ask("POST /echo HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}"));
///         done.store(true, Relaxed);
///         assert!(get.unwrap().ends_with(PAGE) && post.unwrap().ends_with("[2]"));
///     });
///     let answer = |request: &Request| Response::json(format!("[{}]", request.body.len()));
///     server.run(&|| done.load(Relaxed), &answer);
/// });
/// let mut refused = Vec::new();
/// Response::refused(&USE_GET).write(&mut refused, "POST", After::Close).unwrap();
/// assert!(refused.starts_with(b"HTTP/1.1 405") && POLICY.contains("default-src 'none'"));
/// # Ok::<(), samebits::Error>(())
/// ```
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    jobs: Lanes<Receiver<Job>>,
}

impl Server {
    /// Listens at `address`; port 0 is any that is free. Nothing is computed before [`Server::run`].
    ///
    /// # Errors
    /// Where the system refuses, or the address may not be listened on without a token.
    pub fn bind(address: SocketAddr, token: Option<String>, site: Site, limits: Limits) -> Result<Server> {
        let door = Door::new(address, token)?;
        let refused = |e| Error::io(address.to_string(), "listen", e);
        let listener = TcpListener::bind(address).map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let [(quick, quick_jobs), (slow, slow_jobs)] = [(); 2].map(|()| sync_channel(limits.connections));
        let shared = Arc::new(Shared {
            site,
            door: door.at(address),
            limits,
            jobs: Lanes { quick, slow },
            open: AtomicUsize::new(0),
            under_way: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
        });
        let own = Arc::clone(&shared);
        let listening =
            thread::Builder::new().name("samebits-listen".into()).spawn(move || listen(&listener, &own));
        listening.map_err(refused)?;
        Ok(Server { address, shared, jobs: Lanes { quick: quick_jobs, slow: slow_jobs } })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers what is to be computed, one request at a time, and beside them one of those that take long, until `stop`
    /// says so. A request whose answer panics is answered 500, and nothing else happens.
    pub fn run(&mut self, stop: &(dyn Fn() -> bool + Sync), answer: &(dyn Fn(&Request) -> Response + Sync)) {
        let Lanes { quick, slow } = &mut self.jobs;
        thread::scope(|scope| {
            if !self.shared.site.slow.is_empty() {
                scope.spawn(|| Server::work(slow, stop, answer));
            }
            Server::work(quick, stop, answer);
        });
    }

    /// Answers the requests of one queue.
    fn work(jobs: &mut Receiver<Job>, stop: &dyn Fn() -> bool, answer: &dyn Fn(&Request) -> Response) {
        while !stop() {
            match jobs.recv_timeout(Duration::from_millis(50)) {
                Ok(Job { request, reply }) => {
                    let done = catch_unwind(AssertUnwindSafe(|| answer(&request)));
                    let failed =
                        |_| Response::refused(&Refusal::new(500, "this request met a mistake of the server"));
                    // Who asked may have gone.
                    let _ = reply.send(done.unwrap_or_else(failed));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        // Wakes the listener, which looks whether it is to go on.
        let _ = TcpStream::connect(self.address);
    }
}

/// Connections beyond the limit that are told so at a time; those beyond them are closed.
const TOLD: usize = 8;
/// Bytes of a connection's stack: it reads, compares and writes, all on the heap.
const STACK: usize = 256 << 10;

fn listen(listener: &TcpListener, shared: &Arc<Shared>) {
    loop {
        let stream = listener.accept();
        if shared.ended.load(Ordering::Relaxed) {
            return;
        }
        let Ok((stream, _)) = stream else {
            // No descriptor is free, say: some connection will end.
            thread::sleep(Duration::from_millis(10));
            continue;
        };
        let place = Place::take(shared);
        if place.number >= shared.limits.connections + TOLD {
            continue;
        }
        let serve = move || connection::serve(&place, &stream);
        // Where there is no thread, both are dropped: the connection is closed.
        let _ = thread::Builder::new().name("samebits-http".into()).stack_size(STACK).spawn(serve);
    }
}

/// A connection's place among those that are open.
struct Place {
    shared: Arc<Shared>,
    /// Open ones before it.
    number: usize,
}

impl Place {
    fn take(shared: &Arc<Shared>) -> Place {
        Place { number: shared.open.fetch_add(1, Ordering::Relaxed), shared: Arc::clone(shared) }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.open.fetch_sub(1, Ordering::Relaxed);
    }
}
