//! Escaping of foreign text for display: every invisible or controlling character becomes an escape.
//!
//! It knows no output: terminals, pages, spreadsheets, chats and messages to clients all use it.
//!
//! INVARIANT: no result has a character for which [`is_unseen`] is true, except the line breaks that [`lines`] and [`json`] keep.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Returns true if a character is invisible: it controls a terminal, changes the direction of text, or has no glyph.
///
/// These are the Unicode categories Cc, Cf, Zl, Zp and Co, the noncharacters, and the default ignorable characters: zero-width
/// characters, bidirectional controls, tags, variation selectors, fillers. The blank Braille pattern is included because it looks
/// like a space.
#[must_use]
pub fn is_unseen(character: char) -> bool {
    matches!(character,
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{ad}' | '\u{34f}'
        | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}' | '\u{891}' | '\u{8e2}'
        | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}'
        | '\u{e000}'..='\u{f8ff}' | '\u{fdd0}'..='\u{fdef}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
        | '\u{fff0}'..='\u{fffb}' | '\u{fffe}' | '\u{ffff}'
        | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}' | '\u{f0000}'..)
        || u32::from(character) & 0xfffe == 0xfffe
}

/// Returns a text on one line with every invisible character escaped.
#[must_use]
pub fn visible(text: &str) -> String {
    start(text, usize::MAX)
}

/// Escapes as [`visible`] does, and truncates after `most` characters of the text.
#[must_use]
pub fn start(text: &str, most: usize) -> String {
    let mut shown = String::with_capacity(text.len().min(most.saturating_mul(2)));
    let mut characters = text.chars();
    characters
        .by_ref()
        .take(most)
        .for_each(|character| push(&mut shown, character));
    if characters.next().is_some() {
        shown.push('…');
    }
    shown
}

/// Returns a text with every invisible character escaped except its line breaks, for the gate's own texts of several lines.
#[must_use]
#[expect(
    clippy::needless_bitwise_bool,
    reason = "without branches the compiler looks at many bytes at once"
)]
pub fn lines(text: &str) -> Cow<'_, str> {
    let unseen = |character: char| character != '\n' && is_unseen(character);
    let plain = |plain: bool, byte: u8| plain & (matches!(byte, b' '..=b'~') | (byte == b'\n'));
    if text.bytes().fold(true, plain) || !text.contains(unseen) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            '\n' => shown.push('\n'),
            other => push(&mut shown, other),
        }
    }
    Cow::Owned(shown)
}

fn push(shown: &mut String, character: char) {
    match character {
        '\n' => shown.push_str("\\n"),
        '\r' => shown.push_str("\\r"),
        '\t' => shown.push_str("\\t"),
        unseen if is_unseen(unseen) => {
            // Writing to a string cannot fail.
            let _ = write!(shown, "\\u{{{:x}}}", u32::from(unseen));
        }
        other => shown.push(other),
    }
}

/// Returns equivalent JSON, or a piece of it, without invisible characters except the line breaks and blanks between its parts:
/// those left in strings become JSON escapes.
#[must_use]
pub fn json(text: &str) -> Cow<'_, str> {
    // Every character to be escaped is DEL or starts with a byte above it.
    if text.bytes().fold(0, |seen: u8, byte| seen | byte.saturating_add(1)) < 0x80 {
        return Cow::Borrowed(text);
    }
    let unseen = |character: char| character >= '\u{7f}' && is_unseen(character);
    if !text.contains(unseen) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if unseen(character) {
            for unit in character.encode_utf16(&mut [0; 2]) {
                let _ = write!(shown, "\\u{unit:04x}");
            }
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_kind_is_an_escape() {
        let text = "a\x1b[31mb\u{9b}c\r\nd\u{202e}e\u{7f}é\u{200b}f\u{fe0f}g\u{e0041}h\u{feff}i\u{e000}j\u{2028}k";
        let shown = r"a\u{1b}[31mb\u{9b}c\r\nd\u{202e}e\u{7f}é\u{200b}f\u{fe0f}g\u{e0041}h\u{feff}i\u{e000}j\u{2028}k";
        assert_eq!(visible(text), shown);
        assert_eq!(lines("a\nb\u{200d}"), "a\nb\\u{200d}");
        assert_eq!(start("a\u{200b}bc", 2), "a\\u{200b}…");
        assert_eq!(json("{\n\"a\":\"\u{e0041}\u{200b}\"}"), "{\n\"a\":\"\\udb40\\udc41\\u200b\"}");
        for seen in ["plain", "Grüße, 東京, a\u{301}, \u{1f600}, a\u{a0}b"] {
            assert_eq!((visible(seen).as_str(), &*lines(seen), &*json(seen)), (seen, seen, seen));
        }
    }

    proptest! {
        #[test]
        fn what_unicode_has_no_sight_of_is_unseen(text in "[\\p{Cc}\\p{Cf}\\p{Zl}\\p{Zp}\\p{Co}\\p{Default_Ignorable_Code_Point}]{1,40}") {
            for character in text.chars() {
                prop_assert!(is_unseen(character), "{:x}", u32::from(character));
            }
        }

        #[test]
        fn what_is_written_is_seen(text in "[\\p{L}\\p{N}\\p{P}\\p{S}\\p{Zs}&&[^\\p{Default_Ignorable_Code_Point}\u{2800}]]{1,40}") {
            for character in text.chars() {
                prop_assert!(!is_unseen(character), "{:x}", u32::from(character));
            }
        }

        #[test]
        fn nothing_unseen_is_left(text in any::<String>(), hidden in "[\\p{C}\\p{Default_Ignorable_Code_Point}]{0,10}") {
            let text = text + &hidden;
            prop_assert!(!visible(&text).contains(is_unseen));
            prop_assert!(!lines(&text).contains(|character| character != '\n' && is_unseen(character)));
            let encoded = serde_json::to_string_pretty(&[&text]).unwrap();
            let shown = json(&encoded);
            prop_assert!(!shown.contains(|character| character != '\n' && is_unseen(character)));
            prop_assert_eq!(serde_json::from_str::<Vec<String>>(&shown).unwrap(), vec![text]);
        }
    }
}
