//! What a reader of a page of HTML sees: its text, block by block.
//!
//! No tree is built: tags and character references are read as the standard's tokenizer reads them, and an element
//! either shows its text in the line, begins a line or a paragraph, or is not shown at all.

/// A page's text and title.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Page {
    pub text: String,
    pub title: Option<String>,
}

/// What an element does to the text around it.
#[derive(Clone, Copy, PartialEq)]
enum Effect {
    /// Nothing: it stands in the line.
    Inline,
    /// A line ends before and after it.
    Line,
    /// A paragraph does.
    Paragraph,
    /// It is a cell of a table's row.
    Cell,
    /// What is in it is not shown.
    Hidden,
    /// Its white space is kept.
    Verbatim,
    Title,
}

fn effect(name: &str) -> Effect {
    match name {
        "script" | "style" | "template" | "noscript" | "svg" | "math" | "iframe" | "object" | "select"
        | "textarea" => Effect::Hidden,
        "title" => Effect::Title,
        "pre" | "listing" => Effect::Verbatim,
        "td" | "th" => Effect::Cell,
        "br" | "li" | "tr" | "div" | "dt" | "dd" | "option" | "summary" | "caption" | "figcaption"
        | "legend" => Effect::Line,
        "p" | "h1" | "h2" | "h3" | "h4" | "h5" | "h6" | "blockquote" | "ul" | "ol" | "dl" | "table"
        | "section" | "article" | "header" | "footer" | "main" | "nav" | "aside" | "form" | "fieldset"
        | "figure" | "hr" | "address" | "details" | "body" | "html" | "head" => Effect::Paragraph,
        _ => Effect::Inline,
    }
}

/// The text of `html`.
pub(super) fn extract(html: &str) -> Page {
    let mut out = Output::default();
    let mut rest = html;
    while let Some(open) = rest.find('<') {
        out.push(&rest[..open]);
        rest = &rest[open..];
        let Some((tag, after)) = Tag::read(rest) else {
            out.push("<");
            rest = &rest[1..];
            continue;
        };
        rest = after;
        let effect = effect(&tag.name);
        match effect {
            Effect::Hidden | Effect::Title if !tag.closing && !tag.empty => {
                let (inner, after) = until_closed(rest, &tag.name);
                if effect == Effect::Title && out.title.is_none() {
                    out.title = Some(joined(&references(inner))).filter(|title| !title.is_empty());
                }
                rest = after;
            }
            Effect::Line => out.end(1),
            Effect::Paragraph => out.end(2),
            Effect::Cell if !tag.closing => out.cell(),
            Effect::Verbatim => {
                out.end(2);
                out.verbatim = !tag.closing;
            }
            _ => {}
        }
    }
    out.push(rest);
    Page { text: out.text, title: out.title }
}

/// A tag, a comment or the like.
struct Tag {
    /// In lower case; empty of a comment.
    name: String,
    closing: bool,
    /// It closes itself.
    empty: bool,
}

impl Tag {
    /// The tag that `text`, which begins with `<`, begins with, and what follows it.
    fn read(text: &str) -> Option<(Tag, &str)> {
        let none = |after| Some((Tag { name: String::new(), closing: false, empty: true }, after));
        if let Some(comment) = text.strip_prefix("<!--") {
            return none(comment.find("-->").map_or("", |end| &comment[end + 3..]));
        }
        let inner = &text[1..];
        if inner.starts_with(['!', '?']) {
            return none(inner.find('>').map_or("", |end| &inner[end + 1..]));
        }
        let (closing, inner) = inner.strip_prefix('/').map_or((false, inner), |inner| (true, inner));
        if !inner.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return None;
        }
        let end =
            inner.find(|c: char| c.is_ascii_whitespace() || c == '/' || c == '>').unwrap_or(inner.len());
        let name = inner[..end].to_ascii_lowercase();
        // A `>` between quotes does not end the tag.
        let (mut quote, mut last) = (None, b' ');
        for (at, byte) in inner.bytes().enumerate().skip(end) {
            match (quote, byte) {
                (None, b'>') => return Some((Tag { name, closing, empty: last == b'/' }, &inner[at + 1..])),
                (None, b'"' | b'\'') if last == b'=' => quote = Some(byte),
                (Some(open), _) if byte == open => quote = None,
                _ => {}
            }
            if !byte.is_ascii_whitespace() {
                last = byte;
            }
        }
        Some((Tag { name, closing, empty: true }, ""))
    }
}

/// What is in an element up to its closing tag, and what follows that.
fn until_closed<'t>(text: &'t str, name: &str) -> (&'t str, &'t str) {
    let mut from = 0;
    while let Some(at) = text[from..].find("</") {
        let at = from + at;
        let found = text[at + 2..].get(..name.len()).is_some_and(|found| found.eq_ignore_ascii_case(name));
        if found {
            let end = text[at..].find('>').map_or(text.len(), |end| at + end + 1);
            return (&text[..at], &text[end..]);
        }
        from = at + 2;
    }
    (text, "")
}

