//! Consequences of rules and policy answers: pure functions without a store, a log or a clock.
//!
//! They ask no policy; the callers pass the answer.

use std::time::Duration;

use jiff::Timestamp;

use super::{AccessError, AccessRules, NarrowedRequest, RequestArgs, RequestCaps};
use crate::access::policy::{Action, Decision, NOT_EVALUATED, RequestVerdict};
use crate::base::duration;
use crate::identity::Identity;
use crate::ledger::SubmitResult;
use crate::model::grant::{Grant, MIN_WINDOW};
use crate::model::names::{ProfileName, TargetName, distance, nearest};
use crate::model::request::{ApprovedBy, Request, RequestSpec};

/// Maximum length of a ticket or an idempotency key, in bytes.
const MAX_WORD_BYTES: usize = 200;
/// Maximum number of characters of an unknown name that an error message repeats.
const MAX_ECHOED_CHARS: usize = 63;

/// Resolves typed arguments into a wish: looks up the names, fills in defaults and checks the caps.
pub(super) fn wish(rules: &AccessRules, who: &Identity, asked: &RequestArgs) -> Result<RequestSpec, AccessError> {
    let (target, profiles) = find_target(rules, &asked.target)?;
    let profile = find_profile(target, profiles, asked.profile.as_deref())?;
    let window = asked.window.unwrap_or(rules.default_window);
    window_within(&rules.caps, window)?;
    let max_sessions = asked.max_sessions.unwrap_or(rules.default_sessions.min(rules.caps.sessions));
    sessions_within(&rules.caps, max_sessions)?;
    let key = asked.key.as_deref().map(str::len);
    if key.is_some_and(|length| length == 0 || length > MAX_WORD_BYTES) {
        return Err(AccessError::Invalid(format!(
            "an idempotency key has 1 to {MAX_WORD_BYTES} bytes"
        )));
    }
    Ok(RequestSpec {
        identity: who.name.clone(),
        groups: who.groups.clone(),
        issuer: who.issuer().map(str::to_owned),
        claims: who.claims.clone(),
        target: target.clone(),
        profile: profile.clone(),
        window,
        reason: reason(&rules.caps, asked.reason.as_deref())?,
        ticket: line(asked.ticket.as_deref(), "ticket", MAX_WORD_BYTES)?,
        max_sessions,
        break_glass: asked.break_glass,
    })
}

pub(super) fn find_target<'a>(rules: &'a AccessRules, asked: &str) -> Result<(&'a TargetName, &'a [ProfileName]), AccessError> {
    let found = rules.targets.iter().find(|(name, _)| name.as_str() == asked);
    found.map(|(name, profiles)| (name, profiles.as_slice())).ok_or_else(|| {
        let names = rules.targets.keys().map(TargetName::as_str);
        AccessError::NoSuchTarget {
            nearest: nearest(asked, names).map(str::to_owned),
            known: rules.targets.keys().cloned().collect(),
            asked: asked.chars().take(MAX_ECHOED_CHARS).collect(),
        }
    })
}

fn find_profile<'a>(
    target: &TargetName,
    profiles: &'a [ProfileName],
    asked: Option<&str>,
) -> Result<&'a ProfileName, AccessError> {
    let found = match asked {
        Some(asked) => profiles.iter().find(|profile| profile.as_str() == asked),
        // The narrowest profile is the default.
        None => profiles.first(),
    };
    found.ok_or_else(|| AccessError::NoSuchProfile {
        target: target.clone(),
        asked: asked.unwrap_or_default().chars().take(MAX_ECHOED_CHARS).collect(),
        known: by_nearness(asked.unwrap_or_default(), profiles),
    })
}

/// Returns the known profiles, the most similar name first.
pub(super) fn by_nearness(asked: &str, profiles: &[ProfileName]) -> Vec<ProfileName> {
    let mut known = profiles.to_vec();
    known.sort_by_cached_key(|profile| distance(asked, profile.as_str()));
    known
}

/// Returns a typed text as one line: each run of whitespace becomes one space, and an empty text becomes `None`.
pub(super) fn line(text: Option<&str>, what: &str, longest: usize) -> Result<Option<String>, AccessError> {
    let text = text.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
    if text.len() > longest {
        return Err(AccessError::Invalid(format!(
            "the {what} has {} bytes, at most {longest} are allowed; shorten it",
            text.len()
        )));
    }
    if text.contains(char::is_control) {
        return Err(AccessError::Invalid(format!(
            "the {what} contains control characters; remove them"
        )));
    }
    Ok(Some(text).filter(|text| !text.is_empty()))
}

/// Returns a comment as one line.
pub(super) fn comment(caps: &RequestCaps, text: Option<&str>) -> Result<Option<String>, AccessError> {
    line(text, "comment", caps.reason_bytes)
}

/// Returns a reason as one line.
pub(super) fn reason(caps: &RequestCaps, text: Option<&str>) -> Result<Option<String>, AccessError> {
    line(text, "reason", caps.reason_bytes)
}

/// Checks the length of a whole window, extensions included.
pub(super) fn window_within(caps: &RequestCaps, window: Duration) -> Result<(), AccessError> {
    if (MIN_WINDOW..=caps.window).contains(&window) {
        return Ok(());
    }
    let longest = duration::show(caps.window);
    Err(AccessError::Invalid(format!(
        "a window here is 1 second to {longest} long, extensions included; request a time like 30m"
    )))
}

