//! A climbed ladder as a picture: a bar a rung, in light and dark.

use crate::climb::Climbed;
use std::fmt::Write;

const STYLE: &str = "<style>\
    text { font: 14px system-ui, sans-serif; fill: #1b1f24 } .why { font-size: 12px; fill: #57606a }\
    .bar { fill: #2f6fb7 } .page { fill: #fff }\
    @media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .why { fill: #9da7b1 } .bar { fill: #5b9bd5 } .page { fill: #0d1117 } }\
    </style>";

/// The picture. Bars are as long as rates are great: the lowest rungs may be as thin as a line, and that is the point.
pub fn draw(ladder: &Climbed) -> String {
    const LEFT: f64 = 110.0;
    const LONGEST: f64 = 540.0;
    const STEP: f64 = 56.0;
    let largest = ladder.rungs.iter().map(|rung| rung.rate).fold(f64::MIN_POSITIVE, f64::max);
    let height = 70.0 + STEP * ladder.rungs.len() as f64;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 860 {height}\" role=\"img\">\n\
         <title>{0}</title>\n{STYLE}\n<rect class=\"page\" width=\"860\" height=\"{height}\"/>\n\
         <text x=\"20\" y=\"32\" font-weight=\"bold\">{0}</text>\n",
        escaped(&ladder.title)
    );
    for (i, rung) in ladder.rungs.iter().enumerate() {
        let (y, width) = (56.0 + STEP * i as f64, (LONGEST * rung.rate / largest).max(1.0));
        let gain = if i == 0 { String::new() } else { format!(", {:.1} ×", rung.gain) };
        let _ = writeln!(
            out,
            "<text x=\"20\" y=\"{}\">{}</text><rect class=\"bar\" x=\"{LEFT}\" y=\"{y}\" width=\"{width:.1}\" height=\"20\" rx=\"2\"/>\
             <text x=\"{:.1}\" y=\"{}\">{:.1} {}{gain}</text><text class=\"why\" x=\"{LEFT}\" y=\"{}\">{}</text>",
            y + 15.0,
            rung.name,
            LEFT + width + 8.0,
            y + 15.0,
            rung.rate,
            ladder.unit,
            y + 36.0,
            escaped(rung.why)
        );
    }
    out + "</svg>\n"
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
