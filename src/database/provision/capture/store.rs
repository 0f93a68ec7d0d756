//! Store of captured changes at a target: a transaction that takes the next changes, and removes them when they are on record.
//!
//! It records nothing, and does not know what changes mean. INVARIANT: changes that are taken are locked until the transaction
//! ends, so that no other gate takes them; without a commit they are as they were. An answer of the server is bounded: images are
//! read in pieces.

use std::sync::Arc;

use jiff::Timestamp;
use tokio_postgres::{Client, Row};

use super::DrainError;
use crate::database::provision::connection::{ProvisionConnection, within};
use crate::database::rights::capture::CHANGES;
use crate::database::rights::capture_schema;
use crate::database::upstream::Target;

/// Settings of the connection. A change waits for no other for long: its place in the store is locked only by another gate.
const OPTIONS: &str = "-c search_path=pg_catalog -c statement_timeout=30s -c lock_timeout=2s \
     -c idle_in_transaction_session_timeout=60s -c client_min_messages=error -c standard_conforming_strings=on";

/// Maximum number of changes that one transaction takes.
const MAX_CHANGES: i64 = 100;
/// Number of rows up to which the images of a change are read with it.
const MAX_INLINE_ROWS: i64 = 16;
/// Number of rows whose images are read together otherwise.
const PIECE_ROWS: usize = 200;

/// Connection to the database of a target, in which it has a store.
pub(super) struct StoreConnection {
    connection: ProvisionConnection,
    table: String,
}

/// Captured change: what one statement did to one table.
#[derive(Debug, Clone)]
pub(super) struct CapturedChange {
    pub(super) id: i64,
    pub(super) role: String,
    pub(super) backend: i32,
    pub(super) transaction: u64,
    pub(super) statement_at: Timestamp,
    pub(super) depth: u32,
    pub(super) schema: String,
    pub(super) table: String,
    pub(super) operation: String,
    pub(super) columns: Vec<String>,
    pub(super) key: Vec<String>,
    /// Columns that PostgreSQL computes.
    pub(super) generated: Vec<String>,
    /// Tables that it is a part of, and the table itself, by schema and name as they are now.
    pub(super) names: Vec<(String, String)>,
    pub(super) rows: u64,
    /// Numbers of images.
    pub(super) images: (usize, usize),
    /// Images, if they were read with it.
    pub(super) inline: Option<ImagePiece>,
    pub(super) old_sum: Option<String>,
    pub(super) new_sum: Option<String>,
}

/// Images of some rows: before and after.
pub(super) type ImagePiece = (Vec<String>, Vec<String>);

impl StoreConnection {
    /// Logs in. Returns `None` if the database has no store.
    pub(super) async fn open(target: &Arc<Target>) -> Result<Option<Self>, DrainError> {
        let login = ProvisionConnection::open(target, &target.database, "tidegate (reads changes)", OPTIONS);
        let connection = within(target.connect_timeout, login).await.map_err(DrainError::connect)?;
        let schema = capture_schema(&target.name).quoted();
        let store = Self {
            connection,
            table: format!("{schema}.{CHANGES}"),
        };
        let there = "SELECT to_regclass($1) IS NOT NULL";
        let is_there: bool = store.client().query_one(there, &[&store.table]).await?.try_get(0)?;
        Ok(is_there.then_some(store))
    }

    fn client(&self) -> &Client {
        &self.connection.client
    }

    pub(super) fn closed(&self) -> bool {
        self.connection.closed()
    }

    /// Returns the names, among those of masked tables, of which the database has no table.
    pub(super) async fn missing(&self, names: &[(String, String)]) -> Result<Vec<(String, String)>, DrainError> {
        let (schemas, tables): (Vec<&str>, Vec<&str>) = names.iter().map(|(schema, table)| (&**schema, &**table)).unzip();
        let rows = self.client().query(MISSING, &[&schemas, &tables]).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }

    /// Returns the least number, and the earliest time, of a change in the store; `None` if it is empty.
    pub(super) async fn oldest(&self) -> Result<Option<(i64, Timestamp)>, DrainError> {
        let sql = format!("SELECT min(id), {} FROM {}", micros("min(statement_at)"), self.table);
        let row = self.client().query_one(&sql, &[]).await?;
        let id: Option<i64> = row.try_get(0)?;
        id.map(|id| Ok((id, time(&row, 1)?))).transpose()
    }

    /// Returns the number of changes by these roles.
    pub(super) async fn count_of(&self, roles: &[String]) -> Result<u64, DrainError> {
        let sql = format!("SELECT count(*) FROM {} WHERE role = ANY ($1)", self.table);
        let count: i64 = self.client().query_one(&sql, &[&roles]).await?.try_get(0)?;
        Ok(u64::try_from(count).unwrap_or_default())
    }

    /// Returns the roles that have changes in the store, and the greatest number of a change.
    pub(super) async fn pending(&self) -> Result<(Vec<String>, i64), DrainError> {
        let sql = format!("SELECT role, max(id) FROM {} GROUP BY role", self.table);
        let rows = self.client().query(&sql, &[]).await?;
        let (mut roles, mut last) = (Vec::new(), 0);
        for row in &rows {
            roles.push(row.try_get(0)?);
            last = last.max(row.try_get(1)?);
        }
        Ok((roles, last))
    }

    /// Begins a transaction and takes the next changes of these roles in it, up to number `last`.
    pub(super) async fn take(&self, roles: &[&str], last: i64) -> Result<Vec<CapturedChange>, DrainError> {
        self.client().batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED").await?;
        let sql = TAKE
            .replace("STORE", &self.table)
            .replace("MICROS", &micros("c.statement_at"));
        let rows = self
            .client()
            .query(&sql, &[&roles, &last, &MAX_CHANGES, &MAX_INLINE_ROWS])
            .await?;
        rows.iter().map(CapturedChange::of).collect()
    }

