//! Answers without a language model: the sentences of what was found that answer best, as they stand there.
//!
//! ```text
//!   of each candidate the run of sentences with the greatest
//!       Σ idf(t) over the question's terms t that stand in it, ÷ Σ idf(t) over all of them
//!       + what kind of answer the question asks for, and whether the run has one;
//!   of these runs the best, and how well their candidates were found counts too
//! ```
//!
//! A run is as many whole sentences as fit in [`LONGEST`] bytes: a reader needs what stands around an answer. The terms of
//! headings above it count half: they say what it is about.

use super::{Analyzer, segment};
use core::cmp::Ordering;
use core::ops::Range;
use std::collections::BTreeSet;

/// Bytes of a quoted run, at most.
pub const LONGEST: usize = 900;

/// Where an answer may stand.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'t> {
    /// The text that is quoted from.
    pub text: &'t str,
    /// The headings above it.
    pub headings: &'t str,
    /// How well it was found; the best of all has the greatest.
    pub score: f64,
}

/// A part that answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Extract {
    /// Which candidate.
    pub candidate: usize,
    /// Its bytes.
    pub bytes: Range<usize>,
    /// How well it answers.
    pub score: f64,
}

/// The terms of a question, and what they are worth.
///
/// ```
/// use samebits::rag::{Analyzer, extract::{Candidate, Extract, LONGEST, Question}};
/// let text = "Whales sing. The sea is eleven kilometres deep. Crabs walk.";
/// let question = Question::new(Analyzer::english(), "How deep is the sea?", &|_term| 1.0);
/// let answers: Vec<Extract> = question.answers(&[Candidate { text, headings: "", score: 1.0 }], 1);
/// assert!(text[answers[0].bytes.clone()].contains("eleven kilometres deep"));
/// assert!(answers[0].bytes.len() <= LONGEST);
/// ```
pub struct Question {
    analyzer: Analyzer,
    terms: Vec<(String, f64)>,
    /// Of all terms.
    total: f64,
    kind: Kind,
}

/// What a question asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Person,
    Place,
    Time,
    Number,
    Reason,
    Other,
}

impl Kind {
    fn of(question: &str) -> Kind {
        let lower = question.to_lowercase();
        let words: Vec<&str> =
            segment::words(&lower).filter(|w| w.chars().any(char::is_alphanumeric)).collect();
        let pair = |a: &str, b: &[&str]| words.windows(2).any(|w| w[0] == a && b.contains(&w[1]));
        if pair("how", &["many", "much", "old", "long", "far", "tall", "often"]) {
            return Kind::Number;
        }
        let kind = |word: &&str| match *word {
            "who" | "whom" | "whose" => Some(Kind::Person),
            "where" => Some(Kind::Place),
            "when" => Some(Kind::Time),
            "why" => Some(Kind::Reason),
            _ => None,
        };
        words.iter().find_map(kind).unwrap_or(Kind::Other)
    }

    /// Whether a text has what this asks for.
    fn is_in(self, text: &str) -> bool {
        let mut words = segment::words(text).filter(|word| word.chars().any(char::is_alphanumeric));
        let has = |all: &str| {
            segment::words(text).any(|word| all.split(' ').any(|one| one.eq_ignore_ascii_case(word)))
        };
        match self {
            // Not the first word of a sentence: that begins so anyway.
            Kind::Person => words.skip(1).any(|word| word != "I" && word.starts_with(char::is_uppercase)),
            Kind::Place => has(PLACES),
            Kind::Time => has(TIMES) || words.any(|word| word.starts_with(|c: char| c.is_ascii_digit())),
            Kind::Number => has(NUMBERS) || words.any(|word| word.starts_with(|c: char| c.is_ascii_digit())),
            Kind::Reason => has(REASONS),
            Kind::Other => false,
        }
    }
}

const NUMBERS: &str = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen \
    seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand half both once \
    twice several dozen";
const TIMES: &str = "january february march april may june july august september october november december monday \
    tuesday wednesday thursday friday saturday sunday morning evening night noon midnight o'clock year years day days \
    week month spring summer autumn winter when after before until";
const PLACES: &str = "in at near from to on into behind under by";
const REASONS: &str = "because for since so therefore that lest to";

