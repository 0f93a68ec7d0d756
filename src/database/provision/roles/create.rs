//! Creation of a grant's role, in one round trip, with the settings of its sessions; a role that a former run of this gate left
//! is taken over.
//!
//! It does not drop roles. INVARIANT: the server never sees the password, only its verifier; a role is created completely or not
//! at all; no element of the `search_path` that holds without masks is lost.

use std::sync::Arc;
use std::time::Duration;

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;

use super::copies::NewCopy;
use super::setting::{behind, setting};
use super::{GrantRoles, GrantRolesInner, RoleError, RoleFault, RoleProfile, RoleSlot, RoleState};
use crate::audit::event::RoleChangeKind;
use crate::base::backoff::Backoff;
use crate::base::error_chain::display_chain;
use crate::base::secret::Secret;
use crate::database::rights::{RoleMarker, RoleName, profile_role, quoted, quoted_text};
use crate::database::upstream::{GrantAccount, KeyCache, Target, TargetAccount};
use crate::model::grant::{Grant, GrantState};
use crate::protocol::scram::{ClientKeys, ITERATIONS, SALT_BYTES, Verifier};

/// Number of random bytes of a password; guessing it is hopeless with any number of SCRAM iterations.
const PASSWORD_BYTES: usize = 32;
/// Factor between connections and sessions: as many sessions may be closing as are open.
const CONNECTIONS_PER_SESSION: u32 = 2;
/// Maximum number of attempts after collisions with other changes of the catalogue.
const MAX_ATTEMPTS: u32 = 4;
/// Waits between them.
const RETRY_BACKOFF: Backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));

/// `duplicate_object`.
const DUPLICATE_OBJECT: &str = "42710";

/// Statement that returns the initial `search_path` of sessions in a database without a setting for their role
/// (`process_settings`, utils/init/postinit.c): the setting of the database, of all roles, or of the server. The last is the
/// initial value of the asking session itself, unless a setting for it alone overrides that.
///
/// A setting for the profile's role is ignored: any session of the profile may change it (`ALTER ROLE CURRENT_USER`), and it
/// would redirect the sessions of others.
const EFFECTIVE_PATH: &str = "
    WITH said AS (
        SELECT substr(c.setting, 13) AS path, s.setdatabase, s.setrole
        FROM pg_db_role_setting AS s CROSS JOIN unnest(s.setconfig) AS c (setting) WHERE c.setting LIKE 'search_path=%')
    SELECT coalesce(
        (SELECT path FROM said
         WHERE setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = $database)) AND setrole = 0
         ORDER BY setdatabase <> 0 DESC LIMIT 1),
        (SELECT CASE WHEN EXISTS (
            SELECT FROM said
            WHERE setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
              AND setrole IN (0, (SELECT oid FROM pg_roles WHERE rolname = current_user)))
            THEN boot_val ELSE reset_val END
         FROM pg_settings WHERE name = 'search_path'))";

impl GrantRoles {
    /// Creates the role unless it exists by now.
    pub(super) async fn make(
        &self,
        slot: Arc<RoleSlot>,
        grant: watch::Receiver<Arc<Grant>>,
        asked: Instant,
    ) -> Result<Arc<TargetAccount>, RoleError> {
        let mut state = slot.turn.lock().await;
        if let Some(account) = &state.account {
            return Ok(Arc::clone(account));
        }
        if let Some((at, error)) = &state.failed
            && *at >= asked
        {
            return Err(error.clone());
        }
        // Boxed: a copy takes more memory than a role, and is rare.
        match Box::pin(self.0.make(&slot, &grant, &mut state)).await {
            Ok(account) => {
                state.account = Some(Arc::clone(&account));
                state.failed = None;
                self.keep(&slot, Some(grant), &mut state);
                Ok(account)
            }
            Err(error) => {
                state.failed = Some((self.0.clock.moment().instant, error.clone()));
                if matches!(&error, RoleError::Copy(_)) || matches!(&error, RoleError::Fault(fault) if fault.unreachable()) {
                    // The role exists, or may exist all the same if only the answer was lost.
                    self.keep(&slot, Some(grant), &mut state);
                }
                if !state.kept {
                    self.0.slots.lock().remove(&slot.grant);
                }
                Err(error)
            }
        }
    }
}

