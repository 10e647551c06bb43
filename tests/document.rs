//! Documents from HTML, JSON lines, tables, files and folders.

use samebits::rag::document::{Document, Format, Ignore, Reading, Value, read, read_file};
use std::fs;
use std::path::{Path, PathBuf};

fn html(text: &str) -> Document {
    Reading::default().parse(Format::Html, "p", text).unwrap().remove(0)
}

#[test]
fn html_is_what_a_reader_sees() {
    let cases = [
        ("", ""),
        ("plain & simple", "plain & simple"),
        ("<p>a<p>b</p>c", "a\n\nb\n\nc"),
        ("<P CLASS='x>y' id=\"a>b\">quoted > sign</P>", "quoted > sign"),
        ("one<br>two<br/>three", "one\ntwo\nthree"),
        ("<ul><li>x</li><li>y <b>bold</b>er</li></ul>", "x\ny bolder"),
        ("a <!-- b <p> --> c", "a c"),
        ("<script>if (a<b) '</p>'</script>x<style>p{}</style>y", "xy"),
        ("<ScRiPt>x</sCrIpT >y", "y"),
        ("<script>never closed", ""),
        ("<table><tr><th>h<th>i<tr><td>1</td><td>2</td></table>after", "h\ti\n1\t2\n\nafter"),
        ("<pre>\n  two\n   three</pre>  end", "  two\n   three\n\nend"),
        (
            "&lt;tag&gt; &amp;amp; &eacute;&#233;&#xE9; &mdash; &nosuch; &#0; &#xD800; &",
            "<tag> &amp; ééé — &nosuch; \u{fffd} \u{fffd} &",
        ),
        ("1 < 2 and <3", "1 < 2 and <3"),
        ("<a href=x/>link</a> <img src=y>", "link"),
        ("<!DOCTYPE html><html><head><title> A\n b </title></head><body>c", "c"),
        ("<", "<"),
        ("<a", ""),
        ("x<div\ny\n>z</div>", "x\nz"),
        ("日本<b>語</b>&nbsp;文", "日本語\u{a0}文"),
    ];
    for (page, text) in cases {
        assert_eq!(html(page).text, text, "{page}");
    }
    let page = html("<title>One &amp;\n two</title>x<title>Later</title>");
    assert_eq!(page.metadata["title"], Value::Text("One & two".into()));
    assert_eq!(page.metadata["format"], Value::Text("html".into()));
}

#[test]
fn html_takes_time_in_proportion() {
    // None of these may take a time that grows with the square.
    for piece in
        ["<", "<p", "<!--", "</", "<script>", "&", "&#", "\"", "<a b=\"", "<title>", "</script", "<pre>"]
    {
        let page = piece.repeat(400_000 / piece.len());
        assert!(html(&page).text.len() <= page.len());
    }
}

#[test]
fn json_lines() {
    let read = |text: &str| Reading::default().parse(Format::JsonLines, "f.jsonl", text);
    let documents = read(
        "{\"_id\":7,\"title\":\"T\",\"text\":\"x\",\"year\":1999,\"ok\":true,\"list\":[1]}\n\n{\"text\":\"y\"}\n",
    );
    let documents = documents.unwrap();
    assert_eq!((documents[0].id.as_str(), documents[0].text.as_str()), ("7", "T\nx"));
    assert_eq!(documents[0].metadata["year"], Value::Number(1999.0));
    assert_eq!(documents[0].metadata["ok"], Value::Flag(true));
    assert!(!documents[0].metadata.contains_key("list"));
    assert_eq!(documents[1].id, "f.jsonl:3");
    for (text, message) in [
        ("{\"text\":\"x\"}\n{", "line 2"),
        ("[1]", "line 1: expected an object"),
        ("{\"body\":\"x\"}", "line 1: no \"text\", which is to be text"),
    ] {
        assert!(read(text).unwrap_err().to_string().contains(message), "{text}");
    }
    let named = Reading { fields: vec!["body".into(), "note".into()], id: Some("key".into()) };
    let parse = |text: &str| named.parse(Format::JsonLines, "f", text);
    let document = parse("{\"key\":\"k\",\"body\":\"b\",\"note\":\"\",\"id\":3}").unwrap().remove(0);
    assert_eq!((document.id.as_str(), document.text.as_str()), ("k", "b"));
    assert_eq!(document.metadata["id"], Value::Number(3.0));
    assert!(parse("{\"body\":\"b\",\"note\":\"\"}").unwrap_err().to_string().contains("no \"key\""));
    assert!(parse("{\"key\":1,\"note\":\"\"}").unwrap_err().to_string().contains("no \"body\""));
}

