//! Use cases of requests, grants, users and sign-ins: ask for access, approve, extend, give back, administer, sign in. The
//! policies decide each of them but the last, and the ledger carries it out.
//!
//! It knows neither HTTP nor the wire protocol: the control API, waiting logins and pages call it.
//!
//! INVARIANT: nothing is done for an identity unless the policies allow it at that moment; nobody approves their own request,
//! whatever the policies say.

mod administer;
mod admission;
mod approve;
mod approvers;
mod awaited;
mod caller;
mod chat;
mod decide;
mod explain;
mod grants;
mod identify;
pub mod identity_limiter;
mod join;
mod line;
mod list;
mod local_path;
mod offers;
mod one_time_secrets;
pub mod policy;
mod provider_sign_ins;
pub mod quota;
mod rate_limit;
mod readings;
mod recorded_decision;
mod sign_ins;
pub mod strangers;
mod submit;
mod terminal_sign_ins;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod verdicts;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;

use crate::access::policy::{AccessQuestion, Action, Decision, Judgement, Policies, QuestionContext, RequestVerdict};
use crate::access::strangers::RefusalLog;
use crate::audit::Journal;
use crate::base::clock::Clock;
pub use crate::identity::ProviderError;
use crate::identity::{Identity, IdentitySource, Issuers};
use crate::ledger::{GrantView, Ledger, LedgerError, RequestView, TurnQueues};
use crate::model::arrival::CallerVia;
use crate::model::ids::{GrantId, RequestId, SignInId};
use crate::model::line::UseMode;
use crate::model::names::{IdentityName, ProfileName, TargetName};
use crate::model::request::{Request, RequestSpec, StepError};
use crate::model::sign_in::SignInLimits;

pub use administer::{Administration, MAX_TOKEN_LIFE, MIN_TOKEN_LIFE};
pub use admission::{Admission, Attribution, RefusedAdmission};
use approvers::ApproverCache;
pub use approvers::Approvers;
use awaited::Awaited;
pub use caller::{Caller, CallerStanding};
pub use chat::ChatPerson;
pub use explain::{ExplanationView, HypotheticalQuestion, QuestionSubject, RemedyView, VerdictView};
pub use identify::IdentifyError;
use line::TargetLines;
pub use line::{LineCounts, LineError, LineLimits, LineRules, LineTicket, LineTurn, TargetUse};
pub use local_path::local_path;
pub use offers::ProfileView;
pub use one_time_secrets::{challenge_of, is_challenge, random_secret};
use provider_sign_ins::{BEGUN_LIMITS, PendingDevice, PendingSignIn};
pub use provider_sign_ins::{BegunSignIn, CALLBACK_PATH, ProviderAnswer};
use rate_limit::RateLimiter;
use readings::RecordedReadings;
use strangers::Network;
use terminal_sign_ins::TERMINAL_LIMITS;

/// Configuration of access decisions; replaced as a whole at a reload.
#[derive(Debug)]
pub struct AccessRules {
    /// Policies; `None`: all requests are denied.
    pub policies: Option<Arc<Policies>>,
    /// Targets with their profiles, the narrowest first.
    pub targets: BTreeMap<TargetName, Vec<ProfileName>>,
    /// Descriptions of the profiles.
    pub words: BTreeMap<(TargetName, ProfileName), ProfileWords>,
    /// Trusted issuers.
    pub issuers: Arc<Issuers>,
    /// Upper limits on requests, whatever the policies permit.
    pub caps: RequestCaps,
    /// Default length of a window.
    pub default_window: Duration,
    /// Default number of concurrent sessions under a grant.
    pub default_sessions: u32,
    /// Time a request waits for approvers.
    pub pending_for: Duration,
    /// Time a grant waits for its first connect.
    pub activate_within: Duration,
    /// Maximum number of requests of one identity per minute.
    pub requests_per_minute: u32,
    /// Limits on sign-ins.
    pub sign_ins: SignInLimits,
    /// Address of the console as browsers have it, without a slash at its end; `None`: nobody signs in with a provider.
    pub console_address: Option<String>,
    /// Life of a local user's token, if none is asked for.
    pub token_life: Duration,
    /// Ways in which grants use their targets, of the profiles that exclude others or have a database of their own.
    pub use_modes: BTreeMap<(TargetName, ProfileName), UseMode>,
    /// Rules of the lines at targets.
    pub line: LineRules,
}

