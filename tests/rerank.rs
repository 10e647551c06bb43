//! Rerankers: tiny cross-encoders beside transformers, late interaction beside its formula, the lexical one by hand; the
//! same bits for any company, number of threads and instruction set.

mod common;

use common::program::Folder;
use samebits::io::json;
use samebits::pool::Pool;
use samebits::rag::rerank::ranking;
use samebits::rag::{Analyzer, CrossEncoder, LateInteraction, LexicalReranker, Reranker};
use samebits::run::Run;
use samebits::{Cpu, Result};
use std::path::Path;

const FOLDER: &str = "tests/data/rerank";

fn run() -> Run<'static> {
    Run::here(Cpu::detect())
}

fn open(name: &str) -> Result<Box<dyn Reranker>> {
    let (folder, cpu) = (Path::new(FOLDER).join(name), Cpu::detect());
    Ok(match name {
        "colbert" => Box::new(LateInteraction::open(folder, cpu)?),
        _ => Box::new(CrossEncoder::open(folder, cpu)?),
    })
}

/// Two questions and the texts.
fn inputs() -> ([String; 2], Vec<String>) {
    let file = std::fs::read(format!("{FOLDER}/scores.json")).unwrap();
    let all = json::parse(&file).unwrap();
    let text = |name: &str| all.get(name).unwrap().as_str().unwrap().into_owned();
    let texts = all.get("texts").unwrap().elements().unwrap();
    ([text("question"), text("long")], texts.map(|text| text.as_str().unwrap().into_owned()).collect())
}

#[test]
fn scores_are_those_of_the_reference() {
    let file = std::fs::read(format!("{FOLDER}/scores.json")).unwrap();
    let all = json::parse(&file).unwrap();
    let (questions, texts) = inputs();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    for (name, most) in [("bert", 1e-6), ("roberta", 1e-6), ("colbert", 1e-5)] {
        let model = open(name).unwrap();
        for (question, key) in questions.iter().zip(["scores", "long_scores"]) {
            let found = model.scores(&run(), question, &texts).unwrap();
            let expected = all.get(&format!("{name}_{key}")).unwrap().elements().unwrap();
            assert_eq!(found.len(), texts.len());
            for ((found, expected), text) in found.iter().zip(expected).zip(&texts) {
                let expected = expected.as_f64().unwrap();
                let far = (f64::from(*found) - expected).abs();
                assert!(far <= most, "{name}, {key}, {text:?}: {found}, not {expected}");
            }
        }
    }
}

#[test]
fn the_same_bits_in_any_company_on_any_threads_and_tier() {
    let ([question, _], texts) = inputs();
    // More than a batch.
    let many: Vec<&str> = texts.iter().cycle().take(80).map(String::as_str).collect();
    let pool = Pool::new(3);
    for name in ["bert", "roberta", "colbert"] {
        let model = open(name).unwrap();
        let expected = model.scores(&run(), &question, &many).unwrap();
        for (i, text) in many.iter().enumerate().take(texts.len()) {
            let alone = model.scores(&run(), &question, &[text]).unwrap();
            assert_eq!(alone[0].to_bits(), expected[i].to_bits(), "{name}: {text:?} alone");
            assert_eq!(expected[i].to_bits(), expected[i + texts.len()].to_bits());
        }
        for cpu in common::cpus() {
            let found = model.scores(&Run::on(cpu, &pool), &question, &many).unwrap();
            common::assert_same(&found, &expected, format!("{name} {cpu:?}"));
        }
        assert!(model.scores(&run(), &question, &[]).unwrap().is_empty());
    }
}

#[test]
fn activations_and_heads_are_looked_at() {
    let folder = Folder::new("cross");
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        std::fs::copy(Path::new(FOLDER).join("bert").join(name), folder.path(name)).unwrap();
    }
    let config = std::fs::read_to_string(folder.path("config.json")).unwrap();
    let with = |more: &str| {
        let text = config.replacen('{', &format!("{{{more},"), 1);
        std::fs::write(folder.path("config.json"), text).unwrap();
        CrossEncoder::open(&folder.0, Cpu::detect())
    };
    let ([question, _], _) = inputs();
    let score = |model: CrossEncoder| f64::from(model.scores(&run(), &question, &["abc"]).unwrap()[0]);
    let squashed = score(with(r#""a": 1"#).unwrap());
    for said in [
        r#""sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}"#,
        r#""sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity""#,
    ] {
        let logit = score(with(said).unwrap());
        assert!((1.0 / (1.0 + (-logit).exp()) - squashed).abs() < 1e-6, "{logit} {squashed}");
    }
    let refused = with(r#""sbert_ce_default_activation_function": "torch.nn.Softmax""#).err().unwrap();
    assert!(refused.to_string().contains("neither Sigmoid nor Identity"), "{refused}");
    // An encoder without a head ranks nothing.
    let refused = CrossEncoder::open("tests/data/models/bert", Cpu::detect()).err().unwrap().to_string();
    assert!(refused.contains("no tensor \"classifier.weight\""), "{refused}");
    // A plain encoder's rows can be compared all the same.
    let late = LateInteraction::open("tests/data/models/bert", Cpu::detect()).unwrap();
    let scores = late.scores(&run(), "abc", &["abc", "xyx"]).unwrap();
    assert!((scores[0] - 5.0).abs() < 1e-5 && scores[1] < scores[0], "five tokens, each its own: {scores:?}");
}

#[test]
fn words_by_hand() {
    let model = LexicalReranker::new(Analyzer::words());
    let texts = ["red fox", "fox red", "red and then a fox", "red", "nothing", ""];
    let scores = model.scores(&run(), "red fox", &texts).unwrap();
    // N = 6; four have red, three have fox.
    let idf = |n: f64| (1.0 + (6.0 - n + 0.5) / (n + 0.5)).ln();
    let (red, fox) = (idf(4.0), idf(3.0));
    let expected = [
        (1.0 + 0.5 + 0.25) / 1.75,
        (1.0 + 0.5) / 1.75,
        (1.0 + 0.4 / 2.0 + 0.25) / 1.75,
        red / (red + fox) * 1.5 / 1.75,
        0.0,
        0.0,
    ];
    for (i, (found, expected)) in scores.iter().zip(expected).enumerate() {
        assert!((f64::from(*found) - expected).abs() < 1e-6, "{:?}: {found}, not {expected}", texts[i]);
    }
    assert_eq!(ranking(&scores), [0, 1, 2, 3, 4, 5]);
    for (question, texts) in [("", &["a", "b"][..]), ("red", &[][..]), ("unknown words", &["a"])] {
        assert!(model.scores(&run(), question, texts).unwrap().iter().all(|&score| score == 0.0));
    }
    // The shortest stretch counts, wherever it stands.
    let far = "red x x x x x x fox x x red x fox x x x x";
    let near = model.scores(&run(), "red fox", &[far, "blue"]).unwrap();
    assert!((f64::from(near[0]) - (1.0 + 2.0 / 3.0 / 2.0 + 0.25) / 1.75).abs() < 1e-6, "{near:?}");
}

#[test]
fn rankings_are_total() {
    assert_eq!(ranking(&[0.5, f32::NAN, 0.7, 0.5, f32::INFINITY, -1.0]), [4, 2, 0, 3, 5, 1]);
    assert!(ranking(&[]).is_empty());
}
