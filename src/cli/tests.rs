mod doors;
mod flow;
mod tls;

use clap::{CommandFactory, Parser};
use jiff::{SignedDuration, Timestamp};

use super::*;
use crate::control::tests::Served;

/// The help of a command and of all below it, as a terminal of 100 columns shows it.
fn help(command: &mut clap::Command, into: &mut String) {
    let name = command.get_bin_name().unwrap_or("tidegate").to_owned();
    into.extend(["$ ", &name, " --help\n", &command.render_long_help().to_string(), "\n"]);
    for below in command.get_subcommands_mut().filter(|below| below.get_name() != "help") {
        // The demo's words are the demo's.
        if below.get_name() != "demo" {
            help(below, into);
        }
    }
}

#[test]
fn help_explains_itself() {
    let mut command = groups::command().term_width(100);
    command.build();
    let mut text = String::new();
    help(&mut command, &mut text);
    insta::assert_snapshot!(text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n"));
}

#[test]
#[expect(clippy::too_many_lines, reason = "one line for each usage")]
fn usage_is_checked() {
    Cli::command().debug_assert();
    for (line, good) in [
        ("tidegate grant create orders --identity ana --for 30m", true),
        ("tidegate grant create orders --identity ana", false),
        ("tidegate grant create orders --identity ana --for 30", false),
        ("tidegate grant create or/ders --identity ana --for 30m", false),
        ("tidegate grant shorten gr_0123456789", false),
        ("tidegate grant shorten gr_0123456789 --by 5m", true),
        (
            "tidegate grant shorten gr_0123456789 --by 5m --until 2026-01-01T00:00:00Z",
            false,
        ),
        ("tidegate grant show se_0123456789", false),
        ("tidegate psql orders --for 2h30m -- -c select", true),
        ("tidegate psql orders -c select", false),
        ("tidegate exec orders --for 90m", false),
        ("tidegate exec orders --for 90m -- pytest -n 8", true),
        ("tidegate request orders --break-glass", false),
        ("tidegate request orders --break-glass --reason INC-77", true),
        ("tidegate reject rq_0123456789", false),
        ("tidegate approve gr_0123456789", false),
        ("tidegate requests --status settled", false),
        ("tidegate requests --status lapsed", true),
        ("tidegate requests --limit 0", false),
        ("tidegate grants --limit 20 --before gr_0123456789", true),
        ("tidegate log --limit 5 --follow", false),
        ("tidegate log --last 5 --follow", true),
        ("tidegate log --last 5 --limit 5", false),
        ("tidegate log --last 0", false),
        ("tidegate log --last 10001", false),
        ("tidegate log --sort duration --limit 5", true),
        ("tidegate log --sort rows --last 5", false),
        ("tidegate log --sort rows --follow", false),
        ("tidegate log --sort size", false),
        ("tidegate log --target orders/read-write --break-glass", true),
        ("tidegate log --target orders/ --break-glass", false),
        ("tidegate log --from yesterday", false),
        ("tidegate audit report --since 7d --until today --utc", true),
        ("tidegate audit report --from 7d", false),
        ("tidegate log --event session_ended", true),
        ("tidegate log --event session_over", false),
        ("tidegate requests --mine --identity ana", false),
        ("tidegate user add ana --group qa -g leads", true),
        ("tidegate user groups ana", true),
        ("tidegate completions tcsh", false),
        ("tidegate man", true),
        ("tidegate man share/man1", true),
        ("tidegate --quiet grants", true),
        ("tidegate grants -q --color never", true),
        ("tidegate grants --json", true),
        ("tidegate log --json --last 5", true),
        ("tidegate log --json --output csv", false),
        ("tidegate grants --json --output table", false),
        ("tidegate target status orders --json", true),
        ("tidegate policy test --json", true),
        ("tidegate grants --color sometimes", false),
        ("tidegate psql orders/read-only --for 5m", true),
        ("tidegate log --since 2h --until 2026-01-01T00:00:00Z -f", true),
        ("tidegate log --since yesterday-ish", false),
        ("tidegate audit verify", true),
        (
            "tidegate audit verify a/audit-000001.jsonl a/audit-000002.jsonl.zst --key k.pub --checkpoint -",
            true,
        ),
        ("tidegate audit verify --control unix:/x --key k.pub --since -", true),
        ("tidegate audit verify --checkpoint 7d", false),
        ("tidegate audit verify --since yesterday", false),
        ("tidegate audit verify --checkpoint kept.json", true),
        ("tidegate grant create orders --identity ana --for 30m --deadline 18:30", true),
        (
            "tidegate grant create orders --identity ana --for 30m --deadline yesterday",
            false,
        ),
        ("tidegate grant shorten gr_0123456789 --until 2h", true),
        ("tidegate policy explain --target orders --at 18:30", true),
        ("tidegate policy explain --target orders/read-write --for 2h", true),
        ("tidegate policy explain --target orders --at 2026-08-03T10:00", true),
        ("tidegate policy explain --target orders --at noon", false),
        ("tidegate audit verify copy --control unix:/x", false),
        ("tidegate audit verify --ledger l.sqlite --control unix:/x", false),
        ("tidegate audit report --since 1d --dir copy --control unix:/x", false),
        ("tidegate target plan orders", true),
        (
            "tidegate target apply orders --user owner --password-file owner.password -o json",
            true,
        ),
        ("tidegate target plan orders --password-file owner.password", false),
        ("tidegate target plan", false),
        ("tidegate audit", false),
        ("tidegate", false),
    ] {
        assert_eq!(Cli::try_parse_from(line.split(' ')).is_ok(), good, "{line}");
    }
    for (line, json) in [
        ("tidegate whoami", false),
        ("tidegate whoami --json", true),
        ("tidegate whoami -o json", true),
    ] {
        let CliCommand::People(requester::RequesterCommand::Whoami { remote }) =
            Cli::try_parse_from(line.split(' ')).unwrap().command
        else {
            panic!("{line}");
        };
        assert_eq!(remote.printing.output == args::OutputFormat::Json, json, "{line}");
    }
}

#[test]
fn since_is_a_time_or_a_length() {
    let now = "2026-08-01T12:00:00Z".parse::<Timestamp>().unwrap();
    let zoned = now.to_zoned_datetime(jiff::tz::TimeZone::UTC);
    let since = |text: &str| match Cli::try_parse_from(["tidegate", "log", "--since", text]).unwrap().command {
        CliCommand::Log(args) => args.which.scope.period.since.unwrap().time(&zoned),
        _ => panic!("not log"),
    };
    assert_eq!(since("2h"), now - SignedDuration::from_hours(2));
    assert_eq!(since("2026-01-01T00:00:00Z"), "2026-01-01T00:00:00Z".parse().unwrap());
    let refused = |line: &[&str], words: &[&str]| {
        let error = Cli::try_parse_from(line).unwrap_err().to_string();
        for word in words {
            assert!(error.contains(word), "{word}: {error}");
        }
    };
    let unknown = [
        "`last teusday`",
        "`teusday` is not a weekday",
        "is not a time",
        "tuesday 14:00",
    ];
    refused(&["tidegate", "log", "--since", "last teusday"], &unknown);
    let shorten = ["tidegate", "grant", "shorten", "gr_0123456789", "--until", "last teusday"];
    refused(&shorten, &unknown);
    let verify = ["tidegate", "audit", "verify", "--since", "7d"];
    refused(&verify, &["--checkpoint", "`7d` is a time", "audit report --since '7d'"]);
}

#[test]
fn a_target_and_a_profile_that_contradict_each_other_are_refused() {
    let filter = |line: &str| match Cli::try_parse_from(line.split(' ')).unwrap().command {
        CliCommand::Log(args) => args.which.filter(&zone::now()),
        _ => panic!("not log"),
    };
    let named = filter("tidegate log --target orders/read-only").unwrap();
    assert_eq!(
        (named.target.unwrap().as_str(), named.profile.unwrap().as_str()),
        ("orders", "read-only")
    );
    assert!(filter("tidegate log --target orders/read-only --profile read-only").is_ok());
    let error = filter("tidegate log --target orders/read-only --profile read-write")
        .unwrap_err()
        .to_string();
    assert!(error.contains("read-only") && error.contains("read-write"), "{error}");
}

#[test]
fn nothing_steers_the_terminal() {
    assert_eq!(
        render::visible("a\x1b[31mb\u{9b}c\r\nd\u{202e}e\u{7f}é"),
        r"a\u{1b}[31mb\u{9b}c\r\nd\u{202e}e\u{7f}é"
    );
    // What a script reads is the same text, and harmless where it is looked at.
    let hidden = "a\u{202e}\u{e0041}\u{200b}\u{85}";
    let json = render::json(&[hidden]).unwrap();
    assert!(json.contains(r"a\u202e\udb40\udc41\u200b\u0085"), "{json}");
    assert_eq!(serde_json::from_str::<Vec<String>>(&json).unwrap(), [hidden]);
}

proptest::proptest! {
    #[test]
    fn what_is_visible_has_no_control_characters(text in ".{0,200}") {
        proptest::prop_assert!(!render::visible(&text).chars().any(char::is_control));
    }
}

/// Runs a command line against a served API; the error it ends with, if any, and its exit code.
async fn run_at(served: &Served, line: &str) -> Result<(), (u8, String)> {
    let config = served.dir.path().join("tidegate.toml");
    let cli = Cli::try_parse_from(line.split(' ')).unwrap();
    let result = match cli.command {
        CliCommand::Grant(command) => grant::run(&config, command).await,
        CliCommand::Session(command) => session::run(&config, command).await,
        CliCommand::Log(args) => log::run(&config, *args).await,
        CliCommand::Audit(command) => audit::run(&config, command).await.map(|code| assert_eq!(code, 0)),
        _ => panic!("not a command of the API"),
    };
    result.map_err(|error| (exit_code(&error), format!("{error:#}")))
}

pub(super) async fn made(served: &Served) -> String {
    let config = served.dir.path().join("tidegate.toml");
    let place = args::GatePlace {
        control: None,
        token_file: None,
    };
    let body = crate::control::model::NewGrantBody {
        identity: "ana@example.com".parse().unwrap(),
        target: "orders".parse().unwrap(),
        profile: None,
        reason: Some("BUG-812".to_owned()),
        window_seconds: 1_800,
        activate_within_seconds: None,
        deadline: None,
        max_sessions: None,
        client_network: None,
    };
    let client = client::ControlClient::new(endpoint::UsualCaller::Operator, &config, &place).unwrap();
    let issued: crate::control::model::Issued = client.post("/v1/grants", &body).await.unwrap();
    issued.grant.grant.id().to_string()
}

#[tokio::test]
async fn the_life_of_a_grant_by_command_line() {
    let served = Served::start().await;
    run_at(
        &served,
        "tidegate grant create orders --profile read-only --identity ana --for 30m --client-network 10.0.0.0/8",
    )
    .await
    .unwrap();
    let id = made(&served).await;
    run_at(&served, "tidegate grant list").await.unwrap();
    run_at(&served, "tidegate session list -o json").await.unwrap();
    run_at(&served, &format!("tidegate grant extend {id} --by 30m --reason more"))
        .await
        .unwrap();
    run_at(&served, &format!("tidegate grant shorten {id} --by 10m"))
        .await
        .unwrap();
    run_at(&served, &format!("tidegate grant show {id} --output json"))
        .await
        .unwrap();
    run_at(&served, &format!("tidegate grant revoke {id} --reason done"))
        .await
        .unwrap();
    run_at(&served, "tidegate log -o json").await.unwrap();
    // What has ended stays ended.
    let (code, said) = run_at(&served, &format!("tidegate grant extend {id} --by 30m"))
        .await
        .unwrap_err();
    assert_eq!(code, 5, "{said}");
    insta::assert_snapshot!(said);
    served.stop().await;
}

#[tokio::test]
async fn exit_codes() {
    let served = Served::start().await;
    for (line, code) in [
        ("tidegate grant show gr_0000000000", 4),
        ("tidegate session kill se_0000000000", 4),
        ("tidegate grant create nowhere --identity ana --for 30m", 5),
        ("tidegate grant create orders --identity ana --for 40d", 5),
        ("tidegate grant create orders --profile admin --identity ana --for 30m", 5),
        ("tidegate grant list --control unix:/nonexistent/control.sock", 3),
        ("tidegate grant list --control ftp://x", 2),
        ("tidegate grant list --token-file /nonexistent/token", 1),
    ] {
        let (found, said) = run_at(&served, line).await.unwrap_err();
        assert_eq!(found, code, "{line}: {said}");
        if code == 3 {
            assert_eq!(
                said,
                "the gate does not answer at unix:/nonexistent/control.sock: No such file or directory (os error 2); \
                 is it running (tidegate serve), with this configuration?"
            );
        }
    }
    // Whoever is not known reads which token that was, and what to do.
    let bad = served.dir.path().join("bad.token");
    std::fs::write(&bad, "tg_replaced").unwrap();
    let line = format!("tidegate grant list --token-file {}", bad.display());
    let (code, said) = run_at(&served, &line).await.unwrap_err();
    let begin = "the gate at unix:";
    assert!(
        code == 5
            && said.starts_with(begin)
            && said.contains(&format!("does not accept the token in {}", bad.display()))
            && said.contains("tidegate login"),
        "{said}"
    );
    assert!(!said.contains("Bearer") && !said.contains("tg_replaced"), "{said}");
    served.stop().await;
}

#[tokio::test]
async fn the_log_is_proven_and_its_key_changed_by_command_line() {
    let served = Served::start().await;
    made(&served).await;
    let state = served.dir.path().join("tidegate-state");
    let first = std::fs::read_to_string(state.join("audit-key.pub")).unwrap();
    let pinned = served.dir.path().join("first.pub");
    std::fs::write(&pinned, &first).unwrap();
    for line in ["tidegate audit checkpoint", "tidegate audit key", "tidegate audit verify"] {
        run_at(&served, line).await.unwrap();
    }
    run_at(&served, "tidegate audit rotate-key -o json").await.unwrap();
    assert_ne!(std::fs::read_to_string(state.join("audit-key.pub")).unwrap(), first);
    made(&served).await;
    // The old one and the new one prove it.
    run_at(&served, &format!("tidegate audit verify --key {}", pinned.display()))
        .await
        .unwrap();
    run_at(&served, "tidegate audit verify -o json").await.unwrap();
    // Another gate's checkpoint is asked for at that gate, and nowhere else.
    let there = "tidegate audit checkpoint --control unix:/nonexistent/control.sock";
    assert_eq!(run_at(&served, there).await.unwrap_err().0, 3);
    std::fs::remove_file(state.join("control.sock")).unwrap();
    run_at(&served, "tidegate audit checkpoint").await.unwrap();
    run_at(&served, "tidegate audit key").await.unwrap();
    assert_eq!(run_at(&served, "tidegate audit rotate-key").await.unwrap_err().0, 3);
}

fn view(change: impl FnOnce(&mut serde_json::Value)) -> crate::control::model::GrantView {
    let mut value = serde_json::json!({
        "id": "gr_4k2m9x0a7b", "identity": "ana@example.com", "target": "orders", "reason": "BUG-812\u{1b}[2J",
        "created_at": "2026-08-01T12:00:00Z", "created_by": "tom", "activate_by": "2026-08-01T13:00:00Z",
        "window_seconds": 1800, "deadline": null, "max_sessions": 10, "client_network": null,
        "activated_at": null, "until": null, "revoked": null, "status": "ready", "live_sessions": 0,
    });
    change(&mut value);
    serde_json::from_value(value).unwrap()
}

/// Every list, with names of usual length, in a terminal of 80 columns.
#[test]
fn lists_name_the_profile_fit_and_cut_no_id() {
    let now: Timestamp = "2026-08-01T12:20:30Z".parse().unwrap();
    let grant = view(|view| {
        view["profile"] = "read-write".into();
        view["reason"] = "the totals of march are wrong since the last import".into();
        view["identity"] = "anastasia.winterbottom@testing.example.org".into();
    });
    let in_line = view(|view| {
        view["profile"] = "read-write".into();
        view["line"] = serde_json::json!({ "state": "waits", "place": 12 });
    });
    let session = serde_json::json!({
        "session": "se_0123456789", "grant": "gr_4k2m9x0a7b", "identity": "anastasia.winterbottom@testing.example.org",
        "target": "orders", "profile": "read-write", "client": "127.0.0.1:50123", "since": "2026-08-01T12:10:00Z",
        "until": "2026-08-01T12:40:00Z", "state": "active", "statements": 17, "backend_pid": 4711,
        "running": "UPDATE totals SET amount = amount + 1 WHERE month = 'march' AND shop = 'the one in the harbour'",
    });
    let request = serde_json::json!({
        "id": "rq_4k2m9x0a7b", "identity": "anastasia.winterbottom@testing.example.org", "target": "orders",
        "profile": "read-write", "window_seconds": 1800, "reason": "the totals of march are wrong", "ticket": "SHOP-99",
        "max_sessions": 10, "submitted_at": "2026-08-01T12:00:00Z", "expires_at": "2026-08-01T13:00:00Z",
        "approvals_needed": 2, "status": "pending", "approvals_missing": 2,
    });
    let (sessions, requests) = (
        [serde_json::from_value(session).unwrap()],
        [serde_json::from_value(request).unwrap()],
    );
    table::WIDTH.set(Some(80));
    let lists = [
        (views::grants(std::slice::from_ref(&grant), false, now), "gr_4k2m9x0a7b"),
        (views::grants(&[grant], true, now), "gr_4k2m9x0a7b"),
        (views::grants(&[in_line], true, now), "12th in line"),
        (views::sessions(&sessions, now), "se_0123456789"),
        (views::requests(&requests, now), "rq_4k2m9x0a7b"),
    ];
    table::WIDTH.set(None);
    assert!(
        lists[3].0.contains("RUNS") && lists[3].0.contains("  UPDATE to"),
        "{}",
        lists[3].0
    );
    for (list, id) in lists {
        assert!(list.contains(id) && list.contains("orders/read-write"), "{list}");
        assert!(list.lines().all(|line| line.chars().count() <= 80), "{list}");
        assert_eq!(list.lines().count(), 2, "{list}");
    }
}

#[test]
fn a_place_in_line_is_told() {
    let now: Timestamp = "2026-08-01T12:20:30Z".parse().unwrap();
    let holder = serde_json::json!({ "grant": "gr_0123456789", "identity": "ben", "until": "2026-08-01T12:40:00Z" });
    let waits = view(|view| view["line"] = serde_json::json!({ "state": "waits", "place": 22, "held_by": [holder] }));
    let told = views::grant(&waits, now);
    assert!(
        told.contains("22nd; the target is in use by ben under grant gr_0123456789 until "),
        "{told}"
    );
    let uses = view(|view| view["line"] = serde_json::json!({ "state": "uses" }));
    assert!(views::grant(&uses, now).contains("it uses the target exclusively"));
    assert!(views::grants(&[uses], true, now).contains("exclusive"));
    let line = serde_json::json!({
        "target": "orders", "held_by": [holder],
        "waiting": [{ "grant": "gr_4k2m9x0a7b", "identity": "ana" }],
    });
    let told = views::lines(&[serde_json::from_value(line).unwrap()]);
    assert!(told.starts_with("orders: in use by ben (gr_0123456789) until "), "{told}");
    assert!(told.ends_with("; in line: ana (gr_4k2m9x0a7b)"), "{told}");
}

#[test]
fn tables_for_people() {
    let now: Timestamp = "2026-08-01T12:20:30Z".parse().unwrap();
    let ready = view(|_| {});
    let active = view(|view| {
        view["activated_at"] = "2026-08-01T12:10:00Z".into();
        view["until"] = "2026-08-01T12:40:00Z".into();
        view["status"] = "active".into();
        view["live_sessions"] = 2.into();
        view["profile"] = "read-only".into();
        view["request"] = "rq_4k2m9x0a7b".into();
    });
    let revoked = view(|view| {
        view["revoked"] = serde_json::json!({ "at": "2026-08-01T12:15:00Z", "by": "tom", "reason": "done" });
        view["status"] = "revoked".into();
        view["client_network"] = "10.0.0.0/8".into();
        view["deadline"] = "2026-08-01T18:00:00Z".into();
    });
    let issued = crate::control::model::Issued {
        grant: view(|_| {}),
        secret: "k3s7x9q2m4c8v1b6n5z0a2d4f6".to_owned(),
        connection_string: "postgresql://gr_4k2m9x0a7b:k3s7x9q2m4c8v1b6n5z0a2d4f6@127.0.0.1:7432/orders?sslmode=require"
            .to_owned(),
    };
    let who = serde_json::json!({
        "session": "se_0123456789", "grant": "gr_4k2m9x0a7b", "identity": "ana@example.com", "target": "orders",
        "profile": "read-only", "client": "127.0.0.1:50123", "since": "2026-08-01T12:10:00Z", "until": "2026-08-01T12:40:00Z",
        "state": "active", "statements": 17, "backend_pid": 4711, "running": "SELECT *\nFROM totals",
    });
    let parts = [
        views::issued(&issued),
        views::grant(&active, now),
        views::grant(&revoked, now),
        views::sessions(&[serde_json::from_value(who).unwrap()], now),
        views::grants(&[ready, active, revoked], false, now),
        views::grants(&[], false, now),
    ];
    insta::assert_snapshot!(parts.join("\n---\n"));
}

#[test]
fn no_target_is_named_as_a_command_that_stands_in_its_place() {
    let mut command = groups::command();
    command.build();
    let mut names = Vec::new();
    let mut below: Vec<&clap::Command> = command.get_subcommands().collect();
    while let Some(command) = below.pop() {
        if command.get_positionals().next().is_some() {
            names.extend(command.get_subcommands().map(|command| command.get_name().to_owned()));
        }
        below.extend(command.get_subcommands());
    }
    names.sort();
    assert_eq!(names, crate::config::RESERVED_NAMES);
}
