//! One grant: its window with the time that is left, its sessions, extend, give back, revoke; and the list of grants.
//!
//! It judges nothing: a form that the policies refuse says so. `card` has the logins.

use axum::extract::Path;
use jiff::Timestamp;
use maud::{Markup, html};

use super::{PAGE_ROWS, done, show, show_with, taken};
use crate::console::answer::PageAnswer;
use crate::console::form::{self, FormError, FormFields, QueryFields, RefusedForm};
use crate::console::page_status::PageStatus;
use crate::console::templates::field::{self, TextField};
use crate::console::templates::frame::{Frame, Section};
use crate::console::templates::table::{TableColumn, pages, table};
use crate::console::templates::text::{count, cut, shown};
use crate::console::templates::words::PageNotice;
use crate::console::templates::{problem, state, time};
use crate::control::model::{GrantView, GrantsQuery};
use crate::control::{Call, named};
use crate::gate::session::SessionView;
use crate::model::ids::GrantId;

/// Name of the form that extends.
const EXTENSION: &str = "extension";
/// Name of the form that revokes.
const REVOCATION: &str = "revocation";

/// Content of the page.
pub(in crate::console) struct WindowView<'a> {
    pub(in crate::console) grant: &'a GrantView,
    pub(in crate::console) sessions: &'a [SessionView],
    /// True if the page is for the owner.
    pub(in crate::console) own: bool,
    /// Form that was sent and refused.
    pub(in crate::console) refused: Option<&'a RefusedForm>,
    /// True if the person may end single sessions.
    pub(in crate::console) ends_sessions: bool,
    pub(in crate::console) now: Timestamp,
}

/// Shows the grant.
pub(in crate::console) async fn page(call: Call, Path(id): Path<String>, query: QueryFields) -> PageAnswer {
    show_grant(&call, &named(&id)?, &query, None).await
}

async fn show_grant(call: &Call, id: &GrantId, query: &QueryFields, refused: Option<&RefusedForm>) -> PageAnswer {
    let grant = call.gate.service.grant(&call.caller, id).await?;
    // Who may see a grant sees its sessions, too.
    let mut sessions = call.gate.registry.list();
    sessions.retain(|session| session.who.grant == *id);
    let own = call.caller.is(grant.grant.identity());
    let view = WindowView {
        grant: &grant,
        sessions: &sessions,
        own,
        refused,
        ends_sessions: call.gate.service.watches(&call.caller, id).await,
        now: call.gate.clock.now(),
    };
    let title = format!("{} for {}", grant.grant.target(), shown(grant.grant.identity().as_str()));
    let frame = Frame {
        section: Some(if own { Section::Mine } else { Section::Live }),
        follow: "grant session",
        subject: Some(id.as_str()),
        ..Frame::bare(&title)
    };
    let status = refused.map_or(PageStatus::OK, RefusedForm::status);
    Ok(show_with(status, call, query, frame, &body(&view)))
}

/// Shows the grants that the caller may see, a page at a time.
pub(in crate::console) async fn list(call: Call, query: QueryFields) -> PageAnswer {
    let fields = &query.0;
    let wanted = GrantsQuery {
        all: fields.checked("all"),
        identity: fields.parsed("identity")?,
        target: fields.parsed("target")?,
        before: fields.parsed("before")?,
        limit: Some(PAGE_ROWS),
    };
    let found = call.grants(wanted).await?;
    let kept = fields.without(&["before"]);
    let (first, next) = page_paths("/grants", &kept, fields, found.next.as_ref().map(GrantId::as_str));
    let columns: [TableColumn<'_, GrantView>; 6] = [
        (
            "Grant",
            &|view| html! { a.id href={ "/grants/" (view.grant.id()) } { (view.grant.id()) } },
        ),
        ("Who", &|view| html! { (cut(view.grant.identity().as_str())) }),
        ("Target", &|view| html! { (view.grant.target().with(view.grant.profile())) }),
        ("State", &state::grant),
        ("Made", &|view| time::at(view.grant.created_at())),
        ("Reason", &|view| html! { (cut(view.grant.reason().unwrap_or(""))) }),
    ];
    let body = html! {
        h1 { "Grants" }
        p.lead {
            @if fields.checked("all") { a href="/grants" { "Only those that have not ended" } }
            @else { a href="/grants?all=yes" { "Those that have ended, too" } }
        }
        (table("", &found.grants, &columns, &html! { "No grants that you may see." }))
        (pages(first.as_deref(), next.as_deref()))
    };
    let frame = Frame {
        section: Some(Section::Live),
        ..Frame::bare("Grants")
    };
    Ok(show(&call, &query, frame, &body))
}

