//! End of the audit log as stored in the ledger: read at the start, written while the gate runs.
//!
//! The journal compares it with the log. A gate whose log has lost records starts all the same, and reports the loss.

use std::path::Path;

use super::StartError;
use crate::audit::{Journal, RememberedTip};
use crate::base::clock::Clock;
use crate::gate::session::SharedState;
use crate::ledger::{self, Ledger, LedgerError, StoreError};

/// Reads the end of the log that the ledger in this file remembers. A store without a stored time counts as no ledger.
pub(super) fn remembered(store: &Path, is_ledger: bool) -> Result<RememberedTip, StoreError> {
    if !is_ledger {
        return Ok(RememberedTip::NoLedger);
    }
    let tip = ledger::read_log_tip(store)?;
    Ok(RememberedTip::of_ledger(tip.as_ref().map(|tip| tip.line.as_str())))
}

/// Makes the ledger accept the log as it is, if the log has a gap and that gap is on record now.
pub(super) async fn accept(ledger: &Ledger, journal: &Journal, clock: &Clock) -> Result<(), StartError> {
    if journal.gap().is_some() {
        journal.checkpoint().await?;
        if let Some(tip) = journal.signed_tip() {
            ledger.accept_log_tip(tip, clock.now()).await?;
        }
    }
    Ok(())
}

/// Stores the end of the log, if it has changed since the last stored one.
pub(super) async fn remember(shared: &SharedState, noted: &mut Option<u64>) -> Result<(), LedgerError> {
    let Some(tip) = shared.journal.signed_tip() else {
        return Ok(());
    };
    if *noted != Some(tip.seq) {
        let seq = tip.seq;
        shared.ledger.remember_log_tip(tip, shared.clock.now()).await?;
        *noted = Some(seq);
    }
    Ok(())
}
