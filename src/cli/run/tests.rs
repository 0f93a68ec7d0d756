use clap::Parser as _;

use super::variables::{dotenv, fish, sh};
use super::verification::SslMode;
use super::*;
use crate::control::model::GrantLoginBody;

fn login(secret: &str) -> GrantLoginBody {
    GrantLoginBody {
        user: "gr_4k2m9x0a7b.k7".to_owned(),
        secret: secret.to_owned(),
        host: "127.0.0.1".to_owned(),
        port: 7432,
        database: "orders".to_owned(),
        connection_string: "postgresql://gr_4k2m9x0a7b.k7:s@127.0.0.1:7432/orders?sslmode=require".to_owned(),
        certificate: None,
        sslmode: "verify-full".to_owned(),
    }
}

fn verified() -> VerificationVariables {
    VerificationVariables {
        sslmode: SslMode::VerifyFull,
        root_certificates: Some("/home/ana/gate.pem".into()),
        node_certificates: Some("/home/ana/both.pem".into()),
        own: None,
    }
}

#[test]
fn variables_as_each_reader_takes_them() {
    let variables = ConnectionVariables::of(&login("s3cret"), &verified());
    let all: Vec<String> = [
        VariableFormat::Sh,
        VariableFormat::Fish,
        VariableFormat::Dotenv,
        VariableFormat::Json,
    ]
    .iter()
    .map(|format| variables.written(*format).unwrap())
    .collect();
    insta::assert_snapshot!(all.join("\n---\n"));
}

#[test]
fn quoting() {
    assert_eq!(sh("a'b$c\\"), r"'a'\''b$c\'");
    assert_eq!(fish("a'b\\"), r"'a\'b\\'");
    assert_eq!(dotenv("a$b\\"), r"'a$b\'");
    assert_eq!(dotenv("a'b$\"\\"), r#""a'b\$\"\\""#);
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(20))]
    /// The shell itself is asked.
    #[test]
    fn a_shell_reads_back_what_was_quoted(value in "[^\0]{0,40}") {
        let script = format!("printf %s {}", sh(&value));
        let said = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
        proptest::prop_assert_eq!(said.stdout, value.as_bytes());
    }
}

#[test]
fn what_the_user_has_set_goes_on() {
    let own = VerificationVariables {
        own: Some(SslMode::VerifyFull),
        ..verified()
    };
    let variables = ConnectionVariables::of(&login("s"), &own).without_welcome(Some("-c jit=off"));
    let value = |name| {
        variables
            .all()
            .find(|(held, _)| *held == name)
            .map(|(_, value)| value.to_owned())
    };
    assert!(value("DATABASE_URL").unwrap().ends_with("?sslmode=verify-full"));
    assert_eq!(value("PGOPTIONS").as_deref(), Some("-c jit=off -c tidegate.welcome=off"));
}

fn grant(id: &str, change: impl FnOnce(&mut serde_json::Value)) -> GrantView {
    let mut value = serde_json::json!({
        "id": id, "identity": "ana", "target": "orders", "reason": null, "created_at": "2026-08-01T12:00:00Z",
        "created_by": "ana", "activate_by": "2026-08-01T13:00:00Z", "window_seconds": 1800, "deadline": null,
        "max_sessions": 10, "client_network": null, "activated_at": null, "until": null, "revoked": null,
        "status": "ready", "live_sessions": 0,
    });
    change(&mut value);
    serde_json::from_value(value).unwrap()
}

fn active(id: &str, until: &str) -> GrantView {
    grant(id, |view| {
        view["activated_at"] = "2026-08-01T12:00:00Z".into();
        view["until"] = until.into();
        view["status"] = "active".into();
    })
}

#[test]
fn that_a_grant_is_joined_is_said() {
    let view = grant("gr_0000000004", |view| view["reason"] = "BUG-812".into());
    let wanted = |reason: &[&str]| {
        let line = [&["tidegate", "psql", "orders"], reason].concat();
        match super::super::command_line::Cli::try_parse_from(line).unwrap().command {
            super::super::command_line::CliCommand::People(super::super::requester::RequesterCommand::Psql(args)) => args.wanted,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(
        joining(&view, &wanted(&[])),
        "joining your live grant gr_0000000004, requested with: BUG-812"
    );
    assert_eq!(
        joining(&view, &wanted(&["--reason", "BUG-812"])),
        joining(&view, &wanted(&[]))
    );
    assert_eq!(
        joining(&view, &wanted(&["--reason", "BUG-813"])),
        "joining your live grant gr_0000000004, requested with: BUG-812; your new reason is recorded"
    );
}

#[test]
fn how_long_one_can_work() {
    let now: Timestamp = "2026-08-01T12:10:00Z".parse().unwrap();
    assert_eq!(
        window(&active("gr_0000000002", "2026-08-01T12:15:00Z"), now),
        "orders until 2026-08-01 12:15:00Z, 5m left (grant gr_0000000002; more time: tidegate extend gr_0000000002 --by 30m)"
    );
    assert_eq!(
        window(&grant("gr_0000000004", |_| {}), now),
        "orders for 30m from the first connect (grant gr_0000000004)"
    );
}

/// Runs a shell script as `exec` would, with the variables of a login.
async fn ran(script: &str) -> anyhow::Result<u8> {
    let arguments = ["-c".into(), script.into()];
    let program = ChildProgram {
        name: OsStr::new("sh"),
        arguments: &arguments,
        interrupts: true,
        welcome: true,
        alone: false,
    };
    program
        .run_with(&ConnectionVariables::of(&login("s3cret"), &verified()), &mut Signals::new()?)
        .await
}

#[tokio::test]
async fn exit_codes_are_the_programs() {
    assert_eq!(ran("exit 0").await.unwrap(), 0);
    assert_eq!(ran("exit 7").await.unwrap(), 7);
    assert_eq!(ran("kill -TERM $$").await.unwrap(), 143);
    assert_eq!(
        ran(r#"test "$PGPASSWORD" = s3cret && test "$PGPORT" = 7432 && test -z "$PGSERVICE""#)
            .await
            .unwrap(),
        0
    );
    // Nothing secret is where `ps` shows it.
    assert_eq!(ran("tr '\\0' ' ' < /proc/$$/cmdline | grep 's3cre[t]'").await.unwrap(), 1);
}

#[tokio::test]
async fn what_cannot_be_run() {
    let run = async |name: &str| {
        let program = ChildProgram {
            name: OsStr::new(name),
            arguments: &[],
            interrupts: true,
            welcome: true,
            alone: false,
        };
        let error = program
            .run_with(
                &ConnectionVariables::of(&login("s"), &verified()),
                &mut Signals::new().unwrap(),
            )
            .await
            .unwrap_err();
        super::super::exit_code(&error)
    };
    assert_eq!(run("/nonexistent/program").await, 127);
    assert_eq!(run("/dev/null").await, 126);
}
