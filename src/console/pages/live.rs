//! *Live*: the running sessions with what they run; each can be followed, and ended.
//!
//! Whose sessions a person sees, the call says.

use axum::extract::Path;
use jiff::Timestamp;
use maud::{Markup, html};

use super::{RENEWAL_SECONDS, show, story, taken};
use crate::console::answer::PageAnswer;
use crate::console::form::{FormFields, QueryFields};
use crate::console::templates::frame::{Frame, Section};
use crate::console::templates::table::{TableColumn, table};
use crate::console::templates::text::{count, cut};
use crate::console::templates::words::PageNotice;
use crate::console::templates::{field, state, time};
use crate::control::model::SessionsQuery;
use crate::control::{Call, named};
use crate::gate::session::SessionView;
use crate::model::ids::SessionId;

/// Number of sessions on the page; with more, a filter narrows them.
const MAX_ROWS: usize = 200;

/// Content of the page.
pub(in crate::console) struct LiveView<'a> {
    pub(in crate::console) sessions: &'a [SessionView],
    /// Number of sessions, those beyond the page included.
    pub(in crate::console) all: usize,
    pub(in crate::console) now: Timestamp,
}

/// Shows the running sessions.
pub(in crate::console) async fn page(call: Call, query: QueryFields) -> PageAnswer {
    let wanted = SessionsQuery {
        grant: query.0.parsed("grant")?,
        identity: query.0.parsed("identity")?,
        target: query.0.parsed("target")?,
    };
    let mut sessions = call.sessions(&wanted).await;
    let all = sessions.len();
    sessions.truncate(MAX_ROWS);
    let view = LiveView {
        sessions: &sessions,
        all,
        now: call.gate.clock.now(),
    };
    let frame = Frame {
        section: Some(Section::Live),
        follow: "session",
        renews: (!sessions.is_empty()).then_some(RENEWAL_SECONDS),
        ..Frame::bare("Live")
    };
    Ok(show(&call, &query, frame, &body(&view)))
}

/// Ends a session.
pub(in crate::console) async fn end(call: Call, Path(id): Path<String>, fields: FormFields) -> PageAnswer {
    let id: SessionId = named(&id)?;
    let view = call.end_session(&id, fields.owned("reason")).await?;
    Ok(taken(&format!("/grants/{}", view.who.grant), view.effect, PageNotice::Ended))
}

/// Returns the content of the page.
pub(in crate::console) fn body(view: &LiveView<'_>) -> Markup {
    let now = view.now;
    let columns: [TableColumn<'_, SessionView>; 8] = [
        ("Session", &|session| {
            let id = &session.who.session;
            html! { span id=(id) .id { (id) } " " a href=(story::newest(session)) aria-label={ "Follow " (id) } { "Follow" } }
        }),
        ("Who", &|session| html! { (cut(session.who.identity.as_str())) }),
        ("Target", &|session| {
            html! { a href={ "/grants/" (session.who.grant) } { (session.who.target.with(session.who.profile.as_ref())) } }
        }),
        ("Client", &|session| {
            html! { (session.client) @if let Some(application) = &session.application { ", " (cut(application)) } }
        }),
        (
            "State",
            &|session| html! { (state::session(session)) " " (count(session.statements, "statement", "statements")) },
        ),
        (
            "Runs",
            &|session| html! { @if let Some(runs) = session.runs() { code { (runs) } } },
        ),
        (
            "Time",
            &|session| html! { @if let Some(until) = session.until { (time::left(until, now)) } },
        ),
        ("", &|session| {
            field::button(&format!("/live/{}/end", session.who.session), "End", "harm")
        }),
    ];
    let empty = html! { "No session is open that you may see. Sessions appear here when clients connect." };
    html! {
        h1 { "Live" }
        p.lead { (count(view.all as u64, "session", "sessions")) " now. " a href="/grants" { "All grants" } }
        (table("", view.sessions, &columns, &empty))
        @if view.all > view.sessions.len() {
            p.note { "Only the oldest " (view.sessions.len()) " are shown; /live?identity=… or ?target=… narrows them." }
        }
    }
}
