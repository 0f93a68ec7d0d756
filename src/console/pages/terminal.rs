//! *Sign in in the terminal*: lets a program on the reader's machine in, which has begun it (`tidegate login --browser`).
//!
//! It opens no connection to the program: the reader's browser does, on a loopback address of its own machine.

use jiff::Timestamp;
use maud::{Markup, html};

use super::show;
use crate::access::is_challenge;
use crate::console::answer::PageAnswer;
use crate::console::form::{self, FormFields, QueryFields};
use crate::console::templates::frame::Frame;
use crate::console::templates::text::shown;
use crate::console::templates::time;
use crate::control::model::TerminalBody;
use crate::control::{ApiError, Call};

/// Program that asks to be let in.
pub(in crate::console) struct TerminalView {
    /// Port where it listens.
    pub(in crate::console) port: u16,
    /// Text that it expects back.
    pub(in crate::console) state: String,
    /// Challenge of its verifier.
    pub(in crate::console) terminal: TerminalBody,
}

/// Asks whether the program is the reader's own.
pub(in crate::console) async fn page(call: Call, query: QueryFields) -> PageAnswer {
    let until = call.caller.person()?.proof_until;
    let body = body(call.caller.name(), until, &asked(&query.0)?);
    Ok(show(&call, &query, Frame::bare("Sign in in the terminal"), &body))
}

/// Lets the program in, and sends the browser to it. It is a page and no redirect: a form may lead to this console only.
pub(in crate::console) async fn let_in(call: Call, fields: FormFields) -> PageAnswer {
    let TerminalView { port, state, terminal } = asked(&fields)?;
    let code = call.gate.service.let_terminal_in(&call.caller, &terminal.challenge)?;
    let way = form::path(
        &format!("http://127.0.0.1:{port}/"),
        &[("code", code.expose()), ("state", &state)],
    );
    let frame = Frame {
        onward: Some(&way),
        ..Frame::bare("Back to the terminal")
    };
    let body = html! {
        h1 { "Back to the terminal" }
        p.lead { "It was let in. If nothing happens there, " a href=(way) { "go on here" } "." }
    };
    Ok(show(&call, &QueryFields::default(), frame, &body))
}

fn asked(fields: &FormFields) -> Result<TerminalView, ApiError> {
    let missing = || ApiError::Malformed("the address is not whole; open the one that the terminal shows".to_owned());
    let port = fields.parsed::<u16>("port")?.filter(|port| *port != 0);
    let challenge = fields.owned("challenge").filter(|challenge| is_challenge(challenge));
    Ok(TerminalView {
        port: port.ok_or_else(missing)?,
        state: fields.owned("state").ok_or_else(missing)?,
        terminal: TerminalBody {
            challenge: challenge.ok_or_else(missing)?,
        },
    })
}

/// Returns the content of the page.
pub(in crate::console) fn body(name: &str, until: Option<Timestamp>, view: &TerminalView) -> Markup {
    html! {
        h1 { "Sign in in the terminal" }
        p.lead {
            "A program on this machine asks to act as " strong { (shown(name)) }
            @if let Some(until) = until { ", until " (time::at(until)) }
            ". It stays signed in when you sign out here: " code { "tidegate signins" } " lists it and ends it."
        }
        p {
            "Let it in only if you have just started " code { "tidegate login --browser" } " yourself, and it shows the code "
            strong.id { (shown(view.terminal.shown_code())) } "."
        }
        form.fields method="post" action="/terminal" {
            input type="hidden" name="port" value=(view.port);
            input type="hidden" name="state" value=(view.state);
            input type="hidden" name="challenge" value=(view.terminal.challenge);
            div.acts { button { "Let it in" } a.button.plain href="/" { "No" } }
        }
    }
}
