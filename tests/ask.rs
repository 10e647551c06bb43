//! From a question to a cited answer: every stage, and how often the answer is quoted.

mod common;

use samebits::io::json;
use samebits::rag::context::ContextAssembler;
use samebits::rag::document::{Format, Reading};
use samebits::rag::highlight::Terms;
use samebits::rag::index::{Aids, Builder, Mode, Settings};
use samebits::rag::pipeline::{Answer, RagPipeline};
use samebits::rag::verify::{marks, quotations, support};
use samebits::rag::{Analyzer, Document, Index, Retriever, StaticEmbedder};
use samebits::run::Run;
use samebits::{Cpu, Error};
use std::path::Path;

const TEXTS: [(&str, &str); 3] = [
    (
        "bread.md",
        "# Bread\n\nBread is made of flour, water and salt.\n\n## Baking\n\nIt is baked for forty minutes.\n",
    ),
    (
        "sea.md",
        "# The sea\n\nThe moon pulls the sea. “It comes twice a day,” said the captain.\n\nThe harbour is of granite.\n",
    ),
    ("stars.md", "# Stars\n\nThe north star stands still. Sailors steer by it at night.\n"),
];

fn index() -> Index {
    let mut builder = Builder::new(Settings::default());
    for (id, text) in TEXTS {
        let document = Reading::default().parse(Format::Markdown, id, text).unwrap().remove(0);
        builder.add(document, Aids::default()).unwrap();
    }
    Index::from_bytes(&builder.to_bytes()).unwrap()
}

fn words(text: &str) -> usize {
    text.split_whitespace().count()
}

fn run() -> Run<'static> {
    Run::here(Cpu::detect())
}

/// Every quote with a source stands where it says.
fn assert_true_quotes(answer: &Answer, texts: &dyn Fn(&str) -> String) {
    for quote in &answer.quotes {
        let Some(source) = &quote.source else { continue };
        let text = texts(&source.document);
        let there = &text[source.bytes.clone()];
        let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(plain(there), plain(&quote.text));
        let line = |at: usize| text[..at].matches('\n').count() + 1;
        assert_eq!(source.lines, (line(source.bytes.start), line(source.bytes.end)));
        let citation = answer.context.citations.iter().find(|c| c.number == source.citation).unwrap();
        assert!(citation.bytes.start <= source.bytes.start && source.bytes.end <= citation.bytes.end);
    }
}

fn text_of(id: &str) -> String {
    TEXTS.iter().find(|(name, _)| *name == id).unwrap().1.into()
}

#[test]
fn without_a_model_the_answer_is_quoted() {
    let index = index();
    let pipeline =
        RagPipeline::new(Retriever::new(&index, None).unwrap(), ContextAssembler::new(500, &words))
            .with_quotes(2);
    let answer = pipeline.ask(&run(), "How long is bread baked?").unwrap();
    assert!(answer.quotes[0].text.contains("baked for forty minutes"), "{answer:?}");
    assert_eq!(answer.support, 1.0);
    assert!(answer.unknown_marks.is_empty());
    assert_true_quotes(&answer, &text_of);
    let names: Vec<&str> = answer.trace.iter().map(|stage| stage.name).collect();
    assert_eq!(names, ["retrieve", "assemble", "extract"]);
    assert!(answer.trace.iter().all(|stage| stage.seconds >= 0.0 && !stage.items.is_empty()));
    let nothing = pipeline.ask(&run(), "xylophone").unwrap();
    assert!(nothing.quotes.is_empty() && nothing.context.citations.is_empty());
}