impl GrantRolesInner {
    async fn make(
        &self,
        slot: &RoleSlot,
        changes: &watch::Receiver<Arc<Grant>>,
        state: &mut RoleState,
    ) -> Result<Arc<TargetAccount>, RoleError> {
        let grant = changes.borrow().clone();
        let GrantState::Active { until, .. } = grant.status(self.clock.now()) else {
            return Err(RoleError::Over);
        };
        let place = self.place();
        let profile = match grant.profile() {
            // A grant made by hand without a profile gets the narrowest.
            None => place.profiles.first(),
            Some(name) => place.profiles.iter().find(|profile| profile.name == *name),
        };
        let profile = profile.ok_or_else(|| RoleError::NoProfile {
            asked: grant.profile().map_or_else(String::new, ToString::to_string),
            known: place.profiles.iter().map(|profile| profile.name.clone()).collect(),
        })?;
        let (password, keys, verifier) = fresh_password().await?;
        let holder = profile_role(&place.target.name, &profile.name);
        self.record(slot, RoleChangeKind::Made, Some(until), None).await?;
        let settings = match self.session_settings(&place.target, profile).await {
            Ok(settings) => settings,
            Err(fault) => {
                self.note(slot, RoleChangeKind::NotMade, Some(fault.to_string())).await;
                return Err(fault.into());
            }
        };
        let wanted = NewRole {
            role: &slot.role,
            holder: &holder,
            inherits: !profile.creates,
            marker: self.marker(&slot.grant),
            connections: connections(profile, &grant),
            verifier,
            settings: &settings,
        };
        if let Err(error) = self.make_at_the_server(&wanted, until).await {
            tracing::warn!(role = %slot.role, target_name = %place.target.name, error = %display_chain(&error), "cannot create the role of a grant");
            self.note(slot, RoleChangeKind::NotMade, Some(error.to_string())).await;
            return Err(error);
        }
        state.until = Some(until);
        self.counts.lock().made += 1;
        let database = match &profile.copy {
            None => None,
            Some(source) => {
                let (holder, grant) = (&holder, changes.clone());
                let new = NewCopy {
                    slot,
                    holder,
                    source,
                    grant,
                };
                Some(self.make_copy(new).await?.into())
            }
        };
        let grant = GrantAccount {
            grant: slot.grant.clone(),
            role: profile.creates.then(|| holder.to_string()),
            connections: wanted.connections,
            path_front: profile.views.as_ref().map(RoleName::quoted),
            database,
        };
        Ok(Arc::new(TargetAccount {
            user: slot.role.to_string(),
            password: Some(password),
            grant: Some(grant),
            keys,
        }))
    }

    /// Returns the settings of the role: those of the profile and, with masks, a `search_path` that puts the views before the
    /// path that holds without them.
    async fn session_settings(&self, target: &Arc<Target>, profile: &RoleProfile) -> Result<Vec<(String, String)>, RoleFault> {
        let mut settings = profile.settings.clone();
        let Some(views) = &profile.views else {
            return Ok(settings);
        };
        let is_path = |(name, _): &&mut (String, String)| name.eq_ignore_ascii_case("search_path");
        if let Some((_, path)) = settings.iter_mut().find(is_path) {
            *path = behind(views, path);
        } else {
            // A copy has the settings of its template.
            let database = profile.copy.as_ref().map_or(&target.database, |copy| &copy.template);
            let asked = EFFECTIVE_PATH.replace("$database", &quoted_text(database));
            let rows = self.making.run(target, &asked).await?;
            let path = rows.first().and_then(|row| row.get(0)).unwrap_or_default();
            settings.push(("search_path".to_owned(), behind(views, path)));
        }
        Ok(settings)
    }

    async fn make_at_the_server(&self, wanted: &NewRole<'_>, until: Timestamp) -> Result<(), RoleError> {
        let place = self.place();
        let mut backoff = RETRY_BACKOFF;
        for attempt in 1.. {
            let session = self.making.session(&place.target).await?;
            let sql = wanted.create(session.theirs(until));
            let mut done = self.making.run(&place.target, &sql).await.map(drop).map_err(RoleError::from);
            if matches!(&done, Err(RoleError::Fault(fault)) if fault.code() == DUPLICATE_OBJECT) {
                done = self.take_over(wanted, session.theirs(until)).await;
            }
            match done {
                Err(RoleError::Fault(fault)) if fault.collided() && attempt < MAX_ATTEMPTS => {
                    tokio::time::sleep(backoff.next_wait()).await;
                }
                done => return done,
            }
        }
        Ok(())
    }

