use super::*;
use crate::audit::event::{StatementKind, StatementResult};
use crate::gate::session::statement::EntryWeight;
use crate::gate::sql_filter::FilterRule;
use proptest::prelude::*;

/// Messages as the recorder passes them on.
impl ExtendedQueryState {
    fn query(&mut self, statement: u64, since: Instant) {
        self.send(since, Some(statement), None, PendingKind::Query { deallocates: None });
    }

    fn parse(&mut self, statement: u64, since: Instant, name: &[u8], prepared: Arc<PreparedStatement>) {
        let name = name.into();
        self.send(since, Some(statement), None, PendingKind::Parse { name, prepared });
    }

    fn bind(&mut self, since: Instant, name: &[u8], portal: Arc<Portal>) {
        let name = name.into();
        self.send(since, None, None, PendingKind::Bind { name, portal });
    }

    fn execute(&mut self, statement: u64, since: Instant, portal: Option<Arc<Portal>>) {
        self.send(since, Some(statement), None, PendingKind::Execute(portal));
    }

    fn describe(&mut self, since: Instant, (portal, name): (bool, &[u8]), prepared: Option<Arc<PreparedStatement>>) {
        let name = name.into();
        self.send(
            since,
            None,
            None,
            PendingKind::Describe(NamedObject { portal, name }, prepared),
        );
    }

    fn close(&mut self, since: Instant, (portal, name): (bool, &[u8])) {
        let name = name.into();
        self.send(since, None, None, PendingKind::Close(NamedObject { portal, name }));
    }

    fn malformed(&mut self, since: Instant, kind: StatementKind) {
        self.send(since, None, None, PendingKind::Malformed(kind));
    }

    fn refuse_at_limit(&mut self, statement: Option<u64>, since: Instant, refused: Arc<StatementRefusal>) {
        self.send(since, statement, Some(refused), PendingKind::OverLimit);
    }

    /// The message of this statement, just sent, is refused.
    fn refuse(&mut self, statement: u64, refused: Arc<StatementRefusal>) {
        let last = self.pending.back_mut().filter(|last| last.statement == Some(statement));
        last.unwrap().refused = Some(refused);
    }
}

fn now() -> Instant {
    Instant::now()
}

fn prepared(text: &'static str) -> Arc<PreparedStatement> {
    let keep = crate::gate::session::RecordLimits {
        sql: 1000,
        parameter: 100,
        show: crate::audit::values::ParameterDisplay::Full,
        key: crate::audit::values::ValueKey::for_test(),
    };
    let read = crate::gate::session::statement::read(
        text.as_bytes(),
        None,
        &keep,
        crate::gate::session::statement::ReadingManner::default(),
    );
    Arc::new(PreparedStatement::new(Arc::new(read.into_owned()), 0, &[], &Arc::default()))
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
        _weight: EntryWeight::new(&Arc::default(), 0),
    })
}

/// Answers a message and returns what it settled: number, what happened, rows.
fn answer(extended: &mut ExtendedQueryState, tag: u8, body: &[u8]) -> Vec<(u64, StatementResult, u64)> {
    let mut all = Vec::new();
    extended.answer(tag, body, |settled| {
        all.push((settled.statement, settled.done, settled.answer.rows));
    });
    all
}

fn text_of(lookup: &NameLookup<PreparedStatement>) -> &str {
    match lookup {
        NameLookup::Known(prepared) => &prepared.read.sql.text.0,
        NameLookup::Unknown => "unknown",
        NameLookup::Wait => "wait",
    }
}

fn refusal() -> Arc<StatementRefusal> {
    Arc::new(StatementRefusal {
        rule: FilterRule::NeedWhere,
        message: String::new(),
        detail: String::new(),
        hint: String::new(),
    })
}

const ERROR: &[u8] = b"SERROR\0VERROR\0C22012\0Mdivision by zero\0\0";

#[test]
fn a_simple_query_is_settled_by_ready_for_query() {
    let mut extended = ExtendedQueryState::default();
    extended.query(1, now());
    assert!(answer(&mut extended, b'C', b"INSERT 0 2\0").is_empty());
    assert!(answer(&mut extended, b'C', b"SELECT 3\0").is_empty());
    assert_eq!(answer(&mut extended, b'Z', b"I"), [(1, StatementResult::Completed, 5)]);
    assert!(!extended.executing());
}

