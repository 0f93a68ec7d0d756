//! Whole commands of people against a control API that is played: what is asked, in which order, and how it ends.

use std::sync::{Arc, Mutex};

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use serde_json::{Value, json};

use super::*;

/// What the played gate answers, and what it was asked.
#[derive(Default)]
struct Play {
    /// How the request stands, one state for each look at it; the last one stays.
    stands: Vec<&'static str>,
    /// Whether there is a grant already.
    live: bool,
    asked: Vec<String>,
}

type Played = Arc<Mutex<Play>>;

fn grant() -> Value {
    json!({
        "id": "gr_4k2m9x0a7b", "identity": "ana", "target": "orders", "reason": null, "created_at": "2026-08-01T12:00:00Z",
        "created_by": "ana", "activate_by": "2026-08-01T13:00:00Z", "window_seconds": 1800, "deadline": null,
        "max_sessions": 10, "client_network": null, "activated_at": null, "until": null, "revoked": null,
        "status": "ready", "live_sessions": 0,
    })
}

fn request(stands: &str) -> Value {
    let at = "2026-08-01T12:05:00Z";
    let mut value = json!({
        "id": "rq_4k2m9x0a7b", "identity": "ana", "target": "orders", "profile": "read-write", "window_seconds": 1800,
        "max_sessions": 10, "submitted_at": "2026-08-01T12:00:00Z", "expires_at": "2026-08-01T13:00:00Z",
        "approvals_needed": 1, "status": stands, "approvals_missing": 1, "approvers": ["tom"],
    });
    match stands {
        "approved" => value["outcome"] = json!({ "outcome": "approved", "at": at, "how": "automatic", "grant": "gr_4k2m9x0a7b" }),
        "rejected" => value["outcome"] = json!({ "outcome": "rejected", "at": at, "by": "tom" }),
        _ => {}
    }
    value
}

async fn answer(State(play): State<Played>, method: Method, uri: Uri, headers: HeaderMap) -> (StatusCode, Json<Value>) {
    let mut play = play.lock().unwrap();
    if headers["authorization"] != "Bearer tg_ana" {
        return (StatusCode::UNAUTHORIZED, Json(json!({})));
    }
    let asked = format!("{method} {}", uri.path());
    play.asked.push(asked.clone());
    let body = match asked.as_str() {
        "GET /v1/me" => json!({ "name": "ana", "groups": ["qa"], "source": "local", "admin": false }),
        "GET /v1/grants" if play.live => json!({ "grants": [grant()] }),
        "GET /v1/grants" => json!({ "grants": [] }),
        "GET /v1/requests" => json!({ "requests": [request("pending"), request("approved")] }),
        "POST /v1/grants/gr_4k2m9x0a7b/login" => json!({
            "user": "gr_4k2m9x0a7b.k7", "secret": "s3cret", "host": "127.0.0.1", "port": 7432, "database": "orders",
            "connection_string": "postgresql://gr_4k2m9x0a7b.k7:s3cret@127.0.0.1:7432/orders?sslmode=require",
        }),
        path if path.contains("/v1/grants/gr_4k2m9x0a7b") => grant(),
        "POST /v1/access" if play.live => json!({ "joined": grant() }),
        path if path.contains("/v1/requests") || path == "POST /v1/access" => {
            let asks = matches!(path, "POST /v1/requests" | "POST /v1/access");
            assert!(!asks || headers.contains_key("idempotency-key"));
            let stands = if play.stands.len() > 1 {
                play.stands.remove(0)
            } else {
                play.stands[0]
            };
            if path == "POST /v1/access" {
                json!({ "request": request(stands) })
            } else {
                request(stands)
            }
        }
        _ => return (StatusCode::NOT_FOUND, Json(json!({}))),
    };
    (StatusCode::OK, Json(body))
}

/// Plays a gate for one command line: the exit code, and what was asked of it.
async fn played(play: Play, line: &[&str]) -> (u8, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "tg_ana\n").unwrap();
    let play = Arc::new(Mutex::new(play));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let control = format!("http://{}", listener.local_addr().unwrap());
    let router = axum::Router::new().fallback(answer).with_state(Arc::clone(&play));
    let gate = tokio::spawn(async { axum::serve(listener, router).await });
    let (first, rest) = line.split_first().unwrap();
    let place = ["--control", &control, "--token-file", token.to_str().unwrap()];
    let words = [&["tidegate", *first], &place[..], rest].concat();
    let CliCommand::People(command) = Cli::try_parse_from(words).unwrap().command else {
        panic!("not a command of people");
    };
    let ended = requester::run(&dir.path().join("tidegate.toml"), command).await;
    gate.abort();
    let asked = play.lock().unwrap().asked.clone();
    (ended.unwrap_or_else(|error| exit_code(&error)), asked)
}

