//! Requests, users and a person's grants as text.
//!
//! `render` prints them. All text from others goes through [`visible`].

use jiff::Timestamp;

use super::render::{self, ends, list, relative, table, time, to, visible};
use super::table::{cut, less, whole};
use crate::base::duration;
use crate::control::model::{GrantView, IssuedUser, RequestView, UserView};
use crate::model::names::IdentityName;
use crate::model::request::{ApprovedBy, RequestOutcome};

/// Returns requests as a table.
#[must_use]
pub(super) fn requests(requests: &[RequestView], now: Timestamp) -> String {
    if requests.is_empty() {
        return "No requests.".to_owned();
    }
    let columns = [
        whole("REQUEST"),
        cut("IDENTITY", 12),
        whole("TARGET"),
        whole("FOR"),
        less("STATUS", 1),
        less("ASKED", 3),
        less("TICKET", 2),
        cut("REASON", 12),
    ];
    let row = |view: &RequestView| {
        let (request, wish) = (&view.request, &view.request.wish);
        [
            request.id.to_string(),
            wish.identity.to_string(),
            wish.target.with(Some(&wish.profile)),
            duration::show(wish.window),
            standing(view),
            relative(request.submitted_at, now),
            visible(wish.ticket.as_deref().unwrap_or("")),
            visible(wish.reason.as_deref().unwrap_or("")),
        ]
    };
    table(columns, &requests.iter().map(row).collect::<Vec<_>>())
}

/// Returns the status, with the missing approvals or review.
fn standing(view: &RequestView) -> String {
    let status = visible(&view.status);
    match (view.status.as_str(), view.approvals_missing) {
        ("pending", missing @ 2..) => format!("{status}, {missing} approvals"),
        _ if view.request.wants_review() => format!("{status}, to be reviewed"),
        _ => status,
    }
}

/// Returns all fields of a request.
#[must_use]
pub(super) fn request(view: &RequestView, approvers: &[IdentityName], now: Timestamp) -> String {
    let (request, wish) = (&view.request, &view.request.wish);
    let when = |at: Timestamp| format!("{} ({})", time(at), relative(at, now));
    let mut rows = vec![
        ("request", request.id.to_string()),
        ("identity", wish.identity.to_string()),
        ("target", wish.target.with(Some(&wish.profile))),
        ("window", format!("{} from the first connect", duration::show(wish.window))),
        ("reason", visible(wish.reason.as_deref().unwrap_or("-"))),
    ];
    if let Some(ticket) = &wish.ticket {
        rows.push(("ticket", visible(ticket)));
    }
    if let Some(extent) = &request.narrowed_from {
        rows.push((
            "asked for",
            format!("{} for {}; less was approved", extent.profile, duration::show(extent.window)),
        ));
    }
    rows.push(("status", standing(view)));
    rows.push(("asked", when(request.submitted_at)));
    for approval in &request.approvals {
        rows.push(("approved", by(&approval.by, approval.at, approval.comment.as_deref())));
    }
    match &request.outcome {
        None if view.status == "pending" => {
            rows.push(("waits until", when(request.expires_at)));
            if let Some(who) = who_can(approvers) {
                rows.push(("can approve", who));
            }
        }
        None => rows.push(("lapsed", when(request.expires_at))),
        Some(RequestOutcome::Denied { why, .. }) => rows.push(("denied", visible(why))),
        Some(RequestOutcome::Approved { how, grant, .. }) => {
            match how {
                ApprovedBy::Automatic => rows.push(("approved", "by the policies".to_owned())),
                ApprovedBy::BreakGlass if request.review.is_some() => {
                    rows.push(("approved", "without approval (break-glass)".to_owned()));
                }
                ApprovedBy::BreakGlass => rows.push(("approved", "without approval (break-glass); needs a review".to_owned())),
                ApprovedBy::People => {}
            }
            rows.push(("grant", grant.to_string()));
        }
        Some(RequestOutcome::Rejected { at, by: who, comment }) => rows.push(("rejected", by(who, *at, comment.as_deref()))),
        Some(RequestOutcome::Withdrawn { at }) => rows.push(("withdrawn", when(*at))),
    }
    if let Some(review) = &request.review {
        rows.push(("reviewed", by(&review.by, review.at, Some(&review.comment))));
    }
    rows.extend(view.effect.map(|effect| ("effect", render::effect(effect))));
    list(&rows)
}