#[test]
fn a_failed_query_says_so_and_its_tags_before_the_error_stay() {
    let mut extended = ExtendedQueryState::default();
    extended.query(1, now());
    answer(&mut extended, b'C', b"INSERT 0 2\0");
    answer(&mut extended, b'E', ERROR);
    let mut got = None;
    extended.answer(b'Z', b"I", |settled| got = Some(settled));
    let got = got.unwrap();
    assert_eq!(
        (got.done, got.answer.sqlstate.as_deref(), got.answer.tags.len()),
        (StatementResult::Failed, Some(&b"22012"[..]), 1)
    );
}

#[test]
fn an_error_skips_to_sync_and_no_further() {
    let mut extended = ExtendedQueryState::default();
    extended.parse(1, now(), b"", prepared("select 1/0"));
    extended.bind(now(), b"", portal());
    extended.execute(2, now(), None);
    extended.execute(3, now(), None);
    extended.sync(now());
    extended.query(4, now());
    answer(&mut extended, b'1', b"");
    answer(&mut extended, b'2', b"");
    assert_eq!(
        answer(&mut extended, b'E', ERROR),
        [(2, StatementResult::Failed, 0), (3, StatementResult::Skipped, 0)]
    );
    assert!(answer(&mut extended, b'Z', b"I").is_empty());
    answer(&mut extended, b'C', b"SET\0");
    assert_eq!(answer(&mut extended, b'Z', b"I"), [(4, StatementResult::Completed, 0)]);
}

#[test]
fn what_comes_while_the_server_skips_is_known_to_be_skipped() {
    let mut extended = ExtendedQueryState::default();
    extended.execute(1, now(), None);
    answer(&mut extended, b'E', ERROR);
    assert!(extended.skipping);
    extended.sync(now());
    assert!(!extended.skipping);
    extended.query(2, now());
    assert!(answer(&mut extended, b'Z', b"I").is_empty());
    answer(&mut extended, b'C', b"SET\0");
    assert_eq!(answer(&mut extended, b'Z', b"I"), [(2, StatementResult::Completed, 0)]);
}

#[test]
fn a_parse_counts_only_once_it_succeeded() {
    let mut extended = ExtendedQueryState::default();
    extended.parse(1, now(), b"s", prepared("delete"));
    extended.sync(now());
    assert_eq!(text_of(&extended.statement(b"s")), "wait");
    answer(&mut extended, b'1', b"");
    answer(&mut extended, b'Z', b"I");
    assert_eq!(text_of(&extended.statement(b"s")), "delete");
    // A second Parse of the name fails with 42P05: the old text stays.
    extended.parse(2, now(), b"s", prepared("select 1"));
    assert_eq!(
        text_of(&extended.statement(b"s")),
        "select 1",
        "within its own group: if it fails, what follows is skipped"
    );
    extended.sync(now());
    assert_eq!(
        text_of(&extended.statement(b"s")),
        "wait",
        "in the next group nobody knows yet"
    );
    answer(&mut extended, b'E', ERROR);
    answer(&mut extended, b'Z', b"I");
    assert_eq!(text_of(&extended.statement(b"s")), "delete");
}

#[test]
fn a_skipped_parse_of_the_unnamed_statement_leaves_the_old_one() {
    let mut extended = ExtendedQueryState::default();
    extended.parse(1, now(), b"", prepared("delete"));
    extended.sync(now());
    answer(&mut extended, b'1', b"");
    answer(&mut extended, b'Z', b"I");
    extended.execute(2, now(), None);
    extended.parse(3, now(), b"", prepared("select 1"));
    extended.sync(now());
    assert_eq!(text_of(&extended.statement(b"")), "wait");
    assert_eq!(
        answer(&mut extended, b'E', ERROR),
        [(2, StatementResult::Failed, 0), (3, StatementResult::Skipped, 0)]
    );
    answer(&mut extended, b'Z', b"I");
    assert_eq!(text_of(&extended.statement(b"")), "delete");
}

#[test]
fn a_simple_query_drops_the_unnamed_statement() {
    let mut extended = ExtendedQueryState::default();
    extended.parse(1, now(), b"", prepared("delete"));
    extended.sync(now());
    answer(&mut extended, b'1', b"");
    answer(&mut extended, b'Z', b"I");
    extended.query(2, now());
    assert_eq!(text_of(&extended.statement(b"")), "wait");
    answer(&mut extended, b'C', b"SET\0");
    answer(&mut extended, b'Z', b"I");
    assert_eq!(text_of(&extended.statement(b"")), "unknown");
}

