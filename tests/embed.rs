//! Vectors of texts: tables beside model2vec, encoders with prompts beside sentence-transformers, functions, hashes; the
//! same bits for any company, number of threads and instruction set.

mod common;

use common::program::Folder;
use samebits::io::json::{self, Value};
use samebits::pool::Pool;
use samebits::rag::embed::{Options, open};
use samebits::rag::evaluate;
use samebits::rag::index::{Aids, Builder, Chunking, Mode, Settings, Strategy};
use samebits::rag::{
    Analyzer, Document, EmbeddingModel, HashingEmbedder, Index, Retriever, StaticEmbedder,
    TransformerEmbedder,
};
use samebits::run::Run;
use samebits::{Cpu, Error, Result};
use std::path::{Path, PathBuf};

const BERT: &str = "tests/data/models/bert";
const TABLE: &str = "tests/data/embed/table";

fn run() -> Run<'static> {
    Run::here(Cpu::detect())
}

fn rows(value: Value<'_>) -> Vec<Vec<f32>> {
    let floats = |row: Value<'_>| row.elements().unwrap().map(|x| x.as_f64().unwrap() as f32).collect();
    value.elements().unwrap().map(floats).collect()
}

fn strings(value: Value<'_>) -> Vec<String> {
    value.elements().unwrap().map(|text| text.as_str().unwrap().into_owned()).collect()
}

fn refs(texts: &[String]) -> Vec<&str> {
    texts.iter().map(String::as_str).collect()
}

#[track_caller]
fn assert_close(found: &[f32], expected: &[Vec<f32>], most: f32, what: &str) {
    let expected = expected.concat();
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (x, y)) in found.iter().zip(&expected).enumerate() {
        assert!((x - y).abs() <= most, "{what}: element {i} is {x}, not {y}");
    }
}

/// The folder of a case of tables.json: ours, or one of `SAMEBITS_DATA`.
fn folder_of(name: &str) -> Option<PathBuf> {
    if name == "table" {
        return Some(TABLE.into());
    }
    let data = std::env::var_os("SAMEBITS_DATA").map(PathBuf::from);
    if data.is_none() {
        eprintln!("skipped: {name}: SAMEBITS_DATA is not set");
    }
    data.map(|data| data.join("models/model2vec-fixtures").join(name))
}

#[test]
fn tables_give_what_model2vec_gives() {
    let file = std::fs::read("tests/data/embed/tables.json").unwrap();
    for case in json::parse(&file).unwrap().elements().unwrap() {
        let name = case.get("folder").unwrap().as_str().unwrap().into_owned();
        let Some(folder) = folder_of(&name) else { continue };
        let model = StaticEmbedder::open(&folder, Options::default()).unwrap();
        let texts = strings(case.get("texts").unwrap());
        let found = model.embed(&run(), &refs(&texts)).unwrap();
        // model2vec rounds means of f16 to f16, and sums the others in f32: 700 equal terms are off by some units.
        let most = if name.ends_with("float16") { 1e-3 } else { 4e-6 };
        assert_close(&found, &rows(case.get("vectors").unwrap()), most, &name);
    }
}

#[test]
fn golden_vectors_of_the_fixtures() {
    for (text, file) in [("hello world", "embeddings_short.json"), ("hello ", "embeddings_long.json")] {
        let text = if file.contains("long") { text.repeat(1000) } else { text.into() };
        // A thousand equal terms, which were summed in f32, are off by some more units than one.
        let rounding = if file.contains("long") { 1e-5 } else { 1e-6 };
        for (kind, most) in [("float32", rounding), ("float16", 1e-3), ("int8", 2e-2)] {
            let Some(folder) = folder_of(&format!("test-model-{kind}")) else { return };
            let expected = std::fs::read(folder.join("..").join(file)).unwrap();
            let model = open(&folder, Cpu::detect(), Options::default()).unwrap();
            let found = model.embed(&run(), &[&text]).unwrap();
            assert_close(&found, &rows(json::parse(&expected).unwrap()), most, kind);
        }
    }
}

/// The tiny BERT with prompts, in a folder of its own.
fn prompted(test: &str) -> Folder {
    let folder = Folder::new(test);
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        std::fs::copy(Path::new(BERT).join(name), folder.path(name)).unwrap();
    }
    std::fs::copy("tests/data/embed/prompts.json", folder.path("config_sentence_transformers.json")).unwrap();
    folder
}

