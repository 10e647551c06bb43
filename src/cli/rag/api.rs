//! What `samebits serve` computes: a JSON object in, a JSON object out.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use super::ask::{self, Stages};
use super::llm::Llm;
use super::rerank::Second;
use super::search;
use crate::cli::base64::base64;
use crate::io::json::{self, Value, Writer};
use crate::pool::Pool;
use crate::rag::index::{Mode, Query};
use crate::rag::{EmbeddingModel, Filter, Index, Retriever};
use crate::run::Run;
use crate::serve::http::{Refusal, Request};
use crate::serve::response::Response;
use crate::{Cpu, Error};

/// Bytes of a question, and of a filter, at most: each is looked at as a whole.
const QUESTION: usize = 32 << 10;
/// Texts to embed in one request, at most.
const TEXTS: usize = 2048;

/// Everything that answers are made of.
pub struct Api<'a> {
    pub index: &'a Index,
    /// The one of the index; of an index without vectors, another.
    pub embedder: Option<Box<dyn EmbeddingModel>>,
    /// A second look at what is found.
    pub second: Option<Second>,
    pub llm: Option<Llm>,
    pub cpu: Cpu,
    pub pool: &'a Pool,
}

/// A mistake of the server's: requests have been looked at before.
impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        Refusal::new(500, error.to_string())
    }
}

fn wrong(what: impl Into<Cow<'static, str>>) -> Refusal {
    Refusal::new(400, what)
}

