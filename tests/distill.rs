//! Tables made of encoders: the numbers of model2vec, what becomes of vocabularies, and folders that open again with the
//! same bits.

mod common;

use common::program::{Folder, assert_fails, out, run};
use samebits::io::json::{self, Value};
use samebits::io::tokenizer::{EncodeOptions, Tokenizer};
use samebits::model::SentenceEncoder;
use samebits::pool::Pool;
use samebits::rag::embed::distill::{Distilled, Elements, Layout, Plan, Vocabulary, distill};
use samebits::rag::embed::{Options, open};
use samebits::rag::{EmbeddingModel, StaticEmbedder};
use samebits::run::Run;
use samebits::{Cpu, Result};
use std::ops::Range;

const BERT: &str = "tests/data/models/bert";

fn tokenizer_json() -> Vec<u8> {
    std::fs::read(format!("{BERT}/tokenizer.json")).unwrap()
}

fn table(run: &Run<'_>, plan: Plan) -> Distilled {
    let model = SentenceEncoder::open(BERT, run.cpu()).unwrap();
    let tokenizer = Tokenizer::open(BERT).unwrap();
    let vocabulary = Vocabulary::of(&tokenizer_json(), None).unwrap();
    distill(run, (&model, &tokenizer), vocabulary, plan, &mut |_, _, _| Ok(())).unwrap()
}

fn floats(value: Value<'_>) -> Vec<f32> {
    value.elements().unwrap().map(|x| x.as_f64().unwrap() as f32).collect()
}

#[test]
fn tables_are_those_of_model2vec() {
    let file = std::fs::read("tests/data/embed/distilled.json").unwrap();
    let expected = json::parse(&file).unwrap();
    let dim = expected.get("dim").unwrap().as_usize().unwrap();
    let counts: Vec<u64> = floats(expected.get("counts").unwrap()).into_iter().map(|x| x as u64).collect();
    for (name, sif, counts) in
        [("plain", None, None), ("zipf", Some(1e-3), None), ("counted", Some(1e-2), Some(counts))]
    {
        let plan = Plan { dim, sif, counts, texts: Vec::new() };
        let found = table(&Run::here(Cpu::detect()), plan);
        let rows = expected.get(name).unwrap().elements().unwrap();
        let expected: Vec<f32> = rows.flat_map(floats).collect();
        assert_eq!(found.table.len(), expected.len());
        for (i, (x, y)) in found.table.iter().zip(&expected).enumerate() {
            assert!((x - y).abs() <= 2e-5, "{name}: element {i} is {x}, not {y}");
        }
        assert!(found.explained > 0.5 && found.explained < 1.0, "{}", found.explained);
    }
}

/// Three hundred little texts, some of which have no token.
fn texts() -> Vec<String> {
    let mut draw = common::Random::new(2);
    let word = |draw: &mut common::Random| -> String {
        (0..1 + draw.below(4)).map(|_| char::from(b'a' + draw.below(26) as u8)).collect()
    };
    (0..300).map(|i| (0..i % 7).map(|_| word(&mut draw) + " ").collect()).collect()
}

