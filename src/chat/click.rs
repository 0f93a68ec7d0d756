//! Clicks on buttons, as Slack calls tell of them (`block_actions`), with the comment that stands in the message. Pure.
//!
//! INVARIANT: a click is one action of one user of a workspace of the configuration, on a button that the gate's messages have.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::{COMMENT_INPUT, ChatAction, ChatAnswer, ChatSettings};
use crate::base::secret::Secret;

/// Field of the form.
const PAYLOAD: &str = "payload";
/// Type of the payload of a click.
const BLOCK_ACTIONS: &str = "block_actions";
/// Maximum length of the id of a user, in bytes; Slack's have about 11.
const MAX_USER_BYTES: usize = 64;

/// Click of a person.
#[derive(Debug, Clone, PartialEq)]
pub struct Click {
    /// Id of the chat's user.
    pub user: String,
    /// Answer that the button stands for.
    pub answer: ChatAnswer,
    /// Comment that the person has typed into the message; never empty.
    pub comment: Option<String>,
    /// Address for what comes of it, as the call names it. Its bearer can write in the channel.
    pub response_url: Option<Secret<String>>,
    /// Blocks of the message with the button.
    pub blocks: Vec<Value>,
}

/// Reason why a signed call is no click that the gate takes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClickError {
    /// The body is not Slack's.
    #[error("the body is no form with one `payload` of Slack's; set this address as the app's interactivity URL only")]
    Malformed,
    /// The payload is not of a click.
    #[error("the payload is no click on one button of the gate's messages; nothing was changed")]
    NoClick,
    /// The workspace may not answer.
    #[error("members of this workspace may not answer here; the gate's operator adds it to chat.team")]
    OtherTeam,
}

#[derive(Deserialize)]
struct Payload {
    #[serde(rename = "type")]
    kind: String,
    team: Option<Team>,
    user: User,
    #[serde(default)]
    actions: Vec<ClickedElement>,
    response_url: Option<String>,
    #[serde(default)]
    message: Message,
    state: Option<MessageState>,
}

#[derive(Deserialize)]
struct Team {
    id: String,
}

#[derive(Deserialize)]
struct User {
    id: String,
    /// In a channel that workspaces share: the user's own.
    team_id: Option<String>,
}

#[derive(Deserialize)]
struct ClickedElement {
    #[serde(rename = "type")]
    kind: String,
    action_id: String,
    value: Option<String>,
    selected_option: Option<SelectedOption>,
}

#[derive(Deserialize)]
struct SelectedOption {
    value: String,
}

#[derive(Default, Deserialize)]
struct Message {
    #[serde(default)]
    blocks: Vec<Value>,
}

/// Values of the inputs of the message, by the id of the block and of the input.
#[derive(Deserialize)]
struct MessageState {
    #[serde(default)]
    values: BTreeMap<String, BTreeMap<String, InputValue>>,
}

#[derive(Deserialize)]
struct InputValue {
    #[serde(rename = "type")]
    kind: String,
    value: Option<String>,
}

impl Click {
    /// Parses the body of a signed call. `None`: a link was opened, of which Slack tells too, and nothing is to be done.
    pub fn parse(body: &[u8], settings: &ChatSettings) -> Result<Option<Self>, ClickError> {
        let mut fields = form_urlencoded::parse(body);
        let payload = match (fields.next(), fields.next()) {
            (Some((name, payload)), None) if name == PAYLOAD => payload,
            _ => return Err(ClickError::Malformed),
        };
        let payload: Payload = serde_json::from_str(&payload).map_err(|_| ClickError::Malformed)?;
        let of = |team: &str| settings.teams.contains(team);
        let (team, users) = (payload.team.as_ref(), payload.user.team_id.as_deref());
        if !team.is_some_and(|team| of(&team.id)) || !users.is_none_or(of) {
            return Err(ClickError::OtherTeam);
        }
        let user = payload.user.id;
        let plain = user.len() <= MAX_USER_BYTES && user.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let [action] = payload.actions.as_slice() else {
            return Err(ClickError::NoClick);
        };
        if payload.kind != BLOCK_ACTIONS || user.is_empty() || !plain {
            return Err(ClickError::NoClick);
        }
        if action.kind == "button" && action.value.is_none() {
            return Ok(None);
        }
        Ok(Some(Self {
            user,
            answer: answer(action).ok_or(ClickError::NoClick)?,
            comment: payload.state.and_then(comment),
            response_url: payload.response_url.map(Secret::new),
            blocks: payload.message.blocks,
        }))
    }
}

fn answer(action: &ClickedElement) -> Option<ChatAnswer> {
    let selects = action.action_id == ChatAction::ApproveFor.as_str();
    let value = match (action.kind.as_str(), &action.selected_option, &action.value) {
        ("static_select", Some(option), None) if selects => &option.value,
        ("button", None, Some(value)) if !selects => value,
        _ => return None,
    };
    ChatAnswer::parse(&action.action_id, value)
}

