//! `tidegate demo --stay`: a grant to try by hand, with a countdown.
//!
//! It does not end anything by itself: the gate does, and Ctrl-C ends the demo.

use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use serde_json::Value;

use super::screen::Screen;
use super::stage::Stage;
use super::{IDENTITY, TARGET};

/// How often the grant is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// Shows how to connect, then how much time is left, until somebody ends the demo.
pub(super) async fn hold(screen: &mut Screen, stage: &Stage, window: &str) -> anyhow::Result<()> {
    screen.heading("Your turn")?;
    let create = [
        "grant",
        "create",
        TARGET,
        "--identity",
        IDENTITY,
        "--for",
        window,
        "--reason",
        "by hand",
    ];
    let login = stage.grant(screen, &create).await?;
    screen.blank()?;
    screen.note("In another terminal:")?;
    let secret = login.secret.expose();
    screen.note(&format!("  psql \"{} password={secret}\"", stage.connection(&login)))?;
    screen.note("What the operator can do meanwhile (sessions notice at once):")?;
    let ours = std::env::current_exe()?;
    let tidegate = format!("{} --config {}", ours.display(), stage.gate.config_file().display());
    for command in [
        "grant extend {} --by 5m",
        "grant revoke {} --reason enough",
        "session list",
        "log --follow",
    ] {
        screen.note(&format!("  {tidegate} {}", command.replace("{}", &login.grant)))?;
    }
    screen.note("Ctrl-C ends the demo and removes everything.")?;
    screen.blank()?;

    let mut last = String::new();
    loop {
        let grant = stage.json(&["grant", "show", &login.grant]).await?;
        let now = state(&grant, stage.clock.now()).context("the grant cannot be read")?;
        if screen.is_terminal() {
            screen.replace(&now.live)?;
        } else if now.coarse != last {
            screen.note(&now.coarse)?;
            last = now.coarse;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// How the grant stands, in words.
struct State {
    /// With the seconds left.
    live: String,
    /// Changes only when something happens: for output that is kept.
    coarse: String,
}

fn state(grant: &Value, now: Timestamp) -> Option<State> {
    let status = grant.get("status")?.as_str()?;
    let sessions = grant.get("live_sessions")?.as_u64()?;
    let sessions = match sessions {
        1 => "1 session".to_owned(),
        more => format!("{more} sessions"),
    };
    let until = grant
        .get("until")
        .and_then(Value::as_str)
        .and_then(|until| until.parse::<Timestamp>().ok());
    let (live, coarse) = match (status, until) {
        ("ready", _) => ("waiting for the first connect: the window has not opened".to_owned(), None),
        ("active", Some(until)) => {
            let left = until.duration_since(now).as_secs().max(0);
            let clock = until.strftime("%H:%M:%S UTC");
            let live = format!("{:02}:{:02} left, {sessions}", left / 60, left % 60);
            (live, Some(format!("the window closes at {clock}; {sessions}")))
        }
        (status, _) => (format!("the grant is {status}; {sessions}"), None),
    };
    let coarse = coarse.unwrap_or_else(|| live.clone());
    Some(State { live, coarse })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn counts_down() {
        let now: Timestamp = "2026-08-01T12:00:00Z".parse().unwrap_or_default();
        let shown = |grant| state(&grant, now).map(|state| (state.live, state.coarse));
        assert_eq!(
            shown(json!({"status": "active", "live_sessions": 2, "until": "2026-08-01T12:04:31.5Z"})),
            Some((
                "04:31 left, 2 sessions".to_owned(),
                "the window closes at 12:04:31 UTC; 2 sessions".to_owned()
            ))
        );
        let ended = "the grant is expired; 0 sessions".to_owned();
        assert_eq!(
            shown(json!({"status": "expired", "live_sessions": 0, "until": "2026-08-01T11:00:00Z"})),
            Some((ended.clone(), ended))
        );
        assert_eq!(shown(json!({})), None);
    }
}
