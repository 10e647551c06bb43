//! Examples to learn from: windows of a text, answers to prompts, and the order in which they come.
//!
//! ```text
//!   text      t₀ t₁ t₂ … │ t_L … │ …        windows of L tokens; each token but the text's first is a target once
//!   answers   prompt ──────┬── answer ── end
//!             (no targets) └── targets       the loss is that of the answer alone
//! ```

use crate::model::Examples;
use crate::random::Philox;
use alloc::vec::Vec;

/// Tokens of one sequence and what is to be foretold after each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Example {
    /// (tokens)
    pub tokens: Vec<u32>,
    /// (tokens): the next token, or −100 where nothing is to be learned.
    pub targets: Vec<i32>,
}

/// What stands for a target that does not count: the kernel's default, which is PyTorch's.
const NONE: i32 = -100;

impl Example {
    /// A prompt and its answer, of which the answer's tokens are targets; cut to `most` tokens. `None` where the cut
    /// leaves no target.
    pub fn answer(prompt: &[u32], answer: &[u32], most: usize) -> Option<Example> {
        let all: Vec<u32> = prompt.iter().chain(answer).copied().take(most.saturating_add(1)).collect();
        let (_, tokens) = all.split_last()?;
        let target = |(i, id): (usize, &u32)| if i + 1 < prompt.len() { NONE } else { *id as i32 };
        let targets: Vec<i32> = all[1..].iter().enumerate().map(target).collect();
        let learns = targets.iter().any(|&t| t != NONE);
        learns.then(|| Example { tokens: tokens.to_vec(), targets })
    }

    /// A text in windows of `length` tokens.
    ///
    /// # Panics
    /// Where `length` is 0.
    pub fn windows(text: &[u32], length: usize) -> Vec<Example> {
        let Some((_, inputs)) = text.split_last() else { return Vec::new() };
        let windows = inputs.chunks(length).zip(text.get(1..).unwrap_or(&[]).chunks(length));
        windows
            .map(|(tokens, next)| Example {
                tokens: tokens.to_vec(),
                targets: next.iter().map(|&id| id as i32).collect(),
            })
            .collect()
    }
}

/// A long text in windows that are cut elsewhere in every epoch, so that no two epochs see the same ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    ids: Vec<u32>,
    length: usize,
    seed: u64,
}

impl Stream {
    /// Windows of `length` tokens; `seed` decides where each epoch's first one begins.
    ///
    /// # Panics
    /// Where `length` is 0.
    pub fn new(ids: Vec<u32>, length: usize, seed: u64) -> Stream {
        assert!(length > 0, "windows without tokens");
        Stream { ids, length, seed }
    }

    /// Windows of an epoch: as many as there are wherever the first one begins.
    pub fn len(&self) -> usize {
        self.ids.len().saturating_sub(self.length) / self.length
    }

    /// Whether the text is too short for one.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Window `i` of an epoch.
    ///
    /// # Panics
    /// Where there is none.
    pub fn window(&self, epoch: u64, i: usize) -> Example {
        assert!(i < self.len(), "window {i} of {}", self.len());
        let drawn = Philox::new(self.seed).uniform(epoch, 0x7769_6e64_6f77_0000);
        let at = (drawn * self.length as f64) as usize + i * self.length;
        let tokens = self.ids[at..at + self.length].to_vec();
        let targets = self.ids[at + 1..=at + self.length].iter().map(|&id| id as i32).collect();
        Example { tokens, targets }
    }
}

/// The places 0..n in the order of one epoch: a permutation drawn from the seed and the epoch's number.
pub fn order(n: usize, seed: u64, epoch: u64) -> Vec<usize> {
    let random = Philox::new(seed);
    let mut places: Vec<usize> = (0..n).collect();
    for i in (1..n).rev() {
        let j = (random.uniform(i as u64, epoch ^ 0x6f72_6465_7200_0000) * (i + 1) as f64) as usize;
        places.swap(i, j);
    }
    places
}

