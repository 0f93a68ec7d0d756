//! Users: the list, and everything that an administrator does with one of them.
//!
//! INVARIANT: a new token is in the answer to the form that made it and nowhere else.

use std::collections::BTreeSet;

use maud::{Markup, html};

use super::{NOTICE_FIELD, PAGE_ROWS, show, show_with, taken};
use crate::console::answer::PageAnswer;
use crate::console::form::{self, FormError, FormFields, QueryFields, RefusedForm};
use crate::console::page_status::PageStatus;
use crate::console::templates::field::{self, TextField};
use crate::console::templates::frame::{Frame, Section};
use crate::console::templates::table::{TableColumn, pages_as, table};
use crate::console::templates::text::{names, shown};
use crate::console::templates::words::PageNotice;
use crate::console::templates::{problem, state, time};
use crate::control::model::{IssuedUser, UserView, UsersQuery};
use crate::control::{ApiError, Call};
use crate::model::names::{GroupName, IdentityName};

/// Name of the form for a new user, and of its action.
const ADD: &str = "add";
/// Name of the form for a user that there is.
const CHANGE: &str = "change";
/// Path of the page.
const PATH: &str = "/gate/users";

/// Content of the page.
#[derive(Default)]
pub(in crate::console) struct UsersView<'a> {
    pub(in crate::console) users: &'a [UserView],
    /// Part of the name that was searched for.
    pub(in crate::console) part: &'a str,
    /// Sentences about a change that was made and may be a slip.
    pub(in crate::console) warnings: &'a [String],
    /// Form that was sent and refused.
    pub(in crate::console) refused: Option<&'a RefusedForm>,
    /// Paths of the first page and of the next one.
    pub(in crate::console) first: Option<String>,
    pub(in crate::console) next: Option<String>,
}

/// Result of a form.
enum ChangedUser {
    /// User that has a new token, or none if none could be made.
    Token(Box<IssuedUser>),
    Changed(Box<UserView>, PageNotice, Vec<String>),
}

/// Shows the local users, a page at a time.
pub(in crate::console) async fn page(call: Call, query: QueryFields) -> PageAnswer {
    list(&call, &query, &[], None).await
}

/// Shows a page of users: with warnings of a change that was made, or with the form that was refused.
async fn list(call: &Call, query: &QueryFields, warnings: &[String], refused: Option<&RefusedForm>) -> PageAnswer {
    let fields = &query.0;
    let wanted = UsersQuery {
        name: fields.owned("part"),
        identity: fields.parsed("identity")?,
        after: fields.parsed("after")?,
        limit: Some(PAGE_ROWS),
    };
    let is_first = wanted.after.is_none();
    let found = call.users(wanted).await?;
    let kept = fields.without(&["after", NOTICE_FIELD]);
    let next = found.next.as_ref();
    let view = UsersView {
        users: &found.users,
        part: fields.text("part").or(fields.text("identity")).unwrap_or_default(),
        warnings,
        refused,
        first: (!is_first).then(|| form::path(PATH, &kept)),
        next: next.map(|next| form::path(PATH, &[&kept[..], &[("after", next.as_str())]].concat())),
    };
    let status = refused.map_or(PageStatus::OK, RefusedForm::status);
    Ok(show_with(status, call, query, frame(), &body(&view)))
}

/// Changes a user, as the button says that was pressed.
pub(in crate::console) async fn change(call: Call, fields: FormFields) -> PageAnswer {
    match changed(&call, &fields).await {
        Ok(ChangedUser::Token(issued)) => Ok(show(&call, &QueryFields::default(), frame(), &token_body(&issued))),
        Ok(ChangedUser::Changed(user, notice, warnings)) if warnings.is_empty() => Ok(taken(PATH, user.effect, notice)),
        // The user alone, so that the groups can be corrected at once.
        Ok(ChangedUser::Changed(user, _, warnings)) => list(&call, &of_one(user.name.as_str()), &warnings, None).await,
        Err(error) => {
            let form = if fields.text("action") == Some(ADD) { ADD } else { CHANGE };
            let query = of_one(fields.text("name").filter(|_| form == CHANGE).unwrap_or_default());
            list(&call, &query, &[], Some(&RefusedForm::new(form, fields, error)?)).await
        }
    }
}

/// Returns the query of the page that shows a user alone, or all users if the name is none.
fn of_one(name: &str) -> QueryFields {
    let named = name.parse::<IdentityName>().is_ok();
    let path = form::path("", &[("identity", name)]);
    let query = path.trim_start_matches('?').as_bytes();
    QueryFields(FormFields::parse(if named { query } else { b"" }))
}

