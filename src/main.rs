//! The program. Everything is in the library; here is only the way out, and where memory comes from.

use std::process::ExitCode;

/// The system's allocator keeps what sessions freed for as long as their threads have nothing to do. jemalloc's own threads give it
/// back to the system within seconds.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    tidegate::cli::main()
}
