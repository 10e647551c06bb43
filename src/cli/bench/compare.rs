//! `samebits bench --compare`: two records, kernel by kernel.

use std::io::Write;
use std::path::Path;

use super::rate;
use crate::bench::record::{Change, Point, Record, Verdict, compare};
use crate::cli::{Align, Args, Console, Failure, Table};
use crate::io::json::Writer;

/// Compares the files of the two operands.
pub fn run(args: &Args, console: &mut Console) -> Result<(), Failure> {
    let [before, after] = args.operands() else {
        return Err(Failure::usage("bench: --compare takes two files, the older first", None));
    };
    let [before, after] = [Record::open(Path::new(before))?, Record::open(Path::new(after))?];
    let changes = compare(&before, &after);
    if args.has("json") {
        writeln!(console, "{}", json(&changes))?;
        return Ok(());
    }
    if before.processors != after.processors {
        let [a, b] = [&before, &after].map(|record| record.processors.join(", "));
        writeln!(console, "not of one processor: {a}; {b}\n")?;
    }
    let mut table = Table::new([
        ("kernel", Align::Left),
        ("shape", Align::Left),
        ("tier", Align::Left),
        ("before", Align::Right),
        ("after", Align::Right),
        ("", Align::Left),
        ("of peak, after ÷ before", Align::Right),
        ("noise", Align::Right),
        ("verdict", Align::Left),
    ]);
    changes.iter().for_each(|change| table.row(row(change)));
    write!(console, "{table}\n{}\n", summary(&changes))?;
    Ok(())
}

fn row(change: &Change) -> [String; 9] {
    let Some(point) = change.after.as_ref().or(change.before.as_ref()) else { return Default::default() };
    let [kernel, shape, tier, threads, cache] = &point.key;
    let how = match (&**threads, &**cache) {
        ("1", "warm") => String::new(),
        (threads, "warm") => format!(" × {threads}"),
        (threads, cache) => format!(" × {threads}, {cache}"),
    };
    let shown = |point: &Option<Point>| point.as_ref().map_or(String::new(), |p| rate(p.rate));
    let (ratio, noise) = match change.ratio.is_nan() {
        true => Default::default(),
        false => (format!("{:.3}", change.ratio), format!("± {:.0} %", 100.0 * change.noise)),
    };
    [
        kernel.clone(),
        shape.clone(),
        format!("{tier}{how}"),
        shown(&change.before),
        shown(&change.after),
        point.unit.clone(),
        ratio,
        noise,
        change.verdict.name().into(),
    ]
}

/// How many of each verdict, the worst first.
fn summary(changes: &[Change]) -> String {
    let all = [
        Verdict::OtherBits,
        Verdict::OtherProcessor,
        Verdict::Slower,
        Verdict::Faster,
        Verdict::Same,
        Verdict::New,
        Verdict::Gone,
    ];
    let count = |verdict: Verdict| changes.iter().filter(|change| change.verdict == verdict).count();
    let counted = all.into_iter().map(|verdict| (count(verdict), verdict.name())).filter(|(n, _)| *n > 0);
    let text = counted.map(|(n, name)| format!("{n} {name}")).collect::<Vec<_>>().join(", ");
    if text.is_empty() { "nothing was measured".into() } else { text }
}

fn json(changes: &[Change]) -> String {
    let mut w = Writer::indented();
    w.array(|w| {
        for change in changes {
            let Some(point) = change.after.as_ref().or(change.before.as_ref()) else { continue };
            w.object(|w| {
                for (name, value) in ["kernel", "shape", "tier", "threads", "cache"].iter().zip(&point.key) {
                    w.key(name).string(value);
                }
                for (name, point) in [("before", &change.before), ("after", &change.after)] {
                    match point {
                        Some(point) => w.key(name).object(|w| {
                            w.key("rate").number(point.rate);
                            w.key("of_peak").number(point.of_peak);
                            w.key("spread").number(point.spread);
                        }),
                        None => w.key(name).null(),
                    }
                }
                for (name, value) in [("ratio", change.ratio), ("noise", change.noise)] {
                    if value.is_nan() {
                        w.key(name).null();
                    } else {
                        w.key(name).number(value);
                    }
                }
                w.key("verdict").string(change.verdict.name());
            });
        }
    });
    w.finish()
}
