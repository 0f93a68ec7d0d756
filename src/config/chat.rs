//! `[chat]`: the chat whose users may answer, and who they are.
//!
//! It asks the chat nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::key::keys;
use super::reader::TableSection;
use crate::access::policy::{Action, Policies};
use crate::base::tls::web_address;
use crate::chat::{ChatSettings, SLACK_API};
use crate::model::names::IdentityName;

/// Reads `[chat]`; `None` if it is absent. `link` is where people see requests.
pub(super) fn read(table: &TableSection<'_>, present: bool, link: Option<&str>) -> Option<ChatSettings> {
    keys! { table;
        /// A file with the signing secret of the Slack app. With this section people answer by buttons in messages. See [answers from
        /// chat](team.md#answers-from-chat).
        signing_secret_file = |key| key.path().or_none("required");
        /// Instead: an environment variable with it.
        signing_secret_env = |key| key.text().or_none("none");
        /// Ids of the workspaces whose members may answer.
        team = |key| key.list("list of ids", id, String::clone).or_none("required");
        /// Identities by the ids of the chat's users: `U024BE7LH = "ana@example.com"`.
        users = |key| key.map().or_as("none", BTreeMap::new());
        /// A file with the bot token of the app, to look up the confirmed e-mail address of users that are not named: it is the name
        /// of an identity then. It needs the scopes `users:read` and `users:read.email`.
        api_token_file = |key| key.path().or_none("none");
        /// Base address of the chat's API: https, or http to a loopback address.
        api = |key| key.checked("address", web_address).or(SLACK_API.to_owned());
    }
    if !present {
        return None;
    }
    if signing_secret_file.is_none() && signing_secret_env.is_none() {
        let remedy = "set the app's signing secret: signing_secret_file = \"slack.secret\" (or signing_secret_env)";
        table.broken_rule("signing_secret_file", "is missing", remedy);
    }
    let teams: BTreeSet<String> = team.unwrap_or_default().into_iter().collect();
    if teams.is_empty() {
        let remedy = "name the workspaces whose members may answer: team = [\"T024BE7LD\"]";
        table.broken_rule("team", "it names no workspace", remedy);
    }
    if users.is_empty() && api_token_file.is_none() {
        let remedy = "name users, like U024BE7LH = \"ana@example.com\", or set api_token_file";
        table.broken_rule(
            "users",
            "nobody could answer: no user is named, and none can be looked up",
            remedy,
        );
    }
    let users = users
        .into_iter()
        .filter_map(|(user, name)| named(table, user, &name))
        .collect();
    let api_token = table.secret("api_token", api_token_file, None);
    Some(ChatSettings {
        signing_secret: table.secret("signing_secret", signing_secret_file, signing_secret_env)?,
        teams,
        users,
        api_token,
        api,
        link: link.map(str::to_owned),
    })
}

/// Checks that the policies know of the chat: otherwise a click there would decide whatever its user may decide at the console.
pub(super) fn check_policies(table: &TableSection<'_>, policies: &Policies) {
    let asked = &policies.vocabulary().asks_via;
    for action in [Action::Approve, Action::Extend] {
        if !asked.contains(&action) {
            let name = action.name();
            let reason = format!("no policy about \"{name}\" asks for `context.via`, so every click in the chat would count");
            let remedy = "copy the shipped policies \"only-reading-is-decided-from-chat\" and \"only-reading-is-extended-from-chat\" \
                          (00-everywhere.cedar, with its schema), or write your own; or remove [chat]";
            table.broken_rule("", reason, remedy);
        }
    }
}

fn named(table: &TableSection<'_>, user: String, name: &str) -> Option<(String, IdentityName)> {
    let fault = id(&user)
        .err()
        .or_else(|| name.parse::<IdentityName>().err().map(|error| error.to_string()));
    if let Some(fault) = fault {
        let remedy = "write the id of a user, and the name of an identity, like U024BE7LH = \"ana@example.com\"";
        table.broken_rule("users", fault, remedy);
    }
    Some((user, name.parse().ok()?))
}

