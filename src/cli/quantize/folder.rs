//! Whole models: a folder in NF4, a GGUF file in Q8_0.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::{Plan, Row, Statistics, copied};
use crate::cli::console::{bytes, printable};
use crate::cli::values::is_weight;
use crate::cli::{Args, Console, Failure, Progress};
use crate::io::atomic;
use crate::io::json::{self, Writer};
use crate::io::safetensors::{Checkpoint, TensorView};
use crate::model::{
    Architecture, Conversion, ElementType, FileKind, Vocabulary, convert, copy_small, is_column, read_config,
};
use crate::{Error, cpu};

/// Whether something stands where a folder is to be written.
pub fn is_taken(path: &Path) -> bool {
    let empty = || std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
    path.symlink_metadata().is_ok() && !empty()
}

/// The `config.json` of a folder.
pub struct Config {
    text: String,
    gpt2: bool,
}

/// A matrix whose rows became columns.
#[derive(Default)]
pub struct Turned {
    shape: [usize; 2],
    bytes: Vec<u8>,
}

impl Config {
    /// That of the input, if its weights can be quantised.
    pub fn read(plan: &Plan) -> Result<Config, Error> {
        let path = plan.input.join("config.json");
        let text = read_config(&path)?;
        let check = || {
            let gpt2 = Architecture::of_config(&text)? == Architecture::Gpt2;
            match json::parse(&text)?.get("quantization_config").filter(|v| !v.is_null()) {
                Some(_) => {
                    Err(Error::invalid("the model is quantised already: it has a quantization_config"))
                }
                None => Ok(gpt2),
            }
        };
        let gpt2 = check().map_err(|e| e.in_file(path.display()))?;
        // It is JSON, so it is text.
        Ok(Config { text: String::from_utf8_lossy(&text).into_owned(), gpt2 })
    }

    /// The tensor (out, in), as NF4 has all weights: GPT-2's are turned into `room`.
    pub fn upright<'a>(&self, tensor: TensorView<'a>, room: &'a mut Turned) -> TensorView<'a> {
        let &[k, n] = tensor.shape else { return tensor };
        if !self.gpt2 || !is_column(tensor.name) {
            return tensor;
        }
        let size = tensor.dtype.bits() / 8;
        room.shape = [n, k];
        room.bytes.clear();
        for column in 0..n {
            let elements = (0..k).map(|row| &tensor.bytes[(row * n + column) * size..][..size]);
            elements.for_each(|element| room.bytes.extend_from_slice(element));
        }
        TensorView { shape: &room.shape, bytes: &room.bytes, ..tensor }
    }

    /// Writes the folder, whole or not at all; returns the bytes of its weights.
    pub fn write(&self, plan: &Plan, model: &Checkpoint, rows: &[Row]) -> Result<u64, Error> {
        let mut written = 0;
        let config = self.with_quantization(plan, model);
        atomic::folder(&plan.output, |folder| {
            atomic::write(&folder.join("config.json"), |out| out.write_all(config.as_bytes()))?;
            copy_small(&plan.input, folder)?;
            copy_pooling(&plan.input, folder)?;
            written = super::write(plan, &folder.join("model.safetensors"), model, rows)?;
            Ok(())
        })?;
        Ok(written)
    }

    /// The text with `quantization_config` as its last entry.
    fn with_quantization(&self, plan: &Plan, model: &Checkpoint) -> String {
        let mut w = Writer::indented();
        w.object(|w| w.key("quantization_config").object(|w| quantization(w, plan, model)));
        let (entry, text) = (w.finish(), self.text.trim_end());
        // An object, which has entries, ends with a brace; so do both.
        let head = text.strip_suffix('}').unwrap_or(text).trim_end();
        let entry = entry.strip_prefix('{').unwrap_or(&entry);
        format!("{head},{entry}\n")
    }
}

/// Parts of the names of tables, which are no layers that bitsandbytes could exchange.
const EMBEDDINGS: [&str; 3] = ["embed", "wte", "wpe"];

