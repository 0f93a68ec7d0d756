use super::*;
use crate::audit::summary;
use crate::audit::testing::{all, ended, outcome, record, statement, tagged, time, who};

const NONE: [u64; 0] = [];

/// The numbers of the records chosen from a small history.
fn chosen(filter: Filter) -> Vec<u64> {
    let (ana, ben) = (who(1, "ana"), who(2, "ben"));
    let history = [
        statement(&ana, 1, "SELECT * FROM cards", &[]),
        statement(&ben, 1, "DELETE FROM missing", &["4711"]),
        outcome(&ana, 1, None),
        outcome(&ben, 1, Some("42P01")),
        statement(&ana, 2, "SELECT pg_sleep(60)", &[]),
        ended(&ana),
        statement(&ben, 2, "select 2", &[]),
        outcome(&ben, 2, Some("23505")),
    ];
    let mut joiner = RecordJoiner::new(filter);
    let mut chosen = Vec::new();
    for (seq, event) in (1..).zip(history) {
        joiner.offer(record(seq, event), |record| chosen.push(record.seq));
    }
    assert!(joiner.is_idle());
    chosen
}

#[test]
fn nothing_asked_for_is_everything() {
    assert_eq!(chosen(Filter::default()), [1, 2, 3, 4, 5, 6, 7, 8]);
}

#[test]
fn by_number() {
    let between = |after, before| Filter {
        after,
        before,
        ..Filter::default()
    };
    assert_eq!(chosen(between(None, Some(3))), [1, 2]);
    assert_eq!(chosen(between(Some(2), Some(5))), [3, 4]);
    assert_eq!(chosen(between(None, Some(1))), NONE);
    // Where a result is asked for, the place of the outcome counts.
    let failed = |before| Filter {
        sqlstate: Some("42P01".to_owned()),
        ..between(None, Some(before))
    };
    assert_eq!((chosen(failed(4)), chosen(failed(5))), (vec![], vec![2, 4]));
}

#[test]
fn by_name() {
    let ana = who(1, "ana");
    assert_eq!(
        chosen(Filter {
            identity: Some(ana.identity),
            ..Filter::default()
        }),
        [1, 3, 5, 6]
    );
    assert_eq!(
        chosen(Filter {
            session: Some(ana.session),
            ..Filter::default()
        }),
        [1, 3, 5, 6]
    );
    assert_eq!(
        chosen(Filter {
            grant: Some(ana.grant),
            ..Filter::default()
        }),
        [1, 3, 5, 6]
    );
    assert_eq!(
        chosen(Filter {
            target: Some("other".parse().unwrap()),
            ..Filter::default()
        }),
        NONE
    );
}

#[test]
fn by_time() {
    let filter = Filter {
        since: Some(time(3)),
        until: Some(time(5)),
        ..Filter::default()
    };
    assert_eq!(chosen(filter), [3, 4]);
}

#[test]
fn an_sqlstate_finds_its_statement() {
    let sqlstate = |code: &str| Filter {
        sqlstate: Some(code.to_owned()),
        ..Filter::default()
    };
    assert_eq!(chosen(sqlstate("42P01")), [2, 4]);
    assert_eq!(chosen(sqlstate("42p")), [2, 4]);
    assert_eq!(chosen(sqlstate("57P01")), [6]);
    assert_eq!(
        chosen(Filter {
            event: Some(EventName::Statement),
            ..sqlstate("42P01")
        }),
        [2]
    );
    // The time is that of the failure.
    assert_eq!(
        chosen(Filter {
            since: Some(time(3)),
            ..sqlstate("42P01")
        }),
        [2, 4]
    );
    assert_eq!(
        chosen(Filter {
            since: Some(time(5)),
            ..sqlstate("42P01")
        }),
        NONE
    );
    assert_eq!(
        chosen(Filter {
            text: Some("missing".to_owned()),
            ..sqlstate("23505")
        }),
        NONE
    );
}

#[test]
fn a_text_finds_the_outcome() {
    let text = |text: &str| Filter {
        text: Some(text.to_owned()),
        ..Filter::default()
    };
    assert_eq!(chosen(text("CARDS")), [1, 3]);
    assert_eq!(chosen(text("4711")), [2, 4]);
    assert_eq!(chosen(text("expired")), [6]);
    assert_eq!(
        chosen(Filter {
            event: Some(EventName::Outcome),
            ..text("cards")
        }),
        [3]
    );
    assert_eq!(
        chosen(Filter {
            kind: Some(StatementKind::Execute),
            ..Filter::default()
        }),
        [2, 4]
    );
}

