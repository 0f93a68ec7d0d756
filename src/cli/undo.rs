//! `undo`: prints the statements that undo recorded changes, or runs them through the gate under a grant of the person who undoes.
//!
//! `database::undo` makes the statements and runs them; the gate decides on the access, and records them like any others.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt::Write as _;
use std::path::Path;

use clap::Args;
use serde::Serialize;
use serde_with::skip_serializing_none;

use super::access::AccessArgs;
use super::args::OutputArgs;
use super::log::args::LogLocation;
use super::log::{RecordSource, changes_in_order};
use super::{complete, render, run, speech, zone};
use crate::audit::event::{RowValues, RowsChanged};
use crate::audit::runs::RunSelector;
use crate::audit::{EventName, Filter};
use crate::base::times;
use crate::base::visible::visible;
use crate::database::undo::{self, LostChange, UndoPlan, UndoResult, UndoStep};
use crate::model::ids::SessionId;
use crate::model::names::{IdentityName, TargetName};

/// Exit code if something was not undone.
const NOT_UNDONE: u8 = 1;
/// Number of conflicts that are told one by one.
const MAX_TOLD: usize = 20;

/// Changes to undo.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tidegate undo se_4k2m9x0a7b                 prints the SQL
  tidegate undo gr_4k2m9x0a7b --apply --reason \"clean up after BUG-812\"
  tidegate undo ci-4711 --target orders --apply --skip-conflicts

Only changes of tables that a profile captures can be undone (`capture`). The statements change a row
only if it is as the change left it. --apply requests access like `tidegate psql`, runs them in one
transaction on record, and changes nothing if a row has changed since; --skip-conflicts undoes the
others. Triggers of your application fire. Sequences are not set back. Your own changes you read by
grant; for sessions and runs you need the right to read the log. The exit code is 1 if something was
not undone.")]
pub struct UndoArgs {
    /// Session, grant or run that made the changes
    #[arg(value_name = "SESSION|GRANT|RUN")]
    pub what: RunSelector,
    /// Only changes at this target
    #[arg(long, short, value_name = "TARGET", add = complete::targets())]
    pub target: Option<TargetName>,
    /// Runs the statements, through the gate and under a grant of yours
    #[arg(long)]
    pub apply: bool,
    /// Undoes the rest if some changes cannot be undone
    #[arg(long, requires = "apply")]
    pub skip_conflicts: bool,
    /// Profile to undo with [default: that of the changes]
    #[arg(long, short, value_name = "NAME", requires = "apply", add = complete::profiles())]
    pub profile: Option<String>,
    /// Reason; shown to approvers and kept in the audit log [default: what is undone]
    #[arg(long, short, value_name = "TEXT", requires = "apply")]
    pub reason: Option<String>,
    /// Ticket
    #[arg(long, value_name = "TICKET", requires = "apply")]
    pub ticket: Option<String>,
    /// Location of the log.
    #[command(flatten)]
    pub origin: LogLocation,
    /// Output format.
    #[command(flatten)]
    pub printing: OutputArgs,
}

/// Change of a row by somebody else, after the change that is to be undone.
#[skip_serializing_none]
#[derive(Debug, Serialize)]
struct LaterChange {
    /// Number of the record of the later change.
    record: u64,
    time: jiff::Timestamp,
    schema: String,
    table: String,
    key: RowValues,
    session: Option<SessionId>,
    identity: Option<IdentityName>,
    role: String,
}

/// Answer for scripts.
#[skip_serializing_none]
#[derive(Debug, Serialize)]
struct UndoBody<'p> {
    target: &'p TargetName,
    settings: Vec<String>,
    steps: &'p [UndoStep],
    not_undoable: &'p [LostChange],
    /// Absent if the log of others may not be read.
    changed_since: Option<&'p [LaterChange]>,
    /// Absent if nothing was run.
    result: Option<&'p UndoResult>,
}

