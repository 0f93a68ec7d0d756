//! Admission of clients that have proved a grant's secret: lets them in or returns the reason why not, and opens the window at
//! the first one.
//!
//! This module does not decide: [`grant::permit`] does, here as on every later change. If the window is open, admission touches
//! memory only.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::watch;

use super::cache::GrantEntry;
use super::{Ledger, LedgerError};
use crate::base::error_chain::display_chain;
use crate::model::ending::Ending;
use crate::model::grant::{self, Grant, GrantChange, GrantState, Permit, PermitQuery};
use crate::model::ids::GrantId;

/// Right to begin a session.
#[derive(Debug)]
pub struct AdmittedSession {
    /// Proof that the grant covers the session, with the time until which it does.
    pub permit: Permit,
    /// Grant, now and after every change. [`Permit::renew`] has to check it again whenever it changes.
    pub changes: watch::Receiver<Arc<Grant>>,
    /// Place of the session among those that the grant allows.
    pub slot: SessionPermit,
}

/// One of the concurrent sessions that a grant allows. Free again when dropped.
pub struct SessionPermit(Arc<GrantEntry>);

impl Drop for SessionPermit {
    fn drop(&mut self) {
        let mut live = self.0.extra.sessions.lock();
        *live = live.saturating_sub(1);
    }
}

impl std::fmt::Debug for SessionPermit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Slot")
    }
}

/// Reason why a client is not let in: the grant refuses it, or the ledger failed.
enum AdmissionError {
    Refused(Ending),
    Failed(LedgerError),
}

impl From<LedgerError> for AdmissionError {
    fn from(error: LedgerError) -> Self {
        Self::Failed(error)
    }
}

impl Ledger {
    /// Admits a client under a grant whose secret it has proved. `database` is the one that the client asked for, if any.
    /// `recheck` checks a grant that came of a request once more before its window opens.
    pub async fn admit(
        &self,
        id: &GrantId,
        database: Option<&str>,
        client: IpAddr,
        recheck: impl FnOnce(&Grant) -> Result<(), Ending> + Send + 'static,
    ) -> Result<AdmittedSession, Ending> {
        let found = self.recall(id).await.map_err(|error| error.at_login())?;
        let Some(entry) = found else {
            return Err(unknown(id));
        };
        self.shut_out(&entry);
        if !entry.current().status(self.0.clock.now()).ended() {
            self.0.is_settled(&entry).await.map_err(|error| error.at_login())?;
        }
        // The subscription comes before the check: a change made after the check is then seen as a change.
        let mut changes = entry.state.subscribe();
        if entry.current().status(self.0.clock.now()) == GrantState::Ready {
            // Boxed: only the first login takes the memory for it.
            Box::pin(self.open_window(&entry, database, client, recheck)).await?;
        }
        let mut live = entry.extra.sessions.lock();
        let grant = changes.borrow_and_update().clone();
        let question = PermitQuery {
            now: self.0.clock.now(),
            database,
            client,
            live_sessions: *live,
        };
        let permit = grant::permit(&grant, &question).map_err(|refusal| refusal.at_login(&grant))?;
        *live = live.saturating_add(1);
        drop(live);
        Ok(AdmittedSession {
            permit,
            changes,
            slot: SessionPermit(entry),
        })
    }

    /// Checks a client as [`Ledger::admit`] does first, but opens no window and takes no place among the sessions. Returns the grant,
    /// now and after every change.
    pub async fn admissible(
        &self,
        id: &GrantId,
        database: Option<&str>,
        client: IpAddr,
    ) -> Result<watch::Receiver<Arc<Grant>>, Ending> {
        let found = self.recall(id).await.map_err(|error| error.at_login())?;
        let Some(entry) = found else {
            return Err(unknown(id));
        };
        self.shut_out(&entry);
        let mut changes = entry.state.subscribe();
        let (grant, now) = (changes.borrow_and_update().clone(), self.0.clock.now());
        // Tentatively: a client that would be refused afterwards waits for nothing.
        let opened = grant::apply(&grant, &GrantChange::Activate, now);
        let question = PermitQuery {
            now,
            database,
            client,
            live_sessions: 0,
        };
        let covered = grant::permit(opened.as_ref().unwrap_or(&grant), &question);
        covered.map_err(|refusal| refusal.at_login(&grant))?;
        Ok(changes)
    }

    /// Ends the grants of an identity that is disabled, before one is used: this one was made while the identity was being
    /// disabled, or the gate crashed before it was revoked with the others.
    fn shut_out(&self, entry: &GrantEntry) {
        let grant = entry.current();
        if !grant.status(self.0.clock.now()).ended() {
            // This revokes the grant; the check of the grant then refuses the client.
            let _ = self.0.end_if_shut_out(grant.identity());
        }
    }

    /// Activates the grant, but not for a client that would be refused afterwards (a mistyped database must not start the
    /// window).
    async fn open_window(
        &self,
        entry: &Arc<GrantEntry>,
        database: Option<&str>,
        client: IpAddr,
        recheck: impl FnOnce(&Grant) -> Result<(), Ending> + Send + 'static,
    ) -> Result<(), Ending> {
        let database = database.map(str::to_owned);
        let admissible = move |next: &Grant, now| {
            let question = PermitQuery {
                now,
                database: database.as_deref(),
                client,
                live_sessions: 0,
            };
            grant::permit(next, &question).map_err(|refusal| AdmissionError::Refused(refusal.at_login(next)))?;
            if next.request().is_some() {
                recheck(next).map_err(AdmissionError::Refused)?;
            }
            Ok(())
        };
        match self.activate(entry, admissible).await {
            Ok(()) => Ok(()),
            Err(AdmissionError::Refused(ending)) => Err(ending),
            Err(AdmissionError::Failed(error)) => {
                tracing::error!(grant = %entry.current().id(), error = %display_chain(&error), "cannot activate a grant; refusing the login");
                Err(error.at_login())
            }
        }
    }
}

/// Returns the ending of a client that proved a secret of a grant which the ledger has forgotten since.
fn unknown(id: &GrantId) -> Ending {
    Ending::BadSecret {
        user: id.to_string(),
        held: None,
    }
}

impl LedgerError {
    /// Returns the ending for a client that cannot be let in because of this error.
    pub(crate) fn at_login(&self) -> Ending {
        match self {
            Self::Audit(error) => Ending::AuditFailed {
                disk_full: error.disk_full(),
            },
            _ => Ending::LedgerFailed,
        }
    }
}
