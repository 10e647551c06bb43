//! Exact match: how many answers greedy decoding would give whole.

use super::data::Example;
use crate::Result;
use crate::model::{Decoder, Sequence, Workspace};
use crate::run::Run;
use alloc::vec;
use alloc::vec::Vec;

/// Examples whose logits are in memory at a time.
const TOGETHER: usize = 8;

/// How many of `examples` the model answers exactly: at each target the likeliest token, of equal ones that with the
/// lowest id, is the target. That is what decoding step by step would have written, for logits have the same bits
/// whether tokens come together or one by one; so no text has to be written to know.
///
/// # Errors
/// As [`Decoder::forward_all`].
pub fn exact_matches(
    run: &Run<'_>,
    model: &Decoder,
    examples: &[Example],
    workspace: &mut Workspace,
) -> Result<usize> {
    let vocab = model.config().vocab;
    let mut exact = 0;
    for examples in examples.chunks(TOGETHER) {
        let mut caches: Vec<_> = examples.iter().map(|e| model.cache(e.tokens.len())).collect();
        let mut batch: Vec<_> = examples
            .iter()
            .zip(&mut caches)
            .map(|(example, cache)| Sequence { tokens: &example.tokens, cache })
            .collect();
        let rows: usize = examples.iter().map(|e| e.tokens.len()).sum();
        let mut logits = vec![0.0; rows * vocab];
        model.forward_all(run, &mut batch, &mut logits, workspace)?;
        let mut rows = logits.chunks_exact(vocab);
        for example in examples {
            let rows = rows.by_ref().take(example.targets.len());
            let right = rows.zip(&example.targets).filter(|(_, target)| **target >= 0);
            // Every row is looked at: those of the next example come after.
            exact +=
                usize::from(right.fold(true, |all, (row, &t)| all & (likeliest(row) == Some(t as usize))));
        }
    }
    Ok(exact)
}

/// The place of the largest number, the first of equal ones; none where one is NaN.
fn likeliest(logits: &[f32]) -> Option<usize> {
    let mut best = 0;
    for (i, x) in logits.iter().enumerate() {
        if x.is_nan() {
            return None;
        }
        best = if *x > logits[best] { i } else { best };
    }
    Some(best)
}
