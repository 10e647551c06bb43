//! `samebits` alone: what this machine is, that every tier computes the same bits, and how fast.

use std::collections::BTreeMap;
use std::io::Write;

use super::console::bytes;
use super::{Align, Args, Command, Console, Failure, Flag, Progress, Table, Takes, bench};
use crate::bench::rows::entries;
use crate::bench::{Plan, Session};
use crate::cpu::Chosen;
use crate::golden::{self, Golden};
use crate::pool::Pool;
#[cfg(feature = "builtin")]
use crate::rag::{
    ContextAssembler, Document, Index, RagPipeline, Retriever, StaticEmbedder,
    document::Value,
    index::{Aids, Builder, Settings},
    pipeline::Quote,
};
use crate::sys::processor;
use crate::{Cpu, Error, Tier, cpu};
#[cfg(feature = "builtin")]
use crate::{assets, run::Run};

pub const COMMAND: Command = Command {
    name: "tour",
    summary: "this machine, the same bits on each of its tiers, and how fast: what runs without a command",
    operands: "",
    arity: (0, 0),
    flags: &[Flag {
        name: "seconds",
        takes: Takes::One("S"),
        help: "for each kernel; without it, half a minute is shared among them",
    }],
    notes: "\
Recomputes the committed hash of every golden case on every tier of this machine; a difference is a failure.
Then measures each kernel on the tier that was chosen, one thread, as `samebits bench` does. In the end it
answers a question from README and the heads of the kernels' files, which the program carries.

Example:
  SAMEBITS_TIER=avx2 samebits tour --seconds 0.5
",
    run,
};

fn run(args: &Args, console: &mut Console) -> Result<(), Failure> {
    let count = entries().count().max(1);
    let seconds = args.number("seconds", 0.001..=60.0)?.unwrap_or(24.0 / count as f64);
    let (cpu, chosen) = cpu::choose(None)?;
    machine(cpu, chosen, console)?;
    same_bits(console)?;
    speed(cpu, seconds, console)?;
    #[cfg(feature = "builtin")]
    book(cpu, console)?;
    writeln!(console, "{NEXT}")?;
    Ok(())
}

/// A question that the project's own texts answer.
#[cfg(feature = "builtin")]
fn book(cpu: Cpu, console: &mut Console) -> Result<(), Failure> {
    const QUESTION: &str = "Why is k cut into blocks of 256?";
    let run = Run::here(cpu);
    let mut builder = Builder::new(Settings::default());
    for (path, text) in assets::book() {
        // The heads of the kernels' files are Markdown, as README is.
        let mut document = Document::new(path, text);
        document.metadata.insert("format".into(), Value::Text("markdown".into()));
        builder.add(document, Aids::default())?;
    }
    let embedder = StaticEmbedder::builtin()?;
    builder.embed(&run, &embedder, &mut |_, _| Ok(()))?;
    let index = Index::from_bytes(&builder.to_bytes())?;
    let one = |_: &str| 1;
    let retriever = Retriever::new(&index, Some(&embedder))?;
    let pipeline = RagPipeline::new(retriever, ContextAssembler::new(1, &one)).with_quotes(2);
    let answer = pipeline.ask(&run, QUESTION)?;
    let (documents, chunks) = (index.documents(), index.chunks());
    writeln!(
        console,
        "\nA question to {documents} texts of this project ({chunks} chunks; samebits index, ask)"
    )?;
    writeln!(console, "  {QUESTION}")?;
    for Quote { text, source } in &answer.quotes {
        let place = source.as_ref().map(|source| format!("{}:{}", source.document, source.lines.0));
        writeln!(console, "  [{}]", place.unwrap_or_default())?;
        text.lines().try_for_each(|line| writeln!(console, "    {line}"))?;
    }
    Ok(())
}

const NEXT: &str = "
What next
  samebits bench --tier all --svg roofline.svg    every tier, and the roofline as a picture
  samebits bench gemm --shape 1024x1024x1024      one kernel, a shape of your own; --threads 2, --json, --csv
  samebits bench --weights model.safetensors      the matrices of a model
  samebits inspect model.safetensors              what is in it
  samebits help                                   everything else";

