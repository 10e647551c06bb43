//! `samebits train-tokenizer`: a vocabulary from text.

use std::io::Write;
use std::path::Path;

use super::{Args, Command, Console, Failure, Flag, Takes};
use crate::Error;
use crate::io::atomic;
use crate::io::bytes::{self, Access};
use crate::io::tokenizer::{Tokenizer, TrainOptions, Trainer};

pub const COMMAND: Command = Command {
    name: "train-tokenizer",
    summary: "a vocabulary (byte-level BPE) from text files",
    operands: "FILE…",
    arity: (1, usize::MAX),
    flags: &[
        Flag {
            name: "vocab",
            takes: Takes::One("N"),
            help: "tokens, bytes and special ones included (8192)",
        },
        Flag {
            name: "min-frequency",
            takes: Takes::One("N"),
            help: "how often a pair must come to be merged (2)",
        },
        Flag { name: "special", takes: Takes::Many("TOKEN"), help: "special tokens (<|endoftext|>)" },
        Flag { name: "out", takes: Takes::One("DIR"), help: "where tokenizer.json goes" },
    ],
    notes: "\
The files are UTF-8 and are read line by line. The same text gives the same vocabulary, that of the
`tokenizers` package: the most frequent pair is merged, of equal ones that with the lowest ids.

Example:
  samebits train-tokenizer stories.txt --vocab 2048 --out small
",
    run,
};

fn run(args: &Args, console: &mut Console) -> Result<(), Failure> {
    let out = args.path("out");
    let out =
        out.ok_or_else(|| Failure::usage("train-tokenizer: --out DIR says where the file goes", None))?;
    let defaults = TrainOptions::default();
    let mut special = Vec::new();
    for token in args.all("special") {
        let token = token.to_str().map(String::from);
        special.push(token.ok_or_else(|| Failure::usage("train-tokenizer: --special is not Unicode", None))?);
    }
    let options = TrainOptions {
        vocab: args.count("vocab", 256..=1 << 24)?.unwrap_or(defaults.vocab),
        min_frequency: args
            .count("min-frequency", 1..=u32::MAX as usize)?
            .map_or(defaults.min_frequency, |n| n as u64),
        special: if special.is_empty() { defaults.special } else { special },
    };
    let mut trainer = Trainer::new(options)?;
    for file in args.operands() {
        let path = Path::new(file);
        let text = bytes::open(path, Access::Read)?;
        let text = core::str::from_utf8(text.elements()).map_err(|e| {
            Error::malformed(e.valid_up_to() as u64, "the text is not UTF-8").in_file(path.display())
        })?;
        trainer.feed(text);
    }
    let trained = trainer.train();
    std::fs::create_dir_all(&out).map_err(|e| Error::io(&out, "create", e))?;
    let path = out.join("tokenizer.json");
    let json = trained.to_json();
    let config = Tokenizer::from_json(json.as_bytes())?.special_tokens().config_json(None);
    for (path, text) in [(&path, json), (&out.join("tokenizer_config.json"), config)] {
        atomic::write(path, |file| file.write_all(text.as_bytes()))?;
    }
    writeln!(console, "{}: {} tokens, {} merges", path.display(), trained.vocab_len(), trained.merges())?;
    Ok(())
}
