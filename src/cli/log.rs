//! `log`: asks the gate for records, or reads the log's folder if the gate is not running.
//!
//! In either case the reader filters.

use std::path::{Path, PathBuf};

use futures_util::FutureExt as _;

use super::args::OutputFormat;
use super::client::ControlClient;
use super::render::{KeptLines, print, print_line, visible};
use super::zone::{self, zone};
use crate::audit::event::{Event, RowsChanged};
use crate::audit::render::AnalysedEncoder;
use crate::audit::rollbacks::Rollbacks;
use crate::audit::row_history::{RowVersion, in_order};
use crate::audit::table_access::{AccessFilters, TableAccessSums};
use crate::audit::timeline::{OUTCOME_UNKNOWN, SessionTimeline};
use crate::audit::{Filter, LogRecord, SearchExtent, follow, render as words};
use crate::control::model::{LogQuery, UnreadableLine};
use crate::model::ids::SessionId;
use args::{ExtentArgs, LogArgs, LogCommand, LogLocation, RecordFormat};
use unread::{KeptStatements, UnreadCount};

pub mod args;
mod sums;
mod table;
mod unread;

pub(super) async fn run(config: &Path, args: LogArgs) -> anyhow::Result<()> {
    let now = zone::now();
    match args.command {
        None => {
            let filter = Filter {
                after: args.part.after,
                before: args.part.before,
                ..args.which.filter(&now)?
            };
            let extent = args.part.extent();
            extent.check(&filter)?;
            list(
                RecordSource::new(config, &args.origin)?,
                filter,
                &args.part,
                args.printing.output,
            )
            .await
        }
        Some(LogCommand::Session {
            session,
            origin,
            printing,
        }) => tell(RecordSource::new(config, &origin)?, session, printing.output).await,
        Some(LogCommand::WhoTouched {
            table,
            which,
            class,
            origin,
            printing,
        }) => {
            let filter = Filter {
                table: Some(table),
                class,
                ..which.filter(&now)?
            };
            touched(RecordSource::new(config, &origin)?, filter, printing.output).await
        }
        Some(LogCommand::Changes(args)) => {
            let (source, output) = (RecordSource::new(config, &args.origin)?, args.printing.output);
            changes(source, args.filter(&now)?, output).await
        }
    }
}

/// Maximum number of bytes of the log that the timeline of one session may take.
const MAX_STORY_BYTES: usize = 256 << 20;

/// Error of a session without records.
#[derive(Debug, thiserror::Error)]
#[error("no records of session {0}; list sessions with `tidegate log --event session_started`")]
pub(super) struct NoSuchSessionError(SessionId);

/// Source of the records.
pub(super) enum RecordSource {
    Gate(ControlClient),
    Folder(PathBuf),
}

impl RecordSource {
    pub(super) fn new(config: &Path, origin: &LogLocation) -> anyhow::Result<Self> {
        Ok(match &origin.dir {
            Some(dir) => Self::Folder(dir.clone()),
            None => Self::Gate(origin.place.operator(config)?),
        })
    }

    /// Passes each record to `each`, until it returns false; reports lines that cannot be read.
    async fn search(
        &self,
        filter: Filter,
        extent: SearchExtent,
        mut each: impl FnMut(NextRecord<'_>) -> bool,
    ) -> anyhow::Result<()> {
        let mut unreadable = 0_u64;
        let mut each = |arrival: Result<NextRecord<'_>, String>| match arrival {
            Ok(arrival) => each(arrival),
            Err(error) => {
                unreadable += 1;
                let go_on = each(NextRecord::Pause);
                super::speech::complain(&error);
                go_on
            }
        };
        match self {
            Self::Gate(client) => {
                let each = |line: Option<&[u8]>| each(line.map_or(Ok(NextRecord::Pause), answered));
                client.lines("/v1/log", &LogQuery { filter, extent }, each).await?;
            }
            Self::Folder(dir) => {
                let mut found = follow(dir, &filter, extent)?;
                loop {
                    let next = match found.next().now_or_never() {
                        Some(next) => next,
                        None if each(Ok(NextRecord::Pause)) => found.next().await,
                        None => break,
                    };
                    let Some(item) = next else { break };
                    if !each(item.map(NextRecord::Record).map_err(|error| error.to_string())) {
                        break;
                    }
                }
            }
        }
        match unreadable {
            0 => Ok(()),
            lines => anyhow::bail!("cannot read {lines} lines of the log; the output is incomplete"),
        }
    }

