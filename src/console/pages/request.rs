//! One request: the wait of its requester, and everything that its approver needs to decide in ten seconds.
//!
//! It judges nothing: who may decide, the briefing says, and the access service decides again.

use axum::extract::Path;
use jiff::Timestamp;
use maud::{Markup, html};

use super::{show_with, taken};
use crate::access::NarrowedRequest;
use crate::console::answer::PageAnswer;
use crate::console::form::{FormError, FormFields, QueryFields, RefusedForm};
use crate::console::page_status::PageStatus;
use crate::console::templates::field::{self, TextField};
use crate::console::templates::frame::{Frame, Section};
use crate::console::templates::table::{TableColumn, table};
use crate::console::templates::text::{count, cut, names, shown};
use crate::console::templates::words::PageNotice;
use crate::console::templates::{problem, state, time, words};
use crate::control::model::{Briefing, RequestView};
use crate::control::{Call, named};
use crate::gate::session::SessionView;
use crate::model::ids::RequestId;
use crate::model::names::ProfileName;
use crate::model::request::{ApprovedBy, RequestOutcome, RequestState};

/// Name of the form of an approver.
const DECISION: &str = "decision";
/// Name of the form of a review.
const REVIEW: &str = "review";

/// Content of the page.
pub(in crate::console) struct RequestPageView<'a> {
    pub(in crate::console) briefing: &'a Briefing,
    /// Profiles that an approver may give, the narrowest first.
    pub(in crate::console) narrower: &'a [ProfileName],
    /// True if the page is for the requester.
    pub(in crate::console) own: bool,
    /// Form that was sent and refused.
    pub(in crate::console) refused: Option<&'a RefusedForm>,
    pub(in crate::console) now: Timestamp,
}

/// Shows the request.
pub(in crate::console) async fn page(call: Call, Path(id): Path<String>, query: QueryFields) -> PageAnswer {
    show_request(&call, &named(&id)?, &query, None).await
}

async fn show_request(call: &Call, id: &RequestId, query: &QueryFields, refused: Option<&RefusedForm>) -> PageAnswer {
    let briefing = call.briefing(id).await?;
    let request = &briefing.request.request.request;
    let own = call.caller.is(&request.wish.identity);
    let rules = call.gate.service.rules();
    let profiles = rules.targets.get(&request.wish.target).map(Vec::as_slice).unwrap_or_default();
    let asked = profiles.iter().position(|profile| *profile == request.wish.profile);
    let view = RequestPageView {
        briefing: &briefing,
        narrower: asked.and_then(|asked| profiles.get(..=asked)).unwrap_or_default(),
        own,
        refused,
        now: call.gate.clock.now(),
    };
    let title = format!("{} for {}", request.wish.target, shown(request.wish.identity.as_str()));
    let frame = Frame {
        section: Some(if own { Section::Mine } else { Section::Decide }),
        follow: "request grant session",
        subject: Some(id.as_str()),
        waits: own && request.outcome.is_none() && refused.is_none(),
        ..Frame::bare(&title)
    };
    let status = refused.map_or(PageStatus::OK, RefusedForm::status);
    Ok(show_with(status, call, query, frame, &body(&view)))
}

/// StepForm of a person on a request, as a form asks for it.
#[derive(Debug, Clone, Copy)]
enum StepForm {
    Approve,
    Reject,
    Withdraw,
    Review,
}

/// Approves it, in full or in part.
pub(in crate::console) async fn approve(call: Call, Path(id): Path<String>, fields: FormFields) -> PageAnswer {
    step(&call, &named(&id)?, fields, StepForm::Approve).await
}

/// Rejects it.
pub(in crate::console) async fn reject(call: Call, Path(id): Path<String>, fields: FormFields) -> PageAnswer {
    step(&call, &named(&id)?, fields, StepForm::Reject).await
}