const LINE: &str = "POST /v1/grants/gr_4k2m9x0a7b/line";
const LOGIN: &str = "POST /v1/grants/gr_4k2m9x0a7b/login";
const RELEASE: &str = "POST /v1/grants/gr_4k2m9x0a7b/release";
const CHECK: &str = r#"test "$PGUSER:$PGPASSWORD" = gr_4k2m9x0a7b.k7:s3cret || exit 1; exit 7"#;

fn stands(stands: &[&'static str]) -> Play {
    Play {
        stands: stands.to_vec(),
        ..Play::default()
    }
}

#[tokio::test]
async fn exec_asks_runs_and_gives_back() {
    let line = ["exec", "orders", "--for", "30m", "--reason", "ci", "--", "sh", "-c", CHECK];
    let (code, asked) = played(stands(&["approved"]), &line).await;
    assert_eq!(code, 7);
    let whole = ["POST /v1/access", "GET /v1/grants/gr_4k2m9x0a7b", LINE, LOGIN, RELEASE];
    assert_eq!(asked, whole);
    // Also when the program is not there.
    let (code, asked) = played(stands(&["approved"]), &["exec", "orders", "--", "/nonexistent/program"]).await;
    assert_eq!((code, asked.last().unwrap().as_str()), (127, RELEASE));
}

#[tokio::test]
async fn a_grant_that_was_there_is_used_and_kept() {
    let live = || Play {
        live: true,
        ..Play::default()
    };
    let (code, asked) = played(live(), &["exec", "orders", "--", "sh", "-c", CHECK]).await;
    assert_eq!(code, 7);
    assert_eq!(asked, ["POST /v1/access", LINE, LOGIN]);
    let (_, asked) = played(live(), &["exec", "orders", "--release", "--", "true"]).await;
    assert_eq!(asked.last().unwrap(), RELEASE);
}

#[tokio::test]
async fn waiting_ends_as_the_request_does() {
    let line = ["exec", "orders", "--wait-at-most", "10s", "--", "sh", "-c", CHECK];
    let (code, asked) = played(stands(&["pending", "pending", "pending", "approved"]), &line).await;
    assert_eq!(code, 7, "{asked:?}");
    let looks = asked
        .iter()
        .filter(|asked| *asked == "GET /v1/requests/rq_4k2m9x0a7b")
        .count();
    assert_eq!(looks, 3);
    for (end, expected) in [("rejected", 5), ("lapsed", 6), ("pending", 6)] {
        let line = ["exec", "orders", "--wait-at-most", "300ms", "--", "true"];
        let (code, asked) = played(stands(&["pending", end]), &line).await;
        assert_eq!(code, expected, "{end}");
        assert!(!asked.contains(&LOGIN.to_owned()), "{asked:?}");
    }
    let (code, _) = played(stands(&["pending"]), &["request", "orders"]).await;
    assert_eq!(code, 0, "nobody waits for it");
    let (code, _) = played(stands(&["pending", "rejected"]), &["request", "orders", "--wait"]).await;
    assert_eq!(code, 5);
}

#[tokio::test]
async fn one_call_for_each_step() {
    for (line, call) in [
        (
            "approve rq_4k2m9x0a7b --for 15m --comment ok",
            "POST /v1/requests/rq_4k2m9x0a7b/approve",
        ),
        ("reject rq_4k2m9x0a7b --comment no", "POST /v1/requests/rq_4k2m9x0a7b/reject"),
        ("withdraw rq_4k2m9x0a7b", "POST /v1/requests/rq_4k2m9x0a7b/withdraw"),
        (
            "review rq_4k2m9x0a7b --comment fine",
            "POST /v1/requests/rq_4k2m9x0a7b/review",
        ),
        ("extend gr_4k2m9x0a7b --by 30m", "POST /v1/grants/gr_4k2m9x0a7b/extend"),
        ("release gr_4k2m9x0a7b", RELEASE),
        ("requests --mine", "GET /v1/requests"),
        ("grants", "GET /v1/grants"),
        ("whoami", "GET /v1/me"),
        ("env orders --format dotenv", LOGIN),
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        let play = Play {
            live: true,
            ..stands(&["approved"])
        };
        let (code, asked) = played(play, &words).await;
        assert_eq!((code, asked.last().unwrap().as_str()), (0, call), "{line}");
    }
}

#[test]
fn requests_for_people() {
    let now: Timestamp = "2026-08-01T12:20:30Z".parse().unwrap();
    let view = |stands: &str, change: &dyn Fn(&mut Value)| -> crate::control::model::RequestView {
        let mut value = request(stands);
        value.as_object_mut().unwrap().remove("approvers");
        change(&mut value);
        serde_json::from_value(value).unwrap()
    };
    let pending = view("pending", &|value| {
        value["reason"] = "BUG-812\u{1b}[2J".into();
        value["ticket"] = "SHOP-99".into();
        value["approvals_missing"] = 2.into();
    });
    let glass = view("approved", &|value| {
        value["break_glass"] = true.into();
        value["outcome"]["how"] = "break_glass".into();
    });
    let reviewed = view("approved", &|value| {
        value["break_glass"] = true.into();
        value["outcome"]["how"] = "break_glass".into();
        value["review"] = json!({ "by": "eve", "at": "2026-08-01T12:15:00Z", "comment": "fine" });
    });
    let rejected = view("rejected", &|value| value["outcome"]["comment"] = "not today".into());
    let user = |name: &str, disabled: bool| -> crate::control::model::UserView {
        serde_json::from_value(json!({
            "name": name, "groups": ["leads", "qa"], "disabled": disabled, "local": !disabled,
            "created_at": "2026-08-01T12:00:00Z",
        }))
        .unwrap()
    };
    let issued = crate::control::model::IssuedUser {
        ended_sign_ins: None,
        warnings: Vec::new(),
        user: user("ana", false),
        token: Some("tg_0123".to_owned()),
    };
    let mine: crate::control::model::GrantView = serde_json::from_value(grant()).unwrap();
    let parts = [
        views::requests(&[pending.clone(), glass.clone(), rejected.clone()], now),
        views::request(&pending, &["tom".parse().unwrap()], now),
        views::next_step(&pending).unwrap(),
        views::request(&glass, &[], now),
        views::next_step(&glass).unwrap(),
        views::request(&reviewed, &[], now),
        views::request(&rejected, &[], now),
        views::users(&[user("ana", false), user("kim@example.com", true)], now),
        views::issued_user(&issued, now),
        views::grants(&[mine], true, now),
        [
            views::requests(&[], now),
            views::users(&[], now),
            views::grants(&[], true, now),
        ]
        .join("\n"),
    ];
    insta::assert_snapshot!(parts.join("\n---\n"));
}

#[test]
fn completions_ask_this_program() {
    for shell in ["bash", "zsh", "fish"] {
        let CliCommand::People(requester::RequesterCommand::Completions { shell }) =
            Cli::try_parse_from(["tidegate", "completions", shell]).unwrap().command
        else {
            panic!("not completions");
        };
        let script = requester::completion_script(shell).unwrap();
        assert!(
            script.contains("TIDEGATE_COMPLETE=") && script.contains("tidegate"),
            "{shell}: {script}"
        );
    }
}

#[test]
fn commands_options_and_values_are_completed() {
    let completed = |line: &str| {
        let words: Vec<std::ffi::OsString> = line.split(' ').map(Into::into).collect();
        let last = words.len() - 1;
        let found = clap_complete::engine::complete(&mut groups::command(), words, last, None).unwrap();
        let words = found.iter().map(|found| found.get_value().to_string_lossy().into_owned());
        words.collect::<Vec<_>>()
    };
    for (line, expected) in [
        ("tidegate withd", vec!["withdraw"]),
        ("tidegate grant sho", vec!["show", "shorten"]),
        ("tidegate psql --rel", vec!["--release"]),
        ("tidegate requests --status lap", vec!["lapsed"]),
        ("tidegate log --event session_e", vec!["session_ended"]),
    ] {
        assert_eq!(completed(line), expected, "{line}");
    }
}

#[test]
fn a_profile_is_named_after_a_slash_or_by_its_option() {
    let wanted = |line: &str| match Cli::try_parse_from(line.split(' ')).unwrap().command {
        CliCommand::People(requester::RequesterCommand::Psql(args)) => args.wanted.destination(),
        _ => panic!("not psql"),
    };
    let both = ("orders".to_owned(), Some("read-only".to_owned()));
    assert_eq!(wanted("tidegate psql orders/read-only").unwrap(), both);
    assert_eq!(wanted("tidegate psql orders --profile read-only").unwrap(), both);
    assert_eq!(wanted("tidegate psql orders/read-only --profile read-only").unwrap(), both);
    assert_eq!(wanted("tidegate psql orders").unwrap(), ("orders".to_owned(), None));
    let error = wanted("tidegate psql orders/read-only --profile read-write")
        .unwrap_err()
        .to_string();
    assert!(error.contains("read-only") && error.contains("read-write"), "{error}");
}
