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
    pub(super) fn new(profile: &ProfileName, broken: &BrokenRule) -> Self {
        let (rule, instead) = broken.rule();
        Self {
            rule,
            message: format!("the guard rails of profile \"{profile}\" do not allow this statement"),
            detail: format!("Rule \"{}\": {broken}", rule.name()),
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnloggableText {
    /// The text is longer than the part that the log keeps.
    #[error("the log keeps {max} bytes of a text, and this one is longer.")]
    Long {
        /// Number of bytes that the log keeps.
        max: usize,
    },
    /// The ends of its literals cannot be determined, and one of them may contain a secret.
    #[error("it speaks of a secret, and where its literals end cannot be told, so the log could not show what it does.")]
    Unclear,
}

/// Rule that a statement breaks, with the part that breaks it; its Display is one sentence for the client.
#[derive(Debug, thiserror::Error)]
pub(super) enum BrokenRule {
    #[error("statements of kind \"{kind}\" are not allowed. {allowed}")]
    Kind { kind: &'static str, allowed: String },
    #[error("{0} without WHERE would change every row.")]
    WithoutWhere(&'static str),
    #[error("UPDATE or DELETE is in a text that the gate cannot read, so whether it has its WHERE cannot be told.")]
    WhereUnseen,
    #[error("\"{0}\" may not be named.")]
    Table(String),
    #[error("the text is longer than {0} bytes.")]
    Long(u64),
    #[error("{0} decides how statements are read, and must stay as it is.")]
    Setting(&'static str),
    #[error(transparent)]
    Unloggable(UnloggableText),
    #[error("what the statement does cannot be told: {0}.")]
    Unknown(String),
}

impl BrokenRule {
    /// Returns the rule, and the remedy.
    pub(super) fn rule(&self) -> (FilterRule, &'static str) {
        match self {
            Self::Kind { .. } => (FilterRule::Statements, "do it another way"),
            Self::WithoutWhere(_) => (FilterRule::NeedWhere, "say which rows with WHERE"),
            Self::WhereUnseen => (FilterRule::NeedWhere, "write it in another way"),
            Self::Table(_) => (FilterRule::DenyTables, "leave it out"),
            Self::Long(_) => (FilterRule::MaxSqlBytes, "send less at once"),
            Self::Setting(_) => (FilterRule::Settings, "leave it as it is"),
            Self::Unloggable(UnloggableText::Long { .. }) => {
                (FilterRule::Unloggable, "send less at once, or bind long values as parameters")
            }
            Self::Unloggable(UnloggableText::Unclear) => {
                (FilterRule::Unloggable, "write its literals without backslashes, or as E'...'")
            }
            Self::Unknown(_) => (FilterRule::Unknown, "write it in another way"),
        }
    }
}
