//! The tokenizer of a GGUF file as a `tokenizer.json`, the way back from [`super::to_gguf`].
//!
//! Byte-level byte-pair encoding stands there as it does in GGUF. SentencePiece's has scores where `tokenizer.json` has
//! merges: two tokens are joined wherever that makes a token, the better its score the earlier (as transformers converts
//! `tokenizer.model`). The space before a text is put there as in Llama 2's own file: behind a special token that stands
//! in a text too, where SentencePiece has none. What is written is read again, and every probe must have the ids that it
//! had.

use super::gguf::{GgufVocabulary, expression};
use super::sentencepiece::Kind;
use super::to_gguf::{PROBES, ids};
use super::{EncodeOptions, Tokenizer};
use crate::io::json::Writer;
use crate::{Error, Result};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

impl GgufVocabulary<'_> {
    /// The text of a `tokenizer.json` that gives the same ids.
    ///
    /// # Errors
    /// [`Error::Malformed`] where the vocabulary is of a kind that is not written, or contradicts itself.
    pub fn to_json(&self) -> Result<String> {
        let original = Tokenizer::from_gguf_vocabulary(self)?;
        let spaces = match self.model {
            "gpt2" => false,
            "llama" => true,
            other => return Err(Error::invalid(format!("a tokenizer {other:?} is not written"))),
        };
        let mut w = Writer::compact();
        w.object(|w| {
            w.key("version").string("1.0");
            w.key("truncation").null();
            w.key("padding").null();
            w.key("added_tokens").array(|w| self.put_added(w));
            if spaces { self.put_spaces(w) } else { self.put_byte_level(w) }
        });
        let (begin, end) = around(&original)?;
        let mut text = w.finish();
        text.pop();
        text += ",\"post_processor\":";
        text += &self.template(&begin, &end);
        text.push('}');
        let made = Tokenizer::from_json(text.as_bytes())?;
        for probe in PROBES {
            if ids(&made, probe)? != ids(&original, probe)? {
                return Err(Error::invalid(format!("tokenizer.json cannot give the ids of {probe:?}")));
            }
        }
        Ok(text)
    }

    fn kind_of(&self, id: usize) -> i32 {
        self.kinds.get(id).copied().unwrap_or(Kind::Normal as i32)
    }

    /// Tokens that texts are searched for before anything else.
    fn put_added(&self, w: &mut Writer) {
        for (id, token) in self.tokens.iter().enumerate() {
            let kind = self.kind_of(id);
            let special = kind == Kind::Control as i32 || kind == Kind::Unknown as i32;
            if token.is_empty() || !special && kind != Kind::UserDefined as i32 {
                continue;
            }
            w.object(|w| {
                w.key("id").number(id);
                w.key("content").string(token);
                for flag in ["single_word", "lstrip", "rstrip", "normalized"] {
                    w.key(flag).boolean(false);
                }
                w.key("special").boolean(special);
            });
        }
    }

    fn put_byte_level(&self, w: &mut Writer) {
        match self.pre {
            "qwen2" => w.key("normalizer").object(|w| w.key("type").string("NFC")),
            _ => w.key("normalizer").null(),
        }
        w.key("pre_tokenizer").object(|w| {
            w.key("type").string("Sequence");
            w.key("pretokenizers").array(|w| splitters(w, self.pre));
        });
        w.key("decoder").object(|w| byte_level(w, true));
        w.key("model").object(|w| {
            w.key("type").string("BPE");
            for key in ["dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix"] {
                w.key(key).null();
            }
            for key in ["fuse_unk", "byte_fallback"] {
                w.key(key).boolean(false);
            }
            w.key("ignore_merges").boolean(self.ignores_merges());
            self.put_vocab(w);
            w.key("merges").array(|w| {
                for merge in &self.merges {
                    // A token may begin with a space of its own, but not contain another.
                    let at = merge.char_indices().skip(1).find(|&(_, c)| c == ' ').map_or(0, |(at, _)| at);
                    pair(w, &merge[..at], merge.get(at + 1..).unwrap_or_default());
                }
            });
        });
    }

    /// SentencePiece: spaces are `▁`.
    fn put_spaces(&self, w: &mut Writer) {
        let before = self.add_space.unwrap_or(true);
        w.key("normalizer").object(|w| {
            w.key("type").string("Sequence");
            w.key("normalizers").array(|w| {
                if before {
                    w.object(|w| {
                        w.key("type").string("Prepend");
                        w.key("prepend").string("▁");
                    });
                }
                w.object(|w| replace(w, " ", "▁"));
            });
        });
        w.key("pre_tokenizer").null();
        w.key("decoder").object(|w| {
            w.key("type").string("Sequence");
            w.key("decoders").array(|w| {
                w.object(|w| replace(w, "▁", " "));
                w.object(|w| w.key("type").string("ByteFallback"));
                w.object(|w| w.key("type").string("Fuse"));
                if before {
                    w.object(|w| {
                        w.key("type").string("Strip");
                        w.key("content").string(" ");
                        w.key("start").number(1u64);
                        w.key("stop").number(0u64);
                    });
                }
            });
        });
        let unknown = (0..self.tokens.len()).find(|&id| self.kind_of(id) == Kind::Unknown as i32);
        let bytes = (0..self.tokens.len()).any(|id| self.kind_of(id) == Kind::Byte as i32);
        w.key("model").object(|w| {
            w.key("type").string("BPE");
            w.key("dropout").null();
            match unknown {
                Some(id) => w.key("unk_token").string(self.tokens[id]),
                None => w.key("unk_token").null(),
            }
            w.key("continuing_subword_prefix").null();
            w.key("end_of_word_suffix").null();
            w.key("fuse_unk").boolean(true);
            w.key("byte_fallback").boolean(bytes);
            w.key("ignore_merges").boolean(false);
            self.put_vocab(w);
            w.key("merges").array(|w| self.merges_of_scores().iter().for_each(|(a, b)| pair(w, a, b)));
        });
    }

    fn put_vocab(&self, w: &mut Writer) {
        w.key("vocab").object(|w| {
            for (id, token) in self.tokens.iter().enumerate() {
                w.key(token).number(id);
            }
        });
    }

    /// Every pair of tokens that makes a token, by the token's score, then by its parts.
    fn merges_of_scores(&self) -> Vec<(&str, &str)> {
        let normal = |&(id, _): &(usize, &&str)| self.kind_of(id) == Kind::Normal as i32;
        let known: BTreeMap<&str, usize> =
            self.tokens.iter().enumerate().filter(normal).map(|(id, token)| (*token, id)).collect();
        let mut all = Vec::new();
        for (&token, &id) in &known {
            for (at, _) in token.char_indices().skip(1) {
                let (a, b) = token.split_at(at);
                if let (Some(&first), Some(&second)) = (known.get(a), known.get(b)) {
                    all.push((self.scores.get(id).copied().unwrap_or(0.0), id, first, second));
                }
            }
        }
        all.sort_by(|x, y| y.0.total_cmp(&x.0).then((x.1, x.2, x.3).cmp(&(y.1, y.2, y.3))));
        all.into_iter().map(|(_, _, first, second)| (self.tokens[first], self.tokens[second])).collect()
    }

    /// What stands around every text.
    fn template(&self, begin: &[u32], end: &[u32]) -> String {
        let mut w = Writer::compact();
        if begin.is_empty() && end.is_empty() {
            if self.model == "gpt2" {
                w.object(|w| byte_level(w, false))
            } else {
                w.null()
            }
            return w.finish();
        }
        let special = |w: &mut Writer, ids: &[u32], kind: u64| {
            for &id in ids {
                w.object(|w| {
                    w.key("SpecialToken").object(|w| {
                        w.key("id").string(self.tokens[id as usize]);
                        w.key("type_id").number(kind);
                    })
                });
            }
        };
        let text = |w: &mut Writer, name: &str, kind: u64| {
            special(w, begin, kind);
            w.object(|w| {
                w.key("Sequence").object(|w| {
                    w.key("id").string(name);
                    w.key("type_id").number(kind);
                })
            });
            special(w, end, kind);
        };
        w.object(|w| {
            w.key("type").string("TemplateProcessing");
            w.key("single").array(|w| text(w, "A", 0));
            w.key("pair").array(|w| {
                text(w, "A", 0);
                text(w, "B", 1);
            });
            w.key("special_tokens").object(|w| {
                let mut all: Vec<u32> = begin.iter().chain(end).copied().collect();
                all.sort_unstable();
                all.dedup();
                for id in all {
                    let token = self.tokens[id as usize];
                    w.key(token).object(|w| {
                        w.key("id").string(token);
                        w.key("ids").array(|w| w.number(u64::from(id)));
                        w.key("tokens").array(|w| w.string(token));
                    });
                }
            });
        });
        w.finish()
    }
}

