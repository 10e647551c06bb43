//! `samebits adapters inspect`: what an adapter is.

use std::io::Write;
use std::path::Path;

use super::console::printable;
use super::{Align, Args, Command, Console, Failure, Flag, Table, Takes};
use crate::error::Shape;
use crate::io::bytes::Access;
use crate::io::gguf::Gguf;
use crate::io::json::Writer;
use crate::peft::config::Method;
use crate::peft::{Adapter, Module, Parts, Side};
use crate::{Error, cpu};

pub const COMMAND: Command = Command {
    name: "adapters",
    summary: "what an adapter is: its kind, rank, scaling, targets, tensors",
    operands: "inspect DIR|FILE.gguf",
    arity: (2, 2),
    flags: &[Flag { name: "json", takes: Takes::Nothing, help: "the same as one JSON object" }],
    notes: "\
DIR is a folder of peft or of the `adapters` package, FILE a LoRA in GGUF. Everything is
read and checked as `samebits generate --adapter` would: an option that is not supported, a tensor without a
place or a place without its tensors is an error. Fields that change nothing here are listed as kept: they are
written again as they are. s is what B A is multiplied by. A LoRA whose B is zero everywhere is called idle.

Examples:
  samebits adapters inspect adapter
  samebits adapters inspect adapter.gguf --json
",
    run,
};

fn run(args: &Args, console: &mut Console) -> Result<(), Failure> {
    let [what, path] = [0, 1].map(|i| &args.operands()[i]);
    if what != "inspect" {
        let hint = Some("`samebits adapters inspect DIR`".into());
        return Err(Failure::usage(format!("adapters: {what:?} is nothing that can be done"), hint));
    }
    let path = Path::new(path);
    let about = if Gguf::is_at(path) { of_gguf(path)? } else { of_folder(path)? };
    if args.has("json") {
        writeln!(console, "{}", about.json())?;
        return Ok(());
    }
    about.print(console)
}

