//! The program `quotary`.

use std::process::ExitCode;

fn main() -> ExitCode {
    quotary_cli::main()
}
