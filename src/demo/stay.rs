//! `tidegate demo --stay`: a grant to try by hand, with a countdown; and commands to request and to approve as Ana and Bo.
//!
//! It ends nothing by itself: the gate ends the grant, and Ctrl-C ends the demo.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use serde_json::Value;

use super::env::{DemoEnv, DemoPerson, shown};
use super::screen::DemoScreen;
use super::testkit::TestLogin;
use super::{DEMO_TARGET, connection_string};

/// Interval between two queries of the grant's state.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Shows how to connect, then the remaining time, until the user ends the demo.
pub(super) async fn hold(screen: &mut DemoScreen, env: &DemoEnv, window: &str) -> anyhow::Result<()> {
    screen.heading("Your turn")?;
    let login = grant(screen, env, window).await?;
    screen.note("In another terminal, as the grant:")?;
    let connection = connection_string(env.gate.port(), &login.grant, DEMO_TARGET);
    screen.note(&format!("  psql \"{connection} password={}\"", login.secret.expose()))?;
    let (ana, bo) = (token_file(env, &env.ana)?, token_file(env, &env.bo)?);
    let here = std::env::current_exe()?.display().to_string();
    let gate = format!("TIDEGATE_CONTROL={}", env.gate.control());
    let name = env.ana.name;
    screen.note("As Ana (writing waits for Bo, reading does not):")?;
    let writing = connection_string(env.gate.port(), name, &format!("{DEMO_TARGET}/read-write"));
    let why = "PGOPTIONS='-c tidegate.reason=by\\ hand'";
    screen.note(&format!("  PGPASSWORD=$(cat {ana}) {why} psql \"{writing}\""))?;
    let person = |token: &str| format!("{gate} TIDEGATE_TOKEN_FILE={token} {here}");
    screen.note(&format!("  {} psql {DEMO_TARGET} --for 10m --reason hands", person(&ana)))?;
    screen.note("As Bo:")?;
    screen.note(&format!("  {} requests", person(&bo)))?;
    screen.note(&format!("  {} approve rq_...", person(&bo)))?;
    screen.note("In a browser, as either of them (the token to sign in with is in the file):")?;
    screen.note(&format!("  http://127.0.0.1:{}/   cat {ana}   cat {bo}", env.console))?;
    screen.note("What the operator can do meanwhile (sessions notice at once):")?;
    let tidegate = format!("{here} --config {}", env.gate.config_file().display());
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
        let grant = env.json(None, &["grant", "show", &login.grant]).await?;
        let now = state(&grant, env.clock.now()).context("the grant cannot be read")?;
        if screen.is_terminal() {
            screen.replace(&now.live)?;
        } else if now.coarse != last {
            screen.note(&now.coarse)?;
            last = now.coarse;
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Creates a grant as the operator; returns its user name and secret.
async fn grant(screen: &DemoScreen, env: &DemoEnv, window: &str) -> anyhow::Result<TestLogin> {
    let (name, why) = (env.ana.name, "by hand");
    let create = [
        "grant",
        "create",
        DEMO_TARGET,
        "--identity",
        name,
        "--for",
        window,
        "--reason",
        why,
    ];
    screen.command(&shown(&create))?;
    let login = TestLogin::read(&env.json(None, &create).await?);
    login.context("the answer to `grant create` has no grant or no secret")
}

/// Writes a person's token to a file that only its owner can read; it is removed with the gate's folder.
fn token_file(env: &DemoEnv, person: &DemoPerson) -> anyhow::Result<String> {
    let path = env.gate.folder().join(format!("{}.token", person.short()));
    let mut file = std::fs::File::options();
    let mut file = file.write(true).create_new(true).mode(0o600).open(&path)?;
    file.write_all(person.token.expose().as_bytes())?;
    Ok(path.display().to_string())
}

/// State of the grant in words.
struct GrantDisplay {
    /// State with the remaining seconds.
    live: String,
    /// State that changes only with an event, for output that is kept.
    coarse: String,
}

fn state(grant: &Value, now: Timestamp) -> Option<GrantDisplay> {
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
    Some(GrantDisplay { live, coarse })
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
