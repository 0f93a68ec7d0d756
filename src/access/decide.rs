//! Consequences of rules and policy answers: pure functions without a store, a log or a clock.
//!
//! They ask no policy; the callers pass the answer.

use std::time::Duration;

use jiff::Timestamp;

use super::{AccessError, Asked, Caps, Narrowed, Rules};
use crate::duration;
use crate::grant::{Grant, SHORTEST_WINDOW};
use crate::identity::{Identity, Source};
use crate::ledger::Submitted;
use crate::names::{ProfileName, TargetName, distance, nearest};
use crate::policy::{Action, Decision, Judgement, NOT_EVALUATED, Verdict};
use crate::request::{How, Request, Wish};

/// Maximum length of a ticket or an idempotency key, in bytes.
const LONGEST_WORD: usize = 200;
/// Maximum number of characters of an unknown name that an error message repeats.
const REPEATED: usize = 63;

/// Resolves typed arguments into a wish: looks up the names, fills in defaults and checks the caps.
pub(super) fn wish(rules: &Rules, who: &Identity, asked: &Asked) -> Result<Wish, AccessError> {
    let (target, profiles) = find_target(rules, &asked.target)?;
    let profile = find_profile(target, profiles, asked.profile.as_deref())?;
    let window = asked.window.unwrap_or(rules.default_window);
    window_within(&rules.caps, window)?;
    let max_sessions = asked.max_sessions.unwrap_or(rules.default_sessions.min(rules.caps.sessions));
    sessions_within(&rules.caps, max_sessions)?;
    let key = asked.key.as_deref().map(str::len);
    if key.is_some_and(|length| length == 0 || length > LONGEST_WORD) {
        return Err(AccessError::Invalid(format!(
            "an idempotency key has 1 to {LONGEST_WORD} bytes"
        )));
    }
    Ok(Wish {
        identity: who.name.clone(),
        groups: who.groups.clone(),
        issuer: match &who.source {
            Source::Local => None,
            Source::Issuer(issuer) => Some(issuer.clone()),
        },
        claims: who.claims.clone(),
        target: target.clone(),
        profile: profile.clone(),
        window,
        reason: reason(&rules.caps, asked.reason.as_deref())?,
        ticket: line(asked.ticket.as_deref(), "ticket", LONGEST_WORD)?,
        max_sessions,
        break_glass: asked.break_glass,
    })
}

fn find_target<'a>(rules: &'a Rules, asked: &str) -> Result<(&'a TargetName, &'a [ProfileName]), AccessError> {
    let found = rules.targets.iter().find(|(name, _)| name.as_str() == asked);
    found.map(|(name, profiles)| (name, profiles.as_slice())).ok_or_else(|| {
        let names = rules.targets.keys().map(TargetName::as_str);
        AccessError::NoSuchTarget {
            nearest: nearest(asked, names).map(str::to_owned),
            known: rules.targets.keys().cloned().collect(),
            asked: asked.chars().take(REPEATED).collect(),
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
        asked: asked.unwrap_or_default().chars().take(REPEATED).collect(),
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
            "the {what} has {} bytes; {longest} are enough: say it shorter",
            text.len()
        )));
    }
    if text.contains(char::is_control) {
        return Err(AccessError::Invalid(format!(
            "the {what} contains control characters: leave them out"
        )));
    }
    Ok(Some(text).filter(|text| !text.is_empty()))
}

/// Returns a comment as one line.
pub(super) fn comment(caps: &Caps, text: Option<&str>) -> Result<Option<String>, AccessError> {
    line(text, "comment", caps.reason_bytes)
}

/// Returns a reason as one line.
pub(super) fn reason(caps: &Caps, text: Option<&str>) -> Result<Option<String>, AccessError> {
    line(text, "reason", caps.reason_bytes)
}

/// Checks the length of a whole window, extensions included.
pub(super) fn window_within(caps: &Caps, window: Duration) -> Result<(), AccessError> {
    if (SHORTEST_WINDOW..=caps.window).contains(&window) {
        return Ok(());
    }
    let longest = duration::show(caps.window);
    Err(AccessError::Invalid(format!(
        "a window here is at least 1 second and at most {longest} long, extensions included: ask for less, like 30m"
    )))
}

