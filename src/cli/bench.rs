//! `samebits bench`: the kernels against this core's measured peak and against plain Rust loops.

use std::io::Write;
use std::path::Path;

use super::nearest::nearest;
use super::{Align, Args, Command, Console, Failure, Flag, Progress, Table, Takes, weights};
use crate::bench::cold::Cache;
use crate::bench::record;
use crate::bench::report::{Report, Row};
use crate::bench::rows::{Entry, entries};
use crate::bench::{Plan, Session, shape};
use crate::io::atomic;
use crate::pool::{MAX_THREADS, Pool};
use crate::{Cpu, cpu};

mod compare;
mod model;
mod search;
mod train;

pub const COMMAND: Command = Command {
    name: "bench",
    summary: "kernels in GFLOP/s and GB/s, against this core's measured peak and plain Rust loops",
    operands: "[KERNEL…]",
    arity: (0, usize::MAX),
    flags: &[
        Flag { name: "tier", takes: Takes::One("T|all"), help: "an instruction set, or all of this machine" },
        Flag {
            name: "threads",
            takes: Takes::One("N"),
            help: "threads of every measurement; 1 unless given",
        },
        Flag { name: "shape", takes: Takes::Many("MxNxK"), help: "instead of the kernel's own shapes" },
        Flag { name: "weights", takes: Takes::One("FILE"), help: "the matrices of a .safetensors file" },
        Flag {
            name: "model",
            takes: Takes::One("PATH"),
            help: "a whole model: loading, pp512 and tg128, or texts/s",
        },
        Flag { name: "train", takes: Takes::One("DIR"), help: "steps of training a model" },
        Flag {
            name: "search",
            takes: Takes::One("FILE"),
            help: "searching vectors: a file of little-endian f32",
        },
        Flag {
            name: "dim",
            takes: Takes::One("N"),
            help: "with --search: elements of a vector; 384 unless given",
        },
        Flag {
            name: "type",
            takes: Takes::One("T"),
            help: "with --search: f32 (unless given), f16, int8, nf4 or binary",
        },
        Flag {
            name: "candidates",
            takes: Takes::One("N"),
            help: "with --search: what codes find for each row; int8 4, nf4 10, binary 40",
        },
        Flag {
            name: "graph",
            takes: Takes::Many("EF"),
            help: "with --search: build a graph too; walks keep EF nodes",
        },
        Flag {
            name: "method",
            takes: Takes::One("M"),
            help: "with --train: lora (unless given), qlora or full",
        },
        Flag {
            name: "batch",
            takes: Takes::One("B"),
            help: "with --train: sequences of a step; 4 unless given",
        },
        Flag {
            name: "seq-len",
            takes: Takes::One("N"),
            help: "with --train: tokens of each; 256 unless given",
        },
        Flag {
            name: "recompute",
            takes: Takes::Nothing,
            help: "with --train: activations twice: less memory",
        },
        Flag {
            name: "cache",
            takes: Takes::One("TYPE"),
            help: "with --model: keys and values f32, bf16 or int8",
        },
        Flag {
            name: "compute",
            takes: Takes::One("CLASS"),
            help: "with --model: products in f32, bf16 or int8; with --train f32 or bf16",
        },
        Flag {
            name: "attention",
            takes: Takes::One("CLASS"),
            help: "with --model: attention's products in f32 or bf16",
        },
        Flag {
            name: "seconds",
            takes: Takes::One("S"),
            help: "for each kernel, shape and tier; 1 unless given",
        },
        Flag {
            name: "prompt",
            takes: Takes::Many("N"),
            help: "with --model: tokens of prompts; 512 unless given",
        },
        Flag {
            name: "tokens",
            takes: Takes::One("N"),
            help: "with --model: tokens to generate; 128 unless given",
        },
        Flag {
            name: "turns",
            takes: Takes::One("N"),
            help: "with --model, --train or --search: how often each is measured; 5 unless given",
        },
        Flag { name: "cold", takes: Takes::Nothing, help: "empty the caches before each call" },
        Flag { name: "json", takes: Takes::Nothing, help: "the run as JSON, in the format below" },
        Flag { name: "csv", takes: Takes::Nothing, help: "the run as comma-separated values" },
        Flag { name: "svg", takes: Takes::One("FILE"), help: "draw the roofline" },
        Flag {
            name: "record",
            takes: Takes::Nothing,
            help: "add the run to benches/record/PROCESSOR/DATE.json",
        },
        Flag {
            name: "compare",
            takes: Takes::Nothing,
            help: "two records or runs, A B: a verdict for each kernel",
        },
    ],
    notes: NOTES,
    run,
};

