use super::*;
use crate::rails::Rule;
use proptest::prelude::*;

fn now() -> Instant {
    Instant::now()
}

fn prepared(text: &'static str) -> Arc<Prepared> {
    let keep = crate::session::Keep {
        sql: 1000,
        parameter: 100,
        show: crate::audit::values::Show::Full,
        key: crate::audit::values::ValueKey::for_test(),
    };
    let read = crate::session::statement::read(text.as_bytes(), None, &keep, crate::session::statement::Manner::default());
    Arc::new(Prepared::new(read.into_owned(), 0, &[], &Held::default()))
}

fn portal() -> Arc<Portal> {
    Arc::new(Portal {
        name: Box::default(),
        prepared: None,
        uncertain: false.into(),
        parameters: Vec::new(),
        parameter_count: None,
        executed: false.into(),
        rows_sent: 0.into(),
        _weight: Held::default().weigh(0),
    })
}

/// Answers a message and returns what it settled: number, what happened, rows.
fn answer(book: &mut Book, tag: u8, body: &[u8]) -> Vec<(u64, Done, u64)> {
    let mut all = Vec::new();
    book.answer(tag, body, |settled| all.push((settled.statement, settled.done, settled.rows)));
    all
}

fn text_of(lookup: &Lookup<Prepared>) -> &str {
    match lookup {
        Lookup::Known(prepared) => &prepared.read.sql.text.0,
        Lookup::Unknown => "unknown",
        Lookup::Wait => "wait",
    }
}

fn refusal() -> Arc<Refused> {
    Arc::new(Refused {
        rule: Rule::NeedWhere,
        message: String::new(),
        detail: String::new(),
        hint: String::new(),
    })
}

const ERROR: &[u8] = b"SERROR\0VERROR\0C22012\0Mdivision by zero\0\0";

#[test]
fn a_simple_query_is_settled_by_ready_for_query() {
    let mut book = Book::default();
    book.query(1, now());
    assert!(answer(&mut book, b'C', b"INSERT 0 2\0").is_empty());
    assert!(answer(&mut book, b'C', b"SELECT 3\0").is_empty());
    assert_eq!(answer(&mut book, b'Z', b"I"), [(1, Done::Completed, 5)]);
    assert!(!book.executing());
}

#[test]
fn a_failed_query_says_so_and_its_tags_before_the_error_stay() {
    let mut book = Book::default();
    book.query(1, now());
    answer(&mut book, b'C', b"INSERT 0 2\0");
    answer(&mut book, b'E', ERROR);
    let mut got = None;
    book.answer(b'Z', b"I", |settled| got = Some(settled));
    let got = got.unwrap();
    assert_eq!(
        (got.done, got.sqlstate.as_deref(), got.tags.len()),
        (Done::Failed, Some(&b"22012"[..]), 1)
    );
}

#[test]
fn an_error_skips_to_sync_and_no_further() {
    let mut book = Book::default();
    book.parse(1, now(), b"", prepared("select 1/0"));
    book.bind(now(), b"", portal());
    book.execute(2, now(), None);
    book.execute(3, now(), None);
    book.sync();
    book.query(4, now());
    answer(&mut book, b'1', b"");
    answer(&mut book, b'2', b"");
    assert_eq!(answer(&mut book, b'E', ERROR), [(2, Done::Failed, 0), (3, Done::Skipped, 0)]);
    assert!(answer(&mut book, b'Z', b"I").is_empty());
    answer(&mut book, b'C', b"SET\0");
    assert_eq!(answer(&mut book, b'Z', b"I"), [(4, Done::Completed, 0)]);
}

#[test]
fn what_comes_while_the_server_skips_is_known_to_be_skipped() {
    let mut book = Book::default();
    book.execute(1, now(), None);
    answer(&mut book, b'E', ERROR);
    assert!(book.skipping());
    book.sync();
    assert!(!book.skipping());
    book.query(2, now());
    assert!(answer(&mut book, b'Z', b"I").is_empty());
    answer(&mut book, b'C', b"SET\0");
    assert_eq!(answer(&mut book, b'Z', b"I"), [(2, Done::Completed, 0)]);
}