#[test]
fn event_names_are_those_in_the_file() {
    for event in all() {
        let name = event.name();
        let value = serde_json::to_value(&event).unwrap();
        assert_eq!(value["event"], name.as_str());
        assert_eq!(serde_json::to_value(name).unwrap(), name.as_str());
        assert_eq!(name.as_str().parse(), Ok(name));
    }
    assert!(
        "nonsense"
            .parse::<EventName>()
            .unwrap_err()
            .to_string()
            .contains("session_started")
    );
}

#[test]
fn by_what_a_statement_is_about_and_what_came_of_it() {
    let table = |name: &str| Filter {
        table: Some(name.parse().unwrap()),
        ..Filter::default()
    };
    assert_eq!(chosen(table("cards")), [1, 3]);
    assert_eq!(chosen(table("public.missing")), [2, 4]);
    assert_eq!(chosen(table("elsewhere")), NONE);
    let class = |class| Filter {
        class: Some(class),
        ..Filter::default()
    };
    assert_eq!(chosen(class(CommandClass::Delete)), [2, 4]);
    let rows = |least, most| Filter {
        min_rows: least,
        max_rows: most,
        ..Filter::default()
    };
    assert_eq!(chosen(rows(Some(1), None)), [1, 3, 2, 4, 7, 8]);
    assert_eq!(chosen(rows(Some(2), None)), NONE);
    assert_eq!(chosen(rows(None, Some(0))), NONE);
    let slow = Filter {
        min_duration_us: Some(230),
        max_duration_us: Some(230),
        ..class(CommandClass::Select)
    };
    assert_eq!(chosen(slow), [1, 3, 7, 8]);
    let slower = Filter {
        min_duration_us: Some(231),
        ..Filter::default()
    };
    assert_eq!(chosen(slower), NONE);
}

#[test]
fn by_what_stands_in_the_first_record_of_a_session() {
    let (ana, ben) = (who(1, "ana"), who(2, "ben"));
    let started = all()
        .into_iter()
        .find(|event| matches!(event, Event::SessionStarted(_)))
        .unwrap();
    let events = [
        started,
        statement(&ana, 1, "SELECT 1", &[]),
        statement(&ben, 1, "SELECT 1", &[]),
        outcome(&ana, 1, None),
        ended(&ana),
    ];
    let chosen = |filter: Filter| {
        let (mut joiner, mut chosen) = (RecordJoiner::new(filter), Vec::new());
        for (seq, event) in (1..).zip(events.clone()) {
            let record = record(seq, event);
            if joiner.may_want(record.json().as_bytes()) {
                joiner.offer(record, |record| chosen.push(record.seq));
            }
        }
        chosen
    };
    let of = |group: Option<&str>, run: Option<&str>| Filter {
        group: group.map(|group| group.parse().unwrap()),
        run: run.map(str::to_owned),
        ..Filter::default()
    };
    assert_eq!(chosen(of(Some("qa"), None)), [1, 2, 4, 5]);
    assert_eq!(chosen(of(Some("qa"), Some("4711"))), [1, 2, 4, 5]);
    assert_eq!(chosen(of(Some("qa"), Some("4712"))), NONE);
    assert_eq!(chosen(of(Some("leads"), None)), NONE);
}

#[test]
fn what_the_server_ran_counts_where_the_text_does_not_have_it() {
    let ana = who(1, "ana");
    let history = [
        statement(&ana, 1, "SELECT 'x; DELETE FROM a'", &[]),
        tagged(&ana, 1, &["SELECT 1", "DELETE 3"]),
        statement(&ana, 2, "SELECT 2", &[]),
        tagged(&ana, 2, &["SELECT 1"]),
        statement(&ana, 3, "SELECT (", &[]),
        outcome(&ana, 3, Some("42601")),
        statement(&ana, 4, "EXECUTE p", &[]),
        tagged(&ana, 4, &["DELETE 5"]),
    ];
    let chosen = |filter: Filter| {
        let mut joiner = RecordJoiner::new(filter);
        let mut chosen = Vec::new();
        for (seq, event) in (1..).zip(history.clone()) {
            joiner.offer(record(seq, event), |record| chosen.push(record.seq));
        }
        assert!(joiner.is_idle());
        chosen
    };
    let class = |class| Filter {
        class: Some(class),
        ..Filter::default()
    };
    assert_eq!(chosen(class(CommandClass::Delete)), [1, 2, 7, 8]);
    assert_eq!(chosen(class(CommandClass::Update)), NONE);
    let unread = Filter {
        unread: true,
        ..Filter::default()
    };
    assert_eq!(chosen(unread), [1, 2, 5, 6]);
}

