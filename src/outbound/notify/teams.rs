//! Messages for Microsoft Teams: an adaptive card, as webhooks of Workflows take it. Pure.
//!
//! All text is in `TextRun`s: unlike those of `TextBlock` and `FactSet`, they have no Markdown, so no user's text becomes a link.
//! A mention begins with `<at>`, so `<` and `>` are shown as `‹` and `›`.
//!
//! INVARIANT: a message is at most half of the 28 KB that Teams takes, because it may count two bytes for each.

use serde_json::{Value, json};

use crate::base::visible;

/// Number of bytes of the paragraphs; what is left of 14 KB is for the frame and the link.
const MAX_BODY_BYTES: usize = 10 * 1024;
/// Number of characters of the headline.
const MAX_HEADLINE_CHARS: usize = 500;

/// Content of a card.
pub(super) struct Card<'a> {
    /// Event in one sentence.
    pub(super) headline: &'a str,
    /// Labels and texts of the paragraphs. Those that are too long together with the ones before are left out.
    pub(super) facts: Vec<(&'static str, String)>,
    /// Label and address of the link.
    pub(super) link: Option<(&'static str, &'a str)>,
}

/// Returns the message with a card.
pub(super) fn message(card: &Card<'_>) -> Value {
    let headline = plain(&visible::start(card.headline, MAX_HEADLINE_CHARS));
    let mut body = vec![json!({
        "type": "RichTextBlock",
        "inlines": [{"type": "TextRun", "text": headline, "weight": "Bolder", "size": "Medium"}],
    })];
    let mut room = MAX_BODY_BYTES;
    for (label, text) in &card.facts {
        let paragraph = paragraph(label, &plain(text));
        if let Some(left) = room.checked_sub(paragraph.to_string().len()) {
            room = left;
            body.push(paragraph);
        }
    }
    if body.len() <= card.facts.len() {
        body.push(paragraph_of_rest());
    }
    let actions: Vec<Value> = card
        .link
        .iter()
        .map(|(label, url)| json!({"type": "Action.OpenUrl", "title": label, "url": url}))
        .collect();
    let content = json!({
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": body,
        "actions": actions,
    });
    let attachment = json!({
        "contentType": "application/vnd.microsoft.card.adaptive",
        "contentUrl": null,
        "content": content,
    });
    json!({ "type": "message", "attachments": [attachment] })
}

fn paragraph(label: &str, text: &str) -> Value {
    json!({
        "type": "RichTextBlock",
        "spacing": "Small",
        "inlines": [
            {"type": "TextRun", "text": format!("{label}: "), "weight": "Bolder"},
            {"type": "TextRun", "text": text},
        ],
    })
}

fn paragraph_of_rest() -> Value {
    json!({"type": "RichTextBlock", "inlines": [{"type": "TextRun", "text": "… (too long for this message)"}]})
}

/// Returns a text in one line that mentions nobody.
fn plain(text: &str) -> String {
    visible::visible(text).replace('<', "‹").replace('>', "›")
}
