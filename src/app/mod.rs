//! Builds a gate from its settings, runs it, reloads it, drains it.
//!
//! It adds only the order of these steps: each part starts after the parts it needs, and the log closes last.
//!
//! INVARIANT: at each target, sessions and roles that a crashed gate left are ended before any session is let in; no session
//! runs without a log; and the log is the last to close.

mod accept;
mod build;
mod certificate;
mod decisions;
mod descriptors;
mod drift;
mod error;
mod health;
mod inspect;
mod log_end;
mod overdue;
mod policies;
pub mod profiles;
mod pulse;
mod reap;
mod reload;
mod roles;
mod serve;
mod session_runtime;
mod state_folder;
mod stop;
mod systemd;
mod tick;
mod unapprovable;

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio::net::TcpListener;
use tokio::sync::{Semaphore, broadcast, mpsc, watch};
use tokio::task::JoinHandle;

use crate::access::AccessService;
use crate::access::quota::Quotas;
use crate::access::strangers::RefusalLog;
use crate::audit::Journal;
use crate::audit::compactor::SegmentCompactor;
use crate::audit::event::{Event, GateStarted};
use crate::base::clock::Clock;
use crate::base::diagnostics::Diagnostics;
use crate::base::error_chain::display_chain;
use crate::base::supervision::{Supervisor, ThreadEnd, restarted};
use crate::base::tls::TlsError;
use crate::chat::Chat;
use crate::config::{self, ControlSettings, GateSettings};
use crate::console;
use crate::control::{self, AdminToken, Listeners};
use crate::gate::metrics::Metrics;
use crate::gate::session::{ApprovalWaiters, BufferPool, SessionRegistry, SharedState};
use crate::ledger::{self, ChangedSubject, Ledger};
use crate::outbound::forward::{self, ForwarderHandle};
use crate::outbound::notify::Notifier;

use descriptors::ConnectionBudget;
pub use descriptors::TooFewDescriptorsError;
pub use error::StartError;
use health::{MetricsSources, readiness};
pub use inspect::{Readiness, TargetInspection, inspect};
use policies::ActivePolicies;
use pulse::Vitals;
use reap::Reaper;
pub use serve::{ServeError, serve};
use session_runtime::SessionRuntime;
pub use stop::MAX_STOP_AFTER_DRAIN;

/// A running gate.
pub struct RunningGate {
    shared: Arc<SharedState>,
    settings: GateSettings,
    addresses: Vec<SocketAddr>,
    builder: build::ReloadBuilder,
    access: ActivePolicies,
    notifier: Notifier,
    chat: Chat,
    /// Definitions of the profiles that are checked for drift.
    looks: watch::Sender<drift::DriftTargets>,
    diagnostics: Diagnostics,
    supervisor: Supervisor,
    vitals: Vitals,
    places: ConnectionBudget,
    runtime: SessionRuntime,
    compactor: SegmentCompactor,
    /// Lock on the state folder, held for as long as the gate lives.
    _state_folder: Option<std::fs::File>,
    /// Forwarder of the log, if one is configured.
    forwarder: Option<Arc<ForwarderHandle>>,
    /// Reload orders of the control API.
    reload_orders: Option<mpsc::Receiver<control::ReloadOrder>>,
    /// Tasks that end with the gate: accept loops, the ticker, the control API.
    tasks: Vec<JoinHandle<()>>,
}

