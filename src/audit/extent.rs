//! How much of what a search finds is wanted, and in which order.
//!
//! It finds nothing. What it holds back is bounded: so many records, of so many bytes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use utoipa::{IntoParams, ToSchema};

use super::event::Event;
use super::filter::{Filter, text_bytes};
use super::read::ReadError;
use super::record::{EventName, LogRecord};
use crate::model::ids::SessionId;

/// The most records that are held back: the newest, or the largest.
pub const MAX_HELD_BACK: u32 = 10_000;
/// Their texts, at most; the rest of a record is small. Bytes.
const MAX_HELD_TEXT_BYTES: usize = 16 << 20;
/// A record without its texts. Bytes.
const RECORD_BYTES: usize = 1_000;
/// Default number of sorted records.
pub const DEFAULT_SORTED_RECORDS: u32 = 20;

/// Part of the result: all of it, the newest, the largest, or what comes.
#[skip_serializing_none]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SearchExtent {
    /// Goes on with what comes. It begins now; with `last`, `since` or `after` with those from before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub follow: bool,
    /// Only the newest, so many, in the order of time.
    #[param(maximum = 10_000)]
    pub last: Option<u32>,
    /// Statements with their outcomes (or ends of sessions, where `event` says so), the largest first.
    #[param(inline)]
    pub sort: Option<SortKey>,
    /// Maximum number of records, the earliest first; with `sort` of statements, the largest first (default: 20).
    pub limit: Option<u32>,
}

/// A measure of statements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SortKey {
    /// Duration.
    Duration,
    /// Number of rows returned or changed.
    Rows,
}

/// Conditions that cannot be met together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ExtentError {
    /// Sorting needs the whole result.
    #[error("sort cannot be combined with follow or last")]
    Sorted,
    /// The earliest and the newest.
    #[error("limit cannot be combined with last or follow")]
    Limited,
    /// So many are not held back.
    #[error("the result has more than {MAX_HELD_BACK} records to sort; ask for fewer, or for a shorter time")]
    TooMany,
    /// The event has no measure to sort by.
    #[error("sort works only for statements, outcomes and session_ended")]
    Unmeasured,
}

impl SearchExtent {
    /// Checks that what is asked for goes together.
    pub fn check(&self, filter: &Filter) -> Result<(), ExtentError> {
        let sorted = [EventName::Statement, EventName::Outcome, EventName::SessionEnded];
        let held_back = self.last.max(self.limit.filter(|_| self.sort.is_some()));
        match self {
            Self { sort: Some(_), .. } if self.follow || self.last.is_some() => Err(ExtentError::Sorted),
            Self { limit: Some(_), .. } if self.follow || self.last.is_some() => Err(ExtentError::Limited),
            _ if held_back > Some(MAX_HELD_BACK) => Err(ExtentError::TooMany),
            Self { sort: Some(_), .. } if filter.event.is_some_and(|event| !sorted.contains(&event)) => {
                Err(ExtentError::Unmeasured)
            }
            _ => Ok(()),
        }
    }

    /// The filter that finds what is to be looked at: for what is sorted, statements together with their outcomes.
    pub(super) fn filter(&self, filter: &Filter) -> Filter {
        let mut filter = filter.clone();
        let measure = match self.sort {
            Some(SortKey::Duration) => &mut filter.min_duration_us,
            Some(SortKey::Rows) => &mut filter.min_rows,
            None => return filter,
        };
        if filter.event != Some(EventName::SessionEnded) {
            measure.get_or_insert(0);
            filter.event = None;
        }
        filter
    }

    /// Returns the collector that holds records back until the end is reached.
    pub(super) fn gather(&self, filter: &Filter) -> Option<RecordCollector> {
        let kept = match (self.sort, self.last) {
            (Some(key), _) => KeptRecords::Largest(
                key,
                filter.event,
                self.limit.unwrap_or(DEFAULT_SORTED_RECORDS),
                None,
                BTreeMap::new(),
            ),
            (None, Some(last)) => KeptRecords::Newest(last, 0, VecDeque::new()),
            (None, None) => return None,
        };
        Some(RecordCollector {
            kept,
            bytes: 0,
            left_out: 0,
            taken: 0,
        })
    }
}

/// Records that were found and are held back.
#[derive(Debug)]
pub(super) struct RecordCollector {
    kept: KeptRecords,
    bytes: usize,
    /// Records that were asked for and let go of, for there was too much.
    left_out: u64,
    /// Number of finds that were taken so far, sorted by a measure.
    taken: u64,
}

type RecordResult = Result<LogRecord, ReadError>;

