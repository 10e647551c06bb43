//! The `tokenizer_config.json` beside a `tokenizer.json` that this project wrote: without it transformers takes the class of
//! the tokenizer from the model's type, and Llama's own looks for tokens that the vocabulary need not have.

use super::Tokenizer;
use crate::io::json::Writer;
use alloc::string::String;

/// Special tokens by their text, as far as there are some.
///
/// ```
/// use samebits::io::tokenizer::{SpecialTokens, TrainOptions, TrainedTokenizer, Trainer};
/// let special = vec!["<|end|>".to_string()];
/// let mut trainer = Trainer::new(TrainOptions { vocab: 300, special, ..TrainOptions::default() })?;
/// trainer.feed("a rose is a rose is a rose");
/// let trained: TrainedTokenizer = trainer.train();
/// assert_eq!(trained.vocab_len(), 257 + trained.merges()); // bytes, the special one, and merges
/// let tokens = SpecialTokens { bos: None, eos: Some("<|end|>"), unk: None, pad: None };
/// assert!(tokens.config_json(None).contains(r#""eos_token": "<|end|>""#)); // tokenizer_config.json
/// # Ok::<(), samebits::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct SpecialTokens<'a> {
    /// Begins a text.
    pub bos: Option<&'a str>,
    /// Ends one.
    pub eos: Option<&'a str>,
    /// Stands for what has no token.
    pub unk: Option<&'a str>,
    /// Fills a batch.
    pub pad: Option<&'a str>,
}

impl SpecialTokens<'_> {
    /// The text of the file.
    pub fn config_json(&self, chat_template: Option<&str>) -> String {
        let mut w = Writer::indented();
        w.object(|w| {
            w.key("tokenizer_class").string("PreTrainedTokenizerFast");
            w.key("clean_up_tokenization_spaces").boolean(false);
            let tokens = [self.bos, self.eos, self.unk, self.pad];
            for (key, token) in ["bos_token", "eos_token", "unk_token", "pad_token"].into_iter().zip(tokens) {
                if let Some(token) = token {
                    w.key(key).string(token);
                }
            }
            if let Some(template) = chat_template {
                w.key("chat_template").string(template);
            }
        });
        w.finish() + "\n"
    }
}

impl Tokenizer {
    /// Its special tokens.
    pub fn special_tokens(&self) -> SpecialTokens<'_> {
        let token = |id: Option<u32>| id.and_then(|id| self.id_to_token(id));
        SpecialTokens {
            bos: token(self.bos_id()),
            eos: token(self.eos_id()),
            unk: token(self.unk_id()),
            pad: token(self.pad_id()),
        }
    }
}
