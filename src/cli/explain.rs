//! `samebits explain`: what a kernel is, what runs of it here, how fast, and its inner loop.

pub mod kernels;
mod pages;

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
use kernels::{KERNELS, Kernel};
use pages::Pages;

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
KERNEL is gemm, gemv, softmax, attention, nf4 or dot; without one they are listed. Mathematics, law, registers
and cost are those at the head of the kernel's file. Operations and bytes are counted for one call of the
shape named (each input read once, each output written once), and for one element of the result. The loop is
a committed listing (src/assets/listing), made with the compiler that it names; behind each instruction stands
the line of kernels/src that it comes from. It is the loop over whole blocks or lines: edges and tails have
others.

Fields of --json: kernel, tier, title, file, math, law, registers, cost; shape, elements, operations, bytes,
bound; measured (null where it was not, or the tier does not run here): {unit, rate, peak, of_peak}, each a
summary as of `samebits bench`; loop (null for scalar and simd128): {compiler, this_compiler, about,
instructions: [{text, place, source}]}.

Examples:
  samebits explain gemm
  samebits explain softmax --tier avx2
  samebits explain dot --tier neon --json
",
    run,
};

fn run(args: &Args, console: &mut Console) -> Result<(), Failure> {
    let Some(name) = args.operands().first() else { return list(args, console) };
    let kernel = choose(&name.to_string_lossy())?;
    let (tier, here) = tier(args.text("tier")?)?;
    let seconds = args.number("seconds", 0.0..=60.0)?.unwrap_or(0.5);
    let page = Page { kernel, tier, pages: Pages::of(kernel.files), entry: kernel.entry() };
    let pool = Pool::new(1);
    let measured = here.filter(|_| seconds > 0.0).map(|cpu| {
        let mut progress = Progress::new();
        progress.show(format_args!("measuring {}", kernel.bench));
        let mut session = Session::new(&pool, vec![cpu], Plan { seconds, ..Plan::default() });
        session.measure(page.entry, page.entry.shapes[0]);
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
        return Err(Failure::usage("explain: which kernel?", Some(format!("one of {}", names()))));
    }
    for kernel in KERNELS {
        writeln!(console, "{:<10} {}", kernel.name, Pages::of(kernel.files).title())?;
    }
    Ok(())
}

fn names() -> String {
    KERNELS.iter().map(|kernel| kernel.name).collect::<Vec<_>>().join(", ")
}

fn choose(name: &str) -> Result<&'static Kernel, Failure> {
    KERNELS.iter().find(|kernel| kernel.name == name).ok_or_else(|| {
        let hint = match nearest(name, KERNELS.iter().map(|kernel| kernel.name)) {
            Some(nearest) => format!("did you mean {nearest}?"),
            None => format!("one of {}", names()),
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
    kernel: &'static Kernel,
    tier: Tier,
    pages: Pages,
    entry: &'static Entry,
}

impl Page {
    fn listing(&self) -> Option<Listing> {
        listing::of(self.kernel.name, self.tier)
    }

    fn print(&self, measured: Option<&Row>, console: &mut Console) -> Result<(), Failure> {
        let Page { kernel, tier, .. } = self;
        writeln!(
            console,
            "{} on {tier}: {}\nkernels/src/{}\n",
            kernel.name,
            self.pages.title(),
            kernel.files[0]
        )?;
        for (label, section) in pages::SECTIONS {
            if let Some(text) = self.pages.section(section) {
                labelled(label, &text, console)?;
            }
        }
        let dims = self.entry.shapes[0];
        let (work, elements) = ((self.entry.work)(dims), (kernel.elements)(dims) as f64);
        let each = |x: f64| rate(x / elements);
        let text = format!(
            "{}: {:.4e} operations, {:.4e} bytes; {} and {} for each of the {elements:.4e} elements of the result,\n\
             {:.2} operations a byte: {} binds",
            shape(dims),
            work.flops,
            work.bytes,
            each(work.flops),
            each(work.bytes),
            work.intensity(),
            kernel.bound(work.bound.name()),
        );
        labelled("work", &text, console)?;
        labelled("measured", &self.measured(measured), console)?;
        self.print_loop(console)
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

    /// Why a tier has no listing.
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

    fn print_loop(&self, console: &mut Console) -> Result<(), Failure> {
        let Some(listing) = self.listing() else { return labelled("loop", self.no_loop(), console) };
        let all: Vec<_> = listing.instructions().collect();
        let multiply = all.iter().filter(|i| is_multiply_add(i.text)).count();
        let about = format!(
            "{}\n{} instructions, {multiply} of them multiply-adds; compiled by {}{}",
            self.kernel.about,
            all.len(),
            listing.compiler(),
            if listing.compiler() == env!("SAMEBITS_RUSTC") {
                ""
            } else {
                ", not the compiler of this program"
            }
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

    fn json(&self, measured: Option<&Row>) -> String {
        let (kernel, dims) = (self.kernel, self.entry.shapes[0]);
        let work = (self.entry.work)(dims);
        let mut w = Writer::indented();
        w.object(|w| {
            w.key("kernel").string(kernel.name);
            w.key("tier").string(self.tier.name());
            w.key("title").string(&self.pages.title());
            w.key("file").string(&format!("kernels/src/{}", kernel.files[0]));
            for (label, section) in pages::SECTIONS {
                w.key(label).string(&self.pages.section(section).unwrap_or_default());
            }
            w.key("shape").string(&shape(dims));
            w.key("elements").number((kernel.elements)(dims));
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
                }),
            }
            match self.listing() {
                None => w.key("loop").null(),
                Some(listing) => w.key("loop").object(|w| self.write_loop(listing, w)),
            }
        });
        w.finish()
    }

    fn write_loop(&self, listing: Listing, w: &mut Writer) {
        w.key("compiler").string(listing.compiler());
        w.key("this_compiler").string(env!("SAMEBITS_RUSTC"));
        w.key("about").string(self.kernel.about);
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
}

/// `vfmadd…`, `vfnmadd…`, `vfmsub…`, `fmla`, `fmls`
fn is_multiply_add(text: &str) -> bool {
    ["vfm", "vfnm", "fmla", "fmls"].into_iter().any(|word| text.starts_with(word))
}

/// A label, and lines beside it.
fn labelled(label: &str, text: &str, console: &mut Console) -> Result<(), Failure> {
    for (i, line) in text.lines().enumerate() {
        writeln!(console, "{:<11}{line}", if i == 0 { label } else { "" })?;
    }
    writeln!(console)?;
    Ok(())
}
