//! Captured images as rows of the log: taken apart, paired, compared, and masked.
//!
//! It reads nothing and records nothing. An image is a row as PostgreSQL writes it as text (`record_out` in
//! utils/adt/rowtypes.c), or the length and hash of one that is too long.
//!
//! INVARIANT: a value of a masked column leaves here only as its mask says; if it cannot be told which column a value belongs to,
//! no value of the row leaves.

use std::collections::BTreeMap;

use crate::audit::event::{RowChange, RowDigest, RowValues};
use crate::audit::values::{ParameterDisplay, ValueKey};
use crate::database::rights::ColumnMask;

/// Values of an image, by the place of their columns; `None` is NULL.
type ImageValues = Vec<Option<String>>;

/// Captured image of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
enum RowImage {
    /// Row with its values.
    Whole(ImageValues),
    /// Row that is too long.
    Digest(RowDigest),
    /// Text that is no row of these columns.
    Unclear(RowDigest),
}

impl RowImage {
    fn of(text: &str, columns: usize) -> Self {
        if let Some(digest) = digest(text) {
            return Self::Digest(digest);
        }
        match fields(text) {
            Some(values) if values.len() == columns => Self::Whole(values),
            _ => Self::Unclear(RowDigest {
                length: text.len() as u64,
                sha256: String::new(),
            }),
        }
    }

    fn digest(&self) -> Option<RowDigest> {
        match self {
            Self::Whole(_) => None,
            Self::Digest(digest) | Self::Unclear(digest) => Some(digest.clone()),
        }
    }

    fn whole(&self) -> Option<&ImageValues> {
        match self {
            Self::Whole(values) => Some(values),
            Self::Digest(_) | Self::Unclear(_) => None,
        }
    }
}

/// Parses `#LENGTH SHA256`.
fn digest(text: &str) -> Option<RowDigest> {
    let (length, sha256) = text.strip_prefix('#')?.split_once(' ')?;
    Some(RowDigest {
        length: length.parse().ok()?,
        sha256: sha256.to_owned(),
    })
}

/// Takes a row apart: `(1,"a ""b""",,"")` has four values, the third is NULL and the fourth empty.
fn fields(text: &str) -> Option<ImageValues> {
    let inner = text.strip_prefix('(')?.strip_suffix(')')?;
    let (mut values, mut value, mut is_null) = (Vec::new(), String::new(), true);
    let mut chars = inner.chars().peekable();
    let mut inside = false;
    while let Some(char) = chars.next() {
        match char {
            '"' if inside && chars.peek() == Some(&'"') => value.extend(chars.next()),
            '"' => {
                inside = !inside;
                is_null = false;
            }
            '\\' => {
                value.push(chars.next()?);
                is_null = false;
            }
            ',' if !inside => {
                let value = std::mem::take(&mut value);
                values.push((!std::mem::replace(&mut is_null, true)).then_some(value));
            }
            char => {
                value.push(char);
                is_null = false;
            }
        }
    }
    values.push((!is_null).then_some(value));
    (!inside).then_some(values)
}

/// Columns of a captured table, and what may be recorded of their values.
#[derive(Debug, Clone)]
pub(super) struct CapturedColumns<'c> {
    /// Names of the columns, in order.
    pub(super) names: &'c [String],
    /// Names of the columns of the primary key.
    pub(super) key: &'c [String],
    /// Masks by column.
    pub(super) masks: BTreeMap<&'c str, &'c ColumnMask>,
    /// True if no value may be recorded: a masked column is not among the columns.
    pub(super) withheld: bool,
    /// Policy of the target.
    pub(super) show: &'c ParameterDisplay,
    /// Key of masks that hash.
    pub(super) value_key: &'c ValueKey,
}

