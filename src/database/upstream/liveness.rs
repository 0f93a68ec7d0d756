//! Settings that the gate sends so that the target detects a broken connection to the gate.
//!
//! This module does not decide the check interval.
//!
//! INVARIANT: if a target does not know one of the settings, it is used without that setting. The gate remembers this and logs it
//! once; no login fails because of it.
//!
//! `tcp_user_timeout` is not among them, on neither side. It also breaks connections whose receiver does not read for a while
//! (tcp(7): "buffered data may remain untransmitted"), for example a COPY that waits for a lock, or a client that reads a result
//! slowly.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::error::ServerRejection;
use crate::model::names::TargetName;

/// Setting by which a busy backend regularly checks its connection; since PostgreSQL 14, on systems that support it.
const CHECK_INTERVAL: &str = "client_connection_check_interval";

/// Settings by which a backend detects within a minute that the gate's machine is gone; the system's default is two hours.
const KEEPALIVES: [(&str, &str); 3] = [
    ("tcp_keepalives_idle", "30"),
    ("tcp_keepalives_interval", "10"),
    ("tcp_keepalives_count", "3"),
];

/// Settings that the target has refused.
#[derive(Debug, Default)]
pub(super) struct LivenessSettings {
    no_check_interval: AtomicBool,
    no_keepalives: AtomicBool,
}

impl LivenessSettings {
    /// Returns the settings to send with the next startup packet.
    pub(super) fn worn(&self, check_interval: Duration) -> Vec<(&'static str, String)> {
        let mut worn = Vec::with_capacity(4);
        if !check_interval.is_zero() && !self.no_check_interval.load(Ordering::Relaxed) {
            // PostgreSQL accepts whole milliseconds up to i32::MAX; zero would mean never.
            let millis = check_interval.as_millis().clamp(1, i32::MAX.unsigned_abs().into());
            worn.push((CHECK_INTERVAL, millis.to_string()));
        }
        if !self.no_keepalives.load(Ordering::Relaxed) {
            worn.extend(KEEPALIVES.map(|(name, value)| (name, value.to_owned())));
        }
        worn
    }

    /// Returns true if the refusal is about one of the settings in `worn`, which is then not sent any more. A server before 14
    /// answers 42704, one that cannot check answers 22023, pgbouncer answers 08P01; each names the setting.
    ///
    /// Servers also quote settings that the client `asked` for, and one client's request must not remove a setting for all. So if
    /// any of those could be read as the setting's name, the refusal counts as the client's own.
    pub(super) fn take_off(
        &self,
        target: &TargetName,
        worn: &[(&'static str, String)],
        asked: &[(String, String)],
        rejection: &ServerRejection,
    ) -> bool {
        if !matches!(rejection.code.as_str(), "42704" | "22023" | "08P01") {
            return false;
        }
        let asked_for = |belt: &str| {
            asked
                .iter()
                .any(|(name, value)| mentions(name, belt) || mentions(value, belt))
        };
        let Some((name, _)) = worn
            .iter()
            .find(|(name, _)| names(&rejection.message, name) && !asked_for(name))
        else {
            return false;
        };
        let refused = if *name == CHECK_INTERVAL {
            &self.no_check_interval
        } else {
            &self.no_keepalives
        };
        refused.store(true, Ordering::Relaxed);
        tracing::warn!(
            %target,
            setting = name,
            "the target rejects a setting that detects dead gate connections; connecting without it"
        );
        true
    }
}

/// Returns true if the server's message is about the setting `belt`. In English the name follows the word, quoted (guc.c) or
/// after a colon (pgbouncer's client.c); in a translated message only the complete name is recognised.
fn names(message: &str, belt: &str) -> bool {
    for (word, end) in [("parameter \"", "\""), ("startup parameter: ", "")] {
        if let Some((_, named)) = message.split_once(word) {
            return named.strip_prefix(belt).is_some_and(|rest| {
                if end.is_empty() {
                    !rest.starts_with(in_names)
                } else {
                    rest.starts_with(end)
                }
            });
        }
    }
    message.match_indices(belt).any(|(at, _)| {
        let before = message.get(..at).is_some_and(|before| before.ends_with(in_names));
        let after = message
            .get(at + belt.len()..)
            .is_some_and(|after| after.starts_with(in_names));
        !before && !after
    })
}

fn in_names(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_'
}

/// Returns true if a server may print a client's text as the setting's name: in `options` backslashes are removed
/// (`pg_split_opts`), and a dash in a name becomes an underscore (`ParseLongOption`).
fn mentions(text: &str, belt: &str) -> bool {
    text.replace('\\', "").replace('-', "_").to_ascii_lowercase().contains(belt)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    /// Whether a target that answers so is used without the belt from then on.
    fn taken_off(asked: &[(&str, &str)], code: &str, message: &str) -> bool {
        let (liveness, check_interval) = (LivenessSettings::default(), Duration::from_secs(1));
        let worn = liveness.worn(check_interval);
        let asked: Vec<_> = asked
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let rejection = ServerRejection {
            frame: Bytes::new(),
            code: code.to_owned(),
            message: message.to_owned(),
            routine: None,
            authenticated: true,
        };
        let off = liveness.take_off(&"orders".parse().unwrap(), &worn, &asked, &rejection);
        assert_eq!(liveness.worn(check_interval).len() < worn.len(), off);
        off
    }

    #[test]
    fn a_server_that_does_not_know_it_is_used_without() {
        for (code, message) in [
            (
                "42704",
                r#"unrecognized configuration parameter "client_connection_check_interval""#,
            ),
            (
                "22023",
                r#"invalid value for parameter "client_connection_check_interval": "1000""#,
            ),
            ("22023", r#"invalid value for parameter "tcp_keepalives_idle": "30""#),
            ("08P01", "unsupported startup parameter: client_connection_check_interval"),
            (
                "42704",
                "unbekannter Konfigurationsparameter »client_connection_check_interval«",
            ),
        ] {
            assert!(taken_off(&[("client_encoding", "UTF8")], code, message), "{message}");
        }
    }

    #[test]
    fn a_client_takes_no_belt_off() {
        let belt = "client_connection_check_interval";
        let encoding = format!(r#"invalid value for parameter "client_encoding": "{belt}""#);
        let unknown = format!(r#"unrecognized configuration parameter "{belt}""#);
        let translated = format!("ungültiger Wert für Parameter »client_encoding«: »{belt}«");
        for (asked, code, message) in [
            (("client_encoding", belt), "22023", &encoding),
            (("client_encoding", belt), "22023", &translated),
            // Taken for the name of the parameter, it would pass.
            (
                ("client_encoding", "parameter \"client_connection_check_interval\""),
                "22023",
                &unknown,
            ),
            (("options", r"-c client-connection-check\_interval=1"), "42704", &unknown),
            // What another message says, or a longer name, is nothing.
            (("client_encoding", "UTF8"), "22023", &encoding),
            (("client_encoding", "UTF8"), "28000", &unknown),
            (("a", "b"), "42704", &unknown.replace("interval", "interval_x")),
        ] {
            assert!(!taken_off(&[asked], code, message), "{asked:?} {message}");
        }
    }
}
