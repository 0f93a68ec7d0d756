//! Lists of a definition: the kind of objects and the privilege of each.
//!
//! It chooses nothing. INVARIANT: every list that has patterns for objects is here; code that visits all lists uses [`lists`].

use super::catalogue::ObjectKind;
use super::{Pattern, Rights};

/// List of a definition.
#[derive(Debug, Clone, Copy)]
pub(super) struct DefinitionList<'a> {
    /// Key in the definition.
    pub(super) key: &'static str,
    pub(super) kind: ObjectKind,
    pub(super) privilege: &'static str,
    pub(super) patterns: &'a [Pattern],
}

/// First server version with the privilege MAINTAIN.
const MAINTAIN_SINCE: u32 = 170_000;

impl DefinitionList<'_> {
    /// Returns true if a server of this version (`server_version_num`) has the privilege.
    pub(super) fn is_known_to(&self, version: u32) -> bool {
        self.privilege != "MAINTAIN" || version >= MAINTAIN_SINCE
    }
}

/// Returns all lists of a definition.
pub(super) fn lists(rights: &Rights) -> [DefinitionList<'_>; 12] {
    let lists = [
        ("select", ObjectKind::Table, "SELECT", &rights.select),
        ("insert", ObjectKind::Table, "INSERT", &rights.insert),
        ("update", ObjectKind::Table, "UPDATE", &rights.update),
        ("delete", ObjectKind::Table, "DELETE", &rights.delete),
        ("truncate", ObjectKind::Table, "TRUNCATE", &rights.truncate),
        ("references", ObjectKind::Table, "REFERENCES", &rights.references),
        ("trigger", ObjectKind::Table, "TRIGGER", &rights.trigger),
        ("maintain", ObjectKind::Table, "MAINTAIN", &rights.maintain),
        ("usage", ObjectKind::Sequence, "USAGE", &rights.usage),
        ("sequence_select", ObjectKind::Sequence, "SELECT", &rights.sequence_select),
        ("sequence_update", ObjectKind::Sequence, "UPDATE", &rights.sequence_update),
        ("execute", ObjectKind::Routine, "EXECUTE", &rights.execute),
    ];
    lists.map(|(key, kind, privilege, patterns)| DefinitionList {
        key,
        kind,
        privilege,
        patterns,
    })
}
