//! A folder of Hugging Face: `config.json` as transformers writes it, and one safetensors file.

use super::parts::ElementType;
use super::{Converted, FileKind, Parts, Work, lost, lost_tensors, refuse};
use crate::io::atomic;
use crate::io::json::Writer;
use crate::io::safetensors::{self, TensorInfo};
use crate::kernels::activation::Activation;
use crate::kernels::rope::Pairing;
use crate::model::config::{Architecture, DecoderConfig};
use crate::nn::rotary::RopeScaling;
use crate::{Error, Result};

pub(super) fn write(work: &Parts<'_, '_>) -> Result<Converted> {
    let Work { cpu, config, source, job, input } = work.work;
    let gpt2 = config.architecture == Architecture::Gpt2;
    let own_name = |name: &str| match gpt2 && name != "lm_head.weight" {
        true => format!("{}{name}", super::PREFIX),
        false => name.into(),
    };
    let names: Vec<String> = work.parts.iter().map(|part| own_name(&part.name)).collect();
    let mut elements = Vec::new();
    for part in &work.parts {
        let own = || part.fetch(source).map(|tensor| ElementType::of(tensor.dtype()));
        elements.push(job.element.map_or_else(own, Ok)?);
    }
    let infos = names.iter().zip(&work.parts).zip(&elements).map(|((name, part), element)| {
        let dtype = element.safetensors().ok_or_else(|| {
            let what = format!("a Hugging Face folder cannot hold {}", element.name());
            Error::invalid(format!("{what}: f32, f16 or bf16, or a .gguf file"))
        })?;
        Ok(TensorInfo { name, dtype, shape: &part.shape })
    });
    let infos = infos.collect::<Result<Vec<_>>>()?;
    let main = elements.first().copied().unwrap_or(ElementType::F32);
    let text = config_json(config, main);
    let written = DecoderConfig::from_hf(text.as_bytes())?;
    if let Some(what) = lost(config, &written).or(lost_tensors(config, &written)) {
        return Err(refuse(FileKind::Folder, config, what));
    }
    let norm = written.norm;
    let mut notes = Vec::new();
    atomic::folder(&job.output, |folder| {
        atomic::write(&folder.join("config.json"), |out| out.write_all(text.as_bytes()))?;
        super::vocabulary::copy(work.work, folder, &mut notes)?;
        let (mut left, path) = (infos.len(), folder.join("model.safetensors"));
        safetensors::write_each(&path, &infos, &[("format", "pt")], |i| {
            let tensor = work.tensor(i, Pairing::Half, norm)?;
            let bytes = work.parts[i].encode(cpu, &tensor, elements[i])?;
            left -= 1;
            if left == 0 {
                input.check()?;
            }
            Ok(bytes)
        })
    })?;
    Ok(Converted { tensors: infos.len(), kind: FileKind::Folder, notes })
}

/// `model_type` and the class that transformers loads.
pub(crate) fn family(c: &DecoderConfig) -> (&'static str, &'static str) {
    match c.architecture {
        // transformers' Llama has no window, Mistral's is the same with one.
        Architecture::Llama if c.windows.iter().any(Option::is_some) => ("mistral", "MistralForCausalLM"),
        Architecture::Llama => ("llama", "LlamaForCausalLM"),
        Architecture::Mistral => ("mistral", "MistralForCausalLM"),
        Architecture::Qwen2 => ("qwen2", "Qwen2ForCausalLM"),
        Architecture::Qwen3 => ("qwen3", "Qwen3ForCausalLM"),
        Architecture::Gemma => ("gemma", "GemmaForCausalLM"),
        Architecture::Gemma2 => ("gemma2", "Gemma2ForCausalLM"),
        Architecture::Phi3 => ("phi3", "Phi3ForCausalLM"),
        Architecture::Gpt2 => ("gpt2", "GPT2LMHeadModel"),
        Architecture::Bert => ("bert", "BertModel"),
        Architecture::Roberta => ("roberta", "RobertaModel"),
    }
}

const fn activation(activation: Activation) -> &'static str {
    match activation {
        Activation::Silu => "silu",
        Activation::GeluTanh => "gelu_new",
        Activation::GeluErf => "gelu",
        Activation::GeluQuick => "quick_gelu",
        Activation::Relu => "relu",
        _ => "unknown",
    }
}

/// The name of a type in PyTorch.
pub(super) const fn torch(element: ElementType) -> &'static str {
    match element {
        ElementType::F16 => "float16",
        ElementType::BF16 => "bfloat16",
        _ => "float32",
    }
}

pub(super) fn config_json(c: &DecoderConfig, element: ElementType) -> String {
    let (model_type, class) = family(c);
    let mut w = Writer::indented();
    w.object(|w| {
        w.key("architectures").array(|w| w.string(class));
        w.key("model_type").string(model_type);
        w.key("torch_dtype").string(torch(element));
        w.key("vocab_size").number(c.vocab);
        w.key("tie_word_embeddings").boolean(c.tied);
        match c.bos {
            Some(id) => w.key("bos_token_id").number(u64::from(id)),
            None => w.key("bos_token_id").null(),
        }
        match &c.eos[..] {
            [] => w.key("eos_token_id").null(),
            [one] => w.key("eos_token_id").number(u64::from(*one)),
            all => w.key("eos_token_id").array(|w| all.iter().for_each(|&id| w.number(u64::from(id)))),
        }
        // Some classes have a default beyond small vocabularies.
        w.key("pad_token_id").null();
        if c.architecture == Architecture::Gpt2 { gpt2(w, c) } else { llama(w, c) }
    });
    w.finish() + "\n"
}

