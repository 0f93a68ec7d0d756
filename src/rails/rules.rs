//! The rules of one profile as its operator wrote them.
//!
//! It does not check or apply them.

/// What a profile's statements have to keep to. The default refuses nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules {
    /// The kinds of statement that are let through (`select`, `insert`, ...); absent: all.
    pub statements: Option<Vec<String>>,
    /// Whether `UPDATE` and `DELETE` need a `WHERE`.
    pub need_where: bool,
    /// Tables that no statement may name, as patterns.
    pub deny_tables: Vec<String>,
    /// The longest text of a statement, in bytes; absent: as long as the gate takes.
    pub max_sql_bytes: Option<u64>,
    /// Whether a text that cannot be read is refused.
    pub refuse_unknown: bool,
}
