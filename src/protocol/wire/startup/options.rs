//! Parser of the startup parameter `options`: command-line switches for the server, as text.
//!
//! It reads only switches that set a setting (`-c name=value`, `--name=value`), and does not check the setting.
//!
//! INVARIANT: the text is split as PostgreSQL does (pg_split_opts in src/backend/utils/init/postinit.c); a switch of any other
//! kind is refused, never skipped.

use super::StartupError;

/// Error of `options` that cannot be parsed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// A word other than `-c` and `--name`.
    #[error("a startup packet with the command-line switch {word:?} in options")]
    Switch {
        /// Switch as sent.
        word: String,
    },
    /// A setting without `=`, without a name, or `-c` as the last word.
    #[error("a startup packet with a setting in options that is not name=value: {word:?}")]
    NotNameValue {
        /// Text in the place of the setting.
        word: String,
    },
}

/// Splits `text` and calls `set` with each name and value, in order.
pub(super) fn parse(text: &str, mut set: impl FnMut(String, String) -> Result<(), StartupError>) -> Result<(), StartupError> {
    let not_name_value = |word: String| OptionsError::NotNameValue { word };
    let mut words = OptionWords(text.chars());
    while let Some(word) = words.next() {
        let assignment = if let Some(long) = word.strip_prefix("--") {
            long.to_owned()
        } else if let Some(rest) = word.strip_prefix("-c") {
            if rest.is_empty() {
                words.next().ok_or_else(|| not_name_value(word.clone()))?
            } else {
                rest.to_owned()
            }
        } else {
            return Err(OptionsError::Switch { word }.into());
        };
        let Some((name, value)) = assignment.split_once('=').filter(|(name, _)| !name.is_empty()) else {
            return Err(not_name_value(assignment).into());
        };
        // ParseLongOption (src/backend/utils/misc/guc.c): dashes in the name are underscores.
        set(name.replace('-', "_"), value.to_owned())?;
    }
    Ok(())
}

/// Iterator over words between white space. A backslash takes the next character literally; at the end it is dropped.
struct OptionWords<'a>(std::str::Chars<'a>);

impl Iterator for OptionWords<'_> {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let mut word: Option<String> = None;
        while let Some(letter) = self.0.next() {
            match letter {
                '\\' => {
                    let word = word.get_or_insert_default();
                    word.extend(self.0.next());
                }
                _ if space(letter) => {
                    if word.is_some() {
                        break;
                    }
                }
                _ => word.get_or_insert_default().push(letter),
            }
        }
        word
    }
}

/// Returns true for white space as C's isspace in the C locale defines it.
fn space(letter: char) -> bool {
    matches!(letter, ' ' | '\t' | '\n' | '\x0b' | '\x0c' | '\r')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<Vec<(String, String)>, StartupError> {
        let mut settings = Vec::new();
        parse(text, |name, value| {
            settings.push((name, value));
            Ok(())
        })?;
        Ok(settings)
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn reads_the_three_forms() {
        assert_eq!(
            read(" -c a=b\t-cc=d  --e-f=g=h\n").unwrap(),
            pairs(&[("a", "b"), ("c", "d"), ("e_f", "g=h")])
        );
        assert_eq!(read("").unwrap(), vec![]);
        assert_eq!(read("  ").unwrap(), vec![]);
    }

    #[test]
    fn a_backslash_keeps_the_next_character() {
        assert_eq!(read(r"-c a=b\ c\\d").unwrap(), pairs(&[("a", r"b c\d")]));
        assert_eq!(read(r"-c a=\").unwrap(), pairs(&[("a", "")]));
    }

    #[test]
    fn refuses_what_is_not_a_setting() {
        for text in ["-e", "-d 5", "x", "-", "-F -c a=b", r"\ -c a=b"] {
            assert!(
                matches!(read(text), Err(StartupError::Options(OptionsError::Switch { .. }))),
                "{text}"
            );
        }
        for text in ["-c", "-c=", "-c =x", "--=x", "--", "-c a", "--a", "-c -c"] {
            assert!(
                matches!(read(text), Err(StartupError::Options(OptionsError::NotNameValue { .. }))),
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn what_is_quoted_is_read_back(name in "[a-z]{1,8}", value in any::<String>()) {
            let mut quoted = String::new();
            for letter in value.chars() {
                if letter == '\\' || space(letter) {
                    quoted.push('\\');
                }
                quoted.push(letter);
            }
            prop_assert_eq!(read(&format!("-c {name}={quoted}")).unwrap(), vec![(name, value)]);
        }

        #[test]
        fn any_text_does_not_panic(text in any::<String>()) {
            let _ = read(&text);
        }
    }
}
