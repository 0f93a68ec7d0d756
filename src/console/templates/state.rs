//! States of requests, grants and sessions as a word and a shape.
//!
//! The words are those of the command line and the log.

use maud::{Markup, html};

use super::text::{count, shown};
use crate::gate::session::SessionView;
use crate::ledger::{GrantView, RequestView};

/// Shows a state; `kind` is `waiting`, `open`, `refused` or nothing.
fn state(kind: &str, words: &str) -> Markup {
    html! { span class={ "status " (kind) } { (words) } }
}

/// Shows the state of a request, with the missing approvals or review.
pub(in crate::console) fn request(view: &RequestView) -> Markup {
    let review = view.request.wants_review();
    match view.status.as_str() {
        "pending" if view.approvals_missing > 1 => state("waiting", &format!("waits for {} approvals", view.approvals_missing)),
        "pending" => state("waiting", "waits for approval"),
        "approved" if review => state("waiting", "break-glass, to be reviewed"),
        "approved" => state("open", "approved"),
        "denied" | "rejected" => state("refused", &shown(&view.status)),
        other => state("", &shown(other)),
    }
}

/// Shows the state of a grant.
pub(in crate::console) fn grant(view: &GrantView) -> Markup {
    match view.status.as_str() {
        "ready" => state("open", "ready: starts at the first connection"),
        "active" => state("open", "open"),
        "revoked" => state("refused", "revoked"),
        "released" => state("", "given back"),
        other => state("", &shown(other)),
    }
}

/// Shows the state of a session.
pub(in crate::console) fn session(view: &SessionView) -> Markup {
    match view.state.as_str() {
        "active" => state("open", "runs a statement"),
        "ended" => state("", "ended"),
        other => state("", &shown(other)),
    }
}

/// Shows a condition that is good or needs attention.
pub(in crate::console) fn good(good: bool, words: &str) -> Markup {
    state(if good { "open" } else { "refused" }, words)
}

/// Shows how many approvals there are of how many.
pub(in crate::console) fn approvals(view: &RequestView) -> Option<String> {
    let (have, needed) = (view.request.approvals.len() as u64, u64::from(view.request.approvals_needed));
    (needed > 1).then(|| format!("{have} of {}", count(needed, "approval", "approvals")))
}
