//! Start of a session for a connected client: it is registered, gets its welcome, and its relay is prepared.
//!
//! No refusal is possible at this stage.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::BytesMut;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::SessionRules;
use super::admit::{AdmittedConnection, OpenedTarget};
use super::filter::SessionFilter;
use super::limits::{ArrivalNote, SessionLimits};
use super::recorder::StatementRecorder;
use super::registry::{RegistryEntry, SessionCommand, SessionHandle, SessionOrders, SessionProgress};
use super::relay::{ClientToTarget, Relay, TargetToClient};
use super::{RecordLimits, SharedState, random};
use crate::access::TargetUse;
use crate::access::quota::{Quota, RECORD_BYTES};
use crate::access::strangers::FailedLogins;
use crate::audit::event::Who;
use crate::base::clock::Moment;
use crate::base::secret::Secret;
use crate::database::provision::Backend;
use crate::database::upstream::Connected;
use crate::gate::metrics::Metrics;
use crate::ledger::{AdmittedSession, SessionPermit};
use crate::model::ending::EndingText;
use crate::model::grant::Grant;
use crate::model::names::IdentityName;
use crate::protocol::wire::{encode, error_response};

/// Time before the end of a token in which its owner is told at each login.
const TOKEN_NOTICE: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Session that is ready to run.
pub(super) struct StartedSession {
    pub(super) relay: Relay,
    pub(super) entry: RegistryEntry,
    pub(super) limits: SessionLimits,
    pub(super) changes: watch::Receiver<Arc<Grant>>,
    pub(super) rules: Arc<SessionRules>,
    pub(super) since: Moment,
    /// Slots under its grant and on the target, free again when dropped.
    pub(super) places: (SessionPermit, OwnedSemaphorePermit),
    /// Use of the target under its grant: held until the backend is gone and the end is on record.
    pub(super) using: TargetUse,
    /// Slot among the connections: held until the client's connection is closed.
    pub(super) connection: OwnedSemaphorePermit,
}

/// Registers a session and prepares its relay, with its welcome already on the way to the client.
#[expect(clippy::too_many_lines, reason = "what a session is made of, in one place")]
pub(super) fn start(
    connection: AdmittedConnection,
    (gate, using): (OwnedSemaphorePermit, TargetUse),
    rules: Arc<SessionRules>,
    shared: &SharedState,
) -> Box<StartedSession> {
    let AdmittedConnection { opened, since, .. } = connection;
    let OpenedTarget {
        target_state,
        mut connected,
        ..
    } = opened;
    let AdmittedSession { permit, changes, slot } = opened.admission;
    let backend = Backend {
        pid: opened.backend.pid,
        opened: since.instant,
        role: opened.role,
    };
    let live = SessionHandle {
        who: opened.who,
        client: connection.client,
        application: connection.application,
        since: since.time,
        target_state,
        backend,
        backend_key: opened.backend,
        grant: changes.clone(),
        key: Secret::new(cancel_key(connection.version)),
        orders: SessionOrders::default(),
        progress: SessionProgress::default(),
    };
    let entry = register(live, shared);
    let live = entry.live();
    let settings = &rules.session;
    let limits = SessionLimits::new(permit, &settings.warnings, settings.idle_timeout, settings.renew_hint.clone());
    let greeted = connection.welcome.unwrap_or(settings.welcome);
    let welcoming = greeted.then(|| limits.welcome(&changes.borrow(), connection.note.as_ref(), since.time));
    let mut notices = notices(connection.failed_before, connection.note, welcoming);
    let expires = connection
        .token_until
        .and_then(|until| token_notice(&live.who.identity, until, since.time));
    notices.extend(expires.iter().flat_map(error_response::notice));
    let welcome = welcome(&connected, live, &notices, connection.welcomed);
    let quota = shared.quotas.of(&live.who.identity, since.instant);
    let mut recorder = recorder(live, (&settings.keep, &quota), shared);
    for (name, value) in &connected.parameters {
        recorder.settings.reported(name.as_bytes(), value.as_bytes());
    }
    let came_with_login = std::mem::take(&mut connected.leftover);
    let mut relay = Relay {
        up: ClientToTarget::new(),
        down: TargetToClient::new(),
        stop_when_idle: false,
        client: connection.transport,
        target: connected.transport,
        recorder,
        pool: shared.pool.clone(),
        clock: shared.clock.clone(),
        journal: shared.journal.clone(),
        idle_since: since.instant,
        deadline: shared.clock.instant_at(limits.permit.until()),
        live: Arc::clone(live),
        quota,
        pause: None,
    };
    // Charged for the records of its start and its end; a client that connects and disconnects endlessly is not even read then.
    relay.charge(2 * RECORD_BYTES, relay.clock.moment().instant);
    relay.down.insert(welcome);
    relay.came_with_login(&came_with_login);
    Box::new(StartedSession {
        relay,
        entry,
        limits,
        changes,
        rules,
        since,
        places: (slot, opened.place),
        using,
        connection: gate,
    })
}