impl RunningGate {
    /// Starts a gate. It listens when this returns.
    #[expect(
        clippy::too_many_lines,
        reason = "what a gate is made of, in the one order in which it can be"
    )]
    pub async fn start(settings: GateSettings, diagnostics: Diagnostics) -> Result<Self, StartError> {
        let places = places(&settings)?;
        inspect::warn_of_shared_accounts(&settings);
        let state_folder = state_folder::take(&settings.state_dir, &settings.audit.dir)?;
        let store = settings.state_dir.join("ledger.sqlite");
        let known_time = ledger::highest_time(&store)?;
        let clock = Clock::system(known_time);
        let remembered = log_end::remembered(&store, known_time.is_some())?;
        let journal = Journal::open_remembered(&settings.audit, &remembered, clock.clone())?;
        // The ledger is opened before the log's first line. So a log without a ledger means that its ledger was removed.
        let ledger = Ledger::open(&store, journal.clone(), clock.clone())?;
        journal.record(&begun()).await?;
        log_end::accept(&ledger, &journal, &clock).await?;
        let handles = (journal.clone(), ledger.clone());
        let mut builder = build::ReloadBuilder::new(&settings, places, handles, ledger.leftovers().await?, clock.clone())?;
        let rules = builder.put_in_force(build::ReloadBuilder::prepare(&settings, clock.now())?, &settings);
        let reaper = Reaper {
            ledger: ledger.clone(),
            journal: journal.clone(),
            clock: clock.clone(),
            rooms: rules.targets.clone(),
        };
        // Subscribe before the first request can arrive.
        let changes = ledger.changes();
        let outbox = settings.state_dir.join("outbox.sqlite");
        let notifier = Notifier::start(&outbox, settings.notify.clone(), clock.clone())?;
        let chat = Chat::new(settings.chat.clone(), clock.clone());
        let access = ActivePolicies::start(&settings, journal.clone()).await?;
        let refusals = RefusalLog::new(journal.clone(), clock.clone());
        let service = AccessService::new(
            ledger.clone(),
            journal.clone(),
            refusals.clone(),
            clock.clone(),
            access.subscribe(),
        );
        let shared = Arc::new(SharedState {
            clock,
            journal,
            ledger,
            refusals,
            service,
            waiters: Arc::new(ApprovalWaiters::default()),
            registry: Arc::new(SessionRegistry::default()),
            pool: BufferPool::default(),
            quotas: Quotas::new(settings.limits.quota()),
            metrics: Metrics::default(),
            draining: AtomicBool::new(false),
            rules: watch::Sender::new(Arc::new(rules)),
        });
        // Before anybody can come: those who used their targets exclusively when a former run died come first.
        shared.service.restore_lines().await?;
        let compactor = SegmentCompactor::spawn(shared.journal.clone(), shared.clock.clone()).map_err(StartError::Threads)?;
        let runtime = SessionRuntime::new(settings.limits.session_threads).map_err(StartError::Threads)?;
        let (supervisor, vitals) = (Supervisor::default(), Vitals::new(shared.clock.clone()));
        let mut tasks = watch_threads(&supervisor, &shared, &compactor);
        tasks.extend(reaper.begin().await?);
        tasks.push(tokio::spawn(checkpoints(&settings, notifier.clone())));
        tasks.push(tokio::spawn(tell(notifier.clone(), shared.ledger.clone(), changes)));
        tasks.push(tokio::spawn(tell_of_grants(notifier.clone(), shared.ledger.clone())));
        tasks.push(tokio::spawn(without_approver(&shared, &notifier)));
        tasks.push(tokio::spawn(decisions::counting(&shared)));
        let refusals = shared.refusals.clone();
        tasks.push(tokio::spawn(restarted("counting refusals", move || refusals.clone().run())));
        let mut gate = Self {
            looks: watch::Sender::new(drift::looks(&settings)),
            forwarder: forwarder(&settings, &shared.clock)?,
            shared,
            settings,
            addresses: Vec::new(),
            reload_orders: None,
            builder,
            access,
            notifier,
            chat,
            diagnostics,
            supervisor,
            vitals,
            places,
            runtime,
            compactor,
            _state_folder: state_folder,
            tasks,
        };
        gate.open().await?;
        Ok(gate)
    }

    /// Opens the listeners. The control API comes first, so that it answers by the time the gate accepts sessions.
    async fn open(&mut self) -> Result<(), StartError> {
        let ControlSettings {
            socket,
            listen,
            tls,
            token_file,
        } = &self.settings.control;
        let token = AdminToken::load_or_make(token_file)?;
        let certificate = tls.then(|| self.builder.tls.clone());
        let mut control = Listeners::bind(socket, *listen, certificate.clone()).await?;
        if let Some(local) = self.settings.console.listen {
            control = control.bind_local(local).await?;
        }
        if let Some(listen) = control.local_address() {
            tracing::info!(%listen, "the console listens on http");
        }
        if let (Some(listen), Some(certificate)) = (control.tcp_address(), certificate) {
            tracing::info!(%listen, certificate_sha256 = %certificate.current().fingerprint(), "the control API listens on https");
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
        self.spawn_parts(control, token);
        let connections = Arc::new(Semaphore::new(self.places.connections as usize));
        let unproved = Arc::new(Semaphore::new(
            (self.places.handshakes as usize).saturating_add(self.places.waiting_logins as usize),
        ));
        for listener in listeners {
            let door = accept::AcceptContext {
                strangers: self.builder.strangers.clone(),
                connections: Arc::clone(&connections),
                limit: self.places.connections,
                unproved: Arc::clone(&unproved),
                shared: Arc::clone(&self.shared),
            };
            let accepting = self
                .supervisor
                .essential("accepting connections", accept::run(listener, door));
            self.tasks.extend(self.runtime.spawn(accepting));
        }
        Ok(())
    }

    /// Spawns the tasks that run as long as the gate does, each under supervision.
    fn spawn_parts(&mut self, control: Listeners, token: AdminToken) {
        let (seen, profiles) = watch::channel(drift::DriftStatus::new());
        let (supervisor, shared) = (self.supervisor.clone(), &self.shared);
        let tick = tick::tick(Arc::clone(shared), self.vitals.ticker.clone());
        let looks = self.looks.clone();
        let (metrics, clock) = (shared.metrics.clone(), shared.clock.clone());
        let looking = restarted("the look at the profiles", move || {
            drift::watch(looks.subscribe(), metrics.clone(), clock.clone(), seen.clone())
        });
        let of_roles = Arc::clone(shared);
        let roles = restarted("the look at the roles of grants", move || roles::watch(Arc::clone(&of_roles)));
        let overdue = overdue::watch(Arc::clone(shared), supervisor.clone());
        let renewing = certificate::renewing(self.builder.tls.clone(), shared.clock.clone());
        self.tasks.extend(
            self.runtime
                .spawn(supervisor.essential("the session threads", self.vitals.beat())),
        );
        let serving = self.serve_control(control, token, profiles);
        self.tasks.extend([
            tokio::spawn(supervisor.essential("the clock's ticker", tick)),
            tokio::spawn(supervisor.essential("the watch over ends", overdue)),
            tokio::spawn(looking),
            tokio::spawn(roles),
            tokio::spawn(renewing),
            serving,
        ]);
    }

    fn serve_control(
        &mut self,
        listeners: Listeners,
        token: AdminToken,
        profiles: watch::Receiver<drift::DriftStatus>,
    ) -> JoinHandle<()> {
        let (reload, orders) = mpsc::channel(1);
        self.reload_orders = Some(orders);
        let (ready, supervisor) = (Arc::clone(&self.shared), self.supervisor.clone());
        let rooms = Arc::clone(&self.shared);
        let vitals = self.vitals.clone();
        let counts = MetricsSources {
            shared: Arc::clone(&self.shared),
            notifier: self.notifier.clone(),
            forwarder: self.forwarder.clone(),
            diagnostics: self.diagnostics.clone(),
            certificate: self.builder.tls.clone(),
            strangers: self.builder.strangers.clone(),
        };
        let forwarder = self.forwarder.clone();
        let gate = control::ControlContext {
            service: self.shared.service.clone(),
            registry: Arc::clone(&self.shared.registry),
            quotas: self.shared.quotas.clone(),
            journal: self.shared.journal.clone(),
            audit_dir: self.settings.audit.dir.clone(),
            clock: self.shared.clock.clone(),
            token,
            chat: self.chat.clone(),
            strangers: self.builder.strangers.beside(control::strangers(self.places.callers)),
            profiles,
            target_state: Box::new(move |target| rooms.rules.borrow().targets.get(target).cloned()),
            advertise: self.advertise(),
            tls: self.builder.tls.clone(),
            ready: Box::new(move || readiness(&ready, &supervisor)),
            alive: Box::new(move || vitals.check(pulse::MAX_SILENCE)),
            metrics: Box::new(move || counts.text()),
            forwarding: Box::new(move || forwarder.as_deref().map(health::forwarding)),
            reload,
            places: self.places.callers as usize,
        };
        let serving = async move {
            let gate = Arc::new(gate);
            let pages = console::router(Arc::clone(&gate));
            if let Err(error) = control::serve(listeners, gate, Some(pages), std::future::pending()).await {
                tracing::error!(error = %display_chain(&error), "the control API stopped");
            }
        };
        tokio::spawn(self.supervisor.essential("the control API", serving))
    }

    /// Returns the host and port that clients are told to connect to.
    fn advertise(&self) -> String {
        match self.addresses.first() {
            // A port chosen by the system is known only now.
            Some(address) if self.settings.advertise.ends_with(":0") => config::reachable(*address),
            _ => self.settings.advertise.clone(),
        }
    }

    /// Returns the addresses that the gate listens on, with the ports that the system chose.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Returns the state that all sessions share: the ledger, the registry, the clock.
    #[must_use]
    pub fn shared(&self) -> &Arc<SharedState> {
        &self.shared
    }
}

