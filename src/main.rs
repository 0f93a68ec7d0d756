//! The program. Everything is in the library; here is only the way out.

use std::process::ExitCode;

fn main() -> ExitCode {
    tidegate::cli::main()
}
