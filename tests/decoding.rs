//! Around the choice of a token: beam search and prompt lookup against transformers, stop strings in any pieces.

mod common;

use common::{Random, cpus};
use samebits::io::json::{self, Value};
use samebits::model::{Beam, BeamSearch, EarlyStopping, PromptLookup, StopStrings, accepted};
use samebits::{Cpu, Error};

const BEAM: &[u8] = include_bytes!("data/beam.json");
const LOOKUP: &[u8] = include_bytes!("data/lookup.json");

fn number(case: Value, key: &str) -> f64 {
    case.get(key).unwrap().as_f64().unwrap()
}

fn tokens(list: Value) -> Vec<u32> {
    list.elements().unwrap().map(|v| v.as_u64().unwrap() as u32).collect()
}

// ---- beam search

const VOCABULARY: usize = 7;

/// A model whose logits depend on the last token and its place; the prompt is 3, 2.
fn table_model(table: &[f32]) -> impl FnMut(&[Beam], &mut [f32]) -> samebits::Result<()> {
    let mut before: Vec<Vec<u32>> = vec![vec![]];
    move |beams, logits| {
        for (beam, row) in beams.iter().zip(logits.chunks_exact_mut(VOCABULARY)) {
            // A cache would go on from the parent's: the tokens must be there.
            let (_, known) = beam.tokens.split_last().unwrap_or((&0, &[]));
            assert_eq!(before[beam.parent], known);
            let (place, last) = (beam.tokens.len() + 1, *beam.tokens.last().unwrap_or(&2));
            row.copy_from_slice(&table[(place * VOCABULARY + last as usize) * VOCABULARY..][..VOCABULARY]);
        }
        before = beams.iter().map(|b| b.tokens.to_vec()).collect();
        Ok(())
    }
}

#[test]
fn texts_and_scores_are_those_of_transformers() {
    let mut tables: Vec<Vec<f32>> = Vec::new();
    let mut seen = 0;
    for case in json::parse(BEAM).unwrap().elements().unwrap() {
        if let Some(bits) = case.as_str() {
            let float = |w| f32::from_bits(u32::from_str_radix(w, 16).unwrap());
            tables.push(bits.split(' ').map(float).collect());
            continue;
        }
        let search = BeamSearch {
            ends: tokens(case.get("ends").unwrap()),
            length_penalty: number(case, "penalty"),
            early_stopping: match &*case.get("early").unwrap().as_str().unwrap() {
                "False" => EarlyStopping::Heuristic,
                "True" => EarlyStopping::WhenFull,
                _ => EarlyStopping::Never,
            },
            ..BeamSearch::new(number(case, "beams") as usize, VOCABULARY, number(case, "max") as usize)
        };
        for cpu in cpus() {
            let mut model = table_model(&tables[number(case, "table") as usize]);
            let found = search.run(cpu, &mut model).unwrap();
            let texts: Vec<Vec<u32>> = found.iter().map(|h| h.tokens.clone()).collect();
            let want: Vec<Vec<u32>> = case.get("texts").unwrap().elements().unwrap().map(tokens).collect();
            assert_eq!(texts, want, "{search:?}");
            for (h, want) in found.iter().zip(case.get("scores").unwrap().elements().unwrap()) {
                let want = want.as_f64().unwrap();
                assert!(
                    (h.score - want).abs() < 1e-5 * want.abs().max(1.0),
                    "{search:?}: {h:?}, want {want}"
                );
            }
        }
        seen += 1;
    }
    assert_eq!(seen, 3 * 3 * 4 * 3 * 2);
}

/// Logits for texts of up to 11 tokens.
fn random_table(seed: u64) -> Vec<f32> {
    Random::new(seed).normal(13 * VOCABULARY * VOCABULARY)
}

#[test]
fn one_beam_is_greedy() {
    let table = random_table(4);
    let found = BeamSearch::new(1, VOCABULARY, 11).run(Cpu::detect(), &mut table_model(&table)).unwrap();
    let (mut greedy, mut last) = (Vec::new(), 2);
    for place in 1..12 {
        let row = &table[(place * VOCABULARY + last) * VOCABULARY..][..VOCABULARY];
        last = (0..VOCABULARY).rev().max_by(|&i, &j| row[i].total_cmp(&row[j])).unwrap();
        greedy.push(last as u32);
    }
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].tokens, greedy);
}

