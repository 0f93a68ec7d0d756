//! Report as text for a terminal: first the flaws, then the figures, then each table in as many columns as fit.
//!
//! Times are in the reader's time zone, like all terminal output; files have UTC.

use jiff::Timestamp;

use crate::audit::evidence::{EvidenceReport, ReportTable, TableRow, alarms, figures};
use crate::base::columns::ColumnSpec;
use crate::base::times;
use crate::cli::zone::zone;
use crate::cli::{render, table, terminal};

/// Width in characters if there is no terminal.
const DEFAULT_WIDTH_CHARS: usize = 80;
/// Maximum number of rows shown of a table; its file contains all of them.
const MAX_ROWS: usize = 1_000;

pub(super) fn report(report: &EvidenceReport, tables: &[ReportTable], made_at: Timestamp) -> String {
    let width = terminal::width_of(&std::io::stdout()).unwrap_or(DEFAULT_WIDTH_CHARS);
    text(report, tables, made_at, width)
}

fn text(report: &EvidenceReport, tables: &[ReportTable], made_at: Timestamp, width: usize) -> String {
    let [from, to, made_at] = [report.period.from, report.period.to, made_at].map(render::time);
    let mut parts = vec![format!("Evidence of database access\n{from} until {to}\nmade {made_at}")];
    let wrong: Vec<String> = alarms(report).iter().map(|alarm| format!("! {alarm}")).collect();
    parts.extend((!wrong.is_empty()).then(|| wrong.join("\n")));
    parts.push(render::list(&figures(report).map(|(name, value)| (name, value.to_string()))));
    parts.extend(tables.iter().map(|table| section(table, width)));
    parts.join("\n\n")
}

fn section(table: &ReportTable, width: usize) -> String {
    let title = format!("{}\n{}", table.title, "-".repeat(table.title.len()));
    if table.rows.is_empty() {
        return format!("{title}\nNone.");
    }
    let cells = |row: &TableRow| row.cells.iter().map(|cell| local(cell)).collect::<Vec<_>>();
    let rows: Vec<Vec<String>> = table.rows.iter().take(MAX_ROWS).map(cells).collect();
    let columns = table.columns();
    let shown = if columns.iter().skip(1).all(ColumnSpec::is_cut) {
        rows.iter().map(|row| told(&table.head, row)).collect::<Vec<_>>().join("\n")
    } else {
        table::render(&columns, &rows, Some(width))
    };
    let left = (table.rows.len().saturating_sub(MAX_ROWS) as u64) + table.more;
    match left {
        0 => format!("{title}\n{shown}"),
        _ => format!(
            "{title}\n{shown}\n{left} more: with --out the file {}.csv has {} rows.",
            table.name,
            table.rows.len()
        ),
    }
}

/// Formats a row of sentences, which must not be cut: the subject, and the sentences about it.
fn told(head: &[&str], row: &[String]) -> String {
    match row {
        [what, said] => format!("{what}: {said}"),
        [what, rest @ ..] => {
            let each = head
                .iter()
                .skip(1)
                .zip(rest)
                .map(|(name, cell)| format!("\n  {name}: {cell}"));
            format!("{what}{}", each.collect::<String>())
        }
        [] => String::new(),
    }
}

/// Returns a cell, in the reader's time zone if it is a time.
fn local(cell: &str) -> String {
    match cell.parse::<Timestamp>() {
        Ok(time) if cell.ends_with('Z') => times::seconds(time, &zone()),
        _ => cell.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::evidence::tables;
    use crate::audit::evidence::testing::{collect, day, whole};

    #[test]
    fn a_report_fits_eighty_columns_and_cuts_no_id() {
        let report_of = collect(&day(), 0, 60, Ok(whole()));
        let tables = tables(&report_of);
        let text = text(&report_of, &tables, report_of.period.to, 80);
        let cut_off = |table: &&ReportTable| !table.columns().iter().skip(1).all(ColumnSpec::is_cut);
        for table in tables.iter().filter(cut_off) {
            for line in section(table, 80).lines() {
                assert!(line.chars().count() <= 80, "{}: {line}", table.name);
            }
            for (place, name) in table
                .head
                .iter()
                .enumerate()
                .filter(|(_, name)| matches!(**name, "grant" | "session" | "wanted"))
            {
                for row in &table.rows {
                    assert!(text.contains(&row.cells[place]), "{} {name}: {:?}", table.name, row.cells);
                }
            }
        }
        assert!(text.contains("without a review: 1."), "{text}");
        assert!(text.contains("Result: the log is whole"), "{text}");
    }

    #[test]
    fn times_are_in_the_readers_zone() {
        // In tests that is UTC.
        assert_eq!(local("2026-11-23T09:00:00Z"), "2026-11-23 09:00:00Z");
        assert_eq!(local("2026-11-23"), "2026-11-23");
        assert_eq!(local("BUG-812"), "BUG-812");
    }
}
