//! Positions: transformers' frequencies and tables, one table however it is made, both pairings, refusals.

mod common;

use common::{Random, assert_same, cpus};
use samebits::io::json::{self, Value};
use samebits::kernels::rope::Pairing;
use samebits::nn::position::{MAX_POSITION, sinusoidal_positional_encoding_into};
use samebits::nn::rotary::*;
use samebits::nn::{rotary_positional_embedding, sinusoidal_positional_encoding};

const ROTARY: &[u8] = include_bytes!("data/rope/rotary.json");
const SINUSOIDAL: &[u8] = include_bytes!("data/rope/sinusoidal.json");

fn cases(text: &'static [u8]) -> impl Iterator<Item = Value<'static>> {
    json::parse(text).unwrap().elements().unwrap()
}

fn number(case: Value, key: &str) -> f64 {
    case.get(key).unwrap().as_f64().unwrap()
}

fn numbers(case: Value, key: &str) -> Vec<f64> {
    case.get(key).unwrap().elements().unwrap().map(|v| v.as_f64().unwrap()).collect()
}

/// Eight hexadecimal digits each.
fn floats(case: Value, key: &str) -> Vec<f32> {
    let text = case.get(key).unwrap().as_str().unwrap().into_owned();
    text.split(' ').map(|bits| f32::from_bits(u32::from_str_radix(bits, 16).unwrap())).collect()
}

fn config(case: Value) -> RotaryConfig {
    let head_dim = number(case, "head_dim") as usize;
    RotaryConfig::from_json(case.get("config").unwrap(), None, head_dim, 10_000.0).unwrap()
}

/// Its name, and the embedding at its length.
fn embedding(case: Value) -> (String, RotaryEmbedding) {
    let name = case.get("name").unwrap().as_str().unwrap().into_owned();
    (name, RotaryEmbedding::new(&config(case), number(case, "length") as usize).unwrap())
}

#[track_caller]
fn assert_close(got: &[f32], want: &[f32], bound: f64, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
        let error = (f64::from(g) - f64::from(w)).abs();
        assert!(error <= bound, "{what}, pair {i}: {g} is {error:e} from {w}, bound {bound:e}");
    }
}

// ---- transformers and mpmath

#[test]
fn frequencies_are_those_of_transformers() {
    let mut seen = 0;
    for case in cases(ROTARY) {
        let (name, rotary) = embedding(case);
        let want = numbers(case, "frequencies");
        assert_eq!(rotary.inverse_frequencies().len(), want.len(), "{name}");
        for (i, (g, w)) in rotary.inverse_frequencies().iter().zip(&want).enumerate() {
            assert!((g / w - 1.0).abs() < 4e-15, "{name}, pair {i}: {g:e}, transformers has {w:e}");
        }
        let factor = number(case, "attention_factor");
        assert!((rotary.attention_factor() / factor - 1.0).abs() < 1e-15, "{name}: factor {factor}");
        seen += 1;
    }
    assert_eq!(seen, 19);
}

#[test]
fn tables_are_exact_at_every_position() {
    for case in cases(ROTARY) {
        let (name, rotary) = embedding(case);
        for row in case.get("table").unwrap().elements().unwrap() {
            let position = number(row, "position");
            let mut table = RotaryTable::new();
            table.fill(&rotary, &[position as u32]);
            // Two nearest floats of values that differ in the last bits of f64, at most.
            let bound = rotary.attention_factor() * (2f64.powi(-24) + 1e-10);
            let what = format!("{name}, position {position}");
            assert_close(table.rows().cos, &floats(row, "cos"), bound, &what);
            assert_close(table.rows().sin, &floats(row, "sin"), bound, &what);
        }
    }
}

#[test]
fn what_transformers_computes_in_single_precision() {
    for case in cases(ROTARY) {
        let (name, rotary) = embedding(case);
        for row in case.get("float32").unwrap().elements().unwrap() {
            let position = number(row, "position");
            let mut table = RotaryTable::new();
            table.fill(&rotary, &[position as u32]);
            // A frequency off by a few units, times the position: all of it transformers' own error.
            let bound = rotary.attention_factor() * (1.0 + 3.0 * position) * 2f64.powi(-23);
            let what = format!("{name}, position {position}");
            assert_close(table.rows().cos, &floats(row, "cos"), bound, &what);
            assert_close(table.rows().sin, &floats(row, "sin"), bound, &what);
        }
    }
}

#[test]
fn sinusoids_are_exact_to_position_2_to_the_24() {
    let mut odd_widths = 0;
    for case in cases(SINUSOIDAL) {
        let (dim, position) = (number(case, "dim") as usize, number(case, "position") as u32);
        let got = sinusoidal_positional_encoding(&[position], dim);
        let want = numbers(case, "row");
        assert_eq!(got.len(), want.len());
        for (i, (&g, w)) in got.iter().zip(&want).enumerate() {
            let error = (f64::from(g) - w).abs();
            let bound = 2f64.powi(-25) + 2f64.powi(-28);
            assert!(error <= bound, "({position}, {i} of {dim}): {g} is {error:e} from {w}");
        }
        odd_widths += dim % 2;
    }
    assert_eq!(odd_widths, 3 * 7);
}

