//! SGD, AdamW, Lion and AdamW with moments of eight bits, over named tensors.
//!
//! One [`Optimizer::step`]: the global norm of all gradients in `f64`, tensors in the order of their names; a norm that
//! is not finite leaves weights, moments and the count of steps as they are; else gradients are scaled down to the
//! given norm, in the same pass that moves the weights.
//!
//! **Law.**  Clauses 3, 6 and 9. Work is cut every 65,536 elements of a tensor, also the sums of the norm; so
//! neither threads nor the order in which tensors are handed in change a bit.

mod state;

use crate::kernels::optim::{AdamW, AdamWOptions, Direction, Lion, Momentum, Sgd, eight, sum_of_squares};
use crate::run::Run;
use crate::{Error, Result};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use state::{Part, State};

/// Elements of a piece of work: a multiple of the blocks of eight-bit moments.
const PIECE: usize = 1 << 16;
/// Tensors of fewer elements keep moments of 32 bits under [`Method::AdamW8bit`], as in bitsandbytes.
pub const MIN_8BIT: usize = 4096;
/// Steps in a row without a finite gradient, after which training has nothing to hope for.
pub const MAX_SKIPPED: u32 = 3;

/// Which optimizer, and what it is told besides the rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Method {
    /// Gradient descent.
    Sgd {
        /// λ, added to the gradient.
        weight_decay: f64,
        /// μ; 0 keeps no moments.
        momentum: f64,
        /// Plain momentum or Nesterov's.
        direction: Direction,
    },
    /// Adam with decoupled weight decay.
    AdamW(AdamWOptions),
    /// The same with moments of eight bits in blocks of 256.
    AdamW8bit(AdamWOptions),
    /// The sign of an interpolated moment.
    Lion {
        /// β₁, β₂
        betas: [f64; 2],
        /// λ, decoupled.
        weight_decay: f64,
    },
}

impl Method {
    /// AdamW with the defaults of PyTorch: β 0.9 and 0.999, ε 10⁻⁸, λ 0.01.
    pub const ADAMW: Method =
        Method::AdamW(AdamWOptions { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.01 });

    /// The name that checkpoints carry.
    pub const fn name(&self) -> &'static str {
        match self {
            Method::Sgd { .. } => "sgd",
            Method::AdamW(_) => "adamw",
            Method::AdamW8bit(_) => "adamw8bit",
            Method::Lion { .. } => "lion",
        }
    }
}

/// A tensor that is trained.
#[derive(Debug)]
pub struct Parameter<'a> {
    /// Its name: no two share one.
    pub name: &'a str,
    /// (n)
    pub values: &'a mut [f32],
    /// (n)
    pub gradient: &'a [f32],
    /// What the rate is multiplied by: 16 for the B of LoRA+.
    pub lr_ratio: f64,
    /// What the weight decay is multiplied by: 0 for biases and norms.
    pub decay_ratio: f64,
}

impl<'a> Parameter<'a> {
    /// With rate and weight decay as the optimizer has them.
    pub fn new(name: &'a str, values: &'a mut [f32], gradient: &'a [f32]) -> Parameter<'a> {
        Parameter { name, values, gradient, lr_ratio: 1.0, decay_ratio: 1.0 }
    }
}

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    /// The weights moved.
    Stepped {
        /// The norm of all gradients before clipping.
        norm: f64,
    },
    /// A gradient is NaN or infinite: nothing changed.
    Skipped,
}

/// An optimizer and the moments of what it trains.
///
/// ```
/// use samebits::{Cpu, run::Run, train::{Method, Optimizer, Parameter}};
/// let run = Run::here(Cpu::detect());
/// let mut optimizer = Optimizer::new(Method::ADAMW);
/// let mut w = [1.0, -1.0];
/// optimizer.step(&run, 0.1, None, &mut [Parameter::new("w", &mut w, &[0.5, f32::NAN])])?;
/// assert_eq!(w, [1.0, -1.0]); // skipped
/// optimizer.step(&run, 0.1, Some(1.0), &mut [Parameter::new("w", &mut w, &[0.5, -0.5])])?;
/// assert!(w[0] < 1.0 && w[1] > -1.0);
/// # Ok::<(), samebits::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Optimizer {
    method: Method,
    states: BTreeMap<String, State>,
    steps: u64,
    skipped: u32,
}