impl Api<'_> {
    /// What [`Api::answer`] answers.
    pub const PATHS: [&'static str; 4] = ["/search", "/ask", "/embed", "/v1/embeddings"];

    /// Those that wait for a language model.
    pub fn slow(&self) -> &'static [&'static str] {
        if self.llm.is_some() { &["/ask"] } else { &[] }
    }

    /// Who computes an answer; what it borrows meanwhile is given back with it.
    fn run(&self) -> Run<'_> {
        Run::on(self.cpu, self.pool)
    }

    /// The answer to a request.
    pub fn answer(&self, request: &Request) -> Response {
        let answer =
            json::parse(&request.body).map_err(|e| wrong(format!("the body: {e}"))).and_then(|body| {
                let asked = Asked::of(body)?;
                match request.path.as_str() {
                    "/search" => self.search(&asked),
                    "/ask" => self.ask(&asked),
                    _ => self.embed(&asked),
                }
            });
        answer.map_or_else(|refusal| Response::refused(&refusal), Response::json)
    }

    /// What is served, as JSON.
    pub fn info(&self, name: &str) -> crate::Result<String> {
        let mut w = Writer::compact();
        let dim = self.index.dim()?;
        w.object(|w| {
            w.key("samebits").string(env!("CARGO_PKG_VERSION"));
            w.key("index").string(name);
            w.key("documents").number(self.index.documents());
            w.key("chunks").number(self.index.chunks());
            w.key("bytes").number(self.index.len_bytes());
            if let (Some(model), Some(dim)) = (&self.index.settings().model, dim) {
                w.key("model").string(model);
                w.key("dimensions").number(dim);
            }
            search::write_classes(
                w,
                self.index,
                self.second.as_ref(),
                self.llm.as_ref().map(Llm::arithmetic),
            );
            w.key("modes").array(|w| self.modes().iter().for_each(|(name, _)| w.string(name)));
            w.key("embeds").boolean(self.embedder.is_some());
            w.key("reranks").boolean(self.second.is_some());
            w.key("llm").boolean(self.llm.is_some());
        });
        Ok(w.finish())
    }

    /// What the index can do, what it does unless asked otherwise first.
    fn modes(&self) -> &'static [(&'static str, Mode)] {
        const ALL: [(&str, Mode); 3] =
            [("hybrid", Mode::Hybrid), ("dense", Mode::Dense), ("lexical", Mode::Lexical)];
        if self.index.settings().model.is_some() { &ALL } else { &ALL[2..] }
    }

    fn mode(&self, asked: &Asked<'_>) -> Result<Mode, Refusal> {
        let modes = self.modes();
        let Some(name) = asked.text("mode", QUESTION)? else { return Ok(modes[0].1) };
        modes.iter().find(|(known, _)| *known == name).map(|(_, mode)| *mode).ok_or_else(|| {
            let known: Vec<&str> = modes.iter().map(|(known, _)| *known).collect();
            wrong(format!("\"mode\" is one of {}", known.join(", ")))
        })
    }

    /// The model of the index's vectors, where the mode needs it.
    fn embedder(&self, mode: Mode) -> Option<&dyn EmbeddingModel> {
        self.embedder.as_deref().filter(|_| mode != Mode::Lexical)
    }

    /// `{"query", "k", "mode", "filter"}`: what `samebits search --json` prints.
    fn search(&self, asked: &Asked<'_>) -> Result<String, Refusal> {
        asked.only(&["query", "k", "mode", "filter"])?;
        let text = &asked.needed("query")?;
        let (mode, filter) = (self.mode(asked)?, asked.filter()?);
        let k = asked.count("k", 1..=1000)?.unwrap_or(10);
        let embed = |model: &dyn EmbeddingModel| model.embed_query(&self.run(), text);
        let vector = self.embedder(mode).map(embed).transpose()?;
        let weight = self.embedder(mode).map_or(1.0, EmbeddingModel::weight);
        let query = Query { text, vector: vector.as_deref(), k, mode, filter: filter.as_ref(), weight };
        Ok(search::answer(&self.run(), self.index, &query, self.second.as_ref())?)
    }

    /// `{"question", "k", "mode", "filter", "quotes", "trace"}`: what `samebits ask --json` prints.
    fn ask(&self, asked: &Asked<'_>) -> Result<String, Refusal> {
        asked.only(&["question", "k", "mode", "filter", "quotes", "trace"])?;
        let question = asked.needed("question")?;
        let (mode, filter) = (self.mode(asked)?, asked.filter()?);
        let k = asked.count("k", 1..=1000)?.unwrap_or(20);
        let quotes = asked.count("quotes", 1..=100)?.unwrap_or(5);
        let trace = asked.flag("trace")?;
        let mut retriever = Retriever::new(self.index, self.embedder(mode))?.with_mode(mode).with_k(k);
        if let Some(filter) = &filter {
            retriever = retriever.with_filter(filter);
        }
        let stages = Stages { retriever, second: self.second.as_ref(), llm: self.llm.as_ref(), quotes };
        let answer = ask::answer(&self.run(), &stages, &question)?;
        Ok(ask::json(&answer, &stages, trace))
    }

    /// OpenAI's `{"input", "encoding_format", "dimensions"}`. What else its clients send means nothing here and is passed
    /// over; `"input_type": "query"` asks for the vector of a text that searches.
    fn embed(&self, asked: &Asked<'_>) -> Result<String, Refusal> {
        let none = || Refusal::new(501, "the index has no vectors: serve it with --embedder DIR");
        let model = self.embedder.as_deref().ok_or_else(none)?;
        let texts = asked.texts("input")?;
        let texts: Vec<&str> = texts.iter().map(|text| &**text).collect();
        let format = asked.text("encoding_format", QUESTION)?;
        let write: fn(&mut Writer, &[f32]) = match format.as_deref() {
            None | Some("float") => |w, row| w.array(|w| row.iter().for_each(|&x| w.number(x))),
            Some("base64") => |w, row| w.string(&base64(row.iter().flat_map(|x| x.to_le_bytes()))),
            Some(_) => return Err(wrong("\"encoding_format\" is float or base64")),
        };
        let dim = model.dim();
        if asked.count("dimensions", 1..=1 << 20)?.is_some_and(|asked| asked != dim) {
            return Err(wrong(format!("\"dimensions\": this model has {dim}")));
        }
        let rows = match asked.text("input_type", QUESTION)?.as_deref() {
            None | Some("document" | "passage") => model.embed(&self.run(), &texts)?,
            Some("query") => model.embed_queries(&self.run(), &texts)?,
            Some(_) => return Err(wrong("\"input_type\" is document or query")),
        };
        let tokens = texts.iter().map(|text| model.tokens(text)).sum::<crate::Result<usize>>()?;
        let mut w = Writer::compact();
        w.object(|w| {
            w.key("object").string("list");
            w.key("data").array(|w| {
                for (i, row) in rows.chunks(dim).enumerate() {
                    w.object(|w| {
                        w.key("object").string("embedding");
                        w.key("index").number(i);
                        write(w.key("embedding"), row);
                    });
                }
            });
            w.key("model").string(&model.name());
            w.key("usage").object(|w| {
                ["prompt_tokens", "total_tokens"].iter().for_each(|key| w.key(key).number(tokens))
            });
        });
        Ok(w.finish())
    }
}

