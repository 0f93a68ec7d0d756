//! `tidegate serve`: a gate with signal handling and supervision. SIGTERM and SIGINT drain it, SIGHUP reloads it; the failure
//! of an essential part ends it.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::systemd::ServiceManager;
use super::{RunningGate, StartError, stop};
use crate::base::diagnostics::Diagnostics;
use crate::base::error_chain::display_chain;
use crate::base::supervision::FailedError;
use crate::config::{ConfigMistake, GateSettings};
use crate::control::ReloadOrder;

/// Reason that a gate stopped, other than a signal.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The start failed.
    #[error(transparent)]
    Start(#[from] StartError),
    /// An essential part ended.
    #[error(transparent)]
    Failed(#[from] FailedError),
}

/// Command that a signal stands for.
enum SignalCommand {
    Stop,
    Reload,
}

struct ServeSignals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl ServeSignals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits until told to stop. Reload signals are ignored, since nothing runs yet.
    async fn stop(&mut self) {
        while !matches!(self.next().await, SignalCommand::Stop) {}
    }

    async fn next(&mut self) -> SignalCommand {
        tokio::select! {
            _ = self.terminate.recv() => SignalCommand::Stop,
            _ = self.interrupt.recv() => SignalCommand::Stop,
            _ = self.hangup.recv() => SignalCommand::Reload,
        }
    }
}

/// Serves until told to stop. `load` reads the configuration again, for a reload; `started` is called once the gate listens.
pub async fn serve(
    settings: GateSettings,
    diagnostics: &Diagnostics,
    load: impl Fn() -> Result<GateSettings, Vec<ConfigMistake>>,
    started: impl FnOnce(&RunningGate),
) -> Result<(), ServeError> {
    // Before the gate listens, so that an early signal is not lost.
    let mut signals = ServeSignals::listen().map_err(StartError::Signals)?;
    let manager = ServiceManager::from_environment();
    // On its own task: a start that hangs, for example on a disk that does not answer, must not delay a signal.
    let mut starting = tokio::spawn(RunningGate::start(settings, diagnostics.clone()));
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
            tracing::info!("received a stop signal during the start; no session was open");
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
    mut gate: RunningGate,
    manager: &ServiceManager,
    load: impl Fn() -> Result<GateSettings, Vec<ConfigMistake>>,
    mut told: impl AsyncFnMut() -> SignalCommand,
) -> Result<(), ServeError> {
    let supervisor = gate.supervisor.clone();
    let mut orders = gate.reload_orders.take();
    let failure = loop {
        tokio::select! {
            failure = supervisor.failed() => break Some(failure),
            told = told() => match told {
                SignalCommand::Stop => break None,
                SignalCommand::Reload => drop(reload(&mut gate, manager, load()).await),
            },
            Some(order) = next(&mut orders) => {
                // The caller may have gone.
                let _ = order.send(reload(&mut gate, manager, load()).await);
            }
        }
    };
    manager.stopping();
    let patience = match &failure {
        None => {
            tracing::info!("draining: accepting no new sessions, waiting for open ones to finish");
            gate.settings.drain_limit
        }
        // Sessions cannot go on: without that part their statements may go unrecorded, or their end may not come.
        Some(failure) => {
            tracing::error!("{failure}; ending all sessions and stopping");
            Duration::ZERO
        }
    };
    let _deadline = stop::last_resort(patience, &gate.diagnostics);
    gate.stop(patience).await;
    failure.map_or(Ok(()), |failure| Err(failure.into()))
}

/// Returns the next reload order of the control API; `None` once there is no sender.
async fn next(orders: &mut Option<mpsc::Receiver<ReloadOrder>>) -> Option<ReloadOrder> {
    orders.as_mut()?.recv().await
}

/// Puts the loaded settings in force and returns a description of the result, or the mistakes.
async fn reload(
    gate: &mut RunningGate,
    manager: &ServiceManager,
    loaded: Result<GateSettings, Vec<ConfigMistake>>,
) -> Result<String, Vec<String>> {
    manager.reloading();
    let done = match loaded {
        Ok(settings) => gate.reload(settings).await.map_err(|error| vec![display_chain(&error)]),
        Err(mistakes) => {
            gate.reload_refused(&mistakes).await;
            Err(mistakes.iter().map(ToString::to_string).collect())
        }
    };
    if let Err(wrong) = &done {
        let mistakes = wrong.join("; ");
        tracing::error!(
            mistakes,
            "the new configuration was not applied; the running one stays in force"
        );
    }
    manager.ready();
    done
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;
    use std::path::Path;

    use super::*;

    fn settings(folder: &Path) -> GateSettings {
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
    async fn broken(part: impl FnOnce(&RunningGate)) -> (String, Result<(), ServeError>) {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path());
        let socket = settings.control.socket.clone();
        let gate = RunningGate::start(settings, Diagnostics::default()).await.unwrap();
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
            rules
                .targets
                .values()
                .for_each(|target_state| target_state.terminator.break_task());
        })
        .await;
        assert!(matches!(ended, Err(ServeError::Failed(failure)) if failure.part == "a target's terminator"));
    }
}
