//! The arguments of a subcommand: `--flag`, `--flag VALUE`, `--flag=VALUE`, operands; `--` ends the flags.
//!
//! Values keep the system's own encoding, so that every path works; numbers are checked against a range
//! when they are asked for, so that −1, 2⁶⁴ or `nan` are refused before they reach anything.

use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use super::{Command, Failure, nearest::nearest};
use crate::io::bytes::Access;
use crate::kernels::attention::Products;
use crate::model::CacheType;
use crate::nn::{Arithmetic, Compute};
use crate::pool::{self, MAX_THREADS, Pool};

/// A flag that a subcommand knows.
pub struct Flag {
    /// Its name without the dashes.
    pub name: &'static str,
    /// What follows it.
    pub takes: Takes,
    /// One line for `--help`.
    pub help: &'static str,
}

/// Of all that run a model.
pub const COMPUTE: Flag = Flag {
    name: "compute",
    takes: Takes::One("CLASS"),
    help: "products in f32 (unless given), bf16 or int8",
};

pub const ATTENTION: Flag = Flag {
    name: "attention",
    takes: Takes::One("CLASS"),
    help: "attention's products in f32 (unless given) or bf16",
};

/// Flags that may be written with one letter, where a command has them.
const SHORT: [(&str, &str); 2] = [("-k", "--k"), ("-o", "--output")];

/// What follows a flag. The word is what `--help` shows for the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// Nothing: it is there or not.
    Nothing,
    /// One value; the flag stands once.
    One(&'static str),
    /// One value each time; the flag may be repeated.
    Many(&'static str),
}

/// The arguments of one call.
#[derive(Debug, Default)]
pub struct Args {
    operands: Vec<OsString>,
    values: Vec<(&'static str, OsString)>,
    /// The flags that exist, so that a misspelt question is found by the first test.
    known: Vec<&'static str>,
}

/// Whether `--help` or `-h` stands before any `--`.
pub fn asks_for_help(args: &[OsString]) -> bool {
    args.iter().take_while(|arg| *arg != "--").any(|arg| arg == "--help" || arg == "-h")
}

impl Args {
    /// Reads `args` as `command` wants them.
    pub fn parse(command: &Command, args: Vec<OsString>) -> Result<Args, Failure> {
        let known = command.flags.iter().map(|flag| flag.name).collect();
        let mut parsed = Args { known, ..Args::default() };
        let mut rest = args.into_iter();
        while let Some(arg) = rest.next() {
            if arg == "--" {
                parsed.operands.extend(rest.by_ref());
            } else if arg != "-" && arg.as_encoded_bytes().starts_with(b"-") {
                parsed.flag_argument(command, &arg, &mut rest)?;
            } else {
                parsed.operands.push(arg);
            }
        }
        let (least, most) = command.arity;
        if (least..=most).contains(&parsed.operands.len()) {
            return Ok(parsed);
        }
        let what = match parsed.operands.get(most) {
            Some(extra) => format!("{}: unexpected argument {extra:?}", command.name),
            None => format!("{}: expected {}", command.name, command.operands),
        };
        Err(Failure::usage(what, Some(format!("`samebits {} --help` shows how to call it", command.name))))
    }

    fn flag_argument(
        &mut self,
        command: &Command,
        arg: &OsStr,
        rest: &mut impl Iterator<Item = OsString>,
    ) -> Result<(), Failure> {
        let (mut name, inline) = split(arg);
        if let Some((_, long)) = SHORT.iter().find(|(short, _)| *short == name) {
            name = (*long).into();
        }
        let flag = command.flags.iter().find(|flag| name.strip_prefix("--") == Some(flag.name));
        let flag = flag.ok_or_else(|| unknown_flag(command, &name))?;
        let repeated = self.values.iter().any(|(name, _)| *name == flag.name);
        if repeated && !matches!(flag.takes, Takes::Many(_)) {
            return Err(Failure::usage(format!("{name} is given twice"), None));
        }
        let value = match (flag.takes, inline) {
            (Takes::Nothing, None) => OsString::new(),
            (Takes::Nothing, Some(_)) => {
                return Err(Failure::usage(format!("{name} takes no value"), None));
            }
            (_, Some(value)) => value,
            (Takes::One(word) | Takes::Many(word), None) => {
                rest.next().ok_or_else(|| Failure::usage(format!("{name} needs a value: {word}"), None))?
            }
        };
        self.values.push((flag.name, value));
        Ok(())
    }

    /// Whether the flag is there.
    pub fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    /// The value of a flag.
    pub fn value(&self, name: &str) -> Option<&OsStr> {
        self.all(name).next()
    }

    /// Every value of a flag, in order.
    ///
    /// # Panics
    /// Where the command declares no such flag.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &OsStr> {
        assert!(self.known.contains(&name), "the command declares no flag --{name}");
        self.values.iter().filter(move |(n, _)| *n == name).map(|(_, value)| value.as_os_str())
    }

    /// The value of a flag as text.
    pub fn text(&self, name: &str) -> Result<Option<&str>, Failure> {
        let Some(value) = self.value(name) else { return Ok(None) };
        let text = value.to_str();
        text.map(Some).ok_or_else(|| Failure::usage(format!("--{name}: {value:?} is not text"), None))
    }

    /// The value of a flag as a whole number within `range`.
    pub fn count(&self, name: &str, range: RangeInclusive<usize>) -> Result<Option<usize>, Failure> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        match text.parse().ok().filter(|n| range.contains(n)) {
            Some(n) => Ok(Some(n)),
            None => Err(out_of_range(name, text, range.start(), range.end())),
        }
    }

    /// The value of a flag as a number within `range`.
    pub fn number(&self, name: &str, range: RangeInclusive<f64>) -> Result<Option<f64>, Failure> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        match text.parse().ok().filter(|n| range.contains(n)) {
            Some(n) => Ok(Some(n)),
            None => Err(out_of_range(name, text, range.start(), range.end())),
        }
    }

    /// The pool of `--threads N`; without it the process's own.
    pub fn pool(&self) -> Result<Threads, Failure> {
        Ok(match self.count("threads", 1..=MAX_THREADS)? {
            Some(n) => Threads::Own(Pool::new(n)),
            None => Threads::Shared(pool::default()?),
        })
    }

    /// `--mmap` or `--no-mmap`: how a model's files are come by; mapped, unless said.
    pub fn access(&self) -> Result<Access, Failure> {
        match (self.has("mmap"), self.has("no-mmap")) {
            (true, true) => Err(Failure::usage("--mmap and --no-mmap exclude each other", None)),
            (_, false) => Ok(Access::Map),
            (false, true) => Ok(Access::Read),
        }
    }

    /// What `--cache TYPE` stores keys and values as.
    pub fn cache(&self) -> Result<CacheType, Failure> {
        let Some(name) = self.text("cache")? else { return Ok(CacheType::default()) };
        let none = || Failure::usage(format!("--cache: {name:?} is none of f32, bf16, int8"), None);
        CacheType::from_name(name).ok_or_else(none)
    }

    /// `--compute CLASS`: what products are computed in.
    pub fn compute(&self) -> Result<Compute, Failure> {
        let Some(name) = self.text("compute")? else { return Ok(Compute::default()) };
        let none = || Failure::usage(format!("--compute: {name:?} is none of f32, bf16, int8"), None);
        Compute::from_name(name).ok_or_else(none)
    }

    /// `--compute` and `--attention`: what a model computes in.
    pub fn arithmetic(&self) -> Result<Arithmetic, Failure> {
        self.arithmetic_or(Arithmetic::F32)
    }

    /// The same where what is not given is what it was.
    pub fn arithmetic_or(&self, before: Arithmetic) -> Result<Arithmetic, Failure> {
        let compute = if self.has("compute") { self.compute()? } else { before.compute };
        let Some(name) = self.text("attention")? else { return Ok(Arithmetic { compute, ..before }) };
        let none = || Failure::usage(format!("--attention: {name:?} is none of f32, bf16"), None);
        Ok(Arithmetic { compute, attention: Products::from_name(name).ok_or_else(none)? })
    }

    /// The value of a flag as a path.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.value(name).map(PathBuf::from)
    }

    /// The arguments that are not flags.
    pub fn operands(&self) -> &[OsString] {
        &self.operands
    }
}

