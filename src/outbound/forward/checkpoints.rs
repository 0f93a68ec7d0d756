//! Sends the newest checkpoint of the audit log to the webhooks that subscribe to checkpoints, so that it can be kept
//! elsewhere.
//!
//! This module signs nothing: it reads the checkpoint that the journal keeps beside the log. The outbox remembers what was
//! sent, so each checkpoint is sent once.

use std::path::PathBuf;
use std::time::Duration;

use crate::audit::verify::SavedCheckpoint;
use crate::base::error_chain::display_chain;
use crate::outbound::notify::Notifier;

/// Reads the newest checkpoint every `every` and enqueues it for the webhooks that want checkpoints. Returns only when the
/// runtime shuts down.
pub async fn checkpoints(dir: PathBuf, every: Duration, notifier: Notifier) {
    let mut clock = tokio::time::interval(every);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // The first tick fires at once: a gate that stops early has then sent at least the checkpoint of its last start.
    loop {
        clock.tick().await;
        let folder = dir.clone();
        let Ok(found) = tokio::task::spawn_blocking(move || SavedCheckpoint::beside(&folder)).await else {
            return;
        };
        match found {
            // No checkpoint has been signed yet.
            Ok(None) => {}
            Ok(Some(kept)) => {
                let checkpoint = &kept.checkpoint;
                notifier
                    .checkpoint(&kept.line, &checkpoint.log, checkpoint.covers, kept.time)
                    .await;
            }
            Err(error) => tracing::warn!(folder = %dir.display(), error = %display_chain(&error), "cannot forward a checkpoint"),
        }
    }
}
