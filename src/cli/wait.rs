//! Waits until a request is decided and shows its status meanwhile: a moving line on a terminal, otherwise one line per change.
//!
//! It decides nothing. A signal (Ctrl-C, a kill) ends the waiting and withdraws the request, so that no approver approves a
//! request that is no longer needed.

use std::convert::Infallible;
use std::io::{self, IsTerminal};
use std::task::Poll;
use std::time::Duration;

use jiff::Timestamp;
use rustix::process::Signal;
use tokio::signal::unix::{self, SignalKind, signal};

use super::client::ControlClient;
use super::client_error::ClientError;
use super::render::{left, relative, visible};
use super::speech::{complain, is_quiet, note};
use super::terminal::{fitted, width_of, write};
use super::views;
use crate::base::clock::Clock;
use crate::base::duration;
use crate::control::model::{EmptyBody, GrantView, RequestBody, RequestView, WaitQuery};
use crate::model::ids::{GrantId, RequestId};
use crate::model::request::{ApprovedBy, RequestOutcome};

/// Reason that the waiting ended without a grant.
#[derive(Debug, thiserror::Error)]
pub enum WaitError {
    /// The request was denied or rejected.
    #[error("{0}")]
    Refused(String),
    /// The request was not decided in time.
    #[error("request {0} has lapsed without the approvals it needs; tell an approver and request again")]
    Lapsed(RequestId),
    /// The request is still pending at the end of `--wait-at-most`.
    #[error("request {0} is still pending; see it with `tidegate requests --mine`, withdraw it with `tidegate withdraw {0}`")]
    Pending(RequestId),
    /// The grant is still in line at the end of `--wait-at-most`.
    #[error("grant {0} is still in line; it keeps no place there; see who is before it with `tidegate grants`")]
    InLine(GrantId),
}

impl WaitError {
    /// Returns the exit code for scripts; [`super::command_line`] documents them.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Refused(_) => 5,
            Self::Lapsed(_) | Self::Pending(_) | Self::InLine(_) => 6,
        }
    }
}

/// Error of a command that a signal stopped; all messages about it are printed.
#[derive(Debug, thiserror::Error)]
#[error("stopped")]
pub(crate) struct Interrupted(pub(super) u8);

/// Number of seconds that the gate may delay an answer; well below the time limit of [`super::client`].
const HELD_BACK_SECONDS: u64 = 20;
/// Number of retries, one second apart, for a gate that does not answer, for example because it restarts.
pub(super) const MAX_ATTEMPTS: u32 = 60;
/// Pause after an answer without a change.
pub(super) const RETRY_INTERVAL: Duration = Duration::from_millis(100);
/// Interval between two frames of the moving line.
const TICK_INTERVAL: Duration = Duration::from_millis(120);

/// Signals that ask a program to stop. They are caught from the moment the first instance is created.
pub(crate) struct Signals(Vec<(Signal, unix::Signal)>);

impl Signals {
    pub(crate) fn new() -> io::Result<Self> {
        // An ignored signal stays ignored, also for the program that is started: `nohup`, and the background of a script.
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let signals = [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT];
        let caught = signals.into_iter().filter(|signal| !ignored(&status, signal.as_raw()));
        let caught = caught.map(|caught| Ok((caught, signal(SignalKind::from_raw(caught.as_raw()))?)));
        caught.collect::<io::Result<_>>().map(Self)
    }

