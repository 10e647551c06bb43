//! `samebits site`: pages that are well formed, stand alone, and hold what the heads of the files say.

mod common;

use common::program::{Folder, assert_fails, out, run};
use samebits::golden;
use std::fs;
use std::path::{Path, PathBuf};

/// Fails unless every element that is opened is closed, in order.
#[track_caller]
fn assert_well_formed(name: &str, html: &str) {
    let mut open = Vec::new();
    for tag in html.split('<').skip(1) {
        let (tag, _) = tag.split_once('>').unwrap_or_else(|| panic!("{name}: {tag}"));
        let word = tag.split_whitespace().next().unwrap();
        match word.strip_prefix('/') {
            Some(closed) => assert_eq!(open.pop(), Some(closed), "{name}: </{closed}>"),
            None if ["meta", "img", "!DOCTYPE"].contains(&word) => {}
            None => open.push(word),
        }
    }
    assert!(open.is_empty(), "{name}: {open:?} is left open");
}

/// Figures, rooflines and ladders of what is inside, without a word from the reader.
fn shows_what_was_measured(to: &Path) {
    let read = |name: &str| fs::read_to_string(to.join(name)).unwrap();
    let index = read("index.html");
    for picture in
        ["roofline.svg", "ladder-gemm.svg", "ladder-softmax.svg", "ladder-attention.svg", "ladder-nf4.svg"]
    {
        assert!(index.contains(&format!("<img src=\"{picture}\"")), "no {picture}");
        let svg = read(picture);
        for word in ["<title>", "<desc>", "prefers-color-scheme", "20"] {
            assert!(svg.contains(word), "{picture}: no {word:?}");
        }
    }
    let record =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/record/intel-r-xeon-r-processor/2026-12-01.json");
    let commit = fs::read_to_string(record).unwrap();
    let commit = commit.split_once("\"git\":\"").unwrap().1.split('"').next().unwrap();
    let said = format!("Intel(R) Xeon(R) Processor, 2026-12-01, commit {commit}, one thread, caches warm");
    for (page, row, ladder) in [
        (
            "gemm-mod",
            "<td>gemm_packed</td><td>512x512x512</td><td>avx512</td><td>168 GFLOP/s</td><td>78 %, fma</td><td>9.17</td>",
            true,
        ),
        ("softmax", "<td>softmax</td><td>64x1024</td><td>avx2</td>", true),
        ("attention-mod", "<td>attention_causal</td>", true),
        ("nf4-product", "<td>nf4_gemv</td>", true),
        ("norm", "<td>rms_norm</td>", false),
    ] {
        let html = read(&format!("{page}.html"));
        assert!(html.contains(&said) && html.contains(row), "{page}: no {row}");
        assert!(html.contains(&format!("<img src=\"roofline-{page}.svg\"")), "{page} has no roofline");
        assert_eq!(html.contains("<img src=\"ladder-"), ladder, "{page}");
        assert!(read(&format!("roofline-{page}.svg")).contains(&said), "{page}");
    }
}

#[test]
fn a_record_of_the_reader_takes_the_place_of_that_inside() {
    let folder = Folder::new("site-record");
    let inside = fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/record/intel-r-xeon-r-processor/2026-12-01.json"),
    );
    // Another machine, and no row of softmax.
    let other = inside
        .unwrap()
        .replace("Intel(R) Xeon(R) Processor", "My <Processor>")
        .replace("softmax\"", "soft\"");
    fs::write(folder.path("2027-01-02.json"), other).unwrap();
    let [at, record] = ["out", "2027-01-02.json"].map(|name| folder.path(name).to_str().unwrap().to_owned());
    let done = run(["site", &at, "--record", &record]);
    assert!(done.status.success(), "{done:?}");
    let read = |name: &str| fs::read_to_string(folder.path("out").join(name)).unwrap();
    let page = read("gemm-mod.html");
    assert!(
        page.contains("My &lt;Processor&gt;, 2027-01-02, commit")
            && !page.contains("Intel(R) Xeon(R) Processor")
    );
    assert!(read("roofline.svg").contains("My &lt;Processor&gt;, 2027-01-02"));
    assert!(
        !read("softmax.html").contains("id=\"measured\"")
            && !folder.path("out").join("roofline-softmax.svg").exists()
    );
}

