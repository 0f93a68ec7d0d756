//! Properties of a statement that the rules depend on, found in sqlparser's tree and tokens.
//!
//! This module does not judge. The tables that a statement names are found by [`crate::audit::sql_analysis`].

use std::convert::Infallible;
use std::ops::ControlFlow;

use sqlparser::ast::{Expr, LockTableMode, ObjectName, Reset, Select, Set, Statement, TableFactor, Visit, Visitor};
use sqlparser::tokenizer::Token;

use super::rules::{COPY_TO, DROP, LISTEN, LOCK_SHARED};
use crate::audit::sql_analysis::{CommandClass, TableName, parse, words};
use crate::protocol::lexer::{Lexer, LexerSettings, Token as Lexeme, TokenKind};

/// Settings that determine how a text is read. If they were changed, the rules would judge another text than the target runs.
const READING_SETTINGS: [&str; 4] = [
    "standard_conforming_strings",
    "client_encoding",
    "backslash_quote",
    "escape_string_warning",
];
/// Values of these settings that change nothing; dumps set them.
const DEFAULT_SETTING_VALUES: [&str; 5] = ["on", "true", "utf8", "utf-8", "unicode"];

/// Kinds of commands that change rows and may be nested in others.
const NESTABLE_KINDS: [&str; 4] = ["insert", "update", "delete", "merge"];
/// Kinds of commands that take or change something.
pub(super) const CHANGING_KINDS: [&str; 8] = ["insert", "update", "delete", "merge", "truncate", "ddl", DROP, "privilege"];

/// Kinds of statements that may name a table in a place that is not analysed.
const KINDS_FOUND_BY_WORDS: [&str; 7] = ["ddl", DROP, "privilege", "lock", LOCK_SHARED, "maintenance", "other"];

/// Properties found in a text.
#[derive(Debug, Default)]
pub(super) struct FilterFindings {
    /// Kinds of its statements.
    pub(super) kinds: Vec<&'static str>,
    /// `UPDATE` or `DELETE`, if one of its statements is such a command without `WHERE`.
    pub(super) without_where: Option<&'static str>,
    /// Setting of [`READING_SETTINGS`] that it changes.
    pub(super) setting: Option<&'static str>,
}

impl FilterFindings {
    pub(super) fn of(statements: &Vec<Statement>) -> Self {
        let mut found = Self::default();
        // The visitor never stops early.
        let _ = statements.visit(&mut found);
        found
    }

    /// Returns true if it names tables in places that are not analysed: its words count instead.
    pub(super) fn by_words(&self) -> bool {
        self.kinds.iter().any(|kind| KINDS_FOUND_BY_WORDS.contains(kind))
    }

    fn kind(&mut self, kind: &'static str) {
        if !self.kinds.contains(&kind) {
            self.kinds.push(kind);
        }
    }

    fn setting(&mut self, name: &ObjectName) {
        let name = name.0.last().and_then(|part| part.as_ident());
        self.setting = self.setting.or(name.and_then(|name| of_reading(&name.value)));
    }

    fn set(&mut self, set: &Set) {
        match set {
            Set::SingleAssignment { variable, values, .. } if !as_it_is(values) => self.setting(variable),
            Set::ParenthesizedAssignments { variables, .. } => variables.iter().for_each(|name| self.setting(name)),
            Set::MultipleAssignments { assignments } => assignments.iter().for_each(|one| self.setting(&one.name)),
            Set::SetNames { charset_name, .. } if !is_as_it_is(&charset_name.value) => {
                self.setting = of_reading("client_encoding");
            }
            Set::SetNamesDefault {} => self.setting = of_reading("client_encoding"),
            _ => {}
        }
    }
}

impl Visitor for FilterFindings {
    type Break = Infallible;

