mod grants;
mod messages;

use std::collections::VecDeque;
use std::sync::Mutex;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use data_encoding::HEXLOWER;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::*;
use crate::model::ids::{GrantId, RequestId};
use crate::model::request::{Approval, ApprovedBy, Request, RequestOutcome, RequestSpec, Review};

const FAST: DeliveryPace = DeliveryPace {
    backoff: Backoff::new(Duration::from_millis(5), Duration::from_millis(20)),
    give_up: SignedDuration::from_hours(24),
    timeout: Duration::from_secs(10),
};

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn request(number: u8) -> Request {
    Request {
        id: RequestId::from_random([number; 10]),
        wish: RequestSpec {
            identity: "ana@example.com".parse().unwrap(),
            groups: BTreeSet::new(),
            issuer: None,
            claims: BTreeMap::new(),
            target: "orders".parse().unwrap(),
            profile: "read-write".parse().unwrap(),
            window: Duration::from_mins(90),
            reason: Some("BUG-812 <!channel> & more".to_owned()),
            ticket: Some("BUG-812".to_owned()),
            max_sessions: 4,
            break_glass: false,
        },
        submitted_at: now(),
        expires_at: now() + SignedDuration::from_hours(1),
        approvals_needed: 1,
        approvals: Vec::new(),
        outcome: None,
        narrowed_from: None,
        review: None,
    }
}

/// The last thing that its state says.
fn notice(request: Request) -> RequestNotice {
    RequestNotice::of(&Arc::new(request)).last().unwrap()
}

fn pending(number: u8) -> RequestNotice {
    notice(request(number))
}

fn outcome(outcome: RequestOutcome) -> RequestNotice {
    let mut request = request(1);
    request.outcome = Some(outcome);
    notice(request)
}

/// As a channel gets it.
fn body_of(notice: &RequestNotice, format: MessageFormat, link: Option<&str>) -> String {
    payload::body(notice, &Audience::Everybody, format, link, false)
}

fn hook(name: &str, url: &str) -> Webhook {
    Webhook {
        name: name.to_owned(),
        url: Secret::new(url.to_owned()),
        secret: Secret::new("shared".to_owned()),
        format: MessageFormat::Json,
        audience: Audience::Everybody,
        events: EventKind::ALL.iter().copied().collect(),
    }
}

fn to(hooks: Vec<Webhook>) -> NotifySettings {
    NotifySettings {
        hooks,
        link: Some("https://gate.example.org/".to_owned()),
        buttons: false,
    }
}

/// A receiver: what it is to answer (then 200), and what it got.
#[derive(Clone)]
struct Receiver {
    answers: Arc<Mutex<VecDeque<(StatusCode, HeaderMap)>>>,
    got: mpsc::UnboundedSender<(HeaderMap, String)>,
}

type Got = mpsc::UnboundedReceiver<(HeaderMap, String)>;

fn serve(listener: tokio::net::TcpListener, answers: &[u16]) -> Got {
    let answers = answers.iter().map(|code| (*code, HeaderMap::new()));
    serve_with_headers(listener, answers.collect())
}

fn serve_with_headers(listener: tokio::net::TcpListener, answers: Vec<(u16, HeaderMap)>) -> Got {
    let (got, gets) = mpsc::unbounded_channel();
    let answers = answers
        .into_iter()
        .map(|(code, headers)| (StatusCode::from_u16(code).unwrap(), headers));
    let answers = answers.collect();
    let receiver = Receiver {
        answers: Arc::new(Mutex::new(answers)),
        got,
    };
    let answer = |State(receiver): State<Receiver>, headers: HeaderMap, body: Bytes| async move {
        let _ = receiver.got.send((headers, String::from_utf8(body.to_vec()).unwrap()));
        receiver.answers.lock().unwrap().pop_front().unwrap_or_default()
    };
    let app = axum::Router::new()
        .route("/hook", axum::routing::post(answer))
        .with_state(receiver);
    tokio::spawn(async move { axum::serve(listener, app).await });
    gets
}

async fn receiver(answers: &[u16]) -> (String, Got) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    (url, serve(listener, answers))
}

async fn next(got: &mut Got) -> (HeaderMap, Value) {
    let (headers, body) = tokio::time::timeout(Duration::from_secs(20), got.recv())
        .await
        .unwrap()
        .unwrap();
    (headers, serde_json::from_str(&body).unwrap())
}

