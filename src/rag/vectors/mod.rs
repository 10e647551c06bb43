//! Vectors, and which of them are closest to a query.
//!
//! ```text
//!   VectorIndex   owned, by id: add, replace, remove ──to_bytes──► bytes ──VectorsRef::parse──► searched where they lie
//!        └───────────────────────────── search ─────────────────────────────────┘
//! ```
//!
//! | metric | what is stored | score, more is better | [distance](Metric::distance) |
//! |---|---|---|---|
//! | cosine | x / ‖x‖, the norm in `f64`, each quotient rounded once | q · x, q made a unit vector likewise | 1 − score, cut to 0..=2 |
//! | dot | x | q · x | −score |
//! | L2 | x | −max(0, q·q + x·x − 2 q·x), in `f64`, rounded once | −score: the *squared* distance |
//!
//! Every product is the `dot` of the law's clause 2. So a score has the same bits for one query or many, on any number of
//! threads, on every instruction set; the distance of a vector to itself under L2 is +0, exactly. A query of zeros has
//! the cosine +0 with everything. Of equal scores the lower row comes first, in an index the smaller id.
//!
//! What could only spoil results is refused before anything is changed: elements that are not finite, a vector of zeros
//! under cosine (it has no direction), and under dot and L2 a norm above 2⁶², for there products overflow.

mod encode;
mod form;
mod graph;
mod index;
mod memory;
mod rows;
mod search;
mod sieve;
mod stored;

pub use form::{Form, Full, Metric, VectorType};
pub use graph::{Graph, GraphIndex, GraphOptions, GraphRef, GraphSearch};
pub use index::VectorIndex;
pub use rows::RowSet;
pub use search::Search;
pub use stored::VectorsRef;
