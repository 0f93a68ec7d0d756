//! Puts a grant's changes on record.
//!
//! It does not know why a change was made; in tests it can be told to fail, as a full disk would make it.

use crate::audit::event::{Event, GrantChanged};
use crate::audit::{AuditError, Journal};
use crate::grant::Grant;
use std::borrow::Cow;

/// Where the records go.
pub(super) enum Recorder {
    /// The audit log.
    Journal(Journal),
    /// A list that can be told to fail.
    #[cfg(test)]
    Scripted(std::sync::Arc<super::tests::Script>),
}

/// Who changed a grant, how and why.
#[derive(Debug, Clone)]
pub(super) struct Deed {
    /// `created`, `activated`, `extended`, `shortened`, `revoked`, or `not_stored` when the record before it came to nothing.
    pub(super) change: &'static str,
    pub(super) by: String,
    pub(super) reason: Option<String>,
}

impl Recorder {
    /// Records that `grant` has become what it is by `deed`. When this returns well, the record is as durable as records are.
    pub(super) async fn record(&self, grant: &Grant, deed: &Deed) -> Result<(), AuditError> {
        let changed = GrantChanged {
            grant: grant.id().clone(),
            identity: grant.identity().clone(),
            target: grant.target().clone(),
            change: deed.change.to_owned(),
            by: deed.by.clone(),
            reason: deed.reason.clone(),
            activate_by: grant.activate_by(),
            until: grant.until(),
            window_seconds: grant.window().as_secs(),
        };
        match self {
            Self::Journal(journal) => journal.record(&Event::GrantChanged(Cow::Owned(changed))).await,
            #[cfg(test)]
            Self::Scripted(script) => script.record(&changed),
        }
    }
}
