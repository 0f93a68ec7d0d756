//! Notices about grants: told when a grant changes, and when its time has come.
//!
//! This module does not know who is told. It holds the times of the windows that are open. A change, and a time that has come, only
//! say which grant to look at: a notice follows from the state that the ledger has then, not from that of a change long ago.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::time::Instant;

use super::agenda::Agenda;
use super::{GrantNotice, NEWS, Notifier};
use crate::base::clock::Clock;
use crate::base::error_chain::display_chain;
use crate::ledger::{ChangedSubject, Ledger, LedgerError};
use crate::model::grant::Grant;
use crate::model::ids::GrantId;

/// Wait after the ledger could not be read.
const RETRY_INTERVAL: Duration = Duration::from_mins(1);

impl Notifier {
    /// Enqueues the notices of grants for as long as there are `changes`, which are [`Ledger::changes`]. All grants that had not
    /// ended a day ago are read first, and again when changes were missed; the outbox recognises notices that it already has by
    /// their ids.
    pub async fn run_grants(self, ledger: Ledger, mut changes: Receiver<ChangedSubject>) {
        let clock = &self.0.clock;
        let mut agenda = Agenda::default();
        // Monotonic: a clock that is set back does not put it off.
        let mut read_at = Some(clock.moment().instant);
        loop {
            let looked = tokio::select! {
                change = changes.recv() => match change {
                    Ok(ChangedSubject::Grant(view)) => self.look_at(&ledger, view.grant.id(), &mut agenda).await,
                    Ok(ChangedSubject::Request(_)) => Ok(()),
                    Err(RecvError::Lagged(_)) => {
                        read_at = Some(clock.moment().instant);
                        Ok(())
                    }
                    Err(RecvError::Closed) => return,
                },
                () = reached(read_at) => {
                    read_at = None;
                    self.look_at_all(&ledger, &mut agenda).await
                }
                () = due(clock, agenda.next()) => match agenda.take_due(clock.now()) {
                    Some(grant) => self.look_at(&ledger, &grant, &mut agenda).await,
                    None => Ok(()),
                },
            };
            if let Err(error) = looked {
                tracing::error!(error = %display_chain(&error), "grants cannot be read: their holders are told later");
                read_at.get_or_insert_with(|| clock.moment().instant + RETRY_INTERVAL);
            }
        }
    }

    /// Looks at all grants that may have news, and enqueues their notices in the order of time.
    async fn look_at_all(&self, ledger: &Ledger, agenda: &mut Agenda) -> Result<(), LedgerError> {
        let now = self.0.clock.now();
        let day_ago = now.saturating_add(-NEWS).unwrap_or(Timestamp::MIN);
        let grants = ledger.grants_unended_at(day_ago).await?;
        let mut notices: Vec<_> = grants.into_iter().filter_map(|grant| noted(grant, now, agenda)).collect();
        notices.sort_by_key(GrantNotice::at);
        self.told_of(notices).await;
        Ok(())
    }

    /// Enqueues the notice that follows from the present state of a grant.
    async fn look_at(&self, ledger: &Ledger, grant: &GrantId, agenda: &mut Agenda) -> Result<(), LedgerError> {
        match ledger.grant(grant).await {
            Ok(view) => self.told_of(noted(view.grant, self.0.clock.now(), agenda)).await,
            Err(LedgerError::NoSuchGrant(_)) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// Notes the time of the next notice of a grant, and returns the one that follows from its state now.
fn noted(grant: Grant, now: Timestamp, agenda: &mut Agenda) -> Option<GrantNotice> {
    agenda.put(grant.id(), GrantNotice::next_at(&grant, now));
    GrantNotice::of(&Arc::new(grant), now)
}

async fn due(clock: &Clock, at: Option<Timestamp>) {
    match at {
        Some(at) => clock.sleep_until(at).await,
        None => std::future::pending().await,
    }
}

async fn reached(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