impl Question {
    /// What a question's terms are worth is what `idf` says.
    pub fn new(analyzer: Analyzer, text: &str, idf: &dyn Fn(&str) -> f64) -> Question {
        let mut terms = BTreeSet::new();
        analyzer.each_term(text, &mut |term| {
            if !ASKING.contains(&term) {
                terms.insert(term.to_owned());
            }
        });
        let terms: Vec<(String, f64)> = terms.into_iter().map(|term| (term.clone(), idf(&term))).collect();
        let total = terms.iter().map(|(_, worth)| worth).sum::<f64>();
        Question { analyzer, terms, total, kind: Kind::of(text) }
    }

    /// The worth of those terms that are in `text`, of 1.
    fn coverage(&self, text: &str, headings: &str) -> f64 {
        if self.total <= 0.0 {
            return 0.0;
        }
        let terms_of = |text: &str| {
            let mut terms = BTreeSet::new();
            self.analyzer.each_term(text, &mut |term| _ = terms.insert(term.to_owned()));
            terms
        };
        let (inside, above) = (terms_of(text), terms_of(headings));
        let worth = |(term, worth): &(String, f64)| match () {
            () if inside.contains(term) => *worth,
            () if above.contains(term) => worth / 2.0,
            () => 0.0,
        };
        self.terms.iter().map(worth).sum::<f64>() / self.total
    }

    /// The `n` best runs of sentences, none of which has a byte of another; the best first.
    pub fn answers(&self, candidates: &[Candidate<'_>], n: usize) -> Vec<Extract> {
        let most = candidates.iter().map(|candidate| candidate.score).fold(0.0, f64::max);
        let mut all = Vec::new();
        for (i, candidate) in candidates.iter().enumerate() {
            let found = if most > 0.0 { (candidate.score / most).max(0.0) } else { 0.0 };
            all.extend(runs(candidate.text).into_iter().map(|bytes| {
                let text = &candidate.text[bytes.clone()];
                let kind = if self.kind.is_in(text) { KIND } else { 0.0 };
                let score = self.coverage(text, candidate.headings) + FOUND * found + kind;
                Extract { candidate: i, bytes, score }
            }));
        }
        let order = |a: &Extract, b: &Extract| match b.score.total_cmp(&a.score) {
            Ordering::Equal => (a.candidate, a.bytes.start).cmp(&(b.candidate, b.bytes.start)),
            order => order,
        };
        all.sort_by(order);
        let mut chosen: Vec<Extract> = Vec::new();
        for extract in all {
            let text = |extract: &Extract| &candidates[extract.candidate].text[extract.bytes.clone()];
            // Chunks overlap: the same sentences may come from two of them.
            let doubled = |before: &Extract| {
                text(before).contains(text(&extract)) || text(&extract).contains(text(before))
            };
            let touches = |before: &Extract| {
                before.candidate == extract.candidate
                    && before.bytes.start < extract.bytes.end
                    && extract.bytes.start < before.bytes.end
            };
            if chosen.len() < n && !chosen.iter().any(|before| touches(before) || doubled(before)) {
                chosen.push(extract);
            }
        }
        chosen
    }
}

/// How much finding and the kind of answer weigh beside the words.
const FOUND: f64 = 0.5;
const KIND: f64 = 0.08;

/// Terms that ask, and say nothing of the answer.
const ASKING: &[&str] = &[
    "what", "which", "who", "whom", "whose", "where", "when", "why", "how", "did", "do", "doe", "has",
    "have", "had", "can", "could", "would", "mani", "much",
];

/// From every sentence on, as many as fit; at least the first, cut if need be.
fn runs(text: &str) -> Vec<Range<usize>> {
    let sentences: Vec<Range<usize>> = segment::ranges(segment::prose(text), 0).collect();
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (i, first) in sentences.iter().enumerate() {
        let start = first.start + (text[first.clone()].len() - text[first.clone()].trim_start().len());
        let fits = |end: usize| start + text[start..end.max(start)].trim_end().len() <= start + LONGEST;
        let end = sentences[i..].iter().map(|last| last.end).take_while(|&end| fits(end)).last();
        let end = end.unwrap_or_else(|| segment::floor(text, start, first.end.min(start + LONGEST)));
        let end = start + text[start..end.max(start)].trim_end().len();
        // What lies in the run before has nothing more to say.
        let inside = runs.last().is_some_and(|before| end <= before.end);
        if !inside && text[start..end].chars().any(char::is_alphanumeric) {
            runs.push(start..end);
        }
    }
    runs
}
