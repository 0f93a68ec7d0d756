//! Records changes of the ledger in the audit log.
//!
//! This module does not know the reason of a change. In tests its recorder can fail on demand, as with a full disk.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::audit::event::{
    Event, GrantChangeKind, GrantChanged, RequestChangeKind, RequestChanged, SignInChangeKind, SignInChanged, UserChangeKind,
    UserChanged, not_stored_reason,
};
use crate::audit::{AuditError, Journal};
use crate::base::error_chain::display_chain;
use crate::model::grant::{Grant, GrantChange};
use crate::model::ids::LogId;
use crate::model::names::{EnumOrUnknown, IdentityName};
use crate::model::request::{Request, RequestOutcome};
use crate::model::sign_in::SignIn;

use super::views::DecisionReasons;

/// Line of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LogLine {
    pub(super) log: LogId,
    pub(super) segment: u32,
    pub(super) seq: u64,
}

/// Log at the time of the start.
#[derive(Debug)]
pub(super) struct LogPast {
    pub(super) dir: PathBuf,
    pub(super) last: LogLine,
}

/// Destination of the records.
pub(super) enum ChangeRecorder {
    /// Audit log.
    Journal(Journal),
    /// A list that can be told to fail.
    #[cfg(test)]
    Scripted(std::sync::Arc<super::tests::Script>),
}

impl ChangeRecorder {
    /// Records an event; if it succeeds, the record is as durable as the journal makes it.
    pub(super) async fn record(&self, event: &Event<'_>) -> Result<(), AuditError> {
        match self {
            Self::Journal(journal) => journal.record(event).await,
            #[cfg(test)]
            Self::Scripted(script) => script.record(event).await,
        }
    }

    /// Returns the log as former runs have left it, and its current end.
    #[cfg_attr(not(test), expect(clippy::unnecessary_wraps, reason = "a scripted log has no past"))]
    pub(super) fn past(&self) -> Option<LogPast> {
        match self {
            Self::Journal(journal) => {
                let written = journal.written();
                let last = LogLine {
                    log: journal.log().clone(),
                    segment: u32::try_from(written.segment).unwrap_or(u32::MAX),
                    seq: written.last_seq,
                };
                let dir = journal.settings().dir.clone();
                Some(LogPast { dir, last })
            }
            #[cfg(test)]
            Self::Scripted(_) => None,
        }
    }

    /// Records `undone`, which takes back the record of a change that was then not stored.
    pub(super) async fn take_back(&self, undone: &Event<'_>) {
        if let Err(error) = self.record(undone).await {
            tracing::error!(error = %display_chain(&error), record = ?undone, "a change failed but the audit log shows it as done; cannot record its reversal");
        }
    }
}

/// Change of a grant with its author and reason.
#[derive(Debug, Clone)]
pub(super) struct ChangeInfo {
    pub(super) change: GrantChangeKind,
    pub(super) by: String,
    pub(super) reason: Option<String>,
}

impl ChangeInfo {
    pub(super) fn of(change: &GrantChange, by: &str, reason: Option<&str>) -> Self {
        let change = match change {
            GrantChange::Activate => GrantChangeKind::Activated,
            GrantChange::Postpone(_) => GrantChangeKind::Postponed,
            GrantChange::Extend(_) => GrantChangeKind::Extended,
            GrantChange::ShortenBy(_) | GrantChange::ShortenTo(_) => GrantChangeKind::Shortened,
            GrantChange::Revoke { .. } => GrantChangeKind::Revoked,
        };
        Self {
            change,
            by: by.to_owned(),
            reason: reason.map(str::to_owned),
        }
    }

    pub(super) fn created(grant: &Grant) -> Self {
        Self {
            change: GrantChangeKind::Created,
            by: grant.created_by().to_owned(),
            reason: grant.reason().map(str::to_owned),
        }
    }

    /// Returns the event of this change, with the state of `grant` after it.
    pub(super) fn event(&self, grant: &Grant) -> Event<'static> {
        Event::GrantChanged(Cow::Owned(GrantChanged {
            grant: grant.id().clone(),
            identity: grant.identity().clone(),
            target: grant.target().clone(),
            profile: grant.profile().cloned(),
            change: self.change.into(),
            by: self.by.clone(),
            reason: self.reason.clone(),
            activate_by: grant.activate_by(),
            until: grant.until(),
            deadline: grant.deadline(),
            window_seconds: grant.window().as_secs(),
        }))
    }

    /// Returns the change that takes this one back.
    pub(super) fn undone(&self) -> Self {
        Self {
            change: GrantChangeKind::NotStored,
            by: self.by.clone(),
            reason: Some(not_stored_reason(self.change)),
        }
    }
}

