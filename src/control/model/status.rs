//! Bodies about the gate itself: its state, that of its log, and of the log's way to a receiver.
//!
//! They are plain data, like all of [`super`].

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use utoipa::ToSchema;

/// State of the gate: `GET /v1/status`.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GateStatus {
    /// Reason why the gate takes no sessions; absent if it takes them.
    #[schema(nullable = false)]
    pub not_ready: Option<String>,
    /// Part that makes no progress; absent if all do.
    #[schema(nullable = false)]
    pub not_alive: Option<String>,
    /// Gate time.
    pub gate_time: Timestamp,
    /// Version of the gate.
    pub version: String,
    /// Host and port that clients connect to.
    pub advertise: String,
    /// Number of sessions that run or are ending.
    pub sessions: usize,
    /// State of the audit log.
    pub log: LogStatus,
    /// State of forwarding; absent if no receiver is configured.
    #[schema(nullable = false)]
    pub forwarding: Option<ForwardingStatus>,
}

/// State of the audit log: `GET /v1/audit/status`.
#[skip_serializing_none]
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogStatus {
    /// Number of the last line.
    pub last: u64,
    /// Last line that a checkpoint of this run covers.
    #[schema(nullable = false)]
    pub signed_to: Option<u64>,
    /// Time of that checkpoint.
    #[schema(nullable = false)]
    pub signed_at: Option<Timestamp>,
    /// Lines that this start of the gate found to be missing.
    #[schema(nullable = false)]
    pub gap: Option<String>,
    /// Reason why the gate takes no sessions, such as a log that cannot be written.
    #[schema(nullable = false)]
    pub not_ready: Option<String>,
}

/// State of forwarding the log to a syslog receiver.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ForwardingStatus {
    /// Host and port of the receiver.
    pub receiver: String,
    /// Number of lines sent since the start; a line that was sent twice counts twice.
    pub sent: u64,
    /// Number of lines, since the start, that were removed before they could be sent.
    pub missed: u64,
    /// Last line that counts as received: its connection was still good 15 seconds later.
    pub received_to: u64,
    /// Time in seconds that the oldest line has waited that is not sent.
    pub lag_seconds: u64,
    /// Last failure since the start.
    #[schema(nullable = false)]
    pub failure: Option<String>,
    /// Time of that failure.
    #[schema(nullable = false)]
    pub failed_at: Option<Timestamp>,
}

/// Result of a verification of the newest part of the log: `GET /v1/audit/verification`.
///
/// It says nothing of the lines before `first`, and nothing against a holder of the gate's own key.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VerificationBody {
    /// True if no flaw was found in the lines that were read.
    pub whole: bool,
    /// First flaw.
    #[schema(nullable = false)]
    pub flaw: Option<String>,
    /// Remedy for that flaw.
    #[schema(nullable = false)]
    pub remedy: Option<String>,
    /// First line that was read.
    pub first: u64,
    /// Last good line.
    pub last: u64,
    /// Last line that is signed with the gate's key.
    pub proven: u64,
    /// Faults that the gate recorded about its log, and other remarks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
    /// Time of the verification.
    pub checked_at: Timestamp,
}
