//! Measures how long decisions on requests take.
//!
//! It changes nothing. Requests that lapse are not counted, since a lapse is no event.

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::base::supervision::restarted;
use crate::gate::metrics::Metrics;
use crate::gate::session::SharedState;
use crate::ledger::ChangedSubject;
use crate::model::request::{ApprovedBy, Request, RequestOutcome};

/// Counts decisions for as long as the gate runs.
pub(super) fn counting(shared: &SharedState) -> impl Future<Output = ()> + use<> {
    let (ledger, metrics) = (shared.ledger.clone(), shared.metrics.clone());
    restarted("counting decisions", move || count(ledger.changes(), metrics.clone()))
}

async fn count(mut changes: broadcast::Receiver<ChangedSubject>, metrics: Metrics) {
    loop {
        match changes.recv().await {
            Ok(ChangedSubject::Request(request)) => {
                if let Some((outcome, after)) = decision(&request) {
                    metrics.request_settled(outcome, after);
                }
            }
            // Missed changes are not counted.
            Ok(ChangedSubject::Grant(_)) | Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
}

/// Returns the name of the outcome and the time it took. A request that is already under review was decided earlier and is
/// skipped.
fn decision(request: &Request) -> Option<(&'static str, std::time::Duration)> {
    let outcome = request.outcome.as_ref().filter(|_| request.review.is_none())?;
    let name = match outcome {
        RequestOutcome::Approved {
            how: ApprovedBy::Automatic,
            ..
        } => "automatic",
        RequestOutcome::Approved {
            how: ApprovedBy::BreakGlass,
            ..
        } => "break_glass",
        other => other.status().name(),
    };
    let after = outcome.at().duration_since(request.submitted_at);
    Some((name, after.try_into().unwrap_or_default()))
}
