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

use std::io;
use std::path::Path;

pub use self::binaries::PostgresBinaries;
pub use self::driver::DriverConnection;
pub use self::fixtures::ShopFixture;
pub use self::gate::{TestGate, TestLogin, free_port};
pub use self::postgres::{ServerAuth, ServerOptions, ServerTlsOption, TestPostgres};

/// Error of a throwaway server.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// No server binaries were found.
    #[error(
        "no PostgreSQL server binaries (initdb, postgres) found in {searched}; install them (Debian: apt install postgresql) or set PG_BIN to their folder"
    )]
    NoBinaries {
        /// Folders that were searched.
        searched: String,
    },
    /// PostgreSQL refuses to run as root, and there is no other account to run it under.
    #[error("cannot run PostgreSQL as root, and neither the account `postgres` nor `nobody` exists")]
    NoAccount,
    /// A step failed.
    #[error("{what}")]
    Io {
        /// Name of the step.
        what: String,
        /// Reason from the operating system.
        source: io::Error,
    },
    /// A certificate could not be created.
    #[error("cannot create a certificate for the throwaway server")]
    Certificate(#[from] rcgen::Error),
    /// The server ended instead of starting.
    #[error("{what} did not start; its log ends with:\n{log}")]
    Ended {
        /// Name of the server.
        what: &'static str,
        /// Last lines of its output.
        log: String,
    },
    /// The server was not ready in time.
    #[error("{what} was not ready after {seconds} s; its log ends with:\n{log}")]
    Slow {
        /// Name of the server.
        what: &'static str,
        /// Time limit in seconds.
        seconds: u64,
        /// Last lines of its output.
        log: String,
    },
    /// The server did not end in time.
    #[error("{what} has not ended after {seconds} s")]
    Lasting {
        /// Name of the server.
        what: &'static str,
        /// Time limit in seconds.
        seconds: u64,
    },
    /// A command of the gate failed.
    #[error("`tidegate {command}` failed: {output}")]
    Command {
        /// Arguments of the command.
        command: String,
        /// Output of the command.
        output: String,
    },
    /// A setup statement failed.
    #[error("a statement for the throwaway server failed")]
    Sql(#[from] tokio_postgres::Error),
}

/// Adds the name of the step to an error.
fn step<T>(result: io::Result<T>, what: impl FnOnce() -> String) -> Result<T, LabError> {
    result.map_err(|source| LabError::Io { what: what(), source })
}

/// Returns the last 15 lines of a log, for an error message.
fn tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().rev().take(15).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}
