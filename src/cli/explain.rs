//! `samebits explain`: what a kernel is, what runs of it here, how fast, and its inner loop.

pub mod kernels;
mod pages;
mod topics;

use std::io::Write;

use super::nearest::nearest;
use super::{Args, Command, Console, Failure, Flag, Progress, Takes};
use crate::assets::listing::{self, Listing};
use crate::bench::report::Row;
use crate::bench::rows::{Entry, entries};
use crate::bench::{Plan, Session, shape};
use crate::cli::bench::rate;
use crate::io::json::Writer;
use crate::pool::Pool;
use crate::{Cpu, Tier, cpu};
use kernels::Kernel;
use pages::Pages;
use topics::Topic;

pub const COMMAND: Command = Command {
    name: "explain",
    summary: "a kernel's law, registers and cost, its measured point, its inner loop line by line",
    operands: "[KERNEL]",
    arity: (0, 1),
    flags: &[
        Flag {
            name: "tier",
            takes: Takes::One("T"),
            help: "an instruction set; its loop is shown even where it does not run",
        },
        Flag {
            name: "seconds",
            takes: Takes::One("S"),
            help: "to measure for; 0.5 unless given, 0 for not at all",
        },
        Flag { name: "json", takes: Takes::Nothing, help: "the same as one JSON object" },
    ],
    notes: "\
KERNEL is a row of `samebits bench`; without one they are listed. Mathematics, law, registers and cost are
those at the head of the kernel's file. Operations and bytes are counted for one call of the shape named (each
input read once, each output written once), and for one element of the result. A loop is a committed listing
(src/assets/listing), made with the compiler that it names; behind each instruction stands the line of
kernels/src that it comes from. It is the loop over whole blocks or lines: edges and tails have others. Some
show the way that a whole line takes: a jump by +1 is one over what was left out.

Fields of --json: kernel, tier, about, file, title, math, law, registers, cost; shape, elements, operations,
bytes, bound; measured (null where it was not, or the tier does not run here): {unit, rate, peak, of_peak,
speedup}, each a summary as of `samebits bench`; loops (none of scalar and simd128): [{name, compiler,
this_compiler, about, instructions: [{text, place, source}]}].

Examples:
  samebits explain gemm
  samebits explain softmax --tier avx2
  samebits explain rms_norm --tier neon --json
",
    run,
};

fn run(args: &Args, console: &mut Console) -> Result<(), Failure> {
    let Some(name) = args.operands().first() else { return list(args, console) };
    let entry = choose(&name.to_string_lossy())?;
    let (tier, here) = tier(args.text("tier")?)?;
    let seconds = args.number("seconds", 0.0..=60.0)?.unwrap_or(0.5);
    let topic = topics::of(entry.name);
    let page = Page { entry, tier, topic, pages: Pages::of(topic.map_or(&[][..], |topic| topic.files)) };
    let pool = Pool::new(1);
    let measured = here.filter(|_| seconds > 0.0).map(|cpu| {
        let mut progress = Progress::new();
        progress.show(format_args!("measuring {}", entry.name));
        let mut session = Session::new(&pool, vec![cpu], Plan { seconds, ..Plan::default() });
        session.measure(entry, entry.shapes[0]);
        session.finish().rows.swap_remove(0)
    });
    if args.has("json") {
        writeln!(console, "{}", page.json(measured.as_ref()))?;
        return Ok(());
    }
    page.print(measured.as_ref(), console)
}

fn list(args: &Args, console: &mut Console) -> Result<(), Failure> {
    if args.has("json") || args.has("tier") || args.has("seconds") {
        return Err(Failure::usage("explain: which kernel?", Some("`samebits explain` lists them".into())));
    }
    for entry in entries() {
        writeln!(console, "{:<30} {}", entry.name, entry.about)?;
    }
    Ok(())
}

/// The row of that name, or of the loop of that name.
fn choose(name: &str) -> Result<&'static Entry, Failure> {
    let named = topics::row(name);
    let listed = || topics::row(kernels::KERNELS.iter().find(|kernel| kernel.name == name)?.bench);
    named.or_else(listed).ok_or_else(|| {
        let rows: Vec<_> = entries().map(|entry| entry.name).collect();
        // A part of a name, as the bench takes it.
        let part: Vec<_> = rows.iter().copied().filter(|row| row.contains(name) && name.len() > 1).collect();
        let meant = match part.len() {
            1..=8 => Some(part.join(" or ")),
            _ => nearest(name, rows).map(String::from),
        };
        let hint = match meant {
            Some(meant) => format!("did you mean {meant}?"),
            None => "`samebits explain` lists what there is".to_string(),
        };
        Failure::usage(format!("explain: there is no page on {name:?}"), Some(hint))
    })
}

