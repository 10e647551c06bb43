//! `samebits site`: pages that are well formed, stand alone, and hold what the heads of the files say.

mod common;

use common::program::{Folder, assert_fails, out, run};
use samebits::golden;
use std::fs;

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
        assert!(
            ![&html, script].iter().any(|text| text.contains("http") || text.contains("fetch(")),
            "{name}"
        );
        assert!(!html.contains("<script"), "{name} is not alone");
        for link in html.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap()) {
            let paper = link.strip_prefix("paper:").and_then(|number| number.split_once('.'));
            let is_paper =
                paper.is_some_and(|(month, n)| month.len() == 4 && n.len() == 5 && n.parse::<u32>().is_ok());
            assert!(is_paper || to.join(link).is_file(), "{name} links to {link}");
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
    for word in ["Clause 1.", "<pre>", "The loop on avx512", "vfmadd231ps", "The loop on neon"] {
        assert!(read("gemm-mod.html").contains(word), "no {word:?}");
    }
    assert!(
        read("softmax.html").contains("<a href=\"https://arxiv.org/abs/1805.02867\">arXiv:1805.02867</a>")
    );
    assert_fails(&run(["site", &at]), 1, "cannot rename");
    assert_fails(&run(["site", &format!("{at}2"), "--record", "none.json"]), 1, "none.json: cannot open");
    assert!(!folder.path("out2").exists(), "nothing is left of what failed");
}
