//! A text that grows token by token, of a model and whoever asks.

use std::sync::Arc;

use super::memory::{Buffer, close, exclusive, put, reference, slice};
use super::{Engine, Fault, Model, Outcome, Status, door};
use crate::io::tokenizer::Decoder;
use crate::model::{Generator, Sampler, Settings};
use crate::run::Run;

/// `samebits_generate_options`
#[repr(C)]
#[derive(Clone, Copy)]
pub struct GenerateOptions {
    pub(super) max_tokens: usize,
    temperature: f32,
    top_p: f32,
    min_p: f32,
    repeat_penalty: f32,
    top_k: usize,
    seed: u64,
}

/// What `samebits_generate_defaults` gives: the likeliest token each time.
const GREEDY: GenerateOptions = GenerateOptions {
    max_tokens: 0,
    temperature: 0.0,
    top_p: 1.0,
    min_p: 0.0,
    repeat_penalty: 1.0,
    top_k: 0,
    seed: 0,
};

impl GenerateOptions {
    /// Those of the caller; of NULL the likeliest token each time.
    ///
    /// # Safety
    /// `options` is NULL or points to options.
    pub(super) unsafe fn read(options: *const GenerateOptions) -> Outcome<GenerateOptions> {
        // SAFETY: as the caller says.
        if options.is_null() { Ok(GREEDY) } else { unsafe { reference(options, "options") }.copied() }
    }

    fn sampler(&self) -> Outcome<Sampler> {
        let GenerateOptions { temperature, top_k, top_p, min_p, repeat_penalty, seed, .. } = *self;
        let settings = Settings { temperature, top_k, top_p, min_p, repeat_penalty, ..Settings::default() };
        Ok(Sampler::new(&settings, seed)?)
    }
}

/// Fills options: the likeliest token each time, until the model or the buffer ends the text.
///
/// # Safety
/// `options` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn samebits_generate_defaults(options: *mut GenerateOptions) -> Status {
    // SAFETY: as the caller says.
    door(|| unsafe { put(options, "options", || GREEDY) })
}

/// Tokens of a model becoming text.
pub(super) struct Talk<'m> {
    model: &'m Model,
    generator: Generator<'m>,
    decoder: Decoder<'m>,
    /// What was drawn and not yet taken.
    text: String,
    ended: bool,
}

impl<'m> Talk<'m> {
    /// Nothing was said; `context` tokens will be at most, 0 for what the model has room for.
    pub(super) fn new(model: &'m Model, options: &GenerateOptions, context: usize) -> Outcome<Talk<'m>> {
        let room = model.decoder.config().context;
        let capacity = if context == 0 { room } else { context };
        if capacity > 1 << 24 {
            return Err(Fault::argument(format!("context is {capacity}, at most {}", 1 << 24)));
        }
        let generator = Generator::new(&model.decoder, options.sampler()?, capacity);
        Ok(Talk {
            model,
            generator,
            decoder: model.tokenizer.decoder(true),
            text: String::new(),
            ended: false,
        })
    }

    /// Tokens that the caller says.
    pub(super) fn feed(&mut self, run: &Run<'_>, ids: &[u32]) -> Outcome {
        self.generator.feed::<crate::Error>(run, ids, |_| Ok(()))?;
        // In the middle of a text some tokenizers write a space that they leave out at its beginning.
        ids.iter().for_each(|&id| {
            self.decoder.push(id);
        });
        self.ended = false;
        Ok(())
    }

    /// The next token, unless the text is over.
    pub(super) fn next(&mut self, run: &Run<'_>) -> Outcome<Option<u32>> {
        if self.ended || self.generator.left() == 0 {
            return Ok(None);
        }
        let id = self.generator.next(run)?;
        if self.model.ends(id) {
            self.finish();
            self.ended = true;
            return Ok(None);
        }
        self.text.push_str(self.decoder.push(id));
        Ok(Some(id))
    }

    /// What waits for a second half of a character comes too.
    pub(super) fn finish(&mut self) {
        self.text.push_str(self.decoder.finish());
    }

    /// What was drawn.
    pub(super) fn text(&self) -> &str {
        &self.text
    }
}

/// A text under way. Its fields are dropped in this order: what borrows the model, then the model.
pub struct Session {
    talk: Talk<'static>,
    _model: Arc<Model>,
}

/// Begins a text of `model`; `context` tokens at most, 0 for what the model has room for.
///
/// # Safety
/// Pointers are NULL or as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn samebits_session_open(
    model: *const Model,
    options: *const GenerateOptions,
    context: usize,
    session: *mut *mut Session,
) -> Status {
    door(|| {
        // SAFETY: as the caller says.
        let options = unsafe { GenerateOptions::read(options) }?;
        // SAFETY: likewise.
        unsafe { reference(model, "model") }?;
        // SAFETY: an open model came from `Arc::into_raw`; its own count stays as it was.
        let shared = unsafe {
            Arc::increment_strong_count(model);
            Arc::from_raw(model)
        };
        // SAFETY: the session holds `shared`, where the model lies and stays, and drops it last.
        let forever: &'static Model = unsafe { &*Arc::as_ptr(&shared) };
        let talk = Talk::new(forever, &options, context)?;
        // SAFETY: as the caller says.
        unsafe { put(session, "session", || Box::into_raw(Box::new(Session { talk, _model: shared }))) }
    })
}

/// Adds tokens that somebody else says.
///
/// # Safety
/// Pointers are NULL or as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn samebits_session_feed(
    engine: *const Engine,
    session: *mut Session,
    ids: *const u32,
    count: usize,
) -> Status {
    door(|| {
        // SAFETY: as the caller says.
        let (engine, session, ids) = unsafe {
            (reference(engine, "engine")?, exclusive(session, "session")?, slice(ids, count, "ids")?)
        };
        session.talk.feed(&engine.run(), ids)
    })
}

/// Draws the next token; [`Status::End`] where the text is over.
///
/// # Safety
/// Pointers are NULL or as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn samebits_session_next(
    engine: *const Engine,
    session: *mut Session,
    id: *mut u32,
) -> Status {
    door(|| {
        // SAFETY: as the caller says.
        let (engine, session, id) =
            unsafe { (reference(engine, "engine")?, exclusive(session, "session")?, exclusive(id, "id")?) };
        match session.talk.next(&engine.run())? {
            Some(next) => *id = next,
            None => return Err(Fault { status: Status::End, message: String::new() }),
        }
        Ok(())
    })
}

/// Takes out what was drawn since it was taken last: as many whole characters as fit.
///
/// # Safety
/// Pointers are NULL or as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn samebits_session_text(session: *mut Session, text: *mut Buffer) -> Status {
    door(|| {
        // SAFETY: as the caller says.
        let (session, text) = unsafe { (exclusive(session, "session")?, exclusive(text, "text")?) };
        // SAFETY: likewise.
        let taken = unsafe { text.part(&session.talk.text) }?;
        session.talk.text.drain(..taken);
        Ok(())
    })
}

/// Ends a session; NULL is nothing.
///
/// # Safety
/// `session` is NULL or open, and nobody uses it any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn samebits_session_close(session: *mut Session) {
    // SAFETY: as the caller says.
    unsafe { close(session) }
}
