//! From a question to an answer whose every quotation can be looked up.
//!
//! ```text
//!   question ─► rewrite ─► retrieve ─► rerank ─► assemble ─► generate ─► verify ─► answer, citations, trace
//!               (hook)     Retriever   Reranker  Context-    any Fn(&str)   │
//!                                                Assembler   └ without one: extract the best sentences
//! ```
//!
//! Every stage is a part that works alone; a pipeline is the order in which they are called, and the trace of it.

use super::context::{Citation, Context, ContextAssembler, Passage};
use super::extract::{Candidate, Extract, Question};
use super::index::{Excerpt, Found};
use super::{Reranker, Retriever, rerank, verify};
use crate::Result;
use crate::run::Run;
use core::ops::Range;
use std::time::Instant;

/// A function from a text to a text that may fail.
type Write<'p> = dyn Fn(&str) -> Result<String> + 'p;

/// Passages that a reranker looks at, unless told: all are read, so they cost, and what is not among them is lost.
pub const RERANKED: usize = 50;

/// Question in, cited answer out.
///
/// ```
/// use samebits::rag::index::{Aids, Builder, Index, Mode, Settings};
/// use samebits::rag::pipeline::{Answer, Quote, RERANKED, RagPipeline, Source, Stage};
/// use samebits::rag::{Analyzer, ContextAssembler, Document, LexicalReranker, Retriever};
/// use samebits::{Cpu, run::Run};
/// let mut builder = Builder::new(Settings::default());
/// builder.add(Document::new("sea", "Whales sing. The sea is eleven kilometres deep."), Aids::default())?;
/// let index = Index::from_bytes(&builder.to_bytes())?;
/// let words = |text: &str| text.split_whitespace().count();
/// let retriever = Retriever::new(&index, None)?.with_mode(Mode::Lexical).with_k(3);
/// let reranker = LexicalReranker::new(Analyzer::english());
/// let pipeline = RagPipeline::new(retriever, ContextAssembler::new(200, &words)).with_reranker(&reranker);
/// let answer: Answer = pipeline.ask(&Run::here(Cpu::detect()), "How deep is the sea?")?;
/// assert!(answer.text.contains("eleven kilometres deep")); // without a language model: quotes
/// let quote: &Quote = &answer.quotes[0];
/// let source: &Source = quote.source.as_ref().unwrap();
/// assert!(source.document == "sea" && source.bytes.end <= 47);
/// let stages: Vec<&str> = answer.trace.iter().map(|stage: &Stage| stage.name).collect();
/// assert!(stages.starts_with(&["retrieve", "rerank"]) && RERANKED >= 3);
/// # Ok::<(), samebits::Error>(())
/// ```
pub struct RagPipeline<'p> {
    retriever: Retriever<'p>,
    assembler: ContextAssembler<'p>,
    rewrite: Option<Box<Write<'p>>>,
    reranker: Option<(&'p dyn Reranker, usize)>,
    llm: Option<Box<Write<'p>>>,
    quotes: usize,
}

/// What a pipeline answers.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The question as it was searched for.
    pub question: String,
    /// What the language model wrote; without one, the quotes with their marks.
    pub text: String,
    /// What it quotes, each looked for in the sources.
    pub quotes: Vec<Quote>,
    /// Marks `[n]` of which there is no citation.
    pub unknown_marks: Vec<usize>,
    /// The share of the answer's runs of three words that stand in the sources.
    pub support: f64,
    /// The prompt and its citations.
    pub context: Context,
    /// What every stage did.
    pub trace: Vec<Stage>,
}

/// A part of an answer that is quoted.
#[derive(Clone, Debug, PartialEq)]
pub struct Quote {
    /// What is quoted.
    pub text: String,
    /// Where it stands; none: it is in none of the sources.
    pub source: Option<Source>,
}

/// Where a quote stands, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The n of its citation.
    pub citation: usize,
    /// The document's id.
    pub document: String,
    /// Bytes of the document's text.
    pub bytes: Range<usize>,
    /// Its first and last line, from 1 on.
    pub lines: (usize, usize),
}

/// A stage, for people who want to see why.
#[derive(Clone, Debug)]
pub struct Stage {
    /// `rewrite`, `retrieve`, `rerank`, `assemble`, `generate`, `extract`, `verify`.
    pub name: &'static str,
    /// How long it took.
    pub seconds: f64,
    /// What it looked at, with the score that it gave.
    pub items: Vec<(String, f64)>,
}

