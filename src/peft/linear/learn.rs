//! Adapters in a model: the pass that [`Linear::adapter`] makes, and its gradients.
//!
//! ```text
//!   LoRA   y = W x + b + s B A x'                     x' = dropout(x)
//!          dB = dyᵀ (s A x')   dA = (s Bᵀ dy)ᵀ x'     dx = Wᵀ dy + dropout(Aᵀ s Bᵀ dy)
//!   DoRA   y = W x + b + (f − 1) ∘ W x' + f ∘ s B A x'     f = m / |V|, |V| taken for a constant
//! ```
//!
//! **Law.** Clause 1 for every product, but dA and dB in the class of the base; what goes through the base comes first, what goes through the adapter is added.

use super::adapters::{Entry, LoraAdapters};
use crate::kernels::Line;
use crate::kernels::elementwise::{self, Binary};
use crate::kernels::gemm::Accumulate;
use crate::kernels::view::{MatMut, MatRef};
use crate::nn::adapter::{self, Adapter, AdapterCache, Training};
use crate::nn::{
    Compute, Linear, Room, Scope, add, bias_gradient, input_gradient, input_gradient_low_rank,
    weight_gradient,
};
use crate::peft::{Draw, LoraCache, LoraLayer, LoraShape, Packed, product, repeated};
use crate::run::{Lent, Run};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

/// Names of the parameters, below the layer's own.
const A: &str = "lora_A.weight";
const B: &str = "lora_B.weight";
const M: &str = "lora_magnitude_vector.weight";

impl LoraAdapters {
    /// The one that training changes.
    fn trained(&self) -> Option<&str> {
        match &self.active[..] {
            [(name, _)] => Some(name),
            _ => None,
        }
    }
}

impl Adapter for LoraAdapters {
    fn boxed(&self) -> Box<dyn Adapter> {
        Box::new(self.clone())
    }

    fn as_any(&mut self) -> &mut dyn core::any::Any {
        self
    }

    fn forward(&self, run: &Run<'_>, base: &Linear, x: &[f32], out: &mut [f32]) {
        let (n, k) = (base.out_features(), base.in_features());
        let rows = x.len() / k.max(1);
        if let (None, Some((layer, weight))) = (&self.rows, self.plain())
            && rows > FEW
        {
            return fused(run, (base, layer), layer.scale * weight, x, out);
        }
        base.forward_base(run, MatRef::new(x, rows, k), MatMut::new(out, rows, n));
        if let Some(rows) = &self.rows {
            return self.add_rows(run, base, rows, x, out);
        }
        let mut room = vec![Line::ZERO; self.room_len(base, rows)];
        self.add(run, base, x, out, Room::new(&mut room));
    }

    fn forward_train(&self, pass: Training<'_, '_>, x: &[f32], out: &mut [f32], cache: &mut AdapterCache) {
        let Training { run, base, draw } = pass;
        let Some(name) = self.trained() else { return self.forward(run, base, x, out) };
        let [dropped, hidden, of_base, norms] = core::mem::take(&mut cache.floats);
        let mut kept = LoraCache { dropped, hidden, base: of_base, norms };
        self.train(run, base, (name, self.draw(draw)), x, out, &mut kept);
        cache.floats = [kept.dropped, kept.hidden, kept.base, kept.norms];
    }

