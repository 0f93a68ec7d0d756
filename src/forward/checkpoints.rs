//! Puts the newest checkpoint into the outbox of webhooks now and then, for those who keep it elsewhere.
//!
//! It signs nothing: it reads the one that the journal left beside the log. It is sent once, however often it is looked at.

use std::path::PathBuf;
use std::time::Duration;

use crate::audit::verify::Kept;
use crate::causes::in_one_line;
use crate::notify::Notifier;

/// For as long as it is let: looks every so often, and tells the webhooks that want checkpoints.
pub async fn checkpoints(dir: PathBuf, every: Duration, notifier: Notifier) {
    let mut clock = tokio::time::interval(every);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // The first tick is at once: what a gate leaves behind that goes down early is the checkpoint of its last start.
    loop {
        clock.tick().await;
        let folder = dir.clone();
        let Ok(found) = tokio::task::spawn_blocking(move || Kept::beside(&folder)).await else {
            return;
        };
        match found {
            // None is signed yet.
            Ok(None) => {}
            Ok(Some(kept)) => {
                let checkpoint = &kept.checkpoint;
                notifier
                    .checkpoint(&kept.line, &checkpoint.log, checkpoint.covers, kept.time)
                    .await;
            }
            Err(error) => tracing::warn!(folder = %dir.display(), error = %in_one_line(&error), "cannot forward a checkpoint"),
        }
    }
}
