//! What people and pipelines do: ask for access, approve, extend, give back. Each is decided by the policies and made by the ledger.
//!
//! It knows neither HTTP nor the wire: the control API, waiting logins and pages call it.
//!
//! INVARIANT: nothing is done for an identity that the policies, asked now, do not allow; nobody approves their own request,
//! whatever the policies say.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::audit::Journal;
use crate::clock::Clock;
use crate::ending::Ending;
use crate::grant::Grant;
use crate::identity::{Identity, Issuers};
use crate::ids::{GrantId, RequestId};
use crate::ledger::{GrantLogin, GrantView, Ledger, LedgerError, RequestFilter, RequestView};
use crate::names::{IdentityName, ProfileName, TargetName};
use crate::policy::{Action, Policies};
use crate::request::IllegalStep;
use crate::secret::Secret;

/// What is decided by configuration; replaced as a whole at a reload.
#[derive(Debug)]
pub struct Rules {
    /// The policies; `None`: nobody can ask for anything.
    pub policies: Option<Arc<Policies>>,
    /// The targets with their profiles, the narrowest first.
    pub targets: BTreeMap<TargetName, Vec<ProfileName>>,
    /// The trusted issuers.
    pub issuers: Arc<Issuers>,
    /// The window asked for when none is named.
    pub default_window: Duration,
    /// How long a request waits for approvers.
    pub pending_for: Duration,
    /// How long a grant waits for its first connect.
    pub activate_within: Duration,
    /// How many requests an identity may make in a minute.
    pub requests_per_minute: u32,
}

/// What somebody asks for, as they say it.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// The target's name.
    pub target: String,
    /// The profile's; absent: the target's narrowest.
    pub profile: Option<String>,
    /// How long.
    pub window: Option<Duration>,
    /// Why.
    pub reason: Option<String>,
    /// Under which ticket.
    pub ticket: Option<String>,
    /// How many sessions at once.
    pub max_sessions: Option<u32>,
    /// At once, to be reviewed afterwards.
    pub break_glass: bool,
    /// The caller's own key, so that asking again is the same request.
    pub key: Option<String>,
    /// Where from.
    pub client: Option<IpAddr>,
}

/// How an approver narrows what was asked for.
#[derive(Debug, Clone, Default)]
pub struct Narrowed {
    /// A shorter window.
    pub window: Option<Duration>,
    /// A narrower profile.
    pub profile: Option<ProfileName>,
}

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// Whoever it is did not prove it. Why is in the log.
    #[error("the token is not accepted")]
    NotIdentified,
    /// No such target.
    #[error("there is no target {asked:?}")]
    NoSuchTarget {
        /// The name asked for.
        asked: String,
        /// The nearest there is.
        nearest: Option<String>,
    },
    /// No such profile.
    #[error("target {target} has no profile {asked:?}")]
    NoSuchProfile {
        /// The target.
        target: TargetName,
        /// The name asked for.
        asked: String,
        /// Those there are.
        known: Vec<ProfileName>,
    },
    /// What was asked for makes no request.
    #[error("{0}")]
    Invalid(String),
    /// The policies do not allow it.
    #[error("not allowed: {why}")]
    Denied {
        /// Why, in words.
        why: String,
        /// The policies that decided.
        policies: Vec<String>,
    },
    /// Too many requests of one identity.
    #[error("{identity} has made {limit} requests within a minute: wait a little")]
    TooMany {
        /// Who.
        identity: IdentityName,
        /// How many are allowed.
        limit: u32,
    },
    /// No such request.
    #[error("there is no request {0}")]
    NoSuchRequest(RequestId),
    /// The step cannot be taken.
    #[error(transparent)]
    Illegal(#[from] IllegalStep),
    /// The ledger refused, or failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// Where people and pipelines come to. Cheap to clone.
#[derive(Clone)]
pub struct Desk {
    _inner: Arc<()>,
}

impl Desk {
    /// A desk with these rules.
    #[must_use]
    pub fn new(_ledger: Ledger, _journal: Journal, _clock: Clock, _rules: watch::Receiver<Arc<Rules>>) -> Self {
        unimplemented!()
    }

    /// Who holds this token: a local user's or an issuer's. A failure is on record; the caller learns nothing from it.
    pub async fn identify(&self, _token: &Secret<String>, _client: Option<IpAddr>) -> Result<Identity, AccessError> {
        unimplemented!()
    }

    /// Asks for access. What is pending already is not asked for twice.
    pub async fn submit(&self, _who: &Identity, _asked: Asked) -> Result<RequestView, AccessError> {
        unimplemented!()
    }

    /// Says yes.
    pub async fn approve(
        &self,
        _who: &Identity,
        _id: &RequestId,
        _narrowed: Narrowed,
        _comment: Option<String>,
    ) -> Result<RequestView, AccessError> {
        unimplemented!()
    }

    /// Says no.
    pub async fn reject(&self, _who: &Identity, _id: &RequestId, _comment: Option<String>) -> Result<RequestView, AccessError> {
        unimplemented!()
    }

    /// Takes one's own request back.
    pub async fn withdraw(&self, _who: &Identity, _id: &RequestId) -> Result<RequestView, AccessError> {
        unimplemented!()
    }

    /// Notes what a break-glass access was found to be.
    pub async fn review(&self, _who: &Identity, _id: &RequestId, _comment: String) -> Result<RequestView, AccessError> {
        unimplemented!()
    }

    /// Moves the end of a grant further off; the policies decide again, as for a request of the whole window.
    pub async fn extend(
        &self,
        _who: &Identity,
        _grant: &GrantId,
        _by: Duration,
        _reason: Option<&str>,
    ) -> Result<GrantView, AccessError> {
        unimplemented!()
    }

    /// Ends one's own grant early.
    pub async fn release(&self, _who: &Identity, _grant: &GrantId) -> Result<GrantView, AccessError> {
        unimplemented!()
    }

    /// Ends somebody's grant.
    pub async fn revoke(&self, _who: &Identity, _grant: &GrantId, _reason: Option<&str>) -> Result<GrantView, AccessError> {
        unimplemented!()
    }

    /// A login of one's own grant.
    pub async fn login(&self, _who: &Identity, _grant: &GrantId) -> Result<GrantLogin, AccessError> {
        unimplemented!()
    }

    /// The grant that gives `who` the target (and profile) now, if there is one.
    #[must_use]
    pub fn live_grant(&self, _who: &Identity, _target: &TargetName, _profile: Option<&ProfileName>) -> Option<GrantView> {
        unimplemented!()
    }

    /// Whether a grant that came of a request may still be activated: asked again at the first connect.
    pub fn recheck(&self, _grant: &Grant, _client: IpAddr) -> Result<(), Ending> {
        unimplemented!()
    }

    /// Whether `who` may read the log or administer; the decision is on record.
    pub async fn may(&self, _who: &Identity, _action: Action) -> Result<(), AccessError> {
        unimplemented!()
    }

    /// Local users whom the policies would let approve, for "who can approve this".
    #[must_use]
    pub fn approvers(&self, _request: &RequestView) -> Vec<IdentityName> {
        unimplemented!()
    }

    /// One request: one's own, or one that may be approved.
    pub async fn request(&self, _who: &Identity, _id: &RequestId) -> Result<RequestView, AccessError> {
        unimplemented!()
    }

    /// Requests: one's own, and those one may approve.
    pub async fn requests(&self, _who: &Identity, _filter: RequestFilter) -> Result<Vec<RequestView>, AccessError> {
        unimplemented!()
    }
}