#[test]
fn a_portal_in_parts_is_continued_and_ends_with_its_transaction() {
    let mut extended = ExtendedQueryState::default();
    let one = portal();
    extended.bind(now(), b"p", Arc::clone(&one));
    extended.execute(1, now(), Some(Arc::clone(&one)));
    answer(&mut extended, b'2', b"");
    assert_eq!(answer(&mut extended, b's', b""), [(1, StatementResult::Suspended, 0)]);
    assert!(one.executed.load(Ordering::Relaxed));
    extended.execute(2, now(), Some(Arc::clone(&one)));
    assert_eq!(
        answer(&mut extended, b'C', b"SELECT 4\0"),
        [(2, StatementResult::Completed, 4)]
    );
    extended.sync(now());
    answer(&mut extended, b'Z', b"T");
    assert!(matches!(extended.portal(b"p"), NameLookup::Known(_)));
    extended.sync(now());
    answer(&mut extended, b'Z', b"I");
    assert!(matches!(extended.portal(b"p"), NameLookup::Unknown));
}

#[test]
fn a_copy_swallows_the_syncs_before_its_end() {
    let mut extended = ExtendedQueryState::default();
    // As libpq does it: Execute and Sync at once, then data, CopyDone, Sync.
    extended.execute(1, now(), None);
    extended.sync(now());
    answer(&mut extended, b'G', b"");
    extended.copy_data(10);
    extended.copy_data(5);
    extended.copy_end(now());
    extended.sync(now());
    let mut got = None;
    extended.answer(b'C', b"COPY 2\0", |settled| got = Some(settled));
    let got = got.unwrap();
    assert_eq!((got.statement, got.answer.rows, got.answer.copy_in), (1, 2, Some(15)));
    answer(&mut extended, b'Z', b"I");
    assert!(!extended.executing());
}

#[test]
fn a_pipelined_simple_copy_ends_in_step() {
    let mut extended = ExtendedQueryState::default();
    extended.query(1, now());
    extended.copy_data(4);
    extended.copy_end(now());
    extended.query(2, now());
    answer(&mut extended, b'G', b"");
    answer(&mut extended, b'C', b"COPY 1\0");
    assert_eq!(answer(&mut extended, b'Z', b"I"), [(1, StatementResult::Completed, 1)]);
    answer(&mut extended, b'C', b"SET\0");
    assert_eq!(answer(&mut extended, b'Z', b"I"), [(2, StatementResult::Completed, 0)]);
}

#[test]
fn a_copy_that_fails_before_its_data_ends_in_step() {
    let mut extended = ExtendedQueryState::default();
    extended.query(1, now());
    extended.copy_data(4);
    extended.copy_end(now());
    extended.query(2, now());
    answer(&mut extended, b'E', ERROR);
    assert_eq!(answer(&mut extended, b'Z', b"I"), [(1, StatementResult::Failed, 0)]);
    answer(&mut extended, b'C', b"SET\0");
    assert_eq!(answer(&mut extended, b'Z', b"I"), [(2, StatementResult::Completed, 0)]);
}

/// Whether the server took a Sync as part of a COPY that then failed is not known; either way later names are in step.
#[test]
fn syncs_in_a_copy_that_fails_do_not_shift_what_comes_after() {
    for answered in [false, true] {
        let mut extended = ExtendedQueryState::default();
        extended.query(1, now());
        answer(&mut extended, b'G', b"");
        extended.copy_data(4);
        extended.sync(now());
        extended.sync(now());
        extended.copy_end(now());
        extended.close(now(), (false, b"s"));
        extended.parse(2, now(), b"s", prepared("delete"));
        extended.sync(now());
        answer(&mut extended, b'E', ERROR);
        assert_eq!(answer(&mut extended, b'Z', b"I"), [(1, StatementResult::Failed, 0)]);
        if answered {
            assert!(answer(&mut extended, b'Z', b"I").is_empty());
            assert!(answer(&mut extended, b'Z', b"I").is_empty());
        }
        answer(&mut extended, b'3', b"");
        answer(&mut extended, b'1', b"");
        answer(&mut extended, b'Z', b"I");
        assert_eq!(text_of(&extended.statement(b"s")), "delete");
        assert!(!extended.executing());
        // One ReadyForQuery too many answers no Query.
        extended.query(3, now());
        assert!(answer(&mut extended, b'Z', b"I").is_empty());
        answer(&mut extended, b'C', b"SET\0");
        assert_eq!(answer(&mut extended, b'Z', b"I"), [(3, StatementResult::Completed, 0)]);
    }
}

