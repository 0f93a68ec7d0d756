//! Prefilter on raw lines: leaves out, before anything is parsed, lines that a filter cannot want.
//!
//! It reads no files and chooses nothing: the joiner does, from what is left.
//!
//! The law: from what is left the joiner chooses what it would choose from all. So a statement and its outcome are left out
//! together where both stand in the same lines; where the other is elsewhere, one is left out only if it cannot be wanted
//! whatever the other is. A line that does not begin and end like a record is never left out. What makes this cheap is how
//! lines are written ([`crate::audit::encode`]): the same fields in the same order, texts as they are but for quotes, backslashes
//! and what is not printable.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use memchr::memmem::Finder;
use serde::Serialize;

use super::{Filter, ORIGIN_EVENTS, TimeRange};
use crate::audit::chain::number;
use crate::audit::event::StatementKind;
use crate::audit::record::{EventName, digits_field, event_of, number_field, string_field, time_of};
use crate::audit::session_line::take_string;
use crate::audit::sql_analysis::CommandClass;
use crate::model::names::Vocabulary as _;

/// The lines that have to meet a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Every one.
    Every,
    /// Statements by their texts, and other events by theirs.
    Text,
    /// Statements.
    Statement,
    /// Statements or their outcomes.
    Pair,
    /// Outcomes, and other events by their SQLSTATE.
    Result,
}

/// A condition, as bytes of which one piece stands in each line that meets it. It may stand elsewhere in the line than where it counts.
#[derive(Debug)]
struct Condition {
    part: Part,
    needles: Vec<Finder<'static>>,
    /// Capital and small letters of ASCII are equal: the needles are searched for in small ones.
    any_case: bool,
}

impl Condition {
    fn new(part: Part, any_case: bool, needles: &[&str]) -> Self {
        let as_searched = |needle: &str| {
            if any_case {
                needle.to_ascii_lowercase()
            } else {
                needle.to_owned()
            }
        };
        let finder = |needle: &&str| Finder::new(&as_searched(needle)).into_owned();
        Self {
            part,
            needles: needles.iter().map(finder).collect(),
            any_case,
        }
    }

    /// A field with a name, which JSON writes as it is.
    fn field(part: Part, field: &impl Serialize, name: &str) -> Self {
        // Serializing a text cannot fail; a line has it as it is written here (no name has a character that is not seen).
        let json = [serde_json::to_string(field), serde_json::to_string(name)].map(Result::unwrap_or_default);
        Self::new(part, false, &[&json.join(":")])
    }