async fn next_id(got: &mut Got) -> String {
    let (headers, body) = next(got).await;
    let id = headers["tidegate-id"].to_str().unwrap().to_owned();
    assert_eq!(body["id"], id);
    id
}

fn outbox() -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("outbox.sqlite");
    (folder, path)
}

fn start(path: &Path, settings: NotifySettings) -> Notifier {
    Notifier::with_pace(path, settings, Clock::manual(now()), FAST).unwrap()
}

#[tokio::test]
async fn a_message_is_signed_and_says_what_happened() {
    let (_folder, path) = outbox();
    let (url, mut got) = receiver(&[]).await;
    let notifier = start(&path, to(vec![hook("a", &url)]));
    notifier.enqueue(&pending(1)).await;
    let (headers, body) = tokio::time::timeout(Duration::from_secs(20), got.recv())
        .await
        .unwrap()
        .unwrap();
    let signature = headers["tidegate-signature"].to_str().unwrap();
    let seconds = signature.strip_prefix("t=").unwrap().split_once(',').unwrap().0;
    assert!(seconds.parse::<i64>().unwrap() >= now().as_second());
    // As a receiver computes it.
    let mac = {
        use hmac::{Hmac, KeyInit as _, Mac as _};
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(b"shared").unwrap();
        mac.update(format!("{seconds}.{body}").as_bytes());
        mac.finalize().into_bytes()
    };
    assert_eq!(signature, format!("t={seconds},v1={}", HEXLOWER.encode(&mac)));
    let body: Value = serde_json::from_str(&body).unwrap();
    let id = RequestId::from_random([1; 10]);
    assert_eq!(body["event"], "request_pending");
    assert_eq!(body["link"], format!("https://gate.example.org/requests/{id}"));
    assert_eq!(body["command"], format!("tidegate approve {id}"));
    assert_eq!(body["request"]["target"], "orders");
    assert_eq!(body["request"]["window_seconds"], 5400);
}

#[test]
fn each_state_of_a_request_is_an_event() {
    let by = || "lea@example.com".parse().unwrap();
    let grant = || GrantId::from_random([2; 10]);
    let at = now();
    let approved = |how| outcome(RequestOutcome::Approved { at, how, grant: grant() });
    let mut people = request(1);
    people.approvals.push(Approval {
        by: by(),
        at,
        comment: None,
    });
    people.outcome = Some(RequestOutcome::Approved {
        at,
        how: ApprovedBy::People,
        grant: grant(),
    });
    let mut reviewed = request(1);
    reviewed.outcome = Some(RequestOutcome::Approved {
        at,
        how: ApprovedBy::BreakGlass,
        grant: grant(),
    });
    reviewed.review = Some(Review {
        by: by(),
        at,
        comment: "was right".to_owned(),
    });
    let why = "no policy permits it".to_owned();
    let notices = [
        pending(1),
        approved(ApprovedBy::Automatic),
        notice(people),
        outcome(RequestOutcome::Denied { at, why }),
        outcome(RequestOutcome::Rejected {
            at,
            by: by(),
            comment: Some("<not> today".to_owned()),
        }),
        outcome(RequestOutcome::Withdrawn { at }),
        approved(ApprovedBy::BreakGlass),
        notice(reviewed),
    ];
    let slack = notices.map(|notice| {
        let body: Value = serde_json::from_str(&body_of(&notice, MessageFormat::Slack, Some("https://g"))).unwrap();
        json!({ "event": notice.event.as_str(), "message": body })
    });
    insta::assert_json_snapshot!(slack);
}

/// Zero-width and bidirectional characters, tags and variation selectors are seen for what they are.
#[test]
fn nothing_hides_in_a_chat() {
    let mut hidden = request(1);
    hidden.wish.reason = Some("fix\u{202e}txet \u{e0041}\u{e007f}\u{200b}\u{fe0f}\nend".to_owned());
    hidden.wish.ticket = Some("BUG\u{2066}1".to_owned());
    hidden.outcome = Some(RequestOutcome::Rejected {
        at: now(),
        by: "lea@example.com".parse().unwrap(),
        comment: Some("no\u{feff}".to_owned()),
    });
    let notice = notice(hidden);
    let body = |format| body_of(&notice, format, None);
    let slack: Value = serde_json::from_str(&body(MessageFormat::Slack)).unwrap();
    let text = slack["blocks"][0]["text"]["text"].as_str().unwrap();
    for seen in [
        r"fix\u{202e}txet \u{e0041}\u{e007f}\u{200b}\u{fe0f}\nend",
        r"BUG\u{2066}1",
        r"no\u{feff}",
    ] {
        assert!(text.contains(seen), "{text}");
    }
    // A machine gets them as they are, in JSON that hides nothing from who looks at it.
    let json = body(MessageFormat::Json);
    assert!(!json.contains(crate::base::visible::is_unseen), "{json}");
    let value: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["request"]["outcome"]["comment"], "no\u{feff}");
}

