//! Settings for the gate itself in a client's startup packet: `tidegate.…`, inside `options` or as parameters.
//!
//! This module makes no requests and decides nothing; PostgreSQL never gets these settings.
//!
//! INVARIANT: every setting that begins with `tidegate.` is removed; an unknown one is refused by name, never dropped.

use std::time::Duration;

use super::destination::{Destination, TargetNames};
use crate::base::duration;
use crate::base::visible;
use crate::model::ending::Ending;
use crate::model::names::distance;
use crate::protocol::wire::startup::StartupMessage;

/// Prefix of the gate's own settings, in any case.
const OPTION_PREFIX: &str = "tidegate.";
const OPTION_NAMES: [&str; 8] = ["for", "profile", "reason", "run", "sessions", "ticket", "wait", "welcome"];
/// Maximum number of characters of an unknown name that are repeated to the client.
const MAX_ECHOED_CHARS: usize = 63;

/// Settings that a client sent to the gate. A login with a grant's secret may send all of them too, so that one connection string
/// serves both: the profile must then be the grant's, and the others have no effect on the grant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct StartupOptions {
    /// Maximum time to wait for approval; zero: no wait.
    pub(super) wait: Option<Duration>,
    /// Duration of the access.
    pub(super) window: Option<Duration>,
    /// Reason for the request.
    pub(super) reason: Option<String>,
    /// Ticket of the request.
    pub(super) ticket: Option<String>,
    /// Profile, which determines the privileges.
    pub(super) profile: Option<String>,
    /// Maximum number of concurrent sessions.
    pub(super) sessions: Option<u32>,
    /// Run of a suite or a pipeline that the session belongs to; only for the log.
    pub(super) run: Option<String>,
    /// Client's own setting for the notice at login; `None`: the gate's configuration.
    pub(super) welcome: Option<bool>,
}

impl StartupOptions {
    /// Takes the gate's settings out of those of a startup packet.
    pub(super) fn take(settings: &mut Vec<(String, String)>) -> Result<Self, Ending> {
        let ours = |(name, _): &mut (String, String)| {
            name.get(..OPTION_PREFIX.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(OPTION_PREFIX))
        };
        let taken: Vec<_> = settings.extract_if(.., ours).collect();
        let mut options = Self::default();
        for (name, value) in taken {
            let name = name.get(OPTION_PREFIX.len()..).unwrap_or_default().to_ascii_lowercase();
            options.set(&name, value.trim())?;
        }
        Ok(options)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), Ending> {
        let text = || Some(value.to_owned()).filter(|value| !value.is_empty());
        match name {
            "wait" => self.wait = Some(length(value).ok_or_else(|| invalid("wait", "a length of time like 30s or 5m, or 0"))?),
            "for" => {
                let window = length(value).filter(|window| !window.is_zero());
                self.window = Some(window.ok_or_else(|| invalid("for", "a length of time like 30m or 2h30m"))?);
            }
            "sessions" => {
                let sessions = value.parse().ok().filter(|sessions| *sessions > 0);
                self.sessions = Some(sessions.ok_or_else(|| invalid("sessions", "a number of sessions, 1 or more"))?);
            }
            "reason" => self.reason = text(),
            "ticket" => self.ticket = text(),
            "profile" => self.profile = text(),
            "run" => self.run = text(),
            "welcome" => self.welcome = Some(switch(value).ok_or_else(|| invalid("welcome", "on or off"))?),
            _ => return Err(unknown(name)),
        }
        Ok(())
    }

    /// Returns the destination of the client, with the profile from the database name or from its own setting.
    ///
    /// `granted` is the target of its grant, if it came with one.
    pub(super) fn destination(
        &self,
        startup: &StartupMessage,
        targets: &TargetNames<'_>,
        granted: Option<&str>,
    ) -> Result<Destination, Ending> {
        let database = startup.database.as_ref().unwrap_or(&startup.user);
        // An identity's name may have a slash or a dot, and stands for the database if none is named: that is not a profile.
        let mut destination = if *database == startup.user {
            Destination {
                target: database.clone(),
                profile: None,
            }
        } else {
            Destination::read(database, targets, granted)
        };
        match (&self.profile, &destination.profile) {
            (Some(wanted), Some(named)) if wanted != named => {
                return Err(invalid("profile", "the profile that the database name has too"));
            }
            (Some(wanted), None) => destination.profile = Some(wanted.clone()),
            _ => {}
        }
        Ok(destination)
    }
}

fn invalid(name: &'static str, wanted: &'static str) -> Ending {
    Ending::InvalidOption { name, wanted }
}

fn unknown(name: &str) -> Ending {
    let nearest = OPTION_NAMES.into_iter().min_by_key(|known| distance(name, known));
    Ending::UnknownOption {
        name: visible::start(name, MAX_ECHOED_CHARS),
        nearest: nearest.unwrap_or_default(),
    }
}

/// Parses a length of time, as the commands do. A number needs a unit, except 0.
fn length(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    duration::parse(text).ok()
}

