//! What a builder holds, as the sections of a file.

use super::super::lexicon::Words;
use super::super::sections;
use super::super::tables::{ChunkRow, DocumentRow};
use super::{Builder, Entry, key};
use crate::rag::vectors::VectorIndex;
use std::io::{self, Write};

impl Builder {
    pub(super) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut all = Tables::default();
        for (d, (id, entry)) in self.documents.iter().enumerate() {
            all.take(d, id, entry);
        }
        let texts = self.documents.values().flat_map(|entry| {
            entry.chunks.iter().map(|part| [part.headings.as_str(), &entry.text[part.row.bytes.clone()]])
        });
        let words = Words::of(self.settings.analyzer, texts);
        let about = self.settings.write(words.length);
        let mut sections: Vec<(&str, &[u8])> = vec![
            ("about", about.as_bytes()),
            ("document", &all.documents),
            ("chunks", &all.chunks),
            ("names", &all.names),
            ("texts", &all.texts),
            ("terms", &words.terms),
            ("termends", &words.term_ends),
            ("postings", &words.postings),
            ("postends", &words.posting_ends),
            ("lengths", &words.lengths),
        ];
        let vectors = self.vectors.as_ref().map(|vectors| (vectors.to_bytes(), self.rows(vectors)));
        if let Some((vectors, rows)) = &vectors {
            sections.push(("rows", rows));
            sections.push(("vectors", vectors));
            if let Some(graph) = &self.graph {
                sections.push(("graph", graph));
            }
        }
        sections::write(out, &sections)
    }

    /// u32: the chunk of every vector.
    fn rows(&self, vectors: &VectorIndex) -> Vec<u8> {
        let keys =
            self.documents.iter().flat_map(|(id, entry)| (0..entry.chunks.len()).map(move |c| key(id, c)));
        let mut ids = vectors.ids().peekable();
        let mut rows = Vec::new();
        for (chunk, key) in (0u32..).zip(keys) {
            if ids.next_if(|id| *id == key).is_some() {
                rows.extend(chunk.to_le_bytes());
            }
        }
        rows
    }
}

#[derive(Default)]
struct Tables {
    documents: Vec<u8>,
    chunks: Vec<u8>,
    names: Vec<u8>,
    texts: Vec<u8>,
    count: usize,
}

impl Tables {
    fn take(&mut self, number: usize, id: &str, entry: &Entry) {
        let put = |to: &mut Vec<u8>, text: &str| {
            let start = to.len();
            to.extend(text.as_bytes());
            start..to.len()
        };
        let row = DocumentRow {
            id: put(&mut self.names, id),
            metadata: put(&mut self.names, &entry.metadata),
            text: put(&mut self.texts, &entry.text),
            hash: entry.hash,
            first_chunk: self.count,
        };
        row.write(&mut self.documents);
        let mut last = ("", 0..0);
        for part in &entry.chunks {
            // Chunks under the same headings share them.
            if part.headings != last.0 {
                last = (&part.headings, put(&mut self.names, &part.headings));
            }
            let row = ChunkRow { document: number, headings: last.1.clone(), ..part.row.clone() };
            row.write(&mut self.chunks);
        }
        self.count += entry.chunks.len();
    }
}
