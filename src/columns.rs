//! Columns of a table where there is no room for all: which stay, and how wide each of them is.
//!
//! It renders nothing. The law: what is whole is never cut; the least important column goes first.

/// Blanks beside each cell.
pub const PADDING: usize = 2;

/// One column, and what may become of it where there is no room.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// Its heading.
    pub name: &'static str,
    /// Cells may be cut to so many characters; `None`: never.
    least: Option<usize>,
    /// The column with the highest goes first; 0: never.
    goes: u8,
}

/// A column that stays, with whole cells: ids, and what decides.
#[must_use]
pub const fn whole(name: &'static str) -> Column {
    Column {
        name,
        least: None,
        goes: 0,
    }
}

/// A column that goes before all with a lower number.
#[must_use]
pub const fn less(name: &'static str, goes: u8) -> Column {
    Column { name, least: None, goes }
}

/// A column whose cells may be cut to so many characters, and that goes before all with a lower number.
#[must_use]
pub const fn cut_or_less(name: &'static str, least: usize, goes: u8) -> Column {
    Column {
        name,
        least: Some(least),
        goes,
    }
}

/// A column whose cells may be cut to so many characters.
#[must_use]
pub const fn cut(name: &'static str, least: usize) -> Column {
    Column {
        name,
        least: Some(least),
        goes: 0,
    }
}

impl Column {
    /// Whether its cells may be cut.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.least.is_some()
    }
}

/// Returns the columns that stay where there is so much room, by their places, each with its own: `natural` is how wide its widest cell is.
#[must_use]
pub fn fitted(columns: &[Column], natural: &[usize], width: usize) -> Vec<(usize, usize)> {
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
