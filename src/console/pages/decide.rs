//! *Decide*: the requests that wait for the caller, and the break-glass accesses that the caller may review; on demand all.
//!
//! It decides nothing; the page of each request has the form.

use axum::response::Response;
use jiff::Timestamp;
use maud::{Markup, html};

use super::{NOTICE_FIELD, PAGE_ROWS, show};
use crate::console::answer::PageAnswer;
use crate::console::form::{self, QueryFields};
use crate::console::templates::frame::{Frame, Section};
use crate::console::templates::table::pages;
use crate::console::templates::text::{cut, shown};
use crate::console::templates::{state, time};
use crate::control::model::{RequestView, RequestsQuery};
use crate::control::{ApiError, Call};
use crate::model::ids::RequestId;
use crate::model::request::RequestState;

/// Path of the requests that wait.
const WAITING: &str = "/decide";
/// Path of the break-glass accesses without a review.
const REVIEWS: &str = "/decide/reviews";

/// Request in the list.
pub(in crate::console) struct DecideRow {
    pub(in crate::console) view: RequestView,
    /// True if the caller may decide on it.
    pub(in crate::console) mine: bool,
}

/// Content of the page, without the links to others.
#[derive(Clone, Copy)]
pub(in crate::console) struct DecideView<'a> {
    pub(in crate::console) rows: &'a [DecideRow],
    /// True for break-glass accesses without a review; otherwise for requests that wait.
    pub(in crate::console) reviews: bool,
    /// True if all that the caller may see is shown; otherwise what they may decide on.
    pub(in crate::console) all: bool,
    pub(in crate::console) now: Timestamp,
}

/// Shows the requests that wait.
pub(in crate::console) async fn page(call: Call, query: QueryFields) -> PageAnswer {
    let pending = RequestsQuery {
        status: Some(RequestState::Pending),
        ..RequestsQuery::default()
    };
    list(&call, &query, pending, WAITING).await
}

/// Shows the break-glass accesses without a review.
pub(in crate::console) async fn reviews(call: Call, query: QueryFields) -> PageAnswer {
    let unreviewed = RequestsQuery {
        unreviewed: true,
        ..RequestsQuery::default()
    };
    list(&call, &query, unreviewed, REVIEWS).await
}

async fn list(call: &Call, query: &QueryFields, wanted: RequestsQuery, path: &'static str) -> Result<Response, ApiError> {
    let fields = &query.0;
    let all = fields.checked("all");
    let wanted = RequestsQuery {
        decidable: !all,
        before: fields.parsed("before")?,
        identity: fields.parsed("identity")?,
        target: fields.parsed("target")?,
        limit: Some(PAGE_ROWS),
        ..wanted
    };
    let found = call.requests(wanted).await?;
    let row = |view: RequestView| DecideRow {
        mine: call.gate.service.may_decide(&call.caller, &view.request),
        view,
    };
    let rows: Vec<DecideRow> = found.requests.into_iter().map(row).collect();
    let kept = fields.without(&["before", NOTICE_FIELD]);
    let first = fields.text("before").map(|_| form::path(path, &kept));
    let next = found.next.as_ref().map(RequestId::as_str);
    let next = next.map(|next| form::path(path, &[&kept[..], &[("before", next)]].concat()));
    let view = DecideView {
        rows: &rows,
        reviews: path == REVIEWS,
        all,
        now: call.gate.clock.now(),
    };
    let body = html! {
        (body(&view))
        (pages(first.as_deref(), next.as_deref()))
    };
    let frame = Frame {
        section: Some(Section::Decide),
        follow: "request",
        ..Frame::bare("Decide")
    };
    Ok(show(call, query, frame, &body))
}

/// Returns the content of the page, without the links to others.
pub(in crate::console) fn body(view: &DecideView<'_>) -> Markup {
    let DecideView { rows, reviews, all, now } = *view;
    let path = if reviews { REVIEWS } else { WAITING };
    html! {
        h1 { "Decide" }
        div.acts {
            a.button.plain href=(WAITING) aria-current=[(!reviews).then_some("page")] { "Waiting" }
            a.button.plain href=(REVIEWS) aria-current=[reviews.then_some("page")] { "Break glass to review" }
        }
        h2 {
            @if reviews { "Break glass, not reviewed yet" } @else { "Waiting" }
            @if !all { " for you" }
        }
        @if rows.is_empty() {
            p.empty {
                "Nothing " @if reviews { "is to be reviewed" } @else { "waits" } @if all { ". " } @else { " for you. " }
                "This page shows the next one by itself; you may leave it open."
            }
        }
        @for row in rows { (card(row, now)) }
        p.note {
            @if all { a href=(path) { "Only what you can decide on" } }
            @else { a href={ (path) "?all=yes" } { "All that you may see, also your own and what others decide on" } }
        }
    }
}

fn card(row: &DecideRow, now: Timestamp) -> Markup {
    let (request, wish) = (&row.view.request, &row.view.request.wish);
    html! {
        div class=(if row.mine { "card lit" } else { "card" }) {
            div.head {
                h3 {
                    a href={ "/requests/" (request.id) } {
                        (cut(wish.identity.as_str())) ": " (wish.target.with(Some(&wish.profile)))
                    }
                }
                (state::request(&row.view))
            }
            p {
                strong { (time::length(wish.window)) } ", "
                (cut(wish.reason.as_deref().unwrap_or("no reason given")))
                @if let Some(ticket) = &wish.ticket { " (" (shown(ticket)) ")" }
            }
            p.note {
                "Asked " (time::at(request.submitted_at))
                @if request.outcome.is_none() { ", " (time::left(request.expires_at, now)) " to decide" }
                @if let Some(approvals) = state::approvals(&row.view) { ", " (approvals) }
            }
            div.acts {
                @if row.mine {
                    a.button href={ "/requests/" (request.id) } { @if request.wants_review() { "Review it" } @else { "Decide on it" } }
                } @else {
                    a.button.plain href={ "/requests/" (request.id) } { "Look at it" }
                }
            }
        }
    }
}