#[derive(Debug)]
enum KeptRecords {
    /// Maximum number of records, their number, and the records with the errors between them.
    Newest(u32, u32, VecDeque<RecordResult>),
    /// Measure, maximum number, the statement that was found last, whose outcome is next, and the records by their measure; of
    /// equal ones the latest is the least. A log may have a number twice, so each find has one of its own.
    Largest(
        SortKey,
        Option<EventName>,
        u32,
        Option<Box<LogRecord>>,
        BTreeMap<(u64, Reverse<u64>, Reverse<u64>), Vec<LogRecord>>,
    ),
}

fn weight(record: &LogRecord) -> usize {
    RECORD_BYTES + text_bytes(&record.event)
}

impl RecordCollector {
    /// Takes what was found; `ready` gets what is not held back.
    pub(super) fn take(&mut self, item: RecordResult, ready: &mut VecDeque<RecordResult>) {
        match &mut self.kept {
            KeptRecords::Newest(most, count, kept) => {
                self.bytes += item.as_ref().map_or(0, weight);
                *count += u32::from(item.is_ok());
                kept.push_back(item);
                while *count > *most || (self.bytes > MAX_HELD_TEXT_BYTES && *count > 1) {
                    match kept.pop_front() {
                        Some(Ok(record)) => {
                            self.left_out += u64::from(*count <= *most);
                            self.bytes -= weight(&record);
                            *count -= 1;
                        }
                        Some(Err(_)) => {}
                        None => break,
                    }
                }
            }
            KeptRecords::Largest(key, _, most, statement, sorted) => match item {
                Err(error) => ready.push_back(Err(error)),
                Ok(record) if matches!(record.event, Event::Statement(_)) => *statement = Some(Box::new(record)),
                Ok(record) => {
                    let Some(measure) = measure(*key, &record.event) else { return };
                    let of = |statement: &LogRecord| statement_of(&statement.event) == statement_of(&record.event);
                    let before = statement.take().map(|statement| *statement);
                    let mut records: Vec<_> = before.into_iter().filter(of).collect();
                    self.taken += 1;
                    let rank = (measure, Reverse(record.seq), Reverse(self.taken));
                    records.push(record);
                    self.bytes += records.iter().map(weight).sum::<usize>();
                    sorted.insert(rank, records);
                    while sorted.len() > *most as usize || (self.bytes > MAX_HELD_TEXT_BYTES && sorted.len() > 1) {
                        self.left_out += u64::from(sorted.len() <= *most as usize);
                        let (_, least) = sorted.pop_first().unwrap_or_default();
                        self.bytes -= least.iter().map(weight).sum::<usize>();
                    }
                }
            },
        }
    }

    /// Returns true if older records may belong to the result.
    pub(super) fn wants_older(&self) -> bool {
        match &self.kept {
            KeptRecords::Newest(most, count, _) => self.left_out == 0 && count < most,
            KeptRecords::Largest(..) => false,
        }
    }

    /// Forgets all, to begin further back.
    pub(super) fn clear(&mut self) {
        if let KeptRecords::Newest(_, count, kept) = &mut self.kept {
            kept.clear();
            (*count, self.bytes) = (0, 0);
        }
    }

    /// Adds the records that were held back, in the requested order.
    pub(super) fn finish(self, ready: &mut VecDeque<RecordResult>) {
        if self.left_out > 0 {
            ready.push_back(Err(ReadError::NotHeldBack { count: self.left_out }));
        }
        match self.kept {
            KeptRecords::Newest(_, _, kept) => ready.extend(kept),
            KeptRecords::Largest(_, event, _, _, sorted) => {
                let wanted = |record: &LogRecord| event.is_none_or(|event| event == record.event.name());
                ready.extend(sorted.into_values().rev().flatten().filter(wanted).map(Ok));
            }
        }
    }
}

/// The statement that a record is about: its session, and its number there.
fn statement_of<'e>(event: &'e Event<'_>) -> Option<(&'e SessionId, u64)> {
    match event {
        Event::Statement(statement) => Some((&statement.who.session, statement.statement)),
        Event::Outcome(outcome) => Some((&outcome.who.session, outcome.statement)),
        _ => None,
    }
}

/// Returns the measure that an event is sorted by.
fn measure(key: SortKey, event: &Event<'_>) -> Option<u64> {
    match (event, key) {
        (Event::Outcome(outcome), SortKey::Duration) => Some(outcome.duration_us),
        (Event::Outcome(outcome), SortKey::Rows) => Some(outcome.rows_in_all()),
        (Event::SessionEnded(ended), SortKey::Duration) => Some(ended.duration_us),
        (Event::SessionEnded(ended), SortKey::Rows) => Some(ended.rows.max(ended.rows_sent)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