/// Examples end to end, as a step takes them.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    tokens: Vec<u32>,
    targets: Vec<i32>,
    ends: Vec<usize>,
}

impl Batch {
    /// Some examples in their order.
    pub fn of<'a>(examples: impl IntoIterator<Item = &'a Example>) -> Batch {
        let mut batch = Batch { ends: Vec::from([0]), ..Batch::default() };
        for example in examples {
            batch.tokens.extend(&example.tokens);
            batch.targets.extend(&example.targets);
            batch.ends.push(batch.tokens.len());
        }
        batch
    }

    /// As the model takes them.
    pub fn examples(&self) -> Examples<'_> {
        Examples { tokens: &self.tokens, targets: &self.targets, ends: &self.ends }
    }

    /// Its tokens.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_of_a_text_but_the_first_is_a_target_once() {
        let text: Vec<u32> = (10..21).collect();
        for length in [1, 3, 5, 10, 11, 100] {
            let windows = Example::windows(&text, length);
            let targets: Vec<u32> = windows.iter().flat_map(|w| &w.targets).map(|&t| t as u32).collect();
            assert_eq!(targets, text[1..], "windows of {length}");
            let inputs: Vec<u32> = windows.iter().flat_map(|w| w.tokens.clone()).collect();
            assert_eq!(inputs, text[..10]);
            assert!(windows.iter().all(|w| w.tokens.len() <= length && w.tokens.len() == w.targets.len()));
        }
        assert!(Example::windows(&[], 4).is_empty() && Example::windows(&[1], 4).is_empty());
    }

    #[test]
    fn windows_of_a_stream_fit_wherever_they_begin() {
        for n in [0usize, 4, 5, 9, 10, 11, 64] {
            let stream = Stream::new((0..n as u32).collect(), 5, 3);
            let begins = |epoch| (0..stream.len()).map(move |i| (epoch, i));
            for (epoch, i) in (0..40).flat_map(begins) {
                let Example { tokens, targets } = stream.window(epoch, i);
                assert!(tokens.len() == 5 && tokens[0] as usize / 5 == i, "{n}: {tokens:?}");
                assert!(tokens.iter().zip(&targets).all(|(t, next)| *t as i32 + 1 == *next));
            }
            assert_eq!(
                stream.len(),
                [0, 0, 0, 0, 1, 1, 11][[0, 4, 5, 9, 10, 11, 64].iter().position(|&m| m == n).unwrap()]
            );
        }
        let stream = Stream::new((0..64).collect(), 5, 3);
        let firsts: Vec<u32> = (0..20).map(|epoch| stream.window(epoch, 0).tokens[0]).collect();
        assert!((0..5).all(|first| firsts.contains(&first)), "{firsts:?}");
    }

    #[test]
    fn the_loss_ignores_what_is_no_target() {
        assert_eq!(crate::kernels::cross_entropy::CrossEntropy::default().ignore_index, NONE);
    }

    #[test]
    fn answers_alone_are_targets() {
        let example = Example::answer(&[1, 2, 3], &[4, 5], 100).unwrap();
        assert_eq!((example.tokens, example.targets), (vec![1, 2, 3, 4], vec![-100, -100, 4, 5]));
        let cut = Example::answer(&[1, 2, 3], &[4, 5], 3).unwrap();
        assert_eq!((cut.tokens, cut.targets), (vec![1, 2, 3], vec![-100, -100, 4]));
        assert_eq!(Example::answer(&[1, 2, 3], &[4, 5], 2), None);
        assert_eq!(Example::answer(&[], &[4], 9), None, "the first token is foretold by none");
        assert_eq!(Example::answer(&[1], &[], 9), None);
    }

    #[test]
    fn an_epoch_is_a_permutation_of_its_own() {
        let (first, second) = (order(100, 7, 0), order(100, 7, 1));
        let mut sorted = first.clone();
        sorted.sort_unstable();
        assert!(sorted.iter().copied().eq(0..100) && first != second && first == order(100, 7, 0));
    }
}
