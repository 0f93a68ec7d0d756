//! Arguments of `log`.
//!
//! They become a filter, which the reader applies.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand, ValueEnum};
use jiff::ZonedDateTime;
use serde::de::DeserializeOwned;

use crate::audit::event::Kind;
use crate::audit::reading::{Class, Table};
use crate::audit::{EventName, Extent, Filter, MAX_HELD_BACK, SortKey};
use crate::cli::args::{OnTarget, Place};
use crate::cli::complete;
use crate::duration;
use crate::ids::{GrantId, SessionId};
use crate::names::{GroupName, IdentityName, ProfileName};
use crate::times::When;

/// Which records of the audit log.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "\
Examples:
  tidegate log --last 20
  tidegate log --follow --last 5
  tidegate log --target orders/read-write --since \"last tuesday\" --sort duration
  tidegate log --break-glass --since 7d
  tidegate log --identity ana@example.com --since 2h --text customers
  tidegate log --table customers --class update --min-rows 100 --output csv
  tidegate log --event session_ended --limit 100
  tidegate log --sqlstate 42501 --output json | jq .sql.text
  tidegate log session se_4k2m9x0a7b
  tidegate log who-touched public.customers --since 7d

Conditions are joined by \"and\". What a statement is about is read from its text; where that cannot
be done, it is found by --table if it has the word. Others that could not be read are counted, and
shown by --unread.

Times that have no zone are meant in the time zone of this machine, as those shown (--utc: UTC):
2h ago, 7d, today, yesterday 17:30, 14:00, last tuesday, tuesday 14:00, 2026-08-01,
2026-08-01T12:00Z. JSON and CSV have UTC.")]
pub struct LogArgs {
    /// What else to do with it.
    #[command(subcommand)]
    pub command: Option<LogCommand>,
    /// Which records.
    #[command(flatten)]
    pub which: Which,
    /// Which part of what is found.
    #[command(flatten)]
    pub part: Part,
    /// Where the log is.
    #[command(flatten)]
    pub origin: Origin,
    /// How to print.
    #[command(flatten)]
    pub printing: Printing,
}

/// Which part of what is found, and in which order.
#[derive(Debug, Clone, Args)]
pub struct Part {
    /// Only the newest, so many, in the order of time
    #[arg(long, short = 'n', value_name = "NUMBER", conflicts_with_all = ["limit", "sort"], value_parser = held_back())]
    pub last: Option<u32>,
    /// At most so many, the earliest first (the newest: --last); says how to have the next ones. With --sort so many statements
    /// [default with --sort: 20]
    #[arg(long, value_name = "NUMBER", conflicts_with = "follow", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// Statements with their outcomes, the largest first; those without an outcome are left out. Ends of sessions with
    /// --event session_ended
    #[arg(long, value_name = "MEASURE", conflicts_with = "follow", value_enum)]
    pub sort: Option<Measure>,
    /// After the record of this number (`seq`)
    #[arg(long, value_name = "SEQ")]
    pub after: Option<u64>,
    /// Goes on with what comes, until Ctrl-C. It begins now; with --last, --since or --after with those from before
    #[arg(long, short)]
    pub follow: bool,
}

/// By what statements are sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Measure {
    /// How long they took
    Duration,
    /// How many rows they returned or changed
    Rows,
}

impl Part {
    /// Returns these options in the reader's form.
    #[must_use]
    pub fn extent(&self) -> Extent {
        Extent {
            follow: self.follow,
            last: self.last,
            sort: self.sort.map(|measure| match measure {
                Measure::Duration => SortKey::Duration,
                Measure::Rows => SortKey::Rows,
            }),
            // Without sorting, the limit is applied where records are shown, so that the command can report that there are
            // more.
            limit: self
                .limit
                .filter(|_| self.sort.is_some())
                .map(|limit| u32::try_from(limit).unwrap_or(u32::MAX)),
        }
    }
}

fn held_back() -> impl TypedValueParser<Value = u32> {
    clap::value_parser!(u32).range(1..=i64::from(MAX_HELD_BACK))
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
        which: Box<Scope>,
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
    #[arg(long, value_name = "GRANT", add = complete::grants())]
    pub grant: Option<GrantId>,
    /// In sessions of this run: of the client's `tidegate.run`, or of a pipeline's token
    #[arg(long, value_name = "ID")]
    pub run: Option<String>,
    /// On this target, and with this profile where one is named: `orders` or `orders/read-only`
    #[arg(long, value_name = "TARGET[/PROFILE]", add = complete::destinations())]
    pub target: Option<OnTarget>,
    /// Under grants with this profile, and requests for it
    #[arg(long, value_name = "NAME", add = complete::profiles())]
    pub profile: Option<ProfileName>,
    /// Under grants that were opened without waiting for anybody, and their requests
    #[arg(long)]
    pub break_glass: bool,
    /// In which time.
    #[command(flatten)]
    pub period: Period,
}

/// A time from one moment to another.
#[derive(Debug, Clone, Default, Args)]
pub struct Period {
    /// From this time on: how long ago (2h, 7d) or a time (yesterday, 09:30, last tuesday, 2026-08-01, 2026-08-01T12:00Z)
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
    /// Returns these conditions as the reader's filter; `now` is the reference for relative times.
    pub fn filter(self, now: &ZonedDateTime) -> anyhow::Result<Filter> {
        let (target, profile) = self.target.map_or((None, None), |named| (Some(named.target), named.profile));
        if let (Some(named), Some(other)) = (&profile, &self.profile)
            && named != other
        {
            anyhow::bail!("--target names the profile {named} and --profile {other}: nothing happens under both");
        }
        Ok(Filter {
            identity: self.identity,
            group: self.group,
            grant: self.grant,
            run: self.run,
            target,
            profile: profile.or(self.profile),
            break_glass: self.break_glass,
            since: self.period.since.map(|when| when.time(now)),
            until: self.period.until.map(|when| when.time(now)),
            ..Filter::default()
        })
    }
}

impl Which {
    /// Returns these conditions as the reader's filter; `now` is the reference for relative times.
    pub fn filter(self, now: &ZonedDateTime) -> anyhow::Result<Filter> {
        let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        Ok(Filter {
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
            ..self.scope.filter(now)?
        })
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

/// Parses a name in the form that the log uses.
fn named<T: DeserializeOwned>(name: String) -> Result<T, serde_json::Error> {
    serde_json::from_value(serde_json::Value::String(name))
}
