//! `samebits eval`: how good a search is, on a collection with judgements.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use super::{JSON, NEW_MODEL, THREADS, choice, embed_chunks, model_at};
use crate::cli::args::{ATTENTION, COMPUTE};
use crate::cli::{Align, Args, Command, Console, Failure, Flag, Progress, Table, Takes, read_text};
use crate::io::json::Writer;
use crate::rag::evaluate::{self, Measures, Relevant};
use crate::rag::index::{Aids, Builder, Chunking, Mode, Settings, Strategy};
use crate::rag::{Document, EmbeddingModel, Index, Retriever};
use crate::run::Run;
use crate::{Error, cpu};

pub const COMMAND: Command = Command {
    name: "eval",
    summary: "how good a search is, on a collection with judgements",
    operands: "BEIR_DIR",
    arity: (1, 1),
    flags: &[
        Flag {
            name: "mode",
            takes: Takes::One("M"),
            help: "dense, lexical or hybrid; all three unless given",
        },
        NEW_MODEL,
        Flag { name: "split", takes: Takes::One("NAME"), help: "qrels/NAME.tsv; test unless given" },
        Flag { name: "limit", takes: Takes::One("N"), help: "the first N queries alone" },
        COMPUTE,
        ATTENTION,
        THREADS,
        JSON,
    ],
    notes: "\
BEIR_DIR has corpus.jsonl, queries.jsonl and qrels/test.tsv, as the BEIR benchmark (or TREC's lines: query, 0,
document, grade). A document is a chunk. Measures are those of trec_eval: nDCG, recall and precision at 10,
MRR at 10, MAP and recall at 100, means over all queries with a judgement.

Examples:
  samebits eval scifact --mode lexical
  samebits eval scifact --model all-MiniLM-L6-v2 --json
",
    run,
};

fn run(args: &Args, console: &mut Console) -> Result<(), Failure> {
    let folder = Path::new(&args.operands()[0]);
    let modes: Vec<(&str, Mode)> = match choice(args, "mode", &Mode::ALL)? {
        Some(mode) => Mode::ALL.into_iter().filter(|(_, known)| *known == mode).collect(),
        None => Mode::ALL.into(),
    };
    let model = match modes[..] {
        [(_, Mode::Lexical)] => None,
        _ => Some(model_at(args.path("model").as_deref(), args.arithmetic()?)?),
    };
    let collection = Collection::read(folder, args)?;
    let pool = args.pool()?;
    let run = Run::on(cpu::default()?, &pool);
    let index = index_of(folder, model.as_deref(), &run, console)?;
    let mut rows = Vec::new();
    let mut progress = Progress::new();
    for (name, mode) in modes {
        let retriever = Retriever::new(&index, model.as_deref())?.with_mode(mode).with_k(100);
        let mut each = Vec::new();
        for (i, (text, relevant)) in collection.queries.iter().enumerate() {
            console.check_interrupt()?;
            progress.show(format_args!("{name}: query {} of {}", i + 1, collection.queries.len()));
            let found = retriever.retrieve(&run, text)?;
            let ids = found.iter().map(|found| index.excerpt(found.chunk).map(|p| p.document));
            let ids = ids.collect::<crate::Result<Vec<&str>>>()?;
            each.push([10, 100].map(|k| evaluate::at(&ids, relevant, k)));
        }
        let at = |which: usize| evaluate::mean(&each.iter().map(|both| both[which]).collect::<Vec<_>>());
        rows.push((name, [at(0), at(1)]));
    }
    progress.clear();
    print(args, console, &collection, &rows)
}

/// The queries of a split with what answers them.
struct Collection {
    name: String,
    queries: Vec<(String, Relevant)>,
}

impl Collection {
    fn read(folder: &Path, args: &Args) -> Result<Collection, Failure> {
        let path = folder.join("qrels").join(format!("{}.tsv", args.text("split")?.unwrap_or("test")));
        let judged = evaluate::judgements(&read_text(&path)?).map_err(|e| e.in_file(path.display()))?;
        let path = folder.join("queries.jsonl");
        let texts = evaluate::texts(&read_text(&path)?).map_err(|e| e.in_file(path.display()))?;
        let texts: BTreeMap<String, String> = texts.into_iter().collect();
        let limit = args.count("limit", 1..=usize::MAX)?.unwrap_or(usize::MAX);
        // Those for whom nothing is relevant say nothing of a ranking.
        let judged = judged.into_iter().filter(|(_, relevant)| relevant.values().any(|&grade| grade > 0));
        let query = |(id, relevant): (String, Relevant)| {
            let none = || Error::invalid(format!("no query {id:?}, of which there are judgements"));
            Ok((texts.get(&id).cloned().ok_or_else(|| none().in_file(path.display()))?, relevant))
        };
        let queries = judged.take(limit).map(query).collect::<crate::Result<Vec<_>>>()?;
        let name = folder.file_name().map(|name| name.to_string_lossy().into_owned());
        Ok(Collection { name: name.unwrap_or_default(), queries })
    }
}

/// The corpus, a document a chunk.
fn index_of(
    folder: &Path,
    model: Option<&dyn EmbeddingModel>,
    run: &Run<'_>,
    console: &Console,
) -> Result<Index, Failure> {
    let path = folder.join("corpus.jsonl");
    let texts = evaluate::texts(&read_text(&path)?).map_err(|e| e.in_file(path.display()))?;
    let chunking = Chunking { strategy: Strategy::Whole, ..Chunking::default() };
    let mut builder = Builder::new(Settings { chunking, ..Settings::default() });
    for (id, text) in texts {
        builder.add(Document::new(id, text), Aids::default())?;
    }
    if let Some(model) = model {
        embed_chunks(&mut builder, run, model, (&mut Progress::new(), console))?;
    }
    Ok(Index::from_bytes(&builder.to_bytes())?)
}

/// Of the first 10 and of the first 100.
type Row<'r> = (&'r str, [Measures; 2]);

fn print(args: &Args, console: &mut Console, of: &Collection, rows: &[Row<'_>]) -> Result<(), Failure> {
    let arithmetic = args.arithmetic()?;
    let named = |[ten, hundred]: &[Measures; 2]| {
        [
            ("ndcg@10", ten.ndcg),
            ("recall@10", ten.recall),
            ("precision@10", ten.precision),
            ("mrr@10", ten.mrr),
            ("hit@10", ten.hit),
            ("map@100", hundred.map),
            ("recall@100", hundred.recall),
        ]
    };
    if args.has("json") {
        let mut w = Writer::compact();
        w.object(|w| {
            w.key("collection").string(&of.name);
            w.key("queries").number(of.queries.len());
            arithmetic.named().into_iter().for_each(|(key, class)| w.key(key).string(class));
            w.key("modes").object(|w| {
                for (name, measures) in rows {
                    w.key(name).object(|w| named(measures).iter().for_each(|(key, x)| w.key(key).number(*x)));
                }
            });
        });
        writeln!(console, "{}", w.finish())?;
        return Ok(());
    }
    let right = Align::Right;
    let mut table = Table::new([
        ("mode", Align::Left),
        ("nDCG@10", right),
        ("recall@10", right),
        ("precision@10", right),
        ("MRR@10", right),
        ("hit@10", right),
        ("MAP@100", right),
        ("recall@100", right),
    ]);
    for (name, measures) in rows {
        let [a, b, c, d, e, f, g] = named(measures).map(|(_, x)| format!("{x:.4}"));
        table.row([(*name).into(), a, b, c, d, e, f, g]);
    }
    writeln!(console, "{}: {} queries\n{table}", of.name, of.queries.len())?;
    Ok(())
}
