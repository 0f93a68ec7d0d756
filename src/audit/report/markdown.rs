//! Report as Markdown (GitHub's and GitLab's), short enough for the summary of a job. Pure.
//!
//! INVARIANT: no text from outside is markup: a cell that has anything but digits and the signs of numbers and times stands in a
//! code span, in which nothing is interpreted, and no cell ends its column or its row.

use std::fmt::Write as _;

use super::table::ReportTable;
use super::{ReportDocument, TableRow};

/// Number of rows of a table. Summaries of jobs have a limit (GitHub: 1 MiB for a step), and readers have one, too.
const MAX_ROWS: usize = 20;

/// Returns the report, without the tables that are empty.
#[must_use]
pub fn markdown(report: &ReportDocument) -> String {
    // Writing to a string cannot fail.
    let mut out = format!("# {}\n\n{}\n", span_in(&report.heading), span_in(&report.note));
    for alarm in &report.alarms {
        let _ = write!(out, "\n> **{}**\n", span_in(alarm));
    }
    let _ = write!(out, "\n| | |\n|---|---|\n");
    for (name, value) in &report.figures {
        let _ = writeln!(out, "| {name} | {} |", cell(value));
    }
    for table in report.tables.iter().filter(|table| !table.rows.is_empty()) {
        section(&mut out, table, &report.elsewhere.of(table));
    }
    out
}

fn section(out: &mut String, table: &ReportTable, elsewhere: &str) {
    let _ = write!(out, "\n## {}\n\n{}\n\n", table.title, span_in(&table.note));
    let _ = writeln!(out, "| {} |", table.head.join(" | "));
    let _ = writeln!(out, "|{}", "---|".repeat(table.head.len()));
    for TableRow { cells, remarkable } in table.rows.iter().take(MAX_ROWS) {
        let mark = |text: String| {
            if *remarkable && !text.is_empty() {
                format!("**{text}**")
            } else {
                text
            }
        };
        let cells: Vec<String> = cells.iter().map(|text| mark(cell(text))).collect();
        let _ = writeln!(out, "| {} |", cells.join(" | "));
    }
    let left = (table.rows.len().saturating_sub(MAX_ROWS) as u64) + table.more;
    if left > 0 {
        let _ = write!(out, "\n{left} more; {elsewhere} has {} rows.\n", table.rows.len());
    }
}

/// Returns a cell: numbers and times as they are, anything else as code.
fn cell(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_digit() || matches!(byte, b' ' | b'.' | b':' | b'-' | b',');
    if text.bytes().all(is_plain) {
        return text.to_owned();
    }
    // Within a table, a bar ends the cell even in code, unless a backslash is in front of it; a backslash in front of that one
    // would take its effect away.
    code(&text.replace("\\|", "\\ |").replace('|', "\\|"))
}

/// Returns a code span: between more backticks than stand together in the text.
fn code(text: &str) -> String {
    let longest = text.split(|character| character != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    // A blank on both sides is not part of the code.
    format!("{fence} {text} {fence}")
}

/// Returns a sentence with the parts that are quoted in it (between backticks) as code, and nothing else that is markup.
fn span_in(text: &str) -> String {
    let escaped = |part: &str| -> String {
        let mark = |character: char| {
            matches!(
                character,
                '\\' | '*' | '_' | '[' | ']' | '<' | '>' | '&' | '#' | '|' | '~' | '@'
            )
        };
        part.chars()
            .flat_map(|character| mark(character).then_some('\\').into_iter().chain([character]))
            .collect()
    };
    let pieces: Vec<&str> = text.split('`').collect();
    if pieces.len().is_multiple_of(2) {
        // A backtick is left over: it quotes nothing.
        return escaped(&text.replace('`', "'"));
    }
    let piece = |(number, piece): (usize, &&str)| if number % 2 == 1 { code(piece) } else { escaped(piece) };
    pieces.iter().enumerate().map(piece).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::audit::report::Elsewhere;

    fn with_cell(text: &str) -> String {
        let table = ReportTable {
            name: "tests",
            title: "Tests",
            note: "Each of `them`.".to_owned(),
            head: vec!["test", "count"],
            rows: vec![TableRow {
                cells: vec![text.to_owned(), "12.5".to_owned()],
                remarkable: false,
            }],
            more: 0,
        };
        markdown(&ReportDocument {
            title: String::new(),
            heading: "Run 1".to_owned(),
            note: String::new(),
            alarms: Vec::new(),
            figures: vec![("Statements", "3".to_owned())],
            tables: vec![table],
            elsewhere: Elsewhere::Json,
        })
    }

    #[test]
    fn a_table_with_a_note() {
        let text = with_cell("SELECT a FROM t WHERE b = ?");
        let expected =
            "\n## Tests\n\nEach of ` them `.\n\n| test | count |\n|---|---|\n| ` SELECT a FROM t WHERE b = ? ` | 12.5 |\n";
        assert!(text.ends_with(expected), "{text}");
    }

    #[test]
    fn nothing_from_outside_is_markup() {
        for (text, shown) in [
            ("<img src=x>", "` <img src=x> `"),
            ("a | b", "` a \\| b `"),
            ("a \\| b", "` a \\ \\| b `"),
            ("`a` ``b``", "``` `a` ``b`` ```"),
            ("[x](http://y)", "` [x](http://y) `"),
            ("www.example.org", "` www.example.org `"),
            ("@ana", "` @ana `"),
            ("2026-11-30", "2026-11-30"),
            ("", ""),
        ] {
            let line = format!("\n| {shown} | 12.5 |\n");
            assert!(with_cell(text).contains(&line), "{text}: {}", with_cell(text));
        }
    }

    #[test]
    fn rows_beyond_the_limit_are_counted() {
        let row = |number: usize| TableRow {
            cells: vec![number.to_string()],
            remarkable: number == 0,
        };
        let table = ReportTable {
            name: "tests",
            title: "Tests",
            note: String::new(),
            head: vec!["test"],
            rows: (0..25).map(row).collect(),
            more: 3,
        };
        let mut out = String::new();
        section(&mut out, &table, "`tests` in the JSON");
        assert_eq!(out.lines().filter(|line| line.starts_with("| ")).count(), MAX_ROWS + 1);
        assert!(
            out.contains("| **0** |") && out.ends_with("\n8 more; `tests` in the JSON has 25 rows.\n"),
            "{out}"
        );
    }

    proptest! {
        /// A row stays one line with as many cells, as a reader of Markdown splits them: at bars that no backslash escapes.
        #[test]
        fn a_row_keeps_its_cells(text in "[a|\\\\` <>\\[\\]*_@]{0,20}") {
            let out = with_cell(&text);
            let row = out.lines().last().unwrap();
            let (mut bars, mut escaped) = (0, false);
            for character in row.chars() {
                match character {
                    _ if escaped => escaped = false,
                    '\\' => escaped = true,
                    '|' => bars += 1,
                    _ => {}
                }
            }
            prop_assert_eq!(bars, 3, "{}", row);
        }
    }
}
