//! Models: decoders that continue text and encoders that embed it, built of [`nn`](crate::nn)'s layers.
//!
//! A model is its configuration and its layers. It is made from a [`Source`] of named tensors (a folder of
//! Hugging Face, a GGUF or llama2.c file), computes on a [`Run`](crate::run::Run), and keeps what a
//! conversation needs in a [`KvCache`]. Nothing here touches a file, a thread or a clock.

mod beam;
mod cache;
mod chat;
mod classifier;
mod config;
#[cfg(feature = "std")]
mod convert;
mod decoder;
mod encoder;
#[cfg(feature = "std")]
pub(crate) mod files;
pub mod flat;
mod generate;
pub(crate) mod gguf;
mod kinds;
mod llama2c;
mod load;
mod lookup;
mod quantized;
pub mod sampling;
mod score;
mod stop;

pub use beam::{Beam, BeamSearch, EarlyStopping, Hypothesis, NextLogits};
pub use cache::{CacheType, KvCache, LayerCache};
pub use chat::{ChatTemplate, Role};
pub use classifier::Classifier;
pub use config::{Architecture, DecoderConfig, EncoderConfig, NormKind, Pooling};
#[cfg(feature = "std")]
pub use convert::{Conversion, Converted, ElementType, FileKind, Vocabulary, convert, save_folder};
#[cfg(feature = "std")]
pub(crate) use convert::{copy_small, family};
pub use decoder::{Decoder, Examples, Keep, ModuleMut, ParameterMut, Sequence, Site, Tape, Workspace};
pub use encoder::Encoder;
#[cfg(feature = "std")]
pub use files::Opening;
#[cfg(feature = "std")]
pub(crate) use files::read as read_config;
pub use generate::Generator;
pub use gguf::GgufTensors;
#[cfg(feature = "std")]
pub(crate) use kinds::to_length_one;
pub use kinds::{Model, SentenceEncoder};
pub use llama2c::Llama2cTensors;
#[cfg(feature = "std")]
pub(crate) use load::Loader;
pub use load::Source;
#[cfg(feature = "std")]
pub(crate) use load::is_column;
pub use lookup::{PromptLookup, accepted};
pub use quantized::Nf4Source;
pub use sampling::{Candidates, Sampler, Settings};
pub use stop::StopStrings;
