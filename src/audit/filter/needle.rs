//! What must stand in a line for a condition to be met, as bytes to search for in many lines at once.
//!
//! It parses nothing: what it finds may stand elsewhere in the line than where it counts.
//!
//! INVARIANT: a line that the gate has written, and that meets the condition, has one of the needles.

use std::ops::Range;

use aho_corasick::AhoCorasick;
use memchr::memmem::Finder;

/// A condition: one of these stands in the line.
#[derive(Debug)]
pub(super) struct Condition(Vec<Needle>);

#[derive(Debug)]
enum Needle {
    Exact(Box<Finder<'static>>),
    /// Capital and small letters of ASCII are equal.
    AnyCase(AhoCorasick),
}

impl Needle {
    fn find(&self, text: &[u8]) -> Option<usize> {
        match self {
            Self::Exact(finder) => finder.find(text),
            Self::AnyCase(finder) => finder.find(text).map(|found| found.start()),
        }
    }

    fn exact(text: &str) -> Self {
        Self::Exact(Box::new(Finder::new(text).into_owned()))
    }

    /// `None` for a text that no automaton can be made of: it is far too long.
    fn any_case(text: &str) -> Option<Self> {
        if !text.bytes().any(|byte| byte.is_ascii_alphabetic()) {
            return Some(Self::exact(text));
        }
        let finder = AhoCorasick::builder().ascii_case_insensitive(true).build([text]);
        finder.ok().map(Self::AnyCase)
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
        Self(vec![Needle::exact(&format!(r#""{field}":"{value}""#))])
    }

    /// A text, as the filter compares it: in small letters. `None` if any line may have it.
    pub(super) fn text(text: &str) -> Option<Self> {
        let small = text.to_lowercase();
        let piece = plain_piece(&small)?;
        let mut needles = vec![Needle::any_case(piece)?];
        // The two characters outside ASCII that have letters of ASCII in their small form: Kelvin's sign, and I with a dot.
        needles.extend(piece.contains('k').then(|| Needle::exact("\u{212a}")));
        needles.extend(piece.contains('i').then(|| Needle::exact("\u{130}")));
        Some(Self(needles))
    }

    /// A name in SQL, where it may stand in letters of either size, or in a text with escapes of its own.
    pub(super) fn name(name: &str) -> Option<Self> {
        let piece = Needle::any_case(plain_piece(name)?)?;
        Some(Self(vec![piece, Needle::any_case("u&\\")?]))
    }

    /// An SQLSTATE that begins so.
    pub(super) fn sqlstate(code: &str) -> Self {
        let plain = |character: char| matches!(character, ' '..='~') && !matches!(character, '"' | '\\');
        let length = code.find(|character| !plain(character)).unwrap_or(code.len());
        let code = code.get(..length).unwrap_or_default();
        let field = format!(r#""sqlstate":"{code}"#);
        // Most codes have digits only.
        let letters = code.bytes().any(|byte| byte.is_ascii_alphabetic());
        let needle = if letters {
            Needle::any_case(&field)
        } else {
            Some(Needle::exact(&field))
        };
        Self(vec![needle.unwrap_or_else(|| Needle::exact(r#""sqlstate":"#))])
    }

    pub(super) fn hunt<'c, 't>(&'c self, text: &'t [u8]) -> Hunt<'c, 't> {
        let needles = self.0.iter().map(|needle| (needle, None)).collect();
        Hunt { text, needles }
    }
}

/// Looks for a condition in one line of a text after the other.
pub(super) struct Hunt<'c, 't> {
    text: &'t [u8],
    /// The needles, each with its next place: behind the end if there is none.
    needles: Vec<(&'c Needle, Option<usize>)>,
}

impl Hunt<'_, '_> {
    /// Whether the condition may be met in this line. Lines in front of it cannot be asked for any more.
    pub(super) fn may_be_in(&mut self, line: &Range<usize>) -> bool {
        let text = self.text;
        self.needles.iter_mut().any(|(needle, next)| {
            let found = match *next {
                Some(found) if found >= line.start => found,
                _ => {
                    let rest = text.get(line.start..).unwrap_or_default();
                    needle.find(rest).map_or(usize::MAX, |found| line.start + found)
                }
            };
            *next = Some(found);
            found < line.end
        })
    }
}
