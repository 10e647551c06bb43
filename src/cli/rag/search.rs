//! `samebits search`: the chunks of an index that answer best.

use core::ops::Range;
use std::io::{IsTerminal, Write};

use super::rerank::{RERANK, RERANK_FROM, Second};
use super::{
    ATTENTION_BESIDE, COMPUTE_BESIDE, FILTER, JSON, K, MODE, MODEL, RESIDENT, THREADS, arithmetic_beside,
    filter, mode, model_for, open_index,
};
use crate::cli::console::printable;
use crate::cli::{Args, Command, Console, Failure};
use crate::io::json::Writer;
use crate::nn::Arithmetic;
use crate::rag::highlight::Terms;
use crate::rag::index::{Excerpt, Found, Mode, Query};
use crate::rag::{Index, rerank};
use crate::run::Run;
use crate::{Result, cpu};

pub const COMMAND: Command = Command {
    name: "search",
    summary: "the parts of documents that answer a question best",
    operands: "FILE.sbi QUERY",
    arity: (2, 2),
    flags: &[
        K,
        MODE,
        FILTER,
        MODEL,
        RERANK,
        RERANK_FROM,
        COMPUTE_BESIDE,
        ATTENTION_BESIDE,
        RESIDENT,
        THREADS,
        JSON,
    ],
    notes: "\
FILE.sbi was made by `samebits index`. dense compares vectors (the cosine), lexical words (BM25); hybrid fuses
both rankings, each with scores from 0 to 1. What is shown is the part of a chunk with most of the query's
words, and file:line of it. --rerank DIR looks at more than k closely: scores are its own then, and --json has
`retrieved` beside them. The same file and query give the same bytes, on every machine.

COND is FIELD op VALUE, op being = != < <= > >= ^= (begins with) or *= (contains); or FIELD in (A, B); or
has FIELD; joined by and, or, not and parentheses. Fields are id, path, format, and those of JSON lines and
tables. What does not fulfil it is passed over before the search: k come as long as there are k.

Examples:
  samebits search notes.sbi 'how are block sizes chosen?'
  samebits search notes.sbi 'gemm tile' -k 3 --filter 'path ^= kernels/ and format = code' --json
",
    run,
};

fn run(args: &Args, console: &mut Console) -> Result<(), Failure> {
    let (_, index) = open_index(args)?;
    let Some(text) = args.operands()[1].to_str() else {
        return Err(Failure::usage("search: the query is not text", None));
    };
    let (mode, filter, pool) = (mode(args, index.settings())?, filter(args)?, args.pool()?);
    let run = Run::on(cpu::default()?, &pool);
    let model = match mode {
        Mode::Lexical => None,
        _ => Some(model_for(args.path("model"), index.settings())?),
    };
    let second = Second::of(args, index.settings(), arithmetic_beside(args, &["rerank"])?)?;
    let k = args.count("k", 1..=1 << 20)?.unwrap_or(10);
    let (filter, weight) = (filter.as_ref(), model.as_ref().map_or(1.0, |model| model.weight()));
    let vector = model.map(|model| model.embed_query(&run, text)).transpose()?;
    let query = Query { text, vector: vector.as_deref(), k, mode, filter, weight };
    if args.has("json") {
        writeln!(console, "{}", answer(&run, &index, &query, second.as_ref())?)?;
        return Ok(());
    }
    let all = look(&run, &index, &query, second.as_ref())?;
    let terms = Terms::of(index.settings().analyzer, text);
    let strong = if std::io::stdout().is_terminal() { ["\x1b[1m", "\x1b[0m"] } else { [""; 2] };
    for (i, hit) in all.iter().enumerate() {
        print(console, i + 1, hit, &terms, strong)?;
    }
    Ok(())
}

/// Bytes of a snippet, at most.
const SNIPPET: usize = 320;

fn print(
    console: &mut Console,
    rank: usize,
    hit: &Hit<'_>,
    terms: &Terms,
    [strong, plain]: [&str; 2],
) -> Result<(), Failure> {
    let (passage, score) = (&hit.passage, hit.score());
    let text = passage.text();
    let part = terms.snippet(text, SNIPPET);
    let line = passage.start.line + text[..part.start].matches('\n').count();
    let place = printable(&format!("{}:{line}", passage.document));
    let headings = if passage.headings.is_empty() { "" } else { "  " };
    writeln!(console, "{rank:>2}  {score:.4}  {place}{headings}{}", printable(passage.headings))?;
    let shown = &text[part.clone()];
    let mut at = 0;
    write!(console, "    ")?;
    for word in terms.places(shown) {
        write!(
            console,
            "{}{strong}{}{plain}",
            one_line(&shown[at..word.start]),
            printable(&shown[word.clone()])
        )?;
        at = word.end;
    }
    writeln!(console, "{}\n", one_line(&shown[at..]))?;
    Ok(())
}