#[test]
fn a_parse_counts_only_once_it_succeeded() {
    let mut book = Book::default();
    book.parse(1, now(), b"s", prepared("delete"));
    book.sync();
    assert_eq!(text_of(&book.statement(b"s")), "wait");
    answer(&mut book, b'1', b"");
    answer(&mut book, b'Z', b"I");
    assert_eq!(text_of(&book.statement(b"s")), "delete");
    // A second Parse of the name fails with 42P05: the old text stays.
    book.parse(2, now(), b"s", prepared("select 1"));
    assert_eq!(
        text_of(&book.statement(b"s")),
        "select 1",
        "within its own group: if it fails, what follows is skipped"
    );
    book.sync();
    assert_eq!(text_of(&book.statement(b"s")), "wait", "in the next group nobody knows yet");
    answer(&mut book, b'E', ERROR);
    answer(&mut book, b'Z', b"I");
    assert_eq!(text_of(&book.statement(b"s")), "delete");
}

#[test]
fn a_skipped_parse_of_the_unnamed_statement_leaves_the_old_one() {
    let mut book = Book::default();
    book.parse(1, now(), b"", prepared("delete"));
    book.sync();
    answer(&mut book, b'1', b"");
    answer(&mut book, b'Z', b"I");
    book.execute(2, now(), None);
    book.parse(3, now(), b"", prepared("select 1"));
    book.sync();
    assert_eq!(text_of(&book.statement(b"")), "wait");
    assert_eq!(answer(&mut book, b'E', ERROR), [(2, Done::Failed, 0), (3, Done::Skipped, 0)]);
    answer(&mut book, b'Z', b"I");
    assert_eq!(text_of(&book.statement(b"")), "delete");
}

#[test]
fn a_simple_query_drops_the_unnamed_statement() {
    let mut book = Book::default();
    book.parse(1, now(), b"", prepared("delete"));
    book.sync();
    answer(&mut book, b'1', b"");
    answer(&mut book, b'Z', b"I");
    book.query(2, now());
    assert_eq!(text_of(&book.statement(b"")), "wait");
    answer(&mut book, b'C', b"SET\0");
    answer(&mut book, b'Z', b"I");
    assert_eq!(text_of(&book.statement(b"")), "unknown");
}

#[test]
fn a_portal_in_parts_is_continued_and_ends_with_its_transaction() {
    let mut book = Book::default();
    let one = portal();
    book.bind(now(), b"p", Arc::clone(&one));
    book.execute(1, now(), Some(Arc::clone(&one)));
    answer(&mut book, b'2', b"");
    assert_eq!(answer(&mut book, b's', b""), [(1, Done::Suspended, 0)]);
    assert!(one.executed.load(Ordering::Relaxed));
    book.execute(2, now(), Some(Arc::clone(&one)));
    assert_eq!(answer(&mut book, b'C', b"SELECT 4\0"), [(2, Done::Completed, 4)]);
    book.sync();
    answer(&mut book, b'Z', b"T");
    assert!(matches!(book.portal(b"p"), Lookup::Known(_)));
    book.sync();
    answer(&mut book, b'Z', b"I");
    assert!(matches!(book.portal(b"p"), Lookup::Unknown));
}

#[test]
fn a_copy_swallows_the_syncs_before_its_end() {
    let mut book = Book::default();
    // As libpq does it: Execute and Sync at once, then data, CopyDone, Sync.
    book.execute(1, now(), None);
    book.sync();
    answer(&mut book, b'G', b"");
    book.copy_data(10);
    book.copy_data(5);
    book.copy_end();
    book.sync();
    let mut got = None;
    book.answer(b'C', b"COPY 2\0", |settled| got = Some(settled));
    let got = got.unwrap();
    assert_eq!((got.statement, got.rows, got.copy_in), (1, 2, Some(15)));
    answer(&mut book, b'Z', b"I");
    assert!(!book.executing());
}

