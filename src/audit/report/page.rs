//! Report as a single HTML page, to be read, printed and filed. Pure.
//!
//! The page has no script, loads nothing and has no links to other sites. INVARIANT: every text goes through the template,
//! which escapes it.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::table::{ReportTable, TableRow};
use super::{Elsewhere, ReportDocument};
use crate::base::columns::{ColumnSpec, fitted};

/// Number of characters, with blanks between the columns, that fit side by side on the narrower of the usual paper sizes,
/// Letter in landscape: 255 mm in the print style's 8 pixels. Columns that a terminal would cut are broken into lines here.
const PAGE_WIDTH_CHARS: usize = 196;
/// Number of rows of a table on the page; its CSV file has all rows.
const MAX_ROWS: usize = 1_000;

const STYLE: &str = "\
body{font:14px/1.45 system-ui,sans-serif;color:#1b1f24;margin:2rem auto;max-width:78rem;padding:0 1.5rem}\
h1{font-size:1.6rem;margin:0 0 .2rem}h2{font-size:1.15rem;margin:2.2rem 0 .3rem;border-bottom:1px solid #c9d1d9;padding-bottom:.2rem}\
p.note{color:#57606a;margin:.2rem 0 .6rem;max-width:60rem}\
table{border-collapse:collapse;width:100%;font-size:12px}\
th,td{border:1px solid #d0d7de;padding:.25rem .4rem;text-align:left;vertical-align:top;overflow-wrap:anywhere}td.whole{white-space:nowrap;overflow-wrap:normal}\
th{background:#f3f5f7}tr.mark td{background:#fff1f0;font-weight:600}\
dl{display:grid;grid-template-columns:repeat(auto-fill,minmax(11rem,1fr));gap:.6rem;margin:1rem 0}\
dl div{border:1px solid #d0d7de;border-radius:6px;padding:.5rem .7rem}dt{color:#57606a;font-size:12px}dd{margin:0;font-size:1.25rem}\
ul.alarm{border:2px solid #b42318;border-radius:6px;padding:.6rem 1rem .6rem 2rem}ul.alarm li{color:#b42318;font-weight:600}\
nav a{margin-right:1rem}\
@media print{body{margin:0;max-width:none;font-size:10px}table{font-size:8px}th,td{padding:1px 3px}tr{break-inside:avoid}thead{display:table-header-group}nav{display:none}\
@page{size:landscape;margin:12mm}}";

/// Returns the page.
#[must_use]
pub fn page(report: &ReportDocument) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (report.title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { (report.heading) }
                p.note { (report.note) }
                @if !report.alarms.is_empty() { ul.alarm { @for alarm in &report.alarms { li { (alarm) } } } }
                dl { @for (name, value) in &report.figures { div { dt { (name) } dd { (value) } } } }
                nav { @for table in &report.tables { a href={ "#" (table.name) } { (table.title) } } }
                @for table in &report.tables { (section(table, report.elsewhere)) }
            }
        }
    };
    page.into_string()
}

fn section(table: &ReportTable, elsewhere: Elsewhere) -> Markup {
    let elsewhere = elsewhere.of(table);
    let left = (table.rows.len().saturating_sub(MAX_ROWS) as u64) + table.more;
    let columns = table.columns();
    let shown = on_page(table, &columns);
    let head = |place: &usize| table.head.get(*place).copied().unwrap_or_default();
    let gone: Vec<&str> = (0..table.head.len())
        .filter(|place| !shown.contains(place))
        .map(|place| head(&place))
        .collect();
    html! {
        section id=(table.name) {
            h2 { (table.title) }
            p.note { (table.note) }
            @if table.rows.is_empty() {
                p { "None." }
            } @else {
                table {
                    thead { tr { @for place in &shown { th { (head(place)) } } } }
                    tbody { @for row in table.rows.iter().take(MAX_ROWS) { (line(row, &columns, &shown)) } }
                }
                @if !gone.is_empty() {
                    p.note { "Not on the page, for there is no room: " (gone.join(", ")) ". " (elsewhere) " has them." }
                }
            }
            @if left > 0 {
                p { (left) " more; " (elsewhere) " has " (table.rows.len()) " rows." }
            }
        }
    }
}

/// Returns the indices of the columns that fit on a sheet of paper.
fn on_page(table: &ReportTable, columns: &[ColumnSpec]) -> Vec<usize> {
    let rows = || table.rows.iter().take(MAX_ROWS);
    let widest = |place: usize| {
        rows()
            .filter_map(|row| row.cells.get(place))
            .map(|cell| cell.chars().count())
            .max()
    };
    // Headings break between words.
    let heading = |name: &str| name.split(' ').map(str::len).max().unwrap_or(0);
    let natural: Vec<usize> = (0..)
        .zip(&table.head)
        .map(|(place, name)| widest(place).unwrap_or(0).max(heading(name)))
        .collect();
    fitted(columns, &natural, PAGE_WIDTH_CHARS)
        .into_iter()
        .map(|(place, _)| place)
        .collect()
}

fn line(row: &TableRow, columns: &[ColumnSpec], shown: &[usize]) -> Markup {
    let cells = shown
        .iter()
        .filter_map(|place| Some((row.cells.get(*place)?, columns.get(*place)?)));
    html! {
        tr class=[row.remarkable.then_some("mark")] {
            @for (cell, column) in cells { td class=[(!column.is_cut()).then_some("whole")] { (cell) } }
        }
    }
}

#[cfg(test)]
mod tests;