    /// A message that carried a statement, alone or with another.
    fn kind(kind: StatementKind) -> Self {
        let alone = format!(r#""kind":"{}""#, kind.as_str());
        let with_another = (kind == StatementKind::Parse).then_some(r#""with_parse":true"#);
        let needles: Vec<_> = std::iter::once(&*alone).chain(with_another).collect();
        Self::new(Part::Statement, false, &needles)
    }

    /// A text, as the filter compares it: in small letters. `None` if any line may have it.
    fn text(text: &str) -> Option<Self> {
        let small = text.to_lowercase();
        let piece = plain_piece(&small)?;
        // The two characters outside ASCII that have letters of ASCII in their small form: Kelvin's sign, and I with a dot.
        let others = [('k', "\u{212a}"), ('i', "\u{130}")];
        let others = others.into_iter().filter(|(letter, _)| piece.contains(*letter));
        let needles: Vec<_> = std::iter::once(piece).chain(others.map(|(_, other)| other)).collect();
        Some(Self::new(Part::Text, true, &needles))
    }

    /// A table's name, where it may stand in letters of either size, or in a text with escapes of its own.
    fn table(name: &str) -> Option<Self> {
        Some(Self::new(Part::Statement, true, &[plain_piece(name)?, "u&\\"]))
    }

    /// A value or a name as it is, in any field of a line.
    fn value(value: &str) -> Option<Self> {
        Some(Self::new(Part::Every, false, &[plain_piece(value)?]))
    }

    /// A class of statements: a word that begins a command, or the special form of one, in the text or in the server's command tag.
    /// `None` for a class without such words.
    fn class(class: CommandClass) -> Option<Self> {
        let more: &[&str] = match class {
            CommandClass::Other => return None,
            // `SELECT … INTO`
            CommandClass::Ddl => &["into"],
            // `CREATE ROLE`
            CommandClass::Privilege => &["role", "user", "group"],
            CommandClass::Explain => &["desc"],
            CommandClass::Execute => &["exec"],
            _ => &[],
        };
        Some(Self::new(Part::Pair, true, &[class.words(), more].concat()))
    }

    /// An SQLSTATE that begins so.
    fn sqlstate(code: &str) -> Self {
        let code = code.get(..plain_length(code)).unwrap_or_default();
        // Most codes have digits only.
        let any_case = code.bytes().any(|byte| byte.is_ascii_alphabetic());
        Self::new(Part::Result, any_case, &[&format!(r#""sqlstate":"{code}"#)])
    }
}

/// Offsets of a condition's needles in a text, looked for from its beginning to its end.
struct PatternOffsets<'p, 'l> {
    condition: &'p Condition,
    /// The text, in small letters if the condition asks for these.
    text: &'l [u8],
    /// For each needle its first offset at or after the line asked about last, if it was looked for: the length of the text if there is
    /// none.
    next: Vec<Option<usize>>,
}

impl<'p, 'l> PatternOffsets<'p, 'l> {
    fn new(condition: &'p Condition, text: &'l [u8], small: &'l [u8]) -> Self {
        Self {
            condition,
            text: if condition.any_case { small } else { text },
            next: vec![None; condition.needles.len()],
        }
    }

    /// Returns whether a needle stands in a line, which is behind those that were asked about before.
    fn may_be_in(&mut self, line: &Range<usize>) -> bool {
        let mut needles = self.condition.needles.iter().zip(&mut self.next);
        needles.any(|(needle, next)| {
            let offset = match *next {
                Some(offset) if offset >= line.start => offset,
                _ => {
                    let rest = self.text.get(line.start..).unwrap_or_default();
                    needle.find(rest).map_or(self.text.len(), |at| line.start + at)
                }
            };
            *next = Some(offset);
            offset < line.end
        })
    }
}

/// Returns whether JSON writes a character as it is: printable ASCII without quotes and backslashes.
fn is_plain(character: char) -> bool {
    matches!(character, ' '..='~') && !matches!(character, '"' | '\\')
}

fn plain_length(text: &str) -> usize {
    text.find(|character| !is_plain(character)).unwrap_or(text.len())
}

/// Returns the longest piece of a text that JSON writes as it is.
fn plain_piece(text: &str) -> Option<&str> {
    let pieces = text.split(|character| !is_plain(character));
    pieces.max_by_key(|piece| piece.len()).filter(|piece| !piece.is_empty())
}

/// A filter's conditions on raw lines.
#[derive(Debug)]
pub(in crate::audit) struct LinePrefilter {
    filter: Filter,
    range: TimeRange,
    conditions: Vec<Condition>,
    /// The only statements (session and number) that may be wanted.
    statements: Option<HashSet<Box<str>>>,
}

/// A statement by its session and its number there, as they are written.
type LineKey<'l> = (&'l [u8], &'l [u8]);

/// Lines that are looked at together.
struct Block<'p, 'l> {
    prefilter: &'p LinePrefilter,
    /// Offsets in the lines at which the conditions are met.
    offsets: Vec<PatternOffsets<'p, 'l>>,
    /// Each line, and whether it is left.
    lines: Vec<(&'l [u8], bool)>,
    /// Statements without an outcome so far; nothing for one that is left out.
    unanswered: HashMap<LineKey<'l>, Option<Unanswered>>,
}

/// A statement that is left.
struct Unanswered {
    at: usize,
    /// It meets the conditions on the pair without its outcome.
    is_enough: bool,
}

/// A line that is not written as ours are: nothing can be told of what belongs together.
struct Foreign;

impl LinePrefilter {
    pub(in crate::audit) fn of(filter: &Filter) -> Self {
        let names = filter
            .names()
            .map(|(field, name)| Condition::field(Part::Every, &field, name));
        let mut conditions: Vec<_> = names.collect();
        conditions.extend(filter.sqlstate.as_deref().map(Condition::sqlstate));
        conditions.extend(filter.kind.map(Condition::kind));
        conditions.extend(filter.table.as_ref().and_then(|table| Condition::table(&table.name)));
        conditions.extend(filter.class.and_then(Condition::class));
        conditions.extend(filter.text.as_deref().and_then(Condition::text));
        let changed = [filter.changed.as_ref().map(|table| &*table.name), filter.key.as_deref()];
        conditions.extend(changed.into_iter().flatten().filter_map(Condition::value));
        Self {
            range: TimeRange::of(filter),
            conditions,
            filter: filter.clone(),
            statements: None,
        }
    }

    /// Returns the prefilter for lines in which no other statements than these (session and number) may be wanted.
    pub(in crate::audit) fn among(filter: &Filter, statements: HashSet<Box<str>>) -> Self {
        Self {
            statements: Some(statements),
            ..Self::of(filter)
        }
    }

    /// Returns whether a statement may be wanted, by its session and number alone.
    fn may_be_of(&self, (session, number): LineKey<'_>) -> bool {
        let is_among = |statements: &HashSet<Box<str>>| {
            let key = [session, b" ", number].concat();
            str::from_utf8(&key).is_ok_and(|key| statements.contains(key))
        };
        self.statements.as_ref().is_none_or(is_among)
    }

    /// Hands out the lines that are left, each with how many lines are in front of it. What has no end of a line is a line.
    pub(in crate::audit) fn apply(&self, text: &[u8], mut each: impl FnMut(u64, &[u8])) {
        let any_case = self.conditions.iter().any(|condition| condition.any_case);
        let small = if any_case { text.to_ascii_lowercase() } else { Vec::new() };
        let offsets = |condition| PatternOffsets::new(condition, text, &small);
        let mut block = Block {
            prefilter: self,
            offsets: self.conditions.iter().map(offsets).collect(),
            lines: Vec::new(),
            unanswered: HashMap::new(),
        };
        let (mut start, mut foreign) = (0, false);
        let rest = (!text.ends_with(b"\n")).then_some(text.len());
        for end in memchr::memchr_iter(b'\n', text).map(|end| end + 1).chain(rest) {
            let range = std::mem::replace(&mut start, end)..end;
            let line = text.get(range.clone()).unwrap_or_default();
            let left = block.look(&range, line);
            foreign |= left.is_err();
            block.lines.push((line, left.unwrap_or(true)));
        }
        for (number, (line, left)) in (0..).zip(&block.lines) {
            if *left || foreign {
                each(number, line);
            }
        }
    }

    fn is_in_time(&self, time: &str) -> bool {
        self.range.is_since(time) && self.range.is_before_until(time)
    }

    /// Returns whether an outcome's rows and duration may be what is asked for.
    fn measures(&self, line: &[u8]) -> bool {
        if !self.filter.asks_for_measures() {
            return true;
        }
        let field = |key: &[u8]| number_field(line, key);
        let rows = field(br#","rows":"#).max(field(br#","portal_rows_sent":"#));
        self.filter.has_measures(field(br#","duration_us":"#), rows)
    }
}

impl<'l> Block<'_, 'l> {
    /// Returns whether the next line is left, for now: with a statement's outcome it may be left out.
    fn look(&mut self, range: &Range<usize>, line: &'l [u8]) -> Result<bool, Foreign> {
        let filter = &self.prefilter.filter;
        let joins = filter.asks_for_content() || filter.asks_for_result();
        let head = line.strip_suffix(b"}\n").and_then(time_of);
        let head = head.and_then(|(time, rest)| Some((time, event_of(rest)?)));
        let Some((time, (event, rest))) = head.filter(|(time, _)| time.ends_with('Z')) else {
            return Ok(true);
        };
        match event {
            b"statement" | b"outcome" if joins => {
                let key = key(rest).ok_or(Foreign)?;
                match event {
                    _ if !self.prefilter.may_be_of(key) => Ok(false),
                    b"statement" => self.statement(range, line, time, key),
                    _ => Ok(self.outcome(range, line, time, key)),
                }
            }
            event => Ok(self.may_want(range, line, time, event)),
        }
    }

    fn meets(&mut self, line: &Range<usize>, parts: &[Part]) -> bool {
        let mut offsets = self
            .offsets
            .iter_mut()
            .filter(|offsets| parts.contains(&offsets.condition.part));
        offsets.all(|offsets| offsets.may_be_in(line))
    }

    /// Returns whether a line of an event may be wanted for what stands in it: one that is neither statement nor outcome, or any where
    /// these are not looked at together.
    fn may_want(&mut self, range: &Range<usize>, line: &[u8], time: &str, event: &[u8]) -> bool {
        let prefilter = self.prefilter;
        let filter = &prefilter.filter;
        let Some(name) = str::from_utf8(event).ok().and_then(EventName::from_name) else {
            return true;
        };
        let says_origin = filter.by_grant() && ORIGIN_EVENTS.contains(&name);
        if says_origin || (filter.by_session() && name == EventName::SessionStarted) {
            return true;
        }
        filter.event.is_none_or(|wanted| wanted == name)
            && !filter.asks_for_statement()
            && !filter.asks_for_measures()
            && (!filter.asks_for_change() || name == EventName::RowsChanged)
            && number(line).is_none_or(|seq| filter.has_number(seq))
            && prefilter.is_in_time(time)
            && self.meets(range, &[Part::Every, Part::Text, Part::Result])
    }

    fn statement(&mut self, range: &Range<usize>, line: &[u8], time: &str, key: LineKey<'l>) -> Result<bool, Foreign> {
        let prefilter = self.prefilter;
        // Where a result is asked for, the time of the outcome counts.
        let timely = prefilter.filter.asks_for_result() || prefilter.is_in_time(time);
        let may_be = timely && self.meets(range, &[Part::Every, Part::Statement, Part::Text]);
        let is_enough = may_be && self.meets(range, &[Part::Pair]);
        // What is only prepared runs nothing that an outcome could tell.
        let left = may_be && (is_enough || string_field(line, br#","kind":""#) != Some("parse"));
        let at = self.lines.len();
        match self.unanswered.insert(key, left.then_some(Unanswered { at, is_enough })) {
            None => Ok(left),
            Some(_) => Err(Foreign),
        }
    }

    fn outcome(&mut self, range: &Range<usize>, line: &[u8], time: &str, key: LineKey<'l>) -> bool {
        let prefilter = self.prefilter;
        let Unanswered { at, is_enough } = match self.unanswered.remove(&key) {
            // Its statement was in front of these lines: the joiner knows whether it waits for this one.
            None => return self.meets(range, &[Part::Every]),
            Some(None) => return false,
            Some(Some(statement)) => statement,
        };
        let left = prefilter.is_in_time(time)
            && self.meets(range, &[Part::Result])
            && prefilter.measures(line)
            && (is_enough || self.meets(range, &[Part::Pair]));
        if !left
            && (prefilter.filter.asks_for_result() || !is_enough)
            && let Some((_, statement)) = self.lines.get_mut(at)
        {
            *statement = false;
        }
        left
    }
}

/// Returns session and number in what stands behind the name of a statement's or an outcome's event.
fn key(rest: &[u8]) -> Option<LineKey<'_>> {
    let (session, rest) = take_string(rest, br#"","session":""#)?;
    Some((session, digits_field(rest, br#","statement":"#)?))
}

#[cfg(test)]
mod tests;