#[test]
fn a_name_mentions_nobody_in_a_chat() {
    let mut request = request(1);
    request.wish.identity = "auth0|<!channel> & O'Brien".parse().unwrap();
    let slack: Value = serde_json::from_str(&body_of(&notice(request), MessageFormat::Slack, None)).unwrap();
    for text in [&slack["text"], &slack["blocks"][0]["text"]["text"]] {
        let text = text.as_str().unwrap();
        assert!(text.contains("auth0|&lt;!channel&gt; &amp; O'Brien asks for"), "{text}");
    }
}

#[tokio::test]
async fn nothing_is_told_twice_and_only_what_is_wanted() {
    let (_folder, path) = outbox();
    let (url, mut got) = receiver(&[]).await;
    let mut only = hook("a", &url);
    only.events = [EventKind::RequestPending].into();
    let notifier = start(&path, to(vec![only]));
    for number in [1, 1, 2] {
        notifier.enqueue(&pending(number)).await;
        notifier.enqueue(&outcome(RequestOutcome::Withdrawn { at: now() })).await;
    }
    notifier.enqueue(&pending(1)).await;
    notifier.enqueue(&pending(3)).await;
    for number in [1, 2, 3] {
        assert_eq!(next_id(&mut got).await, pending(number).id());
    }
    assert_eq!(notifier.lost(), 0);
}

#[tokio::test]
async fn what_is_read_again_is_told_in_order_and_no_old_news() {
    let (_folder, path) = outbox();
    let (url, mut got) = receiver(&[]).await;
    let notifier = start(&path, to(vec![hook("a", &url)]));
    notifier.enqueue(&pending(2)).await;
    let mut old = request(9);
    old.submitted_at = now() - SignedDuration::from_hours(25);
    let oldest_first = [notice(old), pending(1), pending(2), pending(3)];
    notifier.told_of(oldest_first.into_iter()).await;
    for number in [2, 1, 3] {
        assert_eq!(next_id(&mut got).await, pending(number).id());
    }
}

/// Reviewed before anybody was told of it: both are told, the first as it was then.
#[tokio::test]
async fn that_somebody_broke_the_glass_is_told_however_late() {
    let (_folder, path) = outbox();
    let (url, mut got) = receiver(&[]).await;
    let notifier = start(&path, to(vec![hook("a", &url)]));
    let mut broken = request(1);
    broken.outcome = Some(RequestOutcome::Approved {
        at: now(),
        how: ApprovedBy::BreakGlass,
        grant: GrantId::from_random([7; 10]),
    });
    let at_once = notice(broken.clone());
    broken.review = Some(Review {
        by: "lea".parse().unwrap(),
        at: now(),
        comment: "was right".to_owned(),
    });
    let both: Vec<_> = RequestNotice::of(&Arc::new(broken)).collect();
    assert_eq!(both.first(), Some(&at_once));
    // Twice, as a start after a gap does.
    for _ in 0..2 {
        notifier.told_of(both.iter().cloned()).await;
    }
    notifier.enqueue(&pending(2)).await;
    let expected = [at_once.id(), both[1].id(), pending(2).id()];
    for id in expected {
        assert_eq!(next_id(&mut got).await, id);
    }
}

#[tokio::test]
async fn failures_are_tried_again_in_order() {
    let (_folder, path) = outbox();
    let (url, mut got) = receiver(&[500, 503, 404, 200, 429]).await;
    let notifier = start(&path, to(vec![hook("a", &url)]));
    notifier.enqueue(&pending(1)).await;
    notifier.enqueue(&pending(2)).await;
    let expected = [1, 1, 1, 1, 2, 2].map(|number| pending(number).id());
    for id in expected {
        assert_eq!(next_id(&mut got).await, id);
    }
}

