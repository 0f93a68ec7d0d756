use super::super::tables;
use super::super::testing::{at, collect, day, whole};
use super::*;
use crate::audit::report::page;

fn shown(report: &EvidenceReport) -> String {
    page(&document(report, tables(report), at(60)))
}

/// Differences can be read.
fn one_element_a_line(page: &str) -> String {
    let (before, rest) = page.split_once("<style>").unwrap();
    let (_, after) = rest.split_once("</style>").unwrap();
    format!("{before}<style>STYLE</style>{after}").replace("><", ">\n<")
}

#[test]
fn a_day_on_paper() {
    let report = collect(&day(), 0, 60, Ok(whole()));
    insta::assert_snapshot!(one_element_a_line(&shown(&report)));
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
