//! How a conversation is written for a model that was trained to answer.

use crate::{Error, Result};
use alloc::format;
use alloc::string::String;

/// A named way of writing turns.
///
/// ```
/// use samebits::model::{ChatTemplate, Role};
/// let template = ChatTemplate::from_name("chatml")?;
/// let turns = [(Role::System, "Be brief."), (Role::User, "Hello")];
/// let text = template.write(&turns, 0);
/// assert!(text.starts_with("<|im_start|>system\nBe brief.<|im_end|>"));
/// assert!(text.ends_with("<|im_start|>assistant\n") && template.end() == "<|im_end|>");
/// # Ok::<(), samebits::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChatTemplate {
    /// `<|im_start|>role … <|im_end|>`: Qwen and many others.
    ChatMl,
    /// `[INST] … [/INST]` with `<<SYS>>`.
    Llama2,
    /// `<|start_header_id|>role<|end_header_id|> … <|eot_id|>`.
    Llama3,
    /// `[INST] … [/INST]`.
    Mistral,
    /// `<start_of_turn>role … <end_of_turn>`.
    Gemma,
    /// `<|role|> … <|end|>`.
    Phi3,
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Sets the tone, at the beginning.
    System,
    /// Asks.
    User,
    /// Answers.
    Assistant,
}

impl ChatTemplate {
    /// Every template.
    pub const ALL: [ChatTemplate; 6] = [
        ChatTemplate::ChatMl,
        ChatTemplate::Llama2,
        ChatTemplate::Llama3,
        ChatTemplate::Mistral,
        ChatTemplate::Gemma,
        ChatTemplate::Phi3,
    ];

