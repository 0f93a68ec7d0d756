//! `tidegate demo` as a newcomer runs it: it keeps its promises, says so without colours when nobody sees them, and leaves nothing.

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdout, Command};

use crate::support::{binary, database, eventually, within};

/// A demo that runs.
struct Demo {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
    /// All it has printed so far.
    seen: String,
}

fn demo(arguments: &[&str]) -> Demo {
    let mut process = Command::new(binary())
        .arg("demo")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the demo starts");
    let lines = BufReader::new(process.stdout.take().expect("its output")).lines();
    Demo {
        process,
        lines,
        seen: String::new(),
    }
}

impl Demo {
    /// Reads until a line contains `text`.
    async fn line(&mut self, text: &str) -> String {
        loop {
            // A line at a time, for the whole takes longer than one should wait for anything.
            match within(text, self.lines.next_line()).await.expect("readable output") {
                Some(line) => {
                    self.seen.push_str(&line);
                    self.seen.push('\n');
                    if line.contains(text) {
                        return line;
                    }
                }
                None => panic!("no `{text}` in:\n{}", self.seen),
            }
        }
    }

    /// The folder it says the gate lives in.
    fn folder(&self) -> PathBuf {
        let state = self
            .seen
            .lines()
            .find(|line| line.ends_with("/state"))
            .expect("the gate's folder");
        PathBuf::from(state.trim()).parent().expect("its parent").to_owned()
    }

    async fn end(mut self) -> (ExitStatus, String) {
        while let Some(line) = within("its end", self.lines.next_line()).await.expect("readable output") {
            self.seen.push_str(&line);
            self.seen.push('\n');
        }
        (within("its end", self.process.wait()).await.expect("its end"), self.seen)
    }

    fn interrupt(&self) {
        let pid = self
            .process
            .id()
            .and_then(|pid| Pid::from_raw(pid.try_into().ok()?))
            .expect("it runs");
        kill_process(pid, Signal::INT).expect("a signal");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_keeps_its_promises_and_leaves_nothing() {
    let mut demo = demo(&[]);
    demo.line("ready after").await;
    let folder = demo.folder();
    assert!(folder.is_dir());
    let (status, seen) = demo.end().await;
    assert!(status.success(), "{seen}");
    // The order of events is the promise; its milliseconds are for `make figures` on a quiet machine.
    let figures = seen.matches("   ok    ").count() + seen.matches("   SLOW  ").count();
    assert_eq!(figures, 11, "{seen}");
    assert!(!seen.contains("FAILED") && !seen.contains('\x1b'), "{seen}");
    assert!(
        seen.contains("FATAL:  grant gr_") && seen.contains("expired (57P01)"),
        "{seen}"
    );
    // She sees masks; her role, and for who may write a rail, says no.
    for part in [
        "| ************2598",
        "ERROR:  permission denied for table orders",
        "Rule \"need_where\": DELETE without WHERE",
    ] {
        assert!(seen.contains(part), "no `{part}` in:\n{seen}");
    }
    assert!(!seen.contains("40000000"), "a card's number in:\n{seen}");
    // Each look at the roles: those of the profiles always, a grant's only in the middle.
    let looks = seen.split(r"\du ").skip(1).map(|after| {
        let roles = after.lines().skip(1).map_while(|line| line.split_once(" | "));
        let roles = roles.map(|(name, _)| name.trim()).collect::<Vec<_>>();
        let of_ana = |name: &&str| name.starts_with("gr_") && name.ends_with("_ana@example.com");
        (roles.len(), roles.iter().any(of_ana))
    });
    assert_eq!(looks.collect::<Vec<_>>(), [(2, false), (3, true), (2, false)], "{seen}");
    // What waits is told so, by whom it is approved, and who ended it.
    for part in [
        "[reading-is-automatic]",
        "NOTICE:  waiting for approval: rq_",
        "HINT:  bo@example.com can approve it",
        "now ends at",
        "Revoked by bo@example.com; reason: the nightly restore begins.",
        "[leads-approve-for-their-teams]",
        "revoked (57P01)",
    ] {
        assert!(seen.contains(part), "no `{part}` in:\n{seen}");
    }
    // Roles of profiles begin so, too; a token has no second underscore.
    let whole = |word: &str| word.starts_with("tg_") && !word.ends_with("...") && !word.starts_with("tg_shop_");
    assert!(!seen.split_whitespace().any(whole), "a token in:\n{seen}");
    assert!(!folder.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn it_stays_until_interrupted() {
    let mut demo = demo(&["--stay", "--for", "2m"]);
    let line = demo.line(" password=").await;
    let folder = demo.folder();
    let connection = line.split('"').nth(1).expect("a connection string");
    let psql = database().server.binaries().tool("psql").expect("psql");
    let mut command = Command::new(&psql);
    let said = command
        .args(["-XAt", "-d", connection, "-c", "SELECT count(*) FROM orders"])
        .output();
    let said = within("psql's answer", said).await.expect("psql ends");
    assert_eq!(String::from_utf8_lossy(&said.stdout), "5000\n", "{said:?}");
    // By her name and a token in a file: the other way in.
    let line = demo.line(" psql shop --for").await;
    let folder_of_psql = psql.parent().expect("its folder").display().to_string();
    let said = Command::new("sh")
        .args(["-c", &format!("PATH={folder_of_psql}:$PATH; {line} -- -XAtc 'SELECT 42'")])
        .output();
    let said = within("psql's answer", said).await.expect("psql ends");
    assert_eq!(String::from_utf8_lossy(&said.stdout), "42\n", "{said:?}");
    // And in a browser.
    let line = demo.line("http://127.0.0.1:").await;
    let (_, rest) = line.split_once("http://").expect("an address");
    let (address, _) = rest.split_once('/').expect("its end");
    let mut stream = TcpStream::connect(address).await.expect("the console");
    let asked = format!("GET /mine HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(asked.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    within("its answer", stream.read_to_string(&mut answer))
        .await
        .expect("an answer");
    assert!(answer.contains("location: /signin?next=%2Fmine\r\n"), "{answer}");
    demo.line("the window closes at").await;
    demo.interrupt();
    let (status, seen) = demo.end().await;
    assert!(status.success(), "{seen}");
    assert!(!folder.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_it_leaves_nothing_either() {
    let mut demo = demo(&[]);
    demo.line("SELECT pg_sleep").await;
    let folder = demo.folder();
    demo.process.kill().await.expect("kill -9");
    eventually("the gate's folder is gone", async || (!folder.exists()).then_some(())).await;
}
