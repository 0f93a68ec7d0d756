//! Why a gate does not start: every cause has its own words.
//!
//! It decides nothing.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::TooFewDescriptorsError;
use crate::audit::AuditError;
use crate::audit::values::ValueKeyError;
use crate::control;
use crate::ledger::{LedgerError, StoreError};
use crate::notify::OutboxError;
use crate::rails::InvalidRules;
use crate::tls::TlsError;

/// Why a gate does not start, or does not take a new configuration.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The state folder cannot be made.
    #[error("the state folder {} cannot be made", path.display())]
    State {
        /// The folder.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// Another gate has the state folder.
    #[error("the state folder {} is in use by {holder}: a store has one gate; stop that one, or give this one a state_dir of its own", path.display())]
    StateInUse {
        /// The folder.
        path: PathBuf,
        /// Who has it, as far as it is known.
        holder: String,
    },
    /// An address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// The system gives too few file descriptors.
    #[error(transparent)]
    Descriptors(#[from] TooFewDescriptorsError),
    /// There are no threads.
    #[error("the operating system gives no threads")]
    Threads(#[source] std::io::Error),
    /// Signals cannot be listened for.
    #[error("cannot listen for signals")]
    Signals(#[source] std::io::Error),
    /// A certificate, key or CA.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The guard rails of a profile.
    #[error(transparent)]
    Rails(#[from] InvalidRules),
    /// The log.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The key for hashed parameters.
    #[error(transparent)]
    Values(#[from] ValueKeyError),
    /// The store of the grants.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The store of the grants, before it is opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The outbox of notifications.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    /// The control API.
    #[error(transparent)]
    Control(#[from] control::ListenError),
    /// The admin token.
    #[error(transparent)]
    Token(#[from] control::TokenError),
}