/// What is shown.
#[derive(Default)]
struct About {
    path: String,
    kind: &'static str,
    /// Facts with their values, as texts of JSON.
    facts: Vec<(&'static str, String)>,
    modules: Vec<Row>,
    kept: Vec<(String, String)>,
    idle: Vec<String>,
    bytes: u64,
}

/// A module.
struct Row {
    name: String,
    /// (name, shape)
    tensors: Vec<(&'static str, Vec<usize>)>,
    rank: Option<usize>,
    scale: Option<f32>,
}

impl Row {
    fn parameters(&self) -> usize {
        self.tensors.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum()
    }
}

fn of_folder(path: &Path) -> Result<About, Failure> {
    let adapter = Adapter::open(cpu::default()?, path)?;
    let config = &adapter.config;
    let file = path.join(match config.method() {
        Method::Bottleneck(_) => "adapter.safetensors",
        _ => "adapter_model.safetensors",
    });
    let bytes = std::fs::metadata(&file).map_err(|e| Error::io(&file, "read", e))?.len();
    let (kind, named): (_, &[&'static str]) = match config.method() {
        Method::Lora(lora) if lora.dora => ("DoRA", LORA),
        Method::Lora(_) if config.field("use_rslora") == Some("true") => ("rsLoRA", LORA),
        Method::Lora(_) => ("LoRA", LORA),
        Method::Ia3(_) => ("IA3", &["target_modules", "feedforward_modules"]),
        Method::Prefix(_) => ("prefix", &["num_virtual_tokens", "num_layers", "token_dim"]),
        Method::Bottleneck(_) => ("bottleneck", &["config", "model_name"]),
    };
    let all = named.iter().chain(&["base_model_name_or_path"]);
    let facts = all.filter_map(|name| Some((*name, config.field(name)?.to_string()))).collect();
    Ok(About {
        path: path.display().to_string(),
        kind,
        facts,
        modules: rows(&adapter),
        kept: config.kept().map(|(key, value)| (key.into(), value.into())).collect(),
        idle: adapter.idle().into_iter().map(Into::into).collect(),
        bytes,
    })
}

/// Fields of LoRA that are shown.
const LORA: &[&str] = &["r", "lora_alpha", "lora_dropout", "target_modules", "rank_pattern", "alpha_pattern"];

fn rows(adapter: &Adapter) -> Vec<Row> {
    match &adapter.parts {
        Parts::Lora(modules) => modules
            .iter()
            .map(|(name, stored)| {
                let shape = stored.layer.shape();
                let (a, b) = (vec![shape.rank, shape.in_features], vec![shape.out_features, shape.rank]);
                let mut tensors = match stored.module {
                    Module::Linear => vec![("A", a), ("B", b)],
                    Module::Table => vec![("table A", a), ("table B", b)],
                };
                tensors.extend(stored.lengths.as_ref().map(|lengths| ("m", vec![lengths.len()])));
                let (rank, scale) = (Some(shape.rank), Some(stored.layer.scale));
                Row { name: name.clone(), tensors, rank, scale }
            })
            .collect(),
        Parts::Ia3(modules) => modules
            .iter()
            .map(|(name, ia3)| {
                let what = if ia3.side == Side::Input { "of inputs" } else { "of outputs" };
                let tensors = vec![(what, vec![ia3.scales.len()])];
                Row { name: name.clone(), tensors, rank: None, scale: None }
            })
            .collect(),
        Parts::Bottleneck(modules) => modules
            .iter()
            .map(|(name, layer)| {
                let (n, width) = (layer.features(), layer.bottleneck());
                let tensors =
                    vec![("down", vec![width, n]), ("up", vec![n, width]), ("biases", vec![width + n])];
                Row { name: name.clone(), tensors, rank: None, scale: Some(layer.scale) }
            })
            .collect(),
        Parts::Prefix(prefix) => {
            let config = prefix.config();
            let shape = vec![config.tokens, config.layers * 2 * config.dim];
            let tensors = vec![("keys, values", shape)];
            vec![Row { name: "prompt_embeddings".into(), tensors, rank: None, scale: None }]
        }
    }
}

/// A GGUF file, without the base that would say which modules its tensors belong to.
fn of_gguf(path: &Path) -> Result<About, Failure> {
    let file = Gguf::open(path, Access::Read)?;
    let in_file = |e: Error| e.in_file(path.display());
    for (key, want) in [("general.type", "adapter"), ("adapter.type", "lora")] {
        let found = file.entry(key).and_then(|entry| entry.str()).map_err(in_file)?;
        if found != want {
            return Err(in_file(Error::invalid(format!("{key} is {found:?}, expected {want:?}"))).into());
        }
    }
    let alpha = file.entry("adapter.lora.alpha").and_then(|entry| entry.f32()).map_err(in_file)?;
    let family = file.entry("general.architecture").and_then(|entry| entry.str()).map_err(in_file)?;
    let mut modules = Vec::new();
    let mut halves = 0;
    for tensor in file.tensors() {
        let Some(own) = tensor.name.strip_suffix(".lora_a") else {
            halves += 1;
            continue;
        };
        let b = format!("{own}.lora_b");
        let b = file.tensors().find(|other| other.name == b);
        let b = b.ok_or_else(|| in_file(Error::invalid(format!("{own:?} has an A and no B"))))?;
        let (&[rank, _], &[_, of_b]) = (tensor.shape, b.shape) else {
            return Err(in_file(Error::invalid(format!("{own}: A and B must be matrices"))).into());
        };
        if rank == 0 || rank != of_b {
            return Err(in_file(Error::invalid(format!("{own}: A has rank {rank}, B {of_b}"))).into());
        }
        let tensors = vec![("A", tensor.shape.to_vec()), ("B", b.shape.to_vec())];
        let scale = if alpha == 0.0 { 1.0 } else { alpha / rank as f32 };
        modules.push(Row { name: own.into(), tensors, rank: Some(rank), scale: Some(scale) });
    }
    if halves != modules.len() {
        return Err(in_file(Error::invalid("tensors that are no part of a LoRA, or a B without an A")).into());
    }
    let mut name = Writer::compact();
    name.string(family);
    let facts = vec![("lora_alpha", format!("{alpha}")), ("general.architecture", name.finish())];
    let bytes = std::fs::metadata(path).map_err(|e| Error::io(path, "read", e))?.len();
    let path = path.display().to_string();
    Ok(About { path, kind: "LoRA", facts, modules, bytes, ..About::default() })
}

impl About {
    fn parameters(&self) -> usize {
        self.modules.iter().map(Row::parameters).sum()
    }

    fn print(&self, console: &mut Console) -> Result<(), Failure> {
        let heads = [
            ("module", Align::Left),
            ("rank", Align::Right),
            ("s", Align::Right),
            ("tensors", Align::Left),
            ("parameters", Align::Right),
        ];
        let mut table = Table::new(heads);
        for row in &self.modules {
            let tensors: Vec<String> =
                row.tensors.iter().map(|(name, shape)| format!("{name} {}", Shape(shape))).collect();
            table.row([
                printable(&row.name),
                row.rank.map_or_else(|| "-".into(), |rank| rank.to_string()),
                row.scale.map_or_else(|| "-".into(), |scale| scale.to_string()),
                tensors.join(", "),
                row.parameters().to_string(),
            ]);
        }
        write!(console, "{table}")?;
        for (name, value) in &self.facts {
            writeln!(console, "{name} = {}", on_one_line(value))?;
        }
        for (name, value) in &self.kept {
            writeln!(console, "kept  {} = {}", printable(name), on_one_line(value))?;
        }
        for module in &self.idle {
            writeln!(console, "idle  {}: it adds nothing", printable(module))?;
        }
        let (kind, modules, path) = (self.kind, self.modules.len(), printable(&self.path));
        let (parameters, bytes) = (self.parameters(), super::console::bytes(self.bytes));
        writeln!(console, "{kind} on {modules} modules, {parameters} parameters, {bytes} in {path}")?;
        Ok(())
    }

    fn json(&self) -> String {
        let mut w = Writer::compact();
        w.object(|w| {
            w.key("path").string(&self.path);
            w.key("type").string(self.kind);
            w.key("parameters").number(self.parameters());
            w.key("bytes").number(self.bytes);
            self.facts.iter().for_each(|(name, value)| w.key(name).raw(value));
            w.key("modules").array(|w| self.modules.iter().for_each(|row| row.json(w)));
            w.key("kept").object(|w| self.kept.iter().for_each(|(name, value)| w.key(name).raw(value)));
            w.key("idle").array(|w| self.idle.iter().for_each(|module| w.string(module)));
        });
        w.finish()
    }
}

/// A value of JSON without the breaks of its file.
fn on_one_line(value: &str) -> String {
    printable(&value.split_whitespace().collect::<Vec<_>>().join(" "))
}

impl Row {
    fn json(&self, w: &mut Writer) {
        w.object(|w| {
            w.key("module").string(&self.name);
            if let Some(rank) = self.rank {
                w.key("rank").number(rank);
            }
            if let Some(scale) = self.scale {
                w.key("scaling").number(scale);
            }
            w.key("tensors").object(|w| {
                for (name, shape) in &self.tensors {
                    w.key(name).array(|w| shape.iter().for_each(|&n| w.number(n)));
                }
            });
            w.key("parameters").number(self.parameters());
        });
    }
}
