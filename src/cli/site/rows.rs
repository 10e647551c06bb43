//! Which rows of the bench stand on which page.

/// A file of the kernels and the rows that measure what it holds.
const ROWS: &[(&str, &[&str])] = &[
    ("gemm/mod.rs", &["gemm", "gemm_packed", "gemm_each"]),
    ("gemm/few.rs", &["gemv", "gemv_bf16", "gemv_f16", "gemv_rows"]),
    ("gemm/transposed.rs", &["gemm_dx", "gemm_dw"]),
    ("bf16.rs", &["gemm_bf16"]),
    ("attention/mod.rs", &["attention", "attention_causal", "attention_products_bf16"]),
    ("attention/decode.rs", &["attention_decode"]),
    (
        "attention/stored.rs",
        &["attention_decode_bf16", "attention_decode_products_bf16", "attention_decode_int8"],
    ),
    ("attention/backward/mod.rs", &["attention_backward"]),
    ("nf4/product.rs", &["nf4_gemm", "nf4_gemv", "nf4_dx"]),
    ("nf4/quantize.rs", &["nf4_quantize"]),
    ("nf4/dequantize.rs", &["nf4_dequantize"]),
    ("softmax.rs", &["softmax", "log_softmax"]),
    ("norm.rs", &["layer_norm", "rms_norm"]),
    ("norm/backward.rs", &["layer_norm_backward"]),
    ("activation.rs", &["gelu_erf", "gelu_tanh", "silu", "swiglu"]),
    ("activation/backward.rs", &["swiglu_backward"]),
    ("math/exp.rs", &["exp"]),
    ("rope.rs", &["rope", "rope_interleaved"]),
    ("dot.rs", &["dot", "dot_rows"]),
    ("reduce.rs", &["sum", "norm2", "max"]),
    ("topk.rs", &["topk"]),
    ("search/mod.rs", &["search", "search_int8", "search_nf4", "search_binary"]),
    ("half.rs", &["f16_to_f32", "bf16_to_f32", "f32_to_f16", "f32_to_bf16"]),
    ("int8/exact.rs", &["gemm_i8"]),
    (
        "int8/scaled.rs",
        &[
            "gemm_q8_0",
            "gemm_q4_0",
            "gemm_q4_k",
            "gemm_q6_k",
            "gemv_q8_0",
            "gemv_q4_0",
            "gemv_q4_k",
            "gemv_q6_k",
            "gemv_nf4_int8",
        ],
    ),
    ("column_sum.rs", &["column_sum"]),
    ("cross_entropy.rs", &["cross_entropy"]),
];

/// The rows of a page.
pub fn of(file: &str) -> &'static [&'static str] {
    ROWS.iter().find(|(known, _)| *known == file).map_or(&[], |(_, rows)| rows)
}

#[cfg(test)]
mod tests {
    use super::super::links;
    use super::*;
    use crate::bench::rows::entries;

    #[test]
    fn every_row_has_one_page() {
        for entry in entries() {
            let pages = ROWS.iter().filter(|(_, rows)| rows.contains(&entry.name)).count();
            assert_eq!(pages, 1, "{} has {pages} pages in {}", entry.name, file!());
        }
        for (file, rows) in ROWS {
            assert!(links::files().any(|(known, _)| known == *file), "there is no page of {file}");
            let unknown: Vec<_> = rows.iter().filter(|row| !entries().any(|e| e.name == **row)).collect();
            assert!(unknown.is_empty(), "{unknown:?} are measured nowhere");
        }
    }
}
