//! What configurations say, and what is refused.

use samebits::peft::AdapterConfig;
use samebits::peft::config::{LoraConfig, Method, Pattern};

fn parse(fields: &str) -> Result<AdapterConfig, samebits::Error> {
    AdapterConfig::parse(format!(r#"{{"peft_type": "LORA", {fields}}}"#).as_bytes())
}

fn lora(fields: &str) -> LoraConfig {
    match parse(fields).unwrap().method() {
        Method::Lora(lora) => lora.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn defaults_are_those_of_peft() {
    let config = lora(r#""target_modules": ["q_proj"]"#);
    let options = config.options_of("x.q_proj");
    assert_eq!((options.rank, options.alpha, options.dropout), (8, 8.0, 0.0));
    assert!(!config.dora && config.changed_base.is_none());
}

#[test]
fn refused_by_name() {
    for (fields, want) in [
        (r#""target_modules": ["q"], "bias": "all""#, "bias is \"all\", which is not supported"),
        (r#""target_modules": ["q"], "lora_bias": true"#, "lora_bias is true"),
        (r#""target_modules": ["q"], "modules_to_save": ["head"]"#, "modules_to_save is [\"head\"]"),
        (r#""target_modules": ["q"], "layer_replication": [[0, 4]]"#, "layer_replication is [[0, 4]]"),
        (r#""target_modules": ["q"], "use_qalora": true"#, "use_qalora is true"),
        (r#""target_modules": ["q"], "init_lora_weights": "new""#, "init_lora_weights is \"new\""),
        (r#""target_modules": "(?<x>q)""#, "which is not supported"),
        (r#""target_modules": ["q"], "r": 0"#, "r is 0"),
        (r#""target_modules": ["q"], "r": -1"#, "expected a whole number for r"),
        (r#""target_modules": ["q"], "lora_dropout": 1.0"#, "lora_dropout is 1"),
        (r#""target_modules": ["q"], "rank_pattern": {"q": 1.5}"#, "rank_pattern \"q\" is 1.5"),
        (r#""target_modules": ["q"], "alpha_pattern": {"q": 0}"#, "expected a positive number"),
        (r#""target_modules": [1]"#, "expected names for target_modules"),
        (r#""r": 4"#, "no \"target_modules\""),
    ] {
        let error = parse(fields).unwrap_err().to_string();
        assert!(error.contains(want), "{fields}: {error:?}, want {want:?}");
    }
    for (text, want) in [
        ("[]", "expected an object"),
        ("{}", "no \"peft_type\""),
        (r#"{"peft_type": "VERA"}"#, "peft_type \"VERA\" is not supported"),
        (r#"{"peft_type": "PREFIX_TUNING", "num_virtual_tokens": 2}"#, "no \"num_attention_heads\""),
    ] {
        let error = AdapterConfig::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(want), "{text}: {error:?}");
    }
    let off =
        r#""target_modules": ["q"], "lora_bias": false, "modules_to_save": null, "layer_replication": []"#;
    assert!(parse(off).is_ok());
}

#[test]
fn fields_are_kept_as_they_stand() {
    let text =
        "{\n  \"peft_type\": \"LORA\",\n  \"target_modules\": [\"q\"],\n  \"other\": {\"a\":  1.50}\n}";
    let config = AdapterConfig::parse(text.as_bytes()).unwrap();
    assert_eq!(config.to_json(), text);
    let changed = config.with_field("r", "4").unwrap();
    assert_eq!(changed.field("other"), Some("{\"a\":  1.50}"));
    assert!(matches!(changed.method(), Method::Lora(lora) if lora.options.rank == 4));
    assert!(config.with_field("r", "0").is_err() && config.with_field("r", "{").is_err());
}

#[test]
fn which_modules() {
    let by_end = lora(r#""target_modules": ["q_proj", "model.head"], "exclude_modules": ["1.q_proj"]"#);
    for (module, want) in [
        ("q_proj", true),
        ("model.layers.0.q_proj", true),
        ("model.layers.1.q_proj", false),
        ("model.layers.0.xq_proj", false),
        ("model.head", true),
        ("other.model.head", true),
        ("head", false),
    ] {
        assert_eq!(by_end.contains(module), want, "{module}");
    }
    assert!(lora(r#""target_modules": "all-linear""#).contains("anything"));

    let in_layers = r#""target_modules": ["q", "model.head.q"], "layers_to_transform": [1, 12]"#;
    for (fields, module, want) in [
        ("", "model.layers.1.q", true),
        ("", "model.layers.12.attn.q", true),
        ("", "model.layers.2.q", false),
        ("", "layers.1.q", false),  // as in peft: something must stand before
        ("", "model.head.q", true), // named in full
        (r#", "layers_pattern": "h""#, "model.layers.1.q", false),
        (r#", "layers_pattern": ["h", "layers"]"#, "model.layers.1.q", true),
    ] {
        assert_eq!(lora(&format!("{in_layers}{fields}")).contains(module), want, "{module} {fields}");
    }

    let patterns = lora(
        r#""target_modules": ["q", "k"], "r": 8, "lora_alpha": 16,
           "rank_pattern": {"layers.1.q": 2, "q": 4}, "alpha_pattern": {"k": 1.5}"#,
    );
    for (module, rank, alpha) in [
        ("model.layers.1.q", 2, 16.0),
        ("model.layers.11.q", 4, 16.0),
        ("q", 4, 16.0),
        ("model.layers.1.k", 8, 1.5),
        ("model.layers.1.kk", 8, 16.0),
    ] {
        let options = patterns.options_of(module);
        assert_eq!((options.rank, options.alpha), (rank, alpha), "{module}");
    }
}

#[test]
fn patterns() {
    for (pattern, name, want) in [
        (r".*\.(q|v)_proj", "model.layers.0.q_proj", true),
        (r".*\.(q|v)_proj", "q_proj", false),
        (r".*(q|v)_proj", "q_proj", true),
        (r"model\.layers\.\d+\.mlp\.(up|down)_proj", "model.layers.17.mlp.up_proj", true),
        (r"model\.layers\.\d+\.mlp\.(up|down)_proj", "model.layers.x.mlp.up_proj", false),
        (r"a.c", "abc", true),
        (r"a\.c", "abc", false),
        (r"(a|b(c|d)).+", "bdx", true),
        (r"(a|b(c|d)).+", "bd", false),
        (r"é.*", "éa", true),
        ("", "", true),
        ("", "a", false),
    ] {
        assert_eq!(Pattern::new(pattern).unwrap().matches(name), want, "{pattern} on {name}");
    }
    for pattern in ["a*", "a?", "(a", "a)", "[ab]", "^a", "a$", r"\w", "a{2}", "(a|b)*", "(?!a)"] {
        assert!(Pattern::new(pattern).is_err(), "{pattern}");
    }
    let many = "(a|b)".repeat(10);
    assert!(Pattern::new(&many).unwrap_err().to_string().contains("too many alternatives"));
}