/// The entries, as `BitsAndBytesConfig.to_dict` of transformers names them.
fn quantization(w: &mut Writer, plan: &Plan, model: &Checkpoint) {
    w.key("_load_in_4bit").boolean(true);
    w.key("_load_in_8bit").boolean(false);
    w.key("bnb_4bit_compute_dtype").string("float32");
    w.key("bnb_4bit_quant_storage").string("uint8");
    w.key("bnb_4bit_quant_type").string("nf4");
    w.key("bnb_4bit_use_double_quant").boolean(plan.statistics == Statistics::Nested);
    w.key("llm_int8_enable_fp32_cpu_offload").boolean(false);
    w.key("llm_int8_has_fp16_weight").boolean(false);
    // Layers that were left although they are linear; heads among them.
    let left = copied(model, plan).filter(|t| t.shape.len() == 2 && is_weight(t.dtype));
    let left = left.map(|t| t.name.strip_suffix(".weight").unwrap_or(t.name));
    let mut left: Vec<&str> =
        left.filter(|name| !EMBEDDINGS.iter().any(|part| name.contains(part))).collect();
    if left.iter().all(|name| *name == "lm_head") {
        w.key("llm_int8_skip_modules").null();
    } else {
        // A list takes the place of the usual one.
        left.extend((!left.contains(&"lm_head")).then_some("lm_head"));
        w.key("llm_int8_skip_modules").array(|w| left.iter().for_each(|name| w.string(name)));
    }
    w.key("llm_int8_threshold").number(6.0f64);
    w.key("load_in_4bit").boolean(true);
    w.key("load_in_8bit").boolean(false);
    w.key("quant_method").string("bitsandbytes");
}

/// sentence-transformers keeps the pooling in a folder of its own.
fn copy_pooling(from: &Path, to: &Path) -> Result<(), Error> {
    let (source, target) = (from.join("1_Pooling/config.json"), to.join("1_Pooling"));
    if !source.is_file() {
        return Ok(());
    }
    std::fs::create_dir(&target).map_err(|e| Error::io(&target, "make", e))?;
    std::fs::copy(&source, target.join("config.json")).map(drop).map_err(|e| Error::io(&source, "copy", e))
}

/// `--q8`: a GGUF file.
pub fn q8(args: &Args, console: &mut Console) -> Result<(), Failure> {
    let others = ["nf4", "blocksize", "double-quant", "include", "exclude", "verify", "json"];
    if let Some(other) = others.iter().find(|name| args.has(name)) {
        return Err(Failure::usage(format!("--q8 does not go with --{other}"), None));
    }
    let [input, output] = [0, 1].map(|i| PathBuf::from(&args.operands()[i]));
    if FileKind::of_name(&output)? != FileKind::Gguf {
        let what = format!("{}: --q8 writes a file .gguf", output.display());
        return Err(Failure::usage(what, None));
    }
    if super::same_file(&input, &output) {
        let what = format!("{}: the output would replace the input", output.display());
        return Err(Failure::usage(what, None));
    }
    let element = Some(ElementType::Q8_0);
    let job = Conversion { input, output, element, version: 0, vocabulary: Vocabulary::Own };
    let (mut progress, cpu) = (Progress::new(), cpu::default()?);
    let converted = console.interruptible(|go_on| {
        convert(&job, cpu, &mut |name| {
            progress.show(format_args!("quantising {}", printable(name)));
            go_on()
        })
    })?;
    progress.clear();
    let written = std::fs::metadata(&job.output).map_err(|e| Error::io(&job.output, "read", e))?;
    let output = printable(&job.output.to_string_lossy());
    writeln!(console, "{} tensors in Q8_0; {output} holds {}", converted.tensors, bytes(written.len()))?;
    for note in &converted.notes {
        writeln!(console, "note: {note}")?;
    }
    Ok(())
}
