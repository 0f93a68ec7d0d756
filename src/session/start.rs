//! From a connected client to a running session: registered, welcomed, ready to be carried.
//!
//! Nothing can be refused any more.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::BytesMut;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::admit::{Connection, Opened, Rules, TargetRoom};
use super::limits::Limits;
use super::registry::{Entry, Live, Newcomer, Order};
use super::relay::{Down, Relay, Up};
use super::tap::Tap;
use super::{Shared, random};
use crate::clock::Moment;
use crate::grant::Grant;
use crate::ledger::{Admission, Slot};
use crate::provision::Backend;
use crate::upstream::Connected;
use crate::wire::encode;

/// A session that is about to be carried.
pub(super) struct Started {
    pub(super) relay: Relay,
    pub(super) entry: Entry,
    pub(super) limits: Limits,
    pub(super) changes: watch::Receiver<Arc<Grant>>,
    pub(super) room: Arc<TargetRoom>,
    pub(super) rules: Arc<Rules>,
    pub(super) since: Moment,
    pub(super) backend: Backend,
    pub(super) places: Places,
}

/// Its places, free again when dropped: under its grant, on the target, among the connections.
pub(super) struct Places {
    _grant: Slot,
    _target: OwnedSemaphorePermit,
    _gate: OwnedSemaphorePermit,
}

/// Registers a session and prepares what carries it, with its welcome already on the way to the client.
pub(super) fn start(connection: Connection, gate: OwnedSemaphorePermit, rules: Arc<Rules>, shared: &Shared) -> Started {
    let Connection {
        transport,
        client,
        version,
        opened,
        application,
        since,
    } = connection;
    let Opened {
        who,
        admission,
        room,
        place,
        mut connected,
        backend: key,
    } = opened;
    let Admission { permit, changes, slot } = admission;
    let backend = Backend {
        pid: key.pid,
        opened: since.instant,
    };
    let entry = shared.registry.enter(Newcomer {
        who,
        client,
        application,
        since: since.time,
        target: Arc::clone(&room.target),
        backend: key,
        grant: changes.clone(),
        key: cancel_key(version),
    });
    let live = entry.live();
    if shared.draining.load(Ordering::Relaxed) {
        // It came in while the order to drain went out to the others.
        live.orders.send_replace(Order::Drain);
    }
    shared.metrics.session_started(&live.who.target);
    tracing::info!(session = %live.who.session, grant = %live.who.grant, identity = %live.who.identity, target_name = %live.who.target, %client, "session started");
    let settings = &rules.session;
    let limits = Limits::new(permit, &settings.warnings, settings.idle_timeout, settings.renew_hint.clone());
    let notice = settings.welcome.then(|| limits.welcome(since.time));
    let welcome = welcome(&connected, live, notice);
    let came_with_login = std::mem::take(&mut connected.leftover);
    let mut relay = Relay {
        client: transport,
        target: connected.transport,
        tap: Tap::new(Arc::clone(&live.who), settings.keep, shared.clock.clone()),
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
    relay.insert(welcome);
    relay.came_with_login(&came_with_login);
    let places = Places {
        _grant: slot,
        _target: place,
        _gate: gate,
    };
    Started {
        relay,
        entry,
        limits,
        changes,
        room,
        rules,
        since,
        backend,
        places,
    }
}

/// From AuthenticationOk to ReadyForQuery.
fn welcome(connected: &Connected, live: &Live, notice: Option<Vec<u8>>) -> Vec<u8> {
    let mut out = BytesMut::with_capacity(1024);
    encode::authentication_ok(&mut out);
    for (name, value) in &connected.parameters {
        encode::parameter_status(&mut out, name, value);
    }
    // The real process id, so that pg_backend_pid() agrees; the key is ours, and dies with the session.
    encode::backend_key_data(&mut out, live.backend.pid, &live.key);
    for passed_on in &connected.notices {
        out.extend_from_slice(passed_on);
    }
    out.extend_from_slice(&notice.unwrap_or_default());
    encode::ready_for_query(&mut out, connected.status);
    out.to_vec()
}

/// A cancel key: 4 bytes up to protocol 3.1, 32 from 3.2 on (protocol: BackendKeyData).
fn cancel_key(minor: u16) -> Box<[u8]> {
    let bytes: [u8; 32] = random();
    let length = if minor >= 2 { 32 } else { 4 };
    bytes.get(..length).unwrap_or(&bytes).into()
}
