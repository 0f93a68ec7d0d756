//! Lists as their readers see them: what is in them, in which order, and how often the policies are asked.

use super::sign_ins::FRESH;
use super::*;
use crate::access::policy::Resource;
use crate::model::request::RequestState;

fn pending() -> RequestFilter {
    RequestFilter {
        status: Some(RequestState::Pending),
        limit: 10,
        ..RequestFilter::default()
    }
}

#[tokio::test]
async fn thousands_of_requests_are_a_few_questions() {
    let bench = Bench::new();
    let (lea, eve) = (bench.user("lea", &["leads"]).await, bench.user("eve", &["qa"]).await);
    let asker = Identity::local("ana".parse().unwrap(), ["qa".parse().unwrap()].into());
    let asked = |number: u32| {
        let args = RequestArgs {
            window: Some(Duration::from_mins(if number % 2 == 0 { 30 } else { 60 })),
            reason: Some(format!("reason {number}")),
            ..asked("orders", "read-write")
        };
        let mut wish = decide::wish(&bench.service.rules(), &asker, &args).unwrap();
        wish.identity = format!("tester-{number}").parse().unwrap();
        let id = RequestId::from_random(std::array::from_fn(|letter| {
            u8::try_from((number >> (3 * letter)) & 7).unwrap()
        }));
        let now = bench.clock.now();
        Request::waiting(id, wish, 1, now, now)
    };
    for (who, may) in [(&lea, true), (&eve, false)] {
        let mut verdicts = bench.service.verdicts(who);
        for number in 0..5_000 {
            assert_eq!(verdicts.may_decide(&asked(number)), may, "{number}");
        }
        assert_eq!(verdicts.asked(), 2, "one for each length of the window");
        assert!(!verdicts.allows(Action::ReadLog, Resource::Gate));
    }
}

#[tokio::test]
async fn a_sign_in_that_gets_older_hides_nothing_and_is_told_to_be_renewed() {
    let bench = Bench::with(Some(policies(&format!("{POLICIES}{FRESH}"))));
    let ana = bench.user("ana", &["qa"]).await;
    let lea = bench.caller("lea", &["leads"]).await;
    let lea = bench.signed_in(&lea).await;
    let id = bench.submitted(&ana, asked("orders", "read-write")).await;
    bench.pass(Duration::from_mins(20));
    let found = bench.service.decidable(&lea, pending()).await.unwrap();
    assert_eq!(found.len(), 1, "what she may decide after signing in again");
    assert!(bench.service.may_decide(&lea, &found[0].request) && bench.service.request(&lea, &id).await.is_ok());
    let who = lea.person().unwrap();
    let refused = bench.service.approve(who, &id, NarrowedRequest::default(), None).await;
    assert!(
        matches!(refused, Err(AccessError::Denied { sign_in_again: true, .. })),
        "{refused:?}"
    );
    // A token has no age, and what is refused for another reason is not mended by a sign-in.
    let eve = bench.caller("eve", &["qa"]).await;
    let eve = bench.signed_in(&eve).await;
    bench.pass(Duration::from_mins(20));
    for (who, why) in [(eve.person().unwrap(), "no approver"), (&ana, "her own")] {
        let refused = bench.service.approve(who, &id, NarrowedRequest::default(), None).await;
        assert!(
            !matches!(refused, Ok(_) | Err(AccessError::Denied { sign_in_again: true, .. })),
            "{why}: {refused:?}"
        );
    }
    let refused = bench.service.submit(eve.person().unwrap(), sign_ins::break_glass()).await;
    assert!(
        matches!(refused, Err(AccessError::Denied { sign_in_again: true, .. })),
        "{refused:?}"
    );
}

/// Ids of all pages, each of one row.
async fn pages_of_requests(bench: &Bench, caller: &Caller) -> Vec<RequestId> {
    let mut found = Vec::new();
    loop {
        let filter = RequestFilter {
            before: found.last().cloned(),
            limit: 1,
            ..RequestFilter::default()
        };
        match bench.service.requests(caller, filter).await.unwrap().pop() {
            Some(view) => found.push(view.request.id),
            None => return found,
        }
    }
}

#[tokio::test]
async fn pages_leave_nothing_out_after_the_clock_was_set_back() {
    let bench = Bench::new();
    let ana = bench.user("ana", &["qa"]).await;
    let lea = bench.user("lea", &["qa", "leads"]).await;
    let ask = async |who: &Principal, reason: &str| {
        let args = RequestArgs {
            reason: Some(reason.to_owned()),
            ..asked("orders", "read-write")
        };
        bench.service.submit(who, args).await.unwrap().request.id
    };
    bench.pass(Duration::from_hours(5));
    let mut expected = vec![ask(&lea, "hers").await, ask(&ana, "another's").await];
    bench.clock.jump_wall(-SignedDuration::from_hours(4));
    bench.ledger.set_clock_right("ops", None).await.unwrap();
    for (who, reason) in [(&lea, "hers later"), (&ana, "another's later"), (&lea, "the last")] {
        expected.push(ask(who, reason).await);
    }
    expected.reverse();
    assert_eq!(pages_of_requests(&bench, &lea.caller()).await, expected);
}

#[tokio::test]
async fn whoever_reads_the_records_of_a_grant_is_on_record_and_a_renewal_once() {
    let bench = Bench::new();
    let (ana, lea) = (bench.user("ana", &["qa"]).await, bench.user("lea", &["leads"]).await);
    let (eve, sam) = (bench.user("eve", &["qa"]).await, bench.user("sam", &["security"]).await);
    let (_, grant) = bench.approved(&ana, &lea).await;
    let readings = || {
        bench
            .decisions()
            .into_iter()
            .filter(|made| made.1 == "read-log")
            .collect::<Vec<_>>()
    };
    let read = async |who: &Principal, renewal| bench.service.may_read_grant(&who.caller(), &grant, renewal).await.unwrap();
    assert!(!read(&eve, false).await && readings().is_empty());
    // A renewal that nothing was before is a reading like any other.
    assert!(read(&lea, true).await && read(&ana, false).await);
    let line = |who: &str, policies: &str| (who.to_owned(), "read-log".to_owned(), true, policies.to_owned());
    assert_eq!(readings(), [line("lea", "leads-approve"), line("ana", "")]);
    for _ in 0..5 {
        assert!(read(&lea, true).await && read(&ana, true).await);
    }
    assert_eq!(readings().len(), 2, "a page that renews itself");
    assert!(read(&lea, false).await);
    bench.pass(Duration::from_mins(61));
    assert!(read(&lea, true).await);
    assert_eq!(readings().len(), 4);
    // So is the whole log.
    for renewal in [false, true, true] {
        bench.service.may_read_log(&sam.caller(), renewal).await.unwrap();
    }
    assert_eq!(readings().len(), 5);
    assert!(bench.service.may_read_log(&eve.caller(), true).await.is_err());
}
