//! # The rows of a strided matrix, as words of sixteen
//!
//! What softmax, the norms and the lane-wise functions share: a kernel says what happens to one [`Row`],
//! [`Rows`] takes it over a matrix, and the three forms of a row below give it the same bits whether the
//! result goes to the place it came from, to another, or to elements that lie apart.
//!
//! ```text
//!   InPlace   x0…x15 │ x16…x31 │ x32…      one slice, read and written
//!   Apart     x0…x15 │ …  ──►  y0…y15 │ …  two slices
//!   Strided   x0 · · x1 · · x2 · ·         gathered sixteen at a time, scattered back
//! ```
//!
//! **Cost.**  The first two forms compile to plain vector loads and stores; a strided row costs one load
//! and one store an element.  **Next.**  [`crate::softmax`].

use crate::LANES;
use crate::cpu::Kernel;
use crate::simd::{Floats, Simd};
use crate::view::{MatMut, MatRef};

/// A row of `len` elements being rewritten: words 0..len / 16, then a tail of len % 16 elements.
pub trait Row {
    /// Number of elements.
    fn len(&self) -> usize;
    /// Word `i` of the input; once it is written over in place, what was written.
    fn read<S: Simd>(&self, s: S, i: usize) -> S::F32;
    /// The tail of the input; the other lanes are `fill`.
    fn read_tail<S: Simd>(&self, s: S, fill: f32) -> S::F32;
    /// Word `i` of what was written.
    fn reread<S: Simd>(&self, s: S, i: usize) -> S::F32;
    /// The tail of what was written; the other lanes are +0.
    fn reread_tail<S: Simd>(&self, s: S) -> S::F32;
    /// Writes word `i`.
    fn write<S: Simd>(&mut self, s: S, i: usize, v: S::F32);
    /// Writes the tail's lanes and nothing else.
    fn write_tail<S: Simd>(&mut self, s: S, v: S::F32);
    /// Number of whole words.
    #[inline(always)]
    fn words(&self) -> usize {
        self.len() / LANES
    }
    /// Whether a tail follows the whole words.
    #[inline(always)]
    fn has_tail(&self) -> bool {
        !self.len().is_multiple_of(LANES)
    }
}

/// What happens to each row. Its `row` must be `#[inline(always)]`.
pub trait RowKernel {
    /// Rewrites one row.
    fn row<S: Simd, R: Row>(&self, s: S, row: &mut R);
}

/// A row kernel over every row, from `x` (or from `out` itself) to `out`, both (rows, cols).
pub struct Rows<'a, K> {
    /// Where to read; `None`: in place.
    pub x: Option<MatRef<'a>>,
    /// Where to write.
    pub out: MatMut<'a>,
    /// What to do.
    pub kernel: K,
}

impl<K: RowKernel> Kernel for Rows<'_, K> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        if self.out.cols() == 0 {
            return;
        }
        let strided = self.out.col_stride() != 1 || self.x.is_some_and(|x| x.col_stride() != 1);
        if S::SMALL || strided && self.out.cols() > 1 {
            for r in 0..self.out.rows() {
                let mut row = Strided { x: self.x, out: self.out.reborrow(), r };
                self.kernel.row(s, &mut row);
            }
            return;
        }
        for r in 0..self.out.rows() {
            let out = self.out.row(r).expect("the elements of this row lie side by side");
            match self.x.and_then(|x| x.row(r)) {
                Some(x) => self.kernel.row(s, &mut Apart::new(x, out)),
                None => self.kernel.row(s, &mut InPlace::new(out)),
            }
        }
    }
}

/// The same shape, or a panic that names both.
#[track_caller]
#[inline]
pub(crate) fn check_shape(x: &MatRef, out: &MatRef) {
    let (a, b) = ((x.rows(), x.cols()), (out.rows(), out.cols()));
    assert!(a == b, "input is {a:?}, output is {b:?}");
}

/// A row that is read and written in one place.
struct InPlace<'a> {
    words: &'a mut [Floats],
    tail: &'a mut [f32],
}

impl<'a> InPlace<'a> {
    #[inline(always)]
    fn new(row: &'a mut [f32]) -> Self {
        let (words, tail) = row.as_chunks_mut();
        InPlace { words, tail }
    }
}

impl Row for InPlace<'_> {
    #[inline(always)]
    fn len(&self) -> usize {
        self.words.len() * LANES + self.tail.len()
    }
    #[inline(always)]
    fn read<S: Simd>(&self, s: S, i: usize) -> S::F32 {
        s.load(&self.words[i])
    }
    #[inline(always)]
    fn read_tail<S: Simd>(&self, s: S, fill: f32) -> S::F32 {
        s.load_tail(self.tail, fill)
    }
    #[inline(always)]
    fn reread<S: Simd>(&self, s: S, i: usize) -> S::F32 {
        s.load(&self.words[i])
    }
    #[inline(always)]
    fn reread_tail<S: Simd>(&self, s: S) -> S::F32 {
        s.load_tail(self.tail, 0.0)
    }
    #[inline(always)]
    fn write<S: Simd>(&mut self, s: S, i: usize, v: S::F32) {
        s.store(&mut self.words[i], v);
    }
    #[inline(always)]
    fn write_tail<S: Simd>(&mut self, s: S, v: S::F32) {
        s.store_tail(self.tail, v);
    }
}

/// A row that is read in one place and written in another.
struct Apart<'a> {
    x: &'a [Floats],
    x_tail: &'a [f32],
    out: InPlace<'a>,
}

