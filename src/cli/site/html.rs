//! HTML of the little that the heads of files use: headings, paragraphs, numbered clauses, tables, pictures in text.

use super::links::{Word, meant, page_name};

const STYLE: &str = "\
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #57606a; --page: #fff; --box: #f4f6f8; --line: #d6dbe1; --link: #0b5cad }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9da7b1; --page: #0d1117; --box: #161b22; --line: #30363d; --link: #6cb0f5 } }
body { margin: 0 auto; max-width: 62rem; padding: 1.5rem; font: 1rem/1.55 system-ui, sans-serif; color: var(--ink); background: var(--page) }
a { color: var(--link) } h1 { font-size: 1.6rem; line-height: 1.25 } h2 { font-size: 1.2rem; margin-top: 2rem }
p, li, h1, h2, summary, figcaption { overflow-wrap: anywhere }
pre, .loop { background: var(--box); border: 1px solid var(--line); border-radius: 6px; padding: .8rem; overflow-x: auto }
pre, code { font-family: ui-monospace, 'DejaVu Sans Mono', monospace; font-size: .85rem } pre { line-height: 1.35 }
table { border-collapse: collapse; margin: 1rem 0 } td, th { padding: .15rem .8rem .15rem 0; text-align: left; vertical-align: top }
.loop { display: block } .loop td { white-space: pre } .loop td + td { color: var(--soft) }
.figures { font-size: .92rem } .figures td { white-space: nowrap; border-top: 1px solid var(--line) } .figures th { white-space: nowrap; color: var(--soft); font-weight: 600 }
.figures :is(td, th):nth-child(n + 4) { text-align: right; font-variant-numeric: tabular-nums }
summary { cursor: pointer; margin-top: 1rem; font-weight: 600 } .pages { padding-left: 1.2rem } .clause { padding-left: 1.5rem; text-indent: -1.5rem }
figure { margin: 1.5rem 0 } figcaption { color: var(--soft); font-size: .9rem; margin-top: .3rem } .scroll { overflow-x: auto }
img { display: block; max-width: 100%; height: auto; border-radius: 6px } .given img { background: #fff } .ladder img { min-width: 46rem }
.roofline .scroll { width: min(80rem, 96vw); margin-left: 50%; transform: translateX(-50%) } .roofline img { width: 100%; min-width: 68rem }
@media (max-width: 34rem) { body { padding: 1rem } }
";

/// A whole page.
pub fn page(title: &str, body: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{}</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{body}</main>\n</body>\n</html>\n",
        escaped(title)
    )
}

/// Without marks of HTML.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The head of the file `at`: its lines, as documentation writes them.
pub fn prose(text: &str, at: &str) -> String {
    let (mut out, mut paragraph, mut lines) = (String::new(), String::new(), text.lines());
    while let Some(line) = lines.next() {
        if line.starts_with("```") {
            flush(&mut out, &mut paragraph, at);
            let picture: Vec<String> =
                lines.by_ref().take_while(|line| !line.starts_with("```")).map(escaped).collect();
            out += &format!("<pre>{}</pre>\n", picture.join("\n"));
        } else if let Some(heading) = line.strip_prefix('#') {
            flush(&mut out, &mut paragraph, at);
            let first = heading.starts_with(' ') && out.is_empty();
            let heading = heading.trim_start_matches(['#', ' ']);
            let text = inline(heading, at);
            out += &match first {
                true => format!("<h1>{text}</h1>\n"),
                false => format!("<h2 id=\"{}\">{text}</h2>\n", anchor(heading)),
            };
        } else if line.starts_with('|') {
            flush(&mut out, &mut paragraph, at);
            out += &row(line, at);
        } else {
            if line.trim().is_empty() || begins(line) {
                flush(&mut out, &mut paragraph, at);
            }
            paragraph += line.trim();
            paragraph.push(' ');
        }
    }
    flush(&mut out, &mut paragraph, at);
    // Rows that follow each other are one table.
    out.replace("</table></div>\n<div class=\"scroll\"><table>\n", "")
}

/// Whether a line begins a paragraph of its own: a section, a clause, a point.
fn begins(line: &str) -> bool {
    let text = line.trim_start();
    let digits = text.trim_start_matches(|c: char| c.is_ascii_digit());
    text.starts_with("**") || text.starts_with("* ") || digits.len() < text.len() && digits.starts_with(". ")
}

/// `# The law` is found at `#the-law`.
fn anchor(heading: &str) -> String {
    let words = heading.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_lowercase).collect::<Vec<_>>().join("-")
}

fn flush(out: &mut String, paragraph: &mut String, at: &str) {
    let text = paragraph.trim();
    if !text.is_empty() {
        let class = if begins(text) && !text.starts_with("**") { " class=\"clause\"" } else { "" };
        *out += &format!("<p{class}>{}</p>\n", inline(text, at));
    }
    paragraph.clear();
}

