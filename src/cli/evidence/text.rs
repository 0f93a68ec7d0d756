//! Evidence as text for a terminal: its heading, and where the rest of its tables is.

use jiff::Timestamp;

use crate::audit::evidence::ReportPeriod;
use crate::audit::report::{ReportDocument, ReportTable};
use crate::cli::{render, report_text};

pub(super) fn report(report: &ReportDocument, period: ReportPeriod, made_at: Timestamp) -> String {
    text(report, period, made_at, report_text::width())
}

fn text(report: &ReportDocument, period: ReportPeriod, made_at: Timestamp, width: usize) -> String {
    let [from, to, made_at] = [period.from, period.to, made_at].map(render::time);
    let head = format!("{}\n{from} until {to}\nmade {made_at}", report.heading);
    report_text::text(report, head, rest, width)
}

/// Returns where all rows of a table are.
fn rest(table: &ReportTable) -> String {
    format!("with --out the file {}.csv has {} rows.", table.name, table.rows.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::evidence::testing::{collect, day, whole};
    use crate::audit::evidence::{document, tables};
    use crate::base::columns::ColumnSpec;

    #[test]
    fn a_report_fits_eighty_columns_and_cuts_no_id() {
        let report_of = collect(&day(), 0, 60, Ok(whole()));
        let document = document(&report_of, tables(&report_of), report_of.period.to);
        let text = text(&document, report_of.period, report_of.period.to, 80);
        let cut_off = |table: &&ReportTable| !table.columns().iter().skip(1).all(ColumnSpec::is_cut);
        for table in document.tables.iter().filter(cut_off) {
            for line in report_text::section(table, rest, 80).lines() {
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
}
