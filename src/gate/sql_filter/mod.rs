//! Guard rails of a profile: rules on which statements the profile allows, judged by their text.
//!
//! They protect against mistakes and are not a security boundary: they do not know the search path, the definition of a view or
//! the body of a function. The database decides what a session may do, by the privileges of its role.
//!
//! INVARIANT: a text is allowed as a whole or refused as a whole, and it is scanned as PostgreSQL does under the session's
//! settings ([`crate::protocol::lexer`]). A text that cannot be scanned with certainty counts as unknown.

mod inspect;
mod refusal;
mod rules;

use std::collections::HashSet;
use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::Cache;
use sqlparser::ast::Statement;

pub use refusal::{FilterRule, StatementRefusal, UnloggableText};
pub use rules::{FilterRules, FilterRulesError, kinds};

use inspect::FilterFindings;
use refusal::BrokenRule;
use rules::{AllowedKinds, DeniedTable};

use crate::audit::sql_analysis::{CommandClass, ParseFailure, hides_names, parse, words};
use crate::model::names::ProfileName;
use crate::protocol::lexer::{LexerSettings, shape};

/// Maximum length of a text that is parsed, in bytes. An `INSERT` of that length takes some 11 ms in a release build, a text of
/// only short statements 150 ms: the end of a session may not have to wait for much longer.
const MAX_SQL_BYTES: usize = 128 << 10;
/// Maximum length in bytes of a text whose verdict is cached. Longer texts are judged each time: they seldom repeat, and may take
/// milliseconds.
pub const MAX_CACHED_TEXT_BYTES: usize = 16 << 10;
/// Capacity of the cache of verdicts in bytes.
const CACHE_BYTES: u64 = 4 << 20;
/// Bytes that a cached verdict takes in addition to its text.
const ENTRY_BYTES: u64 = 256;

/// Refusal of a text or a call; `None` if it may be forwarded.
pub type FilterVerdict = Option<Arc<StatementRefusal>>;

/// Rule that a text breaks, if it breaks one.
struct Judged {
    broken: Option<BrokenRule>,
    /// True if words in its literals may have counted: another text of its shape may be judged otherwise.
    by_words: bool,
}

/// Rules of one profile, ready to judge. All sessions of the profile share them.
#[derive(Debug)]
pub struct SqlFilter {
    profile: ProfileName,
    allowed: AllowedKinds,
    need_where: bool,
    denied: Vec<DeniedTable>,
    longest: Option<u64>,
    refuse_unknown: bool,
    refuse_unloggable: bool,
    known: Cache<Box<[u8]>, FilterVerdict, LengthWeighter>,
}

/// Weigher of cache entries by the bytes they take.
#[derive(Debug, Clone)]
struct LengthWeighter;

impl Weighter<Box<[u8]>, FilterVerdict> for LengthWeighter {
    fn weight(&self, text: &Box<[u8]>, _: &FilterVerdict) -> u64 {
        text.len() as u64 + ENTRY_BYTES
    }
}

impl SqlFilter {
    /// Compiles the rules of a profile.
    ///
    /// # Errors
    /// Fails if a rule makes no sense.
    pub fn new(rules: &FilterRules, profile: ProfileName) -> Result<Self, FilterRulesError> {
        if let Some(found) = rules.max_sql_bytes.filter(|most| !(1..=MAX_SQL_BYTES as u64).contains(most)) {
            return Err(FilterRulesError::Length { found });
        }
        let entries = usize::try_from(CACHE_BYTES / ENTRY_BYTES / 2).unwrap_or(usize::MAX);
        Ok(Self {
            profile,
            allowed: AllowedKinds::of(rules.statements.as_deref())?,
            need_where: rules.need_where,
            denied: rules
                .deny_tables
                .iter()
                .map(|table| DeniedTable::of(table))
                .collect::<Result<_, _>>()?,
            longest: rules.max_sql_bytes,
            refuse_unknown: rules.refuse_unknown,
            refuse_unloggable: rules.refuse_unloggable,
            known: Cache::with_weighter(entries, CACHE_BYTES, LengthWeighter),
        })
    }

