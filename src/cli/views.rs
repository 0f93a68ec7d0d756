//! Requests, grants, sessions and users as text.
//!
//! `render` prints them. All text from others goes through [`visible`].

use jiff::Timestamp;

use super::render::{joined, left, list, relative, time, visible};
use super::table::{Column, cut, less, table, whole};
use crate::base::duration;
use crate::control::model::{
    ChangeEffect, GrantView, Issued, IssuedUser, LineHolder, LineStanding, LineView, RequestView, SignInView, UserView,
};
use crate::gate::session::SessionView;
use crate::model::grant::Grant;
use crate::model::ids::SignInId;
use crate::model::names::IdentityName;
use crate::model::request::{ApprovedBy, RequestOutcome, RequestSpec};

/// Returns requests as a table.
#[must_use]
pub(super) fn requests(requests: &[RequestView], now: Timestamp) -> String {
    let columns: [Column<'_, RequestView>; 8] = [
        (whole("REQUEST"), &|view| view.request.id.to_string()),
        (cut("IDENTITY", 12), &|view| view.request.wish.identity.to_string()),
        (whole("TARGET"), &|view| wanted(&view.request.wish)),
        (whole("FOR"), &|view| duration::show(view.request.wish.window)),
        (less("STATUS", 1), &standing),
        (less("ASKED", 3), &|view| relative(view.request.submitted_at, now)),
        (less("TICKET", 2), &|view| optional(view.request.wish.ticket.as_deref())),
        (cut("REASON", 12), &|view| optional(view.request.wish.reason.as_deref())),
    ];
    table(requests, "No requests.", &columns)
}

fn optional(text: Option<&str>) -> String {
    visible(text.unwrap_or(""))
}

/// Returns the target of a request as `target/profile`.
pub(super) fn wanted(wish: &RequestSpec) -> String {
    wish.target.with(Some(&wish.profile))
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
    let when = |at| when(at, now);
    let mut rows = vec![
        ("request", request.id.to_string()),
        ("identity", wish.identity.to_string()),
        ("target", wanted(wish)),
        ("window", format!("{} from the first connect", duration::show(wish.window))),
        ("reason", visible(wish.reason.as_deref().unwrap_or("-"))),
    ];
    rows.extend(wish.ticket.as_deref().map(|ticket| ("ticket", visible(ticket))));
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
            rows.extend(who_can(approvers).map(|who| ("can approve", who)));
        }
        None => rows.push(("lapsed", when(request.expires_at))),
        Some(RequestOutcome::Denied { why, .. }) => rows.push(("denied", visible(why))),
        Some(RequestOutcome::Approved { how, grant, .. }) => {
            let how = match how {
                ApprovedBy::Automatic => Some("by the policies"),
                ApprovedBy::BreakGlass if request.review.is_some() => Some("without approval (break-glass)"),
                ApprovedBy::BreakGlass => Some("without approval (break-glass); needs a review"),
                ApprovedBy::People => None,
            };
            rows.extend(how.map(|how| ("approved", how.to_owned())));
            rows.push(("grant", grant.to_string()));
        }
        Some(RequestOutcome::Rejected { at, by: who, comment }) => rows.push(("rejected", by(who, *at, comment.as_deref()))),
        Some(RequestOutcome::Withdrawn { at }) => rows.push(("withdrawn", when(*at))),
    }
    if let Some(review) = &request.review {
        rows.push(("reviewed", by(&review.by, review.at, Some(&review.comment))));
    }
    rows.extend(view.effect.map(|done| ("effect", effect(done))));
    list(&rows)
}

fn by(who: &IdentityName, at: Timestamp, comment: Option<&str>) -> String {
    let comment = comment.map(|comment| format!(": {}", visible(comment))).unwrap_or_default();
    format!("{} by {who}{comment}", time(at))
}