#[test]
fn after_an_extended_copy_that_fails_only_a_sync_may_come() {
    let mut extended = ExtendedQueryState::default();
    extended.execute(1, now(), None);
    extended.sync(now());
    answer(&mut extended, b'G', b"");
    assert!(extended.out_of_place(b'P') && !extended.out_of_place(b'S'));
    answer(&mut extended, b'E', ERROR);
    assert!(extended.out_of_place(b'P'));
    extended.copy_end(now());
    extended.sync(now());
    assert!(!extended.out_of_place(b'P'));
    extended.parse(2, now(), b"s", prepared("delete"));
    extended.sync(now());
    // The server answers one Sync, or two.
    answer(&mut extended, b'Z', b"I");
    answer(&mut extended, b'Z', b"I");
    answer(&mut extended, b'1', b"");
    answer(&mut extended, b'Z', b"I");
    assert_eq!(text_of(&extended.statement(b"s")), "delete");
    assert!(!extended.executing());
    // What was forwarded behind a Sync nobody knows the fate of cannot be told apart any more.
    extended.execute(3, now(), None);
    extended.sync(now());
    extended.parse(4, now(), b"s", prepared("select 1"));
    answer(&mut extended, b'G', b"");
    answer(&mut extended, b'E', ERROR);
    assert!(extended.out_of_place(b'S'));
}

#[test]
fn the_error_of_a_refused_message_is_answered_as_ours_and_no_other() {
    let mut extended = ExtendedQueryState::default();
    extended.execute(1, now(), None);
    extended.sync(now());
    extended.query(2, now());
    extended.refuse(2, refusal());
    assert!(extended.refusal().is_none(), "another is answered first");
    assert!(extended.answer(b'E', ERROR, |_| ()).is_none());
    answer(&mut extended, b'Z', b"I");
    assert!(extended.refusal().is_some());
    assert!(
        extended.answer(b'E', b"VFATAL\0C57P01\0\0", |_| ()).is_none(),
        "that ends the session"
    );
    let mut extended = ExtendedQueryState::default();
    extended.query(1, now());
    extended.refuse(1, refusal());
    assert!(extended.answer(b'E', ERROR, |_| ()).is_some());
    assert!(extended.answer(b'E', ERROR, |_| ()).is_none());
    let mut got = None;
    extended.answer(b'Z', b"I", |settled| got = Some(settled));
    let got = got.unwrap();
    assert_eq!(
        (got.done, got.answer.rule),
        (StatementResult::Failed, Some(FilterRule::NeedWhere))
    );
}

#[test]
fn a_refused_message_that_is_skipped_is_not_answered() {
    let mut extended = ExtendedQueryState::default();
    extended.execute(1, now(), None);
    extended.parse(2, now(), b"s", prepared("drop"));
    extended.refuse(2, refusal());
    extended.sync(now());
    extended.query(3, now());
    extended.refuse(3, refusal());
    let mut all = Vec::new();
    assert!(
        extended
            .answer(b'E', ERROR, |settled| all.push((
                settled.statement,
                settled.done,
                settled.answer.rule
            )))
            .is_none()
    );
    assert_eq!(all, [(1, StatementResult::Failed, None), (2, StatementResult::Skipped, None)]);
    answer(&mut extended, b'Z', b"I");
    assert!(extended.refusal().is_some());
    // It cannot have been executed, whether the server had the time to say so or not.
    extended.abandon(|settled| all.push((settled.statement, settled.done, settled.answer.rule)));
    assert_eq!(all.last(), Some(&(3, StatementResult::Failed, Some(FilterRule::NeedWhere))));
}

#[test]
fn what_has_no_answer_at_the_end_is_unknown() {
    let mut extended = ExtendedQueryState::default();
    extended.query(1, now());
    extended.query(2, now());
    answer(&mut extended, b'E', ERROR);
    let mut all = Vec::new();
    extended.abandon(|settled| all.push((settled.statement, settled.done)));
    assert_eq!(all, [(1, StatementResult::Failed), (2, StatementResult::Unknown)]);
}