impl Optimizer {
    /// With moments of 0.
    pub fn new(method: Method) -> Optimizer {
        Optimizer { method, states: BTreeMap::new(), steps: 0, skipped: 0 }
    }

    /// Steps taken; skipped ones do not count.
    pub const fn steps(&self) -> u64 {
        self.steps
    }

    /// Bytes of all moments.
    pub fn bytes(&self) -> usize {
        self.states.values().map(State::bytes).sum()
    }

    /// One step at rate `lr`, gradients clipped to a global norm of `clip`.
    ///
    /// # Errors
    /// Where a name comes twice, where a tensor has another length than in the step before, or after [`MAX_SKIPPED`]
    /// steps in a row whose gradients were not finite. Nothing has changed then.
    ///
    /// # Panics
    /// Where a tensor has more or fewer gradients than values.
    pub fn step(
        &mut self,
        run: &Run<'_>,
        lr: f64,
        clip: Option<f64>,
        parameters: &mut [Parameter<'_>],
    ) -> Result<Outcome> {
        for p in parameters.iter() {
            let (n, gradients) = (p.values.len(), p.gradient.len());
            assert!(n == gradients, "{}: {n} values, {gradients} gradients", p.name);
        }
        parameters.sort_by(|a, b| a.name.cmp(b.name));
        self.check(parameters)?;
        let gradients: Vec<&[f32]> = parameters.iter().map(|p| p.gradient).collect();
        let norm = global_norm(run, &gradients);
        if !norm.is_finite() {
            self.skipped += 1;
            if self.skipped == MAX_SKIPPED {
                self.skipped = 0;
                let what = format!("gradients were NaN or infinite in {MAX_SKIPPED} steps in a row");
                return Err(Error::invalid(what));
            }
            return Ok(Outcome::Skipped);
        }
        self.skipped = 0;
        self.steps += 1;
        let scale = clip.map_or(1.0, |most| clip_factor(norm, most));
        self.update(run, lr, scale, parameters);
        Ok(Outcome::Stepped { norm })
    }

    /// Names in order and each once, lengths as before.
    fn check(&self, parameters: &[Parameter<'_>]) -> Result<()> {
        if let Some(pair) = parameters.windows(2).find(|pair| pair[0].name == pair[1].name) {
            return Err(Error::invalid(format!("two parameters are named {:?}", pair[0].name)));
        }
        for p in parameters {
            if let Some(n) = self.states.get(p.name).map(State::len).filter(|&n| n != p.values.len()) {
                let (name, shape) = (String::from(p.name), vec![p.values.len()]);
                let expected = format!("({n},), as its moments have");
                return Err(Error::Shape { file: String::new(), name, shape, expected });
            }
        }
        Ok(())
    }

    /// Moves every weight.
    fn update(&mut self, run: &Run<'_>, lr: f64, scale: f32, parameters: &mut [Parameter<'_>]) {
        for p in parameters.iter() {
            if !self.states.contains_key(p.name) {
                self.states.insert(p.name.into(), State::new(&self.method, p.values.len()));
            }
        }
        let (cpu, method, t) = (run.cpu(), self.method, self.steps);
        let mut pieces = Vec::new();
        let mut states = self.states.iter_mut();
        for p in parameters {
            // Both are in the order of names; the states of tensors that are absent today are passed over.
            let (_, state) = states.find(|(name, _)| *name == p.name).expect("every parameter has a state");
            let ratios = (lr * p.lr_ratio, p.decay_ratio);
            let values = p.values.chunks_mut(PIECE).zip(p.gradient.chunks(PIECE));
            pieces.extend(values.zip(state.parts(PIECE)).map(|((p, g), part)| (p, g, part, ratios)));
        }
        run.pieces(pieces, |(p, g, part, (lr, decay)), _| {
            let adamw = |o: AdamWOptions| {
                AdamW::at(t, lr, &AdamWOptions { weight_decay: o.weight_decay * decay, ..o }, scale)
            };
            match (method, part) {
                (Method::Sgd { weight_decay, momentum, direction }, part) => {
                    let sgd = Sgd { lr: lr as f32, weight_decay: (weight_decay * decay) as f32, scale };
                    match part {
                        Part::One(m) => {
                            Momentum { sgd, momentum: momentum as f32, direction }.run(cpu, p, g, m);
                        }
                        _ => sgd.run(cpu, p, g),
                    }
                }
                (Method::Lion { betas, weight_decay }, Part::One(m)) => {
                    Lion::new(lr, betas, weight_decay * decay, scale).run(cpu, p, g, m);
                }
                (Method::AdamW(o) | Method::AdamW8bit(o), Part::Two(m, v)) => {
                    adamw(o).run(cpu, p, g, m, v);
                }
                (Method::AdamW(o) | Method::AdamW8bit(o), Part::Eight(moments)) => {
                    eight::adamw(cpu, adamw(o), p, g, moments);
                }
                _ => unreachable!("State::new gives each method its own kind of moments"),
            }
        });
    }
}

/// √Σ g² over all tensors, in `f64`: sums of 65,536 elements, added in the order given. Not finite exactly where an
/// element is not.
///
/// ```
/// use samebits::train::optimizer::{MAX_SKIPPED, MIN_8BIT, clip_factor, global_norm};
/// use samebits::train::{Method, Optimizer, Outcome, Parameter};
/// use samebits::{Cpu, run::Run};
/// let run = Run::here(Cpu::detect());
/// assert_eq!(global_norm(&run, &[&[3.0], &[0.0, 4.0]]), 5.0);
/// assert!((clip_factor(5.0, 1.0) - 0.2).abs() < 1e-6 && clip_factor(0.5, 1.0) == 1.0);
/// let Method::AdamW(options) = Method::ADAMW else { panic!("AdamW") };
/// let mut optimizer = Optimizer::new(Method::AdamW8bit(options));
/// let (mut few, mut many) = (vec![1.0; MIN_8BIT - 1], vec![1.0; MIN_8BIT]);
/// let gradient = vec![1.0; MIN_8BIT];
/// let mut all = [Parameter::new("few", &mut few, &gradient[1..]), Parameter::new("many", &mut many, &gradient)];
/// let Outcome::Stepped { norm } = optimizer.step(&run, 0.1, None, &mut all)? else { panic!("finite") };
/// assert!((norm * norm - (2 * MIN_8BIT - 1) as f64).abs() < 1e-6);
/// assert!(optimizer.bytes() < 8 * MIN_8BIT + 3 * MIN_8BIT); // the few have moments of 32 bits
/// // Steps without a finite gradient change nothing; so many in a row are an error.
/// let bad = [f32::NAN; 1];
/// let mut step = || optimizer.step(&run, 0.1, None, &mut [Parameter::new("x", &mut [1.0], &bad)]);
/// let skipped = (0..MAX_SKIPPED).take_while(|_| matches!(step(), Ok(Outcome::Skipped))).count() as u32;
/// assert!(skipped < MAX_SKIPPED || step().is_err());
/// # Ok::<(), samebits::Error>(())
/// ```
pub fn global_norm(run: &Run<'_>, gradients: &[&[f32]]) -> f64 {
    let cut = || gradients.iter().flat_map(|g| g.chunks(PIECE));
    let mut sums = vec![0.0; cut().count()];
    let cpu = run.cpu();
    let pieces: Vec<_> = cut().zip(&mut sums).collect();
    run.pieces(pieces, |(g, sum), _| *sum = sum_of_squares(cpu, g));
    crate::kernels::simd::sqrt64(sums.iter().sum())
}

/// What gradients of norm `norm` are multiplied by so that it is at most `most`: as `clip_grad_norm_`.
pub fn clip_factor(norm: f64, most: f64) -> f32 {
    let factor = most / (norm + 1e-6);
    if factor < 1.0 { factor as f32 } else { 1.0 }
}
