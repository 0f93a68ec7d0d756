//! Sets gate time to the machine's clock, on behalf of an operator who has checked that the clock is right.
//!
//! This module does not decide which of the two is right.
//!
//! INVARIANT: setting the time back revives nothing. Before gate time goes back, everything that would be alive again is ended
//! for good, in memory and in the store, and that is on record.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::commit::to_the_end;
use super::pending::PendingChange;
use super::sqlite::{execute, together};
use super::{Ledger, LedgerError, LedgerInner, StoreError, row};
use crate::audit::event::{ClockSet, Event};
use crate::model::grant::Revocation;
use crate::model::names::IdentityName;
use crate::model::request::{Request, RequestOutcome};

/// Gate time and machine time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Clock)]
pub struct ClockView {
    /// Gate time, by which deadlines and records go.
    pub gate_time: Timestamp,
    /// Time of the machine's clock.
    pub machine_time: Timestamp,
    /// Reason why the gate does not trust the machine's clock, if it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub doubt: Option<String>,
}

/// Reason of a revocation because the time goes back.
const SET_BACK: &str = "the gate's clock was set back";

impl Ledger {
    /// Returns gate time and machine time.
    #[must_use]
    pub fn clock(&self) -> ClockView {
        let clock = &self.0.clock;
        ClockView {
            gate_time: clock.now(),
            machine_time: clock.wall(),
            doubt: clock.doubt().map(crate::base::clock::ClockDoubt::words),
        }
    }

    /// Sets gate time to the machine's clock; if that is back, ends every grant and every sign-in and rejects every
    /// pending request first.
    pub async fn set_clock_right(&self, by: &str, reason: Option<&str>) -> Result<ClockView, LedgerError> {
        let ledger = self.clone();
        let (by, reason) = (by.to_owned(), reason.map(str::to_owned));
        to_the_end(async move {
            let inner = &ledger.0;
            // Meanwhile no grant or request is made.
            let _turn = inner.users_turn.write().await;
            let (from, to) = (inner.clock.now(), inner.clock.wall());
            if to < from {
                let items = inner.end_everything(&by);
                inner.all_settled(&items).await?;
            }
            let set = ClockSet {
                from,
                to,
                by: by.clone(),
                reason,
            };
            inner.recorder.record(&Event::ClockSet(set)).await?;
            let store = move |connection: &mut Connection| set_back(connection, (from, to), &by);
            inner.store.write(store).await?;
            inner.clock.set_right();
            if to < from {
                inner.forget_the_future(to);
            }
            Ok(ledger.clock())
        })
        .await
    }
}

impl LedgerInner {
    fn end_everything(self: &Arc<Self>, by: &str) -> Vec<Arc<PendingChange>> {
        let now = self.clock.now();
        let mut who: BTreeSet<IdentityName> = BTreeSet::new();
        who.extend(self.grants.lock().live(now).map(|entry| entry.current().identity().clone()));
        who.extend(
            self.requests
                .lock()
                .live(now)
                .map(|entry| entry.current().wish.identity.clone()),
        );
        who.extend(self.signed_in_identities());
        who.iter().flat_map(|who| self.end_all_of(who, by, SET_BACK)).collect()
    }

    /// Forgets everything that is over, so that it stays in the store only: in memory it would be alive again.
    fn forget_the_future(&self, now: Timestamp) {
        self.grants.lock().forget_the_future(now, |grant| grant.revoked().is_some());
        self.requests
            .lock()
            .forget_the_future(now, |request| request.outcome.is_some());
    }
}

/// Ends in the store what is over by the old time and would not be by the new one, and stores the new time as the highest.
fn set_back(connection: &Connection, (from, to): (Timestamp, Timestamp), by: &str) -> Result<(), StoreError> {
    together(connection, |connection| {
        if to < from {
            for mut grant in row::unended(connection, to)? {
                grant.revoked.get_or_insert(Revocation {
                    at: from,
                    by: by.to_owned(),
                    reason: Some(SET_BACK.to_owned()),
                });
                row::restrict(connection, &grant)?;
            }
            for entry in row::requests::load_pending(connection, to)? {
                let mut request = Request::clone(&entry.current());
                request.outcome = Some(RequestOutcome::Withdrawn { at: from });
                row::requests::settle(connection, &request)?;
            }
            // Those that had not ended are ended by now.
            row::sign_ins::forget_all(connection)?;
        }
        execute(connection, "UPDATE gate SET highest_time = ?1", [to.as_microsecond()]).map(drop)
    })
}
