//! Priorities of a report's columns where there is no room for all of them: on the page, in a terminal. Pure.

use super::ReportTable;
use crate::base::columns::{ColumnSpec, cut, cut_or_less, less, whole};

impl ReportTable {
    /// Returns the columns with their priorities.
    #[must_use]
    pub fn columns(&self) -> Vec<ColumnSpec> {
        self.head.iter().map(|name| column(name)).collect()
    }
}

/// Returns the priority of a column. Ids are whole and stay; columns that say who, where and what are cut at most; the others
/// are dropped, those with the highest number first.
fn column(name: &'static str) -> ColumnSpec {
    match name {
        "grant" | "session" | "role" | "wanted" | "rule" | "count" | "state" | "ending" | "control" => whole(name),
        "identity" | "name given" | "what" | "why" => cut(name, 12),
        "target" | "reviewed by" | "detail" | "asks" | "shown here" | "not shown here" | "found" => cut(name, 10),
        "reason" => cut_or_less(name, 12, 1),
        "profile" => less(name, 2),
        "approvers" => cut_or_less(name, 10, 3),
        "statements" | "how" | "time" => less(name, 4),
        "made at" | "late s" | "confirmed gone" | "gone after s" | "logins past the gate" => less(name, 5),
        "ends or ended" | "could be used until" | "last" => less(name, 6),
        "sessions" => less(name, 7),
        "rows" | "from" => less(name, 8),
        "trouble" | "by" => cut_or_less(name, 10, 8),
        "revoked" | "review" => cut_or_less(name, 10, 9),
        "first" | "gone at" => less(name, 10),
        "ticket" => cut_or_less(name, 8, 10),
        "policies" => cut_or_less(name, 14, 11),
        "opened at" | "grant over at" | "reviewed at" => less(name, 12),
        "made by" => cut_or_less(name, 10, 13),
        "moved" => less(name, 14),
        "window s" => less(name, 15),
        "last use" => less(name, 16),
        "first use" => less(name, 17),
        "policy set" => cut_or_less(name, 12, 18),
        _ => less(name, 3),
    }
}
