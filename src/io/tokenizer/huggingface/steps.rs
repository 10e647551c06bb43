//! The steps before and after the model of a `tokenizer.json`: each list is flat, sequences are opened.

use super::fields::Fields;
use crate::Result;
use crate::io::json::Value;
use crate::io::tokenizer::charsmap::Charsmap;
use crate::io::tokenizer::decode::{self, Stage};
use crate::io::tokenizer::normalize::{self, Normalizer};
use crate::io::tokenizer::patterns::Pattern;
use crate::io::tokenizer::post::{Piece, Post};
use crate::io::tokenizer::pretokenize::{self, Behavior, PreTokenizer, Prepend};
use crate::io::tokenizer::unicode::Form;
use alloc::boxed::Box;
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

/// Reads the steps of `value`, opening the sequences in it: their parts stand under `parts`.
fn each<'a, T>(
    value: Option<Value<'a>>,
    (what, parts): (&str, &str),
    read: &mut impl FnMut(&Fields<'a>, &str) -> Result<T>,
) -> Result<Vec<T>> {
    let mut open: Vec<Value<'a>> = value.into_iter().collect();
    let mut steps = Vec::new();
    while let Some(next) = open.pop() {
        let fields = Fields::of(next, &format!("a {what}"))?;
        let kind = fields.text("type")?;
        if kind == "Sequence" {
            open.extend(fields.list(parts)?.into_iter().rev());
        } else {
            steps.push(read(&fields, &kind)?);
        }
    }
    Ok(steps)
}

pub(super) fn normalizers(value: Option<Value<'_>>) -> Result<Vec<Normalizer>> {
    each(value, ("normalizer", "normalizers"), &mut |fields, kind| -> Result<Normalizer> {
        Ok(match kind {
            "BertNormalizer" => {
                let lowercase = fields.flag("lowercase", true)?;
                Box::new(normalize::Bert {
                    clean_text: fields.flag("clean_text", true)?,
                    chinese_chars: fields.flag("handle_chinese_chars", true)?,
                    strip_accents: fields.flag("strip_accents", lowercase)?,
                    lowercase,
                })
            }
            "NFC" => Box::new(Form::Nfc),
            "NFD" => Box::new(Form::Nfd),
            "NFKC" => Box::new(Form::Nfkc),
            "NFKD" => Box::new(Form::Nfkd),
            "Lowercase" => Box::new(normalize::Lowercase),
            "StripAccents" => Box::new(normalize::StripAccents),
            "Strip" => Box::new(normalize::Strip {
                left: fields.flag("strip_left", true)?,
                right: fields.flag("strip_right", true)?,
            }),
            "Replace" => Box::new(normalize::Replace(pattern(fields)?, fields.text("content")?.into_owned())),
            "Prepend" => Box::new(normalize::Prepend(fields.text("prepend")?.into_owned())),
            "Precompiled" => {
                let coded = fields.text_or("precompiled_charsmap", "")?;
                let table =
                    base64(&coded).ok_or_else(|| fields.error("precompiled_charsmap is not base64"))?;
                Box::new(normalize::Precompiled(Charsmap::parse(&table)?))
            }
            other => return Err(fields.unknown("normalizer", other)),
        })
    })
}

/// `{"String": "…"}` or `{"Regex": "…"}`
fn pattern(fields: &Fields<'_>) -> Result<Pattern> {
    let value = fields.required("pattern")?;
    if let Some(literal) = value.as_str() {
        return Ok(Pattern::Literal(literal.into_owned()));
    }
    let pattern = Fields::of(value, "a pattern")?;
    match pattern.optional("Regex") {
        Some(_) => Pattern::regex(&pattern.text("Regex")?).map_err(|e| match e {
            crate::Error::Malformed { what, .. } => pattern.error(what),
            other => other,
        }),
        None => Ok(Pattern::Literal(pattern.text("String")?.into_owned())),
    }
}

