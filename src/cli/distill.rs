//! `samebits distill`: an encoder made a table of one vector a token.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;

use super::console::{bytes, printable};
use super::{Args, Command, Console, Failure, Flag, Progress, Takes};
use crate::io::json::Writer;
use crate::io::tokenizer::{EncodeOptions, Tokenizer};
use crate::model::{Opening, SentenceEncoder};
use crate::rag::embed::distill::{Distilled, Elements, Layout, Plan, Vocabulary, distill};
use crate::run::Run;
use crate::{Error, cpu};

pub const COMMAND: Command = Command {
    name: "distill",
    summary: "an encoder made a table of one vector a token: small, and a thousand times as fast",
    operands: "DIR",
    arity: (1, 1),
    flags: &[
        Flag { name: "out", takes: Takes::One("DIR"), help: "the new folder" },
        Flag { name: "dim", takes: Takes::One("N"), help: "components of a vector; 256 unless given" },
        Flag { name: "type", takes: Takes::One("T"), help: "f16 (unless given), f32 or nf4" },
        Flag {
            name: "sif",
            takes: Takes::One("A"),
            help: "a token counts A / (A + p), p being its frequency (1e-4); 0: all count the same",
        },
        Flag {
            name: "corpus",
            takes: Takes::One("FILE"),
            help: "a text in which frequencies are counted; else places in the vocabulary tell them",
        },
        Flag {
            name: "fit",
            takes: Takes::One("FILE"),
            help: "a text a line: the table is fitted to the encoder's vectors of them",
        },
        Flag { name: "tokens", takes: Takes::One("N"), help: "the N most frequent tokens alone (WordPiece)" },
        Flag { name: "compact", takes: Takes::Nothing, help: "vocab.txt in place of tokenizer.json (BERT)" },
        Flag { name: "threads", takes: Takes::One("N"), help: "threads; all unless given" },
        Flag { name: "json", takes: Takes::Nothing, help: "the report as one JSON object" },
    ],
    notes: "\
DIR is a sentence encoder (BERT and its kin) with a tokenizer.json. Every token is encoded alone, the vectors
are turned to their principal components, and frequent tokens are made to count less. OUT is written whole or
not at all, in the layout of model2vec; `samebits embed --model OUT` reads it, and so do model2vec and
sentence-transformers (not --type nf4, nor --compact). The same bits for any --threads.

Alone a word means what it means most; with --fit, a hundred thousand texts of the kind to be embedded, means
of the table's vectors are brought near to what the encoder says of whole texts. Where some of them are short
(40 to 199 bytes, 256 of them at least) and some long (350 bytes and more, 32 of them), the table learns next
which of the long ones the encoder holds for nearest to a short one: that is what a search asks.

Examples:
  samebits distill all-MiniLM-L6-v2 --out table
  samebits distill all-MiniLM-L6-v2 --out small --dim 96 --type nf4 --compact --tokens 20000
",
    run,
};

fn run(args: &Args, console: &mut Console) -> Result<(), Failure> {
    let out = args.path("out");
    let out = out.ok_or_else(|| Failure::usage("distill: --out DIR says where the table goes", None))?;
    let elements = args.text("type")?.unwrap_or("f16");
    let none = || Failure::usage(format!("--type: {elements:?} is none of f32, f16, nf4"), None);
    let layout =
        Layout { elements: Elements::from_name(elements).ok_or_else(none)?, compact: args.has("compact") };
    let plan = Plan {
        dim: args.count("dim", 1..=1 << 16)?.unwrap_or(256),
        sif: Some(args.number("sif", 0.0..=1.0)?.unwrap_or(1e-4)).filter(|&a| a > 0.0),
        texts: args.path("fit").map_or(Ok(Vec::new()), |path| lines(&path))?,
        counts: None,
    };
    let most = args.count("tokens", 1..=1 << 24)?;
    if out.exists() {
        return Err(Error::invalid("it exists already").in_file(out.display()).into());
    }
    let pool = args.pool()?;
    let run = Run::on(cpu::default()?, &pool);
    let folder = Path::new(&args.operands()[0]);
    let model = SentenceEncoder::open_with(folder, run.cpu(), Opening::mapped())?;
    let path = folder.join("tokenizer.json");
    let file = std::fs::read(&path).map_err(|e| Error::io(&path, "read", e))?;
    let in_file = |e: Error| e.in_file(path.display());
    let tokenizer = Tokenizer::from_json(&file).map_err(in_file)?;
    let config = model.encoder.config();
    config.check_tokenizer(&tokenizer).map_err(|e| e.in_file(folder.display()))?;
    let vocabulary = Vocabulary::of(&file, most).map_err(in_file)?;
    if layout.compact {
        vocabulary.vocab_txt().map_err(in_file)?;
    }
    let mut progress = Progress::new();
    let counts = args.path("corpus").map(|corpus| count(&vocabulary, &corpus)).transpose()?;
    let plan = Plan { counts, ..plan };
    let made = console.interruptible(|go_on| {
        distill(&run, (&model, &tokenizer), vocabulary, plan, &mut |what, done, of| {
            progress.show(format_args!("{what}: {done} of {of}"));
            go_on()
        })
    })?;
    progress.clear();
    let name = folder.file_name().unwrap_or(folder.as_os_str()).to_string_lossy();
    made.save(run.cpu(), &out, &name, layout)?;
    report(&made, &out, args.has("json"), console)
}

/// How often each token comes in the lines of a file.
fn count(vocabulary: &Vocabulary, path: &Path) -> crate::Result<Vec<u64>> {
    let tokenizer = vocabulary.tokenizer()?;
    let mut counts = vec![0; vocabulary.ids.len()];
    for line in lines(path)? {
        let ids = tokenizer.encode(&line, &EncodeOptions::plain())?.ids;
        ids.iter().for_each(|&id| counts[id as usize] += 1);
    }
    Ok(counts)
}

fn lines(path: &Path) -> crate::Result<Vec<String>> {
    let file = std::fs::File::open(path).map_err(|e| Error::io(path, "open", e))?;
    let named = |(i, line): (usize, std::io::Result<String>)| {
        line.map_err(|e| match e.kind() {
            std::io::ErrorKind::InvalidData => {
                Error::invalid(format!("line {}: no UTF-8", i + 1)).in_file(path.display())
            }
            _ => Error::io(path, "read", e),
        })
    };
    BufReader::new(file).lines().enumerate().map(named).collect()
}

fn report(made: &Distilled, out: &Path, json: bool, console: &mut Console) -> Result<(), Failure> {
    let (tokens, dim, explained) = (made.vocabulary.ids.len(), made.dim, made.explained);
    let path = out.join("model.safetensors");
    let size = path.metadata().map_err(|e| Error::io(&path, "open", e))?.len();
    let out = out.to_string_lossy();
    if json {
        let mut w = Writer::compact();
        w.object(|w| {
            w.key("out").string(&out);
            w.key("tokens").number(tokens);
            w.key("dim").number(dim);
            w.key("explained").number(explained);
            w.key("bytes").number(size);
        });
        writeln!(console, "{}", w.finish())?;
    } else {
        let (share, size) = (100.0 * explained, bytes(size));
        writeln!(
            console,
            "{}: {tokens} tokens of {dim} components, {share:.1} % of the variance, {size}",
            printable(&out)
        )?;
    }
    Ok(())
}