/// The list of what to read first is kept in the head of the kernels' `lib.rs`; the crate's README has it without links.
#[test]
fn one_reading_order() {
    let list = |text: &str| -> Vec<String> {
        let (_, section) = text.split_once("# Reading order\n").expect("a section of that name");
        let lines = section.lines().skip_while(|line| !line.starts_with("1. "));
        lines.take_while(|line| !line.trim().is_empty()).map(String::from).collect()
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let head = fs::read_to_string(root.join("kernels/src/lib.rs")).unwrap();
    let head: String = head
        .lines()
        .map_while(|line| line.strip_prefix("//!"))
        .fold(String::new(), |text, line| text + line.strip_prefix(' ').unwrap_or(line) + "\n");
    let head = head.replace("[`mod@", "`").replace("[`", "`").replace("`]", "`");
    let readme = fs::read_to_string(root.join("kernels/README.md")).unwrap();
    assert!(list(&head).len() > 9);
    assert_eq!(
        list(&head),
        list(&readme),
        "kernels/README.md has not the list of kernels/src/lib.rs: src/assets/book/make.py"
    );
}

/// A paper that has an address is a link: by its number, and wherever a reference names a year.
#[test]
fn papers_are_linked() {
    // Bridle wrote two that year; the other is a book.
    const NOWHERE: [&str; 2] = ["Bridle 1990", "Software Manual for the Elementary Functions"];
    let mut linked = 0;
    for file in sources() {
        let text = fs::read_to_string(&file).unwrap();
        for line in text.lines().filter(|line| line.trim_start().starts_with("//")) {
            for (kind, place) in [("arXiv:", "https://arxiv.org/abs/"), ("doi:", "https://doi.org/")] {
                for (at, _) in line.match_indices(kind) {
                    let number = line[at + kind.len()..].split([']', ' ', ')', ',', ';']).next().unwrap();
                    let link = format!("[{kind}{number}]({place}{number})");
                    let is_link = line[..at].ends_with('[') && line[at - 1..].starts_with(&link);
                    assert!(is_link, "{}: {kind}{number} is no link", file.display());
                    linked += 1;
                }
            }
        }
    }
    assert!(linked > 40, "{linked} links");
    for (path, head) in samebits::assets::book() {
        for reference in head.split("**Reference.**").skip(1) {
            let text = reference.split("\n\n").next().unwrap().split("**").next().unwrap().replace('\n', " ");
            for paper in text.split(';') {
                let mut numbers = paper.split(|c: char| !c.is_ascii_digit());
                let dated = numbers.any(|n| n.len() == 4 && (n.starts_with("19") || n.starts_with("20")));
                let known = NOWHERE.iter().any(|name| paper.contains(name));
                assert!(
                    !dated || known || paper.contains("](https://"),
                    "{path}: no link to {}",
                    paper.trim()
                );
            }
        }
    }
}

/// Every file of the two crates.
fn sources() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut folders, mut files) = (vec![root.join("kernels/src"), root.join("src")], Vec::new());
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            match path.extension() {
                _ if path.is_dir() => folders.push(path),
                Some(kind) if kind == "rs" => files.push(path),
                _ => {}
            }
        }
    }
    files
}

