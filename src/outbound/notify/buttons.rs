//! Buttons of chat messages with which people answer in the chat. Pure.

use std::time::Duration;

use serde_json::{Value, json};

use crate::base::duration;
use crate::chat::{ChatAction, with_id};
use crate::model::request::Request;

/// Shorter times for which a request can be approved.
const TIMES: [Duration; 5] = [
    Duration::from_mins(15),
    Duration::from_mins(30),
    Duration::from_hours(1),
    Duration::from_hours(2),
    Duration::from_hours(4),
];

/// Returns the buttons that decide on a pending request.
pub(super) fn of_request(request: &Request) -> Vec<Value> {
    let id = request.id.as_str();
    let shorter = TIMES.into_iter().filter(|time| *time < request.wish.window);
    let options: Vec<_> = shorter
        .map(|time| json!({"text": plain(&duration::show(time)), "value": with_id(id, time)}))
        .collect();
    let approve = json!({
        "type": "button", "style": "primary", "action_id": ChatAction::Approve.as_str(), "value": id, "text": plain("Approve"),
    });
    let approve_for = json!({
        "type": "static_select", "action_id": ChatAction::ApproveFor.as_str(), "placeholder": plain("Approve for…"), "options": options,
    });
    let reject = json!({
        "type": "button", "style": "danger", "action_id": ChatAction::Reject.as_str(), "value": id, "text": plain("Reject"),
    });
    // A select without an option is refused, with its whole message.
    let approve_for = (!options.is_empty()).then_some(approve_for);
    [approve].into_iter().chain(approve_for).chain([reject]).collect()
}

fn plain(text: &str) -> Value {
    json!({"type": "plain_text", "text": text})
}
