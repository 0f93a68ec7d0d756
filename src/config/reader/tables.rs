//! Compound values: lists of tables, and tables with keys that the operator chooses.
//!
//! Like the rest of the reader, it knows no key's meaning.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::{TableSection, kind};
use crate::config::mistake::ConfigMistake;

impl<'a> TableSection<'_, 'a> {
    /// Reads each table of the list `[[key]]`. Mistakes number the tables from 1.
    pub(in crate::config) fn tables<R>(&self, key: &'static str, mut read: impl FnMut(&TableSection<'_, 'a>) -> R) -> Vec<R> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let Some(list) = value.get_ref().as_array() else {
            let reason = format!("expected a list of tables, found {}", kind(value.get_ref()));
            self.mistake_at(
                key,
                reason,
                Some(format!("write [[{}]] and the keys below it", self.path_of(key))),
            );
            return Vec::new();
        };
        let mut results = Vec::new();
        for (number, value) in (1_usize..).zip(list.iter()) {
            let path = format!("{}[{number}]", self.path_of(key));
            let line = self.reader.line(value.span().start);
            self.reader.places.borrow_mut().insert(path.clone(), line);
            let Some(table) = value.get_ref().as_table() else {
                let reason = format!("expected a table, found {}", kind(value.get_ref()));
                self.reader
                    .note(ConfigMistake::new(self.reader.path, Some(line), Some(path), reason));
                continue;
            };
            let section = TableSection {
                reader: self.reader,
                table,
                prefix: path,
                known: RefCell::default(),
            };
            results.push(read(&section));
            section.finish();
        }
        results
    }

    /// Reads a table of strings with any keys, such as `{ branch = "ref" }`.
    pub(in crate::config) fn map(&self, key: &'static str) -> Option<BTreeMap<String, String>> {
        let value = self.value(key)?;
        let entries = value.get_ref().as_table().and_then(|table| {
            let pairs = table.iter().map(|(name, value)| {
                let text = value.get_ref().as_str()?;
                Some((name.get_ref().to_string(), text.to_owned()))
            });
            pairs.collect::<Option<BTreeMap<_, _>>>()
        });
        if entries.is_none() {
            let reason = "expected a table whose values are strings".to_owned();
            self.mistake_at(key, reason, Some(format!("write {key} = {{ name = \"…\" }}")));
        }
        entries
    }

    /// Returns the name of the table with its parents, as mistakes show it.
    pub(in crate::config) fn place(&self) -> &str {
        &self.prefix
    }
}
