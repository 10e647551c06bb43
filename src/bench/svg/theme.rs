//! The colours of the picture, as classes: light, and dark where the reader asks for that.

use crate::Tier;
use std::fmt::Write as _;

/// What is drawn, by class: text, then lines. The names of tiers are classes too.
const LIGHT: &str = "\
text{fill:#333}.head{fill:#111}.soft{fill:#555}.read{fill:#6a4c93}\
.page{fill:#fff}.dot{stroke:#fff;stroke-width:.8}\
.tick{stroke:#d4d4d4}.fine{stroke:#f0f0f0}.frame{stroke:#333;fill:none}line.read{stroke:#8a6fb0}";

const DARK: &str = "\
text{fill:#c9d1d9}.head{fill:#f0f6fc}.soft{fill:#9da7b1}.read{fill:#c3a6ec}\
.page{fill:#0d1117}.dot{stroke:#0d1117}\
.tick{stroke:#30363d}.fine{stroke:#1b2027}.frame{stroke:#8b949e}line.read{stroke:#a98fd6}";

/// Colours that the colour-blind tell apart (Okabe, Ito 2008), and lighter ones of the same hues.
const fn colours(tier: Tier) -> [&'static str; 2] {
    match tier {
        Tier::Scalar => ["#6b6b6b", "#a8a8a8"],
        Tier::Simd128 => ["#cc79a7", "#e3a3c6"],
        Tier::Neon => ["#009e73", "#35c79b"],
        Tier::Avx2 => ["#0072b2", "#5cb0ea"],
        Tier::Avx512 => ["#d55e00", "#ff9147"],
    }
}

/// The element that says it.
pub fn style() -> String {
    let mut out = format!("<style>{LIGHT}");
    let tiers = |out: &mut String, i: usize| {
        for tier in Tier::ALL {
            let colour = colours(tier)[i];
            let _ = write!(out, "text.{tier},circle.{tier}{{fill:{colour}}}line.{tier}{{stroke:{colour}}}");
        }
    };
    tiers(&mut out, 0);
    out += &format!("@media(prefers-color-scheme:dark){{{DARK}");
    tiers(&mut out, 1);
    out + "}</style>\n"
}
