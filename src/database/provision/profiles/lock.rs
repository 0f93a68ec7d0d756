//! Lock that serializes applies: a role that is created first and dropped last in the transaction, so that it is never visible.
//!
//! It keeps no state: the end of the transaction ends the lock. INVARIANT: only accounts that may create roles can hold the lock.
//! (An advisory lock is open to everybody, so anybody could block every apply. The second transaction that inserts a name into
//! the unique index of `pg_authid` waits until the first commits or aborts, `_bt_check_unique` in access/nbtree/nbtinsert.c, and
//! finds no role then either way.)

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::ProfilesError;

/// Query that returns true if the account may create roles.
const MAY: &str = "SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user";
pub(super) const TAKE: &str = "CREATE ROLE \"tidegate applies\" NOLOGIN";
const LEAVE: &str = "DROP ROLE \"tidegate applies\"";
/// Holders: transactions that have changed roles and are still open, which keep the lock on the table until they end.
const HOLDERS: &str = "
    SELECT format('process %s, user %s, application %s', a.pid, a.usename, quote_literal(a.application_name))
    FROM pg_locks AS l JOIN pg_stat_activity AS a ON a.pid = l.pid
    WHERE l.locktype = 'relation' AND l.relation = 'pg_authid'::regclass AND l.mode = 'RowExclusiveLock' AND l.granted
        AND l.pid <> pg_backend_pid()
    ORDER BY a.xact_start";

/// Takes the lock within a transaction, waiting for earlier holders. Returns `false` if the account may not create roles; it has
/// no lock then and can change nothing.
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
    // Each statement has to see the changes of the previous holder.
    client
        .batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
        .await?;
    take(client).await
}

/// Commits the transaction, which releases the lock.
pub(super) async fn commit(client: &Client) -> Result<(), ProfilesError> {
    client.batch_execute(LEAVE).await?;
    Ok(client.batch_execute("COMMIT").await?)
}
