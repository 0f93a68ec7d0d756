//! Values under keys that the operator chooses: names of settings, of tables, of columns.
//!
//! Like the rest of the reader, it knows no key's meaning.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{TableSection, kind};

/// Value under a key that the operator chooses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::config) enum OwnValue {
    /// String; or a number or boolean as it is written.
    Text(String),
    /// Table, in the order of the file.
    Table(Vec<(String, OwnValue)>),
    /// Value of any other type; the name of the type, with its article.
    Other(&'static str),
}

/// Returns the entries of a table in the order of the file. TOML itself orders them by name.
pub(super) fn in_file_order<'t, 'a>(
    table: &'t DeTable<'a>,
) -> impl Iterator<Item = (&'t Spanned<std::borrow::Cow<'a, str>>, &'t Spanned<DeValue<'a>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(name, _)| name.span().start);
    entries.into_iter()
}

impl<'a> TableSection<'_, 'a> {
    /// Returns true if there is a table under the key.
    pub(in crate::config) fn is_table(&self, key: &'static str) -> bool {
        self.value(key).is_some_and(|value| value.get_ref().as_table().is_some())
    }

    /// Reads the table under `key`, with any keys, in the order of the file; empty if it is absent.
    pub(in crate::config) fn own(&self, key: &'static str) -> Vec<(String, OwnValue)> {
        let Some(value) = self.value(key) else { return Vec::new() };
        if let OwnValue::Table(entries) = self.read_own(&self.path_of(key), value.get_ref()) {
            return entries;
        }
        let reason = format!("expected a table, found {}", kind(value.get_ref()));
        self.mistake_at(key, reason, Some(format!("write {key} = {{ name = … }}")));
        Vec::new()
    }

    /// Reads a value and notes the line of each key in it, for mistakes found later.
    fn read_own(&self, path: &str, value: &DeValue<'a>) -> OwnValue {
        match value {
            DeValue::String(text) => OwnValue::Text(text.to_string()),
            DeValue::Integer(number) if number.radix() == 10 => OwnValue::Text(number.as_str().to_owned()),
            DeValue::Float(number) => OwnValue::Text(number.as_str().to_owned()),
            DeValue::Boolean(truth) => OwnValue::Text(truth.to_string()),
            DeValue::Table(table) => OwnValue::Table(
                in_file_order(table)
                    .map(|(name, value)| {
                        let path = format!("{path}.{}", name.get_ref());
                        let line = self.reader.line(name.span().start);
                        self.reader.places.borrow_mut().insert(path.clone(), line);
                        (name.get_ref().to_string(), self.read_own(&path, value.get_ref()))
                    })
                    .collect(),
            ),
            other => OwnValue::Other(kind(other)),
        }
    }
}
