//! `samebits tokenize`: the ids of a text.

use std::io::{Read, Write};
use std::path::Path;

use super::console::printable;
use super::{Align, Args, Command, Console, Failure, Flag, Table, Takes};
use crate::Error;
use crate::io::json::Writer;
use crate::io::tokenizer::{Choice, EncodeOptions, Encoding, Tokenizer};

pub const COMMAND: Command = Command {
    name: "tokenize",
    summary: "the tokens of a text: ids and where they stand",
    operands: "[TEXT|-]",
    arity: (0, 1),
    flags: &[
        Flag {
            name: "model",
            takes: Takes::One("PATH"),
            help: "a model's folder, or the file of its tokenizer",
        },
        Flag {
            name: "plain",
            takes: Takes::Nothing,
            help: "without the tokens that models get around a text",
        },
        Flag { name: "ids", takes: Takes::Nothing, help: "the ids alone, on one line" },
        Flag { name: "json", takes: Takes::Nothing, help: "all as one JSON object" },
    ],
    notes: "\
PATH is a folder, a tokenizer.json, vocab.txt, tokenizer.model (SentencePiece), tokenizer.bin (llama2.c) or a
GGUF file. Without TEXT, or for -, the text is all of standard input, its last line end included. A text is
neither cut nor filled, whatever its length. Places are in bytes; tokens that are not from the text have none.

Examples:
  samebits tokenize --model all-MiniLM-L6-v2 'The same bits, everywhere.'
  samebits tokenize --model llama.gguf --ids - < story.txt | wc -w
",
    run,
};

fn run(args: &Args, console: &mut Console) -> Result<(), Failure> {
    let model = args.path("model");
    let model = model.ok_or_else(|| Failure::usage("tokenize: --model PATH says which tokenizer", None))?;
    if args.has("ids") && args.has("json") {
        return Err(Failure::usage("tokenize: --ids and --json are two answers", None));
    }
    let tokenizer = Tokenizer::open(&model)?;
    let text = match args.operands() {
        [text] if text != "-" => {
            let text = text.to_str().map(String::from);
            text.ok_or_else(|| Failure::usage("tokenize: TEXT is not Unicode", None))?
        }
        _ => standard_input()?,
    };
    let options = EncodeOptions {
        special_tokens: !args.has("plain"),
        truncation: Choice::Off,
        padding: Choice::Off,
        ..EncodeOptions::default()
    };
    let encoding = tokenizer.encode(&text, &options)?;
    if args.has("json") {
        writeln!(console, "{}", json(&tokenizer, &encoding))?;
    } else if args.has("ids") {
        let ids: Vec<String> = encoding.ids.iter().map(u32::to_string).collect();
        writeln!(console, "{}", ids.join(" "))?;
    } else {
        write!(console, "{}", table(&tokenizer, &encoding))?;
    }
    Ok(())
}

/// All of standard input.
fn standard_input() -> Result<String, Failure> {
    let name = Path::new("standard input");
    let mut bytes = Vec::new();
    std::io::stdin().lock().read_to_end(&mut bytes).map_err(|e| Error::io(name, "read", e))?;
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to() as u64;
        Error::malformed(at, "the text is not UTF-8").in_file(name.display()).into()
    })
}

fn table(tokenizer: &Tokenizer, encoding: &Encoding) -> Table {
    let columns = [("id", Align::Right), ("bytes", Align::Left), ("token", Align::Left)];
    let mut table = Table::new(columns);
    for (i, &id) in encoding.ids.iter().enumerate() {
        let (start, end) = encoding.offsets[i];
        let place = if encoding.special[i] == 1 { String::new() } else { format!("{start}..{end}") };
        table.row([id.to_string(), place, printable(tokenizer.id_to_token(id).unwrap_or_default())]);
    }
    table
}

fn json(tokenizer: &Tokenizer, encoding: &Encoding) -> String {
    let mut writer = Writer::compact();
    let numbers = |w: &mut Writer, list: &[u32]| {
        w.array(|w| list.iter().for_each(|&n| w.number(u64::from(n))));
    };
    let places = |w: &mut Writer, list: &[(usize, usize)]| {
        w.array(|w| {
            list.iter().for_each(|&(a, b)| w.array(|w| [a, b].into_iter().for_each(|n| w.number(n))))
        });
    };
    writer.object(|w| {
        numbers(w.key("ids"), &encoding.ids);
        w.key("tokens").array(|w| {
            encoding.ids.iter().for_each(|&id| w.string(tokenizer.id_to_token(id).unwrap_or_default()));
        });
        places(w.key("bytes"), &encoding.offsets);
        places(w.key("chars"), &encoding.char_offsets);
        numbers(w.key("special"), &encoding.special);
    });
    writer.finish()
}