/// The numbers of the records chosen by a grant's profile or by break-glass, where its origin is among them, or known before.
fn by_origin(filter: &Filter, known_before: bool) -> Vec<u64> {
    use crate::audit::event::{GrantChanged, RequestChanged, Who};
    let (ana, ben, kim) = (who(1, "ana"), who(2, "ben"), who(3, "kim"));
    let made = |who: &Who, profile: &str| {
        let template = all().into_iter().find_map(|event| match event {
            Event::GrantChanged(change) => Some(change.into_owned()),
            _ => None,
        });
        Event::GrantChanged(Cow::Owned(GrantChanged {
            grant: who.grant.clone(),
            identity: who.identity.clone(),
            profile: Some(profile.parse().unwrap()),
            ..template.unwrap()
        }))
    };
    let asked = |who: &Who, profile: &str, granted: bool, break_glass| {
        let template = all().into_iter().find_map(|event| match event {
            Event::RequestChanged(change) => Some(change.into_owned()),
            _ => None,
        });
        Event::RequestChanged(Cow::Owned(RequestChanged {
            grant: granted.then(|| who.grant.clone()),
            identity: who.identity.clone(),
            profile: profile.parse().unwrap(),
            break_glass,
            ..template.unwrap()
        }))
    };
    let history = [
        asked(&ana, "read-write", true, false),
        made(&ana, "read-write"),
        asked(&ben, "read-only", true, true),
        made(&ben, "read-only"),
        asked(&kim, "read-write", false, false),
        statement(&ana, 1, "SELECT 1", &[]),
        outcome(&ana, 1, None),
        statement(&ben, 1, "SELECT 2", &[]),
        outcome(&ben, 1, None),
        statement(&kim, 1, "SELECT 3", &[]),
        ended(&ben),
    ];
    let (mut joiner, mut chosen) = (RecordJoiner::new(filter.clone()), Vec::new());
    let records = (1..).zip(history).map(|(seq, event)| record(seq, event));
    for record in records {
        if known_before && record.seq <= 5 {
            joiner.know(&record.event);
        } else {
            joiner.offer(record, |record| chosen.push(record.seq));
        }
    }
    chosen
}

#[test]
fn by_the_profile_of_a_grant_and_by_break_glass() {
    let profile = |name: &str| Filter {
        profile: Some(name.parse().unwrap()),
        ..Filter::default()
    };
    assert_eq!(by_origin(&profile("read-write"), false), [1, 2, 5, 6, 7]);
    assert_eq!(by_origin(&profile("read-write"), true), [6, 7]);
    assert_eq!(by_origin(&profile("read-only"), false), [3, 4, 8, 9, 11]);
    assert_eq!(by_origin(&profile("other"), false), NONE);
    let broken = Filter {
        break_glass: true,
        ..Filter::default()
    };
    assert_eq!(by_origin(&broken, false), [3, 4, 8, 9, 11]);
    assert_eq!(by_origin(&broken, true), [8, 9, 11]);
    let both = |name: &str| Filter {
        break_glass: true,
        ..profile(name)
    };
    assert_eq!(by_origin(&both("read-only"), true), [8, 9, 11]);
    assert_eq!(by_origin(&both("read-write"), true), NONE);
    let joined = Filter {
        text: Some("select".to_owned()),
        min_rows: Some(1),
        ..profile("read-write")
    };
    assert_eq!(by_origin(&joined, true), [6, 7]);
}

/// What has a profile and no session says itself whose it is: no reader leaves it out before it is parsed.
#[test]
fn a_record_that_shows_its_own_origin_is_found_before_its_grant_is_known() {
    let mut events = all();
    events.extend(all().into_iter().filter_map(|event| match event {
        Event::RowsChanged(mut changed) => {
            (changed.to_mut().session, changed.to_mut().profile) = (None, Some("read-write".parse().unwrap()));
            Some(Event::RowsChanged(changed))
        }
        _ => None,
    }));
    let mut found = 0;
    for event in events.into_iter().filter(|event| event.session().is_none()) {
        let Some(profile) = event.profile().cloned() else { continue };
        let mut joiner = RecordJoiner::new(Filter {
            profile: Some(profile),
            ..Filter::default()
        });
        let record = record(1, event);
        let line = record.json() + "\n";
        assert!(joiner.may_want(line.as_bytes()), "{line}");
        assert!(joiner.may_be_in(&summary::of_lines(line.as_bytes()).unwrap()), "{line}");
        joiner.offer(record, |_| found += 1);
    }
    assert_eq!(found, 5);
}