fn by(who: &IdentityName, at: Timestamp, comment: Option<&str>) -> String {
    let comment = comment.map(|comment| format!(": {}", visible(comment))).unwrap_or_default();
    format!("{} by {who}{comment}", time(at))
}

/// Returns `lead@example.com, tom and 3 more`; `None` if no approver is known.
#[must_use]
pub(super) fn who_can(approvers: &[IdentityName]) -> Option<String> {
    let named: Vec<&str> = approvers.iter().take(3).map(IdentityName::as_str).collect();
    match (named.is_empty(), approvers.len().saturating_sub(named.len())) {
        (true, _) => None,
        (false, 0) => Some(named.join(", ")),
        (false, more) => Some(format!("{} and {more} more", named.join(", "))),
    }
}

/// Returns the next step of the requester.
#[must_use]
pub(super) fn next_step(view: &RequestView) -> Option<String> {
    let wish = &view.request.wish;
    match view.status.as_str() {
        "pending" => Some(format!(
            "An approver runs: tidegate approve {}\nTo wait for it and connect: tidegate psql {}",
            view.request.id,
            wish.target.with(Some(&wish.profile))
        )),
        "approved" => Some(format!("To connect: tidegate psql {}", wish.target.with(Some(&wish.profile)))),
        _ => None,
    }
}

/// Returns true if a grant can be used.
#[must_use]
pub(super) fn live(view: &GrantView) -> bool {
    matches!(view.status.as_str(), "ready" | "active")
}

/// Returns a person's own grants as a table.
#[must_use]
pub(super) fn grants(grants: &[GrantView], now: Timestamp) -> String {
    if grants.is_empty() {
        return "No grants. To request one: tidegate request TARGET --for 30m --reason WHY".to_owned();
    }
    let columns = [
        whole("GRANT"),
        whole("TARGET"),
        whole("STATUS"),
        whole("ENDS"),
        less("SESSIONS", 1),
        cut("REASON", 10),
    ];
    let row = |view: &GrantView| {
        let grant = &view.grant;
        [
            grant.id().to_string(),
            to(grant),
            visible(&view.status),
            ends(view, now),
            format!("{}/{}", view.live_sessions, grant.max_sessions()),
            visible(grant.reason().unwrap_or("")),
        ]
    };
    table(columns, &grants.iter().map(row).collect::<Vec<_>>())
}

/// Returns users as a table.
#[must_use]
pub(super) fn users(users: &[UserView]) -> String {
    if users.is_empty() {
        return "No users. To create one: tidegate user add NAME --group GROUP".to_owned();
    }
    let columns = [
        whole("NAME"),
        cut("GROUPS", 12),
        whole("STATUS"),
        less("TOKEN", 1),
        less("SINCE", 2),
    ];
    let row = |user: &UserView| {
        [
            user.name.to_string(),
            groups(user),
            if user.disabled { "disabled" } else { "enabled" }.to_owned(),
            if user.local { "local" } else { "of an issuer" }.to_owned(),
            time(user.created_at),
        ]
    };
    let table = table(columns, &users.iter().map(row).collect::<Vec<_>>());
    match users {
        [
            UserView {
                effect: Some(effect), ..
            },
        ] => format!("{table}\n\nThis is {}.", render::effect(*effect)),
        _ => table,
    }
}

fn groups(user: &UserView) -> String {
    let groups: Vec<&str> = user.groups.iter().map(crate::model::names::GroupName::as_str).collect();
    groups.join(", ")
}

/// Returns a user with their new token.
#[must_use]
pub(super) fn issued_user(issued: &IssuedUser) -> String {
    let mut rows = vec![("user", issued.user.name.to_string()), ("groups", groups(&issued.user))];
    let Some(token) = &issued.token else {
        rows.extend(issued.user.effect.map(|effect| ("effect", render::effect(effect))));
        return format!(
            "{}\n\nThe old token is no longer valid. A new one could not be created; rotate again when /readyz reports ready.",
            list(&rows)
        );
    };
    rows.push(("token", visible(token)));
    format!(
        "{}\n\nThe token is shown only now; it is not stored. Its owner uses it with: tidegate login",
        list(&rows)
    )
}