const NOTES: &str = concat!(
    "\
A KERNEL is a name or a part of one; without any, all are measured. Samples of the ceiling that binds a
kernel, of the kernel and of a plain Rust loop take turns; figures are medians (smallest to largest), and a
share of the peak is the median of the shares within a turn, so that it survives a noisy machine.

  of peak   fma: this tier's multiply-adds in registers · read, write, copy, update: memory traffic of that
            kind over a buffer as large as the kernel's data
  --cold    a call finds nothing in the caches, as a layer's weights do after all other layers: before each,
            and before each pass of a memory peak, a buffer twice the last cache is walked
  plain     the same in ordinary Rust, slices and iterators, compiled for the baseline target

Examples:
  samebits bench gemm --tier all --svg roofline.svg
  samebits bench gemv --shape 4096x4096 --threads 2 --json
  samebits bench gemv dot --cold
  samebits bench --weights model.safetensors --threads 2
  samebits bench gemm attention --record
  samebits bench --compare benches/record/amd-epyc/2026-11-29.json today.json
  samebits bench --model all-MiniLM-L6-v2 --threads 2
  samebits bench --model llama.gguf --prompt 256 --prompt 512 --tokens 64 --turns 3
  samebits bench --search vectors.f32 --type int8
  samebits bench --train Llama-3.2-1B --method qlora --batch 4 --seq-len 256

--record keeps runs, all of a day in one file, below the folder that it is called in. --compare reads such
files, or what --json printed: kernels by their shares of the peak, which a neighbour or another clock moves
little. slower and faster are beyond the noise: 6 %, and of either run all that lies between its smallest
and largest share. other bits: the results are not the same. other processor: measured on another, where a
share of the peak says nothing of the program. Its --json: [{kernel, shape, tier, threads, cache,
before, after: {rate, of_peak, spread}?, ratio?, noise?, verdict}].

--weights takes the matrices of a safetensors file (or a model's folder), those of one shape together: a call
goes through all of them. Products have 128 rows; shapes read N x K × how many.

--model measures a decoder as llama-bench does (a prompt of 512 tokens; 128 tokens one by one), an encoder in
texts a second, each in turns with the ceiling that binds it; before that, how long the model takes to open,
its files read or mapped. Its --json is {model, tier, threads, cache,
rows: [{test, unit, rate, bound, of_peak}]}, rate and of_peak being summaries.

--train measures steps of training on drawn tokens (AdamW; adapters of rank 8 on every linear layer of the
blocks), in turns with the ceiling and with the step's matrix products alone, and reads the peak of the
process's memory. Its --json is {model, tier, threads, step: {ms, of_peak}, products: {ms, of_peak},
share_of_products, peak_bytes}.

--search measures searches for the ten closest of a file's rows (but its last 1,000, which are queries) under
cosine, on each turn beside the reading of the same memory and the ceiling of multiply-adds. Its --json is
{type, tier, threads, rows, bytes, read_gbs, one_ms, of_read, many_qps, of_fma, recall, build_s,
walks: [{ef, qps, recall}]}; many are 64 queries at once, walks those of --graph.

Fields of --json (`?` may be null; a summary has median, min, max and samples):
",
    include_str!("../bench/schema.txt")
);

/// A flag that measures something of its own: no kernel is named beside it, and none of `others`, which say how kernels or
/// other things are measured.
fn alone(args: &Args, (flag, what): (&str, &str), others: &[&str]) -> Result<(), Failure> {
    if let Some(other) = others.iter().find(|name| args.has(name)) {
        return Err(Failure::usage(format!("bench: --{flag} and --{other} exclude each other"), None));
    }
    if !args.operands().is_empty() {
        return Err(Failure::usage(format!("bench: --{flag} measures {what}, not kernels"), None));
    }
    Ok(())
}

