//! Where in a text something stands, in all the units that people and programs count.

use core::ops::Range;

/// A part of a text. `text[span.bytes]` is that part, always.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// In bytes.
    pub bytes: Range<usize>,
    /// In Unicode scalar values.
    pub chars: Range<usize>,
    /// The line and column of its start.
    pub start: Place,
    /// The line and column of its end: of what follows it.
    pub end: Place,
}

/// A line and a column, both from 1 on; columns in Unicode scalar values. Lines end with `\n`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

/// A place that moves forward through a text and counts as it goes.
#[derive(Clone, Debug)]
pub(super) struct Cursor<'t> {
    text: &'t str,
    byte: usize,
    char: usize,
    line: usize,
    /// The char that the line begins with.
    line_start: usize,
}

impl<'t> Cursor<'t> {
    pub(super) const fn new(text: &'t str) -> Self {
        Cursor { text, byte: 0, char: 0, line: 1, line_start: 0 }
    }

    /// The char and the place of byte `at`.
    pub(super) fn seek(&mut self, at: usize) -> (usize, Place) {
        if at < self.byte {
            *self = Cursor::new(self.text);
        }
        let passed = &self.text[self.byte..at];
        let lines = count(passed.as_bytes(), |byte| byte == b'\n');
        let chars = chars(passed);
        if lines > 0 {
            let last = passed.rfind('\n').map_or(0, |newline| newline + 1);
            self.line += lines;
            self.line_start = self.char + chars - self::chars(&passed[last..]);
        }
        (self.byte, self.char) = (at, self.char + chars);
        (self.char, Place { line: self.line, column: self.char - self.line_start + 1 })
    }
}

/// Unicode scalar values of a text.
pub(super) fn chars(text: &str) -> usize {
    // Every byte but the second and later ones of a character.
    count(text.as_bytes(), |byte| byte & 0xc0 != 0x80)
}

/// Bytes that are wanted: in runs short enough for sums of one byte, which the compiler then makes vectors of.
fn count(bytes: &[u8], wanted: impl Fn(u8) -> bool) -> usize {
    let in_run = |run: &[u8]| usize::from(run.iter().map(|&byte| u8::from(wanted(byte))).sum::<u8>());
    bytes.chunks(128).map(in_run).sum()
}

/// What makes spans of one text, fastest where they are asked for from front to back.
#[derive(Clone, Debug)]
pub(super) struct Spans<'t> {
    starts: Cursor<'t>,
    ends: Cursor<'t>,
}

impl<'t> Spans<'t> {
    pub(super) const fn new(text: &'t str) -> Self {
        Spans { starts: Cursor::new(text), ends: Cursor::new(text) }
    }

    pub(super) fn of(&mut self, bytes: Range<usize>) -> Span {
        let ((first, start), (last, end)) = (self.starts.seek(bytes.start), self.ends.seek(bytes.end));
        Span { bytes, chars: first..last, start, end }
    }
}
