//! What `log` takes.
//!
//! It reads nothing; the conditions become a filter, which the reader knows how to use.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand, ValueEnum};
use jiff::tz::Offset;
use jiff::{Span, Timestamp, civil};
use serde::de::DeserializeOwned;

use crate::audit::event::Kind;
use crate::audit::reading::{Class, Table};
use crate::audit::{EventName, Filter};
use crate::cli::args::Place;
use crate::duration;
use crate::ids::{GrantId, SessionId};
use crate::names::{GroupName, IdentityName, TargetName};

/// Which records of the audit log.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "\
Examples:
  tidegate log --follow
  tidegate log --identity ana@example.com --since 2h --text customers
  tidegate log --table customers --class update --min-rows 100 --output csv
  tidegate log --event session_ended --limit 100
  tidegate log --sqlstate 42501 --output json | jq .sql.text
  tidegate log session se_4k2m9x0a7b
  tidegate log who-touched public.customers --since 7d

Conditions are joined by \"and\". What a statement is about is read from its text; where that cannot
be done, it is found by --table if it has the word. Others that could not be read are counted, and
shown by --unread.")]
pub struct LogArgs {
    /// What else to do with it.
    #[command(subcommand)]
    pub command: Option<LogCommand>,
    /// Which records.
    #[command(flatten)]
    pub which: Which,
    /// At most so many, the earliest first; says how to have the next ones
    #[arg(long, value_name = "NUMBER", conflicts_with = "follow", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// After the record of this number (`seq`)
    #[arg(long, value_name = "SEQ")]
    pub after: Option<u64>,
    /// Goes on with what comes, until Ctrl-C
    #[arg(long, short)]
    pub follow: bool,
    /// Where the log is.
    #[command(flatten)]
    pub origin: Origin,
    /// How to print.
    #[command(flatten)]
    pub printing: Printing,
}

/// What else to do with the log.
#[derive(Debug, Subcommand)]
pub enum LogCommand {
    /// Tells a session as a story: request, decision, start, statements, ending, totals
    Session {
        /// The session
        session: SessionId,
        /// Where the log is.
        #[command(flatten)]
        origin: Origin,
        /// How to print.
        #[command(flatten)]
        printing: crate::cli::args::Printing,
    },
    /// Says who touched a table: in how many sessions and statements, when first and last, doing what
    #[command(after_help = "\
Examples:
  tidegate log who-touched customers --since 7d
  tidegate log who-touched public.customers --class delete --output csv

A table is found by its name in the texts of statements. What touches it without naming it (a view, a
function, a trigger) is not. Statements that could not be read may have touched it, too: they are
counted apart.")]
    WhoTouched {
        /// The table: `name` in any schema, or `schema.name`
        table: Table,
        /// Which statements.
        #[command(flatten)]
        which: Scope,
        /// Only commands of this class
        #[arg(long, value_name = "CLASS", value_parser = classes())]
        class: Option<Class>,
        /// Where the log is.
        #[command(flatten)]
        origin: Origin,
        /// How to print.
        #[command(flatten)]
        printing: Printing,
    },
}

/// Where the log is.
#[derive(Debug, Clone, Args)]
pub struct Origin {
    /// Reads this folder instead of asking the gate: for a gate that is not running
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["control", "token_file"])]
    pub dir: Option<PathBuf>,
    /// Which gate.
    #[command(flatten)]
    pub place: Place,
}

/// How to print records.
#[derive(Debug, Clone, Args)]
pub struct Printing {
    /// How to print
    #[arg(long, short, value_enum, default_value_t = Form::Table, help_heading = "Common options")]
    pub output: Form,
}

/// How to print records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// For people
    Table,
    /// For scripts: a line each, as in the log; statements with what their text is about
    Json,
    /// For spreadsheets; what looks like a formula is quoted
    Csv,
}

