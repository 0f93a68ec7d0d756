use super::super::testing::{Suite, changed, suite};
use super::*;
use crate::audit::report::{markdown, page};

#[test]
fn a_report_in_markdown() {
    insta::assert_snapshot!(markdown(&of_report(&suite("ci-4711").report())));
}

#[test]
fn a_difference_in_markdown() {
    insta::assert_snapshot!(markdown(&of_diff(&suite("ci-4710").diff(&changed("ci-4711")))));
}

#[test]
fn nothing_from_outside_is_markup_or_moves_a_cursor() {
    let mut hostile = Suite::begin("<b>\u{1b}[2J `x` | @all");
    hostile.session(1, "<i>|`\u{202e}");
    hostile.ran(1, "SELECT \"<script>\" FROM \"a|b`c\"", "SELECT 1");
    hostile.failed(1, "SELECT 1 FROM \"<u>\"", "42P01");
    let report = of_report(&hostile.report());
    let page = page(&report);
    for markup in ["<b>", "<i>", "<script>", "<u>", "\u{1b}", "\u{202e}"] {
        assert!(!page.contains(markup), "{markup}");
    }
    let text = markdown(&report);
    assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}'), "{text}");
    // A row has as many bars as its table has columns, and one.
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("| ")).collect();
    assert!(lines.iter().any(|line| line.contains("` SELECT \"<script>\" FROM")), "{text}");
    for line in lines {
        let outside = line.replace("\\|", "");
        assert!(outside.ends_with('|'), "{line}");
    }
}

#[test]
fn what_is_missing_comes_first() {
    let mut open = Suite::begin("run");
    open.session(1, "");
    open.sent(1, "SELECT 1");
    let mut report = open.report();
    report.limits.push("3 lines of the log cannot be read.".to_owned());
    report.meanwhile = None;
    let alarms = of_report(&report).alarms;
    for words in [
        "cannot be read",
        "end is not on record",
        "without an outcome",
        "takes the right to read the log",
    ] {
        assert!(alarms.iter().any(|alarm| alarm.contains(words)), "{words}: {alarms:?}");
    }
}
