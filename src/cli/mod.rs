//! The command line: one subcommand a file.
//!
//! A subcommand is a `Command`: a name, its flags, an example, and a function from `Args` to what it
//! prints on a `Console`. Results go to standard output, progress and complaints to standard error.
//! A new one is a file here and a line in `COMMANDS`.
//!
//! Exit codes: 0 done, 1 failed, 2 called wrongly, 130 interrupted. A reader that leaves early
//! (`samebits … | head -1`) is no error.

use std::ffi::OsString;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;

use crate::io::atomic;
use crate::{Error, sys};

mod adapters;
mod args;
mod base64;
mod bench;
mod console;
mod convert;
mod distill;
mod embed;
#[cfg(feature = "builtin")]
mod explain;
mod finetune;
mod generate;
mod help;
mod info;
mod inspect;
mod learning;
mod merge;
mod nearest;
mod opening;
mod perplexity;
mod quantize;
mod rag;
#[cfg(feature = "builtin")]
mod site;
mod tokenize;
mod tour;
mod train;
mod train_tokenizer;
mod values;
mod weights;

use args::{Args, Flag, Takes};
use console::{Align, Console, Progress, Table};

/// A subcommand.
pub struct Command {
    /// What follows `samebits`.
    pub name: &'static str,
    /// One line for the list of commands.
    pub summary: &'static str,
    /// Its operands as the usage line shows them: `FILE|DIR`.
    pub operands: &'static str,
    /// The fewest and the most operands.
    pub arity: (usize, usize),
    /// Its flags, besides `--help`.
    pub flags: &'static [Flag],
    /// What `--help` says below the flags: details, then an example.
    pub notes: &'static str,
    /// Runs it.
    pub(crate) run: fn(&Args, &mut Console) -> Result<(), Failure>,
}

/// Every subcommand, in the order of the help; the first is what runs without a command.
pub const COMMANDS: &[Command] = &[
    tour::COMMAND,
    info::COMMAND,
    bench::COMMAND,
    #[cfg(feature = "builtin")]
    explain::COMMAND,
    #[cfg(feature = "builtin")]
    site::COMMAND,
    inspect::COMMAND,
    quantize::COMMAND,
    convert::COMMAND,
    generate::COMMAND,
    tokenize::COMMAND,
    train_tokenizer::COMMAND,
    embed::COMMAND,
    distill::COMMAND,
    perplexity::COMMAND,
    train::COMMAND,
    finetune::COMMAND,
    merge::COMMAND,
    adapters::COMMAND,
    rag::index::COMMAND,
    rag::search::COMMAND,
    rag::ask::COMMAND,
    rag::serve::COMMAND,
    rag::eval::COMMAND,
    help::COMMAND,
];

/// Why a command ended early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It was called wrongly, or something went wrong.
    Error(Error),
    /// Standard output took no more.
    Output(io::Error),
    /// Ctrl-C.
    Interrupted,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Error(error)
    }
}

/// Files have their own errors; a bare one comes from writing to the console.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Output(error)
    }
}

impl Failure {
    /// A command that was called wrongly.
    pub fn usage(what: impl Into<String>, hint: Option<String>) -> Failure {
        Failure::Error(Error::Usage { what: what.into(), hint })
    }

    /// The exit code, and the lines for standard error.
    fn report(&self) -> (u8, String) {
        match self {
            Failure::Interrupted => (130, String::new()),
            Failure::Output(e) if e.kind() == io::ErrorKind::BrokenPipe => (0, String::new()),
            Failure::Output(e) => (1, format!("samebits: standard output: {e}\n")),
            Failure::Error(error) => {
                let code = if matches!(error, Error::Usage { .. } | Error::Tier { .. }) { 2 } else { 1 };
                let hint = error.hint().map(|hint| format!("hint: {hint}\n")).unwrap_or_default();
                (code, format!("samebits: {error}\n{hint}"))
            }
        }
    }
}

/// The adapters of `--adapter PATH[=WEIGHT]`; a weight of 1 unless given.
fn given_adapters(args: &Args) -> Vec<(std::path::PathBuf, f32)> {
    let one = |given: &std::ffi::OsStr| {
        let text = given.to_string_lossy();
        let cut = text.rsplit_once('=').and_then(|(path, weight)| Some((path, weight.parse::<f32>().ok()?)));
        match cut.filter(|(_, weight)| weight.is_finite()) {
            Some((path, weight)) => (path.into(), weight),
            None => (given.into(), 1.0),
        }
    };
    args.all("adapter").map(one).collect()
}

/// A file as text.
fn read_text(path: &Path) -> crate::Result<String> {
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, "read", e))?;
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to() as u64;
        Error::malformed(at, "the text is no UTF-8").in_file(path.display())
    })
}

/// Runs the program with the process's arguments and standard streams.
///
/// All of a program, and the commands that it knows:
/// ```
/// use samebits::cli::{COMMANDS, Command, main};
/// let program: fn() -> std::process::ExitCode = main;
/// let command: &Command = COMMANDS.iter().find(|command| command.name == "generate").unwrap();
/// assert!(command.arity.0 <= command.arity.1 && !command.summary.is_empty());
/// ```
pub fn main() -> ExitCode {
    sys::catch_interrupt(atomic::remove_pending);
    let mut out = BufWriter::new(io::stdout().lock());
    let code = run(std::env::args_os().skip(1), &mut out, &mut io::stderr());
    ExitCode::from(code)
}

/// Runs the program with `args` (without its own name); returns the exit code.
///
/// ```
/// let (mut out, mut err) = (Vec::new(), Vec::new());
/// assert_eq!(samebits::cli::run(["help".into()], &mut out, &mut err), 0);
/// assert!(String::from_utf8(out).unwrap().contains("generate"));
/// assert_eq!(samebits::cli::run(["hepl".into()], &mut Vec::new(), &mut err), 2); // called wrongly
/// assert!(String::from_utf8(err).unwrap().starts_with("samebits: "));
/// ```
pub fn run(args: impl IntoIterator<Item = OsString>, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    let mut console = Console::new(out);
    let done = dispatch(args.into_iter().collect(), &mut console);
    // What was printed before a failure is printed all the same.
    let flushed = console.flush().map_err(Failure::from);
    let Err(failure) = done.and(flushed) else { return 0 };
    let (code, message) = failure.report();
    // There is nowhere left to complain to.
    let _ = err.write_all(message.as_bytes());
    code
}

fn dispatch(mut args: Vec<OsString>, console: &mut Console) -> Result<(), Failure> {
    let first = args.first().map(|arg| arg.to_string_lossy().into_owned());
    let command = match first.as_deref() {
        Some("--version" | "-V") => return help::version(console),
        Some("--help" | "-h") => return help::overview(console),
        Some(name) if !name.starts_with('-') => {
            args.remove(0);
            find(name)?
        }
        _ => &COMMANDS[0],
    };
    if args::asks_for_help(&args) {
        return help::command(command, console);
    }
    (command.run)(&Args::parse(command, args)?, console)
}

/// The subcommand of that name.
fn find(name: &str) -> Result<&'static Command, Failure> {
    COMMANDS.iter().find(|command| command.name == name).ok_or_else(|| {
        let nearest = nearest::nearest(name, COMMANDS.iter().map(|command| command.name));
        let hint = match nearest {
            Some(nearest) => format!("did you mean `samebits {nearest}`?"),
            None => "`samebits help` lists the commands".into(),
        };
        Failure::usage(format!("there is no command {name:?}"), Some(hint))
    })
}
