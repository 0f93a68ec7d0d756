//! Errors of a gate that does not start.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::TooFewDescriptorsError;
use crate::audit::AuditError;
use crate::audit::key::KeyError;
use crate::base::tls::TlsError;
use crate::control;
use crate::gate::sql_filter::FilterRulesError;
use crate::ledger::{LedgerError, StoreError};
use crate::outbound::notify::OutboxError;

/// Error of a start, or of a reload.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The state folder cannot be created.
    #[error("cannot create the state folder {}", path.display())]
    State {
        /// Path of the folder.
        path: PathBuf,
        /// Reason from the operating system.
        source: std::io::Error,
    },
    /// The state folder is in use by another gate.
    #[error("the state folder {} is in use by {holder}; stop that gate, or set another state_dir for this one", path.display())]
    StateInUse {
        /// Path of the folder.
        path: PathBuf,
        /// The process that holds the folder, as far as it is known.
        holder: String,
    },
    /// The gate cannot listen on a configured address.
    #[error("cannot listen on {address}")]
    Listen {
        /// Address from the configuration.
        address: SocketAddr,
        /// Reason from the operating system.
        source: std::io::Error,
    },
    /// The limit of open files is too low.
    #[error(transparent)]
    Descriptors(#[from] TooFewDescriptorsError),
    /// The session threads cannot be started.
    #[error("cannot start a thread")]
    Threads(#[source] std::io::Error),
    /// The signal handlers cannot be installed.
    #[error("cannot listen for signals")]
    Signals(#[source] std::io::Error),
    /// A certificate, key or CA is invalid.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The guard rails of a profile are invalid.
    #[error(transparent)]
    Rails(#[from] FilterRulesError),
    /// The audit log cannot be opened or written.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The key for hashed parameters cannot be read or created.
    #[error(transparent)]
    Values(#[from] KeyError),
    /// The store of the grants cannot be opened.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The store of the grants cannot be read before it is opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The outbox of notifications cannot be opened.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    /// The control API cannot listen.
    #[error(transparent)]
    Control(#[from] control::ListenError),
    /// The admin token cannot be read or created.
    #[error(transparent)]
    Token(#[from] control::AdminTokenError),
}
