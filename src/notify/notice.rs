//! What there is to tell of a request. Pure.

use std::sync::Arc;

use jiff::Timestamp;

use crate::request::{How, Outcome, Request};

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventKind {
    /// Somebody has to approve it.
    RequestPending,
    /// A request that nobody enabled may approve.
    RequestWithoutApprover,
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
    /// A checkpoint of the audit log, to be kept elsewhere; only for those who name it.
    Checkpoint,
}

impl EventKind {
    /// All of them.
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

    /// Those a receiver is told of that names none: what happens to requests.
    pub fn usual() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|event| *event != Self::Checkpoint)
    }

    /// A stable name for settings and receivers.
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
    /// What the state of a request says, in order. A request that got one of several approvals is still the same pending one.
    /// That it is settled replaces that it was pending; that it was reviewed does not replace that somebody broke the glass, which
    /// whoever was not told of it yet still has to hear.
    pub fn of(request: &Arc<Request>) -> impl Iterator<Item = Self> + use<> {
        let settled = match &request.outcome {
            None => (EventKind::RequestPending, request.submitted_at),
            Some(Outcome::Denied { at, .. }) => (EventKind::RequestDenied, *at),
            Some(Outcome::Approved { at, how, .. }) => match how {
                How::BreakGlass => (EventKind::BreakGlass, *at),
                How::Automatic | How::People => (EventKind::RequestApproved, *at),
            },
            Some(Outcome::Rejected { at, .. }) => (EventKind::RequestRejected, *at),
            Some(Outcome::Withdrawn { at }) => (EventKind::RequestWithdrawn, *at),
        };
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
        let (event, at) = settled;
        std::iter::once(Self { event, at, request }).chain(reviewed)
    }

    /// The same for the same notice, whenever it is made.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{}.{}", self.request.id, self.event.name())
    }
}
