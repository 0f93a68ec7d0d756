//! `search_path` of a session, with the views of its profile in front.
//!
//! It runs no statement itself. INVARIANT: no element of the path that holds without masks is lost.

use crate::database::rights::{RoleName, quoted, quoted_text};

/// Statement that returns the initial `search_path` of sessions in a database without a setting for their role
/// (`process_settings`, utils/init/postinit.c): the setting of the database, of all roles, or of the server. The last is the
/// initial value of the asking session itself, unless a setting for it alone overrides that.
///
/// A setting for the profile's role is ignored: any session of the profile may change it (`ALTER ROLE CURRENT_USER`), and it
/// would redirect the sessions of others.
const EFFECTIVE: &str = "
    WITH said AS (
        SELECT substr(c.setting, 13) AS path, s.setdatabase, s.setrole
        FROM pg_db_role_setting AS s CROSS JOIN unnest(s.setconfig) AS c (setting) WHERE c.setting LIKE 'search_path=%')
    SELECT coalesce(
        (SELECT path FROM said
         WHERE setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = $database)) AND setrole = 0
         ORDER BY setdatabase <> 0 DESC LIMIT 1),
        (SELECT CASE WHEN EXISTS (
            SELECT FROM said
            WHERE setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
              AND setrole IN (0, (SELECT oid FROM pg_roles WHERE rolname = current_user)))
            THEN boot_val ELSE reset_val END
         FROM pg_settings WHERE name = 'search_path'))";

pub(super) fn effective(database: &str) -> String {
    EFFECTIVE.replace("$database", &quoted_text(database))
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
pub(super) struct Element {
    /// Text without its quotes.
    pub(super) text: String,
    in_quotes: bool,
}

/// Parses the elements of a list; one in double quotes may contain commas and quotes (`SplitIdentifierString`,
/// utils/adt/varlena.c).
pub(super) fn elements(list: &str) -> Vec<Element> {
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
            ',' if !within => elements.push(trimmed(std::mem::take(&mut element))),
            other if within || !element.in_quotes => element.text.push(other),
            _ => {}
        }
    }
    elements.push(trimmed(element));
    elements
}

fn trimmed(element: Element) -> Element {
    if element.in_quotes {
        return element;
    }
    Element {
        text: element.text.trim().to_owned(),
        ..element
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
