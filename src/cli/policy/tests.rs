//! The commands as they are typed, against the shipped folder and small ones of their own.

use clap::Parser;

use super::super::command_line::{Cli, CliCommand};
use super::*;

fn at(config: &Path, line: &str) -> Result<(), String> {
    let cli = Cli::try_parse_from(line.split(' ')).map_err(|error| error.to_string())?;
    let CliCommand::Policy(command) = cli.command else {
        panic!("not a command of policies")
    };
    let ran = super::super::wait_for(run(config, command));
    ran.map_err(|error| format!("{error:#}"))
}

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tidegate.toml")
}

#[test]
fn the_shipped_folder() {
    at(&shipped(), "tidegate policy check").unwrap();
    at(&shipped(), "tidegate policy test --zone Europe/Berlin -o json").unwrap();
    at(
        &shipped(),
        "tidegate policy explain --dir policies --as ana --group qa --target orders/read-write --for 2h --at 2026-08-03T20:00",
    )
    .unwrap();
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("tidegate.toml");
    let folder = dir.path().join("policies");
    assert!(at(&config, "tidegate policy check").unwrap_err().contains("cannot be read"));
    std::fs::create_dir_all(folder.join("tests")).unwrap();
    let schema = include_str!("../../../policies/schema.cedarschema");
    std::fs::write(folder.join("schema.cedarschema"), schema).unwrap();
    std::fs::write(folder.join("a.cedar"), "\npermit (principal, action, resource);\n").unwrap();
    let said = at(&config, "tidegate policy check -o json").unwrap_err();
    assert!(said.contains("policies/a.cedar:2: "), "{said}");
    std::fs::write(
        folder.join("a.cedar"),
        "@id(\"a\") permit (principal, action == Tidegate::Action::\"request\", resource);\n",
    )
    .unwrap();
    assert!(at(&config, "tidegate policy test").unwrap_err().contains("no test cases"));
    let case = "\n[[case]]\nname = \"n\"\nwho = \"ana\"\ntarget = \"orders\"\nprofile = \"x\"\nexpect = \"automatic\"\n";
    std::fs::write(folder.join("tests/t.toml"), case).unwrap();
    let said = at(&config, "tidegate policy test").unwrap_err();
    assert!(
        said.contains("policies/tests/t.toml:2: n: expected automatic, found 1 approval by a"),
        "{said}"
    );
    assert!(said.contains("1 of 1 cases failed"), "{said}");
}

#[test]
fn the_configuration_says_where_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("tidegate.toml");
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
    let text = format!("[policy]\ndir = \"{}\"\nzone = \"Europe/Berlin\"\n", shipped.display());
    std::fs::write(&config, &text).unwrap();
    // The tables of cases are of that zone.
    at(&config, "tidegate policy test").unwrap();
    let said = at(&config, "tidegate policy check --dir nowhere").unwrap_err();
    assert!(said.contains("nowhere/schema.cedarschema: cannot be read"), "{said}");
    std::fs::write(&config, "[policy]\nzoen = \"UTC\"\n").unwrap();
    let said = at(&config, "tidegate policy check").unwrap_err();
    assert!(said.contains("tidegate.toml:2") && said.contains("zone"), "{said}");
}

#[test]
fn an_explanation_reads_like_one() {
    let policies = load(&PolicyLocation::beside(&shipped()), OutputFormat::Table, "").unwrap();
    let identity = Identity {
        name: "ana@example.com".parse().unwrap(),
        groups: ["qa".parse().unwrap()].into(),
        source: IdentitySource::Local,
        claims: BTreeMap::new(),
    };
    let mut wish = RequestSpec {
        identity: identity.name.clone(),
        groups: identity.groups.clone(),
        issuer: None,
        claims: BTreeMap::new(),
        target: "orders".parse().unwrap(),
        profile: "read-write".parse().unwrap(),
        window: Duration::from_hours(3),
        reason: None,
        ticket: None,
        max_sessions: 1,
        break_glass: false,
    };
    let context = QuestionContext {
        now: "2026-08-03T20:00:00Z".parse().unwrap(),
        client: None,
        active_grants: 0,
        arrival: Arrival::TOKEN,
    };
    let mut texts = Vec::new();
    texts.push(told(&explained(&policies, &identity, &wish, context)));
    wish.reason = Some("the double booking".to_owned());
    wish.ticket = Some("BUG-812".to_owned());
    wish.window = Duration::from_hours(2);
    texts.push(told(&explained(&policies, &identity, &wish, context)));
    wish.target = "payments".parse().unwrap();
    texts.push(told(&explained(&policies, &identity, &wish, context)));
    insta::assert_snapshot!(texts.join("\n\n"));
}

#[test]
fn a_profile_is_named_once() {
    let named = |line: &str| {
        let CliCommand::Policy(PolicyCommand::Explain(mut args)) = Cli::try_parse_from(line.split(' ')).unwrap().command else {
            panic!("{line}");
        };
        args.name_profile_once()
            .map(|()| args.profile.map(|profile| profile.to_string()))
    };
    let both = "tidegate policy explain --target orders/read-write --profile";
    assert_eq!(named(&format!("{both} read-write")).unwrap().unwrap(), "read-write");
    assert!(named(&format!("{both} read-only")).is_err());
    assert_eq!(named("tidegate policy explain --target orders").unwrap(), None);
}
