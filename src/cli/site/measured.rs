//! What was measured, as tables and pictures: of the record that is inside, or of a reader's.

use std::collections::BTreeSet;

use super::html::escaped;
use super::links::stem;
use super::pictures::Picture;
use super::rows;
use crate::assets;
use crate::bench::record::{Point, Record};
use crate::cli::bench::rate;
use crate::{Result, Tier};

/// The record that is committed with the sources.
pub fn inside() -> Result<Record> {
    Record::parse("inside", assets::RECORD.as_bytes())
}

/// The ladders of a file's kernel.
pub fn ladders(file: &str) -> impl Iterator<Item = Picture> + use<'_> {
    assets::LADDERS
        .iter()
        .filter(move |(_, _, files)| files.contains(&file))
        .map(|&(name, svg, _)| ladder(name, svg))
}

/// All of them, and the pages that explain their kernels.
pub fn all_ladders() -> impl Iterator<Item = (Picture, &'static str)> {
    assets::LADDERS.iter().map(|&(name, svg, files)| (ladder(name, svg), files[0]))
}

fn ladder(name: &str, svg: &str) -> Picture {
    let example = format!("<code>cargo run --release -p samebits-kernels --example ladder -- {name}</code>");
    Picture {
        file: format!("ladder-{name}.svg"),
        caption: format!(
            "The ladder of {name}: an idea a rung, from the loop that everybody writes first. {example}"
        ),
        class: "ladder",
        svg: svg.to_owned(),
    }
}

/// The points of a page.
pub fn points<'r>(record: &'r Record, file: &str) -> Vec<&'r Point> {
    let rows = rows::of(file);
    record.points.iter().filter(|point| rows.contains(&&*point.key[0])).collect()
}

/// A table for each machine, number of threads and kind of caches.
pub fn tables(record: &Record, points: &[&Point]) -> String {
    const HEAD: &str = "<tr><th>kernel</th><th>shape</th><th>tier</th><th>rate</th><th>of what binds</th><th>× plain</th></tr>";
    let mut out = String::new();
    let mut seen = BTreeSet::new();
    for first in points {
        let like = |p: &Point| (p.processor.clone(), p.key[3].clone(), p.key[4].clone());
        if !seen.insert(like(first)) {
            continue;
        }
        let rows: String = points.iter().filter(|p| like(p) == like(first)).map(|p| row(p)).collect();
        let said = escaped(&record.said(first));
        out += &format!(
            "<p>{said}.</p>\n<div class=\"scroll\"><table class=\"figures\">\n{HEAD}\n{rows}</table></div>\n"
        );
    }
    out
}

fn row(point: &Point) -> String {
    let [kernel, shape, tier, ..] = &point.key;
    let times = if point.speedup.is_finite() { rate(point.speedup) } else { "–".into() };
    let share = format!("{:.0} %, {}", 100.0 * point.of_peak, point.bound);
    let cells = [kernel, shape, tier, &format!("{} {}", rate(point.rate), point.unit), &share, &times];
    let cells: String = cells.into_iter().map(|cell| format!("<td>{}</td>", escaped(cell))).collect();
    format!("<tr>{cells}</tr>\n")
}

/// The roofline of a page.
pub fn roofline(record: &Record, points: &[&Point], file: &str) -> Option<Picture> {
    let caption = "What was measured, under the ceilings of that machine.".into();
    let svg = record.roofline(points)?;
    Some(Picture { file: format!("roofline-{}.svg", stem(file)), caption, class: "roofline", svg })
}

/// The roofline of the first page: of each kernel the first shape, on the fastest tier that was measured.
pub fn overview(record: &Record) -> Option<Picture> {
    let tier = |p: &Point| Tier::ALL.into_iter().position(|tier| tier.name() == p.key[2]);
    let mut seen = BTreeSet::new();
    let firsts = record.points.iter().filter(|p| seen.insert(&p.key[0]));
    let best = |first: &Point| {
        let same = |p: &&Point| {
            (&p.processor, &p.key[..2], &p.key[3..]) == (&first.processor, &first.key[..2], &first.key[3..])
        };
        record.points.iter().filter(same).max_by_key(|p| tier(p))
    };
    let points: Vec<&Point> = firsts.filter_map(best).collect();
    let svg = record.roofline(&points)?;
    let caption = "Each kernel’s first shape on the fastest tier, under the ceilings of that machine: slopes are what \
                   caches and memory give, levels what the units do. The kernels’ pages have the other shapes and tiers."
        .into();
    Some(Picture { file: "roofline.svg".into(), caption, class: "roofline", svg })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// `src/assets/measured/make.py record` leaves four digits, and nothing out that pages show.
    #[test]
    fn the_record_inside_is_a_committed_one() {
        let near = |a: f64, b: f64| (a - b).abs() <= 1e-3 * b.abs();
        let inside = inside().unwrap();
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let (_, from) = assets::RECORD.split_once("\"from\":\"").unwrap();
        let committed = Record::open(&root.join(from.split_once('"').unwrap().0)).unwrap();
        assert_eq!(inside.name, committed.name);
        assert_eq!(inside.points.len(), committed.points.len());
        for (ours, theirs) in inside.points.iter().zip(&committed.points) {
            assert_eq!((&ours.processor, &ours.key), (&theirs.processor, &theirs.key));
            assert_eq!((&ours.unit, &ours.bound, &ours.hash), (&theirs.unit, &theirs.bound, &theirs.hash));
            let numbers =
                |p: &Point| [p.rate, p.intensity, p.speedup, p.of_peak, p.spread, p.range[0], p.range[1]];
            for (a, b) in numbers(ours).into_iter().zip(numbers(theirs)) {
                assert!(near(a, b), "{:?}: {a} for {b}", ours.key);
            }
        }
        let said = |record: &Record| record.points.iter().map(|p| record.said(p)).collect::<Vec<_>>();
        assert_eq!(said(&inside), said(&committed));
        let ceilings = |record: &Record| {
            record.origins.iter().flat_map(|origin| origin.ceilings.clone()).collect::<Vec<_>>()
        };
        let (ours, theirs) = (ceilings(&inside), ceilings(&committed));
        assert_eq!(ours.len(), theirs.len());
        for (a, b) in ours.iter().zip(&theirs) {
            assert_eq!((a.name, a.tier, a.bytes), (b.name, b.tier, b.bytes));
            assert!(near(a.rate.median, b.rate.median), "{a:?} for {b:?}");
        }
    }
}
