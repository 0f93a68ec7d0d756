//! `[access]` and `[policy]`: limits and defaults of requests and grants, and the place of the policies.
//!
//! The folder of policies is read ([`super::policies`]) and validated here, not evaluated.

use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;

use super::key::{keys, section};
use super::reader::TableSection;
use super::{PolicyLocation, policies};
use crate::access::policy::Policies;
use crate::access::{MAX_TOKEN_LIFE, MIN_TOKEN_LIFE, RequestCaps};
use crate::base::duration;
use crate::gate::frontend::TokenInClear;
use crate::model::grant::{DEFAULT_ACTIVATE_WITHIN, DEFAULT_SESSIONS, MAX_WINDOW};

/// Shortest time that a request or a grant may wait: a person needs that long to see it.
const MIN_DURATION: Duration = Duration::from_secs(1);
/// Shortest interval between notices to a waiting client, so that it is not flooded.
const MIN_NOTICE_INTERVAL: Duration = Duration::from_millis(100);

/// Time that a grant keeps the exclusive use of its target between clients, if the configuration does not say another.
const DEFAULT_EXCLUSIVE_KEPT: Duration = Duration::from_secs(30);

/// Life of a token if the configuration does not say another.
const DEFAULT_TOKEN_LIFE: Duration = Duration::from_hours(90 * 24);

/// Window of a request that names none, if the configuration does not say another.
pub const DEFAULT_WINDOW: Duration = Duration::from_mins(30);

/// Highest configurable cap on sessions; above the connection limit of any server.
const MAX_SESSIONS: u32 = 10_000;
/// Highest configurable cap on the length of a reason, which is written to the log, to notices and to pages.
const MAX_REASON_BYTES: u32 = 10_000;

section! {
    /// Limits and defaults of requests and grants.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct AccessTable {
        /// The longest window that may be asked for, extensions included.
        max_window: Duration = |key| key.duration(MIN_DURATION).or(RequestCaps::default().window);
        /// The longest reason or comment, in bytes.
        max_reason_bytes: usize = |key| key.number(1, MAX_REASON_BYTES).or(RequestCaps::default().reason_bytes);
        /// The most sessions at once that may be asked for, whatever the policies permit. More is refused.
        max_sessions: u32 = |key| key.number(1, MAX_SESSIONS).or(RequestCaps::default().sessions);
        /// Window of a request that names none.
        default_window: Duration = |key| key.duration(MIN_DURATION).or(DEFAULT_WINDOW);
        /// Sessions at once of a request that names no number.
        default_sessions: u32 = |key| key.number(1, MAX_SESSIONS).or(DEFAULT_SESSIONS);
        /// Time that a request waits for its approvers.
        pending_for: Duration = |key| key.duration(MIN_DURATION).or(Duration::from_hours(1));
        /// Time that a grant of a request waits for its first connect.
        activate_within: Duration = |key| key.duration(MIN_DURATION).or(DEFAULT_ACTIVATE_WITHIN);
        /// Requests of one identity within any minute.
        requests_per_minute: u32 = |key| key.number(1, 10_000).or(30);
        /// Life of a local user's token, if `tidegate user add` and `user rotate` name none.
        token_life: Duration = |key| key.duration(MIN_TOKEN_LIFE).or(DEFAULT_TOKEN_LIFE);
        /// Time that a grant of an [exclusive](exclusive-use.md) profile keeps its target after its last client has left in order. A
        /// client that was killed does not come again: then it is a second.
        exclusive_kept: Duration = |key| key.duration(Duration::ZERO).or(DEFAULT_EXCLUSIVE_KEPT);
        /// The longest wait of a login, for approval or in line. A client may ask for less (`tidegate.wait`).
        login_wait: Duration = |key| key.duration(Duration::ZERO).or(Duration::from_mins(5));
        /// Interval of the NOTICE that a waiting client gets.
        login_notice: Duration = |key| key.duration(MIN_NOTICE_INTERVAL).or(Duration::from_secs(15));
        /// Clients that may log in with a token without TLS: `loopback` those on this machine, `never` none.
        identity_without_tls: TokenInClear = |key| key.one_of(TOKEN_IN_CLEAR).or(TokenInClear::Loopback);
    }
}

const TOKEN_IN_CLEAR: &[(&str, TokenInClear)] = &[("loopback", TokenInClear::Loopback), ("never", TokenInClear::Never)];

impl AccessTable {
    /// Returns the upper limits on requests.
    #[must_use]
    pub fn caps(&self) -> RequestCaps {
        RequestCaps {
            sessions: self.max_sessions,
            window: self.max_window,
            reason_bytes: self.max_reason_bytes,
        }
    }
}

/// Reads `[access]`.
pub(super) fn access(table: &TableSection<'_>) -> AccessTable {
    let mut access = AccessTable::read(table);
    if access.max_window > MAX_WINDOW {
        let most = duration::show(MAX_WINDOW);
        let reason = format!("it is longer than the longest possible window, {most}");
        table.mistake_at("max_window", reason, "");
    }
    if access.token_life > MAX_TOKEN_LIFE {
        let most = duration::show(MAX_TOKEN_LIFE);
        table.mistake_at("token_life", format!("it is longer than {most}"), "");
    }
    if access.default_window > access.max_window {
        table.mistake_at("default_window", "it is longer than access.max_window", "");
    }
    if access.default_sessions > access.max_sessions {
        if table.has("default_sessions") {
            table.mistake_at("default_sessions", "it is greater than access.max_sessions", "");
        }
        access.default_sessions = access.max_sessions;
    }
    access
}

/// Reads `[policy]`: the place of the policies, and the policies themselves, validated; none if the default folder does not
/// exist.
pub(super) fn policy(table: &TableSection<'_>) -> (PolicyLocation, Option<Arc<Policies>>) {
    let is_zone = |name: &str| {
        let unknown = |_| format!("`{name}` is not a time zone; write its IANA name, like Europe/Berlin or UTC");
        TimeZone::get(name).map_err(unknown)
    };
    keys! { table;
        /// IANA time zone of the hours and weekdays in policies.
        zone = |key| key.checked("text", is_zone).or("UTC".to_owned());
        /// Folder of the Cedar policies. Without it nothing can be asked for; grants are made by hand.
        dir = |key| key.path_or(policies::DEFAULT_DIR);
    }
    let place = PolicyLocation {
        dir,
        zone: TimeZone::get(&zone).unwrap_or(TimeZone::UTC),
    };
    // A folder that is named in any other way has to be there, or a reload would take all rules away for a mount that is late.
    let written = table.value("dir").and_then(|dir| dir.get_ref().as_str());
    let absent = written.is_none_or(|dir| dir == policies::DEFAULT_DIR) && !place.dir.exists();
    if absent || !table.opens("dir") {
        return (place, None);
    }
    match load(&place) {
        Ok(policies) => (place, Some(Arc::new(policies))),
        Err(mistakes) => {
            for mistake in mistakes {
                table.broken_rule("dir", mistake, "");
            }
            (place, None)
        }
    }
}

/// Loads and validates the policies, or returns all mistakes in them.
fn load(place: &PolicyLocation) -> Result<Policies, Vec<String>> {
    let (schema, texts) = policies::read(&place.dir).map_err(|error| vec![error.to_string()])?;
    Policies::parse(&schema, &texts, place.zone.clone()).map_err(|error| error.0)
}