proptest! {
    /// Whatever a server says, nothing panics, and every statement is settled once.
    #[test]
    fn every_statement_is_settled_once(
        sent in proptest::collection::vec((0_u8..8, any::<bool>()), 0..40),
        said in proptest::collection::vec((proptest::sample::select(&b"123CIsTntGHWEZVKSNA"[..]), proptest::collection::vec(any::<u8>(), 0..6)), 0..60),
    ) {
        let mut extended = ExtendedQueryState::default();
        let mut number = 0;
        let mut expected = Vec::new();
        for (kind, refuse) in sent {
            number += 1;
            match kind {
                0 => { extended.query(number, now()); expected.push(number); }
                1 => extended.parse(number, now(), b"s", prepared("x")),
                2 => extended.bind(now(), b"", portal()),
                3 => { extended.execute(number, now(), Some(portal())); expected.push(number); }
                4 => extended.describe(now(), (false, b"x"), Some(prepared("x"))),
                5 => extended.close(now(), (false, b"s")),
                6 => extended.sync(now()),
                _ => extended.copy_end(now()),
            }
            if refuse && kind < 2 {
                extended.refuse(number, refusal());
            }
        }
        let mut settled = Vec::new();
        for (tag, body) in said {
            extended.answer(tag, &body, |s| settled.push(s.statement));
        }
        extended.abandon(|s| settled.push(s.statement));
        prop_assert!(extended.pending.is_empty());
        settled.retain(|n| expected.contains(n));
        prop_assert_eq!(settled, expected);
    }
}

/// Answers, and what of the work is undone by then.
fn undone(extended: &mut ExtendedQueryState, answers: &[(u8, &[u8])]) -> Option<(u64, u64, String)> {
    for (tag, body) in answers {
        answer(extended, *tag, body);
    }
    let undone = extended.undone.take()?;
    Some((undone.first, undone.last, String::from_utf8(undone.sqlstate).unwrap()))
}

#[test]
fn what_a_failed_end_of_a_transaction_undid_is_known() {
    const DUPLICATE: &[u8] = b"SERROR\0VERROR\0C23505\0\0";
    let mut extended = ExtendedQueryState::default();
    let execute = |extended: &mut ExtendedQueryState, numbers: &[u64]| {
        for number in numbers {
            extended.execute(*number, now(), None);
        }
        extended.sync(now());
    };
    // Its outcome has been told when the Sync fails.
    execute(&mut extended, &[1]);
    let failed = undone(&mut extended, &[(b'C', b"INSERT 0 1\0"), (b'E', DUPLICATE), (b'Z', b"I")]);
    assert_eq!(failed, Some((1, 1, "23505".to_owned())));
    // One that succeeds, and one alone that fails.
    execute(&mut extended, &[2]);
    assert_eq!(undone(&mut extended, &[(b'C', b"INSERT 0 1\0"), (b'Z', b"I")]), None);
    execute(&mut extended, &[3]);
    assert_eq!(undone(&mut extended, &[(b'E', DUPLICATE), (b'Z', b"I")]), None);
    // A pipeline is one transaction, but for what was committed in it.
    execute(&mut extended, &[4, 5, 6, 7, 8, 9]);
    let (done, committed) = ((b'C', &b"INSERT 0 1\0"[..]), (b'C', &b"COMMIT\0"[..]));
    let answers = [done, committed, done, done, (b'E', DUPLICATE), (b'Z', b"I")];
    assert_eq!(undone(&mut extended, &answers), Some((6, 7, "23505".to_owned())));
    // A transaction that people opened has failed, but is not over; and its COMMIT does not undo what they did.
    execute(&mut extended, &[10, 11]);
    assert_eq!(
        undone(&mut extended, &[(b'C', b"BEGIN\0"), (b'E', DUPLICATE), (b'Z', b"E")]),
        None
    );
    extended.query(12, now());
    assert_eq!(undone(&mut extended, &[(b'C', b"ROLLBACK\0"), (b'Z', b"I")]), None);
    for (number, answers) in [
        (13, [(b'C', &b"BEGIN\0"[..]), (b'Z', b"T")]),
        (14, [(b'C', b"INSERT 0 1\0"), (b'Z', b"T")]),
    ] {
        extended.query(number, now());
        assert_eq!(undone(&mut extended, &answers), None);
    }
    extended.query(15, now());
    let failed = undone(&mut extended, &[(b'E', DUPLICATE), (b'Z', b"I")]);
    assert_eq!(failed, Some((13, 14, "23505".to_owned())));
}

