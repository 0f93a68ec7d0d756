//! `policy explain` at a gate: asks the policies in force, with the existing groups and grants.
//!
//! The gate always answers queries about the caller; the policies decide on queries about others.

use std::path::Path;
use std::time::Duration;

use super::ExplainArgs;
use crate::base::duration;
use crate::cli::render::{self, visible};
use crate::control::model::{ExplainBody, ExplanationBody, NewRequestBody, VerdictBody};

/// Asks the gate and prints its answer.
pub(super) async fn explain(config: &Path, args: ExplainArgs) -> anyhow::Result<()> {
    let of_access = matches!(
        args.action.as_deref(),
        None | Some("request" | "auto-approve" | "break-glass")
    );
    if of_access && args.target.is_none() {
        anyhow::bail!("no target given (--target NAME); list targets with: tidegate targets");
    }
    let client = args.place.person(config)?;
    let output = args.folder.printing.output;
    let body = question(args);
    let explanation: ExplanationBody = client.post("/v1/policy/explain", &body).await?;
    render::show(output, &explanation, |explanation| told(&explanation.action, explanation))
}

fn question(args: ExplainArgs) -> ExplainBody {
    let access = args.target.map(|target| NewRequestBody {
        target: target.target.to_string(),
        profile: args.profile.map(|profile| profile.to_string()),
        window_seconds: args.window.map(|window| window.as_secs()),
        reason: args.reason,
        ticket: args.ticket,
        max_sessions: args.sessions,
        break_glass: args.break_glass,
        alone: false,
    });
    ExplainBody {
        identity: args.identity,
        groups: (!args.group.is_empty()).then_some(args.group),
        action: args.action,
        access,
        request: args.request,
        grant: args.grant,
        at: args.at,
        client: args.from,
    }
}

/// Returns an answer as text; `action` stands before the access that it is about.
pub(super) fn told(action: &str, explanation: &ExplanationBody) -> String {
    let ExplanationBody {
        identity,
        target,
        profile,
        window_seconds,
        answer,
        policies,
        remedies,
        ..
    } = explanation;
    let about = match (target, profile, window_seconds) {
        (Some(target), Some(profile), Some(window)) => {
            let window = duration::show(Duration::from_secs(*window));
            format!("{action} {target}/{profile} for {window}")
        }
        _ => action.to_owned(),
    };
    let mut text = format!("{identity}, {}: {}", visible(about.trim_start()), words(answer));
    if let Some(why) = &answer.why {
        text = format!("{text}\n  why: {}", visible(why));
    }
    let by = match policies.as_slice() {
        [] => "no policy (access that no policy permits is denied)".to_owned(),
        policies => policies.join(", "),
    };
    text = format!("{text}\n  decided by: {}", visible(&by));
    if target.is_some() && remedies.is_empty() && !matches!(answer.verdict.as_str(), "automatic" | "allowed") {
        text.push_str("\n  no change of the request would be permitted");
    }
    for remedy in remedies {
        text = format!("{text}\n  {}: {}", visible(&remedy.change), words(&remedy.answer));
    }
    text
}

/// Returns a verdict in words.
#[must_use]
pub(in crate::cli) fn words(answer: &VerdictBody) -> String {
    match (answer.verdict.as_str(), answer.approvals) {
        ("automatic", _) => "approved automatically".to_owned(),
        ("approvals", Some(1) | None) => "needs one approver".to_owned(),
        ("approvals", Some(approvals)) => format!("needs {approvals} approvers"),
        (other, _) => visible(other),
    }
}
