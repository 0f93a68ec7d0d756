//! `log`: asks the gate for records, or reads the log's folder if the gate is not running.
//!
//! In either case the reader filters.

use std::path::{Path, PathBuf};

use super::args::OutputFormat;
use super::client::ControlClient;
use super::render::{print, print_line, print_words, visible};
use super::zone::{self, zone};
use crate::audit::event::Event;
use crate::audit::rollbacks::Rollbacks;
use crate::audit::sql_analysis::AnalysisCache;
use crate::audit::table_access::TableAccessSums;
use crate::audit::timeline::{OUTCOME_UNKNOWN, SessionTimeline};
use crate::audit::{EventName, Filter, LogRecord, SearchExtent, follow, render as words};
use crate::control::model::{LogQuery, UnreadableLine};
use crate::model::ids::SessionId;
use args::{ExtentArgs, LogArgs, LogCommand, LogLocation, RecordFormat};
use unread::{KeptStatements, UnreadCount, of_unread};

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
    }
}

/// Maximum number of bytes of the log that the timeline of one session may take.
const MAX_STORY_BYTES: usize = 256 << 20;

/// Error of a session without records.
#[derive(Debug, thiserror::Error)]
#[error("no records of session {0}; list sessions with `tidegate log --event session_started`")]
pub(super) struct NoSuchSessionError(SessionId);

/// Source of the records.
enum RecordSource {
    Gate(ControlClient),
    Folder(PathBuf),
}

impl RecordSource {
    fn new(config: &Path, origin: &LogLocation) -> anyhow::Result<Self> {
        Ok(match &origin.dir {
            Some(dir) => Self::Folder(dir.clone()),
            None => Self::Gate(origin.place.operator(config)?),
        })
    }