/// Returns the audit record of the start.
fn begun() -> Event<'static> {
    Event::GateStarted(Cow::Owned(GateStarted {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
    }))
}

/// Returns the configured connection limits, lowered to what the limit of open files allows.
fn places(settings: &GateSettings) -> Result<ConnectionBudget, StartError> {
    let limits = &settings.limits;
    let wanted = ConnectionBudget {
        connections: limits.connections,
        handshakes: limits.handshakes,
        waiting_logins: limits.waiting_logins,
        callers: control::MAX_CONNECTIONS,
    };
    Ok(wanted.fitted(descriptors::raise(), settings.targets.len())?)
}

/// Watches the threads of the log, the store and the segment keeper: the gate cannot record or store without them.
fn watch_threads(supervisor: &Supervisor, shared: &SharedState, compactor: &SegmentCompactor) -> Vec<JoinHandle<()>> {
    let threads = [
        ("the audit log's thread", shared.journal.thread_end()),
        ("the store's thread", shared.ledger.thread_end()),
        ("the thread that packs closed segments of the log", compactor.thread_end()),
    ];
    let watch = |(part, end): (_, ThreadEnd)| tokio::spawn(supervisor.essential(part, end.wait()));
    threads.into_iter().map(watch).collect()
}

/// Sends checkpoints to the webhooks that subscribe to them.
fn checkpoints(settings: &GateSettings, notifier: Notifier) -> impl Future<Output = ()> + use<> {
    let (dir, every) = (settings.audit.dir.clone(), settings.checkpoint_every);
    restarted("telling checkpoints", move || {
        forward::checkpoints(dir.clone(), every, notifier.clone())
    })
}