fn sessions_within(caps: &Caps, sessions: u32) -> Result<(), AccessError> {
    match sessions {
        0 => Err(AccessError::Invalid(
            "no session could be opened: ask for at least 1 at once, or leave the number out".to_owned(),
        )),
        more if more > caps.sessions => Err(AccessError::Invalid(format!(
            "a grant here has at most {} sessions at once, and {more} were asked for: ask for fewer",
            caps.sessions
        ))),
        _ => Ok(()),
    }
}

/// Returns the state in which a new request with this verdict is recorded.
pub(super) fn submitted(verdict: Verdict, wish: &Wish, pending_for: Duration, now: Timestamp) -> Submitted {
    match verdict {
        Verdict::Denied { why } => Submitted::Denied { why },
        Verdict::Automatic if wish.break_glass => Submitted::Granted(How::BreakGlass),
        Verdict::Automatic => Submitted::Granted(How::Automatic),
        // Break-glass does not wait: it is allowed at once or not at all.
        Verdict::Approvals(_) if wish.break_glass => Submitted::Denied {
            why: "break-glass access is not allowed here: ask without it, and somebody can approve".to_owned(),
        },
        Verdict::Approvals(approvals) => Submitted::Waiting {
            approvals: approvals.max(1),
            expires_at: now.checked_add(pending_for).unwrap_or(Timestamp::MAX),
        },
    }
}

/// Returns true if a request was made for this wish. Window and profile are not compared: an approver may have narrowed them.
pub(super) fn same_request(request: &Wish, wish: &Wish) -> bool {
    let what = |wish: &Wish| (wish.target.clone(), wish.reason.clone(), wish.ticket.clone());
    what(request) == what(wish) && request.max_sessions == wish.max_sessions && request.break_glass == wish.break_glass
}

/// Returns the judgement of a gate without policies.
pub(super) fn no_policies() -> Judgement {
    Judgement {
        verdict: Verdict::Denied {
            why: "this gate has no policies, so nobody can ask for access: its operator can make a grant by hand".to_owned(),
        },
        policies: Vec::new(),
        errors: Vec::new(),
    }
}

/// Checks a request that was approved in the way `how`, with this number of approvals, against a new verdict. The error says why
/// it may no longer be activated.
pub(super) fn still_good(how: How, approvals: usize, verdict: &Verdict) -> Result<(), String> {
    match (how, verdict) {
        (_, Verdict::Denied { why }) => Err(why.clone()),
        (How::Automatic, Verdict::Approvals(_)) => {
            Err("it was approved without an approver, which the policies do not allow now".to_owned())
        }
        (How::BreakGlass, Verdict::Approvals(_)) => {
            Err("it was opened without approval, which the policies do not allow now".to_owned())
        }
        (How::People, Verdict::Approvals(needed)) if usize::try_from(*needed).is_ok_and(|needed| needed > approvals) => Err(
            format!("{approvals} of its approvals count now, and the policies ask for {needed}"),
        ),
        (How::People, Verdict::Approvals(_)) | (_, Verdict::Automatic) => Ok(()),
    }
}

/// Returns the request as an approver would narrow it, so that the policies judge what would be granted. Values that widen it are
/// ignored here; the step refuses them.
pub(super) fn narrowed(request: &Request, narrowed: &Narrowed, profiles: &[ProfileName]) -> Request {
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
pub(super) fn as_wish(grant: &Grant, request: Option<&Request>, profile: ProfileName, window: Duration) -> Wish {
    let asked = request.map(|request| &request.wish);
    Wish {
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

/// Returns the reason of a refusal, in words for the caller.
pub(super) fn why(action: Action, decision: &Decision) -> String {
    let what = match action {
        Action::Request => "ask for this",
        Action::AutoApprove => "have this without an approver",
        Action::BreakGlass => "have this at once",
        Action::Approve => "approve or reject this request",
        Action::Extend => "have the grant extended to that length",
        Action::Revoke => "revoke somebody else's grant",
        Action::ReadLog => "read the audit log",
        Action::Administer => "administer the gate",
    };
    if !decision.errors.is_empty() {
        return NOT_EVALUATED.to_owned();
    }
    match decision.policies.as_slice() {
        [] => format!("no policy lets you {what}"),
        [one] => format!("policy {one} does not let you {what}"),
        several => format!("policies {} do not let you {what}", several.join(", ")),
    }
}

#[cfg(test)]
mod tests;
