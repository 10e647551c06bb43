//! A collection of little documents, and indexes of it.

use super::Random;
use samebits::rag::document::Value;
use samebits::rag::index::{Aids, Builder, Chunking, Count, Found, Mode, Query, Settings, Strategy};
use samebits::rag::{Analyzer, Document, EmbeddingModel, Filter, HashingEmbedder, Index};
use samebits::run::Run;
use samebits::{Cpu, Result};

pub const WORDS: [&str; 24] = [
    "river", "stone", "lantern", "the", "of", "harbour", "cat", "running", "ships", "salt", "morning",
    "letter", "old", "captain", "sea", "and", "glass", "tower", "bread", "winter", "song", "dust", "map",
    "silver",
];

pub fn text(random: &mut Random, words: usize) -> String {
    let mut text = String::new();
    for i in 0..words {
        text.push_str(WORDS[random.below(WORDS.len())]);
        text.push_str(match random.below(9) {
            0 => ". ",
            1 if i % 3 == 0 => ".\n\n",
            2 => ",\n",
            _ => " ",
        });
    }
    text
}

pub fn document(random: &mut Random, id: usize) -> Document {
    let words = random.below(120);
    let mut document = Document::new(format!("notes/{id}.md"), text(random, words));
    document.metadata.insert("year".into(), Value::Number(2000.0 + random.below(20) as f64));
    document.metadata.insert("open".into(), Value::Flag(random.below(2) == 0));
    if random.below(3) > 0 {
        document.metadata.insert("author".into(), Value::Text(WORDS[random.below(5)].into()));
    }
    document
}

pub fn settings() -> Settings {
    let chunking = Chunking { strategy: Strategy::Auto, unit: Count::Chars, size: 120, overlap: 20 };
    Settings { chunking, ..Settings::default() }
}

pub fn built(documents: &[Document], embedder: Option<&HashingEmbedder>) -> Builder {
    built_with(settings(), documents, embedder)
}

pub fn built_with(settings: Settings, documents: &[Document], embedder: Option<&HashingEmbedder>) -> Builder {
    let mut builder = Builder::new(settings);
    for document in documents {
        builder.add(document.clone(), Aids::default()).unwrap();
    }
    if let Some(embedder) = embedder {
        builder.embed(&run(), embedder, &mut |_, _| Ok(())).unwrap();
    }
    builder.link(&run()).unwrap();
    builder
}

pub fn run() -> Run<'static> {
    Run::here(Cpu::detect())
}

pub fn embedder() -> HashingEmbedder {
    HashingEmbedder::new(Analyzer::english(), 64).unwrap()
}

pub fn documents(n: usize, seed: u64) -> Vec<Document> {
    let mut random = Random::new(seed);
    (0..n).map(|id| document(&mut random, id)).collect()
}

pub fn search(
    index: &Index,
    text: &str,
    k: usize,
    mode: Mode,
    filter: Option<&Filter>,
) -> Result<Vec<Found>> {
    let run = run();
    let vector = embedder().embed_query(&run, text)?;
    index.search(&run, &Query { text, vector: Some(&vector), k, mode, filter, weight: 1.0 })
}
