//! Matrix units: products of small matrices that a unit holds in registers of its own.
//!
//! A tile is sixteen rows of 64 bytes. A step takes a tile of A (16 rows of 32 bfloat16, or 64 codes) and one of B, which
//! holds the same steps of sixteen columns as packed panels do, and adds sixteen by sixteen sums to a third. It does not
//! fit a vocabulary of lanes, so it is a table of its own ([`Tiles`]), with a definition in plain Rust ([`Plain`]) that
//! every test compares with, and that takes the place of the unit where there is none.
//!
//! ```text
//!              B₀ (32 × 16)   B₁
//!   A₀ (16 × 32)  C₀₀         C₀₁      four tiles of sums: each tile that is read is used twice
//!   A₁            C₁₀         C₁₁
//! ```

use crate::Line;

#[cfg(all(target_arch = "x86_64", target_feature = "sse2", feature = "avx512"))]
mod amx;
mod plain;
#[cfg(all(target_arch = "x86_64", target_feature = "sse2", feature = "avx512"))]
pub use amx::Amx;
#[cfg(all(target_arch = "x86_64", target_feature = "sse2", feature = "avx512"))]
pub(crate) use amx::{agrees, permitted};
pub use plain::Plain;

/// A tile in memory: sixteen rows of 64 bytes.
pub type Tile = [Line; 16];

/// Four tiles of sums: those of A₀ with B₀ and B₁, then those of A₁.
pub type Sums = [Tile; 4];

/// Steps of bfloat16 in a tile of A or B.
pub const STEPS: usize = 32;

/// Two by two products of stripes of tiles.
pub trait Tiles {
    /// Adds to `sums` the products of bfloat16, tile after tile, each under the first line of clause 10: the even chain
    /// from +0, the odd chain from +0, their sum, then + what was there.
    ///
    /// A row of a tile of A is 32 steps of a row of the matrix; row r of one of B is steps 2r and 2r + 1 of sixteen
    /// columns, side by side.
    ///
    /// # Panics
    /// Where stripes have different numbers of tiles.
    fn add_bf16(&mut self, a: [&[Tile]; 2], b: [&[Tile]; 2], sums: &mut Sums);
}

/// Tiles in each of the stripes.
fn count(a: [&[Tile]; 2], b: [&[Tile]; 2]) -> usize {
    let n = a[0].len();
    assert!(a[1].len() == n && b[0].len() == n && b[1].len() == n, "stripes of as many tiles");
    n
}