/// The tier to explain, and what runs it, where it runs here.
fn tier(asked: Option<&str>) -> Result<(Tier, Option<Cpu>), Failure> {
    let known = asked.and_then(Tier::from_name);
    match (cpu::choose(asked), known) {
        (Ok((cpu, _)), _) => Ok((cpu.tier(), Some(cpu))),
        (Err(_), Some(tier)) => Ok((tier, None)),
        (Err(error), None) => Err(error.into()),
    }
}

/// What is said of a kernel on a tier.
struct Page {
    entry: &'static Entry,
    tier: Tier,
    /// None where nobody wrote one: then what the bench knows is shown.
    topic: Option<&'static Topic>,
    pages: Pages,
}

impl Page {
    /// The loops that are listed for the tier.
    fn loops(&self) -> impl Iterator<Item = (&'static Kernel, Listing)> {
        let tier = self.tier;
        kernels::of(self.entry.name).filter_map(move |kernel| Some((kernel, listing::of(kernel.name, tier)?)))
    }

    fn file(&self) -> Option<String> {
        self.topic.map(|topic| format!("kernels/src/{}", topic.files[0]))
    }

    fn print(&self, measured: Option<&Row>, console: &mut Console) -> Result<(), Failure> {
        let Page { entry, tier, .. } = self;
        writeln!(console, "{} on {tier}: {}", entry.name, entry.about)?;
        if let Some(file) = self.file() {
            writeln!(console, "{file}: {}", self.pages.title())?;
        }
        writeln!(console)?;
        for (label, section) in pages::SECTIONS {
            if let Some(text) = self.pages.section(section) {
                labelled(label, &text, console)?;
            }
        }
        labelled("work", &self.work(), console)?;
        labelled("measured", &self.measured(measured), console)?;
        self.print_loops(console)
    }

    /// Operations and bytes, and what binds.
    fn work(&self) -> String {
        let dims = self.entry.shapes[0];
        let work = (self.entry.work)(dims);
        let elements = self.topic.map_or(1, |topic| (topic.elements)(dims)) as f64;
        let each = |x: f64| rate(x / elements);
        let parts = format!(
            "{} and {} for each of the {elements:.4e} elements of the result,\n",
            each(work.flops),
            each(work.bytes)
        );
        format!(
            "{}: {:.4e} operations, {:.4e} bytes; {}{:.2} operations a byte: {} binds",
            shape(dims),
            work.flops,
            work.bytes,
            if elements > 1.0 { parts } else { String::new() },
            work.intensity(),
            ceiling(work.bound.name()),
        )
    }

    /// The measured point against the ceiling that binds.
    fn measured(&self, row: Option<&Row>) -> String {
        let Some(Row { work, measured: m, .. }) = row else {
            return format!("not measured; this machine runs {}", cpu::names());
        };
        let unit = work.unit();
        format!(
            "{} {unit} ({}–{}), one thread: {:.0} % of the {} {unit} of {}\n{} times plain Rust loops; {}",
            rate(m.rate.median),
            rate(m.rate.min),
            rate(m.rate.max),
            100.0 * m.of_peak.median,
            rate(m.peak.median),
            work.bound.name(),
            rate(m.speedup.median),
            m.noise.verdict(),
        )
    }

