//! Models on disk: a folder of Hugging Face, a GGUF file, a checkpoint of llama2.c, or a flat model.

use super::config::{Architecture, DecoderConfig, EncoderConfig, Pooling};
use super::decoder::Decoder;
use super::encoder::Encoder;
use super::flat::Flat;
use super::gguf::GgufTensors;
use super::kinds::{Model, SentenceEncoder};
use super::llama2c::Llama2cTensors;
use super::load::{Source, is_column};
use super::quantized::Nf4Source;
use crate::io::bitsandbytes::{Absmax, Nf4};
use crate::io::bytes::{self, Access};
use crate::io::flat;
use crate::io::gguf::Gguf;
use crate::io::json;
use crate::io::llama2c::Llama2c;
use crate::io::safetensors::{Checkpoint, SafeTensors};
use crate::kernels::nf4::{self, RowNf4};
use crate::nn::{Arithmetic, Weight};
use crate::tensor::Tensor;
use crate::{Cpu, Error, Result};
use std::path::{Path, PathBuf};

impl Model {
    /// Opens what stands at `path`: a folder with `config.json` and safetensors, a GGUF file, or a checkpoint of
    /// llama2.c.
    ///
    /// # Errors
    /// Where a file is missing or malformed, or describes what is not known.
    pub fn open(path: impl AsRef<Path>, cpu: Cpu) -> Result<Model> {
        Model::open_for(path, cpu, None)
    }

    /// The same, for texts of up to `length` tokens, where a decoder's scaling of positions depends on that
    /// (dynamic NTK, LongRoPE); the model's own context without.
    ///
    /// # Errors
    /// As [`Model::open`].
    pub fn open_for(path: impl AsRef<Path>, cpu: Cpu, length: Option<usize>) -> Result<Model> {
        Model::open_with(path, cpu, Opening { length, ..Opening::default() })
    }

    /// [`Model::open`], as `opening` says.
    ///
    /// # Errors
    /// As [`Model::open`]; where a mapped file changed meanwhile.
    pub fn open_with(path: impl AsRef<Path>, cpu: Cpu, opening: Opening) -> Result<Model> {
        let path = path.as_ref();
        if path.is_dir() {
            return open_folder(path, cpu, opening);
        }
        if flat::is_at(path) {
            return open_flat(path, cpu, opening).map_err(|e| e.in_file(path.display()));
        }
        let open = if is_llama2c(path) { open_llama2c } else { open_gguf };
        let decoder = open(path, cpu, opening).map_err(|e| e.in_file(path.display()))?;
        Ok(Model::Decoder(Box::new(decoder)))
    }
}

impl Decoder {
    /// Opens a model that continues texts: see [`Model::open_with`].
    ///
    /// # Errors
    /// As [`Model::open_with`]; where it is an encoder.
    pub fn open_with(path: impl AsRef<Path>, cpu: Cpu, opening: Opening) -> Result<Decoder> {
        match Model::open_with(&path, cpu, opening)? {
            Model::Decoder(model) => Ok(*model),
            Model::Encoder(_) => Err(other_kind(path.as_ref(), "embeds texts, it does not continue them")),
        }
    }
}

impl Decoder {
    /// The model of a folder's `config.json` and `model.safetensors` that are in memory.
    ///
    /// # Errors
    /// As [`Model::open`].
    pub fn from_bytes(cpu: Cpu, config: &[u8], weights: &[u8]) -> Result<Decoder> {
        Decoder::load(cpu, DecoderConfig::from_hf(config)?, &SafeTensors::from_bytes(weights)?)
    }
}

impl SentenceEncoder {
    /// Opens a model that embeds texts: see [`Model::open`].
    ///
    /// # Errors
    /// As [`Model::open`]; where it is a decoder.
    pub fn open(path: impl AsRef<Path>, cpu: Cpu) -> Result<SentenceEncoder> {
        SentenceEncoder::open_with(path, cpu, Opening::default())
    }

    /// [`SentenceEncoder::open`], as `opening` says.
    ///
    /// # Errors
    /// As there.
    pub fn open_with(path: impl AsRef<Path>, cpu: Cpu, opening: Opening) -> Result<SentenceEncoder> {
        match Model::open_with(&path, cpu, opening)? {
            Model::Encoder(model) => Ok(*model),
            Model::Decoder(_) => Err(other_kind(path.as_ref(), "continues texts, it does not embed them")),
        }
    }
}

