//! What a dead gate left behind: sessions the store still has open. Their backends are ended and their end is put on record.
//!
//! It runs before anybody is let in; what cannot be confirmed then is tried again until it is.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::roles;
use crate::audit::Journal;
use crate::audit::event::{Event, SessionEnded, Who};
use crate::clock::Clock;
use crate::ending::{Ending, Fate};
use crate::ledger::{Ledger, LedgerError, OpenSession};
use crate::names::TargetName;
use crate::session::TargetRoom;

/// How long after one try the next one begins.
const AGAIN: Duration = Duration::from_secs(5);

/// What reaping needs.
#[derive(Clone)]
pub(super) struct Reaper {
    pub(super) ledger: Ledger,
    pub(super) journal: Journal,
    pub(super) clock: Clock,
    pub(super) rooms: HashMap<TargetName, Arc<TargetRoom>>,
}

impl Reaper {
    /// Reaps once, sessions and then roles; returns what is left to be tried again.
    pub(super) async fn reap(&self) -> Result<Vec<OpenSession>, LedgerError> {
        let leftovers = self.ledger.leftovers().await?;
        let found = leftovers.len();
        let left = self.end(leftovers).await;
        if found > 0 {
            tracing::warn!(found, left = left.len(), "sessions of a gate that died were reaped");
        }
        roles::reap_at_start(&self.rooms, &self.ledger).await;
        Ok(left)
    }

    /// Tries until nothing is left.
    pub(super) async fn go_on(self, mut left: Vec<OpenSession>) {
        while !left.is_empty() {
            tokio::time::sleep(AGAIN).await;
            left = self.end(left).await;
        }
    }

    async fn end(&self, leftovers: Vec<OpenSession>) -> Vec<OpenSession> {
        let mut by_target: HashMap<TargetName, Vec<OpenSession>> = HashMap::new();
        for session in leftovers {
            by_target.entry(session.target.clone()).or_default().push(session);
        }
        let mut left = Vec::new();
        for (target, sessions) in by_target {
            let Some(room) = self.rooms.get(&target) else {
                // Its target is no longer configured: there is nobody to ask, and nothing to be let in to.
                for session in &sessions {
                    self.record(session, false).await;
                }
                continue;
            };
            let reaped = room.terminator.reap(&sessions).await;
            for session in sessions {
                if reaped
                    .iter()
                    .any(|reaped| reaped.session == session.session && reaped.confirmed)
                {
                    self.record(&session, true).await;
                } else {
                    left.push(session);
                }
            }
        }
        left
    }

    async fn record(&self, open: &OpenSession, gone: bool) {
        let ending = Ending::GateDied;
        let lived = self.clock.now().duration_since(open.opened_at);
        let record = SessionEnded {
            who: Who {
                session: open.session.clone(),
                grant: open.grant.clone(),
                identity: open.identity.clone(),
                target: open.target.clone(),
            },
            ending: ending.name().to_owned(),
            sqlstate: ending.sqlstate().to_owned(),
            detail: Some("found open by the next start of the gate".to_owned()),
            fate: Fate::Unknown.name().to_owned(),
            duration_us: u64::try_from(lived.as_micros()).unwrap_or(0),
            statements: 0,
            rows: 0,
            bytes_in: 0,
            bytes_out: 0,
            client_told: None,
            backend_gone: Some(gone),
            overshoot_us: None,
        };
        if let Err(error) = self.journal.record(&Event::SessionEnded(Cow::Owned(record))).await {
            tracing::error!(session = %open.session, %error, "the end of a reaped session could not be put on record");
            return;
        }
        if let Err(error) = self.ledger.session_closed(&open.session).await {
            tracing::error!(session = %open.session, %error, "a reaped session could not be closed in the store");
        }
    }
}
