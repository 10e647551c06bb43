//! The roofline as a picture (Williams, Waterman, Patterson 2009): operations a byte to the right, rate
//! upwards, both logarithmic; a slope for each bandwidth, a level for each tier's multiply-adds, a point for
//! each kernel and tier. Up to some forty points carry their names; more carry numbers, and a key names them.

mod labels;
mod scale;
mod theme;

use super::ceiling::Ceiling;
use crate::Tier;
use labels::{Labels, Rect};
use scale::Scale;
use std::fmt::Write as _;

/// A kernel on one tier.
#[derive(Clone, Debug)]
pub struct Point {
    /// What stands beside it.
    pub label: String,
    /// Its tier: the colour.
    pub tier: Tier,
    /// Operations a byte.
    pub intensity: f64,
    /// Rate, GFLOP/s.
    pub gflops: f64,
}

/// Height, and width without the key.
const SIZE: (f64, f64) = (1280.0, 860.0);
/// Left, right, top, bottom of the plot.
const MARGIN: (f64, f64, f64, f64) = (76.0, 24.0, 74.0, 62.0);
const PLOT: Rect =
    Rect { x: MARGIN.0, y: MARGIN.2, w: SIZE.0 - MARGIN.0 - MARGIN.1, h: SIZE.1 - MARGIN.2 - MARGIN.3 };
const FONT: f64 = 11.0;
const TITLE: &str = "samebits: kernels under the roofline";

/// Points up to which names fit beside them.
const NAMED: usize = 42;
/// A line, and a column, of the key.
const KEY: (f64, f64) = (13.0, 214.0);

/// Draws `points` under `ceilings`; `subtitle` says where and how they were measured.
///
/// ```
/// use samebits::Tier;
/// use samebits::bench::{ceiling::Ceiling, measure::Summary, svg::{Point, roofline}};
/// let rate = Summary::of(&[100.0]);
/// let ceiling = |name| Ceiling { name, tier: Tier::Avx2, bytes: 1 << 15, rate };
/// let point = Point { label: "dot".into(), tier: Tier::Avx2, intensity: 0.25, gflops: 20.0 };
/// let picture = roofline("on a machine", &[ceiling("fma"), ceiling("L1")], &[point]);
/// assert!(picture.starts_with("<svg") && picture.contains("dot"));
/// ```
pub fn roofline(subtitle: &str, ceilings: &[Ceiling], points: &[Point]) -> String {
    let key = Key::new(points);
    let mut picture = Picture::new(ceilings, points, key.width());
    picture.told(subtitle, ceilings, points);
    picture.title(subtitle, points);
    picture.axes();
    picture.ceilings(ceilings);
    picture.points(points, &key);
    picture.key(&key);
    picture.finish()
}

/// The names that numbers stand for, in order; empty where points carry their names.
struct Key(Vec<String>);

impl Key {
    fn new(points: &[Point]) -> Key {
        let mut names = Vec::new();
        if points.len() > NAMED {
            for point in points {
                if !names.contains(&point.label) {
                    names.push(point.label.clone());
                }
            }
        }
        Key(names)
    }

    /// What stands beside a point.
    fn label(&self, point: &Point) -> String {
        let number = self.0.iter().position(|name| *name == point.label);
        number.map_or_else(|| point.label.clone(), |i| (i + 1).to_string())
    }

    const fn lines() -> usize {
        (PLOT.h / KEY.0) as usize
    }

    fn width(&self) -> f64 {
        self.0.len().div_ceil(Key::lines()) as f64 * KEY.1
    }
}

struct Picture {
    out: String,
    x: Scale,
    y: Scale,
    labels: Labels,
    /// The highest level: where the slopes end.
    top: f64,
}

