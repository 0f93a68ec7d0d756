//! Reads values out of a TOML table, one key at a time, and notes every mistake with its place instead of stopping at the
//! first.
//!
//! It knows TOML's types, not the meaning of keys. The keys that are read are the schema: any other key is a mistake.

mod own;
mod tables;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::mistake::ConfigMistake;
use crate::base::duration;
use crate::model::names::nearest;
pub(super) use own::OwnValue;

/// Line of each key, by the key with its tables, such as `targets.orders.user`.
pub(super) type KeyLines = BTreeMap<String, usize>;

/// Text to parse, with the mistakes and the lines of keys found so far.
pub(super) struct TableReader<'a> {
    path: &'a Path,
    text: &'a str,
    mistakes: RefCell<Vec<ConfigMistake>>,
    places: RefCell<KeyLines>,
}

impl<'a> TableReader<'a> {
    pub(super) fn new(path: &'a Path, text: &'a str) -> Self {
        Self {
            path,
            text,
            mistakes: RefCell::default(),
            places: RefCell::default(),
        }
    }

    /// Parses the text, or returns all syntax errors. After a syntax error the meaning of the rest is not guessed.
    pub(super) fn parse(&self) -> Result<DeTable<'a>, Vec<ConfigMistake>> {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        if errors.is_empty() {
            return Ok(table.into_inner());
        }
        let mistakes = errors.iter().map(|error| {
            let line = error.span().map(|span| self.line(span.start));
            let reason = error.message().lines().collect::<Vec<_>>().join(", ");
            ConfigMistake::new(self.path, line, None, format!("invalid TOML: {reason}"))
        });
        Err(mistakes.collect())
    }

    pub(super) fn root<'t>(&'t self, table: &'t DeTable<'a>) -> TableSection<'t, 'a> {
        TableSection {
            reader: self,
            table,
            prefix: String::new(),
            known: RefCell::default(),
        }
    }

    pub(super) fn finish(self) -> (KeyLines, Vec<ConfigMistake>) {
        (self.places.into_inner(), self.mistakes.into_inner())
    }

    fn note(&self, mistake: ConfigMistake) {
        self.mistakes.borrow_mut().push(mistake);
    }

    fn line(&self, offset: usize) -> usize {
        let before = self.text.as_bytes().iter().take(offset);
        1 + before.filter(|byte| **byte == b'\n').count()
    }
}

/// Table of the file.
pub(super) struct TableSection<'t, 'a> {
    reader: &'t TableReader<'a>,
    table: &'t DeTable<'a>,
    prefix: String,
    known: RefCell<Vec<&'static str>>,
}

impl<'t, 'a> TableSection<'t, 'a> {
    /// Reads the table under `key`; an absent table reads as an empty one.
    pub(super) fn within<R>(&self, key: &'static str, read: impl FnOnce(&TableSection<'_, 'a>) -> R) -> R {
        let empty = DeTable::new();
        let table = match self.value(key) {
            None => &empty,
            Some(value) => value.get_ref().as_table().unwrap_or_else(|| {
                self.mistake_at(key, format!("expected a table, found {}", kind(value.get_ref())), None);
                &empty
            }),
        };
        let section = TableSection {
            reader: self.reader,
            table,
            prefix: self.path_of(key),
            known: RefCell::default(),
        };
        let result = read(&section);
        section.finish();
        result
    }

