//! Ways by which callers come, and what policies are told of them.
//!
//! It proves nobody.

use std::time::Duration;

use super::names::vocabulary;
use super::sign_in::SignInVia;

vocabulary! {
    /// Way by which a caller comes.
    pub enum CallerVia {
        /// Token that is sent with a call of the API.
        Api = "api",
        /// Sign-in at the web console.
        Console = "console",
        /// Sign-in at the command line.
        Cli = "cli",
        /// Login of a PostgreSQL client.
        Wire = "wire",
        /// Click in Slack.
        Slack = "slack",
    }
}

impl From<SignInVia> for CallerVia {
    fn from(via: SignInVia) -> Self {
        match via {
            SignInVia::Console => Self::Console,
            SignInVia::Cli => Self::Cli,
        }
    }
}

/// Arrival of a caller: its way, and the age of a sign-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// Way by which the caller comes.
    pub via: CallerVia,
    /// Age of the sign-in that proved the identity; `None`: something else did.
    pub signed_in_ago: Option<Duration>,
}

impl Arrival {
    /// Arrival with a token that is sent with the call.
    pub const TOKEN: Self = Self {
        via: CallerVia::Api,
        signed_in_ago: None,
    };
    /// Arrival by a sign-in of this moment at the console, the most that policies can want of a person.
    pub const FRESH: Self = Self {
        via: CallerVia::Console,
        signed_in_ago: Some(Duration::ZERO),
    };

    /// Returns an arrival as a hypothetical question states it. A sign-in of no stated age is of this moment, one of no stated place
    /// at the console.
    pub fn stated(via: Option<CallerVia>, signed_in_ago: Option<Duration>) -> Result<Self, String> {
        match (via, signed_in_ago) {
            (None, None) => Ok(Self::TOKEN),
            (None, Some(_)) => Ok(Self {
                signed_in_ago,
                ..Self::FRESH
            }),
            (Some(via @ (CallerVia::Console | CallerVia::Cli)), age) => Ok(Self {
                via,
                signed_in_ago: age.or(Some(Duration::ZERO)),
            }),
            (Some(via @ (CallerVia::Api | CallerVia::Slack)), Some(_)) => Err(format!(
                "nobody signs in via {via}, so there is no age; leave it out, or use console or cli"
            )),
            (Some(via), signed_in_ago) => Ok(Self { via, signed_in_ago }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_states_one_arrival_or_a_mistake() {
        let age = Some(Duration::from_mins(20));
        let arrival = |via, signed_in_ago| Ok(Arrival { via, signed_in_ago });
        for (via, stated, expected) in [
            (None, None, arrival(CallerVia::Api, None)),
            (None, age, arrival(CallerVia::Console, age)),
            (Some(CallerVia::Cli), age, arrival(CallerVia::Cli, age)),
            (Some(CallerVia::Cli), None, arrival(CallerVia::Cli, Some(Duration::ZERO))),
            (Some(CallerVia::Slack), None, arrival(CallerVia::Slack, None)),
            (Some(CallerVia::Wire), age, arrival(CallerVia::Wire, age)),
        ] {
            assert_eq!(Arrival::stated(via, stated), expected, "{via:?} {stated:?}");
        }
        for via in [CallerVia::Api, CallerVia::Slack] {
            assert!(Arrival::stated(Some(via), age).unwrap_err().contains(via.as_str()));
        }
    }
}
