//! Meaning of a name at the current point of the client's stream.
//!
//! This module changes nothing.

use std::sync::Arc;

use super::pending::Pending;
use super::{Book, Lookup};
use crate::session::statement::{Portal, Prepared};

/// Effect of a message on the meaning of a name.
enum Said<T> {
    Defined(Arc<T>),
    Closed,
}

impl Book {
    /// Returns the prepared statement that a name stands for at this point of the client's stream.
    pub(in crate::session) fn statement(&self, name: &[u8]) -> Lookup<Prepared> {
        let said = |pending: &Pending| match pending {
            Pending::Parse {
                name: defined, prepared, ..
            } if **defined == *name => Some(Said::Defined(Arc::clone(prepared))),
            Pending::CloseStatement { name: closed, .. } if **closed == *name => Some(Said::Closed),
            _ => None,
        };
        self.look_up(said, self.statements.get(name))
    }

    /// Returns the portal that a name stands for at this point of the client's stream.
    pub(in crate::session) fn portal(&self, name: &[u8]) -> Lookup<Portal> {
        let said = |pending: &Pending| match pending {
            Pending::Bind {
                name: defined, portal, ..
            } if **defined == *name => Some(Said::Defined(Arc::clone(portal))),
            Pending::ClosePortal { name: closed, .. } if **closed == *name => Some(Said::Closed),
            _ => None,
        };
        self.look_up(said, self.portals.get(name))
    }

    /// Searches the unanswered messages backwards, then the entries `settled` before them.
    fn look_up<T>(&self, said: impl Fn(&Pending) -> Option<Said<T>>, settled: Option<&Arc<T>>) -> Lookup<T> {
        let mut own_group = true;
        for pending in self.pending.iter().rev() {
            match (said(pending), pending) {
                (Some(_), _) if !own_group => return Lookup::Wait,
                (Some(Said::Defined(thing)), _) => return Lookup::Known(thing),
                (Some(Said::Closed), _) => return Lookup::Unknown,
                (None, Pending::Sync { .. }) => own_group = false,
                // The server skips the rest of the group.
                (None, Pending::Refused { .. }) if own_group => return Lookup::Unknown,
                // A simple query drops the unnamed statement, and its SQL may rename the others.
                (None, Pending::Query { .. }) => return Lookup::Wait,
                _ => {}
            }
        }
        settled.map_or(Lookup::Unknown, |thing| Lookup::Known(Arc::clone(thing)))
    }
}