pub(super) async fn run(config: &Path, args: UndoArgs) -> anyhow::Result<u8> {
    let source = RecordSource::new(config, &args.origin)?;
    let filter = Filter {
        target: args.target.clone(),
        event: Some(EventName::RowsChanged),
        ..args.what.filter()
    };
    let records = source
        .records(filter, "undo its sessions one by one, or one target with --target")
        .await?;
    let changes: Vec<(u64, &RowsChanged)> = changes_in_order(&records)
        .into_iter()
        .map(|(record, event)| (record.seq, event))
        .collect();
    let targets: BTreeSet<&TargetName> = changes.iter().map(|(_, event)| &event.target).collect();
    let what = visible(&args.what.to_string());
    let target = match Vec::from_iter(targets).as_slice() {
        [] => anyhow::bail!("no changed rows of {what} in the log; only tables that a profile captures are there (`capture`)"),
        [one] => (*one).clone(),
        more => {
            let names: Vec<&str> = more.iter().map(|target| target.as_str()).collect();
            anyhow::bail!(
                "{what} changed rows at several targets; choose one with --target: {}",
                names.join(", ")
            )
        }
    };
    let plan = UndoPlan::of(&changes);
    let later = changed_since(&source, &target, &changes, &plan).await;
    if let Err(error) = &later {
        speech::note(&format!("cannot tell who changed the same rows since: {error:#}"));
    }
    let result = if args.apply {
        Some(apply(config, &args, &target, &changes, &plan).await?)
    } else {
        None
    };
    let body = UndoBody {
        target: &target,
        settings: undo::settings(),
        steps: &plan.steps,
        not_undoable: &plan.lost,
        changed_since: later.as_deref().ok(),
        result: result.as_ref(),
    };
    render::show(args.printing.output, &body, |body| match body.result {
        None => script(&what, body),
        Some(result) => told(result, body),
    })?;
    let is_whole = plan.lost.is_empty() && result.is_none_or(|result| result.conflicts.is_empty());
    Ok(if is_whole { 0 } else { NOT_UNDONE })
}

/// Returns the changes that others made to the same rows later, the last of each.
async fn changed_since(
    source: &RecordSource,
    target: &TargetName,
    undone: &[(u64, &RowsChanged)],
    plan: &UndoPlan,
) -> anyhow::Result<Vec<LaterChange>> {
    let own: HashSet<u64> = undone.iter().map(|(record, _)| *record).collect();
    let mut rows: HashMap<(&str, &str, &RowValues), u64> = HashMap::new();
    for step in &plan.steps {
        let first = rows.entry((&step.schema, &step.table, &step.key)).or_insert(step.record);
        *first = step.record.min(*first);
    }
    let filter = Filter {
        target: Some(target.clone()),
        event: Some(EventName::RowsChanged),
        after: own.iter().min().copied(),
        ..Filter::default()
    };
    let records = source.records(filter, "undo fewer changes at once").await?;
    let mut later = HashMap::new();
    for (record, event) in changes_in_order(&records) {
        for change in event.changes.iter().filter(|_| !own.contains(&record.seq)) {
            let row = (&*event.schema, &*event.table, &change.key);
            if rows.get(&row).is_some_and(|first| record.seq > *first) {
                later.insert(row, (record, event));
            }
        }
    }
    let mut later: Vec<LaterChange> = later
        .into_iter()
        .map(|((schema, table, key), (record, event))| LaterChange {
            record: record.seq,
            time: record.time,
            schema: schema.to_owned(),
            table: table.to_owned(),
            key: key.clone(),
            session: event.session.clone(),
            identity: event.identity.clone(),
            role: event.role.clone(),
        })
        .collect();
    later.sort_by_key(|change| change.record);
    Ok(later)
}