fn other_kind(path: &Path, what: &str) -> Error {
    Error::invalid(format!("this model {what}")).in_file(path.display())
}

/// Bytes of the files with a model's weights.
pub(crate) fn weight_bytes(path: &Path) -> Result<u64> {
    let of_file = |path: &Path| match path.metadata() {
        Ok(file) => Ok(file.len()),
        Err(e) => Err(Error::io(path, "open", e)),
    };
    if !path.is_dir() {
        return of_file(path);
    }
    let weights = Checkpoint::open_with(path, Access::Map)?;
    weights.files().map(|(name, _)| of_file(&path.join(name))).sum()
}

/// How a model is opened.
#[derive(Clone, Copy, Debug)]
pub struct Opening {
    /// Tokens of the longest text, where a scaling of positions depends on that: see [`Model::open_for`].
    pub length: Option<usize>,
    /// Whether the weights' files are read into memory or mapped. Weights are packed either way, so a map is
    /// needed only while the model is opened: mapped files lie in memory once, packed. [`Access::Map`] says what it costs.
    pub access: Access,
    /// Whether the matrices of a decoder's blocks are stored in NF4 as they are read, so many elements with one scale:
    /// see [`Nf4Source`](super::Nf4Source).
    pub nf4: Option<usize>,
    /// What it computes in.
    pub arithmetic: Arithmetic,
}

impl Opening {
    /// As the commands open models: mapped.
    pub(crate) fn mapped() -> Opening {
        Opening { access: Access::Map, ..Opening::default() }
    }

    /// A decoder of tensors, as this says.
    fn decoder(&self, cpu: Cpu, mut config: DecoderConfig, source: &dyn Source) -> Result<Decoder> {
        config.length = self.length.unwrap_or(config.length);
        let mut decoder = match self.nf4 {
            Some(blocksize) => Decoder::load(cpu, config, &Nf4Source { source, blocksize })?,
            None => Decoder::load(cpu, config, source)?,
        };
        decoder.set_arithmetic(cpu, self.arithmetic)?;
        Ok(decoder)
    }
}

impl Default for Opening {
    /// For the model's own context, in f32; its files are read into memory.
    fn default() -> Opening {
        Opening { length: None, access: Access::Read, nf4: None, arithmetic: Arithmetic::F32 }
    }
}

/// A flat model is what it was made of: its types, and the length that its positions are scaled for, are fixed.
fn open_flat(path: &Path, cpu: Cpu, opening: Opening) -> Result<Model> {
    if opening.nf4.is_some() {
        return Err(Error::invalid("the types of a flat model are fixed: quantise what it was made of"));
    }
    let data = bytes::open(path, opening.access)?;
    let mut model = Flat::of(data.elements())?.model()?;
    match &mut model {
        Model::Decoder(decoder) => {
            let (fixed, scaling) = (decoder.config().length, decoder.config().rope.as_ref());
            let depends = scaling.is_some_and(|rope| rope.scaling.depends_on_length());
            if depends && opening.length.is_some_and(|length| length != fixed) {
                let what = format!("the positions of this flat model are scaled for {fixed} tokens");
                return Err(Error::invalid(what));
            }
            decoder.set_arithmetic(cpu, opening.arithmetic)?;
        }
        Model::Encoder(model) => model.encoder.set_arithmetic(cpu, opening.arithmetic)?,
    }
    data.check()?;
    Ok(model)
}

fn open_gguf(path: &Path, cpu: Cpu, opening: Opening) -> Result<Decoder> {
    let file = Gguf::open(path, opening.access)?;
    let config = DecoderConfig::from_gguf(&file)?;
    let decoder = opening.decoder(cpu, config.clone(), &GgufTensors::new(&file, &config))?;
    file.data().check()?;
    Ok(decoder)
}

fn open_llama2c(path: &Path, cpu: Cpu, opening: Opening) -> Result<Decoder> {
    let file = Llama2c::open(path, opening.access)?;
    let config = DecoderConfig::from_llama2c(&file)?;
    let decoder = opening.decoder(cpu, config, &Llama2cTensors(&file))?;
    file.data().check()?;
    Ok(decoder)
}

