//! Records: runs kept in `benches/record/PROCESSOR/DATE.json`, for whoever asks later whether something got slower.
//!
//! A record is `{"schema": "samebits-record/1", "runs": […]}`, each run what `samebits bench --json` prints, on a line of
//! its own. The runs of a day are added to its file, so that a long record can be made in quiet pieces; of a kernel,
//! shape, tier, number of threads and kind of cache that were measured twice the later one counts.

mod picture;

use super::ceiling::Ceiling;
use super::measure::Summary;
use super::report::Report;
use crate::io::atomic;
use crate::io::json::{self, Value};
use crate::model::read_config;
use crate::{Error, Result, Tier};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

const HEAD: &str = "{\"schema\": \"samebits-record/1\", \"runs\": [\n";
const TAIL: &str = "\n]}\n";

/// Adds a run to the record of today in `folder`; says where that is.
///
/// # Errors
/// Where the file cannot be read or written, or is no record.
pub fn add(folder: &Path, report: &Report) -> Result<PathBuf> {
    let days = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() / 86_400);
    let place = folder.join(file_name(&report.conditions.processor));
    std::fs::create_dir_all(&place).map_err(|e| Error::io(&place, "create", e))?;
    let path = place.join(format!("{}.json", date(days)));
    let mut text = String::from(HEAD);
    if path.exists() {
        let before = read_config(&path)?;
        let before = String::from_utf8_lossy(&before);
        let runs = before.strip_prefix(HEAD).and_then(|rest| rest.strip_suffix(TAIL));
        let runs = runs.ok_or_else(|| Error::invalid("this is no record").in_file(path.display()))?;
        text.push_str(runs);
        text.push_str(",\n");
    }
    text.push_str(&report.json_on_a_line());
    text.push_str(TAIL);
    atomic::write(&path, |file| file.write_all(text.as_bytes()))?;
    Ok(path)
}

/// A processor's name as a folder: `amd-epyc-9b14`.
fn file_name(processor: &str) -> String {
    let words = processor.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let name = words.map(str::to_ascii_lowercase).collect::<Vec<_>>().join("-");
    if name.is_empty() { "unknown".into() } else { name }
}

/// The date in UTC of so many days after 1970-01-01, as `2026-11-29`. (Years of 400 are all alike, and so are those that begin
/// in March, whose leap day comes last.)
fn date(days: u64) -> String {
    let days = days + 719_468; // from 0000-03-01 on
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153; // 0 is March
    let (day, year) = (day - (153 * month + 2) / 5 + 1, era * 400 + year + u64::from(month >= 10));
    format!("{year:04}-{:02}-{day:02}", if month < 10 { month + 3 } else { month - 9 })
}

/// What a record or a run says of one kernel, shape and tier.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Point {
    /// Where it was measured.
    pub processor: String,
    /// Kernel, shape, tier, threads, `warm` or `cold`.
    pub key: [String; 5],
    /// GFLOP/s, GOP/s or GB/s.
    pub unit: String,
    /// The rate in that unit, a median.
    pub rate: f64,
    /// Operations a byte; NaN where a run does not say, which compares all the same.
    pub intensity: f64,
    /// The ceiling that binds: `fma`, `read`, …; empty where a run does not say.
    pub bound: String,
    /// Times the rate of plain Rust loops; NaN where nobody looked.
    pub speedup: f64,
    /// Its share of the ceiling that binds, round by round; a median.
    pub of_peak: f64,
    /// From the 10th to the 90th percentile of those shares, as a part of their median.
    pub spread: f64,
    /// The smallest and the largest of those shares.
    pub range: [f64; 2],
    /// Of the result's bits.
    pub hash: String,
}

/// Where and how one run of a record was made.
#[derive(Clone, Debug)]
pub struct Origin {
    /// Of the machine.
    pub processor: String,
    /// Of the program; empty where it knew none.
    pub commit: String,
    /// As in the key of a point.
    pub threads: String,
    /// As in the key of a point.
    pub cache: String,
    /// The machine's, as the run found them.
    pub ceilings: Vec<Ceiling>,
}

/// A record or a run that was read.
#[derive(Clone, Debug)]
pub struct Record {
    /// The file's, without its ending: the date of a record.
    pub name: String,
    /// The processors' names, one a run that has another.
    pub processors: Vec<String>,
    /// One a run.
    pub origins: Vec<Origin>,
    /// The points, in the order in which they first came.
    pub points: Vec<Point>,
}

impl Record {
    /// Reads a record, or what `samebits bench --json` printed.
    ///
    /// # Errors
    /// Where the file is missing, malformed, or something else.
    pub fn open(path: &Path) -> Result<Record> {
        let text = read_config(path)?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        Record::parse(&name, &text).map_err(|e| e.in_file(path.display()))
    }

