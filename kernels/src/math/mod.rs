//! Elementary functions from exact words: no libm, so no bits that a library may change.
//!
//! Each file has one function twice: of a word (`exp(s, x)`, for the inside of other kernels) and as a type
//! (`Exp`) that [`crate::map`] takes over slices and strided matrices.
//!
//! ```
//! use samebits_kernels::{Cpu, map, math};
//! let mut x = [0.0, 1.0, f32::NEG_INFINITY];
//! map::slice(Cpu::detect(), math::Exp, &mut x);
//! assert_eq!(x, [1.0, core::f32::consts::E, 0.0]);
//! ```

pub mod double;
pub mod erf;
pub mod exp;
pub mod ln;
pub mod sigmoid;
pub mod soft;
pub mod tanh;

pub use double::{cos64, exp64, ln64, pow64, sin_cos64, sin64};
pub use {erf::Erf, exp::Exp, ln::Ln, sigmoid::Sigmoid, tanh::Tanh};
