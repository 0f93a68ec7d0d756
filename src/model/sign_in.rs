//! Sign-ins: the gate's own sessions of people, at the console or the command line, in place of a token sent with each call.
//!
//! They hold no secret. The ledger keeps them, and the rights of their identity are asked for at each use.
//!
//! INVARIANT: a sign-in that has ended, or whose time is over, is good for nothing, whatever the settings are later.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::ids::SignInId;
use super::names::{GroupName, IdentityName, vocabulary};

/// Longest life of the code that signs a device in at a provider (RFC 8628), whatever the provider says.
pub const MAX_DEVICE_CODE_LIFE: Duration = Duration::from_hours(1);

vocabulary! {
    /// Place where a person signed in.
    pub enum SignInVia {
        /// Web console.
        Console = "console",
        /// Command line.
        Cli = "cli",
    }
}

/// Sign-in of one identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignIn {
    /// Id.
    pub id: SignInId,
    /// Identity that was proved.
    pub identity: IdentityName,
    /// Groups as they were proved.
    pub groups: BTreeSet<GroupName>,
    /// Claims as they were proved.
    pub claims: BTreeMap<String, String>,
    /// Issuer that vouched for the identity; `None`: a local user.
    pub issuer: Option<String>,
    /// Place of the sign-in.
    pub via: SignInVia,
    /// Address of the client; `None` if it was not on a network.
    pub client: Option<IpAddr>,
    /// Time of the sign-in.
    pub created_at: Timestamp,
    /// Time of the last use.
    pub last_used_at: Timestamp,
    /// Latest end.
    pub expires_at: Timestamp,
    /// End before that time, if there was one.
    pub ended: Option<SignInEnd>,
}

/// End of a sign-in by a person or the gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignInEnd {
    /// Time of the end.
    pub at: Timestamp,
    /// Author of the end.
    pub by: String,
    /// Reason.
    pub reason: String,
}

/// Limits on sign-ins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignInLimits {
    /// Longest life.
    pub longest: Duration,
    /// Longest time between two uses.
    pub idle: Duration,
    /// True if a sign-in at the console is good for the address only that it was made from.
    pub bind_address: bool,
}

impl Default for SignInLimits {
    fn default() -> Self {
        Self {
            longest: Duration::from_hours(12),
            idle: Duration::from_hours(1),
            bind_address: false,
        }
    }
}

/// Reason why a sign-in is not good for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignInRefusal {
    /// It is not known, or no longer.
    #[error("the sign-in is unknown, or has ended")]
    Unknown,
    /// Its time is over.
    #[error("the sign-in has reached its longest life (console.max_sign_in)")]
    Expired,
    /// It was not used for too long.
    #[error("the sign-in was not used for longer than console.idle_timeout")]
    Idle,
    /// It is used from another address than it was made from.
    #[error("the sign-in was made from another address (console.bind_address)")]
    OtherAddress,
    /// Its identity is disabled, or was replaced by another.
    #[error("the identity of the sign-in is disabled, or the token it was made with is no longer valid")]
    Identity,
}

impl SignIn {
    /// Returns the latest end under these limits.
    #[must_use]
    pub fn until(&self, limits: &SignInLimits) -> Timestamp {
        self.expires_at.min(after(self.created_at, limits.longest))
    }

    /// Returns the end if it is not used again.
    #[must_use]
    pub fn idle_until(&self, limits: &SignInLimits) -> Timestamp {
        after(self.last_used_at, limits.idle)
    }

    /// Checks that the sign-in is good for a call from `client` at `now`.
    pub fn check(&self, now: Timestamp, client: Option<IpAddr>, limits: &SignInLimits) -> Result<(), SignInRefusal> {
        if self.ended.is_some() {
            return Err(SignInRefusal::Unknown);
        }
        if now >= self.until(limits) {
            return Err(SignInRefusal::Expired);
        }
        if now >= self.idle_until(limits) {
            return Err(SignInRefusal::Idle);
        }
        let canonical = |client: Option<IpAddr>| client.map(|client| client.to_canonical());
        let bound = limits.bind_address && self.via == SignInVia::Console;
        if bound && canonical(client) != canonical(self.client) {
            return Err(SignInRefusal::OtherAddress);
        }
        Ok(())
    }
}

fn after(time: Timestamp, by: Duration) -> Timestamp {
    let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
    time.checked_add(by).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn sign_in() -> SignIn {
        SignIn {
            id: SignInId::from_random([7; 10]),
            identity: "ana".parse().unwrap(),
            groups: BTreeSet::new(),
            claims: BTreeMap::new(),
            issuer: None,
            via: SignInVia::Console,
            client: Some("10.0.0.7".parse().unwrap()),
            created_at: at(0),
            last_used_at: at(0),
            expires_at: at(43_200),
            ended: None,
        }
    }

    #[test]
    fn it_ends_by_time_by_silence_and_for_good() {
        let limits = SignInLimits::default();
        let client = Some("::ffff:10.0.0.7".parse().unwrap());
        let mut used = sign_in();
        assert_eq!(used.check(at(3_599), client, &limits), Ok(()));
        assert_eq!(used.check(at(3_600), client, &limits), Err(SignInRefusal::Idle));
        used.last_used_at = at(43_100);
        assert_eq!(used.check(at(43_199), client, &limits), Ok(()));
        assert_eq!(used.check(at(43_200), client, &limits), Err(SignInRefusal::Expired));
        // A reload to a shorter life counts for those that are there; a longer one does not.
        let (shorter, longer) = (Duration::from_mins(1), Duration::from_hours(100));
        let with = |longest| SignInLimits { longest, ..limits };
        assert_eq!(used.check(at(43_150), client, &with(shorter)), Err(SignInRefusal::Expired));
        assert_eq!(used.check(at(43_200), client, &with(longer)), Err(SignInRefusal::Expired));
        used.ended = Some(SignInEnd {
            at: at(1),
            by: "ana".to_owned(),
            reason: "signed out".to_owned(),
        });
        assert_eq!(used.check(at(2), client, &limits), Err(SignInRefusal::Unknown));
    }

    #[test]
    fn an_address_counts_only_where_it_is_to_count() {
        let bound = SignInLimits {
            bind_address: true,
            ..SignInLimits::default()
        };
        let elsewhere = Some("10.0.0.8".parse().unwrap());
        let mut used = sign_in();
        assert_eq!(used.check(at(1), elsewhere, &SignInLimits::default()), Ok(()));
        for client in [elsewhere, None] {
            assert_eq!(used.check(at(1), client, &bound), Err(SignInRefusal::OtherAddress));
        }
        assert_eq!(used.check(at(1), used.client, &bound), Ok(()));
        // A laptop moves from network to network.
        used.via = SignInVia::Cli;
        assert_eq!(used.check(at(1), elsewhere, &bound), Ok(()));
    }
}
