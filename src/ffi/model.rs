//! A model that continues texts: opened, asked for tokens, logits, a text.

use std::ffi::c_char;
use std::sync::Arc;

use super::memory::{Buffer, exclusive, put, reference, slice, slice_mut, string, string_or_none};
use super::session::{GenerateOptions, Talk};
use super::{Engine, Fault, Outcome, Status, door};
use crate::io::tokenizer::{EncodeOptions, Tokenizer};
use crate::model::{self, Opening, Sequence, Workspace};

/// A decoder with its tokenizer.
pub struct Model {
    pub(super) decoder: model::Decoder,
    pub(super) tokenizer: Tokenizer,
}

impl Model {
    /// The tokens of a text that begins here; that which begins every text, where there is none else.
    pub(super) fn ids(&self, text: &str) -> Outcome<Vec<u32>> {
        let mut ids = self.tokenizer.encode(text, &EncodeOptions::default())?.ids;
        if ids.is_empty() {
            ids.extend(self.tokenizer.bos_id().or(self.decoder.config().bos));
        }
        Ok(ids)
    }

    /// Whether the token ends a text.
    pub(super) fn ends(&self, id: u32) -> bool {
        self.tokenizer.eos_id() == Some(id) || self.decoder.config().eos.contains(&id)
    }
}

/// `samebits_model_info`
#[repr(C)]
pub struct ModelInfo {
    vocab: usize,
    context: usize,
    dim: usize,
    layers: usize,
}

/// Opens a model that continues texts: a folder of Hugging Face, a GGUF file, a checkpoint of llama2.c; NULL is the
/// model inside the library.
///
/// # Safety
/// Pointers are NULL or as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn samebits_model_open(
    engine: *const Engine,
    path: *const c_char,
    model: *mut *mut Model,
) -> Status {
    door(|| {
        // SAFETY: as the caller says.
        let (engine, path) = unsafe { (reference(engine, "engine")?, string_or_none(path, "path")?) };
        let opened = match path {
            Some(path) => Model {
                tokenizer: Tokenizer::open(path)?,
                decoder: model::Decoder::open_with(path, engine.cpu, Opening::default())?, // read: a map would set a handler of SIGBUS
            },
            None => inside(engine)?,
        };
        // SAFETY: as the caller says.
        unsafe { put(model, "model", || Arc::into_raw(Arc::new(opened)).cast_mut()) }
    })
}

fn inside(engine: &Engine) -> Outcome<Model> {
    Ok(Model { decoder: crate::assets::model(engine.cpu)?, tokenizer: crate::assets::tokenizer()? })
}

/// Closes a model; NULL is nothing. What was opened with it goes on.
///
/// # Safety
/// `model` is NULL or open, and nobody else uses it any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn samebits_model_close(model: *mut Model) {
    if !model.is_null() {
        door(|| {
            // SAFETY: it came from `Arc::into_raw`, and as the caller says.
            drop(unsafe { Arc::from_raw(model) });
            Ok(())
        });
    }
}

/// Sizes of a model.
///
/// # Safety
/// Pointers are NULL or as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn samebits_model_describe(model: *const Model, info: *mut ModelInfo) -> Status {
    door(|| {
        // SAFETY: as the caller says.
        let model = unsafe { reference(model, "model") }?;
        let config = model.decoder.config();
        let (vocab, context, dim, layers) = (config.vocab, config.context, config.dim, config.windows.len());
        // SAFETY: as the caller says.
        unsafe { put(info, "info", || ModelInfo { vocab, context, dim, layers }) }
    })
}

/// The tokens of a text, those that the model puts around every text among them.
///
/// # Safety
/// Pointers are NULL or as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn samebits_tokenize(
    model: *const Model,
    text: *const c_char,
    ids: *mut u32,
    capacity: usize,
    count: *mut usize,
) -> Status {
    door(|| {
        // SAFETY: as the caller says.
        let (model, text, out) =
            unsafe { (reference(model, "model")?, string(text, "text")?, slice_mut(ids, capacity, "ids")?) };
        let found = model.ids(text)?;
        // SAFETY: as the caller says.
        unsafe { put(count, "count", || found.len()) }?;
        let Some(out) = out.get_mut(..found.len()) else {
            let message = format!("room for {capacity} ids, {} are needed", found.len());
            return Err(Fault { status: Status::Capacity, message });
        };
        out.copy_from_slice(&found);
        Ok(())
    })
}

/// The text of tokens, without special ones.
///
/// # Safety
/// Pointers are NULL or as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn samebits_detokenize(
    model: *const Model,
    ids: *const u32,
    count: usize,
    text: *mut Buffer,
) -> Status {
    door(|| {
        // SAFETY: as the caller says.
        let (model, ids, text) =
            unsafe { (reference(model, "model")?, slice(ids, count, "ids")?, exclusive(text, "text")?) };
        // SAFETY: likewise.
        unsafe { text.whole(&model.tokenizer.decode(ids, true)) }
    })
}

/// The logits of what follows tokens: after the last (`len` = vocab) or after each (`len` = count × vocab).
///
/// # Safety
/// Pointers are NULL or as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn samebits_logits(
    engine: *const Engine,
    model: *const Model,
    ids: *const u32,
    count: usize,
    logits: *mut f32,
    len: usize,
) -> Status {
    door(|| {
        // SAFETY: as the caller says.
        let (engine, model, ids, logits) = unsafe {
            (
                reference(engine, "engine")?,
                reference(model, "model")?,
                slice(ids, count, "ids")?,
                slice_mut(logits, len, "logits")?,
            )
        };
        let (decoder, vocab) = (&model.decoder, model.decoder.config().vocab);
        let each = count.checked_mul(vocab);
        if len != vocab && Some(len) != each || count == 0 {
            let rule = "expected vocab, or count times vocab, of at least one token";
            return Err(Fault::argument(format!(
                "len is {len} for {count} tokens and a vocab of {vocab}: {rule}"
            )));
        }
        let (run, mut cache, mut workspace) = (engine.run(), decoder.cache(count), Workspace::new());
        let mut batch = [Sequence { tokens: ids, cache: &mut cache }];
        if len == vocab {
            Ok(decoder.forward(&run, &mut batch, logits, &mut workspace)?)
        } else {
            Ok(decoder.forward_all(&run, &mut batch, logits, &mut workspace)?)
        }
    })
}

/// Continues a text into the caller's buffer, until the model ends it, `max_tokens` came, or no character fits.
///
/// # Safety
/// Pointers are NULL or as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn samebits_generate(
    engine: *const Engine,
    model: *const Model,
    prompt: *const c_char,
    options: *const GenerateOptions,
    text: *mut Buffer,
) -> Status {
    door(|| {
        // SAFETY: as the caller says.
        let (engine, model, prompt, text) = unsafe {
            (
                reference(engine, "engine")?,
                reference(model, "model")?,
                string(prompt, "prompt")?,
                exclusive(text, "text")?,
            )
        };
        // SAFETY: likewise.
        let options = unsafe { GenerateOptions::read(options) }?;
        let mut talk = Talk::new(model, &options, 0)?;
        let (run, ids, most) = (engine.run(), model.ids(prompt)?, text.room());
        talk.feed(&run, &ids)?;
        let mut tokens = 0;
        while (options.max_tokens == 0 || tokens < options.max_tokens)
            && talk.text().len() < most
            && talk.next(&run)?.is_some()
        {
            tokens += 1;
        }
        talk.finish();
        // SAFETY: as the caller says.
        unsafe { text.part(talk.text()) }.map(|_| ())
    })
}
