//! Admission: gives an authenticated client a permit, a slot of the target, a connection to it, and the record of its start.
//!
//! This module does not decide: the access service does. [`super::refusal`] handles refusals.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rustls::ProtocolVersion;
use tokio::sync::OwnedSemaphorePermit;

use super::arrive::{AuthorizedClient, GrantPass};
use super::copying::PendingClient;
use super::limits::ArrivalNote;
use super::refusal::{RefusalReason, RefusedLogin};
use super::registry::ArrivingLogin;
use super::target_state::TargetState;
use super::{SessionRules, SharedState, random};
use crate::access::strangers::FailedLogins;
use crate::access::{Admission, Attribution};
use crate::audit::event::{ConnectionRefused, Event, SessionStarted, TlsVersion, Who};
use crate::base::clock::Moment;
use crate::base::error_chain::display_chain;
use crate::base::tls::Transport;
use crate::database::provision::{GrantRoles, RoleError};
use crate::database::upstream::{self, BackendKey, ConnectError, Connected, StartupParameters, Target, TargetAccount};
use crate::gate::frontend::{self, Authenticated};
use crate::ledger::{AdmittedSession, OpenSession};
use crate::model::ending::{Ending, LimitScope};
use crate::model::ids::{GrantId, SessionId};
use crate::model::names::TargetName;
use crate::protocol::wire::startup::{Replication, StartupMessage};

/// Waiting times for backends that have just ended, if the server reports that the grant's role has too many connections.
const FULL_RETRY_DELAYS: [Duration; 4] = [
    Duration::from_millis(20),
    Duration::from_millis(60),
    Duration::from_millis(150),
    Duration::from_millis(300),
];

/// Client with a permit and a connection to the target; its start is on record.
pub(super) struct AdmittedConnection {
    /// Registration as an arriving client, until it is a session.
    pub(super) _arriving: ArrivingLogin,
    pub(super) transport: Transport,
    /// True if AuthenticationOk has already been sent.
    pub(super) welcomed: bool,
    /// Client's own setting for the notice at login.
    pub(super) welcome: Option<bool>,
    pub(super) client: SocketAddr,
    /// Minor version of the protocol spoken with the client.
    pub(super) version: u16,
    pub(super) opened: OpenedTarget,
    pub(super) application: Option<String>,
    pub(super) since: Moment,
    /// Earlier failures under its name or from its address, to be reported.
    pub(super) failed_before: Option<FailedLogins>,
    /// Note on the origin of its grant.
    pub(super) note: Option<ArrivalNote>,
    /// Time at which its token expires, if it has sent one that does.
    pub(super) token_until: Option<Timestamp>,
}

/// Permit, slot and connection of an admitted client.
pub(super) struct OpenedTarget {
    pub(super) who: Arc<Who>,
    pub(super) admission: AdmittedSession,
    pub(super) target_state: Arc<TargetState>,
    pub(super) place: OwnedSemaphorePermit,
    pub(super) connected: Connected,
    pub(super) backend: BackendKey,
    /// Role that it is logged in as.
    pub(super) role: Option<Arc<str>>,
    /// Grant's own database, if the session is in one.
    pub(super) copy: Option<Arc<str>>,
}

/// Admits a client and connects it, or returns the refusal.
#[expect(clippy::too_many_lines, reason = "what an admitted client is made of, in one place")]
pub(super) async fn admit(
    arrival: AuthorizedClient,
    rules: &SessionRules,
    shared: &SharedState,
) -> Result<AdmittedConnection, RefusedLogin> {
    let AuthorizedClient {
        arriving,
        client,
        pass,
        mut record,
    } = arrival;
    let Authenticated {
        mut transport,
        client,
        startup,
        failed_before,
        ..
    } = client;
    let mut welcomed = pass.welcomed;
    let pending = PendingClient {
        transport: &mut transport,
        welcomed: &mut welcomed,
        repeat: rules.session.waiting.repeat,
    };
    let (opened, origin) = match open(&startup, &pass, &mut record, pending, rules, shared).await {
        Ok(opened) => opened,
        Err(denied) => {
            return Err(RefusedLogin {
                arriving,
                transport,
                record,
                denied,
            });
        }
    };
    let since = shared.clock.moment();
    let started = SessionStarted {
        who: Who::clone(&opened.who),
        client: client.ip(),
        port: client.port(),
        tls: tls_version(&transport).into(),
        application: startup.application_name().map(str::to_owned),
        backend_pid: opened.backend.pid,
        until: opened.admission.permit.until(),
        groups: origin.groups.iter().map(ToString::to_string).collect(),
        run: pass.run.or(origin.run),
        masked_tables: masked_tables(&opened),
        copy: opened.copy.as_deref().map(str::to_owned),
    };
    if let Err(ending) = put_on_record(&started, since, shared).await {
        return Err(RefusedLogin {
            arriving,
            transport,
            record,
            denied: ending.into(),
        });
    }
    Ok(AdmittedConnection {
        _arriving: arriving,
        welcomed,
        welcome: pass.welcome,
        transport,
        client,
        version: startup.version(),
        opened,
        application: started.application,
        since,
        failed_before,
        note: pass.note,
        token_until: pass.token_until,
    })
}

