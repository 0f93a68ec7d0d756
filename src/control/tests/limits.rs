//! What strangers and the greedy get at the API: slow answers, no answer, a closed connection; and that nobody else suffers for it.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::people::Team;
use super::*;

const BEARER: &str = "authorization: Bearer ";

fn header<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

fn problem(answer: &str) -> Value {
    assert_eq!(header(answer, "content-type"), Some("application/problem+json"), "{answer}");
    serde_json::from_str(answer.lines().last().unwrap()).unwrap()
}

#[tokio::test]
async fn guesses_are_held_back_and_a_good_token_never_is() {
    let wanted = Wanted {
        limits: StrangerLimits {
            failure_delay: Duration::from_mins(1),
            ..StrangerLimits::default()
        },
        tcp: true,
        ..Wanted::default()
    };
    let served = wanted.start().await;
    // What fails at the wire counts here.
    let _wire = served.fail_at_the_wire(Some("gr_0123456789"));
    for guess in [format!("{BEARER}tg_guess\r\n"), String::new()] {
        let guess = served.call_tcp("GET /v1/me", &guess, "");
        assert!(timeout(Duration::from_millis(300), guess).await.is_err(), "it is held back");
    }
    let good = format!("{BEARER}{}\r\n", served.token());
    let answer = timeout(Duration::from_secs(20), served.call_tcp("GET /v1/me", &good, "")).await;
    assert!(answer.expect("at once").starts_with("HTTP/1.1 200"));
    assert!(served.call_tcp("GET /healthz", "", "").await.starts_with("HTTP/1.1 200"));
    assert!(served.ask("GET /v1/me", true, "").await.starts_with("HTTP/1.1 200"));
    served.stop().await;
}

#[tokio::test]
async fn an_answer_that_was_held_back_says_why_and_until_when() {
    let wanted = Wanted {
        limits: StrangerLimits {
            failure_delay: Duration::from_millis(5),
            ..StrangerLimits::default()
        },
        tcp: true,
        ..Wanted::default()
    };
    let served = wanted.start().await;
    let guess = format!("{BEARER}tg_guess\r\n");
    let first = served.call_tcp("GET /v1/me", &guess, "").await;
    assert!(first.starts_with("HTTP/1.1 401") && !first.contains("held back"), "{first}");
    let client = served.gate.strangers.enter(served.tcp.unwrap().ip());
    for _ in 0..60 {
        let _ = client.proof().failed(None);
    }
    let late = served.call_tcp("GET /v1/me", &guess, "").await;
    assert!(late.starts_with("HTTP/1.1 401"), "{late}");
    for said in ["held back: too many have failed from your address", "s without a failure"] {
        assert!(late.contains(said), "{said}: {late}");
    }
    served.stop().await;
}