fn base64(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=').as_bytes();
    let mut out = Vec::with_capacity(text.len() / 4 * 3 + 3);
    let (mut bits, mut count) = (0u32, 0);
    for &c in text {
        let value = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    Some(out)
}

fn behavior(fields: &Fields<'_>, default: &'static str) -> Result<Behavior> {
    Ok(match fields.text_or("behavior", default)?.as_ref() {
        "Removed" => Behavior::Removed,
        "Isolated" => Behavior::Isolated,
        "MergedWithPrevious" => Behavior::MergedWithPrevious,
        "MergedWithNext" => Behavior::MergedWithNext,
        "Contiguous" => Behavior::Contiguous,
        other => return Err(fields.unknown("behavior", other)),
    })
}

/// How Metaspace puts its character in front: `prepend_scheme`, in older files `add_prefix_space`.
fn prepend(fields: &Fields<'_>) -> Result<Prepend> {
    let default = if fields.flag("add_prefix_space", true)? { "always" } else { "never" };
    Ok(match fields.text_or("prepend_scheme", default)?.as_ref() {
        "always" => Prepend::Always,
        "first" => Prepend::First,
        "never" => Prepend::Never,
        other => return Err(fields.unknown("prepend_scheme", other)),
    })
}

pub(super) fn pre_tokenizers(value: Option<Value<'_>>) -> Result<Vec<PreTokenizer>> {
    each(value, ("pre-tokenizer", "pretokenizers"), &mut |fields, kind| -> Result<PreTokenizer> {
        Ok(match kind {
            "ByteLevel" => Box::new(pretokenize::ByteLevel {
                prefix_space: fields.flag("add_prefix_space", true)?,
                cut: fields.flag("use_regex", true)?,
            }),
            "Metaspace" => Box::new(pretokenize::Metaspace {
                replacement: fields.character("replacement")?,
                prepend: prepend(fields)?,
                cut: fields.flag("split", true)?,
            }),
            "Whitespace" => Box::new(pretokenize::Whitespace),
            "WhitespaceSplit" => Box::new(pretokenize::WhitespaceSplit),
            "BertPreTokenizer" => Box::new(pretokenize::Bert),
            "Digits" => {
                Box::new(pretokenize::Digits { individually: fields.flag("individual_digits", false)? })
            }
            "Punctuation" => Box::new(pretokenize::Punctuation(behavior(fields, "Isolated")?)),
            "CharDelimiterSplit" => Box::new(pretokenize::Split {
                pattern: Pattern::Literal(fields.text("delimiter")?.into_owned()),
                behavior: Behavior::Removed,
                invert: false,
            }),
            "Split" => Box::new(pretokenize::Split {
                pattern: pattern(fields)?,
                behavior: behavior(fields, "")?,
                invert: fields.flag("invert", false)?,
            }),
            other => return Err(fields.unknown("pre-tokenizer", other)),
        })
    })
}

/// `["[SEP]", 102]`
fn named_id(fields: &Fields<'_>, name: &str) -> Result<u32> {
    let parts = fields.list(name)?;
    let id = parts.get(1).and_then(|id| id.as_u64()).and_then(|id| id.try_into().ok());
    id.ok_or_else(|| fields.error(format!("{name:?} should be a token and its id")))
}

pub(super) fn post_processors(value: Option<Value<'_>>) -> Result<Vec<Post>> {
    let steps = each(value, ("post-processor", "processors"), &mut |fields, kind| {
        let trim = || -> Result<Vec<Post>> {
            let prefix_space = fields.flag("add_prefix_space", true)?;
            let trims = fields.flag("trim_offsets", true)?;
            Ok(if trims { vec![Post::TrimOffsets { prefix_space }] } else { Vec::new() })
        };
        Ok(match kind {
            "ByteLevel" => trim()?,
            "BertProcessing" => {
                let (cls, sep) = (named_id(fields, "cls")?, named_id(fields, "sep")?);
                let single = vec![Piece::Token(cls, 0), Piece::First(0), Piece::Token(sep, 0)];
                let mut pair = single.clone();
                pair.extend([Piece::Second(1), Piece::Token(sep, 1)]);
                vec![Post::Template { single, pair }]
            }
            "RobertaProcessing" => {
                let (cls, sep) = (named_id(fields, "cls")?, named_id(fields, "sep")?);
                let single = vec![Piece::Token(cls, 0), Piece::First(0), Piece::Token(sep, 0)];
                let mut pair = single.clone();
                pair.extend([Piece::Token(sep, 0), Piece::Second(0), Piece::Token(sep, 0)]);
                let mut steps = trim()?;
                steps.push(Post::Template { single, pair });
                steps
            }
            "TemplateProcessing" => {
                vec![Post::Template { single: template(fields, "single")?, pair: template(fields, "pair")? }]
            }
            other => return Err(fields.unknown("post-processor", other)),
        })
    })?;
    Ok(steps.into_iter().flatten().collect())
}

/// `[{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}, …]`, where
/// `special_tokens` says which ids a special token stands for.
fn template(fields: &Fields<'_>, name: &str) -> Result<Vec<Piece>> {
    let mut pieces = Vec::new();
    for value in fields.list(name)? {
        let piece = Fields::of(value, "a piece of a template")?;
        if let Some(sequence) = piece.optional("Sequence") {
            let sequence = Fields::of(sequence, "a sequence")?;
            let type_id = sequence.id("type_id")?;
            pieces.push(match sequence.text("id")?.as_ref() {
                "A" => Piece::First(type_id),
                "B" => Piece::Second(type_id),
                other => return Err(sequence.unknown("sequence", other)),
            });
            continue;
        }
        let token = Fields::of(piece.required("SpecialToken")?, "a special token")?;
        let (name, type_id) = (token.text("id")?, token.id("type_id")?);
        let known = fields.optional("special_tokens").and_then(|tokens| tokens.get(&name));
        let known = known.ok_or_else(|| token.unknown("special token", &name))?;
        for id in Fields::of(known, "a special token")?.list("ids")? {
            let id32 = id.as_u64().and_then(|id| id.try_into().ok());
            pieces.push(Piece::Token(id32.ok_or_else(|| id.expected("an id"))?, type_id));
        }
    }
    Ok(pieces)
}

pub(super) fn decoders(value: Option<Value<'_>>) -> Result<Vec<Box<dyn Stage>>> {
    let mut whole = false; // whether what follows sees all of the text as one token
    if value.is_none() {
        return Ok(vec![Box::new(decode::Spaces)]);
    }
    let steps =
        each(value, ("decoder", "decoders"), &mut |fields, kind| -> Result<Option<Box<dyn Stage>>> {
            Ok(Some(match kind {
                "ByteLevel" => {
                    whole = true;
                    Box::new(decode::ByteLevel)
                }
                "Fuse" => {
                    whole = true;
                    return Ok(None);
                }
                "ByteFallback" => Box::new(decode::ByteFallback),
                "WordPiece" => Box::new(decode::WordPiece {
                    prefix: fields.text_or("prefix", "##")?.into_owned(),
                    cleanup: fields.flag("cleanup", true)?,
                }),
                "Metaspace" => Box::new(decode::Metaspace {
                    replacement: fields.character("replacement")?,
                    drop_first: prepend(fields)? != Prepend::Never,
                }),
                "Strip" => Box::new(decode::Strip {
                    content: fields.character("content")?,
                    start: fields.size("start")?,
                    stop: fields.size("stop")?,
                    whole,
                }),
                "Replace" => {
                    let pattern = pattern(fields)?;
                    let single = matches!(&pattern, Pattern::Literal(text) if text.chars().count() == 1);
                    if whole && !single {
                        return Err(fields.error("a decoder that replaces more than a character after Fuse"));
                    }
                    Box::new(decode::Replace(pattern, fields.text_or("content", "")?.into_owned()))
                }
                "BPEDecoder" => Box::new(decode::Suffix(fields.text_or("suffix", "</w>")?.into_owned())),
                other => return Err(fields.unknown("decoder", other)),
            }))
        })?;
    Ok(steps.into_iter().flatten().collect())
}