    /// Returns the records that match; `remedy` is the advice if they are too many.
    pub(super) async fn records(&self, filter: Filter, remedy: &str) -> anyhow::Result<Vec<LogRecord>> {
        let (mut records, mut room) = (Vec::new(), Some(MAX_STORY_BYTES));
        self.search(filter, SearchExtent::default(), |arrival| {
            if let NextRecord::Record(record) = arrival {
                room = room.and_then(|room: usize| room.checked_sub(record.json().len()));
                records.push(record);
            }
            room.is_some()
        })
        .await?;
        anyhow::ensure!(
            room.is_some(),
            "too many records to show them together (over {} MB); {remedy}",
            MAX_STORY_BYTES >> 20
        );
        Ok(records)
    }
}

/// Next of a source of records.
#[expect(clippy::large_enum_variant, reason = "it is taken at once, and most are records")]
enum NextRecord<'l> {
    Record(LogRecord),
    /// Line that this version cannot read.
    Unparsed(&'l [u8]),
    /// Nothing more for now, so that what was found is to be shown.
    Pause,
}

/// Takes a line of the gate's answer: a record, or the error of a line of the log.
fn answered(line: &[u8]) -> Result<NextRecord<'_>, String> {
    match LogRecord::parse(line) {
        Ok(record) => Ok(NextRecord::Record(record)),
        Err(_) => match serde_json::from_slice(line) {
            Ok(UnreadableLine { error }) => Err(error),
            Err(_) => Ok(NextRecord::Unparsed(line)),
        },
    }
}

async fn list(source: RecordSource, filter: Filter, part: &ExtentArgs, form: RecordFormat) -> anyhow::Result<()> {
    let extent = part.extent();
    // The selected records include the outcomes.
    let whole = filter.until.is_none() && filter.before.is_none();
    let joined = filter.event.is_none() && whole && extent.sort.is_none();
    let mut shown = RecordPrinter {
        form,
        room: part.limit.filter(|_| extent.sort.is_none()),
        out: KeptLines::default(),
        encoder: AnalysedEncoder::default(),
        open: (joined && form == RecordFormat::Table).then(KeptStatements::default),
        unread: filter.table.is_some().then(KeptStatements::default),
        gone: false,
        cut: false,
        first: None,
        last: None,
        records: 0,
    };
    if form == RecordFormat::Csv {
        print_line(&table::csv_line(table::header())?);
    }
    let unread = filter.table.is_some().then(|| filter.of_unread());
    let read = source.search(filter, extent, |arrival| shown.take(arrival)).await;
    shown.show();
    if let Some(first) = shown.older(part) {
        super::speech::note(&format!("for older records add --before {first}"));
    }
    if let Some(open) = shown.open.as_ref().filter(|_| !shown.cut) {
        for (session, statement) in open.iter() {
            print_line(&format!("statement #{statement} of {session}: {OUTCOME_UNKNOWN}"));
        }
        if open.more > 0 {
            super::speech::complain(&format!(
                "too many statements in progress: {} are not checked for an outcome.",
                open.more
            ));
        }
    }
    if let Some(filter) = unread.filter(|_| !part.follow && !shown.cut && !shown.gone) {
        let (mut count, known) = (UnreadCount::default(), shown.unread.unwrap_or_default());
        source
            .search(filter, SearchExtent::default(), |arrival| {
                if let NextRecord::Record(record) = arrival {
                    count.add(&record, &known);
                }
                true
            })
            .await?;
        if count.statements > 0 {
            super::speech::complain(&format!(
                "{} other statements could not be parsed and may use the table too. `tidegate log --unread` shows them.",
                count.statements
            ));
        }
        let doubtful = count.doubtful(&known);
        if doubtful > 0 {
            super::speech::complain(&format!(
                "{doubtful} of these may also be shown above, or were not executed: there were too many to check."
            ));
        }
    }
    read
}

