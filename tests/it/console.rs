//! The console of a real gate, as a browser uses it: sign in, ask, approve, connect with psql by the card, be revoked.

use std::process::Stdio;

use serde_json::json;
use tidegate::demo::testkit::{TestGate, free_port};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::support::{ANA, House, TARGET, eventually, said, within};

const LENA: &str = "lena@example.com";
const AUDITOR: &str = "otto@example.com";

/// A browser without a script, signed in as somebody.
struct Browser {
    port: u16,
    cookie: String,
}

/// Answer to a browser.
struct Page {
    status: u16,
    head: String,
    body: String,
}

impl Browser {
    async fn sign_in(port: u16, token: &str) -> Self {
        let mut browser = Self {
            port,
            cookie: String::new(),
        };
        let page = browser.post("/signin", &[("token", token), ("next", "/mine")]).await;
        assert_eq!((page.status, page.header("location")), (303, Some("/mine")), "{}", page.head);
        let cookie = page.header("set-cookie").expect("a cookie");
        cookie.split(';').next().expect("its value").clone_into(&mut browser.cookie);
        browser
    }

    async fn get(&self, path: &str) -> Page {
        self.call("GET", path, "").await
    }

    /// Sends a form.
    async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Page {
        let encoded = |(name, value): &(&str, &str)| format!("{name}={}", value.replace('@', "%40").replace(' ', "+"));
        let body: Vec<_> = fields.iter().map(encoded).collect();
        self.call("POST", path, &body.join("&")).await
    }

    /// Sends a form and goes where it leads.
    async fn sent(&self, path: &str, fields: &[(&str, &str)]) -> (String, Page) {
        let answer = self.post(path, fields).await;
        assert_eq!(answer.status, 303, "{path}: {}", answer.body);
        let next = answer.header("location").expect("a way on").to_owned();
        let page = self.get(&next).await;
        (next, page)
    }

    async fn call(&self, method: &str, path: &str, body: &str) -> Page {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.expect("the console");
        let host = format!("127.0.0.1:{}", self.port);
        let form = "application/x-www-form-urlencoded";
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nCookie: {}\r\nOrigin: http://{host}\r\n\
             Sec-Fetch-Site: same-origin\r\nContent-Type: {form}\r\nContent-Length: {}\r\n\r\n{body}",
            self.cookie,
            body.len()
        );
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        within("an answer", stream.read_to_string(&mut answer))
            .await
            .expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        Page {
            status: status.expect("a status"),
            head: head.to_owned(),
            body: body.to_owned(),
        }
    }
}

impl Page {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// The address on the page that begins like this.
    fn link(&self, beginning: &str) -> String {
        let (_, rest) = self.body.split_once(&format!("href=\"{beginning}")).expect(beginning);
        let rest = rest.split('"').next().expect("its end");
        format!("{beginning}{rest}")
    }

    /// The text of the element with this id, without markup.
    fn text(&self, id: &str) -> String {
        let (_, rest) = self.body.split_once(&format!(" id=\"{id}\">")).expect(id);
        let text = rest.split('<').next().expect("its end");
        text.replace("&quot;", "\"").replace("&amp;", "&")
    }
}

async fn house() -> (House, u16) {
    let port = free_port().expect("a port");
    let console = format!("[console]\nlisten = \"127.0.0.1:{port}\"\n");
    (
        House::open(&[(ANA, "qa"), (LENA, "leads"), (AUDITOR, "auditors")], &console, &[]).await,
        port,
    )
}

/// Runs the command of the card, with another statement.
fn as_the_card_says(gate: &TestGate, card: &Page) -> Child {
    let psql = card.text("snippet-0");
    assert!(psql.contains(&format!("port={}", gate.port())), "{psql}");
    let folder = crate::support::database().server.binaries().tool("psql").expect("psql");
    let folder = folder.parent().expect("a folder").display().to_string();
    let line = format!("PATH={folder}:$PATH; {psql} -XAtc \"SELECT 40 + 2\" -c \"SELECT pg_sleep(60)\"");
    let mut command = Command::new("sh");
    command
        .args(["-c", &line])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.kill_on_drop(true).spawn().expect("psql starts")
}

/// Who approved the grant sees what runs under it, follows that, and ends the session; returns psql, connected again.
async fn watched_and_ended(lena: &Browser, psql: Child, house: &House, card: &Page) -> Child {
    let runs = async || {
        let live = eventually("the statement is on the page", async || {
            let page = lena.get("/live").await;
            page.body.contains("pg_sleep(60)").then_some(page)
        });
        live.await
    };
    let follow = runs().await.link("/log/sessions/se_").replace("&amp;", "&");
    let story = lena.get(&follow).await;
    assert!(
        story.status == 200 && story.body.contains("40 + 2") && story.body.contains("no outcome yet"),
        "{}",
        story.body
    );
    assert!(story.body.contains("data-renew=\"5\""), "it renews itself: {}", story.body);
    // The rest of the log is not hers, and who reads the log alone does not watch.
    let (path, grant) = follow.split_once("?grant=").expect("a grant");
    assert_eq!(lena.get(path).await.status, 403);
    let session = path.trim_start_matches("/log/sessions/");
    assert_eq!(lena.get(&format!("/v1/log?session={session}")).await.status, 403);
    let grant = grant.trim_end_matches("&newest=yes");
    let lines = lena.get(&format!("/v1/log?session={session}&grant={grant}")).await.body;
    let mut records = lines.lines().filter(|line| line.starts_with('{'));
    assert!(
        lines.contains("pg_sleep(60)") && records.all(|line| line.contains(grant)),
        "{lines}"
    );
    let sessions = house.call(AUDITOR, "GET", "/v1/sessions", &json!(null)).await.good();
    assert_eq!(sessions["sessions"], json!([]));
    let (to, _) = lena
        .sent(&format!("/live/{session}/end"), &[("reason", "it holds a lock")])
        .await;
    assert!(to.ends_with("?did=ended"), "{to}");
    let said = said(psql).await;
    assert!(said.errors.contains("it holds a lock"), "{}", said.errors);
    let psql = as_the_card_says(&house.gate, card);
    runs().await;
    psql
}

