//! What a report consists of: numbers and lists, and nothing of how they look.
//!
//! It is filled by [`super::Collector`] and shown by others.

use std::collections::BTreeMap;

use jiff::Timestamp;

pub use super::listed::Listed;
use super::unread::UnreadStatements;
use crate::audit::event::Who;
use crate::audit::verify::Verdict;
use crate::ids::{GrantId, RequestId, SessionId};
use crate::names::{IdentityName, ProfileName, TargetName};

/// From when to when; the end is not in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    /// The first moment.
    pub from: Timestamp,
    /// The first moment after it.
    pub to: Timestamp,
}

impl Period {
    /// Whether a time is in it.
    #[must_use]
    pub fn has(&self, time: Timestamp) -> bool {
        self.from <= time && time < self.to
    }
}

/// What a log says about a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Which time.
    pub period: Period,
    /// Every grant that was there in it, oldest first.
    pub grants: Vec<GrantLife>,
    /// Requests and other wishes that were not granted.
    pub denials: Listed<Denial>,
    /// Logins and tokens that were refused, equal ones together.
    pub refusals: Vec<Refusals>,
    /// Refusals of kinds that were too many to be listed.
    pub refusals_more: u64,
    /// Sessions by why they ended.
    pub endings: BTreeMap<String, u64>,
    /// Sessions that had not ended at its end.
    pub open_sessions: u64,
    /// Sessions whose end is not on record: the gate died.
    pub lost_sessions: u64,
    /// How late sessions that the gate ended were gone.
    pub overshoots: Overshoots,
    /// Local users that were made or changed.
    pub identities: Listed<Change>,
    /// Policies and configuration that were read.
    pub policies: Listed<Change>,
    /// The gate's and its log's own life: starts, stops, faults, keys, removals.
    pub operation: Listed<Change>,
    /// Records that were refused or given up while the log could not be written.
    pub records_missing: u64,
    /// How often the gate itself found its log cut, changed, or its file gone.
    pub log_damaged: u64,
    /// Every role of a grant that was at a database in it, oldest first.
    pub roles: Vec<RoleLife>,
    /// What guard rails refused, equal ones together.
    pub rails: Vec<RailRefusals>,
    /// Refusals of kinds that were too many to be listed.
    pub rails_more: u64,
    /// Executed statements that could not be read, equal ones together.
    pub unread: Listed<UnreadStatements>,
    /// Statements that ran and were undone.
    pub undone: Listed<Undone>,
    /// Statements that were let through, and what became of those that have no outcome.
    pub statements: Statements,
    /// Records read, up to the period's end.
    pub records: u64,
    /// Lines that could not be read.
    pub unreadable: Listed<String>,
    /// What the proof of the log came to; or why there is none.
    pub verdict: Result<Verdict, String>,
    /// Where the key comes from that the log was held against; `None`: nobody had one.
    pub key_from: Option<String>,
}

/// How many statements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Statements {
    /// Forwarded to be executed.
    pub executed: u64,
    /// Of these, ended with an error.
    pub failed: u64,
    /// Of these, with an outcome that nobody knows: none is on record up to the period's end.
    pub unknown: u64,
}

/// A grant: how it came to be, what it allowed, what was done with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantLife {
    /// Which.
    pub grant: GrantId,
    /// Whose.
    pub identity: IdentityName,
    /// Where to.
    pub target: TargetName,
    /// With which privileges; `None` where the log does not say.
    pub profile: Option<ProfileName>,
    /// How it was asked for; `None`: an operator made it.
    pub asked: Option<Asked>,
    /// Who made it, as the log has it.
    pub by: String,
    /// The reason given with it.
    pub reason: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its window opened.
    pub activated_at: Option<Timestamp>,
    /// When its window ends.
    pub until: Option<Timestamp>,
    /// By when it has to be used first.
    pub activate_by: Timestamp,
    /// The window's length. Seconds.
    pub window_seconds: u64,
    /// When it was revoked, by whom and why.
    pub revoked: Option<(Timestamp, String)>,
    /// How often its end was moved.
    pub moved: u32,
    /// What was done with it in the period.
    pub used: Use,
}

impl GrantLife {
    /// When it was over, as far as is known: a window never opened is over when it cannot be opened any more.
    #[must_use]
    pub fn over_at(&self) -> Timestamp {
        let end = self.until.unwrap_or(self.activate_by);
        self.revoked.as_ref().map_or(end, |(at, _)| end.min(*at))
    }

    /// With which privileges, as its own records have it, or else its request (in logs from before that was on record).
    #[must_use]
    pub fn profile(&self) -> Option<&ProfileName> {
        let asked = self.asked.as_ref().map(|asked| &asked.profile);
        self.profile.as_ref().or(asked)
    }

    /// Why it was asked for, or else why an operator made it.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        let asked = self.asked.as_ref().and_then(|asked| asked.reason.as_deref());
        asked.or(self.reason.as_deref())
    }

    /// Nobody ever logged in with it.
    #[must_use]
    pub fn is_unused(&self) -> bool {
        self.activated_at.is_none() && self.used.sessions == 0
    }
}

