//! Those who have proved nothing yet: the connections they hold, the proofs that failed, and the records they cause.
//!
//! It reads nothing of a connection and proves nothing. The wire and the control API share it, so that the same failures count
//! at both.
//!
//! INVARIANT: a stranger takes nothing from those who proved themselves. Silence displaces strangers only; failures slow down
//! failures only; and their records leave room on the disk.

mod failures;
mod network;
mod permits;
mod refusals;
mod reserve;

pub use failures::{Delay, FailedLogins, HeldBackCounts};
pub use network::canonical;
pub use permits::{ConnectionPermit, Displaced, Proof, StrangerLimits, Strangers};
pub use refusals::RefusalLog;
