//! Messages about what came of a click: in place of the message with the button, or for its clicker alone.
//!
//! INVARIANT: they go to the chat of the configuration, whatever address a call names.

use std::time::Duration;

use reqwest::{Url, header};
use serde_json::{Value, json};

use super::{ChatSettings, Click};
use crate::base::tls::{web_address, web_call};
use crate::base::visible;

/// Time limit of a message, from the connect to the last byte.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum size of the answer to one, in bytes; it is not looked at.
const MAX_ANSWER_BYTES: usize = 64 << 10;
/// Number of characters of what came of a click. Slack takes 3000, and refuses the whole message if there are more.
const MAX_TOLD_CHARS: usize = 2_900;
/// Types of the blocks with which people answer.
const ANSWER_BLOCKS: [&str; 2] = ["actions", "input"];
/// Host of Slack's API, and the one of the addresses that its calls name.
const SLACK_HOSTS: (&str, &str) = ("slack.com", "hooks.slack.com");

/// Returns a text in one line, with `&`, `<` and `>` escaped as Slack requires ("Formatting text for app surfaces").
#[must_use]
pub fn escaped(text: &str) -> String {
    escaped_start(text, usize::MAX)
}

/// Escapes as [`escaped`] does, and truncates after `most` characters of what that makes.
#[must_use]
pub fn escaped_start(text: &str, most: usize) -> String {
    let (mut shown, mut room) = (String::new(), most);
    for character in visible::start(text, most).chars() {
        let mut same = [0; 4];
        let piece = match character {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            _ => character.encode_utf8(&mut same),
        };
        let Some(left) = room.checked_sub(piece.chars().count()) else {
            shown.push('…');
            break;
        };
        room = left;
        shown.push_str(piece);
    }
    shown
}

/// Returns the message with the button and what came of it; without its buttons, if nothing is left to decide.
#[must_use]
pub fn decided(mut blocks: Vec<Value>, text: &str, settled: bool) -> Value {
    let text = escaped_start(text, MAX_TOLD_CHARS);
    blocks.retain(|block| !settled || ANSWER_BLOCKS.iter().all(|kind| block["type"] != *kind));
    blocks.push(json!({"type": "context", "elements": [{"type": "mrkdwn", "text": text}]}));
    json!({"replace_original": true, "text": text, "blocks": blocks})
}

/// Returns the message for the clicker alone that nothing came of it.
#[must_use]
pub fn refused(text: &str) -> Value {
    json!({"response_type": "ephemeral", "replace_original": false, "text": escaped(text)})
}

impl Click {
    /// Posts a message to the address that the call names, if it is of the chat. A failure changes nothing.
    pub async fn tell(&self, settings: &ChatSettings, message: &Value) -> Result<(), String> {
        let address = self.response_url.as_ref().ok_or("the call names no address")?;
        let address =
            response_address(&settings.api, address.expose()).ok_or("the call names an address that is not the chat's")?;
        let body = visible::json(&message.to_string()).into_owned();
        let posted = web_call(address, CALL_TIMEOUT, MAX_ANSWER_BYTES, |client, url| {
            client.post(url).header(header::CONTENT_TYPE, "application/json").body(body)
        });
        let (status, _) = posted.await?;
        status
            .is_success()
            .then_some(())
            .ok_or_else(|| format!("it answers {status}"))
    }
}

/// Returns an address if it is of the same host and port as the chat's API, or of the host that Slack has for this.
fn response_address(api: &str, address: &str) -> Option<Url> {
    let (api, address) = (web_address(api).ok()?, web_address(address).ok()?);
    let is_slack = (api.host_str(), address.host_str()) == (Some(SLACK_HOSTS.0), Some(SLACK_HOSTS.1));
    let is_https = address.scheme() == "https" && address.port().is_none();
    (address.origin() == api.origin() || (is_slack && is_https)).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_go_to_the_chat_and_nowhere_else() {
        let (slack, own) = ("https://slack.com/api", "http://127.0.0.1:8065/api");
        for (api, address, good) in [
            (slack, "https://hooks.slack.com/actions/T1/1/x", true),
            (slack, "https://slack.com/x", true),
            (slack, "https://hooks.slack.com:8443/x", false),
            (slack, "http://hooks.slack.com/x", false),
            (slack, "https://hooks.slack.com.evil.example/x", false),
            (slack, "https://evil.example/hooks.slack.com", false),
            (slack, "https://user@hooks.slack.com/x", false),
            (slack, "http://127.0.0.1:7433/v1/users", false),
            (slack, "", false),
            (own, "http://127.0.0.1:8065/hook", true),
            (own, "http://127.0.0.1:7433/hook", false),
            (own, "https://hooks.slack.com/x", false),
        ] {
            assert_eq!(response_address(api, address).is_some(), good, "{api} {address}");
        }
    }

    #[test]
    fn a_message_has_no_buttons_once_nothing_is_left_to_decide() {
        let blocks = vec![
            json!({"type": "section"}),
            json!({"type": "input"}),
            json!({"type": "actions"}),
        ];
        let types = |message: &Value| {
            let blocks = message["blocks"].as_array().unwrap().iter();
            blocks
                .map(|block| block["type"].as_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        let settled = decided(blocks.clone(), "lea <!channel> approved it", true);
        assert_eq!(types(&settled), ["section", "context"]);
        assert_eq!(settled["text"], "lea &lt;!channel&gt; approved it");
        assert_eq!(
            types(&decided(blocks, "1 more", false)),
            ["section", "input", "actions", "context"]
        );
        let long = decided(Vec::new(), &"<\u{202e}".repeat(3_000), true);
        assert!(long["text"].as_str().unwrap().chars().count() < 3_000);
        assert_eq!(refused("no & never")["text"], "no &amp; never");
    }
}
