//! Bodies of messages about requests, and of checkpoints. Pure.
//!
//! Texts that users wrote are escaped for a chat: they can neither mention a whole channel nor look like a link, and invisible
//! characters are made visible. They stand behind the gate's own lines, so that they push none out of a message. The JSON format has the texts as they are, in JSON that is safe to display.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::buttons::AnswerParts;
use super::teams::{self, Card};
use super::{Audience, EventKind, MessageFormat, RequestNotice, buttons};
use crate::base::duration;
use crate::base::visible;
use crate::chat::{escaped, escaped_start};
use crate::model::names::ProfileName;
use crate::model::request::{Approval, ApprovedBy, Request, RequestOutcome};

/// Number of characters of a user's text that a chat message shows; in Slack, of the escaped text.
const MAX_TEXT_CHARS: usize = 500;
/// Number of characters of a section. Slack takes 3000, and refuses the whole message if there are more.
const MAX_SECTION_CHARS: usize = 2900;

/// Returns the body of a message; `buttons` is true where people can answer in the chat. The requester has neither command nor
/// buttons for it: others approve and review.
pub(crate) fn body(notice: &RequestNotice, to: &Audience, format: MessageFormat, link: Option<&str>, buttons: bool) -> String {
    let request = &notice.request;
    let link = link.map(|base| format!("{}/requests/{}", base.trim_end_matches('/'), request.id));
    let command = command(notice).filter(|_| *to == Audience::Everybody);
    let buttons = buttons && *to == Audience::Everybody;
    let body = match format {
        MessageFormat::Json => json(notice, link.as_deref(), command.as_deref()),
        MessageFormat::Slack => slack(notice, link.as_deref(), command.as_deref(), buttons),
        MessageFormat::Teams => teams(notice, link.as_deref(), command.as_deref()),
    };
    visible::json(&body.to_string()).into_owned()
}

/// Returns the body of a message with a checkpoint: the line as the log has it, which proves the checkpoint.
pub(super) fn checkpoint(line: &str, id: &str, at: Timestamp, format: MessageFormat) -> String {
    match format {
        MessageFormat::Json => json!({ "event": EventKind::Checkpoint.as_str(), "id": id, "time": at, "line": line }),
        MessageFormat::Slack => {
            let text = format!("Checkpoint of the audit log {id}:\n```{}```", escaped(line));
            json!({ "text": format!("Checkpoint of the audit log {id}"), "blocks": [section_of(&text)] })
        }
        MessageFormat::Teams => teams::message(&Card {
            headline: &format!("Checkpoint of the audit log {id}"),
            facts: vec![("Line", line.to_owned())],
            link: None,
        }),
    }
    .to_string()
}

/// Returns the command that acts on the event in a terminal.
fn command(notice: &RequestNotice) -> Option<String> {
    match notice.event {
        EventKind::RequestPending => Some(format!("tidegate approve {}", notice.request.id)),
        EventKind::BreakGlass => Some(format!("tidegate review {} --comment TEXT", notice.request.id)),
        _ => None,
    }
}

fn json(notice: &RequestNotice, link: Option<&str>, command: Option<&str>) -> Value {
    json!({
        "event": notice.event.as_str(),
        "id": notice.id(),
        "time": notice.at,
        "request": *notice.request,
        "link": link,
        "command": command,
    })
}

fn slack(notice: &RequestNotice, link: Option<&str>, command: Option<&str>, buttons: bool) -> Value {
    let request = &notice.request;
    let wish = &request.wish;
    let mark = if notice.event == EventKind::BreakGlass {
        ":rotating_light: "
    } else {
        ""
    };
    let text = format!("{mark}{}", quoted(&headline(notice)));
    let mut details = vec![format!("*{text}*")];
    details.extend(open(notice));
    details.extend(command.map(|command| format!("`{command}`")));
    if let Some(reason) = &wish.reason {
        details.push(format!("> {}", quoted(reason)));
    }
    if let Some(ticket) = &wish.ticket {
        details.push(format!("Ticket: {}", quoted(ticket)));
    }
    details.extend(comments(request).iter().map(|comment| quoted(comment)));
    let mut blocks = vec![section(&details)];
    let AnswerParts { comment, mut elements } = match notice.event {
        EventKind::RequestPending if buttons => buttons::of_request(request),
        EventKind::BreakGlass if buttons => buttons::of_review(request),
        _ => AnswerParts::default(),
    };
    blocks.extend(comment);
    let label = if elements.is_empty() { label(notice, command) } else { "Show" };
    elements.extend(link.map(|link| json!({"type": "button", "text": {"type": "plain_text", "text": label}, "url": link})));
    if !elements.is_empty() {
        blocks.push(json!({"type": "actions", "elements": elements}));
    }
    json!({ "text": text, "blocks": blocks })
}

/// Returns a section with those of the lines that fit into [`MAX_SECTION_CHARS`].
pub(super) fn section(lines: &[String]) -> Value {
    let mut room = MAX_SECTION_CHARS;
    let fits = |line: &&String| {
        let left = room.checked_sub(line.chars().count() + 1);
        room = left.unwrap_or(room);
        left.is_some()
    };
    let mut shown: Vec<&str> = lines.iter().filter(fits).map(String::as_str).collect();
    if shown.len() < lines.len() {
        shown.push("…");
    }
    section_of(&shown.join("\n"))
}

