//! The program `quotary-offline`, which `quotary` calls for its heavy offline verbs.

use std::process::ExitCode;

fn main() -> ExitCode {
    quotary_offline::main()
}
