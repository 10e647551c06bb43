//! Elementary functions from exact words: no libm, so no bits that a library may change.

pub mod exp;
pub mod soft;
