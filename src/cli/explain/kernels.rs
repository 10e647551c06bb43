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
        name: "gemm_each",
        bench: "gemm_each",
        also: &[],
        files: &["gemm/small.rs"],
        about: "A small product on avx512: twelve rows and two panels of B, read where they lie, nothing packed. (Elsewhere it is the tile of gemm.)",
    },
    Kernel {
        name: "gemv",
        bench: "gemv",
        also: &[],
        files: &["gemm/few.rs", "gemm/mod.rs"],
        about: "One row over packed weights: eight steps of k, a float of the row for the lines of four panels.",
    },
    Kernel {
        name: "gemv_bf16",
        bench: "gemv_bf16",
        also: &[],
        files: &["gemm/few.rs", "gemm/weights.rs"],
        about: "One row over weights of bfloat16, four panels: a word is two steps, one by a shift, one by a mask. (neon goes step by step; shown is an even one.)",
    },
    Kernel {
        name: "gemv_f16",
        bench: "gemv_f16",
        also: &[],
        files: &["gemm/few.rs", "gemm/weights.rs"],
        about: "One row over weights of halves, four panels: each line is converted, then multiplied. (neon converts by integers, a step at a time.)",
    },
    Kernel {
        name: "gemv_rows",
        bench: "gemv_rows",
        also: &[],
        files: &["gemm/rows.rs"],
        about: "Sixteen rows of weights, sixteen steps of each: transposed in registers, a multiply-add a step; x86 asks for each row a KiB ahead.",
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
        name: "gemm_q8_0",
        bench: "gemm_q8_0",
        also: &["gemm_q4_0", "gemm_q4_k", "gemm_q6_k"],
        files: &["int8/scaled.rs"],
        about: "A block of 32 steps of a tile of 4 rows by VNNI or AVX-VNNI, then a multiply-add with both scales. (On avx512 the whole one has 6 × 2; other formats decode as with one row; a matrix unit, where there is one, takes its place.)",
    },
    Kernel {
        name: "gemv_q8_0",
        bench: "gemv_q8_0",
        also: &["gemm_q8_0"],
        files: &["int8/scaled.rs", "int8/forms.rs"],
        about: "A block of 32 steps, one row and a panel: eight products of four, their sum a float, times both scales to the chain; x86 asks ahead. (avx512 takes four panels at once; more rows share the codes.)",
    },
    Kernel {
        name: "gemv_q4_0",
        bench: "gemv_q4_0",
        also: &["gemm_q4_0", "gemv_nf4_int8"],
        files: &["int8/scaled.rs", "int8/forms.rs"],
        about: "The like of codes of four bits: the low nibbles by a mask, the high ones by a shift. (Those of NF4 go through a table of sixteen besides.)",
    },
    Kernel {
        name: "gemv_q4_k",
        bench: "gemv_q4_k",
        also: &["gemm_q4_k"],
        files: &["int8/scaled.rs", "int8/k_forms.rs"],
        about: "The like of Q4_K: nibbles, a scale and a minimum for 32 steps; the minimum meets the sum of the row's codes.",
    },
    Kernel {
        name: "gemv_q6_k",
        bench: "gemv_q6_k",
        also: &["gemm_q6_k"],
        files: &["int8/scaled.rs", "int8/k_forms.rs"],
        about: "The like of Q6_K: nibbles and two bits more of another line, a scale for 16 steps: two multiply-adds a block.",
    },
    Kernel {
        name: "softmax",
        bench: "softmax",
        also: &[],
        files: &["softmax.rs"],
        about: "The second pass: exp(x − m) of a line, written and added to the sixteen sums.",
    },
    Kernel {
        name: "log_softmax",
        bench: "log_softmax",
        also: &[],
        files: &["softmax.rs"],
        about: "The second pass: exp(x − m) of a line, added to the sixteen sums; nothing is written.",
    },
    Kernel {
        name: "rms_norm",
        bench: "rms_norm",
        also: &[],
        files: &["norm.rs"],
        about: "The first pass: a line widened to f64, squared, added to the sixteen sums.",
    },
    Kernel {
        name: "layer_norm",
        bench: "layer_norm",
        also: &[],
        files: &["norm.rs"],
        about: "The second pass: a line widened to f64, less the mean, squared, added to the sixteen sums. (The first adds, the third writes.)",
    },
    Kernel {
        name: "gelu_erf",
        bench: "gelu_erf",
        also: &[],
        files: &["activation.rs"],
        about: "GELU by the error function: a polynomial of |x|, 2 to its power by another, then max(x, 0) − |x| times that.",
    },
    Kernel {
        name: "silu",
        bench: "silu",
        also: &["gelu_tanh", "swiglu"],
        files: &["activation.rs"],
        about: "x over 1 + exp(−x), one division a line. (gelu_tanh has a polynomial of x² before exp; swiglu multiplies by a line of up.)",
    },
    Kernel {
        name: "exp",
        bench: "exp",
        also: &[],
        files: &["math/exp.rs"],
        about: "e^x of a line: clamped, x = n ln 2 + r, a polynomial of r, times 2^n.",
    },
    Kernel {
        name: "rope",
        bench: "rope",
        also: &[],
        files: &["rope.rs"],
        about: "A line of one half of a head and its like of the other, turned by a line of cos and sin that all heads share. (The path of whole lines.)",
    },
    Kernel {
        name: "rope_interleaved",
        bench: "rope_interleaved",
        also: &[],
        files: &["rope.rs"],
        about: "A line of a head: the neighbours swapped, times sin of alternating sign, and the line times cos. (The path of whole lines.)",
    },
    Kernel {
        name: "attention",
        bench: "attention",
        also: &["attention_causal"],
        files: &["attention/mod.rs", "attention/prefill.rs"],
        about: "A product of prefill: for each step a float of a row of K or V for the words of queries, a multiply-add for each pair.",
    },
    Kernel {
        name: "attention_products_bf16",
        bench: "attention_products_bf16",
        also: &[],
        files: &["attention/class.rs", "attention/prefill.rs"],
        about: "Scores of prefill, two components: the even one to one chain of each key and word of queries, the odd one to another. (A matrix unit, where there is one, takes its place.)",
    },
    Kernel {
        name: "attention_backward",
        bench: "attention_backward",
        also: &[],
        files: &["attention/backward/mod.rs", "attention/tile.rs"],
        about: "One of the seven products: for each component a float of a row for the words of lanes, a multiply-add for each pair.",
    },
    Kernel {
        name: "attention_decode",
        bench: "attention_decode",
        also: &[],
        files: &["attention/decode.rs"],
        about: "The values: a weight times the words of a row of V. Chains are in registers on avx512, else in L1, so that V is one stream.",
    },
    Kernel {
        name: "attention_decode_bf16",
        bench: "attention_decode_bf16",
        also: &[],
        files: &["attention/stored.rs", "attention/decode/values.rs"],
        about: "The values: a line of a row of V is widened from bfloat16, times its weight, and added to its chain in L1.",
    },
    Kernel {
        name: "attention_decode_products_bf16",
        bench: "attention_decode_products_bf16",
        also: &[],
        files: &["attention/decode/values.rs", "attention/class.rs"],
        about: "The values: a line of a row of V is widened, zero where below the normal numbers, times its weight, and added to the chain of its parity in L1.",
    },
    Kernel {
        name: "attention_decode_int8",
        bench: "attention_decode_int8",
        also: &[],
        files: &["attention/stored.rs", "attention/decode/values.rs"],
        about: "The values: sixteen codes become floats, times the row's scale, times the weight, and are added to their chain in L1.",
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
        name: "nf4_quantize",
        bench: "nf4_quantize",
        also: &[],
        files: &["nf4/quantize.rs"],
        about: "Two lines to sixteen bytes: each over its absmax, then a search of four comparisons, two of them with looked-up thresholds. (The path where absmax is that of the line before.)",
    },
    Kernel {
        name: "nf4_dequantize",
        bench: "nf4_dequantize",
        also: &[],
        files: &["nf4/dequantize.rs"],
        about: "Sixteen bytes to two lines, written past the caches: nibbles to lanes, levels by a look-up, times absmax. (The path inside a block.)",
    },
    Kernel {
        name: "dot",
        bench: "dot",
        also: &[],
        files: &["dot.rs"],
        about: "The sixteen chains of one dot product.",
    },
    Kernel {
        name: "dot_rows",
        bench: "dot_rows",
        also: &[],
        files: &["dot.rs"],
        about: "Four rows at a time: a line of the query for a line of each.",
    },
    Kernel {
        name: "sum",
        bench: "sum",
        also: &["norm2"],
        files: &["reduce.rs"],
        about: "A line widened to f64 and added to the sixteen sums; x86 takes several a turn. (norm2 squares it before.)",
    },
    Kernel {
        name: "max",
        bench: "max",
        also: &[],
        files: &["reduce.rs"],
        about: "A line against the sixteen largest so far; where a NaN came, a mask keeps it.",
    },
    Kernel {
        name: "search",
        bench: "search",
        also: &[],
        files: &["search/floats.rs"],
        about: "A tile of rows and queries of floats: a line of each, a multiply-add for each pair.",
    },
    Kernel {
        name: "search_int8",
        bench: "search_int8",
        also: &[],
        files: &["search/codes.rs", "search/forms.rs"],
        about: "Sixty-four codes of a row times those of the query, by VNNI, AVX-VNNI or DotProd; x86 asks for rows ahead.",
    },
    Kernel {
        name: "search_nf4",
        bench: "search_nf4",
        also: &[],
        files: &["search/codes.rs", "search/forms.rs"],
        about: "Sixty-four bytes of a row: the nibbles become codes by a table of sixteen and meet those of the query.",
    },
    Kernel {
        name: "search_binary",
        bench: "search_binary",
        also: &[],
        files: &["search/codes.rs", "search/forms.rs"],
        about: "Sixty-four bytes of bits xored with the query's: the ones of each nibble from a table, then added by a product with ones.",
    },
    Kernel {
        name: "topk",
        bench: "topk",
        also: &[],
        files: &["topk.rs"],
        about: "Four lines against the worst that is kept: is one larger, or a NaN? (Half of it is for places in any order.)",
    },
    Kernel {
        name: "f16_to_f32",
        bench: "f16_to_f32",
        also: &[],
        files: &["half.rs"],
        about: "A line of halves widened: an instruction on x86; on neon a product with 2^112, infinity and NaN chosen apart.",
    },
    Kernel {
        name: "bf16_to_f32",
        bench: "bf16_to_f32",
        also: &[],
        files: &["half.rs"],
        about: "A line of bfloat16 widened by a shift: its sixteen bits are the upper half of the float.",
    },
    Kernel {
        name: "f32_to_f16",
        bench: "f32_to_f16",
        also: &[],
        files: &["half.rs"],
        about: "A line rounded to nearest even and narrowed: an instruction on x86; on neon four cases side by side.",
    },
    Kernel {
        name: "f32_to_bf16",
        bench: "f32_to_bf16",
        also: &[],
        files: &["half.rs"],
        about: "A line rounded to nearest even and narrowed; a NaN stays one.",
    },
    Kernel {
        name: "layer_norm_backward",
        bench: "layer_norm_backward",
        also: &[],
        files: &["norm/backward.rs"],
        about: "The last pass: g and x̂ of a line in f64, less the two means, times the scale, narrowed and written. (The path of whole lines.)",
    },
    Kernel {
        name: "swiglu_backward",
        bench: "swiglu_backward",
        also: &[],
        files: &["activation/backward.rs"],
        about: "A line of gate, up and dy: σ by exp and a division, then both gradients. (The path of whole lines and of SiLU: which activation it is, is asked each line.)",
    },
    Kernel {
        name: "column_sum",
        bench: "column_sum",
        also: &[],
        files: &["column_sum.rs"],
        about: "Sixteen lines of a row added to as many chains, which lie in L1. (The path of whole lines.)",
    },
    Kernel {
        name: "cross_entropy",
        bench: "cross_entropy",
        also: &[],
        files: &["cross_entropy.rs"],
        about: "The second pass: exp(x − m) of a line, written in its place and added to the sixteen sums in f64. (The path of whole lines.)",
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tier;
    use crate::assets::listing;
    use crate::bench::rows::entries;
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

    #[test]
    fn every_row_of_the_bench_has_a_loop() {
        for entry in entries() {
            let name = entry.name;
            for tier in [Tier::Avx512, Tier::Avx2, Tier::Neon] {
                let listed = of(name).any(|kernel| listing::of(kernel.name, tier).is_some());
                assert!(listed, "{name}: no loop on {tier}; src/assets/listing/make.py");
            }
        }
    }
}
