use super::super::testing::{at, collect, day, ended, executed, grant, records, refused, request, role, started, undone, whole};
use super::*;
use crate::audit::sql_analysis::ParseFailure;
use serde_json::json;

fn life<'a>(report: &'a EvidenceReport, grant: &str) -> &'a ReportedGrant {
    report
        .grants
        .iter()
        .find(|life| life.grant.as_str() == grant)
        .unwrap_or_else(|| panic!("no {grant} in {:?}", report.grants))
}

#[test]
fn a_grant_is_told_from_its_request_to_its_last_row() {
    let report = collect(&day(), 0, 60, Ok(whole()));
    let ana = life(&report, "gr_0000000001");
    let asked = ana.asked.as_ref().unwrap();
    assert_eq!(asked.approvers, ["lea".parse().unwrap()]);
    assert_eq!(asked.policies, ["testers-ask", "leads-approve"]);
    assert_eq!(
        (asked.reason.as_deref(), asked.ticket.as_deref()),
        (Some("BUG-812"), Some("BUG-812"))
    );
    assert_eq!(
        (ana.created_at, ana.activated_at, ana.until),
        (at(3), Some(at(4)), Some(at(34)))
    );
    // Two of four: one was only prepared, one was skipped.
    assert_eq!((ana.used.sessions, ana.used.statements, ana.used.rows), (1, 2, 7));
    assert_eq!((ana.used.first, ana.used.last), (Some(at(4)), Some(at(34))));
    assert!(!ana.is_unused());

    let by_hand = life(&report, "gr_0000000004");
    assert!(by_hand.asked.is_none() && by_hand.is_unused());
    assert_eq!(
        by_hand.profile().map(crate::model::names::ProfileName::as_str),
        Some("read-only")
    );
    let all = report.statements;
    assert_eq!(
        (all.executed, all.failed, all.unknown),
        (3, 1, 1),
        "the gate died in the last one"
    );
}

#[test]
fn what_went_wrong_is_told() {
    let report = collect(&day(), 0, 60, Ok(whole()));
    let glass = |grant| life(&report, grant).asked.as_ref().unwrap();
    let (seen, unseen) = (glass("gr_0000000002"), glass("gr_0000000003"));
    assert!(seen.break_glass && unseen.break_glass && unseen.review.is_none());
    let (by, time, said) = seen.review.as_ref().unwrap();
    assert_eq!((by.as_str(), *time, said.as_deref()), ("lea", at(41), Some("fine")));
    assert_eq!(
        seen.reason.as_deref(),
        Some("it <burns>"),
        "a review's comment is not the reason"
    );

    let denied: Vec<_> = report
        .denials
        .items
        .iter()
        .map(|denial| (denial.identity.as_str(), &*denial.by))
        .collect();
    assert_eq!(denied, [("fay", "policies"), ("fay", "lea"), ("ana", "policies")]);
    assert_eq!(report.refusals.items.len(), 2);
    assert_eq!(
        (report.refusals.items[0].count, &*report.refusals.items[0].of.why),
        (2, "bad_secret")
    );
    assert_eq!(report.endings, [("expired".to_owned(), 1), ("killed".to_owned(), 1)].into());
    assert_eq!((report.lost_sessions, report.open_sessions), (1, 0));
    let late = &report.overshoots;
    assert_eq!((late.count, late.p50_us, late.max_us), (2, 1_500_000, 1_500_000));
    assert_eq!((late.late.items.len(), late.late.items[0].overshoot_us), (1, Some(1_500_000)));
    assert_eq!(report.records_missing, 2);
    let remarkable: Vec<_> = report.operation.items.iter().filter(|change| change.remarkable).collect();
    assert_eq!(remarkable.len(), 2, "{remarkable:?}");
    assert!(remarkable[1].detail.contains("did not stop in order"), "{remarkable:?}");
}

#[test]
fn roles_are_followed_until_they_are_gone() {
    let events = [
        (1, grant(1, "ana", "activated", "ana", Some(10))),
        (1, role(1, "made", &json!({"until": at(10)}))),
        (2, grant(2, "ben", "activated", "ben", Some(30))),
        (2, role(2, "made", &json!({"until": at(30)}))),
        (3, grant(3, "cleo", "activated", "cleo", Some(70))),
        (3, role(3, "made", &json!({"until": at(70)}))),
        (4, role(4, "made", &json!({"until": at(34)}))),
        (4, role(4, "not_made", &json!({"detail": "no CREATEROLE"}))),
        (10, role(1, "left", &json!({"detail": "it owns \"x\""}))),
        (12, role(1, "retired", &json!({}))),
        (20, grant(2, "ben", "revoked", "ops", Some(30))),
        (20, role(2, "left", &json!({"detail": "the server is down"}))),
    ];
    let roles = |from, to| {
        let report = collect(&records(events.clone()), from, to, Ok(whole()));
        report
            .roles
            .iter()
            .map(|role| {
                (
                    role.role.clone(),
                    role.gone_after_us(),
                    role.is_left(report.period.to),
                    role.trouble.clone(),
                )
            })
            .collect::<Vec<_>>()
    };
    let said = |text: &str| Some(text.to_owned());
    let ben = ("role_2".to_owned(), None, true, said("the server is down"));
    let cleo = ("role_3".to_owned(), None, false, None);
    let ana = ("role_1".to_owned(), Some(120_000_000), false, said("it owns \"x\""));
    assert_eq!(roles(0, 60), [ana, ben.clone(), cleo.clone()], "one was not made");
    assert_eq!(roles(15, 60), [ben, cleo], "one was gone before the period");
    // The grant was over before the period, and is not known any more: the role's own end is.
    let late = records([
        (1, role(1, "made", &json!({"until": at(10)}))),
        (45, role(1, "retired", &json!({}))),
    ]);
    let report = collect(&late, 40, 60, Ok(whole()));
    assert_eq!(report.roles[0].gone_after_us(), Some(35 * 60_000_000));
}