#[tokio::test]
async fn a_receiver_that_has_had_too_much_is_left_alone_for_as_long_as_it_says() {
    let (_folder, path) = outbox();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let headers = HeaderMap::from_iter([("retry-after".parse().unwrap(), "6".parse().unwrap())]);
    let mut got = serve_with_headers(listener, vec![(429, headers)]);
    let notifier = start(&path, to(vec![hook("a", &url)]));
    notifier.enqueue(&pending(1)).await;
    next_id(&mut got).await;
    let message = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            let first = notifier.0.outbox.first("a".to_owned()).await.unwrap().unwrap();
            if first.attempts == 1 {
                return first;
            }
            tokio::task::yield_now().await;
        }
    });
    let wait = message.await.unwrap().next_at.duration_since(now());
    assert!((4..60).contains(&wait.as_secs()), "{wait}");
    // It does go on.
    notifier.0.clock.set_wall_ahead(SignedDuration::from_secs(60));
    assert_eq!(next_id(&mut got).await, pending(1).id());
}

#[tokio::test]
async fn what_will_never_be_taken_is_given_up() {
    let (_folder, path) = outbox();
    let (url, mut got) = receiver(&[400]).await;
    let notifier = start(&path, to(vec![hook("a", &url)]));
    notifier.enqueue(&pending(1)).await;
    notifier.enqueue(&pending(2)).await;
    assert_eq!(next_id(&mut got).await, pending(1).id());
    assert_eq!(next_id(&mut got).await, pending(2).id());
}

#[tokio::test]
async fn what_is_too_old_is_given_up() {
    let (_folder, path) = outbox();
    let (url, mut got) = receiver(&[500, 500]).await;
    let pace = DeliveryPace {
        give_up: SignedDuration::ZERO,
        ..FAST
    };
    let notifier = Notifier::with_pace(&path, to(vec![hook("a", &url)]), Clock::manual(now()), pace).unwrap();
    notifier.enqueue(&pending(1)).await;
    notifier.enqueue(&pending(2)).await;
    assert_eq!(next_id(&mut got).await, pending(1).id());
    assert_eq!(next_id(&mut got).await, pending(2).id());
}

#[tokio::test]
async fn a_receiver_that_comes_later_gets_what_a_former_run_left() {
    let (_folder, path) = outbox();
    // Bound, so that nobody else gets the port; not served, and then closed: connections are refused.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let settings = to(vec![hook("a", &format!("http://{address}/hook"))]);
    let notifier = start(&path, settings.clone());
    notifier.enqueue(&pending(1)).await;
    notifier.enqueue(&pending(2)).await;
    drop(notifier);
    let notifier = start(&path, settings.clone());
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let mut got = serve(listener, &[]);
    assert_eq!(next_id(&mut got).await, pending(1).id());
    assert_eq!(next_id(&mut got).await, pending(2).id());
    // A reload goes on where it was, and what was received is not sent again.
    notifier.renew(settings);
    notifier.enqueue(&pending(2)).await;
    notifier.enqueue(&pending(3)).await;
    let mut id = next_id(&mut got).await;
    if id == pending(2).id() {
        // The answer had not been noted yet when the reload came: allowed, with the same id.
        id = next_id(&mut got).await;
    }
    assert_eq!(id, pending(3).id());
}

#[tokio::test]
async fn a_slow_receiver_holds_up_nobody() {
    let (_folder, path) = outbox();
    // Takes connections and says nothing.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (url, mut got) = receiver(&[]).await;
    let silent_url = format!("http://{}/hook", silent.local_addr().unwrap());
    let notifier = start(&path, to(vec![hook("silent", &silent_url), hook("b", &url)]));
    for number in 1..=20 {
        notifier.enqueue(&pending(number)).await;
    }
    for number in 1..=20 {
        assert_eq!(next_id(&mut got).await, pending(number).id());
    }
    assert_eq!(notifier.lost(), 0);
}