    /// The name that the command line knows.
    pub const fn name(self) -> &'static str {
        match self {
            ChatTemplate::ChatMl => "chatml",
            ChatTemplate::Llama2 => "llama2",
            ChatTemplate::Llama3 => "llama3",
            ChatTemplate::Mistral => "mistral",
            ChatTemplate::Gemma => "gemma",
            ChatTemplate::Phi3 => "phi3",
        }
    }

    /// The template of that name.
    ///
    /// # Errors
    /// [`Error::Usage`] that lists the names, where there is none.
    pub fn from_name(name: &str) -> Result<ChatTemplate> {
        let found = ChatTemplate::ALL.into_iter().find(|t| t.name() == name);
        found.ok_or_else(|| Error::Usage {
            what: format!("chat template {name:?} is none of {}", ChatTemplate::names()),
            hint: None,
        })
    }

    /// `chatml, llama2, …`
    pub fn names() -> String {
        let mut names = String::new();
        for template in ChatTemplate::ALL {
            names.push_str(if names.is_empty() { "" } else { ", " });
            names.push_str(template.name());
        }
        names
    }

    /// What ends an answer.
    pub const fn end(self) -> &'static str {
        match self {
            ChatTemplate::ChatMl => "<|im_end|>",
            ChatTemplate::Llama2 | ChatTemplate::Mistral => "</s>",
            ChatTemplate::Llama3 => "<|eot_id|>",
            ChatTemplate::Gemma => "<end_of_turn>",
            ChatTemplate::Phi3 => "<|end|>",
        }
    }

    /// The text of the turns from `first` on, ready for the answer. `first` is 0 for a new conversation; else the
    /// turns before it, the last answer among them, have been computed already, and only what follows them comes.
    pub fn write(self, turns: &[(Role, &str)], first: usize) -> String {
        let mut text = String::new();
        for (i, &(role, said)) in turns.iter().enumerate().skip(first) {
            // An answer that was generated ended with its own end.
            self.turn(&mut text, turns, i, (role, said.trim()), i > 0 && i == first);
        }
        match self {
            ChatTemplate::ChatMl => text.push_str("<|im_start|>assistant\n"),
            ChatTemplate::Llama3 => text.push_str("<|start_header_id|>assistant<|end_header_id|>\n\n"),
            ChatTemplate::Gemma => text.push_str("<start_of_turn>model\n"),
            ChatTemplate::Phi3 => text.push_str("<|assistant|>\n"),
            ChatTemplate::Llama2 | ChatTemplate::Mistral => {}
        }
        text
    }

    fn turn(
        self,
        text: &mut String,
        turns: &[(Role, &str)],
        i: usize,
        (role, said): (Role, &str),
        goes_on: bool,
    ) {
        let name = match role {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
        };
        // Gemma, Mistral and Llama 2 have no system turn: it stands before the first question.
        let system = match i.checked_sub(1).map(|before| turns[before]) {
            Some((Role::System, system)) => Some(system.trim()),
            _ => None,
        };
        let written = match (self, role) {
            (ChatTemplate::ChatMl, _) => {
                let gap = if goes_on { "\n" } else { "" };
                format!("{gap}<|im_start|>{name}\n{said}<|im_end|>\n")
            }
            (ChatTemplate::Llama3, _) => {
                format!("<|start_header_id|>{name}<|end_header_id|>\n\n{said}<|eot_id|>")
            }
            (ChatTemplate::Phi3, _) => {
                let gap = if goes_on { "\n" } else { "" };
                format!("{gap}<|{name}|>\n{said}<|end|>\n")
            }
            (_, Role::System) => String::new(),
            (ChatTemplate::Gemma, _) => {
                let (gap, name) =
                    (if goes_on { "\n" } else { "" }, if role == Role::User { "user" } else { "model" });
                let system = system.map(|s| format!("{s}\n\n")).unwrap_or_default();
                format!("{gap}<start_of_turn>{name}\n{system}{said}<end_of_turn>\n")
            }
            (ChatTemplate::Llama2, Role::User) => {
                let begin = if goes_on { "<s>" } else { "" };
                let system = system.map(|s| format!("<<SYS>>\n{s}\n<</SYS>>\n\n")).unwrap_or_default();
                format!("{begin}[INST] {system}{said} [/INST]")
            }
            (ChatTemplate::Mistral, Role::User) => {
                let system = system.map(|s| format!("{s}\n\n")).unwrap_or_default();
                format!("[INST] {system}{said} [/INST]")
            }
            (ChatTemplate::Llama2 | ChatTemplate::Mistral, Role::Assistant) => format!(" {said}</s>"),
        };
        text.push_str(&written);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TURNS: [(Role, &str); 4] =
        [(Role::System, "Be brief."), (Role::User, " Hi "), (Role::Assistant, "Hello."), (Role::User, "Bye")];

    #[test]
    fn a_conversation_reads_as_the_models_cards_say() {
        let cases = [
            (
                ChatTemplate::ChatMl,
                "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
            ),
            (
                ChatTemplate::Llama3,
                "<|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>\
                 <|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>\
                 <|start_header_id|>assistant<|end_header_id|>\n\n",
            ),
            (ChatTemplate::Llama2, "[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi [/INST]"),
            (ChatTemplate::Mistral, "[INST] Be brief.\n\nHi [/INST]"),
            (
                ChatTemplate::Gemma,
                "<start_of_turn>user\nBe brief.\n\nHi<end_of_turn>\n<start_of_turn>model\n",
            ),
            (ChatTemplate::Phi3, "<|system|>\nBe brief.<|end|>\n<|user|>\nHi<|end|>\n<|assistant|>\n"),
        ];
        for (template, text) in cases {
            assert_eq!(template.write(&TURNS[..2], 0), text, "{template:?}");
        }
    }

    /// What is fed turn by turn is what would be fed at once.
    #[test]
    fn turns_add_up() {
        for template in ChatTemplate::ALL {
            let whole = template.write(&TURNS, 0);
            let mut parts = template.write(&TURNS[..2], 0);
            if matches!(template, ChatTemplate::Llama2 | ChatTemplate::Mistral) {
                parts.push(' '); // an answer's first token brings it
            }
            parts.push_str(TURNS[2].1);
            parts.push_str(template.end());
            parts.push_str(&template.write(&TURNS, 3));
            let whole = match template {
                // Each exchange begins a text of its own.
                ChatTemplate::Llama2 => whole.replace("</s>[INST]", "</s><s>[INST]"),
                _ => whole,
            };
            assert_eq!(parts, whole, "{template:?}");
        }
    }
}
