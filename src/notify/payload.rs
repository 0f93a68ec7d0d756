//! What receivers read. Pure.
//!
//! What people wrote is quoted: in a chat it can neither call everybody nor look like a link, and nothing hides in it. A machine gets the
//! texts as they are, in JSON that is harmless to show.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{EventKind, Format, Notice};
use crate::request::{How, Outcome, Request};
use crate::visible;

/// More of what somebody wrote is cut off in a chat; Slack takes 3000 characters.
const MOST_CHARS: usize = 500;

/// The body of a message.
pub(super) fn body(notice: &Notice, format: Format, link: Option<&str>) -> String {
    let request = &notice.request;
    let link = link.map(|base| format!("{}/requests/{}", base.trim_end_matches('/'), request.id));
    let body = match format {
        Format::Json => json(notice, link.as_deref()),
        Format::Slack => slack(notice, link.as_deref()),
    };
    visible::json(&body.to_string()).into_owned()
}

/// The body of a message with a checkpoint: the line as the log has it, which proves it.
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

/// What a person can do about it in a terminal.
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
        // It has a form of its own.
        EventKind::Checkpoint => "a checkpoint".to_owned(),
        EventKind::BreakGlassReviewed => match &request.review {
            Some(review) => format!("{} reviewed the break-glass access of {who}: {what}", review.by),
            None => format!("reviewed: the break-glass access of {who}, {what}"),
        },
    }
}

/// What was said about it.
fn answer(request: &Request) -> Option<&str> {
    match (&request.outcome, &request.review) {
        (_, Some(review)) => Some(&review.comment),
        (Some(Outcome::Denied { why, .. }), _) => Some(why),
        (Some(Outcome::Rejected { comment, .. }), _) => comment.as_deref(),
        _ => None,
    }
}

/// One line, not too long.
fn quoted(text: &str) -> String {
    escaped(&visible::start(text, MOST_CHARS))
}

/// One line; `&`, `<` and `>` as Slack wants them ("Formatting text for app surfaces").
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
