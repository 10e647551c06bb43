//! Cuts where the subject changes: between neighbouring sentences whose vectors are far apart.

use super::pack::{Packing, Plan};
use crate::rag::segment;
use crate::{Error, Result};
use core::ops::Range;

/// Vectors of texts, in their order.
pub type Embed<'m> = dyn Fn(&[&str]) -> Result<Vec<Vec<f32>>> + 'm;

/// How far apart is far.
///
/// ```
/// use samebits::rag::chunk::{Embed, TextChunker, Threshold, Unit};
/// // Vectors that tell sentences of cats from others.
/// let embed = |texts: &[&str]| {
///     Ok(texts.iter().map(|t| if t.contains("at") { vec![1.0, 0.0] } else { vec![0.0, 1.0] }).collect())
/// };
/// let embed: &Embed = &embed;
/// let chunker = TextChunker::semantic(Unit::Chars, 200, embed, 0, Threshold::Percentile(60.0))?;
/// let chunks = chunker.chunk("A cat sat. It ate. Snow is cold. It melts.")?;
/// assert_eq!(chunks.iter().map(|c| c.text).collect::<Vec<_>>(), ["A cat sat. It ate. ", "Snow is cold. It melts."]);
/// # Ok::<(), samebits::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Threshold {
    /// Further than so many percent of all distances; 95 is usual.
    Percentile(f64),
    /// Further from the mean than so many standard deviations; 3 is usual.
    StandardDeviation(f64),
    /// Further from the mean than so many times the distance of the quartiles; 1.5 is usual.
    Interquartile(f64),
    /// Where distances grow faster than at so many percent of all places; 95 is usual.
    Gradient(f64),
}

/// How subjects are told apart.
#[derive(Clone, Copy)]
pub(super) struct Semantic<'m> {
    pub(super) embed: &'m Embed<'m>,
    /// Sentences on each side that a sentence is embedded with.
    pub(super) buffer: usize,
    pub(super) threshold: Threshold,
}

impl core::fmt::Debug for Semantic<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Semantic").field("buffer", &self.buffer).field("threshold", &self.threshold).finish()
    }
}

impl Semantic<'_> {
    /// The chunks of `text`; a subject longer than the plan allows is cut as the plan says.
    pub(super) fn split(&self, plan: &Plan<'_>, text: &str) -> Result<Vec<Range<usize>>> {
        let mut chunks = Vec::new();
        for subject in self.subjects(text)? {
            let parts = Packing::new(plan, &text[subject.clone()]);
            chunks.extend(parts.map(|part| subject.start + part.start..subject.start + part.end));
        }
        Ok(chunks)
    }

    fn subjects(&self, text: &str) -> Result<Vec<Range<usize>>> {
        let sentences: Vec<Range<usize>> = segment::ranges(segment::prose(text), 0).collect();
        if sentences.len() < 2 {
            return Ok(sentences);
        }
        let windows = (0..sentences.len()).map(|i| {
            let last = (i + self.buffer).min(sentences.len() - 1);
            text[sentences[i.saturating_sub(self.buffer)].start..sentences[last].end].trim()
        });
        let windows: Vec<&str> = windows.collect();
        let vectors = (self.embed)(&windows)?;
        if vectors.len() != windows.len() {
            return Err(Error::invalid(format!("{} vectors for {} texts", vectors.len(), windows.len())));
        }
        let pairs = vectors.windows(2).map(|pair| distance(&pair[0], &pair[1]));
        let breaks = self.threshold.above(&pairs.collect::<Result<Vec<f64>>>()?);
        let ends = breaks.into_iter().chain([sentences.len() - 1]);
        let subjects = ends.scan(0, |start, last| {
            let subject = *start..sentences[last].end;
            *start = subject.end;
            Some(subject)
        });
        Ok(subjects.collect())
    }
}

/// 1 − the cosine; 1 where a vector is zero.
fn distance(a: &[f32], b: &[f32]) -> Result<f64> {
    if a.len() != b.len() {
        return Err(Error::invalid(format!("vectors of {} and {} components", a.len(), b.len())));
    }
    let product =
        |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    let norms = (product(a, a) * product(b, b)).sqrt();
    let distance = if norms > 0.0 { 1.0 - product(a, b) / norms } else { 1.0 };
    if distance.is_finite() { Ok(distance) } else { Err(Error::invalid("a vector that is not finite")) }
}

impl Threshold {
    /// The places whose distance is above it, in order.
    fn above(self, distances: &[f64]) -> Vec<usize> {
        let n = distances.len() as f64;
        let mean = distances.iter().sum::<f64>() / n;
        let places = |values: &[f64], limit: f64| (0..values.len()).filter(|&i| values[i] > limit).collect();
        match self {
            Threshold::Percentile(percent) => places(distances, percentile(distances, percent)),
            Threshold::StandardDeviation(times) => {
                let variance = distances.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / n;
                places(distances, mean + times * variance.sqrt())
            }
            Threshold::Interquartile(times) => {
                let range = percentile(distances, 75.0) - percentile(distances, 25.0);
                places(distances, mean + times * range)
            }
            Threshold::Gradient(percent) => {
                let slopes = gradient(distances);
                places(&slopes, percentile(&slopes, percent))
            }
        }
    }
}

/// The value at so many percent of the sorted values, between two of them on the line that joins them.
fn percentile(values: &[f64], percent: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (sorted.len() - 1) as f64 * percent.clamp(0.0, 100.0) / 100.0;
    let (below, part) = (at.floor() as usize, at.fract());
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (sorted[above] - sorted[below]) * part
}

/// The slope at each place: through both neighbours, or through the one that there is.
fn gradient(values: &[f64]) -> Vec<f64> {
    let last = values.len() - 1;
    let slope = |i: usize| {
        let (before, after) = (i.saturating_sub(1), (i + 1).min(last));
        (values[after] - values[before]) / (after - before).max(1) as f64
    };
    (0..=last).map(slope).collect()
}
