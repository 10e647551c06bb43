//! Between text and tokens, with an eye on what ends a text.

use crate::Result;
use crate::io::tokenizer::{self, EncodeOptions, Tokenizer};
use crate::model::{Decoder, StopStrings};

/// What was generated.
pub struct Answer {
    /// The tokens, the one that ended it among them.
    pub tokens: Vec<u32>,
    /// Their text, without what ended it.
    pub text: String,
    /// What ended it.
    pub why: Why,
}

/// What ended a text.
pub enum Why {
    /// A token for it.
    End,
    /// The number of tokens asked for, or the context.
    Length,
    /// This string.
    Stop(String),
}

/// The tokens of a text; with the template's own where it is the first.
pub fn ids(tokenizer: &Tokenizer, model: &Decoder, text: &str, first: bool) -> Result<Vec<u32>> {
    let options = match first {
        true => EncodeOptions { ..EncodeOptions::default() },
        false => EncodeOptions::plain(),
    };
    let mut ids = tokenizer.encode(text, &options)?.ids;
    if ids.is_empty() {
        ids.extend(tokenizer.bos_id().or(model.config().bos));
    }
    Ok(ids)
}

/// Whether the token ends a text.
pub fn ends(id: u32, tokenizer: &Tokenizer, model: &Decoder) -> bool {
    tokenizer.eos_id() == Some(id) || model.config().eos.contains(&id)
}

/// Tokens becoming text.
pub struct Writing<'t> {
    decoder: tokenizer::Decoder<'t>,
    stops: StopStrings,
    text: String,
    /// Where what was not shown yet begins.
    shown: usize,
}

impl<'t> Writing<'t> {
    /// Nothing yet; it goes on after the tokens `before`, whose text is not shown. (At the beginning of a text
    /// some tokenizers leave out a space, in the middle they do not.)
    ///
    /// # Errors
    /// Where a stop string is empty.
    pub fn new(tokenizer: &'t Tokenizer, before: &[u32], stops: &[String]) -> Result<Writing<'t>> {
        let stops = StopStrings::new(stops)?;
        let mut decoder = tokenizer.decoder(true);
        before.iter().for_each(|&id| {
            decoder.push(id);
        });
        Ok(Writing { decoder, stops, text: String::new(), shown: 0 })
    }

    /// One token more; the number of the stop string that is complete now.
    pub fn push(&mut self, id: u32) -> Option<usize> {
        self.stops.push(self.decoder.push(id), &mut self.text)
    }

    /// The text is over.
    pub fn finish(&mut self, why: &Why) {
        if matches!(why, Why::Stop(_)) {
            return;
        }
        let rest = self.decoder.finish().to_string();
        if self.stops.push(&rest, &mut self.text).is_none() {
            self.stops.finish(&mut self.text);
        }
    }

    /// What came since it was asked last.
    pub fn fresh(&mut self) -> &str {
        let from = core::mem::replace(&mut self.shown, self.text.len());
        &self.text[from..]
    }

    /// All of it.
    pub fn into_text(self) -> String {
        self.text
    }
}