fn gpt2(w: &mut Writer, c: &DecoderConfig) {
    w.key("n_embd").number(c.dim);
    w.key("n_head").number(c.heads);
    w.key("n_layer").number(c.windows.len());
    w.key("n_inner").number(c.hidden);
    w.key("n_positions").number(c.context);
    w.key("layer_norm_epsilon").number(c.norm_eps);
    w.key("activation_function").string(activation(c.activation));
}

fn llama(w: &mut Writer, c: &DecoderConfig) {
    let gemma = matches!(c.architecture, Architecture::Gemma | Architecture::Gemma2);
    w.key("hidden_size").number(c.dim);
    w.key("intermediate_size").number(c.hidden);
    w.key("num_hidden_layers").number(c.windows.len());
    w.key("num_attention_heads").number(c.heads);
    w.key("num_key_value_heads").number(c.kv_heads);
    w.key("head_dim").number(c.head_dim);
    w.key("max_position_embeddings").number(c.context);
    w.key("rms_norm_eps").number(c.norm_eps);
    let (key, name) = match gemma {
        true => ("hidden_activation", "gelu_pytorch_tanh"),
        false => ("hidden_act", activation(c.activation)),
    };
    w.key(key).string(name);
    w.key("attention_bias").boolean(c.qkv_bias && c.architecture != Architecture::Qwen2);
    w.key("mlp_bias").boolean(c.network_bias);
    windows(w, c);
    if c.architecture == Architecture::Gemma2 {
        // What the scale is 1 / √ of: a whole number in every model.
        let scale = f64::from(c.scale);
        w.key("query_pre_attn_scalar").number((1.0 / (scale * scale)).round() as u64);
        for (key, cap) in [("attn_logit_softcapping", c.score_cap), ("final_logit_softcapping", c.logit_cap)]
        {
            match cap {
                Some(cap) => w.key(key).number(cap),
                None => w.key(key).null(),
            }
        }
    }
    if let Some(rope) = &c.rope {
        w.key("rope_theta").number(rope.theta);
        if rope.rotary_dim != rope.head_dim {
            w.key("partial_rotary_factor").number(rope.rotary_dim as f64 / rope.head_dim as f64);
        }
        if let RopeScaling::LongRope(long) = &rope.scaling {
            w.key("original_max_position_embeddings").number(long.original_max_positions);
        }
        w.key("rope_scaling");
        put_scaling(w, &rope.scaling, Some(c.context));
    }
}

fn windows(w: &mut Writer, c: &DecoderConfig) {
    let window = c.windows.iter().flatten().next();
    match window {
        Some(window) => w.key("sliding_window").number(*window),
        None => w.key("sliding_window").null(),
    }
    let qwen = matches!(c.architecture, Architecture::Qwen2 | Architecture::Qwen3);
    if qwen {
        w.key("use_sliding_window").boolean(window.is_some());
    }
    if qwen || c.architecture == Architecture::Gemma2 {
        let name =
            |window: &Option<usize>| if window.is_some() { "sliding_attention" } else { "full_attention" };
        w.key("layer_types").array(|w| c.windows.iter().for_each(|window| w.string(name(window))));
    }
}

/// The object `rope_scaling`; `context` is what the configuration has as `max_position_embeddings` beside it.
pub(super) fn put_scaling(w: &mut Writer, scaling: &RopeScaling, context: Option<usize>) {
    if matches!(scaling, RopeScaling::None | RopeScaling::PerPair { .. }) {
        return w.null();
    }
    let maybe = |w: &mut Writer, key: &str, x: Option<f64>| {
        if let Some(x) = x {
            w.key(key).number(x);
        }
    };
    w.object(|w| match scaling {
        RopeScaling::None | RopeScaling::PerPair { .. } => {}
        RopeScaling::Linear { factor } => {
            w.key("rope_type").string("linear");
            w.key("factor").number(*factor);
        }
        RopeScaling::DynamicNtk { factor, max_positions } => {
            w.key("rope_type").string("dynamic");
            w.key("factor").number(*factor);
            if context.is_none() {
                w.key("max_position_embeddings").number(*max_positions);
            }
        }
        RopeScaling::Yarn(yarn) => {
            w.key("rope_type").string("yarn");
            w.key("factor").number(yarn.factor);
            w.key("original_max_position_embeddings").number(yarn.original_max_positions);
            maybe(w, "attention_factor", yarn.attention_factor);
            maybe(w, "mscale", yarn.mscale);
            maybe(w, "mscale_all_dim", yarn.mscale_all_dim);
            w.key("beta_fast").number(yarn.beta_fast);
            w.key("beta_slow").number(yarn.beta_slow);
            if !yarn.truncate {
                w.key("truncate").boolean(false);
            }
        }
        RopeScaling::LongRope(long) => {
            // Earlier versions of transformers want these three and nothing else, where the others can be derived.
            w.key("type").string("longrope");
            w.key("short_factor").array(|w| long.short_factor.iter().for_each(|&x| w.number(x)));
            w.key("long_factor").array(|w| long.long_factor.iter().for_each(|&x| w.number(x)));
            let original = long.original_max_positions;
            if context.is_none_or(|n| n as f64 / original as f64 != long.factor) {
                w.key("factor").number(long.factor);
            }
            if context.is_none() {
                w.key("original_max_position_embeddings").number(original);
            }
            maybe(w, "attention_factor", long.attention_factor);
        }
        RopeScaling::Llama3(llama) => {
            w.key("rope_type").string("llama3");
            w.key("factor").number(llama.factor);
            w.key("low_freq_factor").number(llama.low_freq_factor);
            w.key("high_freq_factor").number(llama.high_freq_factor);
            w.key("original_max_position_embeddings").number(llama.original_max_positions);
        }
    });
}
