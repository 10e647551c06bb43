//! The flags of `samebits generate`.

use crate::cli::args::{ATTENTION, COMPUTE};
use crate::cli::{Args, Failure, Flag, Takes};
use crate::model::{BeamSearch, Decoder, PromptLookup, Sampler, Settings};
use crate::peft::{Adapter, activate, attach};
use crate::run::Run;

pub const FLAGS: &[Flag] = &[
    Flag {
        name: "model",
        takes: Takes::One("PATH"),
        help: "a folder as on Hugging Face, or a GGUF file; the one inside",
    },
    Flag { name: "tokenizer", takes: Takes::One("PATH"), help: "where the model does not bring its own" },
    Flag {
        name: "adapter",
        takes: Takes::Many("DIR[=W]"),
        help: "an adapter of peft or adapters, with a weight; any number",
    },
    Flag { name: "prompt", takes: Takes::One("TEXT|-"), help: "what to go on with; - is standard input" },
    Flag { name: "chat", takes: Takes::One("TEMPLATE"), help: "the prompt is a question; templates below" },
    Flag { name: "system", takes: Takes::One("TEXT"), help: "with --chat: what is said before the question" },
    Flag { name: "max-tokens", takes: Takes::One("N"), help: "tokens to generate; 256 unless given" },
    Flag { name: "context", takes: Takes::One("N"), help: "tokens in all; the model's own unless given" },
    Flag { name: "temperature", takes: Takes::One("T"), help: "0 takes the likeliest; 0.8 unless given" },
    Flag { name: "top-k", takes: Takes::One("K"), help: "keep the K likeliest; 40 unless given, 0 for all" },
    Flag { name: "top-p", takes: Takes::One("P"), help: "keep this mass of probability; 0.95 unless given" },
    Flag {
        name: "min-p",
        takes: Takes::One("P"),
        help: "keep this share of the likeliest; 0.05 unless given",
    },
    Flag {
        name: "typical-p",
        takes: Takes::One("P"),
        help: "keep the least surprising; 1 unless given: all",
    },
    Flag { name: "repeat-penalty", takes: Takes::One("X"), help: "divides what came lately; 1 unless given" },
    Flag {
        name: "frequency-penalty",
        takes: Takes::One("X"),
        help: "subtracted each time it came; 0 unless given",
    },
    Flag { name: "presence-penalty", takes: Takes::One("X"), help: "subtracted if it came; 0 unless given" },
    Flag {
        name: "penalty-last-n",
        takes: Takes::One("N"),
        help: "tokens that the penalties see; 64 unless given",
    },
    Flag { name: "logit-bias", takes: Takes::Many("ID=X"), help: "added to a token's logit; -inf bans it" },
    Flag { name: "stop", takes: Takes::Many("TEXT"), help: "ends the text, and is left out" },
    Flag { name: "seed", takes: Takes::One("S"), help: "of chance; 0 unless given" },
    Flag { name: "beams", takes: Takes::One("N"), help: "search for the likeliest text, N at a time" },
    Flag {
        name: "length-penalty",
        takes: Takes::One("X"),
        help: "with --beams: above 0 likes long texts; 1",
    },
    Flag {
        name: "lookup",
        takes: Takes::One("N"),
        help: "draft N tokens from the text itself: the same text, sooner",
    },
    Flag { name: "mmap", takes: Takes::Nothing, help: "map files while weights are packed: the default" },
    Flag { name: "no-mmap", takes: Takes::Nothing, help: "read files whole before weights are packed" },
    Flag {
        name: "cache",
        takes: Takes::One("TYPE"),
        help: "keys and values as f32, bf16 or int8; f32 unless given",
    },
    COMPUTE,
    ATTENTION,
    Flag { name: "threads", takes: Takes::One("N"), help: "threads; all unless given" },
    Flag { name: "json", takes: Takes::Nothing, help: "one object: text, tokens, prompt_tokens, …" },
];

pub const NOTES: &str = "\
The text streams to standard output. The same command gives the same text on every machine, for any number of
threads. With --chat and no --prompt, questions come from standard input, one a line. Templates: chatml,
llama2, llama3, mistral, gemma, phi3. --context also fixes what dynamic NTK and LongRoPE make of positions.
--cache bf16 halves the memory of a long context, int8 quarters it (in llama.cpp: --cache-type-k and -v); each
type rounds keys and values in its own way, and has its own text.

--compute bf16 rounds weights and rows to bfloat16 and sums products in f32; int8 has codes of eight bits
with a scale each 32: Q8_0 to Q4_0, Q6_K to Q4_K and NF4 keep theirs, others become Q8_0. Each class has a
text of its own, the same on every machine. In all of them attention is f32; --attention bf16 rounds queries,
keys, weights of the softmax and values too, over any --cache. What PyTorch calls bfloat16 is both.

