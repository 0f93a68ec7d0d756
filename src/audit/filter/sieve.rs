//! Looks at lines before they are parsed, many at once, and leaves out those that cannot be wanted.
//!
//! It reads no files and chooses nothing: the selector does, from what is left.
//!
//! The law: from what is left the selector chooses what it would choose from all. So a statement and its outcome are left out
//! together where both stand in the same lines; where the other is elsewhere, one is left out only if it cannot be wanted
//! whatever the other is. A line that does not begin and end like a record is never left out. What makes this cheap is how
//! lines are written ([`crate::audit::encode`]): the same fields in the same order, texts as they are but for quotes, backslashes
//! and what is not printable.

use std::collections::HashMap;
use std::ops::Range;

use super::needle::{Condition, Hunt};
use super::{Filter, Of, is_origin, written};
use crate::audit::record::{EventName, event_of, time_of};
use crate::ids::{GrantId, SessionId};
use crate::names::{IdentityName, TargetName};

/// What a filter asks of lines.
#[derive(Debug)]
pub(in crate::audit) struct Sieve {
    filter: Filter,
    since: Option<String>,
    until: Option<String>,
    conditions: Vec<(Of, Condition)>,
}

/// A statement by its session and its number there, as they are written.
type Key<'l> = (&'l [u8], &'l [u8]);

/// Lines that are being looked at.
struct Sifting<'s, 'l> {
    sieve: &'s Sieve,
    hunts: Vec<(Of, Hunt<'s, 'l>)>,
    text: &'l [u8],
    lines: Vec<Range<usize>>,
    /// Whether each is left.
    left: Vec<bool>,
    /// Statements without an outcome so far: which line, where that is left.
    open: HashMap<Key<'l>, Option<usize>>,
}

/// A line that is not written as ours are: nothing can be told of what belongs together.
struct Strange;

impl Sieve {
    pub(in crate::audit) fn of(filter: &Filter) -> Self {
        let mut conditions = Vec::new();
        let names = [
            ("session", filter.session.as_ref().map(SessionId::as_str)),
            ("grant", filter.grant.as_ref().map(GrantId::as_str)),
            ("identity", filter.identity.as_ref().map(IdentityName::as_str)),
            ("target", filter.target.as_ref().map(TargetName::as_str)),
        ];
        for (field, name) in names {
            conditions.extend(name.map(|name| (Of::Every, Condition::field(field, name))));
        }
        let text = filter.text.as_deref().and_then(Condition::text);
        conditions.extend(text.map(|text| (Of::Text, text)));
        let kind = filter.kind.and_then(|kind| serde_json::to_string(&kind).ok());
        conditions.extend(kind.map(|kind| (Of::Statement, Condition::field("kind", kind.trim_matches('"')))));
        let table = filter.table.as_ref().and_then(|table| Condition::name(&table.name));
        conditions.extend(table.map(|table| (Of::Statement, table)));
        let code = filter.sqlstate.as_deref().map(Condition::sqlstate);
        conditions.extend(code.map(|code| (Of::Result, code)));
        // Of a time between two microseconds a line has the earlier one.
        let micro = jiff::Span::new().microseconds(1);
        Self {
            since: filter.since.and_then(written),
            until: filter.until.and_then(|until| until.checked_add(micro).ok()).and_then(written),
            conditions,
            filter: filter.clone(),
        }
    }

    /// Hands out the lines that are left, each with how many lines are in front of it. What has no end of a line is a line.
    pub(in crate::audit) fn sift(&self, text: &[u8], mut each: impl FnMut(u64, &[u8])) {
        let any_case = self.conditions.iter().any(|(_, condition)| condition.any_case());
        let small = if any_case { text.to_ascii_lowercase() } else { Vec::new() };
        let mut sifting = Sifting::new(self, text, &small);
        let strange = (0..sifting.lines.len()).any(|at| sifting.look(at).is_err());
        let lines = sifting.lines.iter().zip(&sifting.left);
        for (number, (line, left)) in (0..).zip(lines) {
            if *left || strange {
                each(number, text.get(line.clone()).unwrap_or_default());
            }
        }
    }

    /// Whether statements and outcomes have to be looked at together.
    fn joins(&self) -> bool {
        self.filter.asks_for_content() || self.filter.asks_for_result()
    }

    fn is_before_until(&self, time: &str) -> bool {
        self.until.as_deref().is_none_or(|until| time < until)
    }

    fn is_in_time(&self, time: &str) -> bool {
        self.since.as_deref().is_none_or(|since| time >= since) && self.is_before_until(time)
    }

