//! Reads the tables of a TOML text, and notes every mistake with its place instead of stopping at the first.
//!
//! It knows TOML's types, not the meaning of keys. The keys that are read are the schema: any other key is a mistake.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::mistake::ConfigMistake;
use crate::model::names::nearest;

/// Text to parse, with everything found in it so far.
pub(super) struct TableReader<'a> {
    path: &'a Path,
    text: &'a str,
    /// True for a key whose file or environment variable may be read.
    opens: &'a dyn Fn(&str) -> bool,
    found: RefCell<Found>,
}

/// Everything found in a text, apart from its values.
#[derive(Default)]
pub(super) struct Found {
    /// Mistakes in single values.
    pub(super) mistakes: Vec<ConfigMistake>,
    /// Mistakes by the rules between keys, and in the files that are named.
    pub(super) broken_rules: Vec<ConfigMistake>,
    /// Files with secrets that every user of the machine may read.
    pub(super) exposed: Vec<PathBuf>,
    /// Rows of the reference, in the order of reading.
    pub(super) keys: Vec<KeyReference>,
    /// Line of each key, by the key with its tables, such as `targets.orders.user`.
    lines: BTreeMap<String, usize>,
}

/// Row of the reference: one key. Everything but the key is Markdown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyReference {
    /// Key with its tables, such as `targets.NAME.user`.
    pub key: String,
    /// Type of the value, with its limits.
    pub value: String,
    /// Default.
    pub default: String,
    /// Meaning.
    pub meaning: &'static str,
}

/// Table of the file.
pub(super) struct TableSection<'t> {
    reader: &'t TableReader<'t>,
    table: &'t DeTable<'t>,
    /// Name of the table with its parents, as mistakes show it.
    path: String,
    /// The same, as the reference shows it: with a placeholder for a name that the operator chooses.
    shape: String,
    known: RefCell<Vec<&'static str>>,
}

/// Value under a key that the operator chooses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum OwnValue {
    /// String; or a number or boolean as it is written.
    Text(String),
    /// Table, in the order of the file.
    Table(Vec<(String, OwnValue)>),
    /// Value of any other type; the name of the type, with its article.
    Other(&'static str),
}

impl<'a> TableReader<'a> {
    pub(super) fn new(path: &'a Path, text: &'a str, opens: &'a dyn Fn(&str) -> bool) -> Self {
        Self {
            path,
            text,
            opens,
            found: RefCell::default(),
        }
    }

    /// Reads the text with `read`, or returns all syntax errors. After a syntax error the meaning of the rest is not guessed.
    pub(super) fn read<R>(self, read: impl FnOnce(&TableSection<'_>) -> R) -> Result<(R, Found), Vec<ConfigMistake>> {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        if !errors.is_empty() {
            let mistakes = errors.iter().map(|error| {
                let line = error.span().map(|span| self.line(span.start));
                let reason = error.message().lines().collect::<Vec<_>>().join(", ");
                ConfigMistake::new(self.path, line, None, format!("invalid TOML: {reason}"))
            });
            return Err(mistakes.collect());
        }
        let result = section(&self, table.get_ref(), String::new(), String::new(), read);
        Ok((result, self.found.into_inner()))
    }

    fn line(&self, offset: usize) -> usize {
        let before = self.text.as_bytes().iter().take(offset);
        1 + before.filter(|byte| **byte == b'\n').count()
    }

    /// Remembers the line of a key, for mistakes in it.
    fn locate(&self, path: &str, offset: usize) {
        self.found.borrow_mut().lines.insert(path.to_owned(), self.line(offset));
    }

    /// Returns a mistake in a key. A key that is not written is reported at the nearest enclosing table that is.
    fn mistake(&self, key: String, reason: impl Into<String>, remedy: &str) -> ConfigMistake {
        let lines = &self.found.borrow().lines;
        let mut enclosing = std::iter::successors(Some(&*key), |key| Some(key.rsplit_once('.')?.0));
        let line = enclosing.find_map(|key| lines.get(key)).copied();
        let mistake = ConfigMistake::new(self.path, line, Some(key), reason);
        if remedy.is_empty() { mistake } else { mistake.remedy(remedy) }
    }
}

/// Reads a table, and notes every key of it that was not read.
fn section<'t, R>(
    reader: &'t TableReader<'t>,
    table: &'t DeTable<'t>,
    path: String,
    shape: String,
    read: impl FnOnce(&TableSection<'t>) -> R,
) -> R {
    let section = TableSection {
        reader,
        table,
        path,
        shape,
        known: RefCell::default(),
    };
    let result = read(&section);
    section.finish();
    result
}

