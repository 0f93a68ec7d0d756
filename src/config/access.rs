//! `[access]` and `[policy]`: limits and defaults of requests and grants, and the place of the policies.
//!
//! The folder of policies is read ([`super::policies`]) and validated here, not evaluated.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;

use super::checker::BaseFolder;
use super::reader::TableSection;
use super::{PolicyLocation, policies};
use crate::access::RequestCaps;
use crate::access::policy::Policies;
use crate::base::duration;
use crate::gate::frontend::TokenInClear;

/// Shortest time that a request or a grant may wait: a person needs that long to see it.
const MIN_DURATION: Duration = Duration::from_secs(1);
/// Shortest interval between notices to a waiting client, so that it is not flooded.
const MIN_NOTICE_INTERVAL: Duration = Duration::from_millis(100);

/// Highest configurable cap on sessions; above the connection limit of any server.
const MAX_SESSIONS: u32 = 10_000;
/// Highest configurable cap on the length of a reason, which is written to the log, to notices and to pages.
const MAX_REASON_BYTES: u32 = 10_000;

/// Values of `[access]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessTable {
    /// Window of a request that names none.
    pub default_window: Duration,
    /// Upper limits of a request.
    pub caps: RequestCaps,
    /// Number of simultaneous sessions of a request that names none.
    pub default_sessions: u32,
    /// Time that a request waits for approvers.
    pub pending_for: Duration,
    /// Time that a grant waits for its first connection.
    pub activate_within: Duration,
    /// Number of requests that an identity may make per minute.
    pub requests_per_minute: u32,
    /// Longest time that a login waits for approval; a client may ask for less.
    pub login_wait: Duration,
    /// Interval between notices to a waiting client.
    pub login_notice: Duration,
    /// Connections on which a token is accepted without TLS.
    pub identity_without_tls: TokenInClear,
}

/// Values of `[policy]`.
#[derive(Debug)]
pub(super) struct PolicyTable {
    dir: PathBuf,
    zone: TimeZone,
}

pub(super) fn access(table: &TableSection<'_, '_>) -> AccessTable {
    let length = |key, default| table.duration(key, MIN_DURATION).unwrap_or(Duration::from_mins(default));
    let words = [("loopback", TokenInClear::Loopback), ("never", TokenInClear::Never)];
    let caps = caps(table);
    let default_window = length("default_window", 30);
    if default_window > caps.window {
        table.mistake_at("default_window", "it is longer than access.max_window".to_owned(), None);
    }
    let default_sessions = table.number("default_sessions", 1, MAX_SESSIONS);
    if default_sessions.is_some_and(|sessions| sessions > caps.sessions) {
        table.mistake_at("default_sessions", "it is greater than access.max_sessions".to_owned(), None);
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
            .duration("login_notice", MIN_NOTICE_INTERVAL)
            .unwrap_or(Duration::from_secs(15)),
        identity_without_tls: table.one_of("identity_without_tls", &words).unwrap_or(TokenInClear::Loopback),
    }
}

fn caps(table: &TableSection<'_, '_>) -> RequestCaps {
    let usual = RequestCaps::default();
    let window = table.duration("max_window", MIN_DURATION).unwrap_or(usual.window);
    if window > usual.window {
        let words = format!(
            "it is longer than the longest possible window, {}",
            duration::show(usual.window)
        );
        table.mistake_at("max_window", words, None);
    }
    let reason_bytes = table.number("max_reason_bytes", 1, MAX_REASON_BYTES);
    RequestCaps {
        sessions: table.number("max_sessions", 1, MAX_SESSIONS).unwrap_or(usual.sessions),
        window,
        reason_bytes: reason_bytes.map_or(usual.reason_bytes, |bytes| {
            usize::try_from(bytes).unwrap_or(usual.reason_bytes)
        }),
    }
}

pub(super) fn policy(table: &TableSection<'_, '_>) -> PolicyTable {
    let zone = table.parsed("zone", |name| {
        TimeZone::get(name).map_err(|_| format!("`{name}` is not a time zone; write its IANA name, like Europe/Berlin or UTC"))
    });
    PolicyTable {
        dir: table.path("dir").unwrap_or_else(|| policies::DEFAULT_DIR.into()),
        zone: zone.unwrap_or(TimeZone::UTC),
    }
}

impl PolicyTable {
    /// Returns the place of the policies.
    pub(super) fn place(&self, base: &BaseFolder<'_>) -> PolicyLocation {
        PolicyLocation {
            dir: base.join(&self.dir),
            zone: self.zone.clone(),
        }
    }

    /// Loads and validates the policies, or returns all mistakes in them. Returns `None` if the default folder does not exist.
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
