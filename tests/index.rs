//! The index: one file of documents, found by words and by meaning, whatever happened to it before.

mod common;

use common::Random;
use common::collection::{built, built_with, document, documents, embedder, run, search, settings, text};
use samebits::rag::document::Value;
use samebits::rag::index::{Aids, Builder, Chunking, Count, Found, Mode, Query, Settings};
use samebits::rag::vectors::VectorType;
use samebits::rag::{Analyzer, Bm25, Bm25Options, Document, EmbeddingModel, Filter, HashingEmbedder, Index};
use samebits::run::Run;

/// Ids, places and scores to the last bit.
fn shown(index: &Index, found: &[Found]) -> Vec<(String, usize, u64)> {
    let one = |found: &Found| {
        let passage = index.excerpt(found.chunk).unwrap();
        (passage.document.to_owned(), passage.bytes.start, found.score.to_bits())
    };
    found.iter().map(one).collect()
}

#[test]
fn any_history_gives_the_bytes_of_a_fresh_build() {
    let mut random = Random::new(5);
    let embedder = &embedder();
    let stored = |vectors, graph| Settings { vectors, graph, ..settings() };
    for (settings, embedder) in [
        (settings(), None),
        (settings(), Some(embedder)),
        (stored(VectorType::Int8, true), Some(embedder)),
        (stored(VectorType::Nf4, false), Some(embedder)),
        (stored(VectorType::F16, true), Some(embedder)),
    ] {
        let mut builder = Builder::new(settings.clone());
        let mut now: std::collections::BTreeMap<String, Document> = Default::default();
        for step in 0..30 {
            for _ in 0..random.below(6) {
                let id = random.below(25);
                if random.below(3) == 0 {
                    let id = format!("notes/{id}.md");
                    assert_eq!(builder.remove(&id), now.remove(&id).is_some());
                } else {
                    let document = document(&mut random, id);
                    builder.add(document.clone(), Aids::default()).unwrap();
                    now.insert(document.id.clone(), document);
                }
            }
            if let Some(embedder) = embedder {
                builder.embed(&run(), embedder, &mut |_, _| Ok(())).unwrap();
            }
            builder.link(&run()).unwrap();
            let bytes = builder.to_bytes();
            let fresh: Vec<Document> = now.values().rev().cloned().collect();
            assert!(bytes == built_with(settings.clone(), &fresh, embedder).to_bytes(), "step {step}");
            // What a file holds can be changed on.
            builder = Builder::from_index(&Index::from_bytes(&bytes).unwrap()).unwrap();
            builder.link(&run()).unwrap();
            assert!(bytes == builder.to_bytes(), "step {step}: read again");
        }
    }
}

#[test]
fn shards_join_to_the_bytes_of_the_whole() {
    let all = documents(40, 31);
    let embedder = &embedder();
    let stored = |vectors, graph| Settings { vectors, graph, ..settings() };
    for (settings, embedder) in [
        (settings(), None),
        (settings(), Some(embedder)),
        (stored(VectorType::Int8, true), Some(embedder)),
        (stored(VectorType::Nf4, false), Some(embedder)),
        (stored(VectorType::F16, false), Some(embedder)),
    ] {
        let whole = built_with(settings.clone(), &all, embedder).to_bytes();
        let mut random = Random::new(8);
        for parts in [1, 2, 5] {
            let mut shards = vec![Vec::new(); parts];
            for document in &all {
                // Now and then in two of them.
                for _ in 0..1 + random.below(2) {
                    shards[random.below(parts)].push(document.clone());
                }
            }
            let mut builder = Builder::new(Settings::default());
            for shard in &shards {
                let shard = built_with(settings.clone(), shard, embedder).to_bytes();
                builder.absorb(&Index::from_bytes(&shard).unwrap()).unwrap();
            }
            builder.link(&run()).unwrap();
            assert!(builder.to_bytes() == whole, "{parts} parts");
        }
    }
    let mut builder = built(&all, None);
    let before = builder.to_bytes();
    let other = Index::from_bytes(&built(&all, Some(embedder)).to_bytes()).unwrap();
    builder.absorb(&other).unwrap_err();
    let mut changed = all[..1].to_vec();
    changed[0].text.push_str("more");
    let other = Index::from_bytes(&built(&changed, None).to_bytes()).unwrap();
    assert!(builder.absorb(&other).unwrap_err().to_string().contains("another document is called"));
    assert!(builder.to_bytes() == before);
}