/// Returns `lead@example.com, tom and 3 more`; `None` if no approver is known.
#[must_use]
pub(super) fn who_can(approvers: &[IdentityName]) -> Option<String> {
    let named = joined(approvers.iter().take(3), ", ");
    match approvers.len() {
        0 => None,
        1..=3 => Some(named),
        all => Some(format!("{named} and {} more", all - 3)),
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
            wanted(wish)
        )),
        "approved" => Some(format!("To connect: tidegate psql {}", wanted(wish))),
        _ => None,
    }
}

/// Returns grants as a table: a person's own, or those of all identities.
#[must_use]
pub(super) fn grants(grants: &[GrantView], own: bool, now: Timestamp) -> String {
    let (empty, end, reason) = if own {
        let empty = "No grants. To request one: tidegate request TARGET --for 30m --reason WHY";
        (empty, whole("ENDS"), cut("REASON", 10))
    } else {
        ("No grants.", less("ENDS", 1), cut("REASON", 8))
    };
    let columns: [Column<'_, GrantView>; 7] = [
        (whole("GRANT"), &|view| view.grant.id().to_string()),
        (cut("IDENTITY", 12), &|view| view.grant.identity().to_string()),
        (whole("TARGET"), &|view| to(&view.grant)),
        (whole("STATUS"), &standing_of_grant),
        (end, &|view| ends(view, now)),
        (less("SESSIONS", 2), &|view| {
            format!("{}/{}", view.live_sessions, view.grant.max_sessions())
        }),
        (reason, &|view| optional(view.grant.reason())),
    ];
    let shown = |(column, _): &Column<'_, GrantView>| !own || column.name != "IDENTITY";
    table(grants, empty, &columns.into_iter().filter(shown).collect::<Vec<_>>())
}

/// Returns the status of a grant, or its standing in the line of its target, which says more.
fn standing_of_grant(view: &GrantView) -> String {
    match &view.line {
        None => visible(&view.status),
        Some(LineStanding::Uses) => "exclusive".to_owned(),
        Some(LineStanding::Waits(place)) => format!("{} in line", ordinal(place.place)),
    }
}

/// Formats a number in an order: `1st`, `2nd`, `11th`.
fn ordinal(number: u32) -> String {
    let ending = match (number % 10, number % 100) {
        (1, last) if last != 11 => "st",
        (2, last) if last != 12 => "nd",
        (3, last) if last != 13 => "rd",
        _ => "th",
    };
    format!("{number}{ending}")
}

/// Returns who uses targets exclusively and who waits for them, one line for each target.
#[must_use]
pub(super) fn lines(lines: &[LineView]) -> String {
    let named = |holder: &LineHolder| format!("{} ({})", holder.identity, holder.grant);
    let line = |line: &LineView| {
        let held_by = line.held_by.iter().map(|holder| {
            let until = holder.until.map(|until| format!(" until {}", time(until)));
            format!("{}{}", named(holder), until.unwrap_or_default())
        });
        let held_by = joined(held_by, ", ");
        let waiting = joined(line.waiting.iter().map(named), ", ");
        let waiting = if waiting.is_empty() { "nobody".to_owned() } else { waiting };
        visible(&format!("{}: in use by {held_by}; in line: {waiting}", line.target))
    };
    joined(lines.iter().map(line), "\n")
}

/// Formats the end of a grant, or its length if it has not begun.
fn ends(view: &GrantView, now: Timestamp) -> String {
    let end = match view.status.as_str() {
        "ready" => return format!("{} after first use", duration::show(view.grant.window())),
        "revoked" | "released" => view.grant.revoked().map(|revoked| revoked.at),
        "lapsed" => Some(view.grant.activate_by()),
        _ => view.grant.until(),
    };
    end.map(|end| relative(end, now)).unwrap_or_default()
}

/// Returns the target of a grant as `target` or `target/profile`.
#[must_use]
pub(super) fn to(grant: &Grant) -> String {
    grant.target().with(grant.profile())
}

fn when(at: Timestamp, now: Timestamp) -> String {
    format!("{} ({})", time(at), relative(at, now))
}

