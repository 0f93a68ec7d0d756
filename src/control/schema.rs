//! What the views of other modules look like in JSON, for the OpenAPI document.
//!
//! Never made: they only describe. That they describe what is really answered is tested.
#![allow(dead_code, reason = "shapes are described by their derive and never made")]

use std::collections::{BTreeMap, BTreeSet};

use utoipa::ToSchema;

/// A grant.
#[derive(ToSchema)]
#[schema(as = Grant)]
pub(super) struct GrantShape {
    /// Its id.
    id: String,
    /// Whom it is for.
    identity: String,
    /// What it is for.
    target: String,
    /// With which privileges.
    #[schema(required = false)]
    profile: Option<String>,
    /// The request it came of.
    #[schema(required = false)]
    request: Option<String>,
    /// Why.
    reason: Option<String>,
    /// When it was made.
    #[schema(format = DateTime)]
    created_at: String,
    /// By whom.
    created_by: String,
    /// Until when the first connect has to come.
    #[schema(format = DateTime)]
    activate_by: String,
    /// The window's length.
    window_seconds: u64,
    /// The time no window goes past.
    #[schema(format = DateTime)]
    deadline: Option<String>,
    /// Sessions at once.
    max_sessions: u32,
    /// Where its clients have to come from.
    client_network: Option<String>,
    /// When its window opened.
    #[schema(format = DateTime)]
    activated_at: Option<String>,
    /// When its window closes.
    #[schema(format = DateTime)]
    until: Option<String>,
    /// Who ended it early, and why.
    revoked: Option<RevocationShape>,
    /// `ready`, `active`, `lapsed`, `expired`, `revoked` or `released` (given back by its owner).
    status: String,
    /// Sessions that live under it now.
    live_sessions: u32,
    /// In the answer to what took something away: how far that has come.
    #[schema(nullable = false)]
    effect: Option<EffectShape>,
}

/// The gate's time beside the machine's.
#[derive(ToSchema)]
#[schema(as = Clock)]
pub(super) struct ClockShape {
    /// Gate time: what deadlines and records go by.
    #[schema(format = DateTime)]
    gate_time: String,
    /// What the machine's clock says.
    #[schema(format = DateTime)]
    machine_time: String,
    /// Why the machine's clock is not believed, if so.
    #[schema(nullable = false)]
    doubt: Option<String>,
}

/// How far a change that takes rights away has come.
#[derive(ToSchema)]
#[schema(as = Effect)]
pub(super) struct EffectShape {
    /// Sessions have been told to end, and nobody is let in by what was taken away.
    in_effect: bool,
    /// It is in the store, so it holds after a restart.
    stored: bool,
    /// It is in the audit log.
    recorded: bool,
}

/// Who revoked a grant, when and why.
#[derive(ToSchema)]
#[schema(as = Revocation)]
pub(super) struct RevocationShape {
    /// When.
    #[schema(format = DateTime)]
    at: String,
    /// Who.
    by: String,
    /// Why.
    #[schema(nullable = false)]
    reason: Option<String>,
}

/// A request for access.
#[derive(ToSchema)]
#[schema(as = Request)]
pub(super) struct RequestShape {
    /// Its id.
    id: String,
    /// Who asks.
    identity: String,
    /// The groups it was in when it asked.
    #[schema(required = false)]
    groups: BTreeSet<String>,
    /// The issuer whose token proved it; absent: a local user.
    #[schema(nullable = false)]
    issuer: Option<String>,
    /// What that token said of the run (`repository`, `ref`, ...).
    #[schema(required = false)]
    claims: BTreeMap<String, String>,
    /// Where to.
    target: String,
    /// With which privileges.
    profile: String,
    /// How long the window is to be, from the first connect.
    window_seconds: u64,
    /// Why.
    #[schema(nullable = false)]
    reason: Option<String>,
    /// Under which ticket.
    #[schema(nullable = false)]
    ticket: Option<String>,
    /// How many sessions at once.
    max_sessions: u32,
    /// At once, to be reviewed afterwards.
    #[schema(required = false)]
    break_glass: bool,
    /// When it was submitted.
    #[schema(format = DateTime)]
    submitted_at: String,
    /// Until when it can be approved.
    #[schema(format = DateTime)]
    expires_at: String,
    /// How many distinct approvers it needs; 0: it needed none.
    approvals_needed: u32,
    /// The approvals so far, in order.
    #[schema(required = false)]
    approvals: Vec<ApprovalShape>,
    /// What it came to, once that is settled.
    #[schema(nullable = false)]
    outcome: Option<OutcomeShape>,
    /// The extent that was asked for, where an approver has given less.
    #[schema(nullable = false)]
    narrowed_from: Option<ExtentShape>,
    /// What was found of a break-glass access afterwards.
    #[schema(nullable = false)]
    review: Option<ReviewShape>,
    /// `pending`, `lapsed`, `denied`, `approved`, `rejected` or `withdrawn`.
    status: String,
    /// How many approvals are missing.
    approvals_missing: u32,
    /// In the answer to what took something away: how far that has come.
    #[schema(nullable = false)]
    effect: Option<EffectShape>,
}

