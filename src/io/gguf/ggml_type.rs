//! The element types of ggml.

use crate::kernels::ggml::Format;

/// An element type of ggml: numbers one by one, or blocks of numbers that share scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(non_camel_case_types, missing_docs)] // ggml's own names
pub enum GgmlType {
    F32,
    F16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q8_1,
    Q2_K,
    Q3_K,
    Q4_K,
    Q5_K,
    Q6_K,
    Q8_K,
    IQ2_XXS,
    IQ2_XS,
    IQ3_XXS,
    IQ1_S,
    IQ4_NL,
    IQ3_S,
    IQ2_S,
    IQ4_XS,
    I8,
    I16,
    I32,
    I64,
    F64,
    IQ1_M,
    BF16,
    TQ1_0,
    TQ2_0,
    MXFP4,
    NVFP4,
    Q1_0,
}

/// Number in files, type, name, elements a block, bytes a block.
type Row = (u32, GgmlType, &'static str, usize, usize);

/// Every type, in the order of the enum.
const TABLE: [Row; 34] = {
    use GgmlType::*;
    [
        (0, F32, "F32", 1, 4),
        (1, F16, "F16", 1, 2),
        (2, Q4_0, "Q4_0", 32, 18),
        (3, Q4_1, "Q4_1", 32, 20),
        (6, Q5_0, "Q5_0", 32, 22),
        (7, Q5_1, "Q5_1", 32, 24),
        (8, Q8_0, "Q8_0", 32, 34),
        (9, Q8_1, "Q8_1", 32, 36),
        (10, Q2_K, "Q2_K", 256, 84),
        (11, Q3_K, "Q3_K", 256, 110),
        (12, Q4_K, "Q4_K", 256, 144),
        (13, Q5_K, "Q5_K", 256, 176),
        (14, Q6_K, "Q6_K", 256, 210),
        (15, Q8_K, "Q8_K", 256, 292),
        (16, IQ2_XXS, "IQ2_XXS", 256, 66),
        (17, IQ2_XS, "IQ2_XS", 256, 74),
        (18, IQ3_XXS, "IQ3_XXS", 256, 98),
        (19, IQ1_S, "IQ1_S", 256, 50),
        (20, IQ4_NL, "IQ4_NL", 32, 18),
        (21, IQ3_S, "IQ3_S", 256, 110),
        (22, IQ2_S, "IQ2_S", 256, 82),
        (23, IQ4_XS, "IQ4_XS", 256, 136),
        (24, I8, "I8", 1, 1),
        (25, I16, "I16", 1, 2),
        (26, I32, "I32", 1, 4),
        (27, I64, "I64", 1, 8),
        (28, F64, "F64", 1, 8),
        (29, IQ1_M, "IQ1_M", 256, 56),
        (30, BF16, "BF16", 1, 2),
        (34, TQ1_0, "TQ1_0", 256, 54),
        (35, TQ2_0, "TQ2_0", 256, 66),
        (39, MXFP4, "MXFP4", 32, 17),
        (40, NVFP4, "NVFP4", 64, 36),
        (41, Q1_0, "Q1_0", 128, 18),
    ]
};

/// Numbers that stood for types which ggml has removed again.
const REMOVED: &[(u32, &str)] = &[
    (4, "Q4_2"),
    (5, "Q4_3"),
    (31, "Q4_0_4_4"),
    (32, "Q4_0_4_8"),
    (33, "Q4_0_8_8"),
    (36, "IQ4_NL_4_4"),
    (37, "IQ4_NL_4_8"),
    (38, "IQ4_NL_8_8"),
];

impl GgmlType {
    /// Every type, in order of its number.
    pub fn all() -> impl Iterator<Item = GgmlType> {
        TABLE.iter().map(|row| row.1)
    }

    const fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }

    /// The number that stands in files.
    pub const fn number(self) -> u32 {
        self.row().0
    }

    /// ggml's name: `Q4_K`.
    pub const fn name(self) -> &'static str {
        self.row().2
    }

    /// Elements a block; 1 for plain numbers.
    pub const fn block_len(self) -> usize {
        self.row().3
    }

    /// Bytes a block.
    pub const fn block_bytes(self) -> usize {
        self.row().4
    }

    /// Bytes of `elements`, a multiple of [`GgmlType::block_len`]; `None` where they do not fit a `usize`.
    pub fn bytes(self, elements: usize) -> Option<usize> {
        (elements / self.block_len()).checked_mul(self.block_bytes())
    }

    /// The type of that number.
    pub fn from_number(number: u32) -> Option<GgmlType> {
        TABLE.iter().find(|row| row.0 == number).map(|row| row.1)
    }

    /// The blocks, where kernels decode them.
    pub fn format(self) -> Option<Format> {
        Format::ALL.into_iter().find(|format| format.name() == self.name())
    }

    /// The name of a type that once had that number.
    pub(super) fn removed(number: u32) -> Option<&'static str> {
        REMOVED.iter().find(|row| row.0 == number).map(|row| row.1)
    }
}

impl core::fmt::Display for GgmlType {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_enum() {
        for (i, row) in TABLE.iter().enumerate() {
            assert_eq!(row.1 as usize, i, "{}", row.2);
            assert_eq!(GgmlType::from_number(row.0), Some(row.1));
            assert!(GgmlType::removed(row.0).is_none());
            if let Some(format) = row.1.format() {
                assert_eq!((format.block_len(), format.block_bytes()), (row.3, row.4), "{format}");
            }
        }
        assert_eq!(GgmlType::all().filter_map(GgmlType::format).count(), Format::ALL.len());
    }
}
