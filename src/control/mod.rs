//! The use-cases of operators and their HTTP API.
//!
//! It keeps no state of its own: grants are the ledger's, sessions the registry's, records the audit log's.

pub mod model;

/// The name an operator's client gives for the record; the token proves the right, not this.
pub const OPERATOR_HEADER: &str = "tidegate-operator";
