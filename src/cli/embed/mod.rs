//! `samebits embed`: texts to vectors, one a line, in constant memory.

mod input;
mod output;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::{Args, Command, Console, Failure, Flag, Progress, Takes};
use crate::Error;
use crate::io::atomic;
use crate::io::tokenizer::{Choice, EncodeOptions, Tokenizer, Truncation};
use crate::model::{SentenceEncoder, Workspace};
use crate::run::Run;
use input::{Input, Item};
use output::{Format, Output};

pub const COMMAND: Command = Command {
    name: "embed",
    summary: "texts to vectors, one a line",
    operands: "[FILE|-]",
    arity: (0, 1),
    flags: &[
        Flag { name: "model", takes: Takes::One("DIR"), help: "a folder of an encoder, as on Hugging Face" },
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
        Flag { name: "format", takes: Takes::One("F"), help: "jsonl (unless given), f32 or npy" },
        Flag { name: "output", takes: Takes::One("FILE"), help: "write there, whole or not at all" },
        Flag { name: "threads", takes: Takes::One("N"), help: "threads; all unless given" },
    ],
    notes: "\
Every line of FILE (of standard input without one, or for -) is a text; its vector comes out in the same
place. An empty line is an empty text. Texts are cut to the length that the model was made for. The result has
the same bits for any --batch, any --threads and any instruction set.

  jsonl   {\"id\": …, \"embedding\": […]}, id being the line's own or its number from 0 on
  f32     the floats, little-endian, nothing else
  npy     NumPy's format, (texts, features); needs --output

Examples:
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
    let folder = args.path("model");
    let folder = folder.ok_or_else(|| Failure::usage("embed: --model DIR says which model", None))?;
    let pool = args.pool()?;
    let mut job = Job {
        embedder: Embedder::open(&folder, args.has("normalize"))?,
        input: Input::open(args.operands().first().map(PathBuf::from), args.has("jsonl"))?,
        batch: args.count("batch", 1..=4096)?.unwrap_or(32),
        run: Run::on(crate::cpu::default()?, &pool),
    };
    let Some(path) = path else { return job.all(&mut Output::new(format, console)) };
    let mut failure = None;
    let written = atomic::write_seekable(&path, |file| {
        let mut output = Output::new(format, file);
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

/// A model and its tokenizer.
struct Embedder {
    tokenizer: Tokenizer,
    model: SentenceEncoder,
    workspace: Workspace,
}

impl Embedder {
    fn open(folder: &Path, normalize: bool) -> Result<Embedder, Failure> {
        let model = SentenceEncoder::open(folder, crate::cpu::default()?)?;
        let mut tokenizer = Tokenizer::open(folder)?;
        if tokenizer.vocab_len() > model.encoder.config().vocab {
            let what = format!(
                "the tokenizer has {} tokens, the model {}",
                tokenizer.vocab_len(),
                model.encoder.config().vocab
            );
            return Err(Error::invalid(what).in_file(folder.display()).into());
        }
        tokenizer.set_truncation(Some(Truncation::to(model.max_tokens)));
        let model = SentenceEncoder { normalize: normalize || model.normalize, ..model };
        Ok(Embedder { tokenizer, model, workspace: Workspace::new() })
    }

    /// One vector a text, end to end.
    fn embed(&mut self, run: &Run<'_>, texts: &[Item], out: &mut Vec<f32>) -> Result<(), Failure> {
        let options = EncodeOptions { padding: Choice::Off, ..EncodeOptions::default() };
        let texts: Vec<&str> = texts.iter().map(|item| &*item.text).collect();
        let encoded = self.tokenizer.encode_batch(&texts, &options)?;
        let ids: Vec<&[u32]> = encoded.iter().map(|e| &e.ids[..]).collect();
        out.clear();
        out.resize(texts.len() * self.model.encoder.config().dim, 0.0);
        Ok(self.model.embed(run, &ids, out, &mut self.workspace)?)
    }
}

/// The whole stream.
struct Job<'p> {
    embedder: Embedder,
    input: Input,
    batch: usize,
    run: Run<'p>,
}

impl Job<'_> {
    fn all<W: Write>(&mut self, output: &mut Output<W>) -> Result<(), Failure> {
        let (mut progress, start, mut done) = (Progress::new(), Instant::now(), 0);
        let dim = self.embedder.model.encoder.config().dim;
        let (mut items, mut vectors) = (Vec::new(), Vec::new());
        output.begin(dim)?;
        loop {
            self.input.take(self.batch, &mut items)?;
            if items.is_empty() {
                return Ok(());
            }
            self.embedder.embed(&self.run, &items, &mut vectors)?;
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
