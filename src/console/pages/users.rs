//! Users: the list, and everything that an administrator does with one of them.
//!
//! INVARIANT: a new token is in the answer to the form that made it and nowhere else.

use std::collections::BTreeSet;

use axum::response::Response;
use maud::{Markup, html};

use super::{done, show, taken};
use crate::console::answer::PageAnswer;
use crate::console::form::{Fields, QueryFields};
use crate::console::templates::field::{self, TextField};
use crate::console::templates::frame::{Frame, Section};
use crate::console::templates::table::{Column, table};
use crate::console::templates::text::{names, shown};
use crate::console::templates::words::Notice;
use crate::console::templates::{state, time};
use crate::control::model::UserView;
use crate::control::{ApiError, Call, named};
use crate::model::names::{GroupName, IdentityName};

/// Path of the page.
const PATH: &str = "/gate/users";

/// Shows the local users.
pub(in crate::console) async fn page(call: Call, query: QueryFields) -> PageAnswer {
    let users = call.gate.service.administer(&call.caller).await?.users();
    Ok(show(&call, &query, frame(), &body(&users)))
}

/// Changes a user, as the button says that was pressed.
pub(in crate::console) async fn change(call: Call, fields: Fields) -> PageAnswer {
    let service = &call.gate.service;
    let missing = || ApiError::Malformed("which user? Give a name".to_owned());
    let name: IdentityName = named(fields.text("name").ok_or_else(missing)?)?;
    match fields.text("action") {
        Some("add") => {
            let admin = service.administer(&call.caller).await?;
            let groups = groups(&fields)?;
            let warnings = service.unnamed_groups(&name, &groups);
            let (user, token) = admin.add_user(&name, groups, fields.duration("expires")?).await?;
            Ok(token_page(&call, &user, Some(token.expose()), &warnings))
        }
        Some("rotate") => {
            let admin = service.administer_at_once(&call.caller).await?;
            let (user, token) = admin.rotate_user(&name, None).await?;
            Ok(token_page(
                &call,
                &user,
                token.as_ref().map(|token| token.expose().as_str()),
                &[],
            ))
        }
        Some("groups") => {
            let admin = service.administer_at_once(&call.caller).await?;
            let user = admin.regroup_user(&name, groups(&fields)?).await?;
            Ok(taken(PATH, user.effect, Notice::Changed))
        }
        Some("disable") => {
            let admin = service.administer_at_once(&call.caller).await?;
            let user = admin.disable_user(&name, false).await?;
            Ok(taken(PATH, user.effect, Notice::Disabled))
        }
        Some("enable") => {
            service.administer(&call.caller).await?.enable_user(&name).await?;
            Ok(done(PATH, Notice::Changed))
        }
        _ => Err(ApiError::Malformed("the form does not say what to do".to_owned())),
    }
}

/// Parses groups, separated by blanks or commas.
fn groups(fields: &Fields) -> Result<BTreeSet<GroupName>, ApiError> {
    let text = fields.text("groups").unwrap_or_default();
    let words = text.split(|between: char| between == ',' || between.is_whitespace());
    words.filter(|word| !word.is_empty()).map(named).collect()
}

fn token_page(call: &Call, user: &UserView, token: Option<&str>, warnings: &[String]) -> Response {
    show(call, &QueryFields::default(), frame(), &token_body(user, token, warnings))
}

fn frame() -> Frame<'static> {
    Frame {
        section: Some(Section::Gate),
        ..Frame::bare("Users")
    }
}

/// Returns the content of the page.
pub(in crate::console) fn body(users: &[UserView]) -> Markup {
    let columns: [Column<'_, UserView>; 6] = [
        ("Name", &|user| html! { (shown(user.name.as_str())) }),
        ("Groups", &|user| html! { (names(&user.groups)) }),
        ("State", &|user| {
            state::good(!user.disabled, if user.disabled { "disabled" } else { "enabled" })
        }),
        (
            "Token until",
            &|user| html! { @if let Some(until) = user.token_until { (time::at(until)) } },
        ),
        ("Since", &|user| time::at(user.created_at)),
        ("", &change_form),
    ];
    let one = TextField::default();
    html! {
        p.crumb { a href="/gate" { "Gate" } }
        h1 { "Users" }
        (table("", users, &columns, &html! { "No users yet. Add the first one below." }))
        h2 { "Add one" }
        form.fields method="post" action=(PATH) {
            (field::text(&TextField { name: "name", label: "Name", hint: "As in an address: ana@example.com", required: true, ..one }))
            (field::text(&TextField { name: "groups", label: "Groups", hint: "As the policies name them: qa, leads", ..one }))
            (field::text(&TextField { name: "expires", label: "The token ends after", hint: "30d; the gate's usual time if empty", ..one }))
            div.acts { button name="action" value="add" { "Add" } }
            p.note { "Shows the user's token, once." }
        }
    }
}

/// Shows the form of one user.
fn change_form(user: &UserView) -> Markup {
    let groups = user.groups.iter().map(GroupName::as_str).collect::<Vec<_>>().join(", ");
    html! {
        details {
            summary { "Change" }
            form.fields method="post" action=(PATH) {
                input type="hidden" name="name" value=(user.name);
                (field::text(&TextField { name: "groups", label: "Groups", value: &groups, ..TextField::default() }))
                div.acts {
                    button.plain name="action" value="groups" { "Set these groups" }
                    @if user.local { button.plain name="action" value="rotate" { "New token" } }
                    @if user.disabled { button.plain name="action" value="enable" { "Enable" } }
                    @else { button.harm name="action" value="disable" { "Disable" } }
                }
            }
        }
    }
}

/// Returns the content of the page with a new token.
pub(in crate::console) fn token_body(user: &UserView, token: Option<&str>, warnings: &[String]) -> Markup {
    html! {
        p.crumb { a href=(PATH) { "Users" } }
        h1 { (shown(user.name.as_str())) }
        @for warning in warnings { div.problem role="alert" { p { (shown(warning)) } } }
        @match token {
            Some(token) => {
                div.notice role="status" { p { strong { "The token is shown only now." } " It is not stored. Its owner signs in with it." } }
                pre tabindex="0" { code id="token" { (shown(token)) } }
                div.acts { button.plain type="button" data-copy="token" hidden { "Copy" } }
            }
            None => {
                div.problem role="alert" { p { "The old token is no longer valid. A new one could not be made: try again when the gate is ready." } }
            }
        }
    }
}
