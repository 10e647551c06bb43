//! The rate of each step: warm-up, then a curve.
//!
//! ```text
//!   Constant            Linear              Cosine              warm-up, stable, decay
//!      ┌───────────        ╱╲                  ╱‾╲                 ┌───────┐
//!     ╱                   ╱   ╲               ╱    ╲              ╱         ╲
//!    ╱                   ╱      ╲            ╱      ╲__          ╱           ╲___
//! ```
//!
//! The factors are those of `get_constant_schedule_with_warmup`, `get_linear_…`, `get_cosine_…`,
//! `get_cosine_with_min_lr_…` and `get_wsd_schedule` of transformers; cosines and roots by the kernels' own `f64`.

use crate::kernels::math::cos64;
use crate::kernels::simd::sqrt64;

/// How the rate falls from 1 to the floor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curve {
    /// 1 − x
    Linear,
    /// ½ (1 + cos πx)
    Cosine,
    /// 1 − √x: what is usual for the decay of a warm-up–stable–decay schedule.
    OneMinusSqrt,
}

impl Curve {
    /// At `x` in [0, 1].
    fn at(self, x: f64) -> f64 {
        match self {
            Curve::Linear => 1.0 - x,
            Curve::Cosine => 0.5 * (1.0 + cos64(core::f64::consts::PI * x)),
            Curve::OneMinusSqrt => 1.0 - sqrt64(x),
        }
    }
}

/// What follows the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// The full rate for ever.
    Constant,
    /// A fall over all the steps that are left.
    Fall(Curve),
    /// The full rate, then a fall over the last steps (WSD). The warm-up starts at the floor.
    StableThenFall {
        /// Steps of the fall.
        decay: u64,
        /// How it falls.
        curve: Curve,
    },
}

/// A factor of the rate for each step.
///
/// ```
/// use samebits::train::{Curve, Schedule, Shape};
/// let schedule = Schedule { shape: Shape::Fall(Curve::Linear), warmup: 2, total: 6, floor: 0.0 };
/// let factors: Vec<f64> = (0..7).map(|step| schedule.factor(step)).collect();
/// assert_eq!(factors, [0.0, 0.5, 1.0, 0.75, 0.5, 0.25, 0.0]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// What follows the warm-up.
    pub shape: Shape,
    /// Steps over which the rate rises linearly, from 0 (WSD: from the floor).
    pub warmup: u64,
    /// Steps of the whole training.
    pub total: u64,
    /// The part of the rate to which it falls, and at which it stays.
    pub floor: f64,
}

impl Schedule {
    /// The factor of step 0, 1, ….
    pub fn factor(&self, step: u64) -> f64 {
        let above_floor = |factor: f64| factor * (1.0 - self.floor) + self.floor;
        let fraction = |done: u64, of: u64| done as f64 / of.max(1) as f64;
        if step < self.warmup {
            let rise = fraction(step, self.warmup);
            return if matches!(self.shape, Shape::StableThenFall { .. }) { above_floor(rise) } else { rise };
        }
        let (start, curve) = match self.shape {
            Shape::Constant => return 1.0,
            Shape::Fall(curve) => (self.warmup, curve),
            Shape::StableThenFall { decay, curve } => {
                (self.total.saturating_sub(decay).max(self.warmup), curve)
            }
        };
        if step >= self.total {
            return self.floor;
        }
        if step < start {
            return 1.0;
        }
        above_floor(curve.at(fraction(step - start, self.total - start)))
    }
}