#[test]
fn what_could_not_be_read_is_counted_by_whose_it_was_and_why() {
    let mut events = vec![
        (0, grant(1, "ana", "created", "ops", None)),
        (1, grant(1, "ana", "activated", "ana", Some(40))),
        (1, started(1, "ana")),
    ];
    for (number, sql, tags) in [
        (1, "SELECT 1", &["SELECT 1"][..]),
        (2, "SELECT 'x; DELETE FROM t'", &["SELECT 1", "DELETE 3"]),
        (3, "SELECT (", &[]),
        (4, "SELECT (", &[]),
    ] {
        events.extend(executed(1, "ana", number, sql, tags).map(|event| (i64::try_from(number).unwrap(), event)));
    }
    // A refused one was not executed.
    events.extend(refused(1, "ana", 5, "unknown").map(|event| (5, event)));
    let report = collect(&records(events), 0, 60, Ok(whole()));
    let found: Vec<_> = report
        .unread
        .items
        .iter()
        .map(|kind| (kind.of.why, kind.count, kind.first, kind.last))
        .collect();
    assert_eq!(
        found,
        [
            (ParseFailure::Syntax, 2, at(3), at(4)),
            (ParseFailure::Contradicted, 1, at(2), at(2))
        ]
    );
    assert_eq!((report.statements.executed, report.unread.total()), (4, 3));
}

#[test]
fn what_failed_at_its_parse_was_not_executed() {
    let mut events = vec![
        (0, grant(1, "ana", "created", "ops", None)),
        (1, grant(1, "ana", "activated", "ana", Some(40))),
        (1, started(1, "ana")),
    ];
    for (number, sql, failed) in [(1, "SELECT 1", false), (2, "SELEKT (", true)] {
        let [mut statement, mut outcome] = executed(1, "ana", number, sql, &[]);
        (statement["kind"], statement["with_parse"]) = (json!("execute"), json!(true));
        if failed {
            (outcome["result"], outcome["sqlstate"], outcome["parse_failed"]) = (json!("failed"), json!("42601"), json!(true));
        }
        events.extend([statement, outcome].map(|event| (i64::try_from(number).unwrap() + 1, event)));
    }
    let report = collect(&records(events), 0, 60, Ok(whole()));
    let all = report.statements;
    assert_eq!((all.executed, all.failed, all.unknown), (1, 0, 0));
    assert_eq!(life(&report, "gr_0000000001").used.statements, 1);
    assert!(report.unread.items.is_empty(), "what ran could be read");
}

#[test]
fn what_rails_refused_is_counted_and_was_not_executed() {
    let mut events = vec![
        (0, with_profile(grant(1, "ana", "created", "ops", None))),
        (1, grant(1, "ana", "activated", "ana", Some(40))),
        (1, started(1, "ana")),
    ];
    for (statement, rule) in [(1, "need_where"), (2, "statements"), (3, "need_where")] {
        events.extend(refused(1, "ana", statement, rule).map(|event| (i64::try_from(statement).unwrap(), event)));
    }
    events.push((5, undone(1, "ana", 1, 3)));
    let report = collect(&records(events), 0, 60, Ok(whole()));
    let found: Vec<_> = report
        .rails
        .items
        .iter()
        .map(|refusals| (&*refusals.of.rule, refusals.count, refusals.first, refusals.last))
        .collect();
    assert_eq!(found, [("need_where", 2, at(1), at(3)), ("statements", 1, at(2), at(2))]);
    assert_eq!(report.rails.items[0].of.profile.as_ref().unwrap().as_str(), "read-only");
    assert_eq!((report.statements.executed, report.statements.failed), (0, 0));
    let undone = &report.undone.items[0];
    assert_eq!((undone.first, undone.last, &*undone.sqlstate), (1, 3, "23503"));
}

fn with_profile(mut event: serde_json::Value) -> serde_json::Value {
    event["profile"] = json!("read-only");
    event
}

