//! Notices about grants: told when a grant changes, and when its time has come.
//!
//! This module does not know who is told. It holds the times of the windows that are open, and reads a grant again when its time
//! has come: a change that it missed, or a clock that was set, makes no notice wrong.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::broadcast::{Receiver, error::RecvError};

use super::agenda::Agenda;
use super::{GrantNotice, NEWS, Notice, Notifier};
use crate::base::clock::Clock;
use crate::base::error_chain::display_chain;
use crate::ledger::{ChangedSubject, Ledger, LedgerError};
use crate::model::grant::Grant;
use crate::model::ids::GrantId;

/// Wait after the ledger could not be read.
const RETRY_AFTER: SignedDuration = SignedDuration::from_mins(1);

impl Notifier {
    /// Enqueues the notices of grants, until the ledger is closed. `changes` is [`Ledger::changes`]. All grants that had not ended
    /// a day ago are read first, and again when changes were missed; the outbox recognises notices that it already has by their
    /// ids.
    pub async fn run_grants(self, ledger: Ledger, mut changes: Receiver<ChangedSubject>) {
        let clock = &self.0.clock;
        let mut agenda = Agenda::default();
        let mut read_at = Some(clock.now());
        loop {
            let next = read_at.into_iter().chain(agenda.next()).min();
            tokio::select! {
                change = changes.recv() => match change {
                    Ok(ChangedSubject::Grant(view)) => self.look_at(view.grant, &mut agenda).await,
                    Ok(ChangedSubject::Request(_)) => {}
                    Err(RecvError::Lagged(_)) => read_at = Some(clock.now()),
                    Err(RecvError::Closed) => return,
                },
                () = due(clock, next) => {
                    if read_at.is_some_and(|at| at <= clock.now()) {
                        read_at = self.look_at_all(&ledger, &mut agenda).await;
                    }
                    while let Some(grant) = agenda.take_due(clock.now()) {
                        self.look_again(&ledger, &grant, &mut agenda).await;
                    }
                }
            }
        }
    }

    /// Looks at all grants that may have news. Returns the time of the next attempt if they cannot be read.
    async fn look_at_all(&self, ledger: &Ledger, agenda: &mut Agenda) -> Option<Timestamp> {
        let now = self.0.clock.now();
        match ledger.grants_unended_at(later(now, -NEWS)).await {
            Ok(grants) => {
                for grant in grants {
                    self.look_at(grant, agenda).await;
                }
                None
            }
            Err(error) => {
                tracing::error!(error = %display_chain(&error), "grants cannot be read: their holders are told later");
                Some(later(now, RETRY_AFTER))
            }
        }
    }

    async fn look_again(&self, ledger: &Ledger, grant: &GrantId, agenda: &mut Agenda) {
        match ledger.grant(grant).await {
            Ok(view) => self.look_at(view.grant, agenda).await,
            Err(LedgerError::NoSuchGrant(_)) => {}
            Err(error) => {
                tracing::error!(%grant, error = %display_chain(&error), "a grant cannot be read: its holder is told later");
                agenda.put(grant, Some(later(self.0.clock.now(), RETRY_AFTER)));
            }
        }
    }

    /// Enqueues the notice that follows from the state of a grant, and notes the time of the next one.
    async fn look_at(&self, grant: Grant, agenda: &mut Agenda) {
        let (grant, now) = (Arc::new(grant), self.0.clock.now());
        agenda.put(grant.id(), GrantNotice::next_at(&grant, now));
        if let Some(notice) = GrantNotice::of(&grant, now).filter(|notice| now.duration_since(notice.at()) < NEWS) {
            self.tell(&Notice::Grant(notice)).await;
        }
    }
}

async fn due(clock: &Clock, at: Option<Timestamp>) {
    match at {
        Some(at) => clock.sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn later(time: Timestamp, by: SignedDuration) -> Timestamp {
    time.saturating_add(by).unwrap_or(Timestamp::MAX)
}
