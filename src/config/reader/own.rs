//! Values under keys that are the operator's own: names of settings, of tables, of columns.
//!
//! As all of the reader, it knows no key's meaning.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Section, kind};

/// A value under a key of the operator's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::config) enum Own {
    /// A text, or a number or a truth as it is written.
    Text(String),
    /// More of them, in the order of the file.
    Table(Vec<(String, Own)>),
    /// What none of that is, with its article.
    Other(&'static str),
}

/// The entries of a table in the order of the file: TOML's own order is that of the names.
pub(super) fn in_file_order<'t, 'a>(
    table: &'t DeTable<'a>,
) -> impl Iterator<Item = (&'t Spanned<std::borrow::Cow<'a, str>>, &'t Spanned<DeValue<'a>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(name, _)| name.span().start);
    entries.into_iter()
}

impl<'a> Section<'_, 'a> {
    /// Whether there is a table under the key.
    pub(in crate::config) fn is_table(&self, key: &'static str) -> bool {
        self.value(key).is_some_and(|value| value.get_ref().as_table().is_some())
    }

    /// The table under `key`, whose keys may be anything, in the order of the file; empty where there is none.
    pub(in crate::config) fn own(&self, key: &'static str) -> Vec<(String, Own)> {
        let Some(value) = self.value(key) else { return Vec::new() };
        if let Own::Table(entries) = self.read_own(&self.path_of(key), value.get_ref()) {
            return entries;
        }
        let reason = format!("a table is expected here, not {}", kind(value.get_ref()));
        self.mistake_at(key, reason, Some(format!("write {key} = {{ name = … }}")));
        Vec::new()
    }

    /// Notes where each key stands, so that a mistake in it is found.
    fn read_own(&self, path: &str, value: &DeValue<'a>) -> Own {
        match value {
            DeValue::String(text) => Own::Text(text.to_string()),
            DeValue::Integer(number) if number.radix() == 10 => Own::Text(number.as_str().to_owned()),
            DeValue::Float(number) => Own::Text(number.as_str().to_owned()),
            DeValue::Boolean(truth) => Own::Text(truth.to_string()),
            DeValue::Table(table) => Own::Table(
                in_file_order(table)
                    .map(|(name, value)| {
                        let path = format!("{path}.{}", name.get_ref());
                        let line = self.reader.line(name.span().start);
                        self.reader.places.borrow_mut().insert(path.clone(), line);
                        (name.get_ref().to_string(), self.read_own(&path, value.get_ref()))
                    })
                    .collect(),
            ),
            other => Own::Other(kind(other)),
        }
    }
}