impl AccessRules {
    /// Returns true if the configuration still has the issuer that vouched for an identity; always true for a local user.
    pub(super) fn vouches_for(&self, identity: &Identity) -> bool {
        identity.issuer().is_none_or(|issuer| self.issuers.has(issuer))
    }

    /// Returns the description of a profile.
    #[must_use]
    pub fn words(&self, target: &TargetName, profile: &ProfileName) -> ProfileWords {
        let known = self.words.get(&(target.clone(), profile.clone()));
        known.cloned().unwrap_or_default()
    }

    /// Returns the SHA-256 of the policies in force, in hexadecimal.
    fn policy_set(&self) -> Option<String> {
        self.policies.as_ref().map(|policies| policies.hash().to_owned())
    }

    /// Returns the verdict of the policies on a request; without policies it is denied.
    fn judge(&self, identity: &Identity, wish: &RequestSpec, context: QuestionContext) -> Judgement {
        let Some(policies) = &self.policies else {
            return Judgement {
                verdict: RequestVerdict::Denied {
                    why: "this gate has no policies, so requests are refused; ask its operator for a grant".to_owned(),
                },
                policies: Vec::new(),
                errors: Vec::new(),
            };
        };
        policies.judge(identity, wish, context)
    }

    /// Returns the same without a search for what would be permitted: the reason of a denial may be empty.
    fn verdict(&self, identity: &Identity, wish: &RequestSpec, context: QuestionContext) -> RequestVerdict {
        let judgement = match &self.policies {
            Some(policies) => policies.verdict(identity, wish, context),
            None => self.judge(identity, wish, context),
        };
        judgement.verdict
    }

    /// Returns the decision of the policies; without policies nothing is allowed.
    fn decide(&self, question: &AccessQuestion<'_>) -> Decision {
        let Some(policies) = &self.policies else {
            return Decision {
                allowed: false,
                policies: Vec::new(),
                errors: Vec::new(),
            };
        };
        policies.decide(question)
    }
}

/// Description of a profile, from its configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProfileWords {
    /// Rights, one text each.
    pub may: Vec<String>,
    /// Masked columns, each with its replacement.
    pub masks: Vec<String>,
    /// Kinds of statements that its guard rails refuse.
    pub rails: Vec<String>,
}

/// Upper limits on requests, whatever the policies permit. A request for more is refused, never narrowed silently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestCaps {
    /// Maximum number of concurrent sessions under one grant.
    pub sessions: u32,
    /// Maximum length of a window, extensions included.
    pub window: Duration,
    /// Maximum length of a reason or a comment, in bytes.
    pub reason_bytes: usize,
}

impl Default for RequestCaps {
    fn default() -> Self {
        Self {
            sessions: 50,
            window: crate::model::grant::MAX_WINDOW,
            reason_bytes: 1000,
        }
    }
}

/// Arguments of a request for access, as typed.
#[derive(Debug, Clone, Default)]
pub struct RequestArgs {
    /// Name of the target.
    pub target: String,
    /// Name of the profile; `None`: the target's narrowest.
    pub profile: Option<String>,
    /// Length of the window.
    pub window: Option<Duration>,
    /// Reason for the access.
    pub reason: Option<String>,
    /// Ticket the access belongs to.
    pub ticket: Option<String>,
    /// Maximum number of concurrent sessions.
    pub max_sessions: Option<u32>,
    /// Break-glass: access at once, reviewed afterwards.
    pub break_glass: bool,
    /// True if the access to an exclusive profile is to be a grant of its own, which waits for all others: no live grant is joined,
    /// and no pending request is shared.
    pub alone: bool,
    /// Idempotency key of the caller; a repeated key returns the same request.
    pub key: Option<String>,
}

/// Proven identity and address of a caller. The policies judge every operation by both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// Proven identity.
    pub identity: Identity,
    /// Address of the client; `None` if it is not on a network.
    pub client: Option<IpAddr>,
    /// Way by which the caller comes.
    pub via: CallerVia,
    /// Sign-in that proved the identity; `None`: something else did.
    pub sign_in: Option<PrincipalSignIn>,
    /// Time after which the proof is no longer good, as far as it says so.
    pub proof_until: Option<Timestamp>,
}

