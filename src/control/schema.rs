//! JSON form of the views of other modules, for the OpenAPI document.
//!
//! These types are never constructed. A test checks that they match the real answers.
#![allow(dead_code, reason = "shapes are described by their derive and never made")]

use std::collections::{BTreeMap, BTreeSet};

use utoipa::ToSchema;

/// Grant of access.
#[derive(ToSchema)]
#[schema(as = Grant)]
pub(super) struct GrantShape {
    /// Id of the grant.
    id: String,
    /// Identity that the grant is for.
    identity: String,
    /// Target that the grant is for.
    target: String,
    /// Profile of the grant.
    #[schema(required = false)]
    profile: Option<String>,
    /// Request that the grant came from.
    #[schema(required = false)]
    request: Option<String>,
    /// Reason for the grant.
    reason: Option<String>,
    /// Time of creation.
    #[schema(format = DateTime)]
    created_at: String,
    /// Identity or operator that created the grant.
    created_by: String,
    /// Latest time of the first connection.
    #[schema(format = DateTime)]
    activate_by: String,
    /// Length of the window in seconds.
    window_seconds: u64,
    /// Latest end of the window.
    #[schema(format = DateTime)]
    deadline: Option<String>,
    /// Number of simultaneous sessions.
    max_sessions: u32,
    /// Network that its clients must connect from.
    client_network: Option<String>,
    /// Time at which the window opened.
    #[schema(format = DateTime)]
    activated_at: Option<String>,
    /// Time at which the window closes.
    #[schema(format = DateTime)]
    until: Option<String>,
    /// Early end of the grant.
    revoked: Option<RevocationShape>,
    /// `ready`, `active`, `lapsed`, `expired`, `revoked` or `released` (given back by its owner).
    status: String,
    /// Number of sessions that are alive under the grant.
    live_sessions: u32,
    /// Progress of the change, in the answer to one that takes rights away.
    #[schema(nullable = false)]
    effect: Option<EffectShape>,
}

/// Gate time beside the machine's clock.
#[derive(ToSchema)]
#[schema(as = Clock)]
pub(super) struct ClockShape {
    /// Gate time, which deadlines and records use.
    #[schema(format = DateTime)]
    gate_time: String,
    /// Time of the machine's clock.
    #[schema(format = DateTime)]
    machine_time: String,
    /// Reason that the machine's clock is not trusted, if it is not.
    #[schema(nullable = false)]
    doubt: Option<String>,
}

/// Progress of a change that takes rights away.
#[derive(ToSchema)]
#[schema(as = Effect)]
pub(super) struct EffectShape {
    /// Affected sessions have been told to end, and nothing new is let in by the lost right.
    in_effect: bool,
    /// The change is in the store, so it survives a restart.
    stored: bool,
    /// The change is in the audit log.
    recorded: bool,
}

/// Revocation of a grant.
#[derive(ToSchema)]
#[schema(as = Revocation)]
pub(super) struct RevocationShape {
    /// Time of the revocation.
    #[schema(format = DateTime)]
    at: String,
    /// Identity or operator that revoked the grant.
    by: String,
    /// Reason for the revocation.
    #[schema(nullable = false)]
    reason: Option<String>,
}

/// Request for access.
#[derive(ToSchema)]
#[schema(as = Request)]
pub(super) struct RequestShape {
    /// Id of the request.
    id: String,
    /// Identity that requests.
    identity: String,
    /// Groups of the identity at the time of the request.
    #[schema(required = false)]
    groups: BTreeSet<String>,
    /// Issuer of the token that proved the identity; absent for a local user.
    #[schema(nullable = false)]
    issuer: Option<String>,
    /// Claims of that token about the pipeline's run (`repository`, `ref`, ...).
    #[schema(required = false)]
    claims: BTreeMap<String, String>,
    /// Requested target.
    target: String,
    /// Requested profile.
    profile: String,
    /// Length of the window in seconds, from the first connection.
    window_seconds: u64,
    /// Reason for the request.
    #[schema(nullable = false)]
    reason: Option<String>,
    /// Ticket that the request belongs to.
    #[schema(nullable = false)]
    ticket: Option<String>,
    /// Number of simultaneous sessions.
    max_sessions: u32,
    /// Immediate access without approval, to be reviewed afterwards.
    #[schema(required = false)]
    break_glass: bool,
    /// Time of the request.
    #[schema(format = DateTime)]
    submitted_at: String,
    /// Latest time of an approval.
    #[schema(format = DateTime)]
    expires_at: String,
    /// Number of distinct approvers that are needed; 0 if none is.
    approvals_needed: u32,
    /// Approvals so far, in order.
    #[schema(required = false)]
    approvals: Vec<ApprovalShape>,
    /// Outcome, once there is one.
    #[schema(nullable = false)]
    outcome: Option<OutcomeShape>,
    /// Originally requested extent, if an approver has reduced it.
    #[schema(nullable = false)]
    narrowed_from: Option<ExtentShape>,
    /// Review of a break-glass access.
    #[schema(nullable = false)]
    review: Option<ReviewShape>,
    /// `pending`, `lapsed`, `denied`, `approved`, `rejected` or `withdrawn`.
    status: String,
    /// Number of missing approvals.
    approvals_missing: u32,
    /// Progress of the change, in the answer to one that takes rights away.
    #[schema(nullable = false)]
    effect: Option<EffectShape>,
}

