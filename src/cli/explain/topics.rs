//! Which page of the kernels explains a row of the bench.

use super::{Entry, entries};

/// Rows that one page explains.
pub struct Topic {
    /// What their names begin with. A row belongs to the longest beginning that fits, so that another format of a kernel
    /// that has a page has it too.
    rows: &'static [&'static str],
    /// Where the sections stand; the first that has one counts.
    pub files: &'static [&'static str],
    /// Elements of the result.
    pub elements: fn(&[usize]) -> usize,
}

/// The row of that name.
pub fn row(name: &str) -> Option<&'static Entry> {
    entries().find(|entry| entry.name == name)
}

/// The page of a row.
pub fn of(row: &str) -> Option<&'static Topic> {
    let fits =
        |topic: &Topic| topic.rows.iter().filter(|begin| row.starts_with(**begin)).map(|b| b.len()).max();
    TOPICS.iter().filter_map(|topic| Some((fits(topic)?, topic))).max_by_key(|(fit, _)| *fit).map(|(_, t)| t)
}

const fn topic(
    rows: &'static [&'static str],
    files: &'static [&'static str],
    elements: fn(&[usize]) -> usize,
) -> Topic {
    Topic { rows, files, elements }
}

/// All elements of the dimensions.
fn all(d: &[usize]) -> usize {
    d.iter().product()
}

/// (m, n) of a product (m, n, k); of queries and rows.
fn m_by_n(d: &[usize]) -> usize {
    d[0] * d[1]
}

/// The first dimension.
fn first(d: &[usize]) -> usize {
    d[0]
}

/// One number.
fn one(_: &[usize]) -> usize {
    1
}

/// The pages of the rows.
const TOPICS: &[Topic] = &[
    topic(&["gemm"], &["gemm/mod.rs"], m_by_n),
    topic(&["gemm_each"], &["gemm/small.rs", "gemm/mod.rs"], |d| d[0] * d[1] * d[2]),
    topic(&["gemm_bf16"], &["bf16.rs"], m_by_n),
    topic(&["gemm_i8"], &["int8/exact.rs"], m_by_n),
    topic(&["gemm_q"], &["int8/scaled.rs"], m_by_n),
    topic(&["gemm_dx", "nf4_dx"], &["gemm/transposed.rs", "gemm/mod.rs"], |d| d[0] * d[2]),
    topic(&["gemm_dw"], &["gemm/mod.rs"], |d| d[1] * d[2]),
    topic(&["gemv"], &["gemm/few.rs", "gemm/mod.rs"], first),
    topic(&["gemv_rows"], &["gemm/rows.rs", "gemm/mod.rs"], first),
    topic(&["gemv_q", "gemv_nf4_int8"], &["int8/scaled.rs"], first),
    topic(&["attention"], &["attention/mod.rs"], all),
    topic(&["attention_backward"], &["attention/backward/mod.rs", "attention/tile.rs"], |d| 3 * all(d)),
    topic(&["attention_decode"], &["attention/decode.rs", "attention/mod.rs"], |d| d[0] * d[2]),
    topic(
        &["attention_decode_bf16", "attention_decode_int8"],
        &["attention/stored.rs", "attention/mod.rs"],
        |d| d[0] * d[2],
    ),
    topic(&["nf4_gemm"], &["nf4/product.rs"], m_by_n),
    topic(&["nf4_gemv"], &["nf4/product.rs"], first),
    topic(&["nf4_quantize"], &["nf4/quantize.rs"], all),
    topic(&["nf4_dequantize"], &["nf4/dequantize.rs"], all),
    topic(&["softmax", "log_softmax"], &["softmax.rs"], all),
    topic(&["layer_norm", "rms_norm"], &["norm.rs"], all),
    topic(&["layer_norm_backward", "rms_norm_backward"], &["norm/backward.rs"], all),
    topic(&["gelu", "silu", "relu", "swiglu", "geglu"], &["activation.rs"], all),
    topic(&["swiglu_backward", "geglu_backward"], &["activation/backward.rs"], |d| 2 * all(d)),
    topic(&["exp"], &["math/exp.rs"], all),
    topic(&["rope"], &["rope.rs"], all),
    topic(&["dot"], &["dot.rs"], one),
    topic(&["dot_rows"], &["dot.rs"], first),
    topic(&["sum", "norm2", "max"], &["reduce.rs"], one),
    topic(&["topk"], &["topk.rs"], |d| d[1]),
    topic(&["search"], &["search/mod.rs", "search/floats.rs"], m_by_n),
    topic(&["search_int8", "search_nf4", "search_binary"], &["search/codes.rs", "search/mod.rs"], first),
    topic(&["f16_to", "bf16_to", "f32_to"], &["half.rs"], all),
    topic(&["column_sum"], &["column_sum.rs"], |d| d[1]),
    topic(&["cross_entropy"], &["cross_entropy.rs"], all),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Cpu;
    use crate::bench::rows::{Case, Inputs};
    use crate::cli::explain::pages::Pages;

    #[test]
    fn every_row_of_the_bench_has_a_page_that_counts_its_result() {
        for entry in entries() {
            let name = entry.name;
            let topic = of(name).unwrap_or_else(|| panic!("{name}: no page; src/cli/explain/topics.rs"));
            let pages = Pages::of(topic.files);
            assert!(!pages.title().is_empty(), "{name}: {:?} have no head", topic.files);
            for section in ["Math", "Law", "Cost"] {
                assert!(pages.section(section).is_some_and(|text| !text.is_empty()), "{name}: no {section}");
            }
            // No two dimensions alike, and k whole blocks of every format.
            let dims: &[usize] = match entry.dims.split('x').count() {
                1 => &[256],
                2 => &[512, 256],
                3 => &[8, 64, 256],
                _ => &[4, 8, 64, 256],
            };
            let result = Case::new(entry, dims, &mut Inputs::new(1, Cpu::detect())).result().len();
            let elements = (topic.elements)(dims);
            let seen = match name {
                "nf4_quantize" => elements / 2 + elements / 64, // two codes a byte, a scale for 64
                "swiglu_backward" => elements / 2,              // the first of two gradients
                _ => elements,
            };
            assert_eq!(seen, result, "{name}: elements of the result at {dims:?}");
        }
    }

    #[test]
    fn the_longest_beginning_counts() {
        for (row, file) in [
            ("gemm_packed", "gemm/mod.rs"),
            ("gemm_q5_k", "int8/scaled.rs"),
            ("gemv_rows", "gemm/rows.rs"),
            ("attention_decode_int8", "attention/stored.rs"),
            ("swiglu_backward", "activation/backward.rs"),
        ] {
            assert_eq!(of(row).map(|topic| topic.files[0]), Some(file), "{row}");
        }
        assert!(of("gathering").is_none());
    }
}
