//! Values of settings as SQL, and lists of names in them.
//!
//! It sets nothing. INVARIANT: no element of a list is lost, and none becomes another.

use crate::database::rights::{RoleName, quoted, quoted_text};

/// Returns a setting's value as SQL. A list is written element by element, because one text would be one element
/// (`GUC_LIST_QUOTE`, src/backend/utils/misc/guc_tables.c; these four settings are all that have it).
pub(super) fn setting(name: &str, value: &str) -> String {
    let lists = [
        "\"search_path\"",
        "\"temp_tablespaces\"",
        "\"local_preload_libraries\"",
        "\"session_preload_libraries\"",
    ];
    if !lists.contains(&name.to_ascii_lowercase().as_str()) {
        return quoted_text(value);
    }
    let elements = elements(value).into_iter();
    elements
        .map(|element| quoted_text(&element.text))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Returns a path with the views in front. As in PostgreSQL, only quoted names keep their capitals.
pub(super) fn behind(views: &RoleName, path: &str) -> String {
    let rest = elements(path).into_iter().filter(|element| !element.text.is_empty());
    let rest = rest.map(|element| {
        if element.in_quotes {
            quoted(&element.text)
        } else {
            quoted(&element.text.to_ascii_lowercase())
        }
    });
    std::iter::once(views.quoted()).chain(rest).collect::<Vec<_>>().join(", ")
}

/// Element of a list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Element {
    /// Text without its quotes.
    text: String,
    in_quotes: bool,
}

impl Element {
    fn trimmed(mut self) -> Self {
        if !self.in_quotes {
            self.text = self.text.trim().to_owned();
        }
        self
    }
}

/// Parses the elements of a list; one in double quotes may contain commas and quotes (`SplitIdentifierString`,
/// utils/adt/varlena.c).
fn elements(list: &str) -> Vec<Element> {
    let (mut elements, mut element, mut within) = (Vec::new(), Element::default(), false);
    let mut characters = list.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if within && characters.next_if_eq(&'"').is_some() => element.text.push('"'),
            '"' => {
                within = !within;
                if !std::mem::replace(&mut element.in_quotes, true) {
                    element.text.clear();
                }
            }
            ',' if !within => elements.push(std::mem::take(&mut element).trimmed()),
            other if within || !element.in_quotes => element.text.push(other),
            _ => {}
        }
    }
    elements.push(element.trimmed());
    elements
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_written_element_by_element() {
        assert_eq!(
            setting("\"search_path\"", r#"masked, "$user",public"#),
            "'masked', '$user', 'public'"
        );
        assert_eq!(setting("\"work_mem\"", "16MB"), "'16MB'");
        assert_eq!(
            setting("\"statement_timeout\"", "'; DROP TABLE t; --"),
            "'''; DROP TABLE t; --'"
        );
    }

    #[test]
    fn elements_are_what_postgresql_takes_them_for() {
        for (list, meant) in [
            ("app, public", &["app", "public"][..]),
            ("\"$user\",public", &["$user", "public"]),
            ("$user, public", &["$user", "public"]),
            (" \"a, b\" , c", &["a, b", "c"]),
            ("\"say \"\"hi\"\"\", x", &["say \"hi\"", "x"]),
            ("\"\"", &[""]),
            ("", &[""]),
        ] {
            let found: Vec<String> = elements(list).into_iter().map(|element| element.text).collect();
            assert_eq!(found, meant, "{list}");
        }
    }

    #[test]
    fn the_views_come_first_and_nothing_is_lost() {
        let views = RoleName::found("tg_shop_masked");
        assert_eq!(behind(&views, "app, \"$user\""), "\"tg_shop_masked\", \"app\", \"$user\"");
        assert_eq!(behind(&views, "\"\""), "\"tg_shop_masked\"");
        assert_eq!(behind(&views, "App, \"App\""), "\"tg_shop_masked\", \"app\", \"App\"");
    }
}
