use proptest::prelude::*;

use super::*;
use crate::audit::testing::{all, ended, outcome, record, statement, time, who, with_parse};

/// The numbers of the records whose lines are left.
fn left(filter: &Filter, events: Vec<crate::audit::event::Event<'static>>) -> Vec<u64> {
    let lines: String = (1..)
        .zip(events)
        .map(|(seq, event)| record(seq, event).json() + "\n")
        .collect();
    let mut left = Vec::new();
    LinePrefilter::of(filter).apply(lines.as_bytes(), |at, line| {
        assert_eq!(number(line), Some(at + 1));
        left.push(at + 1);
    });
    left
}

fn some() -> Vec<crate::audit::event::Event<'static>> {
    let (ana, ben) = (who(1, "ana"), who(2, "ben"));
    vec![
        // Its statement is elsewhere.
        outcome(&ana, 1, None),
        statement(&ana, 2, "SELECT * FROM cards", &[]),
        statement(&ben, 1, "DELETE FROM missing", &["4711"]),
        outcome(&ana, 2, None),
        outcome(&ben, 1, Some("42P01")),
        ended(&ana),
        // Its outcome is elsewhere.
        statement(&ben, 2, "select 2", &[]),
    ]
}

#[test]
fn what_belongs_together_is_left_out_together() {
    let filter = Filter::default;
    assert_eq!(left(&filter(), some()), [1, 2, 3, 4, 5, 6, 7]);
    let code = |code: &str| Filter {
        sqlstate: Some(code.to_owned()),
        ..filter()
    };
    assert_eq!(left(&code("42p"), some()), [1, 3, 5, 7]);
    assert_eq!(left(&code("57P01"), some()), [1, 6, 7]);
    let text = |text: &str| Filter {
        text: Some(text.to_owned()),
        ..filter()
    };
    assert_eq!(left(&text("CARDS"), some()), [1, 2, 4]);
    assert_eq!(left(&text("4711"), some()), [1, 3, 5]);
    let rows = Filter {
        min_rows: Some(2),
        ..filter()
    };
    assert_eq!(left(&rows, some()), [1, 7]);
    let both = Filter {
        identity: Some("ben".parse().unwrap()),
        table: Some("missing".parse().unwrap()),
        ..code("42")
    };
    assert_eq!(left(&both, some()), [3, 5]);
    let late = Filter {
        since: Some(time(4)),
        until: Some(time(6)),
        ..filter()
    };
    // The end may be between two microseconds: the joiner knows.
    assert_eq!(left(&late, some()), [4, 5, 6]);
}

#[test]
fn a_parse_is_found_in_the_record_of_its_execute() {
    let ana = who(1, "ana");
    let events = || {
        vec![
            with_parse(&ana, 1, "SELECT 1"),
            outcome(&ana, 1, None),
            statement(&ana, 2, "SELECT 1", &["x"]),
            outcome(&ana, 2, None),
            statement(&ana, 3, "SELECT 1", &[]),
            outcome(&ana, 3, None),
        ]
    };
    for (kind, expected) in [
        (StatementKind::Parse, &[1, 2][..]),
        (StatementKind::Execute, &[1, 2, 3, 4]),
        (StatementKind::Query, &[5, 6]),
        (StatementKind::Bind, &[]),
    ] {
        let filter = Filter {
            kind: Some(kind),
            ..Filter::default()
        };
        assert_eq!(left(&filter, events()), expected, "{kind:?}");
        let mut joiner = super::super::RecordJoiner::new(filter);
        let mut chosen = Vec::new();
        for (seq, event) in (1..).zip(events()) {
            joiner.offer(record(seq, event), |record| chosen.push(record.seq));
        }
        assert_eq!(chosen, expected, "{kind:?}");
    }
}

#[test]
fn what_is_not_written_as_ours_is_left() {
    let nobody = Filter {
        identity: Some("eve".parse().unwrap()),
        text: Some("nothing".to_owned()),
        ..Filter::default()
    };
    let prefilter = LinePrefilter::of(&nobody);
    let line = |number| record(number, statement(&who(1, "ana"), 7, "SELECT 1", &[])).json();
    let left = |text: String| {
        let mut left = Vec::new();
        prefilter.apply(text.as_bytes(), |_, line| left.push(line.to_vec()));
        left
    };
    assert_eq!(
        left(line(1) + "\nscribble\n{\"v\":3}\n" + line(1).get(..90).unwrap()).len(),
        3
    );
    // The same statement twice: somebody else has written that.
    assert_eq!(left(line(1) + "\n" + &line(2) + "\n").len(), 2);
    assert_eq!(left(line(1) + "\n").len(), 0);
}

#[test]
fn every_event_that_is_wanted_is_left() {
    let ana = who(1, "ana");
    let filters = [
        Filter {
            grant: Some(ana.grant),
            ..Filter::default()
        },
        Filter {
            until: Some(jiff::Timestamp::MAX),
            since: Some(jiff::Timestamp::MIN),
            ..Filter::default()
        },
        Filter {
            sqlstate: Some("5".to_owned()),
            ..Filter::default()
        },
        Filter {
            text: Some("A".to_owned()),
            ..Filter::default()
        },
    ];
    for filter in filters {
        let mut readings = crate::audit::sql_analysis::AnalysisCache::default();
        let records = (1..).zip(all()).map(|(seq, event)| record(seq, event));
        let wanted: Vec<_> = records
            .filter(|record| filter.matches(record, &mut readings))
            .map(|record| record.seq)
            .collect();
        assert!(!wanted.is_empty());
        let left = left(&filter, all());
        assert!(wanted.iter().all(|number| left.contains(number)), "{wanted:?} {left:?}");
    }
}

