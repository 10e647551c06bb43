//! Pictures: the ladders that are inside, and what a reader brings.

use std::fs;
use std::path::Path;

use super::html::escaped;
use crate::{Error, Result};

/// A picture of a page.
#[derive(Clone)]
pub struct Picture {
    /// The file that it becomes.
    pub file: String,
    /// What stands below it, in HTML.
    pub caption: String,
    /// How it is laid out.
    pub class: &'static str,
    /// The picture.
    pub svg: String,
}

impl Picture {
    /// A reader's own.
    pub fn open(path: &Path, file: String) -> Result<Picture> {
        let svg = fs::read_to_string(path).map_err(|e| Error::io(path, "read", e))?;
        if !svg.trim_start().starts_with("<svg") || svg.contains("<script") {
            return Err(Error::invalid("expected an SVG without scripts").in_file(path.display()));
        }
        let caption = escaped(&path.file_stem().unwrap_or_default().to_string_lossy());
        Ok(Picture { file, caption, class: "given", svg })
    }

    /// As an element. Wide pictures scroll by themselves, and lead to the file, which can be enlarged.
    pub fn element(&self) -> String {
        let Picture { file, caption, class, svg } = self;
        let text = inside(svg, "desc").or_else(|| inside(svg, "title")).unwrap_or(caption);
        let size = size(svg).map_or(String::new(), |(w, h)| format!(" width=\"{w}\" height=\"{h}\""));
        format!(
            "<figure class=\"{class}\"><div class=\"scroll\"><a href=\"{file}\"><img src=\"{file}\" alt=\"{}\"{size}></a></div>\n\
             <figcaption>{caption}</figcaption></figure>\n",
            text.replace('"', "&quot;")
        )
    }
}

/// The text of the first element of that name, escaped as it is.
fn inside<'s>(svg: &'s str, element: &str) -> Option<&'s str> {
    let (_, rest) = svg.split_once(&format!("<{element}>"))?;
    rest.split_once('<').map(|(text, _)| text.trim()).filter(|text| !text.is_empty())
}

/// Width and height in pixels: as they are given, else of the view box.
fn size(svg: &str) -> Option<(f64, f64)> {
    let (tag, _) = svg.split_once('>')?;
    let attribute = |name: &str| Some(tag.split_once(&format!(" {name}=\""))?.1.split_once('"')?.0);
    let number = |name: &str| attribute(name)?.parse().ok();
    number("width").zip(number("height")).or_else(|| {
        let mut parts = attribute("viewBox")?.split_whitespace().skip(2).map(|part| part.parse().ok());
        parts.next()?.zip(parts.next()?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_says_what_it_is() {
        let picture = |svg: &str| {
            Picture { file: "a.svg".into(), caption: "c".into(), class: "k", svg: svg.into() }.element()
        };
        let whole = picture("<svg viewBox=\"0 0 4 3\"><title>t</title><desc>a &lt; \"b\"</desc></svg>");
        assert!(whole.contains("alt=\"a &lt; &quot;b&quot;\" width=\"4\" height=\"3\""), "{whole}");
        let titled = picture("<svg width=\"5\" height=\"6\" viewBox=\"0 0 4 3\"><title>t</title></svg>");
        assert!(titled.contains("alt=\"t\" width=\"5\" height=\"6\""), "{titled}");
        assert!(picture("<svg></svg>").contains("alt=\"c\">"));
    }
}