/// How access was asked for and by whom it was allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The request.
    pub request: RequestId,
    /// With which privileges.
    pub profile: ProfileName,
    /// Why.
    pub reason: Option<String>,
    /// The ticket.
    pub ticket: Option<String>,
    /// Who said yes: nobody where the policies grant at once.
    pub approvers: Vec<IdentityName>,
    /// The policies that decided, at each step.
    pub policies: Vec<String>,
    /// The set they are of.
    pub policy_set: Option<String>,
    /// It was opened without waiting for anybody.
    pub break_glass: bool,
    /// Who looked at that afterwards, when, and what they said.
    pub review: Option<(IdentityName, Timestamp, Option<String>)>,
}

/// What was done with a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Use {
    /// Sessions begun.
    pub sessions: u64,
    /// Statements executed.
    pub statements: u64,
    /// Rows returned or changed.
    pub rows: u64,
    /// The first thing done.
    pub first: Option<Timestamp>,
    /// The last.
    pub last: Option<Timestamp>,
}

impl Use {
    /// Something was done.
    pub fn at(&mut self, time: Timestamp) {
        self.first.get_or_insert(time);
        self.last = Some(time);
    }
}

/// Something wanted that was not allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// When.
    pub time: Timestamp,
    /// Who wanted it.
    pub identity: IdentityName,
    /// What: a request's id and where to, or an action and what it was about.
    pub wanted: String,
    /// `denied` (by policies) or `rejected` (by a person).
    pub how: String,
    /// Who said no.
    pub by: String,
    /// Why.
    pub reason: Option<String>,
    /// The policies that decided.
    pub policies: Vec<String>,
    /// The set they are of.
    pub policy_set: Option<String>,
}

/// Equal refusals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusals {
    /// Why: an ending's name, or what was wrong with the token.
    pub why: String,
    /// The name that was given, proved or not.
    pub claimed: String,
    /// From where.
    pub client: String,
    /// How often.
    pub count: u64,
    /// The first.
    pub first: Timestamp,
    /// The last.
    pub last: Timestamp,
}

/// A grant's role at its database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleLife {
    /// Whose.
    pub grant: GrantId,
    /// Where.
    pub target: TargetName,
    /// Its name there.
    pub role: String,
    /// When it was made; `None` where the log does not say.
    pub made_at: Option<Timestamp>,
    /// When its grant was over, or will be.
    pub over_at: Option<Timestamp>,
    /// When it was gone.
    pub retired_at: Option<Timestamp>,
    /// The last that went wrong with it.
    pub trouble: Option<String>,
    /// How often somebody had logged in as it past the gate and was ended.
    pub intruders: u64,
}

impl RoleLife {
    /// Whether it was still there at this time although its grant was over.
    #[must_use]
    pub fn is_left(&self, at: Timestamp) -> bool {
        self.retired_at.is_none() && self.over_at.is_some_and(|over| over < at)
    }

    /// Microseconds from its grant's end until it was gone.
    #[must_use]
    pub fn gone_after_us(&self) -> Option<u64> {
        let after = self.retired_at?.duration_since(self.over_at?);
        u64::try_from(after.as_micros()).ok()
    }
}

/// Equal refusals of guard rails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RailRefusals {
    /// Whose statements.
    pub identity: IdentityName,
    /// Where.
    pub target: TargetName,
    /// Of which profile; `None` where the log does not say.
    pub profile: Option<ProfileName>,
    /// The rule.
    pub rule: String,
    /// How often.
    pub count: u64,
    /// The first.
    pub first: Timestamp,
    /// The last.
    pub last: Timestamp,
}

/// Statements that ran and were undone when their transaction ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undone {
    /// When.
    pub time: Timestamp,
    /// Whose.
    pub who: Who,
    /// The number of the first of them in the session.
    pub first: u64,
    /// The number of the last of them.
    pub last: u64,
    /// The SQLSTATE of what undid them.
    pub sqlstate: String,
}

/// How late the ends were that the gate made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Overshoots {
    /// How many sessions were ended by the gate with a known delay.
    pub count: u64,
    /// Half of them were gone after so many microseconds.
    pub p50_us: u64,
    /// The last of them. Microseconds.
    pub max_us: u64,
    /// Those that took more than a second, or whose backend was not confirmed gone.
    pub late: Listed<LateEnd>,
}

/// A session that was not gone in time, or not for sure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LateEnd {
    /// When it ended.
    pub time: Timestamp,
    /// The session.
    pub session: SessionId,
    /// Its grant.
    pub grant: GrantId,
    /// Whose.
    pub identity: IdentityName,
    /// Where.
    pub target: TargetName,
    /// Why it ended.
    pub ending: String,
    /// Microseconds from the deadline until the backend was gone, where that is known.
    pub overshoot_us: Option<u64>,
    /// Whether the target confirmed that the backend is gone.
    pub confirmed: bool,
}

/// Something about the gate itself that changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// When.
    pub time: Timestamp,
    /// Whom or what it concerns.
    pub what: String,
    /// Who did it, if anybody.
    pub by: String,
    /// In what way.
    pub detail: String,
    /// Whether it is one to look at.
    pub remarkable: bool,
}
