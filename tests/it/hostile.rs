//! Texts that would be scripts, in every field that people and clients fill in, on every page that shows it: chromium runs none of them.
//!
//! `tests/browser/hostile.json` has the texts, which `src/console/tests/hostile.rs` puts into every view. Each is stored by itself, and stands
//! by itself on the lists and on the pages of requests; into fields that are only shown again go those of one payload together.
#![expect(clippy::print_stdout, reason = "what was looked at is said")]

use std::collections::BTreeSet;
use std::process::Stdio;

use serde_json::{Value, json};
use tidegate::base::visible::is_unseen;
use tidegate::demo::testkit::{TestLogin, free_port};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};

use crate::browser;
use crate::support::{ANA, House, Raw, TARGET, api, eventually};

const LENA: &str = "lena@example.com";
const OLGA: &str = "olga@example.com";
/// Number of sessions that are open at the same time.
const SESSIONS: usize = 54;
/// Variable by which pages that show one text alone are all opened, and not one of [`ONE_OF`]: `make hostile`.
const ALL: &str = "TIDEGATE_HOSTILE";
/// The lists show all texts; of pages that show one alone, one of so many is opened.
const ONE_OF: usize = 8;
/// Number of characters of a text in a list.
const LISTED_CHARS: usize = 100;

/// Pages in a browser, opened as the test says.
struct Pages {
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    opened: u64,
    _program: Child,
}

impl Pages {
    fn start(home: &std::path::Path, url: &str) -> Self {
        let mut program = tokio::process::Command::new("node")
            .arg(browser::root().join("tests/browser/pages.mjs"))
            .arg(home)
            .arg(url)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("node");
        Self {
            orders: program.stdin.take().expect("its input"),
            answers: BufReader::new(program.stdout.take().expect("its output")).lines(),
            opened: 0,
            _program: program,
        }
    }

    /// Gives an order. Nothing may be wrong with any page.
    async fn order(&mut self, order: &Value) -> Value {
        let line = format!("{order}\n");
        self.orders.write_all(line.as_bytes()).await.expect("ordered");
        let answer = tokio::time::timeout(browser::STORY, self.answers.next_line()).await;
        let answer = answer.expect("an answer in time").expect("its output");
        let answer = answer.expect("the browser goes on");
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        assert_eq!(answer["faults"], json!([]), "{}: {answer:#}", order["do"]);
        self.opened += answer["pages"].as_u64().unwrap_or_default();
        answer
    }

    async fn sign_in(&mut self, who: &str, token: &str) {
        self.order(&json!({"do": "person", "who": who, "token": token})).await;
    }

    /// Opens pages, with those behind them, and returns which of the texts they show.
    async fn show(&mut self, who: &str, paths: &[String]) -> BTreeSet<u64> {
        shown(
            &self
                .order(&json!({"do": "open", "who": who, "paths": paths, "follow": true}))
                .await,
        )
    }

    async fn send(&mut self, who: &str, forms: &[Value]) {
        self.order(&json!({"do": "send", "who": who, "forms": forms})).await;
    }
}

fn shown(answer: &Value) -> BTreeSet<u64> {
    answer["shown"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_u64)
        .collect()
}

/// The texts, those of one payload beside each other.
fn texts() -> Vec<Vec<String>> {
    let list = std::fs::read_to_string(browser::root().join("tests/browser/hostile.json")).expect("the texts");
    let list: Value = serde_json::from_str(&list).expect("JSON");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let payloads = list["payloads"].as_array().expect("payloads").iter();
    let breaks = list["breaks"].as_array().expect("breaks");
    let of_one = |payload| {
        breaks
            .iter()
            .map(|pair| [text(&pair[0]), text(payload), text(&pair[1])].concat())
            .collect()
    };
    payloads.map(of_one).collect()
}

/// Returns the numbers of the texts that a list shows whole, and as they are. Others are cut, or have characters that are shown as escapes.
fn whole<'a>(numbers: impl IntoIterator<Item = &'a usize>, texts: &[String]) -> BTreeSet<u64> {
    let is_whole = |text: &str| text.chars().count() <= LISTED_CHARS && !text.contains(is_unseen);
    let numbers = numbers.into_iter().filter(|number| is_whole(&texts[**number]));
    numbers.map(|number| *number as u64).collect()
}

