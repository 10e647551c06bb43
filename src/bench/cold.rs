//! Cold caches: a walk over a buffer larger than all of them, before each call that is timed.
//!
//! What a kernel finds warm it has found in a loop that does nothing else. In a model a layer's weights come back
//! only after all the other layers': that is the cold figure.

use super::memory;
use crate::kernels::Line;
use crate::pool::Pool;

/// What the caches hold when a call begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cache {
    /// What the call before, on the same data, has left there.
    #[default]
    Warm,
    /// Other data.
    Cold,
}

/// Drives everything else out of the caches.
pub struct Flush {
    lines: Vec<Line>,
}

impl Flush {
    /// A walk over so many bytes.
    pub fn new(bytes: usize) -> Flush {
        Flush { lines: memory::lines(bytes.div_ceil(size_of::<Line>())) }
    }

    /// Bytes of a walk.
    pub fn bytes(&self) -> usize {
        size_of_val(&self.lines[..])
    }

    /// Walks: every line is read and written, each thread has a part.
    pub fn walk(&mut self, pool: &Pool) {
        let part = self.lines.len().div_ceil(pool.threads()).max(1);
        pool.run(self.lines.chunks_mut(part), |lines, _| {
            for line in lines {
                // Back and forth between two numbers: no infinity, no subnormal.
                line.0[0] = 2.0 - line.0[0];
            }
        });
        std::hint::black_box(&mut self.lines);
    }
}
