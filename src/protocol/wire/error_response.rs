//! Encoder of ErrorResponse and NoticeResponse messages from the texts of an ending.
//!
//! It does not choose the texts and does not read such messages from a target.
//!
//! INVARIANT: a message always has the fields S, V, C and M (drivers read V, and some crash without C). Text is written without
//! NUL, so that a field cannot end early and another one begin inside it, and without other characters that act on the reader's
//! terminal.

use bytes::{BufMut, BytesMut};

use super::encode;
use crate::base::visible;
use crate::model::ending::EndingText;

/// Returns an ErrorResponse of severity FATAL: the session ends after it.
#[must_use]
pub fn fatal(words: &EndingText) -> Vec<u8> {
    message(b'E', "FATAL", words)
}

/// Returns an ErrorResponse of severity ERROR: the statement failed, the session continues.
#[must_use]
pub fn error(words: &EndingText) -> Vec<u8> {
    message(b'E', "ERROR", words)
}

/// Returns a NoticeResponse of severity NOTICE.
#[must_use]
pub fn notice(words: &EndingText) -> Vec<u8> {
    message(b'N', "NOTICE", words)
}

/// Returns the message (protocol: "Message Formats", ErrorResponse; fields: "Error and Notice Message Fields").
fn message(kind: u8, severity: &str, words: &EndingText) -> Vec<u8> {
    let mut out = BytesMut::with_capacity(64 + words.message.len());
    encode::message(&mut out, kind, |body| {
        field(body, b'S', severity);
        field(body, b'V', severity);
        field(body, b'C', words.code);
        field(body, b'M', &words.message);
        if let Some(detail) = &words.detail {
            field(body, b'D', detail);
        }
        if let Some(hint) = &words.hint {
            field(body, b'H', hint);
        }
        body.put_u8(0);
    });
    out.into()
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
        let out = fatal(&words("no", None));
        assert_eq!(&out[..], b"E\0\0\0\x24SFATAL\0VFATAL\0C28P01\0Mno\0Hhint\0\0");
        assert_eq!(usize::from(out[4]) + 1, out.len());
    }

    #[test]
    fn notice_and_error_differ_in_type_and_severity() {
        let out = notice(&words("a", None));
        assert!(out.starts_with(b"N") && out[5..].starts_with(b"SNOTICE\0VNOTICE\0"));
        let out = error(&words("a", None));
        assert!(out.starts_with(b"E") && out[5..].starts_with(b"SERROR\0VERROR\0"));
    }

    #[test]
    fn nothing_in_a_text_steers_a_terminal_or_hides() {
        let out = notice(&words("a\u{1b}[2J\u{202e}b\nc", Some("d\u{200b}\u{e0041}\0e".to_owned())));
        let text = String::from_utf8_lossy(&out);
        assert!(text.contains("Ma\\u{1b}[2J\\u{202e}b\nc\0"), "{text:?}");
        assert!(text.contains("Dd\\u{200b}\\u{e0041}\\u{0}e\0"), "{text:?}");
    }

    proptest! {
        #[test]
        fn any_text_is_one_well_formed_message(message in any::<String>(), detail in any::<Option<String>>()) {
            let out = fatal(&words(&message, detail.clone()));
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
