//! Reading of the audit log: by those who may read all of it, and by those who may watch the sessions of one grant.
//!
//! It reads nothing. INVARIANT: a reading is on record before anything is read. A page that renews itself is one reading, and one more
//! each hour.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;

use super::recorded_decision::RecordedDecision;
use super::{AccessError, AccessService, Caller};
use crate::access::policy::Action;
use crate::model::ids::GrantId;
use crate::model::names::IdentityName;

/// Time after which the reading of a page that renews itself is recorded again.
const RECORD_INTERVAL: SignedDuration = SignedDuration::from_hours(1);
/// Maximum number of readings that are remembered; what is forgotten is recorded again.
const MAX_READINGS: usize = 10_000;

/// Identity that reads, and the grant whose records it reads; `None`: all records.
type Reading = (IdentityName, Option<GrantId>);

/// Readings that are on record, with the time.
#[derive(Debug, Default)]
pub(super) struct RecordedReadings(Mutex<HashMap<Reading, Timestamp>>);

impl RecordedReadings {
    fn has(&self, reading: &Reading, now: Timestamp) -> bool {
        self.0.lock().get(reading).is_some_and(|at| is_recent(*at, now))
    }

    fn add(&self, reading: Reading, now: Timestamp) {
        let mut readings = self.0.lock();
        if readings.len() >= MAX_READINGS {
            readings.retain(|_, at| is_recent(*at, now));
        }
        if readings.len() >= MAX_READINGS {
            readings.clear();
        }
        readings.insert(reading, now);
    }
}

/// Returns true if less than an hour is between two times, whichever is first: a clock may have been set back.
fn is_recent(at: Timestamp, now: Timestamp) -> bool {
    now.duration_since(at).abs() < RECORD_INTERVAL
}

impl AccessService {
    /// Returns true if the caller would be allowed to read the whole log. Nothing is recorded.
    #[must_use]
    pub fn would_read_log(&self, caller: &Caller) -> bool {
        self.would(caller, Action::ReadLog)
    }

    /// Checks that the caller may read the whole log, and records that. `renewal`: a page asks by itself, and is not recorded again
    /// within an hour.
    pub async fn may_read_log(&self, caller: &Caller, renewal: bool) -> Result<(), AccessError> {
        let reading = (caller, None);
        if renewal && self.is_recorded(reading) && self.would_read_log(caller) {
            return Ok(());
        }
        self.may(caller, Action::ReadLog).await?;
        self.remember(reading);
        Ok(())
    }

    /// Returns true if the caller may read the records of a grant, whose sessions they may watch, and records that as
    /// [`AccessService::may_read_log`] does.
    pub async fn may_read_grant(&self, caller: &Caller, grant: &GrantId, renewal: bool) -> Result<bool, AccessError> {
        let Caller::Person(who, _) = caller else { return Ok(true) };
        let Some(decision) = self.watching(who, grant).await else {
            return Ok(false);
        };
        let reading = (caller, Some(grant));
        if renewal && self.is_recorded(reading) {
            return Ok(true);
        }
        let decided = RecordedDecision {
            decision,
            action: Action::ReadLog,
            who: who.name().clone(),
            client: who.client,
            via: who.via,
            policy_set: self.rules().policy_set(),
            advice: String::new(),
            sign_in_again: false,
        };
        self.settled(&decided, grant.as_str()).await?;
        self.remember(reading);
        Ok(true)
    }

    fn is_recorded(&self, (caller, grant): (&Caller, Option<&GrantId>)) -> bool {
        let who = caller.person().map(|who| who.name().clone());
        who.is_ok_and(|who| self.0.readings.has(&(who, grant.cloned()), self.0.clock.now()))
    }

    fn remember(&self, (caller, grant): (&Caller, Option<&GrantId>)) {
        if let Ok(who) = caller.person() {
            let reading = (who.name().clone(), grant.cloned());
            self.0.readings.add(reading, self.0.clock.now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_bounded_and_ends() {
        let readings = RecordedReadings::default();
        let at = |minutes: i64| Timestamp::from_second(1_800_000_000 + 60 * minutes).unwrap();
        let reading = |number: usize| (format!("u{number}").parse().unwrap(), None);
        readings.add(reading(0), at(0));
        assert!(readings.has(&reading(0), at(59)) && !readings.has(&reading(0), at(60)));
        assert!(!readings.has(&reading(1), at(0)));
        let of_grant = (reading(0).0, Some(GrantId::from_random([7; 10])));
        assert!(!readings.has(&of_grant, at(0)), "of one grant it is another reading");
        for number in 0..=2 * MAX_READINGS {
            readings.add(reading(number), at(1));
            assert!(readings.0.lock().len() <= MAX_READINGS);
        }
        assert!(readings.has(&reading(2 * MAX_READINGS), at(1)));
    }
}