#[test]
fn every_head_is_a_page() {
    let folder = Folder::new("site");
    fs::write(folder.path("ladder.svg"), "<svg xmlns=\"http://www.w3.org/2000/svg\"></svg>").unwrap();
    let to = folder.path("out");
    let [at, picture] = [&to, &folder.path("ladder.svg")].map(|path| path.to_str().unwrap().to_owned());
    let done = run(["site", &at, "--picture", &picture]);
    assert!(done.status.success() && out(&done).contains("begin with index.html"), "{done:?}");
    let read = |name: &str| fs::read_to_string(to.join(name)).unwrap();
    let mut pages = 0;
    for entry in fs::read_dir(&to).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if !name.ends_with(".html") {
            continue;
        }
        pages += 1;
        let html = read(&name);
        // What a script holds is no markup; one page has one.
        let (markup, script) = html.split_once("<script>").unwrap_or((&html, ""));
        let (script, rest) = script.split_once("</script>").unwrap_or((script, ""));
        assert_eq!(script.is_empty(), name != "browser.html", "{name}");
        let html = format!("{markup}{rest}");
        assert_well_formed(&name, &html);
        // A link to a paper loads nothing, and is the only address on a page.
        let html = html.replace("href=\"https://arxiv.org/abs/", "href=\"paper:");
        let html = html.replace("href=\"https://doi.org/10.", "href=\"doi:");
        assert!(
            ![&html, script].iter().any(|text| text.contains("http") || text.contains("fetch(")),
            "{name}"
        );
        assert!(!html.contains("<script"), "{name} is not alone");
        for link in html.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap()) {
            let paper = link.strip_prefix("paper:").and_then(|number| number.split_once('.'));
            let is_paper =
                paper.is_some_and(|(month, n)| month.len() == 4 && n.len() == 5 && n.parse::<u32>().is_ok());
            let is_doi = link.strip_prefix("doi:").is_some_and(|rest| rest.contains('/'));
            let (file, place) = link.split_once('#').unwrap_or((link, ""));
            let file = if file.is_empty() { &name } else { file };
            assert!(is_paper || is_doi || to.join(file).is_file(), "{name} links to {link}");
            assert!(place.is_empty() || read(file).contains(&format!("id=\"{place}\"")), "{name}: {link}");
        }
        for picture in html.split("<img ").skip(1).map(|rest| rest.split('>').next().unwrap()) {
            let of =
                |key: &str| picture.split_once(&format!("{key}=\"")).unwrap().1.split('"').next().unwrap();
            assert!(to.join(of("src")).is_file() && !of("alt").is_empty(), "{name}: {picture}");
        }
    }
    assert!(pages > 60, "{pages} pages");
    for word in ["Matrix products", "picture-1.svg", "gemm-mod.html", "<figcaption>ladder"] {
        assert!(read("index.html").contains(word), "no {word:?}");
    }
    // What the browser's hashes are held against; the module itself is run by `.ci/run wasm page`.
    let page = read("browser.html");
    for case in golden::cases() {
        let pair = format!("\"{}\":\"{:016x}\"", case.name, case.hash);
        assert!(page.contains(&pair), "no {pair}");
    }
    assert!(page.contains("const MODULE = \"AGFzbQEAAAA"), "no WebAssembly");
    shows_what_was_measured(&to);
    for word in ["Clause 1.", "<pre>", "The loop on avx512", "vfmadd231ps", "The loop on neon"] {
        assert!(read("gemm-mod.html").contains(word), "no {word:?}");
    }
    assert!(
        read("softmax.html").contains("<a href=\"https://arxiv.org/abs/1805.02867\">arXiv:1805.02867</a>")
    );
    assert!(
        read("gemm-mod.html").contains("<a href=\"https://doi.org/10.1145/2764454\">doi:10.1145/2764454</a>")
    );
    assert!(read("gemm-mod.html").contains("<a href=\"gemm-tile.html\"><code>tile.rs</code></a>"));
    assert_fails(&run(["site", &at]), 1, "cannot rename");
    assert_fails(&run(["site", &format!("{at}2"), "--record", "none.json"]), 1, "none.json: cannot open");
    assert!(!folder.path("out2").exists(), "nothing is left of what failed");
}