fn run(args: &Args, console: &mut Console) -> Result<(), Failure> {
    if args.has("json") && args.has("csv") {
        return Err(Failure::usage("bench: --json and --csv exclude each other", None));
    }
    if args.has("compare") {
        return compare::run(args, console);
    }
    if let Some(path) = args.path("train") {
        return train::run(&path, args, console);
    }
    if let Some(path) = args.path("search") {
        return search::run(&path, args, console);
    }
    if let Some(name) = ["dim", "type", "candidates", "graph"].into_iter().find(|name| args.has(name)) {
        return Err(Failure::usage(format!("bench: --{name} goes with --search"), None));
    }
    let of_training = ["method", "batch", "seq-len", "recompute"];
    if let Some(name) = of_training.into_iter().find(|name| args.has(name)) {
        return Err(Failure::usage(format!("bench: --{name} goes with --train"), None));
    }
    if let Some(path) = args.path("model") {
        return model::run(&path, args, console);
    }
    if let Some(name) = ["prompt", "tokens", "turns"].into_iter().find(|name| args.has(name)) {
        return Err(Failure::usage(format!("bench: --{name} goes with --model"), None));
    }
    if let Some(name) = ["cache", "compute", "attention"].into_iter().find(|name| args.has(name)) {
        return Err(Failure::usage(format!("bench: --{name} goes with --model"), None));
    }
    let cpus = tiers(args.text("tier")?)?;
    let threads = args.count("threads", 1..=MAX_THREADS)?.unwrap_or(1);
    let seconds = args.number("seconds", 0.001..=3600.0)?.unwrap_or(1.0);
    let weights = args.path("weights");
    if weights.is_some() && (args.has("shape") || !args.operands().is_empty()) {
        return Err(Failure::usage("bench: --weights brings its own kernels and shapes", None));
    }
    let work = if weights.is_some() { Vec::new() } else { choose(args)? };
    let pool = Pool::new(threads);
    let cache = if args.has("cold") { Cache::Cold } else { Cache::Warm };
    let mut session = Session::new(&pool, cpus, Plan { seconds, cache, ..Plan::default() });
    let mut progress = Progress::new();
    progress.show("measuring the ceilings of this machine");
    session.roofline();
    for (i, (entry, dims)) in work.iter().enumerate() {
        progress.show(format_args!("{}/{}: {} {}", i + 1, work.len(), entry.name, shape(dims)));
        session.measure(entry, dims);
        console.check_interrupt()?;
    }
    if let Some(path) = weights {
        weights::measure(&path, &mut session, &mut progress, console)?;
    }
    progress.clear();
    let report = session.finish();
    print(&report, args, console)?;
    if args.has("record") {
        let path = record::add(Path::new("benches/record"), &report)?;
        eprintln!("recorded in {}", path.display());
    }
    Ok(())
}

fn print(report: &Report, args: &Args, console: &mut Console) -> Result<(), Failure> {
    if let Some(path) = args.path("svg") {
        atomic::write(&path, |file| file.write_all(report.svg().as_bytes()))?;
    }
    if args.has("json") {
        writeln!(console, "{}", report.json())?;
    } else if args.has("csv") {
        write!(console, "{}", report.csv())?;
    } else {
        write!(console, "{}\n{}\n{}", conditions(report), ceilings(report), table(&report.rows))?;
    }
    Ok(())
}

/// `--tier`: one, or all of this machine; without it, the process's own.
fn tiers(asked: Option<&str>) -> Result<Vec<Cpu>, Failure> {
    if asked == Some("all") {
        return Ok(cpu::all().collect());
    }
    Ok(vec![cpu::choose(asked)?.0])
}

type Chosen = Vec<(&'static Entry, Vec<usize>)>;

/// The kernels and shapes that the arguments ask for.
fn choose(args: &Args) -> Result<Chosen, Failure> {
    let mut kernels: Vec<&'static Entry> = Vec::new();
    for operand in args.operands() {
        let matching = matching(&operand.to_string_lossy())?;
        kernels.extend(
            matching
                .into_iter()
                .filter(|m| !kernels.iter().any(|k| std::ptr::eq(*k, *m)))
                .collect::<Vec<_>>(),
        );
    }
    if args.operands().is_empty() {
        kernels = entries().collect();
    }
    let shapes =
        args.all("shape").map(|s| parse_shape(&s.to_string_lossy())).collect::<Result<Vec<_>, _>>()?;
    if shapes.is_empty() {
        let own = |k: &'static Entry| k.shapes.iter().map(move |s| (k, s.to_vec()));
        return Ok(kernels.into_iter().flat_map(own).collect());
    }
    with_shapes(&kernels, &shapes)
}

/// The kernels of that name; else those that it begins; else those that hold it.
fn matching(name: &str) -> Result<Vec<&'static Entry>, Failure> {
    let tests: [fn(&str, &str) -> bool; 3] = [|a, b| a == b, |a, b| a.starts_with(b), |a, b| a.contains(b)];
    let found = tests.iter().map(|test| entries().filter(|e| test(e.name, name)).collect::<Vec<_>>());
    found.into_iter().find(|f| !f.is_empty() && !name.is_empty()).ok_or_else(|| {
        let names = || entries().map(|e| e.name);
        let hint = match nearest(name, names()) {
            Some(nearest) => format!("did you mean {nearest}?"),
            None => format!("kernels: {}", names().collect::<Vec<_>>().join(", ")),
        };
        Failure::usage(format!("bench: there is no kernel {name:?}"), Some(hint))
    })
}

