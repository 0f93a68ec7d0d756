//! Builds the runtime state of the gate from its settings.
//!
//! It decides nothing, and starts only the provisioning connections.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::Semaphore;

use super::StartError;
use super::descriptors::ConnectionBudget;
use crate::access::strangers::{StrangerLimits, Strangers};
use crate::audit::Journal;
use crate::audit::values::{ParameterDisplay, ParameterPolicy, ValueKey};
use crate::base::clock::Clock;
use crate::base::tls::{ServerTls, ServerTlsCell};
use crate::config::{GateSettings, ProfileSettings, TargetSettings, TlsFiles};
use crate::database::provision::{CaptureSettings, ChangeDrain, DrainContext, GrantRoles, RoleProfile, Terminator};
use crate::database::upstream::Target;
use crate::gate::frontend;
use crate::gate::session::{self, MaskedTables, RecordLimits, SessionRules, TargetLeftovers, TargetState};
use crate::gate::sql_filter::{FilterRulesError, SqlFilter};
use crate::ledger::{Ledger, OpenSession};
use crate::model::names::{ProfileName, TargetName};

/// Session limit of a target whose settings name none; higher than the connection limit of any server.
const DEFAULT_MAX_SESSIONS: u32 = 100_000;

/// Builder of the rules, at the start and at each reload. It keeps the state that must outlive a reload.
pub(super) struct ReloadBuilder {
    clock: Clock,
    journal: Journal,
    ledger: Ledger,
    places: ConnectionBudget,
    pub(super) tls: ServerTlsCell,
    pub(super) strangers: Strangers,
    rooms: HashMap<TargetName, Arc<TargetState>>,
    /// Sessions that a former run of the gate left open; empty once the first rules are in force.
    former: Vec<OpenSession>,
}

/// Result of the steps of a reload that can fail.
pub(super) struct PreparedSettings {
    certificate: ServerTls,
    key: ValueKey,
    targets: Vec<PreparedTarget>,
}

struct PreparedTarget {
    target: Arc<Target>,
    profiles: Option<Vec<RoleProfile>>,
    capture: CaptureSettings,
    rails: ProfileFilters,
    show: ParameterDisplay,
    masked: HashMap<Option<ProfileName>, Arc<MaskedTables>>,
}

impl ReloadBuilder {
    pub(super) fn new(
        settings: &GateSettings,
        places: ConnectionBudget,
        (journal, ledger): (Journal, Ledger),
        former: Vec<OpenSession>,
        clock: Clock,
    ) -> Result<Self, StartError> {
        let limits = StrangerLimits {
            connections: places.handshakes,
            connections_per_address: settings.limits.handshakes_per_address.min(places.handshakes),
            ..StrangerLimits::default()
        };
        Ok(Self {
            tls: ServerTlsCell::new(certificate(&settings.tls, clock.now())?),
            strangers: Strangers::new(limits, clock.clone()),
            clock,
            journal,
            ledger,
            places,
            rooms: HashMap::new(),
            former,
        })
    }

    /// Builds the fallible parts of `settings`. Nothing in force changes.
    pub(super) fn prepare(settings: &GateSettings, now: Timestamp) -> Result<PreparedSettings, StartError> {
        let certificate = certificate(&settings.tls, now)?;
        let key = ValueKey::load_or_make(&settings.audit.value_key())?;
        let mut targets = Vec::with_capacity(settings.targets.len());
        for target in &settings.targets {
            targets.push(PreparedTarget {
                target: Arc::clone(&target.upstream),
                profiles: profiles(target),
                capture: capture(target, &key),
                rails: rails(target)?,
                show: show(target.parameters, &key),
                masked: masked(target),
            });
        }
        Ok(PreparedSettings {
            certificate,
            key,
            targets,
        })
    }

    /// Puts the prepared parts in force for new connections and roles. It cannot fail.
    pub(super) fn put_in_force(&mut self, prepared: PreparedSettings, settings: &GateSettings) -> SessionRules {
        let PreparedSettings {
            certificate,
            key,
            targets,
        } = prepared;
        let rooms: HashMap<_, _> = targets
            .into_iter()
            .map(|prepared| (prepared.target.name.clone(), self.target_state(prepared)))
            .collect();
        self.rooms.clone_from(&rooms);
        self.former.clear();
        self.tls.replace(certificate);
        SessionRules {
            frontend: frontend::HandshakeSettings {
                tls: self.tls.clone(),
                plaintext: settings.plaintext,
                token_in_clear: settings.access.identity_without_tls,
                oauth: Arc::clone(&settings.oauth),
                handshake: settings.limits.handshake_timeout,
                clock: self.clock.clone(),
            },
            session: session(settings, self.places, key),
            targets: rooms,
        }
    }

