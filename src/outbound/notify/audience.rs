//! People that a receiver belongs to, and what they are told. Pure.
//!
//! INVARIANT: the receiver of a person gets only what concerns that person, and nothing that they did themselves, except
//! break-glass: they notice by it that somebody uses their name.

use jiff::Timestamp;

use super::{EventKind, GrantNotice, RequestNotice};
use crate::model::names::IdentityName;
use crate::model::request::{ApprovedBy, RequestOutcome};

/// Event of a request or a grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// Event of a request.
    Request(RequestNotice),
    /// Event of a grant.
    Grant(GrantNotice),
}

/// People that a receiver belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audience {
    /// A channel or a program: it is told of all requests and grants.
    Everybody,
    /// One person: only what concerns them.
    Person(IdentityName),
}

impl Audience {
    /// Returns the person, if it is one.
    pub(super) fn person(&self) -> Option<&str> {
        match self {
            Self::Everybody => None,
            Self::Person(person) => Some(person.as_str()),
        }
    }

    /// Returns true if a notice is for this audience.
    pub(super) fn is_told(&self, notice: &Notice) -> bool {
        match self {
            Self::Everybody => true,
            Self::Person(person) => notice.owner() == person && notice.kind().is_personal() && !notice.is_known_to_owner(),
        }
    }
}

impl Notice {
    /// Returns the kind of the event.
    #[must_use]
    pub fn kind(&self) -> EventKind {
        match self {
            Self::Request(notice) => notice.event,
            Self::Grant(notice) => notice.kind(),
        }
    }

    /// Returns an id that is the same each time the same notice is made.
    #[must_use]
    pub fn id(&self) -> String {
        match self {
            Self::Request(notice) => notice.id(),
            Self::Grant(notice) => notice.id(),
        }
    }

    /// Returns the time of the event.
    #[must_use]
    pub fn at(&self) -> Timestamp {
        match self {
            Self::Request(notice) => notice.at,
            Self::Grant(notice) => notice.at(),
        }
    }

    fn owner(&self) -> &IdentityName {
        match self {
            Self::Request(notice) => &notice.request.wish.identity,
            Self::Grant(notice) => notice.grant.identity(),
        }
    }

    /// Returns true if the requester or holder did this, or their client goes on with it at once.
    fn is_known_to_owner(&self) -> bool {
        match self {
            Self::Request(notice) => match &notice.request.outcome {
                Some(RequestOutcome::Approved { how, .. }) => *how == ApprovedBy::Automatic,
                Some(RequestOutcome::Rejected { by, .. }) => *by == notice.request.wish.identity,
                _ => false,
            },
            Self::Grant(notice) => notice.is_by_holder(),
        }
    }
}

impl From<RequestNotice> for Notice {
    fn from(notice: RequestNotice) -> Self {
        Self::Request(notice)
    }
}

impl From<GrantNotice> for Notice {
    fn from(notice: GrantNotice) -> Self {
        Self::Grant(notice)
    }
}