/// Fitted, means of rows point where the encoder's vectors do, of texts that were fitted and of others.
#[test]
fn a_fit_brings_texts_nearer() {
    let run = Run::here(Cpu::detect());
    let encoder = open(BERT, run.cpu(), Options::default()).unwrap();
    let all = texts();
    let all: Vec<&str> = all.iter().map(String::as_str).filter(|text| text.len() > 8).collect();
    let targets = encoder.embed(&run, &all).unwrap();
    let nearness = |fitted: &[&str]| {
        let folder = Folder::new(&format!("fit{}", fitted.len()));
        let texts = fitted.iter().map(|&text| text.into()).collect();
        let made = table(&run, Plan { dim: 20, sif: Some(1e-4), counts: None, texts });
        let path = folder.path("table");
        made.save(run.cpu(), &path, "bert", Layout { elements: Elements::F32, compact: false }).unwrap();
        let found = StaticEmbedder::open(&path, Options::default()).unwrap().embed(&run, &all).unwrap();
        // Likenesses among texts, by both: how far they agree.
        let likeness = |rows: &[f32], i: usize, j: usize| -> f64 {
            let row = |i: usize| rows[i * 20..][..20].iter().map(|&x| f64::from(x));
            let mean: Vec<f64> = (0..20)
                .map(|c| (0..all.len()).map(|r| f64::from(rows[r * 20 + c])).sum::<f64>() / all.len() as f64)
                .collect();
            let centred = |i: usize| row(i).zip(&mean).map(|(x, mean)| x - mean).collect::<Vec<f64>>();
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            let (a, b) = (centred(i), centred(j));
            dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt()
        };
        let differences = |texts: Range<usize>| -> f64 {
            let pairs = texts.clone().flat_map(|i| texts.clone().map(move |j| (i, j))).filter(|(i, j)| i < j);
            pairs.map(|(i, j)| (likeness(&found, i, j) - likeness(&targets, i, j)).abs()).sum()
        };
        [differences(0..40), differences(all.len() - 40..all.len())]
    };
    let (before, after) = (nearness(&[]), nearness(&all[..all.len() - 40]));
    println!("{before:?} before, {after:?} after");
    // Of a model whose weights were drawn by lot no table can say much of new texts.
    assert!(after[0] < 0.8 * before[0] && after[1] < 0.95 * before[1], "{before:?} before, {after:?} after");
}

/// So many short texts, and long ones.
fn short_and_long(short: usize, long: usize) -> Vec<String> {
    let mut draw = common::Random::new(3);
    let word = |draw: &mut common::Random| -> String {
        (0..1 + draw.below(3)).map(|_| char::from(b'a' + draw.below(26) as u8)).collect()
    };
    let mut text = |bytes: usize| -> String {
        let mut text = String::new();
        while text.len() < bytes {
            text = text + &word(&mut draw) + " ";
        }
        text
    };
    (0..short + long).map(|i| text(if i < short { 45 } else { 351 })).collect()
}

/// Which of the long texts is how near to each short one, by the table, is what the encoder says, more than without the step
/// that teaches it: that needs 32 long texts.
#[test]
fn a_table_learns_the_encoders_order() {
    const SHORT: usize = 1024;
    let run = Run::here(Cpu::detect());
    let encoder = open(BERT, run.cpu(), Options::default()).unwrap();
    let all = short_and_long(SHORT, 32);
    let seen: Vec<&str> = all[..SHORT + 31].iter().map(String::as_str).collect();
    let targets = encoder.embed(&run, &seen).unwrap();
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(x * y)).sum::<f64>();
    let shares = |rows: &[f32], q: usize, sharpness: f64| -> Vec<f64> {
        let dim = rows.len() / seen.len();
        let row = |i: usize| &rows[i * dim..][..dim];
        let cosine = |d: usize| dot(row(q), row(d)) / (dot(row(q), row(q)) * dot(row(d), row(d))).sqrt();
        let all: Vec<f64> = (SHORT..seen.len()).map(|d| (cosine(d) * sharpness).exp()).collect();
        let sum: f64 = all.iter().sum();
        all.into_iter().map(|x| x / sum).collect()
    };
    let divergence = |texts: &[String]| -> f64 {
        let folder = Folder::new(&format!("rank{}", texts.len()));
        let made = table(&run, Plan { dim: 20, sif: Some(1e-4), counts: None, texts: texts.to_vec() });
        let path = folder.path("table");
        made.save(run.cpu(), &path, "bert", Layout { elements: Elements::F32, compact: false }).unwrap();
        let found = StaticEmbedder::open(&path, Options::default()).unwrap().embed(&run, &seen).unwrap();
        let of = |q: usize| -> f64 {
            let (p, s) = (shares(&targets, q, 20.0), shares(&found, q, 20.0));
            p.iter().zip(&s).map(|(p, s)| p * (p / s).ln()).sum()
        };
        (0..SHORT).map(of).sum::<f64>() / SHORT as f64
    };
    let (before, after) = (divergence(&all[..SHORT + 31]), divergence(&all));
    println!("{before} before, {after} after");
    assert!(after < 0.97 * before, "{before} before, {after} after");
}

#[test]
fn the_same_bits_on_any_threads_and_tier() {
    the_same_bits(texts());
    the_same_bits(short_and_long(260, 33));
}