fn recorder(live: &SessionHandle, (keep, quota): (&RecordLimits, &Arc<Quota>), shared: &SharedState) -> StatementRecorder {
    let max_logged = keep.sql;
    let keep = RecordLimits {
        show: live.target_state.show.clone(),
        ..keep.clone()
    };
    let mut recorder = StatementRecorder::new(Arc::clone(&live.who), keep, shared.clock.clone());
    recorder.sent = live.progress.sent.clone();
    recorder.extended.quota = Arc::clone(quota);
    recorder.guard = guard(live, &shared.metrics, max_logged);
    recorder.masked = live.target_state.masked.get(&live.grant.borrow().profile().cloned()).cloned();
    recorder
}

/// Returns the guard rails of the grant's profile.
fn guard(live: &SessionHandle, metrics: &Metrics, max_logged: usize) -> Option<SessionFilter> {
    let grant = live.grant.borrow();
    let rails = live.target_state.rails.get(&grant.profile().cloned())?;
    Some(SessionFilter::new(
        Arc::clone(rails),
        live.who.target.clone(),
        metrics.clone(),
        max_logged,
    ))
}

/// Registers the session: from here on it is listed, counted, and takes orders.
fn register(live: SessionHandle, shared: &SharedState) -> RegistryEntry {
    let entry = shared.registry.enter(live);
    let live = entry.live();
    if let Some(changes) = &live.target_state.changes {
        changes.enter(live.session_backend(), live.since);
    }
    if shared.draining.load(Ordering::Relaxed) {
        // It began while the order to drain was sent to the other sessions.
        live.orders.give(SessionCommand::DrainNow);
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
fn welcome(connected: &Connected, live: &SessionHandle, ours: &[u8], welcomed: bool) -> Vec<u8> {
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
fn notices(failed: Option<FailedLogins>, note: Option<ArrivalNote>, welcoming: Option<Vec<u8>>) -> Vec<u8> {
    let mut notices = failed.map(failed_before).unwrap_or_default();
    // A client with less than it asked for gets a notice of that even without a welcome.
    if let Some(ArrivalNote::Narrowed(words)) = note {
        notices.extend(error_response::notice(&words));
    }
    notices.extend(welcoming.unwrap_or_default());
    notices
}

/// Returns the notice about a token that expires soon, if it does.
pub(super) fn token_notice(owner: &IdentityName, until: Timestamp, now: Timestamp) -> Option<EndingText> {
    let left = until.duration_since(now);
    let hours = left.as_hours().max(0);
    let words = match (hours / 24, hours) {
        (0, 0) => "less than an hour".to_owned(),
        (0, 1) => "1 h".to_owned(),
        (0, hours) => format!("{hours} h"),
        (1, _) => "1 day".to_owned(),
        (days, _) => format!("{days} days"),
    };
    (left < TOKEN_NOTICE).then(|| EndingText {
        code: "01000",
        message: format!(
            "your token expires in {words}, at {}",
            until.strftime("%Y-%m-%d %H:%M:%S UTC")
        ),
        detail: None,
        hint: Some(format!("ask the gate's operator for a new one: tidegate user rotate {owner}")),
    })
}

/// Returns the notice about earlier failed logins, for the owner of the name and for others at the address.
fn failed_before(failed: FailedLogins) -> Vec<u8> {
    let FailedLogins {
        under_name,
        from_address,
        since,
    } = failed;
    error_response::notice(&EndingText {
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
    })
}

/// Returns a new cancel key: 4 bytes up to protocol 3.1, 32 from 3.2 on (protocol: BackendKeyData).
fn cancel_key(minor: u16) -> Box<[u8]> {
    let bytes: [u8; 32] = random();
    let length = if minor >= 2 { 32 } else { 4 };
    bytes.get(..length).unwrap_or(&bytes).into()
}
