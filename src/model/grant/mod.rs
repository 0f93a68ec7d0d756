//! Grants: their data, the legal changes, and the check that a grant covers a session now ([`Permit`]).
//!
//! It does not store a grant, announce a change or read a clock: `now` is an argument, and the ledger does the rest.
//!
//! INVARIANT: a grant that has ended (lapsed, expired or revoked) never becomes active again, and no window goes past the grant's
//! absolute deadline.

mod lifecycle;
mod permit;

pub use lifecycle::{
    ChangeError, DEFAULT_ACTIVATE_WITHIN, DEFAULT_SESSIONS, GrantChange, MAX_LINE_AGE, MAX_WINDOW, MIN_WINDOW, Terms, TermsError,
    apply, create,
};
pub use permit::{Permit, PermitError, PermitQuery, permit};

use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::ids::{GrantId, RequestId};
use crate::model::names::{IdentityName, ProfileName, TargetName};

/// Right of one identity to one target for a limited time. Made by [`create`], changed only by [`apply`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Grant {
    /// Id of the grant.
    pub(crate) id: GrantId,
    /// Identity that the grant is for.
    pub(crate) identity: IdentityName,
    /// Target that the grant is for.
    pub(crate) target: TargetName,
    /// Reason for the grant.
    pub(crate) reason: Option<String>,
    /// Time of creation.
    pub(crate) created_at: Timestamp,
    /// Identity or operator that created the grant.
    pub(crate) created_by: String,
    /// Latest time of the first connection.
    pub(crate) activate_by: Timestamp,
    /// Length of the window in seconds.
    #[serde(rename = "window_seconds", with = "crate::model::seconds")]
    #[schema(value_type = u64)]
    pub(crate) window: Duration,
    /// Latest end of the window.
    pub(crate) deadline: Option<Timestamp>,
    /// Number of simultaneous sessions.
    pub(crate) max_sessions: u32,
    /// Network that its clients must connect from.
    #[schema(value_type = Option<String>)]
    pub(crate) client_network: Option<IpNet>,
    /// Time at which the window opened.
    pub(crate) activated_at: Option<Timestamp>,
    /// Time at which the window closes.
    pub(crate) until: Option<Timestamp>,
    /// Early end of the grant.
    pub(crate) revoked: Option<Revocation>,
    /// Profile of the grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) profile: Option<ProfileName>,
    /// Request that the grant came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) request: Option<RequestId>,
}

/// Returns the network in the form that client addresses are compared with: an IPv4-mapped IPv6 network (`::ffff:192.0.2.0/120`)
/// becomes its IPv4 network.
#[must_use]
pub fn canonical_network(network: IpNet) -> IpNet {
    const MAPPED_BITS: u8 = 96;
    match network {
        IpNet::V6(mapped) if mapped.prefix_len() >= MAPPED_BITS => {
            let address = mapped.addr().to_ipv4_mapped();
            let own = address.and_then(|address| Ipv4Net::new(address, mapped.prefix_len() - MAPPED_BITS).ok());
            own.map_or(network, IpNet::V4)
        }
        other => other,
    }
}

/// Revocation of a grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Revocation {
    /// Time of the revocation.
    pub at: Timestamp,
    /// Identity or operator that revoked the grant.
    pub by: String,
    /// Reason for the revocation.
    #[schema(nullable = false)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Recorded reason of the revocation of a grant that its owner gives back.
pub const GIVEN_BACK: &str = "given back";

/// State of a grant at a moment. Computed, never stored: nothing has to run for a grant to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrantState {
    /// Unused so far; the first connect opens the window.
    Ready,
    /// Active within its window: `from` included, `until` not.
    Active {
        /// Time the window opened.
        from: Timestamp,
        /// Time the window closes.
        until: Timestamp,
    },
    /// Unused by its activation deadline; it can never be used.
    Lapsed,
    /// Past the end of its window.
    Expired {
        /// Time the window closed.
        until: Timestamp,
    },
    /// Revoked before the window closed.
    Revoked {
        /// Time of the revocation.
        at: Timestamp,
    },
}