/// Whose, where and when.
#[derive(Debug, Clone, Default, Args)]
pub struct Scope {
    /// Of this identity
    #[arg(long, value_name = "NAME")]
    pub identity: Option<IdentityName>,
    /// In sessions of an identity that was in this group when its access was granted
    #[arg(long, value_name = "NAME")]
    pub group: Option<GroupName>,
    /// Under this grant
    #[arg(long, value_name = "GRANT")]
    pub grant: Option<GrantId>,
    /// In sessions of this run: of the client's `tidegate.run`, or of a pipeline's token
    #[arg(long, value_name = "ID")]
    pub run: Option<String>,
    /// On this target
    #[arg(long, value_name = "NAME")]
    pub target: Option<TargetName>,
    /// From this time on: how long ago (2h, 7d) or a time (2026-08-01, yesterday, 09:30, 2026-08-01T12:00Z); UTC if it does not say
    #[arg(long, value_name = "WHEN", value_parser = When::parse)]
    pub since: Option<When>,
    /// Before this time; as --since
    #[arg(long, value_name = "WHEN", value_parser = When::parse)]
    pub until: Option<When>,
}

/// The conditions.
#[derive(Debug, Clone, Default, Args)]
pub struct Which {
    /// Whose, where and when.
    #[command(flatten)]
    pub scope: Scope,
    /// Of this session
    #[arg(long, value_name = "SESSION")]
    pub session: Option<SessionId>,
    /// With this text in the SQL or a parameter; capital and small letters are equal
    #[arg(long, value_name = "TEXT")]
    pub text: Option<String>,
    /// Statements that name this table: `name` in any schema, or `schema.name`
    #[arg(long, value_name = "TABLE")]
    pub table: Option<Table>,
    /// Statements with a command of this class
    #[arg(long, value_name = "CLASS", value_parser = classes())]
    pub class: Option<Class>,
    /// Statements that could not be read: recorded in part, not SQL as the gate knows it, or the server ran others than they show
    #[arg(long)]
    pub unread: bool,
    /// Statements that came like this
    #[arg(long, value_name = "KIND", value_parser = kinds())]
    pub kind: Option<Kind>,
    /// Statements and endings with this SQLSTATE, or one that begins so (42 is all errors of syntax and rights)
    #[arg(long, value_name = "CODE")]
    pub sqlstate: Option<String>,
    /// Statements that took at least so long, like 2s
    #[arg(long, value_parser = duration::parse, value_name = "TIME")]
    pub min_duration: Option<Duration>,
    /// Statements that took at most so long
    #[arg(long, value_parser = duration::parse, value_name = "TIME")]
    pub max_duration: Option<Duration>,
    /// Statements that returned or changed at least so many rows
    #[arg(long, value_name = "NUMBER")]
    pub min_rows: Option<u64>,
    /// Statements that returned or changed at most so many rows
    #[arg(long, value_name = "NUMBER")]
    pub max_rows: Option<u64>,
    /// Only this kind of record
    #[arg(long, value_name = "EVENT", value_parser = PossibleValuesParser::new(events()).try_map(|kind| kind.parse::<EventName>()))]
    pub event: Option<EventName>,
}

impl Scope {
    /// The same, for the reader, when it is `now`.
    #[must_use]
    pub fn filter(self, now: Timestamp) -> Filter {
        Filter {
            identity: self.identity,
            group: self.group,
            grant: self.grant,
            run: self.run,
            target: self.target,
            since: self.since.map(|when| when.time(now)),
            until: self.until.map(|when| when.time(now)),
            ..Filter::default()
        }
    }
}

impl Which {
    /// The same, for the reader, when it is `now`.
    #[must_use]
    pub fn filter(self, now: Timestamp) -> Filter {
        let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        Filter {
            session: self.session,
            text: self.text,
            table: self.table,
            class: self.class,
            unread: self.unread,
            kind: self.kind,
            sqlstate: self.sqlstate,
            min_duration_us: self.min_duration.map(micros),
            max_duration_us: self.max_duration.map(micros),
            min_rows: self.min_rows,
            max_rows: self.max_rows,
            event: self.event,
            ..self.scope.filter(now)
        }
    }
}

pub(in crate::cli) fn events() -> impl Iterator<Item = &'static str> {
    EventName::ALL.iter().map(|kind| kind.as_str())
}

fn classes() -> impl TypedValueParser<Value = Class> {
    PossibleValuesParser::new(Class::ALL.iter().map(|class| class.name())).try_map(named)
}

fn kinds() -> impl TypedValueParser<Value = Kind> {
    PossibleValuesParser::new(Kind::ALL.map(Kind::name)).try_map(named)
}

