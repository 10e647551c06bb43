//! A server within the test: what happens in it can be arranged.

use crate::client::{connect, get, post, reply, request};
use samebits::serve::http::Refusal;
use samebits::serve::response::Response;
use samebits::serve::{Fixed, Limits, Server, Site, To};
use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// A server within this process, until `asks` has asked.
fn within(limits: Limits, answer: impl Fn(&[u8]) -> Response + Sync, asks: impl FnOnce(SocketAddr) + Send) {
    let health = Fixed { path: "/health", response: Response::json("0".into()), to: To::All };
    let site = Site { fixed: vec![health], computed: &["/x", "/slow"], slow: &["/slow"] };
    let mut server = Server::bind(([127, 0, 0, 1], 0).into(), None, site, limits).unwrap();
    let (address, done) = (server.address(), AtomicBool::new(false));
    thread::scope(|scope| {
        let done = &done;
        let asking = scope.spawn(move || {
            // Also where an assertion fails.
            struct Done<'d>(&'d AtomicBool);
            impl Drop for Done<'_> {
                fn drop(&mut self) {
                    self.0.store(true, Ordering::Relaxed);
                }
            }
            let _done = Done(done);
            asks(address);
        });
        server.run(&|| done.load(Ordering::Relaxed), &|request| answer(&request.body));
        asking.join().unwrap();
    });
    drop(server);
    let start = Instant::now();
    while TcpStream::connect(address).is_ok() {
        assert!(start.elapsed() < Duration::from_secs(5), "it listens still");
    }
}

#[test]
fn what_takes_long_holds_up_nobody_else() {
    let (inside, most, go_on) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
    let answer = |body: &[u8]| {
        if body == b"quick" {
            return Response::json("1".into());
        }
        most.fetch_max(1 + inside.fetch_add(1, Ordering::SeqCst), Ordering::SeqCst);
        let start = Instant::now();
        while !go_on.load(Ordering::SeqCst) && start.elapsed() < Duration::from_secs(20) {
            thread::sleep(Duration::from_millis(1));
        }
        inside.fetch_sub(1, Ordering::SeqCst);
        Response::json("2".into())
    };
    within(Limits::default(), answer, |address| {
        thread::scope(|scope| {
            let slow: Vec<_> = (0..3).map(|_| scope.spawn(|| post(address, "/slow", "much").body)).collect();
            while inside.load(Ordering::SeqCst) == 0 {
                thread::sleep(Duration::from_millis(1));
            }
            for _ in 0..20 {
                assert_eq!(post(address, "/x", "quick").body, "1");
                assert_eq!(get(address, "/health", "").body, "0");
            }
            assert!(slow.iter().all(|asking| !asking.is_finished()));
            go_on.store(true, Ordering::SeqCst);
            assert!(slow.into_iter().all(|asking| asking.join().unwrap() == "2"));
        });
    });
    assert_eq!(most.into_inner(), 1, "one after the other");
}

#[test]
fn a_request_that_panics_ends_alone() {
    let answer = |body: &[u8]| if body == b"bad" { panic!("on purpose") } else { Response::json("1".into()) };
    within(Limits::default(), answer, |address| {
        let told = post(address, "/x", "bad");
        assert_eq!(told.status, 500);
        assert!(told.body.contains("server_error") && !told.body.contains("on purpose"));
        assert_eq!(post(address, "/x", "good").body, "1");
    });
}

#[test]
fn answers_that_nobody_takes_are_few_and_not_for_ever() {
    let limits = Limits { under_way: 1 << 20, answer: Duration::from_millis(700), ..Limits::default() };
    let answer = |body: &[u8]| Response::json("x".repeat(if body == b"much" { 64 << 20 } else { 2 }));
    within(limits, answer, |address| {
        let json = "Content-Type: application/json\r\n";
        let mut lazy = connect(address);
        lazy.write_all(&request(address, "POST", "/x", json, "much")).unwrap();
        // The answer has begun, and is not read.
        lazy.peek(&mut [0]).unwrap();
        let told = post(address, "/x", "much");
        assert_eq!((told.status, told.body.contains("overloaded_error")), (503, true));
        thread::sleep(Duration::from_millis(1000));
        let told = post(address, "/x", "little");
        assert_eq!((told.status, told.body.as_str()), (200, "xx"));
        let mut rest = Vec::new();
        // A reset is an end as well.
        let _ = lazy.read_to_end(&mut rest);
        assert!(rest.len() < 64 << 20, "it was cut");
    });
}

#[test]
fn a_body_that_drips_and_a_connection_that_asks_for_ever_are_ended() {
    let limits = Limits { request: Duration::from_millis(400), requests: 3, ..Limits::default() };
    within(
        limits,
        |_| Response::refused(&Refusal::new(404, "x")),
        |address| {
            let head = format!(
                "POST /x HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n"
            );
            let (start, mut slow) = (Instant::now(), connect(address));
            slow.write_all(head.as_bytes()).unwrap();
            let mut writer = slow.try_clone().unwrap();
            let drip = thread::spawn(move || {
                while writer.write_all(b" ").is_ok() && start.elapsed().as_secs() < 5 {
                    thread::sleep(Duration::from_millis(50));
                }
            });
            assert_eq!(reply(&mut BufReader::new(&mut slow)).unwrap().status, 408);
            assert!((0.4..3.0).contains(&start.elapsed().as_secs_f64()));
            drop(slow);
            drip.join().unwrap();
            let mut stream = connect(address);
            stream.write_all(&request(address, "GET", "/health", "", "").repeat(5)).unwrap();
            let mut reader = BufReader::new(stream);
            let ends: Vec<bool> = std::iter::from_fn(|| reply(&mut reader))
                .map(|r| r.head.contains("Connection: close"))
                .collect();
            assert_eq!(ends, [false, false, true]);
        },
    );
}
