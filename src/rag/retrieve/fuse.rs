//! Several rankings made one.

use super::top::{Hit, Top};
use std::collections::BTreeMap;

/// How rankings become one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fusion {
    /// Σ weight / (k + rank), ranks from 1 on: Cormack et al. 2009; k = 60 is usual. Scores do not matter.
    ReciprocalRank {
        /// What makes the first ranks less unequal.
        k: f64,
    },
    /// Σ weight · (score − least) / (greatest − least), each ranking's own; 1 where all its scores are the same.
    Relative,
    /// Σ weight · score.
    Weighted,
}

/// The `k` best of several rankings, each with a weight: a document that a ranking does not have gets nothing from it.
///
/// ```
/// use samebits::rag::{Fusion, Hit, fuse};
/// let hit = |id: &str, score| Hit { id: id.into(), score };
/// let (dense, lexical) = ([hit("a", 0.9), hit("b", 0.8)], [hit("b", 7.0), hit("c", 6.0)]);
/// let fused = fuse(&[(1.0, &dense), (1.0, &lexical)], Fusion::ReciprocalRank { k: 60.0 }, 10);
/// assert_eq!(fused[0].id, "b");
/// assert_eq!(fused[0].score, 1.0 / 62.0 + 1.0 / 61.0);
/// ```
pub fn fuse(rankings: &[(f64, &[Hit])], fusion: Fusion, k: usize) -> Vec<Hit> {
    let mut scores: BTreeMap<&str, f64> = BTreeMap::new();
    for &(weight, hits) in rankings {
        let (least, most) = hits.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), hit| {
            (least.min(hit.score), most.max(hit.score))
        });
        for (i, hit) in hits.iter().enumerate() {
            let score = match fusion {
                Fusion::ReciprocalRank { k } => 1.0 / (k + (i + 1) as f64),
                Fusion::Relative if most > least => (hit.score - least) / (most - least),
                Fusion::Relative => 1.0,
                Fusion::Weighted => hit.score,
            };
            *scores.entry(&hit.id).or_insert(0.0) += weight * score;
        }
    }
    let mut top = Top::new(k);
    scores.into_iter().for_each(|(id, score)| top.offer(score, id));
    top.into_hits()
}

/// Of `candidates`, `k` that answer well and differ from each other: each time the one with the greatest
/// λ · score − (1 − λ) · likeness to the most alike of those before (Carbonell and Goldstein 1998). `alike` compares
/// two candidates by their places.
pub fn diverse(candidates: &[Hit], k: usize, lambda: f64, alike: &dyn Fn(usize, usize) -> f64) -> Vec<Hit> {
    let mut left: Vec<usize> = (0..candidates.len()).collect();
    let mut closest = vec![f64::NEG_INFINITY; candidates.len()];
    let mut chosen = Vec::new();
    while chosen.len() < k && !left.is_empty() {
        let value = |i: usize| {
            let penalty = if closest[i] == f64::NEG_INFINITY { 0.0 } else { closest[i] };
            lambda * candidates[i].score - (1.0 - lambda) * penalty
        };
        let order = |&a: &usize, &b: &usize| {
            value(b).total_cmp(&value(a)).then_with(|| candidates[a].id.cmp(&candidates[b].id))
        };
        let Some(best) = left.iter().copied().min_by(|a, b| order(a, b)) else { break };
        left.retain(|&i| i != best);
        left.iter().for_each(|&i| closest[i] = closest[i].max(alike(i, best)));
        chosen.push(candidates[best].clone());
    }
    chosen
}
