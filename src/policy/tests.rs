use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::*;
use crate::identity::Source as Proof;

const SCHEMA: &str = include_str!("../../policies/schema.cedarschema");

fn schema() -> Source {
    source("schema.cedarschema", SCHEMA)
}

fn source(name: &str, text: &str) -> Source {
    Source {
        name: name.to_owned(),
        text: text.to_owned(),
    }
}

fn shipped() -> (Source, Vec<Source>, Vec<Source>) {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
    let (schema, policies) = crate::config::policies::read(&dir).unwrap();
    (schema, policies, crate::config::policies::read_tables(&dir).unwrap())
}

fn parse(text: &str) -> Result<Policies, PolicyError> {
    Policies::parse(&schema(), &[source("a.cedar", text)], TimeZone::UTC)
}

fn wrong(text: &str) -> Vec<String> {
    parse(text).unwrap_err().0
}

fn identity(name: &str, groups: &[&str]) -> Identity {
    Identity {
        name: name.parse().unwrap(),
        groups: groups.iter().map(|group| group.parse().unwrap()).collect(),
        source: Proof::Local,
        claims: BTreeMap::new(),
    }
}

fn wish(who: &Identity, target: &str, profile: &str, minutes: u64) -> Wish {
    Wish {
        identity: who.name.clone(),
        groups: who.groups.clone(),
        issuer: None,
        claims: BTreeMap::new(),
        target: target.parse().unwrap(),
        profile: profile.parse().unwrap(),
        window: Duration::from_secs(minutes * 60),
        reason: None,
        ticket: None,
        max_sessions: 1,
        break_glass: false,
    }
}

/// A Monday at ten.
fn context() -> Context {
    Context {
        now: "2026-08-03T10:00:00Z".parse().unwrap(),
        client: None,
        active_grants: 0,
    }
}

fn why(judgement: &Judgement) -> &str {
    match &judgement.verdict {
        Verdict::Denied { why } => why,
        other => panic!("{other:?} by {:?}", judgement.policies),
    }
}

fn request(wish: Wish) -> Request {
    Request {
        id: "rq_0000000000".parse().unwrap(),
        wish,
        submitted_at: Timestamp::UNIX_EPOCH,
        expires_at: Timestamp::UNIX_EPOCH,
        approvals_needed: 1,
        approvals: Vec::new(),
        outcome: None,
        review: None,
    }
}

#[test]
fn the_shipped_set_is_valid_and_does_what_its_tables_say() {
    let (schema, policies, tables) = shipped();
    let zone = TimeZone::get("Europe/Berlin").unwrap_or(TimeZone::UTC);
    let policies = Policies::parse(&schema, &policies, zone).unwrap_or_else(|error| panic!("{:#?}", error.0));
    let outcome = table::run(&policies, &tables);
    assert!(outcome.failures.is_empty(), "{:#?}", outcome.failures);
    assert!(outcome.cases > 30, "{}", outcome.cases);
}

#[test]
fn every_shipped_policy_decides_a_case() {
    let (_, policies, tables) = shipped();
    let policies = Policies::parse(&schema(), &policies, TimeZone::UTC).unwrap();
    let tables: String = tables.into_iter().map(|table| table.text).collect();
    // The gate's own rule comes before the first; the others are decided about with others.
    let elsewhere = ["nobody-approves-their-own-request"];
    let untested: Vec<_> = policies
        .ids()
        .filter(|id| !tables.contains(&format!("\"{id}\"")) && !elsewhere.contains(id))
        .collect();
    assert!(untested.is_empty(), "{untested:?}");
}
