//! A report's tables as CSV files, one for each (RFC 4180), and the page beside them.
//!
//! It makes no tables. INVARIANT: no cell is a formula to a spreadsheet: what begins with one of its signs gets an apostrophe
//! before it (OWASP, "CSV injection").

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};

use super::tables::Table;

/// Why the files were not written.
#[derive(Debug, thiserror::Error)]
pub enum SheetError {
    /// The folder or a file.
    #[error("{} cannot be written: {source}", path.display())]
    Io {
        /// The folder or file.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// A table.
    #[error("{} cannot be written: {source}", path.display())]
    Csv {
        /// The file.
        path: PathBuf,
        /// Why.
        source: csv::Error,
    },
}

/// Writes `report.html` and a CSV file for each table into the folder, which is made if it does not exist. Files of these names
/// are replaced. Returns how many files were written.
pub fn write(folder: &Path, page: &str, tables: &[Table]) -> Result<usize, SheetError> {
    std::fs::create_dir_all(folder).map_err(|source| SheetError::Io {
        path: folder.to_owned(),
        source,
    })?;
    for table in tables {
        let path = folder.join(format!("{}.csv", table.name));
        sheet(&path, table).map_err(|source| SheetError::Csv { path, source })?;
    }
    let path = folder.join("report.html");
    std::fs::write(&path, page).map_err(|source| SheetError::Io { path, source })?;
    Ok(tables.len() + 1)
}

fn sheet(path: &Path, table: &Table) -> Result<(), csv::Error> {
    let mut writer = csv::Writer::from_path(path)?;
    writer.write_record(table.head)?;
    for row in &table.rows {
        writer.write_record(row.cells.iter().map(|cell| harmless(cell).into_owned()))?;
    }
    writer.flush()?;
    Ok(())
}

/// A cell that no spreadsheet computes: those pass over blanks at its beginning, and take the wide signs of East Asian keyboards
/// for the others.
#[must_use]
pub fn harmless(cell: &str) -> Cow<'_, str> {
    let begins = cell.trim_start().starts_with(['=', '+', '-', '@', '＝', '＋', '－', '＠']);
    if begins || cell.starts_with(['\t', '\r', '\n']) {
        Cow::Owned(format!("'{cell}"))
    } else {
        Cow::Borrowed(cell)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tables::Row;
    use super::*;

    #[test]
    fn formulas_are_made_harmless() {
        for formula in ["=1+1", "+1", "-1", "@SUM(A1)", " =cmd|' /C calc'!A0", "＝1", "\tx", "\r\n=1"] {
            assert_eq!(harmless(formula), format!("'{formula}"));
        }
        for text in ["", "SELECT -1", "a=b", "'=1", " x"] {
            assert_eq!(harmless(text), text);
        }
    }

    #[test]
    fn nothing_is_a_formula_and_everything_can_be_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let cells = ["=1+1", "+1", "-1", "@SUM(A1)", "plain", "a,\"b\"\nc"];
        let table = Table {
            name: "grants",
            title: "Grants",
            note: String::new(),
            head: &["a", "b", "c", "d", "e", "f"],
            rows: vec![Row {
                cells: cells.map(str::to_owned).into(),
                remarkable: false,
            }],
            more: 0,
        };
        let folder = dir.path().join("made/for/it");
        assert_eq!(write(&folder, "<html>", &[table]).unwrap(), 2);
        let mut sheet = csv::Reader::from_path(folder.join("grants.csv")).unwrap();
        let row = sheet.records().next().unwrap().unwrap();
        let found: Vec<&str> = row.iter().collect();
        assert_eq!(found, ["'=1+1", "'+1", "'-1", "'@SUM(A1)", "plain", "a,\"b\"\nc"]);
        assert_eq!(std::fs::read_to_string(folder.join("report.html")).unwrap(), "<html>");
    }
}
