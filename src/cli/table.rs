//! Tables that fit the width: wide cells are cut, the least important column is dropped, an id is never broken.

use comfy_table::{Table, presets};

use super::terminal;
use crate::base::columns::fitted;
pub(super) use crate::base::columns::{ColumnSpec, cut, less, whole};

/// Column of a table, with the function that makes a row's cell.
pub(super) type Column<'a, T> = (ColumnSpec, &'a dyn Fn(&T) -> String);

/// Returns a table, as wide as the terminal if there is one; without rows, the text `empty`.
pub(super) fn table<T>(rows: &[T], empty: &str, columns: &[Column<'_, T>]) -> String {
    if rows.is_empty() {
        return empty.to_owned();
    }
    let cells = |row| columns.iter().map(|(_, cell)| cell(row)).collect();
    let rows: Vec<Vec<String>> = rows.iter().map(cells).collect();
    let columns: Vec<ColumnSpec> = columns.iter().map(|(column, _)| *column).collect();
    render(&columns, &rows, width())
}

/// Renders rows in at most `width` characters, if that is possible without breaking whole columns; `None` means no limit.
#[must_use]
pub(super) fn render(columns: &[ColumnSpec], rows: &[Vec<String>], width: Option<usize>) -> String {
    let widest = |at: usize, column: &ColumnSpec| {
        let cells = rows.iter().filter_map(|row| row.get(at));
        cells.map(|cell| cell.chars().count()).fold(column.name.len(), usize::max)
    };
    let natural: Vec<usize> = columns.iter().enumerate().map(|(at, column)| widest(at, column)).collect();
    let chosen = match width {
        Some(width) => fitted(columns, &natural, width),
        None => natural.into_iter().enumerate().collect(),
    };
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(chosen.iter().filter_map(|(at, _)| Some(columns.get(*at)?.name)));
    for row in rows {
        let cell = |(at, room): &(usize, usize)| Some(terminal::fitted(row.get(*at)?, *room));
        table.add_row(chosen.iter().filter_map(cell));
    }
    table.trim_fmt()
}

/// Returns the width of standard output if it is a terminal.
#[cfg(not(test))]
pub(super) fn width() -> Option<usize> {
    terminal::width_of(&std::io::stdout())
}

/// As wide as the running test says.
#[cfg(test)]
pub(super) fn width() -> Option<usize> {
    WIDTH.get()
}

#[cfg(test)]
thread_local! {
    pub(super) static WIDTH: std::cell::Cell<Option<usize>> = const { std::cell::Cell::new(None) };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests(identity: &str, width: Option<usize>) -> String {
        let columns = [
            whole("REQUEST"),
            cut("IDENTITY", 12),
            whole("TARGET"),
            less("ASKED", 2),
            less("TICKET", 1),
            cut("REASON", 10),
        ];
        let row = [
            "rq_4k2m9x0a7b",
            identity,
            "orders/read-write",
            "12m ago",
            "SHOP-99",
            "fix the totals of march",
        ];
        render(&columns, &[row.map(str::to_owned).into()], width)
    }

    #[test]
    fn an_id_is_whole_whatever_the_width() {
        let long = "anastasia.bartholomew-winterbottom@testing.example.org";
        for width in [1, 40, 60, 80, 100, 200] {
            let text = requests(long, Some(width));
            assert!(text.contains("rq_4k2m9x0a7b") && text.contains("orders/read-write"), "{text}");
            assert_eq!(text.lines().count(), 2, "{text}");
            if width >= 80 {
                assert!(text.lines().all(|line| line.chars().count() <= width), "{width}: {text}");
            }
        }
    }

    #[test]
    fn the_least_important_column_goes_first() {
        let heads = |width| requests("ana@example.com", Some(width)).lines().next().unwrap().to_owned();
        assert!(heads(120).contains("ASKED"));
        let narrower = heads(75);
        assert!(!narrower.contains("ASKED") && narrower.contains("TICKET"), "{narrower}");
        let narrow = heads(62);
        assert!(!narrow.contains("TICKET") && narrow.contains("REASON"), "{narrow}");
        assert!(requests("ana@example.com", Some(75)).contains('…'));
        assert!(!requests("ana@example.com", None).contains('…'));
    }
}
