//! Arguments of `log`.
//!
//! They become a filter, which the reader applies.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand, ValueEnum};
use jiff::ZonedDateTime;
use serde::de::DeserializeOwned;

use crate::audit::event::StatementKind;
use crate::audit::sql_analysis::{CommandClass, TableName};
use crate::audit::{EventName, Filter, MAX_HELD_BACK, SearchExtent, SortKey};
use crate::base::duration;
use crate::base::times::When;
use crate::cli::args::{GatePlace, OnTarget, OutputArgs, one_profile};
use crate::cli::complete;
use crate::model::ids::{GrantId, SessionId};
use crate::model::names::{GroupName, IdentityName, ProfileName};

/// Records of the audit log to show.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "\
Examples:
  tidegate log --last 20
  tidegate log --last 20 --before 4711
  tidegate log --follow --last 5
  tidegate log --target orders/read-write --since \"last tuesday\" --sort duration
  tidegate log --break-glass --since 7d
  tidegate log --identity ana@example.com --since 2h --text customers
  tidegate log --table customers --class update --min-rows 100 --output csv
  tidegate log --event session_ended --limit 100
  tidegate log --sqlstate 42501 --output json | jq .sql.text
  tidegate log session se_4k2m9x0a7b
  tidegate log who-touched public.customers --since 7d
  tidegate log changes --table shop.orders --key 42

A record must meet all conditions. --table and --class use the parsed text of a statement. A
statement that could not be parsed matches --table if its text has the word; others are counted, and
shown by --unread.

Times without a zone are in the time zone of this machine, like those shown (--utc: UTC):
2h ago, 7d, today, yesterday 17:30, 14:00, last tuesday, tuesday 14:00, 2026-08-01,
2026-08-01T12:00Z. JSON and CSV use UTC.")]
pub struct LogArgs {
    /// Other command about the log.
    #[command(subcommand)]
    pub command: Option<LogCommand>,
    /// Conditions on records.
    #[command(flatten)]
    pub which: ConditionArgs,
    /// Part of the result.
    #[command(flatten)]
    pub part: ExtentArgs,
    /// Location of the log.
    #[command(flatten)]
    pub origin: LogLocation,
    /// Output format.
    #[command(flatten)]
    pub printing: OutputArgs<RecordFormat>,
}

/// Part and order of the result.
#[derive(Debug, Clone, Args)]
pub struct ExtentArgs {
    /// Number of newest records, oldest first
    #[arg(long, short = 'n', value_name = "NUMBER", conflicts_with_all = ["limit", "sort"], value_parser = held_back())]
    pub last: Option<u32>,
    /// Maximum number of records, oldest first (newest: --last); prints how to get the next ones. With --sort, maximum number of
    /// statements [default with --sort: 20]
    #[arg(long, value_name = "NUMBER", conflicts_with = "follow", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// Sorts statements by a measure of their outcomes, largest first; statements without an outcome are left out. Sorts ends of
    /// sessions with --event session_ended
    #[arg(long, value_name = "MEASURE", conflicts_with = "follow", value_enum)]
    pub sort: Option<SortMeasure>,
    /// Records after this number (`seq`)
    #[arg(long, value_name = "SEQ")]
    pub after: Option<u64>,
    /// Records before this number (`seq`). With --last it pages back: each page says the number of the one before it
    #[arg(long, value_name = "SEQ", conflicts_with = "follow")]
    pub before: Option<u64>,
    /// Prints new records until Ctrl-C; starts with earlier ones if --last, --since or --after is given
    #[arg(long, short)]
    pub follow: bool,
}

/// Measure to sort statements by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SortMeasure {
    /// Duration
    Duration,
    /// Number of rows returned or changed
    Rows,
}