/// Whether a file is named as llama2.c's are, or begins as its later ones do. Its first ones begin with nothing
/// of their own.
pub(super) fn is_llama2c(path: &Path) -> bool {
    use std::io::Read;
    let mut magic = [0; 4];
    if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("bin")) || !path.is_file() {
        return path.is_file();
    }
    std::fs::File::open(path).is_ok_and(|mut file| file.read_exact(&mut magic).is_ok()) && &magic == b"24ka"
}

fn open_folder(folder: &Path, cpu: Cpu, opening: Opening) -> Result<Model> {
    let path = folder.join("config.json");
    let text = read(&path)?;
    let in_config = |e: Error| e.in_file(path.display());
    if !Architecture::of_config(&text).map_err(in_config)?.is_encoder() {
        let config = DecoderConfig::from_hf(&text).map_err(in_config)?;
        let weights = Checkpoint::open_with(folder, opening.access)?;
        let decoder = opening.decoder(cpu, config, &weights)?;
        weights.check()?;
        return Ok(Model::Decoder(Box::new(decoder)));
    }
    let config = EncoderConfig::from_hf(&text).map_err(in_config)?;
    let weights = Checkpoint::open_with(folder, opening.access)?;
    let mut encoder = Encoder::load(cpu, config, &weights)?;
    encoder.set_arithmetic(cpu, opening.arithmetic)?;
    weights.check()?;
    let max_tokens = max_tokens(folder, &encoder)?;
    let (pooling, normalize) = pooling(folder)?;
    Ok(Model::Encoder(Box::new(SentenceEncoder { encoder, pooling, normalize, max_tokens })))
}

/// What sentence-transformers' own file says, else the positions of the model.
fn max_tokens(folder: &Path, encoder: &Encoder) -> Result<usize> {
    let path = folder.join("sentence_bert_config.json");
    let context = encoder.config().context();
    if !path.exists() {
        return Ok(context);
    }
    let text = read(&path)?;
    let config = json::parse(&text).map_err(|e| e.in_file(path.display()))?;
    Ok(config.get("max_seq_length").and_then(|v| v.as_usize()).map_or(context, |n| n.min(context)))
}

/// `modules.json` lists what follows the encoder: pooling, perhaps a normalisation.
fn pooling(folder: &Path) -> Result<(Pooling, bool)> {
    let path = folder.join("modules.json");
    if !path.exists() {
        return match folder.join("1_Pooling/config.json") {
            alone if alone.exists() => Ok((pooling_of(&alone)?, false)),
            _ => Ok((Pooling::Mean, false)),
        };
    }
    let text = read(&path)?;
    let bad = |e: Error| e.in_file(path.display());
    let modules = json::parse(&text).map_err(bad)?;
    let list = modules.elements().ok_or_else(|| bad(modules.expected("a list of modules")))?;
    let (mut pooling, mut normalize) = (Pooling::Mean, false);
    for module in list {
        let kind = module.get("type").and_then(|v| v.as_str()).unwrap_or_default();
        let place = module.get("path").and_then(|v| v.as_str()).unwrap_or_default();
        match kind.rsplit('.').next().unwrap_or_default() {
            "Transformer" => {}
            "Pooling" => pooling = pooling_of(&inside(folder, &place).map_err(bad)?.join("config.json"))?,
            "Normalize" => normalize = true,
            _ => return Err(bad(Error::invalid(format!("module {kind:?} is not known")))),
        }
    }
    Ok((pooling, normalize))
}

/// A folder in `folder`, by a plain name.
fn inside(folder: &Path, name: &str) -> Result<PathBuf> {
    let plain = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', ':']);
    if plain {
        Ok(folder.join(name))
    } else {
        Err(Error::invalid(format!("module path {name:?} is not plain")))
    }
}

