//! Which settings a client may bring along in its startup packet: an explicit list.
//!
//! It does not stop a session from changing settings later: that is for the database's privileges.
//!
//! INVARIANT: what is not listed is refused by name, never dropped in silence; what the gate itself sets for a session cannot be
//! listed.

use crate::ending::Ending;
use crate::visible;

/// What drivers and libpq's environment variables send.
const ALLOWED: [&str; 8] = [
    "application_name",
    "client_encoding",
    "datestyle",
    "extra_float_digits",
    "geqo",
    "intervalstyle",
    "search_path",
    "timezone",
];

/// Limits that a client may set for itself, but not lift (0 lifts them).
const LIMITS: [&str; 4] = [
    "idle_in_transaction_session_timeout",
    "lock_timeout",
    "statement_timeout",
    "transaction_timeout",
];

/// What lets the target notice that the gate is gone: set by the gate for every session.
const OURS: [&str; 5] = [
    "client_connection_check_interval",
    "tcp_keepalives_count",
    "tcp_keepalives_idle",
    "tcp_keepalives_interval",
    "tcp_user_timeout",
];

/// Letters of a refused name that are repeated to the client.
const LONGEST_NAME: usize = 63;

/// The settings to hand on, all of them, or [`Ending::ParameterRefused`] for the first that is not allowed.
///
/// `extra` has the names the operator allows in addition. Names are compared without regard to case, as PostgreSQL does.
pub fn allowed(settings: &[(String, String)], extra: &[String]) -> Result<Vec<(String, String)>, Ending> {
    settings
        .iter()
        .map(|(name, value)| {
            if may(&name.to_ascii_lowercase(), value, extra) {
                Ok((name.clone(), value.clone()))
            } else {
                Err(Ending::ParameterRefused {
                    name: visible::start(name, LONGEST_NAME),
                })
            }
        })
        .collect()
}

fn may(name: &str, value: &str, extra: &[String]) -> bool {
    if OURS.contains(&name) {
        return false;
    }
    ALLOWED.contains(&name)
        || extra.iter().any(|extra| extra.eq_ignore_ascii_case(name))
        || (LIMITS.contains(&name) && limits(value))
}

/// Whether a time is a limit: a whole number above zero, with or without a unit (PostgreSQL's parse_int takes more forms;
/// nobody sends them). Microseconds are left out, for they can be rounded to zero.
fn limits(value: &str) -> bool {
    let value = value.trim();
    let unit = value.trim_start_matches(|letter: char| letter.is_ascii_digit());
    let number = value.strip_suffix(unit).unwrap_or_default();
    number.bytes().any(|digit| digit != b'0') && matches!(unit.trim(), "" | "ms" | "s" | "min" | "h" | "d")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(name: &str, value: &str, extra: &[&str]) -> Result<Vec<(String, String)>, Ending> {
        let extra: Vec<String> = extra.iter().map(|name| (*name).to_owned()).collect();
        allowed(&[(name.to_owned(), value.to_owned())], &extra)
    }

    #[test]
    fn what_drivers_send_passes_as_it_is() {
        for (name, value) in [
            ("application_name", "psql"),
            ("DateStyle", "ISO"),
            ("TimeZone", "Europe/Berlin"),
            ("client_encoding", "'utf-8'"),
            ("extra_float_digits", "2"),
            ("IntervalStyle", "postgres_verbose"),
            ("search_path", "shop, public"),
        ] {
            assert_eq!(ask(name, value, &[]), Ok(vec![(name.to_owned(), value.to_owned())]));
        }
    }

    #[test]
    fn what_is_not_listed_is_refused_by_name() {
        for name in [
            "role",
            "session_authorization",
            "session_preload_libraries",
            "default_transaction_read_only",
            "authentication_timeout",
            "myapp.user",
            "",
        ] {
            assert_eq!(ask(name, "1", &[]), Err(Ending::ParameterRefused { name: name.to_owned() }));
        }
        assert_eq!(
            ask(&format!("a\n{}", "b".repeat(100)), "1", &[]),
            Err(Ending::ParameterRefused {
                name: format!("a\\n{}…", "b".repeat(61))
            })
        );
    }

    #[test]
    fn the_operator_may_allow_more_but_not_what_is_ours() {
        assert!(ask("MyApp.User", "1", &["myapp.user"]).is_ok());
        assert!(ask("statement_timeout", "0", &["statement_timeout"]).is_ok());
        for name in OURS {
            assert!(ask(name, "1", &[name]).is_err());
            assert!(ask(&name.to_uppercase(), "1", &[name]).is_err());
        }
    }

    #[test]
    fn a_limit_may_be_set_but_not_lifted() {
        for value in ["5000", "30s", " 5 min ", "007", "1h"] {
            assert!(ask("statement_timeout", value, &[]).is_ok(), "{value}");
        }
        for value in ["0", "0s", "00", "", "-1", "0.4", "1us", "0x0", "1e-9", "é", "default"] {
            assert!(ask("Statement_Timeout", value, &[]).is_err(), "{value}");
        }
    }
}