impl ExtentArgs {
    /// Returns these options in the reader's form.
    #[must_use]
    pub fn extent(&self) -> SearchExtent {
        SearchExtent {
            follow: self.follow,
            last: self.last,
            sort: self.sort.map(|measure| match measure {
                SortMeasure::Duration => SortKey::Duration,
                SortMeasure::Rows => SortKey::Rows,
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

/// Other commands about the log.
#[derive(Debug, Subcommand)]
pub enum LogCommand {
    /// Shows the timeline of a session: request, decision, start, statements, ending, totals
    Session {
        /// The session
        session: SessionId,
        /// Location of the log.
        #[command(flatten)]
        origin: LogLocation,
        /// Output format.
        #[command(flatten)]
        printing: OutputArgs,
    },
    /// Shows changed rows of tables that a profile captures: their values before and after, who changed them and when
    #[command(after_help = "\
Examples:
  tidegate log changes --table shop.orders --key 42
  tidegate log changes --session se_4k2m9x0a7b
  tidegate log changes --run 4711 --output json
  tidegate log changes --target shop --since 2h

Only committed changes are there, within about a second. Values are masked like the profile's; where
the target records hashes of values, --key takes the hash. A change without an identity was made past
the gate.")]
    Changes(Box<ChangesArgs>),
    /// Lists the identities that accessed a table, with sessions, statements, first and last time, and commands
    #[command(after_help = "\
Examples:
  tidegate log who-touched customers --since 7d
  tidegate log who-touched public.customers --class delete --output csv

Only statements that name the table in their text are found, not access through a view, a function or
a trigger. Statements that could not be parsed may have accessed it too; they are counted
separately.")]
    WhoTouched {
        /// Table: `name` in any schema, or `schema.name`
        table: TableName,
        /// Scope of the statements.
        #[command(flatten)]
        which: Box<ScopeArgs>,
        /// Commands of this class
        #[arg(long, value_name = "CLASS", value_parser = classes())]
        class: Option<CommandClass>,
        /// Location of the log.
        #[command(flatten)]
        origin: LogLocation,
        /// Output format.
        #[command(flatten)]
        printing: OutputArgs<RecordFormat>,
    },
}

/// Changed rows to show.
#[derive(Debug, Args)]
pub struct ChangesArgs {
    /// Changes of this table: `name` in any schema, or `schema.name`
    #[arg(long, value_name = "TABLE")]
    pub table: Option<TableName>,
    /// Changes of the row with this value in its primary key, before or after the change
    #[arg(long, value_name = "VALUE", requires = "table")]
    pub key: Option<String>,
    /// Changes of this session
    #[arg(long, value_name = "SESSION")]
    pub session: Option<SessionId>,
    /// Scope of the changes.
    #[command(flatten)]
    pub which: ScopeArgs,
    /// Location of the log.
    #[command(flatten)]
    pub origin: LogLocation,
    /// Output format.
    #[command(flatten)]
    pub printing: OutputArgs,
}

impl ChangesArgs {
    /// Returns these conditions as the reader's filter; `now` is the reference for relative times.
    pub fn filter(self, now: &ZonedDateTime) -> anyhow::Result<Filter> {
        Ok(Filter {
            changed: self.table,
            key: self.key,
            session: self.session,
            event: Some(EventName::RowsChanged),
            ..self.which.filter(now)?
        })
    }
}

/// Location of the log.
#[derive(Debug, Clone, Args)]
pub struct LogLocation {
    /// Reads this folder instead of asking the gate; works while the gate is not running
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["control", "token_file"])]
    pub dir: Option<PathBuf>,
    /// Address of the gate.
    #[command(flatten)]
    pub place: GatePlace,
}

/// Output format of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RecordFormat {
    /// Text for people
    Table,
    /// JSON Lines for scripts, as in the log; statements have their commands and tables added
    Json,
    /// CSV for spreadsheets; values that look like formulas are quoted
    Csv,
}

/// Identity, grant, target and period.
#[derive(Debug, Clone, Default, Args)]
pub struct ScopeArgs {
    /// Records of this identity
    #[arg(long, value_name = "NAME")]
    pub identity: Option<IdentityName>,
    /// Records of sessions whose identity was in this group when access was granted
    #[arg(long, value_name = "NAME")]
    pub group: Option<GroupName>,
    /// Records of this grant
    #[arg(long, value_name = "GRANT", add = complete::grants())]
    pub grant: Option<GrantId>,
    /// Records of sessions of this run, as set by the client's `tidegate.run` or a pipeline's token
    #[arg(long, value_name = "ID")]
    pub run: Option<String>,
    /// Records of this target, or of one of its profiles: `orders` or `orders/read-only`
    #[arg(long, value_name = "TARGET[/PROFILE]", add = complete::destinations())]
    pub target: Option<OnTarget>,
    /// Records of grants with this profile, and of requests for it
    #[arg(long, value_name = "NAME", add = complete::profiles())]
    pub profile: Option<ProfileName>,
    /// Records of break-glass grants and their requests
    #[arg(long)]
    pub break_glass: bool,
    /// Period.
    #[command(flatten)]
    pub period: PeriodArgs,
}

/// Period of time.
#[derive(Debug, Clone, Default, Args)]
pub struct PeriodArgs {
    /// Start of the period: an age (2h, 7d) or a time (yesterday, 09:30, last tuesday, 2026-08-01, 2026-08-01T12:00Z)
    #[arg(long, value_name = "WHEN", value_parser = When::parse)]
    pub since: Option<When>,
    /// End of the period, exclusive; like --since
    #[arg(long, value_name = "WHEN", value_parser = When::parse)]
    pub until: Option<When>,
}

/// Conditions on records.
#[derive(Debug, Clone, Default, Args)]
pub struct ConditionArgs {
    /// Identity, grant, target and period.
    #[command(flatten)]
    pub scope: ScopeArgs,
    /// Records of this session
    #[arg(long, value_name = "SESSION")]
    pub session: Option<SessionId>,
    /// Statements with this text in the SQL or a parameter; case does not matter
    #[arg(long, value_name = "TEXT")]
    pub text: Option<String>,
    /// Statements that name this table: `name` in any schema, or `schema.name`
    #[arg(long, value_name = "TABLE")]
    pub table: Option<TableName>,
    /// Statements with a command of this class
    #[arg(long, value_name = "CLASS", value_parser = classes())]
    pub class: Option<CommandClass>,
    /// Statements that could not be parsed: recorded in part, unknown SQL, or the server ran others than the text shows
    #[arg(long)]
    pub unread: bool,
    /// Statements sent by this kind of message
    #[arg(long, value_name = "KIND", value_parser = kinds())]
    pub kind: Option<StatementKind>,
    /// Statements and endings whose SQLSTATE begins like this (42: all errors of syntax and access rights)
    #[arg(long, value_name = "CODE")]
    pub sqlstate: Option<String>,
    /// Statements that took at least this long, like 2s
    #[arg(long, value_parser = duration::parse, value_name = "TIME")]
    pub min_duration: Option<Duration>,
    /// Statements that took at most this long
    #[arg(long, value_parser = duration::parse, value_name = "TIME")]
    pub max_duration: Option<Duration>,
    /// Statements that returned or changed at least this number of rows
    #[arg(long, value_name = "NUMBER")]
    pub min_rows: Option<u64>,
    /// Statements that returned or changed at most this number of rows
    #[arg(long, value_name = "NUMBER")]
    pub max_rows: Option<u64>,
    /// Records of this event
    #[arg(long, value_name = "EVENT", value_parser = PossibleValuesParser::new(events()).try_map(|kind| kind.parse::<EventName>()))]
    pub event: Option<EventName>,
}

impl ScopeArgs {
    /// Returns these conditions as the reader's filter; `now` is the reference for relative times.
    pub fn filter(self, now: &ZonedDateTime) -> anyhow::Result<Filter> {
        let (target, named) = self.target.map_or((None, None), |named| (Some(named.target), named.profile));
        Ok(Filter {
            identity: self.identity,
            group: self.group,
            grant: self.grant,
            run: self.run,
            target,
            profile: one_profile("--target", named, self.profile)?,
            break_glass: self.break_glass,
            since: self.period.since.map(|when| when.time(now)),
            until: self.period.until.map(|when| when.time(now)),
            ..Filter::default()
        })
    }
}

impl ConditionArgs {
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

fn classes() -> impl TypedValueParser<Value = CommandClass> {
    PossibleValuesParser::new(CommandClass::ALL.iter().map(|class| class.as_str())).try_map(named)
}

fn kinds() -> impl TypedValueParser<Value = StatementKind> {
    PossibleValuesParser::new(StatementKind::ALL.iter().map(|kind| kind.as_str())).try_map(named)
}

/// Parses a name in the form that the log uses.
fn named<T: DeserializeOwned>(name: String) -> Result<T, serde_json::Error> {
    serde_json::from_value(serde_json::Value::String(name))
}
