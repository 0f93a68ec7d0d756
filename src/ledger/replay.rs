//! Replay of the audit log at start: rights that were taken away on record, but not in the store when the gate crashed, are
//! taken away now.
//!
//! This module gives nothing: if the log allows more than the store, the store holds.
//!
//! INVARIANT: after [`catch_up`], the store allows no identity more than the last records about it. Only records after the last
//! line that the store is known to reflect are read: those of a few seconds, whatever the length of the log.

use std::collections::{BTreeSet, HashMap, HashSet};

use jiff::Timestamp;
use rusqlite::Connection;

use super::cache::StoredUser;
use super::record::{LogLine, LogPast};
use super::sqlite::together;
use super::{StoreError, row};
use crate::audit::event::{
    Event, GrantChangeKind, GrantChanged, RequestChangeKind, RequestChanged, SignInChangeKind, SignInChanged, UserChangeKind,
    UserChanged,
};
use crate::audit::{self, Filter, ReadError};
use crate::base::error_chain::display_chain;
use crate::model::grant::{Grant, Revocation};
use crate::model::ids::{GrantId, RequestId, SignInId};
use crate::model::names::{GroupName, IdentityName};
use crate::model::request::{Request, RequestOutcome};
use crate::model::sign_in::SignInEnd;

/// Last recorded state of everything that the new records are about.
#[derive(Debug, Default)]
struct LastWords {
    grants: HashMap<GrantId, (GrantChanged, Option<Revocation>)>,
    requests: HashMap<RequestId, RequestOutcome>,
    users: HashMap<IdentityName, UserWords>,
    sign_ins: HashMap<SignInId, SignInEnd>,
    /// All these events, in the form in which `unrecorded` has them.
    seen: HashSet<String>,
}

/// Last recorded state of one user.
#[derive(Debug, Default)]
struct UserWords {
    disabled: bool,
    groups: Option<BTreeSet<GroupName>>,
    token_withdrawn: bool,
    at: Timestamp,
}

/// Applies the restrictions in the log to the store, and forgets those unrecorded events that are on record. Blocks.
pub(super) fn catch_up(connection: &Connection, past: Option<&LogPast>, now: Timestamp) -> Result<(), StoreError> {
    let Some(past) = past else { return Ok(()) };
    // A store that does not know this log starts with its current end: no record in the log is the store's own, unless the
    // store's version is too old to note the log.
    let words = match row::reflected(connection)? {
        Some(from) if from.log == past.last.log => LastWords::read(past, &from)?,
        _ => LastWords::default(),
    };
    together(connection, |connection| {
        let taken = words.restrict(connection, now)?;
        for (row, event) in row::unrecorded(connection)? {
            let text = serde_json::to_string(&event).unwrap_or_default();
            if words.seen.contains(&text) {
                row::remove_unrecorded(connection, row)?;
            }
        }
        row::put_reflected(connection, &past.last)?;
        if taken > 0 {
            tracing::warn!(
                changes = taken,
                "applied revocations from the audit log that the store lacked"
            );
        }
        Ok(())
    })
}

impl LastWords {
    fn read(past: &LogPast, from: &LogLine) -> Result<Self, StoreError> {
        let filter = Filter {
            after: Some(from.seq),
            ..Filter::default()
        };
        let unreadable = |error: ReadError| StoreError::Log(std::sync::Arc::new(error));
        let mut words = Self::default();
        for record in audit::read_since(&past.dir, &filter, from.segment).map_err(unreadable)? {
            match record {
                Ok(record) => words.hear(record.time, record.event),
                Err(error @ ReadError::Io { .. }) => return Err(unreadable(error)),
                // Opening the log has reported this and begun a new segment; restrictions are stored before they are recorded.
                Err(error) => {
                    tracing::error!(error = %display_chain(&error), "cannot read an audit record newer than the store; a change in it is not applied");
                }
            }
        }
        Ok(words)
    }

    fn hear(&mut self, at: Timestamp, event: Event<'static>) {
        let about_rights = matches!(
            event,
            Event::GrantChanged(_) | Event::RequestChanged(_) | Event::UserChanged(_) | Event::SignInChanged(_)
        );
        if about_rights && let Ok(text) = serde_json::to_string(&event) {
            self.seen.insert(text);
        }
        match event {
            Event::GrantChanged(changed) => self.hear_of_grant(at, changed.into_owned()),
            Event::RequestChanged(changed) => self.hear_of_request(at, changed.into_owned()),
            Event::UserChanged(changed) => self.hear_of_user(at, changed.into_owned()),
            Event::SignInChanged(changed) => self.hear_of_sign_in(at, changed.into_owned()),
            _ => {}
        }
    }

    fn hear_of_grant(&mut self, at: Timestamp, changed: GrantChanged) {
        let revoked = (changed.change == GrantChangeKind::Revoked).then(|| Revocation {
            at,
            by: changed.by.clone(),
            reason: changed.reason.clone(),
        });
        let before = self.grants.remove(&changed.grant).and_then(|(_, revoked)| revoked);
        // A revocation is final.
        self.grants.insert(changed.grant.clone(), (changed, before.or(revoked)));
    }

