//! A climbed ladder as a picture: a bar a rung, in light and dark.

use crate::climb::Climbed;
use std::fmt::Write;

const STYLE: &str = "<style>\
    text { font: 14px system-ui, sans-serif; fill: #1b1f24 } .why { font-size: 12px; fill: #57606a }\
    .bar { fill: #2f6fb7 } .page { fill: #fff }\
    @media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .why { fill: #9da7b1 } .bar { fill: #5b9bd5 } .page { fill: #0d1117 } }\
    </style>";

/// The picture; `note` says where and when it was measured. Bars are as long as rates are great: the lowest rungs may be as
/// thin as a line, and that is the point. Whoever cannot see it is told the rates.
pub fn draw(ladder: &Climbed, note: &str) -> String {
    const LEFT: f64 = 110.0;
    const LONGEST: f64 = 540.0;
    const STEP: f64 = 56.0;
    let top = if note.is_empty() { 56.0 } else { 76.0 };
    let largest = ladder.rungs.iter().map(|rung| rung.rate).fold(f64::MIN_POSITIVE, f64::max);
    let height = top + 14.0 + STEP * ladder.rungs.len() as f64;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"860\" height=\"{height}\" viewBox=\"0 0 860 {height}\" role=\"img\">\n\
         <title>{0}</title>\n<desc>{1}</desc>\n{STYLE}\n<rect class=\"page\" width=\"860\" height=\"{height}\"/>\n\
         <text x=\"20\" y=\"32\" font-weight=\"bold\">{0}</text>\n",
        escaped(&ladder.title),
        escaped(&told(ladder, note))
    );
    if !note.is_empty() {
        let _ = writeln!(out, "<text class=\"why\" x=\"20\" y=\"52\">{}</text>", escaped(note));
    }
    for (i, rung) in ladder.rungs.iter().enumerate() {
        let (y, width) = (top + STEP * i as f64, (LONGEST * rung.rate / largest).max(1.0));
        let gain = if i == 0 { String::new() } else { format!(", {:.1} ×", rung.gain) };
        let _ = writeln!(
            out,
            "<text x=\"20\" y=\"{0}\">{1}</text><rect class=\"bar\" x=\"{LEFT}\" y=\"{y}\" width=\"{width:.0}\" height=\"20\" rx=\"2\"/>\
             <text x=\"{2:.0}\" y=\"{0}\">{3:.1} {4}{gain}</text><text class=\"why\" x=\"{LEFT}\" y=\"{5}\">{6}</text>",
            y + 15.0,
            rung.name,
            LEFT + width + 8.0,
            rung.rate,
            ladder.unit,
            y + 36.0,
            escaped(rung.why)
        );
    }
    out + "</svg>\n"
}

/// The picture in a sentence.
fn told(ladder: &Climbed, note: &str) -> String {
    let rungs: Vec<String> =
        ladder.rungs.iter().map(|rung| format!("{} {:.1}", rung.name, rung.rate)).collect();
    let note = if note.is_empty() { String::new() } else { format!(" ({note})") };
    format!("A ladder of bars, in {}: {}{note}.", ladder.unit, rungs.join(", "))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
