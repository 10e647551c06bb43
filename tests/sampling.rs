//! Sampling: transformers' processors, the generator's known answers, order of ties, refusals.

mod common;

use common::{Random, cpus};
use samebits::io::json::{self, Value};
use samebits::model::sampling::{Candidates, Draw, Penalties, Sampler, Settings, Stage};
use samebits::random::Philox;
use samebits::{Cpu, Error};

const REFERENCE: &[u8] = include_bytes!("data/sampling.json");

fn list<T>(case: Value, key: &str, read: impl Fn(Value) -> T) -> Vec<T> {
    case.get(key).unwrap().elements().unwrap().map(read).collect()
}

fn stage(value: Value) -> Stage {
    let mut parts = value.elements().unwrap();
    let name = parts.next().unwrap().as_str().unwrap().into_owned();
    let x = parts.next().unwrap().as_f64().unwrap();
    match name.as_str() {
        "temperature" => Stage::Temperature(x as f32),
        "top_k" => Stage::TopK(x as usize),
        "top_p" => Stage::TopP(x as f32),
        "min_p" => Stage::MinP(x as f32),
        "typical" => Stage::Typical(x as f32),
        "repetition" => Stage::Penalties(Penalties {
            last_n: usize::MAX,
            repeat: x as f32,
            frequency: 0.0,
            presence: 0.0,
        }),
        other => panic!("{other}"),
    }
}

/// The tokens that `stages` leave of `logits`, and their probabilities.
#[track_caller]
fn left(cpu: Cpu, stages: &[Stage], logits: &[f32], context: &[u32]) -> (Vec<u32>, Vec<f32>) {
    let draw = Draw { logits, context, position: 0 };
    let mut memory = Candidates::new();
    let sampler = Sampler::of_stages(stages.to_vec(), 0).unwrap();
    let (tokens, p) = sampler.distribution(cpu, &draw, &mut memory).unwrap();
    (tokens.to_vec(), p.to_vec())
}

fn kept(stages: &[Stage], logits: &[f32]) -> Vec<u32> {
    left(Cpu::detect(), stages, logits, &[]).0
}

// ---- transformers

#[test]
fn what_transformers_keeps_with_its_probabilities() {
    let mut seen = 0;
    for case in json::parse(REFERENCE).unwrap().elements().unwrap() {
        let stages = list(case, "stages", stage);
        let context = list(case, "context", |v| v.as_u64().unwrap() as u32);
        let tokens = list(case, "kept", |v| v.as_u64().unwrap() as u32);
        let text = case.get("logits").unwrap().as_str().unwrap().into_owned();
        let bits = text.split(' ').map(|w| u32::from_str_radix(w, 16).unwrap());
        let logits: Vec<f32> = bits.map(f32::from_bits).collect();
        for cpu in cpus() {
            let (got, p) = left(cpu, &stages, &logits, &context);
            assert_eq!(got, tokens, "{stages:?}");
            for (p, want) in p.iter().zip(list(case, "probabilities", |v| v.as_f64().unwrap())) {
                assert!((f64::from(*p) - want).abs() < 1e-6, "{stages:?}: {p}, transformers has {want}");
            }
        }
        seen += 1;
    }
    assert_eq!(seen, 3 * 19);
}

// ---- each stage by hand

/// Logits whose softmax is nearly (0.5, 0.3, 0.15, 0.05), in another order.
fn four() -> [f32; 4] {
    [0.15f32.ln(), 0.5f32.ln(), 0.05f32.ln(), 0.3f32.ln()]
}

#[test]
fn the_token_that_crosses_the_mass_is_kept() {
    assert_eq!(kept(&[Stage::TopP(0.0)], &four()), [1]);
    assert_eq!(kept(&[Stage::TopP(0.49)], &four()), [1]);
    assert_eq!(kept(&[Stage::TopP(0.51)], &four()), [1, 3]);
    assert_eq!(kept(&[Stage::TopP(0.94)], &four()), [1, 3, 0]);
    assert_eq!(kept(&[Stage::TopP(0.96)], &four()), [1, 3, 0, 2]);
    assert_eq!(kept(&[Stage::TopP(1.0)], &four()), [1, 3, 0, 2]);
}