    /// Returns the profile that these rules belong to.
    #[must_use]
    pub fn profile(&self) -> &ProfileName {
        &self.profile
    }

    /// Returns the number of bytes of a text that are needed to judge it; a longer text goes to [`SqlFilter::judge_long`].
    #[must_use]
    pub fn longest(&self) -> usize {
        self.longest
            .and_then(|most| usize::try_from(most).ok())
            .unwrap_or(MAX_SQL_BYTES)
    }

    /// Judges the text of a Query or Parse message as the target reads it under the session's settings. A text is not parsed if one
    /// of its shape was judged before, unless the settings differ from the defaults and matter to it.
    #[must_use]
    pub fn judge(&self, text: &[u8], settings: LexerSettings) -> FilterVerdict {
        if text.len() > self.longest() {
            return self.judge_long(text);
        }
        if !self.reads() {
            return None;
        }
        let usual = settings == LexerSettings::default() || LexerSettings::do_not_matter_to(text);
        if text.len() > MAX_CACHED_TEXT_BYTES || !usual {
            return self.verdict(self.broken(text, settings).broken);
        }
        let shape = shape(text);
        let known = shape.as_deref().and_then(|shape| self.known.get(shape));
        if let Some(verdict) = known.or_else(|| self.known.get(text)) {
            return verdict;
        }
        let judged = self.broken(text, settings);
        let key = shape
            .filter(|_| !judged.by_words)
            .map_or_else(|| text.into(), Vec::into_boxed_slice);
        let verdict = self.verdict(judged.broken);
        self.known.insert(key, verdict.clone());
        verdict
    }

    /// Judges a text that is longer than [`SqlFilter::longest`], by its beginning.
    #[must_use]
    pub fn judge_long(&self, beginning: &[u8]) -> FilterVerdict {
        let broken = match self.longest {
            Some(most) => Some(BrokenRule::Long(most)),
            None => self.unknown(
                &format!("it is longer than {MAX_SQL_BYTES} bytes"),
                beginning,
                LexerSettings::UNSETTLED,
            ),
        };
        self.verdict(broken)
    }

    /// Returns true if a text that could not be recorded completely is to be refused.
    #[must_use]
    pub fn refuses_unloggable(&self) -> bool {
        self.refuse_unloggable
    }

    /// Judges a text that could not be recorded completely, if such texts are refused.
    #[must_use]
    pub fn judge_unloggable(&self, unloggable: UnloggableText) -> FilterVerdict {
        self.verdict(Some(BrokenRule::Unloggable(unloggable)))
    }

    /// Judges a FunctionCall, which names a function by its OID and has no text.
    #[must_use]
    pub fn judge_call(&self) -> FilterVerdict {
        let broken = self.kinds(&[CommandClass::Call.as_str()]);
        self.verdict(broken.or_else(|| self.opaque(&[CommandClass::Call.as_str()])))
    }

    /// Returns true if any rule needs more than the length of the text.
    fn reads(&self) -> bool {
        self.refuse_unknown || self.need_where || !self.denied.is_empty() || !self.allowed.is_all()
    }

    fn verdict(&self, broken: Option<BrokenRule>) -> FilterVerdict {
        broken.map(|broken| Arc::new(StatementRefusal::new(&self.profile, &broken)))
    }

