//! Records as a Parquet file: a row for each, with columns of their own for what is searched by, and the line itself.
//!
//! It chooses no records. Memory is that of one row group, however many there are.
//!
//! The law: the file is there whole or not at all.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::basic::{Compression, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use serde_json::Value;
use tempfile::NamedTempFile;

use crate::audit::Record;

/// A row group is written when it has so many rows, or so many bytes of text.
const ROWS: usize = 50_000;
const BYTES: usize = 32 * 1024 * 1024;

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The file cannot be made.
    #[error("cannot write {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// A part of it cannot be written.
    #[error("cannot write the Parquet file")]
    Parquet(#[from] ParquetError),
}

/// What a column holds, and where in a record it is found.
struct Column {
    name: &'static str,
    /// A JSON pointer into the record.
    place: &'static str,
    holds: Holds,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Holds {
    /// A number that every record has.
    Number,
    /// A number, or nothing.
    MaybeNumber,
    /// Microseconds since 1970, in UTC.
    Time,
    /// The record's line.
    Line,
    /// A text that every record has.
    Text,
    /// A text, or nothing; what is no text is written as JSON.
    MaybeText,
}

const fn column(name: &'static str, place: &'static str, holds: Holds) -> Column {
    Column { name, place, holds }
}

const COLUMNS: [Column; 25] = [
    column("seq", "/seq", Holds::Number),
    column("time", "/time", Holds::Time),
    column("event", "/event", Holds::Text),
    column("session", "/session", Holds::MaybeText),
    column("grant", "/grant", Holds::MaybeText),
    column("identity", "/identity", Holds::MaybeText),
    column("target", "/target", Holds::MaybeText),
    column("statement", "/statement", Holds::MaybeNumber),
    column("kind", "/kind", Holds::MaybeText),
    column("sql", "/sql/text", Holds::MaybeText),
    column("parameters", "/parameters", Holds::MaybeText),
    column("result", "/result", Holds::MaybeText),
    column("sqlstate", "/sqlstate", Holds::MaybeText),
    column("rows", "/rows", Holds::MaybeNumber),
    column("bytes", "/bytes", Holds::MaybeNumber),
    column("duration_us", "/duration_us", Holds::MaybeNumber),
    column("ending", "/ending", Holds::MaybeText),
    column("detail", "/detail", Holds::MaybeText),
    column("raw", "", Holds::Line),
    column("sql_length", "/sql/length", Holds::MaybeNumber),
    column("sql_hmac_sha256", "/sql/hmac_sha256", Holds::MaybeText),
    column("profile", "/profile", Holds::MaybeText),
    column("masked_tables", "/masked_tables", Holds::MaybeNumber),
    column("rows_sent", "/rows_sent", Holds::MaybeNumber),
    column("portal_rows_sent", "/portal_rows_sent", Holds::MaybeNumber),
];

impl Holds {
    fn optional(self) -> bool {
        matches!(self, Self::MaybeNumber | Self::MaybeText)
    }

    /// The column in the schema's own language.
    fn type_of(self) -> (&'static str, &'static str) {
        match self {
            Self::Number | Self::MaybeNumber => ("INT64", ""),
            Self::Time => ("INT64", " (TIMESTAMP(MICROS,true))"),
            Self::Line | Self::Text | Self::MaybeText => ("BYTE_ARRAY", " (STRING)"),
        }
    }
}

fn schema() -> String {
    let fields = COLUMNS.iter().map(|column| {
        let (repetition, (physical, logical)) = (
            if column.holds.optional() { "OPTIONAL" } else { "REQUIRED" },
            column.holds.type_of(),
        );
        format!("{repetition} {physical} {}{logical};", column.name)
    });
    format!("message audit_log {{ {} }}", fields.collect::<Vec<_>>().join(" "))
}

/// Writes the records into a new file at `path`, which replaces one that is there. Returns how many there were.
pub fn export(path: &Path, records: impl Iterator<Item = Record>) -> Result<u64, ExportError> {
    let failed = |source| ExportError::Io {
        path: path.to_owned(),
        source,
    };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut file = NamedTempFile::new_in(folder.unwrap_or(Path::new("."))).map_err(failed)?;
    let count = write(file.as_file_mut(), records)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(count)
}

fn write(out: impl io::Write + Send, records: impl Iterator<Item = Record>) -> Result<u64, ParquetError> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_created_by(concat!("tidegate ", env!("CARGO_PKG_VERSION")).to_owned())
        .build();
    let schema = Arc::new(parse_message_type(&schema())?);
    let mut writer = SerializedFileWriter::new(out, schema, Arc::new(properties))?;
    let mut group = Group::new();
    let mut count = 0;
    for record in records {
        group.push(&record);
        count += 1;
        if group.is_full() {
            group.write(&mut writer)?;
        }
    }
    if group.rows > 0 {
        group.write(&mut writer)?;
    }
    writer.close()?;
    Ok(count)
}

