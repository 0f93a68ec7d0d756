//! What a record has and what a filter asks for, as terms: numbers that are equal where the things are.
//!
//! It holds no filter of terms and skips nothing. Different things may have the same number; that only makes a block look as if
//! it had something.
//!
//! INVARIANT: if the selector wants a record for a condition, the record's terms (with its outcome's or its statement's) have one
//! of those that the filter asks for by that condition. Both sides are made here, so that they stay the same.

use std::collections::HashSet;

use crate::audit::event::{Event, Outcome, Statement};
use crate::audit::filter::{Filter, beside_sql, texts};
use crate::audit::reading::{Class, Reading, Table, hides_names, words};
use crate::audit::record::EventName;
use crate::ids::{GrantId, SessionId};
use crate::names::{IdentityName, TargetName};

/// For more sessions, or grants, than these blocks are not skipped by them.
const SESSIONS: usize = 256;
/// Characters of a text that make a term.
const GRAM: usize = 3;

/// A term: FNV-1a over what kind of thing it is and the thing. The filter mixes it further.
fn term(kind: u8, thing: &[u8]) -> u64 {
    let byte = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    thing.iter().fold(byte(0xcbf2_9ce4_8422_2325, &kind), byte)
}

const IDENTITY: u8 = b'i';
const GROUP: u8 = b'g';
const GRANT: u8 = b'G';
const SESSION: u8 = b's';
const RUN: u8 = b'r';
const TARGET: u8 = b't';
const EVENT: u8 = b'e';
const KIND: u8 = b'k';
const CLASS: u8 = b'c';
const SQLSTATE: u8 = b'S';
/// A table's name, whatever its schema.
const TABLE: u8 = b'n';
/// A table's name where no schema is written.
const BARE: u8 = b'b';
/// A table's name with its schema.
const QUALIFIED: u8 = b'q';
/// A text that could not be read and whose names may be written without their letters, or one that is not what the server says it ran.
const HIDDEN: u8 = b'h';
const TEXT: u8 = b'x';

/// The terms that an event has by itself, without those of a statement's content or an outcome's result.
pub(super) fn of_names(event: &Event<'_>, mut add: impl FnMut(u64)) {
    add(term(EVENT, event.name().as_str().as_bytes()));
    let named = [
        (IDENTITY, event.identity().map(IdentityName::as_str)),
        (GRANT, event.grant().map(GrantId::as_str)),
        (SESSION, event.session().map(SessionId::as_str)),
        (TARGET, event.target().map(TargetName::as_str)),
    ];
    for (kind, name) in named {
        if let Some(name) = name {
            add(term(kind, name.as_bytes()));
        }
    }
    match event {
        Event::SessionStarted(started) => {
            started.groups.iter().for_each(|group| add(term(GROUP, group.as_bytes())));
            started.run.iter().for_each(|run| add(term(RUN, run.as_bytes())));
        }
        Event::Statement(_) | Event::Outcome(_) => return,
        _ => {}
    }
    event.sqlstate().into_iter().for_each(|code| sqlstate(code, &mut add));
    for text in texts(event) {
        grams(text, &mut add);
    }
}

/// The terms of a statement's text, of which this is the reading.
pub(super) fn of_text(text: &str, reading: &Reading, add: &mut impl FnMut(u64)) {
    reading
        .classes
        .iter()
        .for_each(|class| add(term(CLASS, class.name().as_bytes())));
    tables(reading, text, add);
    grams(text, add);
}

/// The other terms of a statement's content.
pub(super) fn beside(statement: &Statement<'_>, add: &mut impl FnMut(u64)) {
    add(kind(statement.kind));
    beside_sql(statement).for_each(|text| grams(text, add));
}

/// The terms of an outcome's result, and of what the server says it ran.
pub(super) fn of_result(outcome: &Outcome<'_>, add: &mut impl FnMut(u64)) {
    for tag in &outcome.tags {
        add(term(CLASS, Class::of_tag(&tag.0).name().as_bytes()));
    }
    outcome.sqlstate.iter().for_each(|code| sqlstate(&code.0, add));
}

fn kind(kind: crate::audit::event::Kind) -> u64 {
    term(KIND, format!("{kind:?}").as_bytes())
}

fn tables(reading: &Reading, text: &str, add: &mut impl FnMut(u64)) {
    for table in &reading.tables {
        add(term(TABLE, table.name.as_bytes()));
        add(match &table.schema {
            Some(schema) => qualified(schema, &table.name),
            None => term(BARE, table.name.as_bytes()),
        });
    }
    if !reading.is_complete() {
        // Any word may be one, and letters of either size are the same to a search.
        for word in words(text).map(str::to_ascii_lowercase) {
            add(term(TABLE, word.as_bytes()));
            add(term(BARE, word.as_bytes()));
        }
        if hides_names(text) {
            add(hidden());
        }
    }
}

/// The term that every search for a table asks for, beside the table's own.
pub(super) fn hidden() -> u64 {
    term(HIDDEN, &[])
}

fn qualified(schema: &str, name: &str) -> u64 {
    term(QUALIFIED, [schema.as_bytes(), &[0], name.as_bytes()].concat().as_slice())
}

/// A code and all its beginnings.
fn sqlstate(code: &str, add: &mut impl FnMut(u64)) {
    let code = code.to_ascii_uppercase();
    (1..=code.len())
        .filter_map(|end| code.get(..end))
        .for_each(|start| add(term(SQLSTATE, start.as_bytes())));
}

