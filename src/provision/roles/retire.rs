//! Ends a role: nobody logs in as it, nobody is logged in as it, what it owned is its profile's, it is gone.
//!
//! It does not know why. Each step can be taken again; a role that is not there has been ended. What others depend on is never
//! dropped with it (`DROP OWNED` is RESTRICT): then the role stays, and can log nobody in.

use std::time::Duration;

use super::line::Session;
use super::{Fault, Inner};
use crate::rights::{RoleName, quoted, quoted_text};

/// How long its backends have to go.
const LIMIT: Duration = Duration::from_secs(5);
/// The first look for those that are still there; each further one after twice the time, up to [`LONGEST_PAUSE`].
const PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// `dependent_objects_still_exist`.
const OWNS: &str = "2BP01";
/// `undefined_object`: somebody else has dropped it.
const NOT_THERE: &str = "42704";

/// What is known of a role before it goes.
struct Role {
    oid: String,
    can_login: bool,
    /// The roles it is a member of: its profile's.
    member_of: Option<String>,
    backends: bool,
    /// It has left prepared transactions: they outlive their session and hold its locks.
    prepared: bool,
}

impl Inner {
    /// Lets nobody in any more under this role; who is in stays.
    pub(super) async fn lock_out(&self, role: &RoleName) -> Result<(), Fault> {
        let sql = format!("ALTER ROLE {} NOLOGIN PASSWORD NULL", role.quoted());
        match self.ask(&sql).await {
            Err(fault) if fault.code() == NOT_THERE => Ok(()),
            done => done.map(drop),
        }
    }

    /// Ends the role. Returns whether it was there.
    pub(super) async fn retire(&self, role: &RoleName) -> Result<bool, Fault> {
        let Some(found) = self.find(role).await? else {
            return Ok(false);
        };
        if found.can_login {
            self.lock_out(role).await?;
        }
        if found.backends || found.can_login {
            self.clear(&found.oid).await?;
        }
        if found.prepared {
            self.roll_back_prepared(role).await?;
        }
        let dropped = match self.ask(&format!("DROP ROLE {}", role.quoted())).await {
            Err(fault) if fault.code() == OWNS => self.ask(&self.hand_over(role, &found).await?).await,
            dropped => dropped,
        };
        match dropped {
            Err(fault) if fault.code() == NOT_THERE => {}
            dropped => drop(dropped?),
        }
        // Whoever was half in when it was locked out, and came in after the look.
        self.clear(&found.oid).await?;
        Ok(true)
    }

    async fn find(&self, role: &RoleName) -> Result<Option<Role>, Fault> {
        let sql = format!(
            "SELECT r.oid, r.rolcanlogin, \
             (SELECT min(b.rolname) FROM pg_auth_members m JOIN pg_roles b ON b.oid = m.roleid WHERE m.member = r.oid), \
             EXISTS (SELECT FROM pg_stat_activity a WHERE a.usesysid = r.oid), \
             EXISTS (SELECT FROM pg_prepared_xacts p WHERE p.owner = r.rolname AND p.database = current_database()) \
             FROM pg_roles r WHERE r.rolname = {}",
            quoted_text(role.as_str())
        );
        let rows = self.ask(&sql).await?;
        Ok(rows.first().map(|row| Role {
            oid: row.get(0).unwrap_or("0").to_owned(),
            can_login: row.get(1) == Some("t"),
            member_of: row.get(2).map(str::to_owned),
            backends: row.get(3) == Some("t"),
            prepared: row.get(4) == Some("t"),
        }))
    }

    /// Ends the role's backends and waits until none is there.
    async fn clear(&self, oid: &str) -> Result<(), Fault> {
        let started = self.clock.moment().instant;
        let mut pause = PAUSE;
        loop {
            let sql = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usesysid = {oid}");
            let there = self.ask(&sql).await?.len();
            if there == 0 {
                return Ok(());
            }
            if self.clock.moment().instant.duration_since(started) > LIMIT {
                return Err(Fault::Busy(there));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Only who prepared them may, and not within a transaction: on a connection of their own, as the role.
    async fn roll_back_prepared(&self, role: &RoleName) -> Result<(), Fault> {
        let place = self.place();
        let session = Session::open_as(&place.target, role, &self.clock).await?;
        let mine = "SELECT gid FROM pg_prepared_xacts WHERE owner = current_user AND database = current_database()";
        for row in session.run(mine).await? {
            let gid = quoted_text(row.get(0).unwrap_or_default());
            tracing::warn!(%role, gid, "a prepared transaction of a grant that is over is rolled back");
            session.run(&format!("ROLLBACK PREPARED {gid}")).await?;
        }
        Ok(())
    }

    /// What it owns becomes its profile's; what it was granted goes; then it goes. For the handing over the account has to be a
    /// member of the profile's role, and is made one for as long as this takes.
    async fn hand_over(&self, role: &RoleName, found: &Role) -> Result<String, Fault> {
        let role = role.quoted();
        let Some(heir) = &found.member_of else {
            // Its profile is gone: the account has to do.
            return Ok(format!(
                "REASSIGN OWNED BY {role} TO CURRENT_USER; DROP OWNED BY {role}; DROP ROLE {role}"
            ));
        };
        let sql = format!("SELECT pg_has_role(current_user, {}, 'USAGE')", quoted_text(heir));
        let member = self.ask(&sql).await?.first().and_then(|row| row.get(0)) == Some("t");
        let heir = quoted(heir);
        let (join, leave) = if member {
            (String::new(), String::new())
        } else {
            (
                format!("GRANT {heir} TO CURRENT_USER; "),
                format!("REVOKE {heir} FROM CURRENT_USER GRANTED BY CURRENT_USER; "),
            )
        };
        Ok(format!(
            "{join}REASSIGN OWNED BY {role} TO {heir}; DROP OWNED BY {role}; {leave}DROP ROLE {role}"
        ))
    }

    pub(super) async fn ask(&self, sql: &str) -> Result<Vec<tokio_postgres::SimpleQueryRow>, Fault> {
        self.ending.run(&self.place().target, &self.clock, sql).await
    }
}