/// State of the output.
struct RecordPrinter {
    form: RecordFormat,
    /// Number of records that may still be shown, if there is a limit.
    room: Option<u64>,
    out: KeptLines,
    encoder: AnalysedEncoder,
    /// Statements without an outcome so far, if they are to be shown.
    open: Option<KeptStatements>,
    /// Statements that could not be analysed, if they are to be counted.
    unread: Option<KeptStatements>,
    /// True if standard output is closed.
    gone: bool,
    /// True if there are more records than the limit.
    cut: bool,
    /// Numbers of the first record shown and of the last.
    first: Option<u64>,
    last: Option<u64>,
    /// Number of records shown.
    records: u32,
}

impl RecordPrinter {
    /// Takes what arrives, and prints it; returns false if standard output is closed, or if the limit is exceeded.
    fn take(&mut self, arrival: NextRecord<'_>) -> bool {
        let printed = match arrival {
            NextRecord::Pause => return self.show(),
            _ if !self.has_room() => return false,
            NextRecord::Record(record) => self.record(&record),
            NextRecord::Unparsed(line) => self.out.line(&visible(&String::from_utf8_lossy(line))),
        };
        self.gone |= !printed;
        printed
    }

    /// Takes the room for one more record; returns false, after it has said so, if the limit is exceeded.
    fn has_room(&mut self) -> bool {
        let Some(room) = &mut self.room else { return true };
        if let Some(less) = room.checked_sub(1) {
            *room = less;
            return true;
        }
        self.cut = true;
        self.show();
        let next = self.last.map(|last| format!(" To continue, add --after {last}"));
        super::speech::complain(&format!("more records match.{}", next.unwrap_or_default()));
        false
    }

    fn record(&mut self, record: &LogRecord) -> bool {
        self.first.get_or_insert(record.seq);
        self.last = Some(record.seq);
        self.records = self.records.saturating_add(1);
        self.keep(&record.event);
        match self.form {
            RecordFormat::Json => self.out.safe(|lines| self.encoder.push(lines, record)),
            RecordFormat::Table => self.out.words(&words::line(record, &zone())),
            RecordFormat::Csv => {
                table::csv_line(table::cells(record, self.encoder.readings())).is_ok_and(|line| self.out.line(&line))
            }
        }
    }

    /// Returns the number before which there may be more, if the newest records were asked for and as many were found.
    fn older(&self, part: &ExtentArgs) -> Option<u64> {
        let full = part.last.is_some_and(|last| self.records >= last);
        self.first.filter(|first| full && !part.follow && *first > 1)
    }

    /// Remembers a statement for what is said at the end.
    fn keep(&mut self, event: &Event<'_>) {
        match event {
            // The preparation of a statement has an outcome only if it failed.
            Event::Statement(statement) if statement.kind.executes() => {
                let key = || (statement.who.session.clone(), statement.statement);
                if let Some(unread) = &mut self.unread
                    && !self.encoder.readings().of_statement(statement).is_read()
                {
                    unread.insert(key());
                }
                if let Some(open) = &mut self.open {
                    open.insert(key());
                }
            }
            Event::Outcome(outcome) => {
                if let Some(open) = &mut self.open {
                    open.remove(&(outcome.who.session.clone(), outcome.statement));
                }
            }
            _ => {}
        }
    }

    /// Shows what was printed so far; returns false if standard output is closed.
    fn show(&mut self) -> bool {
        let shown = self.out.show();
        self.gone |= !shown;
        shown
    }
}

