//! Meaning of a name at the current point of the client's stream.
//!
//! This module changes nothing.

use std::sync::Arc;

use super::pending::PendingMessage;
use super::{ExtendedQueryState, NameLookup};
use crate::gate::session::statement::{Portal, PreparedStatement};

/// Effect of a message on the meaning of a name.
enum NameChange<T> {
    Defined(Arc<T>),
    Closed,
}

impl ExtendedQueryState {
    /// Returns the prepared statement that a name stands for at this point of the client's stream.
    pub(in crate::gate::session) fn statement(&self, name: &[u8]) -> NameLookup<PreparedStatement> {
        let said = |pending: &PendingMessage| match pending {
            PendingMessage::Parse {
                name: defined, prepared, ..
            } if **defined == *name => Some(NameChange::Defined(Arc::clone(prepared))),
            PendingMessage::CloseStatement { name: closed, .. } if **closed == *name => Some(NameChange::Closed),
            _ => None,
        };
        self.look_up(said, self.statements.get(name))
    }

    /// Returns the portal that a name stands for at this point of the client's stream.
    pub(in crate::gate::session) fn portal(&self, name: &[u8]) -> NameLookup<Portal> {
        let said = |pending: &PendingMessage| match pending {
            PendingMessage::Bind {
                name: defined, portal, ..
            } if **defined == *name => Some(NameChange::Defined(Arc::clone(portal))),
            PendingMessage::ClosePortal { name: closed, .. } if **closed == *name => Some(NameChange::Closed),
            _ => None,
        };
        self.look_up(said, self.portals.get(name))
    }

    /// Searches the unanswered messages backwards, then the entries `settled` before them.
    fn look_up<T>(&self, said: impl Fn(&PendingMessage) -> Option<NameChange<T>>, settled: Option<&Arc<T>>) -> NameLookup<T> {
        let mut own_group = true;
        for pending in self.pending.iter().rev() {
            match (said(pending), pending) {
                (Some(_), _) if !own_group => return NameLookup::Wait,
                (Some(NameChange::Defined(thing)), _) => return NameLookup::Known(thing),
                (Some(NameChange::Closed), _) => return NameLookup::Unknown,
                (None, PendingMessage::Sync { .. }) => own_group = false,
                // The server skips the rest of the group.
                (None, PendingMessage::Refused { .. }) if own_group => return NameLookup::Unknown,
                // A simple query drops the unnamed statement, and its SQL may rename the others.
                (None, PendingMessage::Query { .. }) => return NameLookup::Wait,
                _ => {}
            }
        }
        settled.map_or(NameLookup::Unknown, |thing| NameLookup::Known(Arc::clone(thing)))
    }
}
