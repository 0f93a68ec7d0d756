//! `targets.NAME.profiles`: profiles of a target, as plain names or with rights, masks and guard rails.
//!
//! It only parses them; `rights` and `rails` give them their meaning.

use std::fmt::Display;

use super::key::keys;
use super::reader::{OwnValue, TableSection};
use crate::database::copy::{CopySource, CopyStrategy};
use crate::database::rights::{
    ColumnMask, MAX_NAME_BYTES, MaskedTable, NameGlob, Pattern, Rights, RoleName, literal, profile_role,
};
use crate::gate::sql_filter::{FilterRules, SqlFilter};
use crate::model::line::UseMode;
use crate::model::names::{ProfileName, TargetName};

/// Profile of a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileSettings {
    /// Name of the profile.
    pub name: ProfileName,
    /// Rights at the database. `None` means that the profile is only a name, and sessions have the rights of the target's own
    /// account.
    pub rights: Option<Rights>,
    /// Guard rails.
    pub rails: Option<FilterRules>,
    /// Settings of its sessions (`statement_timeout`), in the order of the file, as values without quotes.
    pub settings: Vec<(String, String)>,
    /// Tables whose changed rows are captured.
    pub capture: Vec<Pattern>,
    /// Connection limit of one grant's role; if absent, the number of sessions of the grant.
    pub connection_limit: Option<u32>,
    /// Way in which its grants use the target beside others.
    pub exclusive: UseMode,
    /// Template of the databases of its grants; `None`: its sessions are in the target's.
    pub copy: Option<CopySource>,
}

impl ProfileSettings {
    /// Returns a profile that is only a name.
    fn named(name: ProfileName) -> Self {
        Self {
            name,
            rights: None,
            rails: None,
            settings: Vec::new(),
            capture: Vec::new(),
            connection_limit: None,
            exclusive: UseMode::Shared,
            copy: None,
        }
    }

    /// Returns the way in which grants of the profile use the target: those with a database of their own are beside all others.
    #[must_use]
    pub fn use_mode(&self) -> UseMode {
        if self.copy.is_some() { UseMode::Apart } else { self.exclusive }
    }

    /// Returns the schema with the profile's masking views at a target, if it has masks. It comes first in the search path, so
    /// that an unqualified name means the view.
    #[must_use]
    pub fn views(&self, target: &TargetName) -> Option<RoleName> {
        let rights = self.rights.as_ref()?;
        (!rights.masks.is_empty()).then(|| profile_role(target, &self.name))
    }
}

const EXCLUSIVE: &[(&str, UseMode)] = &[("no", UseMode::Shared), ("write", UseMode::Write), ("all", UseMode::All)];

const STRATEGIES: &[(&str, CopyStrategy)] = &[
    ("auto", CopyStrategy::Auto),
    ("wal_log", CopyStrategy::WalLog),
    ("file_copy", CopyStrategy::FileCopy),
    ("clone", CopyStrategy::Clone),
];

/// Settings that a profile may not set, since they would replace the role of the grant.
const NOT_SETTABLE: &[&str] = &["role", "session_authorization"];

/// Reads `profiles` of a target: at least one, without duplicates.
pub(super) fn read(table: &TableSection<'_>) -> Vec<ProfileSettings> {
    let profiles = if table.is_table("profiles") {
        table.each("profiles", defined).into_iter().flatten().collect()
    } else {
        let default = || "default".parse().into_iter().collect();
        keys! { table;
            /// The profiles that can be asked for, the narrowest first: names, or tables that say
            /// [what each may do](least-privilege.md).
            profiles = |key| key.list("list of names, or tables", str::parse, ProfileName::to_string).or(default());
        }
        named(table, profiles)
    };
    if profiles.is_empty() {
        let remedy = "list profiles, the narrowest first, or remove the key";
        table.mistake_at("profiles", "the list of profiles is empty", remedy);
    }
    profiles
}

fn named(table: &TableSection<'_>, names: Vec<ProfileName>) -> Vec<ProfileSettings> {
    let twice = |(i, name): &(usize, &ProfileName)| names.iter().take(*i).any(|earlier| earlier == *name);
    if let Some((_, name)) = names.iter().enumerate().find(twice) {
        table.mistake_at("profiles", format!("\"{name}\" is listed twice"), "remove one");
    }
    names.into_iter().map(ProfileSettings::named).collect()
}