impl GrantState {
    /// Returns a stable name for the log, tables and scripts.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Active { .. } => "active",
            Self::Lapsed => "lapsed",
            Self::Expired { .. } => "expired",
            Self::Revoked { .. } => "revoked",
        }
    }

    /// Returns true for the three final states, which no change leaves.
    #[must_use]
    pub fn ended(self) -> bool {
        matches!(self, Self::Lapsed | Self::Expired { .. } | Self::Revoked { .. })
    }
}

impl Grant {
    /// Returns the state of the grant at `now`.
    #[must_use]
    pub fn status(&self, now: Timestamp) -> GrantState {
        if let Some(revocation) = &self.revoked {
            return GrantState::Revoked { at: revocation.at };
        }
        match (self.activated_at, self.until) {
            (Some(from), Some(until)) if now < until => GrantState::Active { from, until },
            (_, Some(until)) => GrantState::Expired { until },
            _ if now < self.activate_by => GrantState::Ready,
            _ => GrantState::Lapsed,
        }
    }

    /// Returns the id, which is also the user name of a login.
    #[must_use]
    pub fn id(&self) -> &GrantId {
        &self.id
    }

    /// Returns the identity it is for.
    #[must_use]
    pub fn identity(&self) -> &IdentityName {
        &self.identity
    }

    /// Returns the target it opens.
    #[must_use]
    pub fn target(&self) -> &TargetName {
        &self.target
    }

    /// Returns the reason for the access.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// Returns the time it was made.
    #[must_use]
    pub fn created_at(&self) -> Timestamp {
        self.created_at
    }

    /// Returns the name of its creator.
    #[must_use]
    pub fn created_by(&self) -> &str {
        &self.created_by
    }

    /// Returns the time before which it has to be used first; at this time it lapses.
    #[must_use]
    pub fn activate_by(&self) -> Timestamp {
        self.activate_by
    }

    /// Returns the length of the window: as granted, or as it resulted once the window is open.
    #[must_use]
    pub fn window(&self) -> Duration {
        self.window
    }

    /// Returns the absolute deadline: no window ends after it.
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        self.deadline
    }

    /// Returns the maximum number of concurrent sessions.
    #[must_use]
    pub fn max_sessions(&self) -> u32 {
        self.max_sessions
    }

    /// Returns the network its clients have to connect from; `None`: any.
    #[must_use]
    pub fn client_network(&self) -> Option<IpNet> {
        self.client_network
    }

    /// Returns the time its window opened.
    #[must_use]
    pub fn activated_at(&self) -> Option<Timestamp> {
        self.activated_at
    }

    /// Returns the time its window closes; `None` until it is open.
    #[must_use]
    pub fn until(&self) -> Option<Timestamp> {
        self.until
    }

    /// Returns its revocation, if it was revoked.
    #[must_use]
    pub fn revoked(&self) -> Option<&Revocation> {
        self.revoked.as_ref()
    }

    /// Returns true if its owner gave it back.
    #[must_use]
    pub fn given_back(&self) -> bool {
        self.revoked
            .as_ref()
            .is_some_and(|revoked| revoked.by == self.identity.as_str() && revoked.reason.as_deref() == Some(GIVEN_BACK))
    }

    /// Returns [`GrantState::name`], or `released` for a grant that its owner gave back.
    #[must_use]
    pub fn standing(&self, now: Timestamp) -> &'static str {
        if self.given_back() {
            "released"
        } else {
            self.status(now).name()
        }
    }

    /// Returns the profile whose privileges it gives; `None` if it was made by hand without one.
    #[must_use]
    pub fn profile(&self) -> Option<&ProfileName> {
        self.profile.as_ref()
    }

    /// Returns the request it results from; `None` for a grant made by hand.
    #[must_use]
    pub fn request(&self) -> Option<&RequestId> {
        self.request.as_ref()
    }
}

#[cfg(test)]
mod tests;