#[tokio::test(flavor = "multi_thread")]
async fn two_people_in_browsers() {
    let (house, port) = house().await;
    let nobody = Browser {
        port,
        cookie: String::new(),
    };
    let page = nobody.get("/mine").await;
    assert_eq!(page.header("location"), Some("/signin?next=%2Fmine"), "{}", page.head);
    let ana = Browser::sign_in(port, house.token(ANA)).await;
    let lena = Browser::sign_in(port, house.token(LENA)).await;

    let mine = ana.get("/mine").await;
    assert!(
        mine.body.contains("waits for 1 approver") && mine.body.contains("at once"),
        "{}",
        mine.body
    );
    let wish = [
        ("target", TARGET),
        ("profile", "read-write"),
        ("window", "30m"),
        ("reason", "fix the totals"),
    ];
    let (request, page) = ana.sent("/ask", &wish).await;
    assert!(
        request.starts_with("/requests/rq_") && page.body.contains("waits for approval"),
        "{}",
        page.body
    );

    let decide = lena.get("/decide").await;
    assert_eq!(decide.link("/requests/rq_"), request);
    let page = lena.get(&request).await;
    for part in [ANA, "fix the totals", "testers-ask", "Approve", "Reject"] {
        assert!(page.body.contains(part), "{part}: {}", page.body);
    }
    let (_, page) = lena
        .sent(&format!("{request}/approve"), &[("window", "20m"), ("comment", "be quick")])
        .await;
    assert!(page.body.contains("Your approval is on record."), "{}", page.body);

    let grant = ana.get(&request).await.link("/grants/gr_");
    let card = ana.post(&format!("{grant}/login"), &[]).await;
    assert_eq!(
        (card.status, card.header("cache-control")),
        (200, Some("no-store")),
        "{}",
        card.head
    );
    let psql = as_the_card_says(&house.gate, &card);
    let open = eventually("the session is on the page", async || {
        let page = ana.get(&grant).await;
        page.body.contains("runs a statement").then_some(page)
    });
    let page = open.await;
    assert!(page.body.contains(" left</time>"), "the time counts: {}", page.body);
    assert!(ana.get("/live").await.body.contains("/live/se_"));
    let psql = watched_and_ended(&lena, psql, &house, &card).await;
    // No policy here lets anybody extend: the page says so, and what to do.
    let page = ana
        .post(&format!("{grant}/extend"), &[("by", "1h"), ("reason", "more")])
        .await;
    assert!(page.status == 403 && page.body.contains("What to do:"), "{}", page.body);

    let id = grant.trim_start_matches("/grants/");
    let (path, why) = (format!("/v1/grants/{id}/revoke"), json!({"reason": "the nightly restore"}));
    house.call("operator", "POST", &path, &why).await.good();
    let said = said(psql).await;
    assert!(
        said.output.starts_with("42\n") && said.errors.contains("the nightly restore"),
        "{said:?}"
    );
    let page = ana.get(&grant).await;
    assert!(
        page.body.contains("revoked") && page.body.contains("the nightly restore"),
        "{}",
        page.body
    );
    assert!(!page.body.contains("How to connect"), "{}", page.body);

    // An auditor reads what happened, and takes the evidence away.
    let otto = Browser::sign_in(port, house.token(AUDITOR)).await;
    let log = eventually("the end is on record", async || {
        let page = otto.get("/log?event=session_ended&since=1h").await;
        page.body.contains("/log/sessions/se_").then_some(page)
    });
    let log = log.await;
    let story = otto.get(&log.link("/log/sessions/se_")).await;
    assert!(
        story.body.contains("SELECT pg_sleep(60)") && story.body.contains("be quick"),
        "{}",
        story.body
    );
    let touched = otto.get("/log/tables?table=pg_sleep").await;
    assert!(
        touched.body.contains("No statement in the log names this table."),
        "{}",
        touched.body
    );
    let report = otto.get("/log/report?since=1h").await;
    assert_eq!(report.status, 303, "{}", report.body);
    let report = otto.get(report.header("location").expect("a way on")).await;
    assert!(
        report.status == 200 && report.body.contains("Evidence of database access"),
        "{}",
        report.head
    );
    assert!(
        !report.body.contains("The log is not whole") && !report.body.contains("was not verified"),
        "{}",
        report.body
    );
    assert_eq!(ana.get("/log").await.status, 403);
}