impl TableSection<'_> {
    /// Reads the table under `key`; an absent table reads as an empty one.
    pub(super) fn within<R>(&self, key: &'static str, read: impl FnOnce(&TableSection<'_>) -> R) -> R {
        let empty = DeTable::new();
        let table = self
            .value(key)
            .and_then(|value| self.as_table(key, value, ""))
            .unwrap_or(&empty);
        section(self.reader, table, self.path_of(key), join(&self.shape, key), read)
    }

    /// Reads the tables under `key` with their names, such as `[targets.orders]`, in the order of the file.
    pub(super) fn each<R>(&self, key: &'static str, mut read: impl FnMut(&str, &TableSection<'_>) -> R) -> Vec<R> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let Some(tables) = value.get_ref().as_table() else {
            self.unexpected(
                key,
                "tables",
                value.get_ref(),
                &format!("write a table for each entry: [{key}.name]"),
            );
            return Vec::new();
        };
        let remedy = format!("write [{key}.name] and the keys below it");
        let entries = in_file_order(tables).filter_map(|(name, value)| {
            let own = (format!("{key}.{}", name.get_ref()), format!("{key}.NAME"));
            self.entry(own, name.span().start, value, &remedy, |section| {
                read(name.get_ref(), section)
            })
        });
        entries.collect()
    }

    /// Reads each table of the list `[[key]]`. Mistakes number the tables from 1.
    pub(super) fn tables<R>(&self, key: &'static str, mut read: impl FnMut(&TableSection<'_>) -> R) -> Vec<R> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let Some(list) = value.get_ref().as_array() else {
            let remedy = format!("write [[{}]] and the keys below it", self.path_of(key));
            self.unexpected(key, "a list of tables", value.get_ref(), &remedy);
            return Vec::new();
        };
        let entries = (1_usize..).zip(list.iter()).filter_map(|(number, value)| {
            let own = (format!("{key}[{number}]"), key.to_owned());
            self.entry(own, value.span().start, value, "", &mut read)
        });
        entries.collect()
    }

    /// Reads one of several tables: its own key, for mistakes and for the reference, and its place.
    fn entry<R>(
        &self,
        (key, shape): (String, String),
        offset: usize,
        value: &Spanned<DeValue<'_>>,
        remedy: &str,
        read: impl FnOnce(&TableSection<'_>) -> R,
    ) -> Option<R> {
        let path = self.path_of(&key);
        self.reader.locate(&path, offset);
        let table = self.as_table(&key, value, remedy)?;
        Some(section(self.reader, table, path, join(&self.shape, &shape), read))
    }

    /// Returns true if there is a value under the key.
    pub(super) fn has(&self, key: &'static str) -> bool {
        self.value(key).is_some()
    }

    /// Returns true if there is a table under the key.
    pub(super) fn is_table(&self, key: &'static str) -> bool {
        self.value(key).is_some_and(|value| value.get_ref().as_table().is_some())
    }

    /// Reads the table under `key`, with any keys, in the order of the file; empty if it is absent.
    pub(super) fn own(&self, key: &'static str) -> Vec<(String, OwnValue)> {
        let Some(value) = self.value(key) else { return Vec::new() };
        if let OwnValue::Table(entries) = self.read_own(&self.path_of(key), value.get_ref()) {
            return entries;
        }
        self.unexpected(key, "a table", value.get_ref(), &format!("write {key} = {{ name = … }}"));
        Vec::new()
    }

    /// Reads a value and remembers the line of each key in it, for mistakes found later.
    fn read_own(&self, path: &str, value: &DeValue<'_>) -> OwnValue {
        match value {
            DeValue::String(text) => OwnValue::Text(text.to_string()),
            DeValue::Integer(number) if number.radix() == 10 => OwnValue::Text(number.as_str().to_owned()),
            DeValue::Float(number) => OwnValue::Text(number.as_str().to_owned()),
            DeValue::Boolean(truth) => OwnValue::Text(truth.to_string()),
            DeValue::Table(table) => OwnValue::Table(
                in_file_order(table)
                    .map(|(name, value)| {
                        let path = format!("{path}.{}", name.get_ref());
                        self.reader.locate(&path, name.span().start);
                        (name.get_ref().to_string(), self.read_own(&path, value.get_ref()))
                    })
                    .collect(),
            ),
            other => OwnValue::Other(kind(other)),
        }
    }

    /// Notes a mistake in a value of this table; the empty key is the table itself.
    pub(super) fn mistake_at(&self, key: &str, reason: impl Into<String>, remedy: &str) {
        let mistake = self.reader.mistake(self.path_of(key), reason, remedy);
        self.reader.found.borrow_mut().mistakes.push(mistake);
    }

    /// Notes a mistake by a rule between keys, or in a file that a key names.
    pub(super) fn broken_rule(&self, key: &str, reason: impl Into<String>, remedy: &str) {
        let mistake = self.reader.mistake(self.path_of(key), reason, remedy);
        self.reader.found.borrow_mut().broken_rules.push(mistake);
    }

    /// Notes a file with a secret that every user of the machine may read.
    pub(super) fn expose(&self, path: &Path) {
        let exposed = &mut self.reader.found.borrow_mut().exposed;
        if !exposed.iter().any(|known| known == path) {
            exposed.push(path.to_owned());
        }
    }

    /// Adds a row to the reference.
    pub(super) fn refer(&self, key: &str, value: String, default: String, meaning: &'static str) {
        let row = KeyReference {
            key: join(&self.shape, key),
            value,
            default,
            meaning,
        };
        self.reader.found.borrow_mut().keys.push(row);
    }

    /// Returns the value under a key, which is known from now on.
    pub(super) fn value(&self, key: &'static str) -> Option<&Spanned<DeValue<'_>>> {
        if !self.known.borrow().contains(&key) {
            self.known.borrow_mut().push(key);
        }
        let (name, value) = self.table.iter().find(|(name, _)| name.get_ref() == key)?;
        self.reader.locate(&self.path_of(key), name.span().start);
        Some(value)
    }

    /// Returns true if the file or environment variable that a key names may be read.
    pub(super) fn opens(&self, key: &str) -> bool {
        (self.reader.opens)(&self.path_of(key))
    }

    /// Returns a path of the file as it is meant: relative paths start at the file's folder.
    pub(super) fn resolved(&self, path: impl AsRef<Path>) -> PathBuf {
        base(self.reader.path).join(path)
    }

    /// Returns the path of the file that is read.
    pub(super) fn file(&self) -> &Path {
        self.reader.path
    }

    fn as_table<'v>(&self, key: &str, value: &'v Spanned<DeValue<'v>>, remedy: &str) -> Option<&'v DeTable<'v>> {
        let table = value.get_ref().as_table();
        if table.is_none() {
            self.unexpected(key, "a table", value.get_ref(), remedy);
        }
        table
    }

    /// Notes that a value is not what was expected.
    pub(super) fn unexpected(&self, key: &str, expected: &str, found: &DeValue<'_>, remedy: &str) {
        self.mistake_at(key, format!("expected {expected}, found {}", kind(found)), remedy);
    }

    /// Notes every key that was not read.
    fn finish(&self) {
        let known = self.known.borrow();
        for key in self.table.keys() {
            let name = key.get_ref().as_ref();
            if !known.contains(&name) {
                self.reader.locate(&self.path_of(name), key.span().start);
                self.mistake_at(name, "unknown key", &instead(name, &known));
            }
        }
    }

    fn path_of(&self, key: &str) -> String {
        join(&self.path, key)
    }
}

/// Returns the folder that relative paths of a configuration file start at.
pub(super) fn base(file: &Path) -> &Path {
    file.parent().unwrap_or_else(|| Path::new(""))
}

fn join(table: &str, key: &str) -> String {
    if table.is_empty() || key.is_empty() {
        format!("{table}{key}")
    } else {
        format!("{table}.{key}")
    }
}

/// Returns the entries of a table in the order of the file. TOML itself orders them by name.
fn in_file_order<'t>(table: &'t DeTable<'t>) -> impl Iterator<Item = (&'t Spanned<Cow<'t, str>>, &'t Spanned<DeValue<'t>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(name, _)| name.span().start);
    entries.into_iter()
}

/// Returns a suggestion for a key that does not exist.
fn instead(name: &str, known: &[&'static str]) -> String {
    let (file, variable) = (format!("{name}_file"), format!("{name}_env"));
    if known.contains(&file.as_str()) && known.contains(&variable.as_str()) {
        return format!("secrets are not allowed in this file; use `{file}` or `{variable}`");
    }
    match nearest(name, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("known keys: {}", known.join(", ")),
    }
}

/// Returns the name of a value's type, with its article.
pub(super) fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a floating-point number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
