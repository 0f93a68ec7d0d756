//! Layout of a table that is too wide: the columns to keep, and their widths.
//!
//! It renders nothing. INVARIANT: a whole column is never truncated; the least important column is dropped first.

/// Number of blanks beside each cell.
pub const PADDING: usize = 2;

/// Column with its rules for a table that is too wide.
#[derive(Debug, Clone, Copy)]
pub struct ColumnSpec {
    /// Heading of the column.
    pub name: &'static str,
    /// Minimum width to which cells may be truncated, in characters; `None`: never.
    least: Option<usize>,
    /// Order of dropping: the column with the highest number is dropped first; 0: never.
    goes: u8,
}

/// Returns a column that stays, with whole cells, for ids and essential values.
#[must_use]
pub const fn whole(name: &'static str) -> ColumnSpec {
    ColumnSpec {
        name,
        least: None,
        goes: 0,
    }
}

/// Returns a column that is dropped before all with a lower number.
#[must_use]
pub const fn less(name: &'static str, goes: u8) -> ColumnSpec {
    ColumnSpec { name, least: None, goes }
}

/// Returns a column whose cells may be truncated to `least` characters, and that is dropped before all with a lower number.
#[must_use]
pub const fn cut_or_less(name: &'static str, least: usize, goes: u8) -> ColumnSpec {
    ColumnSpec {
        name,
        least: Some(least),
        goes,
    }
}

/// Returns a column whose cells may be truncated to `least` characters.
#[must_use]
pub const fn cut(name: &'static str, least: usize) -> ColumnSpec {
    ColumnSpec {
        name,
        least: Some(least),
        goes: 0,
    }
}

impl ColumnSpec {
    /// Returns true if its cells may be truncated.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.least.is_some()
    }
}

/// Returns the columns that fit into `width`, by index, each with its width; `natural` is the width of its widest cell.
#[must_use]
pub fn fitted(columns: &[ColumnSpec], natural: &[usize], width: usize) -> Vec<(usize, usize)> {
    let mut kept: Vec<(usize, ColumnSpec, usize)> = columns
        .iter()
        .zip(natural)
        .enumerate()
        .map(|(at, (column, natural))| (at, *column, *natural))
        .collect();
    let least = |(_, column, natural): &(usize, ColumnSpec, usize)| {
        column
            .least
            .map_or(*natural, |least| least.max(column.name.len()).min(*natural))
    };
    let need = |kept: &[(usize, ColumnSpec, usize)]| kept.iter().map(|column| least(column) + PADDING).sum::<usize>();
    while need(&kept) > width {
        let goes = kept.iter().enumerate().max_by_key(|(_, (_, column, _))| column.goes);
        match goes {
            Some((at, (_, column, _))) if column.goes > 0 => drop(kept.remove(at)),
            _ => break,
        }
    }
    // Distribute the remaining width to truncated columns, from the left.
    let mut spare = width.saturating_sub(need(&kept));
    let room = |column: &(usize, ColumnSpec, usize)| {
        let more = (column.2 - least(column)).min(spare);
        spare -= more;
        (column.0, least(column) + more)
    };
    kept.iter().map(room).collect()
}
