//! The extents of a tensor, without an allocation.

use crate::{Error, Result};
use core::fmt;
use core::ops::Deref;

/// Axes that a tensor may have.
pub const MAX_RANK: usize = 8;

/// Elements that a shape may count: eight bytes each still fit an `isize`.
const MAX_ELEMENTS: usize = isize::MAX as usize / 8;

/// The extent of each axis, outermost first. At most [`MAX_RANK`] axes, and the extents that are not 0
/// multiply to a number of elements that memory could hold, so no product of them ever overflows.
///
/// ```
/// use samebits::{Error, tensor::{MAX_RANK, Shape}};
/// assert_eq!(Shape::new(&[2, 3, 4])?.elements(), 24);
/// assert!(matches!(Shape::new(&[1; MAX_RANK + 1]), Err(Error::Shape { .. })));
/// assert!(matches!(Shape::new(&[usize::MAX, 2]), Err(Error::TooLarge { .. }))); // no product overflows
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    rank: usize,
    /// The extents, then zeros.
    dims: [usize; MAX_RANK],
}

impl Shape {
    /// A shape from data.
    ///
    /// # Errors
    /// [`Error::Shape`] for more than [`MAX_RANK`] axes, [`Error::TooLarge`] where memory could not hold it.
    pub fn new(extents: &[usize]) -> Result<Shape> {
        if extents.len() > MAX_RANK {
            return Err(Error::Shape {
                file: Default::default(),
                name: "a tensor".into(),
                shape: extents.into(),
                expected: alloc::format!("at most {MAX_RANK} axes"),
            });
        }
        let elements = extents.iter().filter(|&&n| n > 0).try_fold(1usize, |all, &n| all.checked_mul(n));
        if elements.is_none_or(|n| n > MAX_ELEMENTS) {
            return Err(Error::TooLarge { shape: extents.into() });
        }
        let mut dims = [0; MAX_RANK];
        dims[..extents.len()].copy_from_slice(extents);
        Ok(Shape { rank: extents.len(), dims })
    }

    /// A shape that the caller vouches for.
    ///
    /// # Panics
    /// Where [`Shape::new`] has an error.
    #[track_caller]
    pub(super) fn of(extents: &[usize]) -> Shape {
        Shape::new(extents).unwrap_or_else(|e| panic!("{e}"))
    }

    /// Number of axes.
    pub const fn rank(&self) -> usize {
        self.rank
    }

    /// The extents, then zeros.
    pub(super) const fn padded(&self) -> &[usize; MAX_RANK] {
        &self.dims
    }

    /// Number of elements: the product of the extents, 1 without axes.
    pub fn elements(&self) -> usize {
        self.iter().product()
    }
}

/// Elements from one place of an axis to the next, for each axis; the rest is 0.
pub(super) type Strides = [isize; MAX_RANK];

/// The strides of elements that lie row by row without gaps.
pub(super) fn row_major(shape: &Shape) -> Strides {
    let mut strides = [0; MAX_RANK];
    let mut step = 1;
    for (axis, &n) in shape.iter().enumerate().rev() {
        strides[axis] = step;
        // No overflow: the extents that are not 0 multiply to less than `isize::MAX`.
        step *= n.max(1) as isize;
    }
    strides
}

impl Deref for Shape {
    type Target = [usize];

    fn deref(&self) -> &[usize] {
        &self.dims[..self.rank]
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        crate::error::Shape(self).fmt(f)
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
