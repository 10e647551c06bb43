//! The page that computes: kernels as WebAssembly, in the reader's own browser.

use super::html;
use crate::assets::BROWSER;
use crate::cli::base64::base64;
use crate::golden;

/// Its name.
pub const NAME: &str = "browser.html";

const SCRIPT: &str = include_str!("../../assets/browser/page.js");

const BODY: &str = "\
<p><a href=\"index.html\">all pages</a></p>
<h1>The same bits, in this browser</h1>
<p>This page carries some kernels of samebits as WebAssembly. They run here, twice: as plain Rust (the <em>scalar</em> tier,
the definition of every word) and over WebAssembly’s vectors (<em>simd128</em>). Each result is hashed, every bit of it, and
held against the hash that is committed with the sources: the one that AVX2, AVX-512 and NEON give.</p>
<p id=\"status\" role=\"status\">Computing …</p>
<noscript><p class=\"bad\">Scripts are off, so nothing is computed.</p></noscript>
<table id=\"cases\">
<thead><tr><th>case</th><th>committed hash</th><th>scalar</th><th>simd128</th></tr></thead>
<tbody></tbody>
</table>
<h2>Speed</h2>
<p>Billions of operations or elements a second, on one thread of this browser; the best of three runs. WebAssembly has no
instruction that multiplies and adds with one rounding, which the law asks for: both tiers make it of operations on 64-bit
floats, and that is most of what products cost here. The bits are worth it: a test in a browser is a test of every machine.</p>
<table id=\"speeds\">
<thead><tr><th>kernel</th><th class=\"bars\">rate</th><th>unit</th><th>simd128 / scalar</th></tr></thead>
<tbody></tbody>
</table>
";

const STYLE: &str = "\
#status { background: var(--box); border: 1px solid var(--line); border-radius: 6px; padding: .6rem .8rem; font-weight: 600 }
.good { color: #1a7f37 } .bad { color: #b3261e } .hash, .name { font-family: ui-monospace, 'DejaVu Sans Mono', monospace; font-size: .85rem }
.bars { width: 55% } #speeds { width: 100% } #speeds td { vertical-align: middle } .times { font-variant-numeric: tabular-nums }
.bar { margin: 2px 0; border-radius: 3px; white-space: nowrap; font-size: .8rem; line-height: 1.35rem } .bar span { padding: 0 .4rem }
@media (max-width: 34rem) { body { padding: 1rem } #cases, #speeds { display: block; overflow-x: auto } .bars { min-width: 9rem } }
.scalar { background: #8c959f55 } .simd128 { background: #2f81f766 }
@media (prefers-color-scheme: dark) { .good { color: #57c46f } .bad { color: #ff8a80 } }
";

/// All of it: nothing is fetched, so that it works from a file too.
pub fn page() -> String {
    let pairs: Vec<String> =
        golden::cases().map(|case| format!("\"{}\":\"{:016x}\"", case.name, case.hash)).collect();
    let (pairs, module) = (pairs.join(","), base64(BROWSER.iter().copied()));
    let script = format!("const EXPECTED = {{{pairs}}};\nconst MODULE = \"{module}\";\n{SCRIPT}");
    html::page(
        "samebits: the kernels in this browser",
        &format!("<style>\n{STYLE}</style>\n{BODY}<script>\n{script}</script>\n"),
    )
}
