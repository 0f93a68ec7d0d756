//! Pages over HTTP: headers, the sign-in, whose things are there, forms.

use serde_json::Value;

use super::markup::elements;
use super::tokens;
use crate::access::challenge_of;
use crate::audit::testing::{statement, who};
use crate::audit::{Journal, JournalSettings, RecordBatch};
use crate::base::clock::Clock;
use crate::base::secret::Secret;
use crate::console;
use crate::control::tests::Served;
use crate::identity::Identity;
use crate::ledger::{Ledger, NewSignIn};
use crate::model::sign_in::SignInVia;

/// A gate with pages, Ana of `qa` and Lena of `leads`, signed in.
struct Console {
    served: Served,
    ana: String,
    lena: String,
    /// Ana's token.
    token: String,
}

impl Console {
    async fn open() -> Self {
        let served = Served::start_with_pages(console::router).await;
        let user = async |name: &str, group: &str| {
            let body = format!("{{\"name\":\"{name}\",\"groups\":[\"{group}\"]}}");
            let issued: Value = served.json("POST /v1/users", &body).await;
            issued["token"].as_str().unwrap().to_owned()
        };
        let (ana, lena) = (user("ana", "qa").await, user("lena", "leads").await);
        Self {
            ana: sign_in(&served, &ana).await,
            lena: sign_in(&served, &lena).await,
            token: ana,
            served,
        }
    }

    async fn get(&self, cookie: &str, path: &str) -> String {
        self.served
            .call(&format!("GET {path}"), &format!("cookie: {cookie}\r\n"), "")
            .await
    }

    /// Sends a form as a browser does.
    async fn post(&self, cookie: &str, path: &str, fields: &str) -> String {
        post(&self.served, &format!("cookie: {cookie}\r\n{OWN}"), path, fields).await
    }

    /// Sends a form, and returns the path that it leads to.
    async fn sent(&self, cookie: &str, path: &str, fields: &str) -> String {
        let answer = self.post(cookie, path, fields).await;
        location(&answer).unwrap_or_else(|| panic!("{path}: {answer}")).to_owned()
    }
}

/// What a browser says of a form of the gate's own page.
const OWN: &str = "origin: http://x\r\nsec-fetch-site: same-origin\r\n";

async fn post(served: &Served, headers: &str, path: &str, fields: &str) -> String {
    let headers = format!("content-type: application/x-www-form-urlencoded\r\n{headers}");
    served.call(&format!("POST {path}"), &headers, fields).await
}

