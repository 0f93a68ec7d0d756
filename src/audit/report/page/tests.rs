use super::*;
use crate::audit::evidence::tables;
use crate::audit::evidence::testing::{collect, day, whole};

#[test]
fn long_tables_are_cut_on_paper_only() {
    let row = || TableRow {
        cells: vec!["x".to_owned()],
        remarkable: false,
    };
    let table = ReportTable {
        name: "grants",
        title: "Grants",
        note: String::new(),
        head: vec!["a"],
        rows: (0..1_005).map(|_| row()).collect(),
        more: 3,
    };
    let text = section(&table, Elsewhere::Csv).into_string();
    assert_eq!(text.matches("<td").count(), MAX_ROWS);
    assert!(text.contains("8 more; grants.csv has 1005 rows"), "{text}");
}

#[test]
fn a_table_fits_the_page_and_no_id_is_broken() {
    let report = collect(&day(), 0, 60, Ok(whole()));
    let all = tables(&report);
    for table in &all {
        let columns = table.columns();
        let shown = on_page(table, &columns);
        let least = |place: &usize| {
            let widest = table
                .rows
                .iter()
                .map(|row| row.cells[*place].chars().count())
                .max()
                .unwrap_or(0);
            if columns[*place].is_cut() { widest.min(14) } else { widest }
        };
        let room: usize = shown.iter().map(|place| least(place) + crate::base::columns::PADDING).sum();
        assert!(room <= PAGE_WIDTH_CHARS, "{}: {room}", table.name);
        for (place, name) in table.head.iter().enumerate() {
            let is_id = matches!(*name, "grant" | "session" | "role" | "wanted");
            assert!(
                !is_id || (shown.contains(&place) && !columns[place].is_cut()),
                "{}: {name}",
                table.name
            );
        }
    }
    let grants = all.iter().find(|table| table.name == "grants").unwrap();
    let text = section(grants, Elsewhere::Csv).into_string();
    assert!(text.contains("<td class=\"whole\">gr_"), "{text}");
    assert!(
        text.contains("for there is no room: ") && text.contains("policy set"),
        "{text}"
    );
}