#[test]
fn a_pipelined_simple_copy_ends_in_step() {
    let mut book = Book::default();
    book.query(1, now());
    book.copy_data(4);
    book.copy_end();
    book.query(2, now());
    answer(&mut book, b'G', b"");
    answer(&mut book, b'C', b"COPY 1\0");
    assert_eq!(answer(&mut book, b'Z', b"I"), [(1, Done::Completed, 1)]);
    answer(&mut book, b'C', b"SET\0");
    assert_eq!(answer(&mut book, b'Z', b"I"), [(2, Done::Completed, 0)]);
}

#[test]
fn a_copy_that_fails_before_its_data_ends_in_step() {
    let mut book = Book::default();
    book.query(1, now());
    book.copy_data(4);
    book.copy_end();
    book.query(2, now());
    answer(&mut book, b'E', ERROR);
    assert_eq!(answer(&mut book, b'Z', b"I"), [(1, Done::Failed, 0)]);
    answer(&mut book, b'C', b"SET\0");
    assert_eq!(answer(&mut book, b'Z', b"I"), [(2, Done::Completed, 0)]);
}

/// Whether the server took a Sync as part of a COPY that then failed is not known; either way later names are in step.
#[test]
fn syncs_in_a_copy_that_fails_do_not_shift_what_comes_after() {
    for answered in [false, true] {
        let mut book = Book::default();
        book.query(1, now());
        answer(&mut book, b'G', b"");
        book.copy_data(4);
        book.sync();
        book.sync();
        book.copy_end();
        book.close(now(), (false, b"s"));
        book.parse(2, now(), b"s", prepared("delete"));
        book.sync();
        answer(&mut book, b'E', ERROR);
        assert_eq!(answer(&mut book, b'Z', b"I"), [(1, Done::Failed, 0)]);
        if answered {
            assert!(answer(&mut book, b'Z', b"I").is_empty());
            assert!(answer(&mut book, b'Z', b"I").is_empty());
        }
        answer(&mut book, b'3', b"");
        answer(&mut book, b'1', b"");
        answer(&mut book, b'Z', b"I");
        assert_eq!(text_of(&book.statement(b"s")), "delete");
        assert!(!book.executing());
        // One ReadyForQuery too many answers no Query.
        book.query(3, now());
        assert!(answer(&mut book, b'Z', b"I").is_empty());
        answer(&mut book, b'C', b"SET\0");
        assert_eq!(answer(&mut book, b'Z', b"I"), [(3, Done::Completed, 0)]);
    }
}

#[test]
fn after_an_extended_copy_that_fails_only_a_sync_may_come() {
    let mut book = Book::default();
    book.execute(1, now(), None);
    book.sync();
    answer(&mut book, b'G', b"");
    assert!(book.out_of_place(b'P') && !book.out_of_place(b'S'));
    answer(&mut book, b'E', ERROR);
    assert!(book.out_of_place(b'P'));
    book.copy_end();
    book.sync();
    assert!(!book.out_of_place(b'P'));
    book.parse(2, now(), b"s", prepared("delete"));
    book.sync();
    // The server answers one Sync, or two.
    answer(&mut book, b'Z', b"I");
    answer(&mut book, b'Z', b"I");
    answer(&mut book, b'1', b"");
    answer(&mut book, b'Z', b"I");
    assert_eq!(text_of(&book.statement(b"s")), "delete");
    assert!(!book.executing());
    // What was forwarded behind a Sync nobody knows the fate of cannot be told apart any more.
    book.execute(3, now(), None);
    book.sync();
    book.parse(4, now(), b"s", prepared("select 1"));
    answer(&mut book, b'G', b"");
    answer(&mut book, b'E', ERROR);
    assert!(book.out_of_place(b'S'));
}

#[test]
fn the_error_of_a_refused_message_is_answered_as_ours_and_no_other() {
    let mut book = Book::default();
    book.execute(1, now(), None);
    book.sync();
    book.query(2, now());
    book.refuse(2, refusal());
    assert!(book.refusal().is_none(), "another is answered first");
    assert!(book.answer(b'E', ERROR, |_| ()).is_none());
    answer(&mut book, b'Z', b"I");
    assert!(book.refusal().is_some());
    assert!(
        book.answer(b'E', b"VFATAL\0C57P01\0\0", |_| ()).is_none(),
        "that ends the session"
    );
    let mut book = Book::default();
    book.query(1, now());
    book.refuse(1, refusal());
    assert!(book.answer(b'E', ERROR, |_| ()).is_some());
    assert!(book.answer(b'E', ERROR, |_| ()).is_none());
    let mut got = None;
    book.answer(b'Z', b"I", |settled| got = Some(settled));
    let got = got.unwrap();
    assert_eq!((got.done, got.rule), (Done::Failed, Some(Rule::NeedWhere)));
}

