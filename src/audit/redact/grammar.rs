//! SQL keywords that the scan looks at.
//!
//! This module does not know their order: that is in [`scan`](super::scan).

use crate::protocol::lexer::Token;

/// Keywords between a name and its value that do not end the expression.
pub(super) const LINK_WORDS: [&str; 13] = [
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
/// Keywords that begin another expression.
pub(super) const CLAUSE_WORDS: [&str; 45] = [
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
/// Keywords between the columns of an `INSERT` and its rows.
pub(super) const ROW_WORDS: [&str; 6] = ["values", "overriding", "system", "user", "value", "default"];
/// Keywords that join further rows to those of `VALUES`.
pub(super) const JOIN_WORDS: [&str; 3] = ["union", "intersect", "except"];
/// Keywords that are no value, in a place where an unquoted password is looked for.
pub(super) const NON_VALUES: [&str; 3] = ["null", "default", "to"];
/// Objects after `ALTER` or `CREATE` that have a password or settings of their own.
pub(super) const OWNER_WORDS: [&str; 5] = ["role", "user", "group", "database", "system"];

/// Returns true if a token is one of these words.
pub(super) fn is_one_of(token: &Token<'_>, words: &[&str]) -> bool {
    words.iter().any(|word| token.is(word))
}
