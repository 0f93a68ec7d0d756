//! Matching of a wish with what an identity has already: a live grant to join, or a pending request.
//!
//! It makes no request. INVARIANT: a wish joins only a grant of its profile, and only one that covers it; a new reason is
//! recorded before a session opens under the joined grant.

use std::borrow::Cow;

use super::admission::RUN_CLAIMS;
use super::{AccessError, AccessRules, AccessService, Principal, RequestArgs};
use crate::audit::event::{Event, GrantJoined};
use crate::ledger::{GrantView, LedgerError, RequestView};
use crate::model::grant::Grant;
use crate::model::names::ProfileName;
use crate::model::request::{Request, RequestSpec};

/// Live grant, with its request if it has one.
#[derive(Debug, Clone)]
pub(super) struct JoinCandidate {
    pub(super) view: GrantView,
    pub(super) request: Option<Request>,
}

/// Returns the candidate that covers the wish. A grant of exactly the profile goes before one that an approver narrowed from it;
/// among equals the first one is taken.
pub(super) fn fitting(
    rules: &AccessRules,
    mut candidates: Vec<JoinCandidate>,
    asked: &RequestArgs,
    wish: &RequestSpec,
) -> Option<JoinCandidate> {
    candidates.retain(|candidate| covers(rules, candidate, asked, wish));
    let exact = candidates
        .iter()
        .position(|candidate| profile_of(rules, &candidate.view.grant, asked) == Some(&wish.profile));
    let chosen = exact.unwrap_or(0);
    (chosen < candidates.len()).then(|| candidates.swap_remove(chosen))
}

/// Returns true if a candidate is of the same run of a pipeline as the wish: two runs of one pipeline have one identity, and where
/// only one grant at a time uses the target they must not share it.
fn same_run(candidate: &JoinCandidate, wish: &RequestSpec) -> bool {
    let before = candidate.request.as_ref().map(|request| &request.wish.claims);
    RUN_CLAIMS
        .iter()
        .all(|claim| before.and_then(|claims| claims.get(*claim)) == wish.claims.get(*claim))
}

/// Returns true if a candidate covers a wish. Values that the caller did not name match anything, except the profile: it defaults
/// to the narrowest.
fn covers(rules: &AccessRules, candidate: &JoinCandidate, asked: &RequestArgs, wish: &RequestSpec) -> bool {
    let grant = &candidate.view.grant;
    let request = candidate.request.as_ref();
    let extent = request.map(Request::asked_for);
    let profile = profile_of(rules, grant, asked) == Some(&wish.profile)
        || extent.as_ref().is_some_and(|extent| extent.profile == wish.profile);
    // A grant that an approver narrowed still answers the same wish.
    let longest = extent.map_or(grant.window(), |extent| extent.window.max(grant.window()));
    let ticket = request.and_then(|request| request.wish.ticket.as_ref());
    profile
        && (!rules.use_mode(grant).is_exclusive() || same_run(candidate, wish))
        && asked.window.is_none_or(|window| window <= longest)
        && asked.max_sessions.is_none_or(|sessions| sessions <= grant.max_sessions())
        && (wish.ticket.is_none() || wish.ticket.as_ref() == ticket)
}

/// Returns the profile of a grant. A grant made by hand without a profile gets that of a target with a single profile, unless the
/// caller names one.
fn profile_of<'a>(rules: &'a AccessRules, grant: &'a Grant, asked: &RequestArgs) -> Option<&'a ProfileName> {
    let only = || match rules.targets.get(grant.target()).map(Vec::as_slice) {
        Some([only]) if asked.profile.is_none() => Some(only),
        _ => None,
    };
    grant.profile().or_else(only)
}

/// Returns true if a pending request equals the wish in every value that the caller named.
pub(super) fn same_wish(pending: &Request, asked: &RequestArgs, wish: &RequestSpec) -> bool {
    let extent = pending.asked_for();
    let before = &pending.wish;
    extent.profile == wish.profile
        && before.break_glass == wish.break_glass
        && asked.window.is_none_or(|_| extent.window.as_secs() == wish.window.as_secs())
        && asked.max_sessions.is_none_or(|sessions| sessions == before.max_sessions)
        && (wish.reason.is_none() || wish.reason == before.reason)
        && (wish.ticket.is_none() || wish.ticket == before.ticket)
}

/// Returns true if the wish is for a grant of its own, because another use of the same grant would not wait for it.
fn is_alone(rules: &AccessRules, asked: &RequestArgs, wish: &RequestSpec) -> bool {
    asked.alone && rules.mode_of(&wish.target, &wish.profile).is_exclusive()
}

impl AccessService {
    /// Returns the live grant that covers the wish, after recording a new reason.
    pub(super) async fn joined(
        &self,
        who: &Principal,
        rules: &AccessRules,
        asked: &RequestArgs,
        wish: &RequestSpec,
    ) -> Result<Option<JoinCandidate>, AccessError> {
        // A break-glass access is opened for its own reason and reviewed by it.
        if asked.break_glass || is_alone(rules, asked, wish) {
            return Ok(None);
        }
        let mut candidates = Vec::new();
        for view in self.0.ledger.live_grants(who.name(), &wish.target) {
            let request = match view.grant.request() {
                Some(id) => Some(self.find(id).await?.request),
                None => None,
            };
            candidates.push(JoinCandidate { view, request });
        }
        let Some(candidate) = fitting(rules, candidates, asked, wish) else {
            return Ok(None);
        };
        let grant = &candidate.view.grant;
        if let Some(reason) = wish.reason.as_deref().filter(|reason| Some(*reason) != grant.reason()) {
            let event = Event::GrantJoined(Cow::Owned(GrantJoined {
                grant: grant.id().clone(),
                identity: who.name().clone(),
                target: grant.target().clone(),
                profile: grant.profile().cloned(),
                reason: reason.to_owned(),
                client: who.client,
            }));
            self.0.journal.record(&event).await.map_err(LedgerError::from)?;
        }
        Ok(Some(candidate))
    }

    /// Returns the pending request that equals the wish.
    pub(super) fn asked_again(
        &self,
        who: &Principal,
        rules: &AccessRules,
        asked: &RequestArgs,
        wish: &RequestSpec,
    ) -> Option<RequestView> {
        if is_alone(rules, asked, wish) {
            return None;
        }
        let pending = self.0.ledger.pending_requests(who.name(), &wish.target);
        pending.into_iter().find(|view| same_wish(&view.request, asked, wish))
    }
}
