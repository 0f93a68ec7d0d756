//! The documents are true: the example configuration and its defaults, the reference of the configuration, the policies.
//!
//! - `commands`: command lines, as the program takes them
//! - `links`: links, anchors, paths and names of types
//! - `reference`: commands, calls, metrics and keys, as the code has them
#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "tests, not a library"
)]

mod commands;
mod links;
mod reference;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use tidegate::access::policy::{Policies, PolicyFile, table};
use tidegate::config::{self, ConfigMistake, GateSettings};

fn repository(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

fn text(file: &str) -> String {
    fs::read_to_string(repository(file)).expect("a readable file")
}

/// A folder with the password files that the examples name.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["orders.password", "gate.password", "oidc.secret", "slack.secret"] {
        fs::write(folder.path().join(name), "secret\n").expect("a file");
    }
    folder
}

fn load(folder: &Path, text: &str) -> Result<GateSettings, Vec<String>> {
    config::from_text(&folder.join("tidegate.toml"), text)
        .map_err(|mistakes| mistakes.iter().map(ConfigMistake::to_string).collect())
}

/// A setting of the example: its full key, its value, and whether it is the default.
fn example() -> Vec<(String, String, bool)> {
    let mut table = String::new();
    let mut found = Vec::new();
    for line in text("tidegate.example.toml").lines() {
        let setting = line.trim_start_matches(['#', ' ']);
        if let Some(name) = setting.strip_prefix('[') {
            table = name.trim_matches(['[', ']']).replace("targets.orders", "targets.NAME") + ".";
        }
        if let Some((key, value)) = setting.split_once(" = ")
            && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        {
            let default = line.starts_with('#') && !line.starts_with("# ");
            found.push((format!("{table}{key}"), value.to_owned(), default));
        }
    }
    found
}

#[test]
fn the_example_is_good_and_its_defaults_are_the_real_ones() {
    let written = text("tidegate.example.toml");
    let folder = folder();
    let short = load(folder.path(), &written).expect("the example");
    let uncommented: Vec<_> = written
        .lines()
        .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line))
        .collect();
    let long = load(folder.path(), &uncommented.join("\n")).expect("the example with every default written out");
    assert_eq!(format!("{short:?}"), format!("{long:?}"));
    assert!(
        uncommented.len() > 60 && uncommented.contains(&"connections = 1000"),
        "{uncommented:?}"
    );
}

#[test]
fn the_example_has_every_key_of_the_reference_and_no_other() {
    let rows = config::reference().into_iter().map(|row| (row.key, row.default));
    let mut rows: BTreeMap<_, _> = rows.collect();
    for (key, value, default) in example() {
        let shown = rows.remove(&key).unwrap_or_else(|| panic!("the reference has no `{key}`"));
        assert!(
            !default || shown == format!("`{value}`"),
            "`{key}` is {value}, the reference says {shown}"
        );
    }
    assert!(rows.is_empty(), "not in the example: {rows:?}");
}

#[test]
fn the_configurations_in_the_documents_are_good() {
    for file in [
        "README.md",
        "docs/quickstart.md",
        "docs/team.md",
        "docs/least-privilege.md",
        "deploy/README.md",
    ] {
        let blocks = configurations(file);
        assert!(!blocks.is_empty(), "{file}");
        for block in blocks {
            let settings = load(folder().path(), &block).unwrap_or_else(|mistakes| panic!("{file}: {mistakes:?} in\n{block}"));
            // None shows an account that ends its own sessions.
            let shared = settings
                .targets
                .iter()
                .find(|target| target.is_ended_by_its_sessions_account());
            assert!(shared.is_none(), "{file}: {block}");
        }
    }
}

/// Returns the configurations that a document shows: blocks of TOML, and files that a console prints.
fn configurations(file: &str) -> Vec<String> {
    let mut found = blocks(file, "toml");
    for console in blocks(file, "console") {
        let printed = console.split("$ cat tidegate.toml\n").nth(1);
        found.extend(printed.and_then(|printed| printed.split("\n$ ").next()).map(str::to_owned));
    }
    found
}

/// The blocks of a document that are in this language.
fn blocks(file: &str, language: &str) -> Vec<String> {
    let (text, fence) = (text(file), format!("```{language}\n"));
    let block = |block: &str| block.split("```").next().expect("split has a first part").to_owned();
    text.split(&fence).skip(1).map(block).collect()
}

#[test]
fn the_policies_in_the_documents_are_good_and_do_what_is_said_of_them() {
    let file = "policies/README.md";
    let source = |name: &str, text: String| PolicyFile {
        name: name.to_owned(),
        text,
    };
    let schema = source("schema.cedarschema", text("policies/schema.cedarschema"));
    let policies = source(file, blocks(file, "cedar").join("\n"));
    let policies = Policies::parse(&schema, &[policies], jiff::tz::TimeZone::UTC).unwrap_or_else(|error| panic!("{error}"));
    let tables: Vec<_> = blocks(file, "toml").into_iter().map(|block| source(file, block)).collect();
    let outcome = table::run(&policies, &tables);
    assert_eq!(outcome.failures, Vec::<String>::new());
    assert!(outcome.cases > 5, "{outcome:?}");
}

#[test]
fn what_runs_the_gate_waits_for_its_stop() {
    let folder = folder();
    let settings = load(folder.path(), &text("tidegate.example.toml")).expect("good");
    let longest = (settings.drain_limit + tidegate::app::MAX_STOP_AFTER_DRAIN).as_secs_f64();
    let examples = [
        ("deploy/kubernetes.yaml", "      terminationGracePeriodSeconds: "),
        ("deploy/tidegate.service", "TimeoutStopSec="),
        ("deploy/compose.yaml", "    stop_grace_period: "),
    ];
    for (file, key) in examples {
        let text = text(file);
        let given = text.lines().find_map(|line| line.strip_prefix(key)).expect("a limit");
        let given: f64 = given.trim_end_matches('s').parse().expect("seconds");
        assert!(given > longest, "{file} gives {given} s to a stop that may take {longest} s");
    }
}