/// Withdraws the caller's own.
pub(in crate::console) async fn withdraw(call: Call, Path(id): Path<String>, fields: FormFields) -> PageAnswer {
    step(&call, &named(&id)?, fields, StepForm::Withdraw).await
}

/// Records the review of a break-glass access.
pub(in crate::console) async fn review(call: Call, Path(id): Path<String>, fields: FormFields) -> PageAnswer {
    step(&call, &named(&id)?, fields, StepForm::Review).await
}

/// Takes a step, and leads back to the request; a form that is refused is shown again.
async fn step(call: &Call, id: &RequestId, fields: FormFields, step: StepForm) -> PageAnswer {
    match taken_step(call, id, &fields, step).await {
        Ok((view, notice)) => Ok(taken(&to(&view), view.effect, notice)),
        Err(error) => {
            let form = if matches!(step, StepForm::Review) { REVIEW } else { DECISION };
            let refused = RefusedForm::new(form, fields, error)?.on_page(format!("/requests/{id}"));
            show_request(call, id, &QueryFields::default(), Some(&refused)).await
        }
    }
}

async fn taken_step(
    call: &Call,
    id: &RequestId,
    fields: &FormFields,
    step: StepForm,
) -> Result<(RequestView, PageNotice), FormError> {
    let service = &call.gate.service;
    let (person, comment) = (call.caller.person()?, fields.owned("comment"));
    Ok(match step {
        StepForm::Approve => {
            let narrowed = NarrowedRequest {
                window: fields.duration("window")?,
                profile: fields.parsed("profile")?,
            };
            (service.approve(person, id, narrowed, comment).await?, PageNotice::Approved)
        }
        StepForm::Reject => (service.reject(person, id, comment).await?, PageNotice::Rejected),
        StepForm::Withdraw => (service.withdraw(person, id).await?, PageNotice::Withdrawn),
        StepForm::Review => (
            service.review(person, id, comment.unwrap_or_default()).await?,
            PageNotice::Reviewed,
        ),
    })
}

fn to(view: &RequestView) -> String {
    format!("/requests/{}", view.request.id)
}

/// Returns the content of the page.
pub(in crate::console) fn body(view: &RequestPageView<'_>) -> Markup {
    let Briefing {
        request,
        profile,
        earlier,
        sessions,
        ..
    } = view.briefing;
    let wish = &request.request.request.wish;
    let pending = request.request.status == RequestState::Pending.name();
    let [decides, reviews] = [pending, request.request.request.wants_review()].map(|open| open && view.briefing.may_decide);
    html! {
        p.crumb {
            @if view.own { a href="/mine" { "Mine" } } @else { a href="/decide" { "Decide" } }
        }
        h1 { (wish.target.with(Some(&wish.profile))) }
        p { (state::request(&request.request)) }
        (problem::refusal(view.refused))
        @if view.own { (wait(view, pending)) }
        (facts(view))
        @if decides { (decision(view)) }
        @if reviews { (review_form(view)) }
        @if !view.own && !decides && !reviews {
            div.acts { a.button.plain href="/decide" { "What else waits for you" } }
        }
        h2 { "What it may do" }
        (words::profile(profile))
        h2 { "In there now" }
        (inside(sessions, view.now))
        @if !view.own {
            h2 { "What " (shown(wish.identity.as_str())) " asked for before" }
            (before(earlier))
        }
    }
}

/// Shows the requester what they wait for, and the way on once it is decided.
fn wait(view: &RequestPageView<'_>, pending: bool) -> Markup {
    let body = &view.briefing.request;
    let request = &body.request.request;
    html! {
        div.card.lit {
            @if pending {
                @if body.waits_for_nobody {
                    p { strong { "Nobody here may approve this." } " Tell the gate's operator, or ask for less." }
                } @else if body.approvers.is_empty() {
                    p { "It waits for an approver. This page shows it when somebody decides." }
                } @else {
                    p { "It waits for " (names(&body.approvers)) ". This page shows it when somebody decides." }
                }
                p.big { (time::left(request.expires_at, view.now)) }
                p.note { "After that it lapses, and you can ask again." }
                div.acts { (field::button(&format!("/requests/{}/withdraw", request.id), "Withdraw", "plain")) }
            } @else if let Some(grant) = request.grant() {
                p { "You have it." }
                div.acts { a.button href={ "/grants/" (grant) } { "Connect" } }
            } @else {
                p { "It is settled. What you still need is asked for anew." }
                div.acts { a.button.plain href="/mine" { "What I can ask for" } }
            }
        }
    }
}