#[test]
fn words_score_as_bm25_in_memory() {
    let documents = documents(40, 1);
    let index = Index::from_bytes(&built(&documents, None).to_bytes()).unwrap();
    let mut bm25 = Bm25::new(Bm25Options::default(), Analyzer::english());
    for chunk in 0..index.chunks() {
        bm25.add(&format!("{chunk:06}"), index.excerpt(chunk).unwrap().text());
    }
    let mut random = Random::new(2);
    for _ in 0..50 {
        let words = 1 + random.below(6);
        let question = text(&mut random, words);
        let hits = bm25.search(&question, 7);
        let found = index.lexical(&question, 7, None).unwrap();
        let (chunks, scores): (Vec<_>, Vec<_>) =
            found.iter().map(|f| (format!("{:06}", f.chunk), f.score.to_bits())).unzip();
        assert_eq!(chunks, hits.iter().map(|hit| hit.id.clone()).collect::<Vec<_>>());
        assert_eq!(scores, hits.iter().map(|hit| hit.score.to_bits()).collect::<Vec<_>>());
    }
}

#[test]
fn passages_are_where_they_say() {
    let documents = documents(30, 3);
    let index = Index::from_bytes(&built(&documents, None).to_bytes()).unwrap();
    assert_eq!(index.documents(), 30);
    for chunk in 0..index.chunks() {
        let passage = index.excerpt(chunk).unwrap();
        let source = documents.iter().find(|d| d.id == passage.document).unwrap();
        assert_eq!(passage.source, source.text);
        let before = &source.text[..passage.bytes.start];
        assert_eq!(passage.start.line, before.matches('\n').count() + 1);
        let column = before.rsplit('\n').next().unwrap().chars().count() + 1;
        assert_eq!(passage.start.column, column);
        assert!(passage.text().chars().count() <= 120);
        let d = index.document_of(chunk).unwrap();
        assert_eq!(index.find(passage.document).unwrap(), Some(d));
        assert_eq!(index.metadata(d).unwrap(), source.metadata);
        assert!(index.chunks_of(d).contains(&chunk));
    }
    assert_eq!(index.find("notes/77.md").unwrap(), None);
}

#[test]
fn headings_are_searched_with_what_stands_below_them() {
    let text =
        "# Tides\n\n## Moon\n\nIt pulls on the water. It pulls every day.\n\n## Sun\n\nIt pulls less.\n";
    let mut document = Document::new("a.md", text);
    document.metadata.insert("format".into(), Value::Text("markdown".into()));
    document.metadata.insert("path".into(), Value::Text("a.md".into()));
    let chunking = Chunking { size: 24, overlap: 0, ..settings().chunking };
    let mut builder = Builder::new(Settings { chunking, ..settings() });
    builder.add(document, Aids::default()).unwrap();
    let index = Index::from_bytes(&builder.to_bytes()).unwrap();
    let found = index.lexical("moon", 9, None).unwrap();
    let excerpts = found.iter().map(|found| index.excerpt(found.chunk).unwrap());
    let below = excerpts.filter(|e| e.headings == "Tides › Moon" && !e.text().contains("Moon"));
    assert!(below.count() > 0, "{found:?}");
}

#[test]
fn filters_come_first_and_k_come_while_k_exist() {
    let documents = documents(40, 7);
    let index = Index::from_bytes(&built(&documents, Some(&embedder())).to_bytes()).unwrap();
    let filters = [
        "year >= 2010",
        "open = true and year < 2015",
        "author in (river, stone) or not has author",
        "id ^= notes/1",
        "id = notes/3.md",
        "author = nobody",
    ];
    for text in filters {
        let filter = Filter::parse(text).unwrap();
        let counts = |f: &Found| {
            let d = index.document_of(f.chunk).unwrap();
            filter.matches(index.id(d).unwrap(), &index.metadata(d).unwrap())
        };
        for mode in [Mode::Dense, Mode::Lexical] {
            let all = search(&index, "old captain of the sea", usize::MAX, mode, None).unwrap();
            let wanted: Vec<Found> = all.iter().filter(|f| counts(f)).copied().collect();
            for k in [0, 1, 5, 1000] {
                let found = search(&index, "old captain of the sea", k, mode, Some(&filter)).unwrap();
                assert_eq!(found, wanted[..k.min(wanted.len())], "{text}, {mode:?}, k = {k}");
            }
        }
    }
}

