//! The words of SQL by which the scan finds its way.
//!
//! It knows no order of them: that is in [`scan`](super::scan).

use crate::lexer::Token;

/// Words that stand between a name and its value, and do not end the expression.
pub(super) const BETWEEN: [&str; 13] = [
    "to",
    "in",
    "is",
    "like",
    "ilike",
    "similar",
    "not",
    "distinct",
    "between",
    "any",
    "all",
    "default",
    "materialized",
];
/// Words at which another expression begins.
pub(super) const CLAUSES: [&str; 45] = [
    "select",
    "from",
    "where",
    "and",
    "or",
    "set",
    "when",
    "then",
    "else",
    "on",
    "having",
    "values",
    "using",
    "returning",
    "by",
    "order",
    "group",
    "limit",
    "offset",
    "fetch",
    "union",
    "intersect",
    "except",
    "into",
    "join",
    "left",
    "right",
    "full",
    "inner",
    "cross",
    "natural",
    "window",
    "for",
    "with",
    "if",
    "begin",
    "execute",
    "perform",
    "return",
    "raise",
    "loop",
    "elsif",
    "while",
    "insert",
    "update",
];
/// Between the columns of an `INSERT` and its rows.
pub(super) const PLAIN: [&str; 6] = ["values", "overriding", "system", "user", "value", "default"];
/// What joins further rows to those of `VALUES`.
pub(super) const JOINING: [&str; 3] = ["union", "intersect", "except"];
/// Values that are none, where a password without quotes is looked for.
pub(super) const NO_VALUES: [&str; 3] = ["null", "default", "to"];
/// After `ALTER` or `CREATE`: what has a password or settings of its own.
pub(super) const OWNERS: [&str; 5] = ["role", "user", "group", "database", "system"];

/// Whether a token is one of these.
pub(super) fn is_one_of(token: &Token<'_>, words: &[&str]) -> bool {
    words.iter().any(|word| token.is(word))
}