/// Part of a request that an approver can reduce.
#[derive(ToSchema)]
#[schema(as = Extent)]
pub(super) struct ExtentShape {
    /// Name of the profile.
    profile: String,
    /// Length of the window in seconds.
    window_seconds: u64,
}

/// Approval by one approver.
#[derive(ToSchema)]
#[schema(as = Approval)]
pub(super) struct ApprovalShape {
    /// Identity of the approver.
    by: String,
    /// Time of the approval.
    #[schema(format = DateTime)]
    at: String,
    /// Comment of the approver.
    #[schema(nullable = false)]
    comment: Option<String>,
}

/// Outcome of a request.
#[derive(ToSchema)]
#[schema(as = Outcome)]
pub(super) struct OutcomeShape {
    /// `denied`, `approved`, `rejected` or `withdrawn`.
    outcome: String,
    /// Time of the outcome.
    #[schema(format = DateTime)]
    at: String,
    /// Reason, if denied.
    #[schema(nullable = false)]
    why: Option<String>,
    /// Kind of approval, if approved: `automatic` (by the policies alone), `people`, or `break_glass` (by no approver, to be
    /// reviewed).
    #[schema(nullable = false)]
    how: Option<String>,
    /// New grant, if approved.
    #[schema(nullable = false)]
    grant: Option<String>,
    /// Identity that rejected it, if rejected.
    #[schema(nullable = false)]
    by: Option<String>,
    /// Comment of the approver, if rejected.
    #[schema(nullable = false)]
    comment: Option<String>,
}

/// Review of a break-glass access.
#[derive(ToSchema)]
#[schema(as = Review)]
pub(super) struct ReviewShape {
    /// Identity of the reviewer.
    by: String,
    /// Time of the review.
    #[schema(format = DateTime)]
    at: String,
    /// Comment of the reviewer.
    comment: String,
}

/// Running session.
#[derive(ToSchema)]
#[schema(as = Session)]
pub(super) struct SessionShape {
    /// Id of the session.
    session: String,
    /// Id of its grant.
    grant: String,
    /// Identity of the session.
    identity: String,
    /// Target of the session.
    target: String,
    /// Address and port of the client.
    client: String,
    /// Application name that the client gave.
    #[schema(nullable = false)]
    application: Option<String>,
    /// Start of the session.
    #[schema(format = DateTime)]
    since: String,
    /// End of its grant, as currently known.
    #[schema(format = DateTime, nullable = false)]
    until: Option<String>,
    /// `active` while a statement runs, otherwise `idle`; `ended` in the event of its end.
    state: String,
    /// Number of executed statements.
    statements: u64,
    /// Process id of the target's backend.
    backend_pid: i32,
    /// Progress of the change, in the answer to one that ends the session. Nothing has to be stored for it.
    #[schema(nullable = false)]
    effect: Option<EffectShape>,
}

/// Local user, or disabled identity of an issuer.
#[derive(ToSchema)]
#[schema(as = User)]
pub(super) struct UserShape {
    /// Name of the user.
    name: String,
    /// Groups of the user.
    groups: BTreeSet<String>,
    /// True if the user is disabled.
    disabled: bool,
    /// True if the user has a token here.
    local: bool,
    /// Time of creation.
    #[schema(format = DateTime)]
    created_at: String,
    /// Progress of the change, in the answer to one that takes rights away.
    #[schema(nullable = false)]
    effect: Option<EffectShape>,
}

/// Signed checkpoint of the audit log, as its record.
#[derive(ToSchema)]
#[schema(as = Checkpoint)]
pub(super) struct CheckpointShape {
    /// Version of the line format.
    v: u32,
    /// Sequence number of the record.
    seq: u64,
    /// Time of the signature.
    #[schema(format = DateTime)]
    time: String,
    /// Always `checkpoint`.
    event: String,
    /// Id of the log.
    log: String,
    /// Sequence number of the last line that it covers.
    covers: u64,
    /// Chain value after that line: SHA-256, in hexadecimal digits.
    link: String,
    /// Ed25519 public key of the signature, in base 64.
    key: String,
    /// Signature in base 64.
    signature: String,
    /// First hexadecimal digits of the chain value after the record's own line.
    chain: String,
}