    /// Waits for the next signal.
    pub(crate) async fn next(&mut self) -> Signal {
        std::future::poll_fn(|context| {
            let heard = self
                .0
                .iter_mut()
                .find_map(|(signal, heard)| heard.poll_recv(context).is_ready().then_some(*signal));
            heard.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}

/// Returns true if a signal is ignored, by Linux's status of the process (`/proc/PID/status`).
fn ignored(status: &str, signal: i32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    let bit = u32::try_from(signal - 1).ok().and_then(|bit| 1_u64.checked_shl(bit));
    bit.is_some_and(|bit| mask & bit != 0)
}

/// Returns the exit code that a shell reports for a program ended by a signal.
pub(super) fn code_of(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(255)
}

/// Waits until `request` becomes a grant; returns an error if it does not.
pub(super) async fn until_granted(
    client: &ControlClient,
    request: RequestBody,
    limit: Option<Duration>,
    stops: &mut Signals,
) -> anyhow::Result<RequestBody> {
    let mut request = request;
    let mut screen = WaitScreen::new();
    let mut limit = std::pin::pin!(over(limit));
    while request.request.status == "pending" {
        screen.change(&request);
        let left: anyhow::Error = tokio::select! {
            biased;
            answer = news(client, &request) => match answer {
                Ok(changed) => {
                    request = changed;
                    continue;
                }
                Err(error) => error.into(),
            },
            stop = stops.next() => {
                screen.clear();
                withdraw(client, &request.request).await;
                return Err(Interrupted(code_of(stop.as_raw())).into());
            }
            () = &mut limit => WaitError::Pending(request.request.request.id.clone()).into(),
            never = screen.move_on(&request) => match never {},
        };
        screen.clear();
        return Err(left);
    }
    screen.clear();
    settled(&request.request)?;
    if screen.waited {
        note(&decision(&request.request));
    }
    Ok(request)
}

/// Waits for a time limit, if there is one.
pub(super) async fn over(limit: Option<Duration>) {
    match limit {
        Some(limit) => tokio::time::sleep(limit).await,
        None => std::future::pending().await,
    }
}

/// Waits for a change, and returns the request as it is then.
async fn news(client: &ControlClient, known: &RequestBody) -> Result<RequestBody, ClientError> {
    let path = format!("/v1/requests/{}", known.request.request.id);
    let query = WaitQuery {
        wait_seconds: Some(HELD_BACK_SECONDS),
    };
    let mut tries = 0;
    loop {
        match client.get::<RequestBody>(&path, &query).await {
            Ok(same) if same == *known => tokio::time::sleep(RETRY_INTERVAL).await,
            Err(error) if error.may_pass() && tries < MAX_ATTEMPTS => {
                tries += 1;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            other => return other,
        }
    }
}

async fn withdraw(client: &ControlClient, view: &RequestView) {
    let id = &view.request.id;
    match client
        .post::<RequestView>(&format!("/v1/requests/{id}/withdraw"), &EmptyBody {})
        .await
    {
        Ok(_) => return complain(&format!("withdrew request {id}")),
        Err(error) => complain(&format!("cannot withdraw request {id}: {error}")),
    }
    // It may have been approved just now: give the grant back.
    let now = client.get::<RequestBody>(&format!("/v1/requests/{id}"), &()).await;
    if let Some(grant) = now.ok().as_ref().and_then(|now| now.request.request.grant()) {
        let path = format!("/v1/grants/{grant}/release");
        if client.post::<GrantView>(&path, &EmptyBody {}).await.is_ok() {
            complain(&format!("it was approved meanwhile; released its grant {grant}"));
        }
    }
}

/// Returns an error for a request that has ended without a grant.
pub(super) fn settled(view: &RequestView) -> Result<(), WaitError> {
    let id = &view.request.id;
    let refused = |text: String| Err(WaitError::Refused(text));
    match &view.request.outcome {
        Some(RequestOutcome::Approved { .. }) => Ok(()),
        Some(RequestOutcome::Denied { why, .. }) => refused(format!("request {id} was denied: {why}")),
        Some(RequestOutcome::Rejected { by, comment, .. }) => {
            let comment = comment.as_deref().map(|comment| format!(": {comment}")).unwrap_or_default();
            refused(format!("{by} rejected request {id}{comment}"))
        }
        Some(RequestOutcome::Withdrawn { .. }) => refused(format!("request {id} was withdrawn")),
        None => Err(WaitError::Lapsed(id.clone())),
    }
}

/// Describes the decision and its approvers.
pub(super) fn decision(view: &RequestView) -> String {
    let (request, wish) = (&view.request, &view.request.wish);
    let by: Vec<String> = request
        .approvals
        .iter()
        .map(|approval| match &approval.comment {
            Some(comment) => format!("{} ({comment})", approval.by),
            None => approval.by.to_string(),
        })
        .collect();
    let by = match &request.outcome {
        Some(RequestOutcome::Approved {
            how: ApprovedBy::People, ..
        }) if !by.is_empty() => by.join(" and "),
        _ => "the gate".to_owned(),
    };
    format!(
        "approved by {by}: {} for {}",
        views::wanted(wish),
        duration::show(wish.window)
    )
}

/// Describes a pending request and its possible approvers.
#[must_use]
pub(super) fn waiting(request: &RequestBody) -> String {
    let view = &request.request;
    let approvals = match view.approvals_missing {
        0 | 1 => "1 approval".to_owned(),
        several => format!("{several} approvals"),
    };
    let who = match views::who_can(&request.approvers) {
        None if request.waits_for_nobody => Some(" (no enabled user of this gate may approve it; ask its operator)".to_owned()),
        who => who.map(|who| format!(" ({who} can approve)")),
    };
    let wish = &view.request.wish;
    format!(
        "request {} for {} waits for {approvals}{}",
        view.request.id,
        views::wanted(wish),
        who.unwrap_or_default()
    )
}

/// Returns the moving line, at most `width` wide, with the most important part first.
#[must_use]
fn status_line(request: &RequestBody, frame: usize, since: Timestamp, now: Timestamp, width: usize) -> String {
    const FRAMES: [char; 10] = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];
    let spinner = FRAMES.get(frame % FRAMES.len()).copied().unwrap_or(' ');
    let view = &request.request;
    let who = views::who_can(&request.approvers).unwrap_or_else(|| "approval".to_owned());
    let several = match view.approvals_missing {
        0 | 1 => String::new(),
        several => format!("{several} of "),
    };
    let text = format!(
        "{spinner} {} request {} waits for {several}{} (Ctrl-C withdraws it): {}, lapses {}",
        left(now, since),
        view.request.id,
        visible(&who),
        views::wanted(&view.request.wish),
        relative(view.request.expires_at, now)
    );
    fitted(&text, width)
}

/// Standard error, with a moving line if it is a terminal.
struct WaitScreen {
    terminal: bool,
    clock: Clock,
    since: Timestamp,
    frame: usize,
    waited: bool,
}

impl WaitScreen {
    fn new() -> Self {
        let clock = Clock::system(None);
        Self {
            terminal: io::stderr().is_terminal() && !is_quiet(),
            since: clock.now(),
            clock,
            frame: 0,
            waited: false,
        }
    }

    /// Shows a change.
    fn change(&mut self, request: &RequestBody) {
        self.waited = true;
        if !self.terminal {
            note(&waiting(request));
        }
    }

    /// Redraws the line forever.
    async fn move_on(&mut self, request: &RequestBody) -> Infallible {
        loop {
            self.draw(request);
            tokio::time::sleep(TICK_INTERVAL).await;
        }
    }

    fn draw(&mut self, request: &RequestBody) {
        if let Some(columns) = width_of(&io::stderr()).filter(|_| self.terminal) {
            let line = status_line(request, self.frame, self.since, self.clock.now(), columns);
            self.frame += 1;
            write(&format!("\r\u{1b}[K{line}"));
        }
    }

    fn clear(&self) {
        if self.terminal && self.waited {
            write("\r\u{1b}[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(change: impl FnOnce(&mut serde_json::Value)) -> RequestBody {
        let mut value = serde_json::json!({
            "id": "rq_4k2m9x0a7b", "identity": "ana", "target": "orders", "profile": "read-write", "window_seconds": 1800,
            "reason": "BUG-812", "max_sessions": 10, "submitted_at": "2026-08-01T12:00:00Z",
            "expires_at": "2026-08-01T13:00:00Z", "approvals_needed": 2, "status": "pending", "approvals_missing": 2,
            "approvers": ["lead@example.com", "tom", "eve", "kim", "lee"],
        });
        change(&mut value);
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn the_line_says_who_can_help_and_fits() {
        let (since, now) = (
            "2026-08-01T12:00:00Z".parse().unwrap(),
            "2026-08-01T12:01:12Z".parse().unwrap(),
        );
        let pending = request(|_| {});
        assert_eq!(
            status_line(&pending, 1, since, now, 400),
            "⠙ 1m12s request rq_4k2m9x0a7b waits for 2 of lead@example.com, tom, eve and 2 more (Ctrl-C withdraws it): \
             orders/read-write, lapses in 58m48s"
        );
        for width in [1, 20, 80] {
            assert_eq!(status_line(&pending, 0, since, now, width).chars().count(), width);
        }
        let last = request(|value| {
            value["approvals_missing"] = 1.into();
            value["approvers"] = serde_json::json!([]);
        });
        assert_eq!(
            waiting(&last),
            "request rq_4k2m9x0a7b for orders/read-write waits for 1 approval"
        );
    }

    #[test]
    fn every_outcome_has_its_words_and_exit_code() {
        let ended = |status: &str, outcome: serde_json::Value| {
            let body = request(|value| {
                value["status"] = status.into();
                value["outcome"] = outcome;
            });
            settled(&body.request).map_err(|error| (error.exit_code(), error.to_string()))
        };
        let at = "2026-08-01T12:05:00Z";
        let granted = serde_json::json!({ "outcome": "approved", "at": at, "how": "people", "grant": "gr_0123456789" });
        assert_eq!(ended("approved", granted), Ok(()));
        for (status, outcome, code, words) in [
            (
                "denied",
                serde_json::json!({ "outcome": "denied", "at": at, "why": "no" }),
                5,
                "was denied: no",
            ),
            (
                "rejected",
                serde_json::json!({ "outcome": "rejected", "at": at, "by": "tom", "comment": "later" }),
                5,
                "tom rejected request rq_4k2m9x0a7b: later",
            ),
            (
                "withdrawn",
                serde_json::json!({ "outcome": "withdrawn", "at": at }),
                5,
                "was withdrawn",
            ),
            ("lapsed", serde_json::Value::Null, 6, "request again"),
        ] {
            let (found, said) = ended(status, outcome).unwrap_err();
            assert_eq!(found, code, "{status}");
            assert!(said.contains(words), "{said}");
        }
    }

    #[test]
    fn a_yes_says_whose_and_to_what() {
        let body = request(|value| {
            value["status"] = "approved".into();
            value["approvals"] = serde_json::json!([
                { "by": "tom", "at": "2026-08-01T12:03:00Z" },
                { "by": "eve", "at": "2026-08-01T12:05:00Z", "comment": "be quick" },
            ]);
            value["outcome"] = serde_json::json!({ "outcome": "approved", "at": "2026-08-01T12:05:00Z", "how": "people", "grant": "gr_0123456789" });
        });
        assert_eq!(
            decision(&body.request),
            "approved by tom and eve (be quick): orders/read-write for 30m"
        );
    }

    #[test]
    fn ignored_signals_are_read() {
        let status = "Name:\tx\nSigIgn:\t0000000000001003\nSigCgt:\t00000000000000ff\n";
        let found: Vec<i32> = (1..=20).filter(|signal| ignored(status, *signal)).collect();
        assert_eq!(found, [1, 2, 13]);
        assert!(!ignored("", 1));
    }

    #[test]
    fn codes_of_signals() {
        assert_eq!((code_of(2), code_of(15)), (130, 143));
    }
}
