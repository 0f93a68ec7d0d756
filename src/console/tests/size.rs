//! Pages of long lists and long texts stay small.

use maud::Markup;

use super::{now, request_with};
use crate::audit::LogRecord;
use crate::audit::testing::{ended, outcome, record, statement, who};
use crate::audit::timeline::SessionTimeline;
use crate::console::form::FormFields;
use crate::console::pages::decide::{self, DecideRow, DecideView};
use crate::console::pages::log::{self, LogPage};
use crate::console::pages::story::{self, StoryView};
use crate::control::model::LogStatus;
use crate::model::ids::SessionId;

/// Size of a page that a phone loads at once, in bytes.
const MAX_PAGE_BYTES: usize = 150_000;

#[test]
fn a_full_page_of_long_reasons_is_small() {
    let text = "long ".repeat(200);
    let row = || DecideRow {
        view: serde_json::from_value(request_with(&text, &serde_json::Value::Null, "pending")).unwrap(),
        mine: true,
    };
    let rows: Vec<_> = (0..25).map(|_| row()).collect();
    let view = DecideView {
        rows: &rows,
        reviews: false,
        all: false,
        now: now(),
    };
    let page = decide::body(&view).into_string();
    assert!(page.len() < MAX_PAGE_BYTES, "{}", page.len());
}

fn story_of(id: &SessionId, timeline: &SessionTimeline) -> Markup {
    story::body(&StoryView {
        id,
        timeline,
        cut: false,
        newest: false,
        reads_log: true,
        live: None,
    })
}

#[test]
fn a_statement_of_8_mib_is_cut_and_leads_to_the_whole() {
    let sql = format!("SELECT '{}'", "x".repeat(8 << 20));
    let who = who(1, "ana");
    let records = vec![record(7, statement(&who, 1, &sql, &[])), record(8, outcome(&who, 1, None))];
    let timeline = SessionTimeline::of(records.clone(), Vec::new());
    let story = story_of(&who.session, &timeline).into_string();
    assert!(story.len() < 10_000, "{}", story.len());
    for part in ["href=\"/v1/log?limit=1&amp;after=6&amp;grant=gr_", " of 8388617 bytes"] {
        assert!(story.contains(part), "{part}: {story}");
    }
    let found = LogPage {
        records,
        ..LogPage::default()
    };
    let page = log::body(&FormFields::default(), &found, &LogStatus::default(), None).into_string();
    assert!(page.len() < 20_000 && page.contains(" of 8388617 bytes"), "{}", page.len());
}

#[test]
fn ten_thousand_statements_are_shown_in_part() {
    let who = who(1, "ana");
    let records = (1..=10_000).map(|number| record(number, statement(&who, number, "SELECT 1", &[])));
    let timeline = SessionTimeline::of(records.collect(), Vec::new());
    let story = story_of(&who.session, &timeline).into_string();
    assert!(story.len() < 2 * MAX_PAGE_BYTES, "{}", story.len());
    assert!(story.contains("Only its first part is shown"), "the page says so");
}

#[test]
fn a_statement_and_the_outcome_that_found_it_stay_on_one_page() {
    let who = who(1, "ana");
    // As a search by result finds them, the newest first: statement 1 ended last, statement 60 first.
    let pair = |number: u64| {
        [
            record(200 - number, outcome(&who, number, None)),
            record(number, statement(&who, number, "SELECT 1", &[])),
        ]
    };
    let all: Vec<LogRecord> = (1..=60).flat_map(pair).collect();
    let mut rows = all.clone();
    let next = log::cut(&mut rows, true, false).unwrap();
    assert_eq!((rows.len(), rows.last().unwrap().seq), (50, 25));
    assert_eq!(format!("{next:?}"), "NextPage { before: 175, shown: 25 }");
    // Where the last row would be an outcome, its statement comes along.
    let mut rows = [&[record(300, ended(&who))], &all[..]].concat();
    let next = log::cut(&mut rows, true, false).unwrap();
    assert_eq!((rows.len(), rows.last().unwrap().seq), (51, 25));
    assert_eq!(format!("{next:?}"), "NextPage { before: 175, shown: 25 }");
    // Each for itself, the last row is where the next page begins.
    let mut rows = [&[record(300, ended(&who))], &all[..]].concat();
    let next = log::cut(&mut rows, false, false).unwrap();
    assert_eq!(format!("{next:?}"), "NextPage { before: 175, shown: 175 }");
    assert!(log::cut(&mut all[..50].to_vec(), true, false).is_none());
    // Where the rest is too large to be held, the page is shorter.
    let next = log::cut(&mut all[..2].to_vec(), true, true).unwrap();
    assert_eq!(format!("{next:?}"), "NextPage { before: 199, shown: 1 }");
    assert!(log::cut(&mut Vec::new(), true, true).is_none());
}
