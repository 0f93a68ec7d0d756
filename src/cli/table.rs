//! Tables that fit: what is wide is cut, the least important column goes, an id is never broken.
//!
//! It prints nothing and asks no terminal: the width is an argument.

use comfy_table::{Table, presets};

/// Blanks beside each cell.
const PADDING: usize = 2;

/// One column, and what may become of it where there is no room.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    name: &'static str,
    /// Cells may be cut to so many characters; `None`: never.
    least: Option<usize>,
    /// The column with the highest goes first; 0: never.
    goes: u8,
}

/// A column that stays, with whole cells: ids, and what decides.
pub(super) const fn whole(name: &'static str) -> Column {
    Column {
        name,
        least: None,
        goes: 0,
    }
}

/// A column that goes before all with a lower number.
pub(super) const fn less(name: &'static str, goes: u8) -> Column {
    Column { name, least: None, goes }
}

/// A column whose cells may be cut to so many characters.
pub(super) const fn cut(name: &'static str, least: usize) -> Column {
    Column {
        name,
        least: Some(least),
        goes: 0,
    }
}

/// Renders rows in at most `width` characters, if it can be done without breaking what is whole; `None`: as wide as it takes.
#[must_use]
pub(super) fn render<const N: usize>(columns: [Column; N], rows: &[[String; N]], width: Option<usize>) -> String {
    let natural: Vec<usize> = (0..N).map(|at| widest(&columns, rows, at)).collect();
    let chosen = match width {
        Some(width) => fitted(&columns, &natural, width),
        None => natural.into_iter().enumerate().collect(),
    };
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(chosen.iter().filter_map(|(at, _)| Some(columns.get(*at)?.name)));
    for row in rows {
        table.add_row(chosen.iter().filter_map(|(at, room)| Some(shortened(row.get(*at)?, *room))));
    }
    table.trim_fmt()
}

fn widest<const N: usize>(columns: &[Column; N], rows: &[[String; N]], at: usize) -> usize {
    let head = columns.get(at).map_or(0, |column| column.name.len());
    let cells = rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count());
    cells.max().unwrap_or(0).max(head)
}

/// The columns that stay, each with its room.
fn fitted(columns: &[Column], natural: &[usize], width: usize) -> Vec<(usize, usize)> {
    let mut kept: Vec<(usize, Column, usize)> = columns
        .iter()
        .zip(natural)
        .enumerate()
        .map(|(at, (column, natural))| (at, *column, *natural))
        .collect();
    let least = |(_, column, natural): &(usize, Column, usize)| {
        column
            .least
            .map_or(*natural, |least| least.max(column.name.len()).min(*natural))
    };
    let need = |kept: &[(usize, Column, usize)]| kept.iter().map(|column| least(column) + PADDING).sum::<usize>();
    while need(&kept) > width {
        let goes = kept.iter().enumerate().max_by_key(|(_, (_, column, _))| column.goes);
        match goes {
            Some((at, (_, column, _))) if column.goes > 0 => drop(kept.remove(at)),
            _ => break,
        }
    }
    // What is left over goes to what was cut, from the left.
    let mut spare = width.saturating_sub(need(&kept));
    let room = |column: &(usize, Column, usize)| {
        let more = (column.2 - least(column)).min(spare);
        spare -= more;
        (column.0, least(column) + more)
    };
    kept.iter().map(room).collect()
}

/// The cell, or as much of it as there is room for.
fn shortened(cell: &str, room: usize) -> String {
    super::terminal::fitted(cell, room)
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
        render(columns, &[row.map(str::to_owned)], width)
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
