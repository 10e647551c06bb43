//! A byte-level BPE made from text alone: the vocabulary that the `tokenizers` package would make.
//!
//! ```text
//!   text ─► lines ─► words (GPT-2's pattern) ─► counts          each word once, with how often it comes
//!   all 256 bytes are tokens; then, until there are enough:
//!     the pair of neighbours that comes most often becomes one token; of equal ones that with the lowest ids
//! ```
//!
//! A heap holds the pairs with their counts and the words in which they stand. Counts that fell meanwhile are found out
//! when their pair comes to the top; so a merge costs what it changes, not the whole text.
//!
//! Reference: `BpeTrainer` of huggingface/tokenizers 0.23, whose `tokenizer.json` comes out byte for byte.

use super::patterns::{find, gpt2};
use super::pretokenize::byte_char;
use crate::io::json::Writer;
use crate::{Error, Result};
use alloc::collections::{BTreeMap, BTreeSet, BinaryHeap};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Reverse;

/// Two neighbours.
type Pair = (u32, u32);

/// What a vocabulary is made by.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainOptions {
    /// Tokens that it has in the end, at most.
    pub vocab: usize,
    /// How often a pair must come to be merged.
    pub min_frequency: u64,
    /// Tokens that stand for no text; they have the first ids.
    pub special: Vec<String>,
}

impl Default for TrainOptions {
    fn default() -> TrainOptions {
        TrainOptions { vocab: 8192, min_frequency: 2, special: vec![String::from("<|endoftext|>")] }
    }
}

/// Counts words, then makes a vocabulary of them.
///
/// ```
/// use samebits::io::tokenizer::{TrainOptions, Trainer};
/// let mut trainer = Trainer::new(TrainOptions { vocab: 259, ..TrainOptions::default() })?;
/// trainer.feed("low lower lowest");
/// let trained = trainer.train();
/// assert_eq!(trained.merges(), 2); // l + o, lo + w
/// # Ok::<(), samebits::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Trainer {
    options: TrainOptions,
    words: BTreeMap<Vec<u8>, u64>,
}

/// A trained vocabulary.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainedTokenizer {
    special: usize,
    /// By id, in the alphabet of visible characters.
    tokens: Vec<String>,
    /// By rank.
    merges: Vec<Pair>,
}

impl Trainer {
    /// Without words yet.
    ///
    /// # Errors
    /// Where the vocabulary has no room for the 256 bytes and the special tokens, or one of these comes twice, is empty
    /// or is a byte's own.
    pub fn new(options: TrainOptions) -> Result<Trainer> {
        let least = 256 + options.special.len();
        if options.vocab < least || options.vocab > u32::MAX as usize {
            let (vocab, special) = (options.vocab, options.special.len());
            return Err(Error::invalid(format!(
                "a vocabulary of {vocab}: at least {least} are needed, 256 bytes and {special} special tokens"
            )));
        }
        for (i, token) in options.special.iter().enumerate() {
            let byte = (0..=255).any(|b| token.chars().eq([byte_char(b)]));
            if token.is_empty() || byte || options.special[..i].contains(token) {
                return Err(Error::invalid(format!("{token:?} cannot be a special token")));
            }
        }
        Ok(Trainer { options, words: BTreeMap::new() })
    }

    /// Counts the words of a text, line by line.
    pub fn feed(&mut self, text: &str) {
        for line in text.split_inclusive('\n') {
            let mut at = 0;
            while let Some(found) = find(gpt2, line, at) {
                // What the pattern leaves between its matches is a word too.
                for word in [&line[at..found.start], &line[found.clone()]] {
                    self.count(word);
                }
                at = found.end;
            }
            self.count(&line[at..]);
        }
    }

    fn count(&mut self, word: &str) {
        if word.is_empty() {
            return;
        }
        match self.words.get_mut(word.as_bytes()) {
            Some(count) => *count += 1,
            None => _ = self.words.insert(word.into(), 1),
        }
    }

