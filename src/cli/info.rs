//! `samebits info`: this machine and this build.

use std::io::Write;

use super::console::bytes;
use super::json::{Object, array, string};
use super::{Args, Command, Console, Failure, Flag, Takes};
use crate::cpu::Chosen;
use crate::sys::processor::{self, Cache};
use crate::{Cpu, cpu, pool, sys};

pub const COMMAND: Command = Command {
    name: "info",
    summary: "this processor, the tier that was chosen and why, caches, threads, the build",
    operands: "",
    arity: (0, 0),
    flags: &[
        Flag { name: "tier", takes: Takes::One("T"), help: "as if this tier had been asked for" },
        Flag { name: "json", takes: Takes::Nothing, help: "the same as one JSON object" },
    ],
    notes: "\
A tier is an instruction set that kernels are compiled for; extras are instructions that some kernels use
beside it. Whatever is used, results have the same bits.

Example:
  SAMEBITS_TIER=avx2 samebits info --json
",
    run,
};

struct Info {
    cpu: Cpu,
    chosen: Chosen,
    others: Vec<&'static str>,
    brand: String,
    caches: Vec<Cache>,
    threads: usize,
    affinity: Option<usize>,
    quota: Option<f64>,
}

fn run(args: &Args, console: &mut Console) -> Result<(), Failure> {
    let (cpu, chosen) = cpu::choose(args.text("tier")?)?;
    let others = cpu::all().rev().map(|other| other.tier()).filter(|&tier| tier != cpu.tier());
    let info = Info {
        cpu,
        chosen,
        others: others.map(|tier| tier.name()).collect(),
        brand: processor::brand(),
        caches: processor::caches(),
        threads: pool::threads_from_env()?,
        affinity: sys::affinity().map(|cpus| cpus.len()),
        quota: sys::quota(),
    };
    if args.has("json") {
        writeln!(console, "{}", info.json())?;
    } else {
        info.print(console)?;
    }
    Ok(())
}

fn or_none(words: &[&str]) -> String {
    if words.is_empty() { "none".into() } else { words.join(", ") }
}

impl Info {
    fn print(&self, console: &mut Console) -> Result<(), Failure> {
        let cache = |cache: &Cache| format!("{} {}", cache.name, bytes(cache.bytes as u64));
        let caches: Vec<String> = self.caches.iter().map(cache).collect();
        writeln!(console, "processor    {}", self.brand)?;
        writeln!(console, "tier         {} (chosen by {})", self.cpu.tier(), self.chosen)?;
        writeln!(console, "other tiers  {}", or_none(&self.others))?;
        writeln!(console, "extras       {}", or_none(&cpu::extras(self.cpu)))?;
        let caches = if caches.is_empty() { "unknown".into() } else { caches.join(", ") };
        writeln!(console, "caches       {caches}")?;
        writeln!(console, "threads      {}{}", self.threads, self.limits())?;
        writeln!(console, "page         {}", bytes(sys::page_size() as u64))?;
        let git = option_env!("SAMEBITS_GIT").map(|hash| format!(", commit {hash}")).unwrap_or_default();
        writeln!(console, "build        samebits {}{git}", env!("CARGO_PKG_VERSION"))?;
        writeln!(console, "compiler     {}, {}", env!("SAMEBITS_RUSTC"), env!("SAMEBITS_TARGET"))?;
        Ok(())
    }

    fn limits(&self) -> String {
        let affinity = self.affinity.map(|n| format!("affinity {n}"));
        let quota = self.quota.map(|cpus| format!("cgroup quota {cpus}"));
        let limits: Vec<String> = affinity.into_iter().chain(quota).collect();
        if limits.is_empty() { String::new() } else { format!(" ({})", limits.join(", ")) }
    }

    fn json(&self) -> Object {
        let cache = |c: &Cache| Object::new().text("name", &c.name).value("bytes", c.bytes);
        let strings = |words: &[&str]| array(words.iter().map(|word| string(word)));
        let or_null = |n: Option<String>| n.unwrap_or_else(|| "null".into());
        Object::new()
            .text("processor", &self.brand)
            .text("tier", self.cpu.tier().name())
            .text("chosen_by", self.chosen.to_string())
            .value("other_tiers", strings(&self.others))
            .value("extras", strings(&cpu::extras(self.cpu)))
            .value("caches", array(self.caches.iter().map(cache)))
            .value("threads", self.threads)
            .value("affinity", or_null(self.affinity.map(|n| n.to_string())))
            .value("quota", or_null(self.quota.map(|cpus| format!("{cpus:?}"))))
            .value("page_bytes", sys::page_size())
            .text("version", env!("CARGO_PKG_VERSION"))
            .value("commit", or_null(option_env!("SAMEBITS_GIT").map(string)))
            .text("rustc", env!("SAMEBITS_RUSTC"))
            .text("target", env!("SAMEBITS_TARGET"))
    }
}