#[test]
fn prompts_and_fewer_components_as_in_sentence_transformers() {
    let folder = prompted("prompts");
    let file = std::fs::read("tests/data/embed/prompted.json").unwrap();
    let expected = json::parse(&file).unwrap();
    let texts = strings(expected.get("texts").unwrap());
    for (suffix, options) in
        [("", Options::default()), ("_8", Options { normalize: true, dim: Some(8), ..Options::default() })]
    {
        let model = TransformerEmbedder::open(&folder.0, Cpu::detect(), options).unwrap();
        let found = model.embed(&run(), &refs(&texts)).unwrap();
        assert_close(&found, &rows(expected.get(&format!("passage{suffix}")).unwrap()), 5e-6, "passages");
        let queries = rows(expected.get(&format!("query{suffix}")).unwrap());
        for (text, expected) in texts.iter().zip(queries) {
            let found = model.embed_query(&run(), text).unwrap();
            assert_close(&found, &[expected], 5e-6, text);
        }
    }
    std::fs::create_dir(folder.path("1_Pooling")).unwrap();
    std::fs::write(
        folder.path("1_Pooling/config.json"),
        r#"{"pooling_mode_mean_tokens":true,"include_prompt":false}"#,
    )
    .unwrap();
    let refused = TransformerEmbedder::open(&folder.0, Cpu::detect(), Options::default());
    assert!(refused.err().unwrap().to_string().contains("include_prompt"));
}

/// Texts of all lengths, many more than a batch.
fn texts() -> Vec<String> {
    let mut draw = common::Random::new(11);
    let word = |draw: &mut common::Random| -> String {
        (0..1 + draw.below(6)).map(|_| char::from(b'a' + draw.below(26) as u8)).collect()
    };
    (0..700).map(|i| (0..i % 23).map(|_| word(&mut draw) + " ").collect()).collect()
}

fn models() -> Vec<Box<dyn EmbeddingModel>> {
    let cpu = Cpu::detect();
    vec![
        open(BERT, cpu, Options::default()).unwrap(),
        open(BERT, cpu, Options { normalize: true, dim: Some(7), ..Options::default() }).unwrap(),
        open(TABLE, cpu, Options::default()).unwrap(),
        open(TABLE, cpu, Options { normalize: false, dim: Some(5), ..Options::default() }).unwrap(),
        Box::new(HashingEmbedder::new(Analyzer::english(), 100).unwrap()),
    ]
}

#[test]
fn the_same_bits_in_any_company_on_any_threads_and_tier() {
    let (texts, pool) = (texts(), Pool::new(3));
    for model in models() {
        let expected = model.embed(&run(), &refs(&texts)).unwrap();
        assert_eq!(expected.len(), texts.len() * model.dim(), "{}", model.name());
        assert!(expected.iter().all(|x| x.is_finite()));
        let row = |i: usize| &expected[i * model.dim()..][..model.dim()];
        for i in (0..texts.len()).step_by(29) {
            let alone = model.embed(&run(), &[&texts[i]]).unwrap();
            common::assert_same(&alone, row(i), format!("{}: text {i} alone", model.name()));
        }
        for cpu in common::cpus() {
            // Emulated and scalar tiers take a part.
            let some = if cpu.tier() == Cpu::detect().tier() { &texts[..] } else { &texts[..60] };
            let found = model.embed(&Run::on(cpu, &pool), &refs(some)).unwrap();
            common::assert_same(&found, &expected[..found.len()], format!("{} {cpu:?}", model.name()));
        }
        let mut reversed = refs(&texts);
        reversed.reverse();
        let found = model.embed(&run(), &reversed).unwrap();
        common::assert_same(&found[..model.dim()], row(texts.len() - 1), "the last first");
        assert!(model.embed(&run(), &[]).unwrap().is_empty());
    }
}

#[test]
fn names_tell_models_apart() {
    let mut names: Vec<String> = models().iter().map(|model| model.name()).collect();
    let again: Vec<String> = models().iter().map(|model| model.name()).collect();
    assert_eq!(names, again);
    // Another weight, another table, other prompts, another length: other names.
    let folder = prompted("names");
    names.push(open(&folder.0, Cpu::detect(), Options::default()).unwrap().name());
    std::fs::remove_file(folder.path("config_sentence_transformers.json")).unwrap();
    assert_eq!(open(&folder.0, Cpu::detect(), Options::default()).unwrap().name(), names[0]);
    for (from, name) in [(BERT, "bert"), (TABLE, "table")] {
        let copy = folder.path(name);
        std::fs::create_dir(&copy).unwrap();
        for entry in std::fs::read_dir(from).unwrap().map(|entry| entry.unwrap()) {
            std::fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
        }
        let path = copy.join("model.safetensors");
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2 / 4 * 4 + 3; // of a float in the middle: its exponent
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        names.push(open(&copy, Cpu::detect(), Options::default()).unwrap().name());
    }
    names.push(HashingEmbedder::new(Analyzer::words(), 100).unwrap().name());
    names.push(EmbeddingModel::from_fn(3, |_| Ok(Vec::new())).named("mine").name());
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count, "{names:?}");
}