    /// Makes the vocabulary.
    pub fn train(&self) -> TrainedTokenizer {
        let mut alphabet: Vec<(char, u8)> = (0..=255).map(|byte| (byte_char(byte), byte)).collect();
        alphabet.sort_unstable();
        let special = self.options.special.len();
        let mut id_of = [0; 256];
        let mut tokens = self.options.special.clone();
        for (i, (c, byte)) in alphabet.into_iter().enumerate() {
            id_of[usize::from(byte)] = (special + i) as u32;
            tokens.push(c.into());
        }
        let ids = tokens.iter().enumerate().map(|(id, token)| (token.clone(), id as u32)).collect();
        let spell = |word: &Vec<u8>| word.iter().map(|&b| id_of[usize::from(b)]).collect();
        let words: Vec<Word> =
            self.words.iter().map(|(word, &count)| Word { symbols: spell(word), count }).collect();
        let mut merger = Merger {
            tokens,
            ids,
            words,
            counts: BTreeMap::new(),
            merges: Vec::new(),
            merged: BTreeSet::new(),
        };
        merger.run(&self.options);
        TrainedTokenizer { special, tokens: merger.tokens, merges: merger.merges }
    }
}

/// A word as tokens so far, and how often it comes.
struct Word {
    symbols: Vec<u32>,
    count: u64,
}

struct Merger {
    tokens: Vec<String>,
    ids: BTreeMap<String, u32>,
    words: Vec<Word>,
    /// How often each pair stands somewhere now. Signed: what a merge takes away may come before what it adds.
    counts: BTreeMap<Pair, i64>,
    merges: Vec<Pair>,
    /// The same pairs.
    merged: BTreeSet<Pair>,
}

/// A pair with its count when it was put into the heap, and the words (ascending) that it was seen in. The greatest is
/// the next to be merged.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    count: i64,
    pair: Reverse<Pair>,
    places: Vec<u32>,
}

/// Places of pairs, in ascending order of the words.
type Places = BTreeMap<Pair, Vec<u32>>;

fn see(places: &mut Places, pair: Pair, word: u32) {
    let places = places.entry(pair).or_default();
    if places.last() != Some(&word) {
        places.push(word);
    }
}

impl Merger {
    fn run(&mut self, options: &TrainOptions) {
        let mut heap = self.first_candidates();
        while self.tokens.len() < options.vocab {
            let Some(mut top) = heap.pop() else { break };
            let Reverse(pair) = top.pair;
            let now = self.counts.get(&pair).copied().unwrap_or(0);
            if top.count != now {
                top.count = now;
                heap.push(top);
                continue;
            }
            if top.count < 1 || (top.count as u64) < options.min_frequency {
                break;
            }
            let seen = self.merge(pair, &top.places);
            heap.extend(seen.into_iter().filter_map(|(pair, places)| {
                let count = self.counts.get(&pair).copied().unwrap_or(0);
                (count > 0).then_some(Candidate { count, pair: Reverse(pair), places })
            }));
        }
    }

    fn first_candidates(&mut self) -> BinaryHeap<Candidate> {
        let mut places = Places::new();
        for (w, word) in self.words.iter().enumerate() {
            for pair in word.symbols.windows(2).map(|s| (s[0], s[1])) {
                *self.counts.entry(pair).or_default() += word.count as i64;
                see(&mut places, pair, w as u32);
            }
        }
        let candidate = |(pair, places)| Candidate { count: self.counts[&pair], pair: Reverse(pair), places };
        places.into_iter().map(candidate).collect()
    }

    /// Makes `pair` a token in the words `places`; the pairs that came to be, and where.
    fn merge(&mut self, pair: Pair, places: &[u32]) -> Places {
        let token = format!("{}{}", self.tokens[pair.0 as usize], self.tokens[pair.1 as usize]);
        let id = match self.ids.get(&token) {
            Some(&id) => id, // two ways to one token
            None => {
                let id = self.tokens.len() as u32;
                self.ids.insert(token.clone(), id);
                self.tokens.push(token);
                id
            }
        };
        // A pair that comes up again counts from its last time on.
        if !self.merged.insert(pair) {
            self.merges.retain(|before| *before != pair);
        }
        self.merges.push(pair);
        let mut seen = Places::new();
        for &w in places {
            let Word { symbols, count } = &mut self.words[w as usize];
            let count = *count as i64;
            let mut i = 0;
            while i + 1 < symbols.len() {
                if (symbols[i], symbols[i + 1]) != pair {
                    i += 1;
                    continue;
                }
                symbols[i] = id;
                symbols.remove(i + 1);
                let before = (i > 0).then(|| (symbols[i - 1], pair.0, (symbols[i - 1], id)));
                let after = symbols.get(i + 1).map(|&next| (pair.1, next, (id, next)));
                for (left, right, new) in before.into_iter().chain(after) {
                    *self.counts.entry((left, right)).or_default() -= count;
                    *self.counts.entry(new).or_default() += count;
                    see(&mut seen, new, w);
                }
                i += 1;
            }
        }
        seen
    }
}