    #[cfg(test)]
    pub(super) fn room_in_force(&self, target: &TargetName) -> Option<Arc<TargetState>> {
        self.rooms.get(target).cloned()
    }

    fn target_state(&self, prepared: PreparedTarget) -> Arc<TargetState> {
        let PreparedTarget {
            target,
            profiles,
            capture,
            rails,
            show,
            masked,
        } = prepared;
        let limit = target.max_sessions.unwrap_or(DEFAULT_MAX_SESSIONS);
        let known = self.rooms.get(&target.name).map(Arc::as_ref);
        // Permits in use stay in use as long as the limit is the same.
        let places = match known {
            Some(target_state) if target_state.limit == limit => Arc::clone(&target_state.places),
            _ => Arc::new(Semaphore::new(limit as usize)),
        };
        // Unknown at the start, before the first check; none for a target that a reload adds.
        let leftovers = match known {
            Some(target_state) => target_state.leftovers.clone(),
            None if self.rooms.is_empty() => TargetLeftovers::unknown(),
            None => TargetLeftovers::none(),
        };
        Arc::new(TargetState {
            terminator: self.terminator(known, &target),
            leftovers,
            changes: profiles.is_some().then(|| self.changes(known, &target, capture)),
            roles: profiles.map(|profiles| self.roles(known, &target, profiles)),
            target,
            places,
            limit,
            show,
            rails,
            masked,
        })
    }

    /// Returns the target's terminator. It outlives a reload: the same connection ends sessions from before and after. If the
    /// target's server has changed, the sessions on the old server keep their terminator until the last of them has ended.
    fn terminator(&self, known: Option<&TargetState>, target: &Arc<Target>) -> Terminator {
        known
            .map(|target_state| target_state.terminator.clone())
            .filter(|terminator| terminator.renew(target))
            .unwrap_or_else(|| Terminator::spawn(Arc::clone(target), self.clock.clone()))
    }

    /// Returns the target's roles. They outlive a reload, because their passwords exist in memory only and their ends are still
    /// due. If the target's server has changed, the roles on the old server end with their grants.
    fn roles(&self, known: Option<&TargetState>, target: &Arc<Target>, profiles: Vec<RoleProfile>) -> GrantRoles {
        known
            .and_then(|target_state| target_state.roles.clone())
            .filter(|roles| roles.renew(target, &profiles))
            .unwrap_or_else(|| GrantRoles::new(Arc::clone(target), profiles, self.journal.clone(), self.clock.clone()))
    }

    /// Returns the task that moves the target's captured changes to the log. It outlives a reload, because it knows the sessions
    /// whose changes may still come.
    fn changes(&self, known: Option<&TargetState>, target: &Arc<Target>, settings: CaptureSettings) -> ChangeDrain {
        let context = || DrainContext {
            journal: self.journal.clone(),
            ledger: self.ledger.clone(),
            clock: self.clock.clone(),
        };
        known
            .and_then(|target_state| target_state.changes.clone())
            .filter(|changes| changes.renew(target, &settings))
            .unwrap_or_else(|| ChangeDrain::spawn(Arc::clone(target), settings, context(), &self.former))
    }
}

/// Guard rails by profile, for profiles that have some. `None` is the key of grants that name no profile.
type ProfileFilters = HashMap<Option<ProfileName>, Arc<SqlFilter>>;

fn rails(target: &TargetSettings) -> Result<ProfileFilters, FilterRulesError> {
    let mut made = ProfileFilters::new();
    for (at, profile) in target.profiles.iter().enumerate() {
        let Some(rules) = &profile.rails else { continue };
        let rails = Arc::new(SqlFilter::new(rules, profile.name.clone())?);
        if at == 0 {
            // Like its rights, the guard rails of a grant without a profile are those of the narrowest profile.
            made.insert(None, Arc::clone(&rails));
        }
        made.insert(Some(profile.name.clone()), rails);
    }
    Ok(made)
}

/// Returns the settings for the changes that are captured at a target.
fn capture(target: &TargetSettings, key: &ValueKey) -> CaptureSettings {
    let masks = |profile: &ProfileSettings| {
        let masks = profile.rights.as_ref().map(|rights| rights.masks.clone());
        masks
            .filter(|masks| !masks.is_empty())
            .map(|masks| (profile.name.clone(), masks))
    };
    CaptureSettings {
        captures: target.profiles.iter().any(|profile| !profile.capture.is_empty()),
        masks: target.profiles.iter().filter_map(masks).collect(),
        show: show(target.parameters, key),
        value_key: key.clone(),
    }
}

