//! IA³ in a model: the pass that [`Linear::adapter`] makes, and its gradients.
//!
//! ```text
//!   output   y = l ∘ (W x + b)     dl = Σ dy ∘ (W x + b)     dx = Wᵀ (l ∘ dy)
//!   input    y = W (l ∘ x) + b     dl = Σ (Wᵀ dy) ∘ x        dx = l ∘ (Wᵀ dy)
//! ```
//!
//! Of several adapters the factors are multiplied, in the order in which they were named; one of weight w counts as
//! 1 + w (l − 1).
//!
//! **Law.** Clauses 1 and 9: dl is a sum of columns.

use super::{Ia3, Side};
use crate::kernels::Line;
use crate::kernels::elementwise::{self, Binary};
use crate::kernels::gemm::Accumulate;
use crate::kernels::view::{MatMut, MatRef};
use crate::nn::adapter::{Adapter, AdapterCache, Training};
use crate::nn::{Linear, Room, Scope, bias_gradient, input_gradient};
use crate::peft::named::Named;
use crate::peft::repeated;
use crate::run::Run;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

/// The name of the parameter, below the layer's own.
const SCALES: &str = "ia3_l";

/// The scales of one layer by name, and which of them count: of all the same side.
///
/// ```
/// use samebits::peft::config::{AdapterConfig, Ia3Config, Method};
/// use samebits::peft::{Ia3Adapters, Side, adapt};
/// use samebits::{Cpu, assets, random::Philox, run::Run};
/// let config = AdapterConfig::ia3(&["k_proj", "v_proj", "down_proj"], &["down_proj"], "inside")?;
/// let Method::Ia3(told) = config.method() else { panic!("IA³") };
/// let told: &Ia3Config = told;
/// assert_eq!(told.side("model.layers.0.mlp.down_proj"), Some(Side::Input));
/// let run = Run::here(Cpu::detect());
/// let mut model = assets::model(run.cpu())?;
/// adapt(&run, &mut model, ("mine", &config), Philox::new(1))?;
/// let key = &mut model.blocks_mut()[0].attention.k;
/// assert!(key.adapter.as_mut().unwrap().as_any().is::<Ia3Adapters>());
/// # Ok::<(), samebits::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Ia3Adapters {
    side: Side,
    of: Named<Ia3>,
}

impl Ia3Adapters {
    /// None yet, of that side.
    pub(in crate::peft) fn new(side: Side) -> Ia3Adapters {
        Ia3Adapters { side, of: Named::default() }
    }

    /// What they scale.
    pub(in crate::peft) const fn side(&self) -> Side {
        self.side
    }

    /// The adapters.
    pub(in crate::peft) const fn of(&self) -> &Named<Ia3> {
        &self.of
    }

    /// The adapters, to be changed.
    pub(in crate::peft) const fn of_mut(&mut self) -> &mut Named<Ia3> {
        &mut self.of
    }

    /// The product of the active factors; `None` where there is none.
    fn factors(&self) -> Option<Ia3> {
        let mut active = self.of.active();
        let (first, weight) = active.next()?;
        let mut scales: Vec<f32> = first.scales.iter().map(|l| weighted(*l, weight)).collect();
        for (more, weight) in active {
            scales.iter_mut().zip(&more.scales).for_each(|(all, l)| *all *= weighted(*l, weight));
        }
        Some(Ia3 { scales, side: self.side })
    }
}

fn weighted(l: f32, weight: f32) -> f32 {
    if weight == 1.0 { l } else { 1.0 + weight * (l - 1.0) }
}

impl Adapter for Ia3Adapters {
    fn boxed(&self) -> Box<dyn Adapter> {
        Box::new(self.clone())
    }

    fn as_any(&mut self) -> &mut dyn core::any::Any {
        self
    }

