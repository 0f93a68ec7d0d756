//! The guard rails of a profile: whether a statement is one that the profile wants at all, told from its text.
//!
//! They are the seat belt, and no wall: they know no search path, no view's definition and no function's body. What a session may
//! do the database decides, by the privileges of its role.
//!
//! The law: a text is judged as a whole, or refused as a whole; and it is taken apart as PostgreSQL does it under the session's
//! settings ([`crate::lexer`]). A text that is not certain to be read so is not known.

mod look;
mod refused;
mod rules;

use std::collections::HashSet;
use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::Cache;
use sqlparser::ast::Statement;

pub use refused::{Refused, Rule, Unloggable};
pub use rules::{InvalidRules, Rules, kinds};

use look::Found;
use refused::Broken;
use rules::{Allowed, Denied};

use crate::audit::reading::{Class, Unparsed, hides_names, parse, words};
use crate::lexer::LexerSettings;
use crate::names::ProfileName;

/// Longer texts are not read. An `INSERT` of that length takes some 11 ms in a release build, a text of nothing but short statements
/// 150 ms: no session's end may have to wait for much more.
const LONGEST: usize = 128 << 10;
/// Longer texts are judged each time they come, for they seldom come twice, and may take milliseconds.
pub const REMEMBERED: usize = 16 << 10;
/// Bytes of texts that are remembered.
const MEMORY: u64 = 4 << 20;
/// What a verdict takes beside its text.
const ENTRY: u64 = 256;
/// Kinds of statements that may name a table where it is not looked for.
const BY_WORDS: [&str; 7] = [
    "ddl",
    rules::DROP,
    "privilege",
    "lock",
    rules::LOCK_SHARED,
    "maintenance",
    "other",
];

/// What comes of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It may go on.
    Allowed,
    /// It may not.
    Refused(Arc<Refused>),
}

/// The rules of one profile, ready to judge. Shared by all sessions of the profile.
#[derive(Debug)]
pub struct Rails {
    profile: ProfileName,
    allowed: Allowed,
    need_where: bool,
    denied: Vec<Denied>,
    longest: Option<u64>,
    refuse_unknown: bool,
    refuse_unloggable: bool,
    known: Cache<Box<[u8]>, Verdict, Length>,
}

/// Entries weigh what they take.
#[derive(Debug, Clone)]
struct Length;

impl Weighter<Box<[u8]>, Verdict> for Length {
    fn weight(&self, text: &Box<[u8]>, _: &Verdict) -> u64 {
        text.len() as u64 + ENTRY
    }
}

impl Rails {
    /// Rails for a profile.
    ///
    /// # Errors
    /// A rule that cannot be meant.
    pub fn new(rules: &Rules, profile: ProfileName) -> Result<Self, InvalidRules> {
        if let Some(found) = rules.max_sql_bytes.filter(|most| !(1..=LONGEST as u64).contains(most)) {
            return Err(InvalidRules::Length { found });
        }
        let entries = usize::try_from(MEMORY / ENTRY / 2).unwrap_or(usize::MAX);
        Ok(Self {
            profile,
            allowed: Allowed::of(rules.statements.as_deref())?,
            need_where: rules.need_where,
            denied: rules
                .deny_tables
                .iter()
                .map(|table| Denied::of(table))
                .collect::<Result<_, _>>()?,
            longest: rules.max_sql_bytes,
            refuse_unknown: rules.refuse_unknown,
            refuse_unloggable: rules.refuse_unloggable,
            known: Cache::with_weighter(entries, MEMORY, Length),
        })
    }

    /// Whose they are.
    #[must_use]
    pub fn profile(&self) -> &ProfileName {
        &self.profile
    }

    /// How much of a text has to be at hand to judge it; what is longer goes to [`Rails::judge_long`].
    #[must_use]
    pub fn longest(&self) -> usize {
        self.longest.and_then(|most| usize::try_from(most).ok()).unwrap_or(LONGEST)
    }

    /// Judges a text, a Query's or a Parse's, as the target reads it under the session's settings. A text judged before is not read
    /// again, unless the settings are others and matter to it.
    #[must_use]
    pub fn judge(&self, text: &[u8], settings: LexerSettings) -> Verdict {
        if text.len() > self.longest() {
            return self.judge_long(text);
        }
        if !self.reads() {
            return Verdict::Allowed;
        }
        let usual = settings == LexerSettings::default() || LexerSettings::do_not_matter_to(text);
        if text.len() > REMEMBERED || !usual {
            return self.verdict(self.broken(text, settings));
        }
        if let Some(verdict) = self.known.get(text) {
            return verdict;
        }
        let verdict = self.verdict(self.broken(text, settings));
        self.known.insert(text.into(), verdict.clone());
        verdict
    }

    /// Judges a text of which only the beginning is at hand, for it is longer than [`Rails::longest`].
    #[must_use]
    pub fn judge_long(&self, beginning: &[u8]) -> Verdict {
        let broken = match self.longest {
            Some(most) => Some(Broken::long(most)),
            None => self.unknown(
                &format!("it is longer than {LONGEST} bytes"),
                beginning,
                LexerSettings::UNSETTLED,
            ),
        };
        self.verdict(broken)
    }

