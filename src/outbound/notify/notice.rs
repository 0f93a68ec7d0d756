//! Notices that follow from the state of a request. Pure.

use std::sync::Arc;

use jiff::Timestamp;

use crate::model::request::{ApprovedBy, Request, RequestOutcome};

/// Kind of event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventKind {
    /// The request waits for approval.
    RequestPending,
    /// The request waits for approval, and no enabled user may approve it.
    RequestWithoutApprover,
    /// The request became a grant.
    RequestApproved,
    /// The policies denied the request.
    RequestDenied,
    /// An approver rejected the request.
    RequestRejected,
    /// The requester withdrew the request.
    RequestWithdrawn,
    /// The request was granted by break-glass, without approval; it has to be reviewed.
    BreakGlass,
    /// A break-glass access was reviewed.
    BreakGlassReviewed,
    /// A checkpoint of the audit log, to be kept elsewhere; sent only to receivers that subscribe to it by name.
    Checkpoint,
}

impl EventKind {
    /// All kinds of events.
    pub const ALL: [Self; 9] = [
        Self::RequestPending,
        Self::RequestWithoutApprover,
        Self::RequestApproved,
        Self::RequestDenied,
        Self::RequestRejected,
        Self::RequestWithdrawn,
        Self::BreakGlass,
        Self::BreakGlassReviewed,
        Self::Checkpoint,
    ];

    /// Returns the events of a receiver that names none: all that concern requests.
    pub fn usual() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|event| *event != Self::Checkpoint)
    }

    /// Returns the stable name for settings and receivers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RequestPending => "request_pending",
            Self::RequestWithoutApprover => "request_without_approver",
            Self::RequestApproved => "request_approved",
            Self::RequestDenied => "request_denied",
            Self::RequestRejected => "request_rejected",
            Self::RequestWithdrawn => "request_withdrawn",
            Self::BreakGlass => "break_glass",
            Self::BreakGlassReviewed => "break_glass_reviewed",
            Self::Checkpoint => "checkpoint",
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
        format!("{}.{}", self.request.id, self.event.name())
    }
}