/// Checks an id of the chat.
fn id(text: &str) -> Result<String, String> {
    let good = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
    let wrong = || format!("`{text}` is not an id of the chat; write the id, like T024BE7LD or U024BE7LH, and not the name");
    good.then(|| text.to_owned()).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use crate::config::{ConfigMistake, GateSettings, from_text};

    fn load(lines: &str) -> Result<GateSettings, Vec<String>> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("slack.secret"), "8f742231b10e\n").unwrap();
        std::fs::write(dir.path().join("bot.token"), "xoxb-1\n").unwrap();
        let text = format!("[targets.orders]\naddress = \"127.0.0.1:5432\"\nuser = \"orders_app\"\n{lines}");
        let loaded = from_text(&dir.path().join("tidegate.toml"), &text);
        loaded.map_err(|mistakes| mistakes.iter().map(ConfigMistake::to_string).collect())
    }

    const SECRET: &str = "[chat]\nsigning_secret_file = \"slack.secret\"\n";
    const TEAM: &str = "team = [\"T024BE7LD\"]\n";
    const USERS: &str = "[chat.users]\nU024BE7LH = \"lea@example.com\"\n";

    #[test]
    fn users_are_named_or_looked_up() {
        assert_eq!(load("").unwrap().chat, None);
        assert!(!load("").unwrap().notify.buttons);
        let link = "[console]\naddress = \"https://gate.example.org:7433\"\n";
        let settings = load(&format!("{SECRET}{TEAM}{USERS}{link}")).unwrap();
        let chat = settings.chat.clone().unwrap();
        assert!(settings.notify.buttons && !format!("{settings:?}").contains("8f742231b10e"));
        assert_eq!(chat.signing_secret.expose(), "8f742231b10e");
        assert_eq!(chat.users["U024BE7LH"].as_str(), "lea@example.com");
        assert_eq!((chat.api.as_str(), chat.api_token), ("https://slack.com/api", None));
        assert_eq!(chat.link.as_deref(), Some("https://gate.example.org:7433"));
        let looked_up = format!("{SECRET}{TEAM}api_token_file = \"bot.token\"\napi = \"http://127.0.0.1:8065/api\"\n");
        let chat = load(&looked_up).unwrap().chat.unwrap();
        assert_eq!(chat.api_token.unwrap().expose(), "xoxb-1");
    }

    #[test]
    fn a_click_counts_only_where_the_policies_know_of_the_chat() {
        let dir = tempfile::tempdir().unwrap();
        let policies = dir.path().join("policies");
        std::fs::create_dir(&policies).unwrap();
        std::fs::write(dir.path().join("slack.secret"), "8f742231b10e\n").unwrap();
        let schema = include_str!("../../policies/schema.cedarschema");
        // Of a set from before there was a chat.
        let older = schema.replace("    via?: String,\n", "");
        assert_ne!(schema, older);
        let permit = |action: &str| {
            format!(
                "@id(\"{action}\") @max_duration(\"1h\") permit (principal, action == Tidegate::Action::\"{action}\", resource);\n"
            )
        };
        let forbid = |action: &str| {
            format!(
                "@id(\"not-{action}\") forbid (principal, action == Tidegate::Action::\"{action}\", resource) \
                 when {{ context has via && context.via == \"slack\" }};\n"
            )
        };
        let both = permit("approve") + &permit("extend");
        for (schema, set, unasked) in [
            (older.as_str(), both.clone(), &["approve", "extend"][..]),
            (schema, both.clone(), &["approve", "extend"]),
            (schema, both.clone() + &forbid("request"), &["approve", "extend"]),
            (schema, both.clone() + &forbid("approve"), &["extend"]),
            (schema, both.clone() + &forbid("approve") + &forbid("extend"), &[]),
        ] {
            std::fs::write(policies.join("schema.cedarschema"), schema).unwrap();
            std::fs::write(policies.join("a.cedar"), &set).unwrap();
            let text = format!("[targets.orders]\naddress = \"127.0.0.1:5432\"\nuser = \"orders_app\"\n{SECRET}{TEAM}{USERS}");
            let loaded = from_text(&dir.path().join("tidegate.toml"), &text);
            let mistakes: Vec<String> = loaded
                .err()
                .unwrap_or_default()
                .iter()
                .map(ConfigMistake::to_string)
                .collect();
            assert_eq!(mistakes.len(), unasked.len(), "{set}: {mistakes:#?}");
            for (mistake, action) in mistakes.iter().zip(unasked) {
                assert!(
                    mistake.contains(&format!("chat: no policy about \"{action}\"")) && mistake.contains("or remove [chat]"),
                    "{mistake}"
                );
            }
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let named = |users: &str| format!("{SECRET}{TEAM}[chat.users]\n{users}\n");
        for (lines, words) in [
            (format!("[chat]\n{TEAM}{USERS}"), "chat.signing_secret_file: is missing"),
            (format!("{SECRET}{USERS}"), "chat.team: it names no workspace"),
            (format!("{SECRET}team = []\n{USERS}"), "chat.team: it names no workspace"),
            (
                format!("{SECRET}team = [\"example\"]\n{USERS}"),
                "`example` is not an id of the chat",
            ),
            (format!("{SECRET}{TEAM}"), "chat.users: nobody could answer"),
            (named("lea = \"lea@example.com\""), "`lea` is not an id of the chat"),
            (named("U024BE7LH = \" lea\""), "must not begin or end with a space"),
            (named("U024BE7LH = 7"), "whose values are strings"),
            (
                format!("{SECRET}{TEAM}api = \"http://chat.example.org\"\n{USERS}"),
                "it is not encrypted",
            ),
            (format!("{SECRET}{TEAM}api_token_file = \"nowhere\"\n"), "cannot read"),
            (
                format!("{SECRET}{TEAM}signing_secret = \"x\"\n{USERS}"),
                "secrets are not allowed in this file",
            ),
        ] {
            let mistakes = load(&lines).expect_err(&lines);
            assert!(
                mistakes.iter().any(|mistake| mistake.contains(words)),
                "{lines}: {mistakes:?}"
            );
        }
    }
}