    fn forward(&self, run: &Run<'_>, base: &Linear, x: &[f32], out: &mut [f32]) {
        let (n, k) = (base.out_features(), base.in_features());
        let rows = x.len() / k.max(1);
        match self.factors() {
            None => base.forward_base(run, MatRef::new(x, rows, k), MatMut::new(out, rows, n)),
            Some(ia3) => {
                let mut room = vec![Line::ZERO; ia3.room_len(rows)];
                ia3.forward(run, base, x, out, Room::new(&mut room));
            }
        }
    }

    fn forward_train(&self, pass: Training<'_, '_>, x: &[f32], out: &mut [f32], cache: &mut AdapterCache) {
        let Training { run, base, .. } = pass;
        let Some(ia3) = self.of.trained().filter(|ia3| ia3.side == Side::Output) else {
            return self.forward(run, base, x, out);
        };
        let (n, k) = (base.out_features(), base.in_features());
        let rows = x.len() / k.max(1);
        base.forward_base(run, MatRef::new(x, rows, k), MatMut::new(out, rows, n));
        let kept = &mut cache.floats[0];
        kept.clear();
        kept.extend_from_slice(out);
        times(run, &mut *out, &ia3.scales);
    }

    fn backward(
        &self,
        pass: Training<'_, '_>,
        (x, dy): (&[f32], &[f32]),
        cache: &AdapterCache,
        (dx, accumulate): (&mut [f32], Accumulate),
        to: &mut Scope<'_>,
    ) {
        let Training { run, base, .. } = pass;
        let (n, k) = (base.out_features(), base.in_features());
        let rows = x.len() / k.max(1);
        let through = |dy: &[f32], accumulate, dx: &mut [f32]| {
            let dx = MatMut::new(dx, rows, k);
            input_gradient(run, &base.weight, MatRef::new(dy, rows, n), accumulate, dx);
        };
        let Some(factors) = self.factors() else { return through(dy, accumulate, dx) };
        match self.side {
            Side::Output => {
                slopes(run, to, dy, &cache.floats[0], n);
                let mut scaled = dy.to_vec();
                times(run, &mut scaled, &factors.scales);
                through(&scaled, accumulate, dx);
            }
            Side::Input => {
                let mut inner = vec![0.0; rows * k];
                through(dy, Accumulate::Overwrite, &mut inner);
                slopes(run, to, &inner, x, k);
                times(run, &mut inner, &factors.scales);
                match accumulate {
                    Accumulate::Overwrite => dx.copy_from_slice(&inner),
                    Accumulate::Add => {
                        let inner = MatRef::new(&inner, rows, k);
                        elementwise::binary_in_place(run.cpu(), Binary::Add, MatMut::new(dx, rows, k), inner);
                    }
                }
            }
        }
    }

    fn parameters_mut(&mut self) -> Vec<(String, [usize; 2], &mut [f32])> {
        let one = self.of.trained_mut().into_iter();
        one.map(|ia3| (SCALES.into(), [1, ia3.scales.len()], &mut ia3.scales[..])).collect()
    }

    fn refresh(&mut self, _: &Run<'_>, _: &Linear) {}
}

/// `x` (rows, n) becomes x ∘ f (n).
fn times(run: &Run<'_>, x: &mut [f32], f: &[f32]) {
    let rows = x.len() / f.len().max(1);
    elementwise::binary_in_place(run.cpu(), Binary::Mul, MatMut::new(x, rows, f.len()), repeated(f, rows));
}

/// dl (n) += Σ d ∘ x over the rows, where the scales are trained.
fn slopes(run: &Run<'_>, to: &mut Scope<'_>, d: &[f32], x: &[f32], n: usize) {
    let Some(dl) = to.add(SCALES) else { return };
    let (rows, mut terms) = (d.len() / n.max(1), d.to_vec());
    let x = MatRef::new(x, rows, n);
    elementwise::binary_in_place(run.cpu(), Binary::Mul, MatMut::new(&mut terms, rows, n), x);
    bias_gradient(run, MatRef::new(&terms, rows, n), Accumulate::Add, dl);
}