/// Parses a switch, in PostgreSQL's words for booleans.
fn switch(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "on" | "true" | "yes" | "1" => Some(true),
        "off" | "false" | "no" | "0" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn settings(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
    }

    fn startup(user: &str, database: Option<&str>) -> StartupMessage {
        StartupMessage {
            minor: 0,
            user: user.to_owned(),
            database: database.map(str::to_owned),
            settings: Vec::new(),
            replication: crate::protocol::wire::startup::Replication::No,
            extensions: Vec::new(),
        }
    }

    #[test]
    fn takes_ours_and_leaves_the_rest() {
        let mut all = settings(&[
            ("application_name", "psql"),
            ("tidegate.wait", "30s"),
            ("TideGate.For", "2h30m"),
            ("tidegate.reason", " bug 17 "),
            ("tidegate.ticket", ""),
            ("tidegate.profile", "read-only"),
            ("tidegate.sessions", "3"),
            ("tidegate.run", "4711"),
            ("tidegate.welcome", "Off"),
            ("search_path", "tidegate.x"),
        ]);
        let options = StartupOptions::take(&mut all).unwrap();
        assert_eq!(all, settings(&[("application_name", "psql"), ("search_path", "tidegate.x")]));
        assert_eq!(
            options,
            StartupOptions {
                wait: Some(Duration::from_secs(30)),
                window: Some(Duration::from_mins(150)),
                reason: Some("bug 17".to_owned()),
                ticket: None,
                profile: Some("read-only".to_owned()),
                sessions: Some(3),
                run: Some("4711".to_owned()),
                welcome: Some(false),
            }
        );
        let mut none = settings(&[("tidegate.wait", "0")]);
        assert_eq!(StartupOptions::take(&mut none).unwrap().wait, Some(Duration::ZERO));
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        for (name, value, ending) in [
            ("tidegate.reasn", "x", "reason"),
            ("tidegate.", "x", "for"),
            ("tidegate.sessons", "1", "sessions"),
        ] {
            let refused = StartupOptions::take(&mut settings(&[(name, value)])).unwrap_err();
            assert!(
                matches!(&refused, Ending::UnknownOption { nearest, .. } if *nearest == ending),
                "{refused:?}"
            );
            assert_eq!(refused.sqlstate(), "42704");
        }
        for (name, value) in [
            ("wait", "30"),
            ("wait", "-1s"),
            ("wait", ""),
            ("for", "0"),
            ("for", "long"),
            ("sessions", "0"),
            ("sessions", "many"),
            ("welcome", "maybe"),
        ] {
            let refused = StartupOptions::take(&mut settings(&[(&format!("tidegate.{name}"), value)])).unwrap_err();
            assert!(
                matches!(&refused, Ending::InvalidOption { name: told, .. } if *told == name),
                "{refused:?}"
            );
            assert_eq!(refused.sqlstate(), "22023");
        }
    }

    #[test]
    fn where_to() {
        let options = StartupOptions::default();
        let read_only = StartupOptions {
            profile: Some("read-only".to_owned()),
            ..StartupOptions::default()
        };
        let orders = crate::database::upstream::Target::new(
            "orders".parse().unwrap(),
            "localhost".to_owned(),
            "orders".to_owned(),
            "app".to_owned(),
            crate::base::tls::ClientTls::new(crate::base::tls::TlsMode::Disable, None).unwrap(),
        );
        let targets = TargetNames::of(std::iter::once(&orders));
        let to = |options: &StartupOptions, user, database| {
            options
                .destination(&startup(user, database), &targets, None)
                .map(|destination| destination.database())
        };
        assert_eq!(to(&options, "ana", Some("orders")), Ok("orders".to_owned()));
        assert_eq!(
            to(&options, "ana", Some("orders/read-only")),
            Ok("orders/read-only".to_owned())
        );
        assert_eq!(to(&read_only, "ana", Some("orders")), Ok("orders/read-only".to_owned()));
        assert_eq!(
            to(&read_only, "ana", Some("orders/read-only")),
            Ok("orders/read-only".to_owned())
        );
        assert_eq!(to(&options, "ana", None), Ok("ana".to_owned()));
        for user in ["ci:shop/orders", "orders.qa"] {
            let own = options.destination(&startup(user, Some(user)), &targets, None).unwrap();
            assert_eq!((own.target.as_str(), own.profile), (user, None));
        }
        assert!(matches!(
            to(&read_only, "ana", Some("orders/admin")),
            Err(Ending::InvalidOption { name: "profile", .. })
        ));
    }

    /// What can be said on the command line can be said here.
    #[test]
    fn days_are_lengths_too() {
        for (text, hours) in [("1d", 24), ("1d12h", 36), ("2 days", 48), ("2h 30m", 2)] {
            let options = StartupOptions::take(&mut settings(&[("tidegate.for", text)])).unwrap();
            assert_eq!(options.window.map(|window| window.as_secs() / 3_600), Some(hours), "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_of_ours_goes_on(names in proptest::collection::vec("(tidegate\\.|TIDEGATE\\.|tide|x)[a-zé_.-]{0,10}", 0..8), value in ".{0,20}") {
            let mut all: Vec<_> = names.iter().map(|name| (name.clone(), value.clone())).collect();
            let _ = StartupOptions::take(&mut all);
            prop_assert!(all.iter().all(|(name, _)| !name.to_ascii_lowercase().starts_with(OPTION_PREFIX)));
            let others = names.iter().filter(|name| !name.to_ascii_lowercase().starts_with(OPTION_PREFIX)).count();
            prop_assert_eq!(all.len(), others);
        }

        #[test]
        fn lengths_as_written(secs in 1_u64..100_000) {
            for text in [format!("{secs}s"), format!("{}m{}s", secs / 60, secs % 60)] {
                prop_assert_eq!(length(&text), Some(Duration::from_secs(secs)));
            }
        }
    }
}