/// What the needles of a text rely on.
#[test]
fn two_characters_outside_ascii_have_letters_of_ascii_in_small() {
    let found: String = ('\u{80}'..=char::MAX)
        .filter(|character| character.to_lowercase().any(|small| small.is_ascii()))
        .collect();
    assert_eq!(found, "\u{130}\u{212a}");
}

/// The words of a class rely on it.
#[test]
#[expect(clippy::too_many_lines, reason = "one line for each text")]
fn a_class_of_a_text_is_in_its_words() {
    for sql in [
        "SELECT 1",
        "VALUES (1)",
        "TABLE t",
        "WITH d AS (DELETE FROM t RETURNING *) SELECT * FROM d",
        "SELECT 1 AS a INTO t",
        "INSERT INTO t VALUES (1); UPDATE t SET a = 1; DELETE FROM t",
        "MERGE INTO t USING s ON t.a = s.a WHEN MATCHED THEN DELETE",
        "TRUNCATE t",
        "COPY t TO STDOUT",
        "CREATE TABLE t AS SELECT 1",
        "CREATE VIEW v AS SELECT 1",
        "ALTER TABLE t ADD a int",
        "DROP TABLE t",
        "COMMENT ON TABLE t IS 'x'",
        "CREATE ROLE r",
        "CREATE USER r",
        "ALTER ROLE r CREATEDB",
        "GRANT SELECT ON t TO r",
        "REVOKE SELECT ON t FROM r",
        "BEGIN",
        "START TRANSACTION",
        "END",
        "COMMIT",
        "ABORT",
        "ROLLBACK",
        "SAVEPOINT a",
        "RELEASE a",
        "SET a.b = 1",
        "RESET a.b",
        "RESET ALL",
        "SET ROLE r",
        "DISCARD ALL",
        "SHOW a.b",
        "EXPLAIN DELETE FROM t",
        "DESCRIBE t",
        "DESC t",
        "PREPARE p AS SELECT 1",
        "DEALLOCATE p",
        "EXECUTE p(1)",
        "EXEC p",
        "CALL p()",
        "DO $$BEGIN END$$",
        "DECLARE c CURSOR FOR SELECT 1",
        "FETCH 5 FROM c",
        "MOVE 5 FROM c",
        "CLOSE c",
        "LOCK TABLE t",
        "LISTEN a",
        "NOTIFY a",
        "UNLISTEN a",
        "VACUUM t",
        "ANALYZE t",
        "REINDEX TABLE t",
        "CLUSTER t",
        "CHECKPOINT",
        "REFRESH MATERIALIZED VIEW v",
        "SELECT 1 END; DROP TABLE a",
        "/* delete */ (SELECT 'delete'",
    ] {
        let event = statement(&who(1, "ana"), 1, sql, &[]);
        let reading = match &event {
            crate::audit::event::Event::Statement(statement) => {
                crate::audit::sql_analysis::AnalysisCache::default().of_statement(statement)
            }
            _ => unreachable!(),
        };
        assert!(!reading.classes.is_empty(), "{sql}");
        for class in &reading.classes {
            let filter = Filter {
                class: Some(*class),
                ..Filter::default()
            };
            let answered = vec![event.clone(), outcome(&who(1, "ana"), 1, None)];
            assert_eq!(left(&filter, answered), [1, 2], "{sql}: {class:?}");
        }
    }
    // A class that neither has.
    let deletes = Filter {
        class: Some(CommandClass::Delete),
        ..Filter::default()
    };
    let ana = who(1, "ana");
    let pair = |tag| {
        vec![
            statement(&ana, 1, "SELECT 1", &[]),
            crate::audit::testing::tagged(&ana, 1, &[tag]),
        ]
    };
    assert_eq!(left(&deletes, pair("SELECT 1")), [0; 0]);
    assert_eq!(left(&deletes, pair("DELETE 1")), [1, 2]);
}

proptest! {
    #[test]
    fn needles_are_found_in_the_lines_where_they_stand(
        lines in proptest::collection::vec(("[abAB]{0,6}", any::<bool>()), 1..12),
        needles in proptest::collection::vec("[ab]{1,3}", 0..3),
        any_case in any::<bool>(),
    ) {
        let needles: Vec<_> = needles.iter().map(String::as_str).collect();
        let condition = Condition::new(Part::Every, any_case, &needles);
        let text: String = lines.iter().flat_map(|(line, _)| [&**line, "\n"]).collect();
        let small = text.to_ascii_lowercase();
        let mut places = PatternOffsets::new(&condition, text.as_bytes(), small.as_bytes());
        let mut start = 0;
        for (line, is_asked) in &lines {
            let place = start..start + line.len() + 1;
            start = place.end;
            let hay = if any_case { line.to_ascii_lowercase() } else { line.clone() };
            if *is_asked {
                prop_assert_eq!(places.may_be_in(&place), needles.iter().any(|needle| hay.contains(needle)));
            }
        }
    }
}