    /// Passes the line of each record to `each`, until it returns false; reports lines that cannot be read.
    async fn lines(&self, filter: Filter, extent: SearchExtent, mut each: impl FnMut(&[u8]) -> bool) -> anyhow::Result<()> {
        let mut unreadable = 0_u64;
        let mut complain = |error: &str| {
            unreadable += 1;
            super::speech::complain(error);
            true
        };
        match self {
            Self::Gate(client) => {
                let each = |line: &[u8]| match serde_json::from_slice(line) {
                    Ok(UnreadableLine { error }) => complain(&error),
                    Err(_) => each(line),
                };
                client.lines("/v1/log", &LogQuery { filter, extent }, each).await?;
            }
            Self::Folder(dir) => {
                let mut found = follow(dir, &filter, extent)?;
                while let Some(item) = found.next().await {
                    let go_on = match item {
                        Ok(record) => each(record.json().as_bytes()),
                        Err(error) => complain(&error.to_string()),
                    };
                    if !go_on {
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

    /// Returns the records that match.
    async fn records(&self, filter: Filter) -> anyhow::Result<Vec<LogRecord>> {
        let (mut records, mut room) = (Vec::new(), Some(MAX_STORY_BYTES));
        self.lines(filter, SearchExtent::default(), |line| {
            room = room.and_then(|room: usize| room.checked_sub(line.len()));
            if room.is_some() {
                records.extend(LogRecord::parse(line).ok());
            }
            room.is_some()
        })
        .await?;
        anyhow::ensure!(
            room.is_some(),
            "the session is too large for a timeline (over {} MB); list its records with --session",
            MAX_STORY_BYTES >> 20
        );
        Ok(records)
    }
}

async fn list(source: RecordSource, filter: Filter, part: &ExtentArgs, form: RecordFormat) -> anyhow::Result<()> {
    let extent = part.extent();
    // The selected records include the outcomes.
    let joined = filter.event.is_none() && filter.until.is_none() && extent.sort.is_none();
    let mut shown = RecordPrinter {
        form,
        room: part.limit.filter(|_| extent.sort.is_none()),
        readings: AnalysisCache::default(),
        open: KeptStatements::default(),
        unread: KeptStatements::default(),
        gone: false,
        cut: false,
        last: None,
    };
    if form == RecordFormat::Csv {
        print_line(&table::csv_line(table::header())?);
    }
    let unread = filter.table.is_some().then(|| of_unread(&filter));
    let read = source.lines(filter, extent, |line| shown.line(line)).await;
    if joined && !shown.cut && form == RecordFormat::Table {
        for (session, statement) in shown.open.iter() {
            print_line(&format!("statement #{statement} of {session}: {OUTCOME_UNKNOWN}"));
        }
        if shown.open.more > 0 {
            super::speech::complain(&format!(
                "too many statements in progress: {} are not checked for an outcome.",
                shown.open.more
            ));
        }
    }
    if let Some(filter) = unread.filter(|_| !part.follow && !shown.cut && !shown.gone) {
        let mut count = UnreadCount::default();
        source
            .lines(filter, SearchExtent::default(), |line| {
                count.line(line, &shown.unread);
                true
            })
            .await?;
        if count.statements > 0 {
            super::speech::complain(&format!(
                "{} other statements could not be parsed and may use the table too. `tidegate log --unread` shows them.",
                count.statements
            ));
        }
        let doubtful = count.doubtful(&shown.unread);
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
    readings: AnalysisCache,
    /// Statements without an outcome so far.
    open: KeptStatements,
    /// Statements that could not be analysed.
    unread: KeptStatements,
    /// True if standard output is closed.
    gone: bool,
    /// True if there are more records than the limit.
    cut: bool,
    /// Number of the last record shown.
    last: Option<u64>,
}

impl RecordPrinter {
    /// Prints a record; returns false if standard output is closed, or if the limit is exceeded.
    fn line(&mut self, line: &[u8]) -> bool {
        let record = LogRecord::parse(line);
        if let Some(room) = &mut self.room {
            let Some(less) = room.checked_sub(1) else {
                self.cut = true;
                let next = self.last.map(|last| format!(" To continue, add --after {last}"));
                super::speech::complain(&format!("more records match.{}", next.unwrap_or_default()));
                return false;
            };
            *room = less;
        }
        let Ok(record) = record else {
            return print_line(&visible(&String::from_utf8_lossy(line)));
        };
        self.last = Some(record.seq);
        match &record.event {
            // The preparation of a statement has an outcome only if it failed.
            Event::Statement(statement) if !statement.kind.executes() => {}
            Event::Statement(statement) => {
                let key = (statement.who.session.clone(), statement.statement);
                if !self.readings.of_statement(statement).is_read() {
                    self.unread.insert(key.clone());
                }
                self.open.insert(key);
            }
            Event::Outcome(outcome) => drop(self.open.remove(&(outcome.who.session.clone(), outcome.statement))),
            _ => {}
        }
        let printed = match self.form {
            RecordFormat::Json => print_line(&words::json(&record, &mut self.readings)),
            RecordFormat::Table => print_words(&words::line(&record, &zone())),
            RecordFormat::Csv => table::csv_line(table::cells(&record, &mut self.readings)).is_ok_and(|line| print_line(&line)),
        };
        self.gone |= !printed;
        printed
    }
}

/// Shows the timeline of a session: its own records, those of its grant, and those of the request that the grant came from.
async fn tell(source: RecordSource, session: SessionId, output: OutputFormat) -> anyhow::Result<()> {
    let records = source
        .records(Filter {
            session: Some(session.clone()),
            ..Filter::default()
        })
        .await?;
    let Some(who) = records.iter().find_map(|record| record.event.who().cloned()) else {
        return Err(NoSuchSessionError(session).into());
    };
    let of = |event, grant, text: Option<&str>| Filter {
        event: Some(event),
        grant,
        text: text.map(str::to_owned),
        ..Filter::default()
    };
    let grant = Some(who.grant.clone());
    let mut background = source.records(of(EventName::GrantChanged, grant.clone(), None)).await?;
    let requests = source.records(of(EventName::RequestChanged, grant, None)).await?;
    background.extend(
        source
            .records(of(EventName::DecisionMade, None, Some(who.grant.as_str())))
            .await?,
    );
    let request = requests.iter().find_map(|record| match &record.event {
        Event::RequestChanged(changed) => Some(changed.request.clone()),
        _ => None,
    });
    if let Some(request) = request {
        for event in [EventName::RequestChanged, EventName::DecisionMade] {
            background.extend(source.records(of(event, None, Some(request.as_str()))).await?);
        }
    }
    background.extend(requests);
    let story = SessionTimeline::of(records, background);
    match output {
        OutputFormat::Json => print(&story.json()?)?,
        OutputFormat::Table => print(&story.lines(&zone()).join("\n"))?,
    }
    Ok(())
}

async fn touched(source: RecordSource, mut filter: Filter, form: RecordFormat) -> anyhow::Result<()> {
    // The outcome of a statement may be recorded after that time.
    let until = filter.until.take();
    let steps = Filter {
        table: None,
        class: None,
        event: Some(EventName::TransactionChanged),
        ..filter.clone()
    };
    let mut undone = Rollbacks::default();
    let add = |line: &[u8]| {
        if let Ok(record) = LogRecord::parse(line) {
            undone.add(&record);
        }
        true
    };
    source.lines(steps, SearchExtent::default(), add).await?;
    let unread = of_unread(&filter);
    let mut touched = TableAccessSums::new(until, undone);
    let read = source.lines(filter, SearchExtent::default(), |line| {
        if let Ok(record) = LogRecord::parse(line) {
            touched.add(&record);
        }
        true
    });
    let read = read.await;
    let not_read = source.lines(unread, SearchExtent::default(), |line| {
        if let Ok(record) = LogRecord::parse(line) {
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