async fn changed(call: &Call, fields: &FormFields) -> Result<ChangedUser, FormError> {
    let service = &call.gate.service;
    let name: Option<IdentityName> = fields.parsed("name")?;
    let name = name.ok_or_else(|| FormError::of_field("name", &"which user? Give a name"))?;
    Ok(match fields.text("action") {
        Some(ADD) => {
            let admin = service.administer(&call.caller).await?;
            let groups = groups(fields)?;
            let warnings = service.unnamed_groups(&name, &groups);
            let (user, token) = admin.add_user(&name, groups, fields.duration("expires")?).await?;
            ChangedUser::Token(Box::new(IssuedUser {
                user,
                token: Some(token.expose().clone()),
                warnings,
                ended_sign_ins: None,
            }))
        }
        Some("rotate") => {
            let admin = service.administer_at_once(&call.caller).await?;
            let (user, rotated) = admin.rotate_user(&name, None).await?;
            ChangedUser::Token(Box::new(IssuedUser {
                user,
                token: rotated.token.map(|token| token.expose().clone()),
                warnings: Vec::new(),
                ended_sign_ins: Some(rotated.ended_sign_ins),
            }))
        }
        Some("groups") => {
            let admin = service.administer_at_once(&call.caller).await?;
            let groups = groups(fields)?;
            let warnings = service.unnamed_groups(&name, &groups);
            let user = admin.regroup_user(&name, groups).await?;
            ChangedUser::Changed(Box::new(user), PageNotice::Changed, warnings)
        }
        Some("disable") => {
            let admin = service.administer_at_once(&call.caller).await?;
            let user = admin.disable_user(&name, false).await?;
            ChangedUser::Changed(Box::new(user), PageNotice::Disabled, Vec::new())
        }
        Some("enable") => {
            let user = service.administer(&call.caller).await?.enable_user(&name).await?;
            ChangedUser::Changed(Box::new(user), PageNotice::Changed, Vec::new())
        }
        _ => return Err(ApiError::Malformed("the form does not say what to do".to_owned()).into()),
    })
}

/// Parses groups, separated by blanks or commas.
fn groups(fields: &FormFields) -> Result<BTreeSet<GroupName>, FormError> {
    let text = fields.text("groups").unwrap_or_default();
    let words = text.split(|between: char| between == ',' || between.is_whitespace());
    let groups: Result<BTreeSet<GroupName>, _> = words.filter(|word| !word.is_empty()).map(str::parse).collect();
    groups.map_err(|error| FormError::of_field("groups", &error))
}

fn frame() -> Frame<'static> {
    Frame {
        section: Some(Section::Gate),
        ..Frame::bare("Users")
    }
}

/// Returns the content of the page.
pub(in crate::console) fn body(view: &UsersView<'_>) -> Markup {
    let columns: [TableColumn<'_, UserView>; 6] = [
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
        ("", &|user| change_form(user, view.refused)),
    ];
    let empty =
        html! { @if view.part.is_empty() { "No users yet. Add the first one below." } @else { "No user has this in the name." } };
    html! {
        p.crumb { a href="/gate" { "Gate" } }
        h1 { "Users" }
        (warnings(view.warnings))
        (problem::refusal(view.refused))
        form.card method="get" action=(PATH) {
            div.row { (field::text(&TextField { name: "part", label: "Name", hint: "Or a part of it", value: view.part, ..TextField::default() })) }
            div.acts { button { "Search" } a.button.plain href=(PATH) { "All" } }
        }
        (table("", view.users, &columns, &empty))
        (pages_as(["The first", "Next"], view.first.as_deref(), view.next.as_deref()))
        h2 { "Add one" }
        (add_form(view.refused.filter(|refused| refused.is(ADD))))
    }
}

fn add_form(refused: Option<&RefusedForm>) -> Markup {
    let one = TextField::default();
    html! {
        form.fields method="post" action=(PATH) {
            (field::text(&TextField { name: "name", label: "Name", hint: "As in an address: ana@example.com", required: true, ..one }.again(refused)))
            (field::text(&TextField { name: "groups", label: "Groups", hint: "As the policies name them: qa, leads", ..one }.again(refused)))
            (field::text(&TextField { name: "expires", label: "The token ends after", hint: "30d; the gate's usual time if empty", ..one }.again(refused)))
            div.acts { button name="action" value=(ADD) { "Add" } }
            p.note { "Shows the user's token, once." }
        }
    }
}

fn warnings(warnings: &[String]) -> Markup {
    html! {
        @for warning in warnings { div.problem role="alert" { p { "Done, and probably not what was meant: " (shown(warning)) } } }
    }
}

/// Shows the form of one user.
fn change_form(user: &UserView, refused: Option<&RefusedForm>) -> Markup {
    let groups = user.groups.iter().map(GroupName::as_str).collect::<Vec<_>>().join(", ");
    let is_of_user = |refused: &&RefusedForm| refused.is(CHANGE) && refused.fields.text("name") == Some(user.name.as_str());
    let refused = refused.filter(is_of_user);
    html! {
        details open[refused.is_some()] {
            summary { "Change" }
            form.fields method="post" action=(PATH) {
                input type="hidden" name="name" value=(user.name);
                (field::text(&TextField { name: "groups", label: "Groups", value: &groups, ..TextField::default() }.again(refused)))
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
pub(in crate::console) fn token_body(issued: &IssuedUser) -> Markup {
    html! {
        p.crumb { a href=(PATH) { "Users" } }
        h1 { (shown(issued.user.name.as_str())) }
        (warnings(&issued.warnings))
        @match &issued.token {
            Some(token) => {
                div.notice role="status" { p { strong { "The token is shown only now." } " It is not stored. Its owner signs in with it." } }
                pre tabindex="0" { code id="token" { (shown(token)) } }
                div.acts { button.plain type="button" data-copy="token" hidden { "Copy" } }
                @if let Some(until) = issued.user.token_until { p { "It is good until " (time::at(until)) "." } }
            }
            None => {
                div.problem role="alert" { p { "A new token could not be made: try again when the gate is ready." } }
            }
        }
        @if let Some(sign_ins) = issued.ended_sign_ins {
            p {
                "The old token is no longer valid, and "
                @if sign_ins == 1 { "1 sign-in has ended" } @else { (sign_ins) " sign-ins have ended" }
                ". Grants and sessions go on."
            }
            @if issued.user.effect.is_some_and(|effect| !effect.is_done()) { p.note { (PageNotice::Late.words()) } }
        }
    }
}