    /// Reads the tables under `key` with their names, such as `[targets.orders]`, in the order of the file.
    pub(super) fn each<R>(&self, key: &'static str, mut read: impl FnMut(&str, &TableSection<'_, 'a>) -> R) -> Vec<R> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let Some(tables) = value.get_ref().as_table() else {
            let remedy = format!("write a table for each entry: [{key}.name]");
            self.mistake_at(key, format!("expected tables, found {}", kind(value.get_ref())), Some(remedy));
            return Vec::new();
        };
        let mut results = Vec::new();
        for (name, value) in own::in_file_order(tables) {
            let path = format!("{}.{}", self.path_of(key), name.get_ref());
            let line = self.reader.line(name.span().start);
            self.reader.places.borrow_mut().insert(path.clone(), line);
            let Some(table) = value.get_ref().as_table() else {
                let reason = format!("expected a table, found {}", kind(value.get_ref()));
                let mistake = ConfigMistake::new(self.reader.path, Some(line), Some(path), reason);
                self.reader
                    .note(mistake.remedy(format!("write [{key}.name] and the keys below it")));
                continue;
            };
            let section = TableSection {
                reader: self.reader,
                table,
                prefix: path,
                known: RefCell::default(),
            };
            results.push(read(name.get_ref(), &section));
            section.finish();
        }
        results
    }

    /// Reads a string.
    pub(super) fn text(&self, key: &'static str) -> Option<String> {
        let value = self.value(key)?;
        let text = value.get_ref().as_str();
        if text.is_none() {
            self.mistake_at(
                key,
                format!("expected a string in quotes, found {}", kind(value.get_ref())),
                None,
            );
        }
        text.map(str::to_owned)
    }

    /// Reads a string, and notes a mistake with this remedy if it is missing.
    pub(super) fn required(&self, key: &'static str, remedy: &str) -> Option<String> {
        if self.value(key).is_none() {
            let line = self.reader.places.borrow().get(&self.prefix).copied();
            let mistake = ConfigMistake::new(self.reader.path, line, Some(self.path_of(key)), "is missing");
            self.reader.note(mistake.remedy(remedy));
            return None;
        }
        self.text(key)
    }

    /// Reads a string and parses it with `read`.
    pub(super) fn parsed<T, E: Display>(&self, key: &'static str, read: impl FnOnce(&str) -> Result<T, E>) -> Option<T> {
        let text = self.text(key)?;
        read(&text)
            .map_err(|error| self.mistake_at(key, error.to_string(), None))
            .ok()
    }

    /// Reads one word out of `words`.
    pub(super) fn one_of<T: Copy>(&self, key: &'static str, words: &[(&'static str, T)]) -> Option<T> {
        let text = self.text(key)?;
        self.word(key, &text, words)
    }

    /// Reads a list of words out of `words`.
    pub(super) fn some_of<T: Copy>(&self, key: &'static str, words: &[(&'static str, T)]) -> Option<Vec<T>> {
        let texts = self.texts(key)?;
        Some(texts.iter().filter_map(|text| self.word(key, text, words)).collect())
    }

    /// Reads a list of strings.
    pub(super) fn texts(&self, key: &'static str) -> Option<Vec<String>> {
        let value = self.value(key)?;
        let list: Option<Vec<String>> = value
            .get_ref()
            .as_array()
            .and_then(|array| array.iter().map(|item| item.get_ref().as_str().map(str::to_owned)).collect());
        if list.is_none() {
            let remedy = format!("write {key} = [\"…\"]");
            self.mistake_at(
                key,
                format!("expected a list of strings, found {}", kind(value.get_ref())),
                Some(remedy),
            );
        }
        list
    }

    /// Reads a list of strings and parses each with `read`.
    pub(super) fn list<T, E: Display>(&self, key: &'static str, read: impl Fn(&str) -> Result<T, E>) -> Option<Vec<T>> {
        let texts = self.texts(key)?;
        let mut items = Vec::with_capacity(texts.len());
        for text in &texts {
            match read(text) {
                Ok(item) => items.push(item),
                Err(error) => self.mistake_at(key, error.to_string(), None),
            }
        }
        (items.len() == texts.len()).then_some(items)
    }

    /// Reads a path.
    pub(super) fn path(&self, key: &'static str) -> Option<PathBuf> {
        self.text(key).map(PathBuf::from)
    }

    /// Reads a boolean.
    pub(super) fn yes_no(&self, key: &'static str) -> Option<bool> {
        let value = self.value(key)?;
        let answer = value.get_ref().as_bool();
        if answer.is_none() {
            self.mistake_at(key, format!("expected true or false, found {}", kind(value.get_ref())), None);
        }
        answer
    }

    /// Reads an integer between `least` and `most`.
    pub(super) fn number(&self, key: &'static str, least: u32, most: u32) -> Option<u32> {
        let value = self.value(key)?;
        let number = value
            .get_ref()
            .as_integer()
            .and_then(|integer| u32::from_str_radix(integer.as_str(), integer.radix()).ok())
            .filter(|number| (least..=most).contains(number));
        if number.is_none() {
            let found = value
                .get_ref()
                .as_integer()
                .map_or_else(|| kind(value.get_ref()).to_owned(), |integer| integer.as_str().to_owned());
            self.mistake_at(
                key,
                format!("expected a whole number from {least} to {most}, found {found}"),
                None,
            );
        }
        number
    }

    /// Reads a duration such as `"30m"`, of at least `least`.
    pub(super) fn duration(&self, key: &'static str, least: Duration) -> Option<Duration> {
        let value = self.value(key)?;
        let Some(text) = value.get_ref().as_str() else {
            let reason = format!("expected a duration in quotes, found {}", kind(value.get_ref()));
            self.mistake_at(key, reason, Some(format!("write {key} = \"30s\"")));
            return None;
        };
        match duration::parse(text) {
            Ok(length) if length >= least => Some(length),
            Ok(_) => {
                self.mistake_at(
                    key,
                    format!("`{text}` is too short; at least {}", duration::show(least)),
                    None,
                );
                None
            }
            Err(error) => {
                self.mistake_at(key, error.to_string(), None);
                None
            }
        }
    }

    /// Notes a mistake in a key of this table.
    pub(super) fn mistake_at(&self, key: &str, reason: String, remedy: Option<String>) {
        let path = self.path_of(key);
        let line = self.reader.places.borrow().get(&path).copied();
        let mistake = ConfigMistake::new(self.reader.path, line, Some(path), reason);
        self.reader.note(match remedy {
            Some(remedy) => mistake.remedy(remedy),
            None => mistake,
        });
    }

    /// Notes a mistake in this table itself.
    pub(super) fn mistake_here(&self, reason: String) {
        let line = self.reader.places.borrow().get(&self.prefix).copied();
        self.reader
            .note(ConfigMistake::new(self.reader.path, line, Some(self.prefix.clone()), reason));
    }

    /// Notes every key that was not read.
    pub(super) fn finish(&self) {
        let known = self.known.borrow();
        for key in self.table.keys() {
            let name = key.get_ref().as_ref();
            if known.contains(&name) {
                continue;
            }
            let line = Some(self.reader.line(key.span().start));
            let mistake = ConfigMistake::new(self.reader.path, line, Some(self.path_of(name)), "unknown key");
            self.reader.note(mistake.remedy(instead(name, &known)));
        }
    }

    fn word<T: Copy>(&self, key: &'static str, text: &str, words: &[(&'static str, T)]) -> Option<T> {
        if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*meaning);
        }
        let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let remedy = match nearest(text, names.iter().copied()) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!("write one of: {}", names.join(", ")),
        };
        self.mistake_at(key, format!("unknown value \"{text}\""), Some(remedy));
        None
    }

    fn value(&self, key: &'static str) -> Option<&'t Spanned<DeValue<'a>>> {
        if !self.known.borrow().contains(&key) {
            self.known.borrow_mut().push(key);
        }
        let (name, value) = self.table.iter().find(|(name, _)| name.get_ref() == key)?;
        let line = self.reader.line(name.span().start);
        self.reader.places.borrow_mut().insert(self.path_of(key), line);
        Some(value)
    }

    fn path_of(&self, key: &str) -> String {
        if self.prefix.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.prefix)
        }
    }
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
fn kind(value: &DeValue<'_>) -> &'static str {
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
