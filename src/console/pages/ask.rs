//! The form for a request, and what the policies would say to it.
//!
//! It decides nothing. A form that was refused comes back as it was filled in, with the reason and what would help.

use std::time::Duration;

use axum::response::Response;
use data_encoding::HEXLOWER;
use maud::{Markup, html};

use super::{done, show_with};
use crate::access::{EntryDecision, ExplanationView, HypotheticalQuestion, QuestionSubject, RequestArgs};
use crate::base::duration;
use crate::console::answer::{PageAnswer, see};
use crate::console::form::{self, FormError, FormFields, QueryFields, RefusedForm};
use crate::console::page_status::PageStatus;
use crate::console::templates::field::{self, TextField};
use crate::console::templates::frame::{Frame, Section};
use crate::console::templates::text::{names, shown};
use crate::console::templates::words::PageNotice;
use crate::console::templates::{problem, words};
use crate::control::model::ProfileBody;
use crate::control::{ApiError, Call};

/// Lengths of a window that are proposed.
const LENGTHS: [&str; 7] = ["15m", "30m", "1h", "2h", "4h", "8h", "1d"];
/// Number of random bytes of the key that makes a form sent twice one request.
const KEY_BYTES: usize = 16;

/// Content of the page.
pub(in crate::console) struct AskView<'a> {
    pub(in crate::console) target: &'a str,
    pub(in crate::console) profile: Option<&'a ProfileBody>,
    pub(in crate::console) fields: &'a FormFields,
    pub(in crate::console) window: &'a str,
    pub(in crate::console) key: &'a str,
    pub(in crate::console) explained: Option<&'a ExplanationView>,
    pub(in crate::console) refused: Option<&'a RefusedForm>,
}

/// Shows the form for a target and a profile.
pub(in crate::console) async fn page(call: Call, query: QueryFields) -> PageAnswer {
    form(&call, query.0, None).await
}

/// Sends the request, and leads to it; or to the grant that covers it already.
pub(in crate::console) async fn submit(call: Call, fields: FormFields) -> PageAnswer {
    match enter(&call, &fields).await {
        Ok(EntryDecision::Grant(view, _)) => Ok(done(&format!("/grants/{}", view.grant.id()), PageNotice::Joined)),
        Ok(EntryDecision::Request(view)) => Ok(match view.request.grant() {
            Some(grant) if view.request.wants_review() => done(&format!("/grants/{grant}"), PageNotice::BrokenGlass),
            Some(grant) => see(&format!("/grants/{grant}")),
            None => see(&format!("/requests/{}", view.request.id)),
        }),
        Err(error) => form(&call, fields, Some(error)).await,
    }
}

async fn enter(call: &Call, fields: &FormFields) -> Result<EntryDecision, FormError> {
    let asked = args(fields)?;
    Ok(call.gate.service.enter(call.caller.person()?, asked).await?)
}

/// Returns what a form asks for.
fn args(fields: &FormFields) -> Result<RequestArgs, FormError> {
    Ok(RequestArgs {
        target: fields.owned("target").unwrap_or_default(),
        profile: fields.owned("profile"),
        window: fields.duration("window")?,
        reason: fields.owned("reason"),
        ticket: fields.owned("ticket"),
        max_sessions: fields.parsed("sessions")?,
        break_glass: fields.checked("break_glass"),
        alone: false,
        key: fields.owned("key"),
    })
}

/// Returns what the policies would say to the form.
async fn explained(call: &Call, fields: &FormFields) -> Result<ExplanationView, FormError> {
    let question = HypotheticalQuestion {
        identity: None,
        groups: None,
        at: None,
        client: None,
        about: QuestionSubject::Access(args(fields)?),
    };
    Ok(call.gate.service.explain(&call.caller, question).await?)
}

