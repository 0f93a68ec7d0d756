//! Patterns that name tables, columns, sequences and functions: `shop.*`, `!shop.cards`, `shop.cards(id, last4)`.
//!
//! They do not know the existing objects. INVARIANT: an exclusion removes what other patterns grant, regardless of order; only a
//! pattern that names one table without wildcards and lists its columns grants these in spite of it.
//!
//! Names are written as in SQL: a name in double quotes is taken literally, others are folded to lower case.

use std::fmt;
use std::str::FromStr;

/// Error of a text that is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// The pattern has no schema, or more parts than schema and name.
    #[error("`{0}` is not a schema and an object; write it like shop.orders, shop.* or *.orders")]
    Parts(String),
    /// The text is not the name of a schema.
    #[error("`{0}` is not the name of a schema; write it like shop, shop_* or \"Shop\"")]
    Schema(String),
    /// A quote that is not closed, or a name that is not there.
    #[error("`{0}` is not a valid name; quote names with characters other than letters, digits and _: shop.\"order-items\"")]
    Names(String),
    /// The pattern lists columns of an object that has none.
    #[error("`{text}` lists columns, but {what}; remove them")]
    Columns {
        /// The whole pattern.
        text: String,
        /// Kind of objects without columns.
        what: &'static str,
    },
}

/// Name with optional wildcards: `*` matches any characters, `?` matches one.
#[derive(Clone, PartialEq, Eq)]
pub struct NameGlob(Vec<GlobPiece>);

#[derive(Clone, Copy, PartialEq, Eq)]
enum GlobPiece {
    Char(char),
    One,
    Any,
}

/// Pattern of a definition.
#[derive(Clone, PartialEq, Eq)]
pub struct Pattern {
    /// True if it excludes.
    pub excludes: bool,
    /// Schemas it matches.
    pub schema: NameGlob,
    /// Names it matches in them.
    pub name: NameGlob,
    /// Columns it is limited to; empty: the whole object.
    pub columns: Vec<NameGlob>,
}

impl NameGlob {
    /// Returns true if the name matches.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        // Greedy with one step back: at a mismatch the last `*` takes one character more.
        let name: Vec<char> = name.chars().collect();
        let (mut at, mut piece) = (0, 0);
        let mut star = None;
        while at < name.len() {
            match self.0.get(piece) {
                Some(GlobPiece::Any) => {
                    star = Some((piece, at));
                    piece += 1;
                    continue;
                }
                Some(GlobPiece::Char(wanted)) if name.get(at) == Some(wanted) => {}
                Some(GlobPiece::One) => {}
                _ => {
                    let Some((from, taken)) = star else { return false };
                    star = Some((from, taken + 1));
                    (piece, at) = (from + 1, taken + 1);
                    continue;
                }
            }
            (piece, at) = (piece + 1, at + 1);
        }
        self.0.iter().skip(piece).all(|left| *left == GlobPiece::Any)
    }

    /// Returns the name if there are no wildcards.
    #[must_use]
    pub fn literal(&self) -> Option<String> {
        let char = |piece: &GlobPiece| match piece {
            GlobPiece::Char(char) => Some(*char),
            GlobPiece::One | GlobPiece::Any => None,
        };
        self.0.iter().map(char).collect()
    }

    /// Returns true if every name matches.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.0 == [GlobPiece::Any]
    }
}

impl Pattern {
    /// Parses a pattern for objects without columns: sequences, functions.
    pub fn without_columns(text: &str, what: &'static str) -> Result<Self, PatternError> {
        let pattern: Self = text.parse()?;
        if pattern.columns.is_empty() {
            return Ok(pattern);
        }
        Err(PatternError::Columns {
            text: text.to_owned(),
            what,
        })
    }

    /// Returns true if it matches this object.
    #[must_use]
    pub fn matches(&self, schema: &str, name: &str) -> bool {
        self.schema.matches(schema) && self.name.matches(name)
    }

    /// Returns true if it names exactly one object, without wildcards.
    #[must_use]
    pub fn is_literal(&self) -> bool {
        self.schema.literal().is_some() && self.name.literal().is_some()
    }
}

/// Parses the schema and name of one object, without wildcards: `shop.cards`.
pub fn literal(text: &str) -> Result<(String, String), PatternError> {
    let pattern: Pattern = text.parse()?;
    match (pattern.schema.literal(), pattern.name.literal()) {
        (Some(schema), Some(name)) if !pattern.excludes && pattern.columns.is_empty() => Ok((schema, name)),
        _ => Err(PatternError::Parts(text.to_owned())),
    }
}

impl FromStr for NameGlob {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let schema = || PatternError::Schema(text.to_owned());
        let mut reader = PatternChars(text.trim());
        let glob = reader.glob().ok_or_else(schema)?;
        if reader.0.is_empty() { Ok(glob) } else { Err(schema()) }
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let names = || PatternError::Names(text.to_owned());
        let parts = || PatternError::Parts(text.to_owned());
        let mut reader = PatternChars(text.trim());
        let excludes = reader.take('!');
        let schema = reader.glob().ok_or_else(names)?;
        if !reader.take('.') {
            return Err(if reader.0.is_empty() { parts() } else { names() });
        }
        let name = reader.glob().ok_or_else(names)?;
        let mut columns = Vec::new();
        if reader.take('(') {
            loop {
                columns.push(reader.glob().ok_or_else(names)?);
                if reader.take(')') {
                    break;
                }
                if !reader.take(',') {
                    return Err(names());
                }
            }
        }
        match reader.0 {
            "" => Ok(Self {
                excludes,
                schema,
                name,
                columns,
            }),
            rest if rest.starts_with('.') => Err(parts()),
            _ => Err(names()),
        }
    }
}

