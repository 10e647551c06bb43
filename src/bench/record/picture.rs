//! What a record says, as a roofline: nothing is measured for it.

use super::{Origin, Point, Record};
use crate::Tier;
use crate::bench::ceiling::Ceiling;
use crate::bench::svg;

impl Origin {
    /// Whether a point was measured under these conditions.
    fn is_of(&self, point: &Point) -> bool {
        let [.., threads, cache] = &point.key;
        (&self.processor, &self.threads, &self.cache) == (&point.processor, threads, cache)
    }
}

impl Record {
    /// Processor, date, commit, threads, caches: of the points that were measured as this one was.
    pub fn said(&self, point: &Point) -> String {
        let [.., threads, cache] = &point.key;
        let mut commits: Vec<&str> = Vec::new();
        for origin in self.origins.iter().filter(|origin| origin.is_of(point)) {
            if !origin.commit.is_empty() && !commits.contains(&&*origin.commit) {
                commits.push(&origin.commit);
            }
        }
        let commits =
            if commits.is_empty() { String::new() } else { format!(", commit {}", commits.join(" and ")) };
        let threads = if threads == "1" { "one thread".into() } else { format!("{threads} threads") };
        format!("{}, {}{commits}, {threads}, caches {cache}", point.processor, self.name)
    }

    /// The roofline of these points; none where none has a place in it. One picture has one machine: of points that were
    /// measured under several conditions those count that are like the first.
    pub fn roofline(&self, points: &[&Point]) -> Option<String> {
        let first = *points.first()?;
        let like = |p: &&&Point| (&p.processor, &p.key[3..]) == (&first.processor, &first.key[3..]);
        let places: Vec<svg::Point> = points.iter().filter(like).filter_map(|p| place(p)).collect();
        let mut ceilings = self.ceilings(first);
        ceilings.retain(|c| c.bytes > 0 || places.iter().any(|place| place.tier == c.tier));
        if places.is_empty() || ceilings.iter().all(|c| c.bytes > 0) {
            return None;
        }
        Some(svg::roofline(&self.said(first), &ceilings, &places))
    }

    /// Of each tier the multiply-adds, of each cache the fastest reading: what one run did not reach another did.
    fn ceilings(&self, point: &Point) -> Vec<Ceiling> {
        let mut all: Vec<Ceiling> = Vec::new();
        for one in self.origins.iter().filter(|origin| origin.is_of(point)).flat_map(|o| &o.ceilings) {
            let same = |c: &&mut Ceiling| c.name == one.name && (one.bytes > 0 || c.tier == one.tier);
            match all.iter_mut().find(same) {
                Some(known) if known.rate.median < one.rate.median => *known = one.clone(),
                Some(_) => {}
                None => all.push(one.clone()),
            }
        }
        all
    }
}

/// Where a point stands, if its run says so.
fn place(point: &Point) -> Option<svg::Point> {
    if point.intensity.is_nan() {
        return None;
    }
    let [kernel, shape, tier, ..] = &point.key;
    Some(svg::Point {
        label: format!("{kernel} {shape}"),
        tier: Tier::ALL.into_iter().find(|known| known.name() == tier)?,
        intensity: point.intensity,
        // A rate in bytes is one in operations by way of what a byte costs.
        gflops: if point.unit == "GB/s" { point.rate * point.intensity } else { point.rate },
    })
}

#[cfg(test)]
mod tests {
    use super::super::Record;

    const RUN: &str = r#"{"schema": "samebits-record/1", "runs": [
        {"schema": "samebits-bench/1", "git": "abc", "machine": {"processor": "P"}, "run": {"threads": 1, "cache": "warm"},
         "ceilings": [{"name": "fma", "tier": "avx2", "bytes": 0, "rate": {"median": 100.0, "min": 99.0, "max": 101.0}},
                      {"name": "L1", "tier": "avx2", "bytes": 16384, "rate": {"median": 150.0, "min": 1.0, "max": 200.0}}],
         "rows": [{"kernel": "dot", "shape": "64", "tier": "avx2", "unit": "GB/s", "flops": 128.0, "bytes": 512.0,
                   "rate": {"median": 40.0}, "bound": "read", "of_peak": {"median": 0.5, "min": 0.4, "max": 0.6},
                   "spread": 0.1, "speedup": {"median": 3.0}, "hash": "00"}]},
        {"schema": "samebits-bench/1", "git": null, "machine": {"processor": "P"}, "run": {"threads": 1, "cache": "warm"},
         "ceilings": [{"name": "L1", "tier": "avx512", "bytes": 16384, "rate": {"median": 170.0, "min": 1.0, "max": 200.0}}],
         "rows": []}]}"#;

    #[test]
    fn a_record_is_drawn_as_it_stands() {
        let record = Record::parse("2026-11-29", RUN.as_bytes()).unwrap();
        let points: Vec<_> = record.points.iter().collect();
        assert_eq!(record.said(points[0]), "P, 2026-11-29, commit abc, one thread, caches warm");
        let picture = record.roofline(&points).unwrap();
        // 40 GB/s at a quarter of an operation a byte; of two readings of L1 the faster.
        for word in ["dot 64 on avx2 10.0 GFLOP/s at 0.25 operations", "L1 read 170 GB/s", "commit abc"] {
            assert!(picture.contains(word), "no {word:?}");
        }
        assert!(!picture.contains("150 GB/s") && record.roofline(&[]).is_none());
        let other = RUN.replace("\"L1\"", "\"L9\"");
        assert!(Record::parse("x", other.as_bytes()).unwrap_err().to_string().contains("a ceiling"));
    }
}
