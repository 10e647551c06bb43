//! Chunks: what holds for every strategy and every text, LangChain's own chunks, and Unicode's own break tests.

use samebits::golden::Random;
use samebits::io::json;
use samebits::rag::chunk::{Language, Level, Separator, Threshold};
use samebits::rag::{Chunk, TextChunker, Unit, segment};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// The files of `SAMEBITS_DATA`; where it is not set, says that the test is skipped.
fn data() -> Option<PathBuf> {
    let data = std::env::var_os("SAMEBITS_DATA").map(PathBuf::from);
    if data.is_none() {
        eprintln!("skipped: SAMEBITS_DATA is not set");
    }
    data
}

/// What is hard to cut: joiners, flags, marks, jamo, conjuncts, line ends of all kinds, nothing, and plain words.
const PIECES: &[&str] = &[
    "word",
    "Word",
    "a",
    "I",
    " ",
    " ",
    " ",
    "  ",
    "\n",
    "\n\n",
    "\r\n",
    "\r",
    "\t",
    "\0",
    ". ",
    "! ",
    "? ",
    "Mr. ",
    "e.g. ",
    "3.14",
    "\u{85}",
    "\u{2029}",
    "é",
    "e\u{301}",
    "e\u{301}\u{302}\u{303}",
    "ß",
    "日本",
    "語。",
    "한국",
    "\u{1100}\u{1161}\u{11a8}",
    "क्षि",
    "नमस्ते",
    "👩‍👩‍👧‍👦",
    "🇫🇷",
    "🇫",
    "👍🏽",
    "\u{200d}",
    "\u{200b}",
    "\u{feff}",
    "\u{600}1",
    "كتاب",
    "שלום",
    "# H\n",
    "## K\n",
    "```\n",
    "fn f() {\n",
    "}\n\n",
    "\n    fn g() {}\n",
    "averylongwordwithoutanyendatall",
];

fn text(draw: &mut Random) -> String {
    (0..draw.below(80)).map(|_| PIECES[draw.below(PIECES.len())]).collect()
}

fn vowels(text: &str) -> usize {
    text.chars().filter(|c| "aeiouAEIOU".contains(*c)).count()
}

fn embed(texts: &[&str]) -> samebits::Result<Vec<Vec<f32>>> {
    let count = |t: &str, c: char| t.chars().filter(|&x| x == c).count() as f32;
    Ok(texts.iter().map(|t| "aeo .".chars().map(|c| count(t, c)).collect()).collect())
}

/// Whether the strategy may leave a part of the text out or end a chunk where it likes.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Whole,
    Trimmed,
}

fn check(text: &str, chunks: &[Chunk<'_>], (unit, size, overlap): (Unit<'_>, usize, usize), kind: Kind) {
    let what = || {
        format!(
            "{unit:?} {size} {overlap} of {text:?}: {:?}",
            chunks.iter().map(|c| c.text).collect::<Vec<_>>()
        )
    };
    let mut ends = BTreeSet::from([0]);
    segment::graphemes(text).fold(0, |end, g| {
        ends.insert(end + g.len());
        end + g.len()
    });
    let around =
        |at: usize| &text[*ends.range(..=at).next_back().unwrap()..*ends.range(at..).next().unwrap()];
    let (mut start, mut end) = (None, 0);
    for chunk in chunks {
        let bytes = chunk.span.bytes.clone();
        assert_eq!(&text[bytes.clone()], chunk.text, "{}", what());
        assert!(chunk.context.start <= bytes.start && bytes.end <= chunk.context.end, "{}", what());
        assert!(unit.len(chunk.text) <= size || chunk.text.chars().count() == 1, "too long: {}", what());
        assert!(start < Some(bytes.start) && end < bytes.end, "order: {}", what());
        if kind == Kind::Whole {
            assert!(bytes.start <= end, "a hole before {}: {}", bytes.start, what());
            assert!(overlap > 0 || bytes.start == end, "an overlap: {}", what());
        }
        if bytes.start < end {
            assert!(
                unit.len(&text[bytes.start..end]) <= overlap,
                "overlap {}..{end}: {}",
                bytes.start,
                what()
            );
        }
        for at in [bytes.start, bytes.end] {
            assert!(ends.contains(&at) || unit.len(around(at)) > size, "inside {:?}: {}", around(at), what());
        }
        place(text, chunk);
        (start, end) = (Some(bytes.start), bytes.end);
    }
    assert!(kind != Kind::Whole || end == text.len(), "the end: {}", what());
}

/// Counts anew what the span says.
fn place(text: &str, chunk: &Chunk<'_>) {
    let span = &chunk.span;
    for (at, char, place) in
        [(span.bytes.start, span.chars.start, span.start), (span.bytes.end, span.chars.end, span.end)]
    {
        let before = &text[..at];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        assert_eq!(
            (char, place.line, place.column),
            (before.chars().count(), line, column),
            "{text:?} at {at}"
        );
    }
}