/// Text as it is put together.
#[derive(Default)]
struct Output {
    text: String,
    title: Option<String>,
    verbatim: bool,
    /// Ends of lines that are due before more text.
    ends: usize,
    /// White space that is due, or a cell's tab.
    space: Option<char>,
}

impl Output {
    fn end(&mut self, lines: usize) {
        (self.ends, self.space) = (self.ends.max(lines), None);
    }

    fn cell(&mut self) {
        if self.ends == 0 {
            self.space = Some('\t');
        }
    }

    fn push(&mut self, raw: &str) {
        let text = references(raw);
        if self.verbatim {
            if !text.trim().is_empty() {
                self.due();
            }
            self.text.push_str(if self.text.is_empty() { text.trim_start_matches('\n') } else { &text });
            return;
        }
        for c in text.chars() {
            if c.is_ascii_whitespace() {
                self.space = self.space.or(Some(' '));
            } else {
                self.due();
                self.text.push(c);
            }
        }
    }

    fn due(&mut self) {
        let (ends, space) = (std::mem::take(&mut self.ends), self.space.take());
        if self.text.is_empty() {
            return;
        }
        match space.filter(|_| ends == 0) {
            Some(space) => self.text.push(space),
            None => (0..ends).for_each(|_| self.text.push('\n')),
        }
    }
}

/// One line of words with single spaces.
fn joined(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `text` with its character references read.
fn references(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        match reference(rest) {
            Some((c, len)) => {
                out.push(c);
                rest = &rest[len..];
            }
            None => {
                out.push('&');
                rest = &rest[1..];
            }
        }
    }
    out.push_str(rest);
    out
}

/// The character that `text`, which begins with `&`, begins with, and how long its reference is.
fn reference(text: &str) -> Option<(char, usize)> {
    let end = text[1..].find(|c: char| !c.is_ascii_alphanumeric() && c != '#')? + 1;
    let name = &text[1..end];
    let len = end + usize::from(text[end..].starts_with(';'));
    if let Some(number) = name.strip_prefix('#') {
        let hex = number.strip_prefix(['x', 'X']);
        let code = hex.map_or_else(|| number.parse().ok(), |hex| u32::from_str_radix(hex, 16).ok())?;
        let c = char::from_u32(code).filter(|&c| c != '\0').unwrap_or(char::REPLACEMENT_CHARACTER);
        return Some((c, len));
    }
    if len == end {
        return None;
    }
    let latin = LATIN.split(' ').position(|known| known == name).and_then(|i| char::from_u32(160 + i as u32));
    latin.or_else(|| OTHERS.iter().find(|(known, _)| *known == name).map(|&(_, c)| c)).map(|c| (c, len))
}

/// Names of the characters from 160 to 255.
const LATIN: &str = "nbsp iexcl cent pound curren yen brvbar sect uml copy ordf laquo not shy reg macr deg plusmn sup2 sup3 \
    acute micro para middot cedil sup1 ordm raquo frac14 frac12 frac34 iquest Agrave Aacute Acirc Atilde Auml Aring AElig \
    Ccedil Egrave Eacute Ecirc Euml Igrave Iacute Icirc Iuml ETH Ntilde Ograve Oacute Ocirc Otilde Ouml times Oslash Ugrave \
    Uacute Ucirc Uuml Yacute THORN szlig agrave aacute acirc atilde auml aring aelig ccedil egrave eacute ecirc euml igrave \
    iacute icirc iuml eth ntilde ograve oacute ocirc otilde ouml divide oslash ugrave uacute ucirc uuml yacute thorn yuml";

const OTHERS: [(&str, char); 29] = [
    ("amp", '&'),
    ("lt", '<'),
    ("gt", '>'),
    ("quot", '"'),
    ("apos", '\''),
    ("OElig", 'Œ'),
    ("oelig", 'œ'),
    ("Scaron", 'Š'),
    ("scaron", 'š'),
    ("ensp", '\u{2002}'),
    ("emsp", '\u{2003}'),
    ("thinsp", '\u{2009}'),
    ("zwnj", '\u{200c}'),
    ("zwj", '\u{200d}'),
    ("ndash", '–'),
    ("mdash", '—'),
    ("lsquo", '‘'),
    ("rsquo", '’'),
    ("sbquo", '‚'),
    ("ldquo", '“'),
    ("rdquo", '”'),
    ("bdquo", '„'),
    ("dagger", '†'),
    ("bull", '•'),
    ("hellip", '…'),
    ("euro", '€'),
    ("trade", '™'),
    ("minus", '−'),
    ("rarr", '→'),
];
