//! `request show` and `requests --watch`: information for an approver, before and during the decision.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;

use super::args::{OutputFormat, RemoteArgs};
use super::client::ControlClient;
use super::render::{self, time, visible};
use super::{targets, views};
use crate::base::clock::Clock;
use crate::base::duration;
use crate::control::model::{Briefing, RequestView};
use crate::model::ids::RequestId;

/// Pause before the event stream is opened again.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);
/// Prefix of an event's data line.
const DATA_PREFIX: &[u8] = b"data:";

/// Shows a request with the information for an approver.
pub(super) async fn brief(config: &Path, request: &RequestId, remote: &RemoteArgs) -> anyhow::Result<()> {
    let path = format!("/v1/requests/{request}/briefing");
    let briefing: Briefing = remote.place.person(config)?.get(&path, &()).await?;
    remote.show(&briefing, |briefing| told(briefing, Clock::system(None).now()))
}

fn told(briefing: &Briefing, now: Timestamp) -> String {
    let Briefing {
        request,
        profile,
        earlier,
        sessions,
        ..
    } = briefing;
    let mut parts = vec![views::request(&request.request, &request.approvers, now)];
    parts.push(format!(
        "The profile {}:\n{}",
        profile.profile,
        render::list(&targets::words(profile))
    ));
    let identity = &request.request.request.wish.identity;
    parts.push(match earlier.as_slice() {
        [] => format!("No earlier requests of {identity} visible to you."),
        earlier => format!("Earlier requests of {identity}:\n{}", views::requests(earlier, now)),
    });
    let target = &request.request.request.wish.target;
    parts.push(match sessions.as_slice() {
        [] => format!("No other sessions on {target} now."),
        sessions => format!("On {target} now:\n{}", views::sessions(sessions, now)),
    });
    parts.join("\n\n")
}

/// Prints every change of a request that the caller may see, until standard output is closed.
pub(super) async fn requests(client: &ControlClient, output: OutputFormat) -> anyhow::Result<()> {
    loop {
        let mut open = true;
        let told = client
            .lines("/v1/events", &(), |line| {
                open = line
                    .and_then(|line| line.strip_prefix(DATA_PREFIX))
                    .and_then(changed)
                    .is_none_or(|view| print(output, &view));
                open
            })
            .await;
        if !open {
            return Ok(());
        }
        // A stream ends with the gate, after an hour, and when the caller's rights have changed. A refusal comes with its
        // reason.
        match told {
            Err(error) if !error.may_pass() => return Err(error.into()),
            _ => tokio::time::sleep(RETRY_INTERVAL).await,
        }
    }
}

/// Parses the request of an event; events about other objects are skipped.
fn changed(data: &[u8]) -> Option<RequestView> {
    serde_json::from_slice(data).ok()
}

fn print(output: OutputFormat, view: &RequestView) -> bool {
    match output {
        OutputFormat::Json => serde_json::to_string(view).is_ok_and(|line| render::print_line(&line)),
        OutputFormat::Table => render::print_words(&line(view, Clock::system(None).now())),
    }
}

/// Returns one line: the change, the request, and the next step.
fn line(view: &RequestView, now: Timestamp) -> String {
    let (request, wish) = (&view.request, &view.request.wish);
    let reason = wish.reason.as_deref().map(|reason| format!(": {}", visible(reason)));
    let next = (view.status == "pending").then(|| format!("; tidegate request show {}", request.id));
    format!(
        "{}  {} {} {}, {} for {}{}{}",
        time(now),
        visible(&view.status),
        request.id,
        wish.identity,
        views::wanted(wish),
        duration::show(wish.window),
        reason.unwrap_or_default(),
        next.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending() -> serde_json::Value {
        serde_json::json!({
            "id": "rq_4k2m9x0a7b", "identity": "ana", "target": "orders", "profile": "read-write", "window_seconds": 1800,
            "reason": "BUG-812", "max_sessions": 10, "submitted_at": "2026-08-01T12:00:00Z",
            "expires_at": "2026-08-01T13:00:00Z", "approvals_needed": 1, "status": "pending", "approvals_missing": 1,
        })
    }

    #[test]
    fn only_requests_are_told_and_what_to_do() {
        let now = "2026-08-01T12:00:01Z".parse().unwrap();
        let view = changed(pending().to_string().as_bytes()).unwrap();
        assert_eq!(
            line(&view, now),
            "2026-08-01 12:00:01Z  pending rq_4k2m9x0a7b ana, orders/read-write for 30m: BUG-812; tidegate request show rq_4k2m9x0a7b"
        );
        assert!(changed(br#"{"missed":3}"#).is_none());
        assert!(changed(br#"{"id":"gr_4k2m9x0a7b","status":"active"}"#).is_none());
    }

    #[test]
    fn an_approver_reads_what_the_profile_may_do() {
        let mut request = pending();
        request["approvers"] = serde_json::json!(["lea"]);
        let briefing: Briefing = serde_json::from_value(serde_json::json!({
            "request": request, "earlier": [], "sessions": [],
            "profile": {"profile": "read-write", "may": ["update public.*"], "masks": ["public.cards.number: nothing"],
                        "rails": ["UPDATE and DELETE only with a WHERE"]},
        }))
        .unwrap();
        let text = told(&briefing, "2026-08-01T12:00:01Z".parse().unwrap());
        for part in [
            "orders/read-write",
            "update public.*",
            "cards.number: nothing",
            "only with a WHERE",
            "can approve",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
