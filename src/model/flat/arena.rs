//! What a conversation with a flat decoder takes of memory, known before the program runs.

use super::{Forms, Shape};
use crate::kernels::attention::scratch_len_for;
use crate::kernels::{LANES, Line};
use crate::model::cache::LayerCache;
use crate::model::sampling::Stage;
use crate::nn::TransformerBlock;

/// What a buffer takes of an [`Arena`](crate::arena::Arena), which gives whole lines.
const fn lines(floats: usize) -> usize {
    floats.div_ceil(LANES)
}

/// The same of so many bytes.
const fn lines_of(bytes: usize) -> usize {
    bytes.div_ceil(size_of::<Line>())
}

const fn larger(a: usize, b: usize) -> usize {
    if a > b { a } else { b }
}

/// Lines of the lists of a forward pass over `rows` tokens: tokens and positions, which double as they grow, and three more.
const fn pass(rows: usize) -> usize {
    3 + 2 * lines(larger(rows.next_power_of_two(), 4))
}

impl Shape {
    /// Bytes of the buffers of a [`Generator`](crate::model::Generator) for `tokens` tokens (at most 512, keys and values
    /// in `f32`, no window) that is fed at most `rows` of them at a time: keys and values, rows in between, cos and sin,
    /// logits. Exactly so many, each buffer in whole lines of 64 bytes.
    ///
    /// [`Shape::memory_len`] has what lies beside them too.
    pub const fn arena_len(&self, tokens: usize, rows: usize) -> usize {
        let cache = 2 * self.layers * lines(self.kv_heads * tokens * self.head_dim);
        let positions = if self.pairs == 0 { 0 } else { tokens };
        let table = 2 * lines(positions * self.pairs);
        (cache + self.rows_len(rows) + table + lines(self.vocab)) * 64
    }

    /// Lines of scratch that products and attention of such a conversation ask for at a time, of weights in `forms`: exactly
    /// so many where the widest of them is in the form that asks for the most. (Of NF4, where blocks begin and end with rows.)
    pub const fn scratch_len(&self, tokens: usize, rows: usize, forms: Forms) -> usize {
        let wide = larger(self.dim, larger(self.heads * self.head_dim, self.hidden));
        larger(forms.scratch_len(rows, wide), scratch_len_for(tokens, self.head_dim, self.head_dim))
    }

    /// Bytes that a program takes at most at a time of an [`Arena`](crate::arena::Arena) for such a conversation, greedy and
    /// without drafts: the decoder that is read in place ([`Flat::decoder_of`](super::Flat::decoder_of)), its
    /// [`Run`](crate::run::Run) with [`Shape::scratch_len`] lines of its own, and the generator. Its tokenizer is not among it.
    ///
    /// What the shape does not say is taken for there: a head that is no embedding, factors of stretched positions. So it
    /// is at most a few hundred bytes more than what is used.
    ///
    /// ```
    /// use samebits::model::flat::{Forms, Shape, write};
    /// use samebits::{Cpu, model::Model};
    /// let model = Model::open("tests/data/models/llama", Cpu::detect())?;
    /// let (forms, file) = (Forms::NONE.f32(), write(Cpu::detect(), &model, None)?);
    /// let shape = Shape::of(&file); // in a program: const, and so is what follows
    /// let (buffers, lines) = (shape.arena_len(20, 4), shape.scratch_len(20, 4, forms));
    /// assert!(shape.memory_len(20, 4, forms) > buffers + 64 * lines);
    /// # Ok::<(), samebits::Error>(())
    /// ```
    pub const fn memory_len(&self, tokens: usize, rows: usize, forms: Forms) -> usize {
        let kept = self.layers_len(forms) + lines(tokens) + lines_of(size_of::<Stage>());
        // After a draw there are a candidate, its logit and its probability too.
        let (fed, drawn) = (pass(rows), pass(1) + 3);
        self.arena_len(tokens, rows)
            + 64 * (self.scratch_len(tokens, rows, forms) + kept + larger(fed, drawn))
    }

    /// Lines of what describes layers and caches; the weights and vectors themselves stay where they lie.
    const fn layers_len(&self, forms: Forms) -> usize {
        let blocks = lines_of(self.layers * size_of::<TransformerBlock>());
        let caches = lines_of(self.layers * size_of::<LayerCache>());
        let windows = lines_of(self.layers * size_of::<Option<usize>>());
        let linears = self.layers * if self.gated { 7 } else { 6 };
        // The embedding, the head, and positions where they are learned; tokens that end texts.
        let tables = if self.pairs == 0 { 3 } else { 2 };
        let weights = (linears + tables) * lines_of(forms.described());
        let turns = if self.pairs == 0 { 0 } else { 3 * lines_of(self.pairs * size_of::<f64>()) };
        blocks + caches + windows + weights + turns + 1
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