    fn pre_visit_statement(&mut self, statement: &Statement) -> ControlFlow<Infallible> {
        if let Some(class) = parse::class(statement) {
            self.kind(kind(statement, class));
        }
        match statement {
            Statement::Update(update) => {
                if update.selection.is_none() {
                    self.without_where = Some("UPDATE");
                }
                if let TableFactor::Table { name, .. } = &update.table.relation
                    && TableName::of(name).is_some_and(|table| table.name == "pg_settings")
                {
                    // An update of `pg_settings` calls set_config, by a rule of that view.
                    self.setting = Some("pg_settings");
                }
            }
            Statement::Delete(delete) if delete.selection.is_none() => self.without_where = Some("DELETE"),
            Statement::Set(set) => self.set(set),
            Statement::Reset(reset) => {
                // RESET ALL restores the settings of the session's start, which were checked.
                if let Reset::ConfigurationParameter(name) = &reset.reset {
                    self.setting(name);
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Infallible> {
        if select.into.is_some() {
            self.kind(CommandClass::Ddl.as_str());
        }
        ControlFlow::Continue(())
    }
}

/// Returns the kind of a statement: its class, or a part of its class that rules distinguish.
fn kind(statement: &Statement, class: CommandClass) -> &'static str {
    match statement {
        Statement::Copy { to: true, .. } => COPY_TO,
        Statement::LISTEN { .. } | Statement::UNLISTEN { .. } => LISTEN,
        Statement::Lock(lock) if lock.lock_mode == Some(LockTableMode::AccessShare) => LOCK_SHARED,
        _ if class == CommandClass::Ddl && parse::drops(statement) => DROP,
        _ => class.as_str(),
    }
}

fn of_reading(name: &str) -> Option<&'static str> {
    READING_SETTINGS
        .into_iter()
        .find(|setting| setting.eq_ignore_ascii_case(name))
}

fn as_it_is(values: &[Expr]) -> bool {
    matches!(values, [value] if is_as_it_is(value.to_string().trim_matches('\'')))
}

fn is_as_it_is(value: &str) -> bool {
    DEFAULT_SETTING_VALUES.iter().any(|known| known.eq_ignore_ascii_case(value))
}

/// Returns the setting of [`READING_SETTINGS`] that `set_config` changes or may change: its name may be computed or a parameter.
pub(super) fn set_config(tokens: &[Token]) -> Option<&'static str> {
    let mut code = tokens.iter();
    loop {
        let found = code.find(|token| matches!(token, Token::Word(word) if word.value.eq_ignore_ascii_case("set_config")));
        found?;
        let mut behind = code.clone();
        if behind.next() != Some(&Token::LParen) {
            continue;
        }
        match (behind.next(), behind.next()) {
            (Some(Token::SingleQuotedString(name)), Some(Token::Comma)) => {
                if let Some(setting) = of_reading(name) {
                    return Some(setting);
                }
            }
            _ if is_by_row(tokens) => {}
            _ => return Some("a setting that is not named"),
        }
    }
}

/// Statement by which `pg_dump` changes a setting that a server may not have: in the row of `pg_settings` for it, if there is
/// one.
const BY_ROW: &str =
    "SELECT set_config(name, 'view, foreign-table', false) FROM pg_settings WHERE name = 'restrict_nonsystem_relation_kind'";

fn is_by_row(tokens: &[Token]) -> bool {
    let text = tokens.strip_suffix(&[Token::SemiColon]).unwrap_or(tokens);
    parse::tokens(BY_ROW.as_bytes(), LexerSettings::default()).is_ok_and(|known| known == text)
}

/// Returns the kinds of the commands of a text that cannot be parsed: by the first word of each, and by nested commands that
/// change rows, because these may follow `WITH`, `EXPLAIN` and `PREPARE`. The commands that `DO` runs are looked for in its
/// literal.
pub(super) fn kinds_by_words(text: &[u8], settings: LexerSettings) -> Vec<&'static str> {
    let Some(masked) = settings.mask(text) else {
        return changes_anywhere(text);
    };
    let (mut lexer, mut kinds) = (Lexer::under(&masked, settings), Vec::new());
    let (mut first, mut before) = (None, None::<Lexeme<'_>>);
    while let Some(token) = lexer.next_code() {
        if token.kind == TokenKind::Ambiguous {
            // Not even the boundaries of its words are known: all words count.
            kinds.extend(changes_anywhere(token.text));
            break;
        }
        let begins = first.is_none() && !token.is_sign(b'(');
        let kind = kind_of_word(token.text);
        if token.is_sign(b';') {
            first = None;
        } else if begins {
            first = Some(kind);
            kinds.push(kind);
        } else if first == Some(CommandClass::Call.as_str()) {
            kinds.extend(changes_anywhere(token.text));
        } else if token.kind == TokenKind::Word && may_begin(first, before, kind) {
            kinds.push(kind);
        } else if token.is("into") && !before.is_some_and(|before| before.is("insert") || before.is("merge")) {
            // The `INTO` of a SELECT, which creates a table.
            kinds.push(CommandClass::Ddl.as_str());
        } else if first == Some(CommandClass::Ddl.as_str()) && ["role", "user", "group"].into_iter().any(|word| token.is(word)) {
            kinds.push(CommandClass::Privilege.as_str());
        }
        before = Some(token);
    }
    kinds
}

/// Returns true if a command of this kind may be nested in one whose kind is `first`. `FOR UPDATE` and `FOR NO KEY UPDATE` lock
/// rows, and `ON DELETE` belongs to another clause.
fn may_begin(first: Option<&str>, before: Option<Lexeme<'_>>, kind: &str) -> bool {
    let other = |word| before.is_some_and(|before| before.is(word));
    let explained = || {
        first == Some(CommandClass::Explain.as_str())
            && [CommandClass::Ddl.as_str(), CommandClass::Execute.as_str()].contains(&kind)
    };
    (NESTABLE_KINDS.contains(&kind) && !["for", "key", "on"].into_iter().any(other)) || explained()
}

/// Returns the kinds of all words that change something, anywhere in the text.
fn changes_anywhere(text: &[u8]) -> Vec<&'static str> {
    let text = String::from_utf8_lossy(text);
    let kinds = words(&text).map(|word| kind_of_word(word.as_bytes()));
    kinds.filter(|kind| CHANGING_KINDS.contains(kind)).collect()
}

fn kind_of_word(word: &[u8]) -> &'static str {
    match CommandClass::of_word(&String::from_utf8_lossy(word)) {
        CommandClass::Ddl if word.eq_ignore_ascii_case(DROP.as_bytes()) => DROP,
        class => class.as_str(),
    }
}