fn facts(view: &RequestPageView<'_>) -> Markup {
    let body = &view.briefing.request;
    let (request, wish) = (&body.request.request, &body.request.request.wish);
    html! {
        dl.facts {
            dt { "Who" } dd {
                strong { (shown(wish.identity.as_str())) }
                @if !wish.groups.is_empty() { " (" (names(&wish.groups)) ")" }
            }
            @if let Some(issuer) = &wish.issuer { dt { "Proved by" } dd { (shown(issuer)) } }
            @for (name, value) in &wish.claims { dt { (shown(name)) } dd { (shown(value)) } }
            dt { "For how long" } dd { (time::length(wish.window)) " from the first connection, " (count(u64::from(wish.max_sessions), "session", "sessions")) " at most" }
            @if let Some(asked) = &request.narrowed_from {
                dt { "Asked for" } dd { (asked.profile) " for " (time::length(asked.window)) "; less was approved" }
            }
            dt { "Why" } dd { (shown(wish.reason.as_deref().unwrap_or("no reason given"))) }
            @if let Some(ticket) = &wish.ticket { dt { "Ticket" } dd { (shown(ticket)) } }
            @if wish.break_glass { dt { "Break glass" } dd { "Without approval, to be reviewed" } }
            dt { "Asked" } dd {
                (time::at(request.submitted_at))
                @if request.outcome.is_none() { ", can be approved until " (time::at(request.expires_at)) }
            }
            @if let Some(approvals) = state::approvals(&body.request) { dt { "Approvals" } dd { (approvals) } }
            @for approval in &request.approvals {
                dt { "Approved" } dd { (by(approval.by.as_str(), approval.at, approval.comment.as_deref())) }
            }
            (outcome(request.outcome.as_ref()))
            @if let Some(review) = &request.review {
                dt { "Reviewed" } dd { (by(review.by.as_str(), review.at, Some(&review.comment))) }
            }
            @if !view.briefing.policies.is_empty() {
                dt { "Policies" } dd { (names(&view.briefing.policies)) }
            }
            @if let Some(verdict) = &view.briefing.verdict { dt { "Why a person" } dd { (needed(verdict.approvals)) } }
        }
    }
}

fn needed(approvals: Option<u32>) -> String {
    match approvals {
        Some(approvals) => format!("these policies want {}", count(u64::from(approvals), "approver", "approvers")),
        None => "these policies would give it at once now: asked again, it waits for nobody".to_owned(),
    }
}

fn by(who: &str, at: Timestamp, comment: Option<&str>) -> Markup {
    html! {
        (shown(who)) ", " (time::at(at))
        @if let Some(comment) = comment { ": " (shown(comment)) }
    }
}

fn outcome(outcome: Option<&RequestOutcome>) -> Markup {
    html! {
        @match outcome {
            None => {}
            Some(RequestOutcome::Denied { at, why }) => { dt { "Denied" } dd { (time::at(*at)) ": " (shown(why)) } }
            Some(RequestOutcome::Rejected { at, by: who, comment }) => {
                dt { "Rejected" } dd { (by(who.as_str(), *at, comment.as_deref())) }
            }
            Some(RequestOutcome::Withdrawn { at }) => { dt { "Withdrawn" } dd { (time::at(*at)) } }
            Some(RequestOutcome::Approved { at, how, grant }) => {
                @let how = match how {
                    ApprovedBy::Automatic => "by the policies alone",
                    ApprovedBy::People => "by people",
                    ApprovedBy::BreakGlass => "by nobody (break glass)",
                };
                dt { "Granted" } dd { (time::at(*at)) ", " (how) ": " a.id href={ "/grants/" (grant) } { (grant) } }
            }
        }
    }
}

