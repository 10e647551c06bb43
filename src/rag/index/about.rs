//! What an index says of itself, as JSON.

use super::chunking::{Chunking, name_of, named};
use crate::io::json::{self, Writer};
use crate::kernels::attention::Products;
use crate::nn::{Arithmetic, Compute};
use crate::rag::Analyzer;
use crate::rag::retrieve::{Bm25Options, Variant};
use crate::rag::vectors::{Form, Full, Metric, VectorType};
use crate::{Error, Result};

/// What an index was made with: the same settings and documents give the same bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// How documents are cut.
    pub chunking: Chunking,
    /// How texts become terms.
    pub analyzer: Analyzer,
    /// How terms are scored.
    pub bm25: Bm25Options,
    /// The name of the embedding model; none of an index without vectors.
    pub model: Option<String>,
    /// What that model computes in: questions are to be embedded in the same.
    pub arithmetic: Arithmetic,
    /// How vectors are stored; codes with the vectors as halves beside them.
    pub vectors: VectorType,
    /// Whether near vectors are found by a graph: for hundreds of thousands of them.
    pub graph: bool,
    /// The folder that the model was read from, if it was: where to look for it again.
    pub folder: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        let (chunking, analyzer, bm25) = (Chunking::default(), Analyzer::english(), Bm25Options::default());
        let (vectors, graph) = (VectorType::F32, false);
        Settings {
            chunking,
            analyzer,
            bm25,
            model: None,
            arithmetic: Arithmetic::F32,
            vectors,
            graph,
            folder: None,
        }
    }
}

const VARIANTS: [(&str, Variant); 5] = [
    ("lucene", Variant::Lucene),
    ("robertson", Variant::Robertson),
    ("atire", Variant::Atire),
    ("l", Variant::L),
    ("plus", Variant::Plus),
];

impl Settings {
    /// Ways to make terms of texts, by name.
    pub const ANALYZERS: [(&'static str, Analyzer); 2] =
        [("english", Analyzer::english()), ("words", Analyzer::words())];
    /// Ways to store vectors, by name.
    pub const VECTORS: [(&'static str, VectorType); 5] = [
        ("f32", VectorType::F32),
        ("f16", VectorType::F16),
        ("int8", VectorType::Int8),
        ("nf4", VectorType::Nf4),
        ("binary", VectorType::Binary),
    ];

    /// What vectors of `dim` elements are, in an index of these settings.
    pub(super) fn form(&self, dim: usize) -> Result<Form> {
        Ok(Form::new(dim, Metric::Cosine)?.stored(self.vectors, Full::F16))
    }

    /// With the number of terms of all chunks.
    pub(super) fn write(&self, terms: u64) -> String {
        let mut w = Writer::compact();
        w.object(|w| {
            self.chunking.write(w.key("chunking"));
            w.key("analyzer").string(name_of(&Settings::ANALYZERS, self.analyzer));
            w.key("bm25").object(|w| {
                w.key("variant").string(name_of(&VARIANTS, self.bm25.variant));
                w.key("k1").number(self.bm25.k1);
                w.key("b").number(self.bm25.b);
                w.key("delta").number(self.bm25.delta);
            });
            w.key("terms").number(terms);
            w.key("vectors").string(name_of(&Settings::VECTORS, self.vectors));
            w.key("graph").boolean(self.graph);
            self.arithmetic.unusual().for_each(|(key, class)| w.key(key).string(class));
            for (key, value) in [("model", &self.model), ("folder", &self.folder)] {
                if let Some(value) = value {
                    w.key(key).string(value);
                }
            }
        });
        w.finish()
    }

    /// The settings, and the number of terms.
    pub(super) fn read(text: &[u8]) -> Result<(Settings, u64)> {
        let root = json::parse(text)?;
        let wrong =
            |what: &str| Error::invalid(format!("the index says nothing that is known of its {what}"));
        let text = |value: Option<json::Value<'_>>| value.and_then(|v| v.as_str()).map(String::from);
        let analyzer = text(root.get("analyzer")).and_then(|name| named(&Settings::ANALYZERS, &name));
        let bm25 = root.get("bm25").and_then(|bm25| {
            let number = |key: &str| bm25.get(key)?.as_f64();
            Some(Bm25Options {
                variant: named(&VARIANTS, &text(bm25.get("variant"))?)?,
                k1: number("k1")?,
                b: number("b")?,
                delta: number("delta")?,
            })
        });
        let settings = Settings {
            chunking: root.get("chunking").and_then(Chunking::read).ok_or_else(|| wrong("chunks"))?,
            analyzer: analyzer.ok_or_else(|| wrong("terms"))?,
            bm25: bm25.ok_or_else(|| wrong("scores"))?,
            model: text(root.get("model")),
            arithmetic: Arithmetic {
                compute: match text(root.get("compute")) {
                    None => Compute::F32,
                    Some(name) => Compute::from_name(&name).ok_or_else(|| wrong("class of products"))?,
                },
                attention: match text(root.get("attention")) {
                    None => Products::F32,
                    Some(name) => Products::from_name(&name).ok_or_else(|| wrong("class of attention"))?,
                },
            },
            vectors: text(root.get("vectors"))
                .and_then(|name| named(&Settings::VECTORS, &name))
                .ok_or_else(|| wrong("vectors"))?,
            graph: root.get("graph").and_then(|graph| graph.as_bool()).ok_or_else(|| wrong("graph"))?,
            folder: text(root.get("folder")),
        };
        let terms = root.get("terms").and_then(|value| value.as_u64());
        Ok((settings, terms.ok_or_else(|| wrong("number of terms"))?))
    }
}
