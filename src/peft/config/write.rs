//! New configurations, as peft would write them.

use super::{AdapterConfig, PrefixConfig};
use crate::Result;
use crate::io::json::Writer;
use crate::peft::init::{LoraOptions, Scaling};

/// Whether rows have lengths of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dora {
    /// LoRA.
    Off,
    /// DoRA.
    On,
}

impl AdapterConfig {
    /// A new configuration of LoRA with targets by the ends of their names; `base` is the model's name.
    ///
    /// # Errors
    /// Where the options make no sense.
    pub fn lora(options: &LoraOptions, dora: Dora, targets: &[&str], base: &str) -> Result<AdapterConfig> {
        let mut w = Writer::indented();
        w.object(|w| {
            w.key("base_model_name_or_path").string(base);
            w.key("bias").string("none");
            w.key("fan_in_fan_out").boolean(false);
            w.key("inference_mode").boolean(true);
            w.key("init_lora_weights").boolean(true);
            w.key("lora_alpha").number(options.alpha);
            w.key("lora_dropout").number(f64::from(options.dropout));
            w.key("peft_type").string("LORA");
            w.key("r").number(options.rank);
            match targets {
                ["all-linear"] => w.key("target_modules").string("all-linear"),
                _ => w.key("target_modules").array(|w| targets.iter().for_each(|t| w.string(t))),
            }
            w.key("task_type").string("CAUSAL_LM");
            w.key("use_dora").boolean(dora == Dora::On);
            w.key("use_rslora").boolean(options.scaling == Scaling::ByRoot);
        });
        AdapterConfig::parse(w.finish().as_bytes())
    }

    /// A new configuration of IA³ with targets by the ends of their names, those whose inputs are scaled among them.
    ///
    /// # Errors
    /// Where the names make no sense.
    pub fn ia3(targets: &[&str], feed_forward: &[&str], base: &str) -> Result<AdapterConfig> {
        let mut w = Writer::indented();
        w.object(|w| {
            w.key("base_model_name_or_path").string(base);
            w.key("fan_in_fan_out").boolean(false);
            w.key("feedforward_modules").array(|w| feed_forward.iter().for_each(|t| w.string(t)));
            w.key("inference_mode").boolean(true);
            w.key("init_ia3_weights").boolean(true);
            w.key("peft_type").string("IA3");
            w.key("target_modules").array(|w| targets.iter().for_each(|t| w.string(t)));
            w.key("task_type").string("CAUSAL_LM");
        });
        AdapterConfig::parse(w.finish().as_bytes())
    }

    /// A new configuration of a prefix; keys have `heads` heads.
    ///
    /// # Errors
    /// Where the extents make no sense.
    pub fn prefix(prefix: PrefixConfig, heads: usize, base: &str) -> Result<AdapterConfig> {
        let mut w = Writer::indented();
        w.object(|w| {
            w.key("base_model_name_or_path").string(base);
            w.key("encoder_hidden_size").number(prefix.dim);
            w.key("inference_mode").boolean(true);
            w.key("num_attention_heads").number(heads);
            w.key("num_layers").number(prefix.layers);
            w.key("num_transformer_submodules").number(1usize);
            w.key("num_virtual_tokens").number(prefix.tokens);
            w.key("peft_type").string("PREFIX_TUNING");
            w.key("prefix_projection").boolean(false);
            w.key("task_type").string("CAUSAL_LM");
            w.key("token_dim").number(prefix.dim);
        });
        AdapterConfig::parse(w.finish().as_bytes())
    }
}