#[track_caller]
fn the_same_bits(texts: Vec<String>) {
    let plan = Plan { dim: 20, sif: Some(1e-4), counts: None, texts };
    let expected = table(&Run::here(Cpu::detect()), plan.clone());
    assert!((expected.explained - 1.0).abs() < 1e-9);
    for cpu in common::cpus() {
        for threads in [2, 5] {
            let pool = Pool::new(threads);
            let found = table(&Run::on(cpu, &pool), plan.clone());
            common::assert_same(&found.table, &expected.table, format!("{cpu:?}, {threads} threads"));
        }
    }
}

/// all-MiniLM-L6-v2's own file fills every text to 128 tokens.
#[test]
fn a_file_that_fills_texts_changes_nothing() {
    let run = Run::here(Cpu::detect());
    let plan = Plan { dim: 8, sif: Some(1e-4), ..Plan::default() };
    let expected = table(&run, plan.clone());
    let json = String::from_utf8(tokenizer_json()).unwrap();
    let filled = r#""padding":{"strategy":{"Fixed":16},"direction":"Right","pad_to_multiple_of":null,"pad_id":0,"pad_type_id":0,"pad_token":"[PAD]"}"#;
    let at = json.find("\"padding\":null").or_else(|| json.find("\"padding\": null")).unwrap();
    let end = at + json[at..].find("null").unwrap() + 4;
    let json = format!("{}{filled}{}", &json[..at], &json[end..]);
    let tokenizer = Tokenizer::from_json(json.as_bytes()).unwrap();
    assert_eq!(tokenizer.encode("a", &EncodeOptions::default()).unwrap().ids.len(), 16);
    let model = SentenceEncoder::open(BERT, run.cpu()).unwrap();
    let vocabulary = Vocabulary::of(json.as_bytes(), None).unwrap();
    let found = distill(&run, (&model, &tokenizer), vocabulary, plan, &mut |_, _, _| Ok(())).unwrap();
    common::assert_same(&found.table, &expected.table, "filled");
}

