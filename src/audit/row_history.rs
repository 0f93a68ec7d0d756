//! History of rows: recorded changes in the order in which they happened, as lines for people and as JSON for scripts.
//!
//! It finds no records (the reader does) and shows values as they are on record.
//!
//! INVARIANT: the lines have no character that controls a terminal or is invisible; ids and names are never cut.

use std::collections::HashMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;
use serde_with::skip_serializing_none;

use super::event::{RowChange, RowDigest, RowOperation, RowValues, RowsChanged};
use super::record::LogRecord;
use crate::base::times;
use crate::base::visible::{self, visible};
use crate::model::ids::{GrantId, SessionId};
use crate::model::names::{EnumOrUnknown, IdentityName, ProfileName, TargetName};

/// Width of a line. Characters.
const LINE_CHARS: usize = 80;
/// Number of characters of a value that are shown, whatever the width.
const MIN_VALUE_CHARS: usize = 8;
/// Number of changed columns that are shown on one line.
const MAX_LINE_COLUMNS: usize = 3;

/// Change of one row, with the session and the statement that made it.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RowVersion<'r> {
    /// Number of the record in the log.
    pub seq: u64,
    /// Time of the record, in gate time.
    pub time: Timestamp,
    /// Time of the client's message, by the database's clock.
    pub statement_at: Timestamp,
    /// Session; absent if it is not known.
    pub session: Option<&'r SessionId>,
    /// Grant; absent for a change past the gate.
    pub grant: Option<&'r GrantId>,
    /// Identity; absent for a change past the gate.
    pub identity: Option<&'r IdentityName>,
    /// Target.
    pub target: &'r TargetName,
    /// Profile of the grant.
    pub profile: Option<&'r ProfileName>,
    /// Role that was logged in at the database.
    pub role: &'r str,
    /// Transaction at the database.
    pub transaction: u64,
    /// Schema of the table.
    pub schema: &'r str,
    /// Name of the table.
    pub table: &'r str,
    /// Operation.
    pub operation: &'r EnumOrUnknown<RowOperation>,
    /// Number of rows that the statement changed in the table, if they are not recorded one by one.
    pub rows: Option<u64>,
    /// Checksum of the rows before, if they are not recorded one by one.
    pub old_checksum: Option<&'r str>,
    /// Checksum of the rows after, if they are not recorded one by one.
    pub new_checksum: Option<&'r str>,
    /// True if values are keyed hashes.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub hashed: bool,
    /// Change itself.
    #[serde(flatten)]
    pub change: Option<&'r RowChange>,
}

/// Statement whose triggers may have made the changes before its own.
struct Causing {
    change: u64,
    depth: u32,
    statement_at: Timestamp,
    /// Place of the first change that it caused, or else of its own.
    first: usize,
}

/// Sorts recorded changes, given in the order of the log, into the order in which they happened. A statement is captured after
/// those that its triggers ran, and happened before them: in its transaction they stand directly before it, have a greater depth,
/// and came with the same message of the client.
pub fn in_order<T>(changes: Vec<T>, of: impl Fn(&T) -> &RowsChanged) -> Vec<T> {
    let mut transactions: HashMap<(TargetName, u64), Vec<Causing>> = HashMap::new();
    let place = |(at, change): (usize, T)| {
        let this = of(&change);
        let before = transactions.entry((this.target.clone(), this.transaction)).or_default();
        let mut first = at;
        // Another record of the same change.
        let part = before.last().filter(|last| last.change == this.change).map(|last| last.first);
        if let Some(whole) = part {
            first = whole;
        } else {
            let is_caused = |last: &mut Causing| last.depth > this.depth && last.statement_at == this.statement_at;
            while let Some(caused) = before.pop_if(is_caused) {
                first = caused.first;
            }
            before.push(Causing {
                change: this.change,
                depth: this.depth,
                statement_at: this.statement_at,
                first,
            });
        }
        ((first, this.depth, at), change)
    };
    let mut placed: Vec<_> = changes.into_iter().enumerate().map(place).collect();
    placed.sort_by_key(|(place, _)| *place);
    placed.into_iter().map(|(_, change)| change).collect()
}