/// Rows that are not written yet, column by column.
struct Group {
    columns: Vec<Cells>,
    rows: usize,
    bytes: usize,
}

/// The values of a column, and for each row whether it has one.
struct Cells {
    values: Values,
    levels: Vec<i16>,
}

enum Values {
    Numbers(Vec<i64>),
    Texts(Vec<ByteArray>),
}

impl Group {
    fn new() -> Self {
        let cells = |column: &Column| Cells {
            values: match column.holds {
                Holds::Number | Holds::MaybeNumber | Holds::Time => Values::Numbers(Vec::new()),
                Holds::Line | Holds::Text | Holds::MaybeText => Values::Texts(Vec::new()),
            },
            levels: Vec::new(),
        };
        Self {
            columns: COLUMNS.iter().map(cells).collect(),
            rows: 0,
            bytes: 0,
        }
    }

    fn is_full(&self) -> bool {
        self.rows >= ROWS || self.bytes >= BYTES
    }

    fn push(&mut self, record: &Record) {
        let line = record.json();
        // A line that this program has made can be read by it.
        let whole: Value = serde_json::from_str(&line).unwrap_or_default();
        for (column, cells) in COLUMNS.iter().zip(&mut self.columns) {
            let found = whole.pointer(column.place).filter(|found| !found.is_null());
            let there = match &mut cells.values {
                Values::Numbers(numbers) => {
                    let number = match column.holds {
                        Holds::Time => Some(record.time.as_microsecond()),
                        // Only what every record has must be there; it is.
                        Holds::Number => Some(found.and_then(number).unwrap_or_default()),
                        _ => found.and_then(number),
                    };
                    numbers.extend(number);
                    number.is_some()
                }
                Values::Texts(texts) => {
                    let text = match column.holds {
                        Holds::Line => Some(line.clone()),
                        Holds::Text => Some(found.map(text).unwrap_or_default()),
                        _ => found.map(text),
                    };
                    self.bytes += text.as_ref().map_or(0, String::len);
                    let there = text.is_some();
                    texts.extend(text.map(|text| ByteArray::from(text.into_bytes())));
                    there
                }
            };
            cells.levels.push(i16::from(there));
        }
        self.rows += 1;
    }

    fn write<W: io::Write + Send>(&mut self, writer: &mut SerializedFileWriter<W>) -> Result<(), ParquetError> {
        let mut group = writer.next_row_group()?;
        for (column, cells) in COLUMNS.iter().zip(&mut self.columns) {
            let Some(mut out) = group.next_column()? else { break };
            let levels = column.holds.optional().then_some(&*cells.levels);
            match &mut cells.values {
                Values::Numbers(numbers) => {
                    out.typed::<Int64Type>().write_batch(numbers, levels, None)?;
                    numbers.clear();
                }
                Values::Texts(texts) => {
                    out.typed::<ByteArrayType>().write_batch(texts, levels, None)?;
                    texts.clear();
                }
            }
            out.close()?;
            cells.levels.clear();
        }
        group.close()?;
        (self.rows, self.bytes) = (0, 0);
        Ok(())
    }
}

fn number(value: &Value) -> Option<i64> {
    value.as_i64()
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests;