fn machine(cpu: Cpu, chosen: Chosen, console: &mut Console) -> Result<(), Failure> {
    let caches = processor::caches().into_iter().map(|c| format!("{} {}", c.name, bytes(c.bytes as u64)));
    let others: Vec<_> = cpu::all().map(Cpu::tier).filter(|&t| t != cpu.tier()).map(Tier::name).collect();
    let extras = cpu::extras(cpu);
    writeln!(console, "This machine")?;
    writeln!(console, "  processor  {}", processor::brand())?;
    writeln!(console, "  caches     {}", caches.collect::<Vec<_>>().join(", "))?;
    writeln!(console, "  tier       {}: {} (chosen by {chosen})", cpu.tier(), why(cpu.tier()))?;
    writeln!(
        console,
        "             also here: {}",
        if others.is_empty() { "none".into() } else { others.join(", ") }
    )?;
    writeln!(console, "  extras     {}", if extras.is_empty() { "none".into() } else { extras.join(", ") })?;
    if cfg!(debug_assertions) {
        writeln!(console, "\nBuilt without optimisation: the figures below mean nothing; use --release.")?;
    }
    Ok(())
}

/// What had to be found for a tier.
const fn why(tier: Tier) -> &'static str {
    match tier {
        Tier::Scalar => "plain Rust, which runs everywhere",
        Tier::Simd128 => "the module was compiled with it",
        Tier::Neon => "part of every 64-bit ARM processor",
        Tier::Avx2 => "CPUID has AVX2, FMA and F16C, and the system saves the ymm registers",
        Tier::Avx512 => "CPUID has AVX-512 F, BW, DQ and VL, and the system saves the zmm registers",
    }
}

/// Every golden case on every tier; one line a kernel.
fn same_bits(console: &mut Console) -> Result<(), Failure> {
    let cpus: Vec<Cpu> = cpu::all().collect();
    let mut progress = Progress::new();
    let mut kernels: BTreeMap<&str, Vec<(&Golden, Vec<Tier>)>> = BTreeMap::new();
    for case in golden::cases() {
        progress.show(format_args!("golden case {}", case.name));
        let wrong = cpus.iter().filter(|&&cpu| (case.run)(cpu) != case.hash).map(|cpu| cpu.tier()).collect();
        let kernel = case.name.split('/').next().unwrap_or(case.name);
        kernels.entry(kernel).or_default().push((case, wrong));
        console.check_interrupt()?;
    }
    progress.clear();
    let tiers = cpus.iter().map(|cpu| cpu.tier().name()).collect::<Vec<_>>().join(" = ");
    writeln!(console, "\nThe same bits: results recomputed on {tiers}, against the committed hashes")?;
    let mut table =
        Table::new([("", Align::Left), ("kernel", Align::Left), ("cases", Align::Right), ("", Align::Left)]);
    let mut failures = Vec::new();
    for (kernel, cases) in &kernels {
        let wrong: Vec<_> = cases.iter().filter(|(_, wrong)| !wrong.is_empty()).collect();
        let verdict =
            if wrong.is_empty() { "✓ same bits".into() } else { format!("✗ {} differ", wrong.len()) };
        table.row([String::new(), (*kernel).into(), cases.len().to_string(), verdict]);
        failures.extend(wrong.into_iter().map(|(case, tiers)| (case.name, tiers[0])));
    }
    write!(console, "{table}")?;
    match failures.first() {
        None => Ok(()),
        Some((case, tier)) => {
            Err(Error::invalid(format!("golden case {case} has other bits on {tier} than were committed"))
                .into())
        }
    }
}

/// One row a kernel, at its first shape.
fn speed(cpu: Cpu, seconds: f64, console: &mut Console) -> Result<(), Failure> {
    let pool = Pool::new(1);
    let mut session = Session::new(&pool, vec![cpu], Plan { seconds, ..Plan::default() });
    let mut progress = Progress::new();
    progress.show("measuring the ceilings of this machine");
    session.roofline();
    let count = entries().count();
    for (i, entry) in entries().enumerate() {
        progress.show(format_args!("{}/{count}: {}", i + 1, entry.name));
        session.measure(entry, entry.shapes[0]);
        console.check_interrupt()?;
    }
    progress.clear();
    let report = session.finish();
    let head = bench::conditions(&report) + &bench::ceilings(&report);
    writeln!(console, "\nHow fast: one thread, against this core's measured peak and a plain Rust loop")?;
    write!(console, "{}", bench::indented(&head))?;
    write!(console, "\n{}", bench::indented(&bench::table(&report.rows).to_string()))?;
    Ok(())
}
