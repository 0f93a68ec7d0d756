//! Requests: the same order as grants (check, audit, store, tell), and with a grant in one transaction where one is made.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, watch};

use super::{GrantView, Ledger, LedgerError};
use crate::ids::{GrantId, RequestId};
use crate::names::{IdentityName, ProfileName, TargetName};
use crate::request::{How, Next, Request, Status, Wish};
use crate::secret::Secret;

/// A request to be put on record.
#[derive(Debug, Clone)]
pub struct NewRequest {
    /// What is asked for.
    pub wish: Wish,
    /// What becomes of it.
    pub submitted: Submitted,
    /// The caller's own key: the same key of the same identity is the same request.
    pub key: Option<String>,
    /// How long the grant waits for its first connect, if it becomes one.
    pub activate_within: Duration,
}

/// What becomes of a new request at once.
#[derive(Debug, Clone)]
pub enum Submitted {
    /// The policies forbid it.
    Denied {
        /// Why.
        why: String,
    },
    /// It is a grant.
    Granted(How),
    /// It waits.
    Waiting {
        /// For so many approvers.
        approvals: u32,
        /// Until then.
        expires_at: Timestamp,
    },
}

/// Which policies decided, of which set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reasons {
    /// Their ids.
    pub policies: Vec<String>,
    /// SHA-256 of the set.
    pub policy_set: Option<String>,
}

/// A request as people see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestView {
    /// The request.
    #[serde(flatten)]
    pub request: Request,
    /// [`Status::name`] at the time of asking.
    pub status: String,
    /// How many approvals are missing.
    pub approvals_missing: u32,
}

/// Which requests.
#[derive(Debug, Clone, Default)]
pub struct RequestFilter {
    /// With this status.
    pub status: Option<Status>,
    /// Of this identity.
    pub identity: Option<IdentityName>,
    /// For this target.
    pub target: Option<TargetName>,
    /// Break-glass accesses nobody has reviewed.
    pub unreviewed: bool,
    /// Older than this one: the last of the page before.
    pub before: Option<RequestId>,
    /// At most so many; 0: 100.
    pub limit: usize,
}

/// Something changed; whoever hears of it late or not at all reads again.
#[derive(Debug, Clone)]
pub enum Changed {
    /// A request.
    Request(Arc<Request>),
    /// A grant.
    Grant(Box<GrantView>),
}

/// A login of a grant: what a client connects with.
#[derive(Debug, Clone)]
pub struct GrantLogin {
    /// The user name.
    pub user: String,
    /// The password.
    pub secret: Secret<String>,
}

impl Ledger {
    /// Puts a new request on record, and makes its grant where it is granted at once.
    pub async fn submit(&self, _new: NewRequest, _reasons: Reasons) -> Result<RequestView, LedgerError> {
        unimplemented!()
    }

    /// Takes a request a step further, in its turn. `change` names the step in the log (`approved`, `rejected`, `withdrawn`,
    /// `reviewed`); the grant id is for the step that completes it.
    pub async fn step<E>(
        &self,
        _id: &RequestId,
        _by: &IdentityName,
        _change: &'static str,
        _reasons: Reasons,
        _step: impl FnOnce(&Request, GrantId, Timestamp) -> Result<Next, E> + Send + 'static,
    ) -> Result<RequestView, E>
    where
        E: From<LedgerError> + Send + 'static,
    {
        unimplemented!()
    }

    /// One request.
    pub async fn request(&self, _id: &RequestId) -> Result<RequestView, LedgerError> {
        unimplemented!()
    }

    /// Requests, the newest first.
    pub async fn requests(&self, _filter: RequestFilter) -> Result<Vec<RequestView>, LedgerError> {
        unimplemented!()
    }

    /// The pending request of an identity for the same thing, if there is one.
    #[must_use]
    pub fn pending_request(&self, _who: &IdentityName, _target: &TargetName, _profile: &ProfileName) -> Option<RequestView> {
        unimplemented!()
    }

    /// A request, now and after every step; `None` where there is none in memory.
    #[must_use]
    pub fn watch_request(&self, _id: &RequestId) -> Option<watch::Receiver<Arc<Request>>> {
        unimplemented!()
    }

    /// The grant of an identity that can be used now (ready or active); the one that ends last.
    #[must_use]
    pub fn live_grant(&self, _who: &IdentityName, _target: &TargetName, _profile: Option<&ProfileName>) -> Option<GrantView> {
        unimplemented!()
    }

    /// How many grants of an identity have not ended.
    #[must_use]
    pub fn active_grants(&self, _who: &IdentityName) -> u32 {
        unimplemented!()
    }

    /// A fresh login of a grant; others of the same grant stay good.
    pub async fn issue_login(&self, _grant: &GrantId, _by: &str) -> Result<GrantLogin, LedgerError> {
        unimplemented!()
    }

    /// News of requests and grants.
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<Changed> {
        unimplemented!()
    }
}