/// Makes Otto of `operators`; returns his token.
async fn otto(served: &Served) -> String {
    let issued = served
        .json("POST /v1/users", r#"{"name":"otto","groups":["operators"]}"#)
        .await;
    issued["token"].as_str().unwrap().to_owned()
}

/// Makes Otto, and signs him in.
async fn operator(served: &Served) -> String {
    let token = otto(served).await;
    sign_in(served, &token).await
}

pub(super) async fn sign_in(served: &Served, token: &str) -> String {
    let answer = post(served, OWN, "/signin", &format!("token={token}&next=/decide")).await;
    assert_eq!(location(&answer), Some("/decide"), "{answer}");
    let cookie = answer.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax"), "{cookie}");
    assert!(!answer.contains(token));
    cookie.split(';').next().unwrap().to_owned()
}

fn location(answer: &str) -> Option<&str> {
    answer.lines().find_map(|line| line.strip_prefix("location: "))
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap()
}

#[tokio::test]
async fn a_problem_on_the_way_to_a_provider_and_back_is_a_page() {
    let console = Console::open().await;
    for (path, status, words) in [
        ("/signin/https%3A%2F%2Fevil.example", "404", "people cannot sign in with"),
        (
            "/signin/callback/id.example.org?code=x&state=y",
            "403",
            "was not begun in this browser",
        ),
        ("/signin/callback/id.example.org?code=x&code=y", "400", "invalid query"),
    ] {
        let answer = console.get("", path).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        assert!(
            answer.contains("text/html") && answer.contains("content-security-policy") && answer.contains(words),
            "{answer}"
        );
    }
    let answer = console.served.call("POST /signin/callback/id.example.org", OWN, "").await;
    assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
    console.served.stop().await;
}

#[tokio::test]
async fn every_answer_has_the_headers() {
    let console = Console::open().await;
    let page = console.get(&console.ana, "/mine").await;
    let assets: Vec<String> = elements(&page)
        .iter()
        .flat_map(|element| element.attributes.clone())
        .filter(|(_, value)| value.starts_with("/assets/"))
        .map(|(_, value)| value)
        .collect();
    assert_eq!(assets.len(), 2, "{page}");
    for path in [
        "/",
        "/mine",
        "/ask?target=orders",
        "/requests",
        "/grants",
        "/decide",
        "/decide/reviews",
        "/live",
        "/signin",
        "/log",
        "/gate",
        "/gate/users",
        "/gate/policies",
        "/log/tables",
        "/gate/targets/orders",
        "/requests/rq_0000000000",
        "/requests/x",
        "/grants/gr_0000000000",
        "/log/sessions/se_0000000000",
        "/nothing",
        "/assets/nothing",
        "/certificate.pem",
    ]
    .into_iter()
    .chain(assets.iter().map(String::as_str))
    {
        let answer = console.get(&console.ana, path).await;
        for header in [
            "content-security-policy: default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' \
             data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
            "x-content-type-options: nosniff",
            "referrer-policy: same-origin",
            if path.starts_with("/assets/console-") {
                "cache-control: public, max-age=31536000, immutable"
            } else {
                "cache-control: no-store"
            },
        ] {
            assert!(answer.contains(header), "{path}: {header} is not in {answer}");
        }
        assert!(!answer.contains("application/problem+json"), "{path}: {answer}");
    }
    // The API is as it was.
    let answer = console.get(&console.ana, "/v1/nothing").await;
    assert!(answer.contains("application/problem+json"), "{answer}");
    let answer = console.get(&console.ana, "/v1/me").await;
    assert!(
        answer.contains("\"name\":\"ana\"") && !answer.contains("content-security-policy"),
        "{answer}"
    );
    console.served.stop().await;
}

#[tokio::test]
async fn nobody_gets_a_page_without_a_sign_in() {
    let console = Console::open().await;
    for path in [
        "/",
        "/mine",
        "/ask",
        "/requests",
        "/requests/rq_0000000000",
        "/grants",
        "/decide",
        "/live",
        "/log",
        "/gate",
    ] {
        let answer = console.served.call(&format!("GET {path}"), "", "").await;
        let next = location(&answer).unwrap_or_else(|| panic!("{path}: {answer}"));
        assert_eq!(status(&answer), "303");
        assert!(next.starts_with("/signin"), "{path}: {next}");
    }
    let answer = console.served.call("GET /requests/rq_0000000000?did=late", "", "").await;
    assert_eq!(
        location(&answer),
        Some("/signin?next=%2Frequests%2Frq_0000000000%3Fdid%3Dlate")
    );
    // A way on to another site is none.
    for next in [
        "//evil.example",
        "https://evil.example",
        "/%5Cevil.example",
        "%09//evil.example",
        "/%0d%0aset-cookie:x",
    ] {
        let answer = post(
            &console.served,
            OWN,
            "/signin",
            &format!("token={}&next={next}", console.token),
        )
        .await;
        assert_eq!(location(&answer), Some("/"), "{next}: {answer}");
    }
    // A wrong token: the form again, with the reason.
    let answer = post(&console.served, OWN, "/signin", "token=tg_wrong&next=/mine").await;
    assert_eq!(status(&answer), "401", "{answer}");
    assert!(
        answer.contains("name=\"token\"") && !answer.contains("tg_wrong") && !answer.contains("set-cookie"),
        "{answer}"
    );
    // Signed out is signed out.
    assert_eq!(console.sent(&console.ana, "/signout", "").await, "/signin?did=left");
    let answer = console.get(&console.ana, "/mine").await;
    assert_eq!(location(&answer), Some("/signin?next=%2Fmine"), "{answer}");
    console.served.stop().await;
}

#[tokio::test]
async fn a_terminal_is_let_in_by_the_consoles_own_form_only() {
    let console = Console::open().await;
    let challenge = challenge_of(&Secret::new("verifier".to_owned()));
    let fields = format!("port=4711&state=st&challenge={challenge}");
    let page = console.get(&console.ana, &format!("/terminal?{fields}")).await;
    assert!(
        page.contains(challenge.get(..8).unwrap()) && page.contains("asks to act as"),
        "{page}"
    );
    for broken in ["port=0", "port=x", "port=80&state=s", "port=80&state=s&challenge=abc"] {
        let page = console.get(&console.ana, &format!("/terminal?{broken}")).await;
        assert_eq!(status(&page), "400", "{page}");
    }
    let foreign = format!("cookie: {}\r\norigin: https://evil.example\r\n", console.ana);
    assert_eq!(status(&post(&console.served, &foreign, "/terminal", &fields).await), "403");
    let back = console.post(&console.ana, "/terminal", &fields).await;
    let way = back
        .split("0; url=")
        .nth(1)
        .and_then(|rest| rest.split('"').next())
        .unwrap_or_else(|| panic!("{back}"));
    let code = way
        .strip_prefix("http://127.0.0.1:4711/?code=")
        .and_then(|rest| rest.strip_suffix("&amp;state=st"));
    let finish = async |verifier: &str| {
        let step = serde_json::json!({"code": code, "verifier": verifier}).to_string();
        console.served.call("POST /signin/terminal", "", &step).await
    };
    for (verifier, expected) in [("another", "403"), ("verifier", "201"), ("verifier", "403")] {
        let answer = finish(verifier).await;
        assert_eq!(status(&answer), expected, "{answer}");
    }
    console.served.stop().await;
}

#[tokio::test]
async fn a_form_of_another_site_changes_nothing() {
    let console = Console::open().await;
    let wish = "target=orders&profile=read-only&window=30m";
    for headers in [
        "",
        "origin: https://evil.example\r\n",
        "origin: null\r\nsec-fetch-site: cross-site\r\n",
        "origin: http://x\r\nsec-fetch-site: same-site\r\n",
    ] {
        let cookie = format!("cookie: {}\r\n{headers}", console.ana);
        let answer = post(&console.served, &cookie, "/ask", wish).await;
        assert_eq!(status(&answer), "403", "{headers}: {answer}");
        let answer = post(&console.served, headers, "/signin", &format!("token={}", console.token)).await;
        assert_eq!(status(&answer), "403", "{headers}: {answer}");
        assert!(!answer.contains("set-cookie"), "{answer}");
    }
    // Neither does a link, nor a body that is no form.
    let answer = console.get(&console.ana, "/signout").await;
    assert_eq!(status(&answer), "405", "{answer}");
    let json = format!("cookie: {}\r\n{OWN}content-type: application/json\r\n", console.ana);
    let answer = console.served.call("POST /ask", &json, "{}").await;
    assert_eq!(status(&answer), "400", "{answer}");
    let mine = console.get(&console.ana, "/grants").await;
    assert!(mine.contains("No grants that you may see."), "{mine}");
    console.served.stop().await;
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one walk, step by step")]
async fn two_people_ask_decide_and_end() {
    let console = Console::open().await;
    let (ana, lena) = (&console.ana, &console.lena);
    // At once, and the same again joins it.
    let grant = console
        .sent(ana, "/ask", "target=orders&profile=read-only&window=30m&reason=a+look")
        .await;
    assert!(grant.starts_with("/grants/gr_"), "{grant}");
    let again = console.sent(ana, "/ask", "target=orders&profile=read-only&window=30m").await;
    assert_eq!(again, format!("{grant}?did=joined"));
    let page = console.get(ana, &again).await;
    assert!(
        page.contains("You have this access already") && page.contains("How to connect"),
        "{page}"
    );
    // The card has the secret, and no other page has.
    let card = console.post(ana, &format!("{grant}/login"), "").await;
    let secret = card
        .split("id=\"secret\">")
        .nth(1)
        .and_then(|rest| rest.split('<').next())
        .unwrap()
        .to_owned();
    assert!(secret.len() >= 27 && card.matches(&secret).count() >= 8, "{card}");
    assert!(!console.get(ana, &grant).await.contains(&secret));
    assert_eq!(
        location(&console.get(ana, &format!("{grant}/login")).await),
        Some(grant.as_str())
    );
    // Who may approve sees it; a login is for its owner.
    assert_eq!(status(&console.get(lena, &grant).await), "200");
    assert_eq!(status(&console.post(lena, &format!("{grant}/login"), "").await), "403");
    assert_eq!(
        console.sent(ana, &format!("{grant}/extend"), "by=30m&reason=more").await,
        format!("{grant}?did=extended")
    );
    let refused = console.post(ana, &format!("{grant}/extend"), "by=9h").await;
    assert!(status(&refused) == "403" && refused.contains("What to do"), "{refused}");
    assert_eq!(
        console.sent(ana, &format!("{grant}/release"), "").await,
        format!("{grant}?did=released")
    );

    // What needs somebody waits, and is decided with less.
    let request = console
        .sent(ana, "/ask", "target=orders&profile=read-write&window=1h&reason=fix+%3Cb%3E")
        .await;
    assert!(request.starts_with("/requests/rq_"), "{request}");
    let page = console.get(ana, &request).await;
    assert!(
        page.contains("waits for lena") || page.contains("It waits for lena"),
        "{page}"
    );
    assert!(
        page.contains("http-equiv=\"refresh\"") && page.contains("fix &lt;b&gt;"),
        "{page}"
    );
    let page = console.get(lena, "/decide").await;
    assert!(
        page.contains(&format!("href=\"{request}\"")) && page.contains("Decide on it"),
        "{page}"
    );
    let page = console.get(lena, &request).await;
    assert!(
        page.contains("Approve") && page.contains("leads-approve") | page.contains("qa-asks"),
        "{page}"
    );
    assert_eq!(status(&console.post(ana, &format!("{request}/approve"), "").await), "409");
    let to = console
        .sent(lena, &format!("{request}/approve"), "window=15m&comment=be+quick")
        .await;
    assert_eq!(to, format!("{request}?did=approved"));
    let page = console.get(ana, &request).await;
    assert!(
        page.contains("You have it.") && page.contains("15m") && page.contains("be quick"),
        "{page}"
    );
    let grant = elements(&page)
        .into_iter()
        .flat_map(|element| element.attributes)
        .find(|(_, value)| value.starts_with("/grants/gr_"));
    let (_, grant) = grant.unwrap();
    assert_eq!(
        console.sent(lena, &format!("{grant}/revoke"), "reason=enough").await,
        format!("{grant}?did=revoked")
    );
    let page = console.get(ana, &grant).await;
    assert!(page.contains("revoked") && page.contains("enough"), "{page}");
    console.served.stop().await;
}

#[tokio::test]
async fn what_is_anothers_is_not_there() {
    let console = Console::open().await;
    let fred = console.served.json("POST /v1/users", r#"{"name":"fred","groups":[]}"#).await;
    let fred = sign_in(&console.served, fred["token"].as_str().unwrap()).await;
    let request = console
        .sent(
            &console.ana,
            "/ask",
            "target=orders&profile=read-write&window=1h&reason=mine+alone",
        )
        .await;
    let grant = console
        .sent(&console.ana, "/ask", "target=orders&profile=read-only&window=30m")
        .await;
    for path in [&request, &grant] {
        let answer = console.get(&fred, path).await;
        assert_eq!(status(&answer), "404", "{path}: {answer}");
        assert!(!answer.contains("mine alone"));
    }
    for path in ["/mine", "/requests", "/grants", "/decide", "/live"] {
        let answer = console.get(&fred, path).await;
        assert!(
            status(&answer) == "200" && !answer.contains("mine alone") && !answer.contains(&grant),
            "{path}: {answer}"
        );
    }
    for path in [
        "/log",
        "/gate",
        "/gate/users",
        "/gate/policies",
        "/gate/targets/orders",
        "/log/sessions/se_0000000000",
    ] {
        let answer = console.get(&fred, path).await;
        assert!(status(&answer) == "403" && answer.contains("What to do"), "{path}: {answer}");
        assert!(
            answer.contains("href=\"/mine\"") && answer.contains("Sign out"),
            "{path}: {answer}"
        );
    }
    // A refusal is the form again, as it was filled in, with what would help.
    let refused = console
        .post(
            &fred,
            "/ask",
            "target=orders&profile=read-only&window=30m&reason=%22%3E%3Cscript%3E",
        )
        .await;
    assert!(status(&refused) == "403" && refused.contains("in group qa"), "{refused}");
    assert!(
        refused.contains("&quot;&gt;&lt;script&gt;") && !refused.contains("<script>\""),
        "{refused}"
    );
    console.served.stop().await;
}

#[tokio::test]
async fn lists_have_pages() {
    let console = Console::open().await;
    for number in 0..26 {
        let wish = format!("target=orders&profile=read-write&window=1h&reason=number+{number}");
        let request = console.sent(&console.ana, "/ask", &wish).await;
        assert!(request.starts_with("/requests/rq_"), "{request}");
    }
    for (cookie, path) in [(&console.lena, "/decide"), (&console.ana, "/requests")] {
        let page = console.get(cookie, path).await;
        assert!(page.contains("number 25") && !page.contains("number 0<"), "{page}");
        let next = elements(&page).into_iter().find(|element| {
            element
                .attributes
                .iter()
                .any(|(name, value)| name == "rel" && value == "next")
        });
        let attributes = next.unwrap().attributes;
        let (_, next) = attributes.iter().find(|(name, _)| name == "href").unwrap();
        assert!(next.starts_with(&format!("{path}?before=rq_")), "{next}");
        let page = console.get(cookie, next).await;
        assert!(
            page.contains("number 0") && !page.contains("number 25") && page.contains("The newest"),
            "{page}"
        );
    }
    console.served.stop().await;
}

#[tokio::test]
async fn a_refused_form_keeps_what_was_typed() {
    let console = Console::open().await;
    let (ana, lena) = (&console.ana, &console.lena);
    let wish = "target=orders&profile=read-write&window=1h&reason=the+totals";
    let request = console.sent(ana, "/ask", wish).await;
    let grant = console
        .sent(ana, "/ask", "target=orders&profile=read-only&window=30m&reason=a+look")
        .await;
    let otto = operator(&console.served).await;
    for (cookie, path, fields, kept) in [
        (
            ana,
            "/ask".to_owned(),
            "target=orders&profile=read-only&window=soon&reason=so+long",
            "so long",
        ),
        (
            ana,
            "/ask".to_owned(),
            "target=orders&profile=read-only&window=30m&sessions=many&reason=so+long",
            "value=\"many\"",
        ),
        (lena, format!("{request}/approve"), "window=soon&comment=be+quick", "be quick"),
        (ana, format!("{grant}/extend"), "by=soon&reason=more+time", "more time"),
    ] {
        let answer = console.post(cookie, &path, fields).await;
        assert_eq!(status(&answer), "400", "{path}: {answer}");
        let is_marked = |(name, value): &(String, String)| name == "aria-invalid" && value == "true";
        let marked = elements(&answer)
            .iter()
            .any(|element| element.attributes.iter().any(is_marked));
        assert!(
            marked && answer.contains(kept) && answer.contains("class=\"wrong\""),
            "{path}: {answer}"
        );
    }
    for (path, kept) in [
        ("/log?since=sooner&identity=ana", "value=\"ana\""),
        ("/log/tables?table=customers&since=sooner", "value=\"customers\""),
        ("/log/report?since=sooner&until=2026-08-01", "value=\"2026-08-01\""),
        ("/gate/policies?target=orders&window=sooner&identity=ana", "value=\"ana\""),
    ] {
        let answer = console.get(&otto, path).await;
        assert_eq!(status(&answer), "400", "{path}: {answer}");
        assert!(
            answer.contains(kept) && answer.contains("class=\"wrong\"") && answer.contains("sooner"),
            "{path}: {answer}"
        );
    }
    console.served.stop().await;
}

#[tokio::test]
async fn users_are_searched_changed_with_warnings_and_get_new_tokens() {
    let console = Console::open().await;
    let otto = operator(&console.served).await;
    for number in 0..26 {
        let body = format!("{{\"name\":\"tester-{number:02}\",\"groups\":[\"qa\"]}}");
        console.served.json("POST /v1/users", &body).await;
    }
    let page = console.get(&otto, "/gate/users?part=TESTER").await;
    assert!(
        page.contains("tester-24") && !page.contains("tester-25") && !page.contains(">lena<"),
        "{page}"
    );
    let next = "/gate/users?part=TESTER&amp;after=tester-24";
    assert!(page.contains(&format!("href=\"{next}\"")), "{page}");
    let page = console.get(&otto, &next.replace("&amp;", "&")).await;
    assert!(
        page.contains("tester-25") && !page.contains("tester-24<") && page.contains("The first"),
        "{page}"
    );
    // What no policy names is given all the same, and said.
    let page = console
        .post(&otto, "/gate/users", "action=groups&name=ana&groups=qa,leeds")
        .await;
    assert!(status(&page) == "200" && page.contains("did you mean `leads`?"), "{page}");
    assert!(page.contains("value=\"leeds, qa\""), "{page}");
    let to = console.sent(&otto, "/gate/users", "action=groups&name=ana&groups=qa").await;
    assert_eq!(to, "/gate/users?did=changed");
    // The first sign-in of Ana ended with her groups.
    let ana = sign_in(&console.served, &console.token).await;
    let page = console.post(&otto, "/gate/users", "action=rotate&name=ana").await;
    assert!(
        page.contains("1 sign-in has ended") && page.contains("It is good until") && page.contains("id=\"token\""),
        "{page}"
    );
    assert_eq!(status(&console.get(&ana, "/mine").await), "303");
    // The user alone, also beside others with that name in theirs.
    console
        .served
        .json("POST /v1/users", r#"{"name":"diana","groups":["qa"]}"#)
        .await;
    let page = console
        .post(&otto, "/gate/users", "action=groups&name=ana&groups=qa,leeds")
        .await;
    assert!(page.contains(">ana<") && !page.contains("diana"), "{page}");
    let page = console.post(&otto, "/gate/users", "action=groups&name=ana&groups=%21").await;
    assert!(
        status(&page) == "400" && page.contains(">ana<") && !page.contains("diana"),
        "{page}"
    );
    let one = console.served.json("GET /v1/users?identity=ana", "").await;
    assert_eq!(one["users"].as_array().unwrap().len(), 1, "{one}");
    // A refused form is there again.
    let page = console
        .post(&otto, "/gate/users", "action=add&name=nora&groups=qa&expires=soon")
        .await;
    assert!(
        status(&page) == "400" && page.contains("value=\"nora\"") && page.contains("class=\"wrong\""),
        "{page}"
    );
    let page = console.post(&otto, "/gate/users", "action=add&name=lena&groups=qa").await;
    assert!(status(&page) == "409" && page.contains("value=\"lena\""), "{page}");
    console.served.stop().await;
}

#[tokio::test]
async fn no_list_is_empty_while_there_is_something_behind_what_is_not_the_readers() {
    let console = Console::open().await;
    let bo = console
        .served
        .json("POST /v1/users", r#"{"name":"bo","groups":["qa","leads"]}"#)
        .await;
    let bo = sign_in(&console.served, bo["token"].as_str().unwrap()).await;
    let wish = |reason: &str| format!("target=orders&profile=read-write&window=1h&reason={reason}");
    console
        .sent(
            &console.ana,
            "/ask",
            "target=orders&profile=read-only&window=1h&reason=settled",
        )
        .await;
    console.sent(&console.ana, "/ask", &wish("anas")).await;
    for number in 0..26 {
        console.sent(&bo, "/ask", &wish(&format!("bos+{number}"))).await;
        console.sent(&console.ana, "/ask", &wish(&format!("anas+{number}"))).await;
    }
    // The newest page of what waits is of bo alone, or half of it.
    let page = console.get(&bo, "/decide").await;
    assert!(page.contains("anas 25") && !page.contains("bos "), "{page}");
    let page = console.get(&bo, "/decide?all=yes").await;
    assert!(
        page.contains("bos 25") && page.contains("anas 25") && page.contains("rel=\"next\""),
        "{page}"
    );
    let page = console.get(&console.ana, "/decide").await;
    assert!(page.contains("Nothing waits for you."), "{page}");
    let page = console.get(&console.ana, "/mine").await;
    assert!(
        page.contains("settled") && !page.contains("Nothing of what you asked for"),
        "{page}"
    );
    console.served.stop().await;
}

/// The path of the next page on this one.
fn next_page(page: &str) -> Option<String> {
    let is_next = |(name, value): &(String, String)| name == "rel" && value == "next";
    let next = elements(page)
        .into_iter()
        .find(|element| element.attributes.iter().any(is_next))?;
    let href = next.attributes.into_iter().find(|(name, _)| name == "href");
    href.map(|(_, path)| path.replace("&amp;", "&"))
}

#[tokio::test]
async fn older_records_are_there_also_after_the_clock_was_set_back() {
    let served = Served::start_with_pages(console::router).await;
    let otto = operator(&served).await;
    let console_get = async |path: &str| served.call(&format!("GET {path}"), &format!("cookie: {otto}\r\n"), "").await;
    // The later a record of these stands in the log, the earlier is its time.
    let mut batch = RecordBatch::new();
    for number in 0..120 {
        let time = jiff::Timestamp::from_second(1_700_000_000 - number).unwrap();
        batch.push(
            time,
            &statement(
                &who(1, "ana"),
                u64::try_from(number).unwrap(),
                &format!("SELECT {number}"),
                &[],
            ),
        );
    }
    assert!(served.gate.journal.submit(&mut batch).wait().await.is_ok());
    let (mut path, mut seen) = ("/log?event=statement".to_owned(), Vec::new());
    loop {
        let page = console_get(&path).await;
        let number = |rest: &str| {
            rest.split(|character: char| !character.is_ascii_digit())
                .next()?
                .parse::<u32>()
                .ok()
        };
        seen.extend(page.split("SELECT ").skip(1).filter_map(number));
        match next_page(&page) {
            Some(next) => path = next,
            None => break,
        }
    }
    assert_eq!(seen.len(), 120, "each once: {seen:?}");
    assert!(path.contains("before=") && !path.contains("until="), "{path}");
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_is_made_when_its_reader_is_disabled_is_not_answered() {
    let served = Served::start_with_pages(console::router).await;
    let otto = otto(&served).await;
    let token = format!("authorization: Bearer {otto}\r\n");
    let cookie = format!("cookie: {}\r\n", sign_in(&served, &otto).await);
    for (path, headers, refused) in [
        ("/log", &cookie, "303"),
        ("/v1/audit/report?since=2026-01-01T00:00:00Z", &token, "401"),
    ] {
        served.json("POST /v1/users/otto/enable", "").await;
        // A piece of the log that ends when the test says so: a reader waits for its writer.
        let piece = served.gate.audit_dir.join("audit-000099.jsonl");
        assert!(std::process::Command::new("mkfifo").arg(&piece).status().unwrap().success());
        let (first, at) = (format!("GET {path}"), piece.clone());
        let writer = tokio::task::spawn_blocking(move || std::fs::OpenOptions::new().write(true).open(at).unwrap());
        let disabled = async {
            let writer = writer.await.unwrap();
            std::fs::remove_file(&piece).unwrap();
            served.json("POST /v1/users/otto/disable", "").await;
            drop(writer);
        };
        let (answer, ()) = tokio::join!(served.call(&first, headers, ""), disabled);
        assert_eq!(status(&answer), refused, "{path}: {answer}");
        assert!(!answer.contains("user_changed"), "{path}: {answer}");
    }
    served.stop().await;
}

#[tokio::test]
async fn the_newest_part_of_the_log_is_verified_and_the_gate_says_how_it_is() {
    let served = Served::start_with_pages(console::router).await;
    let otto = operator(&served).await;
    let get = async |path: &str| served.call(&format!("GET {path}"), &format!("cookie: {otto}\r\n"), "").await;
    assert!(get("/log").await.contains("href=\"/log/verify\""));
    let page = get("/log/verify").await;
    assert!(
        page.contains("whole") && page.contains("What this does not prove") && page.contains("it verifies itself"),
        "{page}"
    );
    let page = get("/gate").await;
    assert!(
        page.contains("takes sessions") && !page.contains("Forwarding of the log"),
        "{page}"
    );
    let status = served.json("GET /v1/audit/status", "").await;
    assert!(
        status["last"].as_u64().unwrap() > 1 && status.get("not_ready").is_none(),
        "{status}"
    );
    // A changed byte is found.
    let segment = served.gate.audit_dir.join("audit-000001.jsonl");
    let text = std::fs::read_to_string(&segment).unwrap();
    std::fs::write(&segment, text.replacen("otto", "otta", 1)).unwrap();
    let page = get("/log/verify").await;
    assert!(page.contains("not whole") && page.contains("What to do:"), "{page}");
    served.stop().await;
}

#[tokio::test]
async fn a_page_with_statements_of_8_mib_is_small() {
    let served = Served::start_with_pages(console::router).await;
    let otto = operator(&served).await;
    let who = who(1, "ana");
    let sql = format!("SELECT '{}'", "x".repeat(8 << 20));
    for number in 0..4 {
        let mut batch = RecordBatch::new();
        batch.push(served.gate.clock.now(), &statement(&who, number, &sql, &[]));
        assert!(served.gate.journal.submit(&mut batch).wait().await.is_ok());
    }
    for path in ["/log?event=statement".to_owned(), format!("/log/sessions/{}", who.session)] {
        let (mut next, mut told) = (Some(path), 0);
        while let Some(path) = next {
            let page = served.call(&format!("GET {path}"), &format!("cookie: {otto}\r\n"), "").await;
            assert_eq!(status(&page), "200", "{path}");
            assert!(page.len() < 1 << 20, "{path}: {}", page.len());
            told += page.matches(" of 8388617 bytes").count();
            next = next_page(&page);
        }
        // Not all of them are held at once: they are on several pages.
        assert_eq!(told, 4);
    }
    served.stop().await;
}

/// When the only sign-in of somebody was used last.
async fn last_use(console: &Console, who: &str) -> Value {
    let all = console.served.json(&format!("GET /v1/signins?identity={who}"), "").await;
    all["sign_ins"][0]["last_used_at"].clone()
}

#[tokio::test]
async fn a_page_that_renews_itself_is_no_use_of_the_sign_in() {
    let console = Console::open().await;
    let used = last_use(&console, "ana").await;
    let by_itself = format!("cookie: {}\r\ntidegate-renewal: yes\r\n", console.ana);
    let page = console.served.call("GET /mine", &by_itself, "").await;
    assert_eq!(status(&page), "200");
    assert_eq!(status(&console.get(&console.ana, "/mine?renewal=yes&did=late").await), "200");
    assert_eq!(last_use(&console, "ana").await, used);
    let page = console.get(&console.ana, "/mine").await;
    assert_eq!(status(&page), "200");
    let later = last_use(&console, "ana").await;
    assert_ne!(later, used, "what a person asks for is one");
    // A page that waits says to browsers without a script how they renew it.
    let wish = "target=orders&profile=read-write&window=1h&reason=r";
    let request = console.sent(&console.ana, "/ask", wish).await;
    let page = console.get(&console.ana, &format!("{request}?did=joined&renewal=yes")).await;
    assert!(page.contains("content=\"10; url=?renewal=yes\""), "{page}");
    console.served.stop().await;
}

#[tokio::test]
async fn a_refused_form_says_when_to_try_again_as_the_api_does() {
    let console = Console::open().await;
    let wish = |number: u32| format!("target=orders&profile=read-write&window=1h&reason=number+{number}");
    let mut refused = String::new();
    for number in 0..31 {
        refused = console.post(&console.ana, "/ask", &wish(number)).await;
    }
    assert_eq!(status(&refused), "429", "{refused}");
    let retry = refused.lines().find_map(|line| line.strip_prefix("retry-after: "));
    let seconds: u32 = retry.unwrap_or_else(|| panic!("{refused}")).parse().unwrap();
    assert!((1..=60).contains(&seconds) && refused.contains("number 30"), "{refused}");
    console.served.stop().await;
}

#[tokio::test]
async fn who_watches_a_session_is_on_record_once() {
    let console = Console::open().await;
    let wish = "target=orders&profile=read-write&window=1h&reason=r";
    let request = console.sent(&console.ana, "/ask", wish).await;
    console.sent(&console.lena, &format!("{request}/approve"), "").await;
    let page = console.get(&console.lena, &request).await;
    let grant = elements(&page)
        .into_iter()
        .flat_map(|element| element.attributes)
        .find_map(|(_, value)| value.strip_prefix("/grants/").map(str::to_owned));
    let mut who = who(1, "ana");
    who.grant = grant.unwrap().parse().unwrap();
    let mut batch = RecordBatch::new();
    batch.push(console.served.gate.clock.now(), &statement(&who, 1, "SELECT 1", &[]));
    assert!(console.served.gate.journal.submit(&mut batch).wait().await.is_ok());
    let path = format!("/log/sessions/{}?grant={}&newest=yes", who.session, who.grant);
    let readings = async || {
        let log = console
            .served
            .json_lines(&format!("GET /v1/log?event=decision_made&identity=lena"))
            .await;
        let readings = log.into_iter().filter(|record| record["action"] == "read-log");
        readings.map(|record| record["about"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(status(&console.get(&console.lena, &path).await), "200");
    let by_itself = format!("cookie: {}\r\ntidegate-renewal: yes\r\n", console.lena);
    for _ in 0..3 {
        let page = console.served.call(&format!("GET {path}"), &by_itself, "").await;
        assert!(page.contains("SELECT 1"), "{page}");
    }
    assert_eq!(readings().await, [Value::from(who.grant.as_str())]);
    console.served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_that_is_refused_while_its_sender_is_disabled_shows_nothing() {
    let console = Console::open().await;
    let wish = "target=orders&profile=read-write&window=1h&reason=mine+alone";
    let request = console.sent(&console.ana, "/ask", wish).await;
    // The answer of whoever has filled the log waits, and something happens meanwhile.
    let lena: crate::model::names::IdentityName = "lena".parse().unwrap();
    let now = console.served.gate.clock.moment().instant;
    let quota = console.served.gate.quotas.of(&lena, now);
    let rate = 8 << 20;
    let until = quota.log(rate * 62, now);
    assert!(until.is_some());
    let used = last_use(&console, "lena").await;
    let path = format!("{request}/approve");
    let refused = console.post(&console.lena, &path, "window=soon");
    let disabled = async {
        while last_use(&console, "lena").await == used {
            tokio::task::yield_now().await;
        }
        console.served.json("POST /v1/users/lena/disable", "").await
    };
    let (refused, _) = tokio::join!(refused, disabled);
    assert!(!refused.contains("mine alone"), "{refused}");
    assert_eq!(location(&refused), Some("/signin"), "{refused}");
    console.served.stop().await;
}

/// A gate on which Lena has signed in so long ago; her cookie, and the tokens of Ana and Lena.
async fn signed_in_before(ago: std::time::Duration) -> (Served, String, [String; 2]) {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("tidegate-state");
    std::fs::create_dir(&state).unwrap();
    let clock = Clock::system(None);
    let journal = Journal::open(&JournalSettings::in_folder(&state), clock.clone()).unwrap();
    let ledger = Ledger::open(&state.join("ledger.db"), journal.clone(), clock.clone()).unwrap();
    let tokens = tokens(&ledger, &[("ana", "qa"), ("lena", "leads")]).await;
    let new = NewSignIn {
        identity: Identity::local("lena".parse().unwrap(), ["leads".parse().unwrap()].into()),
        via: SignInVia::Console,
        client: None,
        proved_at: clock.now() - ago,
        expires_at: clock.now() + std::time::Duration::from_hours(1),
    };
    let (_, secret) = ledger.sign_in(new, || true).await.unwrap();
    drop(ledger);
    journal.close().await;
    let served = Served::start_in(dir, console::router).await;
    (served, format!("tidegate={}", secret.expose()), tokens.try_into().unwrap())
}

#[tokio::test]
async fn whoever_is_to_sign_in_again_sees_what_for_and_comes_back() {
    let (served, lena, [ana_token, lena_token]) = signed_in_before(std::time::Duration::from_mins(20)).await;
    let ana = sign_in(&served, &ana_token).await;
    let form =
        async |cookie: &str, path: &str, fields: &str| post(&served, &format!("cookie: {cookie}\r\n{OWN}"), path, fields).await;
    let get = async |cookie: &str, path: &str| {
        served
            .call(&format!("GET {path}"), &format!("cookie: {cookie}\r\n"), "")
            .await
    };
    let wish = "target=orders&profile=read-write&window=1h&reason=r";
    let asked = form(&ana, "/ask", wish).await;
    let request = location(&asked).unwrap().to_owned();
    // A decision on writing takes a sign-in of the last quarter of an hour; what waits for one is there all the same.
    assert!(get(&lena, "/decide").await.contains(&format!("href=\"{request}\"")));
    assert!(get(&lena, &request).await.contains("Approve"));
    let refused = form(&lena, &format!("{request}/approve"), "comment=be+quick").await;
    let again = format!("/signin?again=yes&next={}", request.replace('/', "%2F"));
    assert_eq!(status(&refused), "403");
    assert!(
        refused.contains(&format!("href=\"{}\"", again.replace('&', "&amp;"))) && refused.contains("be quick"),
        "{refused}"
    );
    let page = get(&lena, &again).await;
    assert!(status(&page) == "200" && page.contains("Sign in again"), "{page}");
    let back = form(&lena, "/signin", &format!("token={lena_token}&again=yes&next={request}")).await;
    assert_eq!(location(&back), Some(request.as_str()));
    let fresh = back.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
    let fresh = fresh.split(';').next().unwrap();
    let approved = form(fresh, &format!("{request}/approve"), "").await;
    assert_eq!(
        location(&approved),
        Some(format!("{request}?did=approved").as_str()),
        "{approved}"
    );
    served.stop().await;
}
