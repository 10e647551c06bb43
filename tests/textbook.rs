//! Every name that a reader of the field's teaching texts looks for, used as such a text would.

use samebits::kernels::{Line, activation::Activation, view::MatRef};
use samebits::llm::attention::{FeedForwardNetwork, LayerNorm, sinusoidal_positional_encoding};
use samebits::llm::fine_tuning::{AdapterLayer, LinearWithLora, LoraLayer, dequantize_nf4, quantize_nf4};
use samebits::llm::rag::{
    ContextAssembler, Document, EmbeddingModel, Index, RagPipeline, Reranker, Retriever, TextChunker,
};
use samebits::nn::{Linear, Room, Weight};
use samebits::peft::{AdapterInit, AdapterKind, LoraShape};
use samebits::rag::index::{Aids, Builder, Settings};
use samebits::rag::{LexicalReranker, Unit};
use samebits::random::Philox;
use samebits::{Cpu, Error, Result, run::Run};

fn run() -> Run<'static> {
    Run::here(Cpu::detect())
}

#[test]
fn attention() {
    let run = run();
    let encoding = sinusoidal_positional_encoding(&[0, 1], 4);
    assert_eq!(encoding[..4], [0.0, 1.0, 0.0, 1.0]);
    let linear = |w: &[f32]| Linear::new(Weight::from_f32(run.cpu(), MatRef::new(w, 1, 1)), None);
    let (up, down) = (linear(&[2.0]), linear(&[3.0]));
    let ffn = FeedForwardNetwork { gate: None, up, down, activation: Activation::Relu };
    let (mut y, mut room) = ([0.0; 2], vec![Line::ZERO; ffn.room_len(2)]);
    ffn.forward(&run, &[1.0, -1.0], None, &mut y, Room::new(&mut room));
    assert_eq!(y, [6.0, 0.0]);
    let norm = LayerNorm { weight: vec![1.0; 2].into(), bias: Some(vec![0.0; 2].into()), eps: 0.0 };
    norm.forward(&run, &[1.0, 3.0], &mut y);
    assert_eq!(y, [-1.0, 1.0]);
}

#[test]
fn fine_tuning() {
    let run = run();
    let shape = LoraShape { in_features: 2, out_features: 1, rank: 1 };
    let lora = LoraLayer::from_parts(shape, vec![1.0, 0.0], vec![1.0], 1.0);
    let base = Linear::new(Weight::from_f32(run.cpu(), MatRef::new(&[1.0, 2.0], 1, 2)), None);
    let mut layer = LinearWithLora::new(base);
    layer.insert(&run, "one", lora).unwrap();
    layer.activate(&[("one", 2.0)]).unwrap();
    let (mut y, mut room) = ([0.0], vec![Line::ZERO; layer.room_len(1)]);
    layer.forward(&run, &[10.0, 1.0], &mut y, Room::new(&mut room));
    assert_eq!(y, [32.0]); // 12 + 2 · 10

    let adapter = AdapterLayer::new(AdapterKind::Houlsby, 32, AdapterInit::Identity, (Philox::new(1), 0));
    let x: Vec<f32> = (0..64).map(|i| i as f32).collect();
    let (mut y, mut room) = (vec![0.0; 64], vec![Line::ZERO; adapter.room_len(2)]);
    adapter.forward(&run, &x, &x, &mut y, Room::new(&mut room));
    assert_eq!(y, x);

    // The greatest, the least and zero are levels of NF4: they come back as they were.
    let x: Vec<f32> = (0..64).map(|i| [2.0, -2.0, 0.0][i % 3]).collect();
    let (mut codes, mut absmax, mut back) = ([0; 32], [0.0], [0.0; 64]);
    quantize_nf4(run.cpu(), &x, 64, &mut codes, &mut absmax).unwrap();
    dequantize_nf4(run.cpu(), &codes, &absmax, 64, &mut back);
    assert_eq!(back[..], x);
}

#[test]
fn retrieval_augmented_generation() -> Result<()> {
    let run = run();
    let documents = [
        Document::new("tides", "The moon pulls the sea. It comes twice a day."),
        Document::new("bread", "Bread is made of flour, water and salt."),
    ];
    let chunks = TextChunker::recursive(Unit::Words, 6, 0)?.chunk(&documents[0].text)?;
    assert_eq!(chunks.len(), 2);

    // Any function may be the embedding model; here: which letters a text has.
    let letters = |text: &str| ('a'..='z').map(|c| text.to_lowercase().matches(c).count() as f32).collect();
    let model =
        EmbeddingModel::from_fn(26, |texts: &[&str]| Ok(texts.iter().map(|text| letters(text)).collect()));
    let mut builder = Builder::new(Settings::default());
    for document in documents {
        builder.add(document, Aids::default())?;
    }
    builder.embed(&run, &model, &mut |_, _| Ok(()))?;
    let index = Index::from_bytes(&builder.to_bytes())?;

    let retriever = Retriever::new(&index, Some(&model))?.with_k(2);
    assert_eq!(retriever.retrieve(&run, "What pulls the sea?")?.len(), 2);
    let reranker = LexicalReranker::default();
    let scores = reranker.scores(&run, "what pulls the sea", &["the sea", "flour"])?;
    assert!(scores[0] > scores[1]);

    let words = |text: &str| text.split_whitespace().count();
    let pipeline = || {
        RagPipeline::new(retriever, ContextAssembler::new(60, &words))
            .with_reranker(&reranker as &dyn Reranker)
    };
    // Without a language model a pipeline stops at the context, or quotes.
    let context = pipeline().context(&run, "What pulls the sea?")?;
    assert!(context.prompt.contains("[1] tides") && context.tokens <= 60);
    let answer = pipeline().ask(&run, "What pulls the sea?")?;
    assert!(answer.quotes[0].text.starts_with("The moon pulls the sea."));
    // With one, what it quotes is looked up.
    let answer =
        pipeline().with_llm(|_| Ok("“The moon pulls the sea.” [1]".into())).ask(&run, "What pulls it?")?;
    assert!(answer.quotes[0].source.is_some() && answer.unknown_marks.is_empty());
    let failed = pipeline().with_llm(|_| Err(Error::invalid("no"))).ask(&run, "What pulls it?");
    assert!(failed.is_err());
    Ok(())
}