    /// Takes over a role of that name if a former run of this gate created it.
    async fn take_over(&self, wanted: &NewRole<'_>, until: Timestamp) -> Result<(), RoleError> {
        let found = self.find(&self.making, wanted.role).await?;
        let Some(found) = found.filter(|found| found.comment.parse() == Ok(wanted.marker.clone())) else {
            return Err(RoleError::NotOurs(wanted.role.clone()));
        };
        let former = found.member_of.iter().filter(|role| self.is_profile(role));
        let former = former
            .map(|role| role.name.as_str())
            .filter(|name| *name != wanted.holder.as_str());
        let sql = wanted.alter(until, former);
        self.making.run(&self.place().target, &sql).await?;
        Ok(())
    }
}

/// Properties of a grant's role.
struct NewRole<'a> {
    role: &'a RoleName,
    /// Role of the profile.
    holder: &'a RoleName,
    /// True if it has the profile's rights without `SET ROLE`.
    inherits: bool,
    marker: RoleMarker,
    connections: u32,
    verifier: Verifier,
    settings: &'a [(String, String)],
}

impl NewRole<'_> {
    /// Returns the SQL that creates the role. `NOINHERIT`: the role itself has only the rights of PUBLIC, and gets the profile's
    /// by `SET ROLE` (since version 16 the membership takes its option from the attribute). `ROLE CURRENT_USER`: its backends can
    /// be seen and ended, and its objects handed over, with the same statements on every version.
    fn create(&self, until: Timestamp) -> String {
        let (role, holder) = (self.role.quoted(), self.holder.quoted());
        format!(
            "CREATE ROLE {role} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS {} \
             IN ROLE {holder} ROLE CURRENT_USER; COMMENT ON ROLE {role} IS {};{}",
            self.attributes(until),
            quoted_text(&self.marker.to_string()),
            self.set()
        )
    }

    /// Returns the SQL that changes an existing role to the same properties, also one that the target's former account created,
    /// with `former` profiles. Its backends stay: they may be sessions of this run, and the reaper ends those that are not.
    fn alter<'n>(&self, until: Timestamp, former: impl Iterator<Item = &'n str>) -> String {
        let (role, holder) = (self.role.quoted(), self.holder.quoted());
        let former: Vec<String> = former
            .map(|former| format!(" REVOKE {} FROM {role};", quoted(former)))
            .collect();
        format!(
            "ALTER ROLE {role} LOGIN {}; ALTER ROLE {role} RESET ALL; GRANT {role} TO CURRENT_USER; \
             REVOKE {holder} FROM {role}; GRANT {holder} TO {role};{}{}",
            self.attributes(until),
            former.concat(),
            self.set()
        )
    }

    fn attributes(&self, until: Timestamp) -> String {
        format!(
            "{} CONNECTION LIMIT {} PASSWORD '{}' VALID UNTIL '{until}'",
            if self.inherits { "INHERIT" } else { "NOINHERIT" },
            self.connections,
            self.verifier
        )
    }

    fn set(&self) -> String {
        let set = |(name, value): &(String, String)| {
            let name = name.split('.').map(quoted).collect::<Vec<_>>().join(".");
            format!(" ALTER ROLE {} SET {name} = {};", self.role.quoted(), setting(&name, value))
        };
        self.settings.iter().map(set).collect::<Vec<_>>().concat()
    }
}

/// Returns the connection limit: the profile's, or one derived from the grant's number of sessions.
fn connections(profile: &RoleProfile, grant: &Grant) -> u32 {
    profile.connections.unwrap_or_else(|| {
        // The server takes an int4.
        grant
            .max_sessions()
            .saturating_mul(CONNECTIONS_PER_SESSION)
            .min(i32::MAX.unsigned_abs())
    })
}

/// Returns a new password with its keys and verifier. Deriving takes about a millisecond of processor time, so it runs on a
/// blocking thread.
async fn fresh_password() -> Result<(Secret<String>, KeyCache, Verifier), RoleError> {
    let mut bytes = [0; PASSWORD_BYTES];
    let mut salt = [0; SALT_BYTES];
    getrandom::fill(&mut bytes)
        .and_then(|()| getrandom::fill(&mut salt))
        .map_err(|_| RoleError::Internal("random bytes"))?;
    let password = Secret::new(HEXLOWER.encode(&bytes));
    let given = password.clone();
    let derived = tokio::task::spawn_blocking(move || ClientKeys::derive(given.expose().as_bytes(), &salt, ITERATIONS));
    let keys = derived.await.map_err(|_| RoleError::Internal("deriving keys"))?;
    let verifier = Verifier::of(&keys, &salt, ITERATIONS);
    Ok((password, KeyCache::filled(keys, &salt, ITERATIONS), verifier))
}
