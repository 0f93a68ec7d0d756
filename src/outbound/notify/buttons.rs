//! Buttons of chat messages with which people answer in the chat, and the input for their comment. Pure.

use std::time::Duration;

use serde_json::{Value, json};

use crate::base::duration;
use crate::chat::{COMMENT_INPUT, ChatAction, with_id};
use crate::model::request::Request;

/// Shorter times for which a request can be approved.
const TIMES: [Duration; 5] = [
    Duration::from_mins(15),
    Duration::from_mins(30),
    Duration::from_hours(1),
    Duration::from_hours(2),
    Duration::from_hours(4),
];

/// Ways to answer a message.
#[derive(Default)]
pub(super) struct AnswerParts {
    /// Block with an input, which stands before the buttons.
    pub(super) comment: Option<Value>,
    /// Buttons and selects.
    pub(super) elements: Vec<Value>,
}

/// Returns what decides on a pending request.
pub(super) fn of_request(request: &Request) -> AnswerParts {
    let id = request.id.as_str();
    let shorter = TIMES.into_iter().filter(|time| *time < request.wish.window);
    let options: Vec<_> = shorter
        .map(|time| json!({"text": plain(&duration::show(time)), "value": with_id(id, time)}))
        .collect();
    let approve = button(ChatAction::Approve, id, "Approve", "primary");
    let approve_for = json!({
        "type": "static_select", "action_id": ChatAction::ApproveFor.as_str(), "placeholder": plain("Approve for…"), "options": options,
    });
    let reject = button(ChatAction::Reject, id, "Reject", "danger");
    // A select without an option is refused, with its whole message.
    let approve_for = (!options.is_empty()).then_some(approve_for);
    AnswerParts {
        comment: Some(comment("Comment", true)),
        elements: [approve].into_iter().chain(approve_for).chain([reject]).collect(),
    }
}

/// Returns what reviews a break-glass access.
pub(super) fn of_review(request: &Request) -> AnswerParts {
    AnswerParts {
        comment: Some(comment("Result of the review", false)),
        elements: vec![button(ChatAction::Review, request.id.as_str(), "Reviewed", "primary")],
    }
}

fn button(action: ChatAction, value: &str, label: &str, style: &str) -> Value {
    json!({"type": "button", "style": style, "action_id": action.as_str(), "value": value, "text": plain(label)})
}

/// Returns an input whose content comes with every click. Without a block id of ours: Slack wants another one whenever a message is
/// replaced.
fn comment(label: &str, optional: bool) -> Value {
    let element = json!({"type": "plain_text_input", "action_id": COMMENT_INPUT});
    json!({"type": "input", "optional": optional, "label": plain(label), "element": element})
}

fn plain(text: &str) -> Value {
    json!({"type": "plain_text", "text": text})
}
