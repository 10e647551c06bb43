//! `samebits generate`: a model goes on with a text.

mod flags;
mod speed;
pub(super) mod text;

use std::io::{self, IsTerminal, Read, Write};
use std::time::Duration;

use super::opening::Chosen;
use super::{Args, Command, Console, Failure, Progress};
use crate::io::json::Writer;
use crate::io::tokenizer::Tokenizer;
use crate::model::{
    BeamSearch, CacheType, ChatTemplate, Decoder, Generator, Hypothesis, Opening, Role, Settings,
};
use crate::nn::Arithmetic;
use crate::run::Run;
use crate::{Error, cpu};
use speed::Speed;
use text::{Answer, Why};

pub const COMMAND: Command = Command {
    name: "generate",
    summary: "a model goes on with a text",
    operands: "",
    arity: (0, 0),
    flags: flags::FLAGS,
    notes: flags::NOTES,
    run,
};

fn run(args: &Args, console: &mut Console) -> Result<(), Failure> {
    let chosen = Chosen::of(args, "generate")?.with_tokenizer(args.path("tokenizer"));
    let usual = if chosen.is_inside() { inside() } else { Settings::default() };
    let sampler = flags::sampler(args, &usual)?;
    let stops = flags::stops(args)?;
    let template = args.text("chat")?.map(ChatTemplate::from_name).transpose()?;
    let mut prompt = prompt(args)?;
    if chosen.is_inside() && template.is_none() && prompt.is_none() {
        prompt = Some(BEGINNING.into());
        if !args.has("json") {
            write!(console, "{BEGINNING}")?;
        }
    }
    let most = args.count("max-tokens", 1..=1 << 24)?.unwrap_or(256);
    let pool = args.pool()?;
    let run = Run::on(cpu::default()?, &pool);
    let tokenizer = chosen.tokenizer()?;
    let length = args.count("context", 1..=1 << 24)?;
    let access = args.access()?;
    let (lookup, kind) = (flags::lookup(args)?, args.cache()?);
    let opening = Opening { length, access, arithmetic: args.arithmetic()?, ..Opening::default() };
    let (mut model, load) = chosen.open(&run, opening)?;
    flags::adapters(args, &run, &mut model)?;
    let capacity = length.unwrap_or(model.config().context);
    if let Some(search) = flags::beams(args, &model, most)? {
        let ids = text::ids(&tokenizer, &model, &prompt.unwrap_or_default(), true)?;
        let found = search_beams(&model, &run, &search, &ids, kind)?;
        let json = args.has("json").then(|| model.arithmetic());
        return show_beams(&found, &tokenizer, &ids, json, console);
    }
    let generator = Generator::new(&model, sampler, capacity).with_cache(kind);
    let mut session = Session {
        generator: match lookup {
            Some(lookup) => generator.with_lookup(lookup),
            None => generator,
        },
        model: &model,
        tokenizer: &tokenizer,
        run: &run,
        stops,
        most,
        chat: template.is_some(),
        speed: Speed::new(load),
    };
    match (template, prompt) {
        (None, prompt) => session.go_on(&prompt.unwrap_or_default(), args.has("json"), console)?,
        (Some(template), Some(prompt)) => {
            let turns = turns(args, &prompt)?;
            let turns: Vec<_> = turns.iter().map(|(role, said)| (*role, &**said)).collect();
            session.stops.push(template.end().into());
            session.go_on(&template.write(&turns, 0), args.has("json"), console)?;
        }
        (Some(template), None) => session.converse(template, args, console)?,
    }
    if io::stderr().is_terminal() {
        session.speed.show(&model, run.cpu(), &pool);
    }
    Ok(())
}

/// How the model inside chooses tokens, unless told: it is small, and would say things twice.
fn inside() -> Settings {
    Settings { temperature: 0.4, repeat_penalty: 1.1, ..Settings::default() }
}

/// What the model inside goes on with, unless told.
const BEGINNING: &str = "Once upon a time";

