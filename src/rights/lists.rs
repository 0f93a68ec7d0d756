//! Lists of a definition: the kind of objects and the privilege of each.
//!
//! It chooses nothing. INVARIANT: every list that has patterns for objects is here; code that visits all lists uses [`lists`].

use super::catalogue::Kind;
use super::{Pattern, Rights};

/// List of a definition.
#[derive(Debug, Clone, Copy)]
pub(super) struct List<'a> {
    /// Key in the definition.
    pub(super) key: &'static str,
    pub(super) kind: Kind,
    pub(super) privilege: &'static str,
    pub(super) patterns: &'a [Pattern],
}

/// First server version with the privilege MAINTAIN.
const MAINTAIN_SINCE: u32 = 170_000;

impl List<'_> {
    /// Returns true if a server of this version (`server_version_num`) has the privilege.
    pub(super) fn is_known_to(&self, version: u32) -> bool {
        self.privilege != "MAINTAIN" || version >= MAINTAIN_SINCE
    }
}

/// Returns all lists of a definition.
pub(super) fn lists(rights: &Rights) -> [List<'_>; 12] {
    let lists = [
        ("select", Kind::Table, "SELECT", &rights.select),
        ("insert", Kind::Table, "INSERT", &rights.insert),
        ("update", Kind::Table, "UPDATE", &rights.update),
        ("delete", Kind::Table, "DELETE", &rights.delete),
        ("truncate", Kind::Table, "TRUNCATE", &rights.truncate),
        ("references", Kind::Table, "REFERENCES", &rights.references),
        ("trigger", Kind::Table, "TRIGGER", &rights.trigger),
        ("maintain", Kind::Table, "MAINTAIN", &rights.maintain),
        ("usage", Kind::Sequence, "USAGE", &rights.usage),
        ("sequence_select", Kind::Sequence, "SELECT", &rights.sequence_select),
        ("sequence_update", Kind::Sequence, "UPDATE", &rights.sequence_update),
        ("execute", Kind::Routine, "EXECUTE", &rights.execute),
    ];
    lists.map(|(key, kind, privilege, patterns)| List {
        key,
        kind,
        privilege,
        patterns,
    })
}
