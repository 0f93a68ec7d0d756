//! *Mine*: what is open for me, what waits, what I can ask for, and what I asked for before.
//!
//! It asks nothing and changes nothing: `ask` and `window` have the forms.

use std::collections::BTreeMap;

use axum::response::Response;
use jiff::Timestamp;
use maud::{Markup, html};

use super::{PAGE_ROWS, show};
use crate::console::answer::{PageAnswer, see};
use crate::console::form::{self, QueryFields};
use crate::console::templates::frame::{Frame, Section};
use crate::console::templates::table::{TableColumn, pages, table};
use crate::console::templates::text::{count, cut, shown};
use crate::console::templates::{state, time, words};
use crate::control::Call;
use crate::control::model::{GrantView, GrantsQuery, ProfileBody, RequestView, RequestsQuery, SessionsQuery};
use crate::gate::session::SessionView;
use crate::model::names::TargetName;
use crate::model::request::RequestState;

/// Number of earlier requests on the page.
const EARLIER_ROWS: u32 = 8;

/// Content of the page.
pub(in crate::console) struct MineView<'a> {
    pub(in crate::console) grants: &'a [GrantView],
    pub(in crate::console) pending: &'a [RequestView],
    pub(in crate::console) earlier: &'a [RequestView],
    pub(in crate::console) sessions: &'a [SessionView],
    pub(in crate::console) offers: &'a BTreeMap<TargetName, Vec<ProfileBody>>,
    pub(in crate::console) now: Timestamp,
}

/// Leads to the first page.
pub(in crate::console) async fn home(_: Call) -> Response {
    see("/mine")
}

/// Shows the page.
pub(in crate::console) async fn page(call: Call, query: QueryFields) -> PageAnswer {
    let me = call.caller.person()?.name().clone();
    let wanted = GrantsQuery {
        identity: Some(me.clone()),
        limit: Some(PAGE_ROWS),
        ..GrantsQuery::default()
    };
    let grants = call.grants(wanted).await?.grants;
    let of_mine = |limit| RequestsQuery {
        identity: Some(me.clone()),
        limit: Some(limit),
        ..RequestsQuery::default()
    };
    let pending = RequestsQuery {
        status: Some(RequestState::Pending),
        ..of_mine(PAGE_ROWS)
    };
    let pending = call.requests(pending).await?.requests;
    let earlier = RequestsQuery {
        settled: true,
        ..of_mine(EARLIER_ROWS)
    };
    let earlier = call.requests(earlier).await?.requests;
    let of_mine = SessionsQuery {
        identity: Some(me),
        ..SessionsQuery::default()
    };
    let sessions = call.sessions(&of_mine).await;
    let view = MineView {
        grants: &grants,
        pending: &pending,
        earlier: &earlier,
        sessions: &sessions,
        offers: &call.gate.service.offers(&call.caller),
        now: call.gate.clock.now(),
    };
    let frame = Frame {
        section: Some(Section::Mine),
        follow: "request grant session",
        ..Frame::bare("Mine")
    };
    Ok(show(&call, &query, frame, &body(&view)))
}

/// Shows all requests of the caller, a page at a time.
pub(in crate::console) async fn requests(call: Call, query: QueryFields) -> PageAnswer {
    let wanted = RequestsQuery {
        identity: Some(call.caller.person()?.name().clone()),
        before: query.0.parsed("before")?,
        limit: Some(PAGE_ROWS),
        ..RequestsQuery::default()
    };
    let is_first = wanted.before.is_none();
    let found = call.requests(wanted).await?;
    let next = found.next.map(|next| form::path("/requests", &[("before", next.as_str())]));
    let body = html! {
        p.crumb { a href="/mine" { "Mine" } }
        h1 { "What I asked for" }
        (earlier(&found.requests, "You have not asked for anything yet."))
        (pages((!is_first).then_some("/requests"), next.as_deref()))
    };
    let frame = Frame {
        section: Some(Section::Mine),
        ..Frame::bare("What I asked for")
    };
    Ok(show(&call, &query, frame, &body))
}

/// Returns the content of the page.
pub(in crate::console) fn body(view: &MineView<'_>) -> Markup {
    html! {
        h1 { "Mine" }
        p.lead { "What is open for you, what waits, and what you can ask for." }
        @if !view.pending.is_empty() {
            h2 { "Waiting" }
            @for request in view.pending { (pending(request, view.now)) }
        }
        h2 { "Open" }
        @if view.grants.is_empty() {
            p.empty { "Nothing is open. Choose below what you need: you get it at once, or somebody is asked." }
        } @else {
            div.grid { @for grant in view.grants { (open(grant, view.now)) } }
        }
        @if !view.sessions.is_empty() { (sessions(view.sessions, view.now)) }
        h2 { "What you can ask for" }
        @if view.offers.is_empty() { p.empty { "This gate has no targets. Its operator adds one to its configuration." } }
        @for (target, profiles) in view.offers { (offers(target, profiles)) }
        h2 { "Before" }
        (earlier(view.earlier, "Nothing of what you asked for is settled yet."))
        @if !view.earlier.is_empty() || !view.pending.is_empty() { p { a href="/requests" { "All that you asked for" } } }
    }
}

