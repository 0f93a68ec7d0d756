//! A refusal: the rule or limit it comes from, and what the client reads.
//!
//! It does not decide.

use crate::ending::Words;
use crate::names::ProfileName;

/// SQLSTATE insufficient_privilege: drivers take it for an error of the statement and keep the connection.
const NOT_ALLOWED: &str = "42501";
/// SQLSTATE program_limit_exceeded.
const LIMIT_EXCEEDED: &str = "54000";

/// A rule or a limit, by the name it has in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// The kind of a statement is not allowed.
    Statements,
    /// An `UPDATE` or `DELETE` without `WHERE`.
    NeedWhere,
    /// A table is denied.
    DenyTables,
    /// The text is too long.
    MaxSqlBytes,
    /// What a statement does is not known.
    Unknown,
    /// The log could not have all of the text.
    Unloggable,
    /// It changes how the target reads texts: then the rules would judge others than are run. Every profile with rules has it.
    Settings,
    /// The sessions of the identity hold as many bytes of prepared statements and portals as they may.
    PreparedBytes,
    /// The session holds as many prepared statements or portals as the gate keeps account of.
    PreparedNames,
}

impl Rule {
    /// Its name.
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

    /// The SQLSTATE of its refusals.
    #[must_use]
    pub fn sqlstate(self) -> &'static str {
        match self {
            Self::PreparedBytes | Self::PreparedNames => LIMIT_EXCEEDED,
            _ => NOT_ALLOWED,
        }
    }
}

/// Why a statement is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The rule.
    pub rule: Rule,
    /// One sentence: the statement was refused, and for which profile.
    pub message: String,
    /// What of the statement breaks the rule.
    pub detail: String,
    /// What to do, or where to ask for more.
    pub hint: String,
}

impl Refused {
    pub(super) fn new(profile: &ProfileName, broken: Broken) -> Self {
        let Broken { rule, what, instead } = broken;
        Self {
            rule,
            message: format!("the guard rails of profile \"{profile}\" do not allow this statement"),
            detail: format!("Rule \"{}\": {what}", rule.name()),
            hint: format!("{instead}; or ask for another profile (tidegate request), or the gate's operator for other rules"),
        }
    }

    /// What the client reads.
    #[must_use]
    pub fn words(&self) -> Words {
        Words {
            code: self.rule.sqlstate(),
            message: self.message.clone(),
            detail: Some(self.detail.clone()),
            hint: Some(self.hint.clone()),
        }
    }
}

/// Why a text could not be recorded whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unloggable {
    /// It is longer than what is kept of a text.
    Long {
        /// Bytes that are kept.
        max: usize,
    },
    /// Where its literals end cannot be told, and it may have a secret in one.
    Unclear,
}

/// A rule that a statement breaks.
#[derive(Debug)]
pub(super) struct Broken {
    pub(super) rule: Rule,
    /// A sentence.
    what: String,
    /// What to do about it.
    instead: &'static str,
}

impl Broken {
    pub(super) fn kind(kind: &str, allowed: &str) -> Self {
        Self {
            rule: Rule::Statements,
            what: format!("statements of kind \"{kind}\" are not allowed. {allowed}"),
            instead: "do it another way",
        }
    }

    pub(super) fn without_where(command: &str) -> Self {
        Self {
            rule: Rule::NeedWhere,
            what: format!("{command} without WHERE would change every row."),
            instead: "say which rows with WHERE",
        }
    }

    pub(super) fn where_unseen() -> Self {
        Self {
            rule: Rule::NeedWhere,
            what: "UPDATE or DELETE is in a text that the gate cannot read, so whether it has its WHERE cannot be told."
                .to_owned(),
            instead: "write it in another way",
        }
    }

    pub(super) fn table(written: &str) -> Self {
        Self {
            rule: Rule::DenyTables,
            what: format!("\"{written}\" may not be named."),
            instead: "leave it out",
        }
    }

    pub(super) fn long(most: u64) -> Self {
        Self {
            rule: Rule::MaxSqlBytes,
            what: format!("the text is longer than {most} bytes."),
            instead: "send less at once",
        }
    }

    pub(super) fn setting(name: &str) -> Self {
        Self {
            rule: Rule::Settings,
            what: format!("{name} decides how statements are read, and must stay as it is."),
            instead: "leave it as it is",
        }
    }

    pub(super) fn unloggable(unloggable: Unloggable) -> Self {
        Self {
            rule: Rule::Unloggable,
            what: match unloggable {
                Unloggable::Long { max } => format!("the log keeps {max} bytes of a text, and this one is longer."),
                Unloggable::Unclear => {
                    "it speaks of a secret, and where its literals end cannot be told, so the log could not show what it does."
                        .to_owned()
                }
            },
            instead: match unloggable {
                Unloggable::Long { .. } => "send less at once, or bind long values as parameters",
                Unloggable::Unclear => "write its literals without backslashes, or as E'...'",
            },
        }
    }

    pub(super) fn unknown(why: &str) -> Self {
        Self {
            rule: Rule::Unknown,
            what: format!("what the statement does cannot be told: {why}."),
            instead: "write it in another way",
        }
    }
}