/// Returns the masked tables of each profile. Those of the narrowest profile also serve grants that name no profile.
fn masked(target: &TargetSettings) -> HashMap<Option<ProfileName>, Arc<MaskedTables>> {
    let mut made = HashMap::new();
    for (at, profile) in target.profiles.iter().enumerate() {
        let Some((views, rights)) = profile.views(&target.upstream.name).zip(profile.rights.as_ref()) else {
            continue;
        };
        let tables = rights.masks.iter().map(|mask| (mask.schema.clone(), mask.name.clone()));
        let masked = Arc::new(MaskedTables::new(views.quoted(), tables.collect()));
        if at == 0 {
            made.insert(None, Arc::clone(&masked));
        }
        made.insert(Some(profile.name.clone()), masked);
    }
    made
}

/// Returns the profiles that the roles of the target's grants are made from. `None` means that its sessions share one account.
pub(super) fn profiles(settings: &TargetSettings) -> Option<Vec<RoleProfile>> {
    let profile = |profile: &ProfileSettings| RoleProfile {
        name: profile.name.clone(),
        connections: profile.connection_limit,
        settings: profile.settings.clone(),
        views: profile.views(&settings.upstream.name),
        copy: profile.copy.clone(),
        // The rights of a profile made by hand are unknown: assume that it may create objects.
        creates: profile.rights.as_ref().is_none_or(|rights| !rights.create.is_empty()),
    };
    settings.has_rights().then(|| settings.profiles.iter().map(profile).collect())
}

fn session(settings: &GateSettings, places: ConnectionBudget, key: ValueKey) -> session::SessionSettings {
    let table = &settings.session;
    session::SessionSettings {
        warnings: table.warnings.clone(),
        welcome: table.welcome,
        idle_timeout: table.idle_timeout,
        end_grace: table.end_grace,
        renew_hint: table.renew_hint.clone(),
        waiting: session::WaitSettings {
            limit: settings.access.login_wait,
            repeat: settings.access.login_notice,
            logins: settings.limits.waiting_logins.min(places.waiting_logins),
            of_one: settings.limits.waiting_logins_per_identity,
        },
        keep: RecordLimits {
            sql: settings.audit.max_sql_bytes,
            parameter: settings.audit.max_parameter_bytes,
            show: ParameterDisplay::Full,
            key,
        },
    }
}

fn show(policy: ParameterPolicy, key: &ValueKey) -> ParameterDisplay {
    match policy {
        ParameterPolicy::Full => ParameterDisplay::Full,
        ParameterPolicy::Hashed => ParameterDisplay::Hashed(key.clone()),
        ParameterPolicy::None => ParameterDisplay::None,
    }
}

fn certificate(files: &TlsFiles, now: Timestamp) -> Result<ServerTls, StartError> {
    Ok(match files {
        TlsFiles::Given { cert, key } => ServerTls::load(cert, key)?,
        TlsFiles::SelfSigned { dir, names } => ServerTls::self_signed(dir, names, now)?,
    })
}

/// Returns the names of changed settings that are read only at the start.
pub(super) fn needs_restart(old: &GateSettings, new: &GateSettings) -> Vec<&'static str> {
    let handshakes = |settings: &GateSettings| (settings.limits.handshakes, settings.limits.handshakes_per_address);
    let logging = |settings: &GateSettings| format!("{:?}", settings.logging);
    let changed = [
        ("listen", old.listen != new.listen),
        ("advertise", old.advertise != new.advertise),
        ("state_dir", old.state_dir != new.state_dir),
        ("limits.connections", old.limits.connections != new.limits.connections),
        ("limits.handshakes", handshakes(old) != handshakes(new)),
        (
            "limits.session_threads",
            old.limits.session_threads != new.limits.session_threads,
        ),
        ("audit", old.audit != new.audit),
        ("audit.forward", old.forward != new.forward),
        ("audit.forward.checkpoint_every", old.checkpoint_every != new.checkpoint_every),
        ("control", old.control != new.control),
        ("console.listen", old.console.listen != new.console.listen),
        ("log", logging(old) != logging(new)),
    ];
    changed
        .into_iter()
        .filter(|(_, changed)| *changed)
        .map(|(key, _)| key)
        .collect()
}
