//! Figures of the pages of a gate with a long past: 100,000 requests that are settled, 10,000 that wait.
//!
//! Not a test of every run: `cargo test --release --lib console::tests::figures -- --ignored --nocapture`.

use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::http::sign_in;
use super::{request_with, tokens};
use crate::audit::{Journal, JournalSettings};
use crate::base::clock::Clock;
use crate::console;
use crate::control::tests::Served;
use crate::ledger::{Ledger, RequestView};

/// Number of requests that are settled; half of them have a grant.
const PAST: u32 = 100_000;
/// Number of requests that wait.
const PENDING: u32 = 10_000;
/// Number of times that each page is asked for; fewer where the code is not optimised.
const CALLS: usize = if cfg!(debug_assertions) { 3 } else { 50 };
/// Time in which a page is to be there.
const MAX_PAGE_TIME: Duration = Duration::from_millis(100);

/// Makes the store of a gate that has been there for long; returns the tokens of Ana of `qa`, Lena of `leads` and Otto of
/// `operators`.
async fn long_past(state: &Path) -> [String; 3] {
    std::fs::create_dir(state).unwrap();
    let clock = Clock::system(None);
    let journal = Journal::open(&JournalSettings::in_folder(state), clock.clone()).unwrap();
    let store = state.join("ledger.db");
    let ledger = Ledger::open(&store, journal.clone(), clock.clone()).unwrap();
    let tokens = tokens(&ledger, &[("ana", "qa"), ("lena", "leads"), ("otto", "operators")]).await;
    drop(ledger);
    journal.close().await;
    let now = clock.now();
    let until = now + Duration::from_hours(1);
    let body = |outcome: Value, status: &str| {
        let mut view = request_with("a reason of some length, as people write them", &outcome, status);
        view["id"] = json!("rq_0000000000");
        view["identity"] = json!("WHO");
        view["expires_at"] = json!(until.to_string());
        view["groups"] = json!(["qa"]);
        for field in ["approvals", "narrowed_from", "review", "issuer", "claims"] {
            view.as_object_mut().unwrap().remove(field);
        }
        view["approvals"] = json!([]);
        let view: RequestView = serde_json::from_value(view).unwrap();
        serde_json::to_string(&view.request).unwrap()
    };
    let approved = json!({"outcome": "approved", "at": "2026-01-01T00:00:00Z", "how": "people", "grant": "gr_0000000000"});
    let denied = json!({"outcome": "denied", "at": "2026-01-01T00:00:00Z", "why": "no"});
    let fill = format!(
        "BEGIN;
        CREATE TEMP TABLE n AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {PAST} + {PENDING})
            SELECT i, iif(i % 2, 'ana', printf('tester-%03d', i % 500)) who FROM n;
        INSERT INTO grants (id, identity, target, created_at, created_by, activate_by, window_us, max_sessions, activated_at,
            until, profile, request, verifier)
        SELECT printf('gr_%010d', i), who, 'orders', i, 'bo', 2, 1000000, 3, 1, {now} - 3600000000 * (1 + i % 4000),
            'read-only', printf('rq_%010d', i), '' FROM n WHERE i <= {PAST} AND i % 4 < 2;
        INSERT INTO requests (id, identity, target, expires_at, activate_within_us, outcome, grant_id, unreviewed, body)
        SELECT printf('rq_%010d', i), who, 'orders', {until}, 1,
            CASE WHEN i > {PAST} THEN NULL WHEN i % 4 < 2 THEN 'approved' ELSE 'denied' END,
            iif(i <= {PAST} AND i % 4 < 2, printf('gr_%010d', i), NULL), 0,
            replace(replace(replace(CASE WHEN i > {PAST} THEN '{pending}' WHEN i % 4 < 2 THEN '{approved}' ELSE '{denied}' END,
                'rq_0000000000', printf('rq_%010d', i)), 'gr_0000000000', printf('gr_%010d', i)), 'WHO', who)
        FROM n;
        COMMIT;",
        now = now.as_microsecond(),
        until = until.as_microsecond(),
        pending = body(Value::Null, "pending"),
        approved = body(approved, "approved"),
        denied = body(denied, "denied"),
    );
    Connection::open(&store).unwrap().execute_batch(&fill).unwrap();
    tokens.try_into().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "figures, which take a minute"]
#[expect(clippy::too_many_lines, reason = "one line for each page")]
async fn pages_of_a_long_past_are_there_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let tokens = long_past(&dir.path().join("tidegate-state")).await;
    let served = Served::start_in(dir, console::router).await;
    let [ana, lena, otto] = [
        sign_in(&served, &tokens[0]).await,
        sign_in(&served, &tokens[1]).await,
        sign_in(&served, &tokens[2]).await,
    ];
    let (waits, past) = (
        format!("/requests/rq_{:010}", PAST + PENDING - 1),
        "/requests/rq_0000050001".to_owned(),
    );
    let pages = [
        (
            &ana,
            vec![
                "/mine",
                "/ask?target=orders",
                "/requests",
                "/requests?before=rq_0000050001",
                "/grants?all=yes",
                "/decide",
                "/live",
                waits.as_str(),
            ],
        ),
        (
            &lena,
            vec![
                "/decide",
                "/decide?all=yes",
                "/decide/reviews",
                "/grants?all=yes",
                waits.as_str(),
                past.as_str(),
            ],
        ),
        (
            &otto,
            vec![
                "/decide?all=yes",
                "/live",
                "/grants?all=yes",
                "/gate",
                "/gate/users",
                "/gate/policies",
                "/log",
                "/log?identity=ana",
                "/log/verify",
                past.as_str(),
            ],
        ),
    ];
    let mut slow = Vec::new();
    for (who, (cookie, paths)) in ["ana", "lena", "otto"].iter().zip(pages) {
        for path in paths {
            let mut times = Vec::new();
            for _ in 0..CALLS {
                let begun = Instant::now();
                let page = served
                    .call(&format!("GET {path}"), &format!("cookie: {cookie}\r\n"), "")
                    .await;
                times.push(begun.elapsed());
                assert!(page.starts_with("HTTP/1.1 200"), "{who} {path}: {page}");
            }
            times.sort();
            let (median, most) = (times[CALLS / 2], times[CALLS - 1]);
            println!("{who:<5} {path:<36} p50 {median:>10.1?}  p99 {most:>10.1?}");
            if median > MAX_PAGE_TIME {
                slow.push(format!("{who} {path}: {median:?}"));
            }
        }
    }
    served.stop().await;
    // Without optimisation the figures say only which page is slower than another.
    assert!(slow.is_empty() || cfg!(debug_assertions), "{slow:#?}");
}
