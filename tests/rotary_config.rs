//! What is read from config.json about rotary positions, and what is refused there.

use samebits::io::json;
use samebits::kernels::rope::Pairing;
use samebits::nn::rotary::*;

fn read(text: &str) -> Result<RotaryConfig, samebits::Error> {
    RotaryConfig::from_json(json::parse(text.as_bytes()).unwrap(), None, 32, 10_000.0)
}

#[track_caller]
fn refused(text: &str, why: &str) {
    let error = read(text).expect_err(text).to_string();
    assert!(error.contains(why), "{text}\n  says {error:?}\n  not  {why:?}");
}

#[test]
fn without_a_word_heads_turn_whole() {
    for text in [
        "{}",
        r#"{"rope_scaling": null}"#,
        r#"{"rope_parameters": {}}"#,
        r#"{"rope_scaling": {"type": null}}"#,
    ] {
        assert_eq!(read(text).unwrap(), RotaryConfig::new(32, 10_000.0, Pairing::Half), "{text}");
    }
    let default =
        r#"{"rope_theta": 7, "partial_rotary_factor": 0.3, "rope_parameters": {"rope_type": "default"}}"#;
    let want = RotaryConfig { rotary_dim: 9, ..RotaryConfig::new(32, 7.0, Pairing::Half) };
    assert_eq!(read(default).unwrap(), want);
    let within = r#"{"rope_theta": 7, "rope_parameters": {"rope_theta": 8, "partial_rotary_factor": 0.5}}"#;
    let want = RotaryConfig { rotary_dim: 16, ..RotaryConfig::new(32, 8.0, Pairing::Half) };
    assert_eq!(read(within).unwrap(), want);
}