/// Sign-in of a principal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrincipalSignIn {
    /// Id of the sign-in.
    pub id: SignInId,
    /// Time of the sign-in.
    pub at: Timestamp,
}

impl Principal {
    /// Creates a principal that a token of a call proved, with no end of the proof.
    #[must_use]
    pub fn of_token(identity: Identity, client: Option<IpAddr>) -> Self {
        Self {
            identity,
            client,
            via: CallerVia::Api,
            sign_in: None,
            proof_until: None,
        }
    }

    /// Returns the time at which the token expires that a local user has sent, if it does.
    #[must_use]
    pub fn token_until(&self) -> Option<Timestamp> {
        let of_user = self.sign_in.is_none() && self.identity.source == IdentitySource::Local;
        self.proof_until.filter(|_| of_user)
    }

    /// Returns the name of the identity.
    #[must_use]
    pub fn name(&self) -> &IdentityName {
        &self.identity.name
    }
}

/// Changes by which an approver narrows a request.
#[derive(Debug, Clone, Default)]
pub struct NarrowedRequest {
    /// Shorter window.
    pub window: Option<Duration>,
    /// Narrower profile.
    pub profile: Option<ProfileName>,
}

/// Error of an access operation.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The caller did not prove an identity. The log has the reason.
    #[error("the token is not accepted")]
    NotIdentified,
    /// The target does not exist.
    #[error("no target {asked:?}")]
    NoSuchTarget {
        /// Name asked for.
        asked: String,
        /// Most similar known name.
        nearest: Option<String>,
        /// All known names.
        known: Vec<TargetName>,
    },
    /// The target has no such profile.
    #[error("target {target} has no profile {asked:?}")]
    NoSuchProfile {
        /// Name of the target.
        target: TargetName,
        /// Name asked for.
        asked: String,
        /// Known profiles, the most similar name first.
        known: Vec<ProfileName>,
    },
    /// The arguments are invalid; the text says why and what to do.
    #[error("{0}")]
    Invalid(String),
    /// The operation is only for persons, and the admin token identifies none.
    #[error("this call needs the token of a person or a pipeline, not the admin token")]
    NoPerson,
    /// A chat names nobody who can answer from it; the text says why and what to do.
    #[error("{0}")]
    NotInChat(String),
    /// A browser came back from a provider without a sign-in that it has begun.
    #[error("this sign-in was not begun in this browser, or it took longer than ten minutes")]
    NoSuchState,
    /// A device that has not begun here, or whose code is over.
    #[error("no sign-in with this code is waiting here; it is over, or the gate was started again")]
    NoSuchDevice,
    /// A terminal came with a code that is not good, or no longer.
    #[error("this code signs nobody in: it was used, is older than a minute, or is another program's")]
    NoSuchCode,
    /// The person that a provider names may not sign in, or nothing proves who it is. The log has the reason.
    #[error("the answer of {0} lets nobody in here")]
    NotSignedIn(String),
    /// A provider cannot be used, or refuses.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// A sign-in cannot be made from another sign-in, which would never end.
    #[error("a sign-in cannot be made from another sign-in")]
    SignedInAlready,
    /// The sign-in does not exist or has ended, or belongs to another identity and the caller may not administer.
    #[error("no sign-in {0}")]
    NoSuchSignIn(SignInId),
    /// Callers cannot make grants for themselves or add themselves to groups.
    #[error("you cannot create a grant for yourself or change your own groups")]
    ForOneself,
    /// The user does not exist.
    #[error("no user {name}")]
    NoSuchUser {
        /// Name asked for.
        name: IdentityName,
        /// Most similar existing name.
        nearest: Option<IdentityName>,
    },
    /// The name to disable has never been seen by the gate.
    #[error("no user {name}, and no grant or request of that name; nothing was disabled")]
    NeverSeen {
        /// Name asked for.
        name: IdentityName,
        /// Most similar existing name.
        nearest: Option<IdentityName>,
    },
    /// The name belongs to an issuer.
    #[error("the name {name} belongs to {issuer}")]
    IssuersName {
        /// Name asked for.
        name: IdentityName,
        /// Issuer that the name belongs to.
        issuer: String,
    },
    /// The policies refuse the operation.
    #[error("not allowed: {why}")]
    Denied {
        /// The action.
        action: Action,
        /// Reason in words.
        why: String,
        /// Ids of the policies that decided.
        policies: Vec<String>,
        /// True if they would allow it to the same person with a sign-in of this moment.
        sign_in_again: bool,
    },
    /// The identity exceeded its request rate.
    #[error("{identity} made {limit} requests within a minute; try again in {} s", .wait.as_secs())]
    TooMany {
        /// Identity that asked.
        identity: IdentityName,
        /// Maximum number of requests per minute.
        limit: u32,
        /// Time until the next request is accepted, in whole seconds.
        wait: Duration,
    },
    /// As many grants wait in line as may.
    #[error("{limit} grants wait in line already; no more may")]
    LineFull {
        /// Maximum number of grants in line, of the identity or at the target.
        limit: u32,
    },
    /// Too many sign-ins with a code were begun from one network.
    #[error("too many sign-ins with a code were begun from this address; try again in {} s", .wait.as_secs())]
    TooManyDevices {
        /// Time until the next one is accepted, in whole seconds.
        wait: Duration,
    },
    /// The request does not exist, or the caller may not see it.
    #[error("no request {0}")]
    NoSuchRequest(RequestId),
    /// The grant belongs to another identity, and the caller may see it.
    #[error("grant {0} belongs to another identity")]
    NotYours(GrantId),
    /// The request is not in a state that allows the step.
    #[error(transparent)]
    Illegal(#[from] StepError),
    /// The ledger refused or failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// Service for requests and grants. Cheap to clone.
#[derive(Clone)]
pub struct AccessService(Arc<ServiceInner>);

struct ServiceInner {
    ledger: Ledger,
    journal: Journal,
    refusals: RefusalLog,
    clock: Clock,
    rules: watch::Receiver<Arc<AccessRules>>,
    floods: RateLimiter<IdentityName>,
    /// Number of requests refused by the rate limit.
    floods_refused: AtomicU64,
    approvers: ApproverCache,
    turns: TurnQueues,
    lines: TargetLines,
    browsers: Awaited<Network, PendingSignIn>,
    devices: Awaited<Network, PendingDevice>,
    begun_devices: RateLimiter<Network>,
    terminals: Awaited<IdentityName, Caller>,
    readings: RecordedReadings,
}

/// Result of a login's request for access: an existing grant or a request.
#[derive(Debug, Clone)]
pub enum EntryDecision {
    /// Live grant that existed already, with its request if it has one.
    Grant(Box<GrantView>, Option<Box<Request>>),
    /// Request that was granted or is pending.
    Request(Box<RequestView>),
}

impl AccessService {
    /// Creates the service with the current and future rules of `rules`.
    #[must_use]
    pub fn new(
        ledger: Ledger,
        journal: Journal,
        refusals: RefusalLog,
        clock: Clock,
        rules: watch::Receiver<Arc<AccessRules>>,
    ) -> Self {
        Self(Arc::new(ServiceInner {
            refusals,
            ledger,
            journal,
            clock,
            rules,
            floods: RateLimiter::default(),
            floods_refused: AtomicU64::new(0),
            approvers: ApproverCache::default(),
            turns: TurnQueues::default(),
            lines: TargetLines::default(),
            browsers: Awaited::new(BEGUN_LIMITS),
            devices: Awaited::new(BEGUN_LIMITS),
            begun_devices: RateLimiter::default(),
            terminals: Awaited::new(TERMINAL_LIMITS),
            readings: RecordedReadings::default(),
        }))
    }

    /// Returns the number of requests refused by the rate limit since the start.
    #[must_use]
    pub fn floods_refused(&self) -> u64 {
        self.0.floods_refused.load(Ordering::Relaxed)
    }

    /// Returns the current rules.
    #[must_use]
    pub fn rules(&self) -> Arc<AccessRules> {
        self.0.rules.borrow().clone()
    }
}
