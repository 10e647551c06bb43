//! The stages of a sampler, and the settings that a person chooses.

use crate::{Error, Result};
use alloc::string::String;
use alloc::vec::Vec;

/// One step from logits to the candidates of a draw.
#[derive(Clone, Debug, PartialEq)]
pub enum Stage {
    /// Adds to the logits of these tokens; −∞ bans one.
    LogitBias(Vec<(u32, f32)>),
    /// Makes tokens that came lately less likely.
    Penalties(Penalties),
    /// Keeps the k largest logits; 0 keeps all.
    TopK(usize),
    /// Keeps the tokens whose surprise is nearest to the expected one, up to this mass of probability, the token
    /// that reaches it included (Meister et al. 2022, [arXiv:2202.00666](https://arxiv.org/abs/2202.00666)); 1 keeps all.
    Typical(f32),
    /// Keeps the likeliest tokens up to this mass of probability, the token that reaches it included (Holtzman et
    /// al. 2019, [arXiv:1904.09751](https://arxiv.org/abs/1904.09751)); 1 keeps all.
    TopP(f32),
    /// Keeps tokens with at least this share of the likeliest one's probability; 0 keeps all.
    MinP(f32),
    /// Divides logits; below 1 makes likely tokens likelier, 0 keeps the largest logit alone.
    Temperature(f32),
}

/// Penalties for tokens among the last ones.
///
/// ```
/// use samebits::model::sampling::{Candidates, Draw, Penalties, Sampler, Settings, Stage};
/// let penalties = Penalties { last_n: 64, repeat: 1.0, frequency: 0.0, presence: 2.0 };
/// let sampler = Sampler::of_stages(vec![Stage::Penalties(penalties), Stage::TopK(1)], 0)?;
/// let draw = Draw { logits: &[1.0, 3.0, 2.0], context: &[1], position: 0 };
/// let cpu = samebits::Cpu::detect();
/// assert_eq!(sampler.sample(cpu, &draw, &mut Candidates::new())?, 2); // token 1 came already
/// let usual = Sampler::new(&Settings { temperature: 0.0, ..Settings::default() }, 0)?;
/// assert_eq!(usual.sample(cpu, &draw, &mut Candidates::new())?, 1);
/// # Ok::<(), samebits::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Penalties {
    /// How many of the last tokens count; `usize::MAX` for all.
    pub last_n: usize,
    /// A logit above 0 is divided by it, another multiplied (Keskar et al. 2019, [arXiv:1909.05858](https://arxiv.org/abs/1909.05858)).
    pub repeat: f32,
    /// Subtracted once for each time that the token came.
    pub frequency: f32,
    /// Subtracted where the token came at all.
    pub presence: f32,
}

/// The usual settings; [`Default`] has llama.cpp's values.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// 0.8; 0 takes the largest logit after bias and penalties, whatever else is set.
    pub temperature: f32,
    /// 40; 0 for all.
    pub top_k: usize,
    /// 0.95; 1 for all.
    pub top_p: f32,
    /// 0.05; 0 for all.
    pub min_p: f32,
    /// 1, which is all.
    pub typical_p: f32,
    /// 64: how many of the last tokens the penalties count.
    pub penalty_last_n: usize,
    /// 1, which changes nothing.
    pub repeat_penalty: f32,
    /// 0
    pub frequency_penalty: f32,
    /// 0
    pub presence_penalty: f32,
    /// Tokens and what is added to their logits: none.
    pub logit_bias: Vec<(u32, f32)>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            temperature: 0.8,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            typical_p: 1.0,
            penalty_last_n: 64,
            repeat_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            logit_bias: Vec::new(),
        }
    }
}

impl Settings {
    /// Every stage, in llama.cpp's order; those that keep all as they are, are there too.
    pub fn stages(&self) -> Vec<Stage> {
        let mut stages = Vec::from([
            Stage::LogitBias(self.logit_bias.clone()),
            Stage::Penalties(Penalties {
                last_n: self.penalty_last_n,
                repeat: self.repeat_penalty,
                frequency: self.frequency_penalty,
                presence: self.presence_penalty,
            }),
        ]);
        if self.temperature != 0.0 {
            stages.extend([
                Stage::TopK(self.top_k),
                Stage::Typical(self.typical_p),
                Stage::TopP(self.top_p),
                Stage::MinP(self.min_p),
            ]);
        }
        stages.push(Stage::Temperature(self.temperature));
        stages
    }
}

/// Refuses values out of range, and bias or penalties after something was cut.
pub(super) fn check(stages: &[Stage]) -> Result<()> {
    let mut cut = None;
    for stage in stages {
        match stage {
            Stage::LogitBias(bias) => {
                early("logit bias", cut)?;
                let wrong = |x: f32| x.is_nan() || x == f32::INFINITY;
                if let Some((token, x)) = bias.iter().find(|(_, x)| wrong(*x)) {
                    return Err(usage(alloc::format!("logit bias of token {token} is {x}")));
                }
            }
            Stage::Penalties(p) => {
                early("penalties", cut)?;
                within("repeat penalty", p.repeat, p.repeat > 0.0 && p.repeat.is_finite(), "above 0")?;
                let small = |x: f32| (-1000.0..=1000.0).contains(&x);
                within("frequency penalty", p.frequency, small(p.frequency), "-1000 to 1000")?;
                within("presence penalty", p.presence, small(p.presence), "-1000 to 1000")?;
            }
            Stage::TopK(_) => cut = Some("top-k"),
            Stage::Typical(p) => {
                within("typical-p", *p, *p > 0.0 && *p <= 1.0, "above 0, at most 1")?;
                cut = Some("typical-p");
            }
            Stage::TopP(p) => {
                within("top-p", *p, (0.0..=1.0).contains(p), "0 to 1")?;
                cut = Some("top-p");
            }
            Stage::MinP(p) => {
                within("min-p", *p, (0.0..=1.0).contains(p), "0 to 1")?;
                cut = Some("min-p");
            }
            Stage::Temperature(t) => {
                within("temperature", *t, *t >= 0.0 && t.is_finite(), "0 or more")?;
                cut = if *t == 0.0 { Some("temperature 0") } else { cut };
            }
        }
    }
    Ok(())
}

fn early(name: &str, cut: Option<&str>) -> Result<()> {
    let Some(cut) = cut else { return Ok(()) };
    Err(usage(alloc::format!("{name} after {cut}: what changes logits comes before what cuts them off")))
}

fn within(name: &str, x: f32, fits: bool, range: &str) -> Result<()> {
    if fits { Ok(()) } else { Err(usage(alloc::format!("{name} is {x}, expected {range}"))) }
}

fn usage(what: String) -> Error {
    Error::Usage { what, hint: None }
}
