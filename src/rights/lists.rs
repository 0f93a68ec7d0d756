//! The lists of a definition: which of them gives which privilege, on what.
//!
//! It chooses nothing. The law: every list that has patterns for objects is here, and what goes through all of them asks here.

use super::catalogue::Kind;
use super::{Pattern, Rights};

/// One list of a definition.
#[derive(Debug, Clone, Copy)]
pub(super) struct List<'a> {
    /// As it is written in the definition.
    pub(super) key: &'static str,
    pub(super) kind: Kind,
    pub(super) privilege: &'static str,
    pub(super) patterns: &'a [Pattern],
}

/// Which list of a definition gives which privilege, on what.
pub(super) fn lists(rights: &Rights) -> [List<'_>; 6] {
    let lists = [
        ("select", Kind::Table, "SELECT", &rights.select),
        ("insert", Kind::Table, "INSERT", &rights.insert),
        ("update", Kind::Table, "UPDATE", &rights.update),
        ("delete", Kind::Table, "DELETE", &rights.delete),
        ("usage", Kind::Sequence, "USAGE", &rights.usage),
        ("execute", Kind::Routine, "EXECUTE", &rights.execute),
    ];
    lists.map(|(key, kind, privilege, patterns)| List {
        key,
        kind,
        privilege,
        patterns,
    })
}
