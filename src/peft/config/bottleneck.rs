//! `adapter_config.json` of the `adapters` package: bottleneck adapters.
//!
//! ```text
//!   {"config": {"mh_adapter": …, "output_adapter": …, "reduction_factor": …, …}, "hidden_size": …, "name": …, …}
//! ```
//!
//! Every option of the inner object is known: it means something here, or nothing where the adapter is not of the kind
//! that it is for, or is refused by its name.

use super::{AdapterConfig, Fields, is_off, refused};
use crate::io::json::Writer;
use crate::kernels::activation::Activation;
use crate::nn::adapter::Branch;
use crate::peft::{AdapterInit, AdapterKind};
use crate::{Error, Result};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// What bottleneck adapters are told.
///
/// ```
/// use samebits::nn::adapter::Branch;
/// use samebits::peft::config::{AdaptedModel, AdapterConfig, BottleneckConfig};
/// use samebits::peft::{AdapterKind, Bottlenecks, adapt};
/// use samebits::{Cpu, assets, random::Philox, run::Run};
/// let (run, mut model) = (Run::here(Cpu::detect()), assets::model(Cpu::detect())?);
/// let told = BottleneckConfig::new(AdapterKind::Houlsby, model.config().dim);
/// assert!(told.contains(0, Branch::Attention) && told.contains(0, Branch::Network) && told.width() > 1);
/// let of = AdaptedModel { class: "LlamaForCausalLM", kind: "llama", name: "inside" };
/// let config = AdapterConfig::bottleneck(&told, of)?;
/// adapt(&run, &mut model, ("mine", &config), Philox::new(1))?;
/// let network = model.blocks_mut()[0].adapters.of_mut(Branch::Network);
/// assert!(network.as_mut().unwrap().as_any().is::<Bottlenecks>());
/// # Ok::<(), samebits::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct BottleneckConfig {
    /// What they read.
    pub kind: AdapterKind,
    /// Whether attention has one.
    pub attention: bool,
    /// Whether the network has one.
    pub network: bool,
    /// Features / bottleneck.
    pub reduction: f64,
    /// Between the two matrices.
    pub activation: Activation,
    /// s
    pub scale: f32,
    /// How new ones begin.
    pub init: AdapterInit,
    /// Blocks without.
    pub leave_out: Vec<usize>,
    /// Features of a row of the model.
    pub features: usize,
    /// What the adapter is called in its file.
    pub name: String,
}

/// For another kind of layer, unless that is asked for; or of training alone.
const IDLE: [&str; 15] = [
    "adapter_residual_before_ln",
    "dropout",
    "factorized_phm_W",
    "factorized_phm_rule",
    "hypercomplex_nonlinearity",
    "init_weights_seed",
    "inv_adapter_reduction_factor",
    "learn_phm",
    "phm_bias",
    "phm_c_init",
    "phm_dim",
    "phm_init_range",
    "phm_rank",
    "shared_W_phm",
    "shared_phm_rule",
];
/// What must be off.
const REFUSED: [&str; 8] = [
    "architecture",
    "cross_adapter",
    "inv_adapter",
    "ln_after",
    "ln_before",
    "phm_layer",
    "stochastic_depth",
    "use_gating",
];
/// What is read.
const READ: [&str; 11] = [
    "init_weights",
    "is_parallel",
    "leave_out",
    "mh_adapter",
    "non_linearity",
    "original_ln_after",
    "original_ln_before",
    "output_adapter",
    "reduction_factor",
    "scaling",
    "residual_before_ln",
];

/// The names of the activations, ours first.
const ACTIVATIONS: [(&str, Activation); 9] = [
    ("relu", Activation::Relu),
    ("swish", Activation::Silu),
    ("gelu", Activation::GeluErf),
    ("gelu_new", Activation::GeluTanh),
    ("quick_gelu", Activation::GeluQuick),
    ("linear", Activation::Identity),
    ("silu", Activation::Silu),
    ("gelu_pytorch_tanh", Activation::GeluTanh),
    ("gelu_accurate", Activation::GeluTanh),
];
const INITS: [(&str, AdapterInit); 3] =
    [("bert", AdapterInit::Bert), ("mam_adapter", AdapterInit::Identity), ("houlsby", AdapterInit::Houlsby)];

impl BottleneckConfig {
    /// A published kind for a model of so many features; it begins as the identity.
    pub fn new(kind: AdapterKind, features: usize) -> BottleneckConfig {
        let (activation, reduction, scale) = kind.usual();
        BottleneckConfig {
            kind,
            attention: kind == AdapterKind::Houlsby,
            network: true,
            reduction: reduction as f64,
            activation,
            scale,
            init: AdapterInit::Identity,
            leave_out: Vec::new(),
            features,
            name: "default".into(),
        }
    }

    /// Numbers between the two matrices.
    pub fn width(&self) -> usize {
        ((self.features as f64 / self.reduction) as usize).max(1)
    }

    /// Whether that branch of block `i` has one.
    pub fn contains(&self, i: usize, branch: Branch) -> bool {
        let wanted = match branch {
            Branch::Attention => self.attention,
            Branch::Network => self.network,
        };
        wanted && !self.leave_out.contains(&i)
    }