fn pooling_of(path: &Path) -> Result<Pooling> {
    const KEYS: [(&str, Pooling); 4] = [
        ("pooling_mode_cls_token", Pooling::Cls),
        ("pooling_mode_mean_tokens", Pooling::Mean),
        ("pooling_mode_max_tokens", Pooling::Max),
        ("pooling_mode_lasttoken", Pooling::Last),
    ];
    let text = read(path)?;
    let config = json::parse(&text).map_err(|e| e.in_file(path.display()))?;
    let on = |key: &str| config.get(key).and_then(|v| v.as_bool()).unwrap_or(false);
    let chosen: Vec<_> = KEYS.into_iter().filter(|(key, _)| on(key)).collect();
    let others = ["pooling_mode_mean_sqrt_len_tokens", "pooling_mode_weightedmean_tokens"];
    match (&chosen[..], others.into_iter().find(|key| on(key))) {
        ([(_, pooling)], None) => Ok(*pooling),
        (_, Some(key)) => Err(Error::invalid(format!("{key} is not known")).in_file(path.display())),
        (all, None) => {
            Err(Error::invalid(format!("{} poolings are on, expected one", all.len()))
                .in_file(path.display()))
        }
    }
}

/// A small file, whole.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    use std::io::Read;
    /// Configurations have some thousand bytes.
    const MOST: u64 = 16 << 20;
    let file = std::fs::File::open(path).map_err(|e| Error::io(path, "open", e))?;
    let mut text = Vec::new();
    file.take(MOST + 1).read_to_end(&mut text).map_err(|e| Error::io(path, "read", e))?;
    if text.len() as u64 > MOST {
        return Err(
            Error::invalid(format!("a configuration of more than {MOST} bytes")).in_file(path.display())
        );
    }
    Ok(text)
}

impl Source for Checkpoint {
    fn file(&self) -> String {
        self.path().display().to_string()
    }

    fn names(&self) -> Vec<String> {
        self.tensors().map(|t| t.name.to_string()).collect()
    }

    fn tensor(&self, name: &str) -> Result<Tensor> {
        match self.holder(name) {
            Some(file) => Source::tensor(file, name),
            None => self.load(name),
        }
    }

    fn stored(&self, cpu: Cpu, name: &str) -> Result<Option<(Weight, Vec<String>)>> {
        self.holder(name).map_or(Ok(None), |file| file.stored(cpu, name))
    }
}

impl Checkpoint {
    /// The file with that tensor.
    fn holder(&self, name: &str) -> Option<&SafeTensors> {
        self.files().map(|(_, file)| file).find(|file| file.tensor(name).is_ok())
    }
}

impl Source for SafeTensors {
    fn file(&self) -> String {
        self.name().into()
    }

    fn names(&self) -> Vec<String> {
        self.tensors().map(|t| t.name.to_string()).collect()
    }

    /// Weights in NF4, which only whole layers take as they are stored, are decoded.
    fn tensor(&self, name: &str) -> Result<Tensor> {
        let Some(weight) = Nf4::read(self, name)? else { return self.load(name) };
        let (cpu, mut floats) = (Cpu::detect(), vec![0.0; weight.elements()]);
        let absmax = weight.absmax.decode(cpu);
        nf4::dequantize(cpu, &weight.codes, &absmax, weight.blocksize, &mut floats);
        let tensor = Tensor::from_f32(&floats, &weight.shape);
        Ok(if is_column(name) { tensor.t() } else { tensor })
    }

    fn stored(&self, cpu: Cpu, name: &str) -> Result<Option<(Weight, Vec<String>)>> {
        stored_nf4(self, cpu, name)
    }
}

/// A weight in bitsandbytes' NF4, and the names of the tensors that stand for it.
fn stored_nf4(file: &SafeTensors, cpu: Cpu, name: &str) -> Result<Option<(Weight, Vec<String>)>> {
    let Some(nf4) = Nf4::read(file, name)? else { return Ok(None) };
    let own = format!("{name}.");
    let around = file.tensors().map(|t| t.name).filter(|t| t.starts_with(&own)).map(Into::into);
    let around: Vec<String> = around.collect();
    let &[n, k] = &nf4.shape[..] else {
        return Err(Error::Shape {
            file: String::new(),
            name: name.into(),
            shape: nf4.shape.clone(),
            expected: "a matrix".into(),
        });
    };
    let absmax = match &nf4.absmax {
        Absmax::Plain(absmax) => absmax.clone(),
        nested => nested.decode(cpu),
    };
    let weight = Weight::from_nf4(RowNf4::new(n, k, nf4.blocksize, &nf4.codes, &absmax));
    Ok(Some((weight, around.into_iter().chain([name.into()]).collect())))
}
