//! One apply at a time: a role that is made first and dropped last, so that nobody ever sees it.
//!
//! It keeps nothing: whatever ends the transaction ends the lock. The law: only who may make roles can hold it. (An advisory lock
//! anybody can, and keep every apply waiting. The second to insert a name into the unique index of `pg_authid` waits for the first
//! to commit or give up, `_bt_check_unique` in access/nbtree/nbtinsert.c, and finds no role then either way.)

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::ProfilesError;

/// Whether the account may make roles; in SQL.
const MAY: &str = "SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user";
pub(super) const TAKE: &str = "CREATE ROLE \"tidegate applies\" NOLOGIN";
const LEAVE: &str = "DROP ROLE \"tidegate applies\"";
/// Who has changed roles in a transaction that is open: the lock on the table is theirs until it ends.
const HOLDERS: &str = "
    SELECT format('process %s, user %s, application %s', a.pid, a.usename, quote_literal(a.application_name))
    FROM pg_locks AS l JOIN pg_stat_activity AS a ON a.pid = l.pid
    WHERE l.locktype = 'relation' AND l.relation = 'pg_authid'::regclass AND l.mode = 'RowExclusiveLock' AND l.granted
        AND l.pid <> pg_backend_pid()
    ORDER BY a.xact_start";

/// Takes it within a transaction, after those who have it; `false`: the account may not make roles, so it has none and can do nothing.
pub(super) async fn take(client: &Client) -> Result<bool, ProfilesError> {
    if !client.query_one(MAY, &[]).await?.try_get::<_, bool>(0)? {
        return Ok(false);
    }
    match client.batch_execute(TAKE).await {
        Ok(()) => Ok(true),
        Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
            client.batch_execute("ROLLBACK").await?;
            let holders = client.query(HOLDERS, &[]).await?;
            let holders = holders.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
            Err(ProfilesError::Busy(holders))
        }
        Err(error) => Err(ProfilesError::Step {
            sql: TAKE.to_owned(),
            error,
        }),
    }
}

/// Begins a transaction and takes the lock in it; see [`take`].
pub(super) async fn begin(client: &Client) -> Result<bool, ProfilesError> {
    // Each statement is to see what the one who held the lock before has done.
    client
        .batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
        .await?;
    take(client).await
}

/// Commits the transaction, and so leaves the lock to the next.
pub(super) async fn commit(client: &Client) -> Result<(), ProfilesError> {
    client.batch_execute(LEAVE).await?;
    Ok(client.batch_execute("COMMIT").await?)
}
