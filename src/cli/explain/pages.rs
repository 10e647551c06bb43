//! What stands at the head of a kernel's files, section by section.

use crate::assets;

/// What a page shows, and how the section is called.
pub const SECTIONS: [(&str, &str); 4] =
    [("math", "Math"), ("law", "Law"), ("registers", "Registers"), ("cost", "Cost")];

/// The heads of some files of `kernels/src`.
pub struct Pages(Vec<&'static str>);

impl Pages {
    /// Of these files.
    pub fn of(files: &[&str]) -> Pages {
        let head = |file: &&str| {
            let path = format!("kernels/src/{file}");
            assets::book().find(|(known, _)| **known == path).map(|(_, text)| text)
        };
        Pages(files.iter().filter_map(head).collect())
    }

    /// The first line of the first file.
    pub fn title(&self) -> String {
        let first = self.0.first().and_then(|text| text.lines().next()).unwrap_or_default();
        plain(first.trim_start_matches('#'))
    }

    /// The text of a section, without pictures: to the next section or an empty line.
    pub fn section(&self, name: &str) -> Option<String> {
        let mark = format!("**{name}.**");
        let text = self.0.iter().find_map(|text| text.split_once(&mark)).map(|(_, rest)| rest)?;
        let end = text.find("\n\n").unwrap_or(text.len());
        let text = &text[..end];
        let end = text.find("**").unwrap_or(text.len());
        let text = text[..end].lines().map(plain).collect::<Vec<_>>().join("\n");
        // A colon leads to a picture.
        Some(text.strip_suffix(':').map_or_else(|| text.clone(), |text| format!("{text}.")))
    }
}

/// A line without the marks of documentation.
fn plain(line: &str) -> String {
    let mut line = line.trim().to_owned();
    // Where a link leads to.
    while let Some((start, length)) =
        line.find("`](").and_then(|at| Some((at + 2, line[at..].find(')')? - 1)))
    {
        line.replace_range(start..start + length, "");
    }
    line.replace("[`", "").replace("`]", "").replace(['`', '*'], "")
}
