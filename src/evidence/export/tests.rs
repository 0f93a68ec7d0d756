use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::RowAccessor as _;

use super::super::testing::{at, day};
use super::*;

#[test]
fn every_record_is_a_row_and_can_be_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.parquet");
    std::fs::write(&path, "an older one").unwrap();
    let records = day();
    assert_eq!(export(&path, records.clone().into_iter()).unwrap(), records.len() as u64);
    let reader = SerializedFileReader::try_from(path.as_path()).unwrap();
    let names: Vec<_> = reader
        .metadata()
        .file_metadata()
        .schema()
        .get_fields()
        .iter()
        .map(|field| field.name().to_owned())
        .collect();
    let expected: Vec<_> = COLUMNS.iter().map(|column| column.name).collect();
    assert_eq!(names, expected);
    let rows: Vec<_> = reader.get_row_iter(None).unwrap().map(Result::unwrap).collect();
    assert_eq!(rows.len(), records.len());
    for (row, record) in rows.iter().zip(&records) {
        assert_eq!(row.get_long(0).unwrap().cast_unsigned(), record.seq);
        assert_eq!(row.get_timestamp_micros(1).unwrap(), record.time.as_microsecond());
        assert_eq!(row.get_string(2).unwrap(), record.event.name().as_str());
        assert_eq!(row.get_string(18).unwrap(), &record.json());
    }
    let statement = rows.iter().find(|row| row.get_string(2).unwrap() == "statement").unwrap();
    let text = |column| statement.get_string(column).unwrap().as_str();
    assert_eq!(
        (text(3), text(4), text(5), text(6)),
        ("se_0000000001", "gr_0000000001", "ana", "orders")
    );
    assert_eq!((text(8), text(9), text(10)), ("parse", "SELECT 'a'", r#"[{"text":"b"}]"#));
    assert_eq!(statement.get_long(7).unwrap(), 1);
    assert!(statement.is_null(11).unwrap(), "a statement has no result");
    let ended = rows.iter().find(|row| row.get_string(2).unwrap() == "session_ended").unwrap();
    assert_eq!(ended.get_string(16).unwrap(), "expired");
    assert!(rows[1].get_timestamp_micros(1).unwrap() == at(0).as_microsecond());
}

#[test]
fn many_records_are_several_groups_and_none_is_a_file_too() {
    let dir = tempfile::tempdir().unwrap();
    let (many, none) = (dir.path().join("many"), dir.path().join("none"));
    let record = day().remove(0);
    let count = ROWS + 1;
    assert_eq!(export(&many, std::iter::repeat_n(record, count)).unwrap(), count as u64);
    let reader = SerializedFileReader::try_from(many.as_path()).unwrap();
    assert_eq!(reader.metadata().num_row_groups(), 2);
    assert_eq!(reader.metadata().file_metadata().num_rows(), i64::try_from(count).unwrap());
    assert_eq!(export(&none, std::iter::empty()).unwrap(), 0);
    assert_eq!(
        SerializedFileReader::try_from(none.as_path())
            .unwrap()
            .metadata()
            .num_row_groups(),
        0
    );
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let error = export(Path::new("/nowhere/log.parquet"), std::iter::empty()).unwrap_err();
    assert!(error.to_string().starts_with("cannot write /nowhere/log.parquet"), "{error}");
}