fn lengths(texts: &[&str]) -> Result<Vec<Vec<f32>>> {
    Ok(texts.iter().map(|text| vec![text.len() as f32, 1.0]).collect())
}

#[test]
fn functions_are_models() {
    let factor = 2.0;
    let closure = EmbeddingModel::from_fn(1, move |texts| {
        Ok(texts.iter().map(|t| vec![factor * t.len() as f32]).collect())
    });
    assert_eq!(closure.embed(&run(), &["ab", ""]).unwrap(), [4.0, 0.0]);
    let named = EmbeddingModel::from_fn(2, lengths);
    assert_eq!(named.embed_query(&run(), "abc").unwrap(), [3.0, 1.0]);
    let wrong: [Box<dyn EmbeddingModel>; 3] = [
        Box::new(EmbeddingModel::from_fn(3, lengths)),
        Box::new(EmbeddingModel::from_fn(2, |_| Ok(Vec::new()))),
        Box::new(EmbeddingModel::from_fn(2, |_| Err(Error::invalid("no model today")))),
    ];
    let messages = ["a vector of 2 components, not 3", "0 vectors for 1 texts", "no model today"];
    for (model, message) in wrong.iter().zip(messages) {
        assert!(model.embed(&run(), &["x"]).unwrap_err().to_string().contains(message));
    }
}

#[test]
fn hashes_know_words_and_their_parts() {
    let model = HashingEmbedder::new(Analyzer::english(), 1024).unwrap();
    let dot = |a: &str, b: &str| -> f32 {
        let all = model.embed(&run(), &[a, b]).unwrap();
        all[..1024].iter().zip(&all[1024..]).map(|(x, y)| x * y).sum()
    };
    assert!((dot("cells divide", "Cells' dividing") - 1.0).abs() < 1e-6);
    assert!(dot("mitochondria", "mitochondrion") > 0.4);
    assert!(dot("mitochondria in cells", "a stock market crash").abs() < 0.15);
    assert_eq!(dot("", "anything"), 0.0);
    assert!(HashingEmbedder::new(Analyzer::words(), 0).is_err());
}

#[test]
fn malformed_tables_are_refused_with_the_reason() {
    let folder = Folder::new("tables");
    for name in ["config.json", "modules.json", "tokenizer.json"] {
        std::fs::copy(Path::new(TABLE).join(name), folder.path(name)).unwrap();
    }
    let whole = std::fs::read(Path::new(TABLE).join("model.safetensors")).unwrap();
    let try_with = |from: &str, to: &str| {
        let at = whole.windows(from.len()).position(|part| part == from.as_bytes()).expect(from);
        let mut bytes = whole.clone();
        bytes[at..at + from.len()].copy_from_slice(to.as_bytes());
        std::fs::write(folder.path("model.safetensors"), bytes).unwrap();
        open(&folder.0, Cpu::detect(), Options::default()).err().map(|e| e.to_string()).unwrap_or_default()
    };
    let cases = [
        ("\"embeddings\"", "\"imbeddings\"", "no tensor \"embeddings\""),
        ("\"shape\":[20,12]", "\"shape\":[15,16]", "has row 1"),
        ("\"shape\":[20,12]", "\"shape\":[240]  ", "expected (rows, features)"),
        ("\"mapping\"", "\"napping\"", "20 rows for the 53 tokens"),
        ("\"F64\",\"shape\":[53]", "\"I64\",\"shape\":[53]", "expected F32 or F64"),
    ];
    for (from, to, message) in cases {
        let found = try_with(from, to);
        assert!(found.contains(message) && found.contains("model.safetensors"), "{from}: {found:?}");
    }
    std::fs::write(folder.path("model.safetensors"), &whole).unwrap();
    for dim in [0, 13] {
        let options = Options { normalize: false, dim: Some(dim), ..Options::default() };
        let found = open(&folder.0, Cpu::detect(), options).err().unwrap().to_string();
        assert!(found.contains("components of a model that has 12"), "{found}");
    }
    assert!(open("/nowhere", Cpu::detect(), Options::default()).is_err());
}

