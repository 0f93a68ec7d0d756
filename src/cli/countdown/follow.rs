//! Follows a grant at its gate while psql runs, and tells the terminal what [`Countdown`] has to say.
//!
//! It never ends by itself and stops nothing: a gate that cannot be asked leaves what is known.

use std::convert::Infallible;
use std::io::{self, IsTerminal};
use std::time::Duration;

use jiff::SignedDuration;
use tokio::sync::{Notify, mpsc};

use super::{Countdown, CountdownMode};
use crate::base::clock::Clock;
use crate::cli::client::ControlClient;
use crate::cli::speech::complain;
use crate::cli::terminal::{self, TerminalAbility, WindowTitle};
use crate::control::model::GrantView;
use crate::model::ids::GrantId;

/// psql's own login goes first, and who is done by then needs no countdown.
const LOGIN_HEAD_START: Duration = Duration::from_millis(500);
/// Time between two looks at a silent grant: a stream may be dead without an end.
const LOOK_INTERVAL: Duration = Duration::from_secs(30);
/// Between two attempts to hear of changes.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);
/// Maximum time between two looks at the clock: while a machine sleeps, timers stand still.
const CLOCK_INTERVAL: SignedDuration = SignedDuration::from_secs(5);

/// Counts down until it is dropped.
pub(in crate::cli) async fn follow(client: &ControlClient, grant: &GrantId, shown: CountdownMode) -> Infallible {
    let terminal = io::stderr().is_terminal();
    if shown == CountdownMode::Never || (shown == CountdownMode::Auto && !terminal) {
        return std::future::pending().await;
    }
    tokio::time::sleep(LOGIN_HEAD_START).await;
    let (seen, views) = mpsc::channel(1);
    let bell = Notify::new();
    tokio::select! {
        never = listen(client, grant, &bell) => never,
        never = look(client, grant, &bell, &seen) => never,
        never = count(CountdownScreen::new(terminal), views) => never,
    }
}

/// Rings whenever something may have happened to the grant.
async fn listen(client: &ControlClient, grant: &GrantId, bell: &Notify) -> Infallible {
    loop {
        // However it ends (the gate restarts, an hour is over, too many listen), it is tried again.
        let _ = client
            .lines("/v1/events", &(), |line| {
                if concerns(line, grant) {
                    bell.notify_one();
                }
                true
            })
            .await;
        tokio::time::sleep(RETRY_INTERVAL).await;
    }
}

/// Returns true if a line of the stream is about the grant, or says that something was missed.
fn concerns(line: &[u8], grant: &GrantId) -> bool {
    let line = String::from_utf8_lossy(line);
    // The stream begins with a comment: what happened before it is found by looking.
    line == ": subscribed" || line == "event: lagged" || (line.starts_with("data:") && line.contains(grant.as_str()))
}

async fn look(client: &ControlClient, grant: &GrantId, bell: &Notify, seen: &mpsc::Sender<GrantView>) -> Infallible {
    let path = format!("/v1/grants/{grant}");
    loop {
        if let Ok(view) = client.get::<GrantView>(&path, &()).await {
            let _ = seen.send(view).await;
        }
        let _ = tokio::time::timeout(LOOK_INTERVAL, bell.notified()).await;
    }
}

async fn count(mut screen: CountdownScreen, mut views: mpsc::Receiver<GrantView>) -> Infallible {
    let clock = Clock::system(None);
    let mut countdown = Countdown::default();
    loop {
        let _ = clock.observe();
        let now = clock.now();
        if let Some(line) = countdown.tick(now) {
            screen.say(&line);
        }
        screen.title.show(countdown.title(now));
        let glance = now.checked_add(CLOCK_INTERVAL).unwrap_or(now);
        let next = countdown.next(now).map_or(glance, |next| next.min(glance));
        tokio::select! {
            () = clock.sleep_until(next) => {}
            Some(view) = views.recv() => if let Some(line) = countdown.see(&view, clock.now()) {
                screen.say(&line);
            },
        }
    }
}

/// Standard error, beside psql.
struct CountdownScreen {
    /// Capabilities of the terminal; `None` without one.
    ability: Option<TerminalAbility>,
    title: WindowTitle,
}

impl CountdownScreen {
    fn new(terminal: bool) -> Self {
        let name = std::env::var("TERM").ok();
        let ability = terminal.then(|| TerminalAbility::of(name.as_deref()));
        Self {
            ability,
            title: WindowTitle::new(ability.unwrap_or(TerminalAbility::Lines)),
        }
    }

    fn say(&self, line: &str) {
        match self.ability {
            Some(ability) => {
                let line = terminal::fitted(&format!("tidegate: {line}"), terminal::columns());
                terminal::write(&terminal::above(&line, ability));
            }
            None => complain(line),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bell_rings_for_ones_own_grant() {
        let grant: GrantId = "gr_4k2m9x0a7b".parse().unwrap();
        for (line, rings) in [
            (": subscribed", true),
            (":", false),
            ("event: grant", false),
            (r#"data: {"id":"gr_4k2m9x0a7b","status":"active"}"#, true),
            (r#"data: {"id":"gr_0000000001","status":"active"}"#, false),
            ("event: lagged", true),
        ] {
            assert_eq!(concerns(line.as_bytes(), &grant), rings, "{line}");
        }
    }
}
