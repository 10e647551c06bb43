//! `samebits perplexity`: how well a model foretells a text.

use std::io::Write;

use super::args::{ATTENTION, COMPUTE};
use super::opening::Chosen;
use super::{Args, Command, Console, Failure, Flag, Progress, Takes};
use crate::io::json::Writer;
use crate::io::tokenizer::{EncodeOptions, Tokenizer};
use crate::kernels::math::exp64;
use crate::model::{CacheType, Opening, Workspace};
use crate::nn::Arithmetic;
use crate::run::Run;
use crate::{Error, cpu};

pub const COMMAND: Command = Command {
    name: "perplexity",
    summary: "how well a model foretells a text",
    operands: "",
    arity: (0, 0),
    flags: &[
        Flag {
            name: "model",
            takes: Takes::One("PATH"),
            help: "a folder as on Hugging Face, or a GGUF file; the one inside",
        },
        Flag { name: "tokenizer", takes: Takes::One("PATH"), help: "where the model does not bring its own" },
        Flag { name: "text", takes: Takes::One("FILE"), help: "the text, UTF-8" },
        Flag { name: "context", takes: Takes::One("N"), help: "tokens of a window; 512 unless given" },
        Flag {
            name: "cache",
            takes: Takes::One("TYPE"),
            help: "keys and values as f32, bf16 or int8; f32 unless given",
        },
        COMPUTE,
        ATTENTION,
        Flag { name: "threads", takes: Takes::One("N"), help: "threads; all unless given" },
        Flag {
            name: "json",
            takes: Takes::Nothing,
            help: "one object: perplexity, loss, bits_per_byte, tokens, windows, …",
        },
    ],
    notes: "\
The text is cut into windows that do not overlap; in each, every token but the first is foretold from those
before it. The loss is the mean negative log-likelihood in nats, the perplexity its exponential. A window of
one token at the end is left out. A model that begins texts with a token has it at the head of every window.

Example:
  samebits perplexity --model stories260K.gguf --text story.txt --context 256
",
    run,
};

fn run(args: &Args, console: &mut Console) -> Result<(), Failure> {
    let text = args.path("text");
    let text = text.ok_or_else(|| Failure::usage("perplexity: --text is needed", None))?;
    let chosen = Chosen::of(args, "perplexity")?.with_tokenizer(args.path("tokenizer"));
    let pool = args.pool()?;
    let run = Run::on(cpu::default()?, &pool);
    let tokenizer = chosen.tokenizer()?;
    let kind = args.cache()?;
    let asked = args.count("context", 2..=1 << 24)?;
    let opening = Opening { length: asked, arithmetic: args.arithmetic()?, ..Opening::mapped() };
    let (model, _) = chosen.open(&run, opening)?;
    let context = asked.unwrap_or(512).min(model.config().context);
    let begin = begin(&tokenizer)?;
    let content = super::read_text(&text)?;
    let tokens = tokenizer.encode(&content, &EncodeOptions::plain())?.ids;
    let (mut progress, mut workspace, mut tally) = (Progress::new(), Workspace::new(), Tally::default());
    for part in tokens.chunks(context - begin.len()) {
        console.check_interrupt()?;
        let window: Vec<u32> = begin.iter().chain(part).copied().collect();
        tally.add(&model.losses(&run, &window, kind, &mut workspace)?);
        let so_far = exp64(tally.loss());
        progress.show(format_args!("{} of {} tokens, perplexity {so_far:.4}", tally.tokens, tokens.len()));
    }
    progress.clear();
    if tally.tokens == 0 {
        let what = "fewer than two tokens: nothing is foretold";
        return Err(Error::invalid(what).in_file(text.display()).into());
    }
    tally.bytes = content.len();
    tally.print((context, kind, model.arithmetic()), args.has("json"), console)
}

/// The losses so far.
#[derive(Default)]
struct Tally {
    sum: f64,
    tokens: usize,
    windows: usize,
    /// Of the whole text.
    bytes: usize,
}

impl Tally {
    fn add(&mut self, losses: &[f32]) {
        self.sum += losses.iter().map(|&x| f64::from(x)).sum::<f64>();
        self.tokens += losses.len();
        self.windows += usize::from(!losses.is_empty());
    }

    fn loss(&self) -> f64 {
        self.sum / self.tokens as f64
    }

    /// The loss of all tokens, in bits, over the bytes of the text.
    fn bits_per_byte(&self) -> f64 {
        self.sum / core::f64::consts::LN_2 / self.bytes as f64
    }

    fn print(
        &self,
        (context, kind, arithmetic): (usize, CacheType, Arithmetic),
        json: bool,
        console: &mut Console,
    ) -> Result<(), Failure> {
        let Tally { tokens, windows, .. } = *self;
        let (loss, perplexity) = (self.loss(), exp64(self.loss()));
        if json {
            let mut w = Writer::compact();
            w.object(|w| {
                w.key("perplexity").number(perplexity);
                w.key("loss").number(loss);
                w.key("bits_per_byte").number(self.bits_per_byte());
                w.key("tokens").number(tokens);
                w.key("windows").number(windows);
                w.key("context").number(context);
                w.key("cache").string(kind.name());
                arithmetic.named().into_iter().for_each(|(key, class)| w.key(key).string(class));
            });
            writeln!(console, "{}", w.finish())?;
        } else {
            let class = |(key, class): (&str, &str)| match key {
                "compute" => format!(", in {class}"),
                key => format!(", {key} in {class}"),
            };
            let classes: String = arithmetic.unusual().map(class).collect();
            writeln!(
                console,
                "perplexity {perplexity:.4}  loss {loss:.5}  {:.4} bits a byte  {tokens} tokens in {windows} windows{classes}",
                self.bits_per_byte(),
            )?;
        }
        Ok(())
    }
}

/// What the tokenizer's template puts before a text.
fn begin(tokenizer: &Tokenizer) -> Result<Vec<u32>, Failure> {
    let empty = tokenizer.encode("", &EncodeOptions::default())?;
    let bos = tokenizer.bos_id();
    Ok(empty.ids.into_iter().take(1).filter(|&id| Some(id) == bos).collect())
}