/// `--prompt`, from standard input for `-`.
fn prompt(args: &Args) -> Result<Option<String>, Failure> {
    let Some(prompt) = args.text("prompt")? else { return Ok(None) };
    if prompt != "-" {
        return Ok(Some(prompt.into()));
    }
    let mut text = String::new();
    io::stdin().read_to_string(&mut text).map_err(|e| Error::io("standard input", "read", e))?;
    Ok(Some(text))
}

/// The conversation so far: what `--system` says, then the question.
fn turns(args: &Args, question: &str) -> Result<Vec<(Role, String)>, Failure> {
    let system = args.text("system")?.map(|text| (Role::System, text.into()));
    Ok(system.into_iter().chain([(Role::User, question.into())]).collect())
}

/// `--beams`
fn search_beams(
    model: &Decoder,
    run: &Run<'_>,
    search: &BeamSearch,
    ids: &[u32],
    kind: CacheType,
) -> Result<Vec<Hypothesis>, Failure> {
    let mut progress = Progress::new();
    progress.show(format_args!("searching, {} beams", search.beams));
    let found = model.search(run, search, ids, kind)?;
    progress.clear();
    Ok(found)
}

/// The likeliest text, or with --json all that were found.
fn show_beams(
    found: &[Hypothesis],
    tokenizer: &Tokenizer,
    ids: &[u32],
    json: Option<Arithmetic>,
    console: &mut Console,
) -> Result<(), Failure> {
    let text = |tokens: &[u32]| {
        let mut decoder = tokenizer.decoder(true);
        ids.iter().for_each(|&id| {
            decoder.push(id);
        });
        let mut text: String = tokens.iter().map(|&id| decoder.push(id).to_string()).collect();
        text.push_str(decoder.finish());
        text
    };
    let Some(arithmetic) = json else {
        writeln!(console, "{}", found.first().map(|best| text(&best.tokens)).unwrap_or_default())?;
        return Ok(());
    };
    let mut w = Writer::compact();
    w.array(|w| {
        for one in found {
            w.object(|w| {
                w.key("text").string(&text(&one.tokens));
                w.key("tokens").array(|w| one.tokens.iter().for_each(|&id| w.number(u64::from(id))));
                w.key("score").number(one.score);
                arithmetic.named().into_iter().for_each(|(key, class)| w.key(key).string(class));
            });
        }
    });
    writeln!(console, "{}", w.finish())?;
    Ok(())
}

/// A model that talks.
struct Session<'a> {
    generator: Generator<'a>,
    model: &'a Decoder,
    tokenizer: &'a Tokenizer,
    run: &'a Run<'a>,
    stops: Vec<String>,
    most: usize,
    /// Whether an answer is a text of its own.
    chat: bool,
    speed: Speed,
}

