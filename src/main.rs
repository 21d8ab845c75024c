//! Binary of wachta.

use std::process::ExitCode;

fn main() -> ExitCode {
    wachta::cli::main()
}