/// Returns the paths of the first page and of the next one.
fn page_paths(path: &str, kept: &[(&str, &str)], fields: &FormFields, next: Option<&str>) -> (Option<String>, Option<String>) {
    let first = fields.text("before").map(|_| form::path(path, kept));
    let next = next.map(|next| form::path(path, &[kept, &[("before", next)]].concat()));
    (first, next)
}

/// Extends the window.
pub(in crate::console) async fn extend(call: Call, Path(id): Path<String>, fields: FormFields) -> PageAnswer {
    let id: GrantId = named(&id)?;
    match extended(&call, &id, &fields).await {
        Ok(view) => Ok(done(&to(&view), PageNotice::Extended)),
        Err(error) => again(&call, &id, RefusedForm::new(EXTENSION, fields, error)?).await,
    }
}

async fn extended(call: &Call, id: &GrantId, fields: &FormFields) -> Result<GrantView, FormError> {
    let missing = || FormError::of_field("by", &"the extension is empty; set its length, like 30m");
    let by = fields.duration("by")?.ok_or_else(missing)?;
    let extended = call.gate.service.extend(&call.caller, id, by, fields.text("reason"));
    Ok(extended.await?)
}

/// Gives back the caller's own.
pub(in crate::console) async fn release(call: Call, Path(id): Path<String>, _: FormFields) -> PageAnswer {
    let view = call.gate.service.release(call.caller.person()?, &named(&id)?).await?;
    Ok(taken(&to(&view), view.effect, PageNotice::Released))
}

/// Revokes another's.
pub(in crate::console) async fn revoke(call: Call, Path(id): Path<String>, fields: FormFields) -> PageAnswer {
    let id: GrantId = named(&id)?;
    match call.gate.service.revoke(&call.caller, &id, fields.text("reason")).await {
        Ok(view) => Ok(taken(&to(&view), view.effect, PageNotice::Revoked)),
        Err(error) => again(&call, &id, RefusedForm::new(REVOCATION, fields, error.into())?).await,
    }
}

/// Shows the grant again, with the form that was refused.
async fn again(call: &Call, id: &GrantId, refused: RefusedForm) -> PageAnswer {
    let refused = refused.on_page(format!("/grants/{id}"));
    show_grant(call, id, &QueryFields::default(), Some(&refused)).await
}

fn to(view: &GrantView) -> String {
    format!("/grants/{}", view.grant.id())
}

/// Returns the content of the page.
pub(in crate::console) fn body(view: &WindowView<'_>) -> Markup {
    let grant = &view.grant.grant;
    let live = !grant.status(view.now).ended();
    html! {
        p.crumb {
            @if view.own { a href="/mine" { "Mine" } } @else { a href="/live" { "Live" } }
        }
        h1 { (grant.target().with(grant.profile())) }
        p { (state::grant(view.grant)) }
        (problem::refusal(view.refused))
        @if live { (clock(view)) }
        (facts(view))
        h2 { "Sessions" }
        (sessions(view))
        @if live { (changes(view)) }
    }
}

fn clock(view: &WindowView<'_>) -> Markup {
    let grant = &view.grant.grant;
    html! {
        div.card.lit {
            @match grant.until() {
                Some(until) => { p.big { (time::left(until, view.now)) } }
                None => {
                    p.big { (time::length(grant.window())) }
                    p.note { "The time starts with the first connection, which has to come before " (time::at(grant.activate_by())) "." }
                }
            }
            @if view.own {
                div.acts { (field::button(&format!("/grants/{}/login", grant.id()), "How to connect", "")) }
                p.note { "Makes a login: its secret is shown once." }
            }
        }
    }
}

