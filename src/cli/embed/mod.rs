//! `samebits embed`: texts to vectors, one a line, in constant memory.

mod input;
mod output;

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use super::args::{ATTENTION, COMPUTE};
use super::{Args, Command, Console, Failure, Flag, Progress, Takes};
use crate::Error;
use crate::io::atomic;
use crate::io::bytes::Access;
use crate::rag::EmbeddingModel;
use crate::rag::embed::{Options, open_or_inside};
use crate::run::Run;
use input::Input;
use output::{Format, Output};

pub const COMMAND: Command = Command {
    name: "embed",
    summary: "texts to vectors, one a line",
    operands: "[FILE|-]",
    arity: (0, 1),
    flags: &[
        Flag {
            name: "model",
            takes: Takes::One("DIR"),
            help: "a folder of an encoder, or of model2vec; else the table inside",
        },
        Flag {
            name: "jsonl",
            takes: Takes::Nothing,
            help: "each line is an object with \"text\", perhaps \"id\"",
        },
        Flag { name: "batch", takes: Takes::One("B"), help: "texts at a time; 32 unless given" },
        Flag {
            name: "normalize",
            takes: Takes::Nothing,
            help: "scale vectors to length 1, whatever the model says",
        },
        Flag {
            name: "dim",
            takes: Takes::One("N"),
            help: "the first N components alone, for models made for that",
        },
        Flag {
            name: "query",
            takes: Takes::Nothing,
            help: "texts that search: with the prompt that the model has for them",
        },
        Flag { name: "format", takes: Takes::One("F"), help: "jsonl (unless given), f32 or npy" },
        Flag { name: "output", takes: Takes::One("FILE"), help: "write there, whole or not at all" },
        COMPUTE,
        ATTENTION,
        Flag { name: "threads", takes: Takes::One("N"), help: "threads; all unless given" },
    ],
    notes: "\
Every line of FILE (of standard input without one, or for -) is a text; its vector comes out in the same
place. An empty line is an empty text. Texts are cut to the length that the model was made for. The result has
the same bits for any --batch, any --threads and any instruction set.

  jsonl   {\"id\": …, \"embedding\": […]}, id being the line's own or its number from 0 on; with \"compute\" and
          \"attention\" where another class than f32 was asked for
  f32     the floats, little-endian, nothing else
  npy     NumPy's format, (texts, features); needs --output

Examples:
  samebits embed sentences.txt > vectors.jsonl
  samebits embed --model all-MiniLM-L6-v2 sentences.txt > vectors.jsonl
  samebits embed --model bge-small --jsonl --format npy --output pages.npy pages.jsonl
",
    run,
};

fn run(args: &Args, console: &mut Console) -> Result<(), Failure> {
    let format = Format::parse(args.text("format")?.unwrap_or("jsonl"))?;
    let path = args.path("output");
    if format == Format::Npy && path.is_none() {
        return Err(Failure::usage(
            "embed: the head of an npy file counts its rows: it needs --output FILE",
            None,
        ));
    }
    let pool = args.pool()?;
    let (normalize, dim) = (args.has("normalize"), args.count("dim", 1..=1 << 20)?);
    let options = Options { normalize, dim, arithmetic: args.arithmetic()?, access: Access::Map };
    let mut job = Job {
        model: open_or_inside(args.path("model").as_deref(), crate::cpu::default()?, options)?,
        queries: args.has("query"),
        input: Input::open(args.operands().first().map(PathBuf::from), args.has("jsonl"))?,
        batch: args.count("batch", 1..=4096)?.unwrap_or(32),
        run: Run::on(crate::cpu::default()?, &pool),
    };
    let Some(path) = path else { return job.all(&mut Output::new(format, options.arithmetic, console)) };
    let mut failure = None;
    let written = atomic::write_seekable(&path, |file| {
        let mut output = Output::new(format, options.arithmetic, file);
        let done = job.all(&mut output).and_then(|()| output.finish().map_err(Failure::Output));
        done.map_err(|e| {
            failure = Some(e);
            std::io::Error::other("given up")
        })
    });
    match failure {
        Some(Failure::Output(e)) => Err(Error::io(&path, "write", e).into()),
        Some(failure) => Err(failure),
        None => Ok(written?),
    }
}

/// The whole stream.
struct Job<'p> {
    model: Box<dyn EmbeddingModel>,
    queries: bool,
    input: Input,
    batch: usize,
    run: Run<'p>,
}

impl Job<'_> {
    fn all<W: Write>(&mut self, output: &mut Output<W>) -> Result<(), Failure> {
        let (mut progress, start, mut done) = (Progress::new(), Instant::now(), 0);
        let dim = self.model.dim();
        let mut items = Vec::new();
        output.begin(dim)?;
        loop {
            self.input.take(self.batch, &mut items)?;
            if items.is_empty() {
                return Ok(());
            }
            let texts: Vec<&str> = items.iter().map(|item| &*item.text).collect();
            let vectors = if self.queries {
                self.model.embed_queries(&self.run, &texts)?
            } else {
                self.model.embed(&self.run, &texts)?
            };
            for (item, vector) in items.iter().zip(vectors.chunks_exact(dim)) {
                output.put(&item.id, vector)?;
            }
            output.flush()?;
            done += items.len();
            let rate = done as f64 / start.elapsed().as_secs_f64();
            progress.show(format_args!("{done} texts, {rate:.0} texts/s"));
            if crate::sys::interrupted() {
                return Err(Failure::Interrupted);
            }
        }
    }
}
