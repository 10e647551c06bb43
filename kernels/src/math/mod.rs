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
//!
//! ```
//! use samebits_kernels::math::{Erf, Ln, Sigmoid, Tanh};
//! use samebits_kernels::{Cpu, map::slice};
//! let (cpu, mut x) = (Cpu::detect(), [[1.0f32; 4]; 4]);
//! let [e, l, s, t] = &mut x;
//! (slice(cpu, Erf, e), slice(cpu, Ln, l), slice(cpu, Sigmoid, s), slice(cpu, Tanh, t));
//! let exact = [0.8427008, 0.0, 0.7310586, 0.7615942]; // at 1
//! assert!(x.iter().zip(exact).all(|(x, y)| (x[0] - y).abs() < 1e-6), "{x:?}");
//! ```
//!
//! Of words, inside a kernel: the same functions, the same bits.
//!
//! ```
//! use samebits_kernels::math::{erf::erf, exp::exp, ln::ln, sigmoid::sigmoid, tanh::tanh};
//! use samebits_kernels::{Cpu, Kernel, simd::Simd};
//! struct Odd(f32);
//! impl Kernel for Odd {
//!     type Output = [f32; 3];
//!     #[inline(always)]
//!     fn run<S: Simd>(self, s: S) -> [f32; 3] {
//!         let x = s.splat(self.0);
//!         let back = s.sub(ln(s, exp(s, x)), x); // ln e^x − x
//!         let one = s.add(sigmoid(s, x), sigmoid(s, s.neg(x))); // σ(x) + σ(−x)
//!         let odd = s.add(s.add(tanh(s, x), tanh(s, s.neg(x))), s.add(erf(s, x), erf(s, s.neg(x))));
//!         [s.to_array(back)[0], s.to_array(one)[0], s.to_array(odd)[0]]
//!     }
//! }
//! let [back, one, odd] = Cpu::detect().run(Odd(0.75));
//! assert!(back.abs() < 1e-6 && (one - 1.0).abs() < 1e-6);
//! assert_eq!(odd, 0.0); // of a number and its opposite exactly
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