    /// Reads the text of a record called `name`.
    pub(crate) fn parse(name: &str, text: &[u8]) -> Result<Record> {
        let value = json::parse(text)?;
        // A shortened copy says which record it was.
        let from = value.get("from").and_then(|v| v.as_str());
        let name = from.as_deref().and_then(|from| Path::new(from).file_stem()?.to_str()).unwrap_or(name);
        let (processors, origins, points) = Default::default();
        let mut record = Record { name: name.to_owned(), processors, origins, points };
        match value.get("schema").and_then(|v| v.as_str()).as_deref() {
            Some("samebits-record/1") => {
                let runs = value.get("runs").and_then(|v| v.elements());
                let mut runs = runs.ok_or_else(|| value.expected("a list of runs"))?;
                runs.try_for_each(|run| record.add(run))?;
            }
            Some("samebits-bench/1") => record.add(value)?,
            _ => {
                return Err(Error::invalid(
                    "this is neither a record nor the output of samebits bench --json",
                ));
            }
        }
        Ok(record)
    }

    fn add(&mut self, run: Value<'_>) -> Result<()> {
        let lacking = |key: &str| run.expected(&format!("a run with {key:?}"));
        let part = |of: &str, key: &str| run.get(of)?.get(key);
        let processor = part("machine", "processor").and_then(|v| v.as_str());
        let processor = processor.ok_or_else(|| lacking("machine.processor"))?.into_owned();
        let threads =
            part("run", "threads").and_then(|v| v.as_usize()).ok_or_else(|| lacking("run.threads"))?;
        let cache = part("run", "cache").and_then(|v| v.as_str()).ok_or_else(|| lacking("run.cache"))?;
        if !self.processors.contains(&processor) {
            self.processors.push(processor.clone());
        }
        let commit = run.get("git").and_then(|v| v.as_str()).unwrap_or_default().into_owned();
        let mut ceilings = Vec::new();
        for one in run.get("ceilings").and_then(|v| v.elements()).into_iter().flatten() {
            ceilings.push(ceiling(one).ok_or_else(|| one.expected("a ceiling of samebits bench"))?);
        }
        let origin = Origin {
            processor: processor.clone(),
            commit,
            threads: threads.to_string(),
            cache: cache.to_string(),
            ceilings,
        };
        self.origins.push(origin);
        for row in run.get("rows").and_then(|v| v.elements()).ok_or_else(|| lacking("rows"))? {
            let point = point(row, (&processor, threads, &cache))
                .ok_or_else(|| row.expected("a row of samebits bench"))?;
            match self.points.iter_mut().find(|known| known.key == point.key) {
                Some(known) => *known = point,
                None => self.points.push(point),
            }
        }
        Ok(())
    }
}

fn point(row: Value<'_>, (processor, threads, cache): (&str, usize, &str)) -> Option<Point> {
    let text = |key: &str| Some(row.get(key)?.as_str()?.into_owned());
    let summary = |key: &str, part: &str| row.get(key)?.get(part)?.as_f64();
    let median = |key: &str| summary(key, "median");
    let number = |key: &str| row.get(key)?.as_f64();
    let bytes = number("bytes").filter(|&bytes| bytes > 0.0);
    Some(Point {
        processor: processor.to_owned(),
        key: [text("kernel")?, text("shape")?, text("tier")?, threads.to_string(), cache.to_owned()],
        unit: text("unit")?,
        rate: median("rate")?,
        intensity: number("flops").zip(bytes).map_or(f64::NAN, |(flops, bytes)| flops / bytes),
        bound: text("bound").unwrap_or_default(),
        speedup: median("speedup").unwrap_or(f64::NAN),
        of_peak: median("of_peak")?,
        spread: number("spread")?,
        range: [summary("of_peak", "min")?, summary("of_peak", "max")?],
        hash: text("hash")?,
    })
}

fn ceiling(value: Value<'_>) -> Option<Ceiling> {
    const NAMES: [&str; 5] = ["fma", "L1", "L2", "L3", "DRAM"];
    let text = |key: &str| value.get(key)?.as_str();
    let part = |key: &str| value.get("rate")?.get(key)?.as_f64();
    Some(Ceiling {
        name: NAMES.into_iter().find(|known| text("name").as_deref() == Some(known))?,
        tier: Tier::ALL.into_iter().find(|tier| text("tier").as_deref() == Some(tier.name()))?,
        bytes: value.get("bytes")?.as_usize()?,
        rate: Summary {
            median: part("median")?,
            min: part("min")?,
            max: part("max")?,
            samples: part("samples").map_or(0, |n| n as usize),
        },
    })
}

/// What became of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The results are not the same bits: whatever else changed, look here first.
    OtherBits,
    /// Two processors: shares of two peaks say nothing of the program.
    OtherProcessor,
    /// By more than the noise of both.
    Slower,
    /// By more than the noise of both.
    Faster,
    /// Within the noise.
    Same,
    /// Only the second has it.
    New,
    /// Only the first has it.
    Gone,
}