/// Answers a statement with rows; what it settles: the rows, those that were sent, those of its portal.
fn with_rows(extended: &mut ExtendedQueryState, answers: &[(u64, u8, &[u8])]) -> Vec<(u64, u64, Option<u64>)> {
    let mut all = Vec::new();
    for (rows, tag, body) in answers {
        (0..*rows).for_each(|_| extended.row(true));
        extended.answer(*tag, body, |settled| {
            all.push((settled.answer.rows, settled.answer.rows_sent, settled.portal_rows_sent));
        });
    }
    all
}

#[test]
fn rows_of_a_portal_are_counted_with_each_execute_and_in_sum() {
    let mut extended = ExtendedQueryState::default();
    let portal = portal();
    for number in 1..=3 {
        extended.execute(number, now(), Some(Arc::clone(&portal)));
    }
    extended.execute(4, now(), Some(Arc::clone(&portal)));
    let answers: [(u64, u8, &[u8]); 4] = [(50, b's', b""), (50, b's', b""), (7, b'C', b"SELECT 7\0"), (0, b'E', ERROR)];
    let expected = [(50, 50, Some(50)), (50, 50, Some(100)), (7, 7, Some(107)), (0, 0, Some(107))];
    assert_eq!(with_rows(&mut extended, &answers), expected);
    // One that is executed once has no sum.
    let mut extended = ExtendedQueryState::default();
    extended.execute(1, now(), Some(self::portal()));
    assert_eq!(with_rows(&mut extended, &[(7, b'C', b"SELECT 7\0")]), [(7, 7, None)]);
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
        let mut extended = ExtendedQueryState::default();
        extended.query(1, now());
        let ready: [(u64, u8, &[u8]); 1] = [(0, b'Z', b"I")];
        assert_eq!(with_rows(&mut extended, answers), []);
        assert_eq!(
            with_rows(&mut extended, &ready),
            [(expected.0, expected.1, None)],
            "{answers:?}"
        );
    }
}

#[test]
fn rows_of_a_copy_are_those_of_its_tag_or_its_messages() {
    for (end, expected) in [
        // The format has a header.
        ((b'C', &b"COPY 2\0"[..]), (2, 2)),
        ((b'E', ERROR), (3, 3)),
    ] {
        let mut extended = ExtendedQueryState::default();
        extended.query(1, now());
        answer(&mut extended, b'H', b"");
        (0..3).for_each(|_| extended.copied_out(10, true));
        extended.copied_out(10, false);
        let settled = with_rows(&mut extended, &[(0, end.0, end.1), (0, b'Z', b"I")]);
        assert_eq!(settled, [(expected.0, expected.1, None)]);
    }
}

#[test]
fn rows_that_came_before_the_end_are_told_of_what_has_no_answer() {
    let mut extended = ExtendedQueryState::default();
    extended.execute(1, now(), Some(portal()));
    (0..5).for_each(|_| extended.row(true));
    extended.row(false);
    extended.not_sent(2);
    let mut all = Vec::new();
    extended.abandon(|settled| all.push((settled.done, settled.answer.rows, settled.answer.rows_sent)));
    assert_eq!(all, [(StatementResult::Unknown, 3, 3)]);
}

#[test]
fn an_error_is_that_of_the_message_that_caused_it() {
    let mut extended = ExtendedQueryState::default();
    let failing = |extended: &mut ExtendedQueryState| {
        let mut all = Vec::new();
        extended.answer(b'E', ERROR, |settled| {
            let kind = settled.failing.map(|failing| failing.kind);
            all.push((settled.statement, kind, settled.done, settled.answer.sqlstate.is_some()));
        });
        answer(extended, b'Z', b"I");
        all
    };
    let skipped = (2, None, StatementResult::Skipped, false);
    for (messages, kind) in [
        (1, StatementKind::Bind),
        (2, StatementKind::Describe),
        (3, StatementKind::Close),
        (4, StatementKind::Close),
        (5, StatementKind::Parse),
    ] {
        match messages {
            1 => {
                extended.bind(now(), b"p", portal());
                extended.describe(now(), (true, b"p"), None);
            }
            2 => extended.describe(now(), (false, b"s"), None),
            3 => extended.close(now(), (true, b"p")),
            4 => extended.close(now(), (false, b"s")),
            _ => extended.malformed(now(), StatementKind::Parse),
        }
        extended.execute(2, now(), None);
        extended.sync(now());
        assert_eq!(
            failing(&mut extended),
            [(0, Some(kind), StatementResult::Failed, true), skipped]
        );
    }
    extended.refuse_at_limit(None, now(), refusal());
    extended.sync(now());
    assert_eq!(
        failing(&mut extended),
        [(0, Some(StatementKind::Bind), StatementResult::Failed, true)]
    );
}