#[test]
fn both_rankings_are_fused() {
    let index = Index::from_bytes(&built(&documents(40, 9), Some(&embedder())).to_bytes()).unwrap();
    let found = search(&index, "silver map in the tower", 10, Mode::Hybrid, None).unwrap();
    assert_eq!(found.len(), 10);
    assert!(found.is_sorted_by(|a, b| a.score >= b.score) && found[0].score <= 1.0 && found[9].score > 0.0);
    let lexical = search(&index, "silver map in the tower", 100, Mode::Lexical, None).unwrap();
    let dense = search(&index, "silver map in the tower", 100, Mode::Dense, None).unwrap();
    let score = |all: &[Found], chunk| all.iter().find(|f| f.chunk == chunk).map(|f| f.score);
    for found in found {
        assert_eq!(found.lexical, score(&lexical, found.chunk));
        assert_eq!(found.dense, score(&dense, found.chunk));
    }
}

/// Of what either ranking has among its first hundred, both scores count, each from 0 to 1.
#[test]
fn what_one_ranking_just_missed_has_its_score_all_the_same() {
    let index = Index::from_bytes(&built(&documents(300, 14), Some(&embedder())).to_bytes()).unwrap();
    let text = "lantern glass captain";
    let [lexical, dense] =
        [Mode::Lexical, Mode::Dense].map(|mode| search(&index, text, 10_000, mode, None).unwrap());
    assert!(lexical.len() > 150 && dense.len() > lexical.len());
    let mut chunks: Vec<usize> = lexical[..100].iter().chain(&dense[..100]).map(|f| f.chunk).collect();
    chunks.sort_unstable();
    chunks.dedup();
    assert!(chunks.len() > 110);
    let scores = |all: &[Found]| -> Vec<f64> {
        let of = |chunk: &usize| all.iter().find(|f| f.chunk == *chunk).map_or(0.0, |f| f.score);
        let scores: Vec<f64> = chunks.iter().map(of).collect();
        let (least, most) = scores.iter().fold((f64::MAX, f64::MIN), |(a, b), &x| (a.min(x), b.max(x)));
        scores.into_iter().map(|x| (x - least) / (most - least)).collect()
    };
    let (words, meaning) = (scores(&lexical), scores(&dense));
    let mut expected: Vec<(f64, usize)> =
        (0..chunks.len()).map(|i| (words[i] / 2.0 + meaning[i] / 2.0, chunks[i])).collect();
    expected.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let found = search(&index, text, 100, Mode::Hybrid, None).unwrap();
    for (found, (score, chunk)) in found.iter().zip(&expected) {
        assert!((found.score - score).abs() < 1e-12, "chunk {chunk}: {} {score}", found.score);
        assert_eq!(found.chunk, *chunk);
        let known = |all: &[Found]| all.iter().find(|f| f.chunk == *chunk).map(|f| f.score);
        assert_eq!((found.lexical, found.dense), (known(&lexical), known(&dense)));
    }
}

#[test]
fn the_same_bits_for_any_threads_and_tier() {
    let index = Index::from_bytes(&built(&documents(40, 11), Some(&embedder())).to_bytes()).unwrap();
    let expected = shown(&index, &search(&index, "winter bread and salt", 20, Mode::Hybrid, None).unwrap());
    for cpu in common::cpus() {
        for threads in [1, 2, 3, 7] {
            let pool = samebits::pool::Pool::new(threads);
            let run = Run::on(cpu, &pool);
            let mut builder = Builder::new(settings());
            for document in documents(40, 11) {
                builder.add(document, Aids::default()).unwrap();
            }
            builder.embed(&run, &embedder(), &mut |_, _| Ok(())).unwrap();
            let index = Index::from_bytes(&builder.to_bytes()).unwrap();
            let text = "winter bread and salt";
            let vector = embedder().embed_query(&run, text).unwrap();
            let query =
                Query { text, vector: Some(&vector), k: 20, mode: Mode::Hybrid, filter: None, weight: 1.0 };
            assert_eq!(shown(&index, &index.search(&run, &query).unwrap()), expected, "{threads} on {cpu:?}");
        }
    }
}

