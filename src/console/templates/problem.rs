//! Problems: the object, the reason and the remedy, as a page of its own or at the head of a form.
//!
//! Its words are those of the API.

use maud::{Markup, html};

use super::frame::{self, Frame, Viewer};
use super::text::{names, shown};
use crate::console::form::{RefusedForm, again_path};
use crate::control::model::Problem;

/// Returns the page of a problem with the page at `path`.
pub(in crate::console) fn page(problem: &Problem, path: &str, viewer: Option<&Viewer>) -> Markup {
    let body = html! {
        h1 { (shown(&problem.title)) }
        (notice(problem, path))
        p { a.button.plain href="/" { "To the first page" } }
    };
    let title = shown(&problem.title);
    let frame = Frame {
        viewer,
        ..Frame::bare(&title)
    };
    frame::page(&frame, &body)
}

/// Shows a text of the gate, with what stands between backticks as code.
fn commands(text: &str) -> Markup {
    let text = shown(text);
    html! {
        @for (place, part) in text.split('`').enumerate() {
            @if place % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}

/// Shows why a form was refused, at the head of its page.
pub(in crate::console) fn refusal(refused: Option<&RefusedForm>) -> Markup {
    html! { @if let Some(refused) = refused { (notice(&refused.problem, &refused.page)) } }
}

/// Shows a problem in the page at `path`.
pub(in crate::console) fn notice(problem: &Problem, path: &str) -> Markup {
    html! {
        div.problem role="alert" {
            p { strong { (shown(&problem.detail)) } }
            @if let Some(remedy) = &problem.remedy { p { "What to do: " (commands(remedy)) } }
            @if let Some(nearest) = &problem.nearest { p { "The nearest name is " code { (shown(nearest)) } "." } }
            @if problem.sign_in_again { div.acts { a.button href=(again_path(path)) { "Sign in again" } } }
            @if !problem.policies.is_empty() { p.note { "Decided by: " (names(&problem.policies)) } }
        }
    }
}
