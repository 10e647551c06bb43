//! `samebits bench --model`.

use std::io::Write;
use std::path::Path;

use super::rate;
use crate::bench::model::{Plan, Row, load, measure};
use crate::cli::{Align, Args, Console, Failure, Progress, Table};
use crate::cpu;
use crate::io::json::Writer;
use crate::model::{CacheType, Model, Opening};
use crate::nn::Arithmetic;
use crate::pool::{MAX_THREADS, Pool};

/// Tokens of a prompt or a text at most.
const MOST: usize = 1 << 20;
/// Turns after the one that warms up.
const TURNS: usize = 5;
/// The same, of opening the model in both ways.
const LOADS: usize = 3;

pub fn run(path: &Path, args: &Args, console: &mut Console) -> Result<(), Failure> {
    let others = ["shape", "weights", "csv", "svg", "seconds"];
    super::alone(args, ("model", "a model"), &others)?;
    let (cpu, _) = cpu::choose(args.text("tier")?)?;
    let kind = args.cache()?;
    let threads = args.count("threads", 1..=MAX_THREADS)?.unwrap_or(1);
    let pool = Pool::new(threads);
    let mut progress = Progress::new();
    progress.show(format_args!("reading {}", path.display()));
    let turns = args.count("turns", 1..=1000)?;
    let plan = Plan {
        turns: turns.unwrap_or(TURNS),
        kind,
        prompts: prompts(args)?,
        tokens: args.count("tokens", 0..=MOST)?.unwrap_or(128),
    };
    let opening = Opening { arithmetic: args.arithmetic()?, ..Opening::mapped() };
    let loads = load((path, opening), cpu, &pool, turns.unwrap_or(LOADS))?;
    let model = Model::open_with(path, cpu, opening)?;
    console.check_interrupt()?;
    progress.show("measuring");
    let rows: Vec<Row> = loads.into_iter().chain(measure(&model, &plan, cpu, &pool)?).collect();
    progress.clear();
    if args.has("json") {
        writeln!(console, "{}", json((path, cpu.tier().name()), threads, (kind, opening.arithmetic), &rows))?;
        return Ok(());
    }
    let (path, cache, [(_, class), (_, attention)]) =
        (path.display(), kind.name(), opening.arithmetic.named());
    let tier = cpu.tier();
    write!(console, "{path} on {tier}, {threads} threads, {cache} cache, products in {class}")?;
    writeln!(console, ", attention in {attention}")?;
    write!(console, "{}", table("test", &rows))?;
    Ok(())
}

/// What was measured, a line each; `heading` stands above the names.
pub(super) fn table(heading: &'static str, rows: &[Row]) -> Table {
    let mut table = Table::new([
        (heading, Align::Left),
        ("median", Align::Right),
        ("", Align::Left),
        ("(min–max)", Align::Left),
        ("of peak", Align::Right),
        ("bound", Align::Left),
    ]);
    for Row { test, unit, rate: r, bound, of_peak } in rows {
        let range = format!("({}–{})", rate(r.min), rate(r.max));
        let share = format!("{:.0} %", 100.0 * of_peak.median);
        table.row([test.clone(), rate(r.median), (*unit).into(), range, share, (*bound).into()]);
    }
    table
}

/// `--prompt`: lengths.
fn prompts(args: &Args) -> Result<Vec<usize>, Failure> {
    let given = args.all("prompt").map(|text| {
        let n = text.to_str().and_then(|text| text.parse().ok()).filter(|n| *n <= MOST);
        n.ok_or_else(|| Failure::usage(format!("bench: --prompt {text:?}: tokens from 0 to {MOST}"), None))
    });
    let given = given.collect::<Result<Vec<usize>, Failure>>()?;
    Ok(if given.is_empty() { vec![512] } else { given })
}

fn json(
    (path, tier): (&Path, &str),
    threads: usize,
    (kind, arithmetic): (CacheType, Arithmetic),
    rows: &[Row],
) -> String {
    let mut w = Writer::compact();
    w.object(|w| {
        w.key("model").string(&path.to_string_lossy());
        w.key("tier").string(tier);
        w.key("threads").number(threads);
        w.key("cache").string(kind.name());
        arithmetic.named().into_iter().for_each(|(key, class)| w.key(key).string(class));
        w.key("rows").array(|w| {
            for row in rows {
                w.object(|w| {
                    w.key("test").string(&row.test);
                    w.key("unit").string(row.unit);
                    row.rate.write(w.key("rate"));
                    w.key("bound").string(row.bound);
                    row.of_peak.write(w.key("of_peak"));
                });
            }
        });
    });
    w.finish()
}