#[test]
fn tables() {
    let read = |text: &str| Reading::default().parse(Format::Csv, "t.csv", text);
    let text = "\u{feff}id,text,n\r\n1,\"a, \"\"b\"\"\r\nc\",2.5\r\n\r\n2,,007\n3,last,";
    let documents = read(text).unwrap();
    let found: Vec<_> = documents.iter().map(|d| (d.id.as_str(), d.text.as_str())).collect();
    assert_eq!(found, [("1", "a, \"b\"\r\nc"), ("2", ""), ("3", "last")]);
    assert_eq!(documents[0].metadata["n"], Value::Number(2.5));
    assert_eq!(documents[1].metadata["n"], Value::Text("007".into()), "not a number to be counted with");
    assert!(read("").unwrap().is_empty() && read("a,b\n").unwrap().is_empty());
    // Without a column that is called text, all of them are.
    assert_eq!(read("a,b\nx,y\n").unwrap()[0].text, "x\ny");
    assert_eq!(Reading::default().parse(Format::Tsv, "t", "text\tb\nx, y\tz\n").unwrap()[0].text, "x, y");
    for (text, message) in [
        ("a,b\n1\n", "line 2: 1 fields under 2 headings"),
        ("a,b\n\"x\ny\",2\n1,2,3\n", "line 4: 3 fields"),
        ("a\n\"x", "line 2: a quote without its end"),
        ("a\n\"x\"y\n", "line 2: text behind a closing quote"),
    ] {
        assert!(read(text).unwrap_err().to_string().contains(message), "{text:?}: {:?}", read(text));
    }
}

#[test]
fn what_is_ignored() {
    let ignore = Ignore::of(
        "# comment\n*.log\n/top\nbuild/\ndocs/*.txt\n**/deep/x\na/**/z\n!keep.log\n[a-c]?.bin\n\\#literal\n",
    );
    let cases = [
        ("x.log", true),
        ("in/side/x.log", true),
        ("keep.log", false),
        ("top", true),
        ("in/top", false),
        ("build/", true),
        ("in/build/", true),
        ("build", false),
        ("docs/a.txt", true),
        ("docs/in/a.txt", false),
        ("in/docs/a.txt", false),
        ("deep/x", true),
        ("q/deep/x", true),
        ("a/z", true),
        ("a/b/c/z", true),
        ("a/b/c/y", false),
        ("b1.bin", true),
        ("d1.bin", false),
        ("#literal", true),
        ("# comment", false),
    ];
    for (path, ignored) in cases {
        let (path, folder) = path.strip_suffix('/').map_or((path, false), |path| (path, true));
        assert_eq!(ignore.has(path, folder), ignored, "{path}");
    }
    // A pattern made to go back again and again.
    let hostile = Ignore::of(&"*a".repeat(60));
    assert!(!hostile.has(&"a".repeat(10_000).replace('a', "ab"), false));
    let hostile = Ignore::of(&"**/".repeat(60));
    assert!(hostile.has(&"a/".repeat(2_000), true) || !hostile.has("a", false));
}

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("samebits-document-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

#[test]
fn folders() {
    let top = folder("folders");
    let write = |path: &str, bytes: &[u8]| {
        let path = top.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    write("b.md", b"# B\n");
    write("a.txt", b"A");
    write(".hidden", b"no");
    write("sub/.gitignore", b"/no.txt\n!a.log\n");
    write("sub/no.txt", b"no");
    write("sub/in/no.txt", b"yes");
    write("sub/a.log", b"yes");
    write("b.log", b"no");
    write("binary.bin", &[0xff, 0, 1]);
    write("bad.csv", b"a,b\n1\n");
    write("target/x.txt", b"no");
    let ignore = Ignore::of("*.log\ntarget/\n");
    let mut seen = 0;
    let found = read(&[&top], &Reading::default(), &ignore, &mut |_| seen += 1).unwrap();
    let names = |path: &str| Path::new(path).strip_prefix(&top).unwrap().display().to_string();
    let documents: Vec<_> = found.documents.iter().map(|d| names(&d.id)).collect();
    assert_eq!(documents, ["a.txt", "b.md", "sub/a.log", "sub/in/no.txt"]);
    let unreadable: Vec<_> = found.unreadable.iter().map(ToString::to_string).collect();
    assert!(unreadable[0].ends_with("bad.csv: line 2: 1 fields under 2 headings"), "{unreadable:?}");
    assert!(unreadable[1].ends_with("binary.bin: not text in UTF-8"), "{unreadable:?}");
    assert_eq!(seen, 6);
    assert_eq!(found.documents[1].metadata["format"], Value::Text("markdown".into()));
    let missing =
        read(&[&top.join("none")], &Reading::default(), &ignore, &mut |_| {}).unwrap_err().to_string();
    assert!(missing.contains("none: cannot open"), "{missing}");
    assert!(read_file(&top.join("binary.bin"), &Reading::default()).is_err());
    fs::remove_dir_all(&top).unwrap();
}