    fn hear_of_request(&mut self, at: Timestamp, changed: RequestChanged) {
        let outcome = match changed.change.known() {
            Some(RequestChangeKind::Rejected) => RequestOutcome::Rejected {
                at,
                by: changed.by,
                comment: changed.reason,
            },
            Some(RequestChangeKind::Withdrawn) => RequestOutcome::Withdrawn { at },
            Some(
                RequestChangeKind::Denied
                | RequestChangeKind::Submitted
                | RequestChangeKind::Granted
                | RequestChangeKind::Approved
                | RequestChangeKind::Reviewed
                | RequestChangeKind::NotStored,
            )
            | None => return,
        };
        self.requests.entry(changed.request).or_insert(outcome);
    }

    fn hear_of_user(&mut self, at: Timestamp, changed: UserChanged) {
        let words = self.users.entry(changed.identity).or_default();
        words.at = at;
        words.groups = Some(changed.groups.iter().filter_map(|group| group.parse().ok()).collect());
        match changed.change.known() {
            Some(UserChangeKind::Disabled) => words.disabled = true,
            Some(UserChangeKind::Enabled) => words.disabled = false,
            Some(UserChangeKind::TokenWithdrawn) => words.token_withdrawn = true,
            Some(UserChangeKind::Rotated | UserChangeKind::Added) => words.token_withdrawn = false,
            Some(UserChangeKind::Regrouped | UserChangeKind::NotStored) | None => {}
        }
    }

    fn hear_of_sign_in(&mut self, at: Timestamp, changed: SignInChanged) {
        if changed.change == SignInChangeKind::SignedIn {
            return;
        }
        let end = SignInEnd {
            at,
            by: changed.by,
            reason: changed.reason.unwrap_or_default(),
        };
        self.sign_ins.entry(changed.sign_in).or_insert(end);
    }

    /// Restricts the store to the log's last state; returns the number of changes.
    fn restrict(&self, connection: &Connection, now: Timestamp) -> Result<usize, StoreError> {
        let mut taken = 0;
        for (id, (changed, revoked)) in &self.grants {
            let Some(stored) = row::find(connection, id)? else { continue };
            let less = less_of_grant(&stored, changed, revoked.as_ref());
            if less != stored && !stored.status(now).ended() {
                row::restrict(connection, &less)?;
                taken += 1;
            }
        }
        for (id, outcome) in &self.requests {
            let Some(stored) = row::requests::find(connection, id)? else {
                continue;
            };
            let request = Request::clone(&stored.current());
            if request.outcome.is_none() {
                let outcome = Some(outcome.clone());
                row::requests::settle(connection, &Request { outcome, ..request })?;
                taken += 1;
            }
        }
        let known = row::load_users(connection)?;
        for (name, words) in &self.users {
            let stored = known.iter().find(|user| user.name == *name);
            if let Some(less) = words.less_of_user(name, stored).filter(|less| Some(less) != stored) {
                row::put_user(connection, &less)?;
                taken += 1;
            }
        }
        for (id, end) in &self.sign_ins {
            taken += usize::from(row::sign_ins::end(connection, id, end)?);
        }
        Ok(taken)
    }
}

/// Returns the grant with no more rights than its last record allows.
fn less_of_grant(stored: &Grant, last: &GrantChanged, revoked: Option<&Revocation>) -> Grant {
    let earlier = |a: Option<Timestamp>, b: Option<Timestamp>| match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    };
    Grant {
        activate_by: stored.activate_by.min(last.activate_by),
        // Records have whole seconds; the length of an open window follows from its end.
        window: match stored.activated_at {
            Some(_) => stored.window,
            None => stored.window.min(std::time::Duration::from_secs(last.window_seconds)),
        },
        deadline: earlier(stored.deadline, last.deadline),
        until: stored.until.map(|until| last.until.map_or(until, |last| until.min(last))),
        revoked: stored.revoked.clone().or_else(|| revoked.cloned()),
        ..stored.clone()
    }
}

impl UserWords {
    /// Returns the user with no more rights than the last record allows; `None` if there is no such user.
    fn less_of_user(&self, name: &IdentityName, stored: Option<&StoredUser>) -> Option<StoredUser> {
        let Some(stored) = stored else {
            // An issuer's identity is known here only because it is disabled.
            return self.disabled.then(|| StoredUser {
                disabled: true,
                ..StoredUser::unknown(name.clone(), self.at)
            });
        };
        let mut less = stored.clone();
        if let Some(groups) = &self.groups {
            less.groups.retain(|group| groups.contains(group));
        }
        if self.token_withdrawn {
            less.withdraw_token();
        }
        less.disabled |= self.disabled;
        Some(less)
    }
}