Weights are packed once, into huge pages where there are any. A mapped file is let go of as they are: a
model lies in memory once, and a file that is shortened meanwhile is an error. --no-mmap needs room for
both, and does not mind what happens to the file. --json is {text, tokens, prompt_tokens, cache, compute,
attention, finish, stop?, load_seconds}.

Without --model the small one inside the program tells a story; without --prompt it begins as stories do. It
is sampled at a temperature of 0.4, with a repeat penalty of 1.1, unless given.

Examples:
  samebits generate
  samebits generate --prompt 'Ben had a kite.' --seed 7
  samebits generate --model stories260K.gguf --temperature 0 --max-tokens 200
  samebits generate --model Qwen2.5-0.5B-Instruct --chat chatml --prompt 'Why is the sky blue?'
";

/// The rule for the next token.
pub fn sampler(args: &Args, usual: &Settings) -> Result<Sampler, Failure> {
    let number = |name: &str, usual: f32| -> Result<f32, Failure> {
        Ok(args.number(name, -1e4..=1e4)?.map_or(usual, |x| x as f32))
    };
    let settings = Settings {
        temperature: args.number("temperature", 0.0..=1e4)?.map_or(usual.temperature, |x| x as f32),
        top_k: args.count("top-k", 0..=1 << 24)?.unwrap_or(usual.top_k),
        top_p: number("top-p", usual.top_p)?,
        min_p: number("min-p", usual.min_p)?,
        typical_p: number("typical-p", usual.typical_p)?,
        penalty_last_n: args.count("penalty-last-n", 0..=1 << 24)?.unwrap_or(usual.penalty_last_n),
        repeat_penalty: number("repeat-penalty", usual.repeat_penalty)?,
        frequency_penalty: number("frequency-penalty", usual.frequency_penalty)?,
        presence_penalty: number("presence-penalty", usual.presence_penalty)?,
        logit_bias: args.all("logit-bias").map(|b| bias(&b.to_string_lossy())).collect::<Result<_, _>>()?,
    };
    let seed = args.text("seed")?.unwrap_or("0");
    let seed = seed
        .parse()
        .map_err(|_| Failure::usage(format!("--seed: {seed:?} is no whole number from 0 on"), None))?;
    Ok(Sampler::new(&settings, seed)?)
}

/// `ID=X`
fn bias(text: &str) -> Result<(u32, f32), Failure> {
    let parts = text.split_once('=').and_then(|(id, x)| Some((id.parse().ok()?, x.parse().ok()?)));
    parts.ok_or_else(|| Failure::usage(format!("--logit-bias: {text:?} is not ID=X"), None))
}

/// What ends a text.
pub fn stops(args: &Args) -> Result<Vec<String>, Failure> {
    let text = |stop: &std::ffi::OsStr| stop.to_str().filter(|s| !s.is_empty()).map(Into::into);
    let all: Option<Vec<String>> = args.all("stop").map(text).collect();
    all.ok_or_else(|| Failure::usage("--stop: a stop string is text, and not empty", None))
}

/// `--lookup`
pub fn lookup(args: &Args) -> Result<Option<PromptLookup>, Failure> {
    let most = args.count("lookup", 1..=1024)?;
    Ok(most.map(|max_draft| PromptLookup { max_draft, ..PromptLookup::default() }))
}

/// `--beams`
pub fn beams(args: &Args, model: &Decoder, most: usize) -> Result<Option<BeamSearch>, Failure> {
    let penalty = args.number("length-penalty", -100.0..=100.0)?;
    let Some(beams) = args.count("beams", 1..=256)? else { return Ok(None) };
    if let Some(other) = ["chat", "stop", "lookup"].into_iter().find(|name| args.has(name)) {
        return Err(Failure::usage(format!("generate: --beams and --{other} exclude each other"), None));
    }
    let config = model.config();
    Ok(Some(BeamSearch {
        ends: config.eos.clone(),
        length_penalty: penalty.unwrap_or(1.0),
        ..BeamSearch::new(beams, config.vocab, most)
    }))
}

/// `--adapter`: puts them on the model and adds them with their weights.
pub fn adapters(args: &Args, run: &Run<'_>, model: &mut Decoder) -> Result<(), Failure> {
    let mut active: Vec<(String, f32)> = Vec::new();
    for (path, weight) in crate::cli::given_adapters(args) {
        let adapter = Adapter::open_for(run.cpu(), &path, model.config())?;
        let name = format!("{}", active.len());
        attach(run, model, &name, &adapter).map_err(|e| e.in_file(path.display()))?;
        active.push((name, weight));
    }
    let active: Vec<(&str, f32)> = active.iter().map(|(name, weight)| (name.as_str(), *weight)).collect();
    Ok(activate(model, &active)?)
}
