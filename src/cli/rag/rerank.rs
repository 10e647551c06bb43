//! A second look at what was found.

use std::path::PathBuf;

use crate::cli::{Args, Failure, Flag, Takes};
use crate::rag::index::Settings;
use crate::rag::pipeline::RERANKED;
use crate::rag::{Reranker, rerank};
use crate::{Result, cpu};

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
}

impl Second {
    /// What `--rerank` names, if it is given.
    pub fn of(args: &Args, settings: &Settings) -> Result<Option<Second>, Failure> {
        let from = args.count("rerank-from", 1..=1 << 16)?;
        match (args.path("rerank"), from) {
            (None, None) => Ok(None),
            (None, Some(_)) => Err(Failure::usage("--rerank-from says of how many: it needs --rerank", None)),
            (Some(name), from) => Ok(Some(Second::open(name, from.unwrap_or(RERANKED), settings)?)),
        }
    }

    fn open(name: PathBuf, from: usize, settings: &Settings) -> Result<Second> {
        Ok(Second { reranker: rerank::open(&name, cpu::default()?, settings.analyzer)?, from })
    }
}