impl<'r> RowVersion<'r> {
    /// Returns the changes of rows in a record that are wanted: with this value in their key, or all.
    pub fn of(record: &'r LogRecord, event: &'r RowsChanged, key: Option<&str>) -> Vec<Self> {
        let version = |change| Self {
            seq: record.seq,
            time: record.time,
            statement_at: event.statement_at,
            session: event.session.as_ref(),
            grant: event.grant.as_ref(),
            identity: event.identity.as_ref(),
            target: &event.target,
            profile: event.profile.as_ref(),
            role: &event.role,
            transaction: event.transaction,
            schema: &event.schema,
            table: &event.table,
            operation: &event.operation,
            rows: None,
            old_checksum: event.old_checksum.as_deref(),
            new_checksum: event.new_checksum.as_deref(),
            hashed: event.hashed,
            change,
        };
        if event.changes.is_empty() && key.is_none() {
            let rows = Some(event.rows);
            return vec![Self { rows, ..version(None) }];
        }
        let is_wanted = |change: &&RowChange| key.is_none_or(|key| change.has_key(key));
        event
            .changes
            .iter()
            .filter(is_wanted)
            .map(|change| version(Some(change)))
            .collect()
    }

    /// Returns the change as lines for people, with times in this zone.
    #[must_use]
    pub fn lines(&self, zone: &TimeZone) -> Vec<String> {
        let who = match self.identity {
            Some(identity) => visible(identity.as_str()),
            None => format!("past the gate, as {}", visible(self.role)),
        };
        let session = self.session.map(SessionId::as_str).or(self.grant.map(GrantId::as_str));
        let place = format!("{} {}.{}", self.operation, visible(self.schema), visible(self.table));
        let mut lines = vec![format!(
            "{}  {:<13}  {who}",
            times::millis(self.time, zone),
            session.unwrap_or("-")
        )];
        let Some(change) = self.change else {
            lines.push(format!(
                "  {place}: {} rows, too many to be recorded one by one",
                self.rows.unwrap_or_default()
            ));
            return lines;
        };
        lines.push(format!("  {place}{}", key(&change.key)));
        lines.extend(columns(change).into_iter().map(|column| format!("    {column}")));
        lines
    }
}

/// Returns a change on one line: its key, and its first changed columns.
#[must_use]
pub fn words(change: &RowChange) -> String {
    let all = columns(change);
    let more = if all.len() > MAX_LINE_COLUMNS { ", …" } else { "" };
    let first: Vec<String> = all.into_iter().take(MAX_LINE_COLUMNS).collect();
    format!("row{} {}{more}", key(&change.key), first.join(", "))
}

fn key(key: &RowValues) -> String {
    let one =
        |(column, value): (&String, &Option<String>)| format!(" {}={}", visible(column), shown(value.as_deref(), LINE_CHARS / 4));
    key.iter().map(one).collect()
}

/// Returns the changed columns, each with its values before and after.
fn columns(change: &RowChange) -> Vec<String> {
    let digest = |word: &str, digest: &RowDigest| {
        format!(
            "{word}: {} bytes, SHA-256 {}",
            digest.length,
            digest.sha256.get(..16).unwrap_or_default()
        )
    };
    let mut columns: Vec<String> = match (&change.old, &change.new) {
        (Some(old), Some(new)) => {
            let both = old.iter().filter_map(|(column, old)| Some((column, old, new.get(column)?)));
            let one = |(column, old, new): (&String, &Option<String>, &Option<String>)| {
                let room = room(column, 2);
                let [old, new] = [old, new].map(|value| shown(value.as_deref(), room));
                format!("{}: {old} → {new}", visible(column))
            };
            both.map(one).collect()
        }
        (Some(values), None) => signed('-', values),
        (None, Some(values)) => signed('+', values),
        (None, None) => Vec::new(),
    };
    columns.extend(
        change
            .columns
            .iter()
            .map(|column| format!("{}: not recorded", visible(column))),
    );
    columns.extend(change.old_digest.iter().map(|of| digest("row before", of)));
    columns.extend(change.new_digest.iter().map(|of| digest("row after", of)));
    columns
}

fn signed(sign: char, values: &RowValues) -> Vec<String> {
    let one = |(column, value): (&String, &Option<String>)| {
        format!("{sign} {}: {}", visible(column), shown(value.as_deref(), room(column, 1)))
    };
    values.iter().map(one).collect()
}

