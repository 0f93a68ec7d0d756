//! Pages of the console, one file for each: a handler makes the call, a pure function shows its answer.
//!
//! They hold no rule: what a person may see and do, the call says.

pub(super) mod ask;
pub(super) mod card;
pub(super) mod decide;
pub(super) mod gate;
pub(super) mod live;
pub(super) mod log;
pub(super) mod mine;
pub(super) mod policies;
pub(super) mod request;
pub(super) mod sign_in;
pub(super) mod story;
pub(super) mod terminal;
pub(super) mod touched;
pub(super) mod users;
pub(super) mod window;

use axum::response::Response;
use maud::Markup;

use super::answer::{self, see};
use super::form::{self, QueryFields};
use super::page_status::PageStatus;
use super::templates::frame::{self, Frame};
use super::templates::words::PageNotice;
use super::viewer;
use crate::control::{Call, RENEWAL_FIELD};
use crate::ledger::ChangeEffect;

/// Field of a query with the word of a [`PageNotice`].
const NOTICE_FIELD: &str = "did";
/// Time after which a page is renewed that shows what runs now.
const RENEWAL_SECONDS: u32 = 5;
/// Number of rows of a list.
const PAGE_ROWS: u32 = 25;

/// Answers with a page for the caller.
fn show(call: &Call, query: &QueryFields, frame: Frame<'_>, body: &Markup) -> Response {
    show_with(PageStatus::OK, call, query, frame, body)
}

/// Answers with a page for the caller, and a status.
fn show_with(status: PageStatus, call: &Call, query: &QueryFields, frame: Frame<'_>, body: &Markup) -> Response {
    let viewer = viewer::viewer(&call.gate, &call.caller);
    let renewal = [&query.0.without(&[NOTICE_FIELD])[..], &[(RENEWAL_FIELD, "yes")]].concat();
    let renewal = form::path("", &renewal);
    let frame = Frame {
        renewal: &renewal,
        viewer: Some(&viewer),
        notice: query.0.text(NOTICE_FIELD).and_then(PageNotice::sentence),
        now: Some(call.gate.clock.now()),
        ..frame
    };
    answer::html(status, frame::page(&frame, body))
}

/// Leads to a page with a notice.
fn done(path: &str, notice: PageNotice) -> Response {
    see(&form::path(path, &[(NOTICE_FIELD, notice.word())]))
}

/// Leads to a page with a notice of a change that takes rights away: it is in effect, and may be stored or recorded later.
fn taken(path: &str, effect: Option<ChangeEffect>, notice: PageNotice) -> Response {
    let late = effect.is_some_and(|effect| !effect.is_done());
    done(path, if late { PageNotice::Late } else { notice })
}