async fn form(call: &Call, fields: FormFields, error: Option<FormError>) -> Result<Response, ApiError> {
    let target = fields.text("target").unwrap_or_default();
    let profiles = match call.gate.service.offers_of(&call.caller, target).await {
        Ok(offers) => offers.into_values().next().unwrap_or_default(),
        // A target that is not there is told by the same words as in a request.
        Err(unknown) if error.is_none() => return Err(unknown.into()),
        Err(_) => Vec::new(),
    };
    let wanted = fields.text("profile");
    let named = |profile: &&ProfileBody| wanted.is_none_or(|wanted| profile.profile.as_str() == wanted);
    let profile = profiles.iter().find(named);
    let (explained, unknown) = match explained(call, &fields).await {
        Ok(explained) => (Some(explained), None),
        Err(error) => (None, Some(error)),
    };
    let refused = error.or(unknown).map(|error| RefusedForm::new("ask", fields.clone(), error));
    let page = form::path("/ask", &fields.without(&["key"]));
    let refused = refused.transpose()?.map(|refused| refused.on_page(page));
    let usual = duration::show(usual_window(call));
    // Of its own for each form: what was refused under a key stays refused.
    let key = new_key();
    let view = AskView {
        target,
        profile,
        fields: &fields,
        window: fields.text("window").unwrap_or(&usual),
        key: &key,
        explained: explained.as_ref(),
        refused: refused.as_ref(),
    };
    let frame = Frame {
        section: Some(Section::Mine),
        ..Frame::bare("Ask for access")
    };
    let status = refused.as_ref().map_or(PageStatus::OK, RefusedForm::status);
    Ok(show_with(status, call, &QueryFields::default(), frame, &body(&view)))
}

fn usual_window(call: &Call) -> Duration {
    call.gate.service.rules().default_window
}

/// Returns a key for a form; without randomness none, and a form sent twice is two requests.
fn new_key() -> String {
    let mut bytes = [0_u8; KEY_BYTES];
    getrandom::fill(&mut bytes).map_or_else(|_| String::new(), |()| HEXLOWER.encode(&bytes))
}

/// Returns the content of the page.
pub(in crate::console) fn body(view: &AskView<'_>) -> Markup {
    let AskView { target, profile, .. } = view;
    // A form that is still empty lacks its reason only: the verdict is that on one with a reason.
    let unasked = profile.filter(|profile| profile.needs_reason && view.refused.is_none());
    let verdict = unasked.and_then(|profile| profile.verdict.as_ref());
    let explained = view.explained.filter(|_| verdict.is_none());
    html! {
        p.crumb { a href="/mine" { "Mine" } }
        h1 {
            "Ask for " (shown(target))
            @if let Some(profile) = profile { "/" (profile.profile) }
        }
        (problem::refusal(view.refused))
        @if let Some(profile) = profile {
            div.card {
                @if let Some(verdict) = verdict { p { (words::verdict(verdict, true)) } }
                @if let Some(explained) = explained { p { (words::verdict(&explained.answer, false)) } }
                @if !profile.approvers.is_empty() { p.note { (names(&profile.approvers)) " can approve it." } }
                (words::profile(profile))
            }
            @if let Some(explained) = explained { (remedies(explained)) }
            (fields(view, profile))
        }
    }
}

/// Shows what would change the verdict.
fn remedies(explained: &ExplanationView) -> Markup {
    html! {
        @if let Some(why) = &explained.answer.why { p { (shown(why)) } }
        @if !explained.remedies.is_empty() {
            details open[words::is_refused(&explained.answer)] {
                summary { "What would make it easier" }
                ul {
                    @for remedy in &explained.remedies {
                        li { (shown(&remedy.change)) ": " (words::verdict(&remedy.answer, false)) }
                    }
                }
            }
        }
    }
}

fn fields(view: &AskView<'_>, profile: &ProfileBody) -> Markup {
    let given = |name: &str| view.fields.text(name).unwrap_or_default();
    let one = |name: &'static str, label: &'static str, hint: &'static str| TextField {
        name,
        label,
        hint,
        wrong: view.refused.and_then(|refused| refused.wrong(name)),
        ..TextField::default()
    };
    html! {
        form.fields method="post" action="/ask" {
            input type="hidden" name="target" value=(view.target);
            input type="hidden" name="profile" value=(profile.profile);
            input type="hidden" name="key" value=(view.key);
            (field::text(&TextField {
                value: view.window, proposals: &LENGTHS, required: true,
                ..one("window", "For how long", "From your first connection: 30m, 2h")
            }))
            (field::lines(&TextField {
                value: given("reason"), required: profile.needs_reason,
                ..one("reason", "Why", "Whoever decides reads this, and it is on record")
            }))
            (field::text(&TextField { value: given("ticket"), ..one("ticket", "Ticket", "If there is one: BUG-812") }))
            details open[view.fields.checked("break_glass") || !given("sessions").is_empty()] {
                summary { "More" }
                div.fields {
                    (field::text(&TextField {
                        value: given("sessions"), ..one("sessions", "Sessions at once", "A number; the gate's usual one if empty")
                    }))
                    (field::check("break_glass", "Break glass: at once, and reviewed by somebody afterwards", view.fields.checked("break_glass")))
                }
            }
            div.acts {
                button { "Ask for it" }
                a.button.plain href="/mine" { "Not now" }
            }
        }
    }
}
