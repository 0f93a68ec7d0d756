//! Descriptions of profiles in words, for requesters and approvers.
//!
//! They follow the configuration; `target status` shows whether the database agrees with it.

use std::fmt::Display;

use super::profiles::ProfileSettings;
use crate::access::ProfileWords;
use crate::database::rights::{ColumnMask, Rights};
use crate::gate::sql_filter::FilterRules;
use crate::model::line::UseMode;

impl ProfileSettings {
    /// Returns the description of the profile.
    #[must_use]
    pub fn words(&self) -> ProfileWords {
        let mut may = self.rights.as_ref().map_or_else(unknown, may);
        may.extend(
            self.copy
                .as_ref()
                .map(|copy| format!("work in a copy of {}, dropped with the grant", copy.template)),
        );
        may.extend(match self.exclusive {
            UseMode::Write => Some("work as the only one who writes; others wait in line".to_owned()),
            UseMode::All => Some("work alone; all others wait in line".to_owned()),
            UseMode::Shared | UseMode::Apart => None,
        });
        ProfileWords {
            may,
            masks: self.rights.as_ref().map(masks).unwrap_or_default(),
            rails: self.rails.as_ref().map(rails).unwrap_or_default(),
        }
    }
}

fn unknown() -> Vec<String> {
    vec!["everything that the target's account may do: the profile defines no rights".to_owned()]
}

fn may(rights: &Rights) -> Vec<String> {
    let parts = [
        ("read", listed(&rights.select)),
        ("insert into", listed(&rights.insert)),
        ("update", listed(&rights.update)),
        ("delete from", listed(&rights.delete)),
        ("empty", listed(&rights.truncate)),
        ("reference by foreign keys", listed(&rights.references)),
        ("create triggers on", listed(&rights.trigger)),
        ("vacuum, analyze and reindex", listed(&rights.maintain)),
        ("use sequences", listed(&rights.usage)),
        ("read sequences", listed(&rights.sequence_select)),
        ("set sequences", listed(&rights.sequence_update)),
        ("call", listed(&rights.execute)),
        ("create objects in", listed(&rights.create)),
    ];
    let mut may: Vec<String> = parts
        .into_iter()
        .filter_map(|(verb, what)| Some(format!("{verb} {}", what?)))
        .collect();
    if rights.future {
        may.push("the same on objects created later".to_owned());
    }
    may
}

fn masks(rights: &Rights) -> Vec<String> {
    let shown = |mask: &ColumnMask| match mask {
        ColumnMask::Partial => "last characters only".to_owned(),
        ColumnMask::Hash => "a salted hash".to_owned(),
        ColumnMask::Null => "nothing".to_owned(),
        ColumnMask::Constant(text) => format!("always '{text}'"),
    };
    let columns = rights.masks.iter().flat_map(|table| {
        let name = format!("{}.{}", table.schema, table.name);
        table
            .columns
            .iter()
            .map(move |(column, mask)| format!("{name}.{column}: {}", shown(mask)))
    });
    columns.collect()
}

fn rails(rules: &FilterRules) -> Vec<String> {
    let mut said = Vec::new();
    if let Some(kinds) = &rules.statements {
        let (refused, allowed): (Vec<_>, Vec<_>) = kinds.iter().partition(|kind| kind.starts_with('!'));
        if !allowed.is_empty() {
            said.extend(listed(&allowed).map(|kinds| format!("only these statements: {kinds}")));
        }
        let refused: Vec<_> = refused.iter().map(|kind| kind.trim_start_matches('!')).collect();
        said.extend(listed(&refused).map(|kinds| format!("not these statements: {kinds}")));
    }
    if rules.need_where {
        said.push("UPDATE and DELETE only with a WHERE".to_owned());
    }
    said.extend(listed(&rules.deny_tables).map(|tables| format!("no statements that name {tables}")));
    if let Some(bytes) = rules.max_sql_bytes {
        said.push(format!("no statements longer than {bytes} bytes"));
    }
    if rules.refuse_unknown {
        said.push("no statements that cannot be parsed".to_owned());
    }
    said
}

/// Joins names with commas; `None` if there are none.
fn listed<T: Display>(names: &[T]) -> Option<String> {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

#[cfg(test)]
mod tests {
    use crate::config::from_text;

    #[test]
    fn a_profile_reads_like_one() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("orders.password"), "s3cret\n").unwrap();
        let text = r#"
[targets.orders]
address = "127.0.0.1:5432"
user = "gate"
[targets.orders.profiles.read-only]
select = ["public.*", "!public.secrets"]
mask = { "public.cards" = { number = "partial", holder = { constant = "***" } } }
[targets.orders.profiles.read-only.rails]
statements = ["select"]
need_where = true
deny_tables = ["public.secrets"]
[targets.names]
address = "127.0.0.1:5432"
user = "gate"
profiles = ["default"]
password_file = "orders.password"
"#;
        let settings = from_text(&folder.path().join("tidegate.toml"), text).unwrap();
        let words = |target: usize| settings.targets[target].profiles[0].words();
        let all: Vec<_> = settings
            .targets
            .iter()
            .map(|target| target.upstream.name.to_string())
            .collect();
        assert_eq!(all, ["orders", "names"]);
        let orders = words(0);
        assert_eq!(orders.may, ["read public.*, !public.secrets"]);
        let mut masks = orders.masks.clone();
        masks.sort();
        assert_eq!(
            masks,
            [
                "public.cards.holder: always '***'",
                "public.cards.number: last characters only"
            ]
        );
        assert_eq!(
            orders.rails,
            [
                "only these statements: select",
                "UPDATE and DELETE only with a WHERE",
                "no statements that name public.secrets",
                "no statements that cannot be parsed",
            ]
        );
        assert!(words(1).may[0].contains("defines no rights"));
    }
}