/// Shows the form of an approver: less than was asked for, a comment, and the two answers.
fn decision(view: &RequestPageView<'_>) -> Markup {
    let request = &view.briefing.request.request.request;
    let path = format!("/requests/{}", request.id);
    let refused = view.refused.filter(|refused| refused.is(DECISION));
    let chosen = refused.and_then(|refused| refused.fields.text("profile")).unwrap_or_default();
    let whole = vec![(String::new(), request.wish.profile.to_string())];
    let less = view.narrower.iter().filter(|profile| **profile != request.wish.profile);
    let profiles: Vec<_> = whole
        .into_iter()
        .chain(less.map(|profile| (profile.to_string(), profile.to_string())))
        .collect();
    html! {
        form.card.lit method="post" action={ (path) "/approve" } {
            div.fields {
                div.row {
                    (field::text(&TextField {
                        name: "window", label: "For at most",
                        hint: &format!("Empty: {}, as asked", time::length(request.wish.window)),
                        proposals: &["15m", "30m", "1h", "2h"], ..TextField::default()
                    }.again(refused)))
                    @if profiles.len() > 1 { (field::choice("profile", "Profile", "As asked, or a narrower one", &profiles, chosen)) }
                }
                (field::lines(&TextField {
                    name: "comment", label: "Comment", hint: "The requester reads it, and it is on record", ..TextField::default()
                }.again(refused)))
                div.acts {
                    button { "Approve" }
                    button.harm formaction={ (path) "/reject" } { "Reject" }
                }
            }
        }
    }
}

fn review_form(view: &RequestPageView<'_>) -> Markup {
    let refused = view.refused.filter(|refused| refused.is(REVIEW));
    html! {
        form.card.lit method="post" action={ "/requests/" (view.briefing.request.request.request.id) "/review" } {
            div.fields {
                (field::lines(&TextField {
                    name: "comment", label: "What did you find?", hint: "It is on record as the review", required: true,
                    ..TextField::default()
                }.again(refused)))
                div.acts { button { "Record the review" } }
            }
        }
    }
}

fn inside(sessions: &[SessionView], now: Timestamp) -> Markup {
    let columns: [TableColumn<'_, SessionView>; 4] = [
        ("Who", &|view| html! { (cut(view.who.identity.as_str())) }),
        (
            "Profile",
            &|view| html! { @if let Some(profile) = &view.who.profile { (profile) } },
        ),
        ("State", &state::session),
        (
            "Time",
            &|view| html! { @if let Some(until) = view.until { (time::left(until, now)) } },
        ),
    ];
    table("", sessions, &columns, &html! { "No session is open on this target." })
}

/// Shows the requester's last requests, refusals among them.
fn before(requests: &[RequestView]) -> Markup {
    let columns: [TableColumn<'_, RequestView>; 4] = [
        ("Target", &|view| {
            html! { a href={ "/requests/" (view.request.id) } { (view.request.wish.target.with(Some(&view.request.wish.profile))) } }
        }),
        ("State", &state::request),
        ("Asked", &|view| time::at(view.request.submitted_at)),
        ("Why", &|view| html! { (cut(said(view))) }),
    ];
    table("", requests, &columns, &html! { "Nothing that you may see." })
}

/// Returns why a request was refused, or else its reason.
fn said(view: &RequestView) -> &str {
    match &view.request.outcome {
        Some(RequestOutcome::Denied { why, .. }) => why,
        Some(RequestOutcome::Rejected {
            comment: Some(comment), ..
        }) => comment,
        _ => view.request.wish.reason.as_deref().unwrap_or_default(),
    }
}
