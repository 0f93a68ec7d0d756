//! Record of rows that a statement changed, as they were captured in the target's database.
//!
//! This module holds values as they are to be recorded: they are masked, hashed or left out before.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

use super::is_default;
use crate::model::ids::{GrantId, SessionId};
use crate::model::names::{EnumOrUnknown, IdentityName, ProfileName, TargetName, vocabulary};

vocabulary! {
    /// Operation that changed rows.
    pub enum RowOperation {
        /// Rows were added: `INSERT`, `COPY`, `MERGE`.
        Insert = "insert",
        /// Rows were changed: `UPDATE`, `INSERT ... ON CONFLICT`, `MERGE`.
        Update = "update",
        /// Rows were deleted: `DELETE`, `MERGE`.
        Delete = "delete",
        /// The table was emptied.
        Truncate = "truncate",
    }
}

/// Values of a row by column, as PostgreSQL writes them; `None` is NULL.
pub type RowValues = BTreeMap<String, Option<String>>;

/// Rows that one statement changed in one table. A statement with many rows has several such records.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowsChanged {
    /// Session that changed them; absent for a change past the gate, and if it is not known any more which session of the grant
    /// it was.
    pub session: Option<SessionId>,
    /// Grant of the session; absent for a change past the gate.
    pub grant: Option<GrantId>,
    /// Identity of the grant.
    pub identity: Option<IdentityName>,
    /// Target with the database.
    pub target: TargetName,
    /// Profile of the grant.
    pub profile: Option<ProfileName>,
    /// Schema of the table, at the time of the change.
    pub schema: String,
    /// Name of the table, at the time of the change.
    pub table: String,
    /// Operation.
    pub operation: EnumOrUnknown<RowOperation>,
    /// Role that was logged in at the database.
    pub role: String,
    /// Process id of the backend.
    pub backend_pid: i32,
    /// Id of the transaction, with its epoch (`pg_current_xact_id`).
    pub transaction: u64,
    /// Number of the change in the database. Of two changes of a row, the later one has the greater number, unless a trigger of
    /// the earlier one made it: see `depth`.
    pub change: u64,
    /// Depth of triggers: 1 for what the client's statement changed, more for what triggers did meanwhile. A
    /// statement's own change is counted after those of greater depth that it caused, and came before them.
    pub depth: u32,
    /// Time at which the client's message arrived at the database, by the server's clock; the same for all changes of a message.
    pub statement_at: Timestamp,
    /// Number of rows that the statement changed in the table.
    pub rows: u64,
    /// Number of these rows in earlier records.
    #[serde(default, skip_serializing_if = "is_default")]
    pub offset: u64,
    /// Rows; empty if there were too many: their checksums are recorded instead.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<RowChange>,
    /// Checksum of the rows before: the sum of `hashtextextended(row::text, 0)`.
    pub old_checksum: Option<String>,
    /// Checksum of the rows after.
    pub new_checksum: Option<String>,
    /// True if values are keyed hashes, by the target's policy for parameters.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hashed: bool,
    /// Columns whose values are masked here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub masked: Vec<String>,
    /// Columns that PostgreSQL computes (`GENERATED ALWAYS AS`), of the table as it was when the change was recorded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub generated: Vec<String>,
}

/// Change of one row.
#[skip_serializing_none]
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowChange {
    /// Values of the primary key before the change (of a new row: after it). Of an updated row of a table without one: all values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub key: RowValues,
    /// Values before the change: all of a deleted row, and the changed ones of an updated row.
    pub old: Option<RowValues>,
    /// Values after the change: all of a new row, and the changed ones of an updated row.
    pub new: Option<RowValues>,
    /// Names of the changed columns, if their values are not recorded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<String>,
    /// Row before the change, if it is too long to be recorded.
    pub old_digest: Option<RowDigest>,
    /// Row after the change, if it is too long to be recorded.
    pub new_digest: Option<RowDigest>,
}

/// Row that is too long to be recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowDigest {
    /// Length of the row as text, in bytes.
    pub length: u64,
    /// SHA-256 of the row as text, in hexadecimal.
    pub sha256: String,
}

impl RowsChanged {
    /// Returns the table for people: `shop.orders`.
    #[must_use]
    pub fn shown(&self) -> String {
        format!("{}.{}", self.schema, self.table)
    }
}

impl RowChange {
    /// Returns true if a column of the key has this value, before or after the change.
    #[must_use]
    pub fn has_key(&self, value: &str) -> bool {
        let is_value = |found: &Option<String>| found.as_deref() == Some(value);
        let new = self.new.as_ref();
        self.key.values().any(is_value)
            || self
                .key
                .keys()
                .any(|column| new.and_then(|new| new.get(column)).is_some_and(is_value))
    }
}
