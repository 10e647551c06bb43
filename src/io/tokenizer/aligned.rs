//! A text on its way from what was given to what the model reads, which remembers where it came from.

use super::unicode::{self, Form};
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

/// A place in the original text, in bytes: from, to.
pub(crate) type Place = (u32, u32);

/// A piece of the original text, as changed so far. All bytes of a character share one place.
#[derive(Clone, Debug)]
pub(crate) struct Aligned {
    pub text: String,
    /// For each byte of `text` the place of what it came from; `None` while nothing has changed.
    places: Option<Vec<Place>>,
    /// Where the piece begins in the original.
    start: u32,
}

impl Aligned {
    /// The piece of the original that begins at its byte `start`.
    pub fn new(piece: &str, start: usize) -> Aligned {
        Aligned { text: piece.into(), places: None, start: start as u32 }
    }

    /// Whether the piece begins where the original does.
    pub fn starts_original(&self, at: usize) -> bool {
        at < self.text.len() && self.place(at).0 == 0
    }

    /// The place of the character that byte `at` is part of.
    fn place(&self, at: usize) -> Place {
        match &self.places {
            Some(places) => places[at],
            None => {
                let (mut from, mut to) = (at, at + 1);
                while !self.text.is_char_boundary(from) {
                    from -= 1;
                }
                while !self.text.is_char_boundary(to) {
                    to += 1;
                }
                (self.start + from as u32, self.start + to as u32)
            }
        }
    }

    /// Where the bytes `range` of the text come from; an empty range comes from nothing.
    pub fn origin(&self, range: Range<usize>) -> Place {
        if range.is_empty() {
            let at = if range.start < self.text.len() { self.place(range.start).0 } else { self.end() };
            return (at, at);
        }
        (self.place(range.start).0, self.place(range.end - 1).1)
    }

    /// One past the last byte of the original that the text comes from.
    fn end(&self) -> u32 {
        if self.text.is_empty() { self.start } else { self.place(self.text.len() - 1).1 }
    }

    /// The part of the text in the bytes `range`.
    pub fn slice(&self, range: Range<usize>) -> Aligned {
        let start = self.start + if self.places.is_none() { range.start as u32 } else { 0 };
        let places = self.places.as_ref().map(|places| places[range.clone()].into());
        Aligned { text: self.text[range].into(), places, start }
    }

    /// An empty text with room for a change of this one, to be filled and given to [`Aligned::become`].
    pub fn change(&self) -> Change<'_> {
        let places = Vec::with_capacity(self.text.len());
        Change { from: self, text: String::with_capacity(self.text.len()), places }
    }

    /// Takes over what a [`Change`] collected.
    pub fn set(&mut self, (text, places): (String, Vec<Place>)) {
        (self.text, self.places) = (text, Some(places));
    }

    /// Replaces each character by what `with` gives for it.
    pub fn map(&mut self, mut with: impl FnMut(char, &mut dyn FnMut(char))) {
        let mut change = self.change();
        for (at, c) in self.text.char_indices() {
            let place = self.place(at);
            with(c, &mut |new| change.push(new, place));
        }
        let done = change.done();
        self.set(done);
    }

    /// Brings the text into a normal form.
    pub fn normalize(&mut self, form: Form) {
        if !unicode::needs_nothing(form, &self.text) {
            self.replay(&form.of(&self.text));
        }
    }

    /// Replaces the text by characters that say how they relate to the old ones.
    pub fn replay(&mut self, changes: &[(char, isize)]) {
        let mut change = self.change();
        let mut old = self.text.char_indices();
        let mut place = (self.start, self.start);
        for &(c, n) in changes {
            if n <= 0
                && let Some((at, _)) = old.next()
            {
                place = self.place(at);
            }
            change.push(c, place);
            for (at, _) in old.by_ref().take(n.min(0).unsigned_abs()) {
                place = self.place(at); // what follows without a character of its own belongs to the last
            }
        }
        let done = change.done();
        self.set(done);
    }
}

/// A new text being built from an old one.
pub(crate) struct Change<'a> {
    from: &'a Aligned,
    text: String,
    places: Vec<Place>,
}

impl Change<'_> {
    /// Adds a character that comes from `place`.
    pub fn push(&mut self, c: char, place: Place) {
        self.text.push(c);
        self.places.resize(self.text.len(), place);
    }

    /// Adds the bytes `range` of the old text unchanged.
    pub fn keep(&mut self, range: Range<usize>) {
        self.text.push_str(&self.from.text[range.clone()]);
        match &self.from.places {
            Some(places) => self.places.extend_from_slice(&places[range]),
            None => {
                let base = self.from.start + range.start as u32;
                for (at, c) in self.from.text[range].char_indices() {
                    let from = base + at as u32;
                    self.places.resize(self.places.len() + c.len_utf8(), (from, from + c.len_utf8() as u32));
                }
            }
        }
    }

    /// Adds `text` in the place of the character that holds byte `at` of the old text.
    pub fn insert(&mut self, text: &str, at: usize) {
        let place = self.from.place(at);
        text.chars().for_each(|c| self.push(c, place));
    }

    /// Adds what `with` gives for each character in the bytes `range` of the old text.
    pub fn rewrite(&mut self, range: Range<usize>, with: &impl Fn(char, &mut dyn FnMut(char))) {
        for (at, c) in self.from.text[range.clone()].char_indices() {
            let place = self.from.place(range.start + at);
            with(c, &mut |new| self.push(new, place));
        }
    }

    /// The length of the new text so far.
    pub fn len(&self) -> usize {
        self.text.len()
    }

    /// What was collected, for [`Aligned::set`].
    pub fn done(self) -> (String, Vec<Place>) {
        (self.text, self.places)
    }
}
