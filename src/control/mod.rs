//! Use cases of operators, and the HTTP API.
//!
//! It keeps no state of its own: grants belong to the ledger, sessions to the registry, records to the audit log.
//!
//! INVARIANT: nothing under `/v1` is answered to an unauthenticated caller (a chat signs its calls), and every change goes through
//! the access service, which has it recorded first.

mod authenticate;
mod calls;
mod chat;
mod connection;
mod evidence;
mod files;
mod hostile;
mod listen;
mod log;
mod logins;
mod long_poll;
pub mod model;
mod openapi;
mod problem;
mod renewal;
mod routes;
mod runs;
mod same_origin;
mod schema;
mod serve;
pub mod sign_in_cookie;
#[cfg(test)]
pub(crate) mod tests;
mod token;
mod verification;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};

pub use authenticate::{Call, CallOrigin, settle as authenticate, sign_in_with_token, visitor};
pub use calls::named;
pub(crate) use hostile::{cookies_hostile, same_origin_hostile};
pub use listen::{MAX_CONNECTIONS, strangers};
pub use log::{LogReader, told as log_error, wanted as log_query};
pub use long_poll::LongPollLimiter;
pub use problem::ApiError;
pub use renewal::{RENEWAL_FIELD, Renewal};
pub use serve::{ListenError, Listeners, document, serve, sign_in_ways};
pub use token::{AdminToken, AdminTokenError};

use crate::access::AccessService;
use crate::access::quota::Quotas;
use crate::access::strangers::Strangers;
use crate::audit::Journal;
use crate::base::clock::Clock;
use crate::base::tls::ServerTlsCell;
use crate::chat::Chat;
use crate::gate::session::{SessionRegistry, TargetState};
use crate::model::names::TargetName;

/// Header with the operator's name for the record. Only the token proves the operator's right.
pub const OPERATOR_HEADER: &str = "tidegate-operator";
/// Header with a key that the caller chooses for a request; a repeated key stands for the same request.
pub const IDEMPOTENCY_HEADER: &str = "idempotency-key";

/// Function that looks up a target.
pub type TargetFinder = Box<dyn Fn(&TargetName) -> Option<Arc<TargetState>> + Send + Sync>;

/// Reload order. It is answered with a description of the settings in force, or with the mistakes found.
pub type ReloadOrder = oneshot::Sender<Result<String, Vec<String>>>;

/// Parts of the gate that the API acts on.
pub struct ControlContext {
    /// Use cases of requests, grants and users.
    pub service: AccessService,
    /// Live sessions.
    pub registry: Arc<SessionRegistry>,
    /// Resources used by each identity, in API calls and in sessions.
    pub quotas: Quotas,
    /// Audit log, for signing.
    pub journal: Journal,
    /// Folder of the audit log, for reading.
    pub audit_dir: PathBuf,
    /// Gate time.
    pub clock: Clock,
    /// Token that identifies operators.
    pub token: AdminToken,
    /// Answers from a chat.
    pub chat: Chat,
    /// Unauthenticated TCP callers. Their failures are counted together with the failed logins of the wire.
    pub strangers: Strangers,
    /// Lookup of a target of the configuration in force, with the roles of its grants.
    pub target_state: TargetFinder,
    /// Status of the targets' databases at the last check of their profiles.
    pub profiles: watch::Receiver<BTreeMap<TargetName, Vec<model::ProfileStatus>>>,
    /// Host and port that clients connect to, for connection strings.
    pub advertise: String,
    /// Certificate that clients see at that address.
    pub tls: ServerTlsCell,
    /// Readiness: `Ok` if the gate takes sessions, and the reason otherwise.
    pub ready: Box<dyn Fn() -> Result<(), String> + Send + Sync>,
    /// Liveness: `Ok` if the parts that carry sessions make progress, and the stuck part otherwise.
    pub alive: Box<dyn Fn() -> Result<(), String> + Send + Sync>,
    /// State of forwarding the log; `None` if no receiver is configured.
    pub forwarding: Box<dyn Fn() -> Option<model::ForwardingStatus> + Send + Sync>,
    /// Channel for reload orders.
    pub reload: mpsc::Sender<ReloadOrder>,
    /// Number of simultaneous connections per listener.
    pub places: usize,
    /// Metrics in the Prometheus text format.
    pub metrics: Box<dyn Fn() -> String + Send + Sync>,
}
