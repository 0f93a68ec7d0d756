//! The sessions that are alive: to list them and to give them orders.
//!
//! (What the control API needs of it; the sessions themselves are still to come.)

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::audit::event::Who;
use crate::ids::SessionId;

/// A running session as operators see it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SessionView {
    /// Who, under which grant, where to.
    #[serde(flatten)]
    pub who: Who,
    /// The client's address and port.
    pub client: SocketAddr,
    /// The application name it gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application: Option<String>,
    /// When it began.
    pub since: Timestamp,
    /// When its grant ends, as things stand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// `active` while a statement runs, else `idle`.
    pub state: String,
    /// Executed statements.
    pub statements: u64,
    /// The process id of the target's backend.
    pub backend_pid: i32,
}

/// The running sessions of a gate.
#[derive(Debug, Default)]
pub struct Registry {
    sessions: Mutex<HashMap<SessionId, SessionView>>,
}

impl Registry {
    /// The running sessions, oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<SessionView> {
        let mut views: Vec<_> = self
            .sessions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect();
        views.sort_by(|a, b| (a.since, &a.who.session).cmp(&(b.since, &b.who.session)));
        views
    }

    /// Tells a session to end. False when there is none of that id.
    pub fn kill(&self, session: &SessionId, _reason: Option<String>) -> bool {
        self.sessions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains_key(session)
    }
}
