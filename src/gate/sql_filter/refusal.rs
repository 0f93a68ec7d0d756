//! Refusal of a statement: the rule or limit behind it, and the text for the client.
//!
//! This module does not decide.

use crate::model::ending::EndingText;
use crate::model::names::ProfileName;

/// SQLSTATE insufficient_privilege: drivers treat it as an error of the statement and keep the connection.
const NOT_ALLOWED: &str = "42501";
/// SQLSTATE program_limit_exceeded.
const LIMIT_EXCEEDED: &str = "54000";

/// Rule or limit, by its name in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilterRule {
    /// The kind of a statement is not allowed.
    Statements,
    /// An `UPDATE` or `DELETE` without `WHERE`.
    NeedWhere,
    /// A table is denied.
    DenyTables,
    /// The text is too long.
    MaxSqlBytes,
    /// The effect of a statement is not known.
    Unknown,
    /// The log could not store all of the text.
    Unloggable,
    /// The statement changes how the target reads texts, so the rules would judge other texts than the target runs. Every profile
    /// with rules has this one.
    Settings,
    /// The sessions of the identity have reached the limit on bytes of prepared statements and portals.
    PreparedBytes,
    /// The session has reached the limit on prepared statements or portals that the gate tracks.
    PreparedNames,
}

impl FilterRule {
    /// Returns the rule's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Statements => "statements",
            Self::NeedWhere => "need_where",
            Self::DenyTables => "deny_tables",
            Self::MaxSqlBytes => "max_sql_bytes",
            Self::Unknown => "unknown",
            Self::Unloggable => "refuse_unloggable",
            Self::Settings => "settings",
            Self::PreparedBytes => "prepared_bytes_per_identity",
            Self::PreparedNames => "prepared_statements",
        }
    }

    /// Returns the SQLSTATE of its refusals.
    #[must_use]
    pub fn sqlstate(self) -> &'static str {
        match self {
            Self::PreparedBytes | Self::PreparedNames => LIMIT_EXCEEDED,
            _ => NOT_ALLOWED,
        }
    }
}

/// Reason for refusing a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatementRefusal {
    /// Rule or limit that was broken.
    pub rule: FilterRule,
    /// One sentence: the statement was refused, and for which profile.
    pub message: String,
    /// Part of the statement that breaks the rule.
    pub detail: String,
    /// Remedy, or the place to ask for more.
    pub hint: String,
}

impl StatementRefusal {
    pub(super) fn new(profile: &ProfileName, broken: BrokenRule) -> Self {
        let BrokenRule { rule, what, instead } = broken;
        Self {
            rule,
            message: format!("the guard rails of profile \"{profile}\" do not allow this statement"),
            detail: format!("Rule \"{}\": {what}", rule.name()),
            hint: format!("{instead}; or ask for another profile (tidegate request), or the gate's operator for other rules"),
        }
    }

    /// Returns the text for the client.
    #[must_use]
    pub fn words(&self) -> EndingText {
        EndingText {
            code: self.rule.sqlstate(),
            message: self.message.clone(),
            detail: Some(self.detail.clone()),
            hint: Some(self.hint.clone()),
        }
    }
}

/// Reason why a text could not be recorded completely.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnloggableText {
    /// The text is longer than the part that the log keeps.
    Long {
        /// Number of bytes that the log keeps.
        max: usize,
    },
    /// The ends of its literals cannot be determined, and one of them may contain a secret.
    Unclear,
}

/// Rule that a statement breaks.
#[derive(Debug)]
pub(super) struct BrokenRule {
    pub(super) rule: FilterRule,
    /// Description of the violation, one sentence.
    what: String,
    /// Remedy.
    instead: &'static str,
}

impl BrokenRule {
    pub(super) fn kind(kind: &str, allowed: &str) -> Self {
        Self {
            rule: FilterRule::Statements,
            what: format!("statements of kind \"{kind}\" are not allowed. {allowed}"),
            instead: "do it another way",
        }
    }

    pub(super) fn without_where(command: &str) -> Self {
        Self {
            rule: FilterRule::NeedWhere,
            what: format!("{command} without WHERE would change every row."),
            instead: "say which rows with WHERE",
        }
    }

    pub(super) fn where_unseen() -> Self {
        Self {
            rule: FilterRule::NeedWhere,
            what: "UPDATE or DELETE is in a text that the gate cannot read, so whether it has its WHERE cannot be told."
                .to_owned(),
            instead: "write it in another way",
        }
    }

    pub(super) fn table(written: &str) -> Self {
        Self {
            rule: FilterRule::DenyTables,
            what: format!("\"{written}\" may not be named."),
            instead: "leave it out",
        }
    }

    pub(super) fn long(most: u64) -> Self {
        Self {
            rule: FilterRule::MaxSqlBytes,
            what: format!("the text is longer than {most} bytes."),
            instead: "send less at once",
        }
    }

    pub(super) fn setting(name: &str) -> Self {
        Self {
            rule: FilterRule::Settings,
            what: format!("{name} decides how statements are read, and must stay as it is."),
            instead: "leave it as it is",
        }
    }

    pub(super) fn unloggable(unloggable: UnloggableText) -> Self {
        Self {
            rule: FilterRule::Unloggable,
            what: match unloggable {
                UnloggableText::Long { max } => format!("the log keeps {max} bytes of a text, and this one is longer."),
                UnloggableText::Unclear => {
                    "it speaks of a secret, and where its literals end cannot be told, so the log could not show what it does."
                        .to_owned()
                }
            },
            instead: match unloggable {
                UnloggableText::Long { .. } => "send less at once, or bind long values as parameters",
                UnloggableText::Unclear => "write its literals without backslashes, or as E'...'",
            },
        }
    }

    pub(super) fn unknown(why: &str) -> Self {
        Self {
            rule: FilterRule::Unknown,
            what: format!("what the statement does cannot be told: {why}."),
            instead: "write it in another way",
        }
    }
}
