//! From an authenticated client to a running session: a permit, a place, a target, the start on record, the welcome.
//!
//! It lets nobody in by itself: the ledger says yes or no.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;

use super::limits::Limits;
use super::registry::{Entry, Newcomer, Order};
use super::relay::{Down, Relay, Up};
use super::tap::Tap;
use super::{Settings, Shared};
use crate::audit::event::{Event, Refused, SessionStarted, Who};
use crate::clock::Moment;
use crate::ending::{Ending, Scope};
use crate::frontend::{self, Authenticated, Rejected};
use crate::grant::Grant;
use crate::ids::{GrantId, SessionId};
use crate::ledger::{Admission, OpenSession, Slot};
use crate::names::TargetName;
use crate::provision::{Backend, Terminator};
use crate::tls::Transport;
use crate::upstream::{self, ConnectError, Connected, StartupParameters, Target};
use crate::wire::encode;
use crate::wire::startup::{Replication, Startup};

/// What a reload replaces, for sessions that begin after it.
pub struct Rules {
    /// How strangers are met.
    pub frontend: frontend::Settings,
    /// What sessions are told.
    pub session: Settings,
    /// The targets.
    pub targets: HashMap<TargetName, Arc<TargetRoom>>,
}

/// How long a client has to take the target's own refusal.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A target with what belongs to it while the gate runs.
#[derive(Debug)]
pub struct TargetRoom {
    /// Where and how to connect.
    pub target: Arc<Target>,
    /// Ends its backends.
    pub terminator: Terminator,
    /// Its places for sessions.
    pub places: Arc<Semaphore>,
    /// How many places there are.
    pub limit: u32,
}

/// A session that is about to be carried.
pub(super) struct Started {
    pub(super) relay: Relay,
    pub(super) entry: Entry,
    pub(super) limits: Limits,
    pub(super) changes: watch::Receiver<Arc<Grant>>,
    pub(super) slot: Slot,
    pub(super) room: Arc<TargetRoom>,
    /// Its places: among the connections, on the target.
    pub(super) places: (OwnedSemaphorePermit, OwnedSemaphorePermit),
    pub(super) rules: Arc<Rules>,
    pub(super) since: Moment,
    pub(super) backend: Backend,
}

/// A client that proved its secret and is refused all the same.
pub(super) struct Refusal {
    transport: Transport,
    record: Refused,
    /// The target's own words, to be passed on instead of ours.
    words: Option<bytes::Bytes>,
    ending: Ending,
}

/// Admits a client, or says why not.
pub(super) async fn admit(
    client: Authenticated,
    connection: OwnedSemaphorePermit,
    rules: &Arc<Rules>,
    shared: &Arc<Shared>,
) -> Result<Started, Refusal> {
    let Authenticated {
        transport,
        client: address,
        startup,
        ..
    } = client;
    let mut refused = blank(address, &startup);
    let outcome = try_admit(&startup, address, &mut refused, rules, shared).await;
    let (admission, room, place, connected, who) = match outcome {
        Ok(opened) => opened,
        Err((ending, words)) => {
            return Err(Refusal {
                transport,
                record: refused,
                words,
                ending,
            });
        }
    };
    let since = shared.clock.moment();
    let backend_key = match &connected.backend {
        Some(key) => key.clone(),
        None => {
            // Without its process id a backend cannot be ended on time.
            refused.detail = Some("the target gave no BackendKeyData".to_owned());
            let ending = Ending::TargetRefused {
                target: who.target.clone(),
            };
            return Err(Refusal {
                transport,
                record: refused,
                words: None,
                ending,
            });
        }
    };
    let backend = Backend {
        pid: backend_key.pid,
        opened: since.instant,
    };
    let started = SessionStarted {
        who: Who::clone(&who),
        client: address.ip(),
        port: address.port(),
        tls: transport.tls_version().to_owned(),
        application: startup.application_name().map(str::to_owned),
        backend_pid: backend_key.pid,
        until: admission.permit.until(),
    };
    if let Err(ending) = put_on_record(&started, since, shared).await {
        return Err(Refusal {
            transport,
            record: refused,
            words: None,
            ending,
        });
    }
    let key = random_key(startup.version());
    let entry = shared.registry.enter(Newcomer {
        who: Arc::clone(&who),
        client: address,
        application: started.application,
        since: since.time,
        target: Arc::clone(&room.target),
        backend: backend_key,
        grant: admission.changes.clone(),
        key,
    });
    if shared.draining.load(Ordering::Relaxed) {
        // It came in while the order to drain went out to the others.
        entry.live().orders.send_replace(Order::Drain);
    }
    shared.metrics.session_started(&who.target);
    tracing::info!(session = %who.session, grant = %who.grant, identity = %who.identity, target_name = %who.target, client = %address, "session started");
    let Admission { permit, changes, slot } = admission;
    let settings = &rules.session;
    let limits = Limits::new(permit, &settings.warnings, settings.idle_timeout, settings.renew_hint.clone());
    let relay = open_relay(transport, connected, &entry, &limits, (settings, shared, since));
    Ok(Started {
        relay,
        entry,
        limits,
        changes,
        slot,
        room,
        places: (connection, place),
        rules: Arc::clone(rules),
        since,
        backend,
    })
}