/// Rest of the text.
struct PatternChars<'a>(&'a str);

impl PatternChars<'_> {
    /// Takes the character, with the space around it, if it is next.
    fn take(&mut self, wanted: char) -> bool {
        match self.0.trim_start().strip_prefix(wanted) {
            Some(rest) => {
                self.0 = rest.trim_start();
                true
            }
            None => false,
        }
    }

    /// Takes a name; `None` if there is none.
    fn glob(&mut self) -> Option<NameGlob> {
        let mut pieces = Vec::new();
        let mut chars = self.0.chars();
        if let Some(quoted) = self.0.strip_prefix('"') {
            chars = quoted.chars();
            loop {
                match chars.next()? {
                    '"' if !chars.as_str().starts_with('"') => break,
                    '"' => {
                        chars.next();
                        pieces.push(GlobPiece::Char('"'));
                    }
                    char => pieces.push(GlobPiece::Char(char)),
                }
            }
        } else {
            let plain = |char: &char| char.is_alphanumeric() || matches!(char, '_' | '$' | '*' | '?');
            while let Some(char) = chars.clone().next().filter(plain) {
                chars.next();
                match char {
                    '*' if pieces.last() == Some(&GlobPiece::Any) => {}
                    '*' => pieces.push(GlobPiece::Any),
                    '?' => pieces.push(GlobPiece::One),
                    // As the server folds names (`downcase_identifier`): letters outside ASCII are unchanged in UTF-8.
                    char => pieces.push(GlobPiece::Char(char.to_ascii_lowercase())),
                }
            }
        }
        self.0 = chars.as_str().trim_start();
        (!pieces.is_empty()).then_some(NameGlob(pieces))
    }
}

impl fmt::Display for NameGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |char: char| char == '_' || char.is_ascii_lowercase() || char.is_ascii_digit();
        let quoted = self
            .0
            .iter()
            .any(|piece| matches!(piece, GlobPiece::Char(char) if !plain(*char)));
        let text: String = self
            .0
            .iter()
            .map(|piece| match piece {
                GlobPiece::Char('"') => "\"\"".to_owned(),
                GlobPiece::Char(char) => char.to_string(),
                GlobPiece::One => "?".to_owned(),
                GlobPiece::Any => "*".to_owned(),
            })
            .collect();
        if quoted { write!(f, "\"{text}\"") } else { f.write_str(&text) }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            excludes,
            schema,
            name,
            columns,
        } = self;
        write!(f, "{}{schema}.{name}", if *excludes { "!" } else { "" })?;
        if columns.is_empty() {
            return Ok(());
        }
        let columns: Vec<String> = columns.iter().map(ToString::to_string).collect();
        write!(f, "({})", columns.join(", "))
    }
}

impl fmt::Debug for NameGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn names_are_those_of_sql() {
        for (text, schema, name, matches) in [
            ("shop.orders", "shop", "orders", true),
            ("Shop.ORDERS", "shop", "orders", true),
            ("shop.\"Orders\"", "shop", "Orders", true),
            ("shop.\"Orders\"", "shop", "orders", false),
            ("shop.*", "shop", "", true),
            ("shop.*", "shopping", "orders", false),
            ("*.*", "any", "thing at all", true),
            ("shop.order_?", "shop", "order_1", true),
            ("shop.order_?", "shop", "order_12", false),
            ("shop.*_log*", "shop", "a_l_log_2", true),
            ("shop.*a*a", "shop", "aba", true),
            ("shop.*a*a", "shop", "ab", false),
            ("shop.\"*\"", "shop", "anything", false),
            ("\"a.b\".\"c\"\"d\"", "a.b", "c\"d", true),
        ] {
            assert_eq!(pattern(text).matches(schema, name), matches, "{text} {schema}.{name}");
        }
        let columns = pattern("!shop.cards( id , \"Last 4\" )");
        assert!(columns.excludes && columns.columns[1].matches("Last 4"));
        assert!(pattern("a.b").is_literal() && !pattern("a.b*").is_literal());
        assert_eq!(literal("shop.\"Cards\"").unwrap(), ("shop".to_owned(), "Cards".to_owned()));
    }

    #[test]
    fn what_is_no_pattern_is_said() {
        let said: Vec<String> = [
            "",
            "orders",
            "a.b.c",
            "shop.",
            ".orders",
            "shop.order-items",
            "shop.\"x",
            "shop.a(",
            "shop.a()",
            "shop.a(b) c",
            "a b.c",
        ]
        .iter()
        .map(|text| text.parse::<Pattern>().unwrap_err().to_string())
        .collect();
        insta::assert_snapshot!(said.join("\n"));
        assert!("a.b".parse::<NameGlob>().is_err());
        assert!(literal("shop.*").is_err() && literal("!shop.a").is_err() && literal("shop.a(b)").is_err());
        assert!(Pattern::without_columns("shop.a(b)", "sequences have none").is_err());
    }

    proptest::proptest! {
        #[test]
        fn what_is_printed_means_the_same(text in "!?([a-z_]{1,4}|\"[A-Z .\"]{1,4}\")\\.[a-z*?]{1,5}(\\([a-z]{1,3}, [a-z*]{1,3}\\))?") {
            if let Ok(read) = text.parse::<Pattern>() {
                proptest::prop_assert_eq!(read.to_string().parse::<Pattern>(), Ok(read));
            }
        }

        #[test]
        fn no_text_panics(text in "(?s).{0,30}", name in ".{0,10}") {
            if let Ok(read) = text.parse::<Pattern>() {
                let _ = read.matches(&name, &name);
            }
        }
    }
}