    /// Why there is no listing.
    fn no_loop(&self) -> &'static str {
        match self.tier {
            Tier::Simd128 => {
                "none listed: WebAssembly is not what runs, and each engine makes its own machine code of it.\n\
                 A word is four v128 of four lanes, in kernels/src/simd/wasm.rs. WebAssembly has no fma that always rounds\n\
                 once: it is emulated in f64, 168 operations a word, and that binds wherever a loop multiplies and adds"
            }
            _ => "none listed: scalar is the definition, in kernels/src/simd/scalar.rs",
        }
    }

    fn print_loops(&self, console: &mut Console) -> Result<(), Failure> {
        if self.loops().next().is_none() {
            return labelled("loop", self.no_loop(), console);
        }
        for (i, (kernel, listing)) in self.loops().enumerate() {
            if i > 0 {
                writeln!(console)?;
            }
            print_loop(kernel, listing, console)?;
        }
        Ok(())
    }

    fn json(&self, measured: Option<&Row>) -> String {
        let (entry, dims) = (self.entry, self.entry.shapes[0]);
        let work = (entry.work)(dims);
        let mut w = Writer::indented();
        w.object(|w| {
            w.key("kernel").string(entry.name);
            w.key("tier").string(self.tier.name());
            w.key("about").string(entry.about);
            w.key("file").string(&self.file().unwrap_or_default());
            w.key("title").string(&self.pages.title());
            for (label, section) in pages::SECTIONS {
                w.key(label).string(&self.pages.section(section).unwrap_or_default());
            }
            w.key("shape").string(&shape(dims));
            match self.topic {
                None => w.key("elements").null(),
                Some(topic) => w.key("elements").number((topic.elements)(dims)),
            }
            w.key("operations").number(work.flops);
            w.key("bytes").number(work.bytes);
            w.key("bound").string(work.bound.name());
            match measured {
                None => w.key("measured").null(),
                Some(Row { work, measured: m, .. }) => w.key("measured").object(|w| {
                    w.key("unit").string(work.unit());
                    m.rate.write(w.key("rate"));
                    m.peak.write(w.key("peak"));
                    m.of_peak.write(w.key("of_peak"));
                    m.speedup.write(w.key("speedup"));
                }),
            }
            w.key("loops").array(|w| {
                self.loops().for_each(|(kernel, listing)| w.object(|w| write_loop(kernel, listing, w)));
            });
        });
        w.finish()
    }
}

/// A ceiling in words.
fn ceiling(name: &'static str) -> &'static str {
    match name {
        "fma" => "the rate of multiply-adds",
        "int8" => "the rate of products of eight bits",
        "read" => "the reading of memory",
        "write" => "the writing of memory",
        "copy" => "the copying of memory",
        other => other,
    }
}

fn print_loop(kernel: &Kernel, listing: Listing, console: &mut Console) -> Result<(), Failure> {
    let all: Vec<_> = listing.instructions().collect();
    let multiply = match all.iter().filter(|i| is_multiply_add(i.text)).count() {
        0 => String::new(),
        n => format!(", {n} of them multiply-adds"),
    };
    let other = match listing.compiler() == env!("SAMEBITS_RUSTC") {
        true => "",
        false => ", not the compiler of this program",
    };
    let about = format!(
        "{}\n{} instructions{multiply}; compiled by {}{other}",
        kernel.about,
        all.len(),
        listing.compiler(),
    );
    labelled("loop", &about, console)?;
    let width = all.iter().map(|i| i.text.chars().count()).max().unwrap_or(0);
    let mut last = "";
    for one in &all {
        // A line of the source is written once where it begins.
        let source = if one.place == last { "" } else { one.source };
        last = one.place;
        let line = format!("  {:<width$}  {:<22} {source}", one.text, one.place);
        writeln!(console, "{}", line.trim_end())?;
    }
    Ok(())
}

fn write_loop(kernel: &Kernel, listing: Listing, w: &mut Writer) {
    w.key("name").string(kernel.name);
    w.key("compiler").string(listing.compiler());
    w.key("this_compiler").string(env!("SAMEBITS_RUSTC"));
    w.key("about").string(kernel.about);
    w.key("instructions").array(|w| {
        for one in listing.instructions() {
            w.object(|w| {
                w.key("text").string(one.text);
                w.key("place").string(one.place);
                w.key("source").string(one.source);
            });
        }
    });
}

/// `vfmadd…`, `vfnmadd…`, `vfmsub…`, `fmla`, `fmls`; of integers and tiles `vpdpbusd`, `vpmaddwd`, `sdot`, `tdpbf16ps`.
fn is_multiply_add(text: &str) -> bool {
    const WORDS: [&str; 10] =
        ["vfm", "vfnm", "fmla", "fmls", "vpdp", "vpmadd", "tdp", "sdot", "smmla", "smlal"];
    let text = text.strip_prefix("{vex} ").unwrap_or(text);
    WORDS.into_iter().any(|word| text.starts_with(word))
}

/// A label, and lines beside it.
fn labelled(label: &str, text: &str, console: &mut Console) -> Result<(), Failure> {
    for (i, line) in text.lines().enumerate() {
        writeln!(console, "{:<11}{line}", if i == 0 { label } else { "" })?;
    }
    writeln!(console)?;
    Ok(())
}
