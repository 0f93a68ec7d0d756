//! The use-cases of operators and their HTTP API.
//!
//! It keeps no state of its own: grants are the ledger's, sessions the registry's, records the audit log's.
//!
//! INVARIANT: nothing under `/v1` is answered to a caller who has not proved who they are, and every change goes through the
//! desk or the ledger, which put it on record first.

mod caller;
mod files;
mod hold;
mod listen;
mod log;
pub mod model;
mod openapi;
mod problem;
mod routes;
mod schema;
mod serve;
mod stall;
#[cfg(test)]
pub(crate) mod tests;
mod token;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};

pub use listen::{MOST, strangers};
pub use problem::ApiError;
pub use serve::{ListenError, Listeners, document, serve};
pub use token::{AdminToken, TokenError};

use crate::access::{self, Desk};
use crate::audit::Journal;
use crate::clock::Clock;
use crate::ledger::Ledger;
use crate::names::TargetName;
use crate::quota::Quotas;
use crate::session::{Registry, TargetRoom};
use crate::strangers::Strangers;
use crate::tls::ServerTlsCell;

/// The name an operator's client gives for the record; the token proves the right, not this.
pub const OPERATOR_HEADER: &str = "tidegate-operator";
/// A caller's own key for a request: asked again with it, it is the same request.
pub const IDEMPOTENCY_HEADER: &str = "idempotency-key";

/// Finds a target.
pub type Rooms = Box<dyn Fn(&TargetName) -> Option<Arc<TargetRoom>> + Send + Sync>;

/// An order to read the configuration again; answered with what is in force, or with what is wrong.
pub type ReloadOrder = oneshot::Sender<Result<String, Vec<String>>>;

/// What the API acts on.
pub struct Gate {
    /// What people and pipelines may do, and do.
    pub desk: Desk,
    /// The grants, the requests, the users.
    pub ledger: Ledger,
    /// The live sessions.
    pub registry: Arc<Registry>,
    /// What each identity uses up, here and in its sessions.
    pub quotas: Quotas,
    /// The audit log, to sign.
    pub journal: Journal,
    /// The audit log's folder, to read from.
    pub audit_dir: PathBuf,
    /// Gate time.
    pub clock: Clock,
    /// What operators prove themselves with.
    pub token: AdminToken,
    /// Who calls over TCP and has proved nothing; what fails there counts with the failed logins of the wire.
    pub strangers: Strangers,
    /// The targets with their profiles, as configured now: the desk's own rules.
    pub rules: watch::Receiver<Arc<access::Rules>>,
    /// A target as it is configured now, with the roles of its grants.
    pub room: Rooms,
    /// How the targets' databases stood with their profiles at the last look.
    pub profiles: watch::Receiver<BTreeMap<TargetName, Vec<model::ProfileStatus>>>,
    /// Host and port that clients connect to, for connection strings.
    pub advertise: String,
    /// The certificate that clients see there.
    pub tls: ServerTlsCell,
    /// Whether the gate takes sessions, or why not.
    pub ready: Box<dyn Fn() -> Result<(), String> + Send + Sync>,
    /// Whether what carries sessions makes progress, or what does not.
    pub alive: Box<dyn Fn() -> Result<(), String> + Send + Sync>,
    /// Where orders to reload go.
    pub reload: mpsc::Sender<ReloadOrder>,
    /// Connections at once on one listener.
    pub places: usize,
    /// The metrics in their text format.
    pub metrics: Box<dyn Fn() -> String + Send + Sync>,
}
