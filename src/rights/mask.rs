//! Masks: what a profile is shown of a column instead of its value.
//!
//! It makes no views; the plan does. The law: what is shown is worked out in the database, before the value can leave it.

/// What is shown instead of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mask {
    /// As many stars as it has characters, but for the last four of more than eight.
    Partial,
    /// A salted SHA-256: equal values stay equal, so that tables can still be joined.
    Hash,
    /// Nothing.
    Null,
    /// Always this text, as a value of the column's type.
    Constant(String),
}

/// The masked columns of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaskedTable {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// The columns with what is shown of each, in the order of the file.
    pub columns: Vec<(String, Mask)>,
}