#[test]
fn a_row_of_sinusoids_is_the_same_alone_and_among_others() {
    let positions = [5, 0, MAX_POSITION, 5, 77];
    for dim in [0, 1, 2, 9, 64] {
        let all = sinusoidal_positional_encoding(&positions, dim);
        for (i, &p) in positions.iter().enumerate() {
            assert_eq!(all[i * dim..][..dim], sinusoidal_positional_encoding(&[p], dim));
        }
    }
    assert!(sinusoidal_positional_encoding(&[], 8).is_empty());
}

#[test]
#[should_panic(expected = "position 16777217 is past 16777216")]
fn a_position_without_an_exact_phase_is_refused() {
    sinusoidal_positional_encoding(&[MAX_POSITION + 1], 2);
}

#[test]
#[should_panic(expected = "(2, 3) rows into 5 elements")]
fn a_buffer_of_another_size_is_refused() {
    sinusoidal_positional_encoding_into(&[0, 1], 3, &mut [0.0; 5]);
}

// ---- one table

#[test]
fn a_row_has_the_same_bits_however_the_table_is_made() {
    let case = cases(ROTARY).find(|c| c.get("name").unwrap().as_str().unwrap() == "yarn, mscale").unwrap();
    let (_, rotary) = embedding(case);
    let pairs = rotary.inverse_frequencies().len();
    let mut whole = RotaryTable::new();
    whole.grow(&rotary, 100);
    let mut steps = RotaryTable::new();
    for end in [1, 2, 3, 40, 7, 41, 100] {
        steps.grow(&rotary, end);
    }
    assert_eq!(steps.len(), 100);
    assert_same(steps.rows().cos, whole.rows().cos, "cos, grown");
    assert_same(steps.rows().sin, whole.rows().sin, "sin, grown");
    let mut some = RotaryTable::new();
    some.fill(&rotary, &[1, 2, 3]); // forgotten by the next
    let positions = [99, 0, 17, 17];
    some.fill(&rotary, &positions);
    assert_eq!(some.len(), 4);
    for (row, &p) in positions.iter().enumerate() {
        let at = p as usize * pairs;
        assert_same(&some.rows().cos[row * pairs..][..pairs], &whole.rows().cos[at..][..pairs], p);
        assert_same(&some.rows().sin[row * pairs..][..pairs], &whole.rows().sin[at..][..pairs], p);
    }
}

#[test]
fn one_call_and_the_embedding_agree_on_any_positions() {
    let positions = [3, 0, 1_000_000, 3];
    for cpu in cpus() {
        for pairing in [Pairing::Half, Pairing::Interleaved] {
            let x = Random::new(1).normal(4 * 3 * 10);
            let mut once = x.clone();
            rotary_positional_embedding(cpu, &mut once, &positions, 10, pairing, 500_000.0);
            let rotary = RotaryEmbedding::new(&RotaryConfig::new(10, 500_000.0, pairing), 0).unwrap();
            let mut table = RotaryTable::new();
            table.grow(&rotary, 4);
            for (token, row) in x.chunks(30).enumerate() {
                let mut row = row.to_vec();
                match positions[token] {
                    p if p < 4 => rotary.apply(cpu, &table, &[p], &mut row),
                    p => {
                        let mut far = RotaryTable::new();
                        far.fill(&rotary, &[p]);
                        rotary.apply(cpu, &far, &[0], &mut row);
                    }
                }
                assert_same(&once[token * 30..][..30], &row, format!("{pairing:?}, token {token}"));
            }
        }
    }
}

#[test]
fn dimensions_past_the_rotary_ones_stay() {
    let config = RotaryConfig { rotary_dim: 5, ..RotaryConfig::new(9, 10_000.0, Pairing::Half) };
    let rotary = RotaryEmbedding::new(&config, 0).unwrap();
    assert_eq!(rotary.rotary_dim(), 6); // rounded up, as transformers does
    let mut table = RotaryTable::new();
    table.grow(&rotary, 8);
    let x = Random::new(2).normal(2 * 9);
    let mut turned = x.clone();
    rotary.apply(cpus()[0], &table, &[7], &mut turned);
    for head in 0..2 {
        assert_ne!(turned[head * 9..][..6], x[head * 9..][..6]);
        assert_eq!(turned[head * 9 + 6..][..3], x[head * 9 + 6..][..3]);
    }
    // Nothing turns at all.
    let none = RotaryEmbedding::new(&RotaryConfig { rotary_dim: 0, ..config }, 0).unwrap();
    let mut table = RotaryTable::new();
    table.grow(&none, 8);
    let mut same = x.clone();
    none.apply(cpus()[0], &table, &[7], &mut same);
    assert_eq!(same, x);
}

