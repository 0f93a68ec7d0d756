//! Encoder of ErrorResponse and NoticeResponse messages from the texts of an ending.
//!
//! It does not choose the texts and does not read such messages from a target.
//!
//! INVARIANT: a message always has the fields S, V, C and M (drivers read V, and some crash without C). Text is written without
//! NUL, so that a field cannot end early and another one begin inside it, and without other characters that act on the reader's
//! terminal.

use bytes::{BufMut, BytesMut};

use crate::base::visible;
use crate::model::ending::EndingText;

/// Appends an ErrorResponse of severity FATAL: the session ends after it.
pub fn fatal(out: &mut BytesMut, words: &EndingText) {
    message(out, b'E', "FATAL", words);
}

/// Appends an ErrorResponse of severity ERROR: the statement failed, the session continues.
pub fn error(out: &mut BytesMut, words: &EndingText) {
    message(out, b'E', "ERROR", words);
}

/// Appends a NoticeResponse of severity NOTICE.
pub fn notice(out: &mut BytesMut, words: &EndingText) {
    message(out, b'N', "NOTICE", words);
}

/// Appends the message (protocol: "Message Formats", ErrorResponse; fields: "Error and Notice Message Fields").
fn message(out: &mut BytesMut, kind: u8, severity: &str, words: &EndingText) {
    let mut body = BytesMut::with_capacity(64 + words.message.len());
    field(&mut body, b'S', severity);
    field(&mut body, b'V', severity);
    field(&mut body, b'C', words.code);
    field(&mut body, b'M', &words.message);
    if let Some(detail) = &words.detail {
        field(&mut body, b'D', detail);
    }
    if let Some(hint) = &words.hint {
        field(&mut body, b'H', hint);
    }
    body.put_u8(0);
    out.reserve(body.len() + 5);
    out.put_u8(kind);
    // Each text is cut to LONGEST_TEXT, so that the length always fits.
    out.put_u32(u32::try_from(body.len() + 4).unwrap_or(u32::MAX));
    out.extend_from_slice(&body);
}

/// Maximum length of one text in bytes; more than any text of the gate needs. libpq gives up on an ErrorResponse of 30,000 bytes
/// before login.
const MAX_TEXT_BYTES: usize = 4096;

fn field(body: &mut BytesMut, name: u8, text: &str) {
    // Cut before, to bound the work for a long text, and after, because escapes make it longer.
    let text = visible::lines(text.get(..text.floor_char_boundary(MAX_TEXT_BYTES)).unwrap_or_default());
    let cut = text.floor_char_boundary(MAX_TEXT_BYTES);
    body.put_u8(name);
    body.extend(text.bytes().take(cut));
    body.put_u8(0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(message: &str, detail: Option<String>) -> EndingText {
        EndingText {
            code: "28P01",
            message: message.to_owned(),
            detail,
            hint: Some("hint".to_owned()),
        }
    }

    #[test]
    fn writes_the_fields_in_order() {
        let mut out = BytesMut::new();
        fatal(&mut out, &words("no", None));
        assert_eq!(&out[..], b"E\0\0\0\x24SFATAL\0VFATAL\0C28P01\0Mno\0Hhint\0\0");
        assert_eq!(usize::from(out[4]) + 1, out.len());
    }

    #[test]
    fn notice_and_error_differ_in_type_and_severity() {
        let mut out = BytesMut::new();
        notice(&mut out, &words("a", None));
        assert!(out.starts_with(b"N") && out[5..].starts_with(b"SNOTICE\0VNOTICE\0"));
        out.clear();
        error(&mut out, &words("a", None));
        assert!(out.starts_with(b"E") && out[5..].starts_with(b"SERROR\0VERROR\0"));
    }

    #[test]
    fn nothing_in_a_text_steers_a_terminal_or_hides() {
        let mut out = BytesMut::new();
        notice(
            &mut out,
            &words("a\u{1b}[2J\u{202e}b\nc", Some("d\u{200b}\u{e0041}\0e".to_owned())),
        );
        let text = String::from_utf8_lossy(&out);
        assert!(text.contains("Ma\\u{1b}[2J\\u{202e}b\nc\0"), "{text:?}");
        assert!(text.contains("Dd\\u{200b}\\u{e0041}\\u{0}e\0"), "{text:?}");
    }

    proptest! {
        #[test]
        fn any_text_is_one_well_formed_message(message in any::<String>(), detail in any::<Option<String>>()) {
            let mut out = BytesMut::new();
            fatal(&mut out, &words(&message, detail.clone()));
            let length = u32::from_be_bytes([out[1], out[2], out[3], out[4]]) as usize;
            prop_assert_eq!(length + 1, out.len());
            let fields: Vec<&[u8]> = out[5..].split(|byte| *byte == 0).collect();
            // S V C M [D] H, the empty one that ends the list, and what split adds behind the last NUL.
            prop_assert_eq!(fields.len(), 7 + usize::from(detail.is_some()));
            let names: Vec<u8> = fields.iter().filter_map(|field| field.first().copied()).collect();
            prop_assert_eq!(names, if detail.is_some() { b"SVCMDH".to_vec() } else { b"SVCMH".to_vec() });
        }
    }
}
