//! An index, a model, and how to search: what a pipeline retrieves with.

use super::index::{Found, Index, Mode, Query};
use super::{EmbeddingModel, Filter};
use crate::run::Run;
use crate::{Error, Result};

/// Finds the chunks of an index that answer a question.
#[derive(Clone, Copy)]
pub struct Retriever<'r> {
    index: &'r Index,
    model: Option<&'r dyn EmbeddingModel>,
    mode: Mode,
    k: usize,
    filter: Option<&'r Filter>,
}

impl<'r> Retriever<'r> {
    /// By words and, where there is a model, by meaning; 20 chunks.
    ///
    /// # Errors
    /// Where the model is not the one that made the index's vectors.
    pub fn new(index: &'r Index, model: Option<&'r dyn EmbeddingModel>) -> Result<Retriever<'r>> {
        if let Some(model) = model {
            let (name, known) = (model.name(), index.settings().model.as_deref());
            if known != Some(&name) {
                let known = known.unwrap_or("none");
                return Err(Error::invalid(format!(
                    "the index was made with the model {known}, this is {name}"
                )));
            }
        }
        let mode = if model.is_some() { Mode::Hybrid } else { Mode::Lexical };
        Ok(Retriever { index, model, mode, k: 20, filter: None })
    }

    /// With another mode.
    #[must_use]
    pub fn with_mode(self, mode: Mode) -> Self {
        Retriever { mode, ..self }
    }

    /// With so many chunks.
    #[must_use]
    pub fn with_k(self, k: usize) -> Self {
        Retriever { k, ..self }
    }

    /// Among some documents alone.
    #[must_use]
    pub fn with_filter(self, filter: &'r Filter) -> Self {
        Retriever { filter: Some(filter), ..self }
    }

    /// What is searched.
    pub fn index(&self) -> &'r Index {
        self.index
    }

    /// How many chunks are found.
    pub fn k(&self) -> usize {
        self.k
    }

    /// What is looked at.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The chunks that answer best, the best first.
    ///
    /// # Errors
    /// Where the mode needs a model and there is none, the question cannot be embedded, or the index is damaged.
    pub fn retrieve(&self, run: &Run<'_>, question: &str) -> Result<Vec<Found>> {
        let vector = match (self.mode, self.model) {
            (Mode::Lexical, _) => None,
            (_, Some(model)) => Some(model.embed_query(run, question)?),
            (_, None) => return Err(Error::invalid("a search by meaning needs the model of the index")),
        };
        let Retriever { k, mode, filter, .. } = *self;
        let weight = self.model.map_or(1.0, EmbeddingModel::weight);
        self.index.search(run, &Query { text: question, vector: vector.as_deref(), k, mode, filter, weight })
    }
}