#[test]
fn nothing_and_little() {
    for n in [0, 1] {
        let index = Index::from_bytes(&built(&documents(n, 1), Some(&embedder())).to_bytes()).unwrap();
        for mode in [Mode::Dense, Mode::Lexical, Mode::Hybrid] {
            for text in ["", "sea", "? !"] {
                let found = search(&index, text, 5, mode, None).unwrap();
                assert!(found.iter().all(|found| found.score.is_finite()));
                assert!(found.len() <= index.chunks());
            }
        }
    }
    let empty = built(&[Document::new("empty", ""), Document::new("space", " \n")], Some(&embedder()));
    let index = Index::from_bytes(&empty.to_bytes()).unwrap();
    assert_eq!((index.documents(), index.chunks()), (2, 0));
}

#[test]
fn what_would_spoil_it_is_refused_and_nothing_changes() {
    let mut builder = built(&documents(10, 13), Some(&embedder()));
    let before = builder.to_bytes();
    for id in ["", "a\0b"] {
        builder.add(Document::new(id, "x"), Aids::default()).unwrap_err();
    }
    let other = HashingEmbedder::new(Analyzer::english(), 32).unwrap();
    let error = builder.embed(&run(), &other, &mut |_, _| Ok(())).unwrap_err();
    assert!(error.to_string().contains("the index was made with the model"), "{error}");
    assert!(builder.to_bytes() == before);
    // A model that gives no number: none of its vectors stays.
    let name = embedder().name();
    let broken = samebits::rag::embed::FromFn::from_fn(64, |texts: &[&str]| {
        Ok(texts.iter().map(|text| vec![if text.contains("sea") { f32::NAN } else { 1.0 }; 64]).collect())
    });
    let broken = broken.named(name);
    for text in ["calm", "the sea", "calm"] {
        builder.add(Document::new(format!("z{text}"), text), Aids::default()).unwrap();
    }
    builder.embed(&run(), &broken, &mut |_, _| Ok(())).unwrap_err();
    for id in ["zcalm", "zthe sea"] {
        assert!(builder.remove(id));
    }
    assert!(builder.to_bytes() == before);
    // Chunks without a model.
    let chunking = Chunking { unit: Count::Tokens, ..settings().chunking };
    let mut builder = Builder::new(Settings { chunking, ..settings() });
    builder.add(Document::new("a", "text"), Aids::default()).unwrap_err();
    // Questions of another length, or of an index without vectors.
    let index = Index::from_bytes(&before).unwrap();
    let query =
        Query { text: "sea", vector: Some(&[1.0; 63]), k: 1, mode: Mode::Dense, filter: None, weight: 1.0 };
    index.search(&run(), &query).unwrap_err();
    let index = Index::from_bytes(&built(&documents(3, 1), None).to_bytes()).unwrap();
    index.search(&run(), &Query { vector: Some(&[1.0; 64]), ..query }).unwrap_err();
}

#[test]
fn the_same_id_is_one_document() {
    let mut builder = Builder::new(settings());
    assert!(builder.add(Document::new("a", "first"), Aids::default()).unwrap());
    assert!(builder.add(Document::new("a", "second"), Aids::default()).unwrap());
    assert!(!builder.add(Document::new("a", "second"), Aids::default()).unwrap());
    let index = Index::from_bytes(&builder.to_bytes()).unwrap();
    assert_eq!((index.documents(), index.text(0).unwrap()), (1, "second"));
    assert!(index.lexical("first", 5, None).unwrap().is_empty());
}

#[test]
fn codes_and_graphs_find_what_vectors_find() {
    let documents = documents(400, 37);
    let find = |settings: Settings, text: &str| {
        let index =
            Index::from_bytes(&built_with(settings, &documents, Some(&embedder())).to_bytes()).unwrap();
        assert!(index.chunks() > 1000, "as many as a graph is for");
        let found = search(&index, text, 10, Mode::Dense, None).unwrap();
        found.into_iter().map(|found| found.chunk).collect::<Vec<_>>()
    };
    let exact = find(settings(), "winter song of the old captain");
    for vectors in [VectorType::F16, VectorType::Int8, VectorType::Nf4] {
        for graph in [false, true] {
            let found = find(Settings { vectors, graph, ..settings() }, "winter song of the old captain");
            let common = found.iter().filter(|chunk| exact.contains(chunk)).count();
            assert!(common >= 9 && found.len() == 10, "{vectors:?}, graph {graph}: {common} of 10");
        }
    }
}
