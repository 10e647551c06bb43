//! `samebits serve`: an index behind a small HTTP server, for programs and for people.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use super::api::Api;
use super::llm::{CHAT, LLM, Llm, MAX_TOKENS};
use super::rerank::{RERANK, RERANK_FROM, Second};
use super::{
    ATTENTION_BESIDE, COMPUTE_BESIDE, EMBEDDER, RESIDENT, THREADS, arithmetic_beside, model_at, model_for,
    open_index,
};
use crate::cli::{Args, Command, Console, Failure, Flag, Takes, read_text};
use crate::nn::Arithmetic;
use crate::serve::response::Response;
use crate::serve::{Fixed, Limits, Server, Site, To, page};
use crate::{cpu, sys};

pub const COMMAND: Command = Command {
    name: "serve",
    summary: "an index as a page to search, and as an API",
    operands: "FILE.sbi",
    arity: (1, 1),
    flags: &[
        Flag { name: "port", takes: Takes::One("N"), help: "8080 unless given; 0 is any that is free" },
        Flag {
            name: "host",
            takes: Takes::One("ADDR"),
            help: "the address to listen at; 127.0.0.1 unless given",
        },
        Flag {
            name: "token",
            takes: Takes::One("T"),
            help: "what requests must carry; others can see it in ps",
        },
        Flag { name: "token-file", takes: Takes::One("FILE"), help: "the same, from a file" },
        LLM,
        CHAT,
        MAX_TOKENS,
        EMBEDDER,
        RERANK,
        RERANK_FROM,
        COMPUTE_BESIDE,
        ATTENTION_BESIDE,
        RESIDENT,
        THREADS,
    ],
    notes: "\
Prints its address when it is ready; Ctrl-C ends it. Answers are those of `samebits search --json` and
`samebits ask --json`, computed one at a time; beside them, one that a language model writes.

  GET  /                        the page
  POST /search                  {\"query\", \"k\", \"mode\", \"filter\"}
  POST /ask                     {\"question\", \"k\", \"mode\", \"filter\", \"quotes\", \"trace\"}
  POST /embed, /v1/embeddings   {\"input\": text or texts, \"encoding_format\": float or base64}, as OpenAI's
  GET  /health, /info           whether it runs; what it serves

Only this machine can ask, and no other site can make a browser ask: Host and Origin must be the server's own.
Another --host needs a token, sent as `Authorization: Bearer T`; there is no TLS.

Examples:
  samebits serve notes.sbi --port 8080
  curl -s localhost:8080/search -H 'Content-Type: application/json' -d '{\"query\": \"gemm tile\", \"k\": 3}'
",
    run,
};

fn run(args: &Args, console: &mut Console) -> Result<(), Failure> {
    let (address, token) = (address(args)?, token(args)?);
    // Before anything is opened: this is not to be found out after a minute.
    crate::serve::door::Door::new(address, token.clone())?;
    let (path, index) = open_index(args)?;
    let folder = args.path("embedder");
    let embedder = match &index.settings().model {
        Some(_) => Some(model_for(folder, index.settings())?),
        None if folder.is_some() => Some(model_at(folder.as_deref(), Arithmetic::F32)?),
        // A program that was built without the table embeds nothing here.
        None => model_at(None, Arithmetic::F32).ok(),
    };
    let arithmetic = arithmetic_beside(args, &["model", "rerank"])?;
    let second = Second::of(args, index.settings(), arithmetic)?;
    let (llm, pool) = (Llm::of(args, arithmetic)?, args.pool()?);
    let api = Api { index: &index, embedder, second, llm, cpu: cpu::default()?, pool: &pool };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut server = Server::bind(address, token, site(&api, &name)?, Limits::default())?;
    writeln!(console, "http://{}", server.address())?;
    console.flush()?;
    server.run(&sys::interrupted, &|request| api.answer(request));
    console.check_interrupt()
}

/// Where to listen.
fn address(args: &Args) -> Result<SocketAddr, Failure> {
    let port = args.count("port", 0..=usize::from(u16::MAX))?.unwrap_or(8080);
    let host = match args.text("host")? {
        None | Some("localhost") => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Some(host) => host.parse().map_err(|_| {
            let hint = "127.0.0.1 is this machine alone, 0.0.0.0 all its addresses";
            Failure::usage(format!("--host: {host:?} is no address"), Some(hint.into()))
        })?,
    };
    Ok(SocketAddr::new(host, port as u16)) // in range
}

/// What requests must carry.
fn token(args: &Args) -> Result<Option<String>, Failure> {
    match (args.text("token")?, args.path("token-file")) {
        (Some(_), Some(_)) => Err(Failure::usage("--token and --token-file exclude each other", None)),
        (token, None) => Ok(token.map(String::from)),
        (None, Some(path)) => Ok(Some(read_token(path)?)),
    }
}

fn read_token(path: PathBuf) -> crate::Result<String> {
    Ok(read_text(&path)?.trim_end().to_owned())
}

fn site(api: &Api<'_>, name: &str) -> crate::Result<Site> {
    let fixed = |path, response, to| Fixed { path, response, to };
    Ok(Site {
        fixed: vec![
            fixed("/", page::response(), To::All),
            fixed("/health", Response::json(r#"{"status":"ok"}"#.into()), To::All),
            fixed("/info", Response::json(api.info(name)?), To::Known),
        ],
        computed: &Api::PATHS,
        slow: api.slow(),
    })
}
