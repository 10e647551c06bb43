//! `--rank-pattern` and `--alpha-pattern`: what some modules have otherwise.

use crate::cli::{Args, Failure};
use crate::io::json::Writer;
use crate::peft::config::AdapterConfig;

/// The configuration with the patterns that the flags say.
pub fn with_patterns(args: &Args, config: AdapterConfig) -> Result<AdapterConfig, Failure> {
    let ranks = pattern(args, "rank-pattern", |x| x.parse().is_ok_and(|r| (1..=1usize << 16).contains(&r)))?;
    let alphas = pattern(args, "alpha-pattern", |x| x.parse().is_ok_and(|a| (1e-9..=1e9f64).contains(&a)))?;
    let mut config = config;
    for (field, text) in [("rank_pattern", ranks), ("alpha_pattern", alphas)] {
        if let Some(text) = text {
            config = config.with_field(field, &text)?;
        }
    }
    Ok(config)
}

/// The object of a flag's `NAME=X`, each name once; `None` where the flag is not there.
fn pattern(args: &Args, flag: &str, fits: impl Fn(&str) -> bool) -> Result<Option<String>, Failure> {
    let given: Vec<String> = args.all(flag).map(|text| text.to_string_lossy().into_owned()).collect();
    let mut pairs: Vec<(&str, &str)> = Vec::new();
    for text in &given {
        let pair = text.rsplit_once('=').filter(|(name, x)| !name.is_empty() && fits(x));
        let pair = pair.ok_or_else(|| Failure::usage(format!("--{flag}: {text:?} is not NAME=X"), None))?;
        if pairs.iter().any(|(name, _)| *name == pair.0) {
            return Err(Failure::usage(format!("--{flag}: {:?} is given twice", pair.0), None));
        }
        pairs.push(pair);
    }
    let mut w = Writer::compact();
    w.object(|w| pairs.iter().for_each(|(name, x)| w.key(name).raw(x)));
    Ok((!pairs.is_empty()).then(|| w.finish()))
}
