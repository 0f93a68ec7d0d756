//! Settings of a startup packet that are forwarded to the target: all that a session may set anyway, except those that only the
//! gate may set.
//!
//! This module has no list of valid settings and does not judge values: the target itself refuses a setting that it does not
//! know, or that only superusers may set, with its own message.
//!
//! INVARIANT: a setting that is not forwarded is refused by name, never silently dropped; and no name is forwarded that a server
//! reads as a field of the startup packet instead of a setting (`-c replication=…` in `options` would make a replication
//! connection).

use crate::base::visible;
use crate::model::ending::{Ending, ParameterRule};

/// Settings by which the target detects a broken connection to the gate: the gate sets them for every session, or keeps them
/// unset (`tcp_user_timeout`).
const SET_BY_GATE: [&str; 5] = [
    "client_connection_check_interval",
    "tcp_keepalives_count",
    "tcp_keepalives_idle",
    "tcp_keepalives_interval",
    "tcp_user_timeout",
];

/// Settings for the role of a session. From a startup packet they would be the values that `RESET ROLE` restores.
const GIVEN_BY_GRANT: [&str; 2] = ["role", "session_authorization"];

/// Fields of a startup packet that are not settings (ProcessStartupPacket in src/backend/tcop/backend_startup.c).
const PACKET_FIELDS: [&str; 4] = ["database", "options", "replication", "user"];
/// Prefix of the names of protocol extensions.
const EXTENSION_PREFIX: &str = "_pq_.";

/// Maximum number of characters of a refused name that are repeated to the client.
const MAX_NAME_CHARS: usize = 63;

/// Returns all settings, to be forwarded, or [`Ending::ParameterRefused`] for the first one that is not allowed.
///
/// Names are compared without regard to case, as PostgreSQL does.
pub fn allowed(settings: &[(String, String)]) -> Result<Vec<(String, String)>, Ending> {
    let refused = settings.iter().find_map(|(name, _)| Some((name, rule_against(name)?)));
    match refused {
        Some((name, rule)) => Err(Ending::ParameterRefused {
            name: visible::start(name, MAX_NAME_CHARS),
            rule,
        }),
        None => Ok(settings.to_vec()),
    }
}

fn rule_against(name: &str) -> Option<ParameterRule> {
    let name = name.to_ascii_lowercase();
    let listed = |names: &[&str]| names.contains(&name.as_str());
    if listed(&SET_BY_GATE) {
        Some(ParameterRule::SetByGate)
    } else if listed(&GIVEN_BY_GRANT) {
        Some(ParameterRule::GivenByGrant)
    } else if listed(&PACKET_FIELDS) || name.is_empty() || name.starts_with(EXTENSION_PREFIX) {
        Some(ParameterRule::PacketField)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(name: &str, value: &str) -> Result<Vec<(String, String)>, Ending> {
        allowed(&[(name.to_owned(), value.to_owned())])
    }

    #[test]
    fn what_a_session_may_set_passes_as_it_is() {
        for (name, value) in [
            ("application_name", "psql"),
            ("DateStyle", "ISO"),
            ("client_encoding", "'utf-8'"),
            ("search_path", "shop, public"),
            ("client_min_messages", "warning"),
            ("jit", "off"),
            ("work_mem", "64MB"),
            ("default_transaction_read_only", "on"),
            ("row_security", "off"),
            ("bytea_output", "escape"),
            ("app.tenant", "7"),
            ("statement_timeout", "0"),
            // For the target to refuse, in its own words.
            ("session_replication_role", "replica"),
            ("no_such_setting", "1"),
        ] {
            assert_eq!(ask(name, value), Ok(vec![(name.to_owned(), value.to_owned())]));
        }
    }

    #[test]
    fn what_is_the_gates_to_say_is_refused_by_name_and_with_the_reason() {
        let cases = [
            (&SET_BY_GATE[..], ParameterRule::SetByGate),
            (&GIVEN_BY_GRANT[..], ParameterRule::GivenByGrant),
            (&PACKET_FIELDS[..], ParameterRule::PacketField),
            (&["", "_pq_.x", "_PQ_.command"][..], ParameterRule::PacketField),
        ];
        for (names, rule) in cases {
            for name in names.iter().flat_map(|name| [(*name).to_owned(), name.to_uppercase()]) {
                let mut among = vec![("jit".to_owned(), "off".to_owned()), (name.clone(), "1".to_owned())];
                assert_eq!(allowed(&among), Err(Ending::ParameterRefused { name, rule }));
                among.pop();
                assert!(allowed(&among).is_ok());
            }
        }
    }

    #[test]
    fn a_refused_name_is_repeated_in_one_line_of_a_sane_length() {
        let Err(Ending::ParameterRefused { name, .. }) = ask(&format!("_pq_.\n{}", "b".repeat(100)), "1") else {
            panic!("it is refused");
        };
        assert_eq!(name, format!("_pq_.\\n{}…", "b".repeat(MAX_NAME_CHARS - 6)));
    }
}