fn pending(view: &RequestView, now: Timestamp) -> Markup {
    let wish = &view.request.wish;
    html! {
        div.card.lit {
            div.head {
                h3 { a href={ "/requests/" (view.request.id) } { (wish.target.with(Some(&wish.profile))) } }
                (state::request(view))
            }
            p.note {
                "For " (time::length(wish.window)) ", asked " (time::at(view.request.submitted_at)) ", "
                (time::left(view.request.expires_at, now)) " to be decided."
            }
        }
    }
}

/// Shows an open window, or one that opens with the first connection.
fn open(view: &GrantView, now: Timestamp) -> Markup {
    let grant = &view.grant;
    html! {
        div.card.lit {
            div.head {
                h3 { a href={ "/grants/" (grant.id()) } { (grant.target().with(grant.profile())) } }
                (state::grant(view))
            }
            @match grant.until() {
                Some(until) => { p.big { (time::left(until, now)) } }
                None => {
                    p.big { (time::length(grant.window())) }
                    p.note { "Connect before " (time::at(grant.activate_by())) "." }
                }
            }
            @if let Some(reason) = grant.reason() { p.note { (cut(reason)) } }
            p.note { (count(u64::from(view.live_sessions), "session", "sessions")) " of at most " (grant.max_sessions()) }
            div.acts { a.button href={ "/grants/" (grant.id()) } { "Connect" } }
        }
    }
}

fn sessions(sessions: &[SessionView], now: Timestamp) -> Markup {
    let columns: [TableColumn<'_, SessionView>; 5] = [
        (
            "Session",
            &|view| html! { a.id href={ "/live#" (view.who.session) } { (view.who.session) } },
        ),
        ("Target", &|view| html! { (view.who.target.with(view.who.profile.as_ref())) }),
        ("Client", &|view| html! { (cut(view.application.as_deref().unwrap_or("-"))) }),
        (
            "State",
            &|view| html! { (state::session(view)) " " (count(view.statements, "statement", "statements")) },
        ),
        (
            "Time",
            &|view| html! { @if let Some(until) = view.until { (time::left(until, now)) } },
        ),
    ];
    html! {
        h2 { "Your sessions" }
        (table("", sessions, &columns, &html! {}))
    }
}

/// Shows the profiles of a target, the narrowest first.
fn offers(target: &TargetName, profiles: &[ProfileBody]) -> Markup {
    html! {
        section.offers aria-label={ "Target " (target) } {
            h3 { (target) }
            div.grid { @for profile in profiles { (offer(target, profile)) } }
        }
    }
}

fn offer(target: &TargetName, profile: &ProfileBody) -> Markup {
    let refused = profile.verdict.as_ref().is_some_and(words::is_refused);
    let why = profile.verdict.as_ref().and_then(|verdict| verdict.why.as_deref());
    let path = form::path("/ask", &[("target", target.as_str()), ("profile", profile.profile.as_str())]);
    html! {
        div.card {
            div.head {
                h3 { (profile.profile) }
                @if let Some(verdict) = &profile.verdict { (words::verdict(verdict, profile.needs_reason)) }
            }
            (words::profile(profile))
            @if let Some(why) = why { p.note { (shown(why)) } }
            div.acts {
                @if refused {
                    a.button.plain href=(path) { "What would help" }
                } @else {
                    a.button href=(path) aria-label={ "Ask for it: " (target) " with " (profile.profile) } { "Ask for it" }
                }
            }
        }
    }
}

/// Shows requests as a table.
fn earlier(requests: &[RequestView], empty: &str) -> Markup {
    let columns: [TableColumn<'_, RequestView>; 5] = [
        (
            "Request",
            &|view| html! { a.id href={ "/requests/" (view.request.id) } { (view.request.id) } },
        ),
        (
            "Target",
            &|view| html! { (view.request.wish.target.with(Some(&view.request.wish.profile))) },
        ),
        ("State", &state::request),
        ("Asked", &|view| time::at(view.request.submitted_at)),
        (
            "Reason",
            &|view| html! { (cut(view.request.wish.reason.as_deref().unwrap_or(""))) },
        ),
    ];
    table("", requests, &columns, &html! { (empty) })
}
