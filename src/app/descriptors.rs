//! Budget of file descriptors: divided so that unauthenticated connections cannot take those that sessions, the log, the store
//! and the ends of sessions need.
//!
//! It opens and counts no descriptors. It only computes the limits that the listeners enforce.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors reserved for the gate's own use: the log with its next segment, packing and reading, the store, the outbox,
/// listeners, runtimes, webhooks, the receiver of the log.
const RESERVED_DESCRIPTORS: u64 = 96;
/// Descriptors reserved per target: the terminator, the connections that create and drop roles, the check of its profiles, a
/// cancel request.
const DESCRIPTORS_PER_TARGET: u64 = 6;
/// Descriptors per session: one to the client, one to the target.
const DESCRIPTORS_PER_SESSION: u64 = 2;
/// Descriptors per connection to the control API: its own, and a log segment that is read for it.
const DESCRIPTORS_PER_CALLER: u64 = 2;
/// Listeners of the control API, counting the handshakes in progress as one.
const CALLER_LISTENERS: u64 = 3;
/// Smallest number of descriptors that must remain for connections; with fewer the gate is of no use.
const MIN_SHARED_DESCRIPTORS: u64 = 64;

/// Limits on simultaneous connections, by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ConnectionBudget {
    /// `limits.connections`: number of sessions.
    pub(super) connections: u32,
    /// `limits.handshakes`: number of unauthenticated connections.
    pub(super) handshakes: u32,
    /// `limits.waiting_logins`: number of logins that wait for an approval.
    pub(super) waiting_logins: u32,
    /// Number of connections to the control API, per listener.
    pub(super) callers: u32,
}

/// Error of a limit of open files that is too low to run at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the limit of open files is {limit}, but the gate needs at least {needed}; raise it (ulimit -n, or LimitNOFILE= in systemd)"
)]
pub struct TooFewDescriptorsError {
    limit: u64,
    needed: u64,
}

/// Raises the soft limit of open files to the hard limit and returns the resulting limit; `None` means unlimited.
pub(super) fn raise() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: maximum,
        maximum,
    };
    if current == maximum || setrlimit(Resource::Nofile, wanted).is_ok() {
        return maximum;
    }
    current
}

impl ConnectionBudget {
    /// Returns the number of descriptors in use when every limit is reached.
    fn descriptors(self) -> u64 {
        u64::from(self.connections) * DESCRIPTORS_PER_SESSION
            + u64::from(self.handshakes)
            + u64::from(self.waiting_logins)
            + u64::from(self.callers) * DESCRIPTORS_PER_CALLER * CALLER_LISTENERS
    }

    /// Returns the limits that fit into `limit` descriptors. If they do not fit as they are, half goes to sessions, a quarter
    /// to unauthenticated connections, and the rest to the control API and to waiting logins; sessions get what the other kinds
    /// leave over.
    pub(super) fn within(self, limit: Option<u64>, targets: usize) -> Result<Self, TooFewDescriptorsError> {
        let Some(limit) = limit else { return Ok(self) };
        let reserved = RESERVED_DESCRIPTORS + DESCRIPTORS_PER_TARGET * targets as u64;
        let shared = limit.saturating_sub(reserved);
        if shared < MIN_SHARED_DESCRIPTORS {
            let needed = reserved + MIN_SHARED_DESCRIPTORS;
            return Err(TooFewDescriptorsError { limit, needed });
        }
        if self.descriptors() <= shared {
            return Ok(self);
        }
        let share = |wanted: u32, descriptors: u64, each: u64| wanted.min(u32::try_from(descriptors / each).unwrap_or(u32::MAX));
        let callers = share(self.callers, shared * 3 / 16, DESCRIPTORS_PER_CALLER * CALLER_LISTENERS);
        let mut places = Self {
            connections: 0,
            handshakes: share(self.handshakes, shared / 4, 1),
            waiting_logins: share(self.waiting_logins, shared / 16, 1),
            callers: callers.max(1),
        };
        places.connections = share(
            self.connections,
            shared.saturating_sub(places.descriptors()),
            DESCRIPTORS_PER_SESSION,
        );
        Ok(places)
    }

    /// Returns the same as [`Self::within`], and logs a warning if limits had to be lowered.
    pub(super) fn fitted(self, limit: Option<u64>, targets: usize) -> Result<Self, TooFewDescriptorsError> {
        let places = self.within(limit, targets)?;
        if places != self {
            tracing::warn!(
                open_files = limit,
                connections = places.connections,
                handshakes = places.handshakes,
                waiting_logins = places.waiting_logins,
                callers = places.callers,
                wanted = self.descriptors(),
                "the limit of open files is too low for the configured connections; lowered limits.connections, limits.handshakes and \
                 limits.waiting_logins; raise the limit (ulimit -Hn, or LimitNOFILE= in systemd) and restart"
            );
        }
        Ok(places)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DEFAULT: ConnectionBudget = ConnectionBudget {
        connections: 1000,
        handshakes: 4096,
        waiting_logins: 200,
        callers: 1000,
    };

    #[test]
    fn what_fits_is_as_configured() {
        assert_eq!(DEFAULT.within(None, 3), Ok(DEFAULT));
        assert_eq!(DEFAULT.within(Some(16_384), 3), Ok(DEFAULT));
        let places = DEFAULT.within(Some(1024), 1).unwrap();
        assert!(places.connections >= 200 && places.handshakes >= 200, "{places:?}");
    }

    #[test]
    fn a_limit_under_which_nobody_could_work_is_an_error() {
        let refused = DEFAULT.within(Some(100), 1).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "the limit of open files is 100, but the gate needs at least 166; raise it (ulimit -n, or LimitNOFILE= in systemd)"
        );
    }

    proptest! {
        #[test]
        fn the_reserve_is_never_shared_out(
            (connections, handshakes, waiting_logins, callers) in (1u32.., 1u32.., 0u32.., 1u32..),
            limit in 0u64..2_000_000,
            targets in 0usize..50,
        ) {
            let wanted = ConnectionBudget { connections, handshakes, waiting_logins, callers };
            if let Ok(places) = wanted.within(Some(limit), targets) {
                prop_assert!(places.descriptors() + RESERVED_DESCRIPTORS + DESCRIPTORS_PER_TARGET * targets as u64 <= limit);
                prop_assert!(places.connections >= 1 && places.handshakes >= 1 && places.callers >= 1);
                prop_assert!(places.connections <= connections && places.handshakes <= handshakes);
            }
        }
    }
}