/// A path with a text in each of these fields.
fn with_query(path: &str, fields: &[&str], text: &str) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for field in fields {
        query.append_pair(field, text);
    }
    let separator = if path.contains('?') { '&' } else { '?' };
    format!("{path}{separator}{}", query.finish())
}

/// A form with a text in each of these fields.
fn form(path: &str, fixed: &[(&str, &str)], fields: &[&str], text: &str) -> Value {
    let all = fixed.iter().copied().chain(fields.iter().map(|field| (*field, text)));
    let all: serde_json::Map<String, Value> = all.map(|(name, value)| (name.to_owned(), json!(value))).collect();
    json!({"path": path, "fields": all})
}

/// People whose names are the texts, as far as names can be.
async fn people(house: &House, texts: &[String]) -> Vec<(usize, String)> {
    let mut people = Vec::new();
    for (number, text) in texts.iter().enumerate() {
        let made = house
            .call("operator", "POST", "/v1/users", &json!({"name": text, "groups": ["qa"]}))
            .await;
        match made.body["token"].as_str() {
            Some(token) => people.push((number, token.to_owned())),
            None => assert!((400..500).contains(&made.status), "{text}: {made:?}"),
        }
    }
    people
}

/// Requests with a text as reason and ticket, each by the person of that name; their ids.
async fn requests(house: &House, people: &[(usize, String)], texts: &[String]) -> Vec<(usize, String)> {
    let mut requests = Vec::new();
    for (number, token) in people {
        let text = &texts[*number];
        let wish = json!({"target": TARGET, "profile": "read-write", "window_seconds": 1_800, "reason": text, "ticket": text});
        let made = api(&house.gate, token, "POST", "/v1/requests", &wish).await.good();
        assert_eq!(made["status"], "pending", "{made}");
        requests.push((*number, made["id"].as_str().expect("an id").to_owned()));
    }
    requests
}

/// Approves every second request, and rejects the others, with a text as comment; returns the grants.
async fn decide(house: &House, requests: &[(usize, String)], texts: &[String]) -> Vec<String> {
    let mut grants = Vec::new();
    for (number, id) in requests {
        let step = if number % 2 == 0 { "approve" } else { "reject" };
        let comment = json!({"comment": texts[*number]});
        let decided = house
            .call(LENA, "POST", &format!("/v1/requests/{id}/{step}"), &comment)
            .await
            .good();
        grants.extend(decided["outcome"]["grant"].as_str().map(str::to_owned));
    }
    grants
}

/// Opens sessions of clients that call themselves by the texts, and run statements with them.
async fn sessions(house: &House, login: &TestLogin, texts: &[String]) -> Vec<Raw> {
    let mut open = Vec::new();
    for text in texts.iter().filter(|text| !text.contains('\0')) {
        let raw = Raw::connect(&house.gate).await;
        let parameters = [("database", TARGET), ("application_name", text.as_str())];
        let mut session = raw.login_with(login, &parameters).await.expect("a session");
        session.query(&format!("SELECT $x${text}$x$, pg_sleep(600)")).await;
        open.push(session);
    }
    eventually("all run", async || {
        let path = format!("/v1/sessions?grant={}", login.grant);
        let live = house.call("operator", "GET", &path, &Value::Null).await.good();
        let runs = |session: &&Value| session["running"].is_string();
        let running = live["sessions"].as_array().expect("sessions").iter().filter(runs).count();
        (running == open.len()).then_some(())
    })
    .await;
    open
}