#[test]
fn a_message_that_failed_is_told_with_what_it_was_about() {
    let mut extended = ExtendedQueryState::default();
    let made = Arc::new(Portal {
        name: (*b"s").into(),
        prepared: Some(prepared("select $1::int")),
        ..Arc::into_inner(portal()).unwrap()
    });
    extended.bind(now(), b"p", Arc::clone(&made));
    extended.describe(now(), (true, b"p"), None);
    answer(&mut extended, b'2', b"");
    let mut all = Vec::new();
    extended.answer(b'E', ERROR, |settled| {
        let failing = settled.failing.unwrap();
        let text = failing.prepared.unwrap().read.sql.text.0.to_string();
        all.push((failing.portal_name.unwrap(), failing.name.unwrap(), text));
    });
    assert_eq!(all, [((*b"p").into(), (*b"s").into(), "select $1::int".to_owned())]);
}

/// Parse and Execute with one record: the number is settled once, by the Execute unless the Parse fails.
#[test]
fn a_parse_and_its_execute_are_settled_once() {
    let sent = || {
        let mut extended = ExtendedQueryState::default();
        extended.parse(1, now(), b"", prepared("select 1"));
        extended.bind(now(), b"", portal());
        extended.execute(1, now(), Some(portal()));
        extended.parse(2, now(), b"", prepared("select 2"));
        extended.bind(now(), b"", portal());
        extended.execute(2, now(), Some(portal()));
        extended.sync(now());
        extended
    };
    let settle = |extended: &mut ExtendedQueryState, answers: &[(u8, &[u8])]| {
        let mut all = Vec::new();
        for (tag, body) in answers {
            extended.answer(*tag, body, |settled| {
                all.push((settled.statement, settled.done, settled.parse_failed))
            });
        }
        all
    };
    let skipped = (2, StatementResult::Skipped, false);
    let ready = (b'Z', &b"I"[..]);
    let first = [(b'1', &b""[..]), (b'2', b""), (b'C', b"SELECT 1\0")];
    let done = (1, StatementResult::Completed, false);
    assert_eq!(
        settle(&mut sent(), &[&first[..], &first[..], &[ready]].concat()),
        [done, (2, StatementResult::Completed, false)]
    );
    // The first Parse fails; its Bind; its Execute.
    assert_eq!(
        settle(&mut sent(), &[(b'E', ERROR), ready]),
        [(1, StatementResult::Failed, true), skipped]
    );
    assert_eq!(
        settle(&mut sent(), &[first[0], (b'E', ERROR), ready]),
        [
            (0, StatementResult::Failed, false),
            (1, StatementResult::Skipped, false),
            skipped
        ]
    );
    assert_eq!(
        settle(&mut sent(), &[first[0], first[1], (b'E', ERROR), ready]),
        [(1, StatementResult::Failed, false), skipped]
    );
    // The second Parse fails: what ran before it is undone.
    let mut extended = sent();
    let failed = (2, StatementResult::Failed, true);
    assert_eq!(
        settle(&mut extended, &[&first[..], &[(b'E', ERROR), ready]].concat()),
        [done, failed]
    );
    let undone = extended.undone.take().map(|undone| (undone.first, undone.last));
    assert_eq!(undone, Some((1, 1)));
    assert_eq!((extended.in_flight, extended.executing()), (0, false));
    // The session ends before an answer, and after an error.
    let unknown = |statement| (statement, StatementResult::Unknown, false);
    let mut all = Vec::new();
    sent().abandon(|settled| all.push((settled.statement, settled.done, settled.parse_failed)));
    assert_eq!(all, [unknown(1), unknown(2)]);
    let mut extended = sent();
    extended.pending.front_mut().unwrap().refused = Some(refusal());
    all.clear();
    extended.abandon(|settled| all.push((settled.statement, settled.done, settled.parse_failed)));
    assert_eq!(all, [(1, StatementResult::Failed, true), unknown(2)]);
}
