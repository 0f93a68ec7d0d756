//! Names in policies and of users' groups that match nothing: most often a typing error that keeps people out, or lets them in.
//!
//! They are warnings, not mistakes: a policy may be written before its target, and a group may come from an issuer.

use std::collections::{BTreeMap, BTreeSet};

use super::GateSettings;
use crate::access::policy::Policies;
use crate::model::names::{GroupName, IdentityName, nearest};

/// Returns a line for each unknown name, as far as it can be determined. `users` are the local users with their groups.
#[must_use]
pub fn unknown_names(settings: &GateSettings, users: &BTreeMap<IdentityName, BTreeSet<GroupName>>) -> Vec<String> {
    let Some(policies) = &settings.policies else {
        return Vec::new();
    };
    let unknown = |by: &str, noun: &str, name: &str, known: &BTreeSet<&str>| {
        let meant = meant(name, known.iter().copied());
        (!known.contains(name)).then(|| format!("{by} names the {noun} `{name}`, which is not configured{meant}"))
    };
    let mut lines = Vec::new();
    let targets = settings.targets.iter().map(|target| target.upstream.name.as_str()).collect();
    for (target, policy) in &policies.vocabulary().targets {
        lines.extend(unknown(&format!("policy {policy}"), "target", target, &targets));
    }
    let profiles = settings
        .targets
        .iter()
        .flat_map(|target| target.profiles.iter().map(move |profile| (target, &profile.name)));
    let accesses: Vec<String> = profiles
        .clone()
        .map(|(target, profile)| target.upstream.name.with(Some(profile)))
        .collect();
    let accesses = accesses.iter().map(String::as_str).collect();
    for (access, policy) in &policies.vocabulary().accesses {
        lines.extend(unknown(&format!("policy {policy}"), "profile", access, &accesses));
    }
    let profiles = profiles.map(|(_, profile)| profile.as_str()).collect();
    for profile in &policies.vocabulary().profiles {
        let with_target = format!("/{profile}");
        if !policies
            .vocabulary()
            .accesses
            .keys()
            .any(|access| access.ends_with(&with_target))
        {
            lines.extend(unknown("a policy", "profile", profile.as_str(), &profiles));
        }
    }
    lines.extend(groups(settings, policies, users));
    lines.extend(in_chat(settings, users));
    lines
}

/// Returns a line for each name of the chat's users that no local user has, where all identities are known here.
fn in_chat(settings: &GateSettings, users: &BTreeMap<IdentityName, BTreeSet<GroupName>>) -> Vec<String> {
    let named = settings.chat.iter().flat_map(|chat| chat.users.values());
    let known = users.is_empty() || !settings.issuers.is_empty();
    let unknown = named.filter(|name| !known && !users.contains_key(*name));
    let line = |name: &IdentityName| {
        let meant = meant(name.as_str(), users.keys().map(IdentityName::as_str));
        format!("chat.users names `{name}`, which is no enabled local user{meant}")
    };
    unknown.map(line).collect()
}

/// The groups of users that no policy names; and those of policies in which nobody is, where all who have groups are known here.
fn groups(settings: &GateSettings, policies: &Policies, users: &BTreeMap<IdentityName, BTreeSet<GroupName>>) -> Vec<String> {
    let mut lines = Vec::new();
    let named = &policies.vocabulary().groups;
    let known: BTreeSet<&GroupName> = users.values().flatten().collect();
    for group in &known {
        let members: Vec<&str> = users
            .iter()
            .filter(|(_, groups)| groups.contains(*group))
            .map(|(name, _)| name.as_str())
            .collect();
        let (first, others) = (members.first().copied().unwrap_or_default(), members.len().saturating_sub(1));
        let others = if others == 0 {
            String::new()
        } else {
            format!(" and {others} more")
        };
        lines.extend(policies.unnamed(group, &format!("{first}{others}")));
    }
    if !users.is_empty() && settings.issuers.is_empty() {
        for group in named.iter().filter(|group| !known.contains(group)) {
            let meant = meant(group.as_str(), known.iter().map(|group| group.as_str()));
            lines.push(format!(
                "policies name the group `{group}`, which has no enabled member{meant}"
            ));
        }
    }
    lines
}

fn meant<'a>(found: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(found, known).map_or_else(String::new, |near| format!("; did you mean `{near}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::from_text;

    const POLICIES: &str = r#"
@id("ask") permit (principal in Tidegate::Group::"qa", action == Tidegate::Action::"request", resource in Tidegate::Target::"order");
@id("approve") permit (principal in Tidegate::Group::"leads", action == Tidegate::Action::"approve", resource);
@id("write") permit (principal, action == Tidegate::Action::"request", resource == Tidegate::Access::"orders/read-wite");
@id("read") permit (principal, action == Tidegate::Action::"request", resource == Tidegate::Access::"orders/read-only");
@id("day") forbid (principal, action == Tidegate::Action::"request", resource) when { resource.profile == "read-olny" };
"#;
    const CONFIG: &str =
        "[targets.orders]\naddress = \"127.0.0.1:5432\"\nuser = \"app\"\nprofiles = [\"read-only\", \"read-write\"]\n";

    fn warned(config: &str, users: &[(&str, &[&str])]) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("policies");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("a.cedar"), POLICIES).unwrap();
        let schema = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/schema.cedarschema");
        std::fs::copy(schema, folder.join("schema.cedarschema")).unwrap();
        let settings = from_text(&dir.path().join("tidegate.toml"), config).unwrap_or_else(|mistakes| panic!("{mistakes:#?}"));
        let groups = |groups: &[&str]| groups.iter().map(|group| group.parse().unwrap()).collect();
        let users = users.iter().map(|(name, of)| (name.parse().unwrap(), groups(of)));
        unknown_names(&settings, &users.collect())
    }

    #[test]
    fn names_that_nothing_else_knows_are_said_with_the_nearest() {
        let users: &[(&str, &[&str])] = &[("ana", &["qaa"]), ("bo", &["qaa", "leads"])];
        assert_eq!(
            warned(CONFIG, users),
            [
                "policy ask names the target `order`, which is not configured; did you mean `orders`?",
                "policy write names the profile `orders/read-wite`, which is not configured; did you mean `orders/read-write`?",
                "a policy names the profile `read-olny`, which is not configured; did you mean `read-only`?",
                "no policy names the group `qaa` of ana and 1 more, so it grants nothing; did you mean `qa`?",
                "policies name the group `qa`, which has no enabled member; did you mean `qaa`?",
            ]
        );
    }

    #[test]
    fn what_an_issuer_may_say_is_not_unknown() {
        let groups = |lines: Vec<String>| lines.into_iter().filter(|line| line.contains("group")).count();
        let issuer = "[[identity.issuers]]\nissuer = \"https://id.example.org\"\naudience = \"tidegate\"\njwks_url = \"https://id.example.org/keys\"\n\
                      identity_prefix = \"id:\"\ngroups_claim = \"groups\"\n";
        assert_eq!(groups(warned(&format!("{CONFIG}{issuer}"), &[("ana", &["qa"])])), 0);
        assert_eq!(groups(warned(CONFIG, &[("ana", &["qa"])])), 1, "leads");
        assert_eq!(groups(warned(CONFIG, &[])), 0, "nobody is known yet");
    }
}