/// Returns all fields of a grant.
#[must_use]
pub(super) fn grant(view: &GrantView, now: Timestamp) -> String {
    let grant = &view.grant;
    let mut rows = vec![
        ("grant", grant.id().to_string()),
        ("identity", grant.identity().to_string()),
        ("target", to(grant)),
    ];
    rows.extend(grant.request().map(|request| ("request", request.to_string())));
    let created = format!("{} by {}", time(grant.created_at()), visible(grant.created_by()));
    rows.extend([
        ("reason", visible(grant.reason().unwrap_or("-"))),
        ("status", visible(&view.status)),
        ("window", duration::show(grant.window())),
        ("created", created),
    ]);
    match grant.activated_at() {
        Some(at) => rows.push(("first used", time(at))),
        None if grant.revoked().is_some() => {}
        None => rows.push(("first use by", when(grant.activate_by(), now))),
    }
    // A revocation is shown below, with its reason.
    let until = grant.until().filter(|_| grant.revoked().is_none());
    rows.extend(until.map(|until| ("until", when(until, now))));
    rows.extend(grant.deadline().map(|deadline| ("never after", time(deadline))));
    let sessions = format!("{} of at most {}", view.live_sessions, grant.max_sessions());
    rows.push(("sessions", sessions));
    rows.extend(view.line.as_ref().map(|standing| match standing {
        LineStanding::Uses => ("line", "it uses the target exclusively".to_owned()),
        LineStanding::Waits(place) => {
            let holders = visible(&place.holders(time));
            ("line", format!("{}; the target is {holders}", ordinal(place.place)))
        }
    }));
    rows.extend(grant.client_network().map(|network| ("only from", network.to_string())));
    if let Some(revocation) = grant.revoked() {
        let (by, reason) = (visible(&revocation.by), revocation.reason.as_deref().map(visible));
        let told = format!("{} by {by}", time(revocation.at));
        rows.push(match reason {
            _ if grant.given_back() => ("released", told),
            Some(reason) => ("revoked", format!("{told}: {reason}")),
            None => ("revoked", told),
        });
    }
    rows.extend(view.effect.map(|done| ("effect", effect(done))));
    list(&rows)
}

/// Returns a new grant, with its secret.
#[must_use]
pub(super) fn issued(issued: &Issued) -> String {
    let grant = &issued.grant.grant;
    let mut rows = vec![
        ("grant", grant.id().to_string()),
        ("secret", visible(&issued.secret)),
        ("connect", visible(&issued.connection_string)),
        ("identity", grant.identity().to_string()),
        ("target", to(grant)),
        ("first use by", time(grant.activate_by())),
        ("window", format!("{} from the first connect", duration::show(grant.window()))),
    ];
    rows.extend(grant.deadline().map(|deadline| ("never after", time(deadline))));
    format!("{}\n\nThe secret is shown only now; it is not stored.", list(&rows))
}

/// Returns sessions as a table.
#[must_use]
pub(super) fn sessions(sessions: &[SessionView], now: Timestamp) -> String {
    let columns: [Column<'_, SessionView>; 10] = [
        (whole("SESSION"), &|session| session.who.session.to_string()),
        (cut("IDENTITY", 12), &|session| session.who.identity.to_string()),
        (whole("TARGET"), &|session| {
            session.who.target.with(session.who.profile.as_ref())
        }),
        (less("GRANT", 1), &|session| session.who.grant.to_string()),
        (less("CLIENT", 3), &|session| session.client.to_string()),
        (less("SINCE", 4), &|session| time(session.since)),
        (whole("LEFT"), &|session| {
            session.until.map(|until| left(until, now)).unwrap_or_default()
        }),
        (less("STATE", 2), &|session| visible(&session.state)),
        (less("STATEMENTS", 5), &|session| session.statements.to_string()),
        (cut("RUNS", 10), &|session| session.runs().unwrap_or_default()),
    ];
    table(sessions, "No live sessions.", &columns)
}