/// A line of a table; the line below its head is left out.
fn row(line: &str, at: &str) -> String {
    if line.chars().all(|c| "|-: ".contains(c)) {
        return String::new();
    }
    let cells =
        line.trim().trim_matches('|').split('|').map(|cell| format!("<td>{}</td>", inline(cell.trim(), at)));
    format!("<div class=\"scroll\"><table>\n<tr>{}</tr>\n</table></div>\n", cells.collect::<String>())
}

/// `code`, **strong**, *stressed*, words that name another page as links to it, and links to papers.
pub fn inline(text: &str, at: &str) -> String {
    // A link of documentation is code with this before it.
    const LINK: char = '\u{1}';
    let text = text.replace("[`", "`\u{1}").replace("`]", "`");
    let mut out = String::new();
    for (i, part) in text.split('`').enumerate() {
        if i % 2 == 0 {
            out += &papers(&stressed(&stressed(&escaped(part), "**", "strong"), "*", "em"));
            continue;
        }
        let item = part.strip_prefix(LINK).map(|item| item.trim_start_matches("mod@"));
        let code = format!("<code>{}</code>", escaped(item.unwrap_or(part)));
        out += &match meant(item.map_or(Word::Plain(part), Word::Item), at) {
            Some(file) => format!("<a href=\"{}\">{code}</a>", page_name(&file)),
            None => code,
        };
    }
    out
}

/// Where papers are, the only places that pages lead to besides each other: nothing is loaded from there.
const PAPERS: [&str; 2] = ["](https://arxiv.org/abs/", "](https://doi.org/"];

/// `[arXiv:1805.02867](https://arxiv.org/abs/1805.02867)` as an element.
fn papers(text: &str) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some((at, place)) =
        PAPERS.into_iter().filter_map(|place| Some((rest.find(place)?, place))).min()
    {
        let (before, after) = (&rest[..at], &rest[at + place.len()..]);
        let (Some((before, name)), Some((number, next))) = (before.rsplit_once('['), after.split_once(')'))
        else {
            break;
        };
        out += &format!("{before}<a href=\"{}{number}\">{name}</a>", &place[2..]);
        rest = next;
    }
    out + rest
}

/// Every pair of `mark` as an element; a mark without a partner stays what it is.
fn stressed(text: &str, mark: &str, element: &str) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once(mark) {
        let inside = after
            .split_once(mark)
            .filter(|(inside, _)| !inside.is_empty() && !inside.starts_with(' ') && !inside.ends_with(' '));
        let Some((inside, next)) = inside else {
            out += before;
            out += mark;
            rest = after;
            continue;
        };
        out += &format!("{before}<{element}>{inside}</{element}>");
        rest = next;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_marks_of_documentation() {
        assert_eq!(
            inline("*a* < [`B`] · **c** 2 * 3", ""),
            "<em>a</em> &lt; <code>B</code> · <strong>c</strong> 2 * 3"
        );
        let paper = "(Dao 2023, [arXiv:2307.08691](https://arxiv.org/abs/2307.08691)), a[0]";
        let link = "(Dao 2023, <a href=\"https://arxiv.org/abs/2307.08691\">arXiv:2307.08691</a>), a[0]";
        assert_eq!(inline(paper, ""), link);
        let both = "[doi:10.1/a](https://doi.org/10.1/a); [arXiv:1.2](https://arxiv.org/abs/1.2)";
        let links = "<a href=\"https://doi.org/10.1/a\">doi:10.1/a</a>; <a href=\"https://arxiv.org/abs/1.2\">arXiv:1.2</a>";
        assert_eq!(inline(both, ""), links);
        let next = "**Next.**  `tile.rs`, [`mod@crate::dot`], `exp`";
        let pages = "<strong>Next.</strong>  <a href=\"gemm-tile.html\"><code>tile.rs</code></a>, \
            <a href=\"dot.html\"><code>crate::dot</code></a>, <code>exp</code>";
        assert_eq!(inline(next, "gemm/mod.rs"), pages);
        let text = "# T\n\n**Law.**  One\ntwo.\n1. a\n2. b\n```text\nx < y\n```\n| a | b |\n|---|---|\n| c | d |\n# What breaks it\n";
        let expected = "<h1>T</h1>\n<p><strong>Law.</strong>  One two.</p>\n<p class=\"clause\">1. a</p>\n<p class=\"clause\">2. b</p>\n\
            <pre>x &lt; y</pre>\n<div class=\"scroll\"><table>\n<tr><td>a</td><td>b</td></tr>\n<tr><td>c</td><td>d</td></tr>\n</table></div>\n\
            <h2 id=\"what-breaks-it\">What breaks it</h2>\n";
        assert_eq!(prose(text, ""), expected);
    }
}