#[test]
#[should_panic(expected = "18 elements for 2 tokens and heads of 4 dimensions")]
fn half_a_head_is_refused() {
    let rotary = RotaryEmbedding::new(&RotaryConfig::new(4, 10_000.0, Pairing::Half), 0).unwrap();
    let mut table = RotaryTable::new();
    table.grow(&rotary, 2);
    rotary.apply(cpus()[0], &table, &[0, 1], &mut [0.0; 18]);
}

#[test]
#[should_panic(expected = "16777218 positions of 16777217")]
fn a_table_ends_where_phases_do() {
    let rotary = RotaryEmbedding::new(&RotaryConfig::new(2, 10_000.0, Pairing::Half), 0).unwrap();
    RotaryTable::new().grow(&rotary, (1 << 24) + 2);
}

// ---- two pairings

#[test]
fn moved_rows_turn_to_the_same_bits_in_the_other_pairing() {
    for cpu in cpus() {
        for (head_dim, rotary_dim) in [(8, 8), (10, 6), (66, 64), (4, 2), (5, 0)] {
            let config =
                RotaryConfig { rotary_dim, ..RotaryConfig::new(head_dim, 10_000.0, Pairing::Interleaved) };
            let neighbours = RotaryEmbedding::new(&config, 0).unwrap();
            let halves = RotaryEmbedding::new(&RotaryConfig { pairing: Pairing::Half, ..config }, 0).unwrap();
            let mut table = RotaryTable::new();
            table.fill(&neighbours, &[12_345]);
            let heads = 3;
            let mut x = Random::new(3).normal(heads * head_dim); // what rows of weights make of one token
            let mut moved = x.clone();
            interleaved_to_half(&mut moved, heads, head_dim, rotary_dim);
            neighbours.apply(cpu, &table, &[0], &mut x);
            halves.apply(cpu, &table, &[0], &mut moved);
            half_to_interleaved(&mut moved, heads, head_dim, rotary_dim);
            assert_same(&moved, &x, format!("{rotary_dim} of {head_dim}"));
        }
    }
}

#[test]
fn rows_move_as_in_the_conversion_script_and_back() {
    for (heads, head_dim, k) in [(1, 2, 1), (2, 8, 3), (3, 10, 1), (2, 64, 5), (1, 6, 0)] {
        let rows: Vec<u32> = (0..(heads * head_dim * k) as u32).collect();
        let mut moved = rows.clone();
        interleaved_to_half(&mut moved, heads, head_dim, head_dim);
        // w.view(heads, head_dim / 2, 2, k).transpose(1, 2)
        let mut want = Vec::new();
        for head in 0..heads {
            for part in 0..2 {
                for pair in 0..head_dim / 2 {
                    let row = head * head_dim + 2 * pair + part;
                    want.extend_from_slice(&rows[row * k..][..k]);
                }
            }
        }
        assert_eq!(moved, want, "{heads} heads of {head_dim}");
        half_to_interleaved(&mut moved, heads, head_dim, head_dim);
        assert_eq!(moved, rows, "{heads} heads of {head_dim}");
    }
}

#[test]
#[should_panic(expected = "15 elements in 2 heads of 8 rows")]
fn rows_of_no_whole_head_are_refused() {
    interleaved_to_half(&mut [0.0; 15], 2, 8, 8);
}

// ---- the length

#[test]
fn only_two_scalings_read_the_length() {
    for case in cases(ROTARY) {
        let config = config(case);
        let at = |length| RotaryEmbedding::new(&config, length).unwrap();
        let reads = matches!(config.scaling, RopeScaling::DynamicNtk { .. } | RopeScaling::LongRope(_));
        assert_eq!(at(1) != at(1_000_000), reads, "{case:?}");
    }
}

#[test]
fn per_step_follows_the_rules_of_transformers() {
    let scaling = RopeScaling::DynamicNtk { factor: 2.0, max_positions: 64 };
    let config = RotaryConfig { scaling, ..RotaryConfig::new(32, 10_000.0, Pairing::Half) };
    let at = |length| RotaryEmbedding::new(&config, length).unwrap();
    let mut steps = PerStepRotary::new(config.clone()).unwrap();
    // Call lengths, and the length whose frequencies hold: growth, none on the way down, then a reset.
    for (length, holds) in
        [(10, 64), (64, 64), (65, 65), (200, 200), (100, 200), (64, 200), (63, 64), (70, 70)]
    {
        assert_eq!(*steps.at_length(length).unwrap(), at(holds), "call of {length}");
    }
    let case = cases(ROTARY).find(|c| c.get("name").unwrap().as_str().unwrap() == "longrope, long").unwrap();
    let config = self::config(case);
    let at = |length| RotaryEmbedding::new(&config, length).unwrap();
    let mut steps = PerStepRotary::new(config.clone()).unwrap();
    for (length, holds) in [(10, 1), (4_096, 1), (4_097, 5_000), (9_000, 5_000), (3, 1)] {
        assert_eq!(*steps.at_length(length).unwrap(), at(holds), "call of {length}");
    }
}