/// What a request's object says. `null` is as good as nothing.
struct Asked<'a>(Vec<(Cow<'a, str>, Value<'a>)>);

impl<'a> Asked<'a> {
    fn of(body: Value<'a>) -> Result<Asked<'a>, Refusal> {
        let entries = body.entries().ok_or_else(|| wrong("the body is an object"))?;
        Ok(Asked(entries.filter(|(_, value)| !value.is_null()).take(64).collect()))
    }

    /// Refuses what would be passed over: it is a mistake of typing more often than not.
    fn only(&self, known: &[&str]) -> Result<(), Refusal> {
        match self.0.iter().find(|(key, _)| !known.contains(&&**key)) {
            Some((key, _)) => Err(wrong(format!("there is no {key:.40?}; there are {}", known.join(", ")))),
            None => Ok(()),
        }
    }

    fn get(&self, key: &str) -> Option<Value<'a>> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, value)| *value)
    }

    fn text(&self, key: &str, most: usize) -> Result<Option<Cow<'a, str>>, Refusal> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let text = value.as_str().ok_or_else(|| wrong(format!("{key:?} is a string")))?;
        if text.len() > most {
            return Err(wrong(format!("{key:?} has at most {most} bytes")));
        }
        Ok(Some(text))
    }

    fn needed(&self, key: &str) -> Result<Cow<'a, str>, Refusal> {
        self.text(key, QUESTION)?.ok_or_else(|| wrong(format!("{key:?} is missing")))
    }

    fn count(&self, key: &str, range: RangeInclusive<usize>) -> Result<Option<usize>, Refusal> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let n = value.as_usize().filter(|n| range.contains(n));
        let what = || wrong(format!("{key:?} is a whole number from {} to {}", range.start(), range.end()));
        n.map(Some).ok_or_else(what)
    }

    fn flag(&self, key: &str) -> Result<bool, Refusal> {
        let value = self
            .get(key)
            .map(|value| value.as_bool().ok_or_else(|| wrong(format!("{key:?} is true or false"))));
        Ok(value.transpose()?.unwrap_or(false))
    }

    fn filter(&self) -> Result<Option<Filter>, Refusal> {
        let Some(text) = self.text("filter", QUESTION)? else { return Ok(None) };
        Filter::parse(&text).map(Some).map_err(|e| wrong(format!("\"filter\": {e}")))
    }

    /// A text or texts, at least one.
    fn texts(&self, key: &str) -> Result<Vec<Cow<'a, str>>, Refusal> {
        let value = self.get(key).ok_or_else(|| wrong(format!("{key:?} is missing")))?;
        if let Some(text) = value.as_str() {
            return Ok(vec![text]);
        }
        let texts = value
            .elements()
            .and_then(|all| all.take(TEXTS + 1).map(Value::as_str).collect::<Option<Vec<_>>>());
        let count = |texts: &Vec<_>| (1..=TEXTS).contains(&texts.len());
        texts.filter(count).ok_or_else(|| wrong(format!("{key:?} is a string, or 1 to {TEXTS} strings")))
    }
}