/// Reads `[targets.NAME.profiles.NAME]`.
fn defined(name: &str, table: &TableSection<'_>) -> Option<ProfileSettings> {
    let name = name
        .parse::<ProfileName>()
        .map_err(|error| table.mistake_at("", error.to_string(), ""))
        .ok();
    let rails = table
        .is_table("rails")
        .then(|| table.within("rails", |rails| self::rails(rails, name.as_ref())));
    let hidden = |key| table.key(key, "");
    let read = ProfileSettings {
        rights: Some(rights(table)),
        rails,
        settings: settings(table),
        capture: patterns(table, "capture", |text| {
            Pattern::without_columns(text, "rows are captured whole")
        }),
        connection_limit: hidden("connection_limit").number(1, i32::MAX.unsigned_abs()).or_none(""),
        exclusive: hidden("exclusive").one_of(EXCLUSIVE).or(UseMode::Shared),
        copy: copy(table),
        name: name?,
    };
    if read.copy.is_some() && read.exclusive.is_exclusive() {
        table.mistake_at(
            "exclusive",
            "each grant of this profile has a database of its own (copy_of)",
            "remove one of the two",
        );
    }
    Some(read)
}

/// Reads `copy_of` and `copy_strategy`.
fn copy(table: &TableSection<'_>) -> Option<CopySource> {
    let template = table.key("copy_of", "").text().or_none("");
    let strategy = table.key("copy_strategy", "").one_of(STRATEGIES).or_none("");
    let Some(template) = template else {
        if strategy.is_some() {
            table.mistake_at(
                "copy_strategy",
                "it has no effect without copy_of",
                "set the template too, or remove it",
            );
        }
        return None;
    };
    if template.is_empty() || template.contains('\0') || template.len() > MAX_NAME_BYTES {
        table.mistake_at("copy_of", "expected the name of a database, of 1 to 63 bytes", "");
        return None;
    }
    Some(CopySource {
        template,
        strategy: strategy.unwrap_or(CopyStrategy::Auto),
    })
}

fn rights(table: &TableSection<'_>) -> Rights {
    let hidden = |key| table.key(key, "");
    let globs = |key| hidden(key).list("", str::parse, NameGlob::to_string).or_none("");
    let tables = |key| patterns(table, key, str::parse);
    let plain = |key, what| patterns(table, key, |text| Pattern::without_columns(text, what));
    let rights = Rights {
        select: tables("select"),
        insert: tables("insert"),
        update: tables("update"),
        delete: patterns(table, "delete", |text| {
            Pattern::without_columns(text, "rows are deleted whole")
        }),
        truncate: plain("truncate", "tables are emptied whole"),
        references: tables("references"),
        trigger: plain("trigger", "triggers belong to whole tables"),
        maintain: plain("maintain", "tables are maintained whole"),
        usage: plain("usage", "sequences have none"),
        sequence_select: plain("sequence_select", "sequences have none"),
        sequence_update: plain("sequence_update", "sequences have none"),
        execute: plain("execute", "functions are selected by name"),
        schemas: globs("schemas"),
        create: globs("create").unwrap_or_default(),
        owner: hidden("owner").text().or_none(""),
        future: hidden("future").yes_no().or(false),
        masks: masks(table),
    };
    if rights.owner.is_some() && rights.create.is_empty() {
        let remedy = "set the schemas, like create = [\"scratch\"], or remove owner";
        table.mistake_at("owner", "the profile may not create objects", remedy);
    }
    let nothing = Rights {
        future: rights.future,
        owner: rights.owner.clone(),
        ..Rights::default()
    };
    if rights == nothing {
        table.mistake_at("", "it grants no rights; add some, like select = [\"public.*\"]", "");
    }
    rights
}

fn patterns<E: Display>(table: &TableSection<'_>, key: &'static str, read: impl Fn(&str) -> Result<Pattern, E>) -> Vec<Pattern> {
    let patterns = table.key(key, "").list("", read, Pattern::to_string).or(Vec::new());
    if !patterns.is_empty() && patterns.iter().all(|pattern| pattern.excludes) {
        let remedy = format!("add an inclusion first: {key} = [\"shop.*\", \"!shop.cards\"]");
        table.mistake_at(key, "it has only exclusions, so it selects nothing", &remedy);
    }
    patterns
}