/// The tokens before and behind every text.
fn around(tokenizer: &Tokenizer) -> Result<(Vec<u32>, Vec<u32>)> {
    let (whole, bare) = (ids(tokenizer, "a")?, tokenizer.encode("a", &EncodeOptions::plain())?.ids);
    let at = whole.windows(bare.len().max(1)).position(|part| part == bare);
    let at = at.ok_or_else(|| Error::invalid("what stands around a text changes it"))?;
    Ok((whole[..at].into(), whole[at + bare.len()..].into()))
}

fn pair(w: &mut Writer, a: &str, b: &str) {
    w.array(|w| {
        w.string(a);
        w.string(b);
    });
}

fn replace(w: &mut Writer, what: &str, by: &str) {
    w.key("type").string("Replace");
    w.key("pattern").object(|w| w.key("String").string(what));
    w.key("content").string(by);
}

fn byte_level(w: &mut Writer, cut: bool) {
    w.key("type").string("ByteLevel");
    w.key("add_prefix_space").boolean(false);
    w.key("trim_offsets").boolean(true);
    w.key("use_regex").boolean(cut);
}

/// The steps that a name of a pattern stands for.
fn splitters(w: &mut Writer, pre: &str) {
    let split = |w: &mut Writer, regex: &str| {
        w.object(|w| {
            w.key("type").string("Split");
            w.key("pattern").object(|w| w.key("Regex").string(regex));
            w.key("behavior").string("Isolated");
            w.key("invert").boolean(false);
        });
    };
    let digits = |w: &mut Writer, alone: bool| {
        w.object(|w| {
            w.key("type").string("Digits");
            w.key("individual_digits").boolean(alone);
        });
    };
    match (expression(pre), pre) {
        (Some(regex), _) => {
            split(w, regex);
            w.object(|w| byte_level(w, false));
        }
        (None, "falcon") => {
            w.object(|w| {
                w.key("type").string("Punctuation");
                w.key("behavior").string("Contiguous");
            });
            w.object(|w| byte_level(w, true));
            digits(w, false);
            split(w, "[0-9][0-9][0-9]");
        }
        (None, _) => {
            digits(w, true);
            w.object(|w| byte_level(w, true));
        }
    }
}