#[test]
fn a_vocabulary_is_cut_and_renumbered() {
    let whole = Vocabulary::of(&tokenizer_json(), None).unwrap();
    assert_eq!(whole.ids, (0..whole.ids.len() as u32).collect::<Vec<_>>());
    // One with words, a place that nobody uses, and a special token behind all.
    let json = r###"{"added_tokens":[{"id":0,"content":"[UNK]","special":true},{"id":9,"content":"[CLS]","special":true}],
        "normalizer":null,"pre_tokenizer":{"type":"BertPreTokenizer"},
        "post_processor":{"type":"BertProcessing","sep":["[UNK]",0],"cls":["[CLS]",9]},"decoder":null,
        "model":{"type":"WordPiece","unk_token":"[UNK]","continuing_subword_prefix":"##","max_input_chars_per_word":100,
        "vocab":{"[UNK]":0,"[unused0]":1,"the":2,"of":3,"rare":4,"a":5,"##b":6,"##ing":7,"[unusedx]":8,"[CLS]":9}}}"###;
    let ids = |most| Vocabulary::of(json.as_bytes(), most).unwrap().ids;
    assert_eq!(ids(None), [0, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(ids(Some(6)), [0, 2, 3, 5, 6, 9]);
    assert_eq!(ids(Some(1)), [0, 5, 6, 9]);
    let cut = Vocabulary::of(json.as_bytes(), Some(6)).unwrap();
    let tokenizer = cut.tokenizer().unwrap();
    let found = tokenizer.encode("the ab of rare [CLS]", &EncodeOptions::default()).unwrap().ids;
    assert_eq!(found, [1, 3, 4, 2, 0, 5]);
    assert_eq!(cut.words, ["[UNK]", "the", "of", "a", "##b", "[CLS]"]);
    // This one keeps capitals and accents: a vocab.txt would not.
    assert!(cut.vocab_txt().is_err());
    // Tokens that are made of each other cannot be cut.
    let bpe = std::fs::read("tests/data/models/llama/tokenizer.json").unwrap();
    assert!(Vocabulary::of(&bpe, Some(10)).is_err());
    assert!(Vocabulary::of(b"{}", None).is_err());
}

/// The vectors of a folder for some texts.
fn vectors(folder: &std::path::Path) -> Vec<f32> {
    let model = StaticEmbedder::open(folder, Options::default()).unwrap();
    model.embed(&Run::here(Cpu::detect()), &["abc def", "", "y", "fox qqq"]).unwrap()
}

#[test]
fn folders_open_again() -> Result<()> {
    let folder = Folder::new("distilled");
    let cpu = Cpu::detect();
    let made = table(&Run::here(cpu), Plan { dim: 16, sif: Some(1e-4), ..Plan::default() });
    let mut all = Vec::new();
    for (elements, name) in [(Elements::F32, "f32"), (Elements::F16, "f16"), (Elements::Nf4, "nf4")] {
        let path = folder.path(name);
        made.save(cpu, &path, "bert", Layout { elements, compact: false })?;
        all.push(vectors(&path));
        assert!(made.save(cpu, &path, "bert", Layout { elements, compact: false }).is_err(), "it exists");
    }
    // Of unit vectors: f16 has eleven bits, NF4 sixteen levels.
    for (found, most) in all[1..].iter().zip([1e-3, 0.2]) {
        assert!(found.iter().zip(&all[0]).all(|(x, y)| (x - y).abs() <= most), "{found:?} {:?}", all[0]);
        assert_ne!(found, &all[0]);
    }
    let unit: f32 = all[0][..16].iter().map(|x| x * x).sum();
    assert!((unit - 1.0).abs() < 1e-6);
    Ok(())
}

#[test]
fn the_command() {
    let folder = Folder::new("distill");
    let path = |name: &str| folder.path(name).to_str().unwrap().to_owned();
    let done = run(["distill", BERT, "--out", &path("a"), "--dim", "8", "--json", "--threads", "1"]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let report = json::parse(out(&done).as_bytes()).unwrap();
    assert_eq!(report.get("tokens").unwrap().as_u64(), Some(53));
    run(["distill", BERT, "--out", &path("b"), "--dim", "8", "--threads", "3"]);
    let files = |name: &str| {
        ["config.json", "model.safetensors", "modules.json", "tokenizer.json"]
            .map(|file| std::fs::read(folder.path(name).join(file)).unwrap())
    };
    assert_eq!(files("a"), files("b"));
    std::fs::write(folder.path("texts"), "abc def\n\nabc\n").unwrap();
    let counted = run(["distill", BERT, "--out", &path("c"), "--dim", "8", "--corpus", &path("texts")]);
    assert!(counted.status.success());
    assert_ne!(files("a")[1], files("c")[1]);
    let found = run(["embed", "--model", &path("a"), "--format", "f32", &path("texts")]);
    assert_eq!(found.stdout.len(), 3 * 8 * 4);
    let fitted = run(["distill", BERT, "--out", &path("e"), "--dim", "8", "--fit", &path("texts")]);
    assert!(fitted.status.success());
    assert_ne!(files("a")[1], files("e")[1]);
    std::fs::write(folder.path("latin1"), b"fine\n\xff\n").unwrap();
    let cases: [(&[&str], i32, &str); 8] = [
        (&["distill", BERT], 2, "--out DIR says where"),
        (&["distill", BERT, "--out", &path("a")], 1, "it exists already"),
        (&["distill", BERT, "--out", &path("d"), "--type", "q8"], 2, "none of f32, f16, nf4"),
        (&["distill", BERT, "--out", &path("d"), "--dim", "0"], 2, "--dim"),
        (&["distill", BERT, "--out", &path("d"), "--sif", "2"], 2, "--sif"),
        (
            &["distill", BERT, "--out", &path("d"), "--compact"],
            1,
            "only the tokenizer of BERT is a vocab.txt",
        ),
        (&["distill", BERT, "--out", &path("d"), "--corpus", &path("latin1")], 1, "line 2: no UTF-8"),
        (&["distill", "tests/data/models/llama", "--out", &path("d")], 1, "it does not embed them"),
    ];
    for (args, code, message) in cases {
        assert_fails(&run(args), code, message);
    }
    assert!(!folder.path("d").exists());
    assert_eq!(folder.names(), ["a", "b", "c", "e", "latin1", "texts"]);
}