#[test]
fn a_refused_message_that_is_skipped_is_not_answered() {
    let mut book = Book::default();
    book.execute(1, now(), None);
    book.parse(2, now(), b"s", prepared("drop"));
    book.refuse(2, refusal());
    book.sync();
    book.query(3, now());
    book.refuse(3, refusal());
    let mut all = Vec::new();
    assert!(
        book.answer(b'E', ERROR, |settled| all.push((
            settled.statement,
            settled.done,
            settled.rule
        )))
        .is_none()
    );
    assert_eq!(all, [(1, Done::Failed, None), (2, Done::Skipped, None)]);
    answer(&mut book, b'Z', b"I");
    assert!(book.refusal().is_some());
    // It cannot have been executed, whether the server had the time to say so or not.
    book.abandon(|settled| all.push((settled.statement, settled.done, settled.rule)));
    assert_eq!(all.last(), Some(&(3, Done::Failed, Some(Rule::NeedWhere))));
}

#[test]
fn what_has_no_answer_at_the_end_is_unknown() {
    let mut book = Book::default();
    book.query(1, now());
    book.query(2, now());
    answer(&mut book, b'E', ERROR);
    let mut all = Vec::new();
    book.abandon(|settled| all.push((settled.statement, settled.done)));
    assert_eq!(all, [(1, Done::Failed), (2, Done::Unknown)]);
}

proptest! {
    /// Whatever a server says, nothing panics, and every statement is settled once.
    #[test]
    fn every_statement_is_settled_once(
        sent in proptest::collection::vec((0_u8..8, any::<bool>()), 0..40),
        said in proptest::collection::vec((proptest::sample::select(&b"123CIsTntGHWEZVKSNA"[..]), proptest::collection::vec(any::<u8>(), 0..6)), 0..60),
    ) {
        let mut book = Book::default();
        let mut number = 0;
        let mut expected = Vec::new();
        for (kind, refuse) in sent {
            number += 1;
            match kind {
                0 => { book.query(number, now()); expected.push(number); }
                1 => book.parse(number, now(), b"s", prepared("x")),
                2 => book.bind(now(), b"", portal()),
                3 => { book.execute(number, now(), Some(portal())); expected.push(number); }
                4 => book.describe(now(), (false, b"x"), Some(prepared("x"))),
                5 => book.close(now(), (false, b"s")),
                6 => book.sync(),
                _ => book.copy_end(),
            }
            if refuse && kind < 2 {
                book.refuse(number, refusal());
            }
        }
        let mut settled = Vec::new();
        for (tag, body) in said {
            book.answer(tag, &body, |s| settled.push(s.statement));
        }
        book.abandon(|s| settled.push(s.statement));
        prop_assert!(book.refused.is_empty());
        settled.retain(|n| expected.contains(n));
        prop_assert_eq!(settled, expected);
    }
}

/// Answers, and what of the work is undone by then.
fn undone(book: &mut Book, answers: &[(u8, &[u8])]) -> Option<(u64, u64, String)> {
    for (tag, body) in answers {
        answer(book, *tag, body);
    }
    let undone = book.undone()?;
    Some((undone.first, undone.last, String::from_utf8(undone.sqlstate).unwrap()))
}

