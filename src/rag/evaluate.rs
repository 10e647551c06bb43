//! How good a ranking is, given what is relevant: the measures of trec_eval and of sentence-transformers.
//!
//! ```
//! use samebits::rag::evaluate::{Relevant, at};
//! let relevant = Relevant::from([("a".into(), 1), ("b".into(), 1)]);
//! let scores = at(&["a", "x", "b"], &relevant, 3);
//! assert_eq!(scores.recall, 1.0);
//! assert_eq!(scores.precision, 2.0 / 3.0);
//! assert!((scores.ndcg - (1.0 + 0.5) / (1.0 + 1.0 / 3f64.log2())).abs() < 1e-15);
//! ```

use crate::io::json;
use crate::{Error, Result};
use std::collections::BTreeMap;

/// What answers a query: documents and how well, at least 1 where they are relevant.
pub type Relevant = BTreeMap<String, u32>;

/// Measures of a ranking's first documents; of several rankings, their means.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measures {
    /// Normalised discounted cumulative gain: gains are the grades, the discount log₂(rank + 1).
    pub ndcg: f64,
    /// The share of the relevant that is there.
    pub recall: f64,
    /// The share that is relevant.
    pub precision: f64,
    /// One over the rank of the first relevant one.
    pub mrr: f64,
    /// The mean of the precision at each relevant one, over as many as there could be.
    pub map: f64,
    /// 1 where any is relevant.
    pub hit: f64,
}

/// The measures of the first `k` of `ranking`.
pub fn at(ranking: &[&str], relevant: &Relevant, k: usize) -> Measures {
    let grade = |id: &&str| relevant.get(*id).copied().unwrap_or(0);
    let grades: Vec<u32> = ranking.iter().take(k).map(grade).collect();
    let mut best: Vec<u32> = relevant.values().copied().filter(|&grade| grade > 0).collect();
    if best.is_empty() || k == 0 {
        return Measures::default();
    }
    best.sort_unstable_by(|a, b| b.cmp(a));
    let gain = |grades: &[u32]| -> f64 {
        grades.iter().take(k).enumerate().map(|(i, &grade)| f64::from(grade) / ((i + 2) as f64).log2()).sum()
    };
    let found = grades.iter().filter(|&&grade| grade > 0).count() as f64;
    let mut so_far = 0.0;
    let mut precisions = 0.0;
    for (i, _) in grades.iter().enumerate().filter(|(_, grade)| **grade > 0) {
        so_far += 1.0;
        precisions += so_far / (i + 1) as f64;
    }
    let first = grades.iter().position(|&grade| grade > 0);
    Measures {
        ndcg: gain(&grades) / gain(&best),
        recall: found / best.len() as f64,
        precision: found / k as f64,
        mrr: first.map_or(0.0, |i| 1.0 / (i + 1) as f64),
        map: precisions / best.len().min(k) as f64,
        hit: f64::from(u8::from(first.is_some())),
    }
}

/// The mean of each measure; all 0 of none.
pub fn mean(of: &[Measures]) -> Measures {
    let n = of.len().max(1) as f64;
    let mean = |f: fn(&Measures) -> f64| of.iter().map(f).sum::<f64>() / n;
    Measures {
        ndcg: mean(|m| m.ndcg),
        recall: mean(|m| m.recall),
        precision: mean(|m| m.precision),
        mrr: mean(|m| m.mrr),
        map: mean(|m| m.map),
        hit: mean(|m| m.hit),
    }
}

/// Grades by query, from lines `query document grade` (BEIR, with a heading) or `query 0 document grade` (TREC), between
/// white space. Documents of grade 0 are kept: they were judged.
///
/// ```
/// use samebits::rag::evaluate::{Measures, Relevant, at, judgements, mean, texts};
/// let judged = judgements("query-id\tcorpus-id\tscore\nq1\td1\t1\nq1\td2\t1\n")?; // as BEIR has them
/// let relevant: &Relevant = &judged["q1"];
/// let measures: Measures = at(&["d1", "d9"], relevant, 10);
/// assert_eq!((measures.recall, measures.mrr), (0.5, 1.0));
/// let nothing = at(&["d8", "d9"], relevant, 10);
/// assert_eq!(mean(&[measures, nothing]).recall, 0.25);
/// assert_eq!(texts("{\"_id\": \"d1\", \"title\": \"Sea\", \"text\": \"Deep.\"}")?, [("d1".into(), "Sea Deep.".into())]);
/// # Ok::<(), samebits::Error>(())
/// ```
///
/// # Errors
/// Where a line has another form; with its number.
pub fn judgements(text: &str) -> Result<BTreeMap<String, Relevant>> {
    let mut all: BTreeMap<String, Relevant> = BTreeMap::new();
    for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (query, document, grade) = match fields[..] {
            [query, document, grade] | [query, _, document, grade] => (query, document, grade),
            _ => return Err(Error::invalid(format!("line {}: {} fields, not 3 or 4", i + 1, fields.len()))),
        };
        // TREC has negative grades for what is worse than not relevant.
        match grade.parse::<i64>() {
            Ok(grade) => {
                let grade = u32::try_from(grade.max(0)).unwrap_or(u32::MAX);
                all.entry(query.to_owned()).or_default().insert(document.to_owned(), grade);
            }
            Err(_) if i == 0 => {} // a heading
            Err(_) => return Err(Error::invalid(format!("line {}: {grade:?} is no grade", i + 1))),
        }
    }
    Ok(all)
}

/// Id and text of every line of a BEIR file: `_id`, and `title` (if there is one) and `text`, joined by a space.
///
/// # Errors
/// Where a line is not such an object; with its number.
pub fn texts(jsonl: &str) -> Result<Vec<(String, String)>> {
    let lines = jsonl.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let text = |line: &str| {
        let value = json::parse(line.as_bytes())?;
        let field = |name: &str| value.get(name).and_then(json::Value::as_str);
        let (Some(id), Some(text)) = (field("_id"), field("text")) else {
            return Err(Error::invalid("no \"_id\" and \"text\""));
        };
        let title = field("title").filter(|title| !title.is_empty());
        let text = title.map_or_else(|| text.clone().into_owned(), |title| format!("{title} {text}"));
        Ok((id.into_owned(), text))
    };
    lines.map(|(i, line)| text(line).map_err(|e| Error::invalid(format!("line {}: {e}", i + 1)))).collect()
}
