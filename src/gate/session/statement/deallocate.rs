//! Name of the prepared statement that an SQL text deallocates, if the text does nothing else.
//!
//! It only serves to free memory, so it accepts only unambiguous texts: a wrong name would hide another statement's text.

/// Maximum length of a name that the server does not cut, in bytes (`NAMEDATALEN`).
const MAX_NAME_BYTES: usize = 63;

/// Returns the name in `DEALLOCATE [PREPARE] name`; `None` if there is more, or anything ambiguous.
pub(in crate::gate::session) fn deallocated(text: &[u8]) -> Option<Box<[u8]>> {
    let text = str::from_utf8(text).ok().filter(|text| text.is_ascii())?;
    let text = text.trim_matches([' ', '\n', '\r', '\t']);
    let text = text.strip_suffix(';').unwrap_or(text).trim_end();
    let mut rest = behind(text, "deallocate")?;
    if let Some(name) = behind(rest, "prepare") {
        rest = name;
    }
    let name = if let Some(quoted) = rest.strip_prefix('"') {
        quoted
            .strip_suffix('"')
            .filter(|name| !name.contains(['"', '\\']))?
            .to_owned()
    } else {
        let first = rest.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '_');
        let plain = first && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        Some(rest.to_ascii_lowercase()).filter(|name| plain && name != "all" && name != "prepare")?
    };
    (1..=MAX_NAME_BYTES).contains(&name.len()).then(|| name.into_bytes().into())
}

/// Returns the text after a word and the space that follows it.
fn behind<'t>(text: &'t str, word: &str) -> Option<&'t str> {
    let (start, rest) = text.split_at_checked(word.len())?;
    let spaced = rest.starts_with([' ', '\n', '\r', '\t']);
    (start.eq_ignore_ascii_case(word) && spaced).then(|| rest.trim_start())
}

#[cfg(test)]
mod tests {
    use super::deallocated;

    #[test]
    fn only_a_name_that_leaves_no_doubt() {
        for (text, name) in [
            ("DEALLOCATE a", Some("a")),
            (" deallocate  Prepare A_1 ;\n", Some("a_1")),
            ("DEALLOCATE \"_pg3_1\"", Some("_pg3_1")),
            ("deallocate \"Mixed Case\"", Some("Mixed Case")),
            ("DEALLOCATE ALL", None),
            ("DEALLOCATE PREPARE ALL", None),
            ("DEALLOCATE", None),
            ("DEALLOCATE a; SELECT 1", None),
            ("DEALLOCATE a -- b", None),
            ("DEALLOCATE/**/a", None),
            ("DEALLOCATE U&\"a\"", None),
            ("DEALLOCATE \"a\"\"b\"", None),
            ("DEALLOCATE \"a\"; SELECT \"b\"", None),
            ("SELECT 'DEALLOCATE a'", None),
            ("DEALLOCATE é", None),
            ("DEALLOCATE \"\"", None),
        ] {
            assert_eq!(deallocated(text.as_bytes()).as_deref(), name.map(str::as_bytes), "{text}");
        }
    }
}