#[test]
fn wide_beams_find_the_best_text_of_all() {
    // 7 × 7 texts of two tokens: 49 beams see them all.
    let found =
        BeamSearch::new(49, VOCABULARY, 2).run(Cpu::detect(), &mut table_model(&random_table(6))).unwrap();
    assert_eq!(found.len(), 49);
    assert!(found.windows(2).all(|w| w[0].score >= w[1].score));
    let mass: f64 = found.iter().map(|h| (2.0 * h.score).exp()).sum();
    assert!((mass - 1.0).abs() < 1e-5, "{mass}");
}

#[test]
fn equals_go_to_the_lower_token_and_banned_tokens_never_come() {
    let mut flat = |_: &[Beam], logits: &mut [f32]| {
        logits.fill(0.5);
        logits.chunks_exact_mut(4).for_each(|row| row[0] = f32::NEG_INFINITY);
        Ok(())
    };
    let found = BeamSearch::new(3, 4, 1).run(Cpu::detect(), &mut flat).unwrap();
    assert_eq!(found.iter().map(|h| h.tokens[0]).collect::<Vec<_>>(), [1, 2, 3]);
    let found = BeamSearch::new(2, 4, 2).run(Cpu::detect(), &mut flat).unwrap();
    assert_eq!(found.iter().map(|h| &h.tokens[..]).collect::<Vec<_>>(), [[1, 1], [1, 2]]);
    let mut nothing = |_: &[Beam], logits: &mut [f32]| {
        logits.fill(f32::NEG_INFINITY);
        Ok(())
    };
    assert!(BeamSearch::new(2, 4, 5).run(Cpu::detect(), &mut nothing).unwrap().is_empty());
}

#[test]
fn what_is_no_score_is_an_error() {
    let mut nan = |beams: &[Beam], logits: &mut [f32]| {
        if beams[0].tokens.len() == 1 {
            logits[4 + 3] = f32::NAN;
        }
        Ok(())
    };
    let error = BeamSearch::new(2, 4, 3).run(Cpu::detect(), &mut nan).unwrap_err().to_string();
    assert_eq!(error, "logits of beam 1 at token 2: element 3 is NaN, expected a number below infinity");
    let search = BeamSearch { length_penalty: f64::NAN, ..BeamSearch::new(2, 4, 3) };
    let error = search.run(Cpu::detect(), &mut |_, _| Ok(())).unwrap_err();
    assert!(matches!(error, Error::Usage { .. }) && error.to_string().contains("length penalty is NaN"));
    let mut fails = |_: &[Beam], _: &mut [f32]| Err(Error::invalid("out of cache"));
    let error = BeamSearch::new(2, 4, 3).run(Cpu::detect(), &mut fails).unwrap_err();
    assert_eq!(error.to_string(), "out of cache");
}

// ---- prompt lookup

#[test]
fn drafts_are_those_of_transformers() {
    let mut drafts = 0;
    for case in json::parse(LOOKUP).unwrap().elements().unwrap() {
        let (text, ends) = (tokens(case.get("text").unwrap()), tokens(case.get("ends").unwrap()));
        let (max_ngram, max_draft) = (number(case, "size") as usize, number(case, "draft") as usize);
        let draft = PromptLookup { max_ngram, max_draft }.draft(&text, &ends);
        assert_eq!(draft, tokens(case.get("proposed").unwrap()), "{case:?}");
        drafts += usize::from(!draft.is_empty());
    }
    assert!(drafts > 15, "{drafts}");
}

#[test]
fn no_text_no_room_no_draft() {
    let of = |max_ngram, max_draft| PromptLookup { max_ngram, max_draft };
    assert!(of(2, 10).draft(&[], &[]).is_empty());
    assert!(of(2, 10).draft(&[1], &[]).is_empty());
    assert!(of(0, 10).draft(&[1, 1, 1], &[]).is_empty());
    assert!(of(2, 0).draft(&[1, 1, 1], &[]).is_empty());
    assert_eq!(of(usize::MAX, usize::MAX).draft(&[1, 1, 1], &[]), [1]);
}

/// A model that goes on by a fixed rule, one by one and with drafts.
#[test]
fn drafted_text_is_the_text_one_by_one() {
    let next = |text: &[u32]| (text.iter().rev().take(3).sum::<u32>() * 7 + text.len() as u32 % 2) % 5;
    let mut slow = vec![1, 2, 3];
    while slow.len() < 300 {
        slow.push(next(&slow));
    }
    let (mut fast, mut passes) = (vec![1, 2, 3], 0);
    while fast.len() < 300 {
        let draft = PromptLookup { max_ngram: 4, max_draft: 6 }.draft(&fast, &[]).to_vec();
        let mut text = fast.clone();
        let mut choices = vec![next(&text)];
        for &token in &draft {
            text.push(token);
            choices.push(next(&text));
        }
        fast.extend_from_slice(accepted(&draft, &choices));
        passes += 1;
    }
    assert_eq!(fast[..300], slow);
    assert!(passes < 150, "{passes} passes for 297 tokens");
}