impl CapturedColumns<'_> {
    /// Returns the names of the columns with a mask.
    pub(super) fn masked(&self) -> Vec<String> {
        let is_masked = |name: &&String| self.masks.contains_key(name.as_str());
        self.names.iter().filter(is_masked).cloned().collect()
    }

    /// Returns the change of a row with these images.
    pub(super) fn change(&self, old: Option<&str>, new: Option<&str>) -> RowChange {
        let image = |text: &str| RowImage::of(text, self.names.len());
        let (old, new) = (old.map(image), new.map(image));
        let mut change = RowChange {
            old_digest: old.as_ref().and_then(RowImage::digest),
            new_digest: new.as_ref().and_then(RowImage::digest),
            ..RowChange::default()
        };
        let (was, is) = (old.as_ref().and_then(RowImage::whole), new.as_ref().and_then(RowImage::whole));
        let differs = |at: usize| match (was, is) {
            (Some(was), Some(is)) => was.get(at) != is.get(at),
            _ => true,
        };
        let places: Vec<usize> = (0..self.names.len()).filter(|at| differs(*at)).collect();
        if self.withheld || matches!(self.show, ParameterDisplay::None) {
            if was.is_some() || is.is_some() {
                let names = places.iter().filter_map(|at| self.names.get(*at));
                change.columns = names.cloned().collect();
            }
            return change;
        }
        if let Some(image) = was.or(is) {
            change.key = self.values(image, &self.key_places(was.is_some() && is.is_some()));
        }
        change.old = was.map(|image| self.values(image, &places));
        change.new = is.map(|image| self.values(image, &places));
        change
    }

    /// Returns the places of the columns that identify a row: the primary key or, of an updated row, all. A new or deleted row
    /// is recorded whole anyway.
    fn key_places(&self, is_updated: bool) -> Vec<usize> {
        let place = |column: &String| self.names.iter().position(|name| name == column);
        let places: Option<Vec<usize>> = self.key.iter().map(place).collect();
        match places {
            Some(places) if !places.is_empty() => places,
            _ if is_updated => (0..self.names.len()).collect(),
            _ => Vec::new(),
        }
    }

    /// Returns the values at some places, as they may be recorded.
    fn values(&self, image: &[Option<String>], places: &[usize]) -> RowValues {
        let one = |at: &usize| {
            let (name, value) = (self.names.get(*at)?, image.get(*at)?);
            Some((name.clone(), self.recorded(name, value.as_deref())))
        };
        places.iter().filter_map(one).collect()
    }

    fn recorded(&self, column: &str, value: Option<&str>) -> Option<String> {
        let value = value?;
        let masked = match self.masks.get(column) {
            None => value.to_owned(),
            Some(ColumnMask::Partial) => partial(value),
            Some(ColumnMask::Hash) => self.value_key.hash(value.as_bytes()),
            Some(ColumnMask::Null) => return None,
            Some(ColumnMask::Constant(text)) => text.clone(),
        };
        Some(match self.show {
            ParameterDisplay::Hashed(key) => key.hash(masked.as_bytes()),
            ParameterDisplay::Full | ParameterDisplay::None => masked,
        })
    }
}

/// Returns stars in place of the characters; of more than eight characters the last four are kept.
fn partial(value: &str) -> String {
    let length = value.chars().count();
    let kept = if length > 8 { 4 } else { 0 };
    let stars = std::iter::repeat_n('*', length - kept);
    stars.chain(value.chars().skip(length - kept)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Writes a row as `record_out` does.
    fn written(values: &[Option<String>]) -> String {
        let quoted = |value: &String| {
            let special = |c: char| matches!(c, '"' | '\\' | '(' | ')' | ',') || c.is_ascii_whitespace() || c == '\u{b}';
            if !value.is_empty() && !value.contains(special) {
                return value.clone();
            }
            format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\"\""))
        };
        let values: Vec<String> = values
            .iter()
            .map(|value| value.as_ref().map(quoted).unwrap_or_default())
            .collect();
        format!("({})", values.join(","))
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn seen(columns: &CapturedColumns<'_>, old: Option<&str>, new: Option<&str>) -> String {
        serde_json::to_string(&columns.change(old, new)).unwrap()
    }

    #[test]
    fn rows_become_changes() {
        let (all, key, value_key) = (names(&["id", "pan", "note"]), names(&["id"]), ValueKey::for_test());
        let mut columns = CapturedColumns {
            names: &all,
            key: &key,
            masks: BTreeMap::new(),
            withheld: false,
            show: &ParameterDisplay::Full,
            value_key: &value_key,
        };
        let (old, new) = ("(1,4000123412341234,)", r#"(1,4000123412349999,"a ""b\\")"#);
        assert_eq!(
            seen(&columns, Some(old), Some(new)),
            r#"{"key":{"id":"1"},"old":{"note":null,"pan":"4000123412341234"},"new":{"note":"a \"b\\","pan":"4000123412349999"}}"#
        );
        let long = format!("#9000 {}", "a".repeat(64));
        assert!(seen(&columns, Some(old), Some(&long)).contains(r#""new_digest":{"length":9000,"sha256":"aaaa"#));
        // The table was altered in between: what belongs to which column is unknown.
        assert_eq!(
            seen(&columns, Some("(1,2)"), None),
            r#"{"old_digest":{"length":5,"sha256":""}}"#
        );
        columns.masks.insert("pan", &ColumnMask::Partial);
        assert!(!seen(&columns, Some(old), Some(new)).contains("40001234"), "masked");
        assert!(seen(&columns, None, Some(new)).contains("************9999"));
        let none = ParameterDisplay::None;
        let only_names = CapturedColumns {
            show: &none,
            ..columns.clone()
        };
        assert_eq!(seen(&only_names, Some(old), Some(new)), r#"{"columns":["pan","note"]}"#);
        let hashed = ParameterDisplay::Hashed(value_key.clone());
        let hashes = CapturedColumns {
            show: &hashed,
            ..columns.clone()
        };
        assert!(!seen(&hashes, Some(old), Some(new)).contains("9999"));
        let withheld = CapturedColumns {
            withheld: true,
            ..columns
        };
        assert_eq!(seen(&withheld, None, Some(new)), r#"{"columns":["id","pan","note"]}"#);
    }

    proptest! {
        #[test]
        fn rows_come_back(values in proptest::collection::vec(proptest::option::of("[a-z,()\"\\\\ \n]{0,6}"), 1..6)) {
            prop_assert_eq!(fields(&written(&values)), Some(values));
        }

        #[test]
        fn any_text_is_taken(text in ".*") {
            let _ = fields(&text);
        }
    }
}
