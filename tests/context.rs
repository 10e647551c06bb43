//! Contexts: the budget, sources, and nothing twice, of thousands of drawn inputs and counters; orders; what is refused.

mod common;

use common::Random;
use samebits::rag::TextChunker;
use samebits::rag::chunk::Unit;
use samebits::rag::context::{Context, ContextAssembler, Order, Overflow, Passage, Template};

fn words(text: &str) -> usize {
    text.split_whitespace().count()
}

/// What no sum of parts gives: every fifth character, but long words whole.
fn odd(text: &str) -> usize {
    text.chars().count().div_ceil(5) + text.split(' ').filter(|word| word.len() > 7).count()
}

fn passage<'t>(document: &'t str, source: &'t str, bytes: std::ops::Range<usize>, score: f64) -> Passage<'t> {
    let line = |at: usize| source[..at].matches('\n').count() + 1;
    let last = line(bytes.end - usize::from(source[..bytes.end].ends_with('\n') && !bytes.is_empty()));
    Passage { document, text: &source[bytes.clone()], lines: (line(bytes.start), last), bytes, score }
}

fn source(draw: &mut Random) -> String {
    let parts = [
        "one ",
        "two. ",
        "Three is éè. ",
        "漢字。",
        "\n",
        "\n\n",
        "A longer sentence of words. ",
        "{question} ",
    ];
    (0..5 + draw.below(40)).map(|_| parts[draw.below(parts.len())]).collect()
}

/// A range of `text` between characters.
fn range(draw: &mut Random, text: &str) -> std::ops::Range<usize> {
    let places: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
    let (a, b) = (places[draw.below(places.len())], places[draw.below(places.len())]);
    a.min(b)..a.max(b)
}

/// What must hold of every context.
#[track_caller]
fn check(context: &Context, sources: &[String], budget: usize, count: &dyn Fn(&str) -> usize) {
    assert!(context.tokens <= budget, "{} tokens of {budget}", context.tokens);
    assert_eq!(context.tokens, count(&context.prompt));
    for (i, citation) in context.citations.iter().enumerate() {
        assert_eq!(citation.number, i + 1);
        let source = &sources[citation.document.parse::<usize>().unwrap()];
        assert_eq!(source[citation.bytes.clone()], citation.text);
        assert_eq!(context.prompt[citation.place.clone()], citation.text);
        let line = |at: usize| source[..at].matches('\n').count() + 1;
        assert_eq!(citation.lines.0, line(citation.bytes.start), "{citation:?}");
        assert!(citation.lines.1 <= line(citation.bytes.end) && citation.lines.0 <= citation.lines.1);
        for other in &context.citations[i + 1..] {
            assert_ne!(citation.text.trim(), other.text.trim());
            let apart = citation.bytes.end < other.bytes.start || other.bytes.end < citation.bytes.start;
            assert!(citation.document != other.document || apart, "{citation:?} {other:?}");
        }
    }
}

#[test]
fn the_budget_holds_and_sources_are_true_of_drawn_inputs() {
    let mut draw = Random::new(17);
    let (mut cited, mut left, mut cut) = (0, 0, 0);
    for round in 0..3000 {
        let sources: Vec<String> = (0..1 + draw.below(4)).map(|_| source(&mut draw)).collect();
        let names: Vec<String> = (0..sources.len()).map(|i| i.to_string()).collect();
        let passages: Vec<Passage<'_>> = (0..draw.below(12))
            .map(|_| {
                let i = draw.below(sources.len());
                let bytes = range(&mut draw, &sources[i]);
                passage(&names[i], &sources[i], bytes, f64::from(draw.below(9) as u32) / 3.0 - 1.0)
            })
            .collect();
        let count: &dyn Fn(&str) -> usize = if round % 2 == 0 { &words } else { &odd };
        let question = "What is {context}?";
        let least = ContextAssembler::new(usize::MAX, count).assemble(question, &[]).unwrap().tokens;
        let budget = least + draw.below(80);
        let order = [Order::Relevance, Order::Document, Order::EdgesFirst][round % 3];
        let overflow = [Overflow::Cut, Overflow::Skip][round / 3 % 2];
        let assembler = ContextAssembler::new(budget, count).with_order(order).with_overflow(overflow);
        let context = assembler.assemble(question, &passages).unwrap();
        check(&context, &sources, budget, count);
        assert!(context.prompt.contains("Question: What is {context}?"));
        (cited, left) = (cited + context.citations.len(), left + context.left_out.len());
        // Whatever is not left out is there, whole or its beginning.
        for (i, passage) in passages.iter().enumerate().filter(|(i, _)| !context.left_out.contains(i)) {
            let holds = |bytes: &std::ops::Range<usize>| bytes.contains(&passage.bytes.start);
            let citation =
                context.citations.iter().find(|c| c.document == passage.document && holds(&c.bytes));
            let end = citation.unwrap_or_else(|| panic!("passage {i} is nowhere")).bytes.end;
            cut += usize::from(end < passage.bytes.end);
            assert!(overflow == Overflow::Cut || end >= passage.bytes.end);
        }
        // With room for everything only doubles and white space are left out.
        let whole = ContextAssembler::new(usize::MAX, count).assemble(question, &passages).unwrap();
        check(&whole, &sources, usize::MAX, count);
        for &i in &whole.left_out {
            let text = passages[i].text.trim();
            assert!(text.is_empty() || whole.citations.iter().any(|c| c.text.contains(text)), "passage {i}");
        }
    }
    assert!(cited > 2000 && left > 2000 && cut > 100, "{cited} {left} {cut}");
}

