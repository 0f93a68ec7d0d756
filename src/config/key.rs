//! Keys: each is declared once, where it is read, with its type, limits, default and meaning. The reference is made from that.
//!
//! Mistakes become notes, and the default takes the place of the value.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use super::reader::{TableSection, kind};
use crate::base::duration;
use crate::model::names::nearest;

/// Key of a table.
pub(super) struct ConfigKey<'s> {
    table: &'s TableSection<'s>,
    name: &'static str,
    meaning: &'static str,
}

/// Value of a key as far as it is written, with everything that the reference says of it.
pub(super) struct Written<'s, T> {
    key: ConfigKey<'s>,
    /// Type, for the reference.
    of: String,
    value: Option<T>,
    show: Box<dyn Fn(&T) -> String + 's>,
}

/// Declares keys of a table and reads each into a variable of its name. The documentation of a key is its meaning in the
/// reference (Markdown).
macro_rules! keys {
    ($table:expr; $($(#[doc = $meaning:literal])+ $name:ident = |$key:ident| $read:expr;)+) => {
        $(let $name = {
            let $key = $table.key(stringify!($name), concat!($($meaning),+));
            $read
        };)+
    };
}
pub(super) use keys;

/// Declares a section of the file: its settings, and the function that reads them.
macro_rules! section {
    (
        $(#[$attribute:meta])*
        pub struct $Section:ident { $($(#[doc = $meaning:literal])+ $name:ident: $Type:ty = |$key:ident| $read:expr;)+ }
    ) => {
        $(#[$attribute])*
        pub struct $Section { $($(#[doc = $meaning])+ pub $name: $Type,)+ }

        impl $Section {
            pub(super) fn read(table: &TableSection<'_>) -> Self {
                keys! { table; $($(#[doc = $meaning])+ $name = |$key| $read;)+ }
                Self { $($name,)+ }
            }
        }
    };
}
pub(super) use section;

impl TableSection<'_> {
    /// Declares a key. `meaning` is for the reference, in Markdown; without it the key is not in the reference.
    pub(super) fn key(&self, name: &'static str, meaning: &'static str) -> ConfigKey<'_> {
        ConfigKey {
            table: self,
            name,
            meaning,
        }
    }
}

impl<T> Written<'_, T> {
    /// Returns the value, or the default.
    pub(super) fn or(self, default: T) -> T {
        let shown = format!("`{}`", (self.show)(&default));
        self.or_as(&shown, default)
    }

    /// Returns the value, or a default that the reference describes in words.
    pub(super) fn or_as(self, words: &str, default: T) -> T {
        self.or_none(words).unwrap_or(default)
    }

    /// Returns the value, if there is one; the reference says in words what it means that there is none.
    pub(super) fn or_none(self, words: &str) -> Option<T> {
        let ConfigKey { table, name, meaning } = self.key;
        if !meaning.is_empty() {
            table.refer(name, self.of, words.to_owned(), meaning.trim_start());
        }
        self.value
    }

    /// Returns the value, and notes a mistake with this remedy if it is missing.
    pub(super) fn required(self, remedy: &str) -> Option<T> {
        if !self.key.table.has(self.key.name) {
            self.key.table.mistake_at(self.key.name, "is missing", remedy);
        }
        self.or_none("required")
    }
}

impl<'s> ConfigKey<'s> {
    fn written<T>(self, of: impl Into<String>, value: Option<T>, show: impl Fn(&T) -> String + 's) -> Written<'s, T> {
        Written {
            key: self,
            of: of.into(),
            value,
            show: Box::new(show),
        }
    }

    fn mistake(&self, reason: impl Into<String>, remedy: &str) {
        self.table.mistake_at(self.name, reason, remedy);
    }

    fn read_text(&self) -> Option<String> {
        let value = self.table.value(self.name)?.get_ref();
        let text = value.as_str();
        if text.is_none() {
            self.table.unexpected(self.name, "a string in quotes", value, "");
        }
        text.map(str::to_owned)
    }

    fn read_texts(&self) -> Option<Vec<String>> {
        let value = self.table.value(self.name)?.get_ref();
        let texts = value.as_array().and_then(|array| {
            let texts = array.iter().map(|item| item.get_ref().as_str().map(str::to_owned));
            texts.collect::<Option<Vec<_>>>()
        });
        if texts.is_none() {
            self.table.unexpected(
                self.name,
                "a list of strings",
                value,
                &format!("write {} = [\"…\"]", self.name),
            );
        }
        texts
    }

    /// Reads a string.
    pub(super) fn text(self) -> Written<'s, String> {
        let text = self.read_text();
        self.written("text", text, quoted)
    }

    /// Reads a string that passes `check`; `of` is the type for the reference.
    pub(super) fn checked<T, E: Display>(self, of: &str, check: impl FnOnce(&str) -> Result<T, E>) -> Written<'s, String> {
        let value = self.read_parsed(|text| check(text).map(|_| text.to_owned()));
        self.written(of, value, quoted)
    }

    /// Reads a string and parses it with `read`; `of` is the type for the reference. There is no default but in words.
    pub(super) fn parsed<T, E: Display>(self, of: &str, read: impl FnOnce(&str) -> Result<T, E>) -> Written<'s, T> {
        let value = self.read_parsed(read);
        self.written(of, value, |_| String::new())
    }

    fn read_parsed<T, E: Display>(&self, read: impl FnOnce(&str) -> Result<T, E>) -> Option<T> {
        let parsed = read(&self.read_text()?);
        parsed.map_err(|error| self.mistake(error.to_string(), "")).ok()
    }

    /// Reads a path; relative paths start at the folder of the file.
    pub(super) fn path(self) -> Written<'s, PathBuf> {
        let path = self.read_text().map(|path| self.table.resolved(path));
        self.written("path", path, |path| quoted(&path.display()))
    }

    /// Reads a path with a default.
    pub(super) fn path_or(self, default: &str) -> PathBuf {
        let table = self.table;
        self.path().or_as(&format!("`{}`", quoted(default)), table.resolved(default))
    }

    /// Reads a list of strings.
    pub(super) fn texts(self) -> Written<'s, Vec<String>> {
        let texts = self.read_texts();
        self.written("list of texts", texts, |texts| listed(texts, quoted))
    }

    /// Reads a list of strings and parses each with `read`; `of` is the type for the reference, and `show` writes an item.
    pub(super) fn list<T, E: Display>(
        self,
        of: &str,
        read: impl Fn(&str) -> Result<T, E>,
        show: impl Fn(&T) -> String + 's,
    ) -> Written<'s, Vec<T>> {
        let items = self.read_texts().and_then(|texts| {
            let read = |text: &String| read(text).map_err(|error| self.mistake(error.to_string(), "")).ok();
            let items: Vec<T> = texts.iter().filter_map(read).collect();
            (items.len() == texts.len()).then_some(items)
        });
        self.written(of, items, move |items| listed(items, |item| quoted(&show(item))))
    }

    /// Reads one word out of `words`.
    pub(super) fn one_of<T: Copy + PartialEq>(self, words: &'s [(&'static str, T)]) -> Written<'s, T> {
        let value = self.read_text().and_then(|text| self.word(&text, words));
        self.written(choices(words), value, |value| quoted(&word_of(words, value)))
    }

    /// Reads a list of words out of `words`.
    pub(super) fn some_of<T: Copy + PartialEq>(self, words: &'s [(&'static str, T)]) -> Written<'s, Vec<T>> {
        let texts = self.read_texts();
        let values = texts.map(|texts| texts.iter().filter_map(|text| self.word(text, words)).collect());
        self.written(format!("list of {}", choices(words)), values, |values| {
            listed(values, |value| quoted(&word_of(words, value)))
        })
    }

    fn word<T: Copy>(&self, text: &str, words: &[(&'static str, T)]) -> Option<T> {
        if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*meaning);
        }
        let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let remedy = match nearest(text, names.iter().copied()) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!("write one of: {}", names.join(", ")),
        };
        self.mistake(format!("unknown value \"{text}\""), &remedy);
        None
    }

    /// Reads a boolean.
    pub(super) fn yes_no(self) -> Written<'s, bool> {
        let value = self.table.value(self.name).map(toml::Spanned::get_ref);
        let answer = value.and_then(DeValue::as_bool);
        if let Some(value) = value.filter(|_| answer.is_none()) {
            self.table.unexpected(self.name, "true or false", value, "");
        }
        self.written("`true` or `false`", answer, bool::to_string)
    }

    /// Reads an integer between `least` and `most`.
    pub(super) fn number<T: TryFrom<u32> + Display + 's>(self, least: u32, most: u32) -> Written<'s, T> {
        let value = self.table.value(self.name).map(toml::Spanned::get_ref);
        let integer = value.and_then(|value| value.as_integer());
        let number = integer
            .and_then(|integer| u32::from_str_radix(integer.as_str(), integer.radix()).ok())
            .filter(|number| (least..=most).contains(number));
        if let Some(value) = value.filter(|_| number.is_none()) {
            let found = integer.map_or_else(|| kind(value).to_owned(), |integer| integer.as_str().to_owned());
            self.mistake(format!("expected a whole number from {least} to {most}, found {found}"), "");
        }
        let of = if most == u32::MAX {
            format!("number from {least}")
        } else {
            format!("number from {least} to {most}")
        };
        let number = number.and_then(|number| T::try_from(number).ok());
        self.written(of, number, T::to_string)
    }

    /// Reads a duration such as `"30m"`, of at least `least`.
    pub(super) fn duration(self, least: Duration) -> Written<'s, Duration> {
        let length = self.read_duration(least);
        let of = if least.is_zero() {
            "time".to_owned()
        } else {
            format!("time of at least `{}`", duration::show(least))
        };
        self.written(of, length, |length| quoted(&duration::show(*length)))
    }

    fn read_duration(&self, least: Duration) -> Option<Duration> {
        let value = self.table.value(self.name)?.get_ref();
        let Some(text) = value.as_str() else {
            self.table.unexpected(
                self.name,
                "a duration in quotes",
                value,
                &format!("write {} = \"30s\"", self.name),
            );
            return None;
        };
        match duration::parse(text) {
            Ok(length) if length >= least => return Some(length),
            Ok(_) => self.mistake(format!("`{text}` is too short; at least {}", duration::show(least)), ""),
            Err(error) => self.mistake(error.to_string(), ""),
        }
        None
    }

    /// Reads a table of strings with any keys, such as `{ branch = "ref" }`.
    pub(super) fn map(self) -> Written<'s, BTreeMap<String, String>> {
        let value = self.table.value(self.name).map(toml::Spanned::get_ref);
        let entries = value.and_then(|value| value.as_table()).and_then(|table| {
            let pairs = table.iter().map(|(name, value)| {
                let text = value.get_ref().as_str()?;
                Some((name.get_ref().to_string(), text.to_owned()))
            });
            pairs.collect::<Option<BTreeMap<_, _>>>()
        });
        if value.is_some() && entries.is_none() {
            let remedy = format!("write {} = {{ name = \"…\" }}", self.name);
            self.mistake("expected a table whose values are strings", &remedy);
        }
        self.written("table of texts", entries, |entries| format!("{entries:?}"))
    }
}

/// Writes a text as TOML does.
fn quoted(text: &(impl Display + ?Sized)) -> String {
    format!("\"{text}\"")
}

fn listed<T>(items: &[T], show: impl Fn(&T) -> String) -> String {
    let items: Vec<_> = items.iter().map(show).collect();
    format!("[{}]", items.join(", "))
}

fn choices<T>(words: &[(&'static str, T)]) -> String {
    let words: Vec<_> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
    words.join(", ")
}

fn word_of<T: PartialEq>(words: &[(&'static str, T)], value: &T) -> String {
    let word = words.iter().find(|(_, meaning)| meaning == value);
    word.map_or_else(String::new, |(word, _)| (*word).to_owned())
}
