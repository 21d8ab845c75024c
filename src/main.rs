//! The wachta binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    wachta::cli::main()
}
