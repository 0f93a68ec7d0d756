//! Throwaway PostgreSQL, and a throwaway gate in front of it, for the demo, the tests and the benches.
//!
//! It is unfit for real databases: durability is switched off, and everything is removed at the end.
//!
//! INVARIANT: nothing it started outlives the process that started it, however that process ends (`kill -9` too): a *keeper*
//! process holds the other end of a pipe and stops the server and removes its folder when the pipe closes.

mod binaries;
mod driver;
mod fixtures;
mod gate;
mod keeper;
mod postgres;
mod scratch;
#[cfg(test)]
mod tests;

use std::path::Path;

pub use self::binaries::PostgresBinaries;
pub use self::driver::DriverConnection;
pub use self::fixtures::ShopFixture;
pub use self::gate::{TestGate, TestLogin, free_port};
pub use self::postgres::{ServerAuth, ServerOptions, ServerTlsOption, TestPostgres};

/// Returns the last 15 lines of a log, for an error message.
fn tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().rev().take(15).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}
