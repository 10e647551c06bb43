//! `samebits ask`: an answer from an index, with what it rests on.

use std::io::{IsTerminal, Write};

use super::llm::{CHAT, LLM, Llm, MAX_TOKENS};
use super::rerank::{RERANK, RERANK_FROM, Second};
use super::search::write_classes;
use super::{
    ATTENTION_BESIDE, COMPUTE_BESIDE, EMBEDDER, FILTER, JSON, MODE, RESIDENT, THREADS, arithmetic_beside,
    filter, mode, model_for, open_index,
};
use crate::cli::console::printable;
use crate::cli::{Args, Command, Console, Failure, Flag, Takes};
use crate::cpu;
use crate::io::json::Writer;
use crate::rag::Retriever;
use crate::rag::context::ContextAssembler;
use crate::rag::index::Mode;
use crate::rag::pipeline::{Answer, Quote, RagPipeline};
use crate::run::Run;

pub const COMMAND: Command = Command {
    name: "ask",
    summary: "an answer from an index, with what it rests on",
    operands: "FILE.sbi QUESTION",
    arity: (2, 2),
    flags: &[
        LLM,
        CHAT,
        MAX_TOKENS,
        EMBEDDER,
        Flag { name: "k", takes: Takes::One("N"), help: "chunks that are looked at; 20 unless given" },
        Flag {
            name: "quotes",
            takes: Takes::One("N"),
            help: "quotes of an answer without a model; 5 unless given",
        },
        MODE,
        FILTER,
        RERANK,
        RERANK_FROM,
        Flag {
            name: "trace",
            takes: Takes::Nothing,
            help: "what every stage looked at, with scores and times",
        },
        COMPUTE_BESIDE,
        ATTENTION_BESIDE,
        RESIDENT,
        THREADS,
        JSON,
    ],
    notes: "\
Chunks that answer the question are found, joined where they touch, and put into a prompt no longer than the
model's context, each as [n]. The model's answer is then checked: quotations are looked for in the sources,
every [n] must be one of them, and support is the share of its runs of three words that stand there. Without
--model the answer are the sentences that have most of what was asked, as they stand in the documents.
--rerank DIR reads more passages than k closely, and puts the best first before the prompt is made.

Examples:
  samebits ask notes.sbi 'Why are blocks of 256 used?'
  samebits ask notes.sbi 'Who is the tenant?' --model qwen2-0.5b --chat chatml --trace
  samebits ask notes.sbi 'Who is the tenant?' --rerank ms-marco-MiniLM-L6-v2
",
    run,
};

fn run(args: &Args, console: &mut Console) -> Result<(), Failure> {
    let (_, index) = open_index(args)?;
    let Some(question) = args.operands()[1].to_str() else {
        return Err(Failure::usage("ask: the question is not text", None));
    };
    let (mode, filter, pool) = (mode(args, index.settings())?, filter(args)?, args.pool()?);
    let embedder = match mode {
        Mode::Lexical => None,
        _ => Some(model_for(args.path("embedder"), index.settings())?),
    };
    let arithmetic = arithmetic_beside(args, &["model", "rerank"])?;
    let (llm, second) = (Llm::of(args, arithmetic)?, Second::of(args, index.settings(), arithmetic)?);
    let run = Run::on(cpu::default()?, &pool);
    let k = args.count("k", 1..=1 << 16)?.unwrap_or(20);
    let mut retriever = Retriever::new(&index, embedder.as_deref())?.with_mode(mode).with_k(k);
    if let Some(filter) = &filter {
        retriever = retriever.with_filter(filter);
    }
    let quotes = args.count("quotes", 1..=100)?.unwrap_or(5);
    let stages = Stages { retriever, second: second.as_ref(), llm: llm.as_ref(), quotes };
    let answer = answer(&run, &stages, question)?;
    if args.has("json") {
        writeln!(console, "{}", json(&answer, &stages, args.has("trace")))?;
        return Ok(());
    }
    print(console, &answer, llm.is_some())?;
    if args.has("trace") { print_trace(console, &answer) } else { Ok(()) }
}

/// What a question goes through.
pub struct Stages<'s> {
    pub retriever: Retriever<'s>,
    pub second: Option<&'s Second>,
    pub llm: Option<&'s Llm>,
    /// Of an answer without a language model, at most.
    pub quotes: usize,
}

