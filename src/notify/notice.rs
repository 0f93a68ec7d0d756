//! What there is to tell of a request. Pure.

use std::sync::Arc;

use jiff::Timestamp;

use crate::request::{How, Outcome, Request};

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventKind {
    /// Somebody has to approve it.
    RequestPending,
    /// It became a grant.
    RequestApproved,
    /// The policies forbade it.
    RequestDenied,
    /// An approver said no.
    RequestRejected,
    /// Whoever asked took it back.
    RequestWithdrawn,
    /// Somebody got in without approval; it has to be reviewed.
    BreakGlass,
    /// Somebody has looked at such an access.
    BreakGlassReviewed,
}

impl EventKind {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::RequestPending,
        Self::RequestApproved,
        Self::RequestDenied,
        Self::RequestRejected,
        Self::RequestWithdrawn,
        Self::BreakGlass,
        Self::BreakGlassReviewed,
    ];

    /// A stable name for settings and receivers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RequestPending => "request_pending",
            Self::RequestApproved => "request_approved",
            Self::RequestDenied => "request_denied",
            Self::RequestRejected => "request_rejected",
            Self::RequestWithdrawn => "request_withdrawn",
            Self::BreakGlass => "break_glass",
            Self::BreakGlassReviewed => "break_glass_reviewed",
        }
    }
}

/// Something to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// What happened.
    pub event: EventKind,
    /// When.
    pub at: Timestamp,
    /// To which request.
    pub request: Arc<Request>,
}

impl Notice {
    /// What the state of a request says. A request that got one of several approvals is still the same pending one.
    #[must_use]
    pub fn of(request: Arc<Request>) -> Self {
        let (event, at) = match (&request.outcome, &request.review) {
            (_, Some(review)) => (EventKind::BreakGlassReviewed, review.at),
            (None, None) => (EventKind::RequestPending, request.submitted_at),
            (Some(Outcome::Denied { at, .. }), None) => (EventKind::RequestDenied, *at),
            (Some(Outcome::Approved { at, how, .. }), None) => match how {
                How::BreakGlass => (EventKind::BreakGlass, *at),
                How::Automatic | How::People => (EventKind::RequestApproved, *at),
            },
            (Some(Outcome::Rejected { at, .. }), None) => (EventKind::RequestRejected, *at),
            (Some(Outcome::Withdrawn { at }), None) => (EventKind::RequestWithdrawn, *at),
        };
        Self { event, at, request }
    }

    /// The same for the same notice, whenever it is made.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{}.{}", self.request.id, self.event.name())
    }
}
