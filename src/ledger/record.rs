//! Puts the ledger's changes on record.
//!
//! It does not know why a change was made; in tests it can be told to fail, as a full disk would make it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::audit::event::{Event, GrantChanged, RequestChanged, UserChanged};
use crate::audit::{AuditError, Journal};
use crate::causes::in_one_line;
use crate::grant::Grant;
use crate::names::IdentityName;
use crate::request::{Outcome, Request};

use super::replay::Past;
use super::requests::Reasons;

/// The change of a record that takes back the one before: it was not stored, so it did not take place.
pub(super) const NOT_STORED: &str = "not_stored";

/// Where the records go.
pub(super) enum Recorder {
    /// The audit log.
    Journal(Journal),
    /// A list that can be told to fail.
    #[cfg(test)]
    Scripted(std::sync::Arc<super::tests::Script>),
}

impl Recorder {
    /// When this returns well, the record is as durable as records are.
    pub(super) async fn record(&self, event: &Event<'_>) -> Result<(), AuditError> {
        match self {
            Self::Journal(journal) => journal.record(event).await,
            #[cfg(test)]
            Self::Scripted(script) => script.record(event).await,
        }
    }

    /// The log as former runs have left it, and where it is now.
    #[cfg_attr(not(test), expect(clippy::unnecessary_wraps, reason = "a scripted log has no past"))]
    pub(super) fn past(&self) -> Option<Past> {
        match self {
            Self::Journal(journal) => {
                let written = journal.written();
                Some(Past {
                    dir: journal.settings().dir.clone(),
                    log: journal.log().clone(),
                    segment: u32::try_from(written.segment).unwrap_or(u32::MAX),
                    seq: written.last_seq,
                })
            }
            #[cfg(test)]
            Self::Scripted(_) => None,
        }
    }

    /// Takes back `undone` (a record of what was then not stored): it must not stand alone.
    pub(super) async fn take_back(&self, undone: &Event<'_>) {
        if let Err(error) = self.record(undone).await {
            tracing::error!(error = %in_one_line(&error), record = ?undone, "a change failed but the audit log shows it as done; cannot record its reversal");
        }
    }
}

/// Who changed a grant, how and why.
#[derive(Debug, Clone)]
pub(super) struct Deed {
    /// `created`, `activated`, `extended`, `shortened`, `revoked`, `login_issued`, or [`NOT_STORED`].
    pub(super) change: &'static str,
    pub(super) by: String,
    pub(super) reason: Option<String>,
}

impl Deed {
    /// That `grant` has become what it is by this.
    pub(super) fn event(&self, grant: &Grant) -> Event<'static> {
        Event::GrantChanged(Cow::Owned(GrantChanged {
            grant: grant.id().clone(),
            identity: grant.identity().clone(),
            target: grant.target().clone(),
            profile: grant.profile().cloned(),
            change: self.change.to_owned(),
            by: self.by.clone(),
            reason: self.reason.clone(),
            activate_by: grant.activate_by(),
            until: grant.until(),
            deadline: grant.deadline(),
            window_seconds: grant.window().as_secs(),
        }))
    }

    /// The deed that takes this one back.
    pub(super) fn undone(&self) -> Self {
        Self {
            change: NOT_STORED,
            by: self.by.clone(),
            reason: Some(undone(self.change)),
        }
    }
}

/// Who took a request a step further, which step, and by which policies.
#[derive(Debug, Clone)]
pub(super) struct Step {
    /// `denied`, `submitted`, `granted`, `approved`, `rejected`, `withdrawn`, `reviewed`, or [`NOT_STORED`].
    pub(super) change: &'static str,
    pub(super) by: IdentityName,
    pub(super) reasons: Reasons,
}

impl Step {
    /// That `request` has become what it is by this.
    pub(super) fn event(&self, request: &Request) -> Event<'static> {
        self.record(request, self.change, words(request, self.change))
    }

    /// The record that takes this one back.
    pub(super) fn undone(&self, unchanged: &Request) -> Event<'static> {
        self.record(unchanged, NOT_STORED, Some(undone(self.change)))
    }

    fn record(&self, request: &Request, change: &str, reason: Option<String>) -> Event<'static> {
        let asked = ["denied", "submitted", "granted"].contains(&change);
        Event::RequestChanged(Cow::Owned(RequestChanged {
            request: request.id.clone(),
            identity: request.wish.identity.clone(),
            target: request.wish.target.clone(),
            profile: request.wish.profile.clone(),
            change: change.to_owned(),
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
            issuer: request.wish.issuer.clone().filter(|_| asked),
            claims: if asked { request.wish.claims.clone() } else { BTreeMap::new() },
        }))
    }
}

/// What was said at the step: why it was denied, an approver's comment, the requester's reason.
fn words(request: &Request, change: &str) -> Option<String> {
    match (change, &request.outcome) {
        ("reviewed", _) => request.review.as_ref().map(|review| review.comment.clone()),
        ("approved", _) => request.approvals.last().and_then(|approval| approval.comment.clone()),
        (_, Some(Outcome::Denied { why, .. })) => Some(why.clone()),
        (_, Some(Outcome::Rejected { comment, .. })) => comment.clone(),
        (_, Some(Outcome::Withdrawn { .. })) => None,
        (_, Some(Outcome::Approved { .. }) | None) => request.wish.reason.clone(),
    }
}

/// What happened to a user, and by whom.
pub(super) fn user_event<'a>(
    identity: &IdentityName,
    groups: impl Iterator<Item = &'a crate::names::GroupName>,
    change: &str,
    by: &str,
) -> Event<'static> {
    Event::UserChanged(Cow::Owned(UserChanged {
        identity: identity.clone(),
        change: change.to_owned(),
        by: by.to_owned(),
        groups: groups.map(ToString::to_string).collect(),
    }))
}

fn undone(change: &str) -> String {
    format!("the grant store failed; the change `{change}` was not made")
}
