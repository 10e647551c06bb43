//! A second look at what was found.

use crate::cli::{Args, Failure, Flag, Takes};
use crate::cpu;
use crate::nn::Arithmetic;
use crate::rag::index::Settings;
use crate::rag::pipeline::RERANKED;
use crate::rag::{Reranker, rerank};

/// Flags of all that search.
pub const RERANK: Flag = Flag {
    name: "rerank",
    takes: Takes::One("DIR"),
    help: "ranks passages again: a folder of a cross-encoder or encoder, or `lexical`",
};
pub const RERANK_FROM: Flag = Flag {
    name: "rerank-from",
    takes: Takes::One("N"),
    help: "passages that it looks at, to keep k; 50 unless given",
};

/// A reranker, and of how many passages it chooses.
pub struct Second {
    pub reranker: Box<dyn Reranker>,
    pub from: usize,
    /// What the reranker computes in.
    pub arithmetic: Arithmetic,
}

impl Second {
    /// What `--rerank` names, if it is given.
    pub fn of(args: &Args, settings: &Settings, arithmetic: Arithmetic) -> Result<Option<Second>, Failure> {
        let from = args.count("rerank-from", 1..=1 << 16)?;
        match (args.path("rerank"), from) {
            (None, None) => Ok(None),
            (None, Some(_)) => Err(Failure::usage("--rerank-from says of how many: it needs --rerank", None)),
            (Some(name), from) => {
                let reranker = rerank::open_in(&name, cpu::default()?, settings.analyzer, arithmetic)?;
                Ok(Some(Second { reranker, from: from.unwrap_or(RERANKED), arithmetic }))
            }
        }
    }
}