/// Shows the timeline of a session: its own records, those of its grant, and those of the request that the grant came from.
async fn tell(source: RecordSource, session: SessionId, output: OutputFormat) -> anyhow::Result<()> {
    let of_session = Filter {
        session: Some(session.clone()),
        ..Filter::default()
    };
    let remedy = "list those of the session with --session";
    let records = source.records(of_session, remedy).await?;
    let Some(who) = records.iter().find_map(|record| record.event.who().cloned()) else {
        return Err(NoSuchSessionError(session).into());
    };
    let mut background = Vec::new();
    for filter in SessionTimeline::background_of_grant(&who.grant) {
        background.extend(source.records(filter, remedy).await?);
    }
    for filter in SessionTimeline::background_of_request(&background) {
        background.extend(source.records(filter, remedy).await?);
    }
    let story = SessionTimeline::of(records, background);
    match output {
        OutputFormat::Json => print(&story.json()?)?,
        OutputFormat::Table => print(&story.lines(&zone()).join("\n"))?,
    }
    Ok(())
}

/// Returns the changes of rows among records, in the order in which they happened.
pub(super) fn changes_in_order(records: &[LogRecord]) -> Vec<(&LogRecord, &RowsChanged)> {
    let changed = records.iter().filter_map(|record| match &record.event {
        Event::RowsChanged(event) => Some((record, event.as_ref())),
        _ => None,
    });
    in_order(changed.collect(), |changed| changed.1)
}

/// Shows changed rows, in the order in which they changed.
async fn changes(source: RecordSource, filter: Filter, output: OutputFormat) -> anyhow::Result<()> {
    let key = filter.key.clone();
    let remedy = "narrow the search: --table, --key, --session, --since, --until";
    let records = source.records(filter, remedy).await?;
    let mut out = KeptLines::default();
    let mut shown = 0_u64;
    for (record, event) in changes_in_order(&records) {
        for version in RowVersion::of(record, event, key.as_deref()) {
            shown += 1;
            match output {
                OutputFormat::Json => {
                    out.line(&crate::base::visible::json(&serde_json::to_string(&version)?));
                }
                OutputFormat::Table => {
                    for line in version.lines(&zone()) {
                        out.line(&line);
                    }
                }
            }
        }
    }
    out.show();
    if shown == 0 && output == OutputFormat::Table {
        print("No changed rows in the log. Only tables that a profile captures are there (`capture`).")?;
    }
    Ok(())
}

async fn touched(source: RecordSource, filter: Filter, form: RecordFormat) -> anyhow::Result<()> {
    let AccessFilters {
        until,
        steps,
        statements,
        unread,
    } = AccessFilters::new(filter);
    let mut undone = Rollbacks::default();
    let add = |arrival: NextRecord<'_>| {
        if let NextRecord::Record(record) = arrival {
            undone.add(&record);
        }
        true
    };
    source.search(steps, SearchExtent::default(), add).await?;
    let mut touched = TableAccessSums::new(until, undone);
    let read = source.search(statements, SearchExtent::default(), |arrival| {
        if let NextRecord::Record(record) = arrival {
            touched.add(&record);
        }
        true
    });
    let read = read.await;
    let not_read = source.search(unread, SearchExtent::default(), |arrival| {
        if let NextRecord::Record(record) = arrival {
            touched.add_unread(&record);
        }
        true
    });
    let read = not_read.await.and(read);
    let left_out = touched.left_out();
    let touchers = touched.sums();
    match form {
        RecordFormat::Json => print(&super::render::json(&touchers)?)?,
        RecordFormat::Csv => {
            print(&table::csv_line(
                sums::SUMS.map(|(column, _)| column.name.to_ascii_lowercase()),
            )?)?;
            for toucher in &touchers {
                print(&table::csv_line(sums::row(toucher, |at| format!("{at:.0}")))?)?;
            }
        }
        RecordFormat::Table => print(&sums::text(&touchers))?,
    }
    if !left_out.is_nothing() {
        super::speech::complain(&sums::left_out(&left_out));
    }
    read
}