impl Picture {
    fn new(ceilings: &[Ceiling], points: &[Point], key: f64) -> Picture {
        let fma = || ceilings.iter().filter(|c| c.bytes == 0).map(|c| c.rate.median);
        let reads = || ceilings.iter().filter(|c| c.bytes > 0).map(|c| c.rate.median);
        let top = fma().fold(0.0, f64::max);
        let slowest = reads().fold(f64::INFINITY, f64::min);
        let ridge = if slowest.is_finite() { top / slowest } else { 1.0 };
        let xs = points.iter().map(|p| p.intensity).chain([0.1, 4.0 * ridge]);
        let ys = points.iter().map(|p| p.gflops).chain(fma()).chain([top * 1.6]);
        let x = Scale::new(xs, PLOT.x, PLOT.x + PLOT.w);
        let y = Scale::new(ys, PLOT.y + PLOT.h, PLOT.y);
        let mut out = String::new();
        let (w, h) = (SIZE.0 + key, SIZE.1);
        out += &format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{w}\" height=\"{h}\" viewBox=\"0 0 {w} {h}\" \
             role=\"img\" font-family=\"DejaVu Sans, Verdana, sans-serif\" font-size=\"{FONT}\">\n"
        );
        Picture { out, x, y, labels: Labels::new(PLOT), top }
    }

    /// What the picture shows, for whoever cannot see it, and its colours.
    fn told(&mut self, subtitle: &str, ceilings: &[Ceiling], points: &[Point]) {
        let ceiling = |c: &Ceiling| match c.bytes {
            0 => format!("{} of {} {} GFLOP/s", c.name, c.tier, digits(c.rate.median)),
            _ => format!("reading {} {} GB/s", c.name, digits(c.rate.median)),
        };
        let point = |p: &Point| {
            let (rate, at) = (digits(p.gflops), digits(p.intensity));
            format!("{} on {} {rate} GFLOP/s at {at} operations a byte", p.label, p.tier)
        };
        let ceilings: Vec<String> = ceilings.iter().map(ceiling).collect();
        let points: Vec<String> = points.iter().map(point).collect();
        let text = format!("Ceilings: {}. Kernels: {}.", ceilings.join(", "), points.join("; "));
        let (title, text) = (escape(subtitle), escape(&text));
        let _ = write!(self.out, "<title>{TITLE}: {title}</title>\n<desc>{text}</desc>\n{}", theme::style());
        let _ = writeln!(self.out, "<rect width=\"100%\" height=\"100%\" class=\"page\"/>");
    }

    /// Title, conditions, and which colour is which tier.
    fn title(&mut self, subtitle: &str, points: &[Point]) {
        self.text((MARGIN.0, 30.0), "start", 18.0, "head", TITLE);
        self.text((MARGIN.0, 52.0), "start", 12.0, "soft", subtitle);
        let mut x = SIZE.0 - MARGIN.1;
        for tier in Tier::ALL.into_iter().rev().filter(|&t| points.iter().any(|p| p.tier == t)) {
            self.text((x, 30.0), "end", 12.0, "head", tier.name());
            x -= 9.0 * tier.name().len() as f64 + 8.0;
            self.dot((x, 26.0), tier);
            x -= 20.0;
        }
    }

    fn axes(&mut self) {
        for (ticks, horizontal) in [(self.x.ticks(), true), (self.y.ticks(), false)] {
            for tick in ticks {
                let strong = if tick.label.is_some() { "tick" } else { "fine" };
                let (from, to) = if horizontal {
                    ((tick.at, PLOT.y), (tick.at, PLOT.y + PLOT.h))
                } else {
                    ((PLOT.x, tick.at), (PLOT.x + PLOT.w, tick.at))
                };
                self.line(from, to, strong, 1.0);
                let Some(label) = tick.label else { continue };
                if horizontal {
                    self.text((tick.at, PLOT.y + PLOT.h + 18.0), "middle", 12.0, "", &label);
                } else {
                    self.text((PLOT.x - 8.0, tick.at + 4.0), "end", 12.0, "", &label);
                }
            }
        }
        let Rect { x, y, w, h } = PLOT;
        let _ =
            writeln!(self.out, "<rect x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\" class=\"frame\"/>");
        self.text(
            (x + w / 2.0, SIZE.1 - 16.0),
            "middle",
            13.0,
            "head",
            "operations per byte of memory traffic",
        );
        let middle = y + h / 2.0;
        let _ = writeln!(
            self.out,
            "<text x=\"20\" y=\"{middle}\" text-anchor=\"middle\" font-size=\"13\" class=\"head\" \
             transform=\"rotate(-90 20 {middle})\">GFLOP/s</text>"
        );
    }

    fn ceilings(&mut self, ceilings: &[Ceiling]) {
        for c in ceilings.iter().filter(|c| c.bytes > 0) {
            self.slope(&format!("{} read {:.0} GB/s", c.name, c.rate.median), c.rate.median);
        }
        // Levels so close that their labels would collide share one.
        let mut levels: Vec<(f64, String)> = Vec::new();
        for c in ceilings.iter().filter(|c| c.bytes == 0) {
            let rate = c.rate.median;
            let y = self.y.at(rate);
            self.line((self.x.at(self.ridge(ceilings, rate)), y), (PLOT.x + PLOT.w, y), c.tier.name(), 1.8);
            self.labels.keep_off(Rect { x: PLOT.x, y: y - 2.0, w: PLOT.w, h: 4.0 });
            let label = format!("{} {} {}", c.tier, c.name, digits(rate));
            match levels.last_mut().filter(|(last, _)| (last - y).abs() < 16.0) {
                Some((_, text)) => *text = format!("{text}, {label}"),
                None => levels.push((y, label)),
            }
        }
        for (y, label) in levels {
            let label = format!("{label} GFLOP/s");
            let at = (PLOT.x + PLOT.w - 8.0, y - 6.0);
            self.text(at, "end", FONT, "", &label);
            let w = labels::width(&label, FONT);
            self.labels.block(Rect { x: at.0 - w, y: at.1 - FONT, w, h: FONT + 4.0 });
        }
    }

    /// Where the steepest slope meets the level of `rate`.
    fn ridge(&self, ceilings: &[Ceiling], rate: f64) -> f64 {
        let fastest = ceilings.iter().filter(|c| c.bytes > 0).map(|c| c.rate.median).fold(0.0, f64::max);
        if fastest > 0.0 { (rate / fastest).max(self.x.low) } else { self.x.low }
    }

    /// A bandwidth: y = rate · x, from the left or lower edge up to the highest level.
    fn slope(&mut self, label: &str, bandwidth: f64) {
        let low = self.x.low.max(self.y.low / bandwidth);
        let high = self.top / bandwidth;
        let from = (self.x.at(low), self.y.at(low * bandwidth));
        let to = (self.x.at(high), self.y.at(self.top));
        self.line(from, to, "read", 1.6);
        let (dx, dy) = (to.0 - from.0, to.1 - from.1);
        let length = dx.hypot(dy);
        let (ux, uy) = (dx / length, dy / length);
        let (x, y) = (from.0 + 14.0 * ux + 5.0 * uy, from.1 + 14.0 * uy - 5.0 * ux);
        let angle = uy.atan2(ux).to_degrees();
        let _ = writeln!(
            self.out,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"read\" \
             transform=\"rotate({angle:.2} {x:.1} {y:.1})\">{label}</text>"
        );
        // A rotated label is a row of small squares to those that look for a free place.
        for step in 0..(labels::width(label, FONT) / 8.0) as usize {
            let along = 8.0 * step as f64;
            let (x, y) = (x + along * ux, y + along * uy);
            self.labels.block(Rect { x: x - 4.0, y: y - FONT, w: 14.0, h: 14.0 });
        }
    }

    fn points(&mut self, points: &[Point], key: &Key) {
        let at = |p: &Point| (self.x.at(p.intensity), self.y.at(p.gflops));
        let places: Vec<(f64, f64)> = points.iter().map(at).collect();
        for &(x, y) in &places {
            self.labels.block(Rect { x: x - 5.0, y: y - 5.0, w: 10.0, h: 10.0 });
        }
        // The crowded first: those with most neighbours have the least choice later.
        let near = |i: usize| {
            let d = |j: usize| (places[i].0 - places[j].0).hypot(places[i].1 - places[j].1);
            (0..places.len()).filter(|&j| d(j) < 90.0).count()
        };
        let mut order: Vec<usize> = (0..points.len()).collect();
        order.sort_by_key(|&i| std::cmp::Reverse(near(i)));
        for i in order {
            let (at, tier) = (places[i], points[i].tier.name());
            let label = key.label(&points[i]);
            let rect = self.labels.place(at, labels::width(&label, FONT) + 4.0, FONT + 3.0);
            let anchor = rect.nearest(at);
            if (anchor.0 - at.0).hypot(anchor.1 - at.1) > 9.0 {
                self.line(at, anchor, tier, 0.6);
            }
            self.halo(rect);
            let y = rect.y + FONT - 1.0;
            // A label on the left ends at its point, whatever its true width.
            if rect.x + rect.w <= at.0 {
                self.text((rect.x + rect.w - 2.0, y), "end", FONT, tier, &label);
            } else {
                self.text((rect.x + 2.0, y), "start", FONT, tier, &label);
            }
        }
        for (point, &at) in points.iter().zip(&places) {
            self.dot(at, point.tier);
        }
    }

    /// Numbers and names, in columns to the right of the plot.
    fn key(&mut self, key: &Key) {
        for (i, name) in key.0.iter().enumerate() {
            let (column, line) = (i / Key::lines(), i % Key::lines());
            let x = SIZE.0 + column as f64 * KEY.1;
            let y = PLOT.y + FONT + line as f64 * KEY.0;
            self.text((x + 16.0, y), "end", FONT, "head", &(i + 1).to_string());
            self.text((x + 22.0, y), "start", FONT, "", name);
        }
    }

    /// Lets a label be read where it lies on lines.
    fn halo(&mut self, Rect { x, y, w, h }: Rect) {
        let _ = writeln!(
            self.out,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{w:.1}\" height=\"{h:.1}\" class=\"page\" opacity=\"0.7\"/>"
        );
    }

    /// `class` as the theme names it.
    fn line(&mut self, from: (f64, f64), to: (f64, f64), class: &str, width: f64) {
        let _ = writeln!(
            self.out,
            "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" class=\"{class}\" stroke-width=\"{width}\"/>",
            from.0, from.1, to.0, to.1
        );
    }

    fn dot(&mut self, at: (f64, f64), tier: Tier) {
        let _ = writeln!(
            self.out,
            "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"4\" class=\"dot {tier}\"/>",
            at.0, at.1
        );
    }

    /// `class` as the theme names it; none is a plain text's.
    fn text(&mut self, at: (f64, f64), anchor: &str, size: f64, class: &str, text: &str) {
        let (text, (x, y)) = (escape(text), at);
        let class = if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") };
        let _ = writeln!(
            self.out,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" font-size=\"{size}\"{class}>{text}</text>"
        );
    }

    fn finish(mut self) -> String {
        self.out += "</svg>\n";
        self.out
    }
}

/// Three significant digits, more where a number is large.
fn digits(x: f64) -> String {
    match x {
        x if x >= 100.0 => format!("{x:.0}"),
        x if x >= 10.0 => format!("{x:.1}"),
        x => format!("{x:.2}"),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
