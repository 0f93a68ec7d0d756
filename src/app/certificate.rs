//! Renews the certificate that the gate made itself, before it expires. A certificate from the operator's files is never
//! renewed here.
//!
//! Open connections are unaffected.

use std::time::Duration;

use crate::base::clock::Clock;
use crate::base::error_chain::display_chain;
use crate::base::supervision::restarted;
use crate::base::tls::ServerTlsCell;

/// Time between two checks of the certificate's expiry.
const CHECK_INTERVAL: Duration = Duration::from_hours(6);

/// Checks and renews the certificate for as long as the gate runs.
pub(super) fn renewing(certificate: ServerTlsCell, clock: Clock) -> impl Future<Output = ()> {
    restarted("renewing the certificate", move || renew(certificate.clone(), clock.clone()))
}

async fn renew(certificate: ServerTlsCell, clock: Clock) {
    loop {
        tokio::time::sleep(CHECK_INTERVAL).await;
        match certificate.current().renewed(clock.now()) {
            Ok(None) => {}
            Ok(Some(next)) => {
                tracing::info!(expires_at = ?next.expires_at(), "loaded the renewed certificate");
                certificate.replace(next);
            }
            Err(error) => tracing::error!(error = %display_chain(&error), "cannot renew the certificate; will retry"),
        }
    }
}
