//! The kernels that have a page.

use super::{Entry, entries};

/// What is known of a kernel beside its files.
pub struct Kernel {
    /// By which it is asked for.
    pub name: &'static str,
    /// Its row of the bench.
    pub bench: &'static str,
    /// Where its sections stand; the first that has one counts.
    pub files: &'static [&'static str],
    /// Elements of the result.
    pub elements: fn(&[usize]) -> usize,
    /// What the listed loop does.
    pub about: &'static str,
}

impl Kernel {
    /// Its row of the bench.
    pub fn entry(&self) -> &'static Entry {
        entries().find(|entry| entry.name == self.bench).expect("every page has a row of the bench")
    }

    /// A ceiling in words.
    pub fn bound(&self, name: &'static str) -> &'static str {
        match name {
            "fma" => "the rate of multiply-adds",
            "read" => "the reading of memory",
            "write" => "the writing of memory",
            "copy" => "the copying of memory",
            other => other,
        }
    }
}

/// In the order of the list.
pub const KERNELS: &[Kernel] = &[
    Kernel {
        name: "gemm",
        bench: "gemm_packed",
        files: &["gemm/mod.rs"],
        elements: |d| d[0] * d[1],
        about: "The tile: for each step of k a line of B a panel, a float of A a row, a multiply-add for each pair.",
    },
    Kernel {
        name: "gemv",
        bench: "gemv",
        files: &["gemm/few.rs", "gemm/mod.rs"],
        elements: |d| d[0],
        about: "One row over packed weights: eight steps of k, a float of the row for the lines of four panels.",
    },
    Kernel {
        name: "softmax",
        bench: "softmax",
        files: &["softmax.rs"],
        elements: |d| d[0] * d[1],
        about: "The second pass: exp(x − m) of a line, written and added to the sixteen sums.",
    },
    Kernel {
        name: "attention",
        bench: "attention",
        files: &["attention/mod.rs", "attention/prefill.rs"],
        elements: |d| d[0] * d[1] * d[2],
        about: "A product of prefill: for each step a float of a row of K or V for the words of queries, a multiply-add for each pair.",
    },
    Kernel {
        name: "nf4",
        bench: "nf4_gemm",
        files: &["nf4/product.rs", "nf4/mod.rs"],
        elements: |d| d[0] * d[1],
        about: "Decoding for the tile: a line of codes becomes eight lines of weights, level × scale. (The tile is that of gemm.)",
    },
    Kernel {
        name: "dot",
        bench: "dot",
        files: &["dot.rs"],
        elements: |_| 1,
        about: "The sixteen chains of one dot product.",
    },
];
