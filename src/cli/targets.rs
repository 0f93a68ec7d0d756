//! `targets`: targets and profiles that can be requested, in words.
//!
//! The gate provides the verdict on a request.

use std::path::Path;

use super::args::RemoteArgs;
use super::policy::verdict_words;
use super::render::{self, visible};
use super::table::{Column, cut, table, whole};
use super::views::who_can;
use crate::control::model::{ProfileBody, TargetBody, Targets, TargetsQuery};

pub(super) async fn run(config: &Path, target: Option<String>, remote: &RemoteArgs) -> anyhow::Result<()> {
    let query = TargetsQuery { target: target.clone() };
    let targets: Targets = remote.place.person(config)?.get("/v1/targets", &query).await?;
    remote.show(&targets, |targets| match target {
        Some(_) => told(targets),
        None => listed(targets),
    })
}

/// Returns one line per profile.
fn listed(targets: &Targets) -> String {
    let targets = targets.targets.iter();
    let rows = targets.flat_map(|target| target.details.iter().map(move |detail| (target, detail)));
    let rows: Vec<(&TargetBody, &ProfileBody)> = rows.collect();
    if rows.is_empty() {
        return "This gate has no targets.".to_owned();
    }
    let columns: [Column<'_, (&TargetBody, &ProfileBody)>; 3] = [
        (whole("TARGET"), &|(target, detail)| target.name.with(Some(&detail.profile))),
        (cut("A REQUEST", 20), &|(_, detail)| how(detail)),
        (cut("MAY", 20), &|(_, detail)| visible(&detail.may.join("; "))),
    ];
    let table = table(&rows, "", &columns);
    format!("{table}\n\nFor approvers, masks and guard rails of a target: tidegate targets NAME")
}

/// Returns all details of one target.
fn told(targets: &Targets) -> String {
    let of = |name: &str, detail: &ProfileBody| {
        let mut rows = vec![("target", format!("{name}/{}", detail.profile)), ("a request", how(detail))];
        rows.extend(who_can(&detail.approvers).map(|who| ("can approve", who)));
        rows.extend(words(detail));
        render::list(&rows)
    };
    let targets = targets.targets.iter();
    let all = targets.flat_map(|target| target.details.iter().map(|detail| of(target.name.as_str(), detail)));
    all.collect::<Vec<_>>().join("\n\n")
}

/// Returns the rights, masks and rails of a profile as rows.
#[must_use]
pub(super) fn words(detail: &ProfileBody) -> Vec<(&'static str, String)> {
    let rows = |name, lines: &[String]| lines.iter().map(|line| (name, visible(line))).collect::<Vec<_>>();
    [
        rows("may", &detail.may),
        rows("masked", &detail.masks),
        rows("rail", &detail.rails),
    ]
    .concat()
}

fn how(detail: &ProfileBody) -> String {
    let Some(verdict) = &detail.verdict else {
        return "-".to_owned();
    };
    let why = verdict.why.as_ref().map(|why| format!(": {}", visible(why)));
    let reason = if detail.needs_reason { ", with a --reason" } else { "" };
    format!("{}{reason}{}", verdict_words(verdict), why.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_asked_for_in_words() {
        let targets: Targets = serde_json::from_value(serde_json::json!({"targets": [{
        "name": "orders", "profiles": ["read-only", "read-write"], "details": [
            {"profile": "read-only", "may": ["read public.*"], "masks": ["public.cards.number: nothing"],
             "rails": ["only these statements: select"], "verdict": {"verdict": "automatic"}},
            {"profile": "read-write", "may": ["read public.*", "update public.*"],
             "verdict": {"verdict": "approvals", "approvals": 2}, "needs_reason": true,
             "approvers": ["lea", "tom"]},
        ]}]}))
        .unwrap();
        let list = listed(&targets);
        assert!(
            list.contains("orders/read-only") && list.contains("approved automatically"),
            "{list}"
        );
        assert!(list.contains("needs 2 approvers, with a --reason"), "{list}");
        let all = told(&targets);
        assert!(all.contains("can approve  lea, tom"), "{all}");
        assert!(
            all.contains("masked     public.cards.number: nothing") && all.contains("rail       only these statements: select"),
            "{all}"
        );
    }
}
