//! The loops that are listed: whose they are, and what they do.

/// An inner loop that is committed for some tiers.
pub struct Kernel {
    /// That of the listing.
    pub name: &'static str,
    /// The row of the bench that runs it most.
    pub bench: &'static str,
    /// Other rows that run it.
    pub also: &'static [&'static str],
    /// Where it stands in the book; the first is the page that shows it.
    pub files: &'static [&'static str],
    /// What it does.
    pub about: &'static str,
}

/// The loops of a row of the bench.
pub fn of(row: &str) -> impl Iterator<Item = &'static Kernel> {
    KERNELS.iter().filter(move |kernel| kernel.bench == row || kernel.also.contains(&row))
}

/// In the order of the list.
pub const KERNELS: &[Kernel] = &[
    Kernel {
        name: "gemm",
        bench: "gemm_packed",
        also: &["gemm", "gemm_dx", "gemm_dw", "nf4_dx"],
        files: &["gemm/mod.rs"],
        about: "The tile: for each step of k a line of B a panel, a float of A a row, a multiply-add for each pair.",
    },
    Kernel {
        name: "gemv",
        bench: "gemv",
        also: &[],
        files: &["gemm/few.rs", "gemm/mod.rs"],
        about: "One row over packed weights: eight steps of k, a float of the row for the lines of four panels.",
    },
    Kernel {
        name: "gemm_bf16",
        bench: "gemm_bf16",
        also: &[],
        files: &["bf16.rs"],
        about: "The tile: two steps of k are the halves of a word of B, one for the even chain and one for the odd of each row and panel.",
    },
    Kernel {
        name: "gemm_bf16_amx",
        bench: "gemm_bf16",
        also: &[],
        files: &["bf16/tiles.rs", "gemm/walk.rs"],
        about: "Where there is a matrix unit: 32 steps of 2 × 2 tiles; between its instructions the block before is added, B asked for.",
    },
    Kernel {
        name: "gemm_i8",
        bench: "gemm_i8",
        also: &[],
        files: &["int8/exact.rs"],
        about: "A block of 32 steps by VNNI, AVX-VNNI or DotProd, four steps an instruction. (A tile of 4 rows; on avx512 the whole one has 12.)",
    },
    Kernel {
        name: "softmax",
        bench: "softmax",
        also: &[],
        files: &["softmax.rs"],
        about: "The second pass: exp(x − m) of a line, written and added to the sixteen sums.",
    },
    Kernel {
        name: "rms_norm",
        bench: "rms_norm",
        also: &[],
        files: &["norm.rs"],
        about: "The first pass: a line widened to f64, squared, added to the sixteen sums.",
    },
    Kernel {
        name: "attention",
        bench: "attention",
        also: &["attention_causal"],
        files: &["attention/mod.rs", "attention/prefill.rs"],
        about: "A product of prefill: for each step a float of a row of K or V for the words of queries, a multiply-add for each pair.",
    },
    Kernel {
        name: "attention_decode",
        bench: "attention_decode",
        also: &[],
        files: &["attention/decode.rs"],
        about: "The values: a weight times the words of a row of V. Chains are in registers on avx512, else in L1, so that V is one stream.",
    },
    Kernel {
        name: "nf4",
        bench: "nf4_gemm",
        also: &[],
        files: &["nf4/product.rs", "nf4/mod.rs"],
        about: "Decoding for the tile: a line of codes becomes eight lines of weights, level × scale. (The tile is that of gemm.)",
    },
    Kernel {
        name: "nf4_gemv",
        bench: "nf4_gemv",
        also: &["nf4_gemm"],
        files: &["nf4/product.rs", "nf4/mod.rs"],
        about: "One row: a line of codes becomes eight lines of weights, each multiplied at once; four panels on avx512, else one.",
    },
    Kernel {
        name: "dot",
        bench: "dot",
        also: &[],
        files: &["dot.rs"],
        about: "The sixteen chains of one dot product.",
    },
    Kernel {
        name: "search",
        bench: "search",
        also: &[],
        files: &["search/floats.rs"],
        about: "A tile of rows and queries of floats: a line of each, a multiply-add for each pair.",
    },
    Kernel {
        name: "topk",
        bench: "topk",
        also: &[],
        files: &["topk.rs"],
        about: "Four lines against the worst that is kept: is one larger, or a NaN? (Half of it is for places in any order.)",
    },
    Kernel {
        name: "f32_to_bf16",
        bench: "f32_to_bf16",
        also: &[],
        files: &["half.rs"],
        about: "A line rounded to nearest even and narrowed; a NaN stays one.",
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tier;
    use crate::assets::listing;
    use crate::cli::explain::topics;

    #[test]
    fn every_loop_belongs_to_rows_and_is_listed() {
        for (i, kernel) in KERNELS.iter().enumerate() {
            let Kernel { name, bench, also, files, .. } = kernel;
            for row in also.iter().chain([bench]) {
                assert!(topics::row(row).is_some(), "{name}: the bench has no row {row}");
            }
            assert!(KERNELS[..i].iter().all(|other| other.name != *name), "{name} twice");
            assert!(
                Tier::ALL.into_iter().any(|tier| listing::of(name, tier).is_some()),
                "{name}: no listing"
            );
            assert!(!super::super::pages::Pages::of(files).title().is_empty(), "{name}: {files:?}");
        }
    }
}