/// Sends notifications about requests. A restart reads the newest requests: no change is missed, none is sent twice.
async fn tell(notifier: Notifier, ledger: Ledger, changes: broadcast::Receiver<ChangedSubject>) {
    let mut first = Some(changes);
    restarted("telling of requests", move || {
        let changes = first.take().unwrap_or_else(|| ledger.changes());
        notifier.clone().run(ledger.clone(), changes)
    })
    .await;
}

/// Sends notifications about grants. Each start reads them, so none that began before it is missed.
fn tell_of_grants(notifier: Notifier, ledger: Ledger) -> impl Future<Output = ()> {
    restarted("telling of grants", move || {
        notifier.clone().run_grants(ledger.clone(), ledger.changes())
    })
}

/// Sends notifications about requests that have no possible approver.
fn without_approver(shared: &SharedState, notifier: &Notifier) -> impl Future<Output = ()> + use<> {
    let (ledger, service, notifier) = (shared.ledger.clone(), shared.service.clone(), notifier.clone());
    let mut first = Some(ledger.changes());
    async move {
        restarted("telling of requests that wait for nobody", move || {
            let changes = first.take().unwrap_or_else(|| ledger.changes());
            unapprovable::watch(changes, ledger.clone(), service.clone(), notifier.clone())
        })
        .await;
    }
}

/// Starts the forwarder of the log, if one is configured.
fn forwarder(settings: &GateSettings, clock: &Clock) -> Result<Option<Arc<ForwarderHandle>>, TlsError> {
    let Some(to) = &settings.forward else { return Ok(None) };
    let position = settings.state_dir.join("forward.position");
    let forwarder = ForwarderHandle::start(to, settings.audit.dir.clone(), position, clock.clone())?;
    Ok(Some(Arc::new(forwarder)))
}
