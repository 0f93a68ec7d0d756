//! Entry point of the program, and its memory allocator; everything else is in the library.

use std::process::ExitCode;

/// Memory allocator. The system's allocator keeps memory that sessions freed while their threads are idle; jemalloc's background
/// threads return it to the system within seconds.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    tidegate::cli::main(tidegate::demo::run)
}
