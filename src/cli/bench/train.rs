//! `samebits bench --train`.

use std::io::Write;
use std::path::Path;

use super::model::table;
use crate::bench::train::{Measured, Plan, What, measure};
use crate::cli::{Args, Console, Failure, Progress};
use crate::cpu;
use crate::io::json::Writer;
use crate::model::Keep;
use crate::nn::Compute;
use crate::pool::{MAX_THREADS, Pool};

/// Turns after the two steps that warm up.
const TURNS: usize = 5;

pub fn run(path: &Path, args: &Args, console: &mut Console) -> Result<(), Failure> {
    let others = [
        "model",
        "shape",
        "weights",
        "csv",
        "svg",
        "seconds",
        "cold",
        "cache",
        "attention",
        "prompt",
        "tokens",
    ];
    super::alone(args, ("train", "a model"), &others)?;
    let what = match args.text("method")?.unwrap_or("lora") {
        "lora" => What::Lora,
        "qlora" => What::Qlora,
        "full" => What::Full,
        other => {
            return Err(Failure::usage(format!("bench: --method {other:?}: lora, qlora or full"), None));
        }
    };
    let compute = args.compute()?;
    if compute == Compute::Int8 || compute != Compute::F32 && what == What::Full {
        let what = format!(
            "bench: --train --compute {}: adapters learn in f32 or bf16, all weights in f32",
            compute.name()
        );
        return Err(Failure::usage(what, None));
    }
    let (cpu, _) = cpu::choose(args.text("tier")?)?;
    let threads = args.count("threads", 1..=MAX_THREADS)?.unwrap_or(1);
    let plan = Plan {
        what,
        compute,
        batch: args.count("batch", 1..=1 << 16)?.unwrap_or(4),
        length: args.count("seq-len", 1..=1 << 20)?.unwrap_or(256),
        keep: if args.has("recompute") { Keep::Inputs } else { Keep::All },
        turns: args.count("turns", 1..=1000)?.unwrap_or(TURNS),
    };
    let pool = Pool::new(threads);
    let mut progress = Progress::new();
    progress.show(format_args!("measuring {}", path.display()));
    let measured = measure(path, &plan, cpu, &pool)?;
    progress.clear();
    if args.has("json") {
        writeln!(console, "{}", json(path, cpu.tier().name(), threads, &measured))?;
        return Ok(());
    }
    writeln!(console, "{} on {}, {threads} threads", path.display(), cpu.tier())?;
    print(&measured, console)
}

fn print(measured: &Measured, console: &mut Console) -> Result<(), Failure> {
    write!(console, "{}", table("", &measured.rows))?;
    writeln!(console, "products are {:.0} % of a step's time", 100.0 * measured.products.median)?;
    if let Some(peak) = measured.peak {
        writeln!(console, "peak of memory: {:.0} MiB", peak as f64 / f64::from(1 << 20))?;
    }
    Ok(())
}

fn json(path: &Path, tier: &str, threads: usize, measured: &Measured) -> String {
    let mut w = Writer::compact();
    w.object(|w| {
        w.key("model").string(&path.to_string_lossy());
        w.key("tier").string(tier);
        w.key("threads").number(threads);
        for (name, row) in ["step", "products"].into_iter().zip(&measured.rows) {
            w.key(name).object(|w| {
                row.rate.write(w.key("ms"));
                row.of_peak.write(w.key("of_peak"));
            });
        }
        measured.products.write(w.key("share_of_products"));
        match measured.peak {
            Some(bytes) => w.key("peak_bytes").number(bytes),
            None => w.key("peak_bytes").null(),
        }
    });
    w.finish()
}
