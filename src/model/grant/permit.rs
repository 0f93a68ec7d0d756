//! Check that a grant covers a session: the one rule, applied at login and again on every change.
//!
//! It does not activate a grant and does not count sessions; both come as arguments.

use std::net::IpAddr;

use jiff::Timestamp;

use super::{Grant, GrantState};
use crate::model::ending::{Ending, LimitScope};
use crate::model::ids::GrantId;
use crate::model::names::{IdentityName, ProfileName, TargetName};

/// Proof that a grant covers one session, up to [`Permit::until`]. Only [`permit()`] and [`Permit::renew`] make one, so a
/// function that takes a `&Permit` cannot run without the check.
#[derive(Debug, PartialEq, Eq)]
pub struct Permit {
    grant: GrantId,
    identity: IdentityName,
    target: TargetName,
    until: Timestamp,
    client: IpAddr,
    requested: bool,
}

/// Facts about a client that has proved the secret of a grant.
#[derive(Debug, Clone, Copy)]
pub struct PermitQuery<'a> {
    /// Gate time.
    pub now: Timestamp,
    /// Database it named, if it named one: `target` or `target/profile`.
    pub database: Option<&'a str>,
    /// Address of the client.
    pub client: IpAddr,
    /// Number of live sessions of the grant, without this one.
    pub live_sessions: u32,
}

/// Reason why a grant does not cover a session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PermitError {
    /// The window is not open: the grant has to be activated first.
    #[error("the grant is not activated")]
    NotActivated,
    /// The grant was not used in time.
    #[error("the grant lapsed at {activate_by}")]
    Lapsed {
        /// Time before which it had to be used.
        activate_by: Timestamp,
    },
    /// The window has closed.
    #[error("the grant expired at {until}")]
    Expired {
        /// Time the window closed.
        until: Timestamp,
    },
    /// The grant was revoked.
    #[error("the grant was revoked at {at}")]
    Revoked {
        /// Time of the revocation.
        at: Timestamp,
    },
    /// The grant is for another target.
    #[error("the grant is not for database {asked:?}")]
    WrongDatabase {
        /// Database asked for.
        asked: String,
    },
    /// The grant is for another profile.
    #[error("the grant is not for profile {asked:?}")]
    WrongProfile {
        /// Profile asked for.
        asked: String,
    },
    /// The client is outside the grant's network.
    #[error("the grant is not valid from {client}")]
    Address {
        /// Address of the client.
        client: IpAddr,
    },
    /// The grant has its maximum number of live sessions already.
    #[error("the grant allows {limit} concurrent sessions")]
    TooMany {
        /// Maximum number of concurrent sessions.
        limit: u32,
    },
}

/// Decides at login. The grant has to be active: the ledger activates it (tentatively) before it asks.
pub fn permit(grant: &Grant, question: &PermitQuery<'_>) -> Result<Permit, PermitError> {
    let until = covered(grant, question.client, question.now)?;
    if let Some(asked) = question.database {
        fits(grant, asked)?;
    }
    if question.live_sessions >= grant.max_sessions {
        return Err(PermitError::TooMany {
            limit: grant.max_sessions,
        });
    }
    Ok(Permit {
        grant: grant.id.clone(),
        identity: grant.identity.clone(),
        target: grant.target.clone(),
        until,
        client: question.client,
        requested: grant.request.is_some(),
    })
}

/// Checks that the grant is for the database asked for: `target`, or `target/profile`.
fn fits(grant: &Grant, asked: &str) -> Result<(), PermitError> {
    let (target, profile) = match asked.split_once('/') {
        Some((target, profile)) => (target, Some(profile)),
        None => (asked, None),
    };
    // libpq takes the user name as the database name when none is given, and the user name is a login of the grant.
    if target != grant.target.as_str() && GrantId::of_login(target).as_ref() != Some(&grant.id) {
        return Err(PermitError::WrongDatabase { asked: asked.to_owned() });
    }
    match profile {
        Some(profile) if grant.profile.as_ref().map(ProfileName::as_str) != Some(profile) => Err(PermitError::WrongProfile {
            asked: profile.to_owned(),
        }),
        _ => Ok(()),
    }
}

