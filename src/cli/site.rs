//! `samebits site`: the heads of the kernels' files, their loops and what was measured, as pages.

mod browser;
mod html;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::explain::kernels::KERNELS;
use super::{Args, Command, Console, Failure, Flag, Takes};
use crate::assets::{self, listing};
use crate::bench::record::Record;
use crate::cli::bench::rate;
use crate::io::atomic;
use crate::{Error, Result, Tier};
use html::{escaped, page, prose};

pub const COMMAND: Command = Command {
    name: "site",
    summary: "the kernels as a book of static pages: mathematics, law, pictures, loops, figures",
    operands: "OUT_DIR",
    arity: (1, 1),
    flags: &[
        Flag {
            name: "record",
            takes: Takes::One("FILE"),
            help: "figures of `samebits bench --record` or --json",
        },
        Flag {
            name: "picture",
            takes: Takes::Many("FILE"),
            help: "an SVG for the first page: a roofline, a ladder",
        },
    ],
    notes: "\
A page for each file of the kernels, of what stands at its head; behind it, for the kernels of `samebits
explain`, the inner loop of each instruction set and, with --record, what was measured. browser.html runs
kernels as WebAssembly where it is read: the golden hashes, and the scalar tier's speed beside simd128's.
Light and dark, nothing from elsewhere, no other scripts. OUT_DIR must not be there, or be empty.

Examples:
  samebits site public
  samebits bench --svg roofline.svg --record
  cargo run --release -p samebits-kernels --example ladder -- gemm --svg gemm.svg
  samebits site public --picture roofline.svg --picture gemm.svg --record benches/record/amd-epyc/2026.json
",
    run,
};

fn run(args: &Args, console: &mut Console) -> Result<(), Failure> {
    let out = PathBuf::from(&args.operands()[0]);
    let record = args.path("record").map(|path| Record::open(&path)).transpose()?;
    let pictures: Vec<PathBuf> = args.all("picture").map(PathBuf::from).collect();
    let book: Vec<(&str, &str)> = assets::book().filter(|(path, _)| path.starts_with(KERNELS_AT)).collect();
    let site = Site { book: &book, record: record.as_ref(), pictures: &pictures };
    atomic::folder(&out, |folder| site.write(folder))?;
    writeln!(console, "{}: {} pages; begin with index.html", out.display(), book.len() + 2)?;
    Ok(())
}

/// Where the files lie that have a page.
const KERNELS_AT: &str = "kernels/src/";

/// What the pages are made of.
struct Site<'s> {
    /// Paths and heads.
    book: &'s [(&'static str, &'static str)],
    record: Option<&'s Record>,
    pictures: &'s [PathBuf],
}

impl Site<'_> {
    fn write(&self, folder: &Path) -> Result<()> {
        let put = |name: &str, bytes: &[u8]| {
            let path = folder.join(name);
            fs::write(&path, bytes).map_err(|e| Error::io(&path, "write", e))
        };
        let mut figures = Vec::new();
        for (i, path) in self.pictures.iter().enumerate() {
            let text = fs::read_to_string(path).map_err(|e| Error::io(path, "read", e))?;
            if !text.trim_start().starts_with("<svg") || text.contains("<script") {
                return Err(Error::invalid("expected an SVG without scripts").in_file(path.display()));
            }
            let name = format!("picture-{}.svg", i + 1);
            put(&name, text.as_bytes())?;
            figures.push((name, path.file_stem().unwrap_or_default().to_string_lossy().into_owned()));
        }
        put("index.html", self.index(&figures).as_bytes())?;
        put(browser::NAME, browser::page().as_bytes())?;
        for (path, text) in self.book {
            put(&name_of(path), self.chapter(path, text).as_bytes())?;
        }
        Ok(())
    }

    /// The law, the list, the pictures.
    fn index(&self, figures: &[(String, String)]) -> String {
        let mut body = String::new();
        if let Some((_, law)) = self.book.iter().find(|(path, _)| *path == "kernels/src/lib.rs") {
            body += &prose(law);
        }
        for (file, name) in figures {
            let name = escaped(name);
            body += &format!(
                "<figure><img src=\"{file}\" alt=\"{name}\"><figcaption>{name}</figcaption></figure>\n"
            );
        }
        let there = format!("<p><a href=\"{}\">The kernels in this browser</a>: ", browser::NAME);
        body += &(there + "the same bits, and what SIMD gives.</p>\n");
        body += "<h2>Pages</h2>\n<ul class=\"pages\">\n";
        for (path, text) in self.book {
            let file = path.strip_prefix(KERNELS_AT).unwrap_or(path);
            let title = prose_line(text);
            body += &format!("<li><a href=\"{}\"><code>{file}</code></a> {title}</li>\n", name_of(path));
        }
        body += "</ul>\n";
        page("samebits: the kernels", &body)
    }

    /// A file's head, its loops, its figures.
    fn chapter(&self, path: &str, text: &str) -> String {
        let file = path.strip_prefix(KERNELS_AT).unwrap_or(path);
        let mut body =
            format!("<p><a href=\"index.html\">all pages</a> · <code>{}</code></p>\n", escaped(path));
        body += &prose(text);
        for kernel in KERNELS.iter().filter(|kernel| kernel.files[0] == file) {
            body += &self.figures(kernel.bench);
            for tier in Tier::ALL.into_iter().rev() {
                body += &loop_of(kernel.name, kernel.about, tier);
            }
        }
        page(&format!("samebits: {file}"), &body)
    }

    /// What the record says of a row of the bench.
    fn figures(&self, bench: &str) -> String {
        let points = self.record.iter().flat_map(|record| &record.points).filter(|p| p.key[0] == bench);
        let row = |p: &crate::bench::record::Point| {
            let [_, shape, tier, threads, cache] = &p.key;
            let (rate, share) = (rate(p.rate), 100.0 * p.of_peak);
            format!(
                "<tr><td>{}</td><td>{}</td><td>{threads}, {}</td><td>{rate} {}</td><td>{share:.0} %</td></tr>\n",
                escaped(shape),
                escaped(tier),
                escaped(cache),
                escaped(&p.unit)
            )
        };
        let rows: String = points.map(row).collect();
        let Some(record) = self.record.filter(|_| !rows.is_empty()) else { return String::new() };
        let on = escaped(&record.processors.join(", "));
        let head = "<tr><th>shape</th><th>tier</th><th>threads, caches</th><th>median</th><th>of the ceiling</th></tr>";
        format!("<h2>Measured</h2>\n<p>{on}</p>\n<table>\n{head}\n{rows}</table>\n")
    }
}

/// The loop of a kernel on a tier, folded up.
fn loop_of(kernel: &str, about: &str, tier: Tier) -> String {
    let Some(listing) = listing::of(kernel, tier) else { return String::new() };
    let (mut rows, mut last) = (String::new(), "");
    for one in listing.instructions() {
        let source = if one.place == last { "" } else { one.source };
        last = one.place;
        let [text, place, source] = [one.text, one.place, source].map(escaped);
        rows +=
            &format!("<tr><td><code>{text}</code></td><td>{place}</td><td><code>{source}</code></td></tr>\n");
    }
    let compiler = escaped(listing.compiler());
    format!(
        "<details><summary>The loop on {tier}</summary>\n<p>{} Compiled by {compiler}.</p>\n<table class=\"loop\">\n{rows}</table>\n</details>\n",
        escaped(about)
    )
}

/// `kernels/src/gemm/tile.rs` is `gemm-tile.html`.
fn name_of(path: &str) -> String {
    let file = path.strip_prefix(KERNELS_AT).unwrap_or(path);
    format!("{}.html", file.trim_end_matches(".rs").replace('/', "-"))
}

/// The first line of a head, in HTML.
fn prose_line(text: &str) -> String {
    html::inline(text.lines().next().unwrap_or_default().trim_start_matches(['#', ' ']))
}
