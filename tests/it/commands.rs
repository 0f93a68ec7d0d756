//! The built program at a shell: quiet where it is told to be, warnings that stop nothing, words completed by bash.

use std::process::{Command, Output};

use crate::access::{Person, TOM, shipped};
use crate::support::{ANA, TARGET, binary};

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn quiet_leaves_errors_and_what_was_asked_for() {
    let gate = shipped();
    let ana = Person::new(&gate, ANA, "qa");
    Person::new(&gate, TOM, "leads");
    let exec = [
        "exec",
        TARGET,
        "--for",
        "10m",
        "--no-welcome",
        "--",
        "psql",
        "-XAtc",
        "SELECT 42",
    ];
    for (quiet, noted) in [(&[][..], true), (&["--quiet"], false), (&["-q"], false)] {
        let output = ana.run(&[quiet, &exec].concat());
        assert_eq!(
            (output.status.code(), &output.stdout[..]),
            (Some(0), &b"42\n"[..]),
            "{output:?}"
        );
        assert_eq!(
            errors(&output).contains("from the first connect"),
            noted,
            "{quiet:?}: {output:?}"
        );
        assert_eq!(errors(&output).is_empty(), !noted, "{quiet:?}: {output:?}");
    }
    let request = [
        "request",
        &format!("{TARGET}/read-write"),
        "--for",
        "10m",
        "--reason",
        "the totals",
    ];
    let loud = String::from_utf8_lossy(&ana.run(&request).stdout).into_owned();
    let quiet = String::from_utf8_lossy(&ana.run(&[&request[..], &["--quiet"]].concat()).stdout).into_owned();
    // It is the same request, and its hint is left out.
    let next = "An approver runs: tidegate approve rq_";
    assert!(loud.contains(next) && !quiet.contains(next), "{loud}\n{quiet}");
    assert_eq!(loud.lines().next(), quiet.lines().next());
    let refused = ana.run(&["--quiet", "approve", "rq_0000000000"]);
    assert_eq!(refused.status.code(), Some(4), "{refused:?}");
    assert!(errors(&refused).contains("no request rq_0000000000"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_no_policy_names_is_given_and_said() {
    let gate = shipped();
    for (command, group, near) in [
        (&["user", "add", "sam", "--group", "leeds"][..], "leeds", "leads"),
        (&["--quiet", "user", "groups", "sam", "developer"], "developer", "developers"),
    ] {
        let output = gate.command(command).expect("it runs");
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let warning = format!(
            "tidegate: warning: no policy names the group `{group}` of sam, so it grants nothing; did you mean `{near}`?\n"
        );
        assert_eq!(errors(&output), warning);
        let users = gate.json(&["user", "list"]).expect("the users");
        assert_eq!(users["users"][0]["groups"][0], group, "{users}");
    }
    let output = gate.command(&["user", "groups", "sam", "qa"]).expect("it runs");
    assert_eq!((output.status.code(), errors(&output).as_str()), (Some(0), ""), "{output:?}");
}

/// The candidates that bash has for the last word of a line, after it has sourced the registration.
fn completed(person: &Person, line: &str) -> Vec<String> {
    let script = r#"
        source <(tidegate completions bash)
        read -ra COMP_WORDS <<< "$LINE"
        [[ $LINE == *' ' ]] && COMP_WORDS+=("")
        COMP_LINE=$LINE COMP_POINT=${#LINE} COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 )) COMP_TYPE=9
        registered=$(complete -p tidegate)
        [[ $registered =~ -F\ ([^ ]+) ]] || exit 1
        "${BASH_REMATCH[1]}" tidegate "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let as_person = person.command(&[]);
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-c", script]).env("LINE", line);
    for (name, value) in as_person.get_envs() {
        match value {
            Some(value) => bash.env(name, value),
            None => bash.env_remove(name),
        };
    }
    let mut path = binary().parent().expect("its folder").as_os_str().to_owned();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let output = bash.env("PATH", path).output().expect("bash is everywhere");
    assert!(output.status.success() && output.stderr.is_empty(), "{line}: {output:?}");
    let words = String::from_utf8(output.stdout).expect("text");
    // Where a value may stand, an option may, too.
    let options = line.rsplit(' ').next().is_some_and(|last| last.starts_with('-'));
    let words = words.lines().map(str::trim);
    words
        .filter(|word| !word.is_empty() && word.starts_with('-') == options)
        .map(str::to_owned)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn bash_completes_what_only_the_gate_knows() {
    let gate = shipped();
    let ana = Person::new(&gate, ANA, "qa");
    let asked = ana.json(&["request", "shop/read-write", "--for", "10m", "--reason", "the totals"]);
    let request = asked["id"].as_str().expect("an id");
    let read = ana.json(&["request", "shop/read-only", "--for", "10m"]);
    let grant = read["outcome"]["grant"].as_str().expect("a grant");
    for (line, expected) in [
        ("tidegate withd", &["withdraw"][..]),
        ("tidegate psql sh", &["shop", "shop/read-only", "shop/read-write"]),
        ("tidegate psql shop/read-w", &["shop/read-write"]),
        ("tidegate psql shop --profile ", &["read-only", "read-write"]),
        ("tidegate psql shop --prof", &["--profile"]),
        ("tidegate approve rq_", &[request]),
        ("tidegate extend ", &[grant]),
        ("tidegate psql nowhere", &[]),
    ] {
        assert_eq!(completed(&ana, line), expected, "{line}");
    }
}