    fn backward(
        &self,
        pass: Training<'_, '_>,
        (x, dy): (&[f32], &[f32]),
        cache: &AdapterCache,
        (dx, accumulate): (&mut [f32], Accumulate),
        to: &mut Scope<'_>,
    ) {
        let Training { run, base, draw } = pass;
        let (n, k) = (base.out_features(), base.in_features());
        let rows = x.len() / k.max(1);
        let dy_view = MatRef::new(dy, rows, n);
        let Some(name) = self.trained() else {
            return input_gradient(run, &base.weight, dy_view, accumulate, MatMut::new(dx, rows, k));
        };
        let Entry { layer, factors } = &self.all[name];
        let [dropped, hidden, of_base, norms] = &cache.floats;
        let draw = self.draw(draw).filter(|_| layer.dropout > 0.0);
        let x = if draw.is_some() { dropped } else { x };
        let pass = Back { run, compute: base.weight.compute(), layer, rows, x, hidden };
        let Some(factors) = factors else {
            let Some(draw) = draw else {
                return pass.through_both((base, dy), to, (MatMut::new(dx, rows, k), accumulate));
            };
            input_gradient(run, &base.weight, dy_view, accumulate, MatMut::new(&mut *dx, rows, k));
            let mut change = run.floats(dx.len());
            pass.low_rank(dy, to, &mut change);
            return add_dropped(run, layer, draw, &change, dx);
        };
        if let Some(dm) = to.add(M) {
            pass.magnitude((dy, of_base, norms), dm);
        }
        // Through the base as well: y = x Wᵀ + b + (f − 1) ∘ x' Wᵀ + f ∘ s B A x', x' = x unless something is dropped.
        let scaled = times(run, dy, rows, factors);
        let Some(draw) = draw else {
            return pass.through_both((base, &scaled), to, (MatMut::new(dx, rows, k), accumulate));
        };
        input_gradient(run, &base.weight, dy_view, accumulate, MatMut::new(&mut *dx, rows, k));
        let mut change = run.floats(dx.len());
        pass.low_rank(&scaled, to, &mut change);
        let less: Vec<f32> = factors.iter().map(|f| f - 1.0).collect();
        let less = times(run, dy, rows, &less);
        let (less, to_change) = (MatRef::new(&less, rows, n), MatMut::new(&mut change, rows, k));
        input_gradient(run, &base.weight, less, Accumulate::Add, to_change);
        add_dropped(run, layer, draw, &change, dx);
    }

    fn parameters_mut(&mut self) -> Vec<(String, [usize; 2], &mut [f32])> {
        let Some(name) = self.trained().map(String::from) else { return Vec::new() };
        let Some(Entry { layer, .. }) = self.all.get_mut(&name) else { return Vec::new() };
        let shape = layer.shape();
        let LoraLayer { a, b, magnitude, .. } = layer;
        let mut all = vec![(B.into(), [shape.out_features, shape.rank], &mut b[..])];
        if !self.follows {
            all.push((A.into(), [shape.rank, shape.in_features], &mut a[..]));
        }
        all.extend(magnitude.as_mut().map(|m| (M.into(), [1, shape.out_features], &mut m.lengths[..])));
        all
    }

    fn refresh(&mut self, run: &Run<'_>, base: &Linear) {
        for Entry { layer, factors } in self.all.values_mut() {
            *factors = layer.factors(run, &base.weight);
        }
    }

    fn shared(&self) -> &'static [&'static str] {
        if self.follows && self.trained().is_some() { &[A] } else { &[] }
    }

    fn follow(&mut self, first: &mut dyn Adapter) {
        let Some(first) = first.as_any().downcast_mut::<LoraAdapters>() else { return };
        for (name, Entry { layer, .. }) in &mut self.all {
            if let Some(Entry { layer: of, .. }) = first.all.get(name).filter(|_| self.follows) {
                layer.a.copy_from_slice(&of.a);
            }
        }
    }
}

impl LoraAdapters {
    /// The stream of this layer in one step.
    fn draw(&self, draw: Option<adapter::Draw>) -> Option<Draw> {
        let stream = |step: u64| step.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ self.stream;
        draw.map(|d| Draw { random: d.random, stream: stream(d.step), first_row: d.first_row })
    }
}

/// Up to so many rows the memory binds, not a pass through them: B is not packed for their sake.
const FEW: usize = 8;

/// What the base gives, and one adapter without magnitude.
fn fused(run: &Run<'_>, (base, layer): (&Linear, &LoraLayer), scale: f32, x: &[f32], out: &mut [f32]) {
    let rows = layer.rows(x, out);
    let LoraShape { in_features: k, out_features: n, rank } = layer.shape();
    let mut hidden = run.floats(rows * rank);
    layer.down(run, x, &mut hidden);
    layer.up_with((run, base), &mut hidden, scale, (MatRef::new(x, rows, k), MatMut::new(out, rows, n)));
}

/// What the gradients of one adapter are computed from.
struct Back<'b, 'r> {
    run: &'b Run<'r>,
    /// The class of the gradients of A and B: the base's.
    compute: Compute,
    layer: &'b LoraLayer,
    rows: usize,
    /// (rows, in): what A was given.
    x: &'b [f32],
    /// (rows, rank): A x.
    hidden: &'b [f32],
}

