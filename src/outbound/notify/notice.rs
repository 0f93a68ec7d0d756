//! Notices that follow from the state of a request. Pure.

use std::sync::Arc;

use jiff::Timestamp;

use crate::model::names::vocabulary;
use crate::model::request::{ApprovedBy, Request, RequestOutcome};

vocabulary! {
    /// Kind of event.
    pub enum EventKind {
        /// The request waits for approval.
        RequestPending = "request_pending",
        /// The request waits for approval, and no enabled user may approve it.
        RequestWithoutApprover = "request_without_approver",
        /// The request became a grant.
        RequestApproved = "request_approved",
        /// The policies denied the request.
        RequestDenied = "request_denied",
        /// An approver rejected the request.
        RequestRejected = "request_rejected",
        /// The requester withdrew the request.
        RequestWithdrawn = "request_withdrawn",
        /// The request was granted by break-glass, without approval; it has to be reviewed.
        BreakGlass = "break_glass",
        /// A break-glass access was reviewed.
        BreakGlassReviewed = "break_glass_reviewed",
        /// The window of the grant ends in five minutes; sent only to persons, and to receivers that subscribe to it by name.
        GrantEnding = "grant_ending",
        /// The window of the grant is over, or its holder gave it back; sent like [`Self::GrantEnding`].
        GrantEnded = "grant_ended",
        /// The grant was revoked; sent like [`Self::GrantEnding`].
        GrantRevoked = "grant_revoked",
        /// A checkpoint of the audit log, to be kept elsewhere; sent only to receivers that subscribe to it by name.
        Checkpoint = "checkpoint",
    }
}

impl EventKind {
    /// Returns the events of a receiver that names none: all that concern requests.
    pub fn usual() -> impl Iterator<Item = Self> {
        let by_name = [Self::GrantEnding, Self::GrantEnded, Self::GrantRevoked, Self::Checkpoint];
        Self::ALL.iter().copied().filter(move |event| !by_name.contains(event))
    }

    /// Returns the events that a person can be told of: those that others, or time, bring about.
    pub fn personal() -> impl Iterator<Item = Self> {
        Self::ALL.iter().copied().filter(|event| event.is_personal())
    }

    /// Returns true for [`Self::personal`] events.
    #[must_use]
    pub fn is_personal(self) -> bool {
        match self {
            Self::RequestApproved
            | Self::RequestDenied
            | Self::RequestRejected
            | Self::BreakGlass
            | Self::BreakGlassReviewed
            | Self::GrantEnding
            | Self::GrantEnded
            | Self::GrantRevoked => true,
            Self::RequestPending | Self::RequestWithoutApprover | Self::RequestWithdrawn | Self::Checkpoint => false,
        }
    }
}

/// Event of a request, to be sent to receivers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestNotice {
    /// Kind of event.
    pub event: EventKind,
    /// Time of the event.
    pub at: Timestamp,
    /// Request that the event concerns.
    pub request: Arc<Request>,
}

impl RequestNotice {
    /// Returns the notices that follow from the state of a request, in order. A request that got one of several approvals is
    /// still the same pending one. An outcome replaces the notice that the request is pending; a review does not replace the
    /// notice of the break-glass access, which a receiver may not have got yet.
    pub fn of(request: &Arc<Request>) -> impl Iterator<Item = Self> + use<> {
        let event = match &request.outcome {
            None => EventKind::RequestPending,
            Some(RequestOutcome::Denied { .. }) => EventKind::RequestDenied,
            Some(RequestOutcome::Approved {
                how: ApprovedBy::BreakGlass,
                ..
            }) => EventKind::BreakGlass,
            Some(RequestOutcome::Approved { .. }) => EventKind::RequestApproved,
            Some(RequestOutcome::Rejected { .. }) => EventKind::RequestRejected,
            Some(RequestOutcome::Withdrawn { .. }) => EventKind::RequestWithdrawn,
        };
        let at = request.outcome.as_ref().map_or(request.submitted_at, RequestOutcome::at);
        let reviewed = request.review.as_ref().map(|review| Self {
            event: EventKind::BreakGlassReviewed,
            at: review.at,
            request: Arc::clone(request),
        });
        let request = match reviewed {
            None => Arc::clone(request),
            Some(_) => Arc::new(Request {
                review: None,
                ..Request::clone(request)
            }),
        };
        std::iter::once(Self { event, at, request }).chain(reviewed)
    }

    /// Returns an id that is the same each time the same notice is made.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{}.{}", self.request.id, self.event)
    }
}