fn sessions_within(caps: &RequestCaps, sessions: u32) -> Result<(), AccessError> {
    match sessions {
        0 => Err(AccessError::Invalid(
            "the number of sessions is 0; request at least 1, or leave it out".to_owned(),
        )),
        more if more > caps.sessions => Err(AccessError::Invalid(format!(
            "a grant here allows at most {} concurrent sessions, not {more}; request fewer",
            caps.sessions
        ))),
        _ => Ok(()),
    }
}

/// Returns the state in which a new request with this verdict is recorded.
pub(super) fn submitted(verdict: RequestVerdict, wish: &RequestSpec, pending_for: Duration, now: Timestamp) -> SubmitResult {
    match verdict {
        RequestVerdict::Denied { why } => SubmitResult::Denied { why },
        RequestVerdict::Automatic if wish.break_glass => SubmitResult::Granted(ApprovedBy::BreakGlass),
        RequestVerdict::Automatic => SubmitResult::Granted(ApprovedBy::Automatic),
        // Break-glass does not wait: it is allowed at once or not at all.
        RequestVerdict::Approvals(_) if wish.break_glass => SubmitResult::Denied {
            why: "break-glass access is not allowed here; make a normal request".to_owned(),
        },
        RequestVerdict::Approvals(approvals) => SubmitResult::Waiting {
            approvals: approvals.max(1),
            expires_at: now.checked_add(pending_for).unwrap_or(Timestamp::MAX),
        },
    }
}

/// Returns true if a request was made for this wish. Window and profile are not compared: an approver may have narrowed them.
pub(super) fn same_request(request: &RequestSpec, wish: &RequestSpec) -> bool {
    let what = |wish: &RequestSpec| (wish.target.clone(), wish.reason.clone(), wish.ticket.clone());
    what(request) == what(wish) && request.max_sessions == wish.max_sessions && request.break_glass == wish.break_glass
}

/// Checks a request that was approved in the way `how`, with this number of approvals, against a new verdict. The error says why
/// it may no longer be activated.
pub(super) fn still_good(how: ApprovedBy, approvals: usize, verdict: &RequestVerdict) -> Result<(), String> {
    match (how, verdict) {
        (_, RequestVerdict::Denied { why }) => Err(why.clone()),
        (ApprovedBy::Automatic, RequestVerdict::Approvals(_)) => {
            Err("it was approved automatically, which the policies no longer allow".to_owned())
        }
        (ApprovedBy::BreakGlass, RequestVerdict::Approvals(_)) => {
            Err("it was opened by break-glass, which the policies no longer allow".to_owned())
        }
        (ApprovedBy::People, RequestVerdict::Approvals(needed))
            if usize::try_from(*needed).is_ok_and(|needed| needed > approvals) =>
        {
            Err(format!(
                "{approvals} of its approvals are still valid, but the policies require {needed}"
            ))
        }
        (ApprovedBy::People, RequestVerdict::Approvals(_)) | (_, RequestVerdict::Automatic) => Ok(()),
    }
}

/// Returns the request as an approver would narrow it, so that the policies judge what would be granted. Values that widen it are
/// ignored here; the step refuses them.
pub(super) fn narrowed(request: &Request, narrowed: &NarrowedRequest, profiles: &[ProfileName]) -> Request {
    let mut request = request.clone();
    if let Some(window) = narrowed.window {
        request.wish.window = window.min(request.wish.window);
    }
    let place = |wanted: &ProfileName| profiles.iter().position(|profile| profile == wanted);
    if let Some(profile) = &narrowed.profile
        && matches!((place(profile), place(&request.wish.profile)), (Some(given), Some(asked)) if given < asked)
    {
        request.wish.profile = profile.clone();
    }
    request
}

/// Returns the wish that would lead to this grant with this window.
pub(super) fn as_wish(grant: &Grant, request: Option<&Request>, profile: ProfileName, window: Duration) -> RequestSpec {
    let asked = request.map(|request| &request.wish);
    RequestSpec {
        identity: grant.identity().clone(),
        groups: asked.map(|wish| wish.groups.clone()).unwrap_or_default(),
        issuer: asked.and_then(|wish| wish.issuer.clone()),
        claims: asked.map(|wish| wish.claims.clone()).unwrap_or_default(),
        target: grant.target().clone(),
        profile,
        window,
        reason: grant.reason().map(str::to_owned),
        ticket: asked.and_then(|wish| wish.ticket.clone()),
        max_sessions: grant.max_sessions(),
        break_glass: asked.is_some_and(|wish| wish.break_glass),
    }
}

/// Returns the reason of a refusal, in words for the caller: the `@advice` of the policies that decided, if they have any.
pub(super) fn why(action: Action, decision: &Decision, advice: &str) -> String {
    let what = match action {
        Action::Request => "request this",
        Action::AutoApprove => "get this without an approver",
        Action::BreakGlass => "get this by break-glass",
        Action::Approve => "approve or reject this request",
        Action::Extend => "extend the grant to that length",
        Action::Revoke => "revoke another identity's grant",
        Action::ReadLog => "read the audit log",
        Action::Administer => "administer the gate",
    };
    if !decision.errors.is_empty() {
        return NOT_EVALUATED.to_owned();
    }
    if !advice.is_empty() {
        return advice.to_owned();
    }
    match decision.policies.as_slice() {
        [] => format!("no policy lets you {what}"),
        [one] => format!("policy {one} does not let you {what}"),
        several => format!("policies {} do not let you {what}", several.join(", ")),
    }
}

#[cfg(test)]
mod tests;