#[test]
fn a_models_quotations_and_marks_are_checked() {
    let index = index();
    let retriever = Retriever::new(&index, None).unwrap();
    let llm = |prompt: &str| {
        assert!(prompt.contains("What pulls the sea?") && prompt.contains("The moon pulls the sea."));
        Ok("“The moon pulls the sea” [1], and “the sun pulls it even more” [7].".to_owned())
    };
    let pipeline = RagPipeline::new(retriever, ContextAssembler::new(500, &words)).with_llm(llm);
    let answer = pipeline.ask(&run(), "What pulls the sea?").unwrap();
    assert_eq!(answer.unknown_marks, [7]);
    let sources: Vec<bool> = answer.quotes.iter().map(|quote| quote.source.is_some()).collect();
    assert_eq!(sources, [true, false]);
    assert!(answer.support > 0.0 && answer.support < 1.0);
    assert_true_quotes(&answer, &text_of);
    let names: Vec<&str> = answer.trace.iter().map(|stage| stage.name).collect();
    assert_eq!(names, ["retrieve", "assemble", "generate", "verify"]);
    // What fails is said.
    let broken = RagPipeline::new(retriever, ContextAssembler::new(500, &words))
        .with_llm(|_| Err(Error::invalid("the model is asleep")));
    assert!(broken.ask(&run(), "sea").unwrap_err().to_string().contains("asleep"));
}

#[test]
fn hooks_change_what_is_searched_and_in_which_order() {
    let index = index();
    let retriever = Retriever::new(&index, None).unwrap();
    let pipeline = RagPipeline::new(retriever, ContextAssembler::new(500, &words))
        .with_rewrite(|question| Ok(question.replace("loaf", "bread")));
    let answer = pipeline.ask(&run(), "what is a loaf made of").unwrap();
    assert_eq!(answer.question, "what is a bread made of");
    assert_eq!(answer.context.citations[0].document, "bread.md");
    assert!(answer.context.prompt.contains("what is a loaf made of"));
    // A hard budget: less is cited, never more than fits.
    for budget in [40, 60, 100] {
        let pipeline = RagPipeline::new(retriever, ContextAssembler::new(budget, &words));
        let context = pipeline.context(&run(), "the sea at night and bread").unwrap();
        assert!(words(&context.prompt) <= budget && context.tokens <= budget);
    }
}

#[test]
fn a_retriever_takes_the_model_of_its_index_alone() {
    let index = index();
    let embedder = samebits::rag::HashingEmbedder::new(Analyzer::english(), 32).unwrap();
    assert!(Retriever::new(&index, Some(&embedder)).is_err());
    let retriever = Retriever::new(&index, None).unwrap();
    assert!(retriever.with_mode(Mode::Dense).retrieve(&run(), "sea").is_err());
    assert_eq!(retriever.with_k(1).retrieve(&run(), "sea").unwrap().len(), 1);
}

#[test]
fn the_book_inside_is_that_of_the_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut book: std::collections::BTreeMap<&str, &str> = samebits::assets::book().collect();
    assert_eq!(
        book.remove("README.md"),
        Some(std::fs::read_to_string(root.join("README.md")).unwrap().as_str())
    );
    let mut folders = vec![root.join("kernels/src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let header = text.lines().map_while(|line| line.strip_prefix("//!"));
            let header: String =
                header.map(|line| format!("{}\n", line.strip_prefix(' ').unwrap_or(line))).collect();
            let name = path.strip_prefix(root).unwrap().to_str().unwrap();
            let hint = "python3 src/assets/book/make.py";
            assert_eq!(book.remove(name).unwrap_or_default(), header, "{name} has changed: {hint}");
        }
    }
    assert!(book.is_empty(), "files that are gone: {book:?}");
}

#[test]
fn quotations_are_looked_for_as_a_reader_would() {
    let source = "He said:\n  “Nothing is  lost,\nmy friend.” Then he left; it was Größe itself.";
    let cases = [
        ("\"Nothing is lost, my friend\"", true),
        ("“nothing is lost, my friend”", false),
        ("He “said: \n'Nothing is”", false),
        ("\"it was Größe itself.\"", true),
        ("\"it was Grosse itself.\"", false),
        ("\"Nothing is lost, dear friend\"", false),
    ];
    for (answer, there) in cases {
        let found = quotations(answer, &["another text", source]);
        assert_eq!(found.len(), 1, "{answer}");
        assert_eq!(found[0].place.is_some(), there, "{answer}");
        if let Some((i, bytes)) = &found[0].place {
            assert_eq!(*i, 1);
            let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
            assert_eq!(plain(&source[bytes.clone()]), plain(&found[0].text));
        }
    }
    assert!(quotations("no quotes, \"short\", “never closed", &[source]).is_empty());
    assert_eq!(marks("As [2] and [1, 3] say; [x] and [2] again, [4"), [2, 1, 3]);
    assert_eq!(support("then he left", &[source], 3), 1.0);
    assert_eq!(support("then he stayed", &[source], 3), 0.0);
    assert_eq!(support("left", &[source], 3), 0.0);
    assert_eq!(support("Then he left, and he said: nothing", &[source], 2), 4.0 / 6.0);
}

