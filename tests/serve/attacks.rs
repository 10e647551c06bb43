//! Those who mean no good: malformed, slow, many, foreign, large.

use crate::client::{Program, connect, get, post, reply, request, send};
use crate::common::Random;
use crate::common::program::{assert_fails, run};
use crate::parser::mutate;
use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const SEARCH: &str = r#"{"query":"moon","k":2}"#;

#[test]
fn ten_thousand_malformed_requests() {
    let server = Program::lexical("serve_malformed", &["--threads", "1"]);
    let address = server.address;
    let json = "Content-Type: application/json\r\n";
    let seeds = [
        request(
            address,
            "POST",
            "/search",
            json,
            r#"{"query":"moon \ud83d\ude00","k":3,"mode":"lexical","filter":"year < 1900"}"#,
        ),
        request(address, "POST", "/ask", json, r#"{"question":"what pulls?","quotes":2,"trace":true}"#),
        request(address, "POST", "/v1/embeddings", json, r#"{"input":["a","b"],"encoding_format":"base64"}"#),
        format!(
            "POST /search HTTP/1.1\r\nHost: {address}\r\n{json}Transfer-Encoding: chunked\r\n\r\n9\r\n{{\"query\":\r\n8\r\n\"bread\"}}\r\n0\r\n\r\n"
        )
        .into_bytes(),
        request(address, "GET", "/info", "Accept: */*\r\nAuthorization: Bearer x\r\n", ""),
    ];
    assert_eq!(post(address, "/search", SEARCH).status, 200);
    let before = server.resident();
    let (most, answered) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for worker in 0..4 {
            let (seeds, most, answered, server) = (&seeds, &most, &answered, &server);
            scope.spawn(move || {
                let mut random = Random::new(worker);
                for i in 0..2_500 {
                    let mut bytes = seeds[random.below(seeds.len())].clone();
                    for _ in 0..1 + random.below(5) {
                        mutate(&mut bytes, &mut random);
                    }
                    if let Some(reply) = send(address, &bytes) {
                        answered.fetch_add(1, Ordering::Relaxed);
                        let known = [
                            100, 200, 400, 401, 403, 404, 405, 408, 411, 413, 414, 415, 417, 431, 501, 503,
                            505,
                        ];
                        assert!(known.contains(&reply.status), "{reply:?}");
                    }
                    if i % 100 == 0 {
                        most.fetch_max(server.resident(), Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let (most, answered) = (most.into_inner(), answered.into_inner());
    println!("{answered} of 10,000 answered; resident {before} KiB before, {most} KiB at most");
    assert!(most < before + (8 << 10), "{before} KiB before, {most} KiB at most");
    assert!(answered > 5_000, "{answered} answers");
    assert_eq!(post(address, "/search", SEARCH).status, 200);
}

#[test]
fn a_slow_client_is_cut_and_nobody_waits_for_it() {
    let server = Program::lexical("serve_slow", &[]);
    let address = server.address;
    let (start, mut slow) = (Instant::now(), connect(address));
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let mut writer = slow.try_clone().unwrap();
        let ended = &ended;
        scope.spawn(move || {
            for byte in request(address, "GET", "/health", "", "") {
                if ended.load(Ordering::Relaxed) || writer.write_all(&[byte]).is_err() {
                    return;
                }
                thread::sleep(Duration::from_secs(1));
            }
        });
        let asked = Instant::now();
        assert_eq!(post(address, "/search", SEARCH).status, 200);
        assert!(asked.elapsed() < Duration::from_secs(5));
        let told = reply(&mut BufReader::new(&mut slow)).expect("it is told why");
        ended.store(true, Ordering::Relaxed);
        assert_eq!(told.status, 408);
        assert!(told.head.contains("Connection: close"));
    });
    let seconds = start.elapsed().as_secs_f64();
    assert!((9.0..15.0).contains(&seconds), "cut after {seconds} s");
}

#[test]
fn a_full_server_says_so_and_recovers() {
    let server = Program::lexical("serve_many", &[]);
    let address = server.address;
    let held: Vec<TcpStream> = (0..64).map(|_| connect(address)).collect();
    // One that has asked, and may again, holds its place like the others.
    (&held[0]).write_all(&request(address, "GET", "/health", "", "")).unwrap();
    assert_eq!(reply(&mut BufReader::new(&held[0])).unwrap().status, 200);
    let told = get(address, "/health", "");
    assert_eq!(told.status, 503);
    assert!(told.head.contains("Retry-After: 1"), "{}", told.head);
    drop(held);
    let start = Instant::now();
    while get(address, "/health", "").status != 200 {
        assert!(start.elapsed() < Duration::from_secs(5), "places are not given back");
        thread::sleep(Duration::from_millis(20));
    }
    // Those who only wait lose their places by themselves.
    let held: Vec<TcpStream> = (0..64).map(|_| connect(address)).collect();
    thread::sleep(Duration::from_millis(6500));
    assert_eq!(get(address, "/health", "").status, 200);
    drop(held);
}

#[test]
fn other_sites_get_nothing() {
    let server = Program::lexical("serve_foreign", &[]);
    let address = server.address;
    let port = address.port();
    let ask = |host: &str, more: &str| {
        let head =
            format!("POST /search HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n{more}");
        send(address, format!("{head}Content-Length: {}\r\n\r\n{SEARCH}", SEARCH.len()).as_bytes()).unwrap()
    };
    let own = format!("127.0.0.1:{port}");
    for host in
        [own.clone(), format!("localhost:{port}"), format!("LocalHost:{port}"), format!("[::1]:{port}")]
    {
        assert_eq!(ask(&host, "").status, 200, "{host}");
        assert_eq!(
            ask(&host, &format!("Origin: http://{host}\r\nSec-Fetch-Site: same-origin\r\n")).status,
            200,
            "{host}"
        );
    }
    for host in [
        format!("evil.example:{port}"),
        "127.0.0.1".into(),
        "localhost".into(),
        "127.0.0.1:1".into(),
        format!("127.0.0.1.evil.example:{port}"),
        format!("localhost.:{port}"),
        format!("10.0.0.1:{port}"),
        format!("0.0.0.0:{port}"),
        format!("127.1:{port}"),
        format!("::1:{port}"),
        format!("user@127.0.0.1:{port}"),
        format!("127.0.0.1:0{port}"),
        String::new(),
    ] {
        let told = ask(&host, "");
        assert_eq!(told.status, 403, "{host}");
        assert!(told.body.contains("permission_error"), "{}", told.body);
    }
    for header in [
        "Origin: http://evil.example".into(),
        "Origin: null".into(),
        "Origin:".into(),
        format!("Origin: https://{own}"),
        format!("Origin: http://localhost:{port}"),
        format!("Origin: http://{own}.evil.example"),
        format!("Origin: http://{own}\r\nOrigin: http://evil.example"),
        "Sec-Fetch-Site: cross-site".into(),
        "Sec-Fetch-Site: same-site".into(),
    ] {
        assert_eq!(ask(&own, &format!("{header}\r\n")).status, 403, "{header}");
    }
    // A page's script may ask before it asks; no answer has a word of CORS.
    let preflight = "Origin: http://evil.example\r\nAccess-Control-Request-Method: POST\r\n";
    let told = send(address, &request(address, "OPTIONS", "/search", preflight, "")).unwrap();
    assert_eq!(told.status, 403);
    for reply in [told, get(address, "/", ""), ask(&own, "")] {
        assert!(!reply.head.to_lowercase().contains("access-control"), "{}", reply.head);
        for header in [
            "Content-Security-Policy: default-src 'none'",
            "nosniff",
            "no-referrer",
            "no-store",
            "X-Frame-Options: DENY",
        ] {
            assert!(reply.head.contains(header), "{header}: {}", reply.head);
        }
    }
    // What a form can send is no JSON.
    for kind in ["", "Content-Type: text/plain\r\n", "Content-Type: application/x-www-form-urlencoded\r\n"] {
        assert_eq!(
            send(address, &request(address, "POST", "/search", kind, SEARCH)).unwrap().status,
            415,
            "{kind}"
        );
    }
}

#[test]
fn limits_have_their_answers() {
    let server = Program::lexical("serve_limits", &[]);
    let address = server.address;
    let json = "Content-Type: application/json\r\n";
    let status = |method: &str, path: &str, more: &str, body: &str| {
        send(address, &request(address, method, path, more, body)).unwrap().status
    };
    assert_eq!(status("POST", "/search", json, ""), 411);
    assert_eq!(status("POST", "/search", &format!("{json}Content-Encoding: gzip\r\n"), SEARCH), 415);
    assert_eq!(status("POST", "/search", &format!("{json}Expect: much\r\n"), SEARCH), 417);
    assert_eq!(status("POST", "/search", json, &" ".repeat(1 << 20)), 400);
    // Larger than it takes: told, though the client has much to send still.
    assert_eq!(status("POST", "/search", json, &" ".repeat((1 << 20) + 1)), 413);
    assert_eq!(status("POST", "/search", json, &" ".repeat(3 << 20)), 413);
    assert_eq!(status("GET", &format!("/{}", "a".repeat(9000)), "", ""), 414);
    assert_eq!(status("GET", "/", &format!("X: {}\r\n", "a".repeat(17000)), ""), 431);
    assert_eq!(status("GET", "/nothing", "", ""), 404);
    assert_eq!(status("GET", "/../etc/passwd", "", ""), 404);
    assert_eq!(status("PUT", "/health", "", ""), 405);
    assert_eq!(status("DELETE", "/search", "", ""), 405);
    let head = send(address, &request(address, "GET", "/search", "", "")).unwrap().head;
    assert!(head.contains("\r\nAllow: POST\r\n"), "{head}");
    assert_eq!(status("GET", "/health", "", "a body that nobody needs"), 200);
    assert_eq!(get(address, "/health", "").body, r#"{"status":"ok"}"#);
}

#[test]
fn one_connection_serves_many_requests() {
    let server = Program::lexical("serve_keep", &[]);
    let address = server.address;
    let mut stream = connect(address);
    // All at once: answers come in order.
    let mut bytes = Vec::new();
    for _ in 0..20 {
        bytes.extend(request(address, "GET", "/health", "", ""));
        bytes.extend(request(address, "POST", "/search", "Content-Type: application/json\r\n", SEARCH));
    }
    bytes.extend(request(address, "HEAD", "/health", "Connection: close\r\n", ""));
    stream.write_all(&bytes).unwrap();
    let mut reader = BufReader::new(stream);
    for i in 0..20 {
        assert_eq!(reply(&mut reader).unwrap().body, r#"{"status":"ok"}"#, "{i}");
        assert!(reply(&mut reader).unwrap().body.contains("hits"), "{i}");
    }
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("Content-Length: 15") && rest.ends_with("\r\n\r\n"), "HEAD has no body: {rest}");
    // A client that asks whether it may send.
    let mut stream = connect(address);
    let head = format!(
        "POST /search HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nExpect: 100-continue\r\n"
    );
    stream.write_all(format!("{head}Content-Length: {}\r\n\r\n", SEARCH.len()).as_bytes()).unwrap();
    let mut reader = BufReader::new(stream);
    assert_eq!(reply(&mut reader).unwrap().status, 100);
    reader.get_mut().write_all(SEARCH.as_bytes()).unwrap();
    let whole = reply(&mut reader).unwrap();
    assert_eq!(whole.status, 200);
    // One that sends as it goes, twice on one connection; what it hears is the same.
    let mut stream = connect(address);
    let (one, two) = SEARCH.split_at(7);
    let head = head.replace("Expect: 100-continue", "Transfer-Encoding: chunked");
    let body = format!("{:x}\r\n{one}\r\n{:x}\r\n{two}\r\n0\r\n\r\n", one.len(), two.len());
    stream.write_all(format!("{head}\r\n{body}{head}\r\n{body}").as_bytes()).unwrap();
    let mut reader = BufReader::new(stream);
    for _ in 0..2 {
        let told = reply(&mut reader).unwrap();
        assert_eq!((told.status, &told.body), (200, &whole.body));
    }
}

#[test]
fn the_token_is_wanted() {
    let token = "correct-horse";
    let server = Program::lexical("serve_token", &["--token", token]);
    let address = server.address;
    for path in ["/", "/health"] {
        assert_eq!(get(address, path, "").status, 200, "{path}");
    }
    let told = get(address, "/info", "");
    assert_eq!(told.status, 401);
    assert!(told.head.contains("WWW-Authenticate: Bearer") && told.body.contains("authentication_error"));
    assert_eq!(post(address, "/search", SEARCH).status, 401);
    assert_eq!(get(address, "/nothing", "").status, 401);
    for (header, status) in [
        ("Bearer correct-horse", 200),
        ("bearer  correct-horse", 200),
        ("Bearer correct-hors", 401),
        ("Bearer correct-horsE", 401),
        ("Bearer correct-horsecorrect-horse", 401),
        ("Bearer ", 401),
        ("Bearer", 401),
        ("correct-horse", 401),
        ("Basic correct-horse", 401),
        ("Bearer correct-horse\r\nAuthorization: Bearer x", 401),
    ] {
        assert_eq!(get(address, "/info", &format!("Authorization: {header}\r\n")).status, status, "{header}");
    }
}

#[test]
fn nobody_is_let_in_by_mistake() {
    let folder = crate::common::program::Folder::new("serve_mistakes");
    let file = &crate::client::index(&folder, &["--lexical"]);
    for host in ["0.0.0.0", "::", "192.0.2.1"] {
        assert_fails(&run(["serve", file, "--port", "0", "--host", host]), 2, "needs --token");
    }
    assert_fails(&run(["serve", file, "--host", "example.org"]), 2, "no address");
    assert_fails(&run(["serve", file, "--port", "65536"]), 2, "--port");
    assert_fails(&run(["serve", file, "--token", ""]), 2, "a token is ASCII");
    assert_fails(&run(["serve", file, "--token", "a b"]), 2, "a token is ASCII");
    let secret = folder.path("token");
    let path = secret.to_str().unwrap();
    assert_fails(&run(["serve", file, "--token-file", path]), 1, "token: cannot");
    std::fs::write(&secret, "\n").unwrap();
    assert_fails(&run(["serve", file, "--token-file", path]), 2, "a token is ASCII");
    assert_fails(&run(["serve", file, "--token", "x", "--token-file", path]), 2, "exclude each other");
    assert_fails(&run(["serve", "/nowhere.sbi"]), 1, "/nowhere.sbi");
    let taken = Program::serve(folder, file, &["--host", "0.0.0.0", "--token", "secret"]);
    let port = taken.address.port().to_string();
    assert_fails(&run(["serve", file, "--port", &port]), 1, "cannot listen");
}

#[test]
#[cfg(target_os = "linux")]
fn ctrl_c_ends_it() {
    let mut server = Program::lexical("serve_end", &[]);
    let _held = connect(server.address);
    let kill = std::process::Command::new("kill").args(["-INT", &server.child.id().to_string()]).status();
    assert!(kill.unwrap().success());
    assert_eq!(server.child.wait().unwrap().code(), Some(130));
}