/// Returns a section with a text, in which Slack makes no mention and no link of its own accord (`verbatim`).
fn section_of(text: &str) -> Value {
    json!({"type": "section", "text": {"type": "mrkdwn", "text": text, "verbatim": true}})
}

fn teams(notice: &RequestNotice, link: Option<&str>, command: Option<&str>) -> Value {
    let request = &notice.request;
    let mut facts = Vec::new();
    facts.extend(open(notice).map(|open| ("To do", open)));
    facts.extend(command.map(|command| ("Command", command.to_owned())));
    facts.extend(request.wish.reason.as_deref().map(|reason| ("Reason", cut(reason))));
    facts.extend(request.wish.ticket.as_deref().map(|ticket| ("Ticket", cut(ticket))));
    facts.extend(comments(request).iter().map(|comment| ("Answer", cut(comment))));
    teams::message(&Card {
        headline: &headline(notice),
        facts,
        link: link.map(|link| (label(notice, command), link)),
    })
}

/// Returns the label of the link.
fn label(notice: &RequestNotice, command: Option<&str>) -> &'static str {
    match notice.event {
        EventKind::RequestPending => "Approve or reject",
        EventKind::BreakGlass if command.is_some() => "Review",
        _ => "Show",
    }
}

fn headline(notice: &RequestNotice) -> String {
    let request = &notice.request;
    let wish = &request.wish;
    let what = extent(request, &wish.profile, wish.window);
    let who = &wish.identity;
    match notice.event {
        EventKind::RequestPending => format!("{who} asks for {what}"),
        EventKind::RequestWithoutApprover => {
            format!("{who} asks for {what}, and no enabled user of this gate may approve it")
        }
        EventKind::RequestApproved => match request.outcome {
            Some(RequestOutcome::Approved {
                how: ApprovedBy::People, ..
            }) => {
                let by: Vec<&str> = request.approvals.iter().map(|approval| approval.by.as_str()).collect();
                let less = request.narrowed_from.as_ref().map_or_else(String::new, |asked| {
                    format!("; asked for: {}", extent(request, &asked.profile, asked.window))
                });
                format!("{who} gets {what}, approved by {}{less}", by.join(" and "))
            }
            _ => format!("{who} gets {what}, as the policies say"),
        },
        EventKind::RequestDenied => format!("{who} was denied {what} by the policies"),
        EventKind::RequestRejected => match &request.outcome {
            Some(RequestOutcome::Rejected { by, .. }) => format!("{by} rejected what {who} asked for: {what}"),
            _ => format!("what {who} asked for was rejected: {what}"),
        },
        EventKind::RequestWithdrawn => format!("{who} no longer asks for {what}"),
        EventKind::BreakGlass => {
            format!("Break-glass: {who} took {what} without approval; it is to be reviewed")
        }
        // These have forms of their own.
        EventKind::GrantEnding | EventKind::GrantEnded | EventKind::GrantRevoked | EventKind::Checkpoint => {
            notice.event.to_string()
        }
        EventKind::BreakGlassReviewed => match &request.review {
            Some(review) => format!("{} reviewed the break-glass access of {who}: {what}", review.by),
            None => format!("reviewed: the break-glass access of {who}, {what}"),
        },
    }
}

/// Returns what was said about it.
fn comments(request: &Request) -> Vec<String> {
    match (&request.outcome, &request.review) {
        (_, Some(review)) => vec![review.comment.clone()],
        (Some(RequestOutcome::Denied { why, .. }), _) => vec![why.clone()],
        (Some(RequestOutcome::Rejected { comment, .. }), _) => comment.iter().cloned().collect(),
        (Some(RequestOutcome::Approved { .. }), _) => {
            let comment = |approval: &Approval| approval.comment.as_ref().map(|comment| format!("{}: {comment}", approval.by));
            request.approvals.iter().filter_map(comment).collect()
        }
        _ => Vec::new(),
    }
}

/// Returns what is still to be done about it, and by when.
fn open(notice: &RequestNotice) -> Option<String> {
    let request = &notice.request;
    let until = clock_time(request.expires_at);
    match notice.event {
        EventKind::RequestPending => Some(match request.approvals_needed {
            0 | 1 => format!("Needs 1 approval, by {until}"),
            more => format!("Needs {more} approvals, by {until}"),
        }),
        EventKind::RequestWithoutApprover => Some(format!(
            "For the operator: `tidegate user list` shows who is disabled and in which groups, `tidegate user enable` and \
             `tidegate user groups` change it. Otherwise it lapses at {until}."
        )),
        _ => None,
    }
}

/// Returns a time for a person to read.
pub(super) fn clock_time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// Returns a text in one line, cut to [`MAX_TEXT_CHARS`].
pub(super) fn cut(text: &str) -> String {
    visible::start(text, MAX_TEXT_CHARS)
}

/// Returns a text in one line, escaped, and cut to [`MAX_TEXT_CHARS`] then: an escape may be many times as long as its character.
pub(super) fn quoted(text: &str) -> String {
    escaped_start(text, MAX_TEXT_CHARS)
}

fn extent(request: &Request, profile: &ProfileName, window: Duration) -> String {
    format!("{} for {}", request.wish.target.with(Some(profile)), duration::show(window))
}
