//! Output of the commands: tables and sentences for people, JSON for scripts.
//!
//! It is the only module of the command line that writes to standard output.
//!
//! INVARIANT: no control character from a client, a database or a log reaches the terminal; such characters are made visible.

use std::fmt::Display;
use std::io::{self, Write};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::args::OutputFormat;
use super::speech;
use super::table::{self, ColumnSpec, cut, less, whole};
use super::terminal;
use super::zone::zone;
use crate::base::duration;
use crate::base::times;
use crate::base::visible;
pub(super) use crate::base::visible::visible;
use crate::control::model::{ChangeEffect, GrantView, Issued};
use crate::gate::session::SessionView;
use crate::model::grant::Grant;

/// Writes a command's output. A reader that has gone away (`| head`) is no error.
pub(super) fn print(text: &str) -> io::Result<()> {
    write(&visible::lines(text))
}

fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out
        .write_all(text.as_bytes())
        .and_then(|()| out.write_all(b"\n"))
        .and_then(|()| out.flush())
    {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Writes one line; returns false if standard output is closed.
pub(super) fn print_line(text: &str) -> bool {
    let text = visible::lines(text);
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.write_all(b"\n"))
        .and_then(|()| out.flush())
        .is_ok()
}

/// The same for a line that people read: no wider than the terminal, where there is one.
pub(super) fn print_words(text: &str) -> bool {
    match width() {
        Some(columns) => print_line(&terminal::wrapped(text, columns, terminal::CONTINUATION_INDENT)),
        None => print_line(text),
    }
}

/// Writes `value` as JSON, or as `text` makes of it.
pub(super) fn show<T: Serialize>(output: OutputFormat, value: &T, text: impl FnOnce(&T) -> String) -> anyhow::Result<()> {
    match output {
        OutputFormat::Json => print(&json(value)?)?,
        OutputFormat::Table => write(&speech::in_colour(visible::lines(&text(value)).into_owned()))?,
    }
    Ok(())
}

/// Returns a value as JSON on several lines, safe to show on a terminal.
pub(super) fn json<T: Serialize>(value: &T) -> serde_json::Result<String> {
    serde_json::to_string_pretty(value).map(|text| visible::json(&text).into_owned())
}

/// Describes the progress of a change that takes rights away.
#[must_use]
pub(super) fn effect(effect: ChangeEffect) -> String {
    let ChangeEffect {
        in_effect,
        stored,
        recorded,
    } = effect;
    let said = |yes, word: &str| if yes { word.to_owned() } else { format!("not {word} yet") };
    let words = [
        said(in_effect, "in effect"),
        said(stored, "stored"),
        said(recorded, "recorded"),
    ];
    let more = if effect.is_done() { "" } else { " (the gate retries)" };
    format!("{}{more}", words.join(", "))
}

/// Returns grants as a table.
#[must_use]
pub(super) fn grants(grants: &[GrantView], now: Timestamp) -> String {
    if grants.is_empty() {
        return "No grants.".to_owned();
    }
    let columns = [
        whole("GRANT"),
        cut("IDENTITY", 12),
        whole("TARGET"),
        whole("STATUS"),
        less("ENDS", 1),
        less("SESSIONS", 2),
        cut("REASON", 8),
    ];
    let row = |view: &GrantView| {
        let grant = &view.grant;
        [
            grant.id().to_string(),
            grant.identity().to_string(),
            to(grant),
            visible(&view.status),
            ends(view, now),
            format!("{}/{}", view.live_sessions, grant.max_sessions()),
            visible(grant.reason().unwrap_or("")),
        ]
    };
    table(columns, &grants.iter().map(row).collect::<Vec<_>>())
}

/// Returns a table and, if there is another page, the option for it: `next` is the value of `--before`.
#[must_use]
pub(super) fn page(table: String, next: Option<&impl Display>) -> String {
    match next {
        Some(next) => format!("{table}\n\nFor the next page, add --before {next}"),
        None => table,
    }
}

/// Returns the target of a grant as `target` or `target/profile`.
#[must_use]
pub(super) fn to(grant: &Grant) -> String {
    grant.target().with(grant.profile())
}