/// Ends of lines as spaces; other control characters escaped.
fn one_line(text: &str) -> String {
    let mut line = String::new();
    for c in text.chars() {
        let space = matches!(c, '\n' | '\r' | '\t');
        if !(space && line.ends_with(' ')) {
            line.push(if space { ' ' } else { c });
        }
    }
    printable(&line)
}

/// What is found, and where it stands.
struct Hit<'i> {
    found: Found,
    passage: Excerpt<'i>,
    /// What the reranker says.
    reranked: Option<f64>,
}

impl Hit<'_> {
    /// By which it stands where it stands.
    fn score(&self) -> f64 {
        self.reranked.unwrap_or(self.found.score)
    }
}

fn look<'i>(
    run: &Run<'_>,
    index: &'i Index,
    query: &Query<'_>,
    second: Option<&Second>,
) -> Result<Vec<Hit<'i>>> {
    let from = second.map_or(query.k, |second| second.from.max(query.k));
    let found = index.search(run, &Query { k: from, ..*query })?;
    let hit = |found: Found| Ok(Hit { found, passage: index.excerpt(found.chunk)?, reranked: None });
    let mut all = found.into_iter().map(hit).collect::<Result<Vec<_>>>()?;
    index.check_unchanged()?;
    if let Some(Second { reranker, .. }) = second {
        let ranked = rerank::reranked(run, &**reranker, query.text, all, |hit| hit.passage.text())?;
        let scored = |(hit, score)| Hit { reranked: Some(score), ..hit };
        all = ranked.into_iter().take(query.k).map(scored).collect();
    }
    Ok(all)
}

/// What is found, as an object.
pub fn answer(run: &Run<'_>, index: &Index, query: &Query<'_>, second: Option<&Second>) -> Result<String> {
    let all = look(run, index, query, second)?;
    let terms = Terms::of(index.settings().analyzer, query.text);
    let mode = Mode::ALL.iter().find(|(_, mode)| *mode == query.mode).map_or("", |(name, _)| name);
    let mut w = Writer::compact();
    w.object(|w| {
        w.key("query").string(query.text);
        w.key("mode").string(mode);
        write_classes(w, index, second, None);
        w.key("hits").array(|w| all.iter().for_each(|hit| write(w, hit, &terms)));
    });
    Ok(w.finish())
}

/// What the models that an answer is made with compute in, where that is not f32.
pub fn write_classes(w: &mut Writer, index: &Index, second: Option<&Second>, llm: Option<Arithmetic>) {
    let of_index = Some(index.settings().arithmetic);
    for (whose, arithmetic) in [("", of_index), ("rerank_", second.map(|s| s.arithmetic)), ("llm_", llm)] {
        for (key, class) in arithmetic.into_iter().flat_map(Arithmetic::unusual) {
            w.key(&format!("{whose}{key}")).string(class);
        }
    }
}

/// A chunk with its scores and places; `highlights` are bytes of `text`.
fn write(w: &mut Writer, hit: &Hit<'_>, terms: &Terms) {
    let Hit { found, passage, .. } = hit;
    w.object(|w| {
        w.key("document").string(passage.document);
        w.key("score").number(hit.score());
        let retrieved = hit.reranked.map(|_| found.score);
        for (key, score) in [("retrieved", retrieved), ("dense", found.dense), ("lexical", found.lexical)] {
            if let Some(score) = score {
                w.key(key).number(score);
            }
        }
        w.key("chunk").number(found.chunk);
        w.key("line").number(passage.start.line);
        w.key("column").number(passage.start.column);
        w.key("end_line").number(passage.end.line);
        range(w.key("bytes"), &passage.bytes);
        if !passage.headings.is_empty() {
            w.key("headings").string(passage.headings);
        }
        w.key("text").string(passage.text());
        w.key("highlights").array(|w| {
            terms.places(passage.text()).iter().for_each(|word| range(w, word));
        });
    });
}

fn range(w: &mut Writer, range: &Range<usize>) {
    w.array(|w| [range.start, range.end].into_iter().for_each(|at| w.number(at)));
}