#[test]
fn ten_thousand_texts() {
    let draw = &mut Random::new(1);
    for _ in 0..10_000 {
        let text = text(draw);
        let unit = [Unit::Bytes, Unit::Chars, Unit::Words, Unit::Measured(&vowels)][draw.below(4)];
        let size = 4 + draw.below(40);
        let overlap = if draw.below(2) == 0 { 0 } else { draw.below(size) };
        let make = |strategy: usize| {
            let own =
                vec![Level::Text(vec![Separator::before("w"), Separator::at("\r\n", 1)]), Level::Sentence];
            match strategy {
                0 => TextChunker::fixed(unit, size, overlap),
                1 => TextChunker::recursive(unit, size, overlap),
                2 => TextChunker::markdown(unit, size, overlap),
                3 => TextChunker::code(Language::Rust, unit, size, overlap),
                _ => TextChunker::with_levels(unit, size, overlap, own),
            }
        };
        let chunker = make(draw.below(5)).unwrap();
        check(&text, &chunker.chunk(&text).unwrap(), (unit, size, overlap), Kind::Whole);
        check(&text, &chunker.trimmed().chunk(&text).unwrap(), (unit, size, overlap), Kind::Trimmed);
        let threshold = [
            Threshold::Percentile(80.0),
            Threshold::StandardDeviation(1.0),
            Threshold::Interquartile(0.5),
            Threshold::Gradient(80.0),
        ][draw.below(4)];
        let subjects = TextChunker::semantic(unit, size, &embed, draw.below(2), threshold).unwrap();
        check(&text, &subjects.chunk(&text).unwrap(), (unit, size, 0), Kind::Whole);
        let sentences = TextChunker::sentences(unit, size, draw.below(3)).unwrap();
        check(&text, &sentences.chunk(&text).unwrap(), (unit, size, 0), Kind::Whole);
        let parents = TextChunker::recursive(unit, 3 * size, 0).unwrap();
        let children = TextChunker::recursive(unit, size, 0).unwrap().children_of(parents);
        check(&text, &children.chunk(&text).unwrap(), (unit, size, 0), Kind::Whole);
    }
}

#[test]
fn it_always_ends() {
    let draw = &mut Random::new(2);
    let texts: Vec<String> = (0..40).map(|_| text(draw)).collect();
    for (size, overlap) in (0..=12).flat_map(|size| (0..=14).map(move |overlap| (size, overlap))) {
        for unit in [Unit::Bytes, Unit::Chars, Unit::Words, Unit::Measured(&vowels)] {
            let least = if matches!(unit, Unit::Bytes) { 4 } else { 1 };
            let made = TextChunker::recursive(unit, size, overlap);
            assert_eq!(made.is_ok(), size >= least && overlap < size, "{unit:?} {size} {overlap}");
            let Ok(chunker) = made else { continue };
            for text in &texts {
                check(text, &chunker.chunk(text).unwrap(), (unit, size, overlap), Kind::Whole);
            }
        }
    }
}

#[test]
fn every_script() {
    let Some(data) = data() else { return };
    for name in ["arabic", "english", "hindi", "japanese", "korean", "mandarin", "russian", "source_code"] {
        let text = std::fs::read_to_string(data.join(format!("text/multilingual/{name}.txt"))).unwrap();
        for (size, overlap) in [(100, 0), (333, 50), (2000, 200)] {
            let chunker = TextChunker::recursive(Unit::Chars, size, overlap).unwrap();
            let chunks = chunker.chunk(&text).unwrap();
            check(&text, &chunks, (Unit::Chars, size, overlap), Kind::Whole);
            // No chunk but the last is nearly empty.
            let least = chunks[..chunks.len() - 1].iter().map(|c| c.text.chars().count()).min();
            assert!(least >= Some(size / 4), "{name}: {least:?} of {size}");
        }
    }
}

#[test]
fn langchain_to_the_letter() {
    let file = std::fs::read("tests/data/langchain_chunks.json").unwrap();
    let cases = json::parse(&file).unwrap();
    let texts = |value: json::Value<'_>| -> Vec<String> {
        value.elements().unwrap().map(|text| text.as_str().unwrap().into_owned()).collect()
    };
    let mut count = 0;
    for case in cases.elements().unwrap() {
        let number = |name: &str| case.get(name).unwrap().as_u64().unwrap() as usize;
        let (text, separators) =
            (case.get("text").unwrap().as_str().unwrap(), texts(case.get("separators").unwrap()));
        let separators: Vec<&str> = separators.iter().map(String::as_str).collect();
        let chunker = TextChunker::langchain(&separators, number("size"), number("overlap")).unwrap();
        let chunks = chunker.chunk(&text).unwrap();
        let found: Vec<&str> = chunks.iter().map(|chunk| chunk.text).collect();
        assert_eq!(found, texts(case.get("chunks").unwrap()), "case {count}");
        chunks.iter().for_each(|chunk| place(&text, chunk));
        count += 1;
    }
    assert_eq!(count, 50);
}

