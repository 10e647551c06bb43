//! Files of examples.

use std::path::Path;

use crate::cli::read_text;
use crate::io::json;
use crate::io::tokenizer::{EncodeOptions, Tokenizer};
use crate::model::{ChatTemplate, Role};
use crate::train::data::Example;
use crate::{Error, Result};

/// How text becomes examples.
pub struct Input<'t> {
    pub tokenizer: &'t Tokenizer,
    pub template: Option<ChatTemplate>,
    /// Tokens of an example at most.
    pub length: usize,
}

impl Input<'_> {
    /// The examples of a file.
    pub fn read(&self, path: &Path) -> Result<Vec<Example>> {
        let text = read_text(path)?;
        let lines = path.extension().is_some_and(|e| e == "jsonl");
        let examples = if lines { self.lines(&text) } else { self.text(&text) };
        let examples = examples.map_err(|e| e.in_file(path.display()))?;
        if examples.is_empty() {
            return Err(Error::invalid("no examples").in_file(path.display()));
        }
        Ok(examples)
    }

    /// Those inside the program: to learn from, and to be judged by.
    #[cfg(feature = "builtin")]
    pub fn inside(&self) -> Result<[Vec<Example>; 2]> {
        let [learned, held_out] = crate::assets::PAIRS;
        Ok([self.lines(learned)?, self.lines(held_out)?])
    }

    #[cfg(not(feature = "builtin"))]
    pub fn inside(&self) -> Result<[Vec<Example>; 2]> {
        Err(Error::invalid("this build has no examples inside"))
    }

    fn lines(&self, text: &str) -> Result<Vec<Example>> {
        let mut examples = Vec::new();
        for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let found = self.line(line).map_err(|e| Error::invalid(format!("line {}: {e}", i + 1)))?;
            examples.extend(found);
        }
        Ok(examples)
    }

    fn line(&self, line: &str) -> Result<Vec<Example>> {
        let value = json::parse(line.as_bytes())?;
        let text = |name: &str| value.get(name).and_then(json::Value::as_str);
        if let Some(text) = text("text") {
            return self.text(&text);
        }
        if let (Some(prompt), Some(completion)) = (text("prompt"), text("completion")) {
            return Ok(self.answer(&prompt, &completion, true)?.into_iter().collect());
        }
        let Some(messages) = value.get("messages").and_then(json::Value::elements) else {
            let what = "an example has \"text\", or \"prompt\" and \"completion\", or \"messages\"";
            return Err(Error::invalid(what));
        };
        self.messages(messages)
    }

    /// Every answer of a conversation with all that was said before it.
    fn messages(&self, messages: json::Elements<'_>) -> Result<Vec<Example>> {
        let template = self.template.ok_or_else(|| Error::invalid("\"messages\" go with --chat TEMPLATE"))?;
        let mut turns: Vec<(Role, String)> = Vec::new();
        let mut examples = Vec::new();
        for message in messages {
            let field = |name: &str| message.get(name).and_then(json::Value::as_str);
            let (Some(role), Some(content)) = (field("role"), field("content")) else {
                return Err(Error::invalid("a message has \"role\" and \"content\""));
            };
            let role = match &*role {
                "system" => Role::System,
                "user" => Role::User,
                "assistant" => Role::Assistant,
                other => return Err(Error::invalid(format!("role {other:?}: system, user or assistant"))),
            };
            if role == Role::Assistant {
                let said: Vec<(Role, &str)> = turns.iter().map(|(role, said)| (*role, &**said)).collect();
                let answer = format!("{}{}", content.trim(), template.end());
                examples.extend(self.answer(&template.write(&said, 0), &answer, false)?);
            }
            turns.push((role, content.into_owned()));
        }
        Ok(examples)
    }

    /// One answer to a prompt; with the token that ends a text where it is not part of the answer.
    fn answer(&self, prompt: &str, answer: &str, end: bool) -> Result<Option<Example>> {
        let mut prompt = self.tokenizer.encode(prompt, &EncodeOptions::default())?.ids;
        // Some templates end a text themselves: the answer is to follow.
        if prompt.len() > 1 && prompt.last().copied() == self.tokenizer.eos_id() {
            prompt.pop();
        }
        let mut answer = self.tokenizer.encode(answer, &EncodeOptions::plain())?.ids;
        answer.extend(self.tokenizer.eos_id().filter(|_| end));
        Ok(Example::answer(&prompt, &answer, self.length))
    }

    fn text(&self, text: &str) -> Result<Vec<Example>> {
        let mut ids = self.tokenizer.encode(text, &EncodeOptions::default())?.ids;
        let end = self.tokenizer.eos_id().filter(|end| ids.last() != Some(end));
        ids.extend(end);
        Ok(Example::windows(&ids, self.length))
    }
}