/// A pool of this command's, or the one that the process shares.
pub enum Threads {
    /// Made for `--threads`.
    Own(Pool),
    /// The process's.
    Shared(&'static Pool),
}

impl std::ops::Deref for Threads {
    type Target = Pool;
    fn deref(&self) -> &Pool {
        match self {
            Threads::Own(pool) => pool,
            Threads::Shared(pool) => pool,
        }
    }
}

fn out_of_range(name: &str, text: &str, low: impl Display, high: impl Display) -> Failure {
    Failure::usage(format!("--{name}: {text:?} is not a number from {low} to {high}"), None)
}

fn unknown_flag(command: &Command, name: &str) -> Failure {
    let flags = command.flags.iter().map(|flag| flag.name).chain(["help"]);
    let hint = match nearest(name.trim_start_matches('-'), flags) {
        Some(nearest) => format!("did you mean --{nearest}?"),
        None => format!("`samebits {} --help` lists the flags", command.name),
    };
    Failure::usage(format!("{}: there is no flag {name:?}", command.name), Some(hint))
}

/// `--flag=VALUE` into its parts. A flag's name is text; what is not is shown as well as it can be.
fn split(arg: &OsStr) -> (String, Option<OsString>) {
    let bytes = arg.as_encoded_bytes();
    let Some(at) = bytes.iter().position(|&b| b == b'=') else {
        return (arg.to_string_lossy().into_owned(), None);
    };
    let name = String::from_utf8_lossy(&bytes[..at]).into_owned();
    (name, Some(after(arg, at + 1)))
}

#[cfg(unix)]
fn after(arg: &OsStr, at: usize) -> OsString {
    use std::os::unix::ffi::OsStrExt;
    OsStr::from_bytes(&arg.as_bytes()[at..]).to_owned()
}

/// Elsewhere, a value after `=` that is not Unicode loses its odd characters; after a space it does not.
#[cfg(not(unix))]
fn after(arg: &OsStr, at: usize) -> OsString {
    String::from_utf8_lossy(&arg.as_encoded_bytes()[at..]).into_owned().into()
}
