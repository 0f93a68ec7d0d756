use super::super::tables;
use super::super::testing::{at, collect, day, whole};
use super::*;

fn shown(report: &EvidenceReport) -> String {
    page(report, &tables(report), at(60))
}

#[test]
fn a_day_on_paper() {
    let report = collect(&day(), 0, 60, Ok(whole()));
    // A line for each element: differences can be read.
    insta::assert_snapshot!(shown(&report).replace("><", ">\n<").replace(STYLE, "STYLE"));
}

#[test]
fn nothing_from_outside_is_markup_or_moves_a_cursor() {
    let page = shown(&collect(&day(), 0, 60, Ok(whole())));
    assert!(page.contains("it &lt;burns&gt;") && !page.contains("<burns>"));
    assert!(!page.contains('\u{1b}') && !page.contains("<script"));
    // Self-contained: nothing is loaded.
    assert!(!page.contains("src=") && !page.contains("http"));
}

#[test]
fn what_is_wrong_comes_first() {
    let alarm = |report: &EvidenceReport| {
        let page = shown(report);
        let found = page
            .split_once("<ul class=\"alarm\">")
            .map(|(_, rest)| rest.split_once("</ul>").unwrap().0.to_owned());
        found.unwrap_or_default()
    };
    let report = collect(&day(), 0, 60, Err("the folder is gone".to_owned()));
    for words in [
        "was not verified",
        "without a review: 1.",
        "without an end on record: 1.",
        "could not be written: 2.",
        "past the gate: 1.",
    ] {
        assert!(alarm(&report).contains(words), "{words}: {}", alarm(&report));
    }
    assert_eq!(alarm(&collect(&day(), 0, 30, Ok(whole()))), "");
    let role_left = collect(&day(), 0, 66, Ok(whole()));
    assert!(!alarm(&role_left).contains("their grant was over"), "it is over at 66");
    let role_left = collect(&day(), 0, 67, Ok(whole()));
    assert!(
        alarm(&role_left).contains("although their grant was over: 1."),
        "{}",
        alarm(&role_left)
    );
    assert!(shown(&role_left).contains("<td class=\"whole\">NOT GONE</td>"));
    let mut cut = collect(&day(), 0, 30, Ok(whole()));
    cut.log_damaged = 1;
    assert!(alarm(&cut).contains("changed or missing, or the file gone: 1."));
    let mut broken = whole();
    broken.flaw = Some(crate::audit::verify::LogFlaw::Missing { first: 2, last: 3 });
    let report = collect(&day(), 0, 30, Ok(broken));
    assert!(alarm(&report).contains("not whole") && shown(&report).contains("segments 2 to 3 are missing"));
}

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
    let text = section(&table).into_string();
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
    let text = section(grants).into_string();
    assert!(text.contains("<td class=\"whole\">gr_"), "{text}");
    assert!(
        text.contains("for there is no room: ") && text.contains("policy set"),
        "{text}"
    );
}
