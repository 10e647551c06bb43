//! # Many queries against many stored rows
//!
//! **Math.**  Rows as floats: out(q, r) = dot(query q, row r).  Rows as codes: out(q, r) = I · (scale of q × scale of r),
//! I an integer:
//!
//! | row | codes | I |
//! |---|---|---|
//! | int8 | −127..=127 | Σ query code × code |
//! | NF4 | 16 levels | Σ query code × round(127 × level) |
//! | binary | bits | k − 2 · #{ differing bits } |
//!
//! **Law.**   Floats: clause 2, the very bits of [`crate::dot::dot`], for any number of rows and queries. Codes: clause 7,
//! I is exact for k ≤ 2¹⁶; it is rounded to `f32` once, the scales' product once, the product of both once.
//!
//! ```text
//!               query 0   query 1   query 2   query 3
//!   row 0       16 lanes  16 lanes  16 lanes  16 lanes     sixteen pairs at a time, each with its own sixteen chains:
//!   row 1       16 lanes  …                                a word of a row and of a query loaded once serve four pairs.
//!   row 2          ⋮                                       At the end the tree runs over all sixteen at once
//!   row 3       16 lanes                        16 lanes   (`sum_rows`)
//! ```
//!
//! Rows are those of a matrix in their order, or some of it by number: a graph's neighbours.
//!
//! **Cost.**  One query: the reading of the rows binds, of 4, 2, 1, ½ or ⅛ byte an element. Many: multiply-adds.
//!
//! **Error.**  Floats: that of `dot`.  Codes: I has none; then 3 roundings.  What codes leave out of a row: `int8.rs`, `nf4/`.
//!
//! **Parts.**  [`dots`] and [`Codes`]; [`Batch`], codes with many queries; [`Screen`], which says of many queries which rows
//! of floats need be multiplied at all.
//!
//! **Reference.**  Higham 2002, §4.2, [doi:10.1137/1.9780898718027](https://doi.org/10.1137/1.9780898718027).  **Next.**  `floats.rs`, then `batch.rs`.

mod batch;
mod codes;
mod floats;
mod forms;
mod screen;

pub use batch::Batch;
pub use codes::{Code, Codes, QueryCodes, mean_magnitude, pack_bits};
pub use floats::{FloatRows, Which, dots};
pub use screen::{Asked, Screen};

use crate::cpu::Cpu;
use crate::gemm::Accumulate;
use crate::int8::{GemmI8, PackedI8};
use crate::simd::Floats;
use crate::view::{MatMut, MatRef};
use crate::{LANES, Line};

/// Rows and queries of a tile.
const SIDE: usize = 4;

/// A tile's results, query j and row i in place 4j + i, to `out` (queries, n) from query `q`, row `first` on, as far as
/// there are some. Four at a time: a copy of a length that is not known is a call.
#[inline(always)]
fn put(out: &mut [f32], n: usize, (q, first): (usize, usize), results: &Floats) {
    let (fours, _) = results.as_chunks::<SIDE>();
    for (j, four) in fours.iter().enumerate() {
        let row = (q + j) * n;
        let Some(place) = out.get_mut(row + first..row + n) else { return };
        match place.first_chunk_mut() {
            Some(place) => *place = *four,
            None => place.copy_from_slice(&four[..place.len()]),
        }
    }
}

/// I of every row with every query, (rows, queries), each row from a line of `lines` on.
fn integers<'l>(
    cpu: Cpu,
    (rows, queries): (MatRef<'_, i8>, PackedI8<'_>),
    lines: &'l mut [Line],
    scratch: &mut [Line],
) -> &'l [i32] {
    let (n, m) = (rows.rows(), queries.shape().1);
    let width = m.next_multiple_of(LANES);
    let c = MatMut::new(&mut Line::elements_mut(lines)[..n * width], n, width).sub(0..n, 0..m);
    GemmI8 { a: rows, b: queries, c, accumulate: Accumulate::Overwrite }.run(cpu, scratch);
    Line::elements(lines)
}