impl Permit {
    /// Decides again, after the grant has changed or time has passed. `grant` is the present state of the permit's grant.
    pub fn renew(&self, grant: &Grant, now: Timestamp) -> Result<Self, PermitError> {
        // The identity and the target of a grant never change, so a mismatch means another grant.
        if grant.id != self.grant || grant.target != self.target || grant.identity != self.identity {
            return Err(PermitError::NotActivated);
        }
        let until = covered(grant, self.client, now)?;
        Ok(Self {
            grant: self.grant.clone(),
            identity: self.identity.clone(),
            target: self.target.clone(),
            until,
            client: self.client,
            requested: self.requested,
        })
    }

    /// Returns the grant that covers the session.
    #[must_use]
    pub fn grant(&self) -> &GrantId {
        &self.grant
    }

    /// Returns true if the grant results from a request, so that its owner can ask for more time.
    #[must_use]
    pub fn requested(&self) -> bool {
        self.requested
    }

    /// Returns the identity whose session this is.
    #[must_use]
    pub fn identity(&self) -> &IdentityName {
        &self.identity
    }

    /// Returns the target of the session.
    #[must_use]
    pub fn target(&self) -> &TargetName {
        &self.target
    }

    /// Returns the present deadline: the session ends at this time.
    #[must_use]
    pub fn until(&self) -> Timestamp {
        self.until
    }

    /// Returns the address of the client it was given to.
    #[must_use]
    pub fn client(&self) -> IpAddr {
        self.client
    }
}

impl PermitError {
    /// Returns the ending for a client that is not logged in yet.
    #[must_use]
    pub fn at_login(self, grant: &Grant) -> Ending {
        let id = grant.id.clone();
        match self {
            // The ledger activates before it asks, so this is a fault of the gate, and a fault must not admit a client.
            Self::NotActivated => Ending::LedgerFailed,
            Self::Lapsed { activate_by } => Ending::Lapsed { grant: id, activate_by },
            Self::Expired { until } => Ending::LoginExpired { grant: id, until },
            Self::Revoked { at } if grant.given_back() => Ending::LoginExpired { grant: id, until: at },
            Self::Revoked { at } => Ending::LoginRevoked { grant: id, at },
            Self::WrongDatabase { asked } => Ending::WrongDatabase {
                grant: id,
                target: grant.target.clone(),
                asked,
            },
            Self::WrongProfile { asked } => Ending::WrongProfile {
                grant: id,
                target: grant.target.clone(),
                profile: grant.profile.clone(),
                asked,
            },
            Self::Address { .. } => Ending::AddressRefused { grant: id },
            Self::TooMany { limit } => Ending::TooMany {
                scope: LimitScope::Grant(id),
                limit,
            },
        }
    }

    /// Returns the ending for a client whose session it ends.
    #[must_use]
    pub fn in_session(self, grant: &Grant) -> Ending {
        match self {
            Self::Expired { until } => Ending::Expired {
                grant: grant.id.clone(),
                until,
                requested: grant.request.is_some(),
            },
            Self::Revoked { at } if grant.given_back() => Ending::Released {
                grant: grant.id.clone(),
                at,
            },
            Self::Revoked { at } => Ending::Revoked {
                grant: grant.id.clone(),
                at,
                by: grant.revoked.as_ref().map(|revocation| revocation.by.clone()),
                reason: grant.revoked.as_ref().and_then(|revocation| revocation.reason.clone()),
            },
            other => other.at_login(grant),
        }
    }
}

/// Checks what login and every change have in common: the window is open, and the client is in the grant's network. Returns the
/// end of the window.
fn covered(grant: &Grant, client: IpAddr, now: Timestamp) -> Result<Timestamp, PermitError> {
    let until = match grant.status(now) {
        GrantState::Active { until, .. } => until,
        GrantState::Ready => return Err(PermitError::NotActivated),
        GrantState::Lapsed => {
            return Err(PermitError::Lapsed {
                activate_by: grant.activate_by,
            });
        }
        GrantState::Expired { until } => return Err(PermitError::Expired { until }),
        GrantState::Revoked { at } => return Err(PermitError::Revoked { at }),
    };
    // A dual-stack listener shows IPv4 clients as ::ffff:a.b.c.d (RFC 4291, section 2.5.5.2).
    let client = client.to_canonical();
    match grant.client_network {
        Some(network) if !network.contains(&client) => Err(PermitError::Address { client }),
        _ => Ok(until),
    }
}