impl<'b> Back<'b, '_> {
    /// From the gradient of s B A x, (rows, out), to that of A x, (rows, rank): s Bᵀ dy; and those of A and B.
    fn inner(&self, dy: &[f32], to: &mut Scope<'_>) -> Lent<'b> {
        let Back { run, compute, layer, rows, x, hidden } = *self;
        let LoraShape { out_features: n, in_features: k, rank: r } = layer.shape();
        let dy = MatRef::new(dy, rows, n);
        let scale = |x: &mut [f32]| {
            elementwise::scalar_in_place(run.cpu(), Binary::Mul, MatMut::new(x, rows, r), layer.scale);
        };
        if let Some(db) = to.add(B) {
            let mut scaled = run.floats(rows * r);
            scaled.copy_from_slice(hidden);
            scale(&mut scaled);
            let (given, db) = ((MatRef::new(&scaled, rows, r), dy), MatMut::new(db, n, r));
            weight_gradient(run, compute, given, Accumulate::Add, db);
        }
        let mut d = run.floats(rows * r);
        product(run, dy, layer.b(), MatMut::new(&mut d, rows, r), Accumulate::Overwrite);
        scale(&mut d);
        if let Some(da) = to.add(A) {
            let (given, da) = ((MatRef::new(x, rows, k), MatRef::new(&d, rows, r)), MatMut::new(da, r, k));
            weight_gradient(run, compute, given, Accumulate::Add, da);
        }
        d
    }

    /// The gradient of x through the adapter alone, Aᵀ (s Bᵀ dy), to dx (rows, in).
    fn low_rank(&self, dy: &[f32], to: &mut Scope<'_>, dx: &mut [f32]) {
        let (rows, LoraShape { in_features, rank, .. }) = (self.rows, self.layer.shape());
        let d = self.inner(dy, to);
        let (d, dx) = (MatRef::new(&d, rows, rank), MatMut::new(dx, rows, in_features));
        product(self.run, d, self.layer.a(), dx, Accumulate::Overwrite);
    }

    /// The gradient of x through the base, then through the adapter, dy the same for both.
    fn through_both(&self, (base, dy): (&Linear, &[f32]), to: &mut Scope<'_>, dx: (MatMut<'_>, Accumulate)) {
        let (run, n) = (self.run, self.layer.shape().out_features);
        let d = self.inner(dy, to);
        let a = Packed::of(run, self.layer.a());
        input_gradient_low_rank(run, &base.weight, MatRef::new(dy, self.rows, n), a.times(&d), dx);
    }

    /// dm_j += Σ dy_j · (W x + s B A x)_j / |V_j|; |V| is taken for a constant, as the paper and peft do.
    fn magnitude(&self, (dy, of_base, norms): (&[f32], &[f32], &[f32]), dm: &mut [f32]) {
        let Back { run, layer, rows, hidden, .. } = *self;
        let n = layer.shape().out_features;
        let mut v = of_base.to_vec();
        layer.up(run, &mut hidden.to_vec(), layer.scale, &mut v);
        let (cpu, dy) = (run.cpu(), MatRef::new(dy, rows, n));
        elementwise::binary_in_place(cpu, Binary::Div, MatMut::new(&mut v, rows, n), repeated(norms, rows));
        elementwise::binary_in_place(cpu, Binary::Mul, MatMut::new(&mut v, rows, n), dy);
        bias_gradient(run, MatRef::new(&v, rows, n), Accumulate::Add, dm);
    }
}

/// x (rows, n) ∘ f (n)
fn times(run: &Run<'_>, x: &[f32], rows: usize, f: &[f32]) -> Vec<f32> {
    let mut out = x.to_vec();
    let out_view = MatMut::new(&mut out, rows, f.len());
    elementwise::binary_in_place(run.cpu(), Binary::Mul, out_view, repeated(f, rows));
    out
}

/// dx += the gradient `change` of the inputs after dropout: dropped and scaled alike.
fn add_dropped(run: &Run<'_>, layer: &LoraLayer, draw: Draw, change: &[f32], dx: &mut [f32]) {
    let mut dropped = run.floats(change.len());
    draw.dropout(layer.dropout, layer.shape().in_features, change, &mut dropped);
    add(run, dx, &dropped);
}
