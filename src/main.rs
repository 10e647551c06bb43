//! The command line of `samebits`.

use std::process::ExitCode;

fn main() -> ExitCode {
    samebits::cli::main()
}
