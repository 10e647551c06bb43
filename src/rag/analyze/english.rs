//! The stem of an English word: Porter's second algorithm as Snowball 3.1 has it
//! (<https://snowballstem.org/algorithms/english/stemmer.html>).
//!
//! Two regions of a word keep short words whole: R1 begins behind the first consonant that follows a vowel, R2 likewise
//! in R1. An ending goes only where it lies in its region.

/// Words that the rules would spoil.
const EXCEPTIONS: [(&str, &str); 15] = [
    ("andes", "andes"),
    ("atlas", "atlas"),
    ("bias", "bias"),
    ("cosmos", "cosmos"),
    ("early", "earli"),
    ("gently", "gentl"),
    ("howe", "howe"),
    ("idly", "idl"),
    ("news", "news"),
    ("only", "onli"),
    ("singly", "singl"),
    ("skies", "sky"),
    ("skis", "ski"),
    ("sky", "sky"),
    ("ugly", "ugli"),
];

/// Beginnings behind which R1 begins, wherever the rule would have it.
const BEGINNINGS: [&str; 9] =
    ["arsen", "commun", "emerg", "gener", "inter", "later", "organ", "past", "univers"];

/// What an ending becomes.
#[derive(Clone, Copy)]
enum To {
    /// These letters.
    Be(&'static str),
    /// Nothing, behind one of these letters.
    NothingBehind(&'static str),
    /// These, behind the letter.
    BeBehind(&'static str, u8),
    /// Nothing, in R2.
    NothingInR2,
}
use To::{Be, BeBehind, NothingBehind, NothingInR2};

/// Second step, in R1; the longer endings first.
const SECOND: [(&str, To); 25] = [
    ("ational", Be("ate")),
    ("fulness", Be("ful")),
    ("iveness", Be("ive")),
    ("ization", Be("ize")),
    ("ousness", Be("ous")),
    ("biliti", Be("ble")),
    ("lessli", Be("less")),
    ("tional", Be("tion")),
    ("alism", Be("al")),
    ("aliti", Be("al")),
    ("ation", Be("ate")),
    ("entli", Be("ent")),
    ("fulli", Be("ful")),
    ("iviti", Be("ive")),
    ("ogist", Be("og")),
    ("ousli", Be("ous")),
    ("abli", Be("able")),
    ("alli", Be("al")),
    ("anci", Be("ance")),
    ("ator", Be("ate")),
    ("enci", Be("ence")),
    ("izer", Be("ize")),
    ("bli", Be("ble")),
    ("ogi", BeBehind("og", b'l')),
    ("li", NothingBehind("cdeghkmnrt")),
];

/// Third step, in R1.
const THIRD: [(&str, To); 9] = [
    ("ational", Be("ate")),
    ("tional", Be("tion")),
    ("alize", Be("al")),
    ("ative", NothingInR2),
    ("icate", Be("ic")),
    ("iciti", Be("ic")),
    ("ical", Be("ic")),
    ("ness", Be("")),
    ("ful", Be("")),
];

/// Fourth step, in R2.
const FOURTH: [(&str, To); 18] = [
    ("ement", Be("")),
    ("able", Be("")),
    ("ance", Be("")),
    ("ence", Be("")),
    ("ible", Be("")),
    ("ment", Be("")),
    ("ant", Be("")),
    ("ate", Be("")),
    ("ent", Be("")),
    ("ion", NothingBehind("st")),
    ("ism", Be("")),
    ("iti", Be("")),
    ("ive", Be("")),
    ("ize", Be("")),
    ("ous", Be("")),
    ("al", Be("")),
    ("er", Be("")),
    ("ic", Be("")),
];

/// Makes its stem of `word`, which is in lower case. A word with letters beyond ASCII stays as it is.
pub fn stem(word: &mut String) {
    if word.len() < 3 || !word.is_ascii() {
        return;
    }
    if let Some((_, stem)) = EXCEPTIONS.iter().find(|(exception, _)| exception == word) {
        word.clear();
        word.push_str(stem);
        return;
    }
    let mut letters = Letters::of(std::mem::take(word).into_bytes());
    letters.plural();
    letters.past();
    letters.final_y();
    letters.replace(&SECOND, letters.r1);
    letters.replace(&THIRD, letters.r1);
    letters.replace(&FOURTH, letters.r2);
    letters.final_letter();
    letters.word.make_ascii_lowercase();
    *word = String::from_utf8(letters.word).unwrap_or_default();
}

/// A word on its way; `Y` is a consonant.
struct Letters {
    word: Vec<u8>,
    r1: usize,
    r2: usize,
}

const fn vowel(letter: u8) -> bool {
    matches!(letter, b'a' | b'e' | b'i' | b'o' | b'u' | b'y')
}

/// Behind the first consonant that follows a vowel, from `from` on.
fn region(word: &[u8], from: usize) -> usize {
    let consonant = |pair: &[u8]| vowel(pair[0]) && !vowel(pair[1]);
    word[from..].windows(2).position(consonant).map_or(word.len(), |at| from + at + 2)
}

impl Letters {
    fn of(mut word: Vec<u8>) -> Letters {
        if word[0] == b'\'' {
            word.remove(0);
        }
        for i in 0..word.len() {
            if word[i] == b'y' && (i == 0 || vowel(word[i - 1])) {
                word[i] = b'Y';
            }
        }
        let beginning = BEGINNINGS.iter().find(|beginning| word.starts_with(beginning.as_bytes()));
        let r1 = beginning.map_or_else(|| region(&word, 0), |beginning| beginning.len());
        let r2 = region(&word, r1);
        Letters { word, r1, r2 }
    }

    /// Where the first of these endings begins that the word has.
    fn ending(&self, of: &[&'static str]) -> Option<(&'static str, usize)> {
        let found = of.iter().find(|ending| self.word.ends_with(ending.as_bytes()));
        found.map(|&ending| (ending, self.word.len() - ending.len()))
    }

    /// `to` in the place of all from `at` on.
    fn put(&mut self, at: usize, to: &str) {
        self.word.truncate(at);
        self.word.extend_from_slice(to.as_bytes());
    }

    /// Whether the first `end` letters end with a short syllable.
    fn short(&self, end: usize) -> bool {
        match self.word[..end] {
            [.., a, b, c] if !vowel(a) && vowel(b) && !vowel(c) && !matches!(c, b'w' | b'x' | b'Y') => true,
            [a, b] => vowel(a) && !vowel(b),
            _ => self.word[..end].ends_with(b"past"),
        }
    }

    fn plural(&mut self) {
        if let Some((_, at)) = self.ending(&["'s'", "'s", "'"]) {
            self.put(at, "");
        }
        match self.ending(&["sses", "ied", "ies", "us", "ss", "s"]) {
            Some(("sses", at)) => self.put(at, "ss"),
            Some(("ied" | "ies", at)) => self.put(at, if at >= 2 { "i" } else { "ie" }),
            // A vowel, but not right in front of the s.
            Some(("s", at)) if at > 0 && self.word[..at - 1].iter().any(|&l| vowel(l)) => self.put(at, ""),
            _ => {}
        }
    }

    fn past(&mut self) {
        let Some((ending, at)) = self.ending(&["eedly", "ingly", "edly", "eed", "ing", "ed"]) else { return };
        let stem = &self.word[..at];
        match ending {
            "eed" | "eedly" => {
                if at >= self.r1 && !matches!(stem, b"succ" | b"proc" | b"exc") {
                    self.put(at, "ee");
                }
                return;
            }
            "ing" if matches!(stem, [first, b'y'] if !vowel(*first)) => return self.put(at - 1, "ie"),
            "ing" if matches!(stem, b"even" | b"cann" | b"inn" | b"earr" | b"herr" | b"out") => return,
            _ if !stem.iter().any(|&l| vowel(l)) => return,
            _ => self.put(at, ""),
        }
        let end = self.word.len();
        match self.word[..] {
            [.., b'a', b't'] | [.., b'b', b'l'] | [.., b'i', b'z'] => self.put(end, "e"),
            [b'a' | b'e' | b'o', a, b] if doubled(a, b) => {}
            [.., a, b] if doubled(a, b) => self.put(end - 1, ""),
            _ if end == self.r1 && self.short(end) => self.put(end, "e"),
            _ => {}
        }
    }

    fn final_y(&mut self) {
        if let [_, .., before, y @ (b'y' | b'Y')] = &mut self.word[..]
            && !vowel(*before)
        {
            *y = b'i';
        }
    }

    /// The first ending that the word has becomes what it says, where it lies behind `region`.
    fn replace(&mut self, endings: &[(&'static str, To)], region: usize) {
        let Some(&(ending, to)) = endings.iter().find(|(ending, _)| self.word.ends_with(ending.as_bytes()))
        else {
            return;
        };
        let at = self.word.len() - ending.len();
        if at < region {
            return;
        }
        let before = self.word[..at].last().copied();
        match to {
            Be(letters) => self.put(at, letters),
            NothingBehind(of) if before.is_some_and(|l| of.as_bytes().contains(&l)) => self.put(at, ""),
            BeBehind(letters, l) if before == Some(l) => self.put(at, letters),
            NothingInR2 if at >= self.r2 => self.put(at, ""),
            _ => {}
        }
    }

    fn final_letter(&mut self) {
        let Some(at) = self.word.len().checked_sub(1) else { return };
        let goes = match self.word[at] {
            b'e' => at >= self.r2 || at >= self.r1 && !self.short(at),
            b'l' => at >= self.r2 && self.word[..at].ends_with(b"l"),
            _ => false,
        };
        if goes {
            self.put(at, "");
        }
    }
}

const fn doubled(a: u8, b: u8) -> bool {
    a == b && matches!(a, b'b' | b'd' | b'f' | b'g' | b'm' | b'n' | b'p' | b'r' | b't')
}
