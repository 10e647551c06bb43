//! What a conversation with a flat decoder takes of memory, known before the program runs.

use super::Shape;
use crate::kernels::LANES;

/// What a buffer takes of an [`Arena`](crate::arena::Arena), which gives whole lines.
const fn lines(floats: usize) -> usize {
    floats.div_ceil(LANES)
}

const fn larger(a: usize, b: usize) -> usize {
    if a > b { a } else { b }
}

impl Shape {
    /// Bytes of the buffers of a [`Generator`](crate::model::Generator) for `tokens` tokens (at most 512, keys and values
    /// in `f32`, no window) that is fed at most `rows` of them at a time: keys and values, rows in between, cos and sin,
    /// logits. Exactly so many, each buffer in whole lines of 64 bytes.
    ///
    /// Beside them lie what describes the layers and their vectors, the tokenizer, the sampler's candidates and a product's
    /// scratch; [`Arena::most`](crate::arena::Arena::most) counts it all.
    pub const fn arena_len(&self, tokens: usize, rows: usize) -> usize {
        let cache = 2 * self.layers * lines(self.kv_heads * tokens * self.head_dim);
        let positions = if self.pairs == 0 { 0 } else { tokens.next_multiple_of(256) };
        let table = 2 * lines(positions * self.pairs);
        (cache + self.rows_len(rows) + table + lines(self.vocab)) * 64
    }

    /// Lines of a decoder's workspace: the stream, then whichever takes more of a block and the last norm.
    const fn rows_len(&self, rows: usize) -> usize {
        let stream = lines(rows * self.dim);
        let (q, k) = (lines(rows * self.heads * self.head_dim), lines(rows * self.kv_heads * self.head_dim));
        let network = lines(rows * self.hidden) * if self.gated { 2 } else { 1 };
        let block = 2 * stream + larger(2 * q + 2 * k, network);
        stream + larger(block, lines(self.dim))
    }
}
