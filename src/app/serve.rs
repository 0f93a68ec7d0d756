//! `tidegate serve`: a gate under signals, and under supervision. SIGTERM and SIGINT drain it, SIGHUP reloads it; a part that is
//! gone without which it keeps no promise ends it.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::systemd::ServiceManager;
use super::{Gate, StartError, stop};
use crate::causes::in_one_line;
use crate::config::{Mistake, Settings};
use crate::diagnostics::Diagnostics;
use crate::supervision::FailedError;

/// Why a gate serves no more, other than that it was told to stop.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// It did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// An essential part of it ended.
    #[error(transparent)]
    Failed(#[from] FailedError),
}

/// What a gate is told by a signal.
enum Told {
    Stop,
    Reload,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits until told to stop. To reload there is nothing yet.
    async fn stop(&mut self) {
        while !matches!(self.next().await, Told::Stop) {}
    }

    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.terminate.recv() => Told::Stop,
            _ = self.interrupt.recv() => Told::Stop,
            _ = self.hangup.recv() => Told::Reload,
        }
    }
}

/// Serves until told to stop. `load` reads the configuration again, for a reload. `started` is called once the gate listens.
pub async fn serve(
    settings: Settings,
    diagnostics: &Diagnostics,
    load: impl Fn() -> Result<Settings, Vec<Mistake>>,
    started: impl FnOnce(&Gate),
) -> Result<(), ServeError> {
    // Before the gate listens: a signal that comes early is not lost.
    let mut signals = Signals::listen().map_err(StartError::Signals)?;
    let manager = ServiceManager::from_environment();
    // On a task of its own: a start that hangs, as with a disk that does not answer, must not hold up a signal.
    let mut starting = tokio::spawn(Gate::start(settings, diagnostics.clone()));
    let mut gate = tokio::select! {
        biased;
        started = &mut starting => match started {
            Ok(started) => started?,
            Err(error) => return Err(ServeError::Failed(FailedError {
                part: "the start",
                cause: format!("has panicked ({error})"),
            })),
        },
        () = signals.stop() => {
            tracing::info!("told to stop during the start: nobody has been let in yet");
            starting.abort();
            return Ok(());
        }
    };
    let watchdog = manager.clone().watch(gate.vitals.clone());
    gate.tasks.push(tokio::spawn(watchdog));
    manager.ready();
    started(&gate);
    run(gate, &manager, load, async || signals.next().await).await
}

/// Runs until told to stop, or until an essential part of the gate has ended.
async fn run(
    mut gate: Gate,
    manager: &ServiceManager,
    load: impl Fn() -> Result<Settings, Vec<Mistake>>,
    mut told: impl AsyncFnMut() -> Told,
) -> Result<(), ServeError> {
    let supervisor = gate.supervisor.clone();
    let failure = loop {
        tokio::select! {
            failure = supervisor.failed() => break Some(failure),
            told = told() => match told {
                Told::Stop => break None,
                Told::Reload => {
                    manager.reloading();
                    reload(&mut gate, load()).await;
                    manager.ready();
                }
            },
        }
    };
    manager.stopping();
    let patience = match &failure {
        None => {
            tracing::info!("draining");
            gate.settings.drain_limit
        }
        // What its sessions would do meanwhile is not on record, or does not end.
        Some(failure) => {
            tracing::error!("{failure}; all sessions are ended");
            Duration::ZERO
        }
    };
    let _deadline = stop::last_resort(patience, &gate.diagnostics);
    gate.stop(patience).await;
    failure.map_or(Ok(()), |failure| Err(failure.into()))
}

async fn reload(gate: &mut Gate, loaded: Result<Settings, Vec<Mistake>>) {
    match loaded {
        Ok(settings) => {
            if let Err(error) = gate.reload(settings).await {
                tracing::error!(error = %in_one_line(&error), "the new configuration was refused, the old one stays in force");
            }
        }
        Err(mistakes) => {
            let all: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
            tracing::error!(
                mistakes = all.join("; "),
                "the new configuration was refused, the old one stays in force"
            );
            gate.reload_refused(&mistakes).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;
    use std::path::Path;

    use super::*;

    fn settings(folder: &Path) -> Settings {
        std::fs::write(folder.join("orders.password"), "s3cret\n").unwrap();
        // Nothing listens there: a target that is away is no reason not to start.
        let text = "listen = [\"127.0.0.1:0\"]\nstate_dir = \"state\"\n\
                    [targets.orders]\naddress = \"127.0.0.1:1\"\ndatabase = \"orders\"\nuser = \"orders_app\"\n";
        crate::config::from_text(&folder.join("tidegate.toml"), text).unwrap()
    }

    fn ready(socket: &Path) -> String {
        let mut control = UnixStream::connect(socket).unwrap();
        control
            .write_all(b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        control.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Starts a gate, breaks it, and returns what it says of its readiness then, and how it ended by itself.
    async fn broken(part: impl FnOnce(&Gate)) -> (String, Result<(), ServeError>) {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path());
        let socket = settings.control.socket.clone();
        let gate = Gate::start(settings, Diagnostics::default()).await.unwrap();
        part(&gate);
        let _ = gate.supervisor.failed().await;
        let said = tokio::task::spawn_blocking(move || ready(&socket)).await.unwrap();
        let never = async || std::future::pending().await;
        let ended = run(gate, &ServiceManager::default(), || Err(Vec::new()), never).await;
        (said, ended)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_gate_whose_logs_thread_has_died_is_not_ready_and_ends() {
        let (said, ended) = broken(|gate| gate.shared.journal.break_thread()).await;
        assert!(
            said.contains(" 503 ") && said.contains("the audit log's thread has ended"),
            "{said}"
        );
        let Err(ServeError::Failed(failure)) = ended else {
            panic!("it goes on, or ends well: {ended:?}")
        };
        assert_eq!(failure.part, "the audit log's thread");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_gate_whose_stores_thread_has_died_is_not_ready_and_ends() {
        let (said, ended) = broken(|gate| gate.shared.ledger.break_thread()).await;
        assert!(said.contains("the store's thread has ended"), "{said}");
        assert!(matches!(ended, Err(ServeError::Failed(failure)) if failure.part == "the store's thread"));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_gate_without_a_terminator_ends() {
        let (_, ended) = broken(|gate| {
            let rules = gate.shared.rules.borrow().clone();
            rules.targets.values().for_each(|room| room.terminator.break_task());
        })
        .await;
        assert!(matches!(ended, Err(ServeError::Failed(failure)) if failure.part == "a target's terminator"));
    }
}