/// Returns sign-ins as a table. `current`: the one that sends this command, if it is one.
#[must_use]
pub(super) fn sign_ins(sign_ins: &[SignInView], current: Option<&SignInId>, now: Timestamp) -> String {
    let marked = |view: &SignInView| match current {
        Some(current) if *current == view.id => format!("{} (this one)", view.via),
        _ => view.via.to_string(),
    };
    let columns: [Column<'_, SignInView>; 6] = [
        (whole("SIGN-IN"), &|view| view.id.to_string()),
        (cut("IDENTITY", 12), &|view| view.identity.to_string()),
        (whole("AT THE"), &marked),
        (less("FROM", 2), &|view| {
            view.client.map(|client| client.to_string()).unwrap_or_default()
        }),
        (less("LAST USED", 1), &|view| relative(view.last_used_at, now)),
        (whole("LEFT"), &|view| left(view.expires_at, now)),
    ];
    table(sign_ins, "No sign-ins.", &columns)
}

/// Returns users as a table.
#[must_use]
pub(super) fn users(users: &[UserView], now: Timestamp) -> String {
    let columns: [Column<'_, UserView>; 5] = [
        (whole("NAME"), &|user| user.name.to_string()),
        (cut("GROUPS", 12), &groups),
        (whole("STATUS"), &|user| {
            if user.disabled { "disabled" } else { "enabled" }.to_owned()
        }),
        (less("TOKEN", 1), &|user| token(user, now)),
        (less("SINCE", 2), &|user| time(user.created_at)),
    ];
    let table = table(
        users,
        "No users. To create one: tidegate user add NAME --group GROUP",
        &columns,
    );
    match users {
        [UserView { effect: Some(done), .. }] => format!("{table}\n\nThis is {}.", effect(*done)),
        _ => table,
    }
}

/// Returns the time that is left to the token.
fn token(user: &UserView, now: Timestamp) -> String {
    match user.token_until {
        _ if !user.local => "of an issuer".to_owned(),
        None => "does not expire".to_owned(),
        Some(until) if until <= now => "has expired".to_owned(),
        Some(until) => format!("{} left", days_left(until, now)),
    }
}

/// Returns the days that are left, or less in full.
fn days_left(until: Timestamp, now: Timestamp) -> String {
    let days = until.duration_since(now).as_hours() / 24;
    if days > 1 { format!("{days}d") } else { left(until, now) }
}

fn groups(user: &UserView) -> String {
    joined(&user.groups, ", ")
}

/// Returns a user with their new token.
#[must_use]
pub(super) fn issued_user(issued: &IssuedUser, now: Timestamp) -> String {
    let mut rows = vec![("user", issued.user.name.to_string()), ("groups", groups(&issued.user))];
    let Some(token) = &issued.token else {
        rows.extend(issued.user.effect.map(|done| ("effect", effect(done))));
        return format!(
            "{}\n\nThe old token is no longer valid. A new one could not be created; rotate again when /readyz reports ready.",
            list(&rows)
        );
    };
    rows.push(("token", visible(token)));
    if let Some(until) = issued.user.token_until {
        rows.push(("expires", format!("{} (in {})", time(until), days_left(until, now))));
    }
    format!(
        "{}\n\nThe token is shown only now; it is not stored. Its owner uses it with: tidegate login",
        list(&rows)
    )
}

/// Describes the progress of a change that takes rights away.
#[must_use]
pub(super) fn effect(effect: ChangeEffect) -> String {
    let ChangeEffect {
        in_effect,
        stored,
        recorded,
    } = effect;
    let said = |yes, word: &str| if yes { word.to_owned() } else { format!("not {word} yet") };
    let words = [
        said(in_effect, "in effect"),
        said(stored, "stored"),
        said(recorded, "recorded"),
    ];
    let more = if effect.is_done() { "" } else { " (the gate retries)" };
    format!("{}{more}", words.join(", "))
}
