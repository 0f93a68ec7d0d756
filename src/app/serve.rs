//! `tidegate serve`: a gate under signals. SIGTERM and SIGINT drain it, SIGHUP reloads it.

use tokio::signal::unix::{SignalKind, signal};

use super::{Gate, StartError};
use crate::config::{Mistake, Settings};

/// Serves until told to stop. `load` reads the configuration again, for a reload. `started` is called once the gate listens.
pub async fn serve(
    settings: Settings,
    load: impl Fn() -> Result<Settings, Vec<Mistake>>,
    started: impl FnOnce(&Gate),
) -> Result<(), StartError> {
    let signals = || -> std::io::Result<_> {
        Ok((
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
            signal(SignalKind::hangup())?,
        ))
    };
    // Before the gate listens: a signal that comes early is not lost.
    let (mut terminate, mut interrupt, mut hangup) = signals().map_err(StartError::Signals)?;
    let mut gate = Gate::start(settings).await?;
    started(&gate);
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => match load() {
                Ok(settings) => {
                    if let Err(error) = gate.reload(settings).await {
                        tracing::error!(%error, "the new configuration was refused, the old one stays in force");
                    }
                }
                Err(mistakes) => {
                    let all: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
                    tracing::error!(mistakes = all.join("; "), "the new configuration was refused, the old one stays in force");
                    gate.reload_refused(&mistakes).await;
                }
            },
        }
    }
    tracing::info!("draining");
    gate.drain().await;
    Ok(())
}