#[test]
fn the_table_inside_is_small_and_quick_and_knows_english() {
    let size = samebits::assets::TABLE.len() + samebits::assets::TABLE_TOKENS.len();
    assert!(size <= 1_500_000, "{size} bytes");
    let model = StaticEmbedder::builtin().unwrap();
    let start = std::time::Instant::now();
    assert_eq!(StaticEmbedder::builtin().unwrap().name(), model.name());
    println!("{size} bytes, opened in {:?}", start.elapsed());
    let likeness = |a: &str, b: &str| -> f32 {
        let rows = model.embed(&run(), &[a, b]).unwrap();
        let (a, b) = rows.split_at(model.dim());
        a.iter().zip(b).map(|(x, y)| x * y).sum()
    };
    let near = likeness("A kitten is sleeping on the sofa", "the cat naps on a couch");
    let far = likeness("A kitten is sleeping on the sofa", "quarterly earnings of the bank rose");
    assert!(near > far + 0.3, "{near} {far}");
    let again = likeness("one two", "one two");
    assert!((again - 1.0).abs() < 1e-6);
}

/// nDCG@10 of BM25, of a model, and of both, on a collection of `SAMEBITS_DATA`.
fn measured(name: &str, model: &dyn EmbeddingModel) -> Option<[f64; 3]> {
    let Some(data) = std::env::var_os("SAMEBITS_DATA").map(PathBuf::from) else {
        eprintln!("skipped: SAMEBITS_DATA is not set");
        return None;
    };
    let beir = data.join("retrieval").join(name).join("beir");
    let read = |file: &str| std::fs::read_to_string(beir.join(file)).unwrap();
    let queries = evaluate::texts(&read("queries.jsonl")).unwrap();
    let judged = evaluate::judgements(&read("qrels/test.tsv")).unwrap();
    let pool = Pool::new(2);
    let run = Run::on(Cpu::detect(), &pool);
    let chunking = Chunking { strategy: Strategy::Whole, ..Chunking::default() };
    let mut builder = Builder::new(Settings { chunking, ..Settings::default() });
    for (id, text) in evaluate::texts(&read("corpus.jsonl")).unwrap() {
        builder.add(Document::new(id, text), Aids::default()).unwrap();
    }
    builder.embed(&run, model, &mut |_, _| Ok(())).unwrap();
    let index = Index::from_bytes(&builder.to_bytes()).unwrap();
    let ndcg = |mode: Mode| {
        let retriever = Retriever::new(&index, Some(model)).unwrap().with_mode(mode).with_k(10);
        let mut all = Vec::new();
        for (id, query) in &queries {
            let Some(relevant) = judged.get(id) else { continue };
            let found = retriever.retrieve(&run, query).unwrap();
            let ids: Vec<&str> =
                found.iter().map(|found| index.excerpt(found.chunk).unwrap().document).collect();
            all.push(evaluate::at(&ids, relevant, 10));
        }
        evaluate::mean(&all).ndcg
    };
    let [lexical, dense, both] = [Mode::Lexical, Mode::Dense, Mode::Hybrid].map(ndcg);
    println!(
        "{name}, {}: nDCG@10 of words {lexical:.4}, of the model {dense:.4}, of both {both:.4}",
        model.name()
    );
    Some([lexical, dense, both])
}

/// Alone the table finds three quarters of what words find; beside them it adds to that.
#[test]
fn the_table_inside_on_scifact_and_cranfield() {
    let model = StaticEmbedder::builtin().unwrap();
    for name in ["scifact", "cranfield"] {
        if let Some([lexical, dense, both]) = measured(name, &model) {
            assert!(dense >= 0.7 * lexical, "{name}: {dense} {lexical}");
            assert!(both >= lexical + 0.01, "{name}: {both} {lexical}");
        }
    }
}

/// As long as it takes to encode 6,600 documents.
#[test]
fn minilm_and_words_are_better_than_either() {
    let Some(folder) = std::env::var_os("SAMEBITS_MINILM") else {
        eprintln!("skipped: SAMEBITS_MINILM is not set");
        return;
    };
    let options = Options { normalize: true, dim: None, ..Options::default() };
    let model = open(&folder, Cpu::detect(), options).unwrap();
    for (name, gain) in [("scifact", 0.02), ("cranfield", 0.0)] {
        if let Some([lexical, dense, both]) = measured(name, &*model) {
            assert!(both >= lexical.max(dense) + gain, "{name}: {both} {lexical} {dense}");
        }
    }
}
