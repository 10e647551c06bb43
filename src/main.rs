//! The command line of `samebits`.

fn main() {}