    /// Whether an outcome's rows and duration may be what is asked for.
    fn measures(&self, line: &[u8]) -> bool {
        let filter = &self.filter;
        let within = |fields: &[&[u8]], least: Option<u64>, most: Option<u64>| {
            (least.is_none() && most.is_none())
                || fields
                    .iter()
                    .filter_map(|field| number_in(line, field))
                    .max()
                    .is_none_or(|found| least.is_none_or(|least| found >= least) && most.is_none_or(|most| found <= most))
        };
        within(
            &[br#","rows":"#, br#","portal_rows_sent":"#],
            filter.min_rows,
            filter.max_rows,
        ) && within(&[br#","duration_us":"#], filter.min_duration_us, filter.max_duration_us)
    }
}

impl<'s, 'l> Sifting<'s, 'l> {
    fn new(sieve: &'s Sieve, text: &'l [u8], small: &'l [u8]) -> Self {
        let ends = memchr::memchr_iter(b'\n', text).map(|end| end + 1);
        let mut start = 0;
        let mut lines: Vec<_> = ends.map(|end| std::mem::replace(&mut start, end)..end).collect();
        if start < text.len() {
            lines.push(start..text.len());
        }
        Self {
            sieve,
            hunts: sieve
                .conditions
                .iter()
                .map(|(of, condition)| (*of, condition.hunt(text, small)))
                .collect(),
            text,
            left: vec![false; lines.len()],
            lines,
            open: HashMap::new(),
        }
    }

    /// Whether the line may meet all conditions of these kinds.
    fn meets(&mut self, at: usize, kinds: &[Of]) -> bool {
        let Some(line) = self.lines.get(at) else { return true };
        let mut hunts = self.hunts.iter_mut().filter(|(of, _)| kinds.contains(of));
        hunts.all(|(_, hunt)| hunt.may_be_in(line))
    }

    fn leave(&mut self, at: usize, left: bool) {
        if let Some(place) = self.left.get_mut(at) {
            *place = left;
        }
    }

    fn look(&mut self, at: usize) -> Result<(), Strange> {
        let text: &'l [u8] = self.text;
        let line = self.lines.get(at).and_then(|line| text.get(line.clone())).unwrap_or_default();
        let head = line.strip_suffix(b"}\n").and_then(time_of);
        let head = head
            .and_then(|(time, rest)| Some((time, event_of(rest)?)))
            .filter(|(time, _)| time.ends_with('Z'));
        let Some((time, (event, rest))) = head else {
            self.leave(at, true);
            return Ok(());
        };
        match event {
            b"statement" if self.sieve.joins() => self.statement(at, time, key(rest).ok_or(Strange)?),
            b"outcome" if self.sieve.joins() => {
                let left = self.outcome(at, time, key(rest).ok_or(Strange)?);
                self.leave(at, left);
                Ok(())
            }
            event => {
                let left = self.other(at, time, event);
                self.leave(at, left);
                Ok(())
            }
        }
    }

    fn statement(&mut self, at: usize, time: &str, key: Key<'l>) -> Result<(), Strange> {
        // One from before that time may have its outcome in it.
        let timely = if self.sieve.filter.asks_for_result() {
            self.sieve.is_before_until(time)
        } else {
            self.sieve.is_in_time(time)
        };
        let left = timely && self.meets(at, &[Of::Every, Of::Text, Of::Statement]);
        self.leave(at, left);
        match self.open.insert(key, left.then_some(at)) {
            None => Ok(()),
            Some(_) => Err(Strange),
        }
    }

    fn outcome(&mut self, at: usize, time: &str, key: Key<'l>) -> bool {
        let statement = match self.open.remove(&key) {
            // Its statement was in front of these lines: the selector knows whether it waits for this one.
            None => return self.meets(at, &[Of::Every]),
            Some(None) => return false,
            Some(Some(statement)) => statement,
        };
        let line = self
            .lines
            .get(at)
            .and_then(|line| self.text.get(line.clone()))
            .unwrap_or_default();
        let left = self.sieve.is_in_time(time) && self.meets(at, &[Of::Result]) && self.sieve.measures(line);
        if !left && self.sieve.filter.asks_for_result() {
            self.leave(statement, false);
        }
        left
    }

    /// Any other event; or any at all, where they are not looked at together.
    fn other(&mut self, at: usize, time: &str, event: &[u8]) -> bool {
        let filter = &self.sieve.filter;
        let Some(name) = str::from_utf8(event).ok().and_then(|event| event.parse::<EventName>().ok()) else {
            return true;
        };
        let says_origin = filter.by_grant() && is_origin(name);
        if says_origin || (filter.by_session() && name == EventName::SessionStarted) {
            return true;
        }
        filter.event.is_none_or(|wanted| wanted == name)
            && !filter.asks_for_statement()
            && !filter.asks_for_measures()
            && self.sieve.is_in_time(time)
            && self.meets(at, &[Of::Every, Of::Text, Of::Result])
    }
}

/// Session and number in what stands behind the name of a statement's or an outcome's event. In strings quotes are escaped, so
/// what is found is a field.
fn key(rest: &[u8]) -> Option<Key<'_>> {
    let rest = rest.strip_prefix(br#"","session":""#)?;
    let (session, rest) = rest.split_at_checked(memchr::memchr(b'"', rest)?)?;
    Some((session, digits_in(rest, br#","statement":"#)?))
}

fn digits_in<'l>(line: &'l [u8], field: &[u8]) -> Option<&'l [u8]> {
    let from = line.get(memchr::memmem::find(line, field)? + field.len()..)?;
    from.get(..from.iter().position(|byte| !byte.is_ascii_digit())?)
}

fn number_in(line: &[u8], field: &[u8]) -> Option<u64> {
    str::from_utf8(digits_in(line, field)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests;
