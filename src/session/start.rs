//! Start of a session for a connected client: it is registered, gets its welcome, and its relay is prepared.
//!
//! No refusal is possible at this stage.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::BytesMut;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::Rules;
use super::admit::{Connection, Opened};
use super::guard::Guard;
use super::limits::{Limits, Note};
use super::registry::{Entry, Live, Order, Progress};
use super::relay::{Down, Relay, Up};
use super::tap::Tap;
use super::{Keep, Shared, random};
use crate::audit::event::Who;
use crate::clock::Moment;
use crate::ending::Words;
use crate::grant::Grant;
use crate::ledger::{Admission, Slot};
use crate::metrics::Metrics;
use crate::provision::Backend;
use crate::quota::{Quota, RECORD_BYTES};
use crate::secret::Secret;
use crate::strangers::FailedLogins;
use crate::upstream::Connected;
use crate::wire::{encode, error_response};

/// Session that is ready to run.
pub(super) struct Started {
    pub(super) relay: Relay,
    pub(super) entry: Entry,
    pub(super) limits: Limits,
    pub(super) changes: watch::Receiver<Arc<Grant>>,
    pub(super) rules: Arc<Rules>,
    pub(super) since: Moment,
    pub(super) places: Places,
    /// Slot among the connections: held until the client's connection is closed.
    pub(super) connection: OwnedSemaphorePermit,
}

/// Slots under its grant and on the target, free again when dropped.
pub(super) struct Places {
    _grant: Slot,
    _target: OwnedSemaphorePermit,
}

/// Registers a session and prepares its relay, with its welcome already on the way to the client.
#[expect(clippy::too_many_lines, reason = "what a session is made of, in one place")]
pub(super) fn start(connection: Connection, gate: OwnedSemaphorePermit, rules: Arc<Rules>, shared: &Shared) -> Started {
    let Connection { opened, since, .. } = connection;
    let Opened { room, mut connected, .. } = opened;
    let Admission { permit, changes, slot } = opened.admission;
    let backend = Backend {
        pid: opened.backend.pid,
        opened: since.instant,
        role: opened.role,
    };
    let live = Live {
        who: opened.who,
        client: connection.client,
        application: connection.application,
        since: since.time,
        room,
        backend,
        backend_key: opened.backend,
        grant: changes.clone(),
        key: Secret::new(cancel_key(connection.version)),
        orders: watch::Sender::new(Order::None),
        progress: Progress::default(),
    };
    let entry = register(live, shared);
    let live = entry.live();
    let settings = &rules.session;
    let limits = Limits::new(permit, &settings.warnings, settings.idle_timeout, settings.renew_hint.clone());
    let greeted = connection.welcome.unwrap_or(settings.welcome);
    let welcoming = greeted.then(|| limits.welcome(&changes.borrow(), connection.note.as_ref(), since.time));
    let notices = notices(connection.failed_before, connection.note, welcoming);
    let welcome = welcome(&connected, live, &notices, connection.welcomed);
    let quota = shared.quotas.of(&live.who.identity, since.instant);
    let mut tap = tap(live, (&settings.keep, &quota), shared);
    for (name, value) in &connected.parameters {
        tap.settings.told(name.as_bytes(), value.as_bytes());
    }
    let came_with_login = std::mem::take(&mut connected.leftover);
    let mut relay = Relay {
        up: Up::new(),
        down: Down::new(),
        stop_when_idle: false,
        client: connection.transport,
        target: connected.transport,
        tap,
        pool: shared.pool.clone(),
        clock: shared.clock.clone(),
        journal: shared.journal.clone(),
        heard: since.instant,
        deadline: shared.clock.instant_at(limits.permit().until()),
        live: Arc::clone(live),
        quota,
        pause: None,
    };
    // Charged for the records of its start and its end; a client that connects and disconnects endlessly is not even read then.
    relay.charge(2 * RECORD_BYTES);
    relay.insert(welcome);
    relay.came_with_login(&came_with_login);
    let places = Places {
        _grant: slot,
        _target: opened.place,
    };
    Started {
        relay,
        entry,
        limits,
        changes,
        rules,
        since,
        places,
        connection: gate,
    }
}