impl Verdict {
    /// In a word or two.
    pub const fn name(self) -> &'static str {
        match self {
            Verdict::OtherBits => "other bits",
            Verdict::OtherProcessor => "other processor",
            Verdict::Slower => "slower",
            Verdict::Faster => "faster",
            Verdict::Same => "the same",
            Verdict::New => "new",
            Verdict::Gone => "gone",
        }
    }
}

/// A kernel of two records.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Before; none of a new one.
    pub before: Option<Point>,
    /// After; none of one that is gone.
    pub after: Option<Point>,
    /// The share of the peak after ÷ before; NaN where one is missing.
    pub ratio: f64,
    /// How far from 1 the ratio may be and say nothing.
    pub noise: f64,
    /// What to think of it.
    pub verdict: Verdict,
}

/// What a process adds to the noise of its rounds, even on a quiet machine: where pages lie is drawn anew for every process, and two runs of
/// one program have differed by 5.3 %.
const LEAST: f64 = 0.06;

impl Change {
    fn of(before: &Point, after: &Point) -> Change {
        let ratio = after.of_peak / before.of_peak;
        // All that each run saw between its best and its worst round: a neighbour who stays for a whole run was seen by
        // some rounds of the other. Of 219 pairs of runs of one program on a machine that others used hard 1 was beyond
        // this, 14 beyond half of it, 48 beyond half of the root of the squares of both spreads.
        let seen = |p: &Point| (p.range[1] - p.range[0]) / p.of_peak;
        let noise = LEAST + seen(before) + seen(after);
        let verdict = match ratio {
            _ if before.hash != after.hash => Verdict::OtherBits,
            _ if before.processor != after.processor => Verdict::OtherProcessor,
            r if r * (1.0 + noise) < 1.0 => Verdict::Slower,
            r if r > 1.0 + noise => Verdict::Faster,
            _ => Verdict::Same,
        };
        Change { before: Some(before.clone()), after: Some(after.clone()), ratio, noise, verdict }
    }
}

/// Every kernel of two records, in the order of the first, then what is new. Shares of the peak are compared, not rates: they
/// were sampled in turns with the ceiling, so that another clock or a neighbour moves both.
pub fn compare(before: &Record, after: &Record) -> Vec<Change> {
    let find = |record: &Record, key: &[String; 5]| record.points.iter().find(|p| p.key == *key).cloned();
    let one = |point: &Point| match find(after, &point.key) {
        Some(after) => Change::of(point, &after),
        None => alone(Some(point.clone()), None, Verdict::Gone),
    };
    let mut changes: Vec<Change> = before.points.iter().map(one).collect();
    let new = after.points.iter().filter(|point| find(before, &point.key).is_none());
    changes.extend(new.map(|point| alone(None, Some(point.clone()), Verdict::New)));
    changes
}

fn alone(before: Option<Point>, after: Option<Point>, verdict: Verdict) -> Change {
    Change { before, after, ratio: f64::NAN, noise: f64::NAN, verdict }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_names() {
        let cases = [
            (0, "1970-01-01"),
            (59, "1970-03-01"),
            (11_016, "2000-02-29"),
            (19_782, "2024-02-29"),
            (20_786, "2026-11-29"),
            (47_540, "2100-02-28"),
            (47_541, "2100-03-01"),
        ];
        cases.into_iter().for_each(|(days, expected)| assert_eq!(date(days), expected));
        assert_eq!(file_name("AMD EPYC 9B14 96-Core (R)"), "amd-epyc-9b14-96-core-r");
        assert_eq!(file_name("/../"), "unknown");
    }

    fn point(of_peak: f64, spread: f64, hash: &str) -> Point {
        let key = ["gemm", "8x8x8", "avx2", "1", "warm"].map(String::from);
        let range = [1.0 - 0.5 * spread, 1.0 + 0.5 * spread].map(|part| part * of_peak);
        let processor = "P".into();
        let (unit, hash) = ("GB/s".into(), hash.into());
        Point { processor, key, unit, rate: 1.0, of_peak, spread, range, hash, ..Point::default() }
    }

    #[test]
    fn a_verdict_knows_the_noise() {
        let quiet = point(0.80, 0.01, "a");
        let verdict = |other: &Point| Change::of(&quiet, other).verdict;
        assert_eq!(verdict(&point(0.79, 0.01, "a")), Verdict::Same);
        assert_eq!(verdict(&point(0.74, 0.01, "a")), Verdict::Slower);
        assert_eq!(verdict(&point(0.74, 0.20, "a")), Verdict::Same);
        assert_eq!(verdict(&point(0.88, 0.02, "a")), Verdict::Faster);
        assert_eq!(verdict(&point(0.80, 0.01, "b")), Verdict::OtherBits);
        // Shares of two peaks are not compared; bits are, for they must be the same everywhere.
        let elsewhere = |hash| Point { processor: "Q".into(), ..point(0.40, 0.01, hash) };
        assert_eq!(verdict(&elsewhere("a")), Verdict::OtherProcessor);
        assert_eq!(verdict(&elsewhere("b")), Verdict::OtherBits);
    }
}
