//! Drafts for speculative decoding by looking into the text itself.
//!
//! Text repeats itself: the last tokens often came before, and what followed them then may follow now. A draft
//! costs a search, not a model. The model then computes all draft positions at once, as a piece of a prompt, and as
//! long as its own choices agree, several tokens come out of one pass over the weights.
//!
//! ```text
//!   text    the cat sat on the mat and the cat       last 2: "the cat" ─► draft "sat on the"
//!   model, over cat + draft          sat on a …      its own choices
//!   out                              sat on a        the draft where it agrees, then the model's own token
//! ```
//!
//! What comes out is what would have come one by one: the choices are the model's own, and a prompt's split does
//! not change a bit of its logits.
//!
//! Saxena 2023, *Prompt lookup decoding*; Leviathan, Kalman, Matias 2022, [arXiv:2211.17192](https://arxiv.org/abs/2211.17192).

/// Where to look and how far to draft.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PromptLookup {
    /// The most of the last tokens to search for; fewer are tried where these did not come before.
    pub max_ngram: usize,
    /// The most tokens of a draft.
    pub max_draft: usize,
}

impl Default for PromptLookup {
    /// Drafts of 10 by the last 2, the values of transformers.
    fn default() -> PromptLookup {
        PromptLookup { max_ngram: 2, max_draft: 10 }
    }
}

impl PromptLookup {
    /// What followed the last tokens where they stand first in the text; the longest match wins, an end-of-text
    /// token ends the draft before it. Empty where nothing matches. The rule is that of transformers.
    ///
    /// ```
    /// use samebits::model::PromptLookup;
    /// let text = [5, 6, 7, 8, 1, 6, 7];
    /// assert_eq!(PromptLookup::default().draft(&text, &[]), [8, 1, 6, 7]);
    /// assert_eq!(PromptLookup::default().draft(&text, &[1]), [8]);
    /// assert!(PromptLookup::default().draft(&[1, 2, 3], &[]).is_empty());
    /// ```
    pub fn draft<'t>(&self, text: &'t [u32], ends: &[u32]) -> &'t [u32] {
        let n = text.len();
        for size in (1..=self.max_ngram.min(n.saturating_sub(1))).rev() {
            let last = &text[n - size..];
            // All but the last tokens themselves: something must follow.
            if let Some(at) = text[..n - 1].windows(size).position(|w| w == last) {
                let follows = &text[at + size..n.min((at + size).saturating_add(self.max_draft))];
                let end = follows.iter().position(|t| ends.contains(t)).unwrap_or(follows.len());
                return &follows[..end];
            }
        }
        &[]
    }
}

/// The tokens that a checked draft yields: those that the model chose too, and the choice after them. `choices[i]`
/// is the model's token after the first i of the draft.
///
/// # Panics
/// Where there is not one choice more than the draft is long.
///
/// ```
/// use samebits::model::accepted;
/// assert_eq!(accepted(&[8, 1, 6], &[8, 1, 9, 4]), [8, 1, 9]);
/// assert_eq!(accepted(&[], &[3]), [3]); // no draft: a step like any other
/// ```
pub fn accepted<'c>(draft: &[u32], choices: &'c [u32]) -> &'c [u32] {
    let (n, c) = (draft.len(), choices.len());
    assert!(c == n + 1, "{c} choices for a draft of {n}");
    let agree = draft.iter().zip(choices).take_while(|(d, c)| d == c).count();
    &choices[..=agree]
}
