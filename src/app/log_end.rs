//! The end of the log as the ledger remembers it: read at the start, noted while the gate runs.
//!
//! It compares nothing (the journal does) and decides nothing: a gate whose log is not what it was starts all the same, and says so.

use std::path::Path;

use super::StartError;
use crate::audit::{Journal, RememberedTip};
use crate::clock::Clock;
use crate::ledger::{self, Ledger, LedgerError, StoreError};
use crate::session::Shared;

/// Reads the end of the log that the ledger in this file remembers. A file that knows no time is no ledger.
pub(super) fn remembered(store: &Path, is_ledger: bool) -> Result<RememberedTip, StoreError> {
    if !is_ledger {
        return Ok(RememberedTip::NoLedger);
    }
    let tip = ledger::read_log_tip(store)?;
    Ok(RememberedTip::of_ledger(tip.as_ref().map(|tip| tip.line.as_str())))
}

/// Has the ledger take the log as it is, where something of it is missing and that is on record now.
pub(super) async fn accept(ledger: &Ledger, journal: &Journal, clock: &Clock) -> Result<(), StartError> {
    if journal.gap().is_some() {
        journal.checkpoint().await?;
        if let Some(tip) = journal.signed_tip() {
            ledger.accept_log_tip(tip, clock.now()).await?;
        }
    }
    Ok(())
}

/// Notes in the store where the log stands, if that has changed since the line that was noted last.
pub(super) async fn remember(shared: &Shared, noted: &mut Option<u64>) -> Result<(), LedgerError> {
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