/// Pages that show again what is in their address, with these texts.
fn addresses(text: &str) -> [(&'static str, Vec<String>); 2] {
    let encoded: String = form_urlencoded::byte_serialize(text.as_bytes()).collect();
    let encoded = encoded.replace('+', "%20");
    let of_ana = vec![
        with_query("/ask", &["target", "profile", "window", "reason", "ticket", "sessions"], text),
        with_query(
            "/ask?target=shop&profile=read-write",
            &["window", "reason", "ticket", "sessions"],
            text,
        ),
        with_query("/signin", &["next", "did"], text),
        with_query("/requests", &["before", "did"], text),
        with_query(
            "/signin/callback/127.0.0.1",
            &["code", "state", "iss", "error", "error_description"],
            text,
        ),
        format!("/signin/{encoded}"),
        format!("/requests/{encoded}"),
        format!("/grants/{encoded}"),
        format!("/{encoded}"),
    ];
    let of_olga = vec![
        with_query(
            "/log",
            &["identity", "target", "profile", "event", "table", "text", "since", "until"],
            text,
        ),
        with_query("/log", &["text"], text),
        with_query("/log/tables", &["table", "since", "identity", "target"], text),
        with_query("/log/report", &["since", "until", "identity", "target"], text),
        format!("/log/sessions/{encoded}"),
        with_query("/live", &["identity", "target", "grant"], text),
        with_query("/decide", &["before", "all", "did"], text),
        with_query("/gate/users", &["part", "did"], text),
        with_query(
            "/gate/policies",
            &["identity", "groups", "target", "profile", "window", "reason", "at", "client"],
            text,
        ),
        format!("/gate/targets/{encoded}"),
    ];
    [(ANA, of_ana), (OLGA, of_olga)]
}

/// Forms that are refused, and come back as they were filled in.
fn forms(text: &str, pending: &str, grant: &str) -> [(&'static str, Vec<Value>); 3] {
    let ask = [("target", TARGET), ("profile", "read-write")];
    [
        (
            ANA,
            vec![
                form("/ask", &ask, &["window", "reason", "ticket"], text),
                form("/ask", &ask, &["sessions", "reason", "ticket"], text),
                form("/ask", &[], &["target", "profile", "reason"], text),
                form(&format!("/grants/{grant}/extend"), &[], &["by", "reason"], text),
                form("/terminal", &[], &["port", "state", "challenge"], text),
            ],
        ),
        (
            LENA,
            vec![
                form(
                    &format!("/requests/{pending}/approve"),
                    &[],
                    &["window", "comment", "profile"],
                    text,
                ),
                form(&format!("/requests/{pending}/review"), &[], &["comment"], text),
            ],
        ),
        (
            OLGA,
            vec![
                form("/gate/users", &[("action", "add")], &["name", "groups", "expires"], text),
                form("/gate/users", &[("action", "groups")], &["name", "groups"], text),
                form("/gate/users", &[], &["action", "name"], text),
            ],
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes of a browser: make hostile"]
#[expect(clippy::too_many_lines, reason = "one walk, page by page")]
async fn no_text_of_anybody_runs_on_a_page() {
    let Some(home) = browser::home() else { return };
    let payloads = texts();
    let texts = payloads.concat();
    assert!(texts.len() >= 200, "{}", texts.len());
    let port = free_port().expect("a port");
    let url = format!("http://127.0.0.1:{port}");
    let console = format!("[console]\nlisten = \"127.0.0.1:{port}\"\n");
    let house = House::open(&[(ANA, "qa"), (LENA, "leads"), (OLGA, "operators")], &console, &[]).await;
    let mut pages = Pages::start(&home, &url);
    pages.order(&json!({"do": "texts", "texts": texts})).await;
    for who in [ANA, LENA, OLGA] {
        pages.sign_in(who, house.token(who)).await;
    }

    // Names, reasons and tickets, on the lists and on the page of each request.
    let people = people(&house, &texts).await;
    let requests = requests(&house, &people, &texts).await;
    assert!(requests.len() >= 200, "{}", requests.len());
    let stored = whole(requests.iter().map(|(number, _)| number), &texts);
    let every = if std::env::var_os(ALL).is_some() { 1 } else { ONE_OF };
    let of_requests: Vec<String> = requests
        .iter()
        .step_by(every)
        .map(|(_, id)| format!("/requests/{id}"))
        .collect();
    let opened = whole(requests.iter().step_by(every).map(|(number, _)| number), &texts);
    for (who, paths, expected) in [
        (LENA, vec!["/decide".to_owned()], &stored),
        (LENA, vec!["/decide?all=yes".to_owned()], &stored),
        (OLGA, vec!["/gate/users".to_owned()], &stored),
        (LENA, of_requests.clone(), &opened),
    ] {
        let shown = pages.show(who, &paths).await;
        assert!(
            shown.is_superset(expected),
            "{paths:?}: {:?} are missing",
            expected.difference(&shown)
        );
    }
    // Comments, on the pages of the requests, and on those of their grants.
    let grants = decide(&house, &requests, &texts).await;
    let of_grants: Vec<String> = grants
        .iter()
        .take(36)
        .step_by(every)
        .map(|id| format!("/grants/{id}"))
        .collect();
    let shown = pages.show(LENA, &of_requests).await;
    assert!(shown.is_superset(&opened), "{:?} are missing", opened.difference(&shown));
    let shown = pages.show(LENA, &["/grants".to_owned(), "/grants?all=yes".to_owned()]).await;
    assert!(shown.len() >= 80, "those that were approved: {}", shown.len());
    pages.show(LENA, &of_grants).await;
    // People with such names on their own pages.
    for (number, token) in people.iter().step_by(36) {
        let who = number.to_string();
        pages.sign_in(&who, token).await;
        let own = ["/mine", "/requests", "/live", "/decide"].map(str::to_owned);
        assert!(pages.show(&who, &own).await.contains(&(*number as u64)), "{}", texts[*number]);
    }

    // What clients say of themselves, and their statements, while they run and in the log.
    let most = SESSIONS.to_string();
    let login = house
        .gate
        .grant(ANA, TARGET, "1h", &["--max-sessions", &most])
        .expect("a grant");
    let mut seen = BTreeSet::new();
    for part in texts.chunks(SESSIONS) {
        let open = sessions(&house, &login, part).await;
        seen.extend(
            pages
                .show(ANA, &["/live".to_owned(), format!("/grants/{}", login.grant)])
                .await,
        );
        drop(open);
        eventually("all have ended", async || {
            let live = house.call("operator", "GET", "/v1/sessions", &Value::Null).await.good();
            live["sessions"].as_array().expect("sessions").is_empty().then_some(())
        })
        .await;
    }
    let sent: Vec<usize> = (0..texts.len()).filter(|number| !texts[*number].contains('\0')).collect();
    let sent = whole(&sent, &texts);
    assert!(seen.is_superset(&sent), "{:?} are missing", sent.difference(&seen));
    for (kind, expected) in [
        ("session_started", &sent),
        ("statement", &sent),
        ("request_changed", &stored),
        ("user_changed", &stored),
    ] {
        let shown = pages.show(OLGA, &[format!("/log?event={kind}")]).await;
        assert!(
            shown.is_superset(expected),
            "{kind}: {:?} are missing",
            expected.difference(&shown)
        );
    }

    // What is only shown again: addresses, and forms that are refused.
    let pending = house.asked(ANA, "read-write").await;
    let mut expected = 0;
    for payload in payloads.iter().step_by(every) {
        let text = payload.join(" ");
        for (who, paths) in addresses(&text) {
            expected += paths.len();
            pages.show(who, &paths).await;
        }
        for (who, forms) in forms(&text, &pending, &login.grant) {
            expected += forms.len();
            pages.send(who, &forms).await;
        }
    }
    assert!(expected * every > 900, "{expected}");
    let listed = house
        .call("operator", "GET", "/v1/requests?status=pending", &Value::Null)
        .await
        .good();
    assert_eq!(
        listed["requests"].as_array().map(Vec::len),
        Some(1),
        "no form has counted: {listed}"
    );

    // The same eyes see the same texts where a page does not escape them.
    let control = pages.order(&json!({"do": "control"})).await;
    let at_least = |kind: &str, count: u64| {
        assert!(
            control[kind].as_u64().is_some_and(|found| found >= count),
            "{kind}: {control}"
        )
    };
    at_least("ran", 60);
    at_least("stopped", 80);
    at_least("asked", 15);
    at_least("strange", 170);
    say(texts.len(), pages.opened, &control);
}

fn say(texts: usize, pages: u64, control: &Value) {
    println!("in the browser: {texts} texts, {pages} pages; raw: {control}");
}