/// The answer to a question.
pub fn answer(run: &Run<'_>, stages: &Stages<'_>, question: &str) -> crate::Result<Answer> {
    let &Stages { retriever, second, llm, quotes } = stages;
    // Without a model nothing limits the prompt: all that was found may be quoted.
    let count = |text: &str| llm.map_or(1, |llm| llm.count(text));
    let assembler = ContextAssembler::new(llm.map_or(1, Llm::budget), &count);
    let mut pipeline = RagPipeline::new(retriever, assembler).with_quotes(quotes);
    if let Some(second) = second {
        pipeline = pipeline.with_reranker_of(&*second.reranker, second.from);
    }
    if let Some(llm) = llm {
        pipeline = pipeline.with_llm(|prompt| llm.answer(run, prompt));
    }
    let answer = pipeline.ask(run, question)?;
    retriever.index().check_unchanged()?;
    Ok(answer)
}

fn print(console: &mut Console, answer: &Answer, written: bool) -> Result<(), Failure> {
    let strong = if std::io::stdout().is_terminal() { ["\x1b[1m", "\x1b[0m"] } else { [""; 2] };
    if answer.context.citations.is_empty() {
        writeln!(console, "Nothing was found.")?;
        return Ok(());
    }
    if written {
        writeln!(console, "{}\n", printable_lines(&answer.text))?;
        writeln!(console, "support {:.0} %", 100.0 * answer.support)?;
        for n in &answer.unknown_marks {
            writeln!(console, "[{n}] is none of the sources")?;
        }
    }
    for Quote { text, source } in &answer.quotes {
        let [on, off] = strong;
        match source {
            Some(source) => {
                let (first, last) = source.lines;
                let lines = if first == last { format!("{first}") } else { format!("{first}-{last}") };
                let place = printable(&format!("{}:{lines}", source.document));
                writeln!(console, "{on}[{}] {place}{off}\n{}\n", source.citation, printable_lines(text))?;
            }
            None => writeln!(console, "not in the sources: {on}{}{off}\n", printable_lines(text))?,
        }
    }
    Ok(())
}

/// Text whose lines stay lines.
fn printable_lines(text: &str) -> String {
    text.lines().map(|line| format!("  {}", printable(line))).collect::<Vec<_>>().join("\n")
}

/// Items of a stage that are shown.
const SHOWN: usize = 5;

fn print_trace(console: &mut Console, answer: &Answer) -> Result<(), Failure> {
    for stage in &answer.trace {
        writeln!(console, "{:<9} {:8.2} ms", stage.name, 1e3 * stage.seconds)?;
        for (what, score) in stage.items.iter().take(SHOWN) {
            writeln!(console, "    {score:8.4}  {}", printable(what))?;
        }
        if stage.items.len() > SHOWN {
            writeln!(console, "    … {} more", stage.items.len() - SHOWN)?;
        }
    }
    Ok(())
}

/// An answer as an object; with times only where the trace is asked for.
pub fn json(answer: &Answer, stages: &Stages<'_>, trace: bool) -> String {
    let mut w = Writer::compact();
    w.object(|w| {
        w.key("question").string(&answer.question);
        w.key("answer").string(&answer.text);
        write_classes(w, stages.retriever.index(), stages.second, stages.llm.map(Llm::arithmetic));
        w.key("support").number(answer.support);
        w.key("quotes").array(|w| answer.quotes.iter().for_each(|quote| write_quote(w, quote)));
        w.key("unknown_marks").array(|w| answer.unknown_marks.iter().for_each(|&n| w.number(n)));
        w.key("citations").array(|w| {
            for citation in &answer.context.citations {
                w.object(|w| {
                    w.key("n").number(citation.number);
                    w.key("document").string(&citation.document);
                    pair(w, "lines", citation.lines);
                    pair(w, "bytes", (citation.bytes.start, citation.bytes.end));
                    w.key("score").number(citation.score);
                    w.key("text").string(&citation.text);
                });
            }
        });
        if trace {
            w.key("trace").array(|w| answer.trace.iter().for_each(|stage| write_stage(w, stage)));
        }
    });
    w.finish()
}

fn pair(w: &mut Writer, key: &str, (first, last): (usize, usize)) {
    w.key(key).array(|w| [first, last].into_iter().for_each(|n| w.number(n)));
}

fn write_quote(w: &mut Writer, quote: &Quote) {
    w.object(|w| {
        w.key("text").string(&quote.text);
        w.key("verified").boolean(quote.source.is_some());
        if let Some(source) = &quote.source {
            w.key("n").number(source.citation);
            w.key("document").string(&source.document);
            pair(w, "lines", source.lines);
            pair(w, "bytes", (source.bytes.start, source.bytes.end));
        }
    });
}

fn write_stage(w: &mut Writer, stage: &crate::rag::pipeline::Stage) {
    w.object(|w| {
        w.key("name").string(stage.name);
        w.key("ms").number(1e3 * stage.seconds);
        w.key("items").array(|w| {
            for (what, score) in &stage.items {
                w.object(|w| {
                    w.key("what").string(what);
                    w.key("score").number(*score);
                });
            }
        });
    });
}