type Opened = (Admission, Arc<TargetRoom>, OwnedSemaphorePermit, Connected, Arc<Who>);

/// Everything that can be refused.
async fn try_admit(
    startup: &Startup,
    address: SocketAddr,
    refused: &mut Refused,
    rules: &Rules,
    shared: &Shared,
) -> Result<Opened, (Ending, Option<bytes::Bytes>)> {
    let plain = |ending| (ending, None);
    let unknown = || Ending::BadSecret {
        user: startup.user.clone(),
    };
    // Only a grant's secret can have been proved, so the user is a grant's id.
    let id: GrantId = startup.user.parse().map_err(|_| plain(unknown()))?;
    let admission = match shared.ledger.admit(&id, startup.database.as_deref(), address.ip()).await {
        Ok(admission) => admission,
        Err(ending) => {
            // The secret was proved, so the record may say whose it is; without a name where the store cannot be asked.
            if let Ok(view) = shared.ledger.grant(&id).await {
                refused.identity = Some(view.grant.identity().clone());
                refused.grant = Some(id);
            }
            return Err(plain(ending));
        }
    };
    let permit = &admission.permit;
    refused.grant = Some(permit.grant().clone());
    refused.identity = Some(permit.identity().clone());
    let room = rules.targets.get(permit.target()).ok_or_else(|| {
        plain(Ending::TargetUnreachable {
            target: permit.target().clone(),
        })
    })?;
    if startup.replication != Replication::No && !room.target.replication {
        return Err(plain(Ending::ReplicationRefused {
            target: permit.target().clone(),
        }));
    }
    let mut parameters = frontend::allowed(&startup.settings, &room.target.startup_parameters).map_err(plain)?;
    match startup.replication {
        Replication::No => {}
        Replication::Physical => parameters.push(("replication".to_owned(), "true".to_owned())),
        Replication::Logical => parameters.push(("replication".to_owned(), "database".to_owned())),
    }
    let place = Arc::clone(&room.places).try_acquire_owned().map_err(|_| {
        plain(Ending::TooMany {
            scope: Scope::Target(permit.target().clone()),
            limit: room.limit,
        })
    })?;
    let connected = match upstream::connect(permit, &room.target, &StartupParameters(parameters)).await {
        Ok(connected) => connected,
        Err(error) => {
            let reason = error.reason();
            tracing::warn!(target_name = %permit.target(), reason, "a target did not take a session");
            refused.detail = Some(reason);
            let ending = error.ending(permit.target());
            let words = if let ConnectError::Startup { frame } = error {
                Some(frame)
            } else {
                None
            };
            return Err((ending, words));
        }
    };
    let who = Who {
        session: SessionId::from_random(random()),
        grant: permit.grant().clone(),
        identity: permit.identity().clone(),
        target: permit.target().clone(),
    };
    Ok((admission, Arc::clone(room), place, connected, Arc::new(who)))
}

/// The start: in the log first, then in the store (where the next start looks for what a dead gate left behind).
async fn put_on_record(started: &SessionStarted, since: Moment, shared: &Shared) -> Result<(), Ending> {
    if let Err(error) = shared.journal.record(&Event::SessionStarted(Cow::Borrowed(started))).await {
        tracing::error!(%error, "a login was refused: its record could not be written");
        return Err(Ending::AuditFailed {
            disk_full: error.disk_full(),
        });
    }
    let open = OpenSession {
        session: started.who.session.clone(),
        grant: started.who.grant.clone(),
        identity: started.who.identity.clone(),
        target: started.who.target.clone(),
        backend_pid: started.backend_pid,
        opened_at: since.time,
    };
    shared.ledger.session_opened(open).await.map_err(|error| {
        tracing::error!(%error, "a login was refused: the session could not be stored");
        Ending::LedgerFailed
    })
}