#[tokio::test]
async fn a_receiver_without_end_behind_gets_no_more() {
    let (_folder, path) = outbox();
    let notifier = start(&path, NotifySettings::default());
    let first = hook("a", "").message("first".to_owned(), "{}".to_owned());
    assert_eq!(notifier.0.outbox.add(vec![first], now()).await.unwrap(), []);
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection
        .execute_batch(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9999)
             INSERT INTO messages (hook, id, body, made_at, next_at)
             SELECT 'a', 'x' || i, '{}', made_at, next_at FROM n, (SELECT made_at, next_at FROM messages LIMIT 1)",
        )
        .unwrap();
    notifier.renew(to(vec![hook("a", "http://127.0.0.1:9/hook")]));
    // Read again, it is not missed again.
    for _ in 0..2 {
        notifier.enqueue(&pending(1)).await;
        assert_eq!(notifier.lost(), 1);
    }
}

fn approved(number: u8, who: &str) -> RequestNotice {
    let mut request = request(number);
    request.wish.identity = who.parse().unwrap();
    request.outcome = Some(RequestOutcome::Approved {
        at: now(),
        how: ApprovedBy::People,
        grant: GrantId::from_random([number; 10]),
    });
    notice(request)
}

fn persons(who: &str, url: &str) -> Webhook {
    Webhook {
        audience: Audience::Person(who.parse().unwrap()),
        ..hook("a", url)
    }
}

#[tokio::test]
async fn what_waits_for_one_goes_to_no_other_who_gets_the_webhook() {
    let (_folder, path) = outbox();
    // Takes connections and says nothing.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent_url = format!("http://{}/hook", silent.local_addr().unwrap());
    let (url, mut got) = receiver(&[]).await;
    let notifier = start(&path, to(vec![persons("ana", &silent_url)]));
    notifier.enqueue(&approved(1, "ana")).await;
    notifier.renew(to(vec![persons("bob", &url)]));
    notifier.enqueue(&approved(2, "bob")).await;
    assert_eq!(next_id(&mut got).await, approved(2, "bob").id());
    assert_eq!(notifier.lost(), 1);
    // From a person to a channel, at a start.
    notifier.renew(to(vec![persons("ana", &silent_url)]));
    notifier.enqueue(&approved(3, "ana")).await;
    drop(notifier);
    let notifier = start(&path, to(vec![hook("a", &url)]));
    notifier.enqueue(&pending(4)).await;
    assert_eq!(next_id(&mut got).await, pending(4).id());
}

#[tokio::test]
async fn the_outbox_of_an_older_version_is_for_everybody() {
    let old = |path: &Path| {
        let connection = rusqlite::Connection::open(path).unwrap();
        let table = "CREATE TABLE messages (seq INTEGER PRIMARY KEY AUTOINCREMENT, hook TEXT NOT NULL, id TEXT NOT NULL, body TEXT, \
                     made_at INTEGER NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, next_at INTEGER NOT NULL, UNIQUE (hook, id)) STRICT";
        connection.execute_batch(table).unwrap();
        let row = "INSERT INTO messages (hook, id, body, made_at, next_at) VALUES ('a', 'old', '{\"id\": \"old\"}', ?1, ?1)";
        connection.execute(row, [now().as_microsecond()]).unwrap();
    };
    let (_folder, path) = outbox();
    let (url, mut got) = receiver(&[]).await;
    old(&path);
    let notifier = start(&path, to(vec![hook("a", &url)]));
    assert_eq!(next_id(&mut got).await, "old");
    drop(notifier);
    let (_folder, path) = outbox();
    old(&path);
    let notifier = start(&path, to(vec![persons("ana", &url)]));
    notifier.enqueue(&approved(1, "ana")).await;
    assert_eq!(next_id(&mut got).await, approved(1, "ana").id());
}

#[tokio::test]
async fn a_clock_that_is_set_back_holds_up_no_message() {
    let (_folder, path) = outbox();
    let (url, mut got) = receiver(&[]).await;
    let (clock, hook) = (Clock::manual(now()), hook("a", &url));
    let notifier = Notifier::with_pace(&path, NotifySettings::default(), clock.clone(), FAST).unwrap();
    let message = |id: &str| hook.message(id.to_owned(), json!({ "id": id }).to_string());
    let messages = vec![message("first"), message("second")];
    assert_eq!(notifier.0.outbox.add(messages, clock.now()).await.unwrap(), []);
    clock.jump_wall(SignedDuration::from_hours(-6));
    clock.set_right();
    notifier.renew(to(vec![hook]));
    assert_eq!(next_id(&mut got).await, "first");
    assert_eq!(next_id(&mut got).await, "second");
}

