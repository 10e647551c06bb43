//! all-MiniLM-L6-v2 against sentence-transformers (tests/reference/minilm.py): ids equal, vectors within 2·10⁻⁶.
//! The model is not ours to commit: `SAMEBITS_MINILM` says where tests/reference/fetch_minilm.py put it.

use crate::common::{assert_same, cpus, slow};
use samebits::Tier;
use samebits::io::json;
use samebits::io::tokenizer::{Choice, EncodeOptions, Tokenizer, Truncation};
use samebits::model::{Model, SentenceEncoder, Workspace};
use samebits::pool::Pool;
use samebits::run::Run;
use std::path::PathBuf;

const NEAR: f32 = 2e-6;
const DIM: usize = 384;

fn model_folder() -> Option<PathBuf> {
    let folder = std::env::var_os("SAMEBITS_MINILM").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("skipped: SAMEBITS_MINILM is not set");
    }
    folder
}

fn open(folder: &PathBuf, run: &Run<'_>) -> SentenceEncoder {
    match Model::open(folder, run.cpu()).expect("a sound model") {
        Model::Encoder(model) => *model,
        Model::Decoder(_) => panic!("MiniLM is an encoder"),
    }
}

/// Texts with their ids and vectors.
fn expected() -> (Vec<String>, Vec<Vec<u32>>, Vec<f32>) {
    let data = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/minilm");
    let lines = std::fs::read_to_string(data.join("texts.jsonl")).unwrap();
    let (mut texts, mut ids) = (Vec::new(), Vec::new());
    for line in lines.lines() {
        let object = json::parse(line.as_bytes()).unwrap();
        texts.push(object.get("text").unwrap().as_str().unwrap().into_owned());
        let list = object.get("ids").unwrap().elements().unwrap();
        ids.push(list.map(|id| id.as_u64().unwrap() as u32).collect());
    }
    let npy = std::fs::read(data.join("embeddings.npy")).unwrap();
    let floats = npy[npy.len() - 4 * DIM * texts.len()..].as_chunks().0;
    (texts, ids, floats.iter().map(|&x| f32::from_le_bytes(x)).collect())
}

#[test]
fn ids_are_those_of_the_real_tokenizer() {
    let Some(folder) = model_folder() else { return };
    let mut tokenizer = Tokenizer::open(&folder).unwrap();
    tokenizer.set_truncation(Some(Truncation::to(256)));
    let options = EncodeOptions { padding: Choice::Off, ..EncodeOptions::default() };
    let (texts, ids, _) = expected();
    for (text, want) in texts.iter().zip(&ids) {
        assert_eq!(&tokenizer.encode(text, &options).unwrap().ids, want, "{text:?}");
    }
}

#[test]
fn vectors_are_those_of_sentence_transformers() {
    let Some(folder) = model_folder() else { return };
    let (_, ids, want) = expected();
    for cpu in cpus() {
        let n = if cpu.tier() == Tier::Scalar || slow() { 12 } else { ids.len() };
        let run = Run::here(cpu);
        let model = open(&folder, &run);
        let texts: Vec<&[u32]> = ids[..n].iter().map(|ids| &ids[..]).collect();
        let mut out = vec![0.0; n * DIM];
        model.embed(&run, &texts, &mut out, &mut Workspace::new()).unwrap();
        for (i, (got, want)) in out.chunks(DIM).zip(want.chunks(DIM)).enumerate() {
            let far = got.iter().zip(want).map(|(g, w)| (g - w).abs()).fold(0.0f32, f32::max);
            assert!(far <= NEAR, "{}: text {i} is {far:e} away", cpu.tier());
        }
    }
}

#[test]
fn neither_batch_nor_threads_change_a_bit_of_a_vector() {
    let Some(folder) = model_folder() else { return };
    let (_, ids, _) = expected();
    let ids = &ids[..if slow() { 9 } else { 66 }];
    let embed = |threads: usize, batch: usize| {
        let (pool, cpu) = (Pool::new(threads), cpus().pop().unwrap());
        let run = Run::on(cpu, &pool);
        let (model, mut all) = (open(&folder, &run), Vec::new());
        for part in ids.chunks(batch) {
            let texts: Vec<&[u32]> = part.iter().map(|ids| &ids[..]).collect();
            let mut out = vec![0.0; part.len() * DIM];
            model.embed(&run, &texts, &mut out, &mut Workspace::new()).unwrap();
            all.extend(out);
        }
        all
    };
    let want = embed(1, 1);
    for (threads, batch) in [(1, 3), (2, 8), (3, 33), (7, 64)] {
        assert_same(&embed(threads, batch), &want, format!("{threads} threads, batch of {batch}"));
    }
}