/// A connection that asks for this and stays.
async fn open(team: &Team, path: &str, token: &str) -> (UnixStream, String) {
    let mut stream = UnixStream::connect(team.served.state("control.sock")).await.unwrap();
    let request = format!("{path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{BEARER}{token}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut block = [0; 4096];
    let read = timeout(Duration::from_secs(20), stream.read(&mut block))
        .await
        .unwrap()
        .unwrap();
    (stream, String::from_utf8_lossy(&block[..read]).into_owned())
}

#[tokio::test]
async fn one_identity_holds_so_many_streams_open_and_no_more() {
    let team = Team::start().await;
    let mut streams = Vec::new();
    for _ in 0..long_poll::MAX_SUBSCRIBERS_PER_IDENTITY {
        let (stream, said) = open(&team, "GET /v1/events", &team.ana).await;
        assert!(said.starts_with("HTTP/1.1 200"), "{said}");
        streams.push(stream);
    }
    let headers = format!("{BEARER}{}\r\n", team.ana);
    let refused = team.served.call("GET /v1/events", &headers, "").await;
    assert!(refused.starts_with("HTTP/1.1 429"), "{refused}");
    assert_eq!(header(&refused, "retry-after"), Some("5"));
    let problem = problem(&refused);
    assert_eq!(problem["type"], "urn:tidegate:problem:holds-too-many");
    assert!(problem["detail"].as_str().unwrap().contains("ana"), "{problem}");
    let (_lenas, said) = open(&team, "GET /v1/events", &team.lena).await;
    assert!(said.starts_with("HTTP/1.1 200"), "{said}");
    // A place comes back when its stream is closed.
    drop(streams.pop());
    let again = async {
        while !open(&team, "GET /v1/events", &team.ana).await.1.starts_with("HTTP/1.1 200") {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(20), again).await.unwrap();
    drop(streams);
    team.served.stop().await;
}

#[tokio::test]
async fn one_identity_has_so_many_long_polls_and_no_more() {
    let team = Team::start().await;
    let wish = json!({"target": "orders", "profile": "read-only", "window_seconds": 21_600});
    let (_, request) = team.says(&team.ana, "POST /v1/requests", &wish).await;
    let path = format!("GET /v1/requests/{}?wait_seconds=60", request["id"].as_str().unwrap());
    let ask = format!(
        "{path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{BEARER}{}\r\n\r\n",
        team.ana
    );
    let mut polls = Vec::new();
    for _ in 0..=long_poll::MAX_WAITERS_PER_IDENTITY {
        let mut stream = UnixStream::connect(team.served.state("control.sock")).await.unwrap();
        stream.write_all(ask.as_bytes()).await.unwrap();
        polls.push(tokio::spawn(async move {
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        }));
    }
    let (answered, _, others) = futures_util::future::select_all(polls).await;
    let refused = answered.unwrap();
    assert!(
        refused.starts_with("HTTP/1.1 429") && refused.contains("retry-after: 5"),
        "{refused}"
    );
    // Her new token is not the one the others came with: they end at once, and are told that it is good no more.
    team.served.json("POST /v1/users/ana/rotate", "").await;
    for other in others {
        let answer = timeout(Duration::from_secs(20), other).await.unwrap().unwrap();
        assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    }
    team.served.stop().await;
}

#[tokio::test]
async fn a_rotated_or_disabled_users_streams_end_at_once() {
    let team = Team::start().await;
    let olga = team
        .served
        .json("POST /v1/users", r#"{"name":"olga","groups":["operators"]}"#)
        .await;
    let mut token = olga["token"].as_str().unwrap().to_owned();
    for end in ["rotate", "disable"] {
        let mut streams = Vec::new();
        for path in ["GET /v1/events", "GET /v1/log?follow=true"] {
            let (stream, said) = open(&team, path, &token).await;
            assert!(said.starts_with("HTTP/1.1 200"), "{said}");
            streams.push(stream);
        }
        let (mut lenas, _) = open(&team, "GET /v1/events", &team.lena).await;
        let changed = team.served.json(&format!("POST /v1/users/olga/{end}"), "").await;
        for stream in &mut streams {
            let mut rest = Vec::new();
            let ended = timeout(Duration::from_secs(20), stream.read_to_end(&mut rest)).await;
            ended.expect("it ends, though nothing else happens").unwrap();
        }
        // Others' go on.
        let quiet = timeout(Duration::from_millis(50), lenas.read(&mut [0; 64])).await;
        assert!(quiet.is_err(), "{quiet:?}");
        token = changed["token"].as_str().unwrap_or_default().to_owned();
    }
    team.served.stop().await;
}

#[tokio::test(start_paused = true)]
async fn who_connects_and_sends_no_request_is_closed() {
    let wanted = Wanted {
        tcp: true,
        ..Wanted::default()
    };
    let served = wanted.start().await;
    let began = Instant::now();
    let mut tcp = tokio::net::TcpStream::connect(served.tcp.unwrap()).await.unwrap();
    let mut unix = UnixStream::connect(served.state("control.sock")).await.unwrap();
    let mut said = Vec::new();
    let _ = tcp.read_to_end(&mut said).await;
    let _ = unix.read_to_end(&mut said).await;
    assert!(!String::from_utf8_lossy(&said).contains("200"));
    let silent = began.elapsed();
    assert!(
        silent >= Duration::from_secs(10) && silent < Duration::from_secs(20),
        "{silent:?}"
    );

    // Byte by byte is no better.
    let (began, mut tcp) = (
        Instant::now(),
        tokio::net::TcpStream::connect(served.tcp.unwrap()).await.unwrap(),
    );
    tcp.write_all(b"GET /healthz HTTP/1.1\r\n").await.unwrap();
    while began.elapsed() < Duration::from_mins(1) && tcp.write_all(b"x").await.is_ok() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());

    // A connection that is kept for later is closed later.
    let mut kept = UnixStream::connect(served.state("control.sock")).await.unwrap();
    kept.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut said = String::new();
    let _ = kept.read_to_string(&mut said).await;
    assert!(said.starts_with("HTTP/1.1 200"), "{said}");
    served.stop().await;
}

#[tokio::test]
async fn the_silent_make_room_and_who_has_proved_something_stays() {
    let wanted = Wanted {
        limits: StrangerLimits {
            connections_per_address: 4,
            ..StrangerLimits::default()
        },
        tcp: true,
        ..Wanted::default()
    };
    let served = wanted.start().await;
    let address = served.tcp.unwrap();
    // Somebody whose stream is open, and a crowd that sends half a request each.
    let mut proved = tokio::net::TcpStream::connect(address).await.unwrap();
    let stream = format!("GET /v1/events HTTP/1.1\r\nhost: x\r\n{BEARER}{}\r\n\r\n", served.token());
    proved.write_all(stream.as_bytes()).await.unwrap();
    let mut said = [0; 15];
    proved.read_exact(&mut said).await.unwrap();
    assert_eq!(&said, b"HTTP/1.1 200 OK");
    let mut silent = Vec::new();
    for _ in 0..20 {
        let mut tcp = tokio::net::TcpStream::connect(address).await.unwrap();
        tcp.write_all(b"GET / HTTP/1.1\r\nx: ").await.unwrap();
        silent.push(tcp);
        let answer = served.call_tcp("GET /healthz", "", "").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    let mut oldest = silent.remove(0);
    let mut said = String::new();
    timeout(Duration::from_secs(10), oldest.read_to_string(&mut said))
        .await
        .expect("it gave way")
        .expect("and is told so");
    assert!(
        said.starts_with("HTTP/1.1 503") && said.contains("retry-after: 1\r\n") && said.contains("at most 4 that"),
        "{said}"
    );
    assert!(served.gate.strangers.len() <= 4);
    let quiet = timeout(Duration::from_millis(50), async {
        loop {
            if proved.read(&mut [0; 64]).await.unwrap() == 0 {
                return;
            }
        }
    });
    assert!(quiet.await.is_err(), "the stream goes on");
    served.stop().await;
}

#[tokio::test]
async fn a_head_takes_little_memory_and_one_that_is_too_long_is_refused() {
    let wanted = Wanted {
        tcp: true,
        ..Wanted::default()
    };
    let served = wanted.start().await;
    // A token of the longest kind fits.
    let longest = format!("{BEARER}{}\r\n", "x".repeat(16 << 10));
    assert!(served.call_tcp("GET /v1/me", &longest, "").await.starts_with("HTTP/1.1 401"));
    let too_long = format!("x: {}\r\n", "x".repeat(64 << 10));
    assert!(
        served
            .call_tcp("GET /healthz", &too_long, "")
            .await
            .starts_with("HTTP/1.1 431")
    );
    served.stop().await;
}

#[tokio::test]
async fn one_identity_reads_the_log_so_many_times_at_once() {
    let caller = authenticate::tests::person("sam");
    let limiter = LongPollLimiter::new(watch::channel(false).1, 10);
    let readings: Vec<_> = (0..long_poll::MAX_READINGS_PER_IDENTITY)
        .map(|_| limiter.log.readings.enter(&caller).unwrap())
        .collect();
    assert!(matches!(
        limiter.log.readings.enter(&caller),
        Err(ApiError::HoldsTooMany { .. })
    ));
    drop(readings);
    assert!(limiter.log.readings.enter(&caller).is_ok());
}

#[tokio::test]
async fn pages_are_bounded_and_a_cursor_is_one_that_was_given() {
    let team = Team::start().await;
    let wish = json!({"target": "orders", "profile": "read-only", "window_seconds": 600});
    team.says(&team.ana, "POST /v1/requests", &wish).await;
    for (path, name) in [("requests", "rq_"), ("grants", "gr_")] {
        let all = team.served.json(&format!("GET /v1/{path}?limit=0"), "").await;
        assert_eq!(all[path].as_array().unwrap().len(), 1, "{all}");
        let none = team.served.json(&format!("GET /v1/{path}?limit=1000000"), "").await;
        assert!(none["next"].is_null(), "{none}");
        for query in [
            "before=x".to_owned(),
            "before=".to_owned(),
            format!("before={name}"),
            format!("before={name}0123456789%00"),
            "limit=-1".to_owned(),
            "limit=ten".to_owned(),
            "limit=99999999999".to_owned(),
            "after=1".to_owned(),
        ] {
            let answer = team.served.ask(&format!("GET /v1/{path}?{query}"), true, "").await;
            assert!(answer.starts_with("HTTP/1.1 400"), "{query}: {answer}");
            assert_eq!(problem(&answer)["type"], "urn:tidegate:problem:malformed", "{query}");
        }
        // Of the right form, and nobody's: there is nothing before it, or no such thing.
        let unknown = team.served.json(&format!("GET /v1/{path}?before={name}0000000000"), "").await;
        assert!(
            unknown[path].as_array().is_some_and(Vec::is_empty) || unknown["status"] == 404,
            "{unknown}"
        );
    }
    team.served.stop().await;
}

/// Whoever watches the sessions of a grant has places of their own: a crowd of them leaves those who read the log theirs.
#[tokio::test]
async fn readers_of_grants_take_no_places_of_the_readers_of_the_log() {
    let (_stopping, stopped) = watch::channel(false);
    let limiter = LongPollLimiter::new(stopped, 10);
    let crowd = (0..100).map(|number| authenticate::tests::person(&format!("tester-{number}")));
    let held: Vec<_> = crowd
        .flat_map(|watcher| {
            let (readings, followers) = (&limiter.grants.readings, &limiter.grants.followers);
            (0..10)
                .flat_map(|_| [readings.enter(&watcher).ok(), followers.enter(&watcher).ok()])
                .collect::<Vec<_>>()
        })
        .flatten()
        .collect();
    let auditor = authenticate::tests::person("sam");
    assert!(limiter.grants.readings.enter(&auditor).is_err() && limiter.grants.followers.enter(&auditor).is_err());
    assert!(limiter.log.readings.enter(&auditor).is_ok() && limiter.log.followers.enter(&auditor).is_ok());
    drop(held);
    // One of them leaves the others some.
    let one = authenticate::tests::person("ana");
    let held: Vec<_> = (0..100).filter_map(|_| limiter.grants.readings.enter(&one).ok()).collect();
    assert_eq!(held.len(), long_poll::MAX_GRANT_READINGS_PER_IDENTITY);
    assert!(limiter.grants.readings.enter(&auditor).is_ok());
}
