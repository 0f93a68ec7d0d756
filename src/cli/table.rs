//! Tables that fit the width: wide cells are cut, the least important column is dropped, an id is never broken.
//!
//! The width is an argument.

use comfy_table::{Table, presets};

use super::terminal;
use crate::base::columns::fitted;
pub(super) use crate::base::columns::{ColumnSpec, cut, less, whole};

/// Renders rows in at most `width` characters, if that is possible without breaking whole columns; `None` means no limit.
#[must_use]
pub(super) fn render(columns: &[ColumnSpec], rows: &[impl AsRef<[String]>], width: Option<usize>) -> String {
    let natural: Vec<usize> = (0..columns.len()).map(|at| widest(columns, rows, at)).collect();
    let chosen = match width {
        Some(width) => fitted(columns, &natural, width),
        None => natural.into_iter().enumerate().collect(),
    };
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(chosen.iter().filter_map(|(at, _)| Some(columns.get(*at)?.name)));
    for row in rows {
        let cell = |(at, room): &(usize, usize)| Some(terminal::fitted(row.as_ref().get(*at)?, *room));
        table.add_row(chosen.iter().filter_map(cell));
    }
    table.trim_fmt()
}

fn widest(columns: &[ColumnSpec], rows: &[impl AsRef<[String]>], at: usize) -> usize {
    let head = columns.get(at).map_or(0, |column| column.name.len());
    let cells = rows
        .iter()
        .filter_map(|row| row.as_ref().get(at))
        .map(|cell| cell.chars().count());
    cells.max().unwrap_or(0).max(head)
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
        render(&columns, &[row.map(str::to_owned)], width)
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
