//! A language model that answers prompts.

use std::path::PathBuf;

use crate::cli::generate::text::{self, Why, Writing};
use crate::cli::{Args, Failure, Flag, Takes};
use crate::io::tokenizer::Tokenizer;
use crate::model::{ChatTemplate, Decoder, Generator, Opening, Role, Sampler, Settings};
use crate::nn::Arithmetic;
use crate::run::Run;
use crate::{Result, cpu};

/// Flags of all that let one answer.
pub const LLM: Flag = Flag {
    name: "model",
    takes: Takes::One("LLM"),
    help: "a language model that writes answers; else they are quoted",
};
pub const CHAT: Flag = Flag {
    name: "chat",
    takes: Takes::One("T"),
    help: "how the model is talked to: chatml, llama2, llama3, …",
};
pub const MAX_TOKENS: Flag =
    Flag { name: "max-tokens", takes: Takes::One("N"), help: "of an answer; 256 unless given" };

/// A decoder with its tokenizer, and how it is asked.
pub struct Llm {
    model: Decoder,
    tokenizer: Tokenizer,
    chat: Option<ChatTemplate>,
    most: usize,
}

impl Llm {
    /// The one of `--model`, if there is one.
    pub fn of(args: &Args, arithmetic: Arithmetic) -> Result<Option<Llm>, Failure> {
        let Some(path) = args.path("model") else { return Ok(None) };
        let chat = args.text("chat")?.map(ChatTemplate::from_name).transpose()?;
        let most = args.count("max-tokens", 1..=1 << 20)?.unwrap_or(256);
        let (model, tokenizer) = Llm::open(path, arithmetic)?;
        Ok(Some(Llm { model, tokenizer, chat, most }))
    }

    fn open(path: PathBuf, arithmetic: Arithmetic) -> Result<(Decoder, Tokenizer)> {
        let opening = Opening { arithmetic, ..Opening::mapped() };
        Ok((Decoder::open_with(&path, cpu::default()?, opening)?, Tokenizer::open(&path)?))
    }

    /// What it computes in.
    pub fn arithmetic(&self) -> Arithmetic {
        self.model.arithmetic()
    }

    /// Tokens that a prompt may have, so that an answer has room.
    pub fn budget(&self) -> usize {
        let context = self.model.config().context;
        context.saturating_sub(self.most.min(context / 2))
    }

    /// The tokens of a prompt, as the model is given it.
    pub fn count(&self, prompt: &str) -> usize {
        text::ids(&self.tokenizer, &self.model, &self.turn(prompt), true).map_or(usize::MAX, |ids| ids.len())
    }

    fn turn(&self, prompt: &str) -> String {
        self.chat.map_or_else(|| prompt.to_owned(), |chat| chat.write(&[(Role::User, prompt)], 0))
    }

    /// What the model says to a prompt: the likeliest token each time, so the same everywhere.
    pub fn answer(&self, run: &Run<'_>, prompt: &str) -> Result<String> {
        let ids = text::ids(&self.tokenizer, &self.model, &self.turn(prompt), true)?;
        let sampler = Sampler::new(&Settings { temperature: 0.0, ..Settings::default() }, 0)?;
        let mut generator = Generator::new(&self.model, sampler, self.model.config().context);
        generator.feed(run, &ids, |_| crate::Result::Ok(()))?;
        let stops: Vec<String> = self.chat.iter().map(|chat| chat.end().into()).collect();
        let before = if self.chat.is_some() { &[] } else { &ids[..] };
        let mut writing = Writing::new(&self.tokenizer, before, &stops)?;
        let mut why = Why::Length;
        for _ in 0..self.most.min(generator.left()) {
            let id = generator.next(run)?;
            if text::ends(id, &self.tokenizer, &self.model) {
                why = Why::End;
                break;
            }
            if let Some(stop) = writing.push(id) {
                why = Why::Stop(stops[stop].clone());
                break;
            }
        }
        writing.finish(&why);
        Ok(writing.into_text().trim().to_owned())
    }
}