/// The part of a request that an approver can make smaller.
#[derive(ToSchema)]
#[schema(as = Extent)]
pub(super) struct ExtentShape {
    /// With which privileges.
    profile: String,
    /// How long.
    window_seconds: u64,
}

/// One approver's yes.
#[derive(ToSchema)]
#[schema(as = Approval)]
pub(super) struct ApprovalShape {
    /// Who.
    by: String,
    /// When.
    #[schema(format = DateTime)]
    at: String,
    /// In their words.
    #[schema(nullable = false)]
    comment: Option<String>,
}

/// What a request came to.
#[derive(ToSchema)]
#[schema(as = Outcome)]
pub(super) struct OutcomeShape {
    /// `denied`, `approved`, `rejected` or `withdrawn`.
    outcome: String,
    /// When.
    #[schema(format = DateTime)]
    at: String,
    /// Denied: why.
    #[schema(nullable = false)]
    why: Option<String>,
    /// Approved: `automatic` (by the policies alone), `people`, or `break_glass` (by nobody, to be reviewed).
    #[schema(nullable = false)]
    how: Option<String>,
    /// Approved: the grant it became.
    #[schema(nullable = false)]
    grant: Option<String>,
    /// Rejected: by whom.
    #[schema(nullable = false)]
    by: Option<String>,
    /// Rejected: in their words.
    #[schema(nullable = false)]
    comment: Option<String>,
}

/// What somebody found who looked at a break-glass access afterwards.
#[derive(ToSchema)]
#[schema(as = Review)]
pub(super) struct ReviewShape {
    /// Who.
    by: String,
    /// When.
    #[schema(format = DateTime)]
    at: String,
    /// What they found.
    comment: String,
}

/// A running session.
#[derive(ToSchema)]
#[schema(as = Session)]
pub(super) struct SessionShape {
    /// Its id.
    session: String,
    /// Its grant.
    grant: String,
    /// Whose it is.
    identity: String,
    /// Where it leads.
    target: String,
    /// The client's address and port.
    client: String,
    /// The application name it gave.
    #[schema(nullable = false)]
    application: Option<String>,
    /// When it began.
    #[schema(format = DateTime)]
    since: String,
    /// When its grant ends, as things stand.
    #[schema(format = DateTime, nullable = false)]
    until: Option<String>,
    /// `active` while a statement runs, else `idle`; in an event of its end, `ended`.
    state: String,
    /// Executed statements.
    statements: u64,
    /// The process id of the target's backend.
    backend_pid: i32,
    /// In the answer to what ends it: how far that has come. Nothing has to be stored for it.
    #[schema(nullable = false)]
    effect: Option<EffectShape>,
}

/// A local user, or an identity of an issuer that was disabled here.
#[derive(ToSchema)]
#[schema(as = User)]
pub(super) struct UserShape {
    /// Its name.
    name: String,
    /// Its groups.
    groups: BTreeSet<String>,
    /// Whether it is shut out.
    disabled: bool,
    /// Whether it has a token here.
    local: bool,
    /// When it was made.
    #[schema(format = DateTime)]
    created_at: String,
    /// In the answer to what took something away: how far that has come.
    #[schema(nullable = false)]
    effect: Option<EffectShape>,
}

/// A signed checkpoint of the audit log: a record of it.
#[derive(ToSchema)]
#[schema(as = Checkpoint)]
pub(super) struct CheckpointShape {
    /// The version of the line format.
    v: u32,
    /// Its number.
    seq: u64,
    /// When it was signed.
    #[schema(format = DateTime)]
    time: String,
    /// `checkpoint`.
    event: String,
    /// The log.
    log: String,
    /// The last line that it covers.
    covers: u64,
    /// The chain after that line: SHA-256, in hexadecimal digits.
    link: String,
    /// Whose signature it is: base 64 of an Ed25519 public key.
    key: String,
    /// The signature in base 64.
    signature: String,
    /// What the line shows of the chain.
    chain: String,
}
