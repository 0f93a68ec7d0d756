//! Sets gate time to the machine's clock, on behalf of an operator who has checked that the clock is right.
//!
//! This module does not decide which of the two is right.
//!
//! INVARIANT: setting the time back revives nothing. Before gate time goes back, everything that would be alive again is ended
//! for good, in memory and in the store, and that is on record.

use jiff::Timestamp;
use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::commit::to_the_end;
use super::pending::PendingChange;
use super::row::restrict::{self, RestrictWrite};
use super::sqlite::together;
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

    /// Sets gate time to the machine's clock; if that is back, ends every grant and rejects every pending request first.
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
    fn end_everything(self: &std::sync::Arc<Self>, by: &str) -> Vec<std::sync::Arc<PendingChange>> {
        let mut who: Vec<IdentityName> = self
            .cache
            .lock()
            .live
            .all()
            .map(|entry| entry.current().identity().clone())
            .collect();
        who.extend(self.requests.lock().identities());
        who.sort_unstable();
        who.dedup();
        who.iter().flat_map(|who| self.end_all_of(who, by, SET_BACK)).collect()
    }

    /// Forgets everything that is over, so that it stays in the store only: in memory it would be alive again.
    fn forget_the_future(&self, now: Timestamp) {
        let mut cache = self.cache.lock();
        cache.entries.retain(|_, entry| entry.current().revoked().is_some());
        cache.swept_at = now;
        drop(cache);
        self.requests.lock().forget_unsettled(now);
    }
}

/// Ends in the store what is over by the old time and would not be by the new one, and stores the new time as the highest.
fn set_back(connection: &Connection, (from, to): (Timestamp, Timestamp), by: &str) -> Result<(), StoreError> {
    together(connection, |connection| {
        let back = to < from;
        for (grant, _) in back.then(|| row::load(connection, to)).transpose()?.unwrap_or_default() {
            if grant.revoked().is_none() {
                let revoked = Some(Revocation {
                    at: from,
                    by: by.to_owned(),
                    reason: Some(SET_BACK.to_owned()),
                });
                restrict::apply(
                    connection,
                    &RestrictWrite::Grant(crate::model::grant::Grant { revoked, ..grant }),
                )?;
            }
        }
        let pending = back.then(|| row::requests::load_pending(connection, to));
        for pending in pending.transpose()?.unwrap_or_default() {
            let outcome = Some(RequestOutcome::Withdrawn { at: from });
            let request = Request {
                outcome,
                ..pending.request
            };
            restrict::apply(connection, &RestrictWrite::Request(request))?;
        }
        connection.execute("UPDATE gate SET highest_time = ?1", params![to.as_microsecond()])?;
        Ok(())
    })
}