/// Runs all steps that can refuse the client, in order. Facts proved on the way are noted in `record`.
async fn open(
    startup: &StartupMessage,
    pass: &GrantPass,
    record: &mut ConnectionRefused,
    pending: PendingClient<'_>,
    rules: &SessionRules,
    shared: &SharedState,
) -> Result<(OpenedTarget, Attribution), RefusalReason> {
    let (id, client) = (pass.grant.clone(), record.client);
    record.grant = Some(id.clone());
    if let Some(ahead) = shared.clock.doubted_lead() {
        return Err(Ending::ClockDoubted { ahead }.into());
    }
    wait_for_leftovers(&id, rules, shared).await?;
    let admitted = shared.service.admit(&id, pass.database.as_deref(), client).await;
    let Admission {
        session: admission,
        attribution,
    } = admitted.map_err(|refused| {
        record.identity = refused.identity.or_else(|| record.identity.take());
        refused.ending
    })?;
    let permit = &admission.permit;
    let target = permit.target();
    record.identity = Some(permit.identity().clone());
    let target_state = rules
        .targets
        .get(target)
        .ok_or_else(|| Ending::TargetUnreachable { target: target.clone() })?;
    let parameters = parameters(startup, &target_state.target)?;
    let full = |_| Ending::TooMany {
        scope: LimitScope::Target(target.clone()),
        limit: target_state.limit,
    };
    let place = Arc::clone(&target_state.places).try_acquire_owned().map_err(full)?;
    let login = connect(target_state, &admission, &parameters, pending, shared).await?;
    let TargetLogin { connected, role, copy } = login;
    let Some(backend) = connected.backend.clone() else {
        // A backend without a known process id cannot be ended on time.
        let detail = Some("the target gave no BackendKeyData".to_owned());
        return Err(RefusalReason {
            detail,
            ..Ending::TargetRefused { target: target.clone() }.into()
        });
    };
    let who = Arc::new(Who {
        session: SessionId::from_random(random()),
        grant: permit.grant().clone(),
        identity: permit.identity().clone(),
        target: target.clone(),
        profile: admission.changes.borrow().profile().cloned(),
    });
    let opened = OpenedTarget {
        who,
        target_state: Arc::clone(target_state),
        admission,
        place,
        connected,
        backend,
        role,
        copy,
    };
    Ok((opened, attribution))
}

/// Waits until the sessions of a previous run at the grant's target are ended, before its window opens. (An unknown grant is
/// refused later.)
async fn wait_for_leftovers(id: &GrantId, rules: &SessionRules, shared: &SharedState) -> Result<(), Ending> {
    if rules.targets.values().all(|target_state| target_state.leftovers.settled()) {
        return Ok(());
    }
    let Some(target) = shared.service.target_of(id).await else {
        return Ok(());
    };
    match rules.targets.get(&target) {
        Some(target_state) if !target_state.leftovers.wait().await => Err(Ending::LeftoversPending { target }),
        _ => Ok(()),
    }
}

/// Login at a target.
struct TargetLogin {
    connected: Connected,
    role: Option<Arc<str>>,
    copy: Option<Arc<str>>,
}

