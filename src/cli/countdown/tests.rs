use super::*;

const UNTIL: &str = "2026-08-01T12:30:00Z";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// So much before [`UNTIL`].
fn before(text: &str) -> Timestamp {
    at(UNTIL) - SignedDuration::try_from(duration::parse(text).unwrap()).unwrap()
}

fn grant(until: Option<&str>) -> GrantView {
    let mut value = serde_json::json!({
        "id": "gr_4k2m9x0a7b", "identity": "ana", "target": "orders", "profile": "read-only", "reason": null,
        "created_at": "2026-08-01T12:00:00Z", "created_by": "ana", "activate_by": "2026-08-01T13:00:00Z",
        "window_seconds": 1800, "deadline": null, "max_sessions": 10, "client_network": null, "activated_at": null,
        "until": null, "revoked": null, "status": "ready", "live_sessions": 0,
    });
    if let Some(until) = until {
        value["activated_at"] = "2026-08-01T12:00:00Z".into();
        value["until"] = until.into();
        value["status"] = "active".into();
    }
    serde_json::from_value(value).unwrap()
}

fn counting(from: Timestamp) -> Countdown {
    let mut countdown = Countdown::default();
    assert_eq!(countdown.see(&grant(Some(UNTIL)), from), None);
    countdown
}

/// From now to the end, waking when it says so: what was said, with how much was left, and every title.
fn whole(countdown: &mut Countdown, mut now: Timestamp) -> (Vec<(String, String)>, Vec<String>) {
    let (mut said, mut titles) = (Vec::new(), Vec::new());
    loop {
        if let Some(line) = countdown.tick(now) {
            let left = at(UNTIL).duration_since(now);
            said.push((duration::show(Duration::try_from(left).unwrap()), line));
        }
        titles.extend(countdown.title(now));
        match countdown.next(now) {
            Some(next) => {
                assert!(next > now, "it would spin at {now}");
                now = next;
            }
            None => return (said, titles),
        }
    }
}

#[test]
fn three_marks_and_the_end() {
    let mut countdown = counting(before("20m"));
    let (said, titles) = whole(&mut countdown, before("20m"));
    let more = "left; for more: tidegate extend gr_4k2m9x0a7b --by 30m";
    assert_eq!(
        said,
        [
            ("5m".to_owned(), format!("5m {more}")),
            ("1m".to_owned(), format!("1m {more}")),
            ("10s".to_owned(), format!("10s {more}")),
            (
                "0s".to_owned(),
                "the window is closed; to continue: tidegate psql orders/read-only".to_owned()
            ),
        ]
    );
    let begins: Vec<&str> = titles.iter().map(|title| title.split(" left").next().unwrap()).collect();
    assert_eq!(begins[..3], ["5m", "4m50s", "4m40s"]);
    assert_eq!(begins[23..27], ["1m10s", "1m", "59s", "58s"]);
    assert_eq!(titles.last().unwrap(), "closed: orders/read-only");
}

#[test]
fn a_short_window_begins_with_no_mark() {
    let mut countdown = counting(before("50s"));
    let (said, titles) = whole(&mut countdown, before("50s"));
    assert_eq!(said.iter().map(|(left, _)| left.as_str()).collect::<Vec<_>>(), ["10s", "0s"]);
    assert_eq!(titles[0], "50s left: orders/read-only");
}

#[test]
fn a_window_that_opens_is_no_news() {
    let mut countdown = Countdown::default();
    let now = before("30m");
    assert_eq!(countdown.see(&grant(None), now), None);
    assert_eq!(
        (countdown.tick(now), countdown.title(now), countdown.next(now)),
        (None, None, None)
    );
    assert_eq!(countdown.see(&grant(Some(UNTIL)), now), None);
    assert_eq!(countdown.next(now), Some(before("5m")));
}

#[test]
fn a_machine_that_slept_is_told_the_truth_once() {
    let mut countdown = counting(before("20m"));
    let said = countdown.tick(before("35s")).unwrap();
    assert!(said.starts_with("35s left"), "{said}");
    assert_eq!(countdown.tick(before("34s")), None);
}

#[test]
fn more_time_counts_anew() {
    let mut countdown = counting(before("20m"));
    assert!(countdown.tick(before("1m")).is_some());
    let later = grant(Some("2026-08-01T12:40:00Z"));
    assert_eq!(
        countdown.see(&later, before("30s")).unwrap(),
        "more time: 10m30s left, until 2026-08-01 12:40:00Z (grant gr_4k2m9x0a7b)"
    );
    assert_eq!(countdown.see(&later, before("29s")), None, "once");
    assert_eq!(countdown.title(before("29s")), None);
    assert!(countdown.tick(at("2026-08-01T12:35:00Z")).unwrap().starts_with("5m left"));
    // And less of it: what is said need not be said again.
    let nearer = grant(Some("2026-08-01T12:36:00Z"));
    let said = countdown.see(&nearer, at("2026-08-01T12:35:10Z")).unwrap();
    assert_eq!(said, "less time: 50s left, until 2026-08-01 12:36:00Z (grant gr_4k2m9x0a7b)");
    assert_eq!(countdown.tick(at("2026-08-01T12:35:11Z")), None);
    assert!(countdown.tick(at("2026-08-01T12:35:50Z")).unwrap().starts_with("10s left"));
}

#[test]
fn a_revocation_says_who_and_why_and_is_the_last_word() {
    let mut countdown = counting(before("4m"));
    let mut value = serde_json::to_value(grant(Some(UNTIL))).unwrap();
    value["revoked"] = serde_json::json!({ "at": "2026-08-01T12:27:00Z", "by": "bo", "reason": "the restore\u{1b}[2J begins" });
    value["status"] = "revoked".into();
    let revoked: GrantView = serde_json::from_value(value).unwrap();
    assert_eq!(
        countdown.see(&revoked, before("3m")).unwrap(),
        r"revoked by bo: the restore\u{1b}[2J begins (grant gr_4k2m9x0a7b)"
    );
    assert_eq!(countdown.see(&revoked, before("2m")), None);
    assert_eq!((countdown.tick(before("1m")), countdown.next(before("1m"))), (None, None));
    assert_eq!(countdown.title(before("1m")).as_deref(), Some("closed: orders/read-only"));
}

proptest::proptest! {
    /// However seldom it is looked at: it never says more than is left, nor twice the same mark.
    #[test]
    fn no_mark_is_said_twice(looks in proptest::collection::vec(0_i64..1_300, 1..60)) {
        let mut looks = looks;
        looks.sort_unstable();
        let begin = before("20m");
        let mut countdown = counting(begin);
        let said = looks.iter().filter(|after| countdown.tick(begin + SignedDuration::from_secs(**after)).is_some()).count();
        proptest::prop_assert!(said <= 4);
        let shown = looks.iter().all(|after| rounded(SignedDuration::from_secs(*after)).as_secs() >= after.unsigned_abs());
        proptest::prop_assert!(shown);
    }
}