impl<'p> RagPipeline<'p> {
    /// What is found goes into the prompt, nothing else; without a language model, answers are quotes.
    pub fn new(retriever: Retriever<'p>, assembler: ContextAssembler<'p>) -> RagPipeline<'p> {
        RagPipeline { retriever, assembler, rewrite: None, reranker: None, llm: None, quotes: 3 }
    }

    /// With something that makes another question of the question, to search for.
    #[must_use]
    pub fn with_rewrite(self, rewrite: impl Fn(&str) -> Result<String> + 'p) -> Self {
        RagPipeline { rewrite: Some(Box::new(rewrite)), ..self }
    }

    /// With a second look, at the best [`RERANKED`]: the retriever's k are those that `reranker` puts first.
    #[must_use]
    pub fn with_reranker(self, reranker: &'p dyn Reranker) -> Self {
        self.with_reranker_of(reranker, RERANKED)
    }

    /// [`RagPipeline::with_reranker`] that looks at the best `from`, at no fewer than the retriever's k.
    #[must_use]
    pub fn with_reranker_of(self, reranker: &'p dyn Reranker, from: usize) -> Self {
        RagPipeline { reranker: Some((reranker, from)), ..self }
    }

    /// With a language model: from a prompt to an answer.
    #[must_use]
    pub fn with_llm(self, llm: impl Fn(&str) -> Result<String> + 'p) -> Self {
        RagPipeline { llm: Some(Box::new(llm)), ..self }
    }

    /// With so many quotes at most in an answer without a language model.
    #[must_use]
    pub fn with_quotes(self, quotes: usize) -> Self {
        RagPipeline { quotes, ..self }
    }

    /// The prompt for a question, with its citations: where a pipeline without a language model stops.
    ///
    /// # Errors
    /// Where a stage fails.
    pub fn context(&self, run: &Run<'_>, question: &str) -> Result<Context> {
        let mut trace = Trace::default();
        let found = self.find(run, question, &mut trace)?;
        self.assemble(question, &found)
    }

    /// The answer to a question.
    ///
    /// # Errors
    /// Where a stage fails.
    pub fn ask(&self, run: &Run<'_>, question: &str) -> Result<Answer> {
        let mut trace = Trace::default();
        let searched = match &self.rewrite {
            Some(rewrite) => trace.stage("rewrite", || rewrite(question))?,
            None => question.to_owned(),
        };
        let found = self.find(run, &searched, &mut trace)?;
        let context = trace.stage("assemble", || self.assemble(question, &found))?;
        trace.items(context.citations.iter().map(|c| (format!("[{}] {}", c.number, c.document), c.score)));
        let (text, quotes) = match &self.llm {
            Some(llm) => {
                let text = trace.stage("generate", || llm(&context.prompt))?;
                let quotes = trace.stage("verify", || verified(&text, &context.citations));
                (text, quotes)
            }
            None => {
                let (quotes, scores) =
                    trace.stage("extract", || self.extract(question, &found, &context.citations));
                let place = |quote: &Quote| {
                    quote.source.as_ref().map_or(String::new(), |s| format!("[{}]", s.citation))
                };
                trace.items(quotes.iter().map(place).zip(scores));
                let text = |quote: &Quote| format!("“{}” {}", quote.text, place(quote));
                (quotes.iter().map(text).collect::<Vec<_>>().join("\n"), quotes)
            }
        };
        let sources: Vec<&str> = context.citations.iter().map(|citation| citation.text.as_str()).collect();
        let known = |n: &usize| context.citations.iter().any(|citation| citation.number == *n);
        Ok(Answer {
            question: searched,
            unknown_marks: verify::marks(&text).into_iter().filter(|n| !known(n)).collect(),
            support: verify::support(&text, &sources, 3),
            text,
            quotes,
            context,
            trace: trace.0,
        })
    }

    /// What was found, the best first.
    fn find(&self, run: &Run<'_>, question: &str, trace: &mut Trace) -> Result<Vec<(Excerpt<'p>, f64)>> {
        let (index, k) = (self.retriever.index(), self.retriever.k());
        let from = self.reranker.map_or(k, |(_, from)| from.max(k));
        let found = trace.stage("retrieve", || self.retriever.with_k(from).retrieve(run, question))?;
        let excerpt = |found: &Found| Ok((index.excerpt(found.chunk)?, found.score));
        let mut found = found.iter().map(excerpt).collect::<Result<Vec<_>>>()?;
        trace.items(found.iter().map(|(excerpt, score)| (place(excerpt), *score)));
        if let Some((reranker, _)) = self.reranker {
            let excerpts = found.into_iter().map(|(excerpt, _)| excerpt).collect();
            let ranked = || {
                rerank::reranked(run, reranker, question, excerpts, |excerpt: &Excerpt<'_>| excerpt.text())
            };
            found = trace.stage("rerank", ranked)?;
            trace.items(found.iter().map(|(excerpt, score)| (place(excerpt), *score)));
            found.truncate(k);
        }
        Ok(found)
    }

    fn assemble(&self, question: &str, found: &[(Excerpt<'_>, f64)]) -> Result<Context> {
        let passages: Vec<Passage<'_>> =
            found.iter().map(|(excerpt, score)| passage(excerpt, *score)).collect();
        self.assembler.assemble(question, &passages)
    }

    /// The sentences that answer best, of the chunks that are cited, and their scores.
    fn extract(
        &self,
        question: &str,
        found: &[(Excerpt<'_>, f64)],
        citations: &[Citation],
    ) -> (Vec<Quote>, Vec<f64>) {
        let index = self.retriever.index();
        let idf = |term: &str| index.idf(term).unwrap_or(0.0);
        let cited = |excerpt: &Excerpt<'_>| {
            let (document, bytes) = (excerpt.document, &excerpt.bytes);
            citations
                .iter()
                .find(|c| c.document == document && c.bytes.start <= bytes.start && bytes.end <= c.bytes.end)
        };
        // What a reranker says may be a logit: what counts is where it is between its worst and its best.
        let (low, width) = match (self.reranker, found) {
            (Some(_), [(_, best), .., (_, worst)]) if worst < best => (*worst, best - worst),
            _ => (0.0, 1.0),
        };
        let (mut candidates, mut places) = (Vec::new(), Vec::new());
        for (excerpt, score) in found {
            if let Some(citation) = cited(excerpt) {
                candidates.push(Candidate {
                    text: excerpt.text(),
                    headings: excerpt.headings,
                    score: (score - low) / width,
                });
                places.push((citation, excerpt.bytes.start - citation.bytes.start));
            }
        }
        let extracts =
            Question::new(index.settings().analyzer, question, &idf).answers(&candidates, self.quotes);
        let quote = |extract: &Extract| {
            let (citation, at) = places[extract.candidate];
            let bytes = at + extract.bytes.start..at + extract.bytes.end;
            Quote { text: citation.text[bytes.clone()].to_owned(), source: Some(source_of(citation, bytes)) }
        };
        (extracts.iter().map(quote).collect(), extracts.iter().map(|extract| extract.score).collect())
    }
}

/// A chunk with what a reader needs around it, as a part of a prompt.
fn passage<'i>(excerpt: &Excerpt<'i>, score: f64) -> Passage<'i> {
    let bytes = excerpt.context.clone();
    let text = &excerpt.source[bytes.clone()];
    let before = excerpt.source[bytes.start..excerpt.bytes.start.max(bytes.start)].matches('\n').count();
    let first = excerpt.start.line.saturating_sub(before);
    Passage {
        document: excerpt.document,
        text,
        lines: (first, first + text.trim_end().matches('\n').count()),
        bytes,
        score,
    }
}

fn place(excerpt: &Excerpt<'_>) -> String {
    format!("{}:{}", excerpt.document, excerpt.start.line)
}

/// Bytes of a citation as bytes and lines of its document.
fn source_of(citation: &Citation, bytes: Range<usize>) -> Source {
    let line = |at: usize| citation.lines.0 + citation.text[..at].matches('\n').count();
    Source {
        citation: citation.number,
        document: citation.document.clone(),
        lines: (line(bytes.start), line(bytes.end)),
        bytes: citation.bytes.start + bytes.start..citation.bytes.start + bytes.end,
    }
}

/// What a text quotes, looked for in the citations.
fn verified(text: &str, citations: &[Citation]) -> Vec<Quote> {
    let sources: Vec<&str> = citations.iter().map(|citation| citation.text.as_str()).collect();
    let quote = |quotation: verify::Quotation| Quote {
        text: quotation.text,
        source: quotation.place.map(|(i, bytes)| source_of(&citations[i], bytes)),
    };
    verify::quotations(text, &sources).into_iter().map(quote).collect()
}

#[derive(Default)]
struct Trace(Vec<Stage>);

impl Trace {
    /// Runs a stage and writes down how long it took.
    fn stage<T>(&mut self, name: &'static str, run: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let done = run();
        self.0.push(Stage { name, seconds: start.elapsed().as_secs_f64(), items: Vec::new() });
        done
    }

    /// What the last stage looked at.
    fn items(&mut self, items: impl Iterator<Item = (String, f64)>) {
        if let Some(last) = self.0.last_mut() {
            last.items.extend(items);
        }
    }
}
