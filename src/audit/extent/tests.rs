use super::*;
use crate::audit::event::StatementOutcome;
use crate::audit::record::LogRecord;
use crate::audit::testing::{ended, outcome, record, statement, who};

/// An outcome that took so long.
fn took(seq: u64, number: u64, duration_us: u64) -> LogRecord {
    let Event::Outcome(outcome) = outcome(&who(1, "ana"), number, None) else {
        unreachable!("an outcome")
    };
    record(
        seq,
        Event::Outcome(StatementOutcome {
            duration_us,
            rows: 100 - duration_us,
            ..outcome
        }),
    )
}

/// The numbers of the records that come out of a gathering.
fn gathered(extent: SearchExtent, filter: &Filter, records: Vec<LogRecord>) -> Vec<u64> {
    let (mut gather, mut ready) = (extent.gather(filter).unwrap(), VecDeque::new());
    for record in records {
        gather.take(Ok(record), &mut ready);
    }
    assert!(ready.is_empty());
    gather.finish(&mut ready);
    ready.into_iter().map(|item| item.unwrap().seq).collect()
}

fn history() -> Vec<LogRecord> {
    let ana = who(1, "ana");
    let statement = |seq, number| record(seq, statement(&ana, number, "SELECT 1", &[]));
    vec![
        statement(1, 1),
        took(2, 1, 30),
        statement(3, 2),
        took(4, 2, 50),
        statement(5, 3),
        took(6, 3, 10),
        statement(7, 4),
        took(8, 4, 50),
    ]
}

#[test]
fn the_newest_are_kept_in_the_order_of_time() {
    let last = |last| SearchExtent {
        last: Some(last),
        ..SearchExtent::default()
    };
    let all = Filter::default();
    assert_eq!(gathered(last(3), &all, history()), [6, 7, 8]);
    assert_eq!(gathered(last(100), &all, history()).len(), 8);
    assert_eq!(gathered(last(0), &all, history()), [] as [u64; 0]);
}

#[test]
fn the_largest_come_first_and_of_equal_ones_the_earliest() {
    let sorted = |sort, limit| SearchExtent {
        sort: Some(sort),
        limit,
        ..SearchExtent::default()
    };
    let all = Filter::default();
    assert_eq!(
        gathered(sorted(SortKey::Duration, None), &all, history()),
        [3, 4, 7, 8, 1, 2, 5, 6]
    );
    assert_eq!(gathered(sorted(SortKey::Duration, Some(2)), &all, history()), [3, 4, 7, 8]);
    assert_eq!(gathered(sorted(SortKey::Rows, Some(1)), &all, history()), [5, 6]);
    let statements = Filter {
        event: Some(EventName::Statement),
        ..Filter::default()
    };
    assert_eq!(gathered(sorted(SortKey::Duration, Some(2)), &statements, history()), [3, 7]);
    let ends = vec![record(1, ended(&who(1, "ana")))];
    assert_eq!(gathered(sorted(SortKey::Rows, None), &all, ends), [1]);
}

#[test]
fn what_is_held_back_is_bounded_and_the_rest_is_told() {
    let long = "x".repeat(MAX_HELD_TEXT_BYTES / 4);
    let ana = who(1, "ana");
    let extent = SearchExtent {
        last: Some(10),
        ..SearchExtent::default()
    };
    let (mut gather, mut ready) = (extent.gather(&Filter::default()).unwrap(), VecDeque::new());
    for seq in 1..=8 {
        gather.take(Ok(record(seq, statement(&ana, seq, &long, &[]))), &mut ready);
        assert!(gather.bytes <= MAX_HELD_TEXT_BYTES + MAX_HELD_TEXT_BYTES / 4 + RECORD_BYTES);
    }
    assert!(!gather.wants_older());
    gather.finish(&mut ready);
    assert!(matches!(ready.pop_front(), Some(Err(ReadError::NotHeldBack { count: 5 }))));
    let kept: Vec<_> = ready.into_iter().map(|item| item.unwrap().seq).collect();
    assert_eq!(kept, [6, 7, 8]);
}

#[test]
fn what_does_not_go_together_is_refused() {
    let extent = |follow, last, sort: Option<SortKey>, limit| {
        let extent = SearchExtent {
            follow,
            last,
            sort,
            limit,
        };
        extent.check(&Filter::default())
    };
    let sort = Some(SortKey::Rows);
    assert_eq!(extent(true, Some(5), None, None), Ok(()));
    assert_eq!(extent(false, None, sort, Some(5)), Ok(()));
    assert_eq!(extent(false, None, None, Some(1_000_000)), Ok(()), "nothing is held back");
    assert_eq!(extent(true, None, sort, None), Err(ExtentError::Sorted));
    assert_eq!(extent(false, Some(5), sort, None), Err(ExtentError::Sorted));
    assert_eq!(extent(false, Some(5), None, Some(5)), Err(ExtentError::Limited));
    assert_eq!(extent(true, None, None, Some(5)), Err(ExtentError::Limited));
    assert_eq!(extent(false, Some(10_001), None, None), Err(ExtentError::TooMany));
    assert_eq!(extent(false, None, sort, Some(10_001)), Err(ExtentError::TooMany));
    let refused = Filter {
        event: Some(EventName::Refused),
        ..Filter::default()
    };
    let sorted = SearchExtent {
        sort,
        ..SearchExtent::default()
    };
    assert_eq!(sorted.check(&refused), Err(ExtentError::Unmeasured));
}