/// Returns all fields of a grant.
#[must_use]
pub(super) fn grant(view: &GrantView, now: Timestamp) -> String {
    let grant = &view.grant;
    let mut rows = vec![
        ("grant", grant.id().to_string()),
        ("identity", grant.identity().to_string()),
        ("target", to(grant)),
        ("reason", visible(grant.reason().unwrap_or("-"))),
        ("status", visible(&view.status)),
        ("window", duration::show(grant.window())),
        (
            "created",
            format!("{} by {}", time(grant.created_at()), visible(grant.created_by())),
        ),
    ];
    // Before the reason.
    if let Some(request) = grant.request() {
        rows.insert(3, ("request", request.to_string()));
    }
    match grant.activated_at() {
        Some(at) => rows.push(("first used", time(at))),
        None if grant.revoked().is_some() => {}
        None => rows.push((
            "first use by",
            format!("{} ({})", time(grant.activate_by()), relative(grant.activate_by(), now)),
        )),
    }
    // A revocation is shown below, with its reason.
    if let (None, Some(until)) = (grant.revoked(), grant.until()) {
        rows.push(("until", format!("{} ({})", time(until), relative(until, now))));
    }
    if let Some(deadline) = grant.deadline() {
        rows.push(("never after", time(deadline)));
    }
    rows.push((
        "sessions",
        format!("{} of at most {}", view.live_sessions, grant.max_sessions()),
    ));
    if let Some(network) = grant.client_network() {
        rows.push(("only from", network.to_string()));
    }
    if let Some(revocation) = grant.revoked() {
        let (by, reason) = (visible(&revocation.by), revocation.reason.as_deref().map(visible));
        let told = format!("{} by {by}", time(revocation.at));
        rows.push(match reason {
            _ if grant.given_back() => ("released", told),
            Some(reason) => ("revoked", format!("{told}: {reason}")),
            None => ("revoked", told),
        });
    }
    rows.extend(view.effect.map(|come| ("effect", effect(come))));
    list(&rows)
}

/// Returns a new grant, with its secret.
#[must_use]
pub(super) fn issued(issued: &Issued) -> String {
    let grant = &issued.grant.grant;
    let mut rows = vec![
        ("grant", grant.id().to_string()),
        ("secret", visible(&issued.secret)),
        ("connect", visible(&issued.connection_string)),
        ("identity", grant.identity().to_string()),
        ("target", to(grant)),
        ("first use by", time(grant.activate_by())),
        ("window", format!("{} from the first connect", duration::show(grant.window()))),
    ];
    if let Some(deadline) = grant.deadline() {
        rows.push(("never after", time(deadline)));
    }
    format!("{}\n\nThe secret is shown only now; it is not stored.", list(&rows))
}

/// Returns sessions as a table.
#[must_use]
pub(super) fn sessions(sessions: &[SessionView], now: Timestamp) -> String {
    if sessions.is_empty() {
        return "No live sessions.".to_owned();
    }
    let columns = [
        whole("SESSION"),
        cut("IDENTITY", 12),
        whole("TARGET"),
        less("GRANT", 1),
        less("CLIENT", 3),
        less("SINCE", 4),
        whole("LEFT"),
        less("STATE", 2),
        less("STATEMENTS", 5),
    ];
    let row = |session: &SessionView| {
        [
            session.who.session.to_string(),
            session.who.identity.to_string(),
            session.who.target.with(session.who.profile.as_ref()),
            session.who.grant.to_string(),
            session.client.to_string(),
            time(session.since),
            session.until.map(|until| left(until, now)).unwrap_or_default(),
            visible(&session.state),
            session.statements.to_string(),
        ]
    };
    table(columns, &sessions.iter().map(row).collect::<Vec<_>>())
}

/// Formats a time: to the second, in the reader's zone, with its offset.
#[must_use]
pub(super) fn time(time: Timestamp) -> String {
    times::seconds(time, &zone())
}

pub(super) fn ends(view: &GrantView, now: Timestamp) -> String {
    match view.status.as_str() {
        "ready" => format!("{} after first use", duration::show(view.grant.window())),
        "active" => view.grant.until().map(|until| relative(until, now)).unwrap_or_default(),
        "revoked" | "released" => view
            .grant
            .revoked()
            .map(|revoked| relative(revoked.at, now))
            .unwrap_or_default(),
        "lapsed" => relative(view.grant.activate_by(), now),
        _ => view.grant.until().map(|until| relative(until, now)).unwrap_or_default(),
    }
}

/// Formats a time relative to `now`, as `in 4m12s` or `3h ago`.
pub(super) fn relative(time: Timestamp, now: Timestamp) -> String {
    if time >= now {
        format!("in {}", left(time, now))
    } else {
        format!("{} ago", left(now, time))
    }
}

pub(super) fn left(time: Timestamp, now: Timestamp) -> String {
    let left: SignedDuration = time.duration_since(now);
    let left = Duration::try_from(left).unwrap_or_default();
    // With hours left, seconds are irrelevant.
    let secs = left.as_secs();
    duration::show(Duration::from_secs(if secs >= 3_600 { secs / 60 * 60 } else { secs }))
}

/// Renders a table, as wide as the terminal if there is one.
pub(super) fn table<const N: usize>(columns: [ColumnSpec; N], rows: &[[String; N]]) -> String {
    table::render(&columns, rows, width())
}

#[cfg(not(test))]
fn width() -> Option<usize> {
    terminal::width_of(&io::stdout())
}

/// As wide as the running test says.
#[cfg(test)]
fn width() -> Option<usize> {
    WIDTH.get()
}

#[cfg(test)]
thread_local! {
    pub(super) static WIDTH: std::cell::Cell<Option<usize>> = const { std::cell::Cell::new(None) };
}

pub(super) fn list(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines: Vec<String> = rows.iter().map(|(name, value)| format!("{name:width$}  {value}")).collect();
    lines.join("\n")
}
