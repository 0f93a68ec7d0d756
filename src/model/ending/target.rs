//! Refusals by a target's server that are forwarded to the client.
//!
//! This module does not connect. All other refusals of a server concern the gate's operator and are not forwarded.

use crate::model::names::TargetName;

use super::{Ending, EndingKind};

/// Reason of a server for refusing a connection that tools recognise by its SQLSTATE and act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetRefusal {
    /// The database does not exist (it was dropped, and is about to be created again).
    NoDatabase,
    /// The database accepts no connections at present.
    NoConnections,
    /// The server, the database or the account has reached its connection limit.
    Full,
    /// The server is starting, recovering or stopping.
    NotReady,
}

impl TargetRefusal {
    const ALL: [Self; 4] = [Self::NoDatabase, Self::NoConnections, Self::Full, Self::NotReady];

    /// Returns the refusal with the server's SQLSTATE, if it is one of these.
    #[must_use]
    pub fn of(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|refusal| refusal.sqlstate() == code)
    }

    /// Returns the ending of a session that is refused for this reason; `message` is the server's.
    #[must_use]
    pub fn ending(self, target: TargetName, message: &str) -> Ending {
        Ending::TargetSaysNo {
            target,
            refusal: self,
            message: crate::base::visible::start(message, MAX_MESSAGE_CHARS),
        }
    }

    /// Returns the SQLSTATE, as the server reports it (PostgreSQL: "Error Codes").
    #[must_use]
    pub fn sqlstate(self) -> &'static str {
        self.entry().0
    }

    /// Returns the SQLSTATE, the kind of ending, and the remedy for the client.
    pub(super) fn entry(self) -> (&'static str, EndingKind, &'static str) {
        match self {
            Self::NoDatabase => (
                "3D000",
                EndingKind::TargetMissing,
                "connect again when it has been made; if nobody is at it, tell the gate's operator",
            ),
            Self::NoConnections => (
                "55000",
                EndingKind::TargetLocked,
                "connect again when it takes connections; if nobody is at it, tell the gate's operator",
            ),
            Self::Full => (
                "53300",
                EndingKind::TargetFull,
                "try again when others have finished; the gate's operator can keep `max_sessions` of the target below the \
                 server's limit",
            ),
            Self::NotReady => ("57P03", EndingKind::TargetNotReady, "connect again in a moment"),
        }
    }
}

/// Maximum number of characters of the server's message that a client reads; PostgreSQL's own messages are shorter.
const MAX_MESSAGE_CHARS: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_code_and_words_are_kept() {
        for (code, said) in [
            ("3D000", "database \"shop\" does not exist"),
            ("55000", "database \"shop\" is not currently accepting connections"),
            ("53300", "sorry, too many clients already"),
            ("57P03", "the database system is starting up"),
        ] {
            let ending = TargetRefusal::of(code).unwrap().ending("shop".parse().unwrap(), said);
            let words = ending.words().unwrap();
            assert_eq!((words.code, words.message.as_str()), (code, said));
            assert_eq!(ending.sqlstate(), code);
        }
        for code in ["28P01", "28000", "42501", "57P01", "XX000", ""] {
            assert_eq!(TargetRefusal::of(code), None, "{code}");
        }
    }
}