/// Unicode's lines: parts in hexadecimal between ÷, characters of a part between ×.
fn unicode_breaks(name: &str, split: impl Fn(&str) -> Vec<String>) {
    let Some(data) = data() else { return };
    let lines = std::fs::read_to_string(data.join("text/unicode-break-tests").join(name)).unwrap();
    let mut count = 0;
    for line in lines.lines().filter_map(|line| line.split('#').next()).filter(|line| line.contains('÷')) {
        let char = |hex: &str| u32::from_str_radix(hex, 16).ok().and_then(char::from_u32).unwrap();
        let part = |part: &str| part.split('×').map(|hex| char(hex.trim())).collect::<String>();
        let parts: Vec<String> = line.split('÷').filter(|p| !p.trim().is_empty()).map(part).collect();
        assert_eq!(split(&parts.concat()), parts, "{line}");
        count += 1;
    }
    assert!(count > 400, "{count} lines");
}

#[test]
fn unicode_graphemes() {
    unicode_breaks("GraphemeBreakTest.txt", |text| segment::graphemes(text).map(String::from).collect());
    // Rule GB9c came after the file's version: a conjunct is one grapheme, but a joiner alone does not make one.
    assert_eq!(segment::graphemes("क्षि").count(), 1);
    assert_eq!(segment::graphemes("क\u{200d}ष").count(), 2);
}

#[test]
fn unicode_words() {
    unicode_breaks("WordBreakTest.txt", |text| segment::words(text).map(String::from).collect());
    assert_eq!(segment::words("don't 3.14 x_1").filter(|w| *w != " ").count(), 3);
}

#[test]
fn unicode_sentences() {
    unicode_breaks("SentenceBreakTest.txt", |text| segment::sentences(text).map(String::from).collect());
    let prose: Vec<&str> =
        segment::prose("J. S. Bach met Dr. Who. See e.g. Fig. 3. I did. Then (he said.) Go!").collect();
    assert_eq!(
        prose,
        ["J. S. Bach met Dr. Who. ", "See e.g. Fig. 3. ", "I did. ", "Then (he said.) ", "Go!"]
    );
}

#[test]
fn markdown_knows_its_headings() {
    let text = "intro\n\n# A #\n\nfirst\n\n```sh\n# no heading\n```\n\n## B\n\nsecond\n\n# C\n\nthird\n";
    let chunks = TextChunker::markdown(Unit::Chars, 24, 0).unwrap().trimmed().chunk(text).unwrap();
    let found: Vec<_> = chunks.iter().map(|c| (c.text.lines().next().unwrap(), c.headings.clone())).collect();
    let path = |line| found.iter().find(|(first, _)| *first == line).map(|(_, path)| path.clone());
    assert_eq!(path("intro"), Some(vec![]), "{found:?}");
    assert_eq!(path("## B"), Some(vec!["A", "B"]), "{found:?}");
    assert_eq!(path("# C"), Some(vec!["C"]), "{found:?}");
}

#[test]
fn subjects_part_where_vectors_do() {
    let text = "Cats purr. Cats sleep. Cats eat. Rust compiles. Rust links.";
    let embed = |texts: &[&str]| -> samebits::Result<Vec<Vec<f32>>> {
        Ok(texts.iter().map(|t| if t.contains("Cats") { vec![1.0, 0.0] } else { vec![0.0, 1.0] }).collect())
    };
    for threshold in
        [Threshold::Percentile(90.0), Threshold::StandardDeviation(1.0), Threshold::Interquartile(1.5)]
    {
        let chunker = TextChunker::semantic(Unit::Chars, 1000, &embed, 0, threshold).unwrap().trimmed();
        let chunks = chunker.chunk(text).unwrap();
        let texts: Vec<&str> = chunks.iter().map(|chunk| chunk.text).collect();
        assert_eq!(
            texts,
            ["Cats purr. Cats sleep. Cats eat.", "Rust compiles. Rust links."],
            "{threshold:?}"
        );
    }
    let broken = |_: &[&str]| -> samebits::Result<Vec<Vec<f32>>> { Ok(vec![]) };
    let chunker = TextChunker::semantic(Unit::Chars, 1000, &broken, 0, Threshold::Percentile(95.0)).unwrap();
    assert!(chunker.chunk(text).unwrap_err().to_string().contains("0 vectors for 5 texts"));
}

#[test]
fn a_sentence_has_its_neighbours() {
    let text = "One. Two. Three. Four.";
    let chunks = TextChunker::sentences(Unit::Words, 10, 1).unwrap().chunk(text).unwrap();
    let found: Vec<_> = chunks.iter().map(|c| (c.text, &text[c.context.clone()])).collect();
    assert_eq!(found[0], ("One. ", "One. Two. "));
    assert_eq!(found[2], ("Three. ", "Two. Three. Four."));
}
