//! Writes the tables of a report as CSV files, one for each (RFC 4180), and the page beside them.
//!
//! This module does not build tables. INVARIANT: no cell is a formula to a spreadsheet: a cell that begins like one gets an
//! apostrophe before it (OWASP, "CSV injection").

use std::borrow::Cow;
use std::fs::DirBuilder;
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::audit::report::ReportTable;

/// Error of writing the folder or a file.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}: {source}", path.display())]
pub struct SheetError {
    /// Path of the folder or file.
    path: PathBuf,
    /// Error of the operating system, or of the CSV writer.
    source: io::Error,
}

impl SheetError {
    fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self {
            path: path.to_owned(),
            source,
        }
    }
}

/// Writes `report.html` and a CSV file for each table into the folder, which is created if it does not exist. Files of these
/// names are replaced. Returns the number of files written.
pub fn write(folder: &Path, page: &str, tables: &[ReportTable]) -> Result<usize, SheetError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(SheetError::at(folder))?;
    for table in tables {
        let path = folder.join(format!("{}.csv", table.name));
        let sheet = sheet(table).map_err(SheetError::at(&path))?;
        replace(&path, &sheet)?;
    }
    replace(&folder.join("report.html"), page.as_bytes())?;
    Ok(tables.len() + 1)
}

/// Replaces a file atomically, readable for its owner only: a report says what users did.
fn replace(path: &Path, text: &[u8]) -> Result<(), SheetError> {
    let written = || {
        // `NamedTempFile` creates files with mode 0600.
        let mut file = NamedTempFile::new_in(path.parent().unwrap_or(Path::new(".")))?;
        file.write_all(text)?;
        file.persist(path)?;
        Ok(())
    };
    written().map_err(SheetError::at(path))
}

fn sheet(table: &ReportTable) -> io::Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(&table.head)?;
    for row in &table.rows {
        writer.write_record(row.cells.iter().map(|cell| harmless(cell).into_owned()))?;
    }
    writer.into_inner().map_err(csv::IntoInnerError::into_error)
}

/// Returns a cell that no spreadsheet evaluates. Spreadsheets skip leading blanks, and take the full-width signs of East Asian
/// keyboards for the ASCII ones.
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
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::audit::report::TableRow;

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
        let table = ReportTable {
            name: "grants",
            title: "Grants",
            note: String::new(),
            head: vec!["a", "b", "c", "d", "e", "f"],
            rows: vec![TableRow {
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

    #[test]
    fn a_report_is_for_its_owner_only_also_where_an_older_one_was_not() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("report");
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        write(&folder, "one", &[]).unwrap();
        assert_eq!(mode(&folder), 0o700);
        let page = folder.join("report.html");
        std::fs::set_permissions(&page, std::fs::Permissions::from_mode(0o644)).unwrap();
        write(&folder, "two", &[]).unwrap();
        assert_eq!(
            (mode(&page), std::fs::read_to_string(&page).unwrap()),
            (0o600, "two".to_owned())
        );
    }
}