/// Connects to the target: as the grant's role if grants have roles there, and in no other way.
async fn connect(
    target_state: &TargetState,
    admission: &AdmittedSession,
    parameters: &StartupParameters,
    mut pending: PendingClient<'_>,
    shared: &SharedState,
) -> Result<TargetLogin, RefusalReason> {
    let (target, permit) = (&target_state.target, &admission.permit);
    let Some(roles) = &target_state.roles else {
        let connected = upstream::connect(permit, target, &target.account, parameters).await;
        let connected = connected.map_err(|error| not_connected(error, &target.name))?;
        // The name is copied, because a reload may change the target's account while this session lives.
        return Ok(TargetLogin {
            connected,
            role: Some(target.account.user.as_str().into()),
            copy: None,
        });
    };
    let mut pauses = FULL_RETRY_DELAYS.into_iter();
    let mut fresh = false;
    loop {
        let account = account(roles, admission, &mut pending, shared).await?;
        let error = match upstream::connect(permit, target, &account, parameters).await {
            Ok(connected) => {
                return Ok(TargetLogin {
                    connected,
                    role: Some(account.user.as_str().into()),
                    copy: account.own_database().cloned(),
                });
            }
            Err(error) => error,
        };
        match (error.code(), account.grant.as_ref().map(|of| of.connections)) {
            // invalid_password, invalid_authorization_specification: the role was dropped or has another password.
            (Some("28P01" | "28000"), _) if !std::mem::replace(&mut fresh, true) => {
                roles.distrust(permit.grant(), &account).await;
            }
            // invalid_catalog_name: the grant's own database was dropped.
            (Some("3D000"), _) if account.own_database().is_some() && !std::mem::replace(&mut fresh, true) => {
                roles.distrust(permit.grant(), &account).await;
            }
            // too_many_connections: the backends of sessions that have just ended may still exist.
            (Some("53300"), limit) => match (pauses.next(), limit) {
                (Some(pause), _) => tokio::time::sleep(pause).await,
                (None, Some(limit)) if error.is_account_limit() => {
                    let scope = LimitScope::Grant(permit.grant().clone());
                    return Err(Ending::TooMany { scope, limit }.into());
                }
                (None, _) => return Err(not_connected(error, &target.name)),
            },
            _ => return Err(not_connected(error, &target.name)),
        }
    }
}

/// Returns the account of the grant's role, which is created if necessary, with the grant's own database.
async fn account(
    roles: &GrantRoles,
    admission: &AdmittedSession,
    pending: &mut PendingClient<'_>,
    shared: &SharedState,
) -> Result<Arc<TargetAccount>, RefusalReason> {
    let denied = |error: RoleError| {
        let grant = admission.changes.borrow();
        tracing::warn!(target_name = %grant.target(), grant = %grant.id(), error = %display_chain(&error), "refused a session: cannot create the role of its grant");
        RefusalReason {
            detail: Some(error.to_string()),
            ..error.ending(&grant, shared.clock.now()).into()
        }
    };
    let made = roles.account(admission.changes.clone());
    let made = pending.wait_for(made, (roles, admission.permit.grant()), shared).await?;
    made.map_err(denied)
}

/// Returns the settings of the startup packet that are forwarded to the target.
fn parameters(startup: &StartupMessage, target: &Target) -> Result<StartupParameters, Ending> {
    if startup.replication != Replication::No && !target.replication {
        return Err(Ending::ReplicationRefused {
            target: target.name.clone(),
        });
    }
    let mut parameters = frontend::allowed(&startup.settings)?;
    let replication = match startup.replication {
        Replication::No => None,
        Replication::Physical => Some("true"),
        Replication::Logical => Some("database"),
    };
    parameters.extend(replication.map(|value| ("replication".to_owned(), value.to_owned())));
    Ok(StartupParameters(parameters))
}

fn not_connected(error: ConnectError, target: &TargetName) -> RefusalReason {
    let reason = display_chain(&error);
    tracing::warn!(target_name = %target, reason, "refused a session: cannot log in at the target");
    let ending = error.ending(target);
    let words = if let ConnectError::Startup { frame, .. } = error {
        Some(frame)
    } else {
        None
    };
    RefusalReason {
        ending,
        words,
        detail: Some(reason),
    }
}

/// Returns the number of tables that the session sees through masks.
fn masked_tables(opened: &OpenedTarget) -> u64 {
    let profile = opened.who.profile.clone();
    opened.target_state.masked.get(&profile).map_or(0, |masked| masked.count())
}

fn tls_version(transport: &Transport) -> TlsVersion {
    match transport.tls_version() {
        None => TlsVersion::None,
        Some(ProtocolVersion::TLSv1_2) => TlsVersion::Tls12,
        Some(_) => TlsVersion::Tls13,
    }
}

/// Records the start: first in the log, then in the store (where the next start looks for sessions of a crashed gate).
async fn put_on_record(started: &SessionStarted, since: Moment, shared: &SharedState) -> Result<(), Ending> {
    if let Err(error) = shared.journal.record(&Event::SessionStarted(Cow::Borrowed(started))).await {
        tracing::error!(error = %display_chain(&error), "refused a login: cannot write its audit record");
        return Err(error.ending());
    }
    let Who {
        session,
        grant,
        identity,
        target,
        profile: _,
    } = started.who.clone();
    let open = OpenSession {
        session,
        grant,
        identity,
        target,
        backend_pid: started.backend_pid,
        opened_at: since.time,
    };
    shared.ledger.session_opened(open).await.map_err(|error| {
        tracing::error!(error = %display_chain(&error), "refused a login: cannot store the session");
        Ending::LedgerFailed
    })
}
