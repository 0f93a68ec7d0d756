//! Assembles a gate from its settings, runs it, reloads it, drains it.
//!
//! It has no behaviour of its own beyond order: what must be up before what, and what goes down last.
//!
//! The law: what a dead gate left behind at a target is reaped before anybody is let in there; nothing is let in without a log; and the log is
//! the last to close.

mod accept;
mod build;
mod crew;
mod drift;
mod error;
mod inspect;
mod overdue;
mod policies;
pub mod profiles;
mod reap;
mod reload;
mod roles;
mod serve;
mod state_folder;
mod upkeep;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::access::Desk;
use crate::audit::event::{Event, GateStarted};
use crate::audit::keeper::Keeper;
use crate::audit::{Journal, Written};
use crate::clock::Clock;
use crate::config::{Control, Settings};
use crate::control::{self, AdminToken, Listeners};
use crate::forward::{self, Forwarder};
use crate::ledger::{self, Ledger};
use crate::metrics::{Log, Metrics};
use crate::notify::Notifier;
use crate::session::{Lobby, Pool, Registry, Shared};
use crate::tls::TlsError;

use crew::Crew;
pub use error::StartError;
pub use inspect::{Inspected, inspect};
use policies::Access;
use reap::Reaper;
pub use serve::serve;

/// After the drain's limit, how long the last sessions have to be ended.
const LAST_SESSIONS: Duration = Duration::from_secs(8);
/// At the end, how long the store and the log have to take what was taken away.
const LAST_CHANGES: Duration = Duration::from_secs(3);
/// At the end, how long a receiver of the log has to take the last records; what it does not take is sent at the next start.
const LAST_RECORDS: Duration = Duration::from_secs(2);

/// A gate that runs.
pub struct Gate {
    shared: Arc<Shared>,
    settings: Settings,
    addresses: Vec<SocketAddr>,
    builder: build::Builder,
    access: Access,
    notifier: Notifier,
    /// The profiles that are looked at.
    looks: watch::Sender<drift::Looks>,
    crew: Crew,
    keeper: Keeper,
    /// The lock on the state folder, for as long as the gate lives.
    _state_folder: Option<std::fs::File>,
    /// Where the log is sent on.
    forwarder: Option<Arc<Forwarder>>,
    /// Accept loops, the ticker, the control API: all that ends with the gate.
    tasks: Vec<JoinHandle<()>>,
}

impl Gate {
    /// Starts a gate: it listens when this returns.
    pub async fn start(settings: Settings) -> Result<Self, StartError> {
        inspect::warn_of_shared_accounts(&settings);
        let state_folder = state_folder::take(&settings.state_dir, &settings.audit.dir)?;
        let store = settings.state_dir.join("ledger.sqlite");
        let clock = Clock::system(ledger::highest_time(&store)?);
        let journal = Journal::open(&settings.audit, clock.clone())?;
        let started = GateStarted {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
        };
        journal.record(&Event::GateStarted(std::borrow::Cow::Owned(started))).await?;
        let ledger = Ledger::open(&store, journal.clone(), clock.clone())?;
        let mut builder = build::Builder::new(&settings, journal.clone(), clock.clone())?;
        let rules = builder.rules(&settings)?;
        let reaper = Reaper {
            ledger: ledger.clone(),
            journal: journal.clone(),
            clock: clock.clone(),
            rooms: rules.targets.clone(),
        };
        // From before anybody can ask for anything.
        let changes = ledger.changes();
        let outbox = settings.state_dir.join("outbox.sqlite");
        let notifier = Notifier::start(&outbox, settings.notify.clone(), clock.clone())?;
        let access = Access::start(&settings, journal.clone()).await?;
        let desk = Desk::new(ledger.clone(), journal.clone(), clock.clone(), access.subscribe());
        let shared = Arc::new(Shared {
            clock,
            journal,
            ledger,
            desk,
            lobby: Arc::new(Lobby::default()),
            registry: Arc::new(Registry::default()),
            pool: Pool::default(),
            metrics: Metrics::default(),
            draining: AtomicBool::new(false),
            rules: watch::Sender::new(Arc::new(rules)),
        });
        let keeper = Keeper::spawn(shared.journal.clone(), shared.clock.clone()).map_err(StartError::Threads)?;
        let crew = Crew::new(settings.limits.session_threads).map_err(StartError::Threads)?;
        let mut tasks = reaper.begin().await?;
        tasks.extend([
            tokio::spawn(checkpoints(&settings, notifier.clone())),
            tokio::spawn(notifier.clone().run(shared.ledger.clone(), changes)),
        ]);
        let mut gate = Self {
            looks: watch::Sender::new(drift::looks(&settings)?),
            forwarder: forwarder(&settings, &shared.clock)?,
            shared,
            settings,
            addresses: Vec::new(),
            builder,
            access,
            notifier,
            crew,
            keeper,
            _state_folder: state_folder,
            tasks,
        };
        gate.open().await?;
        Ok(gate)
    }

