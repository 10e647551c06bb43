//! `samebits bench --search`.

use std::io::Write;
use std::path::Path;

use crate::bench::search::{Measured, Plan, measure};
use crate::cli::{Args, Console, Failure, Progress};
use crate::cpu;
use crate::io::json::Writer;
use crate::pool::{MAX_THREADS, Pool};
use crate::rag::vectors::VectorType;

/// The types, as `--type` names them.
const TYPES: [&str; 5] = ["f32", "f16", "int8", "nf4", "binary"];

pub fn run(path: &Path, args: &Args, console: &mut Console) -> Result<(), Failure> {
    let others = [
        "model",
        "train",
        "shape",
        "weights",
        "csv",
        "svg",
        "seconds",
        "cold",
        "cache",
        "compute",
        "attention",
        "prompt",
        "tokens",
    ];
    super::alone(args, ("search", "searches"), &others)?;
    let name = args.text("type")?.unwrap_or(TYPES[0]);
    let unknown = || Failure::usage(format!("bench: --type {name:?}: {}", TYPES.join(", ")), None);
    let place = TYPES.iter().position(|known| *known == name).ok_or_else(unknown)?;
    let count = |text: &std::ffi::OsStr| text.to_str().and_then(|text| text.parse().ok()).filter(|&n| n > 0);
    let graph = args.all("graph").map(|text| {
        let wrong = || Failure::usage(format!("bench: --graph {text:?}: a number of nodes from 1 on"), None);
        count(text).ok_or_else(wrong)
    });
    let plan = Plan {
        dim: args.count("dim", 1..=1 << 16)?.unwrap_or(384),
        kind: VectorType::ALL[place],
        candidates: args.count("candidates", 1..=1 << 20)?,
        graph: graph.collect::<Result<_, _>>()?,
        turns: args.count("turns", 1..=1000)?.unwrap_or(5),
    };
    let (cpu, _) = cpu::choose(args.text("tier")?)?;
    let threads = args.count("threads", 1..=MAX_THREADS)?.unwrap_or(1);
    let mut progress = Progress::new();
    progress.show(format_args!("searching {}", path.display()));
    let measured = measure(path, &plan, cpu, &Pool::new(threads))?;
    progress.clear();
    if args.has("json") {
        writeln!(console, "{}", json(name, cpu.tier().name(), threads, &measured))?;
        return Ok(());
    }
    let Measured { rows, read, one, of_read, many, of_fma, recall, .. } = &measured;
    writeln!(console, "{rows} rows of {} × {name} on {}, {threads} threads", plan.dim, cpu.tier())?;
    let (of_read, of_fma) = (100.0 * of_read.median, 100.0 * of_fma.median);
    writeln!(console, "one query    {:8.2} ms   {of_read:.0} % of read {:.1} GB/s", one.median, read.median)?;
    writeln!(console, "64 queries   {:8.1} /s   {of_fma:.0} % of fma   recall@10 {recall:.4}", many.median)?;
    for walks in &measured.walks {
        let (rate, ef, recall, build) = (walks.rate.median, walks.ef, walks.recall, measured.build);
        writeln!(console, "graph, ef {ef:<4}{rate:8.0} /s   recall@10 {recall:.4}   built in {build:.1} s")?;
    }
    Ok(())
}

fn json(kind: &str, tier: &str, threads: usize, measured: &Measured) -> String {
    let mut w = Writer::compact();
    w.object(|w| {
        w.key("type").string(kind);
        w.key("tier").string(tier);
        w.key("threads").number(threads);
        w.key("rows").number(measured.rows);
        w.key("bytes").number(measured.bytes);
        measured.read.write(w.key("read_gbs"));
        measured.one.write(w.key("one_ms"));
        measured.of_read.write(w.key("of_read"));
        measured.many.write(w.key("many_qps"));
        measured.of_fma.write(w.key("of_fma"));
        w.key("recall").number(measured.recall);
        w.key("build_s").number(measured.build);
        w.key("walks").array(|w| {
            for walks in &measured.walks {
                w.object(|w| {
                    w.key("ef").number(walks.ef);
                    walks.rate.write(w.key("qps"));
                    w.key("recall").number(walks.recall);
                });
            }
        });
    });
    w.finish()
}
