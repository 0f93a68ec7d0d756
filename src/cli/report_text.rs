//! Report as text for a terminal: first the flaws, then the figures, then each table in as many columns as fit.
//!
//! Times are in the reader's time zone, like all terminal output; files have UTC.

use jiff::Timestamp;

use super::zone::zone;
use super::{render, table, terminal};
use crate::audit::report::{ReportDocument, ReportTable, TableRow};
use crate::base::columns::ColumnSpec;
use crate::base::times;

/// Width in characters if there is no terminal.
const DEFAULT_WIDTH_CHARS: usize = 80;
/// Maximum number of rows shown of a table.
const MAX_ROWS: usize = 1_000;

/// Returns the width to lay a report out for.
pub(super) fn width() -> usize {
    terminal::width_of(&std::io::stdout()).unwrap_or(DEFAULT_WIDTH_CHARS)
}

/// Returns a report below `head`. `rest` says where the rows are that are not shown of a table.
pub(super) fn text(report: &ReportDocument, head: String, rest: impl Fn(&ReportTable) -> String, width: usize) -> String {
    let mut parts = vec![head];
    let wrong: Vec<String> = report.alarms.iter().map(|alarm| format!("! {alarm}")).collect();
    parts.extend((!wrong.is_empty()).then(|| wrong.join("\n")));
    parts.push(render::list(&report.figures));
    parts.extend(report.tables.iter().map(|table| section(table, &rest, width)));
    parts.join("\n\n")
}

/// Returns a table below its title.
pub(super) fn section(table: &ReportTable, rest: impl Fn(&ReportTable) -> String, width: usize) -> String {
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
        _ => format!("{title}\n{shown}\n{left} more: {}", rest(table)),
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

    #[test]
    fn times_are_in_the_readers_zone() {
        // In tests that is UTC.
        assert_eq!(local("2026-11-23T09:00:00Z"), "2026-11-23 09:00:00Z");
        assert_eq!(local("2026-11-23"), "2026-11-23");
        assert_eq!(local("BUG-812"), "BUG-812");
    }
}
