//! The meaning of a name at the point of the client's stream that the tap has come to.
//!
//! It changes nothing.

use std::sync::Arc;

use super::pending::Pending;
use super::{Book, Lookup};
use crate::session::statement::{Portal, Prepared};

impl Book {
    /// The statement a name stands for at this point of the client's stream.
    pub(in crate::session) fn statement(&self, name: &[u8]) -> Lookup<Prepared> {
        let mut own_group = true;
        for pending in self.pending.iter().rev() {
            match pending {
                Pending::Sync { .. } => own_group = false,
                Pending::Parse {
                    name: defined, prepared, ..
                } if **defined == *name => {
                    return if own_group {
                        Lookup::Known(Arc::clone(prepared))
                    } else {
                        Lookup::Wait
                    };
                }
                Pending::CloseStatement { name: closed, .. } if **closed == *name => {
                    return if own_group { Lookup::Unknown } else { Lookup::Wait };
                }
                // The server skips the rest of the group.
                Pending::Refused { .. } if own_group => return Lookup::Unknown,
                // A simple query drops the unnamed statement, and its SQL may rename the others.
                Pending::Query { .. } => return Lookup::Wait,
                _ => {}
            }
        }
        self.statements
            .get(name)
            .map_or(Lookup::Unknown, |prepared| Lookup::Known(Arc::clone(prepared)))
    }

    /// The portal a name stands for at this point of the client's stream.
    pub(in crate::session) fn portal(&self, name: &[u8]) -> Lookup<Portal> {
        let mut own_group = true;
        for pending in self.pending.iter().rev() {
            match pending {
                Pending::Sync { .. } => own_group = false,
                Pending::Bind {
                    name: defined, portal, ..
                } if **defined == *name => {
                    return if own_group {
                        Lookup::Known(Arc::clone(portal))
                    } else {
                        Lookup::Wait
                    };
                }
                Pending::ClosePortal { name: closed, .. } if **closed == *name => {
                    return if own_group { Lookup::Unknown } else { Lookup::Wait };
                }
                Pending::Refused { .. } if own_group => return Lookup::Unknown,
                Pending::Query { .. } => return Lookup::Wait,
                _ => {}
            }
        }
        self.portals
            .get(name)
            .map_or(Lookup::Unknown, |portal| Lookup::Known(Arc::clone(portal)))
    }
}
