//! Grants, requests and users as users and operators see them, and what lists of them are filtered by.
//!
//! It is plain data.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::cache::{Entry, StoredUser};
use crate::base::secret::Secret;
use crate::model::arrival::CallerVia;
use crate::model::grant::Grant;
use crate::model::ids::{GrantId, RequestId, SignInId};
use crate::model::line::LineStanding;
use crate::model::names::{GroupName, IdentityName, TargetName};
use crate::model::request::{Request, RequestState};
use crate::model::sign_in::{SignIn, SignInVia};

/// Progress of a restriction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Effect)]
pub struct ChangeEffect {
    /// True if the restriction is in effect: sessions have been told to end, and no client is let in with the lost rights.
    pub in_effect: bool,
    /// True if it is in the store, so it holds after a restart.
    pub stored: bool,
    /// True if it is in the audit log.
    pub recorded: bool,
}

/// Grant as operators see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Grant)]
pub struct GrantView {
    /// Grant itself.
    #[serde(flatten)]
    #[schema(inline)]
    pub grant: Grant,
    /// `ready`, `active`, `lapsed`, `expired`, `revoked` or `released` (given back by its owner).
    pub status: String,
    /// Number of live sessions under it.
    pub live_sessions: u32,
    /// Standing in the line of its target; absent if it neither uses the target exclusively nor waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub line: Option<LineStanding>,
    /// Progress of a restriction; only in the answer to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub effect: Option<ChangeEffect>,
}

/// Request as users see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Request)]
pub struct RequestView {
    /// Request itself.
    #[serde(flatten)]
    #[schema(inline)]
    pub request: Request,
    /// `pending`, `lapsed`, `denied`, `approved`, `rejected` or `withdrawn`.
    pub status: String,
    /// Number of approvals that are missing.
    pub approvals_missing: u32,
    /// Progress of a restriction; only in the answer to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub effect: Option<ChangeEffect>,
}

/// Local user, or an identity of an issuer that was disabled here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = User)]
pub struct UserView {
    /// Name of the user.
    pub name: IdentityName,
    /// Groups of the user.
    pub groups: BTreeSet<GroupName>,
    /// True if the user is not let in.
    pub disabled: bool,
    /// True if the user has a token here.
    pub local: bool,
    /// Time at which the token expires; absent if it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub token_until: Option<Timestamp>,
    /// Time of creation.
    pub created_at: Timestamp,
    /// Progress of a restriction; only in the answer to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub effect: Option<ChangeEffect>,
}

/// Sign-in at the console or the command line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = SignIn)]
pub struct SignInView {
    /// Id of the sign-in.
    pub id: SignInId,
    /// Identity that signed in.
    pub identity: IdentityName,
    /// Source of the identity: `local`, or the URL of a token's issuer.
    pub source: String,
    /// Place of the sign-in: `console` or `cli`.
    #[schema(value_type = String)]
    pub via: SignInVia,
    /// Address of the client at the sign-in; absent if it was not on a network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false)]
    pub client: Option<IpAddr>,
    /// Time of the sign-in.
    pub created_at: Timestamp,
    /// Time of the last use.
    pub last_used_at: Timestamp,
    /// Latest end.
    pub expires_at: Timestamp,
    /// Progress of the end; only in the answer to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub effect: Option<ChangeEffect>,
}

/// Change of a request or grant. A subscriber that misses one has to read again.
#[derive(Debug, Clone)]
pub enum ChangedSubject {
    /// New state of a request.
    Request(Arc<Request>),
    /// New state of a grant.
    Grant(Box<GrantView>),
}

/// Filter and page of a list of grants.
#[derive(Debug, Clone, Default)]
pub struct GrantFilter {
    /// Identity of the grants.
    pub identity: Option<IdentityName>,
    /// Target of the grants.
    pub target: Option<TargetName>,
    /// True to include grants that have ended.
    pub ended: bool,
    /// Only grants older than this one: the last one of the page before.
    pub before: Option<GrantId>,
    /// Maximum number of grants; 0: 1,000.
    pub limit: usize,
}

