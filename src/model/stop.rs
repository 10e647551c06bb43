//! Stop strings in a text that comes in pieces.
//!
//! A piece is shown as soon as no stop string can begin in it; what may be the beginning of one is held back:
//!
//! ```text
//!   stop "\nUser:"    pieces   Hello │ .\nUs │ ed up         Hello │ .\nUser │ : yes
//!                     shown    Hello │ .     │ \nUsed up      Hello │ .       │ (end)
//! ```
//!
//! Where the text ends does not depend on how it is cut into pieces: the stop string that is complete first ends
//! it, of several complete at the same place the longest. Each is followed by its own automaton (Knuth, Morris,
//! Pratt 1977), so a text costs two steps a byte and stop string at most, whatever it is.

use crate::{Error, Result};
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

/// Strings that end a text, and how far the text is into each.
///
/// ```
/// use samebits::model::StopStrings;
/// let mut stop = StopStrings::new(&["\nUser:"])?;
/// let mut shown = String::new();
/// assert_eq!(stop.push("Hello.\nUs", &mut shown), None);
/// assert_eq!(shown, "Hello.");
/// assert_eq!(stop.push("er: what", &mut shown), Some(0));
/// assert_eq!(shown, "Hello.");
/// # Ok::<(), samebits::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct StopStrings {
    stops: Vec<Stop>,
    /// What was pushed and not shown: the longest beginning of a stop string that the text ends with.
    held: String,
}

impl StopStrings {
    /// Any number of strings, none of them empty.
    ///
    /// # Errors
    /// [`Error::Usage`] for an empty one.
    pub fn new(stops: &[impl AsRef<str>]) -> Result<StopStrings> {
        let stops: Vec<Stop> = stops.iter().map(|s| Stop::new(s.as_ref())).collect();
        if stops.iter().any(|s| s.text.is_empty()) {
            return Err(Error::Usage {
                what: "an empty stop string would end every text".into(),
                hint: None,
            });
        }
        Ok(StopStrings { stops, held: String::new() })
    }

    /// Takes the next piece and appends to `shown` what may be shown by now. Where a stop string is complete, its
    /// number: the text ended before it, the rest of the piece is dropped, and the next piece begins another text.
    pub fn push(&mut self, piece: &str, shown: &mut String) -> Option<usize> {
        let start = self.held.len();
        self.held.push_str(piece);
        for at in start..self.held.len() {
            if let Some((i, length)) = self.step(self.held.as_bytes()[at]) {
                // A stop string begins with the first byte of a character, so the cut is between two.
                shown.push_str(&self.held[..at + 1 - length]);
                self.reset();
                return Some(i);
            }
        }
        let may_begin = self.stops.iter().map(|s| s.matched).max().unwrap_or(0);
        let safe = self.held.len() - may_begin;
        shown.push_str(&self.held[..safe]);
        self.held.drain(..safe);
        None
    }

    /// The text is over: appends what was held back.
    pub fn finish(&mut self, shown: &mut String) {
        shown.push_str(&self.held);
        self.reset();
    }

    /// What is held back now.
    pub fn held(&self) -> &str {
        &self.held
    }

    /// Every automaton takes a byte; number and length of the longest string that it completes.
    fn step(&mut self, byte: u8) -> Option<(usize, usize)> {
        let mut longest: Option<(usize, usize)> = None;
        for (i, stop) in self.stops.iter_mut().enumerate() {
            let length = stop.text.len();
            if stop.step(byte) && longest.is_none_or(|(_, l)| length > l) {
                longest = Some((i, length));
            }
        }
        longest
    }

    fn reset(&mut self) {
        self.held.clear();
        self.stops.iter_mut().for_each(|s| s.matched = 0);
    }
}

/// One string as an automaton: its state is how many of its bytes the text ends with.
#[derive(Clone, Debug)]
struct Stop {
    text: Vec<u8>,
    /// `shorter[n − 1]`: how many bytes the text still ends with when the one after the first n does not fit.
    shorter: Vec<usize>,
    matched: usize,
}

impl Stop {
    fn new(text: &str) -> Stop {
        let mut stop = Stop { text: text.into(), shorter: vec![0; text.len()], matched: 0 };
        // The string without its first byte, followed by the automaton itself.
        for i in 1..stop.text.len() {
            stop.step(stop.text[i]);
            stop.shorter[i] = stop.matched;
        }
        stop.matched = 0;
        stop
    }

    /// Takes a byte; whether the string is complete.
    fn step(&mut self, byte: u8) -> bool {
        if self.matched == self.text.len() {
            self.matched = self.shorter[self.matched - 1];
        }
        while self.matched > 0 && self.text[self.matched] != byte {
            self.matched = self.shorter[self.matched - 1];
        }
        if self.text[self.matched] == byte {
            self.matched += 1;
        }
        self.matched == self.text.len()
    }
}