/// Step of a request with its author and the policies that decided.
#[derive(Debug, Clone)]
pub(super) struct RequestStepInfo {
    pub(super) change: RequestChangeKind,
    pub(super) by: IdentityName,
    pub(super) reasons: DecisionReasons,
}

impl RequestStepInfo {
    /// Returns the event of this step, with the state of `request` after it.
    pub(super) fn event(&self, request: &Request) -> Event<'static> {
        self.record(request, self.change, words(request, self.change))
    }

    /// Returns the event that takes this step back.
    pub(super) fn undone(&self, unchanged: &Request) -> Event<'static> {
        self.record(unchanged, RequestChangeKind::NotStored, Some(not_stored_reason(self.change)))
    }

    fn record(&self, request: &Request, change: RequestChangeKind, reason: Option<String>) -> Event<'static> {
        let asked = matches!(
            change,
            RequestChangeKind::Denied | RequestChangeKind::Submitted | RequestChangeKind::Granted
        );
        Event::RequestChanged(Cow::Owned(RequestChanged {
            request: request.id.clone(),
            identity: request.wish.identity.clone(),
            target: request.wish.target.clone(),
            profile: request.wish.profile.clone(),
            change: change.into(),
            by: self.by.clone(),
            window_seconds: request.wish.window.as_secs(),
            reason,
            ticket: request.wish.ticket.clone(),
            break_glass: request.wish.break_glass,
            grant: request.grant().cloned(),
            policies: self.reasons.policies.clone(),
            policy_set: self.reasons.policy_set.clone(),
            errors: self.reasons.errors.clone(),
            client: self.reasons.client,
            via: self.reasons.via.map(EnumOrUnknown::from),
            issuer: request.wish.issuer.clone().filter(|_| asked),
            claims: if asked { request.wish.claims.clone() } else { BTreeMap::new() },
        }))
    }
}

/// Returns the reason to record with a step: of the denial, the comment of an approver or reviewer, or the requester's reason.
fn words(request: &Request, change: RequestChangeKind) -> Option<String> {
    match (change, &request.outcome) {
        (RequestChangeKind::Reviewed, _) => request.review.as_ref().map(|review| review.comment.clone()),
        (RequestChangeKind::Approved, _) => request.approvals.last().and_then(|approval| approval.comment.clone()),
        (_, Some(RequestOutcome::Denied { why, .. })) => Some(why.clone()),
        (_, Some(RequestOutcome::Rejected { comment, .. })) => comment.clone(),
        (_, Some(RequestOutcome::Withdrawn { .. })) => None,
        (_, Some(RequestOutcome::Approved { .. }) | None) => request.wish.reason.clone(),
    }
}

/// Returns the event of a user's change.
pub(super) fn user_event<'a>(
    identity: &IdentityName,
    groups: impl Iterator<Item = &'a crate::model::names::GroupName>,
    change: UserChangeKind,
    by: &str,
) -> Event<'static> {
    Event::UserChanged(Cow::Owned(UserChanged {
        identity: identity.clone(),
        change: change.into(),
        by: by.to_owned(),
        groups: groups.map(ToString::to_string).collect(),
    }))
}

/// Returns the event of a sign-in's beginning or end.
pub(super) fn sign_in_event(sign_in: &SignIn, change: SignInChangeKind, by: &str, reason: Option<&str>) -> Event<'static> {
    let begins = change == SignInChangeKind::SignedIn;
    let groups = sign_in.groups.iter().filter(|_| begins);
    Event::SignInChanged(Cow::Owned(SignInChanged {
        sign_in: sign_in.id.clone(),
        identity: sign_in.identity.clone(),
        change: change.into(),
        by: by.to_owned(),
        via: sign_in.via.into(),
        client: sign_in.client,
        issuer: sign_in.issuer.clone(),
        groups: groups.map(ToString::to_string).collect(),
        until: sign_in.expires_at,
        reason: reason.map(str::to_owned),
    }))
}
