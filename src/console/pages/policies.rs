//! Policies: the set in force, and what it would say to a question. For those who may administer.
//!
//! It decides nothing: a question has no effect.

use maud::{Markup, html};

use super::show_with;
use crate::access::policy::Action;
use crate::access::{ExplanationView, HypotheticalQuestion, QuestionSubject, RequestArgs};
use crate::console::answer::PageAnswer;
use crate::console::form::{FormError, FormFields, QueryFields, RefusedForm};
use crate::console::page_status::PageStatus;
use crate::console::templates::field::{self, TextField};
use crate::console::templates::frame::{Frame, Section};
use crate::console::templates::text::{count, names, shown};
use crate::console::templates::{problem, words};
use crate::control::Call;

/// Shows the policies in force, and the answer to the question of the form.
pub(in crate::console) async fn page(call: Call, query: QueryFields) -> PageAnswer {
    call.gate.service.may(&call.caller, Action::Administer).await?;
    let fields = &query.0;
    let rules = call.gate.service.rules();
    let set = rules.policies.as_ref();
    let ids: Vec<String> = set.map(|set| set.ids().map(str::to_owned).collect()).unwrap_or_default();
    let (explained, refused) = match explained(&call, fields).await {
        Ok(explained) => (explained, None),
        Err(error) => (None, Some(RefusedForm::new("question", fields.clone(), error)?)),
    };
    let frame = Frame {
        section: Some(Section::Gate),
        ..Frame::bare("Policies")
    };
    let body = body(set.map(|set| set.hash()), &ids, fields, explained.as_ref(), refused.as_ref());
    let status = refused.as_ref().map_or(PageStatus::OK, RefusedForm::status);
    Ok(show_with(status, &call, &query, frame, &body))
}

async fn explained(call: &Call, fields: &FormFields) -> Result<Option<ExplanationView>, FormError> {
    match question(fields)? {
        Some(question) => Ok(Some(call.gate.service.explain(&call.caller, question).await?)),
        None => Ok(None),
    }
}

/// Returns the question of the form, if there is one.
fn question(fields: &FormFields) -> Result<Option<HypotheticalQuestion>, FormError> {
    let Some(target) = fields.owned("target") else {
        return Ok(None);
    };
    let asked = RequestArgs {
        target,
        profile: fields.owned("profile"),
        window: fields.duration("window")?,
        reason: fields.owned("reason"),
        ticket: fields.owned("ticket"),
        break_glass: fields.checked("break_glass"),
        ..RequestArgs::default()
    };
    Ok(Some(HypotheticalQuestion {
        identity: fields.parsed("identity")?,
        groups: None,
        at: fields.owned("at"),
        client: fields.parsed("client")?,
        about: QuestionSubject::Access(asked),
    }))
}

/// Returns the content of the page.
pub(in crate::console) fn body(
    hash: Option<&str>,
    ids: &[String],
    fields: &FormFields,
    explained: Option<&ExplanationView>,
    refused: Option<&RefusedForm>,
) -> Markup {
    html! {
        p.crumb { a href="/gate" { "Gate" } }
        h1 { "Policies" }
        @match hash {
            None => { p.empty { "This gate has no policies, so every request is refused. Its configuration names their folder: [policy] dir." } }
            Some(hash) => {
                p { (count(ids.len() as u64, "policy", "policies")) " in force. SHA-256 of the set: " code { (shown(hash)) } }
                details { summary { "Their names" } ul { @for id in ids { li { code { (shown(id)) } } } } }
            }
        }
        h2 { "What would they say?" }
        (problem::refusal(refused))
        @if let Some(explained) = explained { (answer(explained)) }
        (form(fields, refused))
        p.note { "A change to the policies is tried with " code { "tidegate policy test" } " before it is put in force." }
    }
}

fn answer(explained: &ExplanationView) -> Markup {
    html! {
        div.card.lit role="status" {
            p { (shown(explained.identity.as_str())) ": " (words::verdict(&explained.answer, false)) }
            @if let Some(why) = &explained.answer.why { p { (shown(why)) } }
            p.note {
                "Decided by "
                @if explained.policies.is_empty() { "no policy: what none permits is refused" } @else { (names(&explained.policies)) }
            }
            @if !explained.remedies.is_empty() {
                ul {
                    @for remedy in &explained.remedies {
                        li { (shown(&remedy.change)) ": " (words::verdict(&remedy.answer, false)) }
                    }
                }
            }
        }
    }
}

fn form(fields: &FormFields, refused: Option<&RefusedForm>) -> Markup {
    let one = |name: &'static str, label: &'static str, hint: &'static str| {
        let value = fields.text(name).unwrap_or_default();
        field::text(&TextField {
            name,
            label,
            hint,
            value,
            required: name == "target",
            wrong: refused.and_then(|refused| refused.wrong(name)),
            ..TextField::default()
        })
    };
    html! {
        form.card method="get" action="/gate/policies" {
            div.row {
                (one("identity", "Who", "Empty: you"))
                (one("target", "Target", ""))
                (one("profile", "Profile", "Empty: the narrowest"))
                (one("window", "For how long", "30m"))
            }
            details open[["reason", "ticket", "at", "client", "break_glass"].iter().any(|name| fields.text(name).is_some())] {
                summary { "More" }
                div.row {
                    (one("reason", "Reason", ""))
                    (one("ticket", "Ticket", ""))
                    (one("at", "At", "2026-08-03T10:00"))
                    (one("client", "From address", ""))
                }
                (field::check("break_glass", "Break glass", fields.checked("break_glass")))
            }
            div.acts { button { "Ask them" } }
        }
    }
}