impl TrainedTokenizer {
    /// Tokens.
    pub const fn vocab_len(&self) -> usize {
        self.tokens.len()
    }

    /// Merges.
    pub const fn merges(&self) -> usize {
        self.merges.len()
    }

    /// The text of a `tokenizer.json`, as the `tokenizers` package writes it.
    pub fn to_json(&self) -> String {
        self.json(|w| w.null())
    }

    /// The same, with the first special token before every text, as decoders are trained.
    ///
    /// # Panics
    /// Where there is no special token.
    pub fn to_json_with_beginning(&self) -> String {
        let token = &*self.tokens[..self.special][0];
        let text = |w: &mut Writer, name: &str, kind: u64| {
            for (what, id) in [("SpecialToken", token), ("Sequence", name)] {
                w.object(|w| {
                    w.key(what).object(|w| {
                        w.key("id").string(id);
                        w.key("type_id").number(kind);
                    });
                });
            }
        };
        self.json(|w| {
            w.object(|w| {
                w.key("type").string("TemplateProcessing");
                w.key("single").array(|w| text(w, "A", 0));
                w.key("pair").array(|w| {
                    text(w, "A", 0);
                    text(w, "B", 1);
                });
                w.key("special_tokens").object(|w| {
                    w.key(token).object(|w| {
                        w.key("id").string(token);
                        w.key("ids").array(|w| w.number(0u64));
                        w.key("tokens").array(|w| w.string(token));
                    });
                });
            });
        })
    }

    fn json(&self, post_processor: impl FnOnce(&mut Writer)) -> String {
        let mut w = Writer::compact();
        w.object(|w| {
            w.key("version").string("1.0");
            ["truncation", "padding"].into_iter().for_each(|key| w.key(key).null());
            w.key("added_tokens").array(|w| (0..self.special).for_each(|id| self.special(w, id)));
            w.key("normalizer").null();
            byte_level(w.key("pre_tokenizer"), PrefixSpace::No);
            post_processor(w.key("post_processor"));
            byte_level(w.key("decoder"), PrefixSpace::Yes);
            w.key("model").object(|w| {
                w.key("type").string("BPE");
                for key in ["dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix"] {
                    w.key(key).null();
                }
                for key in ["fuse_unk", "byte_fallback", "ignore_merges"] {
                    w.key(key).boolean(false);
                }
                w.key("vocab").object(|w| {
                    self.tokens.iter().enumerate().for_each(|(id, token)| w.key(token).number(id));
                });
                let text = |id: u32| &*self.tokens[id as usize];
                w.key("merges").array(|w| {
                    let merges = self.merges.iter();
                    merges.for_each(|&(a, b)| {
                        w.array(|w| [a, b].into_iter().for_each(|id| w.string(text(id))))
                    });
                });
            });
        });
        w.finish()
    }

    fn special(&self, w: &mut Writer, id: usize) {
        w.object(|w| {
            w.key("id").number(id);
            w.key("content").string(&self.tokens[id]);
            for key in ["single_word", "lstrip", "rstrip", "normalized"] {
                w.key(key).boolean(false);
            }
            w.key("special").boolean(true);
        });
    }
}

/// Whether a space is put in front; a decoder says yes, and it means nothing there.
#[derive(Clone, Copy, PartialEq)]
enum PrefixSpace {
    No,
    Yes,
}

fn byte_level(w: &mut Writer, prefix: PrefixSpace) {
    w.object(|w| {
        w.key("type").string("ByteLevel");
        w.key("add_prefix_space").boolean(prefix == PrefixSpace::Yes);
        w.key("trim_offsets").boolean(true);
        w.key("use_regex").boolean(true);
    });
}