#[test]
fn only_the_period_counts_but_what_was_before_it_is_known() {
    let report = collect(&day(), 5, 35, Ok(whole()));
    let ana = life(&report, "gr_0000000001");
    assert_eq!(ana.asked.as_ref().unwrap().approvers.len(), 1, "asked for before the period");
    assert_eq!((ana.used.sessions, ana.used.statements), (0, 2));
    assert!(!ana.is_unused(), "it was opened before the period");
    assert_eq!(report.grants.len(), 1, "{:?}", report.grants);
    assert_eq!(
        (report.denials.count(), report.refusals.items.len(), report.identities.count()),
        (0, 0, 0)
    );
    let before = collect(&day(), 34, 35, Ok(whole()));
    assert_eq!(before.endings.len(), 1);
    let after = collect(&day(), 56, 60, Ok(whole()));
    assert!(
        after.grants.iter().all(|life| life.grant.as_str() != "gr_0000000001"),
        "it was over by then"
    );
    assert_eq!(after.lost_sessions, 0);
}

#[test]
fn what_was_taken_back_did_not_happen() {
    let undone = json!({"reason": "the grant store failed; the change `approved` was not made"});
    let denied = json!({"reason": "no"});
    let mut gone = grant(1, "ana", "not_stored", "lea", None);
    gone["reason"] = json!("the grant store failed; the change `created` was not made");
    let mut stays = grant(2, "ana", "not_stored", "lea", Some(40));
    stays["reason"] = json!("the grant store failed; the change `revoked` was not made");
    let report = collect(
        &records([
            (1, request(1, "ana", "submitted", "ana", &json!({}))),
            (2, request(1, "ana", "approved", "lea", &json!({"grant": "gr_0000000001"}))),
            (2, grant(1, "ana", "created", "lea", None)),
            (3, gone),
            (3, request(1, "ana", "not_stored", "lea", &undone)),
            (4, request(1, "ana", "approved", "max", &json!({"grant": "gr_0000000003"}))),
            (4, grant(3, "ana", "created", "max", None)),
            (5, grant(2, "ana", "created", "ops", None)),
            (6, grant(2, "ana", "activated", "ana", Some(40))),
            (6, started(2, "ana")),
            (7, grant(2, "ana", "revoked", "ops", Some(7))),
            (7, stays),
            (8, request(4, "fay", "denied", "fay", &denied)),
            (8, request(4, "fay", "not_stored", "fay", &denied)),
        ]),
        0,
        30,
        Ok(whole()),
    );
    let grants: Vec<_> = report.grants.iter().map(|life| life.grant.as_str()).collect();
    assert_eq!(grants, ["gr_0000000003", "gr_0000000002"]);
    assert_eq!(
        life(&report, "gr_0000000003").asked.as_ref().unwrap().approvers,
        ["max".parse().unwrap()]
    );
    let stays = life(&report, "gr_0000000002");
    assert_eq!((stays.revoked.clone(), stays.until), (None, Some(at(40))));
    assert_eq!(report.denials.count(), 0);
    assert_eq!(report.open_sessions, 1);
}

#[test]
fn memory_is_that_of_the_period() {
    let mut collector = ReportCollector::new(ReportPeriod {
        from: at(100_000),
        to: at(200_000),
    });
    for number in 0..20_000_u64 {
        let mut event = grant(1, "ana", "created", "ops", None);
        event["grant"] = json!(format!("gr_{number:010}"));
        let [record] = &records([(0, event)])[..] else {
            unreachable!()
        };
        collector.take(Ok(record));
        if number == 10_000 {
            // Time passes: all of them are over.
            let [record] = &records([(1_000, grant(2, "ana", "created", "ops", None))])[..] else {
                unreachable!()
            };
            collector.take(Ok(record));
        }
    }
    let report = collector.report(Ok(whole()), None);
    assert!(report.grants.is_empty());
}

#[test]
fn names_of_a_later_version_are_shown_and_change_nothing_else() {
    let user = json!({"event": "user_changed", "identity": "ana", "change": "from_2031", "by": "ops", "groups": []});
    let report = collect(
        &records([
            (1, grant(1, "ana", "created", "ops", None)),
            (2, grant(1, "ana", "from_2031", "ops", Some(40))),
            (3, request(2, "fay", "from_2031", "fay", &json!({}))),
            (4, role(1, "from_2031", &json!({}))),
            (5, user),
            (6, ended(1, "ana", &json!({"ending": "from_2031"}))),
        ]),
        0,
        30,
        Ok(whole()),
    );
    let ana = life(&report, "gr_0000000001");
    assert_eq!((ana.activated_at, ana.moved, &ana.revoked), (None, 0, &None));
    assert_eq!((report.denials.count(), report.roles.len()), (0, 1));
    assert!(report.identities.items[0].detail.contains("from_2031"));
    assert_eq!(report.endings, [("from_2031".to_owned(), 1)].into());
}
