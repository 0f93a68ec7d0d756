//! The use-cases of operators and their HTTP API.
//!
//! It keeps no state of its own: grants are the ledger's, sessions the registry's, records the audit log's.
//!
//! INVARIANT: nothing under `/v1` is answered without the admin token, and every change goes through the ledger, which puts it
//! on record first.

mod log;
pub mod model;
mod problem;
mod routes;
mod serve;
#[cfg(test)]
pub(crate) mod tests;
mod token;

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;

pub use problem::ApiError;
pub use serve::{ListenError, Listeners, serve};
pub use token::{AdminToken, TokenError};

use crate::access::Desk;
use crate::clock::Clock;
use crate::ledger::Ledger;
use crate::names::TargetName;
use crate::session::Registry;

/// The name an operator's client gives for the record; the token proves the right, not this.
pub const OPERATOR_HEADER: &str = "tidegate-operator";

/// What the API acts on.
pub struct Gate {
    /// The grants.
    pub ledger: Ledger,
    /// What people and pipelines ask for.
    pub desk: Desk,
    /// The live sessions.
    pub registry: Arc<Registry>,
    /// The audit log's folder, to read from.
    pub audit_dir: PathBuf,
    /// Gate time.
    pub clock: Clock,
    /// What callers prove themselves with.
    pub token: AdminToken,
    /// The names of the targets, as configured now.
    pub targets: watch::Receiver<Vec<TargetName>>,
    /// Host and port that clients connect to, for connection strings.
    pub advertise: String,
    /// Whether the gate takes sessions, or why not.
    pub ready: Box<dyn Fn() -> Result<(), String> + Send + Sync>,
    /// The metrics in their text format.
    pub metrics: Box<dyn Fn() -> String + Send + Sync>,
}