async fn apply(
    config: &Path,
    args: &UndoArgs,
    target: &TargetName,
    changes: &[(u64, &RowsChanged)],
    plan: &UndoPlan,
) -> anyhow::Result<UndoResult> {
    if !plan.lost.is_empty() && !args.skip_conflicts {
        anyhow::bail!(
            "{} changes cannot be undone from the log, so nothing was undone; without --apply you see which and why, with \
             --skip-conflicts the others are undone",
            plan.lost.len()
        );
    }
    let profile = changes.iter().find_map(|(_, event)| event.profile.as_ref());
    let wanted = AccessArgs {
        profile: args.profile.clone().or(profile.map(ToString::to_string)),
        reason: Some(args.reason.clone().unwrap_or_else(|| format!("undo {}", args.what))),
        ticket: args.ticket.clone(),
        ..AccessArgs::to(target)
    };
    let client = args.origin.place.person(config)?;
    let work = async |database: &tokio_postgres::Client| Ok(undo::apply(database, plan, args.skip_conflicts).await?);
    run::with_connection(&client, &wanted, "tidegate undo", work).await
}

/// Returns the script that undoes the changes, with what it leaves out.
fn script(what: &str, body: &UndoBody<'_>) -> String {
    let mut text = format!("-- Undoes {} changes of {what} at {}.\n", body.steps.len(), body.target);
    for lost in body.not_undoable {
        let rows = if lost.rows == 1 { "1 row" } else { "rows" };
        let _ = writeln!(
            text,
            "-- NOT UNDONE: record {}, {rows} of {}: {}",
            lost.record,
            shown(&lost.schema, &lost.table),
            lost.reason
        );
    }
    for change in body.changed_since.unwrap_or_default() {
        let _ = writeln!(text, "-- CHANGED SINCE: {}", later(change));
    }
    let _ = writeln!(text, "BEGIN;\n{};", body.settings.join(";\n"));
    for step in body.steps {
        let place = shown(&step.schema, &step.table);
        let _ = writeln!(text, "-- record {}: {} {place}\n{};", step.record, step.operation, step.sql);
    }
    text.push_str("COMMIT;");
    text
}

/// Returns what became of the changes.
fn told(result: &UndoResult, body: &UndoBody<'_>) -> String {
    let mut text = String::new();
    for conflict in result.conflicts.iter().take(MAX_TOLD) {
        let step = &conflict.step;
        let key: Vec<String> = step
            .key
            .iter()
            .map(|(column, value)| format!("{}={}", visible(column), visible(value.as_deref().unwrap_or("NULL"))))
            .collect();
        let _ = writeln!(
            text,
            "not undone: record {}, {} {} {}\n  {}",
            step.record,
            step.operation,
            shown(&step.schema, &step.table),
            key.join(" "),
            visible(&conflict.reason)
        );
        let is_row =
            |change: &&LaterChange| (&change.schema, &change.table, &change.key) == (&step.schema, &step.table, &step.key);
        if let Some(change) = body.changed_since.unwrap_or_default().iter().find(is_row) {
            let _ = writeln!(text, "  {}", later(change));
        }
    }
    if result.conflicts.len() > MAX_TOLD {
        let _ = writeln!(text, "and {} more (--json has all)", result.conflicts.len() - MAX_TOLD);
    }
    let conflicts = result.conflicts.len() + body.not_undoable.len();
    if result.committed {
        let _ = write!(text, "{} changes undone", result.undone);
        if result.already > 0 {
            let _ = write!(text, ", {} were undone already", result.already);
        }
        if conflicts > 0 {
            let _ = write!(text, ", {conflicts} left as they are");
        }
    } else {
        let _ = write!(
            text,
            "nothing was undone: {conflicts} of {} changes stand in the way; --skip-conflicts undoes the others",
            body.steps.len()
        );
    }
    text
}

fn later(change: &LaterChange) -> String {
    let who = match &change.identity {
        Some(identity) => visible(identity.as_str()),
        None => format!("past the gate, as {}", visible(&change.role)),
    };
    let session = change.session.as_ref().map(|session| format!(" in {session}"));
    format!(
        "record {}, {} changed the row of {}{} at {}",
        change.record,
        who,
        shown(&change.schema, &change.table),
        session.unwrap_or_default(),
        times::millis(change.time, &zone::zone())
    )
}

fn shown(schema: &str, table: &str) -> String {
    format!("{}.{}", visible(schema), visible(table))
}