#[test]
fn min_p_is_a_share_of_the_likeliest() {
    assert_eq!(kept(&[Stage::MinP(0.09)], &four()), [1, 3, 0, 2]);
    assert_eq!(kept(&[Stage::MinP(0.11)], &four()), [1, 3, 0]);
    assert_eq!(kept(&[Stage::MinP(0.61)], &four()), [1]);
    assert_eq!(kept(&[Stage::MinP(1.0)], &[2.0, 2.0, 1.0]), [0, 1]); // equals share the top
}

#[test]
fn typical_may_drop_the_likeliest() {
    // Entropy 1.142: −ln p is 0.693, 1.204, 1.897, 2.996; 0.3 is the most typical, then 0.5.
    assert_eq!(kept(&[Stage::Typical(0.2)], &four()), [3]);
    assert_eq!(kept(&[Stage::Typical(0.31)], &four()), [1, 3]);
    assert_eq!(kept(&[Stage::Typical(0.81)], &four()), [1, 3, 0]);
}

#[test]
fn each_stage_works_on_what_the_one_before_left() {
    // Of (0.5, 0.3) the first is 0.625: enough for 0.6 only after the cut.
    assert_eq!(kept(&[Stage::TopK(2), Stage::TopP(0.6)], &four()), [1]);
    assert_eq!(kept(&[Stage::TopP(0.6), Stage::TopK(2)], &four()), [1, 3]);
}

#[test]
fn penalties_count_the_last_tokens_alone() {
    let logits = [2.0, -1.0, 0.0, 3.0];
    let penalties = |last_n, repeat, frequency, presence| {
        let stages = [Stage::Penalties(Penalties { last_n, repeat, frequency, presence })];
        let (tokens, p) = left(Cpu::detect(), &stages, &logits, &[3, 0, 1, 0]);
        // Logits up to a constant: from token 2, which never came and stays at 0.
        let of = |t: u32| p[tokens.iter().position(|&x| x == t).unwrap()];
        [0, 1, 2, 3].map(|t| (100.0 * (of(t) / of(2)).ln()).round() / 100.0)
    };
    assert_eq!(penalties(0, 2.0, 1.0, 1.0), logits);
    assert_eq!(penalties(64, 2.0, 0.0, 0.0), [1.0, -2.0, 0.0, 1.5]);
    assert_eq!(penalties(3, 2.0, 0.0, 0.0), [1.0, -2.0, 0.0, 3.0]);
    assert_eq!(penalties(64, 1.0, 0.5, 0.0), [1.0, -1.5, 0.0, 2.5]);
    assert_eq!(penalties(64, 1.0, 0.0, 0.25), [1.75, -1.25, 0.0, 2.75]);
    assert_eq!(penalties(64, 2.0, 0.5, 0.25), [-0.25, -2.75, 0.0, 0.75]);
    assert_eq!(penalties(1, 1.0, -1.0, 0.0), [3.0, -1.0, 0.0, 3.0]);
}

#[test]
fn bias_adds_and_bans() {
    let bias = Stage::LogitBias(vec![(1, f32::NEG_INFINITY), (2, 5.0), (2, 0.5)]);
    let (tokens, p) = left(Cpu::detect(), &[bias, Stage::TopK(0)], &four(), &[]);
    assert_eq!(tokens, [2, 3, 0, 1]);
    assert_eq!(p[3], 0.0);
    let banned = [Stage::LogitBias(vec![(1, f32::NEG_INFINITY)]), Stage::Temperature(0.0)];
    assert_eq!(kept(&banned, &four()), [3]);
}

#[test]
fn a_token_that_cannot_come_is_never_drawn() {
    let mut logits = vec![f32::NEG_INFINITY; 50];
    logits[17] = -3e38;
    let mut memory = Candidates::new();
    for temperature in [1e-45, 0.0, 1.0, 3e38] {
        let sampler = Sampler::of_stages(vec![Stage::Temperature(temperature)], 1).unwrap();
        for position in 0..50 {
            let draw = Draw { logits: &logits, context: &[], position };
            assert_eq!(sampler.sample(Cpu::detect(), &draw, &mut memory).unwrap(), 17);
        }
    }
}

#[test]
fn a_tiny_temperature_comes_to_the_largest() {
    let logits = [1.0, 3.0, 2.999];
    assert_eq!(left(Cpu::detect(), &[Stage::Temperature(1e-44)], &logits, &[]).1, [1.0, 0.0, 0.0]);
}

// ---- ties and order

