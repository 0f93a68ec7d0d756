//! Notices that follow from the state of a grant and the time. Pure.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::EventKind;
use crate::model::ending::OFFERED_EXTENSION;
use crate::model::grant::{Grant, GrantChange, GrantState, Revocation, apply};

/// Time before the end of a window at which its end is told.
const ENDING_LEAD_TIME: Duration = Duration::from_mins(5);
/// Minimum length of a window whose end is told beforehand: of a shorter one the notice would come while it is still young.
const MIN_TOLD_WINDOW_LENGTH: Duration = Duration::from_mins(10);

/// Event of a grant, to be sent to receivers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantNotice {
    /// Grant that the event concerns.
    pub grant: Arc<Grant>,
    /// Event.
    pub event: GrantEvent,
}

/// Event of a grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GrantEvent {
    /// The window ends soon.
    Ending {
        /// End of the window.
        until: Timestamp,
    },
    /// The window is over.
    Over {
        /// End of the window.
        until: Timestamp,
    },
    /// The holder gave the grant back.
    GivenBack {
        /// Time of the return.
        at: Timestamp,
    },
    /// The grant was revoked.
    Revoked(Revocation),
}

impl GrantNotice {
    /// Returns the notice that follows from the state of a grant at `now`, if one does. A grant that lapses unused has none, and a
    /// revocation after the end none of its own: it only keeps the grant ended when the clock is set back.
    #[must_use]
    pub fn of(grant: &Arc<Grant>, now: Timestamp) -> Option<Self> {
        let event = match grant.status(now) {
            GrantState::Active { from, until } if ending_at(from, until).is_some_and(|at| at <= now) => {
                GrantEvent::Ending { until }
            }
            GrantState::Expired { until } => GrantEvent::Over { until },
            GrantState::Revoked { at } if at >= grant.until().unwrap_or(grant.activate_by()) => return None,
            GrantState::Revoked { at } if grant.given_back() => GrantEvent::GivenBack { at },
            GrantState::Revoked { .. } => GrantEvent::Revoked(grant.revoked()?.clone()),
            GrantState::Active { .. } | GrantState::Ready | GrantState::Lapsed => return None,
        };
        Some(Self {
            grant: Arc::clone(grant),
            event,
        })
    }

    /// Returns the time at which a grant has its next notice, if it is not changed before.
    #[must_use]
    pub fn next_at(grant: &Grant, now: Timestamp) -> Option<Timestamp> {
        match grant.status(now) {
            GrantState::Active { from, until } => Some(ending_at(from, until).filter(|at| *at > now).unwrap_or(until)),
            _ => None,
        }
    }

    /// Returns the kind of the event.
    #[must_use]
    pub fn kind(&self) -> EventKind {
        match self.event {
            GrantEvent::Ending { .. } => EventKind::GrantEnding,
            GrantEvent::Over { .. } | GrantEvent::GivenBack { .. } => EventKind::GrantEnded,
            GrantEvent::Revoked(_) => EventKind::GrantRevoked,
        }
    }

    /// Returns the time of the event; of an end to come, the time at which it is told.
    #[must_use]
    pub fn at(&self) -> Timestamp {
        match &self.event {
            GrantEvent::Ending { until } => until.checked_sub(ENDING_LEAD_TIME).unwrap_or(Timestamp::MIN),
            GrantEvent::Over { until } => *until,
            GrantEvent::GivenBack { at } => *at,
            GrantEvent::Revoked(revocation) => revocation.at,
        }
    }

    /// Returns an id that is the same each time the same notice is made. A window that was moved has another end to be told.
    #[must_use]
    pub fn id(&self) -> String {
        let (grant, kind) = (self.grant.id(), self.kind());
        match &self.event {
            GrantEvent::Ending { until } | GrantEvent::Over { until } => format!("{grant}.{kind}.{}", until.as_millisecond()),
            GrantEvent::GivenBack { .. } | GrantEvent::Revoked(_) => format!("{grant}.{kind}"),
        }
    }

    /// Returns true if the holder did this.
    pub(super) fn is_by_holder(&self) -> bool {
        match &self.event {
            GrantEvent::Ending { .. } | GrantEvent::Over { .. } => false,
            GrantEvent::GivenBack { .. } => true,
            GrantEvent::Revoked(revocation) => revocation.by == self.grant.identity().as_str(),
        }
    }

    /// Returns true if this is about an end that the holder may still ask to move. The policies decide when they ask.
    pub(super) fn may_be_extended(&self) -> bool {
        let extend = GrantChange::Extend(OFFERED_EXTENSION);
        matches!(self.event, GrantEvent::Ending { .. })
            && self.grant.request().is_some()
            && apply(&self.grant, &extend, self.at()).is_ok()
    }
}

/// Returns the time at which the end of a window is told beforehand, if it is.
fn ending_at(from: Timestamp, until: Timestamp) -> Option<Timestamp> {
    let length = Duration::try_from(until.duration_since(from)).ok()?;
    let told = length >= MIN_TOLD_WINDOW_LENGTH;
    told.then(|| until.checked_sub(ENDING_LEAD_TIME).unwrap_or(Timestamp::MIN))
}