#[test]
fn what_a_failed_end_of_a_transaction_undid_is_known() {
    const DUPLICATE: &[u8] = b"SERROR\0VERROR\0C23505\0\0";
    let mut book = Book::default();
    let execute = |book: &mut Book, numbers: &[u64]| {
        for number in numbers {
            book.execute(*number, now(), None);
        }
        book.sync();
    };
    // Its outcome has been told when the Sync fails.
    execute(&mut book, &[1]);
    let failed = undone(&mut book, &[(b'C', b"INSERT 0 1\0"), (b'E', DUPLICATE), (b'Z', b"I")]);
    assert_eq!(failed, Some((1, 1, "23505".to_owned())));
    // One that succeeds, and one alone that fails.
    execute(&mut book, &[2]);
    assert_eq!(undone(&mut book, &[(b'C', b"INSERT 0 1\0"), (b'Z', b"I")]), None);
    execute(&mut book, &[3]);
    assert_eq!(undone(&mut book, &[(b'E', DUPLICATE), (b'Z', b"I")]), None);
    // A pipeline is one transaction, but for what was committed in it.
    execute(&mut book, &[4, 5, 6, 7, 8, 9]);
    let (done, committed) = ((b'C', &b"INSERT 0 1\0"[..]), (b'C', &b"COMMIT\0"[..]));
    let answers = [done, committed, done, done, (b'E', DUPLICATE), (b'Z', b"I")];
    assert_eq!(undone(&mut book, &answers), Some((6, 7, "23505".to_owned())));
    // A transaction that people opened has failed, but is not over; and its COMMIT does not undo what they did.
    execute(&mut book, &[10, 11]);
    assert_eq!(
        undone(&mut book, &[(b'C', b"BEGIN\0"), (b'E', DUPLICATE), (b'Z', b"E")]),
        None
    );
    book.query(12, now());
    assert_eq!(undone(&mut book, &[(b'C', b"ROLLBACK\0"), (b'Z', b"I")]), None);
    for (number, answers) in [
        (13, [(b'C', &b"BEGIN\0"[..]), (b'Z', b"T")]),
        (14, [(b'C', b"INSERT 0 1\0"), (b'Z', b"T")]),
    ] {
        book.query(number, now());
        assert_eq!(undone(&mut book, &answers), None);
    }
    book.query(15, now());
    let failed = undone(&mut book, &[(b'E', DUPLICATE), (b'Z', b"I")]);
    assert_eq!(failed, Some((13, 14, "23505".to_owned())));
}

/// Answers a statement with rows; what it settles: the rows, those that were sent, those of its portal.
fn with_rows(book: &mut Book, answers: &[(u64, u8, &[u8])]) -> Vec<(u64, u64, Option<u64>)> {
    let mut all = Vec::new();
    for (rows, tag, body) in answers {
        (0..*rows).for_each(|_| book.row(true));
        book.answer(*tag, body, |settled| {
            all.push((settled.rows, settled.rows_sent, settled.portal_rows_sent));
        });
    }
    all
}

#[test]
fn rows_of_a_portal_are_counted_with_each_execute_and_in_sum() {
    let mut book = Book::default();
    let portal = portal();
    for number in 1..=3 {
        book.execute(number, now(), Some(Arc::clone(&portal)));
    }
    book.execute(4, now(), Some(Arc::clone(&portal)));
    let answers: [(u64, u8, &[u8]); 4] = [(50, b's', b""), (50, b's', b""), (7, b'C', b"SELECT 7\0"), (0, b'E', ERROR)];
    let expected = [(50, 50, Some(50)), (50, 50, Some(100)), (7, 7, Some(107)), (0, 0, Some(107))];
    assert_eq!(with_rows(&mut book, &answers), expected);
    // One that is executed once has no sum.
    let mut book = Book::default();
    book.execute(1, now(), Some(self::portal()));
    assert_eq!(with_rows(&mut book, &[(7, b'C', b"SELECT 7\0")]), [(7, 7, None)]);
}