fn open_relay(
    client: Transport,
    connected: Connected,
    entry: &Entry,
    limits: &Limits,
    (settings, shared, since): (&Settings, &Shared, Moment),
) -> Relay {
    let Connected {
        transport: target,
        parameters,
        notices,
        status,
        leftover,
        ..
    } = connected;
    let live = entry.live();
    let mut welcome = BytesMut::with_capacity(1024);
    encode::authentication_ok(&mut welcome);
    for (name, value) in &parameters {
        encode::parameter_status(&mut welcome, name, value);
    }
    // The real process id, so that pg_backend_pid() agrees; the key is ours, and dies with the session.
    encode::backend_key_data(&mut welcome, live.backend.pid, &live.key);
    for notice in &notices {
        welcome.extend_from_slice(notice);
    }
    if settings.welcome {
        welcome.extend_from_slice(&limits.welcome(since.time));
    }
    encode::ready_for_query(&mut welcome, status);
    let tap = Tap::new(Arc::clone(&live.who), settings.keep, shared.clock.clone());
    let mut relay = Relay {
        client,
        target,
        tap,
        up: Up::new(),
        down: Down::new(),
        pool: shared.pool.clone(),
        clock: shared.clock.clone(),
        journal: shared.journal.clone(),
        heard: since.instant,
        deadline: shared.clock.instant_at(limits.permit().until()),
        stop_when_idle: false,
        live: Arc::clone(live),
    };
    relay.insert(welcome.to_vec());
    if !leftover.is_empty() {
        relay.came_with_login(&leftover);
    }
    relay
}

impl Refusal {
    /// Puts the refusal on record and tells the client.
    pub(super) async fn settle(self, shared: &Shared) {
        let Self {
            mut transport,
            record,
            words,
            ending,
        } = self;
        put_refusal_on_record(record, &ending, shared).await;
        match words {
            Some(words) => {
                let written = timeout(LAST_WORDS, async {
                    transport.write_all(&words).await?;
                    transport.flush().await
                });
                // Whether it took them or not, it is closed next.
                let _ = written.await;
                frontend::close(transport).await;
            }
            None => frontend::refuse(transport, &ending).await,
        }
    }
}

/// Puts on record that a client was refused before it proved anything; it has been told.
pub(super) async fn rejected(rejected: Rejected, shared: &Shared) {
    let mut refused = Refused {
        client: rejected.client.ip(),
        port: rejected.client.port(),
        user: rejected.startup.as_ref().map(|startup| startup.user.clone()),
        database: rejected.startup.as_ref().and_then(|startup| startup.database.clone()),
        grant: None,
        identity: None,
        ending: String::new(),
        sqlstate: String::new(),
        detail: None,
    };
    refused.detail = Some(rejected.error.to_string());
    put_refusal_on_record(refused, &rejected.ending, shared).await;
}

/// The record of a refusal, before its reason is known.
pub(super) fn blank(client: SocketAddr, startup: &Startup) -> Refused {
    Refused {
        client: client.ip(),
        port: client.port(),
        user: Some(startup.user.clone()),
        database: startup.database.clone(),
        grant: None,
        identity: None,
        ending: String::new(),
        sqlstate: String::new(),
        detail: None,
    }
}

/// Whether there is a place for one more connection.
pub(super) fn connection_place(
    place: Result<OwnedSemaphorePermit, u32>,
    shared: &Shared,
) -> Result<OwnedSemaphorePermit, Ending> {
    if shared.draining.load(Ordering::Relaxed) {
        return Err(Ending::Draining);
    }
    place.map_err(|limit| Ending::TooMany {
        scope: Scope::Gate,
        limit,
    })
}

/// Completes the record of a refusal and writes it.
pub(super) async fn put_refusal_on_record(mut refused: Refused, ending: &Ending, shared: &Shared) {
    ending.name().clone_into(&mut refused.ending);
    ending.sqlstate().clone_into(&mut refused.sqlstate);
    if refused.detail.is_none() {
        refused.detail = ending.words().map(|words| words.message);
    }
    shared.metrics.refused(ending.name());
    record(&Event::Refused(Cow::Owned(refused)), shared).await;
}

/// Records what may fail to be recorded without letting anything through: a refusal, a cancel.
pub(super) async fn record(event: &Event<'_>, shared: &Shared) {
    if let Err(error) = shared.journal.record(event).await {
        tracing::error!(%error, "an event could not be put on record");
    }
}

/// A cancel key: 4 bytes up to protocol 3.1, 32 from 3.2 on (protocol: BackendKeyData).
fn random_key(minor: u16) -> Box<[u8]> {
    let bytes: [u8; 32] = random();
    let length = if minor >= 2 { 32 } else { 4 };
    bytes.get(..length).unwrap_or(&bytes).into()
}

/// Bytes from the operating system's generator. Without it nothing here is safe, so there is no going on.
fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    #[expect(clippy::expect_used, reason = "a machine without random numbers can keep no secret")]
    getrandom::fill(&mut bytes).expect("the operating system has random numbers");
    bytes
}
