//! `samebits info`: this machine and this build.

use std::io::Write;

use super::console::bytes;
use super::{Args, Command, Console, Failure, Flag, Takes, opening};
use crate::cpu::Chosen;
use crate::io::json::Writer;
use crate::nn::Compute;
use crate::sys::processor::{self, Cache};
use crate::{Cpu, Error, Tier, cpu, golden, pool, sys};

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
beside it. Whatever is used, results have the same bits: for each class of products (--compute of the commands
that run models) the logits of a little model are computed on every tier, against the committed hash.

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
    /// Each class, and the tiers on which a model's logits have not the committed bits.
    classes: Vec<(Compute, Vec<Tier>)>,
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
        classes: Compute::ALL.map(|class| (class, wrong(class))).into(),
        threads: pool::threads_from_env()?,
        affinity: sys::affinity().map(|cpus| cpus.len()),
        quota: sys::quota(),
    };
    if args.has("json") {
        writeln!(console, "{}", info.json())?;
    } else {
        info.print(console)?;
    }
    match info.classes.iter().find(|(_, wrong)| !wrong.is_empty()) {
        None => Ok(()),
        Some((class, wrong)) => {
            let (class, tier) = (class.name(), wrong[0]);
            let what = format!("a model in {class} has other bits on {tier} than were committed");
            Err(Error::invalid(what).into())
        }
    }
}

/// The tiers of this machine on which a class has not the committed bits.
fn wrong(class: Compute) -> Vec<Tier> {
    let differs = |cpu: &Cpu| golden::of_class(class).any(|case| (case.run)(*cpu) != case.hash);
    cpu::all().filter(differs).map(|cpu| cpu.tier()).collect()
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
        let tiers: Vec<_> = cpu::all().map(|cpu| cpu.tier().name()).collect();
        let class = |(class, wrong): &(Compute, Vec<Tier>)| match wrong.is_empty() {
            true => class.name().to_owned(),
            false => format!("{} (other bits!)", class.name()),
        };
        let classes: Vec<_> = self.classes.iter().map(class).collect();
        writeln!(
            console,
            "classes      {}: the committed bits on {}",
            classes.join(", "),
            tiers.join(" = ")
        )?;
        let caches = if caches.is_empty() { "unknown".into() } else { caches.join(", ") };
        writeln!(console, "caches       {caches}")?;
        writeln!(console, "threads      {}{}", self.threads, self.limits())?;
        writeln!(console, "page         {}", bytes(sys::page_size() as u64))?;
        match opening::INSIDE {
            Some(size) => writeln!(console, "model inside {}, a Llama in NF4", bytes(size as u64))?,
            None => writeln!(console, "model inside none")?,
        }
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

    fn json(&self) -> String {
        let mut out = Writer::indented();
        out.object(|w| {
            w.key("processor").string(&self.brand);
            w.key("tier").string(self.cpu.tier().name());
            w.key("chosen_by").string(&self.chosen.to_string());
            w.key("other_tiers").array(|w| self.others.iter().for_each(|tier| w.string(tier)));
            w.key("extras").array(|w| cpu::extras(self.cpu).iter().for_each(|extra| w.string(extra)));
            w.key("classes").object(|w| {
                self.classes.iter().for_each(|(class, wrong)| w.key(class.name()).boolean(wrong.is_empty()));
            });
            w.key("caches").object(|w| self.caches.iter().for_each(|c| w.key(&c.name).number(c.bytes)));
            w.key("threads").number(self.threads);
            optional(w.key("affinity"), self.affinity, |w, n| w.number(n));
            optional(w.key("quota"), self.quota, |w, cpus| w.number(cpus));
            w.key("page_bytes").number(sys::page_size());
            optional(w.key("model_inside_bytes"), opening::INSIDE, |w, size| w.number(size));
            w.key("version").string(env!("CARGO_PKG_VERSION"));
            optional(w.key("commit"), option_env!("SAMEBITS_GIT"), |w, hash| w.string(hash));
            w.key("rustc").string(env!("SAMEBITS_RUSTC"));
            w.key("target").string(env!("SAMEBITS_TARGET"));
        });
        out.finish()
    }
}

/// A value, or `null`.
fn optional<T>(w: &mut Writer, value: Option<T>, write: impl FnOnce(&mut Writer, T)) {
    match value {
        Some(value) => write(w, value),
        None => w.null(),
    }
}
