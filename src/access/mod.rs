//! What people and pipelines do: ask for access, approve, extend, give back. Each is decided by the policies and made by the ledger.
//!
//! It knows neither HTTP nor the wire: the control API, waiting logins and pages call it.
//!
//! INVARIANT: nothing is done for an identity that the policies, asked now, do not allow; nobody approves their own request,
//! whatever the policies say.

mod approve;
mod approvers;
mod decide;
mod explain;
mod flood;
mod grants;
mod identify;
mod join;
mod list;
mod offers;
mod origin;
mod recheck;
mod rule;
mod submit;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use crate::audit::Journal;
use crate::clock::Clock;
use crate::identity::{Identity, Issuers};
use crate::ids::{GrantId, RequestId};
use crate::ledger::{GrantView, Ledger, LedgerError, RequestView, Turns};
use crate::names::{IdentityName, ProfileName, TargetName};
use crate::policy::Policies;
use crate::request::{IllegalStep, Request};
use crate::strangers::RefusalLog;

use approvers::Approvers;
pub use explain::{About, Explained, ExplainedAnswer, Hypothesis};
use flood::Floods;
pub use identify::TokenError;
pub use offers::Offer;
pub use origin::Origin;

/// What is decided by configuration; replaced as a whole at a reload.
#[derive(Debug)]
pub struct Rules {
    /// The policies; `None`: nobody can ask for anything.
    pub policies: Option<Arc<Policies>>,
    /// The targets with their profiles, the narrowest first.
    pub targets: BTreeMap<TargetName, Vec<ProfileName>>,
    /// The profiles, in words.
    pub words: BTreeMap<(TargetName, ProfileName), ProfileWords>,
    /// The trusted issuers.
    pub issuers: Arc<Issuers>,
    /// What may be asked for at all, whatever the policies permit.
    pub caps: Caps,
    /// The window asked for when none is named.
    pub default_window: Duration,
    /// Sessions at once, where a request names no number.
    pub default_sessions: u32,
    /// How long a request waits for approvers.
    pub pending_for: Duration,
    /// How long a grant waits for its first connect.
    pub activate_within: Duration,
    /// How many requests an identity may make in a minute.
    pub requests_per_minute: u32,
}

impl Rules {
    /// A profile in words.
    #[must_use]
    pub fn words(&self, target: &TargetName, profile: &ProfileName) -> ProfileWords {
        let known = self.words.get(&(target.clone(), profile.clone()));
        known.cloned().unwrap_or_default()
    }
}

/// A profile in words, as its configuration has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProfileWords {
    /// Its rights.
    pub may: Vec<String>,
    /// Its masked columns, each with what is shown instead.
    pub masks: Vec<String>,
    /// Which statements are refused.
    pub rails: Vec<String>,
}

/// The most that may be asked for, whatever the policies permit. What asks for more is refused, never narrowed in silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// Sessions at once under one grant.
    pub sessions: u32,
    /// The length of a window, extensions included.
    pub window: Duration,
    /// Bytes of a reason or a comment.
    pub reason_bytes: usize,
}

impl Default for Caps {
    fn default() -> Self {
        Self {
            sessions: 50,
            window: crate::grant::LONGEST_WINDOW,
            reason_bytes: 1000,
        }
    }
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
}

/// Somebody at the desk: who they have proved to be, and where they are. All they do is judged by both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visitor {
    /// Who.
    pub identity: Identity,
    /// The address of their client, if it is on a network.
    pub client: Option<IpAddr>,
}

impl Visitor {
    /// Their name.
    #[must_use]
    pub fn name(&self) -> &IdentityName {
        &self.identity.name
    }
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
    #[error("no target {asked:?}")]
    NoSuchTarget {
        /// The name asked for.
        asked: String,
        /// The nearest there is.
        nearest: Option<String>,
        /// The names there are.
        known: Vec<TargetName>,
    },
    /// No such profile.
    #[error("target {target} has no profile {asked:?}")]
    NoSuchProfile {
        /// The target.
        target: TargetName,
        /// The name asked for.
        asked: String,
        /// Those there are, the most likely one first.
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
    #[error("{identity} made {limit} requests within a minute; try again in {} s", .wait.as_secs())]
    TooMany {
        /// Who.
        identity: IdentityName,
        /// How many are allowed.
        limit: u32,
        /// How long until the next one is taken, in whole seconds.
        wait: Duration,
    },
    /// No such request, or none that this identity may see.
    #[error("no request {0}")]
    NoSuchRequest(RequestId),
    /// The grant is somebody else's, and whoever asked may see it.
    #[error("grant {0} belongs to another identity")]
    NotYours(GrantId),
    /// The step cannot be taken.
    #[error(transparent)]
    Illegal(#[from] IllegalStep),
    /// The ledger refused, or failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// Where people and pipelines come to. Cheap to clone.
#[derive(Clone)]
pub struct Desk(Arc<Inner>);

struct Inner {
    ledger: Ledger,
    journal: Journal,
    refusals: RefusalLog,
    clock: Clock,
    rules: watch::Receiver<Arc<Rules>>,
    floods: Floods,
    /// Requests refused because their identity asked too often.
    floods_refused: AtomicU64,
    approvers: Approvers,
    turns: Turns,
}

/// What lets an identity in: a grant it has already, or what became of a request.
#[derive(Debug, Clone)]
pub enum Way {
    /// A grant that can be used now, and was there before; with the request it came of, if it came of one.
    Grant(Box<GrantView>, Option<Box<Request>>),
    /// A request: granted, or it waits.
    Request(Box<RequestView>),
}

impl Desk {
    /// A desk with these rules.
    #[must_use]
    pub fn new(ledger: Ledger, journal: Journal, refusals: RefusalLog, clock: Clock, rules: watch::Receiver<Arc<Rules>>) -> Self {
        Self(Arc::new(Inner {
            refusals,
            ledger,
            journal,
            clock,
            rules,
            floods: Floods::default(),
            floods_refused: AtomicU64::new(0),
            approvers: Approvers::default(),
            turns: Turns::default(),
        }))
    }

    /// How many requests were refused since the start because their identity asked too often.
    #[must_use]
    pub fn floods_refused(&self) -> u64 {
        self.0.floods_refused.load(Ordering::Relaxed)
    }

    /// The rules as they are now.
    fn rules(&self) -> Arc<Rules> {
        self.0.rules.borrow().clone()
    }
}
