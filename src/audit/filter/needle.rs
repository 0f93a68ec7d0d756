//! What must stand in a line for a condition to be met, as bytes to search for in many lines at once.
//!
//! It parses nothing: what it finds may stand elsewhere in the line than where it counts.
//!
//! INVARIANT: a line that the gate has written, and that meets the condition, has one of the needles.

use std::ops::Range;

use memchr::memmem::Finder;

/// A condition: one of these stands in the line.
#[derive(Debug)]
pub(super) struct Condition(Vec<Needle>);

#[derive(Debug)]
struct Needle {
    finder: Finder<'static>,
    /// Capital and small letters of ASCII are equal: it is searched for in small ones.
    any_case: bool,
}

impl Needle {
    fn exact(text: &str) -> Self {
        Self {
            finder: Finder::new(text).into_owned(),
            any_case: false,
        }
    }

    fn any_case(text: &str) -> Self {
        Self {
            any_case: text.bytes().any(|byte| byte.is_ascii_alphabetic()),
            ..Self::exact(&text.to_ascii_lowercase())
        }
    }
}

/// The longest piece of a text that JSON writes as it is: printable ASCII without quotes and backslashes.
fn plain_piece(text: &str) -> Option<&str> {
    let pieces = text.split(|character: char| !matches!(character, ' '..='~') || matches!(character, '"' | '\\'));
    pieces.max_by_key(|piece| piece.len()).filter(|piece| !piece.is_empty())
}

impl Condition {
    /// A field with a name or an id, which JSON writes as they are.
    pub(super) fn field(field: &str, value: &str) -> Self {
        // Serializing a text cannot fail; a line has it as it is written here (no name has a character that is not seen).
        let value = serde_json::to_string(value).unwrap_or_default();
        Self(vec![Needle::exact(&format!(r#""{field}":{value}"#))])
    }

    /// A text, as the filter compares it: in small letters. `None` if any line may have it.
    pub(super) fn text(text: &str) -> Option<Self> {
        let small = text.to_lowercase();
        let piece = plain_piece(&small)?;
        let mut needles = vec![Needle::any_case(piece)];
        // The two characters outside ASCII that have letters of ASCII in their small form: Kelvin's sign, and I with a dot.
        needles.extend(piece.contains('k').then(|| Needle::exact("\u{212a}")));
        needles.extend(piece.contains('i').then(|| Needle::exact("\u{130}")));
        Some(Self(needles))
    }

    /// A name in SQL, where it may stand in letters of either size, or in a text with escapes of its own.
    pub(super) fn name(name: &str) -> Option<Self> {
        let piece = Needle::any_case(plain_piece(name)?);
        Some(Self(vec![piece, Needle::any_case("u&\\")]))
    }

    /// An SQLSTATE that begins so.
    pub(super) fn sqlstate(code: &str) -> Self {
        let plain = |character: char| matches!(character, ' '..='~') && !matches!(character, '"' | '\\');
        let length = code.find(|character| !plain(character)).unwrap_or(code.len());
        let code = code.get(..length).unwrap_or_default();
        let field = format!(r#""sqlstate":"{code}"#);
        // Most codes have digits only.
        let letters = code.bytes().any(|byte| byte.is_ascii_alphabetic());
        Self(vec![if letters {
            Needle::any_case(&field)
        } else {
            Needle::exact(&field)
        }])
    }

    /// Whether the text has to be there in small letters, too.
    pub(super) fn any_case(&self) -> bool {
        self.0.iter().any(|needle| needle.any_case)
    }

    /// In a text, which is there in small letters, too, if any of its needles wants that.
    pub(super) fn hunt<'c, 't>(&'c self, text: &'t [u8], small: &'t [u8]) -> Hunt<'c, 't> {
        let needle = |needle: &'c Needle| (&needle.finder, if needle.any_case { small } else { text }, None);
        Hunt(self.0.iter().map(needle).collect())
    }
}

/// Looks for a condition in one line of a text after the other: the needles, where each is looked for, and its next place there;
/// behind the end if there is none.
pub(super) struct Hunt<'c, 't>(Vec<(&'c Finder<'static>, &'t [u8], Option<usize>)>);

impl Hunt<'_, '_> {
    /// Whether the condition may be met in this line. Lines in front of it cannot be asked for any more.
    pub(super) fn may_be_in(&mut self, line: &Range<usize>) -> bool {
        self.0.iter_mut().any(|(finder, text, next)| {
            let found = match *next {
                Some(found) if found >= line.start => found,
                _ => {
                    let rest = text.get(line.start..).unwrap_or_default();
                    finder.find(rest).map_or(usize::MAX, |found| line.start + found)
                }
            };
            *next = Some(found);
            found < line.end
        })
    }
}
