//! Commands over documents: what `index`, `search`, `ask` and their kin have in common.

mod api;
pub mod ask;
pub mod eval;
pub mod index;
mod llm;
mod rerank;
pub mod search;
pub mod serve;

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::{Args, Console, Failure, Flag, Progress, Takes};
use crate::io::bytes::Access;
use crate::nn::Arithmetic;
use crate::rag::embed::{Options, open_or_inside};
use crate::rag::index::{Builder, Mode, Settings};
use crate::rag::{EmbeddingModel, Filter, Index};
use crate::run::Run;
use crate::{Error, cpu};

/// Flags of all that search.
const K: Flag = Flag { name: "k", takes: Takes::One("N"), help: "chunks; 10 unless given" };
const MODE: Flag = Flag {
    name: "mode",
    takes: Takes::One("M"),
    help: "dense, lexical or hybrid; hybrid of an index with vectors unless given",
};
const FILTER: Flag =
    Flag { name: "filter", takes: Takes::One("COND"), help: "documents that count: see below" };
const MODEL: Flag = Flag {
    name: "model",
    takes: Takes::One("DIR"),
    help: "the embedding model; the one of the index unless given",
};
const NEW_MODEL: Flag = Flag {
    name: "model",
    takes: Takes::One("DIR"),
    help: "a folder of an embedding model; else the table inside",
};
const EMBEDDER: Flag = Flag { name: "embedder", ..MODEL };
const RESIDENT: Flag = Flag {
    name: "resident",
    takes: Takes::Nothing,
    help: "read the index into memory instead of mapping it",
};
const THREADS: Flag = Flag { name: "threads", takes: Takes::One("N"), help: "threads; all unless given" };
const COMPUTE_BESIDE: Flag = Flag {
    name: "compute",
    takes: Takes::One("CLASS"),
    help: "products in f32, bf16 or int8, but the index's own",
};
const JSON: Flag = Flag { name: "json", takes: Takes::Nothing, help: "the same as one JSON object" };
const ATTENTION_BESIDE: Flag = Flag {
    name: "attention",
    takes: Takes::One("CLASS"),
    help: "attention's products in f32 or bf16, but the index's own",
};

/// One of some by its name.
fn choice<T: Copy>(args: &Args, flag: &str, all: &[(&str, T)]) -> Result<Option<T>, Failure> {
    let Some(name) = args.text(flag)? else { return Ok(None) };
    let found = all.iter().find(|(known, _)| *known == name);
    let names: Vec<&str> = all.iter().map(|(known, _)| *known).collect();
    let none = || Failure::usage(format!("--{flag}: {name:?} is none of {}", names.join(", ")), None);
    found.map(|&(_, value)| Some(value)).ok_or_else(none)
}

/// The index of the first operand.
fn open_index(args: &Args) -> Result<(PathBuf, Index), Failure> {
    let path = PathBuf::from(&args.operands()[0]);
    let access = if args.has("resident") { Access::Read } else { Access::Map };
    let index = Index::open(&path, access)?;
    Ok((path, index))
}

/// The model that made the vectors of an index: in `folder`, or where the index says that it was. It must be the same.
/// It computes in what the index says.
fn model_for(folder: Option<PathBuf>, settings: &Settings) -> Result<Box<dyn EmbeddingModel>, Failure> {
    let Some(known) = &settings.model else {
        return Err(Failure::usage("the index has no vectors: --mode lexical", None));
    };
    let folder = folder.or_else(|| settings.folder.as_ref().map(PathBuf::from));
    let model = model_at(folder.as_deref(), settings.arithmetic)?;
    let name = model.name();
    if name == *known {
        return Ok(model);
    }
    let what = format!("the index was made with the model {known}, this is {name}");
    Err(Failure::usage(what, Some("--help says which flag names the folder of the model".into())))
}

/// The model in a folder, computing in what is asked for; without one, the table inside.
fn model_at(folder: Option<&Path>, arithmetic: Arithmetic) -> Result<Box<dyn EmbeddingModel>, Failure> {
    Ok(open_or_inside(
        folder,
        cpu::default()?,
        Options { normalize: true, dim: None, arithmetic, access: Access::Map },
    )?)
}

/// `--compute` and `--attention`, which are of the models that a command has besides the index's: those of `flags`.
fn arithmetic_beside(args: &Args, flags: &[&str]) -> Result<Arithmetic, Failure> {
    let given = ["compute", "attention"].into_iter().find(|name| args.has(name));
    if let Some(given) = given.filter(|_| !flags.iter().any(|name| args.has(name))) {
        let named = flags.iter().map(|name| format!("--{name}")).collect::<Vec<_>>().join(" or ");
        let what =
            format!("--{given} is of the model of {named}; the index says what its own is computed in");
        return Err(Failure::usage(what, None));
    }
    args.arithmetic()
}

/// Computes the vectors that an index still lacks.
fn embed_chunks(
    builder: &mut Builder,
    run: &Run<'_>,
    model: &dyn EmbeddingModel,
    (progress, console): (&mut Progress, &Console),
) -> Result<(), Failure> {
    let start = Instant::now();
    console.interruptible(|go_on| {
        builder.embed(run, model, &mut |done, of| {
            let rate = done as f64 / start.elapsed().as_secs_f64().max(1e-3);
            progress.show(format_args!("vector {done} of {of}, {rate:.0} a second"));
            go_on()
        })
    })
}

/// What `--mode` says, or what the index can do.
fn mode(args: &Args, settings: &Settings) -> Result<Mode, Failure> {
    let unless_given = if settings.model.is_some() { Mode::Hybrid } else { Mode::Lexical };
    Ok(choice(args, "mode", &Mode::ALL)?.unwrap_or(unless_given))
}

/// What `--filter` says.
fn filter(args: &Args) -> Result<Option<Filter>, Failure> {
    let Some(text) = args.text("filter")? else { return Ok(None) };
    let wrong = |e: Error| Failure::usage(format!("--filter {text:?}: {e}"), None);
    Filter::parse(text).map(Some).map_err(wrong)
}