#[test]
fn rows_are_those_sent_where_no_tag_counts_more() {
    type Piece = (u64, u8, &'static [u8]);
    let cases: [(&[Piece], (u64, u64)); 7] = [
        (&[(899, b'E', ERROR)], (899, 899)),
        (&[(0, b'C', b"UPDATE 5\0")], (5, 0)),
        (&[(2, b'C', b"INSERT 0 2\0")], (2, 2)),
        (&[(4, b'C', b"EXPLAIN\0")], (4, 4)),
        // What was changed before the error is not less for what was sent.
        (&[(0, b'C', b"UPDATE 5\0"), (3, b'E', ERROR)], (8, 3)),
        (
            &[(0, b'C', b"UPDATE 5\0"), (3, b'C', b"SELECT 3\0"), (1, b'C', b"SHOW\0")],
            (9, 4),
        ),
        (&[(0, b'C', b"MOVE 9\0")], (9, 0)),
    ];
    for (answers, expected) in cases {
        let mut book = Book::default();
        book.query(1, now());
        let ready: [(u64, u8, &[u8]); 1] = [(0, b'Z', b"I")];
        assert_eq!(with_rows(&mut book, answers), []);
        assert_eq!(with_rows(&mut book, &ready), [(expected.0, expected.1, None)], "{answers:?}");
    }
}

#[test]
fn rows_of_a_copy_are_those_of_its_tag_or_its_messages() {
    for (end, expected) in [
        // The format has a header.
        ((b'C', &b"COPY 2\0"[..]), (2, 2)),
        ((b'E', ERROR), (3, 3)),
    ] {
        let mut book = Book::default();
        book.query(1, now());
        answer(&mut book, b'H', b"");
        (0..3).for_each(|_| book.copied_out(10, true));
        book.copied_out(10, false);
        let settled = with_rows(&mut book, &[(0, end.0, end.1), (0, b'Z', b"I")]);
        assert_eq!(settled, [(expected.0, expected.1, None)]);
    }
}

#[test]
fn rows_that_came_before_the_end_are_told_of_what_has_no_answer() {
    let mut book = Book::default();
    book.execute(1, now(), Some(portal()));
    (0..5).for_each(|_| book.row(true));
    book.row(false);
    book.not_sent(2);
    let mut all = Vec::new();
    book.abandon(|settled| all.push((settled.done, settled.rows, settled.rows_sent)));
    assert_eq!(all, [(Done::Unknown, 3, 3)]);
}

#[test]
fn an_error_is_that_of_the_message_that_caused_it() {
    let mut book = Book::default();
    let failing = |book: &mut Book| {
        let mut all = Vec::new();
        book.answer(b'E', ERROR, |settled| {
            let kind = settled.failing.map(|failing| failing.kind);
            all.push((settled.statement, kind, settled.done, settled.sqlstate.is_some()));
        });
        answer(book, b'Z', b"I");
        all
    };
    let skipped = (2, None, Done::Skipped, false);
    for (messages, kind) in [
        (1, Kind::Bind),
        (2, Kind::Describe),
        (3, Kind::Close),
        (4, Kind::Close),
        (5, Kind::Parse),
    ] {
        match messages {
            1 => {
                book.bind(now(), b"p", portal());
                book.describe(now(), (true, b"p"), None);
            }
            2 => book.describe(now(), (false, b"s"), None),
            3 => book.close(now(), (true, b"p")),
            4 => book.close(now(), (false, b"s")),
            _ => book.malformed(now(), Kind::Parse),
        }
        book.execute(2, now(), None);
        book.sync();
        assert_eq!(failing(&mut book), [(0, Some(kind), Done::Failed, true), skipped]);
    }
    book.refuse_at_limit(None, now(), refusal());
    book.sync();
    assert_eq!(failing(&mut book), [(0, Some(Kind::Bind), Done::Failed, true)]);
}

#[test]
fn a_message_that_failed_is_told_with_what_it_was_about() {
    let mut book = Book::default();
    let made = Arc::new(Portal {
        name: (*b"s").into(),
        prepared: Some(prepared("select $1::int")),
        ..Arc::into_inner(portal()).unwrap()
    });
    book.bind(now(), b"p", Arc::clone(&made));
    book.describe(now(), (true, b"p"), None);
    answer(&mut book, b'2', b"");
    let mut all = Vec::new();
    book.answer(b'E', ERROR, |settled| {
        let failing = settled.failing.unwrap();
        let text = failing.prepared.unwrap().read.sql.text.0.to_string();
        all.push((failing.portal_name.unwrap(), failing.name.unwrap(), text));
    });
    assert_eq!(all, [((*b"p").into(), (*b"s").into(), "select $1::int".to_owned())]);
}
