use jiff::Timestamp;
use serde_json::{Value, json};

use crate::ledger::Ledger;

mod figures;
mod hostile;
mod http;
mod markup;
mod size;

/// Adds users, each of one group; returns their tokens.
async fn tokens(ledger: &Ledger, people: &[(&str, &str)]) -> Vec<String> {
    let mut tokens = Vec::new();
    for (name, group) in people {
        let groups = [group.parse().unwrap()].into();
        let token = ledger
            .add_user_until(&name.parse().unwrap(), groups, None, "olga")
            .await
            .unwrap();
        tokens.push(token.expose().clone());
    }
    tokens
}

fn now() -> Timestamp {
    "2026-08-01T12:00:00Z".parse().unwrap()
}

/// A request with `text` in every field that people or issuers fill in. Its state is that of this outcome.
fn request_with(text: &str, outcome: &Value, status: &str) -> Value {
    let mut request = json!({
        "id": "rq_0123456789", "identity": name(text), "issuer": text, "claims": {text: text}, "target": "orders",
        "profile": "read-write", "window_seconds": 1_800, "reason": text, "ticket": text, "max_sessions": 3,
        "submitted_at": "2026-08-01T11:00:00Z", "expires_at": "2026-08-01T13:00:00Z", "approvals_needed": 2,
        "approvals": [{"by": name(text), "at": "2026-08-01T11:30:00Z", "comment": text}],
        "narrowed_from": {"profile": "owner", "window_seconds": 3_600},
        "review": {"by": name(text), "at": "2026-08-01T11:40:00Z", "comment": text},
        "status": status, "approvals_missing": 1,
    });
    if !outcome.is_null() {
        request["outcome"] = outcome.clone();
    }
    request
}

/// The name of an identity is visible, at most 255 bytes long, and neither begins nor ends with a space.
fn name(text: &str) -> String {
    if text.parse::<crate::model::names::IdentityName>().is_ok() {
        text.to_owned()
    } else {
        "ana".to_owned()
    }
}

fn grant_with(text: &str) -> Value {
    json!({
        "id": "gr_0123456789", "identity": name(text), "target": "orders", "reason": text, "created_at": "2026-08-01T11:00:00Z",
        "created_by": text, "activate_by": "2026-08-01T12:30:00Z", "window_seconds": 1_800, "deadline": null, "max_sessions": 3,
        "client_network": null, "activated_at": "2026-08-01T11:45:00Z", "until": "2026-08-01T12:15:00Z",
        "revoked": {"at": "2026-08-01T11:50:00Z", "by": text, "reason": text}, "profile": "read-write",
        "request": "rq_0123456789", "status": text, "live_sessions": 2,
    })
}

fn session_with(text: &str) -> Value {
    json!({
        "session": "se_0123456789", "grant": "gr_0123456789", "identity": name(text), "target": "orders", "profile": "read-write",
        "client": "10.0.0.1:5000", "application": text, "since": "2026-08-01T11:50:00Z", "until": "2026-08-01T12:15:00Z",
        "state": text, "statements": 7, "running": text, "backend_pid": 42,
    })
}

fn profile_with(text: &str) -> Value {
    json!({
        "profile": "read-write", "may": [text], "masks": [text], "rails": [text],
        "verdict": {"verdict": "denied", "why": text}, "needs_reason": true, "approvers": [name(text)],
    })
}
