//! Bodies of messages about grants. Pure.
//!
//! Texts that users wrote are escaped as in messages about requests.

use serde_json::{Value, json};

use super::payload::{clock_time, cut, quoted, section};
use super::teams::{self, Card};
use super::{GrantEvent, GrantNotice, MessageFormat};
use crate::base::visible;
use crate::chat::{ChatAction, with_id};
use crate::model::ending::{OFFERED_EXTENSION, prolonging};

/// Returns the body of a message. `buttons` is true where people can answer in the chat.
pub(super) fn body(notice: &GrantNotice, format: MessageFormat, link: Option<&str>, buttons: bool) -> String {
    let link = link.map(|base| format!("{}/grants/{}", base.trim_end_matches('/'), notice.grant.id()));
    let body = match format {
        MessageFormat::Json => json(notice, link.as_deref()),
        MessageFormat::Slack => slack(notice, link.as_deref(), buttons),
        MessageFormat::Teams => teams(notice, link.as_deref()),
    };
    visible::json(&body.to_string()).into_owned()
}

fn json(notice: &GrantNotice, link: Option<&str>) -> Value {
    json!({
        "event": notice.kind().as_str(),
        "id": notice.id(),
        "time": notice.at(),
        "grant": *notice.grant,
        "link": link,
        "command": command(notice),
    })
}

fn slack(notice: &GrantNotice, link: Option<&str>, buttons: bool) -> Value {
    let text = quoted(&headline(notice));
    let mut details = vec![format!("*{text}*")];
    details.extend(command(notice).map(|command| format!("`{command}`")));
    details.extend(notice.grant.reason().map(|reason| format!("> {}", quoted(reason))));
    details.extend(why(notice).map(|why| format!("Why: {}", quoted(why))));
    let mut blocks = vec![section(&details)];
    let mut elements: Vec<Value> = extend_button(notice).filter(|_| buttons).into_iter().collect();
    elements.extend(link.map(|link| json!({"type": "button", "text": {"type": "plain_text", "text": "Show"}, "url": link})));
    if !elements.is_empty() {
        blocks.push(json!({"type": "actions", "elements": elements}));
    }
    json!({ "text": text, "blocks": blocks })
}

fn extend_button(notice: &GrantNotice) -> Option<Value> {
    notice.may_be_extended().then(|| {
        json!({
            "type": "button",
            "text": {"type": "plain_text", "text": format!("+{} min", OFFERED_EXTENSION.as_secs() / 60)},
            "action_id": ChatAction::Extend.as_str(),
            "value": with_id(notice.grant.id().as_str(), OFFERED_EXTENSION),
        })
    })
}

fn teams(notice: &GrantNotice, link: Option<&str>) -> Value {
    let mut facts = Vec::new();
    facts.extend(command(notice).map(|command| ("To go on", command)));
    facts.extend(notice.grant.reason().map(|reason| ("Reason", cut(reason))));
    facts.extend(why(notice).map(|why| ("Why", cut(why))));
    teams::message(&Card {
        headline: &headline(notice),
        facts,
        link: link.map(|link| ("Show", link)),
    })
}

fn headline(notice: &GrantNotice) -> String {
    let grant = &notice.grant;
    let (who, what) = (grant.identity(), grant.target().with(grant.profile()));
    match &notice.event {
        GrantEvent::Ending { until } => format!("The window of {who} on {what} ends at {}", clock_time(*until)),
        GrantEvent::Over { until } => format!("The window of {who} on {what} ended at {}", clock_time(*until)),
        GrantEvent::GivenBack { .. } => format!("{who} gave {what} back"),
        GrantEvent::Revoked(revocation) => format!("{} revoked {what} of {who}", revocation.by),
    }
}

/// Returns the reason of a revocation.
fn why(notice: &GrantNotice) -> Option<&str> {
    match &notice.event {
        GrantEvent::Revoked(revocation) => revocation.reason.as_deref(),
        _ => None,
    }
}

/// Returns the command that moves the end, if the holder may ask for that.
fn command(notice: &GrantNotice) -> Option<String> {
    notice.may_be_extended().then(|| prolonging(notice.grant.id(), true))
}
