//! The commands on a terminal: `script` (util-linux) gives them one of their own.

use std::process::{Command, Stdio};

use tidegate::demo::testkit::TestGate;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, ChildStdout};

use crate::access::{Person, shipped};
use crate::support::{ANA, TARGET, within};

/// A terminal with a shell command in it.
struct Terminal {
    process: Child,
    keys: ChildStdin,
    screen: ChildStdout,
    /// Everything that was written to it.
    seen: String,
}

impl Terminal {
    /// Runs one of the program's commands, then `after`.
    fn run(person: &Person, arguments: &[&str], after: &str) -> Self {
        let command = person.command(arguments);
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let words: Vec<String> = words.map(|word| format!("'{}'", word.to_string_lossy())).collect();
        // A shell takes its Ctrl-C too, and goes on only if it has something to do about it.
        let line = format!("trap : INT; {}; {after}", words.join(" "));
        let mut script = Command::new("script");
        script
            .args(["-q", "-e", "-c", &line, "/dev/null"])
            .current_dir(command.get_current_dir().expect("a folder"))
            .env("SHELL", "/bin/sh")
            .env("TERM", "xterm")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => script.env(name, value),
                None => script.env_remove(name),
            };
        }
        let mut process = tokio::process::Command::from(script)
            .kill_on_drop(true)
            .spawn()
            .expect("script is part of util-linux");
        Self {
            keys: process.stdin.take().expect("its keys"),
            screen: process.stdout.take().expect("its screen"),
            process,
            seen: String::new(),
        }
    }

    async fn types(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).await.expect("typed");
    }

    /// Waits for a text that is new since the last one waited for.
    async fn shows(&mut self, text: &str) {
        let (from, mut part) = (self.seen.len(), [0_u8; 4096]);
        while !self.seen[from..].contains(text) {
            let read = within(text, self.screen.read(&mut part)).await.expect("a screen");
            assert!(read > 0, "no `{text}` in:\n{}", self.seen.escape_debug());
            self.seen.push_str(&String::from_utf8_lossy(&part[..read]));
        }
    }

    /// The whole, once the command has ended.
    async fn ends(mut self) -> String {
        // Without its keys a terminal hangs up; so they stay until it is done.
        let mut rest = Vec::new();
        within("the end", self.screen.read_to_end(&mut rest)).await.expect("a screen");
        within("the end", self.process.wait()).await.expect("an end");
        self.seen + &String::from_utf8_lossy(&rest)
    }
}

/// What says that the terminal shows again what is typed, and which exit code there was.
const STATE: &str = "echo code $?; stty -a";

#[track_caller]
fn is_whole(seen: &str, code: &str) {
    assert!(seen.contains(&format!("code {code}\r\n")), "{seen}");
    let (_, modes) = seen.rsplit_once("speed ").expect("what stty says");
    for mode in ["echo", "icanon", "isig"] {
        assert!(modes.split_whitespace().any(|word| word == mode), "no {mode}: {modes}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_typed_unseen() {
    let gate = shipped();
    let ana = Person::new(&gate, ANA, "qa");
    let token = ana.token();
    assert!(ana.run(&["logout"]).status.success());
    let login = ["login", "--control", &gate.control()];

    let mut terminal = Terminal::run(&ana, &login, STATE);
    terminal.shows("Token for").await;
    terminal.types(&format!("wrong\x15{token}\r")).await;
    let seen = terminal.ends().await;
    assert!(seen.contains(&format!("You are {ANA}")), "{seen}");
    assert!(!seen.contains(&token[3..]) && !seen.contains("wrong"), "{seen}");
    is_whole(&seen, "0");

    let mut terminal = Terminal::run(&ana, &login, STATE);
    terminal.shows("Token for").await;
    terminal.types("tg_half\x03").await;
    let seen = terminal.ends().await;
    assert!(!seen.contains("tg_half"), "{seen}");
    is_whole(&seen, "130");
    assert_eq!(ana.json(&["whoami"])["name"], ANA, "the login there was is still there");
}

/// psql on a terminal, up to its prompt, and its grant.
async fn psql(gate: &TestGate, ana: &Person, window: &str) -> (Terminal, String) {
    let arguments = [
        "psql",
        TARGET,
        "--for",
        window,
        "--reason",
        "BUG-812",
        "--",
        "-X",
        "-P",
        "pager=off",
    ];
    let mut terminal = Terminal::run(ana, &arguments, STATE);
    terminal.shows("=> ").await;
    let grants = gate.json(&["grant", "list"]).expect("grants");
    let grant = grants["grants"][0]["id"].as_str().expect("a grant").to_owned();
    (terminal, grant)
}

#[tokio::test(flavor = "multi_thread")]
async fn psql_has_the_terminal_to_itself() {
    let gate = shipped();
    let ana = Person::new(&gate, ANA, "qa");
    let (mut terminal, grant) = psql(&gate, &ana, "12s").await;
    let before = terminal.seen.len();
    // Whatever is typed meanwhile stays.
    terminal.types("SELECT 40 +").await;
    ana.json(&["extend", &grant, "--by", "10m"]);
    terminal.types(" 2;\r").await;
    terminal.shows(" 42").await;
    // Ctrl-C is psql's.
    terminal.types("SELECT pg_sleep(60);\r").await;
    terminal.shows("pg_sleep(60);").await;
    crate::support::eventually("it runs", async || {
        let active = crate::support::active(crate::support::database(), "SELECT pg_sleep(60)").await;
        (!active.is_empty()).then_some(())
    })
    .await;
    terminal.types("\x03").await;
    terminal.shows("canceling statement due to user request").await;

    let revoke = ["grant", "revoke", &grant, "--reason", "the restore begins"];
    gate.json(&revoke).expect("revoked");
    terminal.types("SELECT 1;\r").await;
    terminal.shows("FATAL").await;
    terminal.types("\\q\r").await;
    let seen = terminal.ends().await;
    let since = &seen[before..];
    assert!(
        !since.contains("tidegate:") && !seen.contains("\x1b]2;") && !seen.contains("\x1b[L"),
        "{}",
        seen.escape_debug()
    );
    is_whole(&seen, "0");
}