    /// Opens the doors; control first, so that whoever finds the gate listening can also ask it.
    async fn open(&mut self) -> Result<(), StartError> {
        let Control {
            socket,
            listen,
            tls,
            token_file,
        } = &self.settings.control;
        let token = AdminToken::load_or_make(token_file)?;
        let certificate = tls.then(|| self.builder.tls.clone());
        let control = Listeners::bind(socket, *listen, certificate.clone()).await?;
        if let (Some(listen), Some(certificate)) = (control.tcp_address(), certificate) {
            tracing::info!(%listen, certificate_sha256 = %certificate.current().fingerprint(), "the control API is also on https");
        }
        let mut listeners = Vec::new();
        for address in &self.settings.listen {
            let listener = TcpListener::bind(address).await.map_err(|source| StartError::Listen {
                address: *address,
                source,
            })?;
            self.addresses.push(listener.local_addr().unwrap_or(*address));
            listeners.push(listener);
        }
        let (seen, profiles) = watch::channel(drift::Seen::new());
        self.tasks.push(self.serve_control(control, token, profiles));
        self.tasks.push(tokio::spawn(upkeep::tick(Arc::clone(&self.shared))));
        self.tasks.push(tokio::spawn(upkeep::remember(Arc::clone(&self.shared))));
        let looking = drift::watch(
            self.looks.subscribe(),
            self.shared.metrics.clone(),
            self.shared.clock.clone(),
            seen,
        );
        self.tasks.push(tokio::spawn(looking));
        self.tasks.push(tokio::spawn(overdue::watch(Arc::clone(&self.shared))));
        self.tasks.push(tokio::spawn(roles::watch(Arc::clone(&self.shared))));
        let connections = Arc::new(tokio::sync::Semaphore::new(self.settings.limits.connections as usize));
        for listener in listeners {
            let door = accept::Door {
                waiting: self.builder.waiting.clone(),
                connections: Arc::clone(&connections),
                limit: self.settings.limits.connections,
                shared: Arc::clone(&self.shared),
            };
            self.tasks.extend(self.crew.spawn(accept::run(listener, door)));
        }
        Ok(())
    }

    fn serve_control(&self, listeners: Listeners, token: AdminToken, profiles: watch::Receiver<drift::Seen>) -> JoinHandle<()> {
        let (ready, counted, notifier) = (Arc::clone(&self.shared), Arc::clone(&self.shared), self.notifier.clone());
        let rooms = Arc::clone(&self.shared);
        let forwarder = self.forwarder.clone();
        let gate = control::Gate {
            ledger: self.shared.ledger.clone(),
            desk: self.shared.desk.clone(),
            registry: Arc::clone(&self.shared.registry),
            journal: self.shared.journal.clone(),
            audit_dir: self.settings.audit.dir.clone(),
            clock: self.shared.clock.clone(),
            token,
            waiting: self.builder.waiting.clone(),
            rules: self.access.subscribe(),
            profiles,
            room: Box::new(move |target| rooms.rules.borrow().targets.get(target).cloned()),
            advertise: self.advertise(),
            ready: Box::new(move || upkeep::readiness(&ready)),
            metrics: Box::new(move || {
                counted.metrics.waiting(counted.lobby.waiting());
                counted.metrics.notices_lost(notifier.lost());
                counted.metrics.log(log(&counted));
                roles::count(&counted);
                if let Some(forwarder) = &forwarder {
                    counted
                        .metrics
                        .forwarded(forwarder.sent(), forwarder.missed(), forwarder.lag());
                }
                counted.metrics.text()
            }),
        };
        tokio::spawn(async move {
            if let Err(error) = control::serve(listeners, Arc::new(gate), std::future::pending()).await {
                tracing::error!(%error, "the control API stopped");
            }
        })
    }

