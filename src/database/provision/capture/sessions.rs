//! Sessions whose captured changes may come: by their backends, until their last changes are on record.
//!
//! It reads and records nothing.

use std::collections::HashMap;

use jiff::Timestamp;
use parking_lot::Mutex;

use crate::ledger::OpenSession;
use crate::model::ids::{GrantId, SessionId};

/// Number of ended sessions that are remembered, because not all of their changes are on record.
const MAX_ENDED_SESSIONS: usize = 10_000;
/// Backend of a session, by which its changes are known to be its.
#[derive(Debug, Clone, Copy)]
pub struct SessionBackend<'s> {
    /// Session.
    pub session: &'s SessionId,
    /// Grant of the session, which its role is named after.
    pub grant: &'s GrantId,
    /// Process id of the backend.
    pub pid: i32,
}

impl<'s> From<&'s OpenSession> for SessionBackend<'s> {
    fn from(open: &'s OpenSession) -> Self {
        Self {
            session: &open.session,
            grant: &open.grant,
            pid: open.backend_pid,
        }
    }
}

/// Session whose changes may come.
#[derive(Debug, Clone)]
struct KnownSession {
    session: SessionId,
    since: Timestamp,
    /// Number of the request that its end made.
    ended: Option<u64>,
}

/// Sessions by grant and backend, the oldest first.
#[derive(Debug, Default)]
pub(super) struct CapturingSessions(Mutex<HashMap<(GrantId, i32), Vec<KnownSession>>>);

impl CapturingSessions {
    /// Notes a session that began.
    pub(super) fn know(&self, backend: SessionBackend<'_>, since: Timestamp) {
        let session = KnownSession {
            session: backend.session.clone(),
            since,
            ended: None,
        };
        let mut sessions = self.0.lock();
        sessions
            .entry((backend.grant.clone(), backend.pid))
            .or_default()
            .push(session);
    }

    /// Notes that a session has ended, with the number of the request that its end makes.
    pub(super) fn end(&self, backend: SessionBackend<'_>, asked: u64) {
        let mut sessions = self.0.lock();
        let known = sessions.get_mut(&(backend.grant.clone(), backend.pid));
        for known in known.into_iter().flatten().filter(|known| known.session == *backend.session) {
            known.ended = Some(asked);
        }
    }

    /// Forgets sessions that had ended by a request that was carried out.
    pub(super) fn forget(&self, asked: u64) {
        let mut sessions = self.0.lock();
        for known in sessions.values_mut() {
            known.retain(|known| known.ended.is_none_or(|ended| ended > asked));
        }
        sessions.retain(|_, known| !known.is_empty());
    }

    /// Forgets all ended sessions if there are too many: their changes are then recorded without the session.
    pub(super) fn limit(&self) {
        let ended = self.0.lock().values().flatten().filter(|known| known.ended.is_some()).count();
        if ended > MAX_ENDED_SESSIONS {
            self.forget(u64::MAX);
        }
    }

    /// Returns true if there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }

    /// Returns the session of a grant that a backend served at a time.
    pub(super) fn of(&self, grant: &GrantId, backend: i32, at: Timestamp) -> Option<SessionId> {
        let sessions = self.0.lock();
        let known = sessions.get(&(grant.clone(), backend))?;
        // The clocks may differ, so the only one is the one.
        let [only] = known.as_slice() else {
            let before = known.iter().rev().find(|known| known.since <= at);
            return before.or(known.first()).map(|known| known.session.clone());
        };
        Some(only.session.clone())
    }
}