#[test]
#[should_panic(expected = "2 choices for a draft of 2")]
fn a_draft_without_its_last_choice_is_refused() {
    accepted(&[1, 2], &[1, 2]);
}

// ---- stop strings

/// The text in pieces: what is shown before it ends, and by which string.
fn stopped(stops: &[&str], pieces: &[&str]) -> (String, Option<usize>) {
    let (mut stop, mut shown) = (StopStrings::new(stops).unwrap(), String::new());
    for piece in pieces {
        let end = stop.push(piece, &mut shown);
        if end.is_some() {
            return (shown, end);
        }
        // What is held back begins a stop string, and nothing longer would.
        assert!(
            stop.held().is_empty() || stops.iter().any(|s| s.starts_with(stop.held())),
            "{:?}",
            stop.held()
        );
    }
    stop.finish(&mut shown);
    (shown, None)
}

/// The same by the definition: the first place at which a stop string is complete, there the longest.
fn defined(stops: &[&str], text: &str) -> (String, Option<usize>) {
    for end in (1..=text.len()).filter(|&e| text.is_char_boundary(e)) {
        let complete = (0..stops.len()).filter(|&i| text[..end].ends_with(stops[i]));
        if let Some(i) = complete.max_by_key(|&i| (stops[i].len(), std::cmp::Reverse(i))) {
            return (text[..end - stops[i].len()].into(), Some(i));
        }
    }
    (text.into(), None)
}

#[test]
fn the_end_is_by_definition_however_the_text_is_cut() {
    let mut random = Random::new(7);
    let letters = ["a", "b", "é", "→"];
    let mut ends = 0;
    for round in 0..3_000 {
        let word =
            |random: &mut Random, n| (0..n).map(|_| letters[random.below(2 + round % 3)]).collect::<String>();
        let stops: Vec<String> = (0..random.below(4))
            .map(|_| 1 + random.below(5))
            .collect::<Vec<_>>()
            .into_iter()
            .map(|n| word(&mut random, n))
            .collect();
        let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
        let n = random.below(30);
        let text = word(&mut random, n);
        let (mut pieces, mut rest) = (Vec::new(), &text[..]);
        while !rest.is_empty() {
            let mut cut = (1 + random.below(5)).min(rest.len());
            while !rest.is_char_boundary(cut) {
                cut += 1;
            }
            pieces.push(&rest[..cut]);
            rest = &rest[cut..];
        }
        let want = defined(&stops, &text);
        assert_eq!(stopped(&stops, &pieces), want, "{stops:?} in {pieces:?}");
        ends += usize::from(want.1.is_some());
    }
    assert!(ends > 500, "{ends}");
}

#[test]
fn only_what_may_begin_a_stop_string_waits() {
    let mut stop = StopStrings::new(&["</s>", "aab"]).unwrap();
    let mut shown = String::new();
    for (piece, so_far, held) in [
        ("one <", "one ", "<"),
        ("/", "one ", "</"),
        ("p>a", "one </p>", "a"),
        ("aaa", "one </p>aa", "aa"), // "aab" may still begin at the last two
        ("c", "one </p>aaaac", ""),
        ("</s", "one </p>aaaac", "</s"),
    ] {
        assert_eq!(stop.push(piece, &mut shown), None);
        assert_eq!((&shown[..], stop.held()), (so_far, held), "after {piece:?}");
    }
    assert_eq!(stop.push(">never shown", &mut shown), Some(0));
    assert_eq!(shown, "one </p>aaaac");
    // The next text begins anew.
    assert_eq!(stop.push("s>", &mut shown), None);
    assert_eq!(shown, "one </p>aaaacs>");
}

#[test]
fn a_hostile_text_takes_two_steps_a_byte() {
    // n bytes against a stop string of n/2 would be n²/4 comparisons, 10¹², without the automaton.
    let stop_string = "a".repeat(1_000_000) + "b";
    let text = "a".repeat(2_000_000);
    let (shown, end) = stopped(&[&stop_string], &[&text]);
    assert_eq!((shown.len(), end), (2_000_000, None));
}

#[test]
fn an_empty_stop_string_is_refused() {
    let error = StopStrings::new(&["x", ""]).unwrap_err();
    assert!(matches!(error, Error::Usage { .. }), "{error}");
    assert_eq!(stopped(&[], &["any", "thing"]), ("anything".into(), None));
}