impl<'a> Apart<'a> {
    #[inline(always)]
    fn new(x: &'a [f32], out: &'a mut [f32]) -> Self {
        assert!(x.len() == out.len(), "row of {} elements, output of {}", x.len(), out.len());
        let (x, x_tail) = x.as_chunks();
        Apart { x, x_tail, out: InPlace::new(out) }
    }
}

impl Row for Apart<'_> {
    #[inline(always)]
    fn len(&self) -> usize {
        self.out.len()
    }
    #[inline(always)]
    fn read<S: Simd>(&self, s: S, i: usize) -> S::F32 {
        s.load(&self.x[i])
    }
    #[inline(always)]
    fn read_tail<S: Simd>(&self, s: S, fill: f32) -> S::F32 {
        s.load_tail(self.x_tail, fill)
    }
    #[inline(always)]
    fn reread<S: Simd>(&self, s: S, i: usize) -> S::F32 {
        self.out.read(s, i)
    }
    #[inline(always)]
    fn reread_tail<S: Simd>(&self, s: S) -> S::F32 {
        self.out.reread_tail(s)
    }
    #[inline(always)]
    fn write<S: Simd>(&mut self, s: S, i: usize, v: S::F32) {
        self.out.write(s, i, v);
    }
    #[inline(always)]
    fn write_tail<S: Simd>(&mut self, s: S, v: S::F32) {
        self.out.write_tail(s, v);
    }
}

/// A row whose elements lie apart, in the input, the output or both.
struct Strided<'a> {
    x: Option<MatRef<'a>>,
    out: MatMut<'a>,
    r: usize,
}

impl Strided<'_> {
    /// Up to sixteen elements from column `16 i` on.
    #[inline(always)]
    fn gather<S: Simd>(&self, s: S, from: &MatRef, i: usize, fill: f32) -> S::F32 {
        s.load(&gather(from, self.r, i * LANES, fill))
    }
    #[inline(always)]
    fn scatter<S: Simd>(&mut self, s: S, i: usize, v: S::F32) {
        scatter(&mut self.out, self.r, i * LANES, &s.to_array(v));
    }
}

impl Row for Strided<'_> {
    #[inline(always)]
    fn len(&self) -> usize {
        self.out.cols()
    }
    #[inline(always)]
    fn read<S: Simd>(&self, s: S, i: usize) -> S::F32 {
        self.gather(s, &self.x.unwrap_or(self.out.as_ref()), i, 0.0)
    }
    #[inline(always)]
    fn read_tail<S: Simd>(&self, s: S, fill: f32) -> S::F32 {
        self.gather(s, &self.x.unwrap_or(self.out.as_ref()), self.words(), fill)
    }
    #[inline(always)]
    fn reread<S: Simd>(&self, s: S, i: usize) -> S::F32 {
        self.gather(s, &self.out.as_ref(), i, 0.0)
    }
    #[inline(always)]
    fn reread_tail<S: Simd>(&self, s: S) -> S::F32 {
        self.gather(s, &self.out.as_ref(), self.words(), 0.0)
    }
    #[inline(always)]
    fn write<S: Simd>(&mut self, s: S, i: usize, v: S::F32) {
        self.scatter(s, i, v);
    }
    #[inline(always)]
    fn write_tail<S: Simd>(&mut self, s: S, v: S::F32) {
        self.scatter(s, self.words(), v);
    }
}

/// Up to sixteen elements of row `r` from column `start` on; the rest is `fill`. No word of the vocabulary is
/// said here, so it need not be inlined: that would put it into every kernel.
#[inline(never)]
pub(crate) fn gather(x: &MatRef, r: usize, start: usize, fill: f32) -> Floats {
    let mut word = [fill; LANES];
    if let Some(row) = x.row(r) {
        word.iter_mut().zip(&row[start..]).for_each(|(w, &x)| *w = x);
        return word;
    }
    for (l, w) in word.iter_mut().take(x.cols() - start).enumerate() {
        *w = x.get(r, start + l);
    }
    word
}

/// Up to sixteen elements of row `r` from column `start` on, wherever they lie; the rest is `fill`.
#[inline(always)]
pub(crate) fn word_at<S: Simd>(s: S, x: &MatRef, r: usize, start: usize, fill: f32) -> S::F32 {
    match x.row(r).map(|row| &row[start..]) {
        Some(rest) => match rest.first_chunk() {
            Some(word) => s.load(word),
            None => s.load_tail(rest, fill),
        },
        None => s.load(&gather(x, r, start, fill)),
    }
}

/// Writes up to sixteen elements of row `r` from column `start` on, wherever they lie.
#[inline(always)]
pub(crate) fn set_word_at<S: Simd>(s: S, out: &mut MatMut, r: usize, start: usize, v: S::F32) {
    match out.row(r).map(|row| &mut row[start..]) {
        Some(rest) => match rest.first_chunk_mut() {
            Some(word) => s.store(word, v),
            None => s.store_tail(rest, v),
        },
        None => scatter(out, r, start, &s.to_array(v)),
    }
}

/// Puts up to sixteen elements to row `r` from column `start` on.
#[inline(never)]
fn scatter(out: &mut MatMut, r: usize, start: usize, word: &Floats) {
    if let Some(row) = out.row(r) {
        return row[start..].iter_mut().zip(word).for_each(|(x, &w)| *x = w);
    }
    for (l, &v) in word.iter().take(out.cols() - start).enumerate() {
        *out.at(r, start + l) = v;
    }
}