/// Returns the comment in the inputs of a message, if somebody has typed one.
fn comment(state: MessageState) -> Option<String> {
    let mut inputs = state.values.into_values().flatten();
    let (_, input) = inputs.find(|(id, input)| id == COMMENT_INPUT && input.kind == "plain_text_input")?;
    input.value.filter(|text| !text.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::super::testing::settings;
    use super::*;

    fn parse(payload: &str) -> Result<Option<Click>, ClickError> {
        let body = form_urlencoded::Serializer::new(String::new())
            .append_pair("payload", payload)
            .finish();
        Click::parse(body.as_bytes(), &settings())
    }

    fn click() -> Value {
        json!({
            "type": "block_actions",
            "team": {"id": "T1", "domain": "example"},
            "user": {"id": "U7", "team_id": "T1", "username": "lea"},
            "actions": [{"type": "button", "action_id": "approve", "value": "rq_4k2m9x0a7b", "block_id": "x"}],
            "response_url": "https://hooks.slack.com/actions/T1/1/x",
            "message": {"blocks": [{"type": "section"}]},
        })
    }

    #[test]
    fn one_button_of_ours_is_an_answer() {
        let read = parse(&click().to_string()).unwrap().unwrap();
        assert_eq!(read.user, "U7");
        assert_eq!(read.answer, ChatAnswer::Approve("rq_4k2m9x0a7b".parse().unwrap(), None));
        assert_eq!(read.blocks, [json!({"type": "section"})]);
        assert!(!format!("{read:?}").contains("hooks.slack.com"));
        let mut selected = click();
        selected["actions"][0] = json!({
            "type": "static_select", "action_id": "approve_for", "selected_option": {"value": "rq_4k2m9x0a7b 15m"},
        });
        let read = parse(&selected.to_string()).unwrap().unwrap();
        let quarter = Some(Duration::from_mins(15));
        assert_eq!(read.answer, ChatAnswer::Approve("rq_4k2m9x0a7b".parse().unwrap(), quarter));
        // Slack makes up the block's id, and tells of every input of the message.
        let mut commented = click();
        for (value, comment) in [
            (json!("after the restore"), Some("after the restore")),
            (json!(" "), None),
            (Value::Null, None),
        ] {
            commented["state"] = json!({"values": {
                "aKX": {"approve_for": {"type": "static_select", "selected_option": null}},
                "bQ2": {"comment": {"type": "plain_text_input", "value": value}},
            }});
            let read = parse(&commented.to_string()).unwrap().unwrap();
            assert_eq!(read.comment.as_deref(), comment);
        }
        let mut link = click();
        link["actions"][0] = json!({"type": "button", "action_id": "q1", "url": "https://gate.example.org"});
        assert_eq!(parse(&link.to_string()), Ok(None));
    }

    #[test]
    fn everything_else_is_refused() {
        let changed = |change: &dyn Fn(&mut Value)| {
            let mut payload = click();
            change(&mut payload);
            parse(&payload.to_string()).unwrap_err()
        };
        let action = click()["actions"][0].clone();
        for (error, change) in [
            (ClickError::OtherTeam, ("team", json!({"id": "T2"}))),
            (ClickError::OtherTeam, ("team", Value::Null)),
            (ClickError::OtherTeam, ("user", json!({"id": "U7", "team_id": "T2"}))),
            (ClickError::NoClick, ("type", json!("view_submission"))),
            (ClickError::NoClick, ("user", json!({"id": "U7/../x"}))),
            (ClickError::NoClick, ("user", json!({"id": ""}))),
            (ClickError::NoClick, ("actions", json!([]))),
            (ClickError::NoClick, ("actions", json!([action, action]))),
            (ClickError::Malformed, ("actions", json!({}))),
            (ClickError::Malformed, ("user", Value::Null)),
            (ClickError::Malformed, ("state", json!({"values": []}))),
        ] {
            assert_eq!(changed(&|payload| payload[change.0] = change.1.clone()), error, "{change:?}");
        }
        for action in [
            json!({"type": "button", "action_id": "revoke", "value": "rq_4k2m9x0a7b"}),
            json!({"type": "button", "action_id": "approve", "value": "rq_4k2m9x0a7b; rm"}),
            json!({"type": "button", "action_id": "approve_for", "value": "rq_4k2m9x0a7b 15m"}),
            json!({"type": "static_select", "action_id": "approve", "selected_option": {"value": "rq_4k2m9x0a7b"}}),
            json!({"type": "static_select", "action_id": "approve_for", "selected_option": null}),
            json!({"type": "datepicker", "action_id": "approve", "value": "rq_4k2m9x0a7b"}),
        ] {
            assert_eq!(
                changed(&|payload| payload["actions"][0] = action.clone()),
                ClickError::NoClick,
                "{action}"
            );
        }
        for body in [
            "",
            "payload=",
            "payload={",
            "payload=[]",
            "payload=%7B%7D&payload=%7B%7D",
            "a=b",
            "{\"type\":1}",
        ] {
            assert_eq!(
                Click::parse(body.as_bytes(), &settings()),
                Err(ClickError::Malformed),
                "{body}"
            );
        }
        assert_eq!(Click::parse(b"payload=\xff\xfe", &settings()), Err(ClickError::Malformed));
    }
}
