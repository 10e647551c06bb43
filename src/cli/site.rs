//! `samebits site`: the heads of the kernels' files, their loops and what was measured, as pages.

mod browser;
mod html;
mod links;
mod measured;
mod pictures;
mod rows;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::explain::kernels::KERNELS;
use super::{Args, Command, Console, Failure, Flag, Takes};
use crate::assets::listing;
use crate::bench::record::Record;
use crate::io::atomic;
use crate::{Error, Result, Tier};
use html::{escaped, page, prose};
use links::{files, page_name};
use pictures::Picture;

pub const COMMAND: Command = Command {
    name: "site",
    summary: "the kernels as a book of static pages: mathematics, law, pictures, loops, figures",
    operands: "OUT_DIR",
    arity: (1, 1),
    flags: &[
        Flag {
            name: "record",
            takes: Takes::One("FILE"),
            help: "figures of `samebits bench --record` or --json, not those inside",
        },
        Flag { name: "picture", takes: Takes::Many("FILE"), help: "an SVG more for the first page" },
    ],
    notes: "\
A page for each file of the kernels, of what stands at its head; behind it what was measured of the kernels of
that file, as a table and under the roofline, the ladder that builds the kernel up, and, for the kernels of
`samebits explain`, the inner loop of each instruction set. Nothing is measured now: figures are those of a
record committed with the sources (benches/record), unless --record names yours; each says processor, date and
commit. browser.html runs kernels as WebAssembly where it is read: the golden hashes, and the scalar tier's
speed beside simd128's.
Light and dark, nothing from elsewhere, no other scripts. OUT_DIR must not be there, or be empty.

Examples:
  samebits site public
  samebits bench --record
  samebits site public --record benches/record/amd-epyc/2026-11-29.json
  samebits bench --svg roofline.svg
  samebits site public --picture roofline.svg
",
    run,
};

fn run(args: &Args, console: &mut Console) -> Result<(), Failure> {
    let out = PathBuf::from(&args.operands()[0]);
    let record = match args.path("record") {
        Some(path) => Record::open(&path)?,
        None => measured::inside()?,
    };
    let given = args
        .all("picture")
        .enumerate()
        .map(|(i, path)| Picture::open(Path::new(path), format!("picture-{}.svg", i + 1)));
    let site = Site { record, given: given.collect::<Result<_>>()? };
    atomic::folder(&out, |folder| site.write(folder))?;
    writeln!(console, "{}: {} pages; begin with index.html", out.display(), files().count() + 2)?;
    Ok(())
}

/// What the pages are made of, besides what is inside.
struct Site {
    record: Record,
    /// A reader's pictures.
    given: Vec<Picture>,
}

impl Site {
    fn write(&self, folder: &Path) -> Result<()> {
        let put = |name: &str, text: &str| {
            let path = folder.join(name);
            fs::write(&path, text).map_err(|e| Error::io(&path, "write", e))
        };
        let (index, pictures) = self.index();
        put("index.html", &index)?;
        put(browser::NAME, &browser::page())?;
        pictures.iter().try_for_each(|picture| put(&picture.file, &picture.svg))?;
        for (file, text) in files() {
            let (html, pictures) = self.chapter(file, text);
            put(&page_name(file), &html)?;
            pictures.iter().try_for_each(|picture| put(&picture.file, &picture.svg))?;
        }
        Ok(())
    }

    /// The law, the pictures, the list; and the pictures' files.
    fn index(&self) -> (String, Vec<Picture>) {
        let mut body = format!(
            "<h1>The kernels of samebits</h1>\n<p><a href=\"#reading-order\">Reading order</a> · <a href=\"#speed\">Speed</a> · \
             <a href=\"#pages\">All pages</a> · <a href=\"{}\">The kernels in this browser</a>: the same bits, and what SIMD gives.</p>\n",
            browser::NAME
        );
        if let Some((file, law)) = files().find(|(file, _)| *file == "lib.rs") {
            body += &prose(law, file);
        }
        body += "<h2 id=\"speed\">Speed</h2>\n";
        let mut pictures = Vec::new();
        let of_record = measured::overview(&self.record);
        for picture in of_record.into_iter().chain(self.given.iter().cloned()) {
            body += &picture.element();
            pictures.push(picture);
        }
        for (picture, explained) in measured::all_ladders() {
            body += &picture.element();
            body += &format!(
                "<p>Its page: <a href=\"{}\"><code>{explained}</code></a></p>\n",
                page_name(explained)
            );
            pictures.push(picture);
        }
        body += "<h2 id=\"pages\">All pages</h2>\n<ul class=\"pages\">\n";
        for (file, text) in files() {
            let title = prose_line(text, file);
            body += &format!("<li><a href=\"{}\"><code>{file}</code></a> {title}</li>\n", page_name(file));
        }
        body += "</ul>\n";
        (page("samebits: the kernels", &body), pictures)
    }

    /// A file's head, its figures, its ladder, its loops; and the files of its pictures. (A ladder's is the first page's.)
    fn chapter(&self, file: &str, text: &str) -> (String, Vec<Picture>) {
        let mut body = format!(
            "<p><a href=\"index.html\">All pages</a> · <code>kernels/src/{}</code></p>\n",
            escaped(file)
        );
        if !text.starts_with('#') {
            body += &format!("<h1><code>{}</code></h1>\n", escaped(file));
        }
        body += &prose(text, file);
        let mut pictures = Vec::new();
        let points = measured::points(&self.record, file);
        if !points.is_empty() {
            body += "<h2 id=\"measured\">Measured</h2>\n";
            body += &measured::tables(&self.record, &points);
            if let Some(picture) = measured::roofline(&self.record, &points, file) {
                body += &picture.element();
                pictures.push(picture);
            }
        }
        for (i, picture) in measured::ladders(file).enumerate() {
            if i == 0 {
                body += "<h2 id=\"ladder\">Ladder</h2>\n";
            }
            body += &picture.element();
        }
        for kernel in KERNELS.iter().filter(|kernel| kernel.files[0] == file) {
            for tier in Tier::ALL.into_iter().rev() {
                body += &loop_of(kernel.name, kernel.about, tier);
            }
        }
        (page(&format!("samebits: {file}"), &body), pictures)
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

/// The first line of a head, in HTML.
fn prose_line(text: &str, file: &str) -> String {
    html::inline(text.lines().next().unwrap_or_default().trim_start_matches(['#', ' ']), file)
}