#[tokio::test]
async fn a_checkpoint_goes_once_to_those_who_name_it() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::manual(now()));
    let (url, mut got) = receiver(&[]).await;
    let (others_url, mut others_got) = receiver(&[]).await;
    let mut keeper = hook("keeper", &url);
    keeper.events = [EventKind::Checkpoint].into();
    let mut others = hook("others", &others_url);
    others.events = EventKind::usual().collect();
    let notifier = Notifier::with_pace(&dir.path().join("outbox"), to(vec![keeper, others]), clock, FAST).unwrap();
    let log = LogId::from_random([1; 10]);
    let line = r#"{"v":2,"seq":8,"event":"checkpoint"}"#;
    for covers in [7, 7, 9] {
        notifier.checkpoint(line, &log, covers, now()).await;
    }
    notifier.enqueue(&pending(1)).await;
    for covers in [7, 9] {
        let (headers, body) = next(&mut got).await;
        let id = format!("{log}.{covers}.checkpoint");
        assert_eq!(headers["Tidegate-Id"], id.as_str());
        assert_eq!(body, json!({"event": "checkpoint", "id": id, "time": now(), "line": line}));
    }
    assert_eq!(next(&mut others_got).await.1["event"], "request_pending");
    let slack: Value =
        serde_json::from_str(&payload::checkpoint(line, "lg_1.7.checkpoint", now(), MessageFormat::Slack)).unwrap();
    assert!(slack["blocks"][0]["text"]["text"].as_str().unwrap().contains(line), "{slack}");
}

#[test]
fn people_answer_by_buttons_where_the_chat_is_known() {
    let blocks = |request: Request, answers| {
        let body = payload::body(
            &notice(request),
            &Audience::Everybody,
            MessageFormat::Slack,
            Some("https://g"),
            answers,
        );
        let body: Value = serde_json::from_str(&body).unwrap();
        body["blocks"].as_array().unwrap().clone()
    };
    let elements = |request: Request, answers| {
        let blocks = blocks(request, answers);
        blocks.last().unwrap()["elements"].as_array().unwrap().clone()
    };
    let kinds = |elements: &[Value]| {
        let kind = |element: &Value| element["action_id"].as_str().unwrap_or("link").to_owned();
        elements.iter().map(kind).collect::<Vec<_>>()
    };
    let buttons = elements(request(1), true);
    assert_eq!(kinds(&buttons), ["approve", "approve_for", "reject", "link"]);
    let id = request(1).id.to_string();
    assert_eq!(buttons[0]["value"], id);
    let options = buttons[1]["options"].as_array().unwrap().iter();
    let options: Vec<_> = options.map(|option| option["value"].as_str().unwrap().to_owned()).collect();
    // Of 90 minutes.
    assert_eq!(options, ["15m", "30m", "1h"].map(|time| format!("{id} {time}")));
    let mut short = request(1);
    short.wish.window = Duration::from_mins(15);
    assert_eq!(kinds(&elements(short, true)), ["approve", "reject", "link"]);
    assert_eq!(kinds(&elements(request(1), false)), ["link"]);
    let mut settled = request(1);
    settled.outcome = Some(RequestOutcome::Withdrawn { at: now() });
    assert_eq!(kinds(&elements(settled.clone(), true)), ["link"]);
    let mut urgent = request(1);
    urgent.outcome = Some(RequestOutcome::Approved {
        at: now(),
        how: ApprovedBy::BreakGlass,
        grant: GrantId::from_random([2; 10]),
    });
    let buttons = elements(urgent.clone(), true);
    assert_eq!(kinds(&buttons), ["review", "link"]);
    assert_eq!(buttons[0]["value"], id);
    assert_eq!(kinds(&elements(urgent.clone(), false)), ["link"]);
    // Whoever decides can say something; a review has to.
    for (request, answers, optional) in [
        (request(1), true, Some(true)),
        (urgent.clone(), true, Some(false)),
        (request(1), false, None),
        (urgent, false, None),
        (settled, true, None),
    ] {
        let blocks = blocks(request, answers);
        let input = blocks.iter().find(|block| block["type"] == "input");
        assert_eq!(
            input.map(|input| input["optional"].as_bool().unwrap()),
            optional,
            "{blocks:?}"
        );
        assert!(input.is_none_or(|input| input["element"]["action_id"] == crate::chat::COMMENT_INPUT));
    }
}
