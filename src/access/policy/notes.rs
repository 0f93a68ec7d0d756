//! Annotations of a policy: `@id`, `@advice`, `@approvals`, `@max_duration`, `@max_sessions`.
//!
//! INVARIANT: an annotation without effect is an error, because its author believes that it limits something.

use std::time::Duration;

use cedar_policy::{Effect, Policy};

use super::Action;

/// Annotations of a policy that the gate interprets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PolicyNotes {
    /// Text for callers that the policy refuses.
    pub(super) advice: Option<String>,
    /// Number of approvers needed.
    pub(super) approvals: Option<u32>,
    /// Maximum length of a window.
    pub(super) max_duration: Option<Duration>,
    /// Maximum number of concurrent sessions.
    pub(super) max_sessions: Option<u32>,
}

/// Maximum value of `@approvals`.
const MAX_APPROVALS: u32 = 20;

/// Reads the annotations of a policy about these actions; errors go to `wrong`.
pub(super) fn read(policy: &Policy, actions: &[Action], mut wrong: impl FnMut(String)) -> PolicyNotes {
    let permit = policy.effect() == Effect::Permit;
    for (name, _) in policy.annotations() {
        if !["id", "advice", "approvals", "max_duration", "max_sessions", "description"].contains(&name) {
            wrong(format!(
                "unknown annotation @{name}; use @id, @advice, @approvals, @max_duration, @max_sessions or @description"
            ));
        }
    }
    let approvals = policy.annotation("approvals").and_then(|text| {
        let number = text.parse().ok().filter(|number| (1..=MAX_APPROVALS).contains(number));
        if number.is_none() {
            wrong(format!("@approvals({text:?}) is not a number from 1 to {MAX_APPROVALS}"));
        } else if !permit || !actions.contains(&Action::Request) {
            wrong("@approvals has an effect only in a permit of \"request\"".to_owned());
        }
        number
    });
    let max_duration = policy.annotation("max_duration").and_then(|text| {
        let duration = duration(text);
        if duration.is_none() {
            wrong(format!(
                "@max_duration({text:?}) is not a duration; write it like 45m or 2h30m"
            ));
        } else if !permit || !actions.iter().any(|action| windowed(*action)) {
            wrong("@max_duration has an effect only in a permit of access".to_owned());
        }
        duration
    });
    let max_sessions = policy.annotation("max_sessions").and_then(|text| {
        let number = text.parse().ok().filter(|number| *number > 0);
        if number.is_none() {
            wrong(format!(
                "@max_sessions({text:?}) is not a number of sessions; write 1 or more"
            ));
        } else if !permit || !actions.iter().any(|action| windowed(*action)) {
            wrong("@max_sessions has an effect only in a permit of access".to_owned());
        }
        number
    });
    let unattended = actions.iter().find(|action| action.unattended());
    if let (true, Some(action), None) = (permit, unattended, policy.annotation("max_duration")) {
        let name = action.name();
        wrong(format!(
            "it can permit \"{name}\" for any duration; add a limit like @max_duration(\"2h\"), or name other actions"
        ));
    }
    PolicyNotes {
        advice: policy
            .annotation("advice")
            .map(str::trim)
            .filter(|text| !text.is_empty())
            .map(str::to_owned),
        approvals,
        max_duration,
        max_sessions,
    }
}

/// Returns true if the action is about a window.
fn windowed(action: Action) -> bool {
    !matches!(action, Action::Revoke | Action::ReadLog | Action::Administer)
}

/// Parses a duration greater than zero.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let parsed = jiff::fmt::friendly::SpanParser::new().parse_unsigned_duration(text.trim());
    parsed.ok().filter(|duration| !duration.is_zero())
}

/// Formats a duration as people write it: `2h30m`.
pub(super) fn show(duration: Duration) -> String {
    jiff::fmt::friendly::SpanPrinter::new()
        .spacing(jiff::fmt::friendly::Spacing::None)
        .unsigned_duration_to_string(&duration)
}