fn settings(table: &TableSection<'_>) -> Vec<(String, String)> {
    let mut settings = Vec::new();
    for (name, value) in table.own("settings") {
        let wrong = |reason: String, remedy: &str| table.mistake_at(&format!("settings.{name}"), reason, remedy);
        let fit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
        match value {
            _ if name.is_empty() || !name.chars().all(fit) => {
                wrong(
                    "it is not the name of a setting".to_owned(),
                    "write a name like statement_timeout",
                );
            }
            _ if NOT_SETTABLE.contains(&name.to_ascii_lowercase().as_str()) => {
                wrong("only the gate may set it".to_owned(), "remove it");
            }
            OwnValue::Text(value) if !value.contains('\0') => settings.push((name, value)),
            OwnValue::Text(_) => wrong("the value contains a zero byte".to_owned(), "remove it"),
            OwnValue::Table(_) => wrong("expected a value, found a table".to_owned(), "quote names that contain a dot"),
            OwnValue::Other(kind) => wrong(format!("expected a value, found {kind}"), "write it as a string in quotes"),
        }
    }
    settings
}

fn masks(table: &TableSection<'_>) -> Vec<MaskedTable> {
    let mut masks: Vec<MaskedTable> = Vec::new();
    for (text, value) in table.own("mask") {
        let key = format!("mask.{text}");
        let wrong = |reason: String, remedy: &str| table.mistake_at(&key, reason, remedy);
        let OwnValue::Table(columns) = value else {
            let remedy = "write \"shop.cards\" = { pan = \"partial\" }";
            wrong("expected the columns of a table".to_owned(), remedy);
            continue;
        };
        let Ok((schema, name)) = literal(&text) else {
            wrong("it is not the name of one table".to_owned(), "write it like \"shop.cards\"");
            continue;
        };
        if let Some(other) = masks.iter().find(|other| other.name == name) {
            // The views of all masked tables share a schema.
            let reason = format!(
                "its view would have the same name as the view of {}.{}",
                other.schema, other.name
            );
            wrong(reason, "mask one of them, and exclude the other");
            continue;
        }
        let columns = columns
            .into_iter()
            .filter_map(|(column, value)| mask(table, &key, &column, value));
        let columns: Vec<(String, ColumnMask)> = columns.collect();
        if columns.is_empty() {
            let remedy = "mask at least one, like { pan = \"partial\" }, or remove the table";
            wrong("no column is masked".to_owned(), remedy);
        }
        masks.push(MaskedTable { schema, name, columns });
    }
    masks
}

/// Parses `pan = "partial"` or `cvv = { constant = "***" }`.
fn mask(table: &TableSection<'_>, key: &str, column: &str, value: OwnValue) -> Option<(String, ColumnMask)> {
    let mask = match value {
        OwnValue::Text(word) => match word.as_str() {
            "partial" => Ok(ColumnMask::Partial),
            "hash" => Ok(ColumnMask::Hash),
            "null" => Ok(ColumnMask::Null),
            _ => Err(format!("unknown mask \"{word}\"")),
        },
        OwnValue::Table(entries) => match <[_; 1]>::try_from(entries) {
            Ok([(name, OwnValue::Text(text))]) if name == "constant" => Ok(ColumnMask::Constant(text)),
            _ => Err("a table is allowed only for a constant".to_owned()),
        },
        OwnValue::Other(kind) => Err(format!("expected a mask, found {kind}")),
    };
    let wrong = |reason: String| {
        let remedy = "write \"partial\", \"hash\", \"null\" or { constant = \"***\" }";
        table.mistake_at(&format!("{key}.{column}"), reason, remedy);
    };
    Some((column.to_owned(), mask.map_err(wrong).ok()?))
}

/// Reads the `rails` of a profile.
fn rails(table: &TableSection<'_>, profile: Option<&ProfileName>) -> FilterRules {
    let hidden = |key| table.key(key, "");
    let unknown = hidden("unknown").one_of(&[("refuse", true), ("allow", false)]).or_none("");
    let statements = hidden("statements").texts().or_none("");
    let need_where = hidden("need_where").yes_no().or(false);
    let deny_tables = hidden("deny_tables").texts().or(Vec::new());
    let rules = FilterRules {
        // A statement that cannot be parsed may break any of the rules, so refuse it by default if there is one.
        refuse_unknown: unknown.unwrap_or(statements.is_some() || need_where || !deny_tables.is_empty()),
        statements,
        need_where,
        deny_tables,
        max_sql_bytes: hidden("max_sql_bytes").number(1, u32::MAX).or_none(""),
        refuse_unloggable: hidden("refuse_unloggable").yes_no().or(true),
    };
    if let Some(Err(mistake)) = profile.map(|profile| SqlFilter::new(&rules, profile.clone())) {
        table.mistake_at("", mistake.to_string(), "");
    }
    rules
}