#[test]
fn an_unknown_type_is_refused_by_its_name() {
    refused(r#"{"rope_scaling": {"type": "mrope", "factor": 2}}"#, "rope type \"mrope\" is not known");
    refused(r#"{"rope_parameters": {"rope_type": "Yarn"}}"#, "rope type \"Yarn\" is not known");
    refused(r#"{"rope_scaling": {"rope_type": 3}}"#, "expected a string as rope_type, found a number");
    let long = "x".repeat(1 << 20);
    let error = read(&format!(r#"{{"rope_scaling": {{"type": "{long}"}}}}"#)).unwrap_err().to_string();
    assert!(error.len() < 300, "{} bytes of error", error.len());
}

#[test]
fn a_missing_or_odd_parameter_is_refused_by_its_name() {
    for (text, why) in [
        (r#"{"rope_scaling": {"type": "linear"}}"#, "rope type \"linear\" needs factor"),
        (
            r#"{"rope_scaling": {"type": "linear", "factor": "2"}}"#,
            "expected a number as factor, found a string",
        ),
        (
            r#"{"rope_scaling": {"type": "dynamic", "factor": 2}}"#,
            "\"dynamic\" needs max_position_embeddings",
        ),
        (r#"{"rope_scaling": {"type": "yarn", "factor": 2}}"#, "needs original_max_position_embeddings"),
        (
            r#"{"rope_scaling": {"type": "yarn", "original_max_position_embeddings": 9}}"#,
            "needs max_position_embeddings",
        ),
        (
            r#"{"max_position_embeddings": -1, "rope_scaling": {"type": "yarn"}}"#,
            "expected a count as max_position",
        ),
        (
            r#"{"max_position_embeddings": 9, "rope_scaling": {"type": "yarn", "factor": 2, "truncate": 1}}"#,
            "a boolean as truncate",
        ),
        (r#"{"max_position_embeddings": 9, "rope_scaling": {"type": "longrope"}}"#, "needs short_factor"),
        (
            r#"{"max_position_embeddings": 9, "rope_scaling": {"type": "longrope", "short_factor": [1, "a"]}}"#,
            "number as short_factor",
        ),
        (
            r#"{"max_position_embeddings": 9, "rope_scaling": {"type": "llama3", "factor": 8}}"#,
            "needs low_freq_factor",
        ),
        (r#"{"rope_scaling": [1]}"#, "expected an object, found an array"),
        (r#"{"partial_rotary_factor": 1.5}"#, "partial_rotary_factor is 1.5"),
        (r#"{"rope_theta": "10000"}"#, "expected a number as rope_theta"),
    ] {
        refused(text, why);
    }
}

#[test]
fn parameters_by_type_of_layer_need_one_to_be_named() {
    let text =
        br#"{"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}}"#;
    let config = json::parse(text).unwrap();
    let of = |layer| RotaryConfig::from_json(config, layer, 32, 1.0);
    let full = of(Some("full_attention")).unwrap();
    assert_eq!((full.theta, full.scaling), (1e6, RopeScaling::Linear { factor: 8.0 }));
    assert_eq!(of(Some("sliding_attention")).unwrap(), RotaryConfig::new(32, 1e4, Pairing::Half));
    for layer in [None, Some("other")] {
        let error = of(layer).unwrap_err().to_string();
        assert!(error.contains("by type of layer (\"full_attention\", …)"), "{error}");
    }
}

#[test]
fn the_first_phi3_files_mean_longrope() {
    for (kind, model) in [("su", "phi3"), ("su", "other"), ("yarn", "phi3")] {
        let text = format!(
            r#"{{"model_type": "{model}", "max_position_embeddings": 64, "original_max_position_embeddings": 16,
                "rope_scaling": {{"type": "{kind}", "short_factor": [1, 1], "long_factor": [2, 3.5]}}}}"#
        );
        let want = LongRope {
            short_factor: vec![1.0, 1.0],
            long_factor: vec![2.0, 3.5],
            original_max_positions: 16,
            factor: 4.0,
            attention_factor: None,
        };
        assert_eq!(read(&text).unwrap().scaling, RopeScaling::LongRope(want), "{kind} of {model}");
    }
}

#[test]
fn the_length_beside_the_scaling_wins() {
    let text = r#"{"max_position_embeddings": 64, "original_max_position_embeddings": 16,
        "rope_scaling": {"type": "yarn", "original_max_position_embeddings": 32, "beta_fast": 0, "mscale": null}}"#;
    assert_eq!(read(text).unwrap().scaling, RopeScaling::Yarn(Yarn::new(4.0, 16)));
}

/// Parameters without a meaning end in an error that names them, never in NaN or a panic.
#[test]
fn scalings_that_are_not_defined_are_refused() {
    let long = |short: Vec<f64>, long, original| {
        RopeScaling::LongRope(LongRope {
            short_factor: short,
            long_factor: long,
            original_max_positions: original,
            factor: 2.0,
            attention_factor: None,
        })
    };
    let llama = |factor, low, high, original| {
        RopeScaling::Llama3(Llama3 {
            factor,
            low_freq_factor: low,
            high_freq_factor: high,
            original_max_positions: original,
        })
    };
    let dynamic = |factor, max_positions| RopeScaling::DynamicNtk { factor, max_positions };
    let base = RotaryConfig::new(4, 10_000.0, Pairing::Half);
    for (scaling, why) in [
        (RopeScaling::Linear { factor: 0.0 }, "factor is 0"),
        (RopeScaling::Linear { factor: f64::NAN }, "factor is NaN"),
        (RopeScaling::Linear { factor: 1e-320 }, "frequency of pair 0 comes to inf"),
        (dynamic(-1.0, 9), "factor is -1"),
        (dynamic(2.0, 0), "max_position_embeddings is 0"),
        (dynamic(1e300, 1), "the stretched rope_theta is inf"),
        (RopeScaling::Yarn(Yarn::new(f64::INFINITY, 9)), "factor is inf"),
        (RopeScaling::Yarn(Yarn::new(2.0, 1)), "original_max_position_embeddings is 1"),
        (RopeScaling::Yarn(Yarn { beta_slow: -1.0, ..Yarn::new(2.0, 9) }), "beta_slow is -1"),
        (
            RopeScaling::Yarn(Yarn { attention_factor: Some(0.0), ..Yarn::new(2.0, 9) }),
            "attention_factor is 0",
        ),
        (
            RopeScaling::Yarn(Yarn { mscale: Some(1.0), mscale_all_dim: Some(-1e9), ..Yarn::new(2.0, 9) }),
            "attention_factor is -",
        ),
        (long(vec![1.0], vec![1.0, 1.0], 9), "short_factor has 1 numbers, expected 2"),
        (long(vec![1.0, 1.0], vec![1.0; 3], 9), "long_factor has 3 numbers"),
        (long(vec![1.0, 0.0], vec![1.0; 2], 9), "longrope's divisor is 0"),
        (long(vec![1.0; 2], vec![1.0; 2], 0), "original_max_position_embeddings is 0"),
        (llama(8.0, 4.0, 4.0, 9), "high_freq_factor is 4, expected more than 4"),
        (llama(8.0, 0.0, 4.0, 9), "low_freq_factor is 0"),
        (llama(8.0, 1.0, 4.0, 0), "original_max_position_embeddings is 0"),
        (RopeScaling::PerPair { divisors: vec![1.0] }, "rope_freqs has 1 numbers"),
        (RopeScaling::PerPair { divisors: vec![1.0, f64::NAN] }, "rope_freqs' divisor is NaN"),
    ] {
        let config = RotaryConfig { scaling, ..base.clone() };
        let length = if why.contains("stretched") { 1_000_000_000 } else { 1 };
        match RotaryEmbedding::new(&config, length) {
            Err(e) => assert!(e.to_string().contains(why), "{:?}: {e}, want {why}", config.scaling),
            Ok(rotary) => panic!("{:?} gives {rotary:?}", config.scaling),
        }
    }
    let short = RotaryConfig { scaling: dynamic(2.0, 9), ..RotaryConfig::new(2, 10_000.0, Pairing::Half) };
    assert!(
        RotaryEmbedding::new(&short, 9)
            .unwrap_err()
            .to_string()
            .contains("dynamic rope scaling of 2 dimensions")
    );
    let flat = RotaryConfig { scaling: RopeScaling::Yarn(Yarn::new(2.0, 9)), theta: 1.0, ..base.clone() };
    assert!(
        RotaryEmbedding::new(&flat, 9)
            .unwrap_err()
            .to_string()
            .contains("rope_theta is 1, yarn expects more")
    );
    let odd = RotaryConfig::new(5, 10_000.0, Pairing::Half);
    assert!(
        RotaryEmbedding::new(&odd, 9)
            .unwrap_err()
            .to_string()
            .contains("5 rotary dimensions take 6, a head has 5")
    );
    let none = RotaryConfig { theta: 0.0, ..base };
    assert!(RotaryEmbedding::new(&none, 9).unwrap_err().to_string().contains("rope_theta is 0"));
}

#[test]
fn divisors_of_gguf_are_llama3_s() {
    // llama.cpp's converter stores factor, 1 or the blend, one a pair; here from transformers' formula.
    let llama =
        Llama3 { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_max_positions: 8_192 };
    let base = RotaryConfig::new(64, 500_000.0, Pairing::Half);
    let plain = RotaryEmbedding::new(&base, 0).unwrap();
    let scaled = RotaryConfig { scaling: RopeScaling::Llama3(llama), ..base.clone() };
    let scaled = RotaryEmbedding::new(&scaled, 0).unwrap();
    let pairs = plain.inverse_frequencies().iter().zip(scaled.inverse_frequencies());
    let divisors: Vec<f64> = pairs.map(|(p, s)| p / s).collect();
    assert_eq!((divisors[0], divisors[31]), (1.0, 8.0));
    let given = RotaryConfig { scaling: RopeScaling::PerPair { divisors }, ..base };
    let given = RotaryEmbedding::new(&given, 0).unwrap();
    for (g, s) in given.inverse_frequencies().iter().zip(scaled.inverse_frequencies()) {
        assert!((g / s - 1.0).abs() < 1e-15);
    }
}
