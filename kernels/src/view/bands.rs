//! Matrices cut into bands of rows: the numbered pieces of every kernel whose rows do not see each other.

use super::{MatMut, MatRef};
use core::iter::FusedIterator;

/// Bands of a matrix to read, from [`MatRef::bands`].
///
/// ```
/// use samebits_kernels::view::{Bands, BandsMut, MatMut, MatRef};
/// let (x, mut y) = ([1.0, 2.0, 3.0, 4.0, 5.0], [0.0; 5]);
/// let (from, to): (Bands, BandsMut) = (MatRef::new(&x, 5, 1).bands(2), MatMut::new(&mut y, 5, 1).bands(2));
/// assert_eq!((from.len(), to.len()), (3, 3)); // two rows, two, and the last
/// for (from, mut to) in from.zip(to) {
///     *to.at(0, 0) = from.get(0, 0);
/// }
/// assert_eq!(y, [1.0, 0.0, 3.0, 0.0, 5.0]);
/// ```
#[derive(Clone, Debug)]
pub struct Bands<'a, T = f32> {
    rest: MatRef<'a, T>,
    rows: usize,
}

/// Bands of a matrix to write, from [`MatMut::bands`]: each can go to a thread of its own.
pub struct BandsMut<'a, T = f32> {
    /// `None` once the last is out.
    rest: Option<MatMut<'a, T>>,
    rows: usize,
}

impl<'a, T: Copy> MatRef<'a, T> {
    /// Parts of `rows` rows, in order; the last may have fewer.
    ///
    /// # Panics
    /// Where `rows` is 0.
    pub fn bands(self, rows: usize) -> Bands<'a, T> {
        assert!(rows > 0, "bands of no rows");
        Bands { rest: self, rows }
    }
}

impl<'a, T> MatMut<'a, T> {
    /// Parts of `rows` rows, in order; the last may have fewer.
    ///
    /// ```
    /// use samebits_kernels::{Cpu, softmax::softmax, view::{MatMut, MatRef}};
    /// let (x, mut y) = ([1.0; 70], [0.0; 70]);
    /// let bands = MatRef::new(&x, 7, 10).bands(3).zip(MatMut::new(&mut y, 7, 10).bands(3));
    /// bands.for_each(|(x, y)| softmax(Cpu::detect(), x, y)); // on any thread, in any order
    /// assert_eq!(y, [0.1; 70]);
    /// ```
    ///
    /// # Panics
    /// Where `rows` is 0.
    pub fn bands(self, rows: usize) -> BandsMut<'a, T> {
        assert!(rows > 0, "bands of no rows");
        let rest = (self.rows() > 0).then_some(self);
        BandsMut { rest, rows }
    }
}

impl<'a, T: Copy> Iterator for Bands<'a, T> {
    type Item = MatRef<'a, T>;

    fn next(&mut self) -> Option<MatRef<'a, T>> {
        let (rows, cols) = (self.rest.rows(), self.rest.cols());
        let at = rows.min(self.rows);
        let band = self.rest.sub(0..at, 0..cols);
        self.rest = self.rest.sub(at..rows, 0..cols);
        (at > 0).then_some(band)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let n = self.rest.rows().div_ceil(self.rows);
        (n, Some(n))
    }
}

impl<'a, T> Iterator for BandsMut<'a, T> {
    type Item = MatMut<'a, T>;

    fn next(&mut self) -> Option<MatMut<'a, T>> {
        let rest = self.rest.take()?;
        if rest.rows() <= self.rows {
            return Some(rest);
        }
        let (band, rest) = rest.split_rows(self.rows);
        self.rest = Some(rest);
        Some(band)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let n = self.rest.as_ref().map_or(0, |rest| rest.rows().div_ceil(self.rows));
        (n, Some(n))
    }
}

impl<T: Copy> ExactSizeIterator for Bands<'_, T> {}
impl<T> ExactSizeIterator for BandsMut<'_, T> {}
impl<T: Copy> FusedIterator for Bands<'_, T> {}
impl<T> FusedIterator for BandsMut<'_, T> {}