fn facts(view: &WindowView<'_>) -> Markup {
    let grant = &view.grant.grant;
    html! {
        dl.facts {
            dt { "Grant" } dd.id { (grant.id()) }
            dt { "Who" } dd { (shown(grant.identity().as_str())) }
            dt { "Why" } dd { (shown(grant.reason().unwrap_or("no reason given"))) }
            @if let Some(request) = grant.request() {
                dt { "Request" } dd { a.id href={ "/requests/" (request) } { (request) } }
            }
            dt { "Window" } dd { (time::length(grant.window())) }
            dt { "Made" } dd { (time::at(grant.created_at())) " by " (shown(grant.created_by())) }
            @if let Some(at) = grant.activated_at() { dt { "Opened" } dd { (time::at(at)) } }
            @if let Some(until) = grant.until() { dt { "Until" } dd { (time::at(until)) } }
            @if let Some(deadline) = grant.deadline() { dt { "Never after" } dd { (time::at(deadline)) } }
            @if let Some(network) = grant.client_network() { dt { "Only from" } dd { (network) } }
            dt { "At once" } dd { (count(u64::from(grant.max_sessions()), "session", "sessions")) " at most" }
            @if let Some(revoked) = grant.revoked() {
                dt { @if grant.given_back() { "Given back" } @else { "Revoked" } }
                dd {
                    (time::at(revoked.at)) " by " (shown(&revoked.by))
                    @if let Some(reason) = revoked.reason.as_ref().filter(|_| !grant.given_back()) { ": " (shown(reason)) }
                }
            }
        }
    }
}

fn sessions(view: &WindowView<'_>) -> Markup {
    let now = view.now;
    let end = |session: &SessionView| {
        html! { @if view.ends_sessions { (field::button(&format!("/live/{}/end", session.who.session), "End", "harm")) } }
    };
    let columns: [TableColumn<'_, SessionView>; 5] = [
        ("Session", &|view| html! { span.id { (view.who.session) } }),
        (
            "Client",
            &|view| html! { (view.client) @if let Some(application) = &view.application { ", " (cut(application)) } },
        ),
        (
            "State",
            &|view| html! { (state::session(view)) " " (count(view.statements, "statement", "statements")) },
        ),
        (
            "Time",
            &|view| html! { @if let Some(until) = view.until { (time::left(until, now)) } },
        ),
        ("", &end),
    ];
    table("", view.sessions, &columns, &html! { "No session is open." })
}

/// Shows the forms that change the grant.
fn changes(view: &WindowView<'_>) -> Markup {
    let path = format!("/grants/{}", view.grant.grant.id());
    let [extension, revocation] = [EXTENSION, REVOCATION].map(|form| view.refused.filter(|refused| refused.is(form)));
    html! {
        h2 { "Change it" }
        div.grid {
            form.card method="post" action={ (path) "/extend" } {
                div.fields {
                    (field::text(&TextField {
                        name: "by", label: "Extend by", value: "30m", proposals: &["15m", "30m", "1h"], required: true,
                        ..TextField::default()
                    }.again(extension)))
                    (field::text(&TextField { name: "reason", label: "Why", hint: "On record", ..TextField::default() }.again(extension)))
                    div.acts { button { "Extend" } }
                }
            }
            @if view.own {
                div.card {
                    p { "Ready before the time is over? Then nobody needs to think of it any more." }
                    div.acts { (field::button(&format!("{path}/release"), "Give it back", "harm")) }
                }
            } @else {
                form.card method="post" action={ (path) "/revoke" } {
                    div.fields {
                        (field::text(&TextField {
                            name: "reason", label: "Revoke, because", hint: "Its owner reads it; its sessions end at once",
                            ..TextField::default()
                        }.again(revocation)))
                        div.acts { button.harm { "Revoke" } }
                    }
                }
            }
        }
    }
}