/// `8x4096x4096`.
fn parse_shape(text: &str) -> Result<Vec<usize>, Failure> {
    let dims = text.split(['x', '×']).map(|n| n.parse().ok().filter(|n| (1..=1 << 28).contains(n)));
    dims.collect::<Option<Vec<usize>>>().ok_or_else(|| {
        let hint = "numbers from 1 to 268435456 with x between them, as 8x4096x4096".into();
        Failure::usage(format!("--shape: {text:?} is not a shape"), Some(hint))
    })
}

/// Each shape with the kernels that take so many dimensions.
fn with_shapes(kernels: &[&'static Entry], shapes: &[Vec<usize>]) -> Result<Chosen, Failure> {
    const MOST: f64 = (1u64 << 33) as f64;
    let mut chosen = Chosen::new();
    for dims in shapes {
        let before = chosen.len();
        let takes = |k: &&Entry| k.dims.split('x').count() == dims.len();
        chosen.extend(kernels.iter().copied().filter(takes).map(|k| (k, dims.clone())));
        let text = shape(dims);
        if chosen.len() == before {
            let wanted = kernels.iter().map(|k| format!("{} {}", k.name, k.dims)).collect::<Vec<_>>();
            let hint = format!("dimensions: {}", wanted.join(", "));
            return Err(Failure::usage(format!("--shape {text}: no chosen kernel takes it"), Some(hint)));
        }
        for (kernel, dims) in &chosen[before..] {
            let bytes = (kernel.work)(dims).bytes;
            if bytes > MOST {
                let what = format!("--shape {text}: {} would take {:.0} GB", kernel.name, bytes * 1e-9);
                return Err(Failure::usage(what, Some("at most 8 GiB are used".into())));
            }
        }
    }
    Ok(chosen)
}

/// Where and how: the head of the output.
pub fn conditions(report: &Report) -> String {
    report.conditions.lines(report.noise())
}

/// The machine's ceilings, in one or two lines.
pub fn ceilings(report: &Report) -> String {
    let one = |c: &crate::bench::ceiling::Ceiling| match c.bytes {
        0 => format!("{} {:.1} GFLOP/s", c.tier, c.rate.median),
        _ => format!("{} {:.0} GB/s", c.name, c.rate.median),
    };
    let join = |fma: bool| {
        let chosen = report.ceilings.iter().filter(|c| (c.bytes == 0) == fma);
        chosen.map(one).collect::<Vec<_>>().join(", ")
    };
    format!("multiply-adds: {}\nreads: {}\n", join(true), join(false))
}

/// Every line two spaces to the right.
pub fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}

/// One line a kernel, shape and tier.
pub fn table(rows: &[Row]) -> Table {
    let mut table = Table::new([
        ("kernel", Align::Left),
        ("shape", Align::Left),
        ("tier", Align::Left),
        ("median", Align::Right),
        ("", Align::Left),
        ("(min–max)", Align::Left),
        ("of peak", Align::Right),
        ("bound", Align::Left),
        ("× plain", Align::Right),
    ]);
    for Row { kernel, shape, work, measured: m } in rows {
        table.row([
            kernel.clone(),
            shape.clone(),
            m.tier.name().into(),
            rate(m.rate.median),
            work.unit().into(),
            format!("({}–{})", rate(m.rate.min), rate(m.rate.max)),
            format!("{:.0} %", 100.0 * m.of_peak.median),
            format!("{} {}", work.bound.name(), rate(m.peak.median)),
            format!("{:.1}", m.speedup.median),
        ]);
    }
    table
}

/// Three digits.
pub fn rate(x: f64) -> String {
    match x {
        x if x >= 100.0 => format!("{x:.0}"),
        x if x >= 10.0 => format!("{x:.1}"),
        x => format!("{x:.2}"),
    }
}