#[test]
fn equals_go_to_the_lower_id_in_every_way_of_ranking() {
    // −0 and 0 are equal. 4 of 64 goes through the heap, 40 of 64 through the sort.
    let logits: Vec<f32> = (0..64).map(|i| [0.0, -0.0, 1.0, -1.0][i % 4]).collect();
    let mut want: Vec<u32> = (0..64).collect();
    want.sort_by(|&a, &b| logits[b as usize].partial_cmp(&logits[a as usize]).unwrap());
    for cpu in cpus() {
        for k in [1, 2, 4, 7, 8, 9, 40, 64, 1_000] {
            let (tokens, _) = left(cpu, &[Stage::TopK(k)], &logits, &[]);
            assert_eq!(tokens, want[..k.min(64)], "{k}");
        }
        let draw = Draw { logits: &logits, context: &[], position: 0 };
        assert_eq!(Sampler::greedy().sample(cpu, &draw, &mut Candidates::new()).unwrap(), 2);
    }
}

#[test]
fn ranking_is_by_value_over_the_whole_range() {
    let logits = [-1e-45, f32::MIN, 1e-45, 3.0, f32::NEG_INFINITY, -3.0, f32::MAX, 0.0, f32::MIN_POSITIVE];
    assert_eq!(kept(&[Stage::TopK(0)], &logits), [6, 3, 8, 2, 7, 0, 5, 1, 4]);
}

#[test]
fn memory_carries_nothing_over() {
    let mut random = Random::new(8);
    let mut memory = Candidates::new();
    let sampler = Sampler::new(&Settings { typical_p: 0.8, top_k: 0, ..Settings::default() }, 3).unwrap();
    for n in [300, 5, 1, 77, 4_000] {
        let logits = random.normal(n);
        let draw = Draw { logits: &logits, context: &[], position: n as u64 };
        let reused = sampler.distribution(Cpu::detect(), &draw, &mut memory).unwrap();
        let mut fresh = Candidates::new();
        assert_eq!(reused, sampler.distribution(Cpu::detect(), &draw, &mut fresh).unwrap());
    }
}

// ---- chance

