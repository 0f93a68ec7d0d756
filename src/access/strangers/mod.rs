//! Unauthenticated clients ("strangers"): limits on their connections, on failed proofs, and on the records they cause.
//!
//! This module reads nothing from connections and checks no proofs. The wire and the control API share it, so that a failure
//! counts at both.
//!
//! INVARIANT: strangers cannot reduce the service for authenticated clients. An idle stranger displaces only strangers, failures
//! delay only failures, and the records of strangers leave a reserve on the disk.

mod failures;
mod network;
mod permits;
mod refusals;
mod reserve;

pub use failures::{Delay, FailedLogins, HeldBackCounts};
pub(super) use network::Network;
pub use network::canonical;
pub use permits::{ConnectionPermit, Displaced, Proof, StrangerLimits, Strangers};
pub use refusals::RefusalLog;