    /// Host and port as clients are told them.
    fn advertise(&self) -> String {
        match self.addresses.first() {
            // A port that was left to the system is known only now.
            Some(address) if self.settings.advertise.ends_with(":0") => reachable(*address).to_string(),
            _ => self.settings.advertise.clone(),
        }
    }

    /// Where it listens; ports that were left to the system are known by now.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// What its sessions share: the ledger, the registry, the clock.
    #[must_use]
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Shuts down: lets nobody new in, ends idle sessions at once and the others when they are idle or at the limit.
    pub async fn drain(self) {
        let Self {
            shared,
            settings,
            tasks,
            keeper,
            forwarder,
            // Held to the end: the last sessions run on it.
            crew: _crew,
            ..
        } = self;
        shared.draining.store(true, Ordering::SeqCst);
        shared.lobby.close();
        shared.registry.drain(false);
        if !wait_for_sessions(&shared, settings.drain_limit).await {
            tracing::warn!(
                sessions = shared.registry.unfinished(),
                "the drain's limit is reached: the last sessions are ended"
            );
            shared.registry.drain(true);
            wait_for_sessions(&shared, LAST_SESSIONS).await;
        }
        for task in &tasks {
            task.abort();
        }
        roles::close(&shared).await;
        if let Err(error) = shared.journal.record(&Event::GateStopped {}).await {
            tracing::error!(%error, "the stop could not be put on record");
        }
        if !shared.ledger.finish(LAST_CHANGES).await {
            tracing::error!(
                "changes that took rights away are not stored or not on record: the next start holds to the stricter of both"
            );
        }
        // It may be packing a segment just now.
        let _ = tokio::task::spawn_blocking(move || drop(keeper)).await;
        shared.journal.close().await;
        // The last checkpoint is among what is noted.
        upkeep::remember_in_store(&shared).await;
        if let Some(forwarder) = forwarder {
            forwarder.finish(LAST_RECORDS).await;
        }
    }
}

/// An address to listen on, as an address to connect to: `0.0.0.0` is nobody's address.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, address.port())
}

/// What was written to the log.
fn log(shared: &Shared) -> Log {
    let Written {
        lines,
        bytes,
        writes,
        syncs,
        segment,
        signed,
        last_seq: _,
    } = shared.journal.written();
    let age = signed.map(|signed| shared.clock.now().duration_since(signed));
    Log {
        lines,
        bytes,
        writes,
        syncs,
        segment,
        since_checkpoint: age.and_then(|age| age.try_into().ok()).unwrap_or_default(),
    }
}

/// True when there are none left. Sessions of handshakes in flight are refused by themselves.
async fn wait_for_sessions(shared: &Shared, limit: Duration) -> bool {
    let none_left = async {
        while shared.registry.unfinished() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(limit, none_left).await.is_ok()
}

/// Where the log is sent on, if anywhere.
fn forwarder(settings: &Settings, clock: &Clock) -> Result<Option<Arc<Forwarder>>, TlsError> {
    let Some(to) = &settings.forward else { return Ok(None) };
    let position = settings.state_dir.join("forward.position");
    let forwarder = Forwarder::start(to, settings.audit.dir.clone(), position, clock.clone())?;
    Ok(Some(Arc::new(forwarder)))
}

/// Sends checkpoints to the webhooks that want them.
fn checkpoints(settings: &Settings, notifier: Notifier) -> impl Future<Output = ()> + use<> {
    forward::checkpoints(settings.audit.dir.clone(), settings.checkpoint_every, notifier)
}