fn tap(live: &Live, (keep, quota): (&Keep, &Arc<Quota>), shared: &Shared) -> Tap {
    let max_logged = keep.sql;
    let keep = Keep {
        show: live.room.show.clone(),
        ..keep.clone()
    };
    let mut tap = Tap::new(Arc::clone(&live.who), keep, shared.clock.clone());
    tap.share(quota);
    tap.guard = guard(live, &shared.metrics, max_logged);
    tap.masked = live.room.masked.get(&live.grant.borrow().profile().cloned()).cloned();
    tap
}

/// Returns the guard rails of the grant's profile.
fn guard(live: &Live, metrics: &Metrics, max_logged: usize) -> Option<Guard> {
    let grant = live.grant.borrow();
    let rails = live.room.rails.get(&grant.profile().cloned())?;
    Some(Guard::new(
        Arc::clone(rails),
        live.who.target.clone(),
        metrics.clone(),
        max_logged,
    ))
}

/// Registers the session: from here on it is listed, counted, and takes orders.
fn register(live: Live, shared: &Shared) -> Entry {
    let entry = shared.registry.enter(live);
    let live = entry.live();
    if shared.draining.load(Ordering::Relaxed) {
        // It began while the order to drain was sent to the other sessions.
        live.orders.send_replace(Order::DrainNow);
    }
    let Who {
        session,
        grant,
        identity,
        target,
        profile: _,
    } = &*live.who;
    shared.metrics.session_started(target);
    tracing::info!(%session, %grant, %identity, target_name = %target, client = %live.client, "session started");
    entry
}

/// Returns the messages from AuthenticationOk (unless a login that waited already has it) to ReadyForQuery.
fn welcome(connected: &Connected, live: &Live, ours: &[u8], welcomed: bool) -> Vec<u8> {
    let mut out = BytesMut::with_capacity(1024);
    if !welcomed {
        encode::authentication_ok(&mut out);
    }
    for (name, value) in &connected.parameters {
        encode::parameter_status(&mut out, name, value);
    }
    // The process id is the real one, so that pg_backend_pid() agrees; the key is the gate's own, and becomes invalid with the
    // session.
    encode::backend_key_data(&mut out, live.backend.pid, live.key.expose());
    for passed_on in &connected.notices {
        out.extend_from_slice(passed_on);
    }
    out.extend_from_slice(ours);
    encode::ready_for_query(&mut out, connected.status);
    out.to_vec()
}

/// Returns the gate's own notices for the client, in addition to the target's.
fn notices(failed: Option<FailedLogins>, note: Option<Note>, welcoming: Option<Vec<u8>>) -> Vec<u8> {
    let mut notices = failed.map(failed_before).unwrap_or_default();
    // A client with less than it asked for gets a notice of that even without a welcome.
    if let Some(Note::Narrowed(words)) = note {
        let mut out = BytesMut::new();
        error_response::notice(&mut out, &words);
        notices.extend_from_slice(&out);
    }
    notices.extend(welcoming.unwrap_or_default());
    notices
}

/// Returns the notice about earlier failed logins, for the owner of the name and for others at the address.
fn failed_before(failed: FailedLogins) -> Vec<u8> {
    let FailedLogins {
        under_name,
        from_address,
        since,
    } = failed;
    let words = Words {
        code: "01000",
        message: format!(
            "failed logins since {}: {under_name} under this name, {from_address} from this address under any name",
            since.strftime("%Y-%m-%d %H:%M:%S UTC")
        ),
        detail: None,
        hint: Some(
            "none of them came in; if they were not yours, tell the gate's operator: the log says where they came from"
                .to_owned(),
        ),
    };
    let mut out = BytesMut::new();
    error_response::notice(&mut out, &words);
    out.to_vec()
}

/// Returns a new cancel key: 4 bytes up to protocol 3.1, 32 from 3.2 on (protocol: BackendKeyData).
fn cancel_key(minor: u16) -> Box<[u8]> {
    let bytes: [u8; 32] = random();
    let length = if minor >= 2 { 32 } else { 4 };
    bytes.get(..length).unwrap_or(&bytes).into()
}