    /// Returns the images of some rows of a change that was taken.
    pub(super) async fn images(&self, change: i64, offset: usize) -> Result<ImagePiece, DrainError> {
        let place = |at: usize| i32::try_from(at).unwrap_or(i32::MAX);
        let (first, last) = (place(offset + 1), place(offset + PIECE_ROWS));
        let sql = format!(
            "SELECT coalesce(old[$2:$3], '{{}}'), coalesce(new[$2:$3], '{{}}') FROM {} WHERE id = $1",
            self.table
        );
        let row = self.client().query_one(&sql, &[&change, &first, &last]).await?;
        Ok((row.try_get(0)?, row.try_get(1)?))
    }

    /// Removes changes that are on record, and commits.
    pub(super) async fn remove(&self, changes: &[i64]) -> Result<(), DrainError> {
        let sql = format!("DELETE FROM {} WHERE id = ANY ($1)", self.table);
        self.client().execute(&sql, &[&changes]).await?;
        Ok(self.client().batch_execute("COMMIT").await?)
    }

    /// Ends the transaction without a change.
    pub(super) async fn give_back(&self) -> Result<(), DrainError> {
        Ok(self.client().batch_execute("ROLLBACK").await?)
    }
}

impl CapturedChange {
    fn of(row: &Row) -> Result<Self, DrainError> {
        let number = |column: &str| {
            row.try_get::<_, i64>(column)
                .map(|number| u64::try_from(number).unwrap_or_default())
        };
        let places = |column: &str| {
            row.try_get::<_, i32>(column)
                .map(|number| usize::try_from(number).unwrap_or_default())
        };
        let names: String = row.try_get("names")?;
        let transaction: String = row.try_get("transaction")?;
        Ok(Self {
            id: row.try_get("id")?,
            role: row.try_get("role")?,
            backend: row.try_get("backend")?,
            transaction: transaction
                .parse()
                .map_err(|_| DrainError::Content("the id of a transaction"))?,
            statement_at: time(row, "statement_at")?,
            depth: u32::try_from(row.try_get::<_, i32>("depth")?).unwrap_or_default(),
            schema: row.try_get("schema_name")?,
            table: row.try_get("table_name")?,
            operation: row.try_get("operation")?,
            columns: row.try_get("columns")?,
            key: row.try_get("key")?,
            generated: row.try_get("generated")?,
            names: serde_json::from_str(&names).map_err(|_| DrainError::Content("the names of a table"))?,
            rows: number("rows")?,
            images: (places("olds")?, places("news")?),
            inline: row
                .try_get::<_, bool>("is_inline")?
                .then(|| Ok::<_, DrainError>((row.try_get("old")?, row.try_get("new")?)))
                .transpose()?,
            old_sum: row.try_get("old_sum")?,
            new_sum: row.try_get("new_sum")?,
        })
    }
}

/// Returns the expression for a time in microseconds.
fn micros(time: &str) -> String {
    format!("(extract(epoch FROM {time}) * 1000000)::int8 AS statement_at")
}

fn time<I: tokio_postgres::row::RowIndex + std::fmt::Display>(row: &Row, column: I) -> Result<Timestamp, DrainError> {
    let micros: i64 = row.try_get(column)?;
    Timestamp::from_microsecond(micros).map_err(|_| DrainError::Content("the time of a change"))
}

/// Names `$1`, `$2` of which there is no table.
const MISSING: &str = "
SELECT p.schema, p.name FROM unnest($1::text[], $2::text[]) AS p (schema, name)
WHERE NOT EXISTS (SELECT FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE n.nspname = p.schema AND c.relname = p.name)";

/// The next `$3` changes by the roles `$1` up to number `$2`, in their order; with their images if they have at most `$4` rows. The
/// primary key, the computed columns, and the tables that a table is a part of, are those of now: a table that is gone has none.
const TAKE: &str = "
SELECT c.id, c.role, c.backend, c.transaction::text AS transaction, MICROS, c.depth, c.schema_name, c.table_name, c.operation, c.columns,
    ARRAY(SELECT a.attname::text FROM pg_index AS i CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, place)
        JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
        WHERE i.indrelid = c.relation AND i.indisprimary ORDER BY k.place) AS key,
    ARRAY(SELECT a.attname::text FROM pg_attribute AS a WHERE a.attrelid = c.relation AND a.attgenerated <> '' AND NOT a.attisdropped
        ORDER BY a.attnum) AS generated,
    (WITH RECURSIVE up (oid) AS (SELECT c.relation UNION SELECT i.inhparent FROM pg_inherits AS i JOIN up ON up.oid = i.inhrelid)
        SELECT coalesce(jsonb_agg(jsonb_build_array(n.nspname, t.relname)), '[]')::text
        FROM up JOIN pg_class AS t ON t.oid = up.oid JOIN pg_namespace AS n ON n.oid = t.relnamespace) AS names,
    c.rows, coalesce(cardinality(c.old), 0) AS olds, coalesce(cardinality(c.new), 0) AS news, c.rows <= $4 AS is_inline,
    CASE WHEN c.rows <= $4 THEN coalesce(c.old, '{}') END AS old, CASE WHEN c.rows <= $4 THEN coalesce(c.new, '{}') END AS new,
    c.old_sum::text AS old_sum, c.new_sum::text AS new_sum
FROM STORE AS c WHERE c.role = ANY ($1) AND c.id <= $2 ORDER BY c.id LIMIT $3 FOR UPDATE OF c SKIP LOCKED";