/// A name as it stands in the log.
fn named<T: DeserializeOwned>(name: String) -> Result<T, serde_json::Error> {
    serde_json::from_value(serde_json::Value::String(name))
}

/// A time as people write it. Without a zone it is UTC, as in everything the log shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// That time.
    At(Timestamp),
    /// So long ago.
    Ago(Duration),
    /// So many days before today, at that time of day.
    Day(i8, civil::Time),
}

impl When {
    pub(in crate::cli) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if let Some(time) = text.parse().ok().or_else(|| in_utc(text)) {
            return Ok(Self::At(time));
        }
        let day = |word| match word {
            "today" => Some(0),
            "yesterday" => Some(1),
            _ => None,
        };
        if let Some(back) = day(text) {
            return Ok(Self::Day(back, civil::Time::midnight()));
        }
        let named = text.split_once(' ').and_then(|(word, time)| Some((day(word)?, time)));
        let (back, time) = named.unwrap_or((0, text));
        // A number alone would be an hour, and of a date and a zone nothing would be left.
        let plain = time.contains(':') && time.bytes().all(|byte| byte.is_ascii_digit() || b":.".contains(&byte));
        if let Some(time) = time.parse().ok().filter(|_| plain) {
            return Ok(Self::Day(back, time));
        }
        duration::parse(text.strip_suffix(" ago").unwrap_or(text))
            .map(Self::Ago)
            .map_err(|_| format!("`{text}` is no time: write how long ago (2h, 7d), or a time (2026-08-01, 2026-08-01T12:00Z, yesterday, 09:30)"))
    }

    /// The time meant, when it is `now`.
    #[must_use]
    pub fn time(self, now: Timestamp) -> Timestamp {
        let meant = match self {
            Self::At(time) => Some(time),
            Self::Ago(ago) => jiff::SignedDuration::try_from(ago)
                .ok()
                .and_then(|ago| now.checked_sub(ago).ok()),
            Self::Day(back, time) => {
                let today = Offset::UTC.to_datetime(now).date();
                let day = today.checked_sub(Span::new().days(back)).ok();
                day.and_then(|day| Offset::UTC.to_timestamp(day.to_datetime(time)).ok())
            }
        };
        meant.unwrap_or(Timestamp::MIN)
    }
}

/// A date, or a date and a time of day, without a zone.
fn in_utc(text: &str) -> Option<Timestamp> {
    // The name of a zone would be passed over.
    let time: civil::DateTime = text.parse().ok().filter(|_| !text.contains('['))?;
    Offset::UTC.to_timestamp(time).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_as_people_write_them() {
        let now: Timestamp = "2026-11-23T09:05:07Z".parse().unwrap();
        for (text, meant) in [
            ("2h", "2026-11-23T07:05:07Z"),
            ("7d", "2026-11-16T09:05:07Z"),
            ("30 minutes ago", "2026-11-23T08:35:07Z"),
            ("today", "2026-11-23T00:00:00Z"),
            (" yesterday ", "2026-11-22T00:00:00Z"),
            ("yesterday 17:30", "2026-11-22T17:30:00Z"),
            ("09:04", "2026-11-23T09:04:00Z"),
            ("2026-08-01", "2026-08-01T00:00:00Z"),
            ("2026-08-01 12:00", "2026-08-01T12:00:00Z"),
            // As a line of the log has it.
            ("2026-08-01 12:00:07.042", "2026-08-01T12:00:07.042Z"),
            ("2026-08-01T12:00:07Z", "2026-08-01T12:00:07Z"),
            ("2026-08-01T12:00+02:00", "2026-08-01T10:00:00Z"),
        ] {
            let when = When::parse(text).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(when.time(now), meant.parse().unwrap(), "{text}");
        }
    }

    #[test]
    fn what_is_no_time() {
        for text in [
            "",
            "10",
            "tomorrow",
            "25:00",
            "2026-13-01",
            "yesterday at noon",
            "2026-08-01T12:00[Europe/Berlin]",
            "-2h",
        ] {
            assert!(When::parse(text).is_err(), "{text:?} is {:?}", When::parse(text));
        }
        assert_eq!(When::Ago(Duration::MAX).time(Timestamp::MIN), Timestamp::MIN);
    }
}
