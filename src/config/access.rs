//! `[access]` and `[policy]`: what people get who ask, and the rules that decide it.
//!
//! It reads the folder of policies ([`super::policies`]) and has it validated; it decides nothing by it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;

use super::check::Base;
use super::reader::Section;
use super::{PolicyPlace, policies};
use crate::access::Caps;
use crate::duration;
use crate::frontend::TokenInClear;
use crate::policy::Policies;

/// A request is not to wait, nor a grant, for less than a person needs to see it.
const SHORTEST: Duration = Duration::from_secs(1);
/// Waiting clients are not to be flooded.
const SHORTEST_NOTICE: Duration = Duration::from_millis(100);

/// The highest cap on sessions: more than any server has connections.
const MAX_SESSIONS: u32 = 10_000;
/// The highest cap on reasons: they are in the log, in notices and on pages.
const MAX_REASON_BYTES: u32 = 10_000;

/// `[access]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessTable {
    /// The window of a request that names none.
    pub default_window: Duration,
    /// The most that may be asked for.
    pub caps: Caps,
    /// The sessions at once of a request that names no number.
    pub default_sessions: u32,
    /// How long a request waits for approvers.
    pub pending_for: Duration,
    /// How long a grant waits for its first connect.
    pub activate_within: Duration,
    /// How many requests an identity may make in a minute.
    pub requests_per_minute: u32,
    /// The longest a login waits for approval; a client may ask for less.
    pub login_wait: Duration,
    /// How often a client that waits is told so.
    pub login_notice: Duration,
    /// Who may send a token without TLS.
    pub identity_without_tls: TokenInClear,
}

/// `[policy]`.
#[derive(Debug)]
pub(super) struct PolicyTable {
    dir: PathBuf,
    zone: TimeZone,
}

pub(super) fn access(table: &Section<'_, '_>) -> AccessTable {
    let length = |key, default| table.duration(key, SHORTEST).unwrap_or(Duration::from_mins(default));
    let words = [("loopback", TokenInClear::Loopback), ("never", TokenInClear::Never)];
    let caps = caps(table);
    let default_window = length("default_window", 30);
    if default_window > caps.window {
        table.mistake_at("default_window", "it is longer than access.max_window".to_owned(), None);
    }
    let default_sessions = table.number("default_sessions", 1, MAX_SESSIONS);
    if default_sessions.is_some_and(|sessions| sessions > caps.sessions) {
        table.mistake_at(
            "default_sessions",
            "there are more of them than access.max_sessions".to_owned(),
            None,
        );
    }
    AccessTable {
        default_window,
        caps,
        default_sessions: default_sessions.unwrap_or(10).min(caps.sessions),
        pending_for: length("pending_for", 60),
        activate_within: length("activate_within", 60),
        requests_per_minute: table.number("requests_per_minute", 1, 10_000).unwrap_or(30),
        login_wait: table.duration("login_wait", Duration::ZERO).unwrap_or(Duration::from_mins(5)),
        login_notice: table
            .duration("login_notice", SHORTEST_NOTICE)
            .unwrap_or(Duration::from_secs(15)),
        identity_without_tls: table.one_of("identity_without_tls", &words).unwrap_or(TokenInClear::Loopback),
    }
}

fn caps(table: &Section<'_, '_>) -> Caps {
    let usual = Caps::default();
    let window = table.duration("max_window", SHORTEST).unwrap_or(usual.window);
    if window > usual.window {
        let words = format!("a grant's window is never longer than {}", duration::show(usual.window));
        table.mistake_at("max_window", words, None);
    }
    let reason_bytes = table.number("max_reason_bytes", 1, MAX_REASON_BYTES);
    Caps {
        sessions: table.number("max_sessions", 1, MAX_SESSIONS).unwrap_or(usual.sessions),
        window,
        reason_bytes: reason_bytes.map_or(usual.reason_bytes, |bytes| {
            usize::try_from(bytes).unwrap_or(usual.reason_bytes)
        }),
    }
}

pub(super) fn policy(table: &Section<'_, '_>) -> PolicyTable {
    let zone = table.parsed("zone", |name| {
        TimeZone::get(name).map_err(|_| format!("`{name}` is not a time zone; write its IANA name, like Europe/Berlin or UTC"))
    });
    PolicyTable {
        dir: table.path("dir").unwrap_or_else(|| policies::DEFAULT_DIR.into()),
        zone: zone.unwrap_or(TimeZone::UTC),
    }
}

impl PolicyTable {
    /// Where it says the policies are.
    pub(super) fn place(&self, base: &Base<'_>) -> PolicyPlace {
        PolicyPlace {
            dir: base.join(&self.dir),
            zone: self.zone.clone(),
        }
    }

    /// The policies of the folder, validated, or all that is wrong with them; none where there is no folder and none was named.
    pub(super) fn load(&self, base: &Path) -> Result<Option<Arc<Policies>>, Vec<String>> {
        let dir = base.join(&self.dir);
        if self.dir == Path::new(policies::DEFAULT_DIR) && !dir.exists() {
            return Ok(None);
        }
        let (schema, texts) = policies::read(&dir).map_err(|error| vec![error.to_string()])?;
        match Policies::parse(&schema, &texts, self.zone.clone()) {
            Ok(policies) => Ok(Some(Arc::new(policies))),
            Err(error) => Err(error.0),
        }
    }
}
