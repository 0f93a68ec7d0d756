//! Puts the newest checkpoint into the outbox of webhooks now and then, for those who keep it elsewhere.
//!
//! It signs nothing: it reads the one that the journal left beside the log. It is sent once, however often it is looked at.

use std::path::PathBuf;
use std::time::Duration;

use crate::audit::CHECKPOINT;
use crate::audit::verify::Kept;
use crate::notify::Notifier;

/// For as long as it is let: looks every so often, and tells the webhooks that want checkpoints.
pub async fn checkpoints(dir: PathBuf, every: Duration, notifier: Notifier) {
    let mut clock = tokio::time::interval(every);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // The first tick is at once: what a gate leaves behind that goes down early is the checkpoint of its last start.
    loop {
        clock.tick().await;
        let path = dir.join(CHECKPOINT);
        let Ok(text) = tokio::fs::read_to_string(&path).await else {
            // None is signed yet.
            continue;
        };
        match Kept::parse(text.as_bytes()) {
            Ok(kept) => {
                notifier
                    .checkpoint(text.trim_end(), &kept.checkpoint.log, kept.checkpoint.covers, kept.time)
                    .await;
            }
            Err(error) => tracing::warn!(path = %path.display(), %error, "a checkpoint cannot be sent"),
        }
    }
}
