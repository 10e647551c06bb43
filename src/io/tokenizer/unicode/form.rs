//! The normal forms NFC, NFD, NFKC and NFKD, remembering which character each came from.
//!
//! **Reference**: Unicode Standard Annex 15.

use super::find;
use super::tables::*;
use alloc::vec::Vec;

/// A normal form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Decomposed.
    Nfd,
    /// Decomposed, compatibility characters replaced.
    Nfkd,
    /// Composed.
    Nfc,
    /// Composed, compatibility characters replaced.
    Nfkc,
}

impl Form {
    /// Every form.
    pub const ALL: [Form; 4] = [Form::Nfd, Form::Nfkd, Form::Nfc, Form::Nfkc];

    const fn compatible(self) -> bool {
        matches!(self, Form::Nfkd | Form::Nfkc)
    }

    const fn composed(self) -> bool {
        matches!(self, Form::Nfc | Form::Nfkc)
    }
}

/// Whether every form of `text` is sure to be `text` itself: an inexact, quick answer.
pub(crate) fn needs_nothing(form: Form, text: &str) -> bool {
    match form {
        Form::Nfc => text.chars().all(|c| (c as u32) < 0x300),
        _ => text.is_ascii(),
    }
}

/// The canonical combining class.
fn class(c: char) -> u8 {
    if (c as u32) < 0x300 {
        return 0;
    }
    let beyond = COMBINING.partition_point(|&entry| entry >> 8 <= c as u32);
    (COMBINING[beyond - 1] & 0xff) as u8
}

const S_BASE: u32 = 0xac00;
const L_BASE: u32 = 0x1100;
const V_BASE: u32 = 0x1161;
const T_BASE: u32 = 0x11a7;
const V_COUNT: u32 = 21;
const T_COUNT: u32 = 28;
const S_COUNT: u32 = 19 * V_COUNT * T_COUNT;

fn decompose(c: char, compatible: bool, mut put: impl FnMut(char)) {
    if c.is_ascii() {
        return put(c);
    }
    let syllable = (c as u32).wrapping_sub(S_BASE);
    if syllable < S_COUNT {
        let (pair, t) = (syllable / T_COUNT, syllable % T_COUNT);
        let parts = [L_BASE + pair / V_COUNT, V_BASE + pair % V_COUNT, T_BASE + t];
        return parts
            .iter()
            .take(if t == 0 { 2 } else { 3 })
            .filter_map(|&p| char::from_u32(p))
            .for_each(put);
    }
    let canonical = || find(CANONICAL_CODES, CANONICAL_ENDS, CANONICAL_TEXT, c);
    let replaced =
        if compatible { find(COMPATIBLE_CODES, COMPATIBLE_ENDS, COMPATIBLE_TEXT, c) } else { None };
    match replaced.or_else(canonical) {
        Some(text) => text.chars().for_each(put),
        None => put(c),
    }
}

fn compose(a: char, b: char) -> Option<char> {
    let (a, b) = (a as u32, b as u32);
    let (l, v) = (a.wrapping_sub(L_BASE), b.wrapping_sub(V_BASE));
    if l < 19 && v < V_COUNT {
        return char::from_u32(S_BASE + (l * V_COUNT + v) * T_COUNT);
    }
    let (s, t) = (a.wrapping_sub(S_BASE), b.wrapping_sub(T_BASE));
    if s < S_COUNT && s % T_COUNT == 0 && (1..T_COUNT).contains(&t) {
        return char::from_u32(a + t);
    }
    let at = COMPOSITION.binary_search_by_key(&(a, b), |&(a, b, _)| (a, b)).ok()?;
    char::from_u32(COMPOSITION[at].2)
}

/// A character of the result. `change` relates it to the characters replaced, in order: 0 takes the next of
/// them, +1 none, −n the next and n more.
pub(crate) type Changed = (char, isize);

impl Form {
    /// The normal form of `text`.
    pub(crate) fn of(self, text: &str) -> Vec<Changed> {
        let mut out: Vec<Changed> = Vec::with_capacity(text.len());
        let mut starter = 0; // where the run of marks being collected begins
        for c in text.chars() {
            let mut change = 0;
            decompose(c, self.compatible(), |part| {
                if class(part) == 0 {
                    sort_marks(&mut out[starter..]);
                    starter = out.len() + 1;
                }
                out.push((part, change));
                change = 1;
            });
        }
        let end = out.len();
        sort_marks(&mut out[starter.min(end)..]);
        if self.composed() {
            recompose(&mut out);
        }
        out
    }
}

/// Puts a run of marks into canonical order. The sort is stable and takes n log n steps.
fn sort_marks(run: &mut [Changed]) {
    if run.len() > 1 {
        run.sort_by_key(|&(c, _)| class(c));
    }
}

/// Joins each mark to its starter, where a composed character exists and nothing stands between.
fn recompose(text: &mut Vec<Changed>) {
    let mut kept = 0;
    let mut starter: Option<usize> = None;
    let mut last_class = 0; // of the last character kept after the starter; 0 where there is none
    for i in 0..text.len() {
        let (c, change) = text[i];
        let class = class(c);
        let adjacent = starter.is_some_and(|s| s + 1 == kept);
        if let Some(s) = starter
            && (adjacent || last_class != 0 && last_class < class)
            && let Some(joined) = compose(text[s].0, c)
        {
            text[s] = (joined, text[s].1 + change - 1);
            continue;
        }
        if class == 0 {
            starter = Some(kept);
        }
        last_class = class;
        text[kept] = (c, change);
        kept += 1;
    }
    text.truncate(kept);
}