/// Filter and page of a list of requests.
#[derive(Debug, Clone, Default)]
pub struct RequestFilter {
    /// Status of the requests.
    pub status: Option<RequestState>,
    /// Identity of the requests.
    pub identity: Option<IdentityName>,
    /// Target of the requests.
    pub target: Option<TargetName>,
    /// True for break-glass accesses only that have not been reviewed.
    pub unreviewed: bool,
    /// True for requests only that wait no more.
    pub settled: bool,
    /// Only requests older than this one: the last one of the page before.
    pub before: Option<RequestId>,
    /// Maximum number of requests; 0: 100.
    pub limit: usize,
}

/// Filter and page of a list of users.
#[derive(Debug, Clone, Default)]
pub struct UserFilter {
    /// Part of their names, without regard to case.
    pub name: Option<String>,
    /// The one user of this name.
    pub identity: Option<IdentityName>,
    /// Only users behind this one: the last one of the page before.
    pub after: Option<IdentityName>,
    /// Maximum number of users; `None`: all.
    pub limit: Option<usize>,
}

/// Login of a grant, with which a client connects.
#[derive(Debug, Clone)]
pub struct GrantLogin {
    /// User name.
    pub user: String,
    /// Password.
    pub secret: Secret<String>,
}

/// Grounds on which a step was decided.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DecisionReasons {
    /// Ids of the policies that decided.
    pub policies: Vec<String>,
    /// SHA-256 of the policy set.
    pub policy_set: Option<String>,
    /// Errors of the evaluation.
    pub errors: Vec<String>,
    /// Address of the caller, if it came over a network.
    pub client: Option<IpAddr>,
    /// Way by which the caller came; `None`: no policy was asked.
    pub via: Option<CallerVia>,
}

impl ChangeEffect {
    /// Progress of a change with nothing left to do.
    pub const DONE: Self = Self {
        in_effect: true,
        stored: true,
        recorded: true,
    };

    /// Returns true if the change is in effect, stored and on record.
    #[must_use]
    pub fn is_done(self) -> bool {
        self == Self::DONE
    }
}

impl GrantView {
    pub(super) fn of(grant: &Grant, now: Timestamp, live_sessions: u32) -> Self {
        Self {
            grant: grant.clone(),
            status: grant.standing(now).to_owned(),
            live_sessions,
            line: None,
            effect: None,
        }
    }
}

impl RequestView {
    /// Returns the view of a request at `now`.
    #[must_use]
    pub fn of(request: &Request, now: Timestamp) -> Self {
        Self {
            status: request.status(now).name().to_owned(),
            approvals_missing: request.approvals_missing(),
            request: request.clone(),
            effect: None,
        }
    }
}

impl SignInView {
    pub(super) fn of(sign_in: &SignIn, effect: Option<ChangeEffect>) -> Self {
        Self {
            id: sign_in.id.clone(),
            identity: sign_in.identity.clone(),
            source: sign_in.issuer.clone().unwrap_or_else(|| "local".to_owned()),
            via: sign_in.via,
            client: sign_in.client,
            created_at: sign_in.created_at,
            last_used_at: sign_in.last_used_at,
            expires_at: sign_in.expires_at,
            effect,
        }
    }
}

impl UserView {
    pub(super) fn of(user: &StoredUser, effect: Option<ChangeEffect>) -> Self {
        Self {
            name: user.name.clone(),
            groups: user.groups.clone(),
            disabled: user.disabled,
            local: user.token_hash.is_some(),
            token_until: user.token_until,
            created_at: user.created_at,
            effect,
        }
    }
}

impl Entry<Grant> {
    pub(super) fn view(&self, now: Timestamp) -> GrantView {
        let sessions = *self.extra.sessions.lock();
        GrantView::of(&self.current(), now, sessions)
    }
}

impl Entry<Request> {
    pub(super) fn view(&self, now: Timestamp) -> RequestView {
        RequestView::of(&self.current(), now)
    }
}
