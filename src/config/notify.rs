//! `[notify]`: its values as written, and the settings made from them.
//!
//! It sends no notification.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::checker::SettingsChecker;
use super::reader::TableSection;
use crate::base::secret::Secret;
use crate::base::tls::web_address;
use crate::outbound::notify::{EventKind, MessageFormat, NotifySettings, Webhook};

/// Values of `[notify]`.
#[derive(Debug)]
pub(super) struct NotifyTable {
    link: Option<String>,
    webhooks: Vec<HookTable>,
}

/// Values of `[[notify.webhooks]]`.
#[derive(Debug)]
struct HookTable {
    place: String,
    name: String,
    url: Option<Secret<String>>,
    url_file: Option<PathBuf>,
    secret_file: Option<PathBuf>,
    secret_env: Option<String>,
    format: MessageFormat,
    events: BTreeSet<EventKind>,
}

const FORMATS: &[(&str, MessageFormat)] = &[("json", MessageFormat::Json), ("slack", MessageFormat::Slack)];

pub(super) fn read(table: &TableSection<'_, '_>) -> NotifyTable {
    NotifyTable {
        link: table.parsed("link", |text| web_address(text).map(|_| text.to_owned())),
        webhooks: table.tables("webhooks", webhook).into_iter().flatten().collect(),
    }
}

fn webhook(table: &TableSection<'_, '_>) -> Option<HookTable> {
    let name = table.required("name", "set a name, for messages about it: name = \"qa-channel\"");
    let words: Vec<_> = EventKind::ALL.iter().map(|event| (event.as_str(), *event)).collect();
    let read = HookTable {
        place: table.place().to_owned(),
        url: table.text("url").map(Secret::new),
        url_file: table.path("url_file"),
        secret_file: table.path("secret_file"),
        secret_env: table.text("secret_env"),
        format: table.one_of("format", FORMATS).unwrap_or(MessageFormat::Json),
        events: table
            .some_of("events", &words)
            .unwrap_or_else(|| EventKind::usual().collect())
            .into_iter()
            .collect(),
        name: name?,
    };
    Some(read)
}

/// Returns the webhooks, each with a permitted address and a secret.
pub(super) fn check(checker: &mut SettingsChecker<'_>, table: &NotifyTable) -> NotifySettings {
    let mut names = BTreeSet::new();
    let mut hooks = Vec::new();
    for webhook in &table.webhooks {
        if !names.insert(&webhook.name) {
            let key = format!("{}.name", webhook.place);
            checker.note(
                &key,
                format!("two webhooks are named {}", webhook.name),
                "use different names",
            );
        }
        hooks.extend(hook(checker, webhook));
    }
    NotifySettings {
        hooks,
        link: table.link.clone(),
    }
}

fn hook(checker: &mut SettingsChecker<'_>, table: &HookTable) -> Option<Webhook> {
    let at = |key: &str| format!("{}.{key}", table.place);
    let (url, key) = match (&table.url, &table.url_file) {
        (Some(url), None) => (Some(url.clone()), at("url")),
        (None, Some(file)) => (checker.secret(&table.place, "url", Some(file), None), at("url_file")),
        (Some(_), Some(_)) => {
            checker.note(&at("url_file"), "url is set too", "remove one");
            return None;
        }
        (None, None) => {
            checker.note(
                &at("url"),
                "is missing",
                "set url, or url_file if the address itself is secret",
            );
            return None;
        }
    };
    if let Some(reason) = url.as_ref().and_then(|url| web_address(url.expose()).err()) {
        checker.note(&key, reason, "");
    }
    if table.events.is_empty() {
        checker.note(
            &at("events"),
            "it has no events",
            "list events, or remove the key for all events",
        );
    }
    if table.secret_file.is_none() && table.secret_env.is_none() {
        let remedy = "set the secret that signs messages: secret_file = \"webhook.secret\" (or secret_env)";
        checker.note(&at("secret_file"), "is missing", remedy);
    }
    let secret = checker.secret(&table.place, "secret", table.secret_file.as_ref(), table.secret_env.as_ref());
    Some(Webhook {
        name: table.name.clone(),
        url: url?,
        secret: secret?,
        format: table.format,
        events: table.events.clone(),
    })
}