impl Session<'_> {
    /// One text and what follows it.
    fn go_on(&mut self, prompt: &str, json: bool, console: &mut Console) -> Result<(), Failure> {
        let ids = text::ids(self.tokenizer, self.model, prompt, true)?;
        let prompt_tokens = ids.len();
        let answer =
            self.answer(&ids, |piece, console| if json { Ok(()) } else { show(piece, console) }, console)?;
        if json {
            writeln!(
                console,
                "{}",
                report(
                    &answer,
                    prompt_tokens,
                    (self.generator.cache().kind(), self.model.arithmetic()),
                    self.speed.load()
                )
            )?;
        } else {
            writeln!(console)?;
        }
        Ok(())
    }

    /// Questions from standard input, one a line; answers.
    fn converse(
        &mut self,
        template: ChatTemplate,
        args: &Args,
        console: &mut Console,
    ) -> Result<(), Failure> {
        self.stops.push(template.end().into());
        let mut turns: Vec<(Role, String)> = turns(args, "")?;
        turns.pop();
        let (mut line, prompts) = (String::new(), io::stdin().is_terminal());
        loop {
            if prompts {
                write!(console, "> ")?;
                console.flush()?;
            }
            line.clear();
            let read =
                io::stdin().read_line(&mut line).map_err(|e| Error::io("standard input", "read", e))?;
            if read == 0 {
                return Ok(());
            }
            let first = if self.generator.tokens().is_empty() { 0 } else { turns.len() };
            turns.push((Role::User, line.trim_end_matches(['\r', '\n']).into()));
            let written: Vec<_> = turns.iter().map(|(role, said)| (*role, &**said)).collect();
            let mut text = template.write(&written, first);
            if first > 0 && !self.ended_itself(template) {
                text.insert_str(0, template.end());
            }
            let ids = text::ids(self.tokenizer, self.model, &text, first == 0)?;
            let answer = self.answer(&ids, show, console)?;
            writeln!(console)?;
            // Whoever asks through a pipe waits for the end of the line.
            console.flush()?;
            turns.push((Role::Assistant, answer.text));
        }
    }

    /// Whether the last answer's end is among the tokens already.
    fn ended_itself(&self, template: ChatTemplate) -> bool {
        let last = self.generator.tokens().last().and_then(|&id| self.tokenizer.id_to_token(id));
        last == Some(template.end())
    }

    /// Feeds `ids` and draws until something ends the text.
    fn answer(
        &mut self,
        ids: &[u32],
        mut show: impl FnMut(&str, &mut Console) -> Result<(), Failure>,
        console: &mut Console,
    ) -> Result<Answer, Failure> {
        let mut progress = Progress::new();
        let (done, all) = (self.generator.tokens().len(), ids.len());
        let before = if self.chat { &[] } else { ids };
        self.speed.start();
        self.generator.feed(self.run, ids, |computed| {
            progress.show(format_args!("prompt: {} of {all} tokens", computed - done));
            console.check_interrupt()
        })?;
        self.speed.prompt(all);
        drop(progress);
        let mut writing = text::Writing::new(self.tokenizer, before, &self.stops)?;
        let mut tokens = Vec::new();
        let why = loop {
            console.check_interrupt()?;
            if tokens.len() == self.most || self.generator.left() == 0 {
                break Why::Length;
            }
            let id = self.generator.next(self.run)?;
            tokens.push(id);
            if text::ends(id, self.tokenizer, self.model) {
                break Why::End;
            }
            if let Some(stop) = writing.push(id) {
                break Why::Stop(self.stops[stop].clone());
            }
            show(writing.fresh(), console)?;
        };
        self.speed.drawn(tokens.len());
        writing.finish(&why);
        show(writing.fresh(), console)?;
        Ok(Answer { tokens, text: writing.into_text(), why })
    }
}

/// A piece of the text, at once.
fn show(piece: &str, console: &mut Console) -> Result<(), Failure> {
    if !piece.is_empty() {
        console.write_all(piece.as_bytes())?;
        console.flush()?;
    }
    Ok(())
}

fn report(
    answer: &Answer,
    prompt_tokens: usize,
    (kind, arithmetic): (CacheType, Arithmetic),
    load: Duration,
) -> String {
    let mut w = Writer::compact();
    w.object(|w| {
        w.key("text").string(&answer.text);
        w.key("tokens").array(|w| answer.tokens.iter().for_each(|&id| w.number(u64::from(id))));
        w.key("prompt_tokens").number(prompt_tokens);
        w.key("cache").string(kind.name());
        arithmetic.named().into_iter().for_each(|(key, class)| w.key(key).string(class));
        let (why, stop) = match &answer.why {
            Why::End => ("end", None),
            Why::Length => ("length", None),
            Why::Stop(stop) => ("stop", Some(stop)),
        };
        w.key("finish").string(why);
        if let Some(stop) = stop {
            w.key("stop").string(stop);
        }
        w.key("load_seconds").number(load.as_secs_f64());
    });
    w.finish()
}
