//! Masks: the values that a profile sees in place of those of a column.
//!
//! It creates no views; the plan does. INVARIANT: the replacement is computed in the database, before the value can leave it.

/// Replacement of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColumnMask {
    /// Stars in place of the characters; of more than eight characters the last four are kept.
    Partial,
    /// Salted SHA-256: equal values stay equal, so that tables can still be joined.
    Hash,
    /// NULL.
    Null,
    /// Always this text, as a value of the column's type.
    Constant(String),
}

/// Masked columns of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaskedTable {
    /// Schema of the table.
    pub schema: String,
    /// Name of the table.
    pub name: String,
    /// Columns with their masks, in the order of the file.
    pub columns: Vec<(String, ColumnMask)>,
}