#[test]
fn philox_gives_the_known_answers_of_random123() {
    for (counter, seed, block) in [
        ([0; 4], 0, [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
        ([u32::MAX; 4], u64::MAX, [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
        (
            [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
            0x299f_31d0_a409_3822,
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
        ),
    ] {
        assert_eq!(Philox::new(seed).block(counter), block);
    }
    // 53 bits of the first two words, the second the higher.
    let bits = (0xe169_c58d_u64 << 32 | 0x6627_e8d5) >> 11;
    assert_eq!(Philox::new(0).uniform(0, 0), bits as f64 / 9_007_199_254_740_992.0);
}

#[test]
fn a_draw_is_the_place_in_the_cumulated_probabilities() {
    let logits = four();
    let sampler = Sampler::of_stages(vec![], 11).unwrap();
    let mut counts = [0; 4];
    for position in 0..4_000 {
        let u = Philox::new(11).uniform(position, 0);
        // Ranked: token 1 to 0.5, token 3 to 0.8, token 0 to 0.95, token 2.
        let want = [(0.5, 1), (0.8, 3), (0.95, 0), (1.0, 2)].into_iter().find(|(end, _)| u < *end).unwrap().1;
        let draw = Draw { logits: &logits, context: &[], position };
        let token = sampler.sample(Cpu::detect(), &draw, &mut Candidates::new()).unwrap();
        assert_eq!(token, want, "u = {u}");
        counts[token as usize] += 1;
    }
    assert!(counts.iter().all(|&n| n > 100), "{counts:?}");
}

#[test]
fn every_seed_and_position_draws_for_itself() {
    let logits = vec![0.0; 1_000];
    let draw = |seed, position| {
        let sampler = Sampler::of_stages(vec![], seed).unwrap();
        sampler.sample(
            Cpu::detect(),
            &Draw { logits: &logits, context: &[], position },
            &mut Candidates::new(),
        )
    };
    let text = |seed| (0..40).map(|p| draw(seed, p).unwrap()).collect::<Vec<_>>();
    assert_eq!(text(1), text(1));
    assert_ne!(text(1), text(2));
    assert_ne!(text(1), text(1 << 32 | 1));
    assert_ne!(draw(1, 5).unwrap(), draw(1, 5 << 32).unwrap());
}

// ---- settings and refusals

#[test]
fn defaults_and_order_are_those_of_llama_cpp() {
    let neutral = Penalties { last_n: 64, repeat: 1.0, frequency: 0.0, presence: 0.0 };
    let want = [
        Stage::LogitBias(vec![]),
        Stage::Penalties(neutral),
        Stage::TopK(40),
        Stage::Typical(1.0),
        Stage::TopP(0.95),
        Stage::MinP(0.05),
        Stage::Temperature(0.8),
    ];
    assert_eq!(Settings::default().stages(), want);
    let greedy = Settings { temperature: 0.0, ..Settings::default() }.stages();
    assert_eq!(greedy[1..], [Stage::Penalties(neutral), Stage::Temperature(0.0)]);
}

#[test]
fn a_stage_out_of_range_or_place_is_refused_by_its_name() {
    let penalties = Penalties { last_n: 64, repeat: 1.0, frequency: 0.0, presence: 0.0 };
    for (stages, why) in [
        (vec![Stage::Temperature(-0.5)], "temperature is -0.5, expected 0 or more"),
        (vec![Stage::Temperature(f32::NAN)], "temperature is NaN"),
        (vec![Stage::Temperature(f32::INFINITY)], "temperature is inf"),
        (vec![Stage::TopP(1.5)], "top-p is 1.5, expected 0 to 1"),
        (vec![Stage::TopP(f32::NAN)], "top-p is NaN"),
        (vec![Stage::MinP(-1.0)], "min-p is -1"),
        (vec![Stage::Typical(0.0)], "typical-p is 0, expected above 0, at most 1"),
        (vec![Stage::Penalties(Penalties { repeat: 0.0, ..penalties })], "repeat penalty is 0"),
        (
            vec![Stage::Penalties(Penalties { frequency: f32::INFINITY, ..penalties })],
            "frequency penalty is inf",
        ),
        (vec![Stage::Penalties(Penalties { presence: f32::NAN, ..penalties })], "presence penalty is NaN"),
        (vec![Stage::LogitBias(vec![(7, f32::NAN)])], "logit bias of token 7 is NaN"),
        (vec![Stage::TopK(3), Stage::LogitBias(vec![])], "logit bias after top-k"),
        (vec![Stage::Temperature(0.0), Stage::Penalties(penalties)], "penalties after temperature 0"),
    ] {
        let error = Sampler::of_stages(stages, 0).unwrap_err();
        assert!(matches!(error, Error::Usage { .. }));
        assert!(error.to_string().contains(why), "{error}, want {why}");
    }
}

#[test]
fn logits_without_a_choice_are_errors_that_name_the_position() {
    let inf = f32::NEG_INFINITY;
    let stage = |s| Sampler::of_stages(vec![s], 0).unwrap();
    let all = [
        Sampler::new(&Settings::default(), 0).unwrap(),
        Sampler::greedy(),
        stage(Stage::Typical(0.5)),
        stage(Stage::TopP(0.5)),
        stage(Stage::MinP(0.5)),
        stage(Stage::Temperature(2.0)),
    ];
    let position = 12;
    for sampler in all {
        for (logits, why) in [
            (
                &[0.0, 1.0, f32::NAN][..],
                "logits at position 12: element 2 is NaN, expected a number below infinity",
            ),
            (&[0.0, f32::INFINITY], "logits at position 12: element 1 is inf"),
            (&[inf, inf], "logits at position 12: every token has logit −∞"),
            (&[], "logits at position 12: every token"),
        ] {
            let draw = Draw { logits, context: &[], position };
            let error = sampler.sample(Cpu::detect(), &draw, &mut Candidates::new()).unwrap_err().to_string();
            assert!(error.starts_with(why), "{error}, want {why}");
        }
    }
    let fails = |settings: &Settings, logits: &[f32]| {
        let draw = Draw { logits, context: &[0, 9, 0], position };
        let sampler = Sampler::new(settings, 0).unwrap();
        sampler.sample(Cpu::detect(), &draw, &mut Candidates::new()).unwrap_err().to_string()
    };
    let penalised = Settings { repeat_penalty: 0.5, ..Settings::default() };
    let error = fails(&penalised, &[1.0; 9]);
    assert_eq!(error, "context: element 1 is 9, expected a token of the vocabulary");
    let error = fails(&penalised, &[f32::MAX; 10]);
    assert!(error.contains("position 12: bias or penalties drive a logit to infinity"), "{error}");
    let biased = Settings { logit_bias: vec![(2, 1.0), (10, 1.0)], ..Settings::default() };
    assert_eq!(fails(&biased, &[1.0; 10]), "logit bias: element 1 is 10, expected a token of the vocabulary");
}
