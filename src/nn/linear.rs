//! y = x Wᵀ + b, with what may follow it.

use super::adapter::Adapter;
use super::add::add;
use super::compute::Compute;
use super::norm::Vector;
use super::product::{Job, run_jobs};
use super::weight::Weight;
use crate::kernels::Cpu;
use crate::kernels::activation::{self, Activation};
use crate::kernels::gemm::{Accumulate, Epilogue, LowRank};
use crate::kernels::nf4::NotFinite;
use crate::kernels::view::{MatMut, MatRef};
use crate::run::Run;
use alloc::boxed::Box;

mod backward;

pub(crate) use backward::products_train;

/// An affine map of rows, (…, in) → (…, out).
///
/// ```
/// use samebits::{Cpu, kernels::view::{MatMut, MatRef}, nn::{Linear, Weight}, run::Run};
/// let run = Run::here(Cpu::detect());
/// let w = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]; // (out, in) = (2, 3)
/// let layer = Linear::new(Weight::from_f32(run.cpu(), MatRef::new(&w, 2, 3)), Some(vec![0.5, -0.5].into()));
/// let mut y = [0.0; 2];
/// layer.forward(&run, MatRef::new(&[1.0, 1.0, 1.0], 1, 3), MatMut::new(&mut y, 1, 2));
/// assert_eq!(y, [6.5, 14.5]);
/// ```
#[derive(Clone, Debug)]
pub struct Linear {
    /// W, (out, in).
    pub weight: Weight,
    /// b, (out).
    pub bias: Option<Vector>,
    /// What changes the layer from beside it.
    pub adapter: Option<Box<dyn Adapter>>,
}

impl Linear {
    /// A layer of these parameters.
    ///
    /// # Panics
    /// Where the bias is not (out).
    pub fn new(weight: Weight, bias: Option<Vector>) -> Linear {
        if let Some(bias) = &bias {
            assert!(bias.len() == weight.out_features(), "bias of {} for {weight:?}", bias.len());
        }
        Linear { weight, bias, adapter: None }
    }

    /// Puts its products into a class: see [`Weight::in_class`].
    ///
    /// # Errors
    /// As there; the layer is what it was then.
    ///
    /// # Panics
    /// As there.
    pub fn set_compute(&mut self, cpu: Cpu, compute: Compute) -> Result<(), NotFinite> {
        self.weight = self.weight.in_class(cpu, compute)?;
        Ok(())
    }

    /// Features of a row of the input.
    pub const fn in_features(&self) -> usize {
        self.weight.in_features()
    }

    /// Features of a row of the output.
    pub const fn out_features(&self) -> usize {
        self.weight.out_features()
    }

    /// `out` (rows, out) from `x` (rows, in).
    ///
    /// # Panics
    /// Where the shapes disagree.
    pub fn forward(&self, run: &Run<'_>, x: MatRef<'_>, out: MatMut<'_>) {
        products(run, [self.product(x, out)]);
    }

    /// [`Linear::forward`] as if there were no adapter: what an adapter builds on.
    ///
    /// # Panics
    /// Where the shapes disagree.
    pub fn forward_base(&self, run: &Run<'_>, x: MatRef<'_>, out: MatMut<'_>) {
        run_jobs(run, [Some(self.product(x, out).job())]);
    }

    /// The same, to be given an activation or a residual, or to be run beside others.
    pub fn product<'a>(&'a self, x: MatRef<'a>, out: MatMut<'a>) -> Product<'a> {
        Product { layer: self, x, out, activation: Activation::Identity, residual: None, low_rank: None }
    }

    /// [`Linear::forward_base`] and what an adapter of low rank adds, in one pass through `out`: the bits of two.
    ///
    /// # Panics
    /// Where the shapes disagree.
    pub fn forward_low_rank(&self, run: &Run<'_>, x: MatRef<'_>, change: LowRank<'_>, out: MatMut<'_>) {
        let product = Product { low_rank: Some(change), ..self.product(x, out) };
        run_jobs(run, [Some(product.job())]);
    }
}