    /// Returns the first rule that a text breaks.
    fn broken(&self, text: &[u8], settings: LexerSettings) -> Judged {
        let unknown = |unparsed| Judged {
            broken: self.unknown(why(unparsed), text, settings),
            by_words: true,
        };
        let setting = |name| Judged {
            broken: Some(BrokenRule::Setting(name)),
            by_words: false,
        };
        let tokens = match parse::tokens(text, settings) {
            Ok(tokens) => tokens,
            Err(unparsed) => return unknown(unparsed),
        };
        if let Some(name) = inspect::set_config(&tokens) {
            return setting(name);
        }
        let statements = match parse::statements(tokens) {
            Ok(statements) => statements,
            Err(unparsed) => return unknown(unparsed),
        };
        let found = FilterFindings::of(&statements);
        if let Some(name) = found.setting {
            return setting(name);
        }
        let broken = self.kinds(&found.kinds).or_else(|| self.opaque(&found.kinds));
        let broken = broken
            .or_else(|| self.tables(&statements, &found, text))
            .or_else(|| found.without_where.filter(|_| self.need_where).map(BrokenRule::WithoutWhere));
        Judged {
            broken,
            by_words: found.by_words(),
        }
    }

    /// Checks the tables that the statements name; for kinds whose tables are not all found, the words of the text.
    fn tables(&self, statements: &Vec<Statement>, found: &FilterFindings, text: &[u8]) -> Option<BrokenRule> {
        if self.denied.is_empty() {
            return None;
        }
        let tables = parse::read(statements).tables;
        let denied = self
            .denied
            .iter()
            .find(|denied| tables.iter().any(|table| denied.may_be(table)));
        match denied {
            None if found.by_words() => self.tables_by_words(text),
            denied => denied.map(|denied| BrokenRule::Table(denied.written.clone())),
        }
    }

    fn kinds(&self, kinds: &[&'static str]) -> Option<BrokenRule> {
        let kind = kinds.iter().find(|kind| !self.allowed.has(kind))?;
        let allowed = self.allowed.listed();
        Some(BrokenRule::Kind { kind, allowed })
    }

    /// Refuses `DO` and `CALL`, which run code that their text does not show. SQL's `EXECUTE` runs a statement that was judged
    /// when it was prepared.
    fn opaque(&self, kinds: &[&str]) -> Option<BrokenRule> {
        let call = CommandClass::Call.as_str();
        let refused = self.refuse_unknown && kinds.contains(&call) && !self.allowed.names(call);
        refused.then(|| BrokenRule::Unknown("DO, CALL and function calls run what their text does not show".to_owned()))
    }

    /// Judges a text that cannot be parsed: it is refused, or judged by its words as far as possible.
    fn unknown(&self, why: &str, text: &[u8], settings: LexerSettings) -> Option<BrokenRule> {
        if self.refuse_unknown {
            return Some(BrokenRule::Unknown(why.to_owned()));
        }
        let kinds = inspect::kinds_by_words(text, settings);
        let broken = self.kinds(&kinds).or_else(|| self.rows_by_words(&kinds));
        broken.or_else(|| self.tables_by_words(text))
    }

    /// Refuses UPDATE and DELETE in a text that cannot be parsed: a `WHERE` in it may belong to another command.
    fn rows_by_words(&self, kinds: &[&str]) -> Option<BrokenRule> {
        let changes = kinds
            .iter()
            .any(|kind| [CommandClass::Update.as_str(), CommandClass::Delete.as_str()].contains(kind));
        (self.need_where && changes).then_some(BrokenRule::WhereUnseen)
    }

    /// Checks denied tables by words. It finds too many rather than too few: words in comments and literals count as well.
    fn tables_by_words(&self, text: &[u8]) -> Option<BrokenRule> {
        if self.denied.is_empty() {
            return None;
        }
        let sql = String::from_utf8_lossy(text);
        let words: HashSet<String> = words(&sql).map(str::to_lowercase).collect();
        let hidden = hides_names(&sql);
        let denied = self.denied.iter().find(|denied| hidden || denied.may_be_in(&words));
        denied.map(|denied| BrokenRule::Table(denied.written.clone()))
    }
}

fn why(unparsed: ParseFailure) -> &'static str {
    match unparsed {
        ParseFailure::Deep => "its expressions are nested too deep to be read",
        ParseFailure::Ambiguous => {
            "where its literals and comments end, or which names it has, depends on settings that are not certain here \
             (standard_conforming_strings, client_encoding)"
        }
        _ => "the gate cannot read it",
    }
}

#[cfg(test)]
mod tests;
