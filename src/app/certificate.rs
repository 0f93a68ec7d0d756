//! Renews the certificate that the gate made itself, before it ends. One from the operator's files is the operator's to renew.
//!
//! It changes no connection that is open.

use std::time::Duration;

use crate::causes::in_one_line;
use crate::clock::Clock;
use crate::supervision::restarted;
use crate::tls::ServerTlsCell;

/// The time between two looks.
const INTERVAL: Duration = Duration::from_hours(6);

/// Looks for as long as the gate runs.
pub(super) fn renewing(certificate: ServerTlsCell, clock: Clock) -> impl Future<Output = ()> {
    restarted("renewing the certificate", move || renew(certificate.clone(), clock.clone()))
}

async fn renew(certificate: ServerTlsCell, clock: Clock) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        match certificate.current().renewed(clock.now()) {
            Ok(None) => {}
            Ok(Some(next)) => {
                tracing::info!(expires_at = ?next.expires_at(), "the certificate was renewed");
                certificate.replace(next);
            }
            Err(error) => tracing::error!(error = %in_one_line(&error), "the certificate cannot be renewed: it is tried again"),
        }
    }
}