/// The sequences of three characters in a text, in small letters as the selector compares them.
fn grams(text: &str, add: &mut impl FnMut(u64)) {
    let small = text.to_lowercase();
    let ends = small.char_indices().map(|(at, _)| at).chain([small.len()]).skip(GRAM);
    for ((start, _), end) in small.char_indices().zip(ends) {
        small
            .get(start..end)
            .into_iter()
            .for_each(|gram| add(term(TEXT, gram.as_bytes())));
    }
}

/// What a filter asks of a block. Each list is a condition, met by any of its terms.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::audit) struct Demand {
    /// Of every record that is wanted.
    pub(super) names: Vec<Vec<u64>>,
    /// Of a statement and its outcome together, or of another event.
    pub(super) joined: Vec<Vec<u64>>,
    pub(super) since_us: Option<i64>,
    pub(super) until_us: Option<i64>,
    pub(super) min_duration_us: Option<u64>,
    pub(super) min_rows: Option<u64>,
    /// Whether a statement from before `since` may be wanted for its outcome.
    pub(super) by_result: bool,
}

impl Demand {
    /// Nothing is asked for that an index could rule out.
    pub(in crate::audit) fn is_empty(&self) -> bool {
        *self
            == Self {
                by_result: self.by_result,
                ..Self::default()
            }
    }

    /// What the filter asks for, in the sessions that are known to be wanted where a group or a run is asked for.
    ///
    /// Whatever is in a segment for which sessions and grants may still be found that are wanted is not to be asked for by it.
    pub(in crate::audit) fn of(
        filter: &Filter,
        sessions: Option<&HashSet<SessionId>>,
        grants: Option<&HashSet<GrantId>>,
    ) -> Self {
        let mut names = Vec::new();
        let simple = [
            (IDENTITY, filter.identity.as_ref().map(IdentityName::as_str)),
            (GRANT, filter.grant.as_ref().map(GrantId::as_str)),
            (SESSION, filter.session.as_ref().map(SessionId::as_str)),
            (TARGET, filter.target.as_ref().map(TargetName::as_str)),
        ];
        for (kind, name) in simple {
            names.extend(name.map(|name| vec![term(kind, name.as_bytes())]));
        }
        let starts: Vec<_> = [
            filter.group.as_ref().map(|group| term(GROUP, group.as_str().as_bytes())),
            filter.run.as_ref().map(|run| term(RUN, run.as_bytes())),
        ]
        .into_iter()
        .flatten()
        .collect();
        let by_result = filter.asks_for_result();
        let event = filter.event.filter(|_| !by_result && !filter.asks_for_content());
        names.extend(event.map(|event| vec![term(EVENT, event.as_str().as_bytes())]));
        match sessions.filter(|sessions| sessions.len() <= SESSIONS) {
            _ if filter.event == Some(EventName::SessionStarted) => names.extend(starts.into_iter().map(|start| vec![start])),
            Some(sessions) => {
                let known = sessions.iter().map(|session| term(SESSION, session.as_str().as_bytes()));
                // One that began since they were looked for is known by its first record.
                names.push(known.chain(starts).collect());
            }
            None => {}
        }
        if let Some(grants) = grants.filter(|grants| grants.len() <= SESSIONS) {
            let known = grants.iter().map(|grant| term(GRANT, grant.as_str().as_bytes()));
            // Those have by themselves what is asked for.
            let own = [
                EventName::GrantChanged,
                EventName::GrantJoined,
                EventName::RequestChanged,
                EventName::SessionStarted,
            ];
            let own = own.map(|name| term(EVENT, name.as_str().as_bytes()));
            names.push(known.chain(own).collect());
        }
        // Of a time between two microseconds the record has the earlier one.
        let micros = |time: jiff::Timestamp| time.as_microsecond();
        Self {
            names,
            joined: joined(filter),
            since_us: filter.since.map(micros),
            until_us: filter.until.map(|until| micros(until).saturating_add(1)),
            min_duration_us: filter.min_duration_us,
            min_rows: filter.min_rows,
            by_result,
        }
    }
}

fn joined(filter: &Filter) -> Vec<Vec<u64>> {
    let mut joined = Vec::new();
    if let Some(text) = &filter.text {
        grams(text, &mut |gram| joined.push(vec![gram]));
    }
    joined.extend(filter.kind.map(|wanted| vec![kind(wanted)]));
    joined.extend(filter.class.map(|class| vec![term(CLASS, class.name().as_bytes())]));
    joined.extend(filter.table.as_ref().map(any_of_table));
    let code = filter.sqlstate.as_ref().filter(|code| !code.is_empty());
    joined.extend(code.map(|code| vec![term(SQLSTATE, code.to_ascii_uppercase().as_bytes())]));
    joined
}

/// As [`Reading::may_name`] has it. A word of a text that could not be read is compared without regard to the size of letters.
fn any_of_table(table: &Table) -> Vec<u64> {
    let small = table.name.to_ascii_lowercase();
    match &table.schema {
        None => vec![term(TABLE, table.name.as_bytes()), term(TABLE, small.as_bytes()), hidden()],
        Some(schema) => vec![
            qualified(schema, &table.name),
            term(BARE, table.name.as_bytes()),
            term(BARE, small.as_bytes()),
            hidden(),
        ],
    }
}
