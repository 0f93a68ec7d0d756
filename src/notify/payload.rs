//! Bodies of messages. Pure.
//!
//! Texts that users wrote are escaped for a chat: they can neither mention a whole channel nor look like a link, and invisible
//! characters are made visible. The JSON format has the texts as they are, in JSON that is safe to display.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{EventKind, Format, Notice};
use crate::request::{How, Outcome, Request};
use crate::visible;

/// Number of characters of a user's text that a chat message shows; Slack takes 3000.
const MOST_CHARS: usize = 500;

/// Returns the body of a message.
pub(super) fn body(notice: &Notice, format: Format, link: Option<&str>) -> String {
    let request = &notice.request;
    let link = link.map(|base| format!("{}/requests/{}", base.trim_end_matches('/'), request.id));
    let body = match format {
        Format::Json => json(notice, link.as_deref()),
        Format::Slack => slack(notice, link.as_deref()),
    };
    visible::json(&body.to_string()).into_owned()
}

/// Returns the body of a message with a checkpoint: the line as the log has it, which proves the checkpoint.
pub(super) fn checkpoint(line: &str, id: &str, at: Timestamp, format: Format) -> String {
    match format {
        Format::Json => json!({ "event": EventKind::Checkpoint.name(), "id": id, "time": at, "line": line }),
        Format::Slack => {
            let text = format!("Checkpoint of the audit log {id}:\n```{}```", escaped(line));
            json!({ "text": format!("Checkpoint of the audit log {id}"), "blocks": [{"type": "section", "text": {"type": "mrkdwn", "text": text}}] })
        }
    }
    .to_string()
}

/// Returns the command that acts on the event in a terminal.
fn command(notice: &Notice) -> Option<String> {
    match notice.event {
        EventKind::RequestPending => Some(format!("tidegate approve {}", notice.request.id)),
        _ => None,
    }
}

fn json(notice: &Notice, link: Option<&str>) -> Value {
    json!({
        "event": notice.event.name(),
        "id": notice.id(),
        "time": notice.at,
        "request": *notice.request,
        "link": link,
        "command": command(notice),
    })
}

fn slack(notice: &Notice, link: Option<&str>) -> Value {
    let request = &notice.request;
    let wish = &request.wish;
    let text = escaped(&headline(notice));
    let mut details = vec![format!("*{text}*")];
    if let Some(reason) = &wish.reason {
        details.push(format!("> {}", quoted(reason)));
    }
    if let Some(ticket) = &wish.ticket {
        details.push(format!("Ticket: {}", quoted(ticket)));
    }
    if let Some(words) = answer(request) {
        details.push(quoted(words));
    }
    if let Some(command) = command(notice) {
        details.push(format!("`{command}`"));
    }
    let mut blocks = vec![json!({"type": "section", "text": {"type": "mrkdwn", "text": details.join("\n")}})];
    if let Some(link) = link {
        let label = match notice.event {
            EventKind::RequestPending => "Approve or reject",
            EventKind::BreakGlass => "Review",
            _ => "Show",
        };
        let button = json!({"type": "button", "text": {"type": "plain_text", "text": label}, "url": link});
        blocks.push(json!({"type": "actions", "elements": [button]}));
    }
    json!({ "text": text, "blocks": blocks })
}

fn headline(notice: &Notice) -> String {
    let request = &notice.request;
    let wish = &request.wish;
    let what = format!(
        "{} for {}",
        wish.target.with(Some(&wish.profile)),
        minutes(wish.window.as_secs())
    );
    let who = &wish.identity;
    match notice.event {
        EventKind::RequestPending => format!("{who} asks for {what}"),
        EventKind::RequestWithoutApprover => {
            format!("{who} asks for {what}, and nobody who may approve it is enabled at this gate")
        }
        EventKind::RequestApproved => match request.outcome {
            Some(Outcome::Approved { how: How::People, .. }) => {
                let by: Vec<&str> = request.approvals.iter().map(|approval| approval.by.as_str()).collect();
                format!("{who} gets {what}, approved by {}", by.join(", "))
            }
            _ => format!("{who} gets {what}, as the policies say"),
        },
        EventKind::RequestDenied => format!("{who} was denied {what}"),
        EventKind::RequestRejected => match &request.outcome {
            Some(Outcome::Rejected { by, .. }) => format!("{by} rejected: {who}, {what}"),
            _ => format!("rejected: {who}, {what}"),
        },
        EventKind::RequestWithdrawn => format!("{who} no longer asks for {what}"),
        EventKind::BreakGlass => format!(":rotating_light: Break-glass: {who} took {what} without approval"),
        // Checkpoints have a body of their own: [`checkpoint`].
        EventKind::Checkpoint => "a checkpoint".to_owned(),
        EventKind::BreakGlassReviewed => match &request.review {
            Some(review) => format!("{} reviewed the break-glass access of {who}: {what}", review.by),
            None => format!("reviewed: the break-glass access of {who}, {what}"),
        },
    }
}

/// Returns the comment of the reviewer or approver, or the reason of the denial.
fn answer(request: &Request) -> Option<&str> {
    match (&request.outcome, &request.review) {
        (_, Some(review)) => Some(&review.comment),
        (Some(Outcome::Denied { why, .. }), _) => Some(why),
        (Some(Outcome::Rejected { comment, .. }), _) => comment.as_deref(),
        _ => None,
    }
}

/// Returns a text in one line, cut to [`MOST_CHARS`] and escaped.
fn quoted(text: &str) -> String {
    escaped(&visible::start(text, MOST_CHARS))
}

/// Returns a text in one line, with `&`, `<` and `>` escaped as Slack requires ("Formatting text for app surfaces").
fn escaped(text: &str) -> String {
    let mut quoted = String::new();
    for c in visible::visible(text).chars() {
        match c {
            '&' => quoted.push_str("&amp;"),
            '<' => quoted.push_str("&lt;"),
            '>' => quoted.push_str("&gt;"),
            c => quoted.push(c),
        }
    }
    quoted
}

fn minutes(secs: u64) -> String {
    match (secs / 3600, secs / 60 % 60, secs % 60) {
        (0, 0, secs) => format!("{secs}s"),
        (0, minutes, _) => format!("{minutes}m"),
        (hours, 0, _) => format!("{hours}h"),
        (hours, minutes, _) => format!("{hours}h{minutes}m"),
    }
}