/// Returns the number of characters for each of so many values on the line of a column.
fn room(column: &str, values: usize) -> usize {
    let taken = column.chars().count() + 9 + 3 * values;
    (LINE_CHARS.saturating_sub(taken) / values).max(MIN_VALUE_CHARS)
}

fn shown(value: Option<&str>, room: usize) -> String {
    value.map_or_else(|| "NULL".to_owned(), |value| format!("'{}'", visible::start(value, room)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(pairs: &[(&str, Option<&str>)]) -> RowValues {
        let one = |(column, value): &(&str, Option<&str>)| ((*column).to_owned(), value.map(str::to_owned));
        pairs.iter().map(one).collect()
    }

    fn changed(transaction: u64, change: u64, depth: u32, offset: u64) -> RowsChanged {
        RowsChanged {
            session: None,
            grant: None,
            identity: None,
            target: "orders".parse().unwrap(),
            profile: None,
            schema: "shop".to_owned(),
            table: "orders".to_owned(),
            operation: RowOperation::Update.into(),
            role: "app".to_owned(),
            backend_pid: 1,
            transaction,
            change,
            depth,
            statement_at: Timestamp::UNIX_EPOCH,
            rows: 1,
            offset,
            changes: Vec::new(),
            old_checksum: None,
            new_checksum: None,
            hashed: false,
            masked: Vec::new(),
            generated: Vec::new(),
        }
    }

    fn sorted(changes: Vec<RowsChanged>) -> Vec<(u64, u64)> {
        in_order(changes, |change| change)
            .iter()
            .map(|change| (change.change, change.offset))
            .collect()
    }

    #[test]
    fn a_statement_comes_before_what_its_triggers_did() {
        let changes = vec![
            changed(1, 1, 3, 0),
            changed(1, 2, 2, 0),
            changed(1, 3, 2, 0),
            changed(1, 4, 1, 0),
            changed(1, 4, 1, 7),
        ];
        assert_eq!(sorted(changes), [(4, 0), (4, 7), (2, 0), (1, 0), (3, 0)]);
        // Of another transaction, or of another message.
        let mut deferred = changed(1, 1, 2, 0);
        deferred.statement_at = Timestamp::from_second(1).unwrap();
        assert_eq!(sorted(vec![deferred, changed(1, 2, 1, 0)]), [(1, 0), (2, 0)]);
        assert_eq!(sorted(vec![changed(1, 1, 2, 0), changed(2, 2, 1, 0)]), [(1, 0), (2, 0)]);
        // With another transaction in between.
        let changes = vec![changed(1, 1, 2, 0), changed(2, 2, 1, 0), changed(1, 3, 1, 0)];
        assert_eq!(sorted(changes), [(3, 0), (1, 0), (2, 0)]);
    }

    #[test]
    fn a_change_is_told_in_80_columns() {
        let long = "x".repeat(200);
        let change = RowChange {
            key: values(&[("id", Some("42"))]),
            old: Some(values(&[("status", Some(&long)), ("total", None)])),
            new: Some(values(&[("status", Some(&long)), ("total", Some("1\n2"))])),
            ..RowChange::default()
        };
        let event = RowsChanged {
            session: Some("se_4k2m9x0a7b".parse().unwrap()),
            identity: Some("ana@example.com".parse().unwrap()),
            ..changed(1, 1, 1, 0)
        };
        let record = LogRecord {
            v: super::super::VERSION,
            seq: 7,
            time: Timestamp::UNIX_EPOCH,
            event: super::super::event::Event::RowsChanged(std::borrow::Cow::Owned(event.clone())),
            chain: super::super::chain::LinkMark::default(),
        };
        let event = RowsChanged {
            changes: vec![change],
            ..event
        };
        let told = RowVersion::of(&record, &event, Some("42"));
        let lines = told[0].lines(&TimeZone::UTC);
        assert!(lines.iter().all(|line| line.chars().count() <= 80), "{lines:#?}");
        assert_eq!(lines[0], "1970-01-01 00:00:00.000Z  se_4k2m9x0a7b  ana@example.com");
        assert_eq!(lines[1], "  update shop.orders id='42'");
        assert_eq!(lines[3], "    total: NULL → '1\\n2'");
        assert!(RowVersion::of(&record, &event, Some("43")).is_empty());
    }
}
