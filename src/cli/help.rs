//! `samebits help`, `--help`, `--version`.

use std::io::Write;

use super::{Args, COMMANDS, Command, Console, Failure, Takes, find};

pub const COMMAND: Command = Command {
    name: "help",
    summary: "this list, or how to call a command",
    operands: "[COMMAND]",
    arity: (0, 1),
    flags: &[],
    notes: "Example:\n  samebits help bench\n",
    run,
};

fn run(args: &Args, console: &mut Console) -> Result<(), Failure> {
    match args.operands() {
        [] => overview(console),
        [name, ..] => command(find(&name.to_string_lossy())?, console),
    }
}

/// The list of commands.
pub fn overview(console: &mut Console) -> Result<(), Failure> {
    writeln!(
        console,
        "samebits: a CPU numerics engine for language models, with the same bits everywhere\n"
    )?;
    writeln!(console, "Usage: samebits [COMMAND] [FLAGS]\n\nCommands:")?;
    for command in COMMANDS {
        writeln!(console, "  {:<15} {}", command.name, command.summary)?;
    }
    writeln!(console, "\nWithout a command: {}.", COMMANDS[0].name)?;
    writeln!(console, "`samebits COMMAND --help` explains one; `samebits --version` says what this is.\n")?;
    writeln!(console, "Environment:")?;
    writeln!(console, "  SAMEBITS_TIER     lowers the tier: `avx2`, or `avx512,-vnni` without an extra")?;
    writeln!(console, "  SAMEBITS_THREADS  the number of threads")?;
    Ok(())
}

/// How to call one command.
pub fn command(command: &Command, console: &mut Console) -> Result<(), Failure> {
    let flags = if command.flags.is_empty() { "" } else { " [FLAGS]" };
    let operands = if command.operands.is_empty() { "" } else { " " };
    writeln!(console, "samebits {}: {}\n", command.name, command.summary)?;
    writeln!(console, "Usage: samebits {}{operands}{}{flags}\n", command.name, command.operands)?;
    writeln!(console, "Flags:")?;
    for flag in command.flags {
        let shown = match flag.takes {
            Takes::Nothing => format!("--{}", flag.name),
            Takes::One(word) => format!("--{} {word}", flag.name),
            Takes::Many(word) => format!("--{} {word} …", flag.name),
        };
        writeln!(console, "  {shown:<24} {}", flag.help)?;
    }
    writeln!(console, "  {:<24} this text\n\n{}", "--help", command.notes.trim_end())?;
    Ok(())
}

/// The version, and what it was built with.
pub fn version(console: &mut Console) -> Result<(), Failure> {
    let git = option_env!("SAMEBITS_GIT").map(|hash| format!(" ({hash})")).unwrap_or_default();
    writeln!(console, "samebits {}{git}", env!("CARGO_PKG_VERSION"))?;
    writeln!(console, "{}, {}", env!("SAMEBITS_RUSTC"), env!("SAMEBITS_TARGET"))?;
    Ok(())
}
