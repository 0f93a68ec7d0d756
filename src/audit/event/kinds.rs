//! Closed vocabularies of the events' fields. The names are those in the log file.
//!
//! A record holds them as [`EnumOrUnknown`](crate::model::names::EnumOrUnknown), so that a log of a later version can be read.

use std::fmt;

use crate::model::ending::EndingKind;
use crate::model::names::{Vocabulary, vocabulary};

vocabulary! {
    /// Kind of change of a grant.
    pub enum GrantChangeKind {
        /// It was created.
        Created = "created",
        /// Its window was opened.
        Activated = "activated",
        /// It waits in line, and has more time for its first connect.
        Postponed = "postponed",
        /// Its end was moved to a later time.
        Extended = "extended",
        /// Its end was moved to an earlier time.
        Shortened = "shortened",
        /// It was revoked.
        Revoked = "revoked",
        /// A further login was issued.
        LoginIssued = "login_issued",
        /// The change in the record before it did not take place.
        NotStored = "not_stored",
    }
}

vocabulary! {
    /// Step of a request.
    pub enum RequestChangeKind {
        /// The policies denied it.
        Denied = "denied",
        /// It waits for approval.
        Submitted = "submitted",
        /// It was granted at once.
        Granted = "granted",
        /// One approver approved it.
        Approved = "approved",
        /// An approver rejected it.
        Rejected = "rejected",
        /// The requester withdrew it.
        Withdrawn = "withdrawn",
        /// Its break-glass access was reviewed.
        Reviewed = "reviewed",
        /// The step in the record before it did not take place.
        NotStored = "not_stored",
    }
}

vocabulary! {
    /// Kind of change of a grant's role at its target.
    pub enum RoleChangeKind {
        /// It is about to be created: recorded before, so that there is no role without a record.
        Made = "made",
        /// Its creation failed after that record.
        NotMade = "not_made",
        /// Its logins end at another time.
        Extended = "extended",
        /// It was dropped.
        Retired = "retired",
        /// It has no login any more but still exists; dropping is retried.
        Left = "left",
        /// A login with it past the gate was ended.
        IntruderEnded = "intruder_ended",
        /// Privileges on objects of the profile that its sessions granted to others were revoked; the detail has the statements.
        Undone = "undone",
    }
}

vocabulary! {
    /// Kind of change of a grant's own database.
    pub enum CopyChangeKind {
        /// It is about to be created: recorded before, so that there is no database without a record.
        Made = "made",
        /// Its creation is complete, and sessions may begin in it.
        Ready = "ready",
        /// Its creation failed after the first record; what there was of it was dropped.
        NotMade = "not_made",
        /// It was dropped.
        Dropped = "dropped",
    }
}

vocabulary! {
    /// Kind of step of a grant in the line of its target.
    pub enum LineChangeKind {
        /// It came while the target was in use, and waits.
        Waits = "waits",
        /// It uses the target from now on.
        Took = "took",
        /// It left without its turn: its clients have gone, or it has ended.
        Left = "left",
    }
}

vocabulary! {
    /// Kind of change of a local user.
    pub enum UserChangeKind {
        /// It was created.
        Added = "added",
        /// The old token is invalid.
        TokenWithdrawn = "token_withdrawn",
        /// There is a new token.
        Rotated = "rotated",
        /// Its groups changed.
        Regrouped = "regrouped",
        /// It was disabled.
        Disabled = "disabled",
        /// It was enabled again.
        Enabled = "enabled",
        /// The change in the record before it did not take place.
        NotStored = "not_stored",
    }
}

vocabulary! {
    /// Kind of change of a sign-in.
    pub enum SignInChangeKind {
        /// It began.
        SignedIn = "signed_in",
        /// The person ended it.
        SignedOut = "signed_out",
        /// An operator or the gate ended it.
        Ended = "ended",
        /// The change in the record before it did not take place.
        NotStored = "not_stored",
    }
}

vocabulary! {
    /// TLS version of a connection, named as in `pg_stat_ssl`.
    pub enum TlsVersion {
        /// No TLS.
        None = "none",
        /// TLS 1.2.
        Tls12 = "TLSv1.2",
        /// TLS 1.3.
        Tls13 = "TLSv1.3",
    }
}

/// Kind of refusals that are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RefusalKind {
    /// Refusals of connections or requests for this reason.
    Ending(EndingKind),
    /// Failed authentications at the API.
    IdentityRefused,
    /// CancelRequests with a key that fits no session.
    CancelRequested,
}

impl Vocabulary for RefusalKind {
    fn name(self) -> &'static str {
        match self {
            Self::Ending(ending) => ending.as_str(),
            Self::IdentityRefused => "identity_refused",
            Self::CancelRequested => "cancel_requested",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        match name {
            "identity_refused" => Some(Self::IdentityRefused),
            "cancel_requested" => Some(Self::CancelRequested),
            ending => EndingKind::from_name(ending).map(Self::Ending),
        }
    }
}

impl GrantChangeKind {
    /// Returns the change that a record of [`Self::NotStored`] takes back, from its reason.
    #[must_use]
    pub fn taken_back(reason: &str) -> Option<Self> {
        let mut all = Self::ALL.iter().copied();
        all.find(|change| reason.contains(&quoted(change)))
    }
}

/// Returns the reason of a record that takes back a change which was not stored.
#[must_use]
pub fn not_stored_reason(change: impl fmt::Display) -> String {
    format!("the grant store failed; {} did not take place", quoted(&change))
}

fn quoted(change: &impl fmt::Display) -> String {
    format!("`{change}`")
}