/// One product to be computed: out = activation(x Wᵀ + b) + residual.
///
/// ```
/// use samebits::kernels::{activation::Activation, view::{MatMut, MatRef}};
/// use samebits::{Cpu, nn::{Linear, Product, Weight, products}, run::Run};
/// let run = Run::here(Cpu::detect());
/// let of = |w: f32| Linear::new(Weight::from_f32(run.cpu(), MatRef::new(&[w], 1, 1)), None);
/// let (up, down, x, [mut a, mut b]) = (of(2.0), of(-3.0), [5.0], [[0.0], [0.0]]);
/// let x = MatRef::new(&x, 1, 1);
/// let first: Product = up.product(x, MatMut::new(&mut a, 1, 1)).plus(x);
/// let second = down.product(x, MatMut::new(&mut b, 1, 1)).then(Activation::Relu);
/// products(&run, [first, second]); // one job for all threads
/// assert_eq!((a, b), ([15.0], [0.0]));
/// ```
pub struct Product<'a> {
    layer: &'a Linear,
    x: MatRef<'a>,
    out: MatMut<'a>,
    activation: Activation,
    residual: Option<MatRef<'a>>,
    low_rank: Option<LowRank<'a>>,
}

impl<'a> Product<'a> {
    /// What is applied to the biased sum.
    #[must_use]
    pub fn then(mut self, activation: Activation) -> Self {
        self.activation = activation;
        self
    }

    /// What is added last, (rows, out).
    #[must_use]
    pub fn plus(mut self, residual: MatRef<'a>) -> Self {
        self.residual = Some(residual);
        self
    }

    /// [`Product::plus`] where there is one.
    #[must_use]
    pub fn plus_any(mut self, residual: Option<MatRef<'a>>) -> Self {
        self.residual = residual;
        self
    }
}

/// Runs products that do not need each other's results, as one job for all threads; those of layers with an adapter
/// after the others, one by one.
///
/// # Panics
/// Where the shapes of one disagree.
pub fn products<'a, const N: usize>(run: &Run<'_>, products: [Product<'a>; N]) {
    let mut all = products.map(Some);
    run_jobs(run, all.each_mut().map(|p| p.take_if(|p| p.layer.adapter.is_none()).map(Product::job)));
    for product in all.into_iter().flatten() {
        product.run_adapted(run, |layer, adapter, x, out| adapter.forward(run, layer, x, out));
    }
}

impl<'a> Product<'a> {
    /// The base's product.
    fn job(self) -> (&'a Weight, Job<'a>) {
        let Product { layer, x, out, activation, residual, low_rank } = self;
        let epilogue = Epilogue { bias: layer.bias.as_deref(), activation, residual, low_rank };
        (&layer.weight, Job { x, out, accumulate: Accumulate::Overwrite, epilogue })
    }

    /// `f`, the adapter's product, then what follows the sum.
    ///
    /// # Panics
    /// Where the layer has no adapter.
    fn run_adapted(self, run: &Run<'_>, f: impl FnOnce(&Linear, &dyn Adapter, &[f32], &mut [f32])) {
        let Product { layer, x, mut out, activation, residual, .. } = self;
        let adapter = layer.adapter.as_deref().expect("a layer with an adapter");
        let x = x.contiguous().expect("rows that lie side by side");
        let place =
            out.reborrow().into_contiguous().unwrap_or_else(|out| panic!("rows apart: {:?}", out.as_ref()));
        f(layer, adapter, x, place);
        if activation != Activation::Identity {
            activation::apply_in_place(run.cpu(), activation, out.reborrow());
        }
        if let Some(residual) = residual {
            let lie = "rows that lie side by side";
            add(run, out.into_contiguous().ok().expect(lie), residual.contiguous().expect(lie));
        }
    }
}