    /// Reads the fields of the whole file; the options are those of its "config".
    pub(super) fn read(file: &Fields<'_>, options: &Fields<'_>) -> Result<BottleneckConfig> {
        for (key, value) in options.0.entries().into_iter().flatten() {
            let known = IDLE.contains(&&*key) || READ.contains(&&*key);
            if !known && !(REFUSED.contains(&&*key) && (is_off(value) || value.as_f64() == Some(0.0))) {
                return Err(refused(&key, value));
            }
        }
        let needed_flag = |name: &str| {
            options
                .0
                .get(name)
                .and_then(|v| v.as_bool())
                .ok_or_else(|| Error::invalid(format!("no {name:?}")))
        };
        let refuse = |name: &str| options.0.get(name).map_or(Ok(()), |value| Err(refused(name, value)));
        if options.get("original_ln_after").is_some_and(|v| v.as_bool() != Some(true)) {
            refuse("original_ln_after")?;
        }
        let (parallel, before) = (options.flag("is_parallel")?, options.flag("original_ln_before")?);
        let kind = match (parallel, before) {
            (true, _) => AdapterKind::Parallel,
            (false, true) => AdapterKind::Pfeiffer,
            (false, false) => AdapterKind::Houlsby,
        };
        let residual = options.get("residual_before_ln");
        if kind == AdapterKind::Pfeiffer && residual.is_some_and(|v| v.as_bool() != Some(true)) {
            refuse("residual_before_ln")?;
        }
        let reduction =
            options.read("reduction_factor", "a positive number", |v| v.as_f64().filter(|x| *x > 0.0))?;
        let scale = options.read("scaling", "a number", |v| v.as_f64())?.unwrap_or(1.0);
        let leave_out = options
            .read("leave_out", "numbers of layers", |v| v.elements()?.map(|x| x.as_usize()).collect())?;
        Ok(BottleneckConfig {
            kind,
            attention: needed_flag("mh_adapter")?,
            network: needed_flag("output_adapter")?,
            reduction: reduction.ok_or_else(|| Error::invalid("no \"reduction_factor\""))?,
            activation: named(options, "non_linearity", &ACTIVATIONS)?
                .ok_or_else(|| Error::invalid("no \"non_linearity\""))?,
            scale: scale as f32,
            init: named(options, "init_weights", &INITS)?.unwrap_or(AdapterInit::Bert),
            leave_out: leave_out.unwrap_or_default(),
            features: file.needed("hidden_size")?,
            name: file.string("name")?.ok_or_else(|| Error::invalid("no \"name\""))?,
        })
    }
}

/// The value that the text of a field names.
fn named<T: Copy>(options: &Fields<'_>, field: &str, names: &[(&str, T)]) -> Result<Option<T>> {
    let Some(text) = options.string(field)? else { return Ok(None) };
    let found = names.iter().find(|(name, _)| *name == text.to_lowercase());
    let unknown = || Error::invalid(format!("{field} is {text:?}, which is not supported"));
    found.map(|(_, value)| Some(*value)).ok_or_else(unknown)
}

/// What the package writes down of a model.
#[derive(Clone, Copy, Debug)]
pub struct AdaptedModel<'a> {
    /// Such as `LlamaForCausalLM`.
    pub class: &'a str,
    /// Such as `llama`.
    pub kind: &'a str,
    /// Where it came from.
    pub name: &'a str,
}

impl AdapterConfig {
    /// A new configuration of bottleneck adapters.
    ///
    /// # Errors
    /// Where the options make no sense.
    pub fn bottleneck(config: &BottleneckConfig, model: AdaptedModel<'_>) -> Result<AdapterConfig> {
        let BottleneckConfig { kind, activation, init, .. } = config;
        let activation = ACTIVATIONS.iter().find(|(_, f)| f == activation).map_or("", |(name, _)| name);
        let init = INITS.iter().find(|(_, i)| i == init).map_or("", |(name, _)| name);
        let mut w = Writer::indented();
        w.object(|w| {
            w.key("config").object(|w| {
                w.key("init_weights").string(init);
                w.key("is_parallel").boolean(*kind == AdapterKind::Parallel);
                w.key("leave_out").array(|w| config.leave_out.iter().for_each(|&i| w.number(i)));
                w.key("mh_adapter").boolean(config.attention);
                w.key("non_linearity").string(activation);
                w.key("original_ln_after").boolean(true);
                w.key("original_ln_before").boolean(*kind == AdapterKind::Pfeiffer);
                w.key("output_adapter").boolean(config.network);
                w.key("reduction_factor").number(config.reduction);
                w.key("residual_before_ln").boolean(true);
                w.key("scaling").number(f64::from(config.scale));
            });
            w.key("hidden_size").number(config.features);
            w.key("model_class").string(model.class);
            w.key("model_name").string(model.name);
            w.key("model_type").string(model.kind);
            w.key("name").string(&config.name);
            w.key("version").string("adapters.1.3.0");
        });
        AdapterConfig::parse(w.finish().as_bytes())
    }
}
