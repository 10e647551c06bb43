//! The best k, in an order that does not depend on when they came.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// A document that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Hit {
    /// Its id.
    pub id: String,
    /// How well it answers: more is better.
    pub score: f64,
}

impl Hit {
    /// The better first; of equals, the smaller id.
    pub fn order(a: &Hit, b: &Hit) -> Ordering {
        b.score.total_cmp(&a.score).then_with(|| a.id.cmp(&b.id))
    }
}

/// One that is kept: the worst is the greatest.
struct Kept(Hit);

impl PartialEq for Kept {
    fn eq(&self, other: &Kept) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for Kept {}
impl PartialOrd for Kept {
    fn partial_cmp(&self, other: &Kept) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Kept {
    fn cmp(&self, other: &Kept) -> Ordering {
        Hit::order(&self.0, &other.0)
    }
}

/// The best `k` of what is offered.
///
/// ```
/// use samebits::rag::retrieve::{Hit, Top, diverse};
/// let mut top = Top::new(2);
/// [(1.0, "c"), (3.0, "b"), (3.0, "a")].iter().for_each(|&(score, id)| top.offer(score, id));
/// let hits: Vec<Hit> = top.into_hits();
/// assert_eq!(hits.iter().map(|hit| hit.id.as_str()).collect::<Vec<_>>(), ["a", "b"]); // of equals the smaller id
/// // Two that differ: "b" says the same as "a".
/// let alike = |i: usize, j: usize| if i.max(j) == 1 { 1.0 } else { 0.0 };
/// let three = [hits.clone(), vec![Hit { id: "c".into(), score: 2.5 }]].concat();
/// assert_eq!(diverse(&three, 2, 0.5, &alike)[1].id, "c");
/// ```
pub struct Top {
    k: usize,
    kept: BinaryHeap<Kept>,
}

impl Top {
    /// None yet.
    pub fn new(k: usize) -> Top {
        Top { k, kept: BinaryHeap::new() }
    }

    /// Takes a document in, if it is good enough. A score that is no number never is.
    pub fn offer(&mut self, score: f64, id: &str) {
        if score.is_nan() || self.k == 0 {
            return;
        }
        // +0 and −0 are the same score.
        let score = score + 0.0;
        if self.kept.len() == self.k {
            let Some(worst) = self.kept.peek() else { return };
            let better = score.total_cmp(&worst.0.score).then_with(|| worst.0.id.as_str().cmp(id));
            if better != Ordering::Greater {
                return;
            }
            self.kept.pop();
        }
        self.kept.push(Kept(Hit { id: id.to_owned(), score }));
    }

    /// The kept ones, the best first.
    pub fn into_hits(self) -> Vec<Hit> {
        self.kept.into_sorted_vec().into_iter().map(|Kept(hit)| hit).collect()
    }
}