    /// Returns whether a text is to be refused that could not be recorded whole.
    #[must_use]
    pub fn refuses_unloggable(&self) -> bool {
        self.refuse_unloggable
    }

    /// Judges a text that could not be recorded whole, where such are refused.
    #[must_use]
    pub fn judge_unloggable(&self, unloggable: Unloggable) -> Verdict {
        self.verdict(Some(Broken::unloggable(unloggable)))
    }

    /// Judges a call of a function by its number, which has no text.
    #[must_use]
    pub fn judge_call(&self) -> Verdict {
        let broken = self.kinds(&[Class::Call.name()]);
        self.verdict(broken.or_else(|| self.opaque(&[Class::Call.name()])))
    }

    /// Whether anything is asked but the length.
    fn reads(&self) -> bool {
        self.refuse_unknown || self.need_where || !self.denied.is_empty() || !self.allowed.is_all()
    }

    fn verdict(&self, broken: Option<Broken>) -> Verdict {
        match broken {
            None => Verdict::Allowed,
            Some(broken) => Verdict::Refused(Arc::new(Refused::new(&self.profile, broken))),
        }
    }

    /// The first rule that a text breaks.
    fn broken(&self, text: &[u8], settings: LexerSettings) -> Option<Broken> {
        let tokens = match parse::tokens(text, settings) {
            Ok(tokens) => tokens,
            Err(unparsed) => return self.unknown(why(unparsed), text, settings),
        };
        if let Some(setting) = look::set_config(&tokens) {
            return Some(Broken::setting(setting));
        }
        let statements = match parse::statements(tokens) {
            Ok(statements) => statements,
            Err(unparsed) => return self.unknown(why(unparsed), text, settings),
        };
        let found = Found::of(&statements);
        if let Some(setting) = found.setting {
            return Some(Broken::setting(setting));
        }
        let broken = self.kinds(&found.kinds).or_else(|| self.opaque(&found.kinds));
        broken
            .or_else(|| self.tables(&statements, &found, text))
            .or_else(|| found.without_where.filter(|_| self.need_where).map(Broken::without_where))
    }

    /// The tables it names; where not all are looked for, its words.
    fn tables(&self, statements: &Vec<Statement>, found: &Found, text: &[u8]) -> Option<Broken> {
        if self.denied.is_empty() {
            return None;
        }
        let tables = parse::read(statements).tables;
        let denied = self
            .denied
            .iter()
            .find(|denied| tables.iter().any(|table| denied.may_be(table)));
        let by_words = || found.kinds.iter().any(|kind| BY_WORDS.contains(kind));
        match denied {
            None if by_words() => self.tables_by_words(text),
            denied => denied.map(|denied| Broken::table(&denied.written)),
        }
    }

    fn kinds(&self, kinds: &[&str]) -> Option<Broken> {
        let refused = kinds.iter().find(|kind| !self.allowed.has(kind))?;
        Some(Broken::kind(refused, &self.allowed.listed()))
    }

    /// `DO` and `CALL` run what their text does not show. SQL's `EXECUTE` runs what was judged when it was prepared.
    fn opaque(&self, kinds: &[&str]) -> Option<Broken> {
        let call = Class::Call.name();
        let refused = self.refuse_unknown && kinds.contains(&call) && !self.allowed.names(call);
        refused.then(|| Broken::unknown("DO, CALL and function calls run what their text does not show"))
    }

    /// A text that cannot be read: refused, or judged by its words as far as they go.
    fn unknown(&self, why: &str, text: &[u8], settings: LexerSettings) -> Option<Broken> {
        if self.refuse_unknown {
            return Some(Broken::unknown(why));
        }
        let kinds = look::kinds_by_words(text, settings);
        let broken = self.kinds(&kinds).or_else(|| self.rows_by_words(&kinds));
        broken.or_else(|| self.tables_by_words(text))
    }

    /// Whether there is a `WHERE` that belongs to it cannot be told.
    fn rows_by_words(&self, kinds: &[&str]) -> Option<Broken> {
        let changes = kinds
            .iter()
            .any(|kind| [Class::Update.name(), Class::Delete.name()].contains(kind));
        (self.need_where && changes).then(Broken::where_unseen)
    }

    /// Finds too much rather than too little: words in comments and literals count as well.
    fn tables_by_words(&self, text: &[u8]) -> Option<Broken> {
        if self.denied.is_empty() {
            return None;
        }
        let sql = String::from_utf8_lossy(text);
        let words: HashSet<String> = words(&sql).map(str::to_lowercase).collect();
        let hidden = hides_names(&sql);
        let denied = self.denied.iter().find(|denied| hidden || denied.may_be_in(&words));
        denied.map(|denied| Broken::table(&denied.written))
    }
}

fn why(unparsed: Unparsed) -> &'static str {
    match unparsed {
        Unparsed::Deep => "its expressions are nested too deep to be read",
        Unparsed::Ambiguous => {
            "where its literals and comments end, or which names it has, depends on settings that are not certain here \
             (standard_conforming_strings, client_encoding)"
        }
        _ => "the gate cannot read it",
    }
}

#[cfg(test)]
mod tests;
