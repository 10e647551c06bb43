//! Where weights and large intermediates lie: on huge pages, side by side, where there is a system that has them.

#[cfg(feature = "std")]
pub(crate) use crate::sys::memory::Part as Elements;

#[cfg(not(feature = "std"))]
pub(crate) type Elements<T> = alloc::vec::Vec<T>;

/// `value`, `n` times.
pub(crate) fn filled<T: Copy>(value: T, n: usize) -> Elements<T> {
    #[cfg(feature = "std")]
    return Elements::filled(value, n);
    #[cfg(not(feature = "std"))]
    alloc::vec![value; n]
}