#[test]
fn chunks_that_overlap_become_their_source() {
    let text = "First line.\nSecond line, longer.\nThird line.\n\nFourth line after a gap.\nFifth.".repeat(3);
    let chunks = TextChunker::fixed(Unit::Chars, 40, 15).unwrap().chunk(&text).unwrap();
    let passages: Vec<Passage<'_>> = chunks
        .iter()
        .enumerate()
        .map(|(i, chunk)| passage("0", &text, chunk.span.bytes.clone(), (i * 7 % 5) as f64))
        .collect();
    let context = ContextAssembler::new(1000, &words).assemble("Which?", &passages).unwrap();
    assert_eq!(context.citations.len(), 1);
    assert_eq!(context.citations[0].text, text);
    assert_eq!(context.citations[0].lines, (1, text.lines().count()));
    assert!(context.left_out.is_empty());
}

#[test]
fn orders() {
    let texts = ["alpha", "beta", "gamma", "delta", "epsilon"];
    let at = |i: usize, document, start: usize, score| Passage {
        document,
        text: texts[i],
        bytes: start..start + texts[i].len(),
        lines: (1, 1),
        score,
    };
    let passages = [
        at(0, "x", 50, 5.0),
        at(1, "y", 50, 4.0),
        at(2, "x", 0, 3.0),
        at(3, "z", 0, 2.0),
        at(4, "y", 0, 1.0),
    ];
    let texts_in = |order| {
        let assembler = ContextAssembler::new(1000, &words).with_order(order);
        let context = assembler.assemble("q", &passages).unwrap();
        context.citations.into_iter().map(|c| c.text).collect::<Vec<_>>()
    };
    assert_eq!(texts_in(Order::Relevance), ["alpha", "beta", "gamma", "delta", "epsilon"]);
    assert_eq!(texts_in(Order::Document), ["gamma", "alpha", "epsilon", "beta", "delta"]);
    assert_eq!(texts_in(Order::EdgesFirst), ["alpha", "gamma", "epsilon", "delta", "beta"]);
}

#[test]
fn templates_and_what_is_refused() {
    let template = Template {
        prompt: "Q {question}\n{context}\nA".into(),
        passage: "<{n}|{document}|{lines}>{text}</{n}>".into(),
        separator: " ~ ".into(),
    };
    let text = "one\ntwo\nthree";
    let passages =
        [passage("a", text, 4..7, 2.0), passage("b", text, 0..13, 1.0), passage("c", text, 4..7, 0.5)];
    let assembler = ContextAssembler::new(100, &words).with_template(template.clone()).unwrap();
    let context = assembler.assemble("{text}?", &passages).unwrap();
    assert_eq!(context.prompt, "Q {text}?\n<1|a|2>two</1> ~ <2|b|1-3>one\ntwo\nthree</2>\nA");
    assert_eq!(context.left_out, [2]);
    // The first sentences of a passage that is too long.
    let long = "First of all. Second of all. Third of all.";
    let few = ContextAssembler::new(10, &words).with_template(template.clone()).unwrap();
    let context = few.assemble("q", &[passage("d", long, 0..long.len(), 1.0)]).unwrap();
    assert_eq!(context.citations[0].text, "First of all. Second of all. ");
    let refused =
        |question: &str, passages: &[Passage<'_>]| few.assemble(question, passages).unwrap_err().to_string();
    assert!(refused(&"many words ".repeat(20), &[]).contains("the question takes"));
    let one = passage("e", long, 0..5, 1.0);
    assert!(refused("q", &[Passage { bytes: 0..6, ..one.clone() }]).contains("\"e\", bytes 0..6"));
    assert!(refused("q", &[Passage { score: f64::NAN, ..one.clone() }]).contains("NaN"));
    let other = Passage { text: "FIRST", ..one.clone() };
    assert!(refused("q", &[one, other]).contains("disagree"));
    let without = Template { prompt: "{context}".into(), ..template };
    assert!(ContextAssembler::new(9, &words).with_template(without).is_err());
}
