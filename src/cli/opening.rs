//! Which model a command works with: that of `--model`, or the one inside the program.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{Args, Failure, Progress};
use crate::io::tokenizer::Tokenizer;
use crate::model::{Decoder, Opening};
use crate::run::Run;

/// A model that is to be opened.
pub struct Chosen {
    /// `None`: the one inside.
    path: Option<PathBuf>,
    /// Where the tokenizer is, if not with the model.
    tokenizer: Option<PathBuf>,
}

impl Chosen {
    /// What `--model` names; without it the model inside, if there is one in this build.
    pub fn of(args: &Args, command: &str) -> Result<Chosen, Failure> {
        let path = args.path("model");
        if path.is_none() && !cfg!(feature = "builtin") {
            let what = format!("{command}: --model PATH is needed: this build has no model inside");
            return Err(Failure::usage(what, None));
        }
        Ok(Chosen { path, tokenizer: None })
    }

    /// With the tokenizer of `path`, where there is one.
    pub fn with_tokenizer(self, path: Option<PathBuf>) -> Chosen {
        Chosen { tokenizer: path, ..self }
    }

    /// Whether it is the model inside.
    pub const fn is_inside(&self) -> bool {
        self.path.is_none()
    }

    /// Its name for messages and files.
    pub fn name(&self) -> &Path {
        self.path.as_deref().unwrap_or(Path::new("samebits-inside"))
    }

    /// Its tokenizer.
    pub fn tokenizer(&self) -> Result<Tokenizer, Failure> {
        Ok(match self.tokenizer.as_ref().or(self.path.as_ref()) {
            Some(path) => Tokenizer::open(path)?,
            None => inside::tokenizer()?,
        })
    }

    /// The model, and how long it took to come.
    pub fn open(&self, run: &Run<'_>, opening: Opening) -> Result<(Decoder, Duration), Failure> {
        let (mut progress, start) = (Progress::new(), Instant::now());
        let Some(path) = &self.path else {
            let mut model = inside::model(run.cpu())?;
            model.set_arithmetic(run.cpu(), opening.arithmetic)?;
            return Ok((model, start.elapsed()));
        };
        progress.show(format_args!("reading {}", path.display()));
        let model = Decoder::open_with(path, run.cpu(), opening)?;
        Ok((model, start.elapsed()))
    }
}

/// Bytes of the model inside, where there is one.
pub const INSIDE: Option<usize> = inside::SIZE;

#[cfg(feature = "builtin")]
use crate::assets as inside;

/// A build without assets: [`Chosen::of`] has refused before.
#[cfg(not(feature = "builtin"))]
mod inside {
    use crate::io::tokenizer::Tokenizer;
    use crate::model::Decoder;
    use crate::{Cpu, Error, Result};

    pub const SIZE: Option<usize> = None;

    fn none<T>() -> Result<T> {
        Err(Error::invalid("this build has no model inside"))
    }

    pub fn model(_cpu: Cpu) -> Result<Decoder> {
        none()
    }

    pub fn tokenizer() -> Result<Tokenizer> {
        none()
    }
}