#[test]
fn snippets_have_most_of_the_words() {
    let terms = Terms::of(Analyzer::english(), "granite harbour walls");
    let text = "It was late. The ship came in. The harbour has walls of granite. Nobody was there.";
    let part = terms.snippet(text, 40);
    assert_eq!(&text[part], "The harbour has walls of granite.");
    for size in 0..90 {
        let part = terms.snippet(text, size);
        assert!(part.len() <= size && text.get(part).is_some(), "{size}");
    }
    assert_eq!(terms.snippet("", 10), 0..0);
    let long = "é".repeat(100);
    assert!(terms.snippet(&long, 15).len() <= 15);
}

#[test]
fn the_span_that_holds_the_answer_is_quoted() {
    let Some(data) = std::env::var_os("SAMEBITS_DATA") else {
        println!("skipped: SAMEBITS_DATA is not set");
        return;
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let novels = Path::new(&data).join("text/gutenberg");
    let mut builder = Builder::new(Settings::default());
    for (folder, name) in [
        (novels.as_path(), "frankenstein.txt"),
        (&novels, "pride-and-prejudice.txt"),
        (&novels, "war-and-peace.txt"),
        (root, "README.md"),
    ] {
        let text = std::fs::read_to_string(folder.join(name)).unwrap();
        let documents = Reading::default().parse(Format::of_name(name), name, &text).unwrap();
        documents
            .into_iter()
            .for_each(|document: Document| _ = builder.add(document, Aids::default()).unwrap());
    }
    let embedder = StaticEmbedder::builtin().unwrap();
    builder.embed(&run(), &embedder, &mut |_, _| Ok(())).unwrap();
    let index = Index::from_bytes(&builder.to_bytes()).unwrap();
    let retriever = Retriever::new(&index, Some(&embedder)).unwrap();
    let one = |_: &str| 1;
    let pipeline = RagPipeline::new(retriever, ContextAssembler::new(1, &one)).with_quotes(5);
    let questions = std::fs::read_to_string(root.join("tests/data/questions.jsonl")).unwrap();
    let (mut quoted, mut first, mut all) = (0, 0, 0);
    for line in questions.lines() {
        let question = json::parse(line.as_bytes()).unwrap();
        let field = |key: &str| question.get(key).unwrap().as_str().unwrap().into_owned();
        let (document, span) = (index.find(&field("document")).unwrap().unwrap(), field("answer"));
        let text = index.text(document).unwrap();
        let start = text.find(&span).unwrap_or_else(|| panic!("{span:?} is not in {}", field("document")));
        let span = start..start + span.len();
        let answer = pipeline.ask(&run(), &field("question")).unwrap();
        assert_true_quotes(&answer, &|id| index.text(index.find(id).unwrap().unwrap()).unwrap().into());
        let holds = |quote: &samebits::rag::pipeline::Quote| {
            quote.source.as_ref().is_some_and(|source| {
                let (start, end) = (source.bytes.start.max(span.start), source.bytes.end.min(span.end));
                // Nearly all of it: a sentence's last mark may lie outside.
                source.document == field("document") && 10 * end.saturating_sub(start) >= 9 * span.len()
            })
        };
        all += 1;
        quoted += usize::from(answer.quotes.iter().any(holds));
        first += usize::from(answer.quotes.first().is_some_and(holds));
    }
    println!("{quoted} of {all} answers are quoted, {first} of them first");
    assert_eq!(all, 100);
    assert!(quoted >= 60, "{quoted} of {all} answers are quoted");
}
